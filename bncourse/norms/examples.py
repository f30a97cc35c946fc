"""Normalizers that look at one example at a time: what else is in the batch does not matter, training or not."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bncourse.norms.checks import along, check_channels, check_dtype, widened


def _standardized(x: Tensor, axes: Sequence[int], eps: float) -> Tensor:
    var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps)


def _of_size_one(x: Tensor, axes: Sequence[int], eps: float | Tensor | None) -> Tensor:
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return x / torch.sqrt(x.square().mean(axes, keepdim=True) + eps)


class LayerNorm(nn.Module):
    """Layer normalization over the last axes, (*, *normalized_shape). Twin of ``torch.nn.LayerNorm``.

    Source: Ba, Kiros & Hinton 2016, equation 3.

    Args:
        normalized_shape: the axes at the end that are normalized together; a number for the last one.
        elementwise_affine: learn a weight and, with ``bias``, a bias for every value of ``normalized_shape``.
    Raises (in ``forward``):
        TypeError: input that is not floating point, or of another precision than the parameters.
        ValueError: input that does not end in ``normalized_shape``; only one value to normalize.
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True, device=None, dtype=None) -> None:
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine

        def per_value(value: float) -> nn.Parameter:
            return nn.Parameter(torch.full(self.normalized_shape, value, device=device, dtype=dtype))

        self.weight = per_value(1.0) if elementwise_affine else None
        self.bias = per_value(0.0) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        check_dtype(type(self).__name__, x, self.weight)
        axes = list(range(-len(self.normalized_shape), 0))
        if tuple(x.shape[-len(axes):]) != self.normalized_shape:
            raise ValueError(f"{type(self).__name__} was built for input that ends in {self.normalized_shape}, got shape "
                             f"{tuple(x.shape)}; for channels on axis 1 use GroupNorm(1, num_channels)")
        if torch.Size(self.normalized_shape).numel() < 2:
            raise ValueError(f"{type(self).__name__} of one value per example (normalized_shape={self.normalized_shape}): "
                             "normalized, nothing but its sign would be left; normalize over more axes")
        y = self._normalized(widened(x), axes)
        if self.weight is not None:
            y = y * self.weight
        if self.bias is not None:
            y = y + self.bias
        return y.to(x.dtype)

    def _normalized(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return _standardized(x, axes, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(LayerNorm):
    """x / root mean square of x, over the last axes: layer normalization without the mean. Twin of ``torch.nn.RMSNorm``.

    ``eps=None`` takes the smallest step of the input's precision. Source: Zhang & Sennrich 2019, equation 4.
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True,
                 device=None, dtype=None) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, bias=False, device=device, dtype=dtype)

    def _normalized(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return _of_size_one(x, axes, self.eps)


class GroupNorm(nn.Module):
    """Group normalization of (N, C, ...): each example, over the positions and channels of one group at a time. Twin of
    ``torch.nn.GroupNorm``.

    One group is layer normalization over channels and positions; as many groups as channels is instance normalization.
    Source: Wu & He 2018, equation 7.

    Raises:
        ValueError: groups that do not divide the channels; (in ``forward``) wrong number of channels or axes, only one value
            in a group.
        TypeError: (in ``forward``) input that is not floating point, or of another precision than the parameters.
    """

    # Examples are told apart by axis 0, where a stack of networks does not have them.
    examples_first = True

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device=None, dtype=None, *,
                 bias: bool = True) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            divisors = [groups for groups in range(1, num_channels + 1) if num_channels % groups == 0]
            raise ValueError(f"{num_channels} channels do not divide into {num_groups} groups of one size; "
                             f"num_groups can be {', '.join(map(str, divisors))}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = nn.Parameter(torch.ones(num_channels, device=device, dtype=dtype)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels, device=device, dtype=dtype)) if affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        name = type(self).__name__
        check_dtype(name, x, self.weight)
        check_channels(name, x, self.num_channels, "num_channels")
        groups = widened(x).reshape(len(x), self.num_groups, x.shape[1:].numel() // self.num_groups)
        if groups.shape[2] < 2:
            raise ValueError(f"{name} with one value in a group (shape {tuple(x.shape)}, {self.num_groups} groups): normalized, "
                             "nothing but its sign would be left; use fewer groups")
        y = self._normalized(groups).reshape(x.shape)
        if self.weight is not None:
            y = y * along(x, self.weight)
        if self.bias is not None:
            y = y + along(x, self.bias)
        return y.to(x.dtype)

    def _normalized(self, groups: Tensor) -> Tensor:
        return _standardized(groups, [2], self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class ChannelRMSNorm(GroupNorm):
    """Group normalization without the mean, and without a bias; with one group, ``RMSNorm`` for channels on axis 1, with the
    ``eps`` of that."""

    def __init__(self, num_groups: int, num_channels: int, eps: float | None = None, affine: bool = True, device=None,
                 dtype=None) -> None:
        super().__init__(num_groups, num_channels, eps, affine, device, dtype, bias=False)

    def _normalized(self, groups: Tensor) -> Tensor:
        return _of_size_one(groups, [2], self.eps)


class InstanceNorm(nn.Module):
    """Instance normalization of (N, C, L), (N, C, H, W) or (N, C, D, H, W): each example and channel over its own positions.

    Twin of ``torch.nn.InstanceNorm1d``, ``2d`` and ``3d``, defaults included: no scale, no running statistics. With
    ``track_running_stats`` evaluation uses them; they average the statistics of the instances.
    Source: Ulyanov, Vedaldi & Lempitsky 2016, equation 4.

    Raises (in ``forward``):
        ValueError: one value per channel of an example, as in (N, C): normalized, every value would be the same. Wrong number
            of channels.
        TypeError: input that is not floating point, or of another precision than the parameters.
    """

    examples_first = True

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
                 track_running_stats: bool = False, device=None, dtype=None, *, bias: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats

        def per_channel(value: float) -> Tensor:
            return torch.full((num_features,), value, device=device, dtype=dtype)

        self.weight = nn.Parameter(per_channel(1.0)) if affine else None
        self.bias = nn.Parameter(per_channel(0.0)) if affine and bias else None
        self.register_buffer("running_mean", per_channel(0.0) if track_running_stats else None)
        self.register_buffer("running_var", per_channel(1.0) if track_running_stats else None)
        self.register_buffer("num_batches_tracked",
                             torch.tensor(0, device=device) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        own = self.training or not self.track_running_stats
        _check_instances(self, x, own)
        wide, axes = widened(x), list(range(2, x.dim()))
        if own:
            y = _standardized(wide, axes, self.eps)
            if self.track_running_stats:
                self._update_running(wide, axes)
        else:
            y = (wide - along(x, self.running_mean)) / torch.sqrt(along(x, self.running_var) + self.eps)
        if self.weight is not None:
            y = y * along(x, self.weight)
        if self.bias is not None:
            y = y + along(x, self.bias)
        return y.to(x.dtype)

    @torch.no_grad()
    def _update_running(self, x: Tensor, axes: list[int]) -> None:
        var, mean = torch.var_mean(x, axes)  # unbiased, as torch keeps it
        momentum = self.momentum or 0.0  # torch: without a momentum they stay as they are
        self.running_mean += momentum * (mean.mean(0) - self.running_mean)
        self.running_var += momentum * (var.mean(0) - self.running_var)

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}")


def _check_instances(layer: nn.Module, x: Tensor, own: bool) -> None:
    name = type(layer).__name__
    check_dtype(name, x, layer.weight if layer.weight is not None else layer.running_mean)
    if own and (x.dim() == 2 or x.dim() > 2 and x[:, :1].numel() == len(x)):
        raise ValueError(f"instance norm on one value per channel of an example (shape {tuple(x.shape)}): normalized, every "
                         "value would be the same; use more positions, or layer or group normalization")
    check_channels(name, x, layer.num_features, axes=3)


class FilterResponseNorm(nn.Module):
    """Filter response normalization: each example and channel, divided by the root of its mean square over positions.

        y = weight * x / sqrt(mean(x²) + |eps|) + bias

    No mean is taken off, so the response needs no zero in the middle: ``TLU`` learns where to cut instead of ReLU. For
    (N, C) there is one value per channel; then eps must be learned, one a channel from 1e-4, and decides how much of the
    value's size is kept.
    Source: Singh & Krishnan 2020, section 3.

    Raises (in ``forward``):
        ValueError: one value per channel without ``learn_eps``; wrong number of axes or channels.
        TypeError: as ``BatchNorm``.
    """

    examples_first = True

    def __init__(self, num_features: int, eps: float = 1e-6, learn_eps: bool = False) -> None:
        super().__init__()
        self.num_features, self.learn_eps = num_features, learn_eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        if learn_eps:
            self.eps = nn.Parameter(torch.full((num_features,), 1e-4))
        else:
            self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        check_dtype(type(self).__name__, x, self.weight)
        check_channels(type(self).__name__, x, self.num_features)
        if not self.learn_eps and x[:, :1].numel() == len(x):
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

    (N, C, ...) -> the same. Source: Singh & Krishnan 2020, equation 9. Raises ValueError, TypeError as it does.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.tau = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        check_dtype(type(self).__name__, x, self.tau)
        check_channels(type(self).__name__, x, self.num_features)
        return torch.maximum(x, along(x, self.tau).to(x.dtype))

    def extra_repr(self) -> str:
        return f"{self.num_features}"


class FusedGroupNorm(nn.GroupNorm):
    """``GroupNorm`` on torch's fused kernel."""

    examples_first = True


class FusedInstanceNorm(nn.InstanceNorm1d):
    """``InstanceNorm`` on torch's fused kernel; like ours, one layer for 3 to 5 axes."""

    examples_first = True

    def forward(self, x: Tensor) -> Tensor:
        _check_instances(self, x, self.training or not self.track_running_stats)
        return self._apply_instance_norm(x)
