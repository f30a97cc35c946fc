"""lp normalization, as in Santurkar et al. 2018."""

import math

import torch
from torch import Tensor, nn

from bncourse.norms.batch import BatchNorm, newest
from bncourse.norms.checks import along, as_one_node, check_finite, widened


class LpNorm(nn.Module):
    """Normalization by another size than the standard deviation, for the shapes of ``BatchNorm``.

    Over every axis but the second, subtract the mean and divide by the average lp norm: for a channel with values y,

        (y - mean(y)) / (mean(|y|^p) + eps)^(1/p),   and for p = inf   (y - mean(y)) / (max(|y|) + eps).

    As in the paper, the norm is that of y **before the mean is taken off**, so the output has no fixed variance: the further
    the mean is from zero, the smaller what comes out. ``centred=True`` takes the norm of y - mean(y) instead; with p = 2 that
    is batch normalization. Evaluation mode uses running averages of mean and norm.
    Source: Santurkar et al. 2018, section 3.3 and Appendix A.

    Args:
        p: 1, 2, ... or ``math.inf``.
        num_features, eps, momentum: as in ``BatchNorm``.

    Raises: as ``BatchNorm``; ``ValueError`` for a p below 1.
    """

    refuse_nonfinite = True
    track_running_stats = True

    def __init__(self, num_features: int, p: float = 2, centred: bool = False, eps: float = 1e-5,
                 momentum: float | None = 0.1) -> None:
        super().__init__()
        if not p >= 1:
            raise ValueError(f"p={p}: an lp norm needs p of at least 1 (math.inf for the largest absolute value)")
        self.num_features, self.p, self.centred, self.eps, self.momentum = num_features, p, centred, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_norm", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def reset_running_stats(self) -> None:
        self.running_mean.zero_()
        self.running_norm.fill_(1)
        self.num_batches_tracked.zero_()

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        count = BatchNorm._check(self, x, use_batch=self.training)
        wide = widened(x)
        if self.training:
            if not count:  # The empty batch has no norm; it is what comes out, and the averages stay.
                return x * along(x, self.weight).to(x.dtype)
            axes = [axis for axis in range(x.dim()) if axis != 1]
            mean = wide.mean(axes, keepdim=True)
            rest = wide - mean
            if self.refuse_nonfinite:
                check_finite(mean)
            norm = self._average_norm(rest if self.centred else wide, axes)
            with torch.no_grad():
                self.num_batches_tracked += 1
                weight = newest(self, mean)
                self.running_mean += weight * (mean.flatten() - self.running_mean)
                self.running_norm += weight * (norm - self.running_norm)
        else:
            rest, norm = wide - along(x, self.running_mean), self.running_norm
        return (rest / along(x, norm) * along(x, self.weight) + along(x, self.bias)).to(x.dtype)

    def _average_norm(self, y: Tensor, axes: list[int]) -> Tensor:
        if self.p == math.inf:
            return y.abs().amax(axes) + self.eps
        if self.p == 1:
            return y.abs().mean(axes) + self.eps
        return (y.abs().pow(self.p).mean(axes) + self.eps) ** (1 / self.p)

    def extra_repr(self) -> str:
        return f"{self.num_features}, p={self.p}, centred={self.centred}, eps={self.eps}, momentum={self.momentum}"
