"""Which learning rates work, with and without batch norm, and how many steps each needs."""

import numpy as np

from bncourse.reproduce.experiment import Experiment, accuracy, main, where

GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
RATES = (0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 3.0, 10.0)  # 0.5: five times the base rate, as in Figure 1.
TARGET = 0.9
QUICK_LOOKS = tuple(sorted({round(5 * 1.25**k) for k in range(19)} | {300}))  # Each a quarter later than the one before.
LOOKS = tuple(sorted({round(50 * 1.25**k) for k in range(26)} | {15_000}))


def runs(scale, data, seeds):
    return [run for norm in ("none", "batch") for run in main(
        scale, data, norm, lrs=RATES, seeds=seeds, steps=300, record=QUICK_LOOKS, paper_record=LOOKS, paper_init="he",
        test=scale == "paper")]


def table(frame, norm, column):
    """A row per learning rate of the grid, a column per seed."""
    return where(frame, norm=norm).pivot_table(index="lr", columns="seed", values=column)


def steps_to(frame, norm):
    """Steps until a run first reaches the target; infinite for one that never does."""
    arrived = where(frame, norm=norm)
    arrived = arrived.assign(arrived=arrived.step.astype(float).where(arrived.train_accuracy >= TARGET, np.inf))
    return table(arrived.groupby(["norm", "lr", "seed"], as_index=False).arrived.min(), norm, "arrived")


def works(frame, norm):
    """Within five points of the same network's and seed's best?"""
    end = table(frame[(frame.step == frame.step.max()) & frame.lr.isin(GRID)], norm, "train_accuracy")
    return end.ge(end.max() - 0.05)


def width(frame, norm):
    good = works(frame, norm)
    rates = good.mul(good.index, axis=0).where(good)
    return (rates.max() / rates.min()).to_numpy()


def fastest(frame, norm):
    return steps_to(frame, norm).loc[list(GRID)].min().to_numpy()


def at_rates(norm, lr, other, rate):
    return lambda frame: quotient(steps_to(frame, norm).loc[lr].to_numpy(), steps_to(frame, other).loc[rate].to_numpy())


def quotient(one, other):
    """NaN where neither arrived."""
    with np.errstate(invalid="ignore"):
        return one / other


def inside(frame):
    steps = steps_to(frame, "batch").loc[list(GRID)].where(works(frame, "batch"))
    return (steps.max() / steps.min()).to_numpy()


def difference(norm, lr, rate, at=1.0):
    return lambda frame: accuracy(frame, [at], norm=norm, lr=lr) - accuracy(frame, [at], norm=norm, lr=rate)


EXPERIMENT = Experiment(
    "lr-range", "The range of learning rates", "03_what_it_buys", "none; compare Figure 1", runs,
    effects={
        "wb-bn-alone": at_rates("none", 0.1, "batch", 0.1),
        "wb-x5-faster": at_rates("batch", 0.1, "batch", 0.5),
        "wb-x30-slower": difference("batch", 3.0, 0.5, 73 / 300),
        "wb-x30-ahead-of-x1": difference("batch", 3.0, 0.1, 73 / 300),
        "wb-plain-x5-fails": difference("none", 0.5, 0.1),
        "wb-range-wider": lambda frame: width(frame, "batch") / width(frame, "none"),
        "wb-own-best": lambda frame: quotient(fastest(frame, "none"), fastest(frame, "batch")),
        "wb-any-rate-will-do": inside,
    },
    notes=("No figure of the paper: its learning rates, with a half-decade grid around them, from He initialization, as "
           "chapter 3 asks.",
           "The target is a training accuracy of nine tenths.",
           "Moments in time that a chapter names by step are the same fraction of the training here."))
