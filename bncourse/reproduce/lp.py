"""The lp normalizers: training curves, shift of layer inputs, landscape; and the deep linear network."""

import numpy as np

from bncourse.reproduce.experiment import (
    LINEAR,
    Experiment,
    Run,
    accuracy,
    alive,
    by_seed,
    every,
    geometric,
    main,
    moments_in_time,
    where,
)
from bncourse.reproduce.landscape import honest

NORMS, LP = ("none", "batch", "l1", "l2", "linf"), ("l1", "l2", "linf")
NEEDS_EXAMPLES = ("l1", "linf")  # To the others, mean and covariance of the examples are all there is.
LR, SMALL_LR, LINEAR_LR = 0.1, 0.01, 1e-3  # The last is the paper's 1e-6.
QUICK_LOOKS = (0, 10, 20, 35, 50, 75, 100)
PROBES = (("moments", {}), ("shift", {}), ("landscape", {"multiples": (0.5, 1, 2, 4)}, "_along"))


def runs(scale, data, seeds):
    seeds, found = tuple(seeds), []
    for norm in NORMS:
        found += main(scale, data, norm, lrs=(SMALL_LR, LR), seeds=seeds, steps=100, record=QUICK_LOOKS,
                      paper_record=every(1000, first=(100, 250, 500, 1500)), probes=PROBES,
                      layers=(1, 2, 5, 11, 13) if scale == "paper" else None)
        if scale == "paper":  # Figure 6: the inputs of layer 11 before and after.
            found += main(scale, data, norm, lrs=(LR,), seeds=seeds, steps=100, record=(), paper_record=(0, 100, 1000, 15_000),
                          probes=(("histograms", {"limit": 4, "bins": 40}),), layers=(11,))
        examples = 1000 if scale == "paper" else 200
        steps = 10_000 if scale == "paper" else 100
        found.append(Run({**LINEAR, "norm": norm}, {"map": {"examples": examples, "condensed": norm not in NEEDS_EXAMPLES}},
                         (LINEAR_LR,), seeds, steps, 0, every(steps // 20, stop=steps),
                         labels={"network": "dln", "init": "glorot"}))
    return found


def layered(frame):
    rows = frame[frame.network != "dln"]
    if "bin" in rows:  # Not the runs that were only there for histograms.
        rows = rows[rows.bin.isna()]
    return rows


def early(frame, norms, at):
    return np.mean([accuracy(layered(frame), at, norm=norm, lr=LR) for norm in norms], axis=0)


def three_minus(other, norms, *at):
    return lambda frame: early(frame, norms, at) - early(frame, [other], at)


def level(frame, column, norm, lr=LR, before=1.0):
    """Mean over layers and looks; Definition 2.1 looks ahead from the start, everything else has not moved there."""
    rows = layered(frame)
    rows = alive(where(rows, norm=norm, lr=lr))
    rows = rows[rows[column].notna() & (rows.step <= before * frame[frame.network != "dln"].step.max())]
    if column == "relative":
        rows = rows[rows.layer > 1]
    elif column in ("mean_drift", "sd_drift"):
        rows = rows[rows.step > 0]
    return by_seed(rows, column, frame)


def along(frame, column, norm, lr=LR):
    rows = honest(where(layered(frame), norm=norm, lr=lr))
    return by_seed(rows, column, frame)


def summary(of, column, other, how=np.mean, **options):
    """Of the three lp norms the mean (or the worst), divided by another network."""
    return lambda frame: (how([of(frame, column, norm, **options) for norm in LP], axis=0)
                          / of(frame, column, other, **options))


def typical_loss(frame, norm):
    rows = where(frame, network="dln", norm=norm)
    steps = moments_in_time(rows, 0.25, 0.5, 0.75, 1)
    return geometric(where(rows, step=steps), "train_loss", frame)


EXPERIMENT = Experiment(
    "lp", "lp normalization", "08_lp_norms", "Figures 5, 6, 12 and 13", runs,
    effects={
        "lp-beat-plain": three_minus("none", LP, 0.5),
        "lp-linf-as-fast": three_minus("batch", ["linf"], 0.2, 0.35, 0.5),
        "lp-mean-held": summary(level, "mean_drift", "none", np.max),
        "lp-width-drifts": summary(level, "sd_drift", "batch"),
        "lp-def21-above-plain": summary(level, "relative", "none", before=0.2),
        "lp-loss-range-at-01": summary(along, "loss_range_along", "none", np.max),
        "lp-loss-range-at-001": summary(along, "loss_range_along", "none", lr=SMALL_LR),
        "lp-beta-at-01": summary(along, "beta_along", "none"),
        "lp-smooth-like-batch": summary(along, "beta_along", "batch", np.max),
        "lp-dln-l1-best": lambda frame: typical_loss(frame, "l1") / np.min(
            [typical_loss(frame, norm) for norm in ("none", "batch", "l2", "linf")], axis=0),
        "lp-dln-linf-comparable": lambda frame: typical_loss(frame, "linf") / typical_loss(frame, "batch"),
    },
    notes=("The twins of chapter 8 (batch norm times a constant) are not in the record.",
           "Learning rate 0.01 and Definition 2.1 are additions; figure 6 as histograms of layer 11 after 0, 100, 1,000 and "
           "15,000 steps, each unit measured from its first mean.",
           "Moments in time that a chapter names by step are the same fraction of the training here."))
