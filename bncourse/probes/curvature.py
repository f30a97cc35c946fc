"""How sharply does the loss curve? The top eigenvalue of its Hessian, without ever writing the Hessian down.

A product of the Hessian with a vector costs about two gradients: it is the gradient of (∇L · v). Lanczos' method finds the end
of the spectrum from a few such products."""

from collections.abc import Callable
from contextlib import nullcontext

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm

from bncourse.probes.landscape import Line
from bncourse.train import Alone, batch_loss, frozen_statistics, untouched


def top_eigenvalue(net: nn.Module, loss: Callable[[nn.Module], Tensor], iterations: int = 60, tolerance: float = 1e-4,
                   seed: int = 0) -> pd.DataFrame:
    """The largest eigenvalue (not in magnitude) of the Hessian of ``loss(net)`` by all parameters that require a gradient.

    Lanczos with full reorthogonalization, for all members of a ``Stack`` at once. In training mode the batch statistics are part
    of the function; within ``train.frozen_statistics(net, x)`` they are constants. The network is left exactly as it was.

    Args:
        loss: net -> one number, for example ``batch_loss(x, y)``; of a ``Stack``, the loss of each member, (M,).
        iterations: Hessian-vector products at most.
        tolerance: stop when the error bound is below this fraction of the eigenvalue (of all members).
        seed: of the random start.

    Returns a row per member: ``sharpness``, the eigenvalue; ``sharpness_error``, a bound on how far the nearest eigenvalue is;
    ``lowest``, the smallest eigenvalue found (a rough one); ``converged``; ``iterations`` used. Where loss or gradient are not
    finite, ``sharpness`` and ``sharpness_error`` are infinite and it has not converged.
    Raises ValueError: nothing requires a gradient, the loss depends on nothing that does, a loss that is not one number (for
    each member), no iteration; hooks on parameters that change gradients; torch's weight_norm."""
    if iterations < 1:
        raise ValueError(f"iterations={iterations}: give at least one")
    for name, module in net.named_modules():
        if isinstance(module, _WeightNorm) or any(isinstance(hook, WeightNorm) for hook in module._forward_pre_hooks.values()):
            raise ValueError(f"{name}: torch's weight_norm gives wrong second derivatives (its norms count as constants there), "
                             "so the curvature would be wrong; register bncourse.norms.WeightNorm as the parametrization instead")
    line = Line(net, loss)
    with untouched(net), line.start, torch.enable_grad():
        theta = line.theta.requires_grad_()
        losses = line.losses(theta)
        [gradient] = torch.autograd.grad(losses.sum(), theta, create_graph=True)
        finite = torch.isfinite(losses) & torch.isfinite(gradient).all(1)

        def hessian_times(v: Tensor) -> Tensor:
            # A gradient that does not depend on theta, as of a linear loss, has a Hessian of zeros.
            if not gradient.requires_grad:
                return torch.zeros_like(v)
            found = torch.autograd.grad(gradient, theta, v, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            return torch.where(finite[:, None], found, 0)

        members, size = theta.shape
        generator = torch.Generator().manual_seed(seed)
        v = torch.randn(members, size, generator=generator, dtype=torch.float64).to(theta)
        v = v / v.norm(dim=1, keepdim=True)
        basis, diagonal, off = [v], [], []  # The vectors on the device; the few numbers on the CPU, in double precision.
        exhausted, usable = torch.zeros(members, dtype=torch.bool), finite.cpu()
        for iteration in range(1, min(iterations, size) + 1):
            w = hessian_times(basis[-1])
            # A member that is done repeats its first entry, which lies within its spectrum: a zero might lie outside.
            rayleigh = (w * basis[-1]).sum(1).cpu().double()
            diagonal.append(torch.where(exhausted, diagonal[0], rayleigh) if diagonal else rayleigh)
            Q = torch.stack(basis, 1)  # (M, iteration, P)
            for _ in range(2):  # Once is not enough in floating point; twice is (Parlett).
                w = w - ((Q @ w[:, :, None]).transpose(1, 2) @ Q)[:, 0]
            off.append(w.norm(dim=1).cpu().double())
            T = torch.diag_embed(torch.stack(diagonal, 1))  # The tridiagonal matrices of all members.
            if len(diagonal) > 1:
                beside = torch.stack(off[:-1], 1)
                T = T + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
            values, vectors = torch.linalg.eigh(T)  # ascending
            # The residual of a Ritz pair bounds its distance to an eigenvalue.
            error = off[-1] * vectors[:, -1, -1].abs()
            scale = values.abs().amax(1).clamp(min=torch.finfo(theta.dtype).tiny)
            converged = error <= tolerance * torch.maximum(values[:, -1].abs(), 1e-3 * scale)
            # A norm of nothing but rounding means the space is exhausted; the next direction would be noise.
            exhausted |= off[-1] <= 10 * torch.finfo(theta.dtype).eps * scale
            if (converged | exhausted | ~usable).all():
                break
            basis.append(w * torch.where(exhausted, 0, 1 / off[-1]).to(w)[:, None])
    sharpness = torch.where(usable, values[:, -1], torch.inf)
    error = torch.where(usable, error, torch.inf)
    return pd.DataFrame({"member": range(members), "sharpness": sharpness.tolist(), "sharpness_error": error.tolist(),
                         "lowest": torch.where(usable, values[:, 0], -torch.inf).tolist(),
                         "converged": ((converged | exhausted) & usable).tolist(), "iterations": iteration})


class Curvature:
    """``top_eigenvalue`` as a probe for ``train``, on the batch of the coming update; with "live" or "frozen" statistics.
    Columns: ``sharpness``, ``sharpness_lr``, that times the learning rate (2 at the edge of stability), ``sharpness_error``."""

    looks_at_update = True

    def __init__(self, statistics: str = "live", iterations: int = 30, tolerance: float = 1e-2) -> None:
        if statistics not in ("live", "frozen"):
            raise ValueError(f"statistics={statistics!r}; there are live and frozen")
        self.statistics, self.iterations, self.tolerance = statistics, iterations, tolerance

    def __call__(self, net: nn.Module, x: Tensor, step: int, *, y: Tensor, lr: Tensor) -> pd.DataFrame:
        if isinstance(net, Alone):
            net, x, y = net.layers, x[0], y[0]
        with frozen_statistics(net, x) if self.statistics == "frozen" else nullcontext():
            found = top_eigenvalue(net, batch_loss(x, y), self.iterations, self.tolerance)
        found["sharpness_lr"] = found.sharpness * torch.as_tensor(lr).cpu().numpy()
        return found[["member", "sharpness", "sharpness_lr", "sharpness_error"]]
