"""What every normalizer asks of its input, and the two small things they all do with tensors."""

import torch
from torch import Tensor


def check_dtype(name: str, x: Tensor, own: Tensor | None) -> None:
    """Refuse what is not floating point, or of another precision than ``own``, a parameter or buffer of the layer. Half
    precision on a float32 layer passes.

    Raises:
        TypeError: says which precision meets which.
    """
    if not x.is_floating_point():
        raise TypeError(f"{name} normalizes floating-point input, got {x.dtype}; convert it first: x.float()")
    half_on_float = x.dtype in (torch.float16, torch.bfloat16) and own is not None and own.dtype == torch.float32
    if own is not None and own.dtype != x.dtype and not half_on_float:
        raise TypeError(f"{name} holds {own.dtype} and got {x.dtype}; convert one of them: "
                        f"layer.to({x.dtype}) or x.to({own.dtype})")


def check_channels(name: str, x: Tensor, channels: int, argument: str = "num_features", axes: int = 2) -> None:
    """Refuse input that is not (N, ``channels``, ...) with at least ``axes`` axes.

    Raises:
        ValueError: says which shape came.
    """
    shape = tuple(x.shape)
    if not axes <= x.dim() <= 5:
        needs = {2: "(N, C) to (N, C, D, H, W), 2 to 5 axes", 3: "(N, C, L) to (N, C, D, H, W), 3 to 5 axes"}[axes]
        raise ValueError(f"{name} needs {needs}, got shape {shape}; a single example needs a batch axis: x[None]")
    if x.shape[1] != channels:
        raise ValueError(f"{name} was built for {channels} channels, got {x.shape[1]} in axis 1 of shape {shape}; "
                         f"set {argument}={x.shape[1]}, or move the channels to axis 1")


def widened(x: Tensor) -> Tensor:
    """At least float32: half precision has too few digits to add up many values in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def along(x: Tensor, per_channel: Tensor) -> Tensor:
    """Reshape C values so that they broadcast along the channel axis of x, (N, C, ...)."""
    return per_channel.reshape(1, -1, *[1] * (x.dim() - 2))
