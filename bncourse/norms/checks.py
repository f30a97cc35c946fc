"""What every normalizer asks of its input, and the small things they all do with tensors."""

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx, nn


def check_dtype(name: str, x: Tensor, own: Tensor | None) -> None:
    """Refuse (TypeError) what is not floating point, or of another precision than ``own``, a parameter or buffer of the layer.
    Half precision on a float32 layer passes."""
    if not x.is_floating_point():
        raise TypeError(f"{name} normalizes floating-point input, got {x.dtype}; convert it first: x.float()")
    half_on_float = x.dtype in (torch.float16, torch.bfloat16) and own is not None and own.dtype == torch.float32
    if own is not None and own.dtype != x.dtype and not half_on_float:
        raise TypeError(f"{name} holds {own.dtype} and got {x.dtype}; convert one of them: "
                        f"layer.to({x.dtype}) or x.to({own.dtype})")


def check_channels(name: str, x: Tensor, channels: int, argument: str = "num_features", axes: int = 2) -> None:
    """Refuse (ValueError) input that is not (N, ``channels``, ...) with at least ``axes`` axes."""
    shape = tuple(x.shape)
    if not axes <= x.dim() <= 5:
        needs = {2: "(N, C) to (N, C, D, H, W), 2 to 5 axes", 3: "(N, C, L) to (N, C, D, H, W), 3 to 5 axes"}[axes]
        raise ValueError(f"{name} needs {needs}, got shape {shape}; a single example needs a batch axis: x[None]")
    if x.shape[1] != channels:
        raise ValueError(f"{name} was built for {channels} channels, got {x.shape[1]} in axis 1 of shape {shape}; "
                         f"set {argument}={x.shape[1]}, or move the channels to axis 1")


def check_eps(name: str, eps: float | None, zero: bool) -> None:
    """Refuse (ValueError) an eps below zero, whose root is NaN, and unless ``zero`` is allowed, zero: a channel may be
    constant."""
    if eps is not None and not (eps > 0 or zero and eps == 0):
        raise ValueError(f"{name}: eps must be {'at least 0' if zero else 'positive'}, but got {eps}: it is added to a variance "
                         "before the root is taken; 1e-5 is usual")


def check_finite(mean: Tensor) -> None:
    """Refuse (ValueError) a batch with NaN or infinity, by what that made of the C means of its channels: no pass over the data.
    While torch compiles, exports or traces, on meta and fake tensors and under vmap there are no numbers to look at."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    finite = torch.isfinite(mean.detach().flatten())
    try:
        if finite.all():
            return
    except RuntimeError:  # There is nothing behind this tensor that could be true or false.
        return
    channels = (~finite).nonzero().flatten().tolist()
    raise ValueError(f"NaN or infinity in the batch, channels {channels[:5]}{'...' if len(channels) > 5 else ''} (or values too "
                     "large to add up): one such value spoils every output of its channel and the running statistics for "
                     "good; look for what produced it (often a learning rate that is too large)")


def as_one_node(forward: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[nn.Module, Tensor], Tensor]:
    """Let ``torch.fx`` write this ``forward`` down as one call of the layer, as it does for those of torch: it decides by the
    shape of its input, which is not known there."""
    @functools.wraps(forward)
    def traced(self, x):
        if isinstance(x, fx.Proxy):
            return x.tracer.create_proxy("call_module", x.tracer.path_of_module(self), (x,), {})
        return forward(self, x)
    # torch.compile counts how often it compiled a piece of code, and gives up at eight: each layer has a copy.
    traced.__code__ = traced.__code__.replace(co_name=forward.__qualname__)
    return traced


def scaled_and_shifted(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def widened(x: Tensor) -> Tensor:
    """At least float32: half precision has too few digits to add up many values in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def along(x: Tensor, per_channel: Tensor) -> Tensor:
    """Reshape C values so that they broadcast along the channel axis of x, (N, C, ...)."""
    return per_channel.reshape(1, -1, *[1] * (x.dim() - 2))


def average(x: Tensor, axes: Sequence[int]) -> Tensor:
    """``x.mean(axes, keepdim=True)``, whose gradient would be a tensor of the size of x; that of a sum is a view."""
    return x.sum(axes, keepdim=True) / math.prod([x.shape[axis] for axis in axes])


def centred(x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """x without its mean over ``axes``, that mean, and the variance (divided by n, not n - 1); both keep the axes.
    E[x²] - E[x]² would cancel to garbage for a large mean; ``torch.var_mean`` takes ten times as long on a CPU."""
    rest = x - (mean := average(x, axes))
    return rest, mean, average(rest.square(), axes)
