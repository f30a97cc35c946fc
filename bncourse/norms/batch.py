"""Batch normalization, as in Ioffe & Szegedy 2015."""

import math

import torch
from torch import Tensor, nn

from bncourse.norms.checks import (
    along, as_one_node, centred, check_channels, check_dtype, check_eps, check_finite, scaled_and_shifted, widened)


class _AnyAxes(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
    """Parameters, buffers and how they are saved and loaded, from torch; and whoever asks for one of its three layers by type
    (``torch.optim.swa_utils.update_bn``, tools that freeze or synchronize) finds ours."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device=None, dtype=None, *, bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:
            self.bias = None  # Not every torch takes it as an argument.

    def _check_input_dim(self, x: Tensor) -> None:
        if not 2 <= x.dim() <= 5:
            raise ValueError(f"needs (N, C) to (N, C, D, H, W), 2 to 5 axes, got shape {tuple(x.shape)}")


class BatchNorm(_AnyAxes):
    """Batch normalization for ``(N, C)``, ``(N, C, L)``, ``(N, C, H, W)`` and ``(N, C, D, H, W)`` input.

    Twin of ``torch.nn.BatchNorm1d``, ``2d`` and ``3d`` at once: every axis but the second is averaged over.
    Source: Ioffe & Szegedy 2015, Algorithm 1 (training) and Algorithm 2 (evaluation).

    Args:
        num_features: C, the number of channels.
        eps: added to the variance, inside the square root.
        momentum: weight of the *newest* batch in the running statistics (torch's convention; the complement of what an
            optimizer calls momentum). ``None`` averages all batches equally.
        affine: learn a scale (``weight``, the papers' gamma) and, with ``bias``, a shift (``bias``, their beta).
        track_running_stats: keep running statistics and use them in evaluation mode.
    Raises (in ``forward``) TypeError: input that is not floating point, or of another precision than the parameters.
    ValueError: wrong number of axes or channels; and where the statistics come from the batch, one value per channel, NaN or
    infinity in the batch, an eps that is not positive."""

    # A reader's own network should stop at the first NaN. One of many trained side by side must not stop the others:
    # ``train`` switches this off on its copies, and counts the run as diverged.
    refuse_nonfinite = True

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        use_batch = self.training or self.running_mean is None
        count = self._check(x, use_batch)
        wide = widened(x)

        if use_batch:
            rest, mean, var = centred(wide, [axis for axis in range(x.dim()) if axis != 1])
            if self.refuse_nonfinite and count:
                check_finite(mean)
            if self.training and self.track_running_stats and self.running_mean is not None:
                self._update_running(mean.flatten(), var.flatten(), count)
        else:
            rest = wide - along(x, self.running_mean.to(wide.dtype))
            var = along(x, self.running_var.to(wide.dtype))

        weight, bias = (None if own is None else along(x, own) for own in (self.weight, self.bias))
        return self.normalize(rest, var, self.eps, weight, bias).to(x.dtype)

    @staticmethod
    def normalize(rest: Tensor, var: Tensor, eps: float, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """The formula itself, for ``rest`` = x - mean, and variance, weight (gamma) and bias (beta) that broadcast along it."""
        return scaled_and_shifted(rest, (1 if weight is None else weight) / torch.sqrt(var + eps), bias)

    @torch.no_grad()  # Otherwise the buffers would hold on to the graph of every batch ever seen.
    def _update_running(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Take in the statistics of a batch of ``count`` values per channel; of an empty one there are none."""
        self.num_batches_tracked += 1
        if count == 0:
            return
        weight = newest(self, mean)
        unbiased = var * (count / (count - 1))  # The batch is normalized by var; the population is estimated by this.
        self.running_mean += weight * (mean - self.running_mean)
        self.running_var += weight * (unbiased - self.running_var)

    def _check(self, x: Tensor, use_batch: bool) -> int:
        """How many values x has per channel, if nothing is wrong with it."""
        name = type(self).__name__
        check_dtype(name, x, self.weight if self.weight is not None else self.running_mean)
        check_channels(name, x, self.num_features)
        check_eps(name, self.eps, zero=not use_batch)
        count = x.shape[0] * math.prod(x.shape[2:])
        if use_batch and count == 1:
            raise ValueError(f"batch of {x.shape[0]}: batch statistics need at least 2 values per channel (got shape "
                             f"{tuple(x.shape)}); use a larger batch, eval mode with running statistics, or GroupNorm")
        return count


def newest(layer: nn.Module, like: Tensor) -> float | Tensor:
    """The weight of the newest batch in running statistics, which ``num_batches_tracked`` has counted already."""
    return 1 / layer.num_batches_tracked.to(like.dtype) if layer.momentum is None else layer.momentum


class Running(nn.Module):
    """A scale and a shift a channel, and running averages of two statistics, kept as ``BatchNorm`` keeps its own: of the mean,
    and of ``size``, the buffer of that name."""

    refuse_nonfinite = True

    def __init__(self, num_features: int, size: str, **settings) -> None:
        super().__init__()
        self.num_features, self.size, self.settings = num_features, size, tuple(settings)
        vars(self).update(settings)
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer(size, torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def reset_running_stats(self) -> None:
        self.running_mean.zero_()
        getattr(self, self.size).fill_(1)
        self.num_batches_tracked.zero_()

    @torch.no_grad()
    def _update_running(self, mean: Tensor, size: Tensor, count: int) -> None:
        self.num_batches_tracked += 1
        if count:
            for running, new in ((self.running_mean, mean), (getattr(self, self.size), size)):
                running += newest(self, mean) * (new - running)

    def extra_repr(self) -> str:
        return ", ".join([f"{self.num_features}", *(f"{name}={getattr(self, name)}" for name in self.settings)])


class FusedBatchNorm(_AnyAxes):
    """``BatchNorm`` on torch's fused kernel; like ours, one layer for 2 to 5 axes."""
