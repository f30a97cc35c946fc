"""Training curves: no normalization, batch norm, noisy batch norm, at a learning rate that suits all and at five times that."""

from bncourse.reproduce.experiment import Experiment, accuracy, every, main

RATES = (0.1, 0.5)
NORMS = ("none", "batch", "noisy_batch")
QUICK_LOOKS = (0, 1, 5, 6, 20, 21, 35, 50, 51, 100, 101, 200, 299, 300)
LOOKS = every(500, first=(50, 100, 150, 200, 300, 400, 750, 1250, 1750, 2250))


def runs(scale, data, seeds):
    return [run for norm in NORMS for run in main(scale, data, norm, lrs=RATES, seeds=seeds, steps=300, record=QUICK_LOOKS,
                                                  paper_record=LOOKS, test=True)]


def noisy_minus(other, *at):
    def effect(frame):
        noisy, against = (accuracy(frame, at, norm=norm, lr=0.1) for norm in ("noisy_batch", other))
        return noisy - against
    return effect


EXPERIMENT = Experiment(
    "curves", "Training curves of plain, batch-normalized and noisy networks", "04_noisy_batch_norm", "Figures 1 and 2", runs,
    effects={
        "nb-trains-like-bn": noisy_minus("batch", 1),
        "nb-noise-is-free": noisy_minus("batch", 50 / 300),
        "nb-beats-plain-early": noisy_minus("none", 20 / 300, 35 / 300, 50 / 300),
        "nb-beats-plain-late": noisy_minus("none", 1),
    },
    notes=("Figure 1 has no noisy network at learning rate 0.5; it is added here.",
           "Moments in time that a chapter names by step are the same fraction of the training here."))
