"""Carry out the runs of an experiment: in this process, in several, or on a Dask cluster; the frame is the same bit for bit.

What is trained together is fixed by the list of runs, and results are put in the order of that list, so nothing depends on who
was done first. (Tested on processors. On GPUs it is so as far as torch's kernels give the same bits twice.)
"""

import datetime
import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock

import pandas as pd
import torch

from bncourse import data as data_sets
from bncourse import provenance
from bncourse.precision import check_precision
from bncourse.reproduce.catalogue import EXPERIMENTS
from bncourse.reproduce.estimate import Estimate, estimate, time_left
from bncourse.reproduce.experiment import SCALES, SEEDS
from bncourse.reproduce.folder import Folder, ReproduceError, pack, unpack
from bncourse.reproduce.runs import Run, fingerprint, load

NO_WORKERS = 60.0  # seconds to wait for a worker to come (back)

# What the numbers of a frame depend on, besides the list of runs and the data.
CODE = ("bncourse.augment", "bncourse.capture", "bncourse.data", "bncourse.nets", "bncourse.precision", "bncourse.train",
        "bncourse.reproduce.runs", "bncourse.probes.activations", "bncourse.probes.again",
        "bncourse.probes.curvature", "bncourse.probes.landscape", "bncourse.probes.shift",
        "bncourse.norms", *(f"bncourse.norms.{name}" for name in ("batch", "checks", "examples", "frozen", "lp", "mended",
                                                                  "noise", "tanh", "weights")))

# (finished, all, seconds that the rest will take or None, the run that has just finished or None)
Progress = Callable[[int, int, float | None, Run | None], None]


def reproduce(name: str, *, data: str = "digits", scale: str = "quick", device: str = "auto",
              seeds: Sequence[int] | None = None, precision: str = "float32", out: Path | str | None = None, jobs: int = 1,
              dask: str | None = None, progress: Progress | None = None) -> pd.DataFrame:
    """Do the runs of an experiment that are not done yet, and return the whole frame; its provenance is in ``frame.attrs``.

    Args:
        name: one of ``EXPERIMENTS``.
        scale: "quick", the size of the chapters, or "paper".
        device: "auto", "cpu", "cuda", "mps".
        seeds: by default 0, 1, …, as many as ``SEEDS`` says.
        precision: of the training steps of convolutional networks: "float32", "tf32", "bf16". Looks and probes are in float32.
        out: folder for finished runs; stopped at any moment, the same call goes on from there. Default:
            ``reproduced/SCALE-DATA``. Each experiment has a folder of its own in it.
        jobs: processes on this machine.
        dask: address of a Dask scheduler whose workers have this course installed.

    Raises:
        ReproduceError: whatever a person can put right, in one line: an unknown name, data not at hand, no such device, a
            folder that is in use or belongs to other settings, a full disk, workers that are gone or have other code.
    """
    plan = Plan(name, data, scale, seeds, out)
    runs, clock = plan.runs, time.perf_counter()
    with _workers(jobs, dask) as workers:
        device = workers.device(device)
        plan.check(device, precision)
        with Folder(plan.folder, plan.settings(device, precision)).ours() as folder:
            done = folder.finished(runs)
            left = [run for run in runs if run.key() not in done]

            def tell(run=None):
                if not progress:
                    return
                finished = [(each, done[each.key()][0]["seconds"]) for each in runs if each.key() in done]
                ours = sum(taken for each, taken in finished if each in left)
                at_once = max(1.0, ours / (time.perf_counter() - clock)) if run else float(jobs)
                waiting = [each for each in left if each.key() not in done]
                progress(len(finished), len(runs), time_left(waiting, finished, at_once), run)

            tell()
            for run, content in workers.each(left, device, plan.expected | {"data_name": data, "precision": precision}):
                folder.keep(run.key(), content)
                done[run.key()] = unpack(run.key(), content)
                tell(run)
    # Always by way of the file's format, so that no frame depends on whether it was read or computed.
    frame = pd.concat([done[run.key()][1] for run in runs], ignore_index=True)
    frame.attrs["provenance"] = _provenance(plan, device, precision, [done[run.key()][0] for run in runs])
    return frame


class Plan:
    """What is to be done, checked: the experiment, its runs, and all that they depend on."""

    def __init__(self, name: str, data: str, scale: str, seeds: Sequence[int] | None, out: Path | str | None,
                 with_data: bool = True) -> None:
        if name not in EXPERIMENTS:
            raise ReproduceError(f"unknown experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
        if scale not in SCALES:
            raise ReproduceError(f"unknown scale {scale!r}; there are {', '.join(SCALES)}")
        self.experiment, self.data, self.scale = EXPERIMENTS[name], data, scale
        self.seeds = tuple(range(SEEDS[scale]) if seeds is None else map(int, seeds))
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ReproduceError(f"seeds {list(self.seeds)}: give at least one, and none of them twice")
        if data not in data_sets.NAMES:
            raise ReproduceError(f"unknown data set {data!r}; there are {', '.join(data_sets.NAMES)}")
        self.folder = Path(out or Path("reproduced") / f"{scale}-{data}") / name
        self.runs = self.experiment.runs(scale, data, self.seeds)
        if not with_data:  # A list of what there would be to do needs none.
            return
        try:
            data_hash(data)
        except (ValueError, RuntimeError) as error:
            # In one line: the error of a download lists its servers.
            raise ReproduceError(re.sub(r"(?<!:)\s*\n\s*", "; ", str(error)).replace(":\n  ", ": ")) from error
        self.expected = {"meaning": _meaning_hash(), "data": data_hash(data), "torch": torch.__version__}
        self.commit = provenance.commit()  # Now: by the end of a long run somebody may have checked out another.

    def check(self, device: str, precision: str) -> None:
        try:
            check_precision(precision, torch.device(device))
        except ValueError as error:
            raise ReproduceError(str(error)) from error

    def settings(self, device: str, precision: str = "float32") -> dict:
        """What has to be the same for runs to be one experiment's."""
        return {"experiment": self.experiment.name, "scale": self.scale, "data": self.data, "seeds": list(self.seeds),
                "device": device, "precision": precision, "list of runs": fingerprint(self.runs),
                "code": self.expected["meaning"], "SHA-256 of the data": self.expected["data"], "torch": self.expected["torch"]}

    def estimate(self, device: str = "auto", precision: str = "float32") -> tuple[list[Run], list[tuple[Run, Estimate]]]:
        """The runs that are done, and the others with the time that each will take here."""
        device = device_named(device)
        self.check(device, precision)
        done = {}
        if self.folder.exists():
            with Folder(self.folder, self.settings(device, precision)).ours() as folder:
                done = folder.finished(self.runs)
        finished = [(run, done[run.key()][0]["seconds"]) for run in self.runs if run.key() in done]
        left = [run for run in self.runs if run.key() not in done]
        expected = self.expected | {"data_name": self.data, "precision": precision}

        def time_it(run):
            return unpack(run.key(), compute(run, device, expected))[0]["seconds"]

        with OnThisMachine(1):
            return [run for run, _ in finished], list(zip(left, estimate(left, finished, time_it)))


def device_named(device: str) -> str:
    """ "auto" made definite.

    Raises:
        ReproduceError: unknown, or not here.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if here["cuda"] else "cpu"
    if device not in here:
        raise ReproduceError(f"unknown device {device!r}; there are auto, {', '.join(here)}")
    if not here[device]:
        raise ReproduceError(f"torch sees no {device} device here; use --device auto or cpu")
    return device


@lru_cache
def _meaning() -> dict[str, str]:
    return provenance.meaning(CODE)


def _meaning_hash() -> str:
    return hashlib.sha256(repr(sorted(_meaning().items())).encode()).hexdigest()[:16]


@lru_cache
def data_hash(name: str) -> str:
    """SHA-256 of the tensors that training sees."""
    loaded, digest = load(json.dumps({"data": name}), "cpu"), hashlib.sha256()
    for tensor in (loaded.x_train, loaded.y_train, loaded.x_test, loaded.y_test):
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


# Two runs in threads of one process, as Dask may have them, would draw from the same random numbers.
_one_at_a_time = Lock()


def compute(run: Run, device: str, expected: dict) -> bytes:
    """Do one run, in whichever process and on whichever machine, and return the content of its file.

    Raises:
        ReproduceError: other code, another torch or other data than where the runs were listed; not enough GPU memory.
    """
    with _one_at_a_time:
        own = {"meaning": _meaning_hash(), "data": data_hash(expected["data_name"]), "torch": torch.__version__}
        if different := [name for name, value in own.items() if value != expected[name]]:
            names = " and ".join({"meaning": "bncourse"}.get(name, name) for name in different)
            raise ReproduceError(f"a worker has another {names} than this process; results would not be comparable")
        if device == "cpu":
            torch.set_num_threads(1)  # Of this thread. Networks this small lose more in waiting than they gain.
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        started, clock = _now(), time.perf_counter()
        try:
            frame = run.do(device, expected["precision"])
        except torch.cuda.OutOfMemoryError as error:
            raise ReproduceError(f"{run.title()}: not enough memory on the GPU; use fewer jobs, or a larger GPU") from error
        facts = {"seconds": round(time.perf_counter() - clock, 3), "started": started, "finished": _now(),
                 "peak_memory_mib": round(provenance.peak_memory(device), 1), "training": frame.attrs.get("training", "plain"),
                 **provenance.machine(device)}
    return pack(run.key(), facts, frame)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _workers(jobs: int, dask: str | None):
    if jobs < 1 or (jobs > 1 and dask):
        raise ReproduceError(f"jobs {jobs}: give at least 1" if jobs < 1 else "give jobs or dask, not both")
    return OnDask(dask) if dask else OnThisMachine(jobs)


class OnThisMachine:
    """One process, or several."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def __enter__(self):
        self.threads = torch.get_num_threads()
        return self

    def __exit__(self, *error) -> None:
        torch.set_num_threads(self.threads)

    def device(self, device: str) -> str:
        return device_named(device)

    def each(self, runs: Sequence[Run], device: str, expected: dict) -> Iterator[tuple[Run, bytes]]:
        if self.jobs == 1:
            for run in runs:
                yield run, compute(run, device, expected)
            return
        from joblib import Parallel, delayed
        from joblib.externals.loky.process_executor import BrokenProcessPool

        parallel = Parallel(n_jobs=self.jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=self.jobs)
        try:
            yield from parallel(delayed(_with_its_run)(run, device, expected) for run in runs)
        except BrokenProcessPool as error:
            raise ReproduceError("a process was killed (is the memory full?); what was finished is kept: run the same command "
                                 "again, perhaps with fewer --jobs") from error


def _with_its_run(run: Run, device: str, expected: dict) -> tuple[Run, bytes]:
    return run, compute(run, device, expected)


class OnDask:
    """The workers of a Dask cluster. A run whose worker dies is given to another."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self):
        try:
            import distributed
        except ImportError:
            raise ReproduceError('--dask needs the package distributed: python -m pip install "bncourse[dask]", or distributed '
                                 "itself") from None
        try:
            self.client = distributed.Client(self.address, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ReproduceError(f"no Dask scheduler answers at {self.address} ({type(error).__name__})") from error
        return self

    def __exit__(self, *error) -> None:
        self.client.close(timeout=5)

    def device(self, device: str) -> str:
        if device not in ("auto", "cpu", "cuda", "mps"):
            raise ReproduceError(f"unknown device {device!r}; there are auto, cpu, cuda, mps")
        try:
            self.client.wait_for_workers(1, timeout=NO_WORKERS)
        except TimeoutError as error:
            raise ReproduceError(f"the scheduler at {self.address} has no workers; start some") from error
        found = set(self._answers(device).values())
        if len(found) > 1:
            raise ReproduceError(f"the workers have different devices ({', '.join(sorted(found))}); name one with --device")
        return found.pop()

    def _answers(self, device: str) -> dict:
        try:
            return self.client.run(device_named, device)
        except ModuleNotFoundError as error:
            raise ReproduceError(f"a worker cannot import {error.name}; install this course there") from error

    def each(self, runs: Sequence[Run], device: str, expected: dict) -> Iterator[tuple[Run, bytes]]:
        import distributed

        # A name that no other session has: what lies on the cluster from before may be of other code.
        session = uuid.uuid4().hex[:8]
        waiting = {self.client.submit(compute, run, device, expected, key=f"bncourse-{session}-{run.key()}"): run
                   for run in runs}
        try:
            while waiting:
                for future in self._some_done(list(waiting)):
                    yield waiting.pop(future), future.result()
        except distributed.KilledWorker as error:
            raise ReproduceError("the workers that tried a run died, one after another (is their memory full?); what was "
                                 "finished is kept") from error
        except (distributed.CancelledError, OSError) as error:
            raise ReproduceError(f"the connection to {self.address} was lost; what was finished is kept: run the same command "
                                 "again") from error
        except ModuleNotFoundError as error:
            raise ReproduceError(f"a worker cannot import {error.name}; install this course there") from error

    def _some_done(self, futures: list) -> set:
        """At least one of them, as soon as there is one."""
        import distributed

        seen = time.monotonic()
        while time.monotonic() - seen < NO_WORKERS:
            try:
                with self.client.as_current():
                    return distributed.wait(futures, timeout=5, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                if self.client.scheduler_info().get("workers"):
                    seen = time.monotonic()
        raise ReproduceError(f"the scheduler at {self.address} has had no workers for {NO_WORKERS:g} s; what was finished is "
                             "kept: start some and run the same command again")


def _provenance(plan: Plan, device: str, precision: str, facts: list[dict]) -> dict:
    """What a record has to say; ``command`` and notes on the data are for the caller to add."""
    experiment, data, (commit, dirty) = plan.experiment, plan.data, plan.commit

    def different(key):
        found = []
        for each in facts:
            if each[key] not in found:
                found.append(each[key])
        return found

    versions = different("versions")
    return {
        "experiment": experiment.name, "title": experiment.title, "figures": experiment.figures, "scale": plan.scale,
        "data": {"name": data, "sha256": plan.expected["data"], "source": data_sets.origin(data),
                 "of": "the tensors that training sees: images and labels of the training set, then of the test set"},
        "seeds": list(plan.seeds), "runs": fingerprint(plan.runs), "number_of_runs": len(plan.runs),
        "commit": commit, "dirty": dirty,
        "started": min(each["started"] for each in facts), "finished": max(each["finished"] for each in facts),
        "hardware": different("hardware"), "versions": versions[0] if len(versions) == 1 else versions,
        "device": device,
        "precision": precision + ("" if precision == "float32" else " in the steps of convolutional networks, else float32"),
        "training": different("training"),
        # Of the runs, one after another, whoever did them; a resumed run has no one wall time.
        "seconds": round(sum(each["seconds"] for each in facts), 1),
        "peak_memory_mib": max(each["peak_memory_mib"] for each in facts),
        "deviations": experiment.deviations(plan.scale, data), "meaning": _meaning(),
    }

