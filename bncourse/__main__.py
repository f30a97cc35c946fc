"""`python -m bncourse` (and the `bncourse` script): doctor, student, tidy, grade, reproduce.

What a person can put right is one line on standard error and exit code 2, never a traceback."""

from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The course's own tools: is everything there, student notebooks, grading, the experiments at full scale.",
                  no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@contextmanager
def plainly():
    """Turns an error that says what to do into one line and exit code 2."""
    from .grading.feedback import GradingError
    try:
        yield
    except Exception as error:
        # By name, because asking for the other one would import torch.
        if not isinstance(error, GradingError) and type(error).__name__ != "ReproduceError":
            raise
        typer.echo(f"bncourse: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("bncourse: interrupted; what was done so far is kept", err=True)
        raise typer.Exit(130) from None


@app.command()
def doctor() -> None:
    """Say what the course needs and whether it is there."""
    from .doctor import doctor as examine
    if not examine():
        raise typer.Exit(1)


@app.command()
def student(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if something would change.")] = False,
    folder: Annotated[Path, typer.Option(help="The folder that holds masters/.")] = Path("exercises"),
) -> None:
    """Write the student notebooks from the masters."""
    from .grading.masters import regenerate
    with plainly():
        changed = regenerate(folder, check)
    for path in changed:
        typer.echo(f"{'would change' if check else 'wrote'} {path}")
    if check and changed:
        typer.echo("bncourse: run `python -m bncourse student` and commit the result", err=True)
        raise typer.Exit(1)
    if not changed:
        typer.echo("student notebooks are up to date")


@app.command()
def tidy(
    notebooks: Annotated[list[Path] | None, typer.Argument(help="By default all in book/ and exercises/.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if something would change.")] = False,
) -> None:
    """Take results and an editor's traces out of notebooks, as they are kept in git."""
    from .grading.masters import tidy
    paths, changed = notebooks or sorted(path for folder in ("book", "exercises") for path in Path(folder).rglob("*.ipynb")), []
    for path in [path for path in paths if ".ipynb_checkpoints" not in path.parts]:
        try:
            changed += [path] if tidy(path, check) else []
        except (OSError, ValueError) as error:
            typer.echo(f"bncourse: {path} is not a notebook that can be read ({error})", err=True)
            raise typer.Exit(2) from None
    for path in changed:
        typer.echo(f"{'would change' if check else 'tidied'} {path}")
    if check and changed:
        raise typer.Exit(1)


@app.command()
def grade(
    exercise: Annotated[str, typer.Argument(help="ex01, …")],
    folder: Annotated[Path, typer.Argument(help="Folder with the notebooks that were handed in.")],
    csv: Annotated[Path, typer.Option(help="Table to write; rows already in it are kept.")] = Path("grades.csv"),
    feedback: Annotated[Path | None, typer.Option(help="Folder for a page a student and one about the class.")] = None,
    manual: Annotated[Path | None, typer.Option(help="CSV with a person's points: student, question, points, comment.")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Submissions at a time; 0 is one a core.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Draw the same inputs again.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a cell or a call may take.")] = 20.0,
    retry: Annotated[bool, typer.Option("--retry", help="Grade again what ran out of time or crashed.")] = False,
    question: Annotated[str | None, typer.Option(help="Grade this question again, for everybody, and no other.")] = None,
    due: Annotated[datetime | None, typer.Option(help="Files that are newer are marked as late.")] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Pages and the marks table without names.")] = False,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="Without a sandbox. Only for code you trust.")] = False,
) -> None:
    """Grade every notebook in a folder. Linux only; student code runs in a sandbox (bubblewrap)."""
    import time
    from collections import Counter
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    with plainly():
        from .grading.batch import grade as grade_folder
        from .grading.checks import load
        from .grading.report import misconceptions, write_pages
        from .grading.table import read_marks
        # Read before an hour of grading, so that a mistake in it is known at once.
        marks = read_marks(manual, load(exercise).QUESTIONS) if manual else []
        columns = TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("grading", total=None)
            started, graded = time.monotonic(), []

            def progress(done: int, of: int, row) -> None:
                graded.extend([row] if row else [])
                bar.update(task, completed=done, total=of)

            table = grade_folder(exercise, folder, csv, jobs=jobs, seed=seed, timeout=timeout, retry=retry, unsafe=unsafe,
                                 question=question, due=due, progress=progress)
        seconds = time.monotonic() - started
        for mark in table.merge(marks):
            typer.echo(f"bncourse: {manual}, line {mark.line}: nothing was handed in by {mark.student!r}", err=True)
        imports, to_read = table.write_imports(), table.write_marks(anonymous)
        pages = write_pages(feedback, table, anonymous) if feedback else []
    count = Counter(row["status"] for row in table.rows.values())
    typer.echo(f"{len(table.rows)} submissions in {csv}: " + ", ".join(f"{n} {status}" for status, n in count.most_common()))
    if graded:
        typer.echo(f"graded now: {len(graded)} in {seconds:.0f} s, {seconds / len(graded):.1f} s each")
    typer.echo(f"to import: {', '.join(map(str, imports))}")
    if unread := sum(row["pending"] != "0" for row in table.rows.values()):
        typer.echo(f"{unread} have a text for a person to read" + (f": put the points into {to_read} and pass it to --manual" if to_read else ""))
    for one, other, share in table.alike[:10]:
        typer.echo(f"alike, look at them: {one} and {other} ({share:.0%} of their lines)")
    for file, why in sorted(table.others.items()):
        typer.echo(f"not graded: {file} ({why})")
    for found in misconceptions(table)[:5]:
        typer.echo(f"  {found['count']:4d} × {found['question']} {found['code']}")
    if pages:
        typer.echo(f"pages: {pages[0]} for you, {pages[0].parent / 'students'} for the students")


@app.command()
def gradescope(
    exercise: Annotated[str, typer.Argument(help="ex01, …")],
    out: Annotated[Path, typer.Option(help="The zip to write.")] = Path("autograder.zip"),
) -> None:
    """Write the zip that Gradescope takes as the autograder of an exercise."""
    with plainly():
        from .grading.gradescope import write_zip
        typer.echo(f"wrote {write_zip(exercise, out)}: upload it as the assignment's autograder")


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="curves, noisy, shift, landscape, lp, lr-range, … or all.")],
    scale: Annotated[str, typer.Option(help="desk (two processor cores), paper (a GPU), or quick.")] = "desk",
    data: Annotated[str, typer.Option(help="cifar10, fashion-mnist or digits.")] = "cifar10",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="Of training steps on a GPU: float32, tf32 or bf16.")] = "float32",
    seeds: Annotated[int | None, typer.Option(help="How many; by default 5.")] = None,
    out: Annotated[Path, typer.Option(help="For finished trainings and tables.")] = Path("reproduced"),
    jobs: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, to use its workers.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the trainings.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Write the table to book/results, to be shown by the book.")] = False,
) -> None:
    """Do an experiment of the book again at a larger scale. Stopped at any moment, it goes on where it was."""
    with plainly():
        from .reproduce import command
        command(name, record=record, dry_run=dry_run, scale=scale, data=data, out=out, device=device, precision=precision, seeds=seeds,
                jobs=jobs, dask=dask)


if __name__ == "__main__":
    app(prog_name="bncourse")
