"""The study nobody ran: does less shift go with better training, over a grid of runs?"""

import numpy as np
import pandas as pd

from bncourse.reproduce.experiment import Experiment, every, main

NORMS = ("none", "batch", "noisy_batch", "l1", "layer")
RATES = {"quick": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0), "paper": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)}
INITS = {"quick": ("he", "glorot", "default"), "paper": ("he", "glorot")}
NET = {"make": "mlp", "hidden": (32,) * 6}
RUN, FAMILY = ["norm", "init", "lr", "seed"], ["norm", "init"]


def runs(scale, data, seeds):
    return [run for norm in NORMS for init in INITS[scale] for run in main(
        scale, data, norm, lrs=RATES[scale], seeds=seeds, steps=80, record=(0, 30, 80), net=NET, init=init, paper_init=init,
        paper_record=every(1500, first=(100, 500)), probes=(("shift", {}), ("moments", {})), layers="mean")]


def one_row_a_run(frame):
    """Shift by both notions, and what came of the run. One that blew up is measured while it lasts."""
    living = frame[~frame.diverged]
    end = frame[frame.step == frame.step.max()].set_index(RUN)
    later = living[living.step > 0].groupby(RUN)
    table = pd.DataFrame({
        "relative": living.groupby(RUN).relative.mean(), "drift": later.mean_drift.mean(), "moved": later.moved.mean(),
        "loss": end.train_loss, "accuracy": end.train_accuracy})
    table = table.fillna(np.inf).reset_index()  # Gone before the first look: beyond measure.
    middle = table.groupby([*FAMILY, "lr"])[["loss", "accuracy"]].median()
    best = middle.loss.unstack("lr").idxmin(axis=1).rename("best")
    learns = (middle.accuracy.unstack("lr").max(axis=1) > 0.5).rename("learns")
    return table.merge(pd.concat([best, learns], axis=1).reset_index(), on=FAMILY)


def rank_correlation(table, shift):
    """One coefficient per seed: above 0 where less shift goes with a lower loss."""
    return pd.Series({seed: one[[shift, "loss"]].rank().corr().loc[shift, "loss"] for seed, one in table.groupby("seed")},
                     dtype=float)


def within(table, groups, shift):
    """The same inside every group, averaged over the groups of a seed; a group in which all losses are equal has none."""
    return pd.DataFrame([rank_correlation(part, shift) for _, part in table.groupby(groups)], dtype=float).mean()


def past_less_before(frame):
    """Inside one network: from its best rate on, less up to it."""
    table = one_row_a_run(frame)
    sides = []
    for side in (table.lr >= table.best, table.lr <= table.best):
        part = table[table.learns & side]
        part = part[part.groupby([*FAMILY, "seed"]).lr.transform("size") >= 3]  # Two points always make a line.
        sides.append(within(part, FAMILY, "relative"))
    return every_seed(sides[0] - sides[1], frame)


def every_seed(coefficients, frame):
    """In the order of seeds, NaN where a seed has no coefficient."""
    return coefficients.reindex(sorted(frame.seed.unique())).to_numpy()


def over(shift, select=lambda table: table):
    return lambda frame: every_seed(rank_correlation(select(one_row_a_run(frame)), shift), frame)


def at_best(table):
    return table[table.lr == table.best]


EXPERIMENT = Experiment(
    "correlation", "Shift and performance over a grid of runs", "15_verdict", "none", runs,
    effects={
        "vd-no-correlation": lambda frame: np.minimum(abs(over("relative")(frame)), abs(over("drift")(frame))),
        "vd-def21-less-is-better": over("relative"),
        "vd-moments-less-is-better": over("drift"),
        "vd-def21-among-trained": over("relative", lambda table: table[table.accuracy > 0.5]),
        "vd-def21-fixed-rate": lambda frame: every_seed(within(one_row_a_run(frame), ["lr"], "relative"), frame),
        "vd-moments-fixed-rate": lambda frame: every_seed(within(one_row_a_run(frame), ["lr"], "drift"), frame),
        "vd-moments-within-batch-norm": over("drift", lambda table: table[table.norm == "batch"]),
        "vd-def21-sign-is-the-rate": past_less_before,
        "vd-def21-orders-networks": over("relative", at_best),
        "vd-moments-orders-networks": over("drift", at_best),
        "vd-moments-any-unit": over("moved"),
    },
    notes=("No experiment of the paper, which compares a few networks side by side.",
           "Shift is averaged over layers at every look (Definition 2.1 without the first layer, which has none below it)."))
