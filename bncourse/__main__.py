"""`python -m bncourse` (and the `bncourse` script): doctor, student, grade.

What a person can put right is one line on standard error and exit code 2, never a traceback.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The course's own tools: is everything there, student notebooks, grading.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@contextmanager
def plainly():
    """Turns an error that says what to do into one line and exit code 2."""
    from .grading.feedback import GradingError

    try:
        yield
    except GradingError as error:
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
def grade(
    exercise: Annotated[str, typer.Argument(help="ex01, …")],
    folder: Annotated[Path, typer.Argument(help="Folder with the notebooks that were handed in.")],
    csv: Annotated[Path, typer.Option(help="Table to write; rows already in it are kept.")] = Path("grades.csv"),
    jobs: Annotated[int, typer.Option(min=0, help="Submissions at a time; 0 is one a core.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Draw the same inputs again.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a cell or a call may take.")] = 10.0,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="Without a sandbox. Only for code you trust.")] = False,
) -> None:
    """Grade every notebook in a folder. Linux only; student code runs in a sandbox (bubblewrap)."""
    from collections import Counter

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with plainly():
        from .grading.batch import grade as grade_folder

        columns = TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("grading", total=None)
            rows = grade_folder(
                exercise,
                folder,
                csv,
                jobs=jobs,
                seed=seed,
                timeout=timeout,
                unsafe=unsafe,
                progress=lambda done, of, row: bar.update(task, completed=done, total=of),
            )
    count = Counter(row["status"] for row in rows.values())
    typer.echo(f"{len(rows)} submissions in {csv}: " + ", ".join(f"{n} {status}" for status, n in count.most_common()))


if __name__ == "__main__":
    app(prog_name="bncourse")
