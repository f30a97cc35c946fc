"""What does each nonlinearity receive? Moments, percentiles and histograms of the layer inputs.

The *input of layer ℓ's nonlinearity*, called z in the course, is what comes out of the matrix product, or of the normalizer
where there is one. Its drift during training is what Ioffe & Szegedy 2015 named internal covariate shift."""

import weakref
from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bncourse.nets import Stack, activations
from bncourse.probes.again import Start
from bncourse.train import Alone, untouched

# Which axis of a module's output holds its units, by the name of the attribute that says how many there are.
UNITS = {"out_channels": 1, "num_features": 1, "num_channels": 1,
         "out_features": -1, "normalized_shape": -1, "embedding_dim": -1, "embed_dim": -1}


@torch.no_grad()
def nonlinearity_inputs(net: nn.Module, x: Tensor) -> dict[int, Tensor]:
    """Run ``net`` on ``x`` and return z of every hidden layer: {layer: (M, units, B)}.

    For a ``Stack``, x is (M, B, features). A plain MLP takes (B, features) and counts as M = 1. Any network whose
    nonlinearities are children called ``act1``, ``act2``, … will do, each called once, in whatever order; of an image or a
    sequence, every position counts as an example; the units are on the axis of the layer or normalizer before.
    Raises ValueError: no child of such a name, one under two names, one that is not called exactly once; z of three axes or
    more behind nothing that says which are the units."""
    layers = getattr(net, "layers", net) if isinstance(net, (Alone, Stack)) else net
    listened = activations(layers)
    if not listened:
        raise ValueError(f"{type(layers).__name__} has no hidden layer to look at: call its nonlinearities act1, act2, …")
    for module in listened.values():
        names = [f"act{layer}" for layer, other in listened.items() if other is module]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} are one and the same module, so which input belongs to which layer cannot "
                             "be told: give every layer a nonlinearity of its own")
    seen, units = {layer: [] for layer in listened}, []

    def note_units(module, inputs, output):
        found = [(axis, getattr(module, name)) for name, axis in UNITS.items() if hasattr(module, name)]
        units[:] = found[:1] or units

    def keep(layer):
        def hook(module, inputs, named):
            z, *others = [value for value in (*inputs, *named.values()) if isinstance(value, Tensor)] or [None]
            if z is None or others:
                raise ValueError(f"act{layer} takes {len(others) + (z is not None)} tensors; a nonlinearity takes one")
            seen[layer].append(_by_unit(net, z.detach(), units, layer))
        return hook

    # In training mode, running statistics would follow the probe's batch.
    with untouched(net), Start(net, x.device), ExitStack() as hooks:
        for layer, module in listened.items():
            hooks.enter_context(module.register_forward_pre_hook(keep(layer), with_kwargs=True))
        for module in () if isinstance(net, Stack) else layers.modules():
            if any(hasattr(module, name) for name in UNITS):
                hooks.enter_context(module.register_forward_hook(note_units))
        net(x)
    if wrong := [f"act{layer} {len(inputs)} times" for layer, inputs in seen.items() if len(inputs) != 1]:
        raise ValueError(f"one pass called {', '.join(wrong)}; a layer's nonlinearity is called once: give every place one of "
                         "its own, and leave out those that are not used")
    return {layer: seen[layer][0] for layer in sorted(seen)}


def _by_unit(net: nn.Module, z: Tensor, units: list[tuple[int, int]], layer: int) -> Tensor:
    """(M, units, B), in memory of its own: the nonlinearity, or what follows, may write over its input."""
    if isinstance(net, Stack):
        kept = z.view(net.members, -1, z.shape[-1])
    elif z.dim() == 2:
        kept = z.T[None]
    else:
        axis, count = units[0] if units else (None, None)
        count = count[-1] if isinstance(count, (tuple, list)) else count
        if z.dim() < 2 or axis is None or z.shape[axis] != count:
            raise ValueError(f"act{layer} receives {tuple(z.shape)}, and which axis of it holds the units cannot be told from "
                             "the layer before: call it where a linear layer, a convolution or a normalizer has just been")
        kept = z.movedim(axis, 0).flatten(1)[None]
    return kept.to(torch.promote_types(z.dtype, torch.float32), copy=True)


def mean_and_sd(z: Tensor) -> tuple[Tensor, Tensor]:
    """Over the last axis. ``Tensor.std`` takes eight times as long on a CPU."""
    mean = z.mean(-1)
    return mean, (z - mean[..., None]).norm(dim=-1) / (z.shape[-1] - 1) ** 0.5


class Moments:
    """How far each unit's mean and standard deviation have moved: since the start, and since the last update.

    Columns, averaged over the units of a layer: ``mean``, ``sd``, ``moved``: |mean| and standard deviation of z now, and |Δmean|
    since the first call, in units of z; ``mean_drift``, ``sd_drift``: |Δ| since the first call, in units of the unit's standard
    deviation then (Santurkar et al. 2018, Fig. 8, right); ``mean_step``, ``sd_step``: |Δ| since the previous call, in units of
    the unit's standard deviation then; NaN unless that was one step earlier (Fig. 8, left). It remembers; another network, or a
    step that is not later than the last one, begins a new run (networks trained one after another share a probe)."""

    def __init__(self) -> None:
        self.first, self.last, self.last_step, self.of = {}, {}, None, lambda: None  # A reference to no network.

    def __call__(self, net: nn.Module, x: Tensor, step: int) -> pd.DataFrame:
        rows = []
        if self.of() is not net or step <= self.last_step:
            self.__init__()
            self.of = weakref.ref(net)
        consecutive = self.last_step is not None and step == self.last_step + 1
        for layer, z in nonlinearity_inputs(net, x).items():
            mean, sd = mean_and_sd(z)
            first_mean, first_sd = self.first.setdefault(layer, (mean, sd))
            last_mean, last_sd = self.last[layer] if consecutive else (mean * torch.nan, sd * torch.nan)
            columns = {"mean": mean.abs(), "sd": sd, "moved": (mean - first_mean).abs(),
                       "mean_drift": _in_units_of(first_sd, mean - first_mean),
                       "sd_drift": _in_units_of(first_sd, sd - first_sd),
                       "mean_step": _in_units_of(last_sd, mean - last_mean),
                       "sd_step": _in_units_of(last_sd, sd - last_sd)}
            rows.append(pd.DataFrame({"member": range(len(z)), "layer": layer} |
                                     {name: values.nanmean(1).tolist() for name, values in columns.items()}))
            self.last[layer] = mean, sd
        self.last_step = step
        return pd.concat(rows, ignore_index=True)


def _in_units_of(sd: Tensor, change: Tensor) -> Tensor:
    """|change| / sd. A unit that did not vary has no scale of its own: NaN, left out of the average, not divided by zero."""
    return change.abs() / torch.where(sd > 1e-12, sd, torch.nan)


def percentiles(net: nn.Module, x: Tensor, step: int, unit: int = 0) -> pd.DataFrame:
    """The {15, 50, 85}th percentiles of z (Ioffe & Szegedy 2015, Fig. 1b, c): ``p15, p50, p85`` of one unit, and
    ``spread``, p85 − p15 averaged over all units of the layer."""
    rows = []
    for layer, z in nonlinearity_inputs(net, x).items():
        q = np.quantile(np.sort(z.cpu(), -1), [.15, .5, .85], -1)  # (3, M, units); torch sorts thirty times as slowly.
        rows.append(pd.DataFrame({"member": range(len(z)), "layer": layer}
                                 | {name: q[i, :, unit].tolist() for i, name in enumerate(("p15", "p50", "p85"))}
                                 | {"spread": (q[2] - q[0]).mean(1).tolist()}))
    return pd.concat(rows, ignore_index=True)


class Histograms:
    """The distribution of z in each layer, every unit measured from where *its own* mean was at the first call.

    Columns ``bin`` (centre) and ``density``, one row per bin. Values beyond ``limit`` are counted in the outermost bins, so
    the density always adds up to one. It remembers, as ``Moments`` does."""

    coordinates = ("bin",)

    def __init__(self, limit: float = 4.0, bins: int = 40) -> None:
        self.edges = np.linspace(-limit, limit, bins + 1)
        self.first, self.last_step, self.of = {}, None, lambda: None

    def __call__(self, net: nn.Module, x: Tensor, step: int) -> pd.DataFrame:
        if self.of() is not net or step <= self.last_step:
            self.first, self.of = {}, weakref.ref(net)
        self.last_step = step
        centres, width = (self.edges[:-1] + self.edges[1:]) / 2, self.edges[1] - self.edges[0]
        rows = []
        for layer, z in nonlinearity_inputs(net, x).items():
            z = z - self.first.setdefault(layer, z.mean(-1, keepdim=True))
            for member, values in enumerate(z.flatten(1).cpu().numpy()):
                counts, _ = np.histogram(values.clip(*self.edges[[0, -1]]), self.edges)
                counts = counts if np.isfinite(values).all() else counts * np.nan  # NaN falls into no bin.
                rows.append(pd.DataFrame({"member": member, "layer": layer, "bin": centres,
                                          "density": counts / len(values) / width}))
        return pd.concat(rows, ignore_index=True)
