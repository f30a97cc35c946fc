"""How much does the gradient of a layer change when the layers below it take their step? Definition 2.1.

Santurkar et al. 2018 asked what internal covariate shift would have to mean if it were to hurt an optimizer. At step t, G_i is
the gradient of the loss with respect to W_i, the weights of layer i: the direction in which layer i is about to move.
G_prime_i is the same gradient, on the same batch, once layers 1 to i-1 have already moved to where step t+1 puts them. If the
two agree, layer i was aiming at the right target; the difference is what the other layers' moving cost it.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from bncourse.nets import Stack, StackedLinear
from bncourse.norms import BatchNorm
from bncourse.norms.checks import along
from bncourse.train import Alone, member_losses, untouched

# They treat every example by itself and draw no random numbers, so several batches can go through as one.
PER_EXAMPLE = (nn.Linear, StackedLinear, _ConvNd, nn.Identity, nn.ReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU,
               nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.LayerNorm, nn.GroupNorm)


def shift(net: nn.Module, x: Tensor, y: Tensor, lr: float | Tensor, loss: Callable[[Tensor, Tensor], Tensor] | None = None,
          layers: Sequence[str] | None = None) -> pd.DataFrame:
    """Definition 2.1 of Santurkar et al. 2018 for all layers of ``net`` at once, for the SGD step on the batch (x, y).

    A layer is a linear or convolutional module; what follows it, up to the next layer, belongs to it. The step moves all
    parameters of a layer (bias, gamma and beta too); G and G_prime are with respect to its ``weight``. Batch statistics are
    computed anew for every G_prime, and a module that draws noise draws the same for all of them: the loss is one function,
    looked at with different weights. The network is left exactly as it was.

    Args:
        net: a ``Stack`` with x (M, B, features), or one network with x (B, ...).
        lr: the learning rate of the step; for a ``Stack`` also one for each member, (M,).
        loss: (outputs, y) -> one number. Default: the loss of ``train``. A ``Stack`` knows no other.
        layers: report these only, by the names of the modules.

    Returns:
        A row per (member, layer), layers counted from 1, in order: ``gradient_norm``, ‖G‖; ``l2``, ‖G - G_prime‖ (ideal 0);
        ``relative``, that divided by ‖G‖; ``cosine`` of the angle between the two (ideal 1); ``diverged``: G or G_prime is
        not finite (then ``l2`` and ``relative`` are infinite). A zero gradient has no direction: ``relative`` and ``cosine``
        are NaN there.

    Raises:
        ValueError: no layer, an unknown layer name, nothing that requires a gradient, a loss that is not one number.
    """
    with torch.enable_grad():
        chain = _chain(net)
        found = _layers(dict(chain) if chain else dict(net.named_modules()))
        unknown = [name for name in layers or () if name not in found]
        if unknown:
            raise ValueError(f"no layer called {', '.join(map(repr, unknown))}; there are {', '.join(found)}")
        if chain and all(_leaves_no_trace(module) for _, module in chain):
            G, G_prime = _triangle(net, chain, found, x, y, lr, loss)  # Draws no random numbers and writes no buffers.
        else:
            with untouched(net):
                G, G_prime = _triangle(net, chain, found, x, y, lr, loss) if chain else _pass_by_pass(net, found, x, y, lr, loss)

    members, k = getattr(net, "members", 1), len(found)
    g, g_prime = (torch.cat([one[name].reshape(members, -1) for name in found], 1).double().cpu().numpy() for one in (G, G_prime))
    first = np.cumsum([0] + [G[name].numel() // members for name in found])[:-1]

    def by_layer(products):  # (M, all weights) -> (M, layers)
        return np.add.reduceat(products, first, axis=1)

    with np.errstate(all="ignore"):  # What is infinite or 0/0 here is reported as such.
        norm, norm_prime, l2 = (np.sqrt(by_layer(v * v)) for v in (g, g_prime, g - g_prime))
        relative, cosine = l2 / norm, by_layer(g * g_prime) / (norm * norm_prime)
    diverged = ~np.isfinite(l2)
    l2[diverged] = relative[diverged] = math.inf
    columns = {"member": np.repeat(np.arange(members), k), "layer": np.tile(np.arange(k) + 1, members),
               "gradient_norm": norm.ravel(), "l2": l2.ravel(), "relative": relative.ravel(), "cosine": cosine.ravel(),
               "diverged": diverged.ravel()}
    frame = pd.DataFrame(columns, copy=False)
    if layers is None:
        return frame
    wanted = [layer for layer, name in enumerate(found, start=1) if name in layers]
    return frame[frame.layer.isin(wanted)].reset_index(drop=True)


class Shift:
    """``shift`` as a probe for ``train``: Definition 2.1 for the update that is about to be made."""

    looks_at_update = True

    def __init__(self, layers: Sequence[str] | None = None) -> None:
        self.layers = layers

    def __call__(self, net: nn.Module, x: Tensor, step: int, *, y: Tensor, lr: Tensor) -> pd.DataFrame:
        if isinstance(net, Alone):
            net, x, y = net.layers, x[0], y[0]
        return shift(net, x, y, lr, layers=self.layers).drop(columns="diverged")  # ``train`` has a column of that name.


def _layers(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Those with a matrix or a kernel to learn, in order."""
    for name, module in modules.items():
        if parametrize.is_parametrized(module, "weight"):
            raise ValueError(f"the weight of {name} is computed from others ({type(module.parametrizations.weight[0]).__name__}); "
                             "Definition 2.1 asks for the gradient of a layer's own weight, so look at a network without it")
    found = {name: module for name, module in modules.items() if _is_layer(module)}
    # A weight that several layers share is one layer's: the first's.
    first = {id(module.weight): name for name, module in reversed(found.items())}
    found = {name: module for name, module in found.items() if first[id(module.weight)] == name}
    learning = {name: module for name, module in found.items() if module.weight.requires_grad}
    if not learning:
        raise ValueError("the network has no layer to look at: nothing in it has a weight matrix or kernel" if not found else
                         f"no weight of {', '.join(found)} requires a gradient; Definition 2.1 is about gradients: "
                         "call net.requires_grad_(), or do not freeze every layer")
    return learning


def _chain(net: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The modules of a network that passes its input through one after another, each parameter used once and no layer
    inside another module; None if it is not such a network."""
    body = net.layers if isinstance(net, Stack) else net
    if type(body).forward is not nn.Sequential.forward:
        return None
    chain = []
    for name, module in body._modules.items():  # named_children() would leave out the second use of a shared activation.
        inner = _chain(module) if isinstance(module, nn.Sequential) else None
        chain += [(name, module)] if inner is None else [(f"{name}.{part}", inside) for part, inside in inner]
    inside = any(_is_layer(part) for _, module in chain for part in module.modules() if part is not module)
    used = [id(parameter) for _, module in chain for _, parameter in module.named_parameters(remove_duplicate=False)]
    return None if inside or len(used) > len(set(used)) else chain


def _is_layer(module: nn.Module) -> bool:
    return isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.dim() > 1


def _loss(net, outputs: Tensor, y: Tensor, loss) -> Tensor:
    """The sum of the losses of all members."""
    if loss is None:
        return (member_losses(outputs, y) if isinstance(net, Stack) else member_losses(outputs[None], y[None])).sum()
    if isinstance(net, Stack):
        raise ValueError("a Stack is measured with the loss of train; look at one network at a time for another loss")
    value = loss(outputs, y)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ValueError(f"the loss must be one number, got {getattr(value, 'shape', type(value).__name__)}; "
                         "average it over the batch: loss.mean()")
    return value.sum()


def _gradients(total: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    if not total.requires_grad:
        raise ValueError("the loss does not depend on anything that requires a gradient")
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(parameters, found))


def _moved(net, parameters: dict[str, Tensor], gradients: dict[str, Tensor], lr) -> dict[str, Tensor]:
    """All parameters after the step of SGD, detached; those without a gradient stay."""
    moved = {}
    for name, parameter in parameters.items():
        moved[name] = parameter.detach()
        if name in gradients and isinstance(lr, Tensor) and lr.numel() > 1:
            # One for each member, and members are the leading part of every parameter of a stack.
            rate = lr.repeat_interleave(len(parameter) // len(lr)).view(-1, *[1] * (parameter.dim() - 1))
            moved[name] = moved[name] - rate * gradients[name]
        elif name in gradients:
            moved[name] = moved[name] - lr * gradients[name]
    return moved


def _pass_by_pass(net, layers, x, y, lr, loss):
    """The definition as it is written: for each layer, one more pass of the whole network."""
    state = _random_state(x)
    parameters = dict(net.named_parameters())
    trainable = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    gradients = _gradients(_loss(net, net(x), y, loss), trainable)
    moved = _moved(net, parameters, gradients, lr)
    key_of = {id(parameter): key for key, parameter in parameters.items()}
    order, G, G_prime = list(parameters), {}, {}
    for name, module in layers.items():
        weight = key_of[id(module.weight)]
        # Below a layer is what is registered before it: other layers, with what stands between them and the next. Nothing is
        # below the first, not even a normalizer of the input.
        start = min(order.index(key_of[id(parameter)]) for parameter in module.parameters(recurse=False)) if G else 0
        _set_random_state(x, state)
        G[name] = gradients[weight]
        with _replaced({parameters[key]: moved[key] for key in order[:start]}):
            G_prime[name] = _gradients(_loss(net, net(x), y, loss), {weight: parameters[weight]})[weight]
    return G, G_prime


@contextmanager
def _replaced(values: dict[Tensor, Tensor]):
    """Other values in these parameters for a while. functional_call would leave its own behind in a module used twice."""
    old = {parameter: parameter.data for parameter in values}
    try:
        for parameter, value in values.items():
            parameter.data = value
        yield
    finally:
        for parameter, value in old.items():
            parameter.data = value


def _triangle(net, chain, layers, x, y, lr, loss):
    """All of G_prime in one go, for networks that are a chain.

    Variant i of the network has layers 1 to i-1 moved. Below layer i it is the moved network, so one pass of that gives every
    variant its start, the moved input of layer i. From there all variants run through the old layers: at layer j those that
    started at or below j go through together, a triangle in place of k-1 whole passes. One backward pass then serves all,
    because the loss of variant i depends on the weight of layer i only through variant i's own entry.
    """
    parts = [module for _, module in chain]
    starts = [index for index, (name, _) in enumerate(chain) if name in layers]
    old = [dict(module.named_parameters()) for module in parts]

    # The step itself, noting the random numbers each module is about to see.
    h, randomness = _enter(net, x), []
    for module, own in zip(parts, old):
        randomness.append(None if _is_per_example(module) or _uses_batch_statistics(module) else _random_state(x))
        h = _through(module, own, h, 1, randomness[-1])
    trainable = {(index, name): parameter for index, own in enumerate(old) for name, parameter in own.items()
                 if parameter.requires_grad}
    gradients = _gradients(_loss(net, _leave(net, h, 1), y, loss), trainable)
    G = {name: gradients[start, "weight"] for name, start in zip(layers, starts)}

    # The moved network: what enters each layer.
    h, entries = _enter(net, x), {}
    with torch.no_grad():
        for index, module in enumerate(parts[:starts[-1] + 1]):
            entries[index] = h
            own = {name: gradients[index, name] for name in old[index] if (index, name) in gradients}
            h = _through(module, _moved(net, old[index], own, lr), h, 1, randomness[index]) if index < starts[-1] else h

    # The triangle. Layer 1 has nothing below it: G_prime is G.
    G_prime = {name: gradient for name, gradient in G.items() if name == next(iter(layers))}
    if len(starts) == 1:
        return G, G_prime
    carried, variants, arrivals = None, 0, []
    overwrites = any(getattr(module, "inplace", False) for module in parts)
    for index in range(starts[1], len(parts)):
        still = {name: parameter.detach() for name, parameter in old[index].items()}
        if index in starts:
            carried = entries[index] if carried is None else torch.cat([carried, entries[index]])
            variants += 1
        carried = _through(parts[index], still, carried, variants, randomness[index])
        if index in starts:
            arrivals.append(carried if carried.requires_grad else carried.requires_grad_())
            carried = carried.clone() if overwrites else carried
    outputs = _leave(net, carried, variants)
    if loss is None:
        repeated = y.repeat(variants, *[1] * (y.dim() - 1)) if isinstance(net, Stack) else y.expand(variants, *y.shape)
        total = member_losses(outputs if isinstance(net, Stack) else outputs.unflatten(0, (variants, -1)), repeated).sum()
    else:
        total = sum(_loss(net, one, y, loss) for one in outputs.chunk(variants))
    # What the loss of each variant has to say about the output of the layer it entered at; from there to the weight.
    deltas = torch.autograd.grad(total, arrivals)
    for variant, (name, start, delta) in enumerate(zip(list(layers)[1:], starts[1:], deltas)):
        delta, weight = delta.tensor_split(variant + 1)[-1], old[start]["weight"]
        G_prime[name] = _weight_gradient(parts[start], weight, entries[start], delta)
    return G, G_prime


def _weight_gradient(module: nn.Module, weight: Tensor, h: Tensor, delta: Tensor) -> Tensor:
    """The gradient of a layer's weight, from what came in (h) and the gradient of what went out (delta)."""
    if type(module) is nn.Linear and h.dim() == 2:  # Not different from the general way, only faster.
        return delta.T @ h
    y = functional_call(module, {"weight": weight}, (h,))
    return torch.autograd.grad(y, weight, delta)[0]


def _through(module: nn.Module, parameters: dict[str, Tensor], h: Tensor, variants: int, randomness) -> Tensor:
    """Pass h, ``variants`` batches one after another along axis 0, through one module, each batch as if it were alone."""
    if _uses_batch_statistics(module):
        weight, bias = parameters.get("weight"), parameters.get("bias")
        if isinstance(module, BatchNorm):
            if h.shape[1] != module.num_features or h.numel() < 2 * variants * h.shape[1]:
                module(h)  # Raises: it knows best what is wrong with its input.
            h = h.unflatten(0, (variants, -1))
            var, mean = torch.var_mean(h, [1, *range(3, h.dim())], correction=0, keepdim=True)
            weight, bias = (None if own is None else along(h[0], own) for own in (weight, bias))
            return BatchNorm.normalize(h, mean, var, module.eps, weight, bias).flatten(0, 1)
        if variants > 1:  # To the fused kernel, the channels of several variants are so many channels.
            weight, bias = (None if own is None else own.repeat(variants) for own in (weight, bias))
            h = h.unflatten(0, (variants, -1)).movedim(0, 1).flatten(1, 2)
        h = F.batch_norm(h, None, None, weight, bias, training=True, eps=module.eps)
        return h if variants == 1 else h.unflatten(1, (variants, -1)).movedim(1, 0).flatten(0, 1)
    if type(module) is nn.Linear:  # Not different, only faster than the general way below.
        return F.linear(h, parameters["weight"], parameters.get("bias"))
    if _is_per_example(module):
        return functional_call(module, parameters, (h,)) if parameters else module(h)
    outputs = []
    for one in h.chunk(variants):
        _set_random_state(h, randomness)
        outputs.append(functional_call(module, parameters, (one.clone(),)))  # It may work in place.
    return torch.cat(outputs)


def _is_batch_norm(module: nn.Module) -> bool:
    return type(module).forward in (BatchNorm.forward, _BatchNorm.forward)


def _uses_batch_statistics(module: nn.Module) -> bool:
    return _is_batch_norm(module) and (module.training or module.running_mean is None)


def _is_per_example(module: nn.Module) -> bool:
    return isinstance(module, PER_EXAMPLE) or (_is_batch_norm(module) and not _uses_batch_statistics(module))


def _leaves_no_trace(module: nn.Module) -> bool:
    """Passing through it draws no random number, writes no buffer and does not fail at NaN."""
    return _uses_batch_statistics(module) or (_is_per_example(module) and not getattr(module, "refuse_nonfinite", False))


def _enter(net: nn.Module, x: Tensor) -> Tensor:
    """What ``net.forward`` does before the first module."""
    return x.transpose(1, 2).reshape(1, -1, x.shape[1]) if isinstance(net, Stack) else x


def _leave(net: nn.Module, h: Tensor, variants: int) -> Tensor:
    """What it does after the last: (variants · M, B, outputs) for a stack, else (variants · B, outputs)."""
    return h.view(variants * net.members, -1, h.shape[-1]).transpose(1, 2) if isinstance(net, Stack) else h


def _random_state(x: Tensor) -> Tensor:
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()


def _set_random_state(x: Tensor, state: Tensor) -> None:
    torch.cuda.set_rng_state(state, x.device) if x.is_cuda else torch.set_rng_state(state)
