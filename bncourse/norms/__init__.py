"""The normalizers of the course, written out to be read: one idea a module, and one registry of them all by name.

Each can stand in for its ``torch.nn`` twin. Nothing here is fast: ``make(..., fused=True)`` builds the same layer on torch's
fused kernel where there is one, and training uses that."""

import math
from functools import partial

from torch import nn

from bncourse.norms.batch import BatchNorm, FusedBatchNorm
from bncourse.norms.examples import (
    TLU, ChannelRMSNorm, FilterResponseNorm, FusedGroupNorm, FusedInstanceNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm)
from bncourse.norms.frozen import FrozenBatchNorm
from bncourse.norms.lp import LpNorm
from bncourse.norms.mended import BatchRenorm, FusedGhostBatchNorm, GhostBatchNorm
from bncourse.norms.noise import CovariateNoise, FusedNoisyBatchNorm, NoisyBatchNorm
from bncourse.norms.tanh import DynamicTanh
from bncourse.norms.weights import WeightNorm, WeightStandardization

__all__ = [
    "FUSED", "NORMS", "TLU", "BatchNorm", "BatchRenorm", "ChannelRMSNorm", "CovariateNoise", "DynamicTanh",
    "FilterResponseNorm", "FrozenBatchNorm", "FusedBatchNorm", "FusedGhostBatchNorm", "FusedGroupNorm", "FusedInstanceNorm",
    "FusedNoisyBatchNorm", "GhostBatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "LpNorm", "NoisyBatchNorm", "RMSNorm",
    "WeightNorm", "WeightStandardization", "groups_for", "make"]


def groups_for(channels: int) -> int:
    """As many equal groups as leave at least 8 channels in each (Wu & He 2018 found 8 to 32 a group to serve alike)."""
    return max(groups for groups in range(1, max(1, channels // 8) + 1) if channels % groups == 0)


def _grouped(layer, num_features: int, num_groups: int | None = None, **options) -> nn.Module:
    return layer(groups_for(num_features) if num_groups is None else num_groups, num_features, **options)


# By name: (num_features, **options) -> module. Those with ``normalizes_weights`` belong on the weight of the layer before. "layer"
# and "rms" see all channels and positions of an example; ``LayerNorm`` and ``RMSNorm`` have the channels last, as in transformers.
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
    "layer": partial(_grouped, GroupNorm, num_groups=1),
    "group": partial(_grouped, GroupNorm),
    "instance": partial(InstanceNorm, affine=True),
    "rms": partial(_grouped, ChannelRMSNorm, num_groups=1),
    "frn": FilterResponseNorm,
    "dyt": DynamicTanh,
    "ghost": GhostBatchNorm,
    "batch_renorm": BatchRenorm,
    "weight": lambda num_features, **options: WeightNorm(**options),
    "weight_standardization": lambda num_features, **options: WeightStandardization(**{"scaled": True} | options),
}

# The same layers on torch's fused kernel: same result to rounding, several times faster.
FUSED = {
    "batch": FusedBatchNorm, "noisy_batch": FusedNoisyBatchNorm, "ghost": FusedGhostBatchNorm,
    "layer": partial(_grouped, FusedGroupNorm, num_groups=1), "group": partial(_grouped, FusedGroupNorm),
    "instance": partial(FusedInstanceNorm, affine=True),
}


def make(name: str, num_features: int, fused: bool = False, **options) -> nn.Module:
    """The normalizer called ``name`` for ``num_features`` channels; ``fused`` is for speed. Raises ValueError: an unknown
    name."""
    if name not in NORMS:
        raise ValueError(f"unknown normalizer {name!r}; there are {', '.join(NORMS)}")
    build = FUSED.get(name, NORMS[name]) if fused else NORMS[name]
    return build(num_features, **options)
