"""Small batches: batch norm, its repair, and normalizers that look at single examples."""

from bncourse.reproduce.experiment import Experiment, by_seed, every, main, where

NORMS = ("none", "batch", "batch_renorm", "layer", "group")
SIZES = (2, 4, 8, 32)
NET = {"make": "mlp", "hidden": (64,) * 3}
LR = 0.05


def runs(scale, data, seeds):
    found = []
    for norm in NORMS:
        for size in (*SIZES, 128) if scale == "paper" else SIZES:
            found += [labelled(run, size) for run in main(
                scale, data, norm, lrs=(LR,), seeds=seeds, steps=120, record=(120,), batch=size, paper_batch=size, net=NET,
                paper_init="he", paper_record=every(1500), test=True)]
    return found


def labelled(run, size):
    return type(run)(**{**vars(run), "labels": run.labels | {"size": size}})


def difference(one, other, size):
    def effect(frame):
        end = where(frame, step=frame.step.max(), size=size)
        return by_seed(where(end, norm=one), "test_accuracy", frame) - by_seed(where(end, norm=other), "test_accuracy", frame)
    return effect


EXPERIMENT = Experiment(
    "batch-size", "Small batches", "12_normalizers", "none; compare Wu & He 2018, Figure 1", runs,
    effects={
        "nm-batch-norm-fails-at-two": difference("batch", "layer", 2),
        "nm-batch-norm-fine-at-32": difference("batch", "layer", 32),
        "nm-renorm-repairs": difference("batch_renorm", "layer", 2),
        "nm-renorm-better": difference("batch_renorm", "batch", 2),
    },
    notes=("No experiment of Santurkar et al.: the question of Wu & He 2018, who trained ResNet-50 on ImageNet.",
           "Learning rate 0.05 and the same number of steps at every batch size, so that a batch of two has seen fewer "
           "examples. Wu & He scale the rate with the batch and keep the number of passes.",
           "He initialization; batch renormalization with its full correction from the first step."))
