"""Train many seeds and learning rates of one network at once; get one tidy frame back.

Plain stochastic gradient descent, as in Santurkar et al. 2018: no momentum and, unless asked for, no weight decay. A seed fixes
the initial weights and the order of the batches, so that differences between networks can be taken seed by seed."""

import copy
import math
import operator
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncourse.data import Data
from bncourse.nets import MLP, Stack, StackedLinear, stackable
from bncourse.norms import InstanceNorm, LayerNorm, WeightNorm
from bncourse.precision import check_precision, exactly, lower, rounded

# A probe looks at (network, one batch of inputs per member, step) and returns a frame with a column "member". One that has
# ``looks_at_update = True`` is given the coming update, as well: (network, x, step, y=, lr=), with the batch of that step and the
# learning rate of each member. Floating-point columns are what it measured; those it names in ``coordinates``, and all others,
# say where. Every member has a row, and no two rows are of one place.
Probe = Callable[..., pd.DataFrame]

OWN_COLUMNS = ("lr", "seed", "step", "train_loss", "train_accuracy", "diverged", "test_accuracy", "test_accuracy_running")
WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd, StackedLinear)  # What has "weights" to decay and to clip.

# While statistics are recomputed: no noise, no correction towards those that are being replaced, one batch, nothing remembered.
CLEAN = {"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0, "r_max": 1.0, "d_max": 0.0, "ghost_size": sys.maxsize,
         "momentum": 1.0}
STATISTICS_EXAMPLES = 2048  # How many training images recompute a network's statistics; digits has fewer.
PROBE_EXAMPLES = 512  # The fixed training batch that probes and the training loss look at.
TEST_EXAMPLES = 2048  # How many images go through a convolutional network at once in evaluation.


def train(build: Callable[[int], nn.Module], data: Data, *, seeds: Sequence[int], lrs: Sequence[float], steps: int,
          batch_size: int = 128, record: Sequence[int] | None = None, probes: Sequence[Probe] = (),
          test: bool = True, weight_decay: float = 0.0, clip: float | None = None,
          schedule: Callable[[int], float] | None = None, precision: str = "float32",
          labels: Mapping[str, object] | None = None) -> pd.DataFrame:
    """Train ``build(seed)`` for every learning rate and seed, and look at it at the steps in ``record``.

    Args:
        build: seed -> network. Those of ``mlp`` and ``residual_mlp`` are trained side by side in one ``Stack`` if they are as
            they were built (``nets.stackable``), anything else one after another, with the same results. Frozen parameters stay
            frozen, and so do layers in evaluation mode within a network in training mode (one that is all in evaluation mode is
            put in training mode).
        seeds, lrs: none of them twice. Noise inside the network depends on the seed alone, like all else that is random.
        record: steps to look at; step t means "after t updates". Default: 11 steps, evenly spread from 0 to ``steps``.
        probes: called at each recorded step in training mode, on a fixed training batch or (``looks_at_update``) the coming one.
        test: look at the test set too. Without it a look costs a fraction, and the two columns of test accuracy are missing.
        weight_decay: lambda of an L2 penalty lambda/2 ‖w‖² on the weights of linear and convolutional layers (on v, where w is
            normalized); biases and the parameters of normalizers are left alone.
        clip: lambda of adaptive gradient clipping (``clipped``), on all parameters but those of the layer that is called last.
        schedule: step -> what the learning rates are multiplied by at that step, from 0 to ``steps`` - 1.
        precision: of the training steps, "float32", "tf32" or "bf16" (``precision``). Looks and probes are always in float32.
        labels: constant columns of the frame, for example ``dict(norm="batch")``.

    Returns a frame with a row per (lr, seed, step), times layers and whatever else the probes tell apart, and the columns
        ``train_loss``, ``train_accuracy``: training mode (batch statistics, noise on), on a fixed training batch;
        ``test_accuracy``: evaluation mode with statistics recomputed on clean training data;
        ``test_accuracy_running``: evaluation mode with the running statistics of training;
        ``diverged``: the loss has been infinite or NaN. From then on accuracies are chance, the loss infinite, and what probes
        measure NaN: a run that blew up is counted, not dropped.
        For regression (``data.y_train`` floating point) the loss is the squared error, and there are no accuracies.
    Raises ValueError: no seeds, no learning rates, a batch larger than the training set, nothing to record, a precision that is
    unknown or not the device's; targets that do not fit the outputs; a probe that leaves a member out, or has a column that is
    not its own. TypeError: a number of another kind."""
    seeds, lrs = _listed("seeds", seeds, operator.index), _listed("lrs", lrs, float)
    steps, batch_size = (_one(name, value, operator.index) for name, value in (("steps", steps), ("batch_size", batch_size)))
    record = [round(steps * i / 10) for i in range(11)] if record is None else sorted(set(_each("record", record, operator.index)))
    for wrong, says in (
            (not seeds or not lrs, f"nothing to train: seeds={seeds}, lrs={lrs}; give at least one of each"),
            (not all(0 <= lr < math.inf for lr in lrs), f"lrs={lrs}: learning rates are finite and not negative"),
            (steps < 0, f"steps={steps}: give 0 or more"),
            (not 0 <= weight_decay < math.inf, f"weight_decay={weight_decay}: give a finite number, 0 or more"),
            (clip is not None and not clip > 0, f"clip={clip}: give a positive number, or None for no clipping"),
            (not 1 <= batch_size <= len(data.x_train),
             f"batch_size={batch_size}, but {data.name} has {len(data.x_train)} training examples"),
            (not record or record[0] < 0 or record[-1] > steps,
             f"record={record}: give at least one step to look at, each from 0 to {steps}")):
        if wrong:
            raise ValueError(says)
    labels = dict(labels or {})
    for name, value in labels.items():
        if name in (*OWN_COLUMNS, "member"):
            raise ValueError(f"labels={labels}: train has a column {name!r} of its own; call yours something else")
        if not pd.api.types.is_scalar(value):
            raise ValueError(f"labels={labels}: a label is one value for all rows, and {name!r} is a {type(value).__name__}")
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        if len(x) != len(y):
            raise ValueError(f"{data.name} has {len(x)} inputs and {len(y)} targets")
    device = data.x_train.device
    check_precision(precision, device)
    runs = [(lr, seed) for lr in lrs for seed in seeds]
    # The fork keeps the reader's own random numbers out of this, and this out of theirs.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), exactly(device):
        models = {}
        for seed in seeds:
            torch.manual_seed(seed)  # For networks that draw their weights from the global generator.
            models[seed] = build(seed)
        together = len(runs) > 1 and not stackable(list(models.values()))  # A lone network is faster by itself.
        groups = [runs] if together else [[run] for run in runs]
        frames = []
        for group in groups:
            members = [models[seed] for _, seed in group]
            net = (Stack if together else Alone)(members).to(device)
            _seed_noise(net, members[0], [seed for _, seed in group])
            if not together and (device.type == "cpu" or precision != "float32"):
                net = net.to(memory_format=torch.channels_last)  # The order that fast convolutions want.
            for module in net.modules():
                if hasattr(module, "refuse_nonfinite"):
                    module.refuse_nonfinite = False
            frames.append(_train_group(net, data, group, steps, batch_size, record, probes, test, weight_decay, clip, schedule,
                                       precision, labels))
    return pd.concat(frames, ignore_index=True).assign(**labels)


def _one(name: str, value, kind: Callable):
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r}: give {'a whole number' if kind is operator.index else 'a number'}") from None


def _each(name: str, values, kind: Callable) -> list:
    """Numbers of Python's own, whatever library they come from."""
    try:
        values = list(values)
    except TypeError:
        raise TypeError(f"{name}={values!r}: give a list of numbers, {name}=[{values!r}]") from None
    return [_one(name, value, kind) for value in values]


def _listed(name: str, values, kind: Callable) -> list:
    values = _each(name, values, kind)
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise ValueError(f"{name}={values}: {', '.join(map(str, twice))} is there more than once, and rows could not be told apart")
    return values


def _seed_noise(net: nn.Module, model: nn.Module, seeds: Sequence[int]) -> None:
    """So that all noise inside ``net`` depends on a member's own seed, whoever it trains with."""
    if stackable([model]):  # It trains alone, and may hold anything random: torch's own generator is the run's.
        torch.manual_seed(hash((seeds[0], 1)) % 2**63)  # Not the seed itself, from which the network may have drawn weights.
        return
    torch.manual_seed(0)
    for module in net.modules():
        if hasattr(module, "noise_seeds"):
            module.noise_seeds = tuple(seeds)


class Alone(nn.Module):
    """One network of any kind behind the interface of ``Stack``: (1, B, features) -> (1, B, classes)."""

    members = 1

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        [model] = models
        self.flat = isinstance(model, MLP)
        # The older torch.nn.utils.weight_norm keeps a weight that is no leaf, which deepcopy refuses; it is computed anew.
        computed = {id(value): value.detach().clone() for module in model.modules() for value in vars(module).values()
                    if isinstance(value, Tensor) and not value.is_leaf}
        self.layers = copy.deepcopy(model, computed)
        for old, new in zip(model.parameters(), self.layers.parameters(), strict=True):
            for hook in (old._backward_hooks or {}).values():  # A copy of a parameter comes without them.
                new.register_hook(hook)
        self.in_evaluation = _in_evaluation(self.layers)

    def train(self, mode: bool = True) -> "Alone":
        """As of any module, but for layers that ``build`` had put in evaluation mode: they stay there."""
        super().train(mode)
        for module in self.in_evaluation:
            module.training = False
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x[0])[None]

    def per_member(self, parameter: Tensor) -> Tensor:
        """As of a ``Stack``, behind a first axis of one; a single number is a row of one."""
        return parameter[None] if parameter.dim() else parameter[None, None]


def _in_evaluation(net: nn.Module) -> list[nn.Module]:
    """The modules that are in evaluation mode by themselves, within a network in training mode."""
    return [module for module in net.modules() if not module.training] if net.training else []


def batches(count: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Indices of one batch after another, shuffled anew in every pass; the short remainder of a pass is left out."""
    yield from (index[0] for index in _batches(count, batch_size, [seed], torch.device("cpu")))


def _batches(count: int, batch_size: int, seeds: Sequence[int], device: torch.device) -> Iterator[Tensor]:
    """``batches`` for each of the seeds, (seeds, B), on the device; they get there in one piece for a whole pass."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        order = torch.stack([torch.randperm(count, generator=generator) for generator in generators]).to(device)
        yield from order.split(batch_size, dim=1)[:count // batch_size]


def _train_group(net, data, runs, steps, batch_size, record, probes, test, weight_decay, clip, schedule, precision,
                 labels) -> pd.DataFrame:
    """The frame of the runs of one ``net``."""
    device, members = data.x_train.device, len(runs)
    x_train = data.x_train.flatten(1) if net.flat else data.x_train
    seeds = list(dict.fromkeys(seed for _, seed in runs))
    order = _batches(len(x_train), batch_size, seeds, device)
    order_of = torch.tensor([seeds.index(seed) for _, seed in runs], device=device)
    base_lr = torch.tensor([lr for lr, _ in runs], dtype=x_train.dtype, device=device)[:, None]
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if steps and not parameters:
        raise ValueError("nothing in the network requires a gradient, so there is nothing to train")
    weights = set(map(id, weights_of(net))) if weight_decay or clip is not None else set()
    net.train()
    if clip is not None and steps:
        some = torch.arange(batch_size, device=device).expand(members, -1)
        unclipped = set(map(id, last_layer(net, x_train[some], data.y_train[some]).parameters()))
        transposed = {id(weight): module.groups for module in net.modules()
                      if isinstance(module, nn.modules.conv._ConvTransposeNd) for weight in weights_of(module)}
    own = [net.per_member(parameter.detach()) for parameter in parameters]  # The same memory, member by member.
    lr, alive = base_lr.clone(), torch.ones(members, dtype=torch.bool, device=device)

    def batch() -> tuple[Tensor, Tensor]:
        index = chosen[order_of]
        return x_train[index], data.y_train[index]

    def update() -> None:
        """One step of SGD. Nothing here waits for the GPU: no member is asked whether it is still alive. What one that is not
        becomes reaches nobody else."""
        x, y = batch()
        with rounded(precision):
            with lower(precision, device):
                outputs = net(x)
            losses = member_losses(outputs.to(x.dtype), y)
            gradients = torch.autograd.grad(losses.sum(), parameters, allow_unused=True)
        with torch.no_grad():
            alive.logical_and_(torch.isfinite(losses))
            for parameter, mine, gradient in zip(parameters, own, gradients):
                if gradient is None:  # Not used in this step.
                    continue
                is_weight = id(parameter) in weights
                if clip is not None and id(parameter) not in unclipped:
                    gradient = shortened(parameter, gradient, is_weight)
                if weight_decay and is_weight:
                    gradient = gradient + weight_decay * parameter
                mine.addcmul_(lr, gradient.reshape(mine.shape), value=-1)

    def shortened(parameter: Tensor, gradient: Tensor, is_weight: bool) -> Tensor:
        if not is_weight:
            return clipped(gradient, parameter, clip, vectors=members)
        if id(parameter) in transposed:  # Outputs are on axis 1, those of each group by themselves.
            g, w = (own.unflatten(0, (transposed[id(parameter)], -1)).transpose(1, 2) for own in (gradient, parameter))
            return clipped(g, w, clip, vectors=g.shape[:2].numel()).transpose(1, 2).reshape(gradient.shape)
        vectors = len(parameter) if isinstance(net, Alone) else parameter.shape[:2].numel()
        return clipped(gradient, parameter, clip, vectors)

    frames, going = [], True
    for step in range(steps + 1):
        chosen = next(order)
        if schedule is not None and step < steps:  # Behind the last step the rate stays what it was.
            torch.mul(base_lr, schedule(step), out=lr)
        if step in record:
            frames.append(_look(net, data, step, alive, runs, probes, test, lambda: (*batch(), lr[:, 0].clone()), labels))
            going = not frames[-1].diverged.all()
            own[:] = [net.per_member(parameter.detach()) for parameter in parameters]  # A probe may have put in others.
        if step == steps:
            return pd.concat(frames, ignore_index=True)
        # A look knows whether anybody is left. To ask in between would be to wait for a GPU, while a CPU is done already.
        if going and (device.type == "cuda" or alive.any()):
            update()


def weights_of(net: nn.Module) -> list[nn.Parameter]:
    """The weights of linear and convolutional layers: where one is computed from others, the free parameter behind it (of
    weight normalization the direction v, else what took the weight's place).
    Raises ValueError: a weight computed from several parameters in a way that is not known."""
    return [_weight(name, module) for name, module in net.named_modules() if isinstance(module, WEIGHTED)]


def _weight(name: str, module: nn.Module) -> nn.Parameter:
    if nn.utils.parametrize.is_parametrized(module, "weight"):
        chain = module.parametrizations.weight
        if chain.is_tensor:
            return chain.original
        if isinstance(chain[0], (WeightNorm, nn.utils.parametrizations._WeightNorm)):
            return chain.original1
    else:
        # Behind the older torch.nn.utils.weight_norm; spectral_norm and prune.
        for own in ("weight", "weight_v", "weight_orig"):
            if module._parameters.get(own) is not None:
                return module._parameters[own]
    raise ValueError(f"the weight of {name or type(module).__name__} is computed from other tensors, and it is not known which "
                     "of them weight decay and clipping are about; train without, or use a parametrization of one tensor")


def last_layer(net: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    """The layer with a weight that is called last when ``net`` computes, wherever it is registered: x (M, B, ...), y (M, B).
    Raises ValueError: no layer with a weight is called, or one is used without being called, so that no order is to be seen."""
    def has_weight(module: nn.Module) -> bool:
        inside = [name for name in module._modules if name != "parametrizations"]
        own = [*module.parameters(recurse=False), *(module.parametrizations.parameters() if
                                                    nn.utils.parametrize.is_parametrized(module) else [])]
        return isinstance(module, WEIGHTED) or (
            not inside and any(parameter.dim() > 1 for parameter in own) and not isinstance(module, (nn.LayerNorm, LayerNorm)))

    called, layers = [], {module: name for name, module in net.named_modules() if has_weight(module)}
    with untouched(net), ExitStack() as hooks:
        for module in layers:
            hooks.enter_context(module.register_forward_hook(lambda module, *_: called.append(module)))
        loss = member_losses(net.train()(x), y).sum()
    for module, name in layers.items():
        own = [] if module in called else [parameter for parameter in module.parameters() if parameter.requires_grad]
        if own and any(found is not None for found in torch.autograd.grad(loss, own, retain_graph=True, allow_unused=True)):
            raise ValueError(f"clipping leaves the last layer alone, and which is last cannot be seen: {name} is used without "
                             "being called")
    if not called:
        raise ValueError("clipping leaves the last layer alone, and the network calls no layer with a weight")
    return called[-1]


def clipped(gradient: Tensor, parameter: Tensor, clip: float, vectors: int, eps: float = 1e-3) -> Tensor:
    """Adaptive gradient clipping: the gradient, shortened where it is longer than ``clip`` times what it would change: weights
    output by output (``vectors`` of them, along the first axes), anything else as a whole. A parameter shorter than ``eps``
    counts as that long. Source: Brock, De, Smith & Simonyan 2021, equation 3."""
    g, w = gradient.reshape(vectors, -1), parameter.reshape(vectors, -1)
    longest = clip * w.norm(dim=1, keepdim=True).clamp(min=eps)
    return (g * (longest / g.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)).view_as(gradient)


def member_losses(outputs: Tensor, y: Tensor) -> Tensor:
    """The loss of each member, (M, B, outputs) -> (M,): for classes y, (M, B), cross-entropy in nats; for floating-point y,
    (M, B, outputs), squared error summed over outputs. Both are averaged over the batch.
    Raises ValueError: outputs and targets whose shapes do not fit. (Broadcast, they would give a number that means nothing.)
    TypeError: targets that are neither floating point nor whole numbers."""
    if y.is_floating_point():
        if outputs.shape != y.shape:
            hint = "; classes are whole numbers, y.long()" if y.dim() == 2 and outputs.dim() == 3 and outputs.shape[2] > 1 else ""
            raise ValueError(f"outputs of shape {tuple(outputs.shape[1:])} for targets of shape {tuple(y.shape[1:])} (batch, …): "
                             f"for the squared error they must be the same, as after y[:, None] or y.view_as(outputs){hint}")
        return (outputs - y).square().reshape(*y.shape[:2], -1).sum(-1).mean(1)
    if y.dtype == torch.bool or y.is_complex():
        raise TypeError(f"targets are {y.dtype}; classes are whole numbers, y.long(), and what is regressed on is y.float()")
    if outputs.dim() != 3 or y.shape != outputs.shape[:2]:
        raise ValueError(f"outputs of shape {tuple(outputs.shape[1:])} for classes of shape {tuple(y.shape[1:])} (batch, …): "
                         "they must be (batch, classes) and (batch,)")
    return F.cross_entropy(outputs.transpose(1, 2), y.long(), reduction="none").mean(1)


def batch_loss(x: Tensor, y: Tensor) -> Callable[[nn.Module], Tensor]:
    """The loss of ``train`` on one batch, as a function of the network: what ``probes.landscape`` and ``probes.curvature``
    look at. A ``Stack``, with x (M, B, features) and y (M, B), gives (M,); another network, x (B, ...), one number."""
    return lambda net: (member_losses(net(x), y) if isinstance(net, (Stack, Alone)) else member_losses(net(x)[None], y[None])[0])


@torch.no_grad()
def _look(net, data, step, alive, runs, probes, test, coming, labels) -> pd.DataFrame:
    """Everything that is recorded at one step. The network is as before when this returns, but for members whose loss is found
    not to be finite: ``alive`` loses them, and their weights become zeros, which compute harmlessly on where NaN would stop a
    probe. What a probe makes of the zeros is not kept. ``coming()`` is what the next update will see: x, y and learning rates."""
    flat = net.flat
    x_train, x_test = (x.flatten(1) if flat else x for x in (data.x_train, data.x_test))

    def for_each(x):
        return x.expand(len(runs), *x.shape)

    def outputs(x):
        # A convolutional network makes many times as many numbers of each image as a GPU holds images.
        return net(for_each(x)) if flat else torch.cat([net(for_each(part)) for part in x.split(TEST_EXAMPLES)], 1)

    def accuracy(logits, y):
        return torch.where(diverged, 1 / data.classes, (logits.max(-1)[1] == y).float().mean(1))  # argmax: six times the time

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
    lrs, seeds = zip(*runs)
    frame = pd.DataFrame({"member": range(len(runs)), "lr": lrs, "seed": seeds, "step": step,
                          "train_loss": torch.where(diverged, math.inf, losses).tolist(), "diverged": diverged.tolist()})
    classifies = not y.is_floating_point()
    if classifies:
        frame.insert(5, "train_accuracy", accuracy(logits, y).tolist())
    if classifies and test:
        with untouched(net):
            net.eval()
            running = clean = accuracy(outputs(x_test), data.y_test)
            if _tracking(net.train()):  # Otherwise there is nothing to recompute: evaluation mode is one and the same.
                recompute_statistics(net, for_each(x_train[:STATISTICS_EXAMPLES]))
                net.eval()
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
        _check_seen(seen, probe, len(runs), step, labels)
        # Outer: two probes need not look at the same layers.
        shared = [] if everything is None else [column for column in seen.columns if column in everything.columns]
        if clash := [column for column in shared if column not in coordinates
                     and any(pd.api.types.is_float_dtype(frame[column]) for frame in (seen, everything))]:
            raise ValueError(f"two probes both measure {', '.join(clash)}, and one column cannot hold two numbers: rename those "
                             f"of {_name(probe)} or of the other, or train twice")
        everything = seen if everything is None else everything.merge(seen, on=shared, how="outer")
    if everything is not None:
        frame = frame.merge(everything, on="member")
        measured = [column for column in everything.columns
                    if pd.api.types.is_float_dtype(everything[column]) and column not in coordinates]
        frame.loc[frame.diverged, measured] = math.nan
    return frame.drop(columns="member")


def _name(probe: Probe) -> str:
    return getattr(probe, "__name__", type(probe).__name__)


def _check_seen(seen, probe: Probe, members: int, step: int, labels: Mapping[str, object]) -> None:
    """Refuse what would lose rows of the frame, or stand in the place of columns that are not the probe's."""
    said = f"the probe {_name(probe)}, at step {step},"
    if not isinstance(seen, pd.DataFrame) or "member" not in seen.columns:
        got = f"columns {', '.join(map(str, seen.columns))}" if isinstance(seen, pd.DataFrame) else f"a {type(seen).__name__}"
        raise ValueError(f'{said} returned {got}; a probe returns a frame with a column "member"')
    if twice := [str(name) for name, count in Counter(seen.columns).items() if count > 1]:
        raise ValueError(f"{said} returned several columns called {', '.join(twice)}")
    if taken := [name for name in seen.columns if name in OWN_COLUMNS or name in labels]:
        whose = ", ".join(f"{name} ({'train' if name in OWN_COLUMNS else 'a label'})" for name in taken)
        raise ValueError(f"{said} returned columns that are others': {whose}; call them something else")
    found = set(seen["member"])
    if missing := [member for member in range(members) if member not in found]:
        raise ValueError(f"{said} returned no row for {_some(missing)} of {members}; a probe returns rows for each at every look "
                         "(NaN where there is nothing to say)")
    if len(found) > members:
        raise ValueError(f"{said} returned rows for {_some([one for one in found if one not in range(members)])}; there are "
                         f"{members} of them, from 0")
    where = ["member"] + [name for name in seen.columns if name != "member" and (
        name in getattr(probe, "coordinates", ()) or not pd.api.types.is_float_dtype(seen[name]))]
    if (twice := seen.duplicated(where)).any():
        place = ", ".join(f"{name} {seen[name][twice].iloc[0]}" for name in where)
        raise ValueError(f"{said} returned several rows for {place}; what tells them apart is a column of whole numbers or "
                         "words, or one that the probe names in its coordinates")


def _some(members: list) -> str:
    return f"member{'s' if len(members) > 1 else ''} {', '.join(map(str, members[:5]))}{', …' if len(members) > 5 else ''}"


@contextmanager
def untouched(net: nn.Module):
    """Leave buffers, train/eval mode and random numbers as they were, whatever happens inside. There, layers let NaN pass:
    a probe must be able to report it."""
    buffers = [(module, name, buffer, None if buffer is None else buffer.clone())
               for module in net.modules() for name, buffer in module._buffers.items()]
    modes = {module: module.training for module in net.modules()}
    refusing = [(module, dict(vars(module))) for module in net.modules() if getattr(module, "refuse_nonfinite", False)]
    for module, _ in refusing:
        module.refuse_nonfinite = False
    with torch.random.fork_rng(devices=sorted({p.device.index for p in net.parameters() if p.is_cuda})):
        try:
            yield net
        finally:
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    module._buffers[name] = buffer
                    if buffer is not None:
                        buffer.copy_(value)
            for module, training in modes.items():
                module.training = training
            for module, before in refusing:
                del module.refuse_nonfinite  # Where its class says it; where the layer itself did, that comes back.
                vars(module).update({name: before[name] for name in ("refuse_nonfinite",) if name in before})


def _tracking(net: nn.Module) -> list[nn.Module]:
    """The layers that keep running statistics, but for those in evaluation mode within a network in training mode."""
    still = _in_evaluation(net)
    return [module for module in net.modules() if getattr(module, "running_mean", None) is not None and module not in still]


@torch.no_grad()
def recompute_statistics(net: nn.Module, x: Tensor) -> None:
    """Replace running statistics by those of ``x``, from one clean pass: no noise, the weights as they are.

    A layer that is called several times in a pass gets the statistics of all that it was given. Layers in evaluation mode within
    a network in training mode keep theirs. Source: Ioffe & Szegedy 2015, Algorithm 2 ("precise" in Wu & Johnson 2021).
    Raises ValueError: a layer that is called several times, with input of shapes that cannot be pooled."""
    layers = _tracking(net)
    modes = {module: module.training for module in net.modules()}
    before = [(module, name, getattr(module, name)) for module in net.modules() for name in CLEAN if hasattr(module, name)]
    net.eval()
    for module, name, _ in before:
        setattr(module, name, CLEAN[name])
    for module in layers:
        module.train()
    try:
        calls = Counter()
        _pass(net, x, layers, lambda module, inputs: calls.update([module]))
        if several := [module for module in layers if calls[module] > 1]:
            inputs = {module: [] for module in several}  # Not kept the first time: for a convolutional network they are large.
            _pass(net, x, layers, lambda module, given: inputs.get(module, []).append(given[0]))
            for module in several:
                module.reset_running_stats()
                module(_pooled(module, inputs[module]))
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        for module, training in modes.items():
            module.training = training


def _pass(net: nn.Module, x: Tensor, layers: Sequence[nn.Module], note: Callable) -> None:
    """Through the network, with the statistics of these layers as new; ``note(layer, its inputs)`` at each call of one."""
    with ExitStack() as hooks:
        for module in layers:
            module.reset_running_stats()
            hooks.enter_context(module.register_forward_pre_hook(note))
        net(x)


def _pooled(module: nn.Module, inputs: list[Tensor]) -> Tensor:
    """The inputs of several calls as one."""
    if isinstance(module, (InstanceNorm, nn.modules.instancenorm._InstanceNorm)):
        if len({z.shape[1:] for z in inputs}) > 1:
            shapes = ", ".join(str(tuple(z.shape)) for z in inputs)
            raise ValueError(f"a {type(module).__name__} is called with {shapes}, which have no statistics in common; give each "
                             "place a layer of its own")
        return torch.cat(inputs)
    values = [z.movedim(1, -1).reshape(-1, z.shape[1]) for z in inputs]  # (examples and positions, channels)
    return torch.cat(values).reshape(-1, values[0].shape[1], *[1] * (inputs[0].dim() - 2))


@contextmanager
def frozen_statistics(net: nn.Module, x: Tensor):
    """Inside, batch normalization uses the statistics that ``x`` has now, as constants: no gradient flows through them, and
    they do not follow the weights. The outputs on ``x`` are those of training mode (not of ghost batches, which have no common
    statistics, nor of batch renormalization, which corrects them). Noise is off. Afterwards the network is as it was.
    Raises ValueError: a layer that is called several times in a pass: each call has its own statistics, the layer room for
    one."""
    values = {}

    def count(module, inputs):
        if module in values:
            raise ValueError(f"a {type(module).__name__} is called several times in a pass, with other statistics each time, of "
                             "which it can hold one; give each place a layer of its own")
        values[module] = inputs[0].numel() // module.num_features

    with untouched(net):
        with ExitStack() as hooks:
            for module in _tracking(net):
                hooks.enter_context(module.register_forward_pre_hook(count))
            recompute_statistics(net, x)
        for module, n in values.items():
            if getattr(module, "running_var", None) is not None:
                module.running_var *= (n - 1) / n  # Training divides by the variance of the batch, without Bessel's n - 1.
        yield net.eval()
