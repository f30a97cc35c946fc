"""What an experiment is, and what all nine share: the networks of the two scales, and how to pick numbers from a frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bncourse.reproduce.runs import Run

SCALES = ("quick", "paper")
SEEDS = {"quick": 5, "paper": 3}  # A verdict needs five; the paper trained each network once.
PAPER_STEPS = 15_000


@dataclass(frozen=True)
class Experiment:
    """A list of runs and what they say about the claims of a chapter.

    Args:
        chapter: of the book, without ending.
        figures: what of Santurkar et al. 2018 it repeats, in words; or "none".
        runs: (scale, data, seeds) -> the runs, always in the same order.
        effects: claim id -> function of the frame, one number per seed in the order of seeds: what the chapter measures
            for that claim, on which side of whose threshold a scale falls.
        notes: what differs from the paper, or what the paper does not state, beyond ``VGG`` and ``DEEP_LINEAR``, which say it
            for their networks.
    """

    name: str
    title: str
    chapter: str
    figures: str
    runs: Callable[[str, str, Sequence[int]], list[Run]]
    effects: dict[str, Callable[[pd.DataFrame], np.ndarray]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def deviations(self, scale: str, data: str) -> list[str]:
        """Every difference from Santurkar et al. 2018, and every choice that it leaves open."""
        told = [*self.notes, *COMMON]
        if scale == "quick":
            told.append("Small: the network and the number of steps of the chapter, hundreds at most, not those of the paper.")
        else:
            told += VGG
        if any(run.net["make"] == "deep_linear" for run in self.runs(scale, data, (0,))):
            told += DEEP_LINEAR
        if data != "cifar10":
            told.append(f"The data are {data}, the paper's CIFAR-10.")
        return told


COMMON = (
    "Not stated in the paper: momentum and weight decay of its plain SGD. Here there are none.",
    "Not stated: how pixels are scaled. Here 0 to 1, less the training mean of each pixel (each channel, of colour images).",
    "Not stated: how many runs a curve shows. Here several seeds; a seed fixes first weights and order of batches for all "
    "networks.",
    "Not stated: whether r_sigma of the noise is a standard deviation or a variance. Here it is a standard deviation.",
    "Test accuracy of batch normalization: with statistics recomputed on 2,048 training images; that with running statistics "
    "is a column of its own.",
)
VGG = (
    "Not stated: the depth of the VGG; the paper plots a layer 13. Here plan D (16 layers) of Simonyan & Zisserman 2015 with "
    "one linear layer in place of three.",
    "Not stated: biases and the start of gamma and beta. Here 0, 1 and 0.",
)
DEEP_LINEAR = (
    "Not stated: where batch normalization stands in the deep linear network, and whether it learns scale and shift. Here "
    "behind every matrix but the last, and it does.",
    "Not stated: the scale of its loss. Here squared error averaged over examples, with learning rates a thousand times the "
    "paper's, which is the paper's own rate if its loss is a sum over its 1000 examples.",
    "But for l1 and l-infinity, its 1000 examples are replaced by 11 points of the same mean and covariance: same losses and "
    "gradients.",
)

MLP = {"make": "mlp", "hidden": (32,) * 8, "init": "he"}
LINEAR = {"make": "deep_linear", "init": "glorot"}


def one_by_one(net: dict, task: dict, *, lrs: Sequence[float], seeds: Sequence[int], **how) -> list[Run]:
    """Convolutional networks are trained one after another, so each is a run of its own: less is lost, more is shared out."""
    return [Run(net, task, (lr,), (seed,), **how) for lr in lrs for seed in seeds]


def vgg(scale: str, norm: str, init: str = "glorot") -> dict:
    return {"make": "vgg", "plan": "16" if scale == "paper" else "small", "norm": norm, "init": init}


def images(scale: str, data: str) -> dict:
    """Images as they are; at the quick scale larger ones are shrunk."""
    size = {"fashion-mnist": 14, "cifar10": 16}.get(data) if scale == "quick" else None
    return {"data": data, "images": True} | ({"size": size} if size else {})


def main(scale: str, data: str, norm: str, *, lrs, seeds, steps: int, record, batch: int = 64, init: str = "he",
         paper_init: str = "glorot", paper_batch: int = 128, paper_record=None, net: dict = MLP, **more) -> list[Run]:
    """The chapter's own network at the quick scale, all rates and seeds together; the VGG at the paper's, one at a time."""
    lrs, seeds = tuple(lrs), tuple(seeds)
    if scale == "quick":
        return [Run({**net, "norm": norm, "init": init}, {"data": data}, lrs, seeds, steps, batch, tuple(record),
                    labels={"network": "mlp", "init": init}, **more)]
    return one_by_one(vgg(scale, norm, paper_init), images(scale, data), lrs=lrs, seeds=seeds, steps=PAPER_STEPS,
                      batch=paper_batch, record=tuple(paper_record), labels={"network": "vgg", "init": paper_init}, **more)


def every(stride: int, *, first: Sequence[int] = (), stop: int = PAPER_STEPS, pairs: bool = False) -> tuple[int, ...]:
    """Steps to look at: ``first`` and each multiple of ``stride``; with ``pairs`` the step after each as well."""
    looks = {*first, *range(0, stop + 1, stride)}
    return tuple(sorted(step for step in looks | {look + pairs for look in looks} if step <= stop))


# Picking numbers from a frame. Everything gives one number per seed, in the order of seeds.

def where(frame: pd.DataFrame, **values) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column].isin(value) if isinstance(value, (list, tuple, set, range)) else frame[column] == value]
    return frame


def trained(frame: pd.DataFrame) -> pd.DataFrame:
    """The layered network that is not a small extra: the VGG where it trained for long, else the MLP."""
    names = set(frame.network)
    return frame[frame.network == ("mlp" if "mlp" in names else "vgg")]


def alive(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the looks at what is left of a run that blew up, which has no network to measure."""
    return frame[~frame.diverged]


def by_seed(rows: pd.DataFrame, column: str, frame: pd.DataFrame, how: str = "mean") -> np.ndarray:
    """Mean (or another summary) over all rows of a seed; NaN for a seed of ``frame`` that has none."""
    return rows.groupby("seed")[column].agg(how).reindex(sorted(frame.seed.unique())).to_numpy(float)


def geometric(rows: pd.DataFrame, column: str, frame: pd.DataFrame) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.exp(by_seed(rows.assign(log=np.log(rows[column])), "log", frame))


def moments_in_time(frame: pd.DataFrame, *steps: float) -> list[int]:
    """The recorded steps nearest to these fractions of the whole training."""
    recorded = np.array(sorted(frame.step.unique()))
    return [int(recorded[np.abs(recorded - fraction * recorded[-1]).argmin()]) for fraction in steps]


def accuracy(frame: pd.DataFrame, at: Sequence[float], **which) -> np.ndarray:
    """Training accuracy, mean over the looks nearest to these fractions of the training."""
    rows = where(frame, **which)
    return by_seed(where(rows, step=moments_in_time(frame, *at)), "train_accuracy", frame)
