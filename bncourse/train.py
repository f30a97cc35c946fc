"""Train many seeds and learning rates of one network at once; get one tidy frame back.

Plain stochastic gradient descent, as in Santurkar et al. 2018: no momentum and, unless asked for, no weight decay. A seed
fixes the initial weights and the order of the batches, and both are the same for every network trained under that seed, so
that differences between networks can be taken seed by seed.
"""

import copy
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncourse.augment import AUGMENTATIONS
from bncourse.capture import RECORDERS, WORTH_IT, Replayed
from bncourse.data import Data
from bncourse.nets import MLP, Stack, StackedLinear
from bncourse.precision import check_precision, exactly, lower, rounded

# A probe looks at (network, one batch of inputs per member, step) and returns a frame with a column "member". One that has
# ``looks_at_update = True`` is given the update that is about to be made, as well: (network, x, step, y=, lr=), with the batch
# of that step and the learning rate of each member. Floating-point columns are what it measured, but for those it names in
# ``coordinates``: they say where.
Probe = Callable[..., pd.DataFrame]

STATISTICS_EXAMPLES = 2048  # How many training images recompute a network's statistics; digits has fewer.
PROBE_EXAMPLES = 512  # The fixed training batch that probes and the training loss look at.
TEST_EXAMPLES = 2048  # How many images go through a convolutional network at once in evaluation.


def train(build: Callable[[int], nn.Module], data: Data, *, seeds: Sequence[int], lrs: Sequence[float], steps: int,
          batch_size: int = 128, record: Sequence[int] | None = None, probes: Sequence[Probe] = (),
          test: bool = True, weight_decay: float = 0.0, clip: float | None = None,
          schedule: Callable[[int], float] | None = None, augment: str | None = None, precision: str = "float32",
          capture: bool = True, **labels) -> pd.DataFrame:
    """Train ``build(seed)`` for every learning rate and seed, and look at it at the steps in ``record``.

    Args:
        build: seed -> network. MLPs are trained side by side in one ``Stack``, anything else one after another.
        record: steps to look at; step t means "after t updates". Default: 11 steps, evenly spread from 0 to ``steps``.
        probes: called at each recorded step in training mode, on a fixed training batch or (``looks_at_update``) on the batch
            of the coming update.
        test: look at the test set too. Without it a look costs a fraction, and the two columns of test accuracy are missing.
        weight_decay: lambda of an L2 penalty lambda/2 ‖w‖² on the weights of linear and convolutional layers (on v, where w is
            normalized); biases and the parameters of normalizers are left alone.
        clip: lambda of adaptive gradient clipping (``clipped``), on all parameters but those of the last layer.
        schedule: step -> what the learning rates are multiplied by at that step.
        augment: "crop-flip" trains on images that are shifted and mirrored at random (``augment.crop_and_flip``), the same way
            for every network trained under a seed. Not for networks trained side by side.
        precision: of the training steps, "float32", "tf32" or "bf16" (``precision``). Looks and probes are always in float32.
        capture: on a GPU, record the step and replay it (``capture``) where that is possible. On a CPU there is no difference.
        labels: constant columns of the frame, for example ``norm="batch"``.

    Returns:
        A frame with a row per (lr, seed, step), times layers and whatever else the probes tell apart, and the columns
        ``train_loss``, ``train_accuracy``: training mode (batch statistics, noise on), on a fixed training batch;
        ``test_accuracy``: evaluation mode with statistics recomputed on clean training data;
        ``test_accuracy_running``: evaluation mode with the running statistics of training;
        ``diverged``: the loss has been infinite or NaN. From then on accuracies are chance and the loss infinite: a run
        that blew up is counted, not dropped. What probes measure of it is NaN: there is no network left to measure.
        For regression (``data.y_train`` floating point) the loss is the squared error, and there are no accuracies.
        Where a step was more than the plain one in float32, ``frame.attrs["training"]`` says how it was done.

    Raises:
        ValueError: no seeds, no learning rates, a batch larger than the training set, nothing to record, an unknown
            augmentation or precision, or one that does not go with the data or their device.
    """
    seeds, lrs = list(seeds), list(lrs)
    if not seeds or not lrs:
        raise ValueError(f"nothing to train: seeds={seeds}, lrs={lrs}; give at least one of each")
    if not 1 <= batch_size <= len(data.x_train):
        raise ValueError(f"batch_size={batch_size}, but {data.name} has {len(data.x_train)} training examples")
    record = sorted(set(record)) if record is not None else [round(steps * i / 10) for i in range(11)]
    if not record or record[0] < 0 or record[-1] > steps:
        raise ValueError(f"record={record}: give at least one step to look at, each from 0 to {steps}")

    device = data.x_train.device
    check_precision(precision, device)
    if augment is not None and augment not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {augment!r}; there is {', '.join(AUGMENTATIONS)}")

    runs = [(lr, seed) for lr in lrs for seed in seeds]
    # The fork keeps the reader's own random numbers out of this, and this out of theirs.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), exactly(device):
        models = {}
        for seed in seeds:
            torch.manual_seed(seed)  # For networks that draw their weights from the global generator.
            models[seed] = build(seed)
        together = all(isinstance(model, MLP) for model in models.values())
        if augment and (together or data.x_train.dim() != 4):
            raise ValueError(f'augment="{augment}" is for convolutional networks on images, (N, channels, height, width); for '
                             "flat data, data.as_images(...)")
        groups = [runs] if together else [[run] for run in runs]
        frames, slower = [], set()
        for group in groups:
            torch.manual_seed(hash((tuple(seeds), tuple(group))) % 2**31)  # For noise inside the network.
            net = (Stack if together else Alone)([models[seed] for _, seed in group]).to(device)
            if precision != "float32" and not together:
                net = net.to(memory_format=torch.channels_last)  # The order that fast convolutions want.
            for module in net.modules():
                if hasattr(module, "refuse_nonfinite"):
                    module.refuse_nonfinite = False
            frame, why_not = _train_group(net, data, group, steps, batch_size, record, probes, test, weight_decay, clip,
                                          schedule, augment, precision, capture)
            frames.append(frame)
            slower |= {why_not}
    frame = pd.concat(frames, ignore_index=True).assign(**labels)
    if device.type in RECORDERS or augment or precision != "float32":
        replayed = "yes" if slower == {""} else "no: " + "; ".join(sorted(slower - {""}))
        frame.attrs["training"] = {"precision": precision, "augment": augment or "none", "replayed": replayed}
    return frame


class Alone(nn.Module):
    """One network of any kind behind the interface of ``Stack``: (1, B, features) -> (1, B, classes)."""

    members = 1

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        [model] = models
        self.layers = copy.deepcopy(model)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x[0])[None]

    def per_member(self, parameter: Tensor) -> Tensor:
        """As of a ``Stack``: the one member's values, behind a first axis of one; a single number is a row of one."""
        return parameter[None] if parameter.dim() else parameter[None, None]


def batches(count: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Indices of one batch after another, shuffled anew in every pass; the short remainder of a pass is left out."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).split(batch_size)[:count // batch_size]


def _batches(count: int, batch_size: int, seeds: Sequence[int], device: torch.device) -> Iterator[Tensor]:
    """What ``batches`` gives for each of the seeds, (seeds, B), on the device; it gets there in one piece for a whole pass."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        order = torch.stack([torch.randperm(count, generator=generator) for generator in generators]).to(device)
        yield from order.split(batch_size, dim=1)[:count // batch_size]


def _train_group(net, data, runs, steps, batch_size, record, probes, test, weight_decay, clip, schedule, augment, precision,
                 capture) -> tuple[pd.DataFrame, str]:
    """The frame of the runs of one ``net``, and why their steps were not replayed from a recording."""
    device, members = data.x_train.device, len(runs)
    x_train = data.x_train.flatten(1) if isinstance(net, Stack) else data.x_train
    seeds = list(dict.fromkeys(seed for _, seed in runs))
    order = _batches(len(x_train), batch_size, seeds, device)
    order_of = torch.tensor([seeds.index(seed) for _, seed in runs], device=device)
    base_lr = torch.tensor([lr for lr, _ in runs], device=device)[:, None]
    parameters = list(net.parameters())
    weights = set(map(id, weights_of(net)))
    last = (list(net.layers.children()) or [net.layers])[-1]
    unclipped = set(map(id, last.parameters()))
    own = [net.per_member(parameter.detach()) for parameter in parameters]  # The same memory, member by member.
    shifts = torch.Generator(device).manual_seed(seeds[0]) if augment else None

    # What one step reads and leaves behind stays in its place, because a recording of the step knows nothing but places.
    chosen = torch.empty(len(seeds), batch_size, dtype=torch.long, device=device)
    lr, alive = base_lr.clone(), torch.ones(members, dtype=torch.bool, device=device)

    def batch() -> tuple[Tensor, Tensor]:
        index = chosen[order_of]
        x = x_train[index]
        return AUGMENTATIONS[augment](x, shifts) if augment else x, data.y_train[index]

    def update() -> None:
        """One step of SGD. Nothing here waits for the GPU: no member is asked whether it is still alive. The gradient of one
        that is not reaches nobody else; its weights may become what they like until somebody looks."""
        x, y = batch()
        with rounded(precision):
            with lower(precision, device):
                outputs = net(x)
            losses = member_losses(outputs.to(x.dtype), y)
            gradients = torch.autograd.grad(losses.sum(), parameters)
        with torch.no_grad():
            alive.logical_and_(torch.isfinite(losses))
            for parameter, mine, gradient in zip(parameters, own, gradients):
                is_weight = id(parameter) in weights
                if clip is not None and id(parameter) not in unclipped:
                    vectors = len(parameter) if isinstance(net, Alone) else parameter.shape[:2].numel()
                    gradient = clipped(gradient, parameter, clip, vectors=vectors if is_weight else members)
                if weight_decay and is_weight:
                    gradient = gradient + weight_decay * parameter
                mine -= lr * gradient.reshape(mine.shape)

    def coming() -> tuple[Tensor, Tensor, Tensor]:
        """What the next update will see."""
        state = shifts.get_state() if augment else None
        x, y = batch()
        if augment:
            shifts.set_state(state)
        return x, y, lr[:, 0].clone()

    frames, going = [], True
    recorded = capture and device.type in RECORDERS and steps >= WORTH_IT
    step_once = Replayed(update, net, RECORDERS[device.type], [shifts] if augment else []) if recorded else update
    net.train()
    for step in range(steps + 1):
        chosen.copy_(next(order))
        if schedule is not None:
            torch.mul(base_lr, schedule(step), out=lr)
        if step in record:
            frames.append(_look(net, data, step, alive, runs, probes, test, coming))
            going = not frames[-1].diverged.all()
            own[:] = [net.per_member(parameter.detach()) for parameter in parameters]  # A probe may have put in others.
            if recorded:
                step_once.look_again()
        if step == steps:
            return pd.concat(frames, ignore_index=True), step_once.why_not if recorded else "not asked for, or too few steps"
        # A look knows whether anybody is left. To ask in between would be to wait for a GPU, while a CPU is done already.
        if going and (device.type == "cuda" or alive.any()):
            step_once()


def weights_of(net: nn.Module) -> list[nn.Parameter]:
    """The weights of linear and convolutional layers: where one is normalized, the free parameter behind it."""
    found = []
    for module in net.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, StackedLinear)):
            parametrized = nn.utils.parametrize.is_parametrized(module, "weight")
            found.append(list(module.parametrizations.weight.parameters())[-1] if parametrized else module.weight)
    return found


def clipped(gradient: Tensor, parameter: Tensor, clip: float, vectors: int, eps: float = 1e-3) -> Tensor:
    """Adaptive gradient clipping: the gradient, shortened where it is longer than ``clip`` times what it would change.

    Both are compared vector by vector: weights output by output (``vectors`` of them, along the first axes), anything else as
    a whole. A parameter shorter than ``eps`` counts as that long. Source: Brock, De, Smith & Simonyan 2021, equation 3.
    """
    g, w = gradient.reshape(vectors, -1), parameter.reshape(vectors, -1)
    longest = clip * w.norm(dim=1, keepdim=True).clamp(min=eps)
    return (g * (longest / g.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)).view_as(gradient)


def member_losses(outputs: Tensor, y: Tensor) -> Tensor:
    """The loss of each member, (M, B, outputs) -> (M,): for classes y, (M, B), cross-entropy in nats; for floating-point y,
    (M, B, outputs), squared error summed over outputs. Both are averaged over the batch."""
    if y.is_floating_point():
        return (outputs - y).square().sum(-1).mean(1)
    return F.cross_entropy(outputs.transpose(1, 2), y, reduction="none").mean(1)


def batch_loss(x: Tensor, y: Tensor) -> Callable[[nn.Module], Tensor]:
    """The loss of ``train`` on one batch, as a function of the network: what ``probes.landscape`` and ``probes.curvature``
    look at. A ``Stack``, with x (M, B, features) and y (M, B), gives (M,); another network, x (B, ...), one number."""
    def loss(net: nn.Module) -> Tensor:
        if hasattr(net, "members"):
            return member_losses(net(x), y)
        return member_losses(net(x)[None], y[None])[0]
    return loss


@torch.no_grad()
def _look(net, data, step, alive, runs, probes, test, coming) -> pd.DataFrame:
    """Everything that is recorded at one step. The network is as before when this returns, but for members whose loss is found
    not to be finite: ``alive`` loses them, and their weights become zeros, which compute harmlessly on where NaN would stop a
    probe. What a probe makes of the zeros is not kept."""
    flat = isinstance(net, Stack)
    x_train, x_test = (x.flatten(1) if flat else x for x in (data.x_train, data.x_test))

    def for_each(x):
        return x.expand(len(runs), *x.shape)

    def outputs(x):
        # A convolutional network makes many times as many numbers of each image as a GPU holds images.
        return net(for_each(x)) if flat else torch.cat([net(for_each(part)) for part in x.split(TEST_EXAMPLES)], 1)

    def accuracy(logits, y):
        return torch.where(diverged, 1 / data.classes, (logits.argmax(-1) == y).float().mean(1))

    x, y = for_each(x_train[:PROBE_EXAMPLES]), for_each(data.y_train[:PROBE_EXAMPLES])
    with untouched(net):
        net.train()
        logits = net(x)
    losses = member_losses(logits, y)
    # The last update may have been the one too many; the next batch would show it only after this row was written.
    alive &= torch.isfinite(losses)
    diverged = ~alive
    if diverged.any():
        for parameter in net.parameters():
            net.per_member(parameter).masked_fill_(diverged[:, None], 0)
    frame = pd.DataFrame({
        "member": range(len(runs)),
        "lr": [lr for lr, _ in runs],
        "seed": [seed for _, seed in runs],
        "step": step,
        "train_loss": torch.where(diverged, math.inf, losses).tolist(),
        "diverged": diverged.tolist(),
    })
    classifies = not y.is_floating_point()
    if classifies:
        frame.insert(5, "train_accuracy", accuracy(logits, y).tolist())
    if classifies and test:
        with untouched(net):
            net.eval()
            running = clean = accuracy(outputs(x_test), data.y_test)
            if _tracking(net):  # Otherwise there is nothing to recompute: evaluation mode is one and the same.
                recompute_statistics(net, for_each(x_train[:STATISTICS_EXAMPLES]))
                clean = accuracy(outputs(x_test), data.y_test)
        frame = frame.assign(test_accuracy=clean.tolist(), test_accuracy_running=running.tolist())
    everything, coordinates = None, set()
    for probe in probes:
        coordinates |= set(getattr(probe, "coordinates", ()))
        with untouched(net):
            if getattr(probe, "looks_at_update", False):
                x_update, y_update, lr = coming()
                seen = probe(net.train(), x_update, step, y=y_update, lr=lr)
            else:
                seen = probe(net.train(), x, step)
        # Outer: two probes need not look at the same layers.
        shared = [] if everything is None else [column for column in seen.columns if column in everything.columns]
        if clash := [column for column in shared if pd.api.types.is_float_dtype(seen[column])]:
            raise ValueError(f"two probes both measure {', '.join(clash)}, and one column cannot hold two numbers: rename those of "
                             "one of them, or train twice")
        everything = seen if everything is None else everything.merge(seen, on=shared, how="outer")
    if everything is not None:
        frame = frame.merge(everything, on="member")
        measured = [column for column in everything.columns
                    if pd.api.types.is_float_dtype(everything[column]) and column not in coordinates]
        frame.loc[frame.diverged, measured] = math.nan
    return frame.drop(columns="member")


@contextmanager
def untouched(net: nn.Module):
    """Leave buffers, train/eval mode and random numbers as they were, whatever happens inside. There, layers let NaN pass:
    a probe must be able to report it."""
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    modes = {module: module.training for module in net.modules()}
    refusing = [module for module in net.modules() if getattr(module, "refuse_nonfinite", False)]
    for module in refusing:
        module.refuse_nonfinite = False
    devices = sorted({p.device.index for p in net.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices):
        try:
            yield net
        finally:
            with torch.no_grad():
                for name, buffer in net.named_buffers():
                    buffer.copy_(buffers[name])
            for module, training in modes.items():
                module.training = training
            for module in refusing:
                module.refuse_nonfinite = True


def _tracking(net: nn.Module) -> list[nn.Module]:
    """The layers that keep running statistics."""
    return [module for module in net.modules() if getattr(module, "running_mean", None) is not None]


# What the layers of a network are set to while their statistics are recomputed: no noise, no correction towards statistics that
# are being replaced, all examples in one batch, and nothing remembered of before.
CLEAN = {"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0, "r_max": 1.0, "d_max": 0.0, "ghost_size": sys.maxsize,
         "momentum": 1.0}


@torch.no_grad()
def recompute_statistics(net: nn.Module, x: Tensor) -> None:
    """Replace running statistics by those of ``x``, from one clean pass: no noise, the weights as they are.

    Source: Ioffe & Szegedy 2015, Algorithm 2; called "precise" batch normalization by Wu & Johnson 2021. Mode is restored;
    networks without running statistics pass through unchanged.
    """
    modes = {module: module.training for module in net.modules()}
    before = [(module, name, getattr(module, name)) for module in net.modules() for name in CLEAN if hasattr(module, name)]
    net.eval()
    for module, name, _ in before:
        setattr(module, name, CLEAN[name])
    for module in _tracking(net):
        module.train()
        module.reset_running_stats()
    try:
        net(x)
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        for module, training in modes.items():
            module.training = training


@contextmanager
def frozen_statistics(net: nn.Module, x: Tensor):
    """Inside, batch normalization uses the statistics that ``x`` has now, as constants: no gradient flows through them, and
    they do not follow the weights. The outputs on ``x`` are those of training mode (not of ghost batches, which have no common
    statistics, nor of batch renormalization, which corrects them). Noise is off. Afterwards the network is as it was.
    """
    values = {}

    def count(module, inputs):
        values[module] = inputs[0].numel() // module.num_features

    with untouched(net):
        handles = [module.register_forward_pre_hook(count) for module in _tracking(net)]
        try:
            recompute_statistics(net, x)
        finally:
            for handle in handles:
                handle.remove()
        for module, n in values.items():
            if getattr(module, "running_var", None) is not None:
                module.running_var *= (n - 1) / n  # Training divides by the variance of the batch, without Bessel's n - 1.
        yield net.eval()
