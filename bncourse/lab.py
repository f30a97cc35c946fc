"""What the settings cell of every chapter turns into: data, device and seeds for this run."""

import os
import time
from dataclasses import dataclass, field

import torch

from bncourse import claims, data, figures

SCALES = {"small": 1, "large": 4}  # How many times the seeds.


@dataclass(frozen=True)
class Lab:
    data: data.Data
    device: str
    scale: str
    first_seed: int
    started: float = field(default_factory=time.perf_counter)

    def seeds(self, count: int) -> range:
        """``count`` seeds (four times as many at scale "large"), starting at ``first_seed``."""
        return range(self.first_seed, self.first_seed + count * SCALES[self.scale])

    def sign_off(self) -> None:
        """Say how long this run took, where, and with which seeds."""
        figures.say(figures.Measured.text(f"*This run: {time.perf_counter() - self.started:.0f} s on {self.device}, seeds from "
                                          f"{self.first_seed:,}, {self.data.name}.*"))


def set_up(dataset: str = "digits", device: str = "auto", scale: str = "small", first_seed: int | None = None) -> Lab:
    """Load the data onto the device, set figures up, and pick the number of threads.

    ``first_seed=None``: the build of the book draws it from the chapter's code; elsewhere it is 0. On other data than ``digits``
    a verdict that differs does not fail the notebook.
    Raises ValueError: unknown data set, device or scale. RuntimeError: no GPU for ``cuda``; data not at hand."""
    for what, one, known in (("scale", scale, SCALES), ("device", device, ("auto", "cpu", "cuda", "mps"))):
        if one not in known:
            raise ValueError(f"unknown {what} {one!r}; there are {', '.join(known)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError('DEVICE = "cuda", but torch sees no GPU here; use "auto" or "cpu" '
                           '(on Colab: Runtime, Change runtime type, GPU)')
    if device == "cpu":
        torch.set_num_threads(1)  # Networks this small: two threads lose more in waiting than they gain.
    loaded = data.load(dataset, device)  # First: a misspelt name must not leave claims unchecked.
    figures.use_style()
    claims.strict = dataset == "digits" and os.environ.get("BNCOURSE_STRICT") != "0"
    if first_seed is None:
        first_seed = int(os.environ.get("BNCOURSE_FIRST_SEED", 0))
    return Lab(loaded, device, scale, first_seed)
