"""What `python -m bncourse reproduce` says and writes."""

import shlex
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bncourse import data, provenance, records
from bncourse.reproduce.catalogue import EXPERIMENTS
from bncourse.reproduce.estimate import in_words
from bncourse.reproduce.folder import ReproduceError
from bncourse.reproduce.runner import Plan, device_named, reproduce

EVERY = 15.0  # seconds between two lines of a log


def carry_out(name: str, *, record: bool, note: str | None, seeds: int | None, out: Path | None, jobs: int, dask: str | None,
              **settings) -> None:
    """Do one experiment or all; write each table and its provenance beside the runs and, with ``record``, to the book."""
    out = Path(out or Path("reproduced") / f"{settings['scale']}-{settings['data']}")
    if record:
        _may_record()
    command = f"python -m bncourse {shlex.join(sys.argv[1:])}"
    for each in _names(name):
        started = time.monotonic()
        with _progress(each) as progress:
            frame = reproduce(each, seeds=_seeds(seeds), out=out, jobs=jobs, dask=dask, progress=progress, **settings)
        told = frame.attrs["provenance"] | {"command": command}
        if note:
            told["data"]["note"] = note
        title = records.name_of(each, settings["scale"], settings["data"])
        for folder in [out, *([records.FOLDER] if record else [])]:
            try:
                path = records.write(title, frame, told, folder)
            except OSError as error:
                raise ReproduceError(f"cannot write to {folder} ({error.strerror or error}); the finished runs are kept in "
                                     f"{out / each}: make room and run the same command again") from error
            except ValueError as error:
                raise ReproduceError(str(error)) from error
        print(f"{each}: {told['number_of_runs']} runs, {len(frame)} rows in {path} "
              f"({in_words(time.monotonic() - started)} now, {in_words(told['seconds'])} of computing in all)")
        for claim, effect in EXPERIMENTS[each].effects.items():
            values = np.asarray(effect(frame))
            print(f"  {claim}: {', '.join(f'{value:.3g}' for value in values)}")


def show_plan(name: str, *, seeds: int | None, out: Path | None, jobs: int, dask: str | None, **settings) -> None:
    """The runs, and how long each would take. Timing needs the data; where they would have to be downloaded, only the runs."""
    device, precision, total = settings.pop("device"), settings.pop("precision"), 0.0
    if dask:
        raise ReproduceError("--dry-run estimates the time on this machine; leave --dask out")
    sources = Counter()
    name_of_data = settings["data"]
    absent = name_of_data in data.NAMES and data.to_download(name_of_data) > 0
    for each in _names(name):
        plan = Plan(each, seeds=_seeds(seeds), out=out, with_data=not absent, **settings)
        if absent:
            plan.check(device_named(device), precision)
            print(f"{each}: {len(plan.runs)} runs")
            print("".join(f"  {run.title()}\n" for run in plan.runs), end="")
            continue
        done, left = plan.estimate(device, precision)
        print(f"{each}: {len(plan.runs)} runs, {len(done)} of them done")
        print("".join(f"  done      {run.title()}\n" for run in done), end="")
        for run, taken in left:
            print(f"  {in_words(taken.seconds):>8}  {run.title()}")
            sources[taken.source] += 1
            total += taken.seconds
    if absent:
        print(f"how long they take, nobody knows before {name_of_data} is here; the runs themselves download it "
              f"({data.to_download(name_of_data) / 1e6:.0f} MB)")
        return
    words = {"finished": "as long as finished runs of the same kind took here",
             "timed": "from a few steps of the same kind, done just now on this machine, so busy or idle as it is",
             "guessed": "as another kind, since timing all would have taken too long"}
    print(f"about {in_words(total / max(1, jobs))}" + (f" with {jobs} at a time" if jobs > 1 else "") + " to go"
          + "".join(f"; {count} runs estimated {words[source]}" for source, count in sources.items()))


def _names(name: str) -> list[str]:
    if name != "all" and name not in EXPERIMENTS:
        raise ReproduceError(f"unknown experiment {name!r}; there are {', '.join(EXPERIMENTS)}, and all")
    return list(EXPERIMENTS) if name == "all" else [name]


def _seeds(count: int | None) -> range | None:
    if count is not None and count < 1:
        raise ReproduceError(f"--seeds {count}: give at least 1")
    return None if count is None else range(count)


def _may_record() -> None:
    """Known before hours of computing, not after."""
    if not records.FOLDER.parent.is_dir():
        raise ReproduceError("--record writes into the book, and this is an installed package without one; leave it out, "
                             "then copy the table and its .json from the --out folder to book/results of a checkout")
    here = provenance.checkout_around(Path.cwd())
    if here and here / "bncourse" != provenance.PACKAGE:
        raise ReproduceError(f"--record would write into {records.FOLDER}, by the code of {provenance.PACKAGE}, and this is the "
                             f"checkout {here}: run it as python -m bncourse in {here}")
    if provenance.commit()[0] == "unknown":
        raise ReproduceError("--record has to say which commit it was made with, and git does not know this folder; run it in "
                             "a checkout")


@contextmanager
def _progress(name: str):
    """A bar in a terminal; in a log a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        last = time.monotonic()

        def line(done, of, left, run):
            nonlocal last
            if run is not None and done < of and time.monotonic() - last >= EVERY:
                last = time.monotonic()
                print(f"{name}: {done} of {of} runs{_left(left)}", file=sys.stderr, flush=True)

        yield line
        return
    columns = TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}")
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, left="")
        yield lambda done, of, left, run: bar.update(task, completed=done, total=of, left=_left(left))


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", about {in_words(seconds)} left"
