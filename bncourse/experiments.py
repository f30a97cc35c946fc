"""What is trained at a larger scale than a page can: nine designs. What is claimed of them stands in the chapters alone.

``desk``: VGG-A (plan 11) at an eighth of its width on CIFAR-10, minutes on two processor cores. ``paper``: VGG-D (plan 16),
15,000 steps, on a GPU. ``quick``: a few steps of a tiny VGG, to see that everything works."""

from dataclasses import dataclass, replace

from torch import nn

from bncourse import nets
from bncourse.data import Data, as_images
from bncourse.lab import Lab
from bncourse.probes.activations import Moments
from bncourse.probes.again import Renamed
from bncourse.probes.landscape import Landscape
from bncourse.probes.shift import Shift
from bncourse.study import Measure, Study

NETWORKS = {"quick": dict(plan="small", shrink=4), "desk": dict(plan="11", shrink=8), "paper": dict(plan="16", shrink=1)}
IN_WORDS = {"quick": "a tiny VGG", "desk": "VGG of 11 layers at an eighth of its width", "paper": "VGG of 16 layers"}
STEPS = {"quick": 4, "paper": 15_000}  # at the desk each experiment has a number of its own
SEEDS = {"quick": 2, "desk": 5, "paper": 5}
TEST_IMAGES = 2_000


@dataclass(frozen=True)
class Experiment:
    """A design, but for the sizes of its scale.

    Args:
        figures: of Santurkar et al. 2018, that it repeats.
        design: of a ``Study``. steps: of training at the desk.
        looks: fractions of the training; with ``pairs`` the step after each as well, for what changes in one step.
        pictures: what a chapter draws of the record: (measure, x, options of ``Study.figure``).
        notes: what differs from the paper, or what the paper leaves open, beyond ``COMMON``."""

    title: str
    chapter: str
    figures: str
    design: dict
    steps: int
    looks: tuple[float, ...]
    pictures: tuple
    pairs: bool = False
    notes: tuple[str, ...] = ()

    def record(self, steps: int) -> list[int]:
        """The steps to look at."""
        found = {round(fraction * steps) + after for fraction in self.looks for after in ((0, 1) if self.pairs else (0,))}
        return sorted(step for step in found if step <= steps)


COMMON = (
    "Not stated in the paper: momentum and weight decay of its plain SGD. Here there are none.",
    "Not stated: how pixels are scaled. Here 0 to 1, less the training mean of each channel.",
    "Not stated: how many runs a curve shows. Here several seeds; a seed fixes first weights and order of batches for all networks.",
    "Not stated: the depth of the VGG, its biases, the start of gamma and beta. Here plan A or D of Simonyan & Zisserman 2015 "
    "with one linear layer in place of three, and 0, 1, 0.",
    "Moments in time that a chapter names by step are the same fraction of the training here, layers the same fraction of the depth.",
)

accuracy = Measure("train_accuracy", "training accuracy", unit="points")
shift = Measure("mean_step", "one-step shift of the mean, in sd", over=("layer", "step"), mean="geometric")
relative = Measure("relative", "relative shift (Definition 2.1)", over=("layer", "step"), mean="geometric")
loss_range = Measure("loss_range", "range of the loss", over=("step",), mean="geometric")
loss = Measure("train_loss", "training loss", mean="geometric")
test = Measure("test_accuracy", "test accuracy", unit="points")
FROM_0_TO_1 = {"ylim": (0, 1)}
BY_RATE = {"xscale": "log"}
CURVE = (0, 1 / 15, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)
LINE = (0, 0.1, 0.2, 0.35, 0.5, 0.75, 1)


def at(lr: float, **more) -> dict:
    return {"where": {"lr": lr}, "title": f"learning rate {lr:g}"} | more


EXPERIMENTS = {
    "curves": Experiment(
        "Training curves of plain, batch-normalized and noisy networks", "04_noisy_batch_norm", "Figures 1 and 2",
        dict(norm=["none", "batch", "noisy_batch"], lr=[0.1, 0.5], init="glorot", probes=[Moments()]), 800, CURVE,
        ((accuracy, "step", at(0.1, **FROM_0_TO_1)), (accuracy, "step", at(0.5, **FROM_0_TO_1))), pairs=True,
        notes=("Figure 1 has no noisy network at learning rate 0.5; it is added here.",)),
    "noisy": Experiment(
        "Shift of layer inputs with noise behind batch norm", "04_noisy_batch_norm", "Figures 2 and 8",
        dict(norm=["none", "batch", "noisy_batch", "noise", "frozen", "frozen_noise"], lr=[0.03, 0.1], init="glorot",
             probes=[Moments()]), 800, CURVE,
        ((accuracy, "step", at(0.03, **FROM_0_TO_1)), (shift, "layer", at(0.03, yscale="log"))), pairs=True,
        notes=("Figure 8 shows each moment of single units; here the mean over the units of a layer, in standard deviations.",
               "Frozen statistics, with and without noise, are controls of this course.")),
    "shift": Experiment(
        "Internal covariate shift by Definition 2.1", "05_measuring_shift", "Figures 3a and 3b",
        dict(norm=["none", "batch"], init=["glorot", "he"], lr=[0.01, 0.03, 0.1, 0.3], probes=[Shift(), Moments()]), 300,
        (0, 1 / 6, 1 / 2, 5 / 6, 1),
        ((relative, "lr", BY_RATE | {"where": {"init": "glorot"}, "title": "Glorot", "yscale": "log"}),
         (relative, "lr", BY_RATE | {"where": {"init": "he"}, "title": "He", "yscale": "log"})), pairs=True,
        notes=("He initialization beside the paper's Glorot is an addition.",)),
    "landscape": Experiment(
        "The loss along the gradient, at several learning rates", "06_loss_landscape", "Figure 4",
        dict(norm=["none", "batch"], init="he", lr=[0.01, 0.03, 0.1, 0.3],
             probes=[Landscape((0.5, 1, 2, 4)), Renamed(Landscape(distances=(0.1, 0.4)), "_at_distance")]), 400, LINE,
        ((loss_range, "lr", BY_RATE | {"yscale": "log"}),
         (Measure("beta_lr", "smoothness × learning rate", over=("step",), mean="geometric"), "lr", BY_RATE | {"yscale": "log"})),
        notes=("The paper walks at learning rate 0.1 only, from Glorot initialization.",)),
    "lp": Experiment(
        "ℓp normalization", "08_lp_norms", "Figures 5, 12 and 13",
        dict(norm=["none", "batch", "l1", "l2", "linf"], init="he", lr=[0.01, 0.1, 0.3],
             probes=[Landscape((0.5, 1, 2, 4)), Renamed(Landscape(distances=(0.1, 0.4)), "_at_distance")]), 400, LINE,
        ((accuracy, "step", at(0.1, **FROM_0_TO_1)), (loss_range, "lr", BY_RATE | {"yscale": "log"}))),
    "lr-range": Experiment(
        "The range of learning rates", "03_what_it_buys", "none; compare Figure 1",
        dict(norm=["none", "batch"], pixels=["raw", "scaled"], init="he", lr=[0.03, 0.1, 0.3, 0.5, 1, 3, 10],
             only=lambda norm, pixels: norm == "none" or pixels == "scaled"), 400,
        tuple(step / 300 for step in (15, 19, 24, 30, 37, 47, 58, 73, 91, 114, 142, 178, 222, 260, 300)),
        ((accuracy, "lr", BY_RATE | FROM_0_TO_1 | {"where": {"pixels": "scaled", "step": 1.0}}),)),
    "batch-size": Experiment(
        "Small batches", "12_normalizers", "none; compare Wu & He 2018, Figure 1",
        dict(norm=["none", "batch", "batch_renorm", "layer", "group"], init="he", lr=0.05, batch=[2, 4, 32, 128], test=True), 500, (1,),
        ((test, "batch", {"xscale": "log"} | FROM_0_TO_1),),
        notes=("The question of Wu & He 2018, who trained ResNet-50 on ImageNet and scaled the rate with the batch. Here one "
               "rate and one number of steps: a batch of two has seen fewer examples.",)),
    "normalizers": Experiment(
        "Other normalizers: learning rates and landscape", "12_normalizers", "none",
        dict(norm=["none", "batch", "batch_renorm", "layer", "group", "rms", "weight", "weight_standardization"], init="he",
             lr=[0.03, 0.1, 0.3, 1.0], probes=[Landscape((1, 2, 4))]), 200, (0.25, 0.5, 1),
        ((accuracy, "lr", BY_RATE | FROM_0_TO_1 | {"where": {"step": 1.0}}),)),
    "correlation": Experiment(
        "Shift and performance over a grid of runs", "15_verdict", "none",
        dict(norm=["none", "batch", "noisy_batch", "l1", "layer"], init=["he", "glorot"], lr=[0.01, 0.03, 0.1, 0.3, 1.0],
             probes=[Shift(), Moments()]), 120, (0, 0.4, 1),
        ((relative, "lr", BY_RATE | {"where": {"init": "he"}, "yscale": "log"}),
         (loss, "lr", BY_RATE | {"where": {"init": "he", "step": 1.0}, "yscale": "log"}))),
}


def vgg(images: Data, seed: int, *, norm: str, init: str, plan: str, shrink: int) -> nn.Sequential:
    return nets.vgg(images.x_train.shape[1:], images.classes, plan, norm, init, seed, fused=True, shrink=shrink)


def study(name: str, scale: str, images: Data, device: str = "cpu", seeds: int | None = None, precision: str = "float32") -> Study:
    """The experiment at a scale, as a study that can be run, a part at a time. Raises KeyError: an unknown experiment or
    scale."""
    experiment, network = EXPERIMENTS[name], NETWORKS[scale]
    steps = STEPS.get(scale, experiment.steps)
    images = as_images(images)
    few = replace(images, x_test=images.x_test[:TEST_IMAGES], y_test=images.y_test[:TEST_IMAGES])
    return Study(Lab(few, device, "small", 0), net=vgg, seeds=seeds or SEEDS[scale], steps=steps, record=experiment.record(steps),
                 precision=precision, **network, **{"pixels": "raw", "batch": 128} | experiment.design)


def deviations(name: str, data: str) -> list[str]:
    """Every difference from Santurkar et al. 2018, and every choice that it leaves open."""
    told = [*EXPERIMENTS[name].notes, *COMMON]
    return told if data == "cifar10" else [*told, f"The data are {data}, the paper's CIFAR-10."]
