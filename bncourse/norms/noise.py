"""The noise of Santurkar et al. 2018, alone and behind batch normalization."""

import torch
from torch import Tensor, nn

from bncourse.norms.batch import BatchNorm, FusedBatchNorm


class CovariateNoise(nn.Module):
    """Noise whose own mean and scale jump at every step: the covariate shift of Santurkar et al. 2018, Algorithm 1.

    For each unit (channel) draw mu ~ U(-n_mu, n_mu) and sigma ~ U(1, n_sigma). For each value of that unit (example, and
    position in an image) draw m ~ U(mu - r_mu, mu + r_mu) and s ~ N(sigma, r_sigma), and return s * x + m. The paper does
    not say whether r_sigma is a standard deviation or a variance; here it is a **standard deviation**.
    Training mode only; in evaluation mode the input passes unchanged. Random numbers come from torch's global generator.
    """

    def __init__(self, n_mu: float = 0.5, n_sigma: float = 1.25, r_mu: float = 0.1, r_sigma: float = 0.1) -> None:
        super().__init__()
        self.n_mu, self.n_sigma, self.r_mu, self.r_sigma = n_mu, n_sigma, r_mu, r_sigma

    def forward(self, x: Tensor) -> Tensor:
        return covariate_noise(x, self.n_mu, self.n_sigma, self.r_mu, self.r_sigma) if self.training else x

    def extra_repr(self) -> str:
        return f"n_mu={self.n_mu}, n_sigma={self.n_sigma}, r_mu={self.r_mu}, r_sigma={self.r_sigma}"


def covariate_noise(x: Tensor, n_mu: float, n_sigma: float, r_mu: float, r_sigma: float) -> Tensor:
    """One draw of the noise of ``CovariateNoise`` applied to x of shape (N, C, ...)."""
    per_unit = x.new_empty(1, x.shape[1], *[1] * (x.dim() - 2))
    mu = per_unit.clone().uniform_(-n_mu, n_mu)
    sigma = per_unit.clone().uniform_(1, n_sigma)
    m = mu + torch.empty_like(x).uniform_(-r_mu, r_mu)
    s = sigma + torch.empty_like(x).normal_(0, r_sigma)
    return torch.addcmul(m, s, x)


class NoisyBatchNorm(BatchNorm):
    """Batch normalization, then ``CovariateNoise``, before the nonlinearity: the "noisy" BatchNorm of Santurkar et al.

    A drop-in for ``BatchNorm`` with four more arguments; same parameters and buffers. In evaluation mode there is no
    noise. Its running statistics were gathered while the layers *below* were noisy, so they do not describe the clean
    network: recompute them (``train.recompute_statistics``) before judging one.
    Source: Santurkar et al. 2018, Algorithm 1 (Appendix A).
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device=None, dtype=None, *, bias: bool = True,
                 n_mu: float = 0.5, n_sigma: float = 1.25, r_mu: float = 0.1, r_sigma: float = 0.1) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.n_mu, self.n_sigma, self.r_mu, self.r_sigma = n_mu, n_sigma, r_mu, r_sigma

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return covariate_noise(y, self.n_mu, self.n_sigma, self.r_mu, self.r_sigma) if self.training else y

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {CovariateNoise.extra_repr(self)}"


class FusedNoisyBatchNorm(FusedBatchNorm):
    """``NoisyBatchNorm`` on torch's fused kernel."""

    def __init__(self, num_features: int, *args, n_mu: float = 0.5, n_sigma: float = 1.25, r_mu: float = 0.1,
                 r_sigma: float = 0.1, **kwargs) -> None:
        super().__init__(num_features, *args, **kwargs)
        self.n_mu, self.n_sigma, self.r_mu, self.r_sigma = n_mu, n_sigma, r_mu, r_sigma

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return covariate_noise(y, self.n_mu, self.n_sigma, self.r_mu, self.r_sigma) if self.training else y
