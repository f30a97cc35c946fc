"""What does each nonlinearity receive? Moments, percentiles and histograms of the layer inputs.

The *input of layer ℓ's nonlinearity*, called z in the course, is what comes out of the matrix product, or of the normalizer
where there is one. Its drift during training is what Ioffe & Szegedy 2015 named internal covariate shift.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bncourse.nets import Stack, activations
from bncourse.train import untouched


@torch.no_grad()
def nonlinearity_inputs(net: nn.Module, x: Tensor) -> dict[int, Tensor]:
    """Run ``net`` on ``x`` and return z of every hidden layer: {layer: (M, units, B)}.

    For a ``Stack``, x is (M, B, features). A plain MLP takes (B, features) and counts as M = 1. Any network whose
    nonlinearities are children called ``act1``, ``act2``, … will do; of an image, every position counts as an example.

    Raises:
        ValueError: no child of such a name.
    """
    kept = {}
    layers = getattr(net, "layers", net)
    listened = activations(layers)
    if not listened:
        raise ValueError(f"{type(layers).__name__} has no hidden layer to look at: call its nonlinearities act1, act2, …")

    def keep(layer):
        def hook(module, inputs):
            z = inputs[0].detach()
            kept[layer] = z.view(net.members, -1, z.shape[-1]) if isinstance(net, Stack) else z.movedim(1, 0).flatten(1)[None]
        return hook

    handles = [module.register_forward_pre_hook(keep(layer)) for layer, module in listened.items()]
    try:
        with untouched(net):  # In training mode, running statistics would follow the probe's batch.
            net(x)
    finally:
        for handle in handles:
            handle.remove()
    return kept


class Moments:
    """How far each unit's mean and standard deviation have moved: since the start, and since the last update.

    Columns, averaged over the units of a layer:
    ``mean``, ``sd``, ``moved``: |mean| and standard deviation of z now, and |Δmean| since the first call, all three in plain
    units of z;
    ``mean_drift``, ``sd_drift``: |Δ| since the first call, in units of the unit's standard deviation then (Santurkar et al.
    2018, Fig. 8, right-hand panels);
    ``mean_step``, ``sd_step``: |Δ| since the previous call, in units of the unit's standard deviation then; NaN unless that
    was one step earlier (Fig. 8, left).
    It remembers; a step that is not later than the last one begins a new run (networks trained one after another share a
    probe).
    """

    def __init__(self) -> None:
        self.first, self.last, self.last_step = {}, {}, None

    def __call__(self, net: nn.Module, x: Tensor, step: int) -> pd.DataFrame:
        rows = []
        if self.last_step is not None and step <= self.last_step:
            self.__init__()
        consecutive = self.last_step is not None and step == self.last_step + 1
        for layer, z in nonlinearity_inputs(net, x).items():
            mean, sd = z.mean(-1), z.std(-1)
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
        q = torch.quantile(z, torch.tensor([.15, .5, .85], device=z.device), dim=-1)  # (3, M, units)
        rows.append(pd.DataFrame({"member": range(len(z)), "layer": layer}
                                 | {name: q[i, :, unit].tolist() for i, name in enumerate(("p15", "p50", "p85"))}
                                 | {"spread": (q[2] - q[0]).mean(1).tolist()}))
    return pd.concat(rows, ignore_index=True)


class Histograms:
    """The distribution of z in each layer, every unit measured from where *its own* mean was at the first call.

    Seen this way a layer's histogram shows both things that can happen to a unit's input: it widens, and it wanders off.
    Columns ``bin`` (centre) and ``density``, one row per bin. Values beyond ``limit`` are counted in the outermost bins, so
    the density always adds up to one. It remembers; a step that is not later than the last one begins a new run.
    """

    coordinates = ("bin",)

    def __init__(self, limit: float = 4.0, bins: int = 40) -> None:
        self.edges = np.linspace(-limit, limit, bins + 1)
        self.first, self.last_step = {}, None

    def __call__(self, net: nn.Module, x: Tensor, step: int) -> pd.DataFrame:
        if self.last_step is not None and step <= self.last_step:
            self.first = {}
        self.last_step = step
        low, high = self.edges[0], self.edges[-1]
        centres, width = (self.edges[:-1] + self.edges[1:]) / 2, self.edges[1] - self.edges[0]
        rows = []
        for layer, z in nonlinearity_inputs(net, x).items():
            z = z - self.first.setdefault(layer, z.mean(-1, keepdim=True))
            for member, values in enumerate(z.flatten(1).cpu().numpy()):
                counts, _ = np.histogram(values.clip(low, high), self.edges)
                rows.append(pd.DataFrame({"member": member, "layer": layer, "bin": centres,
                                          "density": counts / len(values) / width}))
        return pd.concat(rows, ignore_index=True)
