"""Do an experiment of ``experiments`` at a scale: in this process, in several, or on a Dask cluster; the table is the same bit
for bit.

A *part* is one training: one combination of the factors' levels, one seed. Every finished part is a file, named by everything
that its numbers depend on, so whoever is stopped at any moment loses only what was under way, and parts of other settings are
never mixed in. """

import datetime
import gzip
import hashlib
import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch

from bncourse import data as data_sets
from bncourse import provenance, records
from bncourse.experiments import EXPERIMENTS, NETWORKS, SEEDS, deviations, study
from bncourse.precision import check_precision

PACKAGE = Path(__file__).parent
# The code that numbers depend on, besides the design. A change of anything else leaves finished parts as they are.
CODE = ("data.py", "nets.py", "precision.py", "train.py", "norms/*.py", "probes/*.py")

_one_at_a_time = threading.Lock()  # Two in threads of one process (Dask) would draw from the same random numbers.
Progress = Callable[[int, int, float | None], None]  # finished, all, seconds that the rest will take or None


class ReproduceError(RuntimeError):
    """What a person can put right, in one line."""


@dataclass(frozen=True)
class Part:
    """One training, in words that can be sent to another machine."""

    experiment: str
    scale: str
    data: str
    levels: tuple[tuple[str, object], ...]
    seed: int
    device: str
    precision: str
    depends_on: str  # a hash of the code, the data, torch and the design

    def key(self) -> str:
        told = (self.data, self.levels, self.seed, self.device, self.precision, self.depends_on)
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]


def reproduce(name: str, scale: str = "desk", data: str = "cifar10", *, device: str = "auto", precision: str = "float32",
              seeds: int | None = None, out: Path | str = "reproduced", jobs: int = 1, dask: str | None = None,
              progress: Progress | None = None) -> tuple[pd.DataFrame, dict]:
    """Do the parts of an experiment that are not done yet. Returns the whole table, and where it comes from.

    Args:
        scale: "desk" (minutes on two processor cores), "paper" (a GPU), "quick" (does it work?).
        seeds: how many; by default ``SEEDS[scale]``. precision: of the training steps, as in ``train``.
        out: folder of finished parts.
        jobs: processes on this machine. dask: address of a Dask scheduler whose workers have this course installed.
    Raises ReproduceError: whatever a person can put right: an unknown name, data not at hand, no such device, a folder in use,
    a full disk, workers that are gone or have other code."""
    for what, one, known in (("experiment", name, EXPERIMENTS), ("scale", scale, NETWORKS), ("data set", data, data_sets.NAMES)):
        if one not in known:
            raise ReproduceError(f"unknown {what} {one!r}; there are {', '.join(known)}")
    if seeds is not None and seeds < 1:
        raise ReproduceError(f"{seeds} seeds: give at least 1")
    if jobs < 1 or (jobs > 1 and dask):
        raise ReproduceError(f"{jobs} jobs: give at least 1" if jobs < 1 else "give jobs or dask, not both")
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = ("cuda" if here["cuda"] else "cpu") if device == "auto" else device
    if not here.get(device):
        raise ReproduceError(f"there is no device {device!r} here; there are auto, {', '.join(one for one in here if here[one])}")
    try:
        check_precision(precision, torch.device(device))
        images = load(data, "cpu")
    except (ValueError, RuntimeError) as error:
        raise ReproduceError(" ".join(str(error).split())) from error
    if images.y_train.is_floating_point() or images.x_train[0].numel() not in (64, 784, 3072):
        raise ReproduceError(f"{data} has no images")
    whole = study(name, scale, images, "cpu", seeds, precision)
    design, combinations = records.design(whole), whole.combinations()
    depends_on = hashlib.sha256(json.dumps([design["fixed"], design["record"], design["probes"], *surroundings(data)]).encode()).hexdigest()
    parts = [Part(name, scale, data, tuple(levels.items()), seed, device, precision, depends_on)
             for levels in combinations for seed in whole.seeds]
    with _ours(Path(out)) as folder:
        started, done, before = time.perf_counter(), {}, {}
        for part in parts:
            if found := _finished(folder, part):
                before[part] = found
        left = [part for part in parts if part not in before]

        def tell():
            if progress:
                seconds = (time.perf_counter() - started) / len(done) * (len(left) - len(done)) if done else None
                progress(len(before) + len(done), len(parts), seconds)

        tell()
        for part, frame, facts in _each(left, jobs, dask):
            _keep(folder, part, frame, facts)
            done[part] = _finished(folder, part)  # By way of the file, so that no table depends on who computed it.
            tell()
    found = [(before | done)[part] for part in parts]
    frame = pd.concat([frame for frame, _ in found], ignore_index=True)
    return frame, _provenance(name, scale, data, design, list(whole.seeds), device, precision, [facts for _, facts in found])


@lru_cache
def load(data: str, device: str) -> data_sets.Data:
    return data_sets.load(data, device)


@lru_cache
def surroundings(data: str) -> tuple[str, str, str]:
    """What numbers depend on beside the design: hashes of the code and of the images and labels, and the version of torch."""
    code = hashlib.sha256(b"".join(path.read_bytes() for pattern in CODE for path in sorted(PACKAGE.glob(pattern))))
    content, loaded = hashlib.sha256(), load(data, "cpu")
    for tensor in (loaded.x_train, loaded.y_train, loaded.x_test, loaded.y_test):
        content.update(tensor.contiguous().numpy())
    return code.hexdigest(), content.hexdigest(), torch.__version__


def compute(part: Part, expected: tuple[str, str, str], parent: int | None = None) -> tuple[Part, pd.DataFrame, dict]:
    """Do one part, in whichever process and on whichever machine.
    Raises ReproduceError: other code, another torch or other data than where the parts were listed; not enough GPU memory."""
    if parent:
        _end_with(parent)
    with _one_at_a_time:
        for what, own, theirs in zip(("bncourse", "data set", "torch"), surroundings(part.data), expected):
            if own != theirs:
                raise ReproduceError(f"a worker has another {what} than this process; results would not be comparable")
        threads = torch.get_num_threads()
        if part.device == "cpu":
            torch.set_num_threads(1)  # Networks this small lose more in waiting than they gain.
        if part.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began, clock = _now(), time.perf_counter()
        try:
            whole = study(part.experiment, part.scale, load(part.data, part.device), part.device, precision=part.precision)
            frame = whole.part(dict(part.levels), [part.seed])
        except torch.cuda.OutOfMemoryError as error:
            raise ReproduceError(f"not enough memory on the GPU for {dict(part.levels)}; use fewer jobs, or a larger GPU") from error
        finally:
            torch.set_num_threads(threads)
        facts = {"seconds": round(time.perf_counter() - clock, 2), "started": began, "finished": _now(),
                 "peak_memory_mib": round(provenance.peak_memory(part.device)), **provenance.machine(part.device)}
    return part, frame, facts


@lru_cache
def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone, rather than when it has waited for work in vain."""
    def watch():
        while True:
            time.sleep(1)
            try:
                os.kill(parent, 0)
            except OSError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _each(parts: list[Part], jobs: int, dask: str | None) -> Iterator[tuple[Part, pd.DataFrame, dict]]:
    """Each part as it is done."""
    if not parts:
        return
    expected = surroundings(parts[0].data)
    if dask:
        yield from _on_dask(parts, expected, dask)
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool
    parent = os.getpid() if jobs > 1 else None
    try:
        yield from Parallel(jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=jobs)(
            delayed(compute)(part, expected, parent) for part in parts)
    except BrokenProcessPool as error:
        raise ReproduceError("a process was killed (is the memory full?); what was finished is kept: run the same command again, "
                             "perhaps with fewer --jobs") from error


def _on_dask(parts, expected, address):
    try:
        from distributed import CancelledError, Client, KilledWorker, as_completed
    except ImportError:
        raise ReproduceError('--dask needs the package distributed: python -m pip install "bncourse[dask]"') from None
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ReproduceError(f"no Dask scheduler answers at {address} ({type(error).__name__})") from error
    with client, client.as_current():
        try:
            client.wait_for_workers(1, timeout=60)
            for future in as_completed([client.submit(compute, part, expected, pure=False) for part in parts]):
                yield future.result()
        except TimeoutError as error:
            raise ReproduceError(f"the scheduler at {address} has no workers; start some") from error
        except (KilledWorker, CancelledError, OSError) as error:
            raise ReproduceError(f"workers of {address} died, or it is gone ({type(error).__name__}); what was finished is kept: "
                                 "run the same command again") from error
        except ModuleNotFoundError as error:
            raise ReproduceError(f"a worker cannot import {error.name}; install this course there") from error


@contextmanager
def _ours(folder: Path) -> Iterator[Path]:
    """The folder of finished parts, in which nobody else writes meanwhile."""
    from filelock import FileLock, Timeout  # torch brings it along
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ReproduceError(f"{folder} is in use by another process; wait for it, end it, or give another --out") from None
    except OSError as error:
        raise ReproduceError(f"cannot write to {folder} ({error.strerror or error}); give another --out") from error
    try:
        for left in folder.glob(".*.tmp"):  # What somebody who was killed was writing.
            left.unlink(missing_ok=True)
        yield folder
    finally:
        lock.release()


def _keep(folder: Path, part: Part, frame: pd.DataFrame, facts: dict) -> None:
    """The facts and the table, every number to its last bit."""
    told = {"facts": facts, "table": {name: frame[name].tolist() for name in frame}}
    content = gzip.compress(json.dumps(told).encode(), 5, mtime=0)
    try:
        records.write_whole(folder / f"{part.key()}.json.gz", content)
    except OSError as error:
        raise ReproduceError(f"cannot write to {folder} ({error.strerror or error}); {len(list(folder.glob('*.json.gz')))} "
                             "finished parts are kept there: make room and run the same command again") from error


def _finished(folder: Path, part: Part) -> tuple[pd.DataFrame, dict] | None:
    """Table and facts of a part that is done. A damaged file is put aside, and said."""
    path = folder / f"{part.key()}.json.gz"
    if not path.exists():
        return None
    try:
        told = json.loads(gzip.decompress(path.read_bytes()))
        return pd.DataFrame(told["table"]), told["facts"]
    except (OSError, EOFError, ValueError, TypeError, KeyError, zlib.error) as error:
        os.replace(path, path.with_suffix(".damaged"))
        print(f"bncourse: {path.name} is damaged ({type(error).__name__}): it is put aside, and its part is done again", file=sys.stderr)
        return None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _provenance(name, scale, data, design, seeds, device, precision, facts) -> dict:
    """What a record has to say, but for the command."""
    commit, dirty = provenance.commit()

    def different(key):
        found = [json.loads(text) for text in sorted({json.dumps(each[key]) for each in facts})]
        return found[0] if len(found) == 1 else found

    return {
        "experiment": name, "scale": scale, "title": EXPERIMENTS[name].title, "design": design,
        "data": {"name": data, "sha256": surroundings(data)[1], "source": data_sets.origin(data)},
        "seeds": seeds, "commit": commit, "dirty": dirty,
        "started": min(each["started"] for each in facts), "finished": max(each["finished"] for each in facts),
        "hardware": different("hardware"), "versions": different("versions"), "device": device, "precision": precision,
        # Of the parts, one after another, whoever did them; what was taken up again has no one wall time.
        "seconds": round(sum(each["seconds"] for each in facts), 1), "parts": len(facts),
        "peak_memory_mib": max(each["peak_memory_mib"] for each in facts), "deviations": deviations(name, data),
    }


def command(name: str, *, record: bool, dry_run: bool, scale: str, data: str, out: Path, **settings) -> None:
    """What ``python -m bncourse reproduce`` does: one experiment or all, each table and its provenance written beside the parts
    and, with ``record``, to the book."""
    import shlex
    if name != "all" and name not in EXPERIMENTS:
        raise ReproduceError(f"unknown experiment {name!r}; there are {', '.join(EXPERIMENTS)}, and all")
    names = list(EXPERIMENTS) if name == "all" else [name]
    if record:
        _may_record(scale, data, settings["seeds"])
    for each in names:
        if dry_run:
            _plan(each, scale, settings)
            continue
        with _progress(each) as progress:
            frame, told = reproduce(each, scale, data, out=out, progress=progress, **settings)
        told["command"] = f"python -m bncourse {shlex.join(sys.argv[1:])}"
        for folder in [out, *([records.FOLDER] if record else [])]:
            try:
                path = records.write(each, scale, frame, told, folder)
            except OSError as error:
                raise ReproduceError(f"cannot write to {folder} ({error.strerror or error}); finished parts are kept in {out}: "
                                     "make room and run the same command again") from error
        lost = frame[frame.diverged].groupby([column for column in ("norm", "lr", "seed") if column in frame]).ngroups
        print(f"{each}: {told['parts']} trainings, {told['seconds'] / 60:.1f} min of computing in all, {lost} of them blew up; {path}")
    if not dry_run:
        print("What it says of each claim is asked by the chapter, in its panel, of the very expressions that the page's own run answers.")


def _plan(name: str, scale: str, settings: dict) -> None:
    """What would be trained, and for how long, if it has been recorded."""
    empty = records._empty(name, scale)
    combinations, seeds = empty.combinations(), settings["seeds"] or SEEDS[scale]
    print(f"{name}: {len(combinations) * seeds} trainings of {empty.fixed['steps']} steps ({len(combinations)} settings, {seeds} seeds)")
    for levels in combinations:
        print("  " + ", ".join(f"{key} {value}" for key, value in levels.items()))
    with suppress(records.RecordRefused):
        if known := records.read(name, scale):
            minutes = known.provenance["seconds"] / known.provenance["parts"] * len(combinations) * seeds / 60
            print(f"  about {minutes:.0f} min of computing, as long as the record took")


def _may_record(scale: str, data: str, seeds: int | None) -> None:
    """Known before hours of computing, not after."""
    if scale == "quick" or data != "cifar10":
        raise ReproduceError("what the book shows is on cifar10, at scale desk or paper; without --record anything can be run")
    if seeds is not None and seeds < SEEDS[scale]:
        raise ReproduceError(f"a record has {SEEDS[scale]} seeds or more: fewer give no verdict")
    if not records.FOLDER.parent.is_dir() or provenance.commit()[0] == "unknown":
        raise ReproduceError("--record writes into the book and has to name the commit it was made with; run it in a checkout of "
                             "the repository, as python -m bncourse")


@contextmanager
def _progress(name: str) -> Iterator[Progress]:
    """A bar in a terminal; in a log a line now and then."""
    from rich import progress
    from rich.console import Console
    console, last = Console(stderr=True), 0.0
    columns = (progress.TextColumn(name), progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeElapsedColumn(),
               progress.TextColumn("{task.fields[left]}"))
    with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, left="")

        def tell(done: int, of: int, seconds: float | None) -> None:
            nonlocal last
            left = "" if seconds is None else f", about {seconds / 60:.0f} min left"
            bar.update(task, completed=done, total=of, left=left)
            if not console.is_terminal and done < of and time.monotonic() - last >= 15:
                last = time.monotonic()
                print(f"{name}: {done} of {of} trainings{left}", file=sys.stderr, flush=True)

        yield tell
