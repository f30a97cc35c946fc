"""The networks of the course, each taking ``norm=`` and ``init=`` by name.

``Stack`` runs many of the same shape side by side: one batched matrix product a layer instead of one small product a network,
which is what makes an interval over seeds cheap enough for a laptop."""

import copy
import re
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncourse import norms
from bncourse.norms.checks import along

# By name: number of units -> module.
ACTIVATIONS = {"relu": lambda units: nn.ReLU(), "sigmoid": lambda units: nn.Sigmoid(), "tanh": lambda units: nn.Tanh(),
               "linear": lambda units: nn.Identity(), "tlu": norms.TLU}
INITS = ("he", "glorot", "default")
RULES = ("plain", "fixup", "skipinit")


def initialize(linear: nn.Linear | nn.Conv2d, init: str | float, generator: torch.Generator) -> None:
    """Fill one linear or convolutional layer in place. The fan of a convolution counts the positions of its kernel.

    ``"he"``: N(0, 2/fan_in), bias 0 (He et al. 2015). ``"glorot"``: U(±sqrt(6/(fan_in + fan_out))), bias 0 (Glorot & Bengio
    2010). ``"default"``: as in torch, U(±1/sqrt(fan_in)) for weight and bias. A number: N(0, number²), bias 0."""
    weight, bound = linear.weight, linear.weight[0].numel() ** -0.5 if init == "default" else 0.0
    if init == "he":
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    elif init == "glorot":
        nn.init.xavier_uniform_(weight, generator=generator)
    elif init == "default":
        nn.init.uniform_(weight, -bound, bound, generator=generator)
    elif isinstance(init, (int, float)):
        nn.init.normal_(weight, 0.0, float(init), generator=generator)
    else:
        raise ValueError(f"unknown initialization {init!r}; there are {', '.join(INITS)}, or a standard deviation")
    if linear.bias is not None:
        nn.init.uniform_(linear.bias, -bound, bound, generator=generator) if bound else nn.init.zeros_(linear.bias)


def _layer(inputs: int, outputs: int, init: str | float, generator: torch.Generator, convolution: bool = False,
           bias: bool = True) -> nn.Linear | nn.Conv2d:
    """A linear layer, or a 3×3 convolution. Torch's own initialization leaves the reader's random numbers as they were."""
    kind, options = (nn.Conv2d, {"kernel_size": 3, "padding": 1}) if convolution else (nn.Linear, {})
    with torch.random.fork_rng(devices=[]):  # ``nn.utils.skip_init`` takes three times as long.
        layer = kind(inputs, outputs, bias=bias, device="cpu", **options)
    initialize(layer, init, generator)
    return layer


def normalized(layer: nn.Linear | nn.Conv2d, norm: str, fused: bool = False, **norm_options) -> nn.Module:
    """The normalizer called ``norm``, to stand behind ``layer``. One that normalizes weights is put on the weight of ``layer``
    instead, and ``Identity`` stands behind. Raises ValueError: an unknown normalizer."""
    normalizer = norms.make(norm, len(layer.weight), fused, **norm_options)
    if not getattr(normalizer, "normalizes_weights", False):
        return normalizer
    parametrize.register_parametrization(layer, "weight", normalizer)
    return nn.Identity()


class MLP(nn.Sequential):
    """What ``mlp`` and ``residual_mlp`` build: a plain ``Sequential``, named so that ``Stack`` knows how to join several."""


def mlp(sizes: Sequence[int], norm: str = "none", init: str | float = "he", activation: str = "relu", seed: int = 0,
        fused: bool = False, bias: bool = True, **norm_options) -> MLP:
    """A multilayer perceptron: (N, sizes[0]) -> (N, sizes[-1]).

    Every hidden layer ℓ = 1, 2, … is ``linearℓ``, ``normℓ``, ``actℓ``; both papers put the normalizer there. The output layer
    ``linearK`` has neither. The weights depend on ``seed`` alone, so networks that differ in ``norm`` start from the same ones.
    Raises ValueError: fewer than two sizes, or an unknown normalizer, initialization or activation."""
    if len(sizes) < 2:
        raise ValueError(f"sizes={tuple(sizes)}: an MLP needs at least an input and an output size, e.g. (64, 100, 10)")
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; there are {', '.join(ACTIVATIONS)}")
    generator = torch.Generator().manual_seed(seed)
    layers = OrderedDict()
    for layer, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:]), start=1):
        layers[f"linear{layer}"] = linear = _layer(fan_in, fan_out, init, generator, bias=bias)
        if layer < len(sizes) - 1:
            layers[f"norm{layer}"] = normalized(linear, norm, fused, **norm_options)
            layers[f"act{layer}"] = ACTIVATIONS[activation](fan_out)
    return MLP(layers)


def deep_linear(width: int = 10, depth: int = 25, norm: str = "none", init: str | float = "glorot", seed: int = 0,
                fused: bool = False, **norm_options) -> MLP:
    """``depth`` square matrices in a row and nothing between them but the normalizer: (N, width) -> (N, width).

    The deep linear network of Santurkar et al. 2018, Appendix A, for ``data.linear_map``. The paper does not say where its batch
    normalization stands or whether it learns a scale and a shift; here it follows every matrix but the last, and learns both."""
    return mlp([width] * (depth + 1), norm, init, "linear", seed, fused, bias=False, **norm_options)


class Scalar(nn.Module):
    """One learned number for the whole layer, (N, C, ...) -> the same: ``operation`` "multiply" or "add"."""

    def __init__(self, operation: str, value: float) -> None:
        super().__init__()
        self.operation = operation
        self.value = nn.Parameter(torch.full((1,), value))

    def forward(self, x: Tensor) -> Tensor:
        # Networks computed together have a number each, for their own equal share of the channels.
        value = along(x, self.value.repeat_interleave(x.shape[1] // len(self.value)))
        return x * value if self.operation == "multiply" else x + value

    def extra_repr(self) -> str:
        return self.operation


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Sequential) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def residual_block(channels: int, norm: str = "none", rule: str = "plain", *, blocks: int = 1, convolution: bool = False,
                   init: str | float = "he", seed: int = 0, generator: torch.Generator | None = None, fused: bool = False,
                   **norm_options) -> Residual:
    """x + branch(x), (N, channels, ...) -> the same. The branch is twice: normalizer, ReLU, linear layer (or 3×3 convolution),
    the order of He et al. 2016b ("pre-activation").

    Args:
        rule: how the branch is initialized, for a network of ``blocks`` such blocks.
            ``"plain"``: as ``init`` says.
            ``"skipinit"``: a learned number, at first 0, multiplies the branch (De & Smith 2020, section 4).
            ``"fixup"``: the first layer's weights are divided by sqrt(blocks), the second's are 0; a learned number, at first 1,
            multiplies the branch, and a learned number, at first 0, is added before each layer and each ReLU (Zhang, Dauphin &
            Ma 2019, section 4; for two layers a branch L^(-1/(2m-2)) is blocks^(-1/2)). The network's last layer should be 0 too.
    Raises ValueError: an unknown rule, normalizer or initialization; fixup with weight normalization, which has no 0."""
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; there are {', '.join(RULES)}")
    generator = torch.Generator().manual_seed(seed) if generator is None else generator
    branch = OrderedDict()
    for half in (1, 2):
        layer = _layer(channels, channels, init, generator, convolution)
        if rule == "fixup":
            with torch.no_grad():
                layer.weight *= 0 if half == 2 else blocks ** -0.5
        branch[f"norm{half}"] = normalized(layer, norm, fused, **norm_options)
        if rule == "fixup":
            branch[f"before_act{half}"] = Scalar("add", 0.0)
        branch[f"act{half}"] = nn.ReLU()
        if rule == "fixup":
            branch[f"before_layer{half}"] = Scalar("add", 0.0)
        branch[f"layer{half}"] = layer
    if rule != "plain":
        branch["scale"] = Scalar("multiply", 0.0 if rule == "skipinit" else 1.0)
    return Residual(nn.Sequential(branch))


def residual_mlp(features: int, width: int, blocks: int, classes: int, norm: str = "none", rule: str = "plain",
                 init: str | float = "he", seed: int = 0, fused: bool = False, **norm_options) -> MLP:
    """A residual network of linear layers: (N, features) -> (N, classes).

    ``linear1``, then ``block1`` to ``blockK`` (see ``residual_block``), ``norm2``, ``act2`` and ``linear2``. With the rule
    fixup, ``linear2`` starts at 0. The weights depend on ``seed`` (and the rule) alone. Raises ValueError: as ``residual_block``.
    """
    return MLP(_residual("linear1", features, width, classes, blocks, norm, rule, init, seed, fused, norm_options))


def _residual(first: str, features: int, width: int, classes: int, blocks: int, norm: str, rule: str, init: str | float,
              seed: int, fused: bool, norm_options: dict) -> OrderedDict:
    """The layer called ``first``, ``blocks`` of its kind, ``norm2``, ``act2``, ``linear2``."""
    generator, convolution = torch.Generator().manual_seed(seed), first == "conv1"
    layers = OrderedDict({first: _layer(features, width, init, generator, convolution)})
    last = _layer(width, classes, init, generator)
    if rule == "fixup":
        nn.init.zeros_(last.weight)
    for block in range(1, blocks + 1):
        layers[f"block{block}"] = residual_block(width, norm, rule, blocks=blocks, convolution=convolution, init=init,
                                                 generator=generator, fused=fused, **norm_options)
    # Behind the last block, where the skip has carried everything so far. Normalized weights need no layer here.
    behind = norms.make(norm, width, fused, **norm_options)
    layers["norm2"] = nn.Identity() if getattr(behind, "normalizes_weights", False) else behind
    layers["act2"], layers["linear2"] = nn.ReLU(), last
    return layers


def resnet(image: Sequence[int], classes: int, channels: int = 16, blocks: int = 3, norm: str = "none", rule: str = "plain",
           init: str | float = "he", seed: int = 0, fused: bool = False, **norm_options) -> nn.Sequential:
    """A residual network of 3×3 convolutions at one width: (N, channels, height, width) -> (N, classes).

    ``conv1``, ``block1`` to ``blockK``, ``norm2``, ``act2``, the mean over positions (``pool``), ``linear2``. Otherwise as
    ``residual_mlp``, without the halvings of He et al. 2016. Raises ValueError: an image without three axes; as that."""
    _check_image("ResNet", image)
    layers = _residual("conv1", image[0], channels, classes, blocks, norm, rule, init, seed, fused, norm_options)
    layers |= dict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear2=layers.pop("linear2"))
    return nn.Sequential(layers)


# Channels of one 3×3 convolution after another; "M" halves height and width.
VGG_PLANS = {
    "small": (8, 8, "M", 16, 16, "M", 32, 32, "M"),
    "11": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "13": (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "16": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
}


def vgg(image: Sequence[int], classes: int, plan: str = "small", norm: str = "none", init: str | float = "glorot",
        seed: int = 0, fused: bool = False, shrink: int = 1, **norm_options) -> nn.Sequential:
    """A VGG network: (N, channels, height, width) -> (N, classes).

    ``convℓ``, ``normℓ``, ``actℓ`` for ℓ = 1, 2, …, with pooling in between, and one linear layer ``linearK`` on the flat end.
    Plans 11, 13 and 16 are VGG-A, B and D of Simonyan & Zisserman 2015 with one linear layer in place of three, as is usual for
    small images; ``small`` trains on a CPU. ``shrink`` divides all channels: plan 16 with ``shrink=16`` trains on a CPU too.
    Santurkar et al. 2018 do not say which VGG they used; they plot layer 13. An image too small to be halved is not.
    Raises ValueError: an image without three axes, an unknown plan, normalizer or initialization."""
    _check_image("VGG", image)
    if plan not in VGG_PLANS:
        raise ValueError(f"unknown plan {plan!r}; there are {', '.join(VGG_PLANS)}")
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = image
    layers, layer = OrderedDict(), 0
    for step in VGG_PLANS[plan]:
        if step == "M":
            if min(height, width) >= 2:
                layers[f"pool{layer}"] = nn.MaxPool2d(2)
                height, width = height // 2, width // 2
            continue
        layer, before, channels = layer + 1, channels, max(1, step // shrink)
        layers[f"conv{layer}"] = conv = _layer(before, channels, init, generator, convolution=True)
        layers[f"norm{layer}"] = normalized(conv, norm, fused, **norm_options)
        layers[f"act{layer}"] = nn.ReLU()
    layers["flatten"] = nn.Flatten()
    layers[f"linear{layer + 1}"] = _layer(channels * height * width, classes, init, generator)
    return nn.Sequential(layers)


def _check_image(name: str, image: Sequence[int]) -> None:
    if len(image) != 3:
        raise ValueError(f"image={tuple(image)}: a {name} needs (channels, height, width); for flat data, data.as_images(...)")


def activations(model: nn.Module) -> dict[int, nn.Module]:
    """The nonlinearity of each hidden layer, by layer number: what probes listen to. One module may have several numbers."""
    return {int(name.removeprefix("act")): module for name, module in model._modules.items()
            if module is not None and re.fullmatch("act[0-9]+", name)}


class StackedLinear(nn.Module):
    """M linear layers at once: (V, M·in, B) -> (V, M·out, B). V is 1 in training; probes put several variants there."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        computed = parametrize.is_parametrized(linears[0], "weight")
        own = [linear.parametrizations.weight for linear in linears] if computed else None
        # Of a normalized weight, what stands behind it: the weight itself may be 0, which has no direction.
        behind = "weight" if own is None else "parametrizations.weight.original" + ("" if own[0].is_tensor else "1")
        self.weight = nn.Parameter(torch.stack([linear.get_parameter(behind).detach() for linear in linears]))  # (M, out, in)
        self.bias = None if linears[0].bias is None else nn.Parameter(
            torch.stack([linear.bias.detach() for linear in linears]))  # (M, out)
        if own is not None:
            parametrize.register_parametrization(self, "weight", own[0][0].stacked())
            for name, joined in self.parametrizations.weight.named_parameters():
                joined.data = torch.stack([each.get_parameter(name).detach() for each in own])

    def forward(self, x: Tensor) -> Tensor:
        variants, _, batch = x.shape
        weight, bias = self.weight, self.bias  # Once: a normalized weight is computed whenever it is asked for.
        x = x.view(-1, weight.shape[2], batch)
        if variants > 1:
            weight, bias = (None if own is None else own.repeat(variants, *[1] * (own.dim() - 1)) for own in (weight, bias))
        y = torch.bmm(weight, x) if bias is None else torch.baddbmm(bias[:, :, None], weight, x)
        return y.view(variants, -1, batch)


class ExamplesFirst(nn.Module):
    """A normalizer that tells examples apart by axis 0, for a stack, which has them on axis 2: (V, C, B) -> (V, C, B)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        variants, channels, batch = x.shape
        y = self.layer(x.transpose(1, 2).reshape(variants * batch, channels))
        return y.view(variants, batch, channels).transpose(1, 2)


# What a stack computes as it is: layer by layer what ``mlp`` and ``residual_mlp`` put together. Exactly these types: what a
# subclass does, nobody knows.
CONTAINERS = (MLP, nn.Sequential, Residual)
NORMALIZES_WEIGHTS = (norms.WeightNorm, norms.WeightStandardization)
JOINED = (nn.Linear, nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Identity, Scalar, norms.TLU, norms.BatchNorm, norms.FusedBatchNorm,
          norms.NoisyBatchNorm, norms.FusedNoisyBatchNorm, norms.CovariateNoise, norms.FrozenBatchNorm, norms.LpNorm,
          norms.GroupNorm, norms.FusedGroupNorm, norms.ChannelRMSNorm, norms.FilterResponseNorm, norms.DynamicTanh,
          norms.GhostBatchNorm, norms.FusedGhostBatchNorm, norms.BatchRenorm, nn.BatchNorm1d)


def stackable(models: Sequence[nn.Module]) -> str:
    """Why ``Stack`` would not compute what these networks compute one by one; "" where it provably does.

    It does for networks of ``mlp`` and ``residual_mlp`` as they were built: known layers of the same settings and shapes in the
    same places, nothing shared, frozen, hooked or put in evaluation mode by itself. A layer of your own may join if it computes
    each channel from that channel alone, for (N, C) and (N, C, L), and keeps its parameters and buffers by channel; its class
    says so: ``channel_by_channel = True``."""
    wanted = None
    for model in {id(model): model for model in models}.values():
        if type(model) is not MLP:
            return f"a {type(model).__name__} is none of mlp or residual_mlp"
        own = []
        for place, module in model.named_modules(remove_duplicate=False):
            if why := _stands_alone(place, module, model):
                return why
            own.append(_settings(place, module))
        if why := _shared(model):
            return why
        wanted = wanted or own
        if own != wanted:
            place = next((one[0] for one, other in zip(own, wanted) if one != other), "one of them")
            return f"the networks differ in {place or 'themselves'}"
    return ""


def _stands_alone(place: str, module: nn.Module, model: MLP) -> str:
    """Why this module of a network cannot be joined with others of its kind."""
    kind, children = parametrize.type_before_parametrizations(module), list(module._modules)
    inside = place.endswith("parametrizations") and type(module) is nn.ModuleDict
    declared = vars(kind).get("channel_by_channel", False)  # Of this very class: what one derived from it does, nobody knows.
    if not inside and not declared and kind not in (*CONTAINERS, *JOINED, *NORMALIZES_WEIGHTS, parametrize.ParametrizationList):
        return f"{place} is a {kind.__name__}"
    if parametrize.is_parametrized(module):
        chain = getattr(module.parametrizations, "weight", ())
        known = [getattr(one, "dim", None) is not None for one in chain if type(one) in NORMALIZES_WEIGHTS]
        if kind is not nn.Linear or list(module.parametrizations) != ["weight"] or len(chain) != 1 or known != [True]:
            return f"{place} has parameters that are computed from others"
        children.remove("parametrizations")
    if kind in JOINED and children:
        return f"{place} holds {', '.join(children)}"
    if any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)):
        return f"{place} has hooks"
    if module.training != model.training:
        return f"{place} is in {'training' if module.training else 'evaluation'} mode by itself"
    for name, value in vars(module).items():
        if not name.startswith("_") and not isinstance(value, (bool, int, float, str, tuple, list, type(None))):
            return f"{place} has a {name} of its own"
    for name, own in module._parameters.items():
        axes = 2 if kind is nn.Linear and name == "weight" else None if inside or "parametrizations" in place else 1
        if own is not None and (type(own) is not nn.Parameter or axes not in (None, own.dim())):
            return f"{place}.{name} is not the parameter that a {kind.__name__} has"
        if own is not None and not own.requires_grad:
            return f"{place}.{name} is frozen"
        if own is not None and (own._backward_hooks or own._post_accumulate_grad_hooks):
            return f"{place}.{name} has hooks"
    return ""


def _settings(place: str, module: nn.Module) -> tuple:
    """What has to be the same in every network of a stack."""
    public = {name: value for name, value in vars(module).items() if name[0] != "_"} | {
        name: getattr(module, name) for name in ("refuse_nonfinite", "noise_seeds") if hasattr(module, name)}
    tensors = [(name, own.shape, own.dtype, own.device) for kind in (module._parameters, module._buffers)
               for name, own in kind.items() if own is not None]
    # Counters have no axis and are shared by all members.
    shared = [(name, own.item()) for name, own in module._buffers.items() if own is not None and own.dim() == 0]
    return place, parametrize.type_before_parametrizations(module), public, list(module._modules), tensors, shared


def _shared(model: nn.Module) -> str:
    seen = {}
    for place, module in model.named_modules(remove_duplicate=False):
        tensors = [(f"{place}.{name}", own) for kind in (module._parameters, module._buffers)
                   for name, own in kind.items() if own is not None and own.numel()]
        for name, key in [(place, id(module)), *((name, own.untyped_storage().data_ptr()) for name, own in tensors)]:
            if seen.setdefault(key, name) != name:
                return f"{seen[key]} and {name} are one and the same"
    return ""


class Stack(nn.Module):
    """M networks from ``mlp`` or ``residual_mlp``, of one shape, computed together: (M, B, features) -> (M, B, classes).

    Inside, activations are (1, M·width, B): to a normalizer that works channel by channel, M networks of F units are one of M·F
    channels, so the layers of ``norms`` serve here as they are. Raises ValueError: networks that are not ``stackable``; says why.
    """

    flat = True  # takes flat examples

    def __init__(self, models: Sequence[MLP]) -> None:
        super().__init__()
        if why := stackable(models):
            raise ValueError(f"these networks cannot be computed together: {why}; pass them one by one")
        self.members = len(models)
        models = [copy.deepcopy(models[0]), *models[1:]]  # The joining reuses the modules of the first, and reads the others.
        self.layers = nn.Sequential(OrderedDict(
            (name, self._stack([getattr(model, name) for model in models])) for name, _ in models[0].named_children()))

    def _stack(self, modules: list[nn.Module]) -> nn.Module:
        first = modules[0]
        if isinstance(first, nn.Linear):
            return StackedLinear(modules)
        if isinstance(first, (nn.Sequential, Residual)):
            for name, _ in list(first.named_children()):
                setattr(first, name, self._stack([getattr(module, name) for module in modules]))
            return first
        own = {**dict(first.named_parameters()), **dict(first.named_buffers())}
        for name, value in own.items():  # Without any it is an activation, noise, or nothing: the same for one unit or many.
            if value.dim():  # Per channel. Counters have no axis and are shared.
                joined = torch.cat([getattr(module, name).detach() for module in modules])
                setattr(first, name, nn.Parameter(joined) if name in first._parameters else joined)
        for name in ("num_features", "num_channels", "num_groups"):
            if hasattr(first, name):
                setattr(first, name, getattr(first, name) * len(modules))
        return ExamplesFirst(first) if getattr(first, "examples_first", False) else first

    def forward(self, x: Tensor) -> Tensor:
        members, batch, features = x.shape
        logits = self.layers(x.transpose(1, 2).reshape(1, members * features, batch))
        return logits.view(members, -1, batch).transpose(1, 2)

    def per_member(self, parameter: Tensor) -> Tensor:
        """A parameter (or anything of its shape) as (M, values of one network)."""
        return parameter.view(self.members, -1)
