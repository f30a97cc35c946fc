"""The five statements of section 4 of Santurkar et al. 2018, each computed twice: by autograd and by formula.

The setting is theirs. One fully connected layer gives a batch of m outputs y = W x per unit; batch normalization *without*
eps passes on z = gamma * y_hat + beta with y_hat = (y - mu) / sigma; everything behind it is ``loss``. With g = dL/dz for what
arrives from behind, one vector of m numbers per unit, the backward pass of batch normalization is

    dL/dy = (gamma / sigma) * (g - <1, g> / m - y_hat * <g, y_hat> / m):

remove the part of g along 1 and the part along y_hat (they are orthogonal, and both have squared length m), then scale. All
the theorems about gradients follow from this line. In every function here

* ``y`` is float64, (m, units) with m >= 2; ``gamma`` and ``beta`` are constants, numbers or float64 of shape (units,);
* ``loss`` maps z, (m, units), to a scalar, every time to the same; it may couple units and examples;
* the result is ``Sides``, one entry per unit, in the units of the loss and of y (a squared gradient: loss² / y²). The left
  side comes from autograd *through* batch normalization, the right side from the formula;
* nothing is changed: no ``.grad``, no random numbers.

They raise TypeError: y, gamma, beta or the loss are not in double precision; y or the loss is not a tensor. ValueError: y is not
(m, units) with m >= 2, or not finite; gamma or beta have another shape; a unit does not vary over the batch; the loss is not a
scalar, does not depend on z, or has a gradient that is not finite.

Functions called ``printed_...`` and ``plain_...`` compute what the paper's text says, literally, where that is not what its
proofs show. Their inequality fails; chapter 07 counts how often."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
EPS = torch.finfo(torch.float64).eps
TINY = torch.finfo(torch.float64).tiny


class Sides(NamedTuple):
    """Both sides of a statement, per unit, and the size of what is added up in them."""

    left: Tensor
    right: Tensor
    scale: Tensor

    @property
    def relative_error(self) -> Tensor:
        """|left - right| / scale, per unit. Not relative to the sides themselves: both may be what little is left of large terms
        (for m = 2, nothing), and agree to rounding *of those*. ``scale`` is the sum of their absolute values before anything is
        projected out; a scale of zero counts as the smallest normal number."""
        return (self.left - self.right).abs() / self.scale.clamp(min=TINY)

    @property
    def holds(self) -> Tensor:
        """Whether left <= right, per unit, up to 1e-12 of ``scale``: the statement read as an inequality."""
        return self.left - self.right <= 1e-12 * self.scale.clamp(min=TINY)


@dataclass(frozen=True)
class Pass:
    """What meets at one batch normalization: ``y_hat``, ``z`` and ``g`` = dL/dz, (m, units); ``mu``, ``sigma``, ``gamma``,
    (units,)."""

    y_hat: Tensor
    z: Tensor
    g: Tensor
    mu: Tensor
    sigma: Tensor
    gamma: Tensor

    @property
    def gain(self) -> Tensor:
        """|gamma| / sigma, per unit: above 1 it amplifies."""
        return (self.gamma / self.sigma).abs()

    @property
    def along_one(self) -> Tensor:
        """<1, g> per unit, which is dL/dbeta."""
        return self.g.sum(0)

    @property
    def along_y_hat(self) -> Tensor:
        """<g, y_hat> per unit, which is dL/dgamma."""
        return (self.g * self.y_hat).sum(0)

    @property
    def removed(self) -> Tensor:
        """The share of ||g||² that the projection takes away, per unit: 0 to 1, and 0 where g is zero."""
        parts = self.along_one.square() + self.along_y_hat.square()
        return parts / len(self.g) / self.g.square().sum(0).clamp(min=TINY)

    def backward(self) -> Tensor:
        """dL/dy by the formula above, (m, units)."""
        m = len(self.g)
        return self.gamma / self.sigma * (self.g - self.along_one / m - self.y_hat * self.along_y_hat / m)


def batch_norm(y: Tensor, gamma: float | Tensor = 1.0, beta: float | Tensor = 0.0) -> Tensor:
    """gamma * (y - mu) / sigma + beta over the first axis, without eps, differentiable."""
    y_hat, _, _ = _normalize(y)
    return gamma * y_hat + beta


def look(y: Tensor, loss: Loss, gamma: float | Tensor = 1.0, beta: float | Tensor = 0.0) -> Pass:
    """Normalize ``y``, hand it to ``loss``, and keep what the theorems speak of."""
    y, gamma, beta = _checked(y, gamma, beta)
    y_hat, mu, sigma = _normalize(y)
    z = gamma * y_hat + beta
    return Pass(y_hat, z, _gradient(loss, z), mu, sigma, gamma)


def gradient_magnitude(y: Tensor, loss: Loss, gamma: float | Tensor = 1.0, beta: float | Tensor = 0.0) -> Sides:
    """Theorem 4.1, an equality: ||dL/dy||² = (gamma² / sigma²) (||g||² - <1, g>² / m - <g, y_hat>² / m).

    1 / sqrt(m) and y_hat / sqrt(m) are orthogonal unit vectors: squared lengths in the backward pass above (Pythagoras)."""
    at, left = look(y, loss, gamma, beta), _gradient_through(y, loss, gamma, beta).square().sum(0)
    m, g_squared = len(at.g), at.g.square().sum(0)
    right = at.gain.square() * (g_squared - at.along_one.square() / m - at.along_y_hat.square() / m)
    return Sides(left, right, at.gain.square() * g_squared)


def printed_gradient_magnitude(y: Tensor, loss: Loss, gamma: float | Tensor = 1.0, beta: float | Tensor = 0.0) -> Sides:
    """Theorem 4.1 as version 3 prints it, ||dL/dy||² <= ..., with <g, y_hat>² / sqrt(m) as its last term: sqrt(m) times too much
    is taken away, so it fails wherever <g, y_hat> is not zero."""
    at, (left, _, scale) = look(y, loss, gamma, beta), gradient_magnitude(y, loss, gamma, beta)
    m = len(at.g)
    right = at.gain.square() * (at.g.square().sum(0) - at.along_one.square() / m - at.along_y_hat.square() / m ** 0.5)
    return Sides(left, right, scale)


def plain_gradient_magnitude(y: Tensor, loss: Loss, gamma: float | Tensor = 1.0, beta: float | Tensor = 0.0) -> Sides:
    """Theorem 4.1 read as a comparison of two networks with the same weights: g is the gradient of the *plain* network, which
    hands y itself to ``loss``. Nothing ties it to the left side (unless gamma = sigma and beta = mu, where z = y)."""
    at, left = look(y, loss, gamma, beta), _gradient_through(y, loss, gamma, beta).square().sum(0)
    g, m = _gradient(loss, y), len(y)
    g_squared = g.square().sum(0)
    right = at.gain.square() * (g_squared - g.sum(0).square() / m - (g * at.y_hat).sum(0).square() / m)
    return Sides(left, right, at.gain.square() * (g_squared + at.g.square().sum(0)))


def gradient_curvature(y: Tensor, loss: Loss, gamma: float | Tensor = 1.0, beta: float | Tensor = 0.0) -> Sides:
    """Theorem 4.2, an equality. With u = dL/dy and H the Hessian of the loss in z, both of one unit:

        u' (d²L/dy²) u = (gamma² / sigma²) u' H u - (gamma / (m sigma²)) <g, y_hat> ||u||².

    Step from y along u. Since u is orthogonal to 1 and to y_hat, mu stays, sigma² grows to sigma² + t² ||u||² / m, and so
    d²z/dt² = -gamma y_hat ||u||² / (m sigma²) at t = 0, while dz/dt = (gamma / sigma) u. Chain rule.
    Either side takes a Hessian-vector product per unit."""
    at, u = look(y, loss, gamma, beta), _gradient_through(y, loss, gamma, beta)
    left = (u * _curvature_times(lambda y: loss(batch_norm(y, gamma, beta)), y, u)).sum(0)
    u, m = at.backward(), len(at.g)  # From here on by formula.
    h_u, h_g = (_curvature_times(loss, at.z, v) for v in (u, at.g))
    right = (at.gain.square() * (u * h_u).sum(0) - at.gamma / (m * at.sigma.square()) * at.along_y_hat * u.square().sum(0))
    # The same with nothing projected out: g in place of u, and the largest <g, y_hat> that g allows.
    g_norm = at.g.norm(dim=0)
    u_size = at.gain * g_norm
    h_size = torch.maximum(h_u.norm(dim=0), at.gain * h_g.norm(dim=0))
    scale = at.gain.square() * u_size * h_size + at.gain / (m ** 0.5 * at.sigma) * g_norm * u_size.square()
    return Sides(left, right, scale)


def same_minimum(y: Tensor) -> Sides:
    """Observation 4.3: with gamma = sigma and beta = mu batch normalization passes y on unchanged. Left z, right y, (m, units).

    So no value of the loss is lost. A *minimum* in W stays one if the layer has a bias (or 1 is a combination of its inputs), and
    not in general (chapter 07)."""
    y, _, _ = _checked(y, 1.0, 0.0)
    _, mu, sigma = _normalize(y)
    return Sides(batch_norm(y, sigma, mu), y, y.abs().amax(0).expand_as(y))


def worst_case_gradient(y: Tensor, loss: Loss, gamma: float | Tensor = 1.0, beta: float | Tensor = 0.0,
                        lam: float = 1.0) -> Sides:
    """Theorem 4.4, corrected. Among all batches of inputs X, (m, inputs), of spectral norm at most ``lam`` that give the
    outputs y, take the largest squared gradient of a unit's weights, with batch normalization (left) and without. With
    g_max = lam² ||g||² for the one without:

        max ||dL/dW||² = (gamma² / sigma²) (g_max - lam² m mean(g)² - (lam² / m) <g, y_hat>²).

    dL/dW = X' dL/dy is at most lam times as long as dL/dy, and X = lam * identity with W = y' / lam is as long: put that
    into 4.1. The left side is autograd's gradient of W at this X. Raises ValueError, too: lam is not positive."""
    y, lam = _worst_case_output(y, gamma, beta, lam)
    x, w = lam * torch.eye(len(y), dtype=torch.float64, device=y.device), (y / lam).T  # w is (units, inputs), of m inputs here.
    w_gradient = _gradient(lambda w: loss(batch_norm(x @ w.T, gamma, beta)), w)
    at = look(x @ w.T, loss, gamma, beta)
    m, g_max = len(y), lam ** 2 * at.g.square().sum(0)
    right = at.gain.square() * (g_max - lam ** 2 * m * at.g.mean(0).square() - lam ** 2 / m * at.along_y_hat.square())
    return Sides(w_gradient.square().sum(1), right, at.gain.square() * g_max)


def printed_worst_case_gradient(y: Tensor, loss: Loss, gamma: float | Tensor = 1.0, beta: float | Tensor = 0.0,
                                lam: float = 1.0, squared_twice: bool = True) -> Sides:
    """Theorem 4.4 as printed: max ||dL/dW||² <= (gamma² / sigma²) (g_max² - m mean(g)² - lam² <g, y_hat>²).

    g_max is defined there as a *squared* norm and then squared again; ``squared_twice=False`` reads it kindly, as the norm:
    g_max² = lam² ||g||². What remains: lam² is missing from one term and 1 / m from the other."""
    left, _, scale = worst_case_gradient(y, loss, gamma, beta, lam)
    y, lam = _worst_case_output(y, gamma, beta, lam)
    at, m = look(y, loss, gamma, beta), len(y)
    g_max = lam ** 2 * at.g.square().sum(0)
    right = at.gain.square() * ((g_max.square() if squared_twice else g_max) - m * at.g.mean(0).square()
                                - lam ** 2 * at.along_y_hat.square())
    return Sides(left, right, scale)


def initialization_gain(w0: Tensor, w_star: Tensor) -> Sides:
    """Theorem 4.5 (a lemma in the paper): the squared distance from ``w0`` to the nearest optimum.

    Scaling W does not change a batch-normalized network, so if W* is an optimum then k W* is one for every k > 0. Left: the
    squared distance to the nearest of these. Right: ||W0 - W*||² - (||W*||² - <W*, W0>)² / ||W*||². They are equal, at
    k = <W*, W0> / ||W*||²: the foot of the perpendicular. There may be nearer optima on other rays, hence the paper's <=.

    ``w0`` and ``w_star`` are float64 tensors of one shape, any shape; the norm is that of all numbers together, so the result has
    one entry. Raises TypeError: not float64 tensors. ValueError: different shapes, numbers that are not finite, or <w0, w_star>
    <= 0. """
    for name, w in (("w0", w0), ("w_star", w_star)):
        _double(name, w)
    if w0.shape != w_star.shape:
        raise ValueError(f"w0 has shape {tuple(w0.shape)}, w_star {tuple(w_star.shape)}; they are two values of the same weights")
    w0, w_star = w0.detach().flatten(), w_star.detach().flatten()
    if not (w0 * w_star).sum() > 0:
        raise ValueError(f"<w0, w_star> = {(w0 * w_star).sum():.3g}, but the theorem needs it above 0: otherwise no point k * "
                         "w_star with k > 0 is nearest to w0 (the ray only comes closest at its end, k = 0, which is not on it)")
    away = w0 - w_star
    # Where on the ray is the distance smallest? It is quadratic in k, so one Newton step from k = 1 gets there.
    with torch.enable_grad():
        step = torch.zeros((), dtype=torch.float64, device=w0.device, requires_grad=True)
        squared_distance = (away - step * w_star).square().sum()
        [slope] = torch.autograd.grad(squared_distance, step, create_graph=True)
        [curvature] = torch.autograd.grad(slope, step)
    left = (away + slope.detach() / curvature * w_star).square().sum()
    inner = (w_star * away).sum()  # <W*, W0> - ||W*||², without subtracting two large numbers.
    return Sides(left, away.square().sum() - inner.square() / w_star.square().sum(), away.square().sum())


def _normalize(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y_hat, mu and sigma over the first axis."""
    mu = y.mean(0)
    centred = y - mu
    centred = centred - centred.mean(0)  # Once more: of a large mean, the first time leaves the rounding of its last digit.
    sigma = centred.square().mean(0).sqrt()
    return centred / sigma, mu, sigma


def _gradient_through(y: Tensor, loss: Loss, gamma, beta) -> Tensor:
    """dL/dy by autograd through batch normalization, (m, units)."""
    return _gradient(lambda y: loss(batch_norm(y, gamma, beta)), y)


@torch.enable_grad()
def _gradient(function: Loss, at: Tensor) -> Tensor:
    return _differentiate(function, at.detach().requires_grad_())


@torch.enable_grad()
def _curvature_times(function: Loss, at: Tensor, direction: Tensor) -> Tensor:
    """H_jj v_j for every unit j: the block of the Hessian of unit j with itself, times column j of ``direction``."""
    at = at.detach().requires_grad_()
    gradient = _differentiate(function, at, create_graph=True)
    if not gradient.requires_grad:  # The loss is linear.
        return torch.zeros_like(direction)
    columns = []
    for j in range(at.shape[1]):
        [product] = torch.autograd.grad(gradient[:, j] @ direction[:, j], at, retain_graph=True, materialize_grads=True)
        columns.append(product[:, j])
    return torch.stack(columns, 1)


def _differentiate(function: Loss, at: Tensor, create_graph: bool = False) -> Tensor:
    """The gradient of function(at), checked to be one that the theorems can be about."""
    value = function(at)
    if not isinstance(value, Tensor):
        raise TypeError(f"the loss gave a {type(value).__name__}; it has to be a tensor that autograd can follow back to z")
    if value.dim():
        raise ValueError(f"the loss gave shape {tuple(value.shape)}, not a scalar: end it in .sum() or .mean()")
    if value.dtype != torch.float64:
        raise TypeError(f"the loss gave {value.dtype}; it has to stay in float64 all the way: convert what it uses "
                        "(.double()), and do not convert z")
    [gradient] = torch.autograd.grad(value, at, create_graph=create_graph, allow_unused=True) if value.requires_grad else [None]
    if gradient is None:
        raise ValueError("the loss does not depend on z as far as autograd can see, so there is no gradient; compute it from "
                         "its argument, without .detach(), .item() or no_grad()")
    if not torch.isfinite(gradient).all():
        raise ValueError("the gradient of the loss is not finite (NaN or infinity) here, and the theorems say nothing about it; "
                         "look at the loss and at its z")
    return gradient


def _double(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; give a float64 tensor: torch.tensor(..., dtype=torch.float64)")
    if tensor.dtype != torch.float64:
        raise TypeError(f"{name} is {tensor.dtype}, and equality to twelve digits can only be seen in float64: {name}.double() "
                        "(and the layers that made it, for digits that mean something)")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} has NaN or infinity in it; look for what produced it")


def _checked(y: Tensor, gamma: float | Tensor, beta: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y detached, gamma and beta as tensors of shape (units,)."""
    _double("y", y)
    if y.dim() != 2:
        raise ValueError(f"y has shape {tuple(y.shape)}; needed is (m, units), m outputs of each unit. One unit: y[:, None]")
    m, units = y.shape
    if m < 2 or units < 1:
        raise ValueError(f"y has shape {(m, units)}: the statistics need a batch of at least 2 examples, of at least 1 unit")
    y, per_unit = y.detach(), []
    for name, value in (("gamma", gamma), ("beta", beta)):
        if not isinstance(value, Tensor):
            value = torch.tensor(value, dtype=torch.float64, device=y.device)
        _double(name, value)
        if value.shape not in ((), (units,)):
            raise ValueError(f"{name} has shape {tuple(value.shape)}; needed is one number, or one for each of the {units} "
                             f"units: ({units},)")
        per_unit.append(value.detach().expand(units))
    _, _, sigma = _normalize(y)
    still = (sigma <= 4 * EPS * y.abs().amax(0)).nonzero().flatten().tolist()
    if still:
        raise ValueError(f"units {still[:5]}{'...' if len(still) > 5 else ''} do not vary over the batch: their sigma is 0 up to "
                         "rounding, and without eps there is nothing to divide by; leave such units out")
    return y, *per_unit


def _worst_case_output(y: Tensor, gamma, beta, lam: float) -> tuple[Tensor, float]:
    """y as W = y' / lam and X = lam * identity give it back, rounded as they round."""
    if not 0 < lam < float("inf"):
        raise ValueError(f"lam={lam}: a bound on the norm of the inputs is a positive number")
    y, _, _ = _checked(y, gamma, beta)
    return lam * (y / lam), float(lam)
