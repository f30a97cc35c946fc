"""Batch normalization with other batch statistics: of a part of the batch, or corrected towards the running ones."""

import torch
from torch import Tensor

from bncourse.norms.batch import BatchNorm, FusedBatchNorm, Running
from bncourse.norms.checks import along, as_one_node, centred, check_finite, widened


class _GhostBatches:
    """Passes a training batch through the batch normalization it is mixed into, part after part."""

    # Examples are told apart by axis 0, where a stack of networks does not have them.
    examples_first = True

    def __init__(self, num_features: int, *args, ghost_size: int = 32, **kwargs) -> None:
        if ghost_size < 1:
            raise ValueError(f"ghost_size={ghost_size}: a ghost batch has at least one example")
        super().__init__(num_features, *args, **kwargs)
        self.ghost_size = ghost_size

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return super().forward(x)
        parts = x.tensor_split(max(1, x.shape[0] // self.ghost_size)) if x.dim() else (x,)
        return torch.cat([super(_GhostBatches, self).forward(part) for part in parts])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, ghost_size={self.ghost_size}"


class GhostBatchNorm(_GhostBatches, BatchNorm):
    """Batch normalization of small parts of a large batch, each with its own statistics.

    As ``BatchNorm``, and ``ghost_size``: how many examples are normalized together. A batch that does not divide is split into
    nearly equal parts of at least that many. The running statistics take in one part after the other.
    Source: Hoffer, Hubara & Soudry 2017, Algorithm 1 (with a running standard deviation; here, as in torch, it is the variance).
    """


class FusedGhostBatchNorm(_GhostBatches, FusedBatchNorm):
    """``GhostBatchNorm`` on torch's fused kernel."""


class BatchRenorm(Running):
    """Batch renormalization: batch statistics, corrected so that training sees what evaluation will see.

        y = (x - mu_B) / sigma_B * r + d,    r = sigma_B / sigma  within [1/r_max, r_max],
                                             d = (mu_B - mu) / sigma  within [-d_max, d_max],

    and then the scale and shift of ``BatchNorm``. mu and sigma are the running statistics *before* this batch joins them; r
    and d count as constants in the backward pass. sigma is the square root of (biased variance + eps), and it is sigma itself
    that is averaged. With r_max = 1, d_max = 0 this is batch normalization; the paper starts there for 5,000 steps and then
    relaxes slowly to 3 and 5. Shapes, ``momentum`` and errors as ``BatchNorm``. Source: Ioffe 2017, Algorithm 1.
    Raises (in ``forward``, beyond what ``BatchNorm`` raises) RuntimeError: in training mode, a forward pass that is repeated
    while the gradient is computed, as by ``torch.utils.checkpoint``: the running statistics have moved on in between, and the
    gradient would be another's."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, r_max: float = 3.0,
                 d_max: float = 5.0) -> None:
        if r_max < 1 or d_max < 0:
            raise ValueError(f"r_max={r_max}, d_max={d_max}: corrections are clipped to [1/r_max, r_max] and [-d_max, d_max], "
                             "so r_max must be at least 1 and d_max at least 0")
        super().__init__(num_features, "running_std", eps=eps, momentum=momentum, r_max=r_max, d_max=d_max)

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        count = BatchNorm._check(self, x, use_batch=self.training)
        wide, mu, sigma = widened(x), along(x, self.running_mean), along(x, self.running_std)
        if self.training:
            _check_first_time()
            rest, mu_B, var = centred(wide, [axis for axis in range(x.dim()) if axis != 1])
            if self.refuse_nonfinite and count:
                check_finite(mu_B)
            sigma_B = torch.sqrt(var + self.eps)
            r = (sigma_B / sigma).detach().clamp(1 / self.r_max, self.r_max)
            d = ((mu_B - mu) / sigma).detach().clamp(-self.d_max, self.d_max)
            x_hat = rest / sigma_B * r + d
            self._update_running(mu_B.flatten(), sigma_B.flatten(), count)
        else:
            x_hat = (wide - mu) / sigma
        return (x_hat * along(x, self.weight) + along(x, self.bias)).to(x.dtype)


def _check_first_time() -> None:
    """Refuse to be called from within a backward pass."""
    if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
        raise RuntimeError("BatchRenorm in training mode cannot be computed a second time for the backward pass: its output "
                           "depends on running statistics, which the first time has moved; leave it out of "
                           "torch.utils.checkpoint, or use BatchNorm")
