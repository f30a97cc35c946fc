"""A normalizer that computes no statistic."""

import torch
from torch import Tensor, nn

from bncourse.norms.checks import along, as_one_node, check_channels, check_dtype, widened


class DynamicTanh(nn.Module):
    """weight * tanh(alpha * x) + bias, value by value: (N, C, ...) with the channels on axis 1.

    One learned ``alpha`` a layer, starting at ``alpha_init``; a weight (gamma) and bias (beta) a channel.
    Source: Zhu et al. 2025, "Transformers without Normalization", equation 3.
    Raises (in ``forward``) TypeError, ValueError: as ``BatchNorm``, but one value is enough."""

    def __init__(self, num_features: int, alpha_init: float = 0.5) -> None:
        super().__init__()
        self.num_features, self.alpha_init = num_features, alpha_init
        self.alpha = nn.Parameter(torch.full((1,), float(alpha_init)))
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    @as_one_node
    def forward(self, x: Tensor) -> Tensor:
        check_dtype(type(self).__name__, x, self.weight)
        check_channels(type(self).__name__, x, self.num_features)
        # Networks computed together have an alpha each, for their own equal share of the channels.
        alpha = self.alpha.repeat_interleave(self.num_features // len(self.alpha))
        y = along(x, self.weight) * torch.tanh(along(x, alpha) * widened(x)) + along(x, self.bias)
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_features}, alpha_init={self.alpha_init}"
