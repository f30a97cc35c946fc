"""Run by ``test_reproduce``, in a process of its own: start an experiment, kill it (signal 9), start it again, until done.

The children are forks of this process, which has imported everything, so that starting anew costs milliseconds.
    harness.py NAME OUT SEED LONGEST [LIMIT]     kills after up to LONGEST seconds; LIMIT: bytes that a file may have
"""

import os
import random
import resource
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from bncourse.reproduce import EXPERIMENTS, Experiment, Plan, ReproduceError, Run, reproduce


def tiny_runs(scale, data, seeds):
    return [Run({"make": "mlp", "hidden": (16,), "norm": norm, "init": "he"}, {"data": data}, (lr,), tuple(seeds), 60, 32,
                (0, 30, 60), (("moments", {}),), labels={"network": "mlp", "init": "he"})
            for norm in ("none", "batch", "noisy_batch", "layer") for lr in (0.1, 0.5)]


TINY = Experiment("tiny", "For tests", "none", "none", tiny_runs)
WHOLE = EXPERIMENTS["batch-size"]
# Of an experiment of the list every third run: all its normalizers and all its sizes of a batch are among them.
THIRD = replace(WHOLE, name="third", runs=lambda *settings: WHOLE.runs(*settings)[::3])
EXTRA = {"tiny": TINY, "third": THIRD}


def child(name, out, limit):
    """Exit code 0: done; 2: refused in one line."""
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with open(Path(out) / "log", "a") as log:
        def progress(done, of, left, run):
            if run:
                log.write(run.key() + "\n")
                log.flush()
        try:
            reproduce(name, seeds=[0], out=out, progress=None if limit else progress)
        except ReproduceError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(2)
    os._exit(0)


def main(name, out, seed, longest, limit=0):
    EXPERIMENTS.update(EXTRA)
    generator, kills = random.Random(int(seed)), 0
    Path(out).mkdir(parents=True, exist_ok=True)
    Plan(name, "digits", "quick", [0], out)  # What it reads and hashes is then known to all children.
    while True:
        pid = os.fork()
        if pid == 0:
            child(name, out, int(limit))
        if kills < 10 and not int(limit):
            time.sleep(generator.uniform(0, float(longest)))
            kills += 1
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            print(kills)
            sys.exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main(*sys.argv[1:])
