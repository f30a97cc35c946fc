"""Batch normalization, as in Ioffe & Szegedy 2015."""

import torch
from torch import Tensor, nn

from bncourse.norms.checks import along, check_channels, check_dtype, widened


class BatchNorm(nn.Module):
    """Batch normalization for ``(N, C)``, ``(N, C, L)``, ``(N, C, H, W)`` and ``(N, C, D, H, W)`` input.

    Twin of ``torch.nn.BatchNorm1d``, ``2d`` and ``3d`` at once: every axis but the second is averaged over.
    Source: Ioffe & Szegedy 2015, Algorithm 1 (training) and Algorithm 2 (evaluation).

    Args:
        num_features: C, the number of channels.
        eps: added to the variance, inside the square root.
        momentum: weight of the *newest* batch in the running statistics (torch's convention; the complement of what an
            optimizer calls momentum). ``None`` averages all batches equally.
        affine: learn a scale (``weight``, the papers' gamma) and a shift (``bias``, their beta).
        track_running_stats: keep running statistics and use them in evaluation mode.
        bias: with ``affine``, learn the shift too.

    Raises (in ``forward``):
        TypeError: input that is not floating point, or of another precision than the parameters.
        ValueError: wrong number of axes or channels; fewer than two values per channel when the statistics come from
            the batch; NaN or infinity in the batch.
    """

    # A reader's own network should stop at the first NaN. One of many trained side by side must not stop the others:
    # ``train`` switches this off on its copies, and counts the run as diverged.
    refuse_nonfinite = True

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device=None, dtype=None, *, bias: bool = True) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats

        def per_channel() -> Tensor:
            return torch.empty(num_features, device=device, dtype=dtype)

        self.weight = nn.Parameter(per_channel()) if affine else None
        self.bias = nn.Parameter(per_channel()) if affine and bias else None
        # Buffers, not plain attributes: they must travel with state_dict(), .to(device) and deepcopy.
        self.register_buffer("running_mean", per_channel() if track_running_stats else None)
        self.register_buffer("running_var", per_channel() if track_running_stats else None)
        self.register_buffer("num_batches_tracked",
                             torch.tensor(0, dtype=torch.long, device=device) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        use_batch = self.training or self.running_mean is None
        self._check(x, use_batch)
        x_wide = widened(x)

        if use_batch:
            axes = [axis for axis in range(x.dim()) if axis != 1]
            # One pass over centred values. E[x^2] - E[x]^2 would cancel to garbage, even below zero, for a large mean.
            var, mean = torch.var_mean(x_wide, axes, correction=0)
            if self.training and self.track_running_stats and self.running_mean is not None:
                self._update_running(mean, var, count=x.numel() // self.num_features)
        else:
            mean, var = self.running_mean.to(x_wide.dtype), self.running_var.to(x_wide.dtype)

        mean, var, weight, bias = (None if own is None else along(x, own) for own in (mean, var, self.weight, self.bias))
        return self.normalize(x_wide, mean, var, self.eps, weight, bias).to(x.dtype)

    @staticmethod
    def normalize(x: Tensor, mean: Tensor, var: Tensor, eps: float, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """The formula itself, for statistics, weight (gamma) and bias (beta) that broadcast along x."""
        y = (x - mean) / torch.sqrt(var + eps)
        if weight is not None:
            y = y * weight
        if bias is not None:
            y = y + bias
        return y

    @torch.no_grad()  # Otherwise the buffers would hold on to the graph of every batch ever seen.
    def _update_running(self, mean: Tensor, var: Tensor, count: int) -> None:
        self.num_batches_tracked += 1
        weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        unbiased = var * (count / (count - 1))  # The batch is normalized by var; the population is estimated by this.
        self.running_mean += weight * (mean - self.running_mean)
        self.running_var += weight * (unbiased - self.running_var)

    def _check(self, x: Tensor, use_batch: bool) -> None:
        name, shape = type(self).__name__, tuple(x.shape)
        check_dtype(name, x, self.weight if self.weight is not None else self.running_mean)
        check_channels(name, x, self.num_features)
        values = x.numel() // self.num_features
        if use_batch and values < 2:
            raise ValueError(f"batch of {x.shape[0]}: batch statistics need at least 2 values per channel (got shape "
                             f"{shape}); use a larger batch, eval mode with running statistics, or GroupNorm")
        if self.refuse_nonfinite and not torch.isfinite(x).all():
            per_channel = ~torch.isfinite(x.detach()).movedim(1, 0).flatten(1).all(1)
            channels = per_channel.nonzero().flatten().tolist()
            raise ValueError(f"NaN or infinity in the batch, channels {channels[:5]}{'...' if len(channels) > 5 else ''}: "
                             "one such value spoils every output of its channel and the running statistics for good; "
                             "look for what produced it (often a learning rate that is too large)")

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")


class FusedBatchNorm(nn.BatchNorm1d):
    """``BatchNorm`` on torch's fused kernel; like ours, one layer for 2 to 5 axes."""

    def _check_input_dim(self, x: Tensor) -> None:
        if not 2 <= x.dim() <= 5:
            raise ValueError(f"needs (N, C) to (N, C, D, H, W), 2 to 5 axes, got shape {tuple(x.shape)}")
