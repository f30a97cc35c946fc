"""A control: batch normalization whose statistics stay what they were at the first batch."""

import torch
from torch import Tensor, nn

from bncourse.norms.batch import BatchNorm
from bncourse.norms.checks import along, centred, check_finite, widened


class FrozenBatchNorm(nn.Module):
    """Batch normalization with the statistics of the first batch it ever sees, kept for good: a control.

    No statistic follows the weights, no gradient flows through one. Shapes and errors as ``BatchNorm``; only the first batch
    needs two values per channel."""

    refuse_nonfinite = True

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("var", torch.ones(num_features))
        self.register_buffer("is_set", torch.tensor(False))
        self._read, self._first = None, True

    def __getstate__(self) -> dict:
        return vars(self) | {"_read": None}  # A copy has a buffer of its own, which has to be read.

    def forward(self, x: Tensor) -> Tensor:
        # To read the buffer is to wait for a GPU. So it is read again only where it was written to, by this layer or by whoever
        # loads, restores or copies a state.
        if self._read is None or self._read[0] is not self.is_set or self._read[1] != self.is_set._version:
            self._read, self._first = (self.is_set, self.is_set._version), not self.is_set
        first = self._first
        count = BatchNorm._check(self, x, use_batch=first)
        wide = widened(x)
        if first and count:
            _, mean, var = centred(wide.detach(), [axis for axis in range(x.dim()) if axis != 1])
            if self.refuse_nonfinite:
                check_finite(mean)
            self.mean.copy_(mean.flatten())
            self.var.copy_(var.flatten())
            self.is_set.fill_(True)
        y = BatchNorm.normalize(wide - along(x, self.mean), along(x, self.var), self.eps,
                                along(x, self.weight), along(x, self.bias))
        return y.to(x.dtype)
