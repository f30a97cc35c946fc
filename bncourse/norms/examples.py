"""Normalizers that look at one example at a time: what else is in the batch does not matter, training or not."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bncourse.norms.checks import (
    along, as_one_node, average, centred, check_channels, check_dtype, check_eps, scaled_and_shifted, widened)


def _standardized(x: Tensor, axes: Sequence[int], eps: float) -> Tensor:
    rest, _, var = centred(x, axes)
    return rest / torch.sqrt(var + eps)


def _of_size_one(x: Tensor, axes: Sequence[int], eps: float | Tensor | None) -> Tensor:
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return x / torch.sqrt(average(x.square(), axes) + eps)


class LayerNorm(nn.LayerNorm):
    """Layer normalization over the last axes, (*, *normalized_shape). Twin of ``torch.nn.LayerNorm``, arguments included.

    Source: Ba, Kiros & Hinton 2016, equation 3.
    Raises (in ``forward``) TypeError: input that is not floating point, or of another precision than the parameters.
    ValueError: input that does not end in ``normalized_shape``; only one value to normalize; an eps below zero."""

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        axes = _last_axes(self, x)
        y = _standardized(widened(x).contiguous(), axes, self.eps)
        return scaled_and_shifted(y, self.weight, self.bias).to(x.dtype)


class RMSNorm(nn.RMSNorm):
    """x / root mean square of x, over the last axes: layer normalization without the mean. Twin of ``torch.nn.RMSNorm``.

    ``eps=None`` takes the smallest step of the input's precision. Errors as ``LayerNorm``.
    Source: Zhang & Sennrich 2019, equation 4."""

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        axes = _last_axes(self, x)
        return scaled_and_shifted(_of_size_one(widened(x), axes, self.eps), self.weight, None).to(x.dtype)


def _last_axes(layer: nn.LayerNorm | nn.RMSNorm, x: Tensor) -> list[int]:
    """The axes of x to normalize over, if nothing is wrong with it."""
    name, shape = type(layer).__name__, layer.normalized_shape
    check_dtype(name, x, layer.weight)
    check_eps(name, layer.eps, zero=True)
    if tuple(x.shape[-len(shape):]) != shape:
        raise ValueError(f"{name} was built for input that ends in {shape}, got shape {tuple(x.shape)}; for channels on axis 1 "
                         "use GroupNorm(1, num_channels)")
    if math.prod(shape) == 1:
        raise ValueError(f"{name} of one value per example (normalized_shape={shape}): normalized, nothing but its sign would "
                         "be left; normalize over more axes")
    return list(range(-len(shape), 0))


class GroupNorm(nn.GroupNorm):
    """Group normalization of (N, C, ...): each example, over the positions and channels of one group at a time. Twin of
    ``torch.nn.GroupNorm``.

    One group is layer normalization over channels and positions; as many groups as channels is instance normalization.
    Source: Wu & He 2018, equation 7.
    Raises ValueError: groups that do not divide the channels; (in ``forward``) wrong number of channels or axes, only one value
    in a group, an eps below zero. TypeError: as ``LayerNorm``."""

    # Examples are told apart by axis 0, where a stack of networks does not have them.
    examples_first = True

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device=None, dtype=None, *,
                 bias: bool = True) -> None:
        if num_groups < 1 or num_channels % num_groups:
            divisors = [groups for groups in range(1, num_channels + 1) if num_channels % groups == 0]
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups}); "
                             f"num_groups can be {', '.join(map(str, divisors))}")
        super().__init__(num_groups, num_channels, eps, affine, device, dtype)
        if not bias:
            self.bias = None  # Not every torch takes it as an argument.

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        name, size = type(self).__name__, self.num_channels // self.num_groups
        check_dtype(name, x, self.weight)
        check_channels(name, x, self.num_channels, "num_channels")
        check_eps(name, self.eps, zero=True)
        if size * math.prod(x.shape[2:]) == 1:
            raise ValueError(f"{name} with one value in a group (shape {tuple(x.shape)}, {self.num_groups} groups): normalized, "
                             "nothing but its sign would be left; use fewer groups")
        groups = widened(x).unflatten(1, (self.num_groups, size))  # A view: the numbers stay in their order in memory.
        y = self._normalized(groups, list(range(2, groups.dim()))).flatten(1, 2)
        weight, bias = (None if own is None else along(x, own) for own in (self.weight, self.bias))
        return scaled_and_shifted(y, weight, bias).to(x.dtype)

    def _normalized(self, groups: Tensor, axes: Sequence[int]) -> Tensor:
        return _standardized(groups, axes, self.eps)


class ChannelRMSNorm(GroupNorm):
    """Group normalization without the mean, and without a bias; with one group, ``RMSNorm`` for channels on axis 1, with the
    ``eps`` of that."""

    def __init__(self, num_groups: int, num_channels: int, eps: float | None = None, affine: bool = True, device=None,
                 dtype=None) -> None:
        super().__init__(num_groups, num_channels, eps, affine, device, dtype, bias=False)

    def _normalized(self, groups: Tensor, axes: Sequence[int]) -> Tensor:
        return _of_size_one(groups, axes, self.eps)


class _AnyPositions(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d):
    """What torch's three layers hold, how it is saved and loaded, and their types."""

    examples_first = True

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
                 track_running_stats: bool = False, device=None, dtype=None, *, bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:
            self.bias = None  # Not every torch takes it as an argument.

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        batch = self._as_batch(x)
        y = self._apply_instance_norm(batch)
        return y if batch.dim() == x.dim() else y[0]

    def _as_batch(self, x: Tensor) -> Tensor:
        """(N, C, ...), if nothing is wrong with x: as it came, or the one example (C, ...) as a batch."""
        name = type(self).__name__
        check_dtype(name, x, self.weight if self.weight is not None else self.running_mean)
        check_eps(name, self.eps, zero=True)
        if 2 <= x.dim() <= 4 and x.shape[1] != self.num_features == x.shape[0]:
            x = x[None]
        own = self.training or not self.track_running_stats
        if own and x.dim() >= 2 and math.prod(x.shape[2:]) == 1:
            raise ValueError(f"instance norm on one value per channel of an example (shape {tuple(x.shape)}): normalized, every "
                             "value would be the same; use more positions, or layer or group normalization")
        check_channels(name, x, self.num_features, axes=3)
        return x


class InstanceNorm(_AnyPositions):
    """Instance normalization of (N, C, L), (N, C, H, W) or (N, C, D, H, W): each example and channel over its own positions.

    Twin of ``torch.nn.InstanceNorm1d``, ``2d`` and ``3d``, defaults included: no scale, no running statistics (they would average
    those of the instances). One example without a batch axis, (C, L), (C, H, W) or (C, D, H, W), is taken for one where axis 1
    does not have C entries and axis 0 has. Source: Ulyanov, Vedaldi & Lempitsky 2016, equation 4.
    Raises (in ``forward``) ValueError: one value per channel of an example, as in (N, C): normalized, every value would be the
    same. Wrong number of channels; an eps below zero. TypeError: as ``LayerNorm``."""

    def _apply_instance_norm(self, x: Tensor) -> Tensor:
        wide = widened(x).contiguous()
        if self.training or not self.track_running_stats:
            rest, mean, var = centred(wide, list(range(2, x.dim())))
            if self.track_running_stats and x.numel():
                self._update_running(mean.flatten(1), var.flatten(1), math.prod(x.shape[2:]))
        else:
            rest, var = wide - along(x, self.running_mean), along(x, self.running_var)
        weight, bias = (None if own is None else along(x, own) for own in (self.weight, self.bias))
        return scaled_and_shifted(rest / torch.sqrt(var + self.eps), weight, bias).to(x.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Take in mean and variance of each instance, (N, C), over ``count`` positions."""
        momentum = self.momentum or 0.0  # torch: without a momentum they stay as they are
        unbiased = var * (count / (count - 1))
        self.running_mean += momentum * (mean.mean(0) - self.running_mean)
        self.running_var += momentum * (unbiased.mean(0) - self.running_var)


class FilterResponseNorm(nn.Module):
    """Filter response normalization: each example and channel, divided by the root of its mean square over positions.

        y = weight * x / sqrt(mean(x²) + |eps|) + bias

    No mean is taken off; ``TLU`` learns where to cut instead of ReLU. For (N, C) there is one value per channel; then eps must be
    learned, one a channel from 1e-4. Source: Singh & Krishnan 2020, section 3.
    Raises (in ``forward``) ValueError: one value per channel without ``learn_eps``; wrong number of axes or channels.
    TypeError: as ``BatchNorm``."""

    examples_first = True

    def __init__(self, num_features: int, eps: float = 1e-6, learn_eps: bool = False) -> None:
        super().__init__()
        self.num_features, self.learn_eps = num_features, learn_eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.eps = nn.Parameter(torch.full((num_features,), 1e-4)) if learn_eps else eps

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        check_dtype(type(self).__name__, x, self.weight)
        check_channels(type(self).__name__, x, self.num_features)
        if not self.learn_eps and math.prod(x.shape[2:]) == 1:
            raise ValueError(f"{type(self).__name__} on one value per channel of an example (shape {tuple(x.shape)}): nothing "
                             "but its sign would be left; set learn_eps=True, as its authors do for such layers")
        eps = along(x, self.eps.abs()) if self.learn_eps else abs(self.eps)
        wide = widened(x)
        y = _of_size_one(wide, list(range(2, x.dim())), eps) if x.dim() > 2 else wide / torch.sqrt(wide.square() + eps)
        return (y * along(x, self.weight) + along(x, self.bias)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={'learned' if self.learn_eps else self.eps}"


class TLU(nn.Module):
    """max(x, tau), with a learned threshold tau a channel, from 0: the nonlinearity that goes with ``FilterResponseNorm``.

    (N, C, ...) -> the same. Source: Singh & Krishnan 2020, equation 9. Raises ValueError, TypeError as it does."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.tau = nn.Parameter(torch.zeros(num_features))

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        check_dtype(type(self).__name__, x, self.tau)
        check_channels(type(self).__name__, x, self.num_features)
        return torch.maximum(x, along(x, self.tau).to(x.dtype))

    def extra_repr(self) -> str:
        return f"{self.num_features}"


class FusedGroupNorm(nn.GroupNorm):
    """``GroupNorm`` on torch's fused kernel."""

    examples_first = True


class FusedInstanceNorm(_AnyPositions):
    """``InstanceNorm`` on torch's fused kernel; like ours, one layer for 3 to 5 axes."""
