"""Eight normalizers over a grid of learning rates, and the landscape on the way."""

import numpy as np

from bncourse.reproduce.experiment import Experiment, by_seed, every, main, moments_in_time, where
from bncourse.reproduce.landscape import honest

FAMILY = ("none", "batch", "batch_renorm", "layer", "group", "rms", "weight", "weight_standardization")
SINGLE = ["layer", "group", "rms"]
OTHERS = [*SINGLE, "weight", "weight_standardization"]
RATES = (0.03, 0.1, 0.3, 1.0)
LOOK_AT = (0.2, 0.4, 0.8)  # fractions of the training


def runs(scale, data, seeds):
    # Instance norm needs several positions a channel: in the last layers only the VGG on images of 32×32 has them.
    norms = (*FAMILY, "instance") if (scale, data) == ("paper", "cifar10") else FAMILY
    return [run for norm in norms for run in main(
        scale, data, norm, lrs=RATES, seeds=seeds, steps=100, batch=32, record=(20, 40, 80, 100),
        paper_record=every(3000, first=(100, 500)), paper_init="he", probes=(("landscape", {"multiples": (1, 2, 4)}),))]


def looks(frame, lr, column):
    """A row per seed and look, a column per network."""
    rows = honest(where(frame, lr=lr, norm=list(FAMILY), step=moments_in_time(frame, *LOOK_AT)))
    return rows.pivot_table(index=["seed", "step"], columns="norm", values=column)


def median(frame, lr, column):
    """Median over the three looks: a row per seed."""
    return looks(frame, lr, column).groupby("seed").median()


def largest(frame, norm):
    """The largest learning rate within five points of the run's own best."""
    end = where(frame, norm=norm, step=frame.step.max()).pivot_table(index="seed", columns="lr", values="train_accuracy")
    good = end.ge(end.max(axis=1) - 0.05, axis=0)
    return good.mul(good.columns.to_series(), axis=1).max(axis=1).to_numpy()


def agreement(lr):
    """Rank correlation over networks of effective smoothness with accuracy: mean over the three looks."""
    def effect(frame):
        smooth, accurate = (looks(frame, lr, column).rank(axis=1) for column in ("beta", "train_accuracy"))
        each = smooth.corrwith(accurate, axis=1)
        return each.groupby("seed").mean().to_numpy()
    return effect


def faster(frame):
    rows = where(frame, lr=0.03, step=moments_in_time(frame, 0.8))
    three, plain = (by_seed(where(rows, norm=norm), "train_accuracy", frame) for norm in (SINGLE, ["none"]))
    return three - plain


def rougher(frame):
    beta = np.log(median(frame, 0.03, "beta"))
    return np.exp(beta[SINGLE].mean(axis=1) - beta["none"]).to_numpy()


def as_smooth(frame):
    spread = median(frame, 0.1, "loss_range")
    return (spread["layer"] / spread["batch"]).to_numpy()


EXPERIMENT = Experiment(
    "normalizers", "Other normalizers: learning rates and landscape", "12_normalizers", "none", runs,
    effects={
        "nm-batch-norm-widest": lambda frame: largest(frame, "batch") / largest(frame, "layer"),
        "nm-all-widen-the-range": lambda frame: by_seed(where(frame, lr=1.0, norm=OTHERS, step=frame.step.max()),
                                                        "train_accuracy", frame),
        "nm-layer-as-smooth-as-batch": as_smooth,
        "nm-per-example-faster": faster,
        "nm-faster-because-smoother": rougher,
        "nm-smoother-is-faster": agreement(0.03),
        "nm-smoother-is-faster-large-lr": agreement(0.3),
    },
    notes=("No experiment of the paper, which tries batch norm and lp norms only.",
           "He initialization. Every normalizer with its default setting.",
           "Moments in time that a chapter names by step are the same fraction of the training here."))
