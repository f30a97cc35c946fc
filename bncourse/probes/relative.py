"""Sharpness in a unit that rescaling cannot change: every weight matrix is moved by a fraction of its own length.

With batch norm behind a layer, its weights can be multiplied by any number without changing the function, and the top eigenvalue
of the Hessian changes; without normalization, between ReLUs, so can two layers by a and 1/a (Dinh et al. 2017, "Sharp minima can
generalize"). Differentiated with respect to *relative* moves, W + ‖W‖ M, all of these are one and the same number."""

import copy

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bncourse.nets import Stack
from bncourse.probes.curvature import top_eigenvalue
from bncourse.train import Alone, member_losses, weights_of


class Relative(nn.Module):
    """A copy of a network as a function of relative moves of its weight matrices, which are zero at first: W + ‖W‖ M. ‖W‖ is the
    Frobenius norm of each matrix (of a ``Stack``: of each member). Whatever else the network learns stays still."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(net)
        self.net.requires_grad_(False)
        if isinstance(net, Stack):
            self.members = net.members
        chosen = {id(weight) for weight in weights_of(self.net)}
        self.weights = {name: p.detach() for name, p in self.net.named_parameters() if id(p) in chosen}
        self.moves = nn.ParameterList([torch.zeros_like(weight) for weight in self.weights.values()])

    def forward(self, x: Tensor) -> Tensor:
        first = 1 if hasattr(self, "members") else 0  # a stack's first dimension counts members

        def moved(weight: Tensor, move: Tensor) -> Tensor:
            return weight + weight.flatten(first).norm(dim=-1).view(-1, *[1] * (weight.dim() - 1)) * move

        values = {name: moved(weight, move) for (name, weight), move in zip(self.weights.items(), self.moves)}
        return functional_call(self.net, values, (x,))


class RelativeCurvature:
    """The top eigenvalue with respect to relative moves as a probe for ``train``, on the batch of the coming update.
    Column: ``relative_sharpness``, a pure number: twice the loss, per squared fraction, of the worst small move."""

    looks_at_update = True

    def __init__(self, iterations: int = 30, tolerance: float = 1e-2) -> None:
        self.iterations, self.tolerance = iterations, tolerance

    def __call__(self, net: nn.Module, x: Tensor, step: int, *, y: Tensor, lr: Tensor) -> pd.DataFrame:
        if isinstance(net, Alone):
            net, x, y = net.layers, x[:1], y[:1]

        def loss(relative: Relative) -> Tensor:
            return member_losses(relative(x) if isinstance(net, Stack) else relative(x[0])[None], y)

        found = top_eigenvalue(Relative(net), loss, self.iterations, self.tolerance)
        return found[["member", "sharpness"]].rename(columns={"sharpness": "relative_sharpness"})
