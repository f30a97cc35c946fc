"""What does the loss look like along the gradient? Santurkar et al. 2018, Fig. 4.

From the weights of the moment, theta, walk along a straight line against the gradient, theta - s ∇L(theta), and look at the loss
and at the gradient from several distances s. Nothing is trained on the way. (The range of losses over *several trainings*, which
is often plotted in its place, says nothing about the landscape around any network.)"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bncourse.nets import Stack
from bncourse.norms import FrozenBatchNorm
from bncourse.probes.again import Start, known
from bncourse.train import Alone, batch_loss, frozen_statistics, untouched


def along_gradient(net: nn.Module, loss: Callable[[nn.Module], Tensor], step_sizes: Sequence[float] | Tensor,
                   distance: bool = False, at_once: bool = False) -> pd.DataFrame:
    """Loss and gradient of ``net`` at theta - s ∇L(theta), for several s.

    The network is left exactly as it was: parameters, buffers, random numbers, mode. Noise inside it (dropout too) is the same
    at every s, and at theta. Parameters that require no gradient stay where they are, as in training.

    Args:
        loss: net -> one number, for example ``batch_loss(x, y)``; of a ``Stack``, the loss of each member, (M,).
        step_sizes: s, in units of a learning rate: (S,), or (S, M) for a ``Stack``.
        distance: ``step_sizes`` are distances s ‖∇L‖ instead, so that networks with gradients of different size are compared
            equally far from where they are.
        at_once: evaluate all S together with ``torch.func.vmap``; the same numbers, faster for a single small network. Not for
            a network that draws random numbers or decides by a value (``FrozenBatchNorm``, running statistics without momentum).

    Returns a row per (member, step size): ``step_size``, s; ``distance``, s ‖∇L‖; ``loss``, L(theta - s ∇L); ``gradient_change``,
    ‖∇L(theta - s ∇L) - ∇L(theta)‖; ``beta``, that divided by the distance (the effective beta of the paper is the maximum over
    s); ``start_loss`` and ``gradient_norm``, L and ‖∇L‖ at theta; ``diverged``: loss or gradient is not finite, and then all
    three measures are infinite. With a zero gradient ``beta`` is NaN.
    Raises ValueError: nothing requires a gradient, the loss depends on nothing that does, a loss that is not one number (for
    each member), no step sizes, a step size that is not a positive number; a network that is not the same function in every
    pass (``again.Start``), or whose gradients are changed by hooks on its parameters."""
    line = Line(net, loss)
    members = line.members
    steps = torch.as_tensor(step_sizes, dtype=line.theta.dtype, device=line.theta.device)
    if steps.numel() == 0 or steps.dim() not in (1, 2) or not (torch.isfinite(steps) & (steps > 0)).all():
        raise ValueError(f"step_sizes={step_sizes}: give a list of at least one, all of them positive numbers")
    if steps.dim() == 2 and steps.shape[1] not in (1, members):
        raise ValueError(f"step_sizes of shape {tuple(steps.shape)} for {members} members: give (S,) or (S, {members})")
    steps = steps.view(len(steps), -1).expand(-1, members)  # (S, M)

    with untouched(net), line.start, torch.enable_grad():
        [start_loss], [gradient] = line.look(line.theta[None])
        norm = gradient.norm(dim=1)
        if distance:
            steps = steps / torch.where(norm > 0, norm, math.nan)
        walked = line.theta - torch.where(norm > 0, steps, 0)[:, :, None] * gradient  # (S, M, P)
        losses, gradients = (line.look_at_once if at_once else line.look)(walked)
        if not line.start.all_known:
            line.start.check(start_loss, line.losses(line.theta.requires_grad_()).detach())

    change = (gradients - gradient).norm(dim=2)
    far = torch.where(norm > 0, steps * norm, math.nan if distance else 0.0)
    diverged = ~(torch.isfinite(losses) & torch.isfinite(change) & torch.isfinite(start_loss))
    beta = change / far  # 0/0 is NaN in torch, without a warning: just what an undefined slope should be.
    losses, change, beta = (torch.where(diverged, math.inf, value) for value in (losses, change, beta))
    columns = {"step_size": steps, "distance": far, "loss": losses, "gradient_change": change, "beta": beta,
               "start_loss": start_loss.expand_as(steps), "gradient_norm": norm.expand_as(steps), "diverged": diverged}
    frame = pd.DataFrame({name: value.T.flatten().cpu().numpy() for name, value in columns.items()})
    frame.insert(0, "member", [member for member in range(members) for _ in steps])
    return frame


class Line:
    """``loss(net)`` as a function of the weights alone, written as flat vectors, (M, P): P numbers for each of M members."""

    def __init__(self, net: nn.Module, loss: Callable[[nn.Module], Tensor]) -> None:
        members = getattr(net, "members", 1)
        self.members = members if isinstance(members, int) else 1  # A network may keep something else under that name.
        self.module = _Measured(net, loss)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("nothing in the network requires a gradient, so there is nothing to look at: "
                             "call net.requires_grad_()")
        if hooked := [name for name, p in net.named_parameters() if p._backward_hooks]:
            raise ValueError(f"hooks change the gradient of {', '.join(hooked)}, so a step would not follow the gradient of the "
                             "loss: remove them, or freeze parameters with requires_grad_(False)")
        self.theta = torch.cat([p.detach().reshape(self.members, -1) for p in self.parameters], 1)
        # Batch renormalization, for one, reads its running statistics in training too, and every pass moves them.
        self.start = Start(net, self.theta.device)

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """(..., M, P) -> the parameters by name, (..., *shape)."""
        pieces = theta.split([p.numel() // self.members for p in self.parameters], dim=-1)
        return self._by_name("_parameters", {p: piece.reshape(theta.shape[:-2] + p.shape).to(p.dtype)
                                             for p, piece in zip(self.parameters, pieces)})

    def _by_name(self, kind: str, values: dict[Tensor, Tensor]) -> dict[str, Tensor]:
        """A value for every place of a tensor, which may have several; a module used twice is one place. (Left to tie weights by
        itself, functional_call would leave its own values behind in a module used twice.)"""
        return {f"{prefix}.{name}": values[own] for prefix, module in self.module.named_modules()
                for name, own in getattr(module, kind).items() if own in values}

    def losses(self, theta: Tensor) -> Tensor:
        """(M, P) -> (M,), every time from the same start."""
        self.start.rewind()
        values = functional_call(self.module, self.named(theta), (), tie_weights=False)
        if not isinstance(values, Tensor) or values.numel() != self.members:
            wanted = "one number" if self.members == 1 else f"one number for each of {self.members} members"
            raise ValueError(f"the loss must be {wanted}, got {getattr(values, 'shape', type(values).__name__)}; "
                             "average it over the batch: loss.mean()")
        if not values.requires_grad:
            raise ValueError("the loss does not depend on anything that requires a gradient")
        return values.view(self.members)

    def look(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (S, M) and gradients (S, M, P) at each of S points."""
        found = []
        for theta in thetas:
            theta = theta.detach().requires_grad_()
            losses = self.losses(theta)
            found.append((losses.detach(), torch.autograd.grad(losses.sum(), theta)[0]))
        return tuple(map(torch.stack, zip(*found)))

    def look_at_once(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """The same in one go."""
        self.start.rewind()
        buffers = self._by_name("_buffers", {buffer: buffer.expand(len(thetas), *buffer.shape).clone()
                                             for buffer in self.module.buffers()})
        thetas = thetas.detach().requires_grad_()
        losses = vmap(lambda values: functional_call(self.module, values, (), tie_weights=False))(
            {**self.named(thetas), **buffers})
        losses = losses.view(len(thetas), self.members)
        return losses.detach(), torch.autograd.grad(losses.sum(), thetas)[0]


class _Measured(nn.Module):
    """A network and what is measured of it, behind the interface that ``functional_call`` wants."""

    def __init__(self, net: nn.Module, loss: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.net = net
        self.forward = lambda: loss(self.net)  # The loss may be a module, whose parameters are not the network's.


def _gains(net: nn.Module, x: Tensor) -> bool:
    """Whether looking at all points at once is faster: while the single passes are too small to keep a core busy, and without
    convolutions. vmap would fail on random numbers, on a branch or a weight that hangs on the value of a tensor, and perhaps on a
    reader's own module."""
    def one_by_one(module: nn.Module) -> bool:
        draws = isinstance(module, (nn.modules.dropout._DropoutNd, nn.RReLU)) or hasattr(module, "n_mu")
        asks = isinstance(module, FrozenBatchNorm) or getattr(module, "momentum", 0) is None
        return asks or not known(module) or (module.training and draws) or isinstance(module, nn.modules.conv._ConvNd)
    work = sum(p.numel() for p in net.parameters()) * (x.shape[1] if isinstance(net, Stack) else len(x))
    return work < 10_000_000 and not any(map(one_by_one, net.modules()))


class Landscape:
    """``along_gradient`` as a probe for ``train``: from the weights before an update, on the batch of that update.

    Args:
        multiples: step sizes, in units of the run's own learning rate (the paper, for VGG: from 1/2 to 4).
        distances: give these for the same *distances* ‖Δtheta‖ in every run, in place of multiples.
        statistics: "live", batch statistics that follow the weights along the line, as in training; or "frozen".

    Columns, one row per member: ``loss_low``, ``loss_high``, ``loss_range`` over the line; the same of the gradient's change
    (``change_low``, ``change_high``, ``change_range``; "gradient predictiveness"); ``beta``, the largest of all step sizes;
    ``beta_lr``, beta times the learning rate, which is 2 at the edge of stability; ``whole_gradient_norm``, of all parameters
    together; ``walk_diverged``, at how many step sizes the loss was not finite (high, range and beta are infinite then)."""

    looks_at_update = True

    def __init__(self, multiples: Sequence[float] = (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4),
                 distances: Sequence[float] | None = None, statistics: str = "live") -> None:
        if statistics not in ("live", "frozen"):
            raise ValueError(f"statistics={statistics!r}; there are live and frozen")
        for name, steps in (("multiples", multiples), ("distances", (1,) if distances is None else distances)):
            if not len(steps) or not all(math.isfinite(step) and step > 0 for step in steps):
                raise ValueError(f"{name}={steps}: give at least one, all of them positive numbers")
        self.multiples, self.distances, self.statistics = multiples, distances, statistics

    def __call__(self, net: nn.Module, x: Tensor, step: int, *, y: Tensor, lr: Tensor) -> pd.DataFrame:
        if isinstance(net, Alone):
            net, x, y = net.layers, x[0], y[0]
        lr, distance = torch.as_tensor(lr), self.distances is not None
        steps = self.distances if distance else torch.tensor(self.multiples, device=lr.device)[:, None] * lr
        with frozen_statistics(net, x) if self.statistics == "frozen" else nullcontext():
            line = along_gradient(net, batch_loss(x, y), steps, distance, at_once=_gains(net, x))
        by = line.groupby("member")
        frame = pd.DataFrame({f"{short}_{end}": getattr(by[column], how)() for short, column in
                              (("loss", "loss"), ("change", "gradient_change")) for end, how in (("low", "min"), ("high", "max"))})
        for short in ("loss", "change"):
            # Infinite from one end to the other is infinite, not undefined.
            low, high = frame[f"{short}_low"], frame[f"{short}_high"]
            frame[f"{short}_range"] = (high - low).where(np.isfinite(high), high)
        frame["beta"] = by.beta.max()
        frame["beta_lr"] = frame.beta * lr.cpu().numpy()
        frame["whole_gradient_norm"] = by.gradient_norm.first()
        frame["walk_diverged"] = by.diverged.sum().astype(float)
        return frame.reset_index()
