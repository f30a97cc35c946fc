"""One call of ``train``, written down: what to build, on which data, how long, watched by what.

A ``Run`` holds nothing but numbers and names, so it can be compared, sent to another machine, and kept beside its result.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
import torch

from bncourse import data, nets
from bncourse.probes.activations import Histograms, Moments
from bncourse.probes.curvature import Curvature
from bncourse.probes.landscape import Landscape
from bncourse.probes.shift import Shift
from bncourse.train import train

PROBES = {"moments": Moments, "histograms": Histograms, "shift": Shift, "landscape": Landscape, "curvature": Curvature}
OF_SHIFT = ["gradient_norm", "l2", "relative", "cosine"]  # columns of the probe ``Shift``


@dataclass(frozen=True)
class Run:
    """Networks that are trained together, and how. The words are those of ``train``.

    Args:
        net: arguments of a function of ``nets``, its name under "make"; for "mlp", "hidden" in place of sizes.
        task: {"data": name}, with "images" and perhaps "size" for images, "test" for so many test examples; or
            {"map": arguments of ``data.linear_map``}.
        batch: 0 is all examples.
        probes: (name in PROBES, its arguments, ending of its columns), each.
        layers: keep these layers only; "mean" averages over layers, Definition 2.1 without the first, which has none below.
        labels: columns to tell runs apart; the name of the normalizer is one by itself.
    """

    net: dict
    task: dict
    lrs: tuple
    seeds: tuple
    steps: int
    batch: int
    record: tuple
    probes: tuple = ()
    test: bool = False
    layers: tuple | str | None = None
    labels: dict = field(default_factory=dict)

    def text(self) -> str:
        """As JSON, always in the same order."""
        return json.dumps(asdict(self), sort_keys=True)

    def key(self) -> str:
        """A name for this run that no other has."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]

    def kind(self) -> str:
        """Runs of one kind take equally long a step: they differ in seeds, learning rates and numbers of steps at most."""
        told = asdict(self)
        for name in ("seeds", "lrs", "steps", "record", "labels", "layers"):
            del told[name]
        told["net"].pop("init", None)
        return json.dumps([told, len(self.seeds) * len(self.lrs)], sort_keys=True)

    def title(self) -> str:
        rates = ", ".join(f"{lr:g}" for lr in self.lrs)
        seeds = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds"
        told = " ".join(f"{name} {value}" for name, value in self.labels.items())
        return f"{told} norm {self.net['norm']} lr {rates} {seeds} {self.steps} steps"

    def do(self, device: str = "cpu", precision: str = "float32") -> pd.DataFrame:
        """Train, and return the frame of ``train`` with the labels as columns.

        Precision is that of the steps of convolutional networks, which take the time. The deep linear network, whose learning
        rates are tiny, and the small networks of the chapters always train in float32.
        """
        task = load(json.dumps(self.task, sort_keys=True), device)
        frame = train(lambda seed: build(self.net, task, seed), task, seeds=self.seeds, lrs=self.lrs, steps=self.steps,
                      batch_size=self.batch or len(task.x_train), record=self.record, test=self.test,
                      probes=[_probe(*each) for each in self.probes],
                      precision=precision if self.net["make"] == "vgg" else "float32",
                      labels=dict(norm=self.net["norm"], **self.labels))
        if self.layers == "mean":
            kept = _mean_over_layers(frame)
        elif self.layers is not None:
            kept = frame[frame.layer.isin(self.layers)].reset_index(drop=True)
        else:
            kept = frame
        kept.attrs.update(frame.attrs)
        return kept


def fingerprint(runs: Sequence[Run]) -> str:
    """A hash of a list of runs."""
    return hashlib.sha256("\n".join(run.text() for run in runs).encode()).hexdigest()[:16]


@lru_cache(maxsize=4)
def load(task: str, device: str) -> data.Data:
    """The data of a run, once a process. ``task`` is JSON, since a dict cannot be remembered."""
    task = json.loads(task)
    if "map" in task:
        loaded = data.linear_map(**task["map"])
        tensors = (getattr(loaded, name).to(device) for name in ("x_train", "y_train", "x_test", "y_test"))
        return data.Data(loaded.name, *tensors, classes=loaded.classes)
    loaded = data.load(task["data"], device)
    if task.get("images"):
        loaded = data.as_images(loaded, task.get("size"))
    count = task.get("test")
    return data.Data(loaded.name, loaded.x_train, loaded.y_train, loaded.x_test[:count], loaded.y_test[:count], loaded.classes)


def build(net: dict, task: data.Data, seed: int) -> torch.nn.Module:
    """The network of a run."""
    options = {name: value for name, value in net.items() if name not in ("make", "hidden")} | {"seed": seed, "fused": True}
    if net["make"] == "mlp":
        return nets.mlp((task.features, *net["hidden"], task.classes), **options)
    if net["make"] == "vgg":
        return nets.vgg(task.x_train.shape[1:], task.classes, **options)
    if net["make"] == "deep_linear":
        return nets.deep_linear(**options)
    raise ValueError(f"unknown network {net['make']!r}; there are mlp, vgg, deep_linear")


def _probe(name: str, options: dict, ending: str = ""):
    probe = PROBES[name](**options)
    return Renamed(probe, ending) if ending else probe


class Renamed:
    """A probe with an ending behind its column names, so that two of a kind can watch one run."""

    def __init__(self, probe, ending: str) -> None:
        self.probe, self.ending = probe, ending
        self.looks_at_update = getattr(probe, "looks_at_update", False)
        self.coordinates = tuple(name + ending for name in getattr(probe, "coordinates", ()))

    def __call__(self, *args, **kwargs) -> pd.DataFrame:
        return self.probe(*args, **kwargs).set_index("member").add_suffix(self.ending).reset_index()


def _mean_over_layers(frame: pd.DataFrame) -> pd.DataFrame:
    shift = [column for column in OF_SHIFT if column in frame]
    frame = frame.copy()
    frame.loc[frame.layer == 1, shift] = np.nan
    keys = ["lr", "seed", "step"]
    # What ``train`` itself says is the same in every layer, and so its mean is what it was but for rounding: take the first.
    after = list(frame.columns).index("layer") + 1
    probed = [column for column in frame.columns[after:] if pd.api.types.is_float_dtype(frame[column])]
    by_look = frame.groupby(keys, sort=False)
    first = by_look.first().drop(columns=["layer", *probed])
    return first.join(by_look[probed].mean()).reset_index()
