"""Internal covariate shift by Definition 2.1: how much a layer's gradient changes when the layers below it take their step."""

from bncourse.reproduce.experiment import (
    LINEAR,
    MLP,
    Experiment,
    Run,
    alive,
    by_seed,
    every,
    geometric,
    images,
    one_by_one,
    trained,
    vgg,
    where,
)

BOTH = ("none", "batch")
QUICK_LOOKS = tuple(sorted({*range(0, 121, 10), 1, 21, 61, 101}))
RATES = (0.01, 0.1)
LINEAR_RATES = (1e-4, 1e-3)  # The paper's 1e-7 and 1e-6.
SHIFT, MOMENTS = ("shift", {}), ("moments", {})


def runs(scale, data, seeds):
    seeds, found = tuple(seeds), []
    for norm in BOTH:
        if scale == "quick":
            found.append(Run({**MLP, "hidden": (32,) * 9, "norm": norm}, {"data": data}, RATES, seeds, 120, 64, QUICK_LOOKS,
                             (SHIFT, MOMENTS), labels={"network": "mlp", "init": "he"}))
        for init in ("glorot", "he"):
            looks = every(500, first=(100, 200, 300), pairs=True)
            if scale == "quick":
                looks = (10, 20) if init == "glorot" else (20, 40, 60)
            found += one_by_one(
                vgg(scale, norm, init), images(scale, data), lrs=RATES if scale == "paper" or init == "glorot" else RATES[1:],
                seeds=seeds, steps=looks[-1], batch=128 if scale == "paper" else 64, record=looks,
                probes=(SHIFT, MOMENTS) if scale == "paper" else (SHIFT,), labels={"network": "vgg", "init": init})
        steps = 1000 if scale == "quick" else 10_000
        found.append(Run({**LINEAR, "norm": norm}, {"map": {}}, LINEAR_RATES, seeds, steps, 0, every(steps // 20, stop=steps),
                         (SHIFT,), layers=(9, 17), labels={"network": "dln", "init": "glorot"}))
    return found


def ratio(column, init, lr, network=None):
    """Batch norm divided by plain, mean over layers and looks."""
    def effect(frame):
        rows = trained(frame) if network is None else where(frame, network=network)
        rows = alive(where(rows, init=init, lr=lr))
        rows = rows[rows[column].notna() & ((column == "mean_step") | (rows.layer > 1))]  # Nothing is below layer 1.
        return by_seed(where(rows, norm="batch"), column, frame) / by_seed(where(rows, norm="none"), column, frame)
    return effect


def deep_linear(frame, norm, lr):
    rows = where(frame, network="dln", norm=norm, lr=lr, layer=17)
    rows = alive(rows)
    return by_seed(rows[rows.step >= 0.2 * rows.step.max()], "cosine", frame)


def last_two(frame):
    rows = alive(where(frame, network="vgg", init="he", lr=0.1))
    rows = rows[(rows.layer >= rows.layer.max() - 1) & (rows.step > 0)]
    return by_seed(where(rows, norm="batch"), "cosine", frame) - by_seed(where(rows, norm="none"), "cosine", frame)


def final_loss(frame):
    rows = where(frame, network="dln", lr=1e-4, layer=17)
    rows = rows[rows.step == rows.step.max()]
    return geometric(where(rows, norm="batch"), "train_loss", frame) / geometric(where(rows, norm="none"), "train_loss", frame)


EXPERIMENT = Experiment(
    "shift", "Internal covariate shift by Definition 2.1", "05_measuring_shift", "Figures 3a and 3b", runs,
    effects={
        "ms-bn-reduces-moment-shift": ratio("mean_step", "he", 0.1),
        "ms-bn-more-at-small-lr": ratio("relative", "he", 0.01),
        "ms-vgg-glorot": ratio("relative", "glorot", 0.1, "vgg"),
        "ms-vgg-glorot-small-lr": ratio("relative", "glorot", 0.01, "vgg"),
        "ms-vgg-he": last_two,
        "ms-dln-bn-adds-shift": lambda frame: deep_linear(frame, "none", 1e-4) - deep_linear(frame, "batch", 1e-4),
        "ms-dln-plain-has-none": lambda frame: deep_linear(frame, "none", 1e-3),
        "ms-dln-more-shift-trains-worse": final_loss,
    },
    notes=("He initialization beside the paper's Glorot is an addition.",
           "All layers of the VGG, not only the paper's 5 and 10; layers 9 and 17 of the deep linear network, as "
           "there."))
