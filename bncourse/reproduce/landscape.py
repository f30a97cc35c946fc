"""The loss along the gradient: how far it varies, how the gradient changes, and how that hangs on the learning rate."""

import numpy as np

from bncourse.reproduce.experiment import (
    LINEAR,
    Experiment,
    Run,
    every,
    geometric,
    images,
    main,
    one_by_one,
    trained,
    vgg,
    where,
)

BOTH = ("none", "batch")
RATES = (0.01, 0.1, 0.3)
MULTIPLES = (0.5, 1, 2, 3, 4)
WALK = ("landscape", {"multiples": MULTIPLES})
EQUALLY_FAR = ("landscape", {"distances": (0.05, 0.1, 0.2, 0.4)}, "_at_distance")
LINEAR_WALK = ("landscape", {"multiples": (0.01, 0.1, 0.5, 1, 2, 4, 10, 30)})
LINEAR_RATES = (1e-4, 1e-3)  # The paper's 1e-7 and 1e-6.
QUICK_LINEAR_LOOKS = (0, 50, 100, 150, 200, 300, 400, 500, 600)


def runs(scale, data, seeds):
    seeds, found = tuple(seeds), []
    for norm in BOTH:
        probes = (WALK, EQUALLY_FAR, ("curvature", {}))
        if norm == "batch":
            probes += (("curvature", {"statistics": "frozen"}, "_frozen"),)
        found += main(scale, data, norm, lrs=RATES, seeds=seeds, steps=200, record=range(0, 201, 40),
                      paper_record=every(500, first=(25, 50, 100, 200, 300)), probes=probes)
        if scale == "quick":
            found += one_by_one(vgg(scale, norm, "he"), images(scale, data), lrs=(0.1,), seeds=seeds, steps=50, batch=64,
                                record=(25, 50), probes=(WALK, EQUALLY_FAR), labels={"network": "vgg", "init": "he"})
        steps, looks = (600, QUICK_LINEAR_LOOKS) if scale == "quick" else (10_000, every(100, stop=10_000))
        found.append(Run({**LINEAR, "norm": norm}, {"map": {}}, LINEAR_RATES, seeds, steps, 0, looks,
                         (LINEAR_WALK, ("curvature", {})), labels={"network": "dln", "init": "glorot"}))
    return found


def honest(frame):
    """A network that blew up is no smooth one: what was seen of its ruins counts as infinite."""
    seen = [column for column in frame.columns if column.startswith(("loss_", "change_", "beta", "sharpness"))]
    return frame.assign(**{column: frame[column].mask(frame.diverged, np.inf) for column in seen})


def ratio(column, *, lrs, network=None):
    """Plain divided by batch norm, geometric mean over looks after the start."""
    def effect(frame):
        rows = trained(frame) if network is None else where(frame, network=network)
        rows = honest(where(rows, lr=lrs))
        rows = rows[rows.step > 0]
        return geometric(where(rows, norm="none"), column, frame) / geometric(where(rows, norm="batch"), column, frame)
    return effect


def settled(frame, norm, lr, column):
    """Median over the second half of the training of the deep linear network."""
    rows = honest(where(frame, network="dln", norm=norm, lr=lr))
    rows = rows[rows.step >= 0.5 * rows.step.max()]
    return rows.groupby("seed")[column].median().to_numpy().clip(max=1e30)


def spikes(frame):
    worst = {norm: honest(where(frame, network="dln", norm=norm, lr=1e-3)).groupby("seed").loss_range.max().clip(upper=1e30)
             for norm in BOTH}
    return (worst["none"] / worst["batch"]).to_numpy()


def off_the_edge(frame):
    return np.max([abs(settled(frame, "batch", lr, "beta_lr") / 2 - 1) for lr in LINEAR_RATES], axis=0)


def frozen_sharper(frame):
    rows = honest(where(trained(frame), norm="batch"))
    rows = rows[rows.step > 0]
    return geometric(rows, "sharpness_frozen", frame) / geometric(rows, "sharpness", frame)


EXPERIMENT = Experiment(
    "landscape", "The loss along the gradient, at several learning rates", "06_loss_landscape", "Figures 4, 10 and 11", runs,
    effects={
        "ll-loss-range-large-lr": ratio("loss_range", lrs=[0.3]),
        "ll-gradient-large-lr": ratio("change_high", lrs=[0.3]),
        "ll-beta-large-lr": ratio("beta", lrs=[0.1, 0.3]),
        "ll-loss-range-small-lr": ratio("loss_range", lrs=[0.01]),
        "ll-beta-small-lr": ratio("beta", lrs=[0.01]),
        "ll-distance-loss-range": ratio("loss_range_at_distance", lrs=[0.1]),
        "ll-distance-beta": ratio("beta_at_distance", lrs=[0.3]),
        "ll-vgg-loss-range": ratio("loss_range", lrs=[0.1], network="vgg"),
        "ll-vgg-gradient": ratio("change_high", lrs=[0.1], network="vgg"),
        "ll-vgg-gradient-distance": ratio("change_high_at_distance", lrs=[0.1], network="vgg"),
        "ll-live-statistics-flatten": frozen_sharper,
        "ll-dln-spikes": spikes,
        "ll-dln-beta-is-the-landscape": lambda frame: (settled(frame, "batch", 1e-4, "beta")
                                                       / settled(frame, "batch", 1e-3, "beta")),
        "ll-dln-beta-is-the-edge": off_the_edge,
        "ll-dln-small-lr": lambda frame: settled(frame, "none", 1e-4, "beta") / settled(frame, "batch", 1e-4, "beta"),
        "ll-beta-sees-the-sharpest-direction": lambda frame: (settled(frame, "none", 1e-4, "beta")
                                                              / settled(frame, "none", 1e-4, "sharpness")),
    },
    notes=("The paper walks at learning rate 0.1 only; 0.01 and 0.3, equal distances and the top eigenvalue of the Hessian are "
           "additions.",
           "The paper looks at every step; here at some dozens, at five step sizes between half and four times the learning "
           "rate (eight between 1/100 and 30 in the deep linear network)."))
