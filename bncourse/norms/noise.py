"""The noise of Santurkar et al. 2018, alone and behind batch normalization."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bncourse.norms.batch import BatchNorm, FusedBatchNorm


class CovariateNoise(nn.Module):
    """Noise whose own mean and scale jump at every step: the covariate shift of Santurkar et al. 2018, Algorithm 1.

    For each unit (channel) draw mu ~ U(-n_mu, n_mu) and sigma ~ U(1, n_sigma). For each value of that unit (example, and
    position in an image) draw m ~ U(mu - r_mu, mu + r_mu) and s ~ N(sigma, r_sigma), and return s * x + m. The paper does
    not say whether r_sigma is a standard deviation or a variance; here it is a **standard deviation**.
    Training mode only; in evaluation mode the input passes unchanged. Random numbers come from torch's global generator;
    ``train`` sets ``noise_seeds``, so that a run does not depend on its company (``covariate_noise``)."""

    noise_seeds: Sequence[int] | None = None

    def __init__(self, n_mu: float = 0.5, n_sigma: float = 1.25, r_mu: float = 0.1, r_sigma: float = 0.1) -> None:
        super().__init__()
        self.n_mu, self.n_sigma, self.r_mu, self.r_sigma = n_mu, n_sigma, r_mu, r_sigma

    def forward(self, x: Tensor) -> Tensor:
        return _noisy(self, x)

    def extra_repr(self) -> str:
        return f"n_mu={self.n_mu}, n_sigma={self.n_sigma}, r_mu={self.r_mu}, r_sigma={self.r_sigma}"


def covariate_noise(x: Tensor, n_mu: float, n_sigma: float, r_mu: float, r_sigma: float,
                    seeds: Sequence[int] | None = None) -> Tensor:
    """One draw of the noise of ``CovariateNoise`` applied to x, (N, C, ...). ``seeds``: one for each of so many networks computed
    together, with equal shares of the channels. What each draws depends on its seed and on *one* number from the global
    generator, the same for all: not on its company."""
    if seeds is not None:
        mu, sigma, m, s = _drawn(x, seeds)
        m = m.mul_(2 * r_mu).add_(mu.mul_(2 * n_mu).sub_(n_mu + r_mu))
        s = s.mul_(r_sigma).add_(sigma.mul_(n_sigma - 1).add_(1))
        return torch.addcmul(m, s, x)
    per_unit = x.new_empty(1, x.shape[1], *[1] * (x.dim() - 2))
    mu = per_unit.clone().uniform_(-n_mu, n_mu)
    sigma = per_unit.clone().uniform_(1, n_sigma)
    m = mu + torch.empty_like(x).uniform_(-r_mu, r_mu)
    s = torch.empty_like(x)
    # As the plain piece of memory that it is: in the order of channels-last, numbers are drawn one by one, ten times as slowly.
    s.as_strided((x.numel(),), (1,)).normal_(0, r_sigma)
    return torch.addcmul(m, s.add_(sigma), x)


def _drawn(x: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From U(0, 1) twice a number for each channel and once for each value of x, and from N(0, 1) once for each value."""
    # Whoever resets the global generator gets the same noise again, here as without seeds.
    moment = torch.randint(2**31, (), device=x.device).item()
    generator, different = torch.Generator(x.device), list(dict.fromkeys(seeds))
    units, values = x.shape[1] // len(seeds), x.numel() // len(seeds)
    uniform, normal = x.new_empty(len(different), 2 * units + values), x.new_empty(len(different), values)
    for seed, one, other in zip(different, uniform, normal):
        generator.manual_seed(hash((seed, moment)) % 2**63)
        one.uniform_(generator=generator)
        other.normal_(generator=generator)
    if len(different) < len(seeds):
        of_each = [different.index(seed) for seed in seeds]
        uniform, normal = uniform[of_each], normal[of_each]
    wide = (x.shape[1], x.shape[0], *x.shape[2:])  # Unit by unit, whether the units of others lie beside them or not.
    mu, sigma, m = uniform.split([units, units, values], 1)
    return (*(own.reshape(1, -1, *[1] * (x.dim() - 2)) for own in (mu, sigma)),
            *(own.reshape(wide).movedim(0, 1) for own in (m, normal)))


def _noisy(layer: nn.Module, x: Tensor) -> Tensor:
    if not layer.training:
        return x
    return covariate_noise(x, layer.n_mu, layer.n_sigma, layer.r_mu, layer.r_sigma, layer.noise_seeds)


class _NoiseBehind:
    """``CovariateNoise`` behind the batch normalization that it is mixed into."""

    noise_seeds: Sequence[int] | None = None

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device=None, dtype=None, *, bias: bool = True,
                 n_mu: float = 0.5, n_sigma: float = 1.25, r_mu: float = 0.1, r_sigma: float = 0.1) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.n_mu, self.n_sigma, self.r_mu, self.r_sigma = n_mu, n_sigma, r_mu, r_sigma

    def forward(self, x: Tensor) -> Tensor:
        return _noisy(self, super().forward(x))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {CovariateNoise.extra_repr(self)}"


class NoisyBatchNorm(_NoiseBehind, BatchNorm):
    """Batch normalization, then ``CovariateNoise``, before the nonlinearity: the "noisy" BatchNorm of Santurkar et al.

    A drop-in for ``BatchNorm`` with four more arguments; same parameters and buffers. Its running statistics were gathered
    while the layers *below* were noisy: recompute them (``train.recompute_statistics``) before judging the clean network.
    Source: Santurkar et al. 2018, Algorithm 1 (Appendix A)."""


class FusedNoisyBatchNorm(_NoiseBehind, FusedBatchNorm):
    """``NoisyBatchNorm`` on torch's fused kernel."""
