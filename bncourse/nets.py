"""The networks of the course, each taking ``norm=`` and ``init=`` by name.

``mlp`` builds one. ``Stack`` runs many of the same shape side by side: one batched matrix product a layer instead of one
small product a network, which is what makes an interval over seeds cheap enough for a laptop.
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bncourse import norms

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "linear": nn.Identity}
INITS = ("he", "glorot", "default")


def initialize(linear: nn.Linear, init: str | float, generator: torch.Generator) -> None:
    """Fill one linear layer in place.

    ``"he"``: N(0, 2/fan_in), bias 0 (He et al. 2015). ``"glorot"``: U(±sqrt(6/(fan_in + fan_out))), bias 0 (Glorot &
    Bengio 2010). ``"default"``: what ``torch.nn.Linear`` does, U(±1/sqrt(fan_in)) for weight and bias. A number:
    N(0, number²), bias 0.
    """
    weight, bias = linear.weight, linear.bias
    if init == "he":
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    elif init == "glorot":
        nn.init.xavier_uniform_(weight, generator=generator)
    elif init == "default":
        bound = linear.in_features ** -0.5
        nn.init.uniform_(weight, -bound, bound, generator=generator)
        nn.init.uniform_(bias, -bound, bound, generator=generator)
        return
    elif isinstance(init, (int, float)):
        nn.init.normal_(weight, 0.0, float(init), generator=generator)
    else:
        raise ValueError(f"unknown initialization {init!r}; there are {', '.join(INITS)}, or a standard deviation")
    nn.init.zeros_(bias)


class MLP(nn.Sequential):
    """What ``mlp`` builds: a plain ``Sequential``, named so that ``Stack`` knows how to join several."""


def mlp(sizes: Sequence[int], norm: str = "none", init: str | float = "he", activation: str = "relu", seed: int = 0,
        fused: bool = False, **norm_options) -> MLP:
    """A multilayer perceptron: (N, sizes[0]) -> (N, sizes[-1]).

    Every hidden layer ℓ = 1, 2, … is ``linearℓ``, ``normℓ``, ``actℓ``: the normalizer stands between the matrix product
    and the nonlinearity, where both papers put it. The output layer ``linearK`` has neither. The weights depend on
    ``seed`` alone, so networks that differ in ``norm`` start from the same ones.

    Raises:
        ValueError: fewer than two sizes, or an unknown normalizer, initialization or activation.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes={tuple(sizes)}: an MLP needs at least an input and an output size, e.g. (64, 100, 10)")
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; there are {', '.join(ACTIVATIONS)}")
    generator = torch.Generator().manual_seed(seed)
    layers = OrderedDict()
    for layer, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:]), start=1):
        # Without torch's own initialization, which would draw from the reader's random numbers.
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        initialize(linear, init, generator)
        layers[f"linear{layer}"] = linear
        if layer < len(sizes) - 1:
            layers[f"norm{layer}"] = norms.make(norm, fan_out, fused, **norm_options)
            layers[f"act{layer}"] = ACTIVATIONS[activation]()
    return MLP(layers)


def activations(model: nn.Module) -> dict[int, nn.Module]:
    """The nonlinearity of each hidden layer of an MLP, by layer number: what probes listen to."""
    return {int(name.removeprefix("act")): module for name, module in model.named_children() if name.startswith("act")}


class StackedLinear(nn.Module):
    """M linear layers at once: (1, M·in, B) -> (1, M·out, B)."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([linear.weight.detach() for linear in linears]))  # (M, out, in)
        self.bias = nn.Parameter(torch.stack([linear.bias.detach() for linear in linears]))  # (M, out)

    def forward(self, x: Tensor) -> Tensor:
        members, _, fan_in = self.weight.shape
        y = torch.baddbmm(self.bias[:, :, None], self.weight, x.view(members, fan_in, -1))
        return y.view(1, -1, y.shape[-1])


class Stack(nn.Module):
    """M networks from ``mlp``, of one shape, computed together: (M, B, features) -> (M, B, classes).

    Inside, activations are (1, M·width, B). To a normalizer that works channel by channel, M networks of F units are one
    network of M·F channels, so the layers of ``norms`` serve here as they are.
    """

    def __init__(self, models: Sequence[MLP]) -> None:
        super().__init__()
        models = [copy.deepcopy(model) for model in models]  # The joining below reuses their modules.
        self.members = len(models)
        self.layers = nn.Sequential(OrderedDict(
            (name, self._stack([getattr(model, name) for model in models])) for name, _ in models[0].named_children()))

    def _stack(self, modules: list[nn.Module]) -> nn.Module:
        first = modules[0]
        if isinstance(first, nn.Linear):
            return StackedLinear(modules)
        if isinstance(first, nn.Sequential):
            return nn.Sequential(*(self._stack(list(parts)) for parts in zip(*modules)))
        if not hasattr(first, "num_features"):
            return first  # An activation, noise, or nothing: the same for one unit or many.
        own = {**dict(first.named_parameters()), **dict(first.named_buffers())}
        for name, value in own.items():
            if value.dim():  # Per channel. Counters have no axis and are shared.
                joined = torch.cat([getattr(module, name).detach() for module in modules])
                setattr(first, name, nn.Parameter(joined) if name in first._parameters else joined)
        first.num_features *= len(modules)
        return first

    def forward(self, x: Tensor) -> Tensor:
        members, batch, features = x.shape
        logits = self.layers(x.transpose(1, 2).reshape(1, members * features, batch))
        return logits.view(members, -1, batch).transpose(1, 2)

    def per_member(self, parameter: Tensor) -> Tensor:
        """View a parameter (or anything of its shape) as (M, values of one network)."""
        return parameter.view(self.members, -1)
