"""lp normalization, as in Santurkar et al. 2018."""

import math

from torch import Tensor

from bncourse.norms.batch import BatchNorm, Running
from bncourse.norms.checks import along, as_one_node, average, check_finite, widened


class LpNorm(Running):
    """Normalization by another size than the standard deviation, for the shapes of ``BatchNorm``.

    Over every axis but the second, subtract the mean and divide by the average lp norm: for a channel with values y,

        (y - mean(y)) / (mean(|y|^p) + eps)^(1/p),   and for p = inf   (y - mean(y)) / (max(|y|) + eps).

    As in the paper, the norm is that of y **before the mean is taken off**: the further the mean is from zero, the smaller what
    comes out. ``centred=True`` takes the norm of y - mean(y) instead; with p = 2 that is batch normalization. Evaluation mode
    uses running averages of mean and norm. Source: Santurkar et al. 2018, section 3.3 and Appendix A.
    ``p`` is 1, 2, ... or ``math.inf``; other arguments and errors as ``BatchNorm``. Raises ValueError: a p below 1."""

    track_running_stats = True

    def __init__(self, num_features: int, p: float = 2, centred: bool = False, eps: float = 1e-5,
                 momentum: float | None = 0.1) -> None:
        if not p >= 1:
            raise ValueError(f"p={p}: an lp norm needs p of at least 1 (math.inf for the largest absolute value)")
        super().__init__(num_features, "running_norm", p=p, centred=centred, eps=eps, momentum=momentum)

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        count = BatchNorm._check(self, x, use_batch=self.training)
        wide = widened(x)
        if self.training:
            if not count:  # The empty batch has no norm; it is what comes out, and the averages stay.
                return x * along(x, self.weight).to(x.dtype)
            axes = [axis for axis in range(x.dim()) if axis != 1]
            rest = wide - (mean := average(wide, axes))
            if self.refuse_nonfinite:
                check_finite(mean)
            norm = self._average_norm(rest if self.centred else wide, axes)
            self._update_running(mean.flatten(), norm, count)
        else:
            rest, norm = wide - along(x, self.running_mean), self.running_norm
        return along(x, self.bias).addcmul(rest, along(x, self.weight / norm)).to(x.dtype)

    def _average_norm(self, y: Tensor, axes: list[int]) -> Tensor:
        if self.p == math.inf:
            return y.abs().amax(axes) + self.eps
        if self.p == 1:
            return average(y.abs(), axes).flatten() + self.eps
        return (average((y if self.p % 2 == 0 else y.abs()).pow(self.p), axes).flatten() + self.eps) ** (1 / self.p)
