"""What does the loss look like along the gradient? Santurkar et al. 2018, Fig. 4.

From the weights of the moment, theta, walk along a straight line against the gradient, theta - s ∇L(theta), and look at the loss
and at the gradient from several distances s. Nothing is trained on the way: this is one network, one batch and one line. (The
range of losses over *several trainings* with different learning rates, which is often plotted in its place, compares different
networks and says nothing about the landscape around any of them.)
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bncourse.norms import FrozenBatchNorm
from bncourse.train import Alone, batch_loss, frozen_statistics, untouched


def along_gradient(net: nn.Module, loss: Callable[[nn.Module], Tensor], step_sizes: Sequence[float] | Tensor,
                   distance: bool = False, at_once: bool = False) -> pd.DataFrame:
    """Loss and gradient of ``net`` at theta - s ∇L(theta), for several s.

    The network is left exactly as it was: parameters, buffers, random numbers, mode. Noise inside it is the same at every s,
    and at theta.

    Args:
        loss: net -> one number, for example ``batch_loss(x, y)``; of a ``Stack``, the loss of each member, (M,).
        step_sizes: s, in units of a learning rate: (S,), or (S, M) for a ``Stack``.
        distance: ``step_sizes`` are distances s ‖∇L‖ instead, so that networks with gradients of different size are compared
            equally far from where they are.
        at_once: evaluate all S together with ``torch.func.vmap``; the same numbers, faster for a single small network. Not for
            a network that draws random numbers or decides by a value (``FrozenBatchNorm``, running statistics without momentum).

    Returns:
        A row per (member, step size): ``step_size``, s; ``distance``, s ‖∇L‖; ``loss``, L(theta - s ∇L); ``gradient_change``,
        ‖∇L(theta - s ∇L) - ∇L(theta)‖; ``beta``, that divided by the distance: what smoothness asks for here (the effective
        beta of the paper is the maximum over s); ``start_loss`` and ``gradient_norm``, L and ‖∇L‖ at theta; ``diverged``: loss
        or gradient is not finite, and then all three measures are infinite. With a zero gradient there is no direction to
        walk in: ``beta`` is NaN, undefined.

    Raises:
        ValueError: nothing requires a gradient, the loss depends on nothing that does, a loss that is not one number (for each
            member), no step sizes, a step size that is not a positive number.
    """
    line = Line(net, loss)
    members = line.members
    steps = torch.as_tensor(step_sizes, dtype=line.theta.dtype, device=line.theta.device)
    if steps.numel() == 0 or steps.dim() not in (1, 2) or not (torch.isfinite(steps) & (steps > 0)).all():
        raise ValueError(f"step_sizes={step_sizes}: give a list of at least one, all of them positive numbers")
    if steps.dim() == 2 and steps.shape[1] not in (1, members):
        raise ValueError(f"step_sizes of shape {tuple(steps.shape)} for {members} members: give (S,) or (S, {members})")
    steps = steps.view(len(steps), -1).expand(-1, members)  # (S, M)

    with untouched(net), torch.enable_grad():
        [start_loss], [gradient] = line.look(line.theta[None])
        norm = gradient.norm(dim=1)
        if distance:
            steps = steps / torch.where(norm > 0, norm, math.nan)
        walked = line.theta - torch.where(norm > 0, steps, 0)[:, :, None] * gradient  # (S, M, P)
        if at_once:
            losses, gradients = line.look_at_once(walked)
        else:
            losses, gradients = line.look(walked)

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
        self.members = getattr(net, "members", 1)
        self.module = _Measured(net, loss)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("nothing in the network requires a gradient, so there is nothing to look at: "
                             "call net.requires_grad_()")
        self.theta = torch.cat([p.detach().reshape(self.members, -1) for p in self.parameters], 1)
        self.random = torch.cuda.get_rng_state(self.theta.device) if self.theta.is_cuda else torch.get_rng_state()
        # Batch renormalization reads its running statistics in training too, and every pass moves them. Frozen statistics are
        # set by the first pass and must not be forgotten.
        self.buffers = {buffer: buffer.clone() for module in net.modules() if not isinstance(module, FrozenBatchNorm)
                        for buffer in module.buffers(recurse=False)}

    @torch.no_grad()
    def rewind(self) -> None:
        """Running statistics as they were, so that every point is looked at from the same state."""
        for buffer, value in self.buffers.items():
            buffer.copy_(value)

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """(..., M, P) -> the parameters by name, (..., *shape)."""
        pieces = theta.split([p.numel() // self.members for p in self.parameters], dim=-1)
        return self._by_name("_parameters", {p: piece.reshape(*theta.shape[:-2], *p.shape)
                                             for p, piece in zip(self.parameters, pieces)})

    def _by_name(self, kind: str, values: dict[Tensor, Tensor]) -> dict[str, Tensor]:
        """A value for every place of a tensor, which may have several; a module used twice is one place.

        (Left to tie weights by itself, functional_call would leave its own values behind in a module used twice.)
        """
        return {f"{prefix}.{name}": values[own] for prefix, module in self.module.named_modules()
                for name, own in getattr(module, kind).items() if own in values}

    def losses(self, theta: Tensor) -> Tensor:
        """(M, P) -> (M,)."""
        self.rewind()
        values = functional_call(self.module, self.named(theta), (), tie_weights=False)
        if not isinstance(values, Tensor) or values.numel() != self.members:
            wanted = "one number" if self.members == 1 else f"one number for each of {self.members} members"
            raise ValueError(f"the loss must be {wanted}, got {getattr(values, 'shape', type(values).__name__)}; "
                             "average it over the batch: loss.mean()")
        if not values.requires_grad:
            raise ValueError("the loss does not depend on anything that requires a gradient")
        return values.view(self.members)

    def look(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (S, M) and gradients (S, M, P) at each of S points, with the same random numbers at all of them, call after
        call."""
        found = []
        for theta in thetas:
            torch.cuda.set_rng_state(self.random, theta.device) if theta.is_cuda else torch.set_rng_state(self.random)
            theta = theta.detach().requires_grad_()
            losses = self.losses(theta)
            found.append((losses.detach(), torch.autograd.grad(losses.sum(), theta)[0]))
        return tuple(map(torch.stack, zip(*found)))

    def look_at_once(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """The same in one go."""
        self.rewind()
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
        self.net, self.loss = net, loss

    def forward(self) -> Tensor:
        return self.loss(self.net)


def _one_at_a_time(module: nn.Module) -> bool:
    """Whether vmap would fail: on random numbers, or on a branch or a weight that hangs on the value of a tensor."""
    draws = isinstance(module, nn.modules.dropout._DropoutNd) or hasattr(module, "n_mu")
    asks = isinstance(module, FrozenBatchNorm) or getattr(module, "momentum", 0) is None
    return asks or (module.training and draws)


class Landscape:
    """``along_gradient`` as a probe for ``train``: from the weights before an update, on the batch of that update.

    Args:
        multiples: step sizes, in units of the run's own learning rate (the paper, for VGG: from 1/2 to 4).
        distances: give these for the same *distances* ‖Δtheta‖ in every run, in place of multiples.
        statistics: "live", batch statistics that follow the weights along the line, as in training; or "frozen", held at what
            they are at its start.

    Columns, one row per member: ``loss_low``, ``loss_high``, ``loss_range`` over the line; the same of the gradient's change
    (``change_low``, ``change_high``, ``change_range``; "gradient predictiveness"); ``beta``, the effective beta: the largest of
    all step sizes; ``beta_lr``, beta times the learning rate, which is 2 at the edge of stability; ``gradient_norm``;
    ``walk_diverged``, at how many step sizes the loss was not finite (high, range and beta are infinite then).
    """

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
        if self.statistics == "frozen":
            with frozen_statistics(net, x):
                return self._summary(net, x, y, lr)
        return self._summary(net, x, y, lr)

    def _summary(self, net, x, y, lr) -> pd.DataFrame:
        steps = self.distances if self.distances is not None else torch.tensor(self.multiples, device=lr.device)[:, None] * lr
        # Measured: vmap gains while the single passes are too small to keep a core busy, and loses after that.
        small = (x.shape[0] * x.shape[1] if hasattr(net, "members") else len(x)) < 512
        line = along_gradient(net, batch_loss(x, y), steps, distance=self.distances is not None,
                              at_once=small and not any(map(_one_at_a_time, net.modules())))
        by = line.groupby("member")
        frame = pd.DataFrame({f"{short}_{end}": getattr(by[column], how)() for short, column in
                              (("loss", "loss"), ("change", "gradient_change")) for end, how in (("low", "min"), ("high", "max"))})
        for short in ("loss", "change"):
            # Infinite from one end to the other is infinite, not undefined.
            low, high = frame[f"{short}_low"], frame[f"{short}_high"]
            frame[f"{short}_range"] = (high - low).where(np.isfinite(high), high)
        frame["beta"] = by.beta.max()
        frame["beta_lr"] = frame.beta * lr.cpu().numpy()
        frame["gradient_norm"] = by.gradient_norm.first()
        frame["walk_diverged"] = by.diverged.sum().astype(float)
        return frame.reset_index()
