"""The normalizers of the course, written out to be read.

Each has the argument names, shapes and buffers of its ``torch.nn`` twin and can stand in for it. Nothing here is fast on
purpose: ``make(..., fused=True)`` builds the same layer on torch's fused kernel where there is one, and training uses that.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn


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
        # Half precision has too few digits to add up a batch in: compute in float32, return what came in.
        x_wide = x.to(torch.promote_types(x.dtype, torch.float32))

        if use_batch:
            axes = [axis for axis in range(x.dim()) if axis != 1]
            # One pass over centred values. E[x^2] - E[x]^2 would cancel to garbage, even below zero, for a large mean.
            var, mean = torch.var_mean(x_wide, axes, correction=0)
            if self.training and self.track_running_stats and self.running_mean is not None:
                self._update_running(mean, var, count=x.numel() // self.num_features)
        else:
            mean, var = self.running_mean.to(x_wide.dtype), self.running_var.to(x_wide.dtype)

        mean, var, weight, bias = (None if own is None else self._along(x, own) for own in (mean, var, self.weight, self.bias))
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

    @staticmethod
    def _along(x: Tensor, per_channel: Tensor) -> Tensor:
        """Reshape C values so that they broadcast along the channel axis of x."""
        return per_channel.reshape(1, -1, *[1] * (x.dim() - 2))

    def _check(self, x: Tensor, use_batch: bool) -> None:
        name, shape = type(self).__name__, tuple(x.shape)
        if not x.is_floating_point():
            raise TypeError(f"{name} normalizes floating-point input, got {x.dtype}; convert it first: x.float()")
        if not 2 <= x.dim() <= 5:
            raise ValueError(f"{name} needs (N, C) to (N, C, D, H, W), 2 to 5 axes, got shape {shape}; "
                             "a single example needs a batch axis: x[None]")
        if x.shape[1] != self.num_features:
            raise ValueError(f"{name} was built for {self.num_features} channels, got {x.shape[1]} in axis 1 of shape "
                             f"{shape}; set num_features={x.shape[1]}, or move the channels to axis 1")
        own = self.weight if self.weight is not None else self.running_mean
        half_on_float = x.dtype in (torch.float16, torch.bfloat16) and own is not None and own.dtype == torch.float32
        if own is not None and own.dtype != x.dtype and not half_on_float:
            raise TypeError(f"{name} holds {own.dtype} and got {x.dtype}; convert one of them: "
                            f"layer.to({x.dtype}) or x.to({own.dtype})")
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


class FrozenBatchNorm(nn.Module):
    """Batch normalization with the statistics of the first batch it ever sees, kept for good: a control.

    It scales the network like batch normalization at initialization and never again: no statistic follows the weights,
    and no gradient flows through one. Shapes and errors as ``BatchNorm``; only the first batch needs two values per channel.
    """

    refuse_nonfinite = True

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("var", torch.ones(num_features))
        self.register_buffer("is_set", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        BatchNorm._check(self, x, use_batch=not self.is_set)
        if not self.is_set:
            var, mean = torch.var_mean(x.detach(), [axis for axis in range(x.dim()) if axis != 1], correction=0)
            self.mean.copy_(mean)
            self.var.copy_(var)
            self.is_set.fill_(True)
        along = BatchNorm._along
        x_hat = (x - along(x, self.mean)) / torch.sqrt(along(x, self.var) + self.eps)
        return x_hat * along(x, self.weight) + along(x, self.bias)


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

    def forward(self, x: Tensor) -> Tensor:
        BatchNorm._check(self, x, use_batch=self.training)
        along, wide = BatchNorm._along, x.to(torch.promote_types(x.dtype, torch.float32))
        if self.training:
            axes = [axis for axis in range(x.dim()) if axis != 1]
            mean = wide.mean(axes)
            norm = self._average_norm(wide - along(x, mean) if self.centred else wide, axes)
            with torch.no_grad():
                self.num_batches_tracked += 1
                weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                self.running_mean += weight * (mean - self.running_mean)
                self.running_norm += weight * (norm - self.running_norm)
        else:
            mean, norm = self.running_mean, self.running_norm
        y = (wide - along(x, mean)) / along(x, norm) * along(x, self.weight) + along(x, self.bias)
        return y.to(x.dtype)

    def _average_norm(self, y: Tensor, axes: list[int]) -> Tensor:
        if self.p == math.inf:
            return y.abs().amax(axes) + self.eps
        if self.p == 1:
            return y.abs().mean(axes) + self.eps
        return (y.abs().pow(self.p).mean(axes) + self.eps) ** (1 / self.p)

    def extra_repr(self) -> str:
        return f"{self.num_features}, p={self.p}, centred={self.centred}, eps={self.eps}, momentum={self.momentum}"


class FusedBatchNorm(nn.BatchNorm1d):
    """``BatchNorm`` on torch's fused kernel; like ours, one layer for 2 to 5 axes."""

    def _check_input_dim(self, x: Tensor) -> None:
        if not 2 <= x.dim() <= 5:
            raise ValueError(f"needs (N, C) to (N, C, D, H, W), 2 to 5 axes, got shape {tuple(x.shape)}")


class FusedNoisyBatchNorm(FusedBatchNorm):
    """``NoisyBatchNorm`` on torch's fused kernel."""

    def __init__(self, num_features: int, *args, n_mu: float = 0.5, n_sigma: float = 1.25, r_mu: float = 0.1,
                 r_sigma: float = 0.1, **kwargs) -> None:
        super().__init__(num_features, *args, **kwargs)
        self.n_mu, self.n_sigma, self.r_mu, self.r_sigma = n_mu, n_sigma, r_mu, r_sigma

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return covariate_noise(y, self.n_mu, self.n_sigma, self.r_mu, self.r_sigma) if self.training else y


# Every normalizer by name: (num_features, **options) -> module.
NORMS = {
    "none": lambda num_features: nn.Identity(),
    "batch": BatchNorm,
    "noisy_batch": NoisyBatchNorm,
    "noise": lambda num_features, **noise: CovariateNoise(**noise),
    "frozen": FrozenBatchNorm,
    "frozen_noise": lambda num_features, **noise: nn.Sequential(FrozenBatchNorm(num_features), CovariateNoise(**noise)),
    "l1": partial(LpNorm, p=1),
    "l2": partial(LpNorm, p=2),
    "linf": partial(LpNorm, p=math.inf),
    "centred_l1": partial(LpNorm, p=1, centred=True),
    "centred_l2": partial(LpNorm, p=2, centred=True),
    "centred_linf": partial(LpNorm, p=math.inf, centred=True),
}

# The same layers on torch's fused kernel: same result to rounding, several times faster.
FUSED = {"batch": FusedBatchNorm, "noisy_batch": FusedNoisyBatchNorm}


def make(name: str, num_features: int, fused: bool = False, **options) -> nn.Module:
    """The normalizer called ``name`` for ``num_features`` channels; ``fused`` only matters for speed.

    Raises:
        ValueError: an unknown name.
    """
    if name not in NORMS:
        raise ValueError(f"unknown normalizer {name!r}; there are {', '.join(NORMS)}")
    build = FUSED.get(name, NORMS[name]) if fused else NORMS[name]
    return build(num_features, **options)
