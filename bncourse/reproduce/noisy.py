"""How far layer inputs shift: batch norm with noise behind it, and the controls that the paper lacks."""

from bncourse.reproduce.experiment import Experiment, accuracy, alive, by_seed, every, main, where

NORMS = ("none", "batch", "noisy_batch", "noise", "frozen", "frozen_noise")
QUICK_LOOKS = (0, 1, 5, 6, 20, 21, 35, 50, 51, 100, 101, 200)
LAYERS = (2, 9, 13)


def runs(scale, data, seeds):
    return [run for norm in NORMS for run in main(
        scale, data, norm, lrs=(0.1,), seeds=seeds, steps=200, record=QUICK_LOOKS,
        paper_record=every(500, first=(50, 100, 250), pairs=True), probes=(("moments", {}),),
        layers=LAYERS if scale == "paper" else None)]


def one_step_shift(frame, norm):
    rows = alive(where(frame, norm=norm))
    return by_seed(rows[rows.mean_step.notna()], "mean_step", frame)


def times(other):
    return lambda frame: one_step_shift(frame, "noisy_batch") / one_step_shift(frame, other)


def handed_up(norm):
    """Shift of the last layer in that of the first, in the first quarter of training."""
    def effect(frame):
        early = alive(where(frame, norm=norm))
        early = early[(early.step <= 0.255 * frame.step.max()) & early.mean_step.notna()]
        first, last = (by_seed(where(early, layer=layer), "mean_step", frame)
                       for layer in (frame.layer.min(), frame.layer.max()))
        return last / first
    return effect


def rescue(frame):
    """What the noise costs, plain less frozen statistics."""
    half = {norm: accuracy(frame, [0.5], norm=norm) for norm in ("none", "noise", "frozen", "frozen_noise")}
    return half["none"] - half["noise"] - (half["frozen"] - half["frozen_noise"])


EXPERIMENT = Experiment(
    "noisy", "Shift of layer inputs with noise behind batch norm", "04_noisy_batch_norm", "Figures 2 and 8", runs,
    effects={
        "nb-shift-above-bn": times("batch"),
        "nb-shift-above-plain": times("none"),
        "nb-noise-stops-plain": lambda frame: accuracy(frame, [1], norm="noise"),
        "nb-scale-rescues": rescue,
        "nb-renormalization-helps": lambda frame: (accuracy(frame, [0.25], norm="noisy_batch")
                                                   - accuracy(frame, [0.25], norm="frozen_noise")),
        "nb-shift-is-not-inherited": handed_up("noisy_batch"),
        "nb-frozen-inherits-shift": handed_up("frozen_noise"),
    },
    notes=("Figure 8 shows each moment of single units; here the mean over the units of a layer, in standard deviations.",
           "Frozen statistics, with and without noise, are controls of this course.",
           "Moments in time that a chapter names by step are the same fraction of the training here."))
