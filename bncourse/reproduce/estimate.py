"""How long will it take? From finished runs of the same kind, or from a few steps of it."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bncourse.reproduce.runs import Run

PATIENCE = 90.0  # seconds that all timings together may take


@dataclass(frozen=True)
class Estimate:
    seconds: float
    source: str  # "finished": mean of finished runs of this kind; "timed": from a few steps; "guessed": from another kind


def of_finished(finished: Iterable[tuple[Run, float]]) -> dict[str, float]:
    """Mean seconds of a run, by kind."""
    seconds = {}
    for run, taken in finished:
        seconds.setdefault(run.kind(), []).append(taken)
    return {kind: sum(taken) / len(taken) for kind, taken in seconds.items()}


def time_left(left: Sequence[Run], finished: Sequence[tuple[Run, float]], at_once: float = 1.0) -> float | None:
    """Seconds until the runs ``left`` are done, ``at_once`` at a time; None if nothing is known. A run of a kind that has not
    been seen takes per step what the others took."""
    if not finished:
        return None
    known = of_finished(finished)
    per_step = sum(taken for _, taken in finished) / sum(run.steps for run, _ in finished)
    return sum(known.get(run.kind(), per_step * run.steps) for run in left) / at_once


def estimate(left: Sequence[Run], finished: Sequence[tuple[Run, float]], time_it: Callable[[Run], float]) -> list[Estimate]:
    """For each of the runs ``left``. ``time_it`` does a run and returns its seconds."""
    known, timed, started = of_finished(finished), {}, time.monotonic()
    found = []
    for run in left:
        kind = run.kind()
        if kind in known:
            found.append(Estimate(known[kind], "finished"))
            continue
        if kind not in timed:
            if timed and time.monotonic() - started > PATIENCE:
                # The kind that is spelt most alike: the same network with another normalizer, mostly.
                look, step, _ = timed[max(timed, key=lambda other: _alike(kind, other))]
                timed[kind] = look, step, "guessed"
            else:
                timed[kind] = (*_timing(run, time_it), "timed")
        look, step, source = timed[kind]
        found.append(Estimate(look * len(run.record) + step * run.steps, source))
    return found


def _timing(run: Run, time_it: Callable[[Run], float]) -> tuple[float, float]:
    """Seconds of a look, and of a step."""
    def short(steps):
        return time_it(replace(run, steps=steps, record=(steps,)))

    look = short(0)
    if look < 5:
        look = short(0)  # The first one warmed up.
    steps = 3
    taken = short(steps) - look
    while taken < 0.3 and steps < 300:  # Too short to tell.
        steps *= 5
        taken = short(steps) - look
    return look, max(taken, 0) / steps


def _alike(one: str, other: str) -> int:
    return sum(a == b for a, b in zip(one.split('"'), other.split('"')))


def in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
