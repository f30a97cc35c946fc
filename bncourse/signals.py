"""Mirrored weights, and what is left of a batch of images deep in an untrained network. For the chapter on gradient flow."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncourse import nets
from bncourse.train import member_losses


def mirrored(fan_in: int, fan_out: int, generator: torch.Generator, first: bool = False, last: bool = False) -> Tensor:
    """Orthogonal weights (fan_in, fan_out) between pairs of units y, -y: relu(y) - relu(-y) = y (Balduzzi et al. 2017)."""
    rows, columns = fan_in if first else fan_in // 2, fan_out if last else fan_out // 2
    w = nn.init.orthogonal_(torch.empty(rows, columns), generator=generator)
    w = w if last else torch.cat([w, -w], 1)
    return w if first else torch.cat([w, -w], 0)


@torch.no_grad()
def mirror(net: nets.MLP, seed: int) -> nets.MLP:
    """The network with mirrored weights in the place of its own."""
    generator = torch.Generator().manual_seed(seed)
    linears = [module for module in net if isinstance(module, nn.Linear)]
    for linear in linears:
        first, last = linear is linears[0], linear is linears[-1]
        linear.weight.copy_(mirrored(linear.in_features, linear.out_features, generator, first, last).T)
    return net


def soft_rank(h: Tensor) -> np.ndarray:
    """Of (seeds, examples, units): how many singular values are at least a tenth of the largest, one number per seed."""
    s = torch.linalg.svdvals(h)
    return (s >= 0.1 * s[:, :1]).sum(1).double().numpy()


def likeness(h: Tensor, x: Tensor) -> np.ndarray:
    """Correlation, over all pairs of examples, of their cosine in ``h`` with that in ``x``, both seen from the batch mean."""
    def cosines(h):
        h = F.normalize(h - h.mean(1, keepdim=True), dim=2)
        above = torch.triu_indices(h.shape[1], h.shape[1], 1)
        return (h @ h.transpose(1, 2))[:, above[0], above[1]].numpy()
    return np.array([np.corrcoef(here, there)[0, 1] for here, there in zip(cosines(h), cosines(x))])


class Movement:
    """Probe: length of each weight matrix and of its gradient, how far it has moved in units of its first length, and the
    product <W, gradient>. Needs a stack of networks (more than one seed), and a look at step 0."""

    looks_at_update = True

    def __init__(self) -> None:
        self.start = None

    def __call__(self, net: nn.Module, x: Tensor, step: int, *, y: Tensor, lr: Tensor) -> pd.DataFrame:
        weights = [module.weight for module in net.modules() if isinstance(module, nets.StackedLinear)]
        with torch.enable_grad():
            gradients = torch.autograd.grad(member_losses(net(x), y).sum(), weights)
        now = [w.detach().flatten(1).clone() for w in weights]
        self.start = now if step == 0 else self.start
        return pd.concat([
            pd.DataFrame(dict(
                member=range(len(w)), layer=layer, length=w.norm(dim=1).cpu(), gradient=g.flatten(1).norm(dim=1).cpu(),
                moved=((w - w0).norm(dim=1) / w0.norm(dim=1)).cpu(), along=(w * g.flatten(1)).sum(1).cpu()))
            for layer, (w, w0, g) in enumerate(zip(now, self.start, gradients), start=1)])
