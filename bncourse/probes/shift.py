"""How much does the gradient of a layer change when the layers below it take their step? Definition 2.1.

At step t, G_i is the gradient of the loss with respect to W_i, the weights of layer i: the direction in which layer i is about to
move. G_prime_i is the same gradient, on the same batch, once layers 1 to i-1 have already moved to where step t+1 puts them. If
the two agree, layer i was aiming at the right target. Source: Santurkar et al. 2018."""

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from bncourse.nets import Stack, StackedLinear
from bncourse.norms import BatchNorm, FusedBatchNorm
from bncourse.norms.checks import along, centred
from bncourse.probes.again import Start, known
from bncourse.train import Alone, member_losses, untouched

# They treat every example by itself and draw no random numbers, so several batches can go through as one.
PER_EXAMPLE = (nn.Linear, StackedLinear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d,
               nn.ConvTranspose3d, nn.Identity, nn.ReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.MaxPool2d,
               nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.LayerNorm, nn.GroupNorm)
BATCH_NORMS = BatchNorm, FusedBatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d


def shift(net: nn.Module, x: Tensor, y: Tensor, lr: float | Tensor, loss: Callable[[Tensor, Tensor], Tensor] | None = None,
          layers: Sequence[str] | None = None) -> pd.DataFrame:
    """Definition 2.1 of Santurkar et al. 2018 for all layers of ``net`` at once, for the SGD step on the batch (x, y).

    A layer is a linear or convolutional module, or another with a matrix called ``weight`` that is no normalizer; the layers
    are counted in the order in which the pass first uses their weights. What is used between one and the next belongs to the
    first of the two, matrices under other names (of attention, of recurrence) as well. A weight in several places is one layer.
    The step moves all parameters of a layer (bias, gamma and beta too); G and G_prime are with respect to its ``weight``. Batch
    statistics are computed anew for every G_prime, and a module that draws noise draws the same for all of them. The network is
    left exactly as it was.

    Args:
        net: a ``Stack`` with x (M, B, features), or one network with x (B, ...).
        lr: the learning rate of the step; for a ``Stack`` also one for each member, (M,).
        loss: (outputs, y) -> one number. Default: the loss of ``train``. A ``Stack`` knows no other.
        layers: report these only, by the names of the modules. Nothing is computed for others.

    Returns a row per (member, layer), layers counted from 1, in order: ``gradient_norm``, ‖G‖; ``l2``, ‖G - G_prime‖ (ideal 0);
    ``relative``, that divided by ‖G‖; ``cosine`` of the angle between the two (ideal 1); ``diverged``: G or G_prime is not finite
    (then ``l2`` and ``relative`` are infinite). Of a zero gradient ``relative`` and ``cosine`` are NaN; layers that the loss does
    not depend on have one, and come last.
    Raises ValueError: no layer, an unknown layer name, nothing that requires a gradient, a loss that is not one number, as many
    learning rates as there are no members, a network that is not the same function in every pass (``again.Start``). TypeError:
    x is not one tensor; without ``loss``, the outputs are not."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be one tensor, got {type(x).__name__}; put a network of several inputs into a module that takes "
                        "one, and picks it apart")
    members = net.members if isinstance(net, Stack) else 1
    rates = torch.as_tensor(lr, dtype=None if isinstance(lr, Tensor) else torch.float64)
    if rates.numel() not in (1, members):
        raise ValueError(f"lr of shape {tuple(rates.shape)} for " + (
            f"a stack of {members}: give one number, or one for each" if members > 1 else "one network: give one number"))
    lr = rates.item() if rates.numel() == 1 else rates.flatten().to(x.device)
    with torch.enable_grad():
        body = net.layers if isinstance(net, Stack) else net
        chain = _chain(net, body)
        found = _layers(dict(chain if chain else body.named_modules()))
        wanted = list(found) if layers is None else [layers] if isinstance(layers, str) else list(layers)
        unknown = [name for name in wanted if name not in found]
        if unknown or not wanted:
            raise ValueError(f"no layer called {', '.join(map(repr, unknown))}; there are {', '.join(found)}" if wanted else
                             f"layers={layers}: name at least one of {', '.join(found)}, or leave it out")
        if chain and all(_uses_batch_statistics(module) or (_is_per_example(module) and not getattr(module, "refuse_nonfinite", False))
                         for _, module in chain):  # They draw no random numbers, write no buffers and do not fail at NaN.
            pairs = _triangle(net, chain, found, wanted, x, y, lr, loss)
        else:
            with untouched(net), Start(net, x.device) as start:
                pairs = (_triangle(net, chain, found, wanted, x, y, lr, loss) if chain else
                         _pass_by_pass(net, found, wanted, x, y, lr, loss, start))

    # Four numbers of each pair, taken where the gradients are; in double precision where the device has it.
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    table = []
    for G, G_prime in pairs.values():
        g, g_prime = (gradient.reshape(members, -1).to(wide) for gradient in (G, G_prime))
        table += [g.norm(dim=1), g_prime.norm(dim=1), (g - g_prime).norm(dim=1), torch.linalg.vecdot(g, g_prime)]
    table = torch.stack(table).view(len(pairs), 4, members).permute(1, 2, 0).cpu().double().numpy()
    norm, norm_prime, l2, dot = (values.ravel() for values in table)  # (M · layers,) each
    with np.errstate(all="ignore"):  # What is infinite or 0/0 here is reported as such.
        relative, cosine = l2 / norm, dot / (norm * norm_prime)
    diverged = ~np.isfinite(l2)
    l2[diverged] = relative[diverged] = math.inf
    return pd.DataFrame({"member": np.repeat(np.arange(members), len(pairs)), "layer": np.tile(list(pairs), members),
                         "gradient_norm": norm, "l2": l2, "relative": relative, "cosine": cosine, "diverged": diverged},
                        copy=False)


class Shift:
    """``shift`` as a probe for ``train``: Definition 2.1 for the update that is about to be made. Its ``layer`` counts matrices;
    that of the probes of ``activations`` is the ℓ of ``actℓ``: the same layer in ``mlp`` and ``vgg``, but not in every
    network."""

    looks_at_update = True

    def __init__(self, layers: Sequence[str] | None = None) -> None:
        self.layers = layers

    def __call__(self, net: nn.Module, x: Tensor, step: int, *, y: Tensor, lr: Tensor) -> pd.DataFrame:
        if isinstance(net, Alone):
            net, x, y = net.layers, x[0], y[0]
        return shift(net, x, y, lr, layers=self.layers).drop(columns="diverged")  # ``train`` has a column of that name.


def _layers(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Those with a matrix or a kernel to learn, as they are registered; under each name, where two share one."""
    for name, module in modules.items():
        what = ""
        if parametrize.is_parametrized(module, "weight"):
            what = type(module.parametrizations.weight[0]).__name__
        elif isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, StackedLinear)) and "weight" not in module._parameters:
            what = ", ".join(module._parameters)
        if what:
            raise ValueError(f"the weight of {name} is computed from others ({what}); Definition 2.1 asks for the gradient of a "
                             "layer's own weight, so look at a network without it")
    found = {name: module for name, module in modules.items() if _is_layer(module)}
    learning = {name: module for name, module in found.items() if module.weight.requires_grad}
    if not learning:
        raise ValueError("the network has no layer to look at: nothing in it has a weight matrix or kernel" if not found else
                         f"no weight of {', '.join(found)} requires a gradient; Definition 2.1 is about gradients: "
                         "call net.requires_grad_(), or do not freeze every layer")
    return learning


def _chain(net: nn.Module, body: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The modules of a network that passes its input through one after another, each of a known kind, each parameter used once
    and no layer inside another module; None if it is not such a network."""
    if not all(map(known, net.modules())) or any(parameter._backward_hooks for parameter in net.parameters()):
        return None
    return _in_a_row(body)


def _in_a_row(body: nn.Module) -> list[tuple[str, nn.Module]] | None:
    if type(body).forward is not nn.Sequential.forward:
        return None
    chain = []
    for name, module in body._modules.items():  # named_children() would leave out the second use of a shared activation.
        inner = _in_a_row(module) if isinstance(module, nn.Sequential) else None
        chain += [(name, module)] if inner is None else [(f"{name}.{part}", inside) for part, inside in inner]
    inside = any(_is_layer(part) for _, module in chain for part in module.modules() if part is not module)
    used = [id(parameter) for _, module in chain for _, parameter in module.named_parameters(remove_duplicate=False)]
    return None if inside or len(used) > len(set(used)) else chain


def _is_layer(module: nn.Module) -> bool:
    matrix = isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.dim() > 1
    return matrix and not hasattr(module, "normalized_shape")  # A LayerNorm over several axes has no matrix, only scales.


def _loss(net, outputs: Tensor, y: Tensor, loss) -> Tensor:
    """The sum of the losses of all members."""
    if loss is None:
        if not isinstance(outputs, Tensor):
            raise TypeError(f"the outputs of the network are a {type(outputs).__name__}; give the loss that knows what to do "
                            "with it: loss=lambda outputs, y: ...")
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
    moved = {name: parameter.detach() for name, parameter in parameters.items()}
    for name in moved.keys() & gradients.keys():
        rate, parameter = lr, moved[name]
        if isinstance(lr, Tensor):  # One for each member, and members are the leading part of every parameter of a stack.
            rate = lr.repeat_interleave(len(parameter) // len(lr)).view(-1, *[1] * (parameter.dim() - 1)).to(parameter.dtype)
        moved[name] = parameter - rate * gradients[name]
    return moved


def _pass_by_pass(net, layers, wanted, x, y, lr, loss, start):
    """The definition as it is written: for each layer, one more pass of the whole network. {number: (G, G_prime)}."""
    parameters = dict(net.named_parameters())
    trainable = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    before = _loss(net, net(x), y, loss)
    first_use = _first_uses(before)
    gradients = _gradients(before, trainable)
    moved = _moved(net, parameters, gradients, lr)
    key_of = {id(parameter): key for key, parameter in parameters.items()}

    def used(module):
        return first_use.get(id(module.weight), math.inf)

    def gradient_of(weight, below):
        start.rewind()
        with _replaced({parameters[key]: moved[key] for key in below}):
            return _gradients(_loss(net, net(x), y, loss), {weight: parameters[weight]})[weight]

    # One name is enough of two that share a weight: that of the first.
    in_order = list(dict.fromkeys(id(module.weight) for module in sorted(layers.values(), key=used)))
    asked = {id(layers[name].weight) for name in wanted}
    pairs = {}
    for number, weight in enumerate(in_order, start=1):
        if weight not in asked:
            continue
        key = key_of[weight]
        own = {id(parameter) for module in layers.values() if id(module.weight) == weight
               for parameter in module.parameters(recurse=False)}
        # Nothing is below the first layer, not even a normalizer of the input.
        below = [key_of[one] for one, use in first_use.items() if one not in own and use < first_use.get(weight, -1)]
        pairs[number] = gradients[key], gradient_of(key, below) if number > 1 and below else gradients[key]
    if not start.all_known:
        start.rewind()
        start.check(before.detach(), _loss(net, net(x), y, loss).detach())
    return pairs


def _first_uses(total: Tensor) -> dict[int, int]:
    """When a pass first used each parameter that ``total`` depends on: id -> the number of the operation. The graph of autograd
    knows: its nodes are numbered as they were made. (Hooks on modules would miss what is used without calling a module.)"""
    first, seen, waiting = {}, set(), [total.grad_fn]
    while waiting:
        node = waiting.pop()
        for source, _ in node.next_functions if node is not None else ():
            parameter = getattr(source, "variable", None)
            if parameter is not None:
                first[id(parameter)] = min(first.get(id(parameter), math.inf), node._sequence_nr())
            elif source is not None and source not in seen:
                seen.add(source)
                waiting.append(source)
    return first


@contextmanager
def _replaced(values: dict[Tensor, Tensor]):
    """Other values in these parameters for a while. (functional_call would leave its own behind in a module used twice.)"""
    old = {parameter: parameter.data for parameter in values}
    try:
        for parameter, value in values.items():
            parameter.data = value
        yield
    finally:
        for parameter, value in old.items():
            parameter.data = value


def _triangle(net, chain, layers, wanted, x, y, lr, loss):
    """All of G_prime in one go, for networks that are a chain. {number: (G, G_prime)}.

    Variant i of the network has layers 1 to i-1 moved, so one pass of the moved network gives every variant its start, the moved
    input of layer i. From there all variants run through the old layers: at layer j those that started at or below j go through
    together, a triangle in place of k-1 whole passes. One backward pass then serves all, because the loss of variant i depends on
    the weight of layer i only through variant i's own entry."""
    parts = [module for _, module in chain]
    numbers = dict(zip((index for index, (name, _) in enumerate(chain) if name in layers), range(1, len(layers) + 1)))
    # Where a variant enters. Layer 1 has nothing below it: G_prime is G.
    starts = [index for index, number in numbers.items() if chain[index][0] in wanted and number > 1]
    old = [dict(module.named_parameters()) for module in parts]

    # The step itself, noting what each module that is not the same in every pass begins with.
    h, begins = _enter(net, x), []
    for module, own in zip(parts, old):
        begins.append(None if _is_per_example(module) or _uses_batch_statistics(module) else Start(module, x.device))
        h = _through(module, own, h, 1, begins[-1])
    trainable = {(index, name): parameter for index, own in enumerate(old) for name, parameter in own.items()
                 if parameter.requires_grad}
    gradients = _gradients(_loss(net, _leave(net, h, 1), y, loss), trainable)
    pairs = {number: (gradients[index, "weight"],) * 2 for index, number in numbers.items() if chain[index][0] in wanted}
    if not starts:
        return pairs

    # The moved network: what enters each layer.
    h, entries = _enter(net, x), {}
    with torch.no_grad():
        for index, module in enumerate(parts[:starts[-1] + 1]):
            if index in starts:
                entries[index] = h
            own = {name: gradients[index, name] for name in old[index] if (index, name) in gradients}
            h = _through(module, _moved(net, old[index], own, lr), h, 1, begins[index]) if index < starts[-1] else h

    # The triangle.
    carried, variants, arrivals = None, 0, []
    overwrites = any(getattr(module, "inplace", False) for module in parts)
    for index in range(starts[0], len(parts)):
        still = {name: parameter.detach() for name, parameter in old[index].items()}
        if index in starts:
            carried = entries[index] if carried is None else torch.cat([carried, entries[index]])
            variants += 1
        carried = _through(parts[index], still, carried, variants, begins[index])
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
    for variant, (start, delta) in enumerate(zip(starts, deltas)):
        delta, weight, h = delta.tensor_split(variant + 1)[-1], old[start]["weight"], entries[start]
        [G_prime] = torch.autograd.grad(functional_call(parts[start], {"weight": weight}, (h,)), weight, delta)
        pairs[numbers[start]] = pairs[numbers[start]][0], G_prime
    return pairs


def _through(module: nn.Module, parameters: dict[str, Tensor], h: Tensor, variants: int,
             begin: Start | None) -> Tensor:
    """Pass h, ``variants`` batches one after another along axis 0, through one module, each batch as if it were alone."""
    if _uses_batch_statistics(module):
        weight, bias = parameters.get("weight"), parameters.get("bias")
        if isinstance(module, BatchNorm):
            if h.shape[1] != module.num_features or h.numel() < 2 * variants * h.shape[1]:
                module(h)  # Raises: it knows best what is wrong with its input.
            h = h.unflatten(0, (variants, -1))
            rest, _, var = centred(h, [1, *range(3, h.dim())])
            weight, bias = (None if own is None else along(h[0], own) for own in (weight, bias))
            return BatchNorm.normalize(rest, var, module.eps, weight, bias).flatten(0, 1)
        module._check_input_dim(h)
        if variants > 1:  # To the fused kernel, the channels of several variants are so many channels.
            weight, bias = (None if own is None else own.repeat(variants) for own in (weight, bias))
            h = h.unflatten(0, (variants, -1)).movedim(0, 1).flatten(1, 2)
        h = F.batch_norm(h, None, None, weight, bias, training=True, eps=module.eps)
        return h if variants == 1 else h.unflatten(1, (variants, -1)).movedim(1, 0).flatten(0, 1)
    if _is_per_example(module):
        return functional_call(module, parameters, (h,)) if parameters else module(h)
    outputs = []
    for one in h.chunk(variants):
        begin.rewind()
        outputs.append(functional_call(module, parameters, (one.clone(),)))  # It may work in place.
    return torch.cat(outputs)


def _uses_batch_statistics(module: nn.Module) -> bool:
    return type(module) in BATCH_NORMS and (module.training or module.running_mean is None)


def _is_per_example(module: nn.Module) -> bool:
    return type(module) in PER_EXAMPLE or (type(module) in BATCH_NORMS and not _uses_batch_statistics(module))


def _enter(net: nn.Module, x: Tensor) -> Tensor:
    """What ``net.forward`` does before the first module."""
    return x.transpose(1, 2).reshape(1, -1, x.shape[1]) if isinstance(net, Stack) else x


def _leave(net: nn.Module, h: Tensor, variants: int) -> Tensor:
    """What it does after the last: (variants · M, B, outputs) for a stack, else (variants · B, outputs)."""
    return h.view(variants * net.members, -1, h.shape[-1]).transpose(1, 2) if isinstance(net, Stack) else h
