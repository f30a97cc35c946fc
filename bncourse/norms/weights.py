"""Normalizers of weights. Neither looks at the data; each is a parametrization of the layer it serves:

    torch.nn.utils.parametrize.register_parametrization(linear, "weight", WeightNorm())"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bncourse.norms.checks import centred, check_eps, widened


def _other_axes(weight: Tensor, dim: int | Sequence[int]) -> list[int]:
    kept = [axis % weight.dim() for axis in ([dim] if isinstance(dim, int) else dim)]
    if others := [axis for axis in range(weight.dim()) if axis not in kept]:
        return others
    raise ValueError(f"a weight of shape {tuple(weight.shape)} has one value for each entry of axis {dim}: no vector to "
                     "normalize; use dim=None, or a layer with more than one input")


def _behind_members(dim: int | Sequence[int]) -> list[int]:
    """The same axes of many weights along a new first axis, and that one."""
    return [0, *(axis + 1 if axis >= 0 else axis for axis in ([dim] if isinstance(dim, int) else dim))]


class WeightNorm(nn.Module):
    """w = g * v / ‖v‖, one length ``g`` and direction ``v`` for every output.

    Twin of ``torch.nn.utils.parametrizations.weight_norm``, with the same parameters: ``original0`` is g, ``original1`` is v.
    ``dim`` is the axis of the outputs; ``None`` and, as there, -1 mean one length for the whole weight.
    Source: Salimans & Kingma 2016, equation 2.
    Raises ValueError: a vector of zeros, which has no direction; one value for each output."""

    normalizes_weights = True

    def __init__(self, dim: int | Sequence[int] | None = 0) -> None:
        super().__init__()
        self.dim = None if dim == -1 else dim

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return v * (g / self._length(v))

    def _length(self, v: Tensor) -> Tensor:
        if self.dim is None:
            return torch.linalg.vector_norm(v)
        return torch.linalg.vector_norm(v, dim=_other_axes(v, self.dim), keepdim=True)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        g = self._length(weight)
        if not g.all():
            raise ValueError(f"a weight of shape {tuple(weight.shape)} with a vector of zeros, which has no direction; "
                             "initialize it with other values before weight normalization")
        return g, weight

    def stacked(self) -> "WeightNorm":
        if self.dim is None:
            raise ValueError("many weights together need a length each: use dim=0")
        return WeightNorm(_behind_members(self.dim))

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class WeightStandardization(nn.Module):
    """(w - mean) / sqrt(var + eps) over the inputs of every output: axis 0 of (out, in) or (out, in, height, width).

    Source: Qiao et al. 2019, equation 7; meant to stand before a group normalization, which removes the scale again. Where
    nothing does, ``scaled=True`` multiplies by sqrt(2 / (1 - 1/pi)) / sqrt(fan_in), which keeps the variance in a ReLU network
    (Brock, De & Smith 2021, section 3; without their learned gain).
    Raises ValueError: one input, of which nothing is left when its mean is taken off; an eps below zero."""

    normalizes_weights = True

    def __init__(self, eps: float = 1e-5, scaled: bool = False, dim: int | Sequence[int] = 0) -> None:
        super().__init__()
        check_eps(type(self).__name__, eps, zero=True)
        self.eps, self.scaled, self.dim = eps, scaled, dim

    def forward(self, weight: Tensor) -> Tensor:
        axes = _other_axes(weight, self.dim)
        fan_in = math.prod(weight.shape[axis] for axis in axes)
        if fan_in < 2:
            raise ValueError(f"a weight of shape {tuple(weight.shape)} has 1 input for each output: standardized, nothing of "
                             "it is left; use a layer with more inputs, or weight normalization")
        rest, _, var = centred(widened(weight), axes)
        scale = math.sqrt(2 / (1 - 1 / math.pi) / fan_in) if self.scaled else 1.0
        return (scale * rest / torch.sqrt(var + self.eps)).to(weight.dtype)

    def stacked(self) -> "WeightStandardization":
        return WeightStandardization(self.eps, self.scaled, _behind_members(self.dim))

    def extra_repr(self) -> str:
        return f"eps={self.eps}, scaled={self.scaled}"
