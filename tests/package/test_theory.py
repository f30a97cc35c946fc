"""The statements of Santurkar et al. 2018, section 4: both sides agree on any problem, and a wrong formula would be noticed."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bncourse import theory
from bncourse.theory import Sides

TOLERANCE = 1e-12
ABOUT_GRADIENTS = (theory.gradient_magnitude, theory.gradient_curvature, theory.worst_case_gradient)
NOT_AS_PROVED = (theory.printed_gradient_magnitude, theory.plain_gradient_magnitude, theory.printed_worst_case_gradient)


def squares(z, random):
    target = random(*z.shape)
    return lambda z: (z - target).square().mean()


def cross_entropy(z, random):
    m, units = z.shape
    weight, labels = random(units, 7), random(m, 7).argmax(1)
    return lambda z: F.cross_entropy(torch.relu(z) @ weight, labels)


def coupled(z, random):
    """Units and examples all depend on one another, and the Hessian is indefinite."""
    m, units = z.shape
    mix, blend = random(units, 5), random(m, m) / m
    return lambda z: torch.tanh(z @ mix).square().sum() + torch.sin(blend @ z).sum() + z.exp().sum().log()


def linear(z, random):
    weight = random(*z.shape)
    return lambda z: (weight * z).sum()


def of_the_statistics(z, random):
    """g lies in the span of 1 and y_hat: everything is projected out."""
    return lambda z: z.square().sum() + z.sum().square()


def faint(z, random):
    """Squares of its gradient are smaller than float64 can hold; those of ``weak`` just fit."""
    return lambda z: 1e-170 * z.pow(3).sum()


def weak(z, random):
    return lambda z: 1e-70 * z.pow(3).sum()


LOSSES = (squares, cross_entropy, coupled, linear, of_the_statistics, faint, weak)


def problem(m=16, units=4, loss=coupled, seed=0, offset=1.0, spread=2.0, gamma_size=1.0):
    """y, loss, gamma (of both signs) and beta, float64, from one seed."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    y = spread * (random(m, units) + offset)
    return y, loss(y, random), gamma_size * random(units), random(units)


problems = st.builds(problem, m=st.integers(2, 40) | st.sampled_from([130, 301]), units=st.integers(1, 6),
                     loss=st.sampled_from(LOSSES), seed=st.integers(0, 10_000), offset=st.sampled_from([0.0, 1.0, 1e3, 1e6]),
                     spread=st.sampled_from([1e-4, 1.0, 1e3]), gamma_size=st.sampled_from([1e-3, 1.0, 30.0]))


def assert_equal_sides(sides: Sides) -> None:
    assert sides.left.shape == sides.right.shape == sides.scale.shape
    assert all(side.dtype == torch.float64 and not side.requires_grad and torch.isfinite(side).all() for side in sides)
    # A side that is smaller than any normal number has no digits to agree in, and may be flushed to zero.
    normal = (sides.left.abs() > theory.TINY) | (sides.right.abs() > theory.TINY)
    assert not normal.any() or sides.relative_error[normal].max() <= TOLERANCE


# The statements.


@pytest.mark.parametrize("statement", ABOUT_GRADIENTS)
@given(problems)
def test_equal_on_any_problem(statement, problem):
    assert_equal_sides(statement(*problem))
    assert statement(*problem).holds.all()


@given(problems, st.sampled_from([1e-3, 0.3, 1.0, 17.0]))
def test_worst_case_for_any_bound(problem, lam):
    assert_equal_sides(theory.worst_case_gradient(*problem, lam=lam))


@given(problems)
def test_normalization_can_pass_y_on_unchanged(problem):
    y, loss, _, _ = problem
    sides = theory.same_minimum(y)
    assert_equal_sides(sides)
    assert sides.right is not y and torch.equal(sides.right, y)
    assert loss(sides.left).item() == pytest.approx(loss(y).item(), rel=1e-9)


@given(st.integers(0, 1000), st.sampled_from([(1,), (3,), (4, 7), (40, 30)]), st.sampled_from([1e-9, 0.1, 1.0, 10.0]))
def test_initialization(seed, shape, distance):
    generator = torch.Generator().manual_seed(seed)
    w0 = torch.randn(shape, generator=generator, dtype=torch.float64)
    w_star = w0 + distance * torch.randn(shape, generator=generator, dtype=torch.float64)
    if not (w0 * w_star).sum() > 0:
        with pytest.raises(ValueError, match="above 0"):
            theory.initialization_gain(w0, w_star)
        return
    sides = theory.initialization_gain(w0, w_star)
    assert_equal_sides(sides)
    assert sides.left <= sides.scale * (1 + TOLERANCE), "the ray passes through W* itself"
    for k in (0.1, 0.9, 1.0, 1.1, 5.0):
        assert sides.left <= (w0 - k * w_star).square().sum() * (1 + TOLERANCE)


def test_scaled_weights_are_the_same_network():
    # Why every k W* is an optimum.
    x, (_, _, gamma, beta) = torch.randn(16, 5).double(), problem()
    w = torch.randn(5, 4).double()
    for k in (0.01, 3.0):
        assert torch.allclose(theory.batch_norm(x @ (k * w), gamma, beta), theory.batch_norm(x @ w, gamma, beta), rtol=1e-12)


# Sizes and limits.


def test_a_batch_of_two_loses_everything():
    y, loss, gamma, beta = problem(m=2)
    at = theory.look(y, loss, gamma, beta)
    assert at.y_hat.abs().numpy() == pytest.approx(1)
    assert at.removed.numpy() == pytest.approx(1)
    for statement in ABOUT_GRADIENTS:
        sides = statement(y, loss, gamma, beta)
        assert (sides.left.abs() <= TOLERANCE * sides.scale).all() and (sides.scale > 0).all()


def test_a_unit_without_gradient_counts_as_equal():
    y, _, gamma, beta = problem()
    for statement in ABOUT_GRADIENTS:
        sides = statement(y, lambda z: z[:, 0].square().sum(), gamma, beta)
        assert sides.left[1:].tolist() == sides.right[1:].tolist() == [0, 0, 0]
        assert_equal_sides(sides)
    assert theory.look(y, lambda z: z[:, 0].square().sum(), gamma, beta).removed[1:].tolist() == [0, 0, 0]


def test_a_gamma_of_zero_and_numbers_for_gamma_and_beta():
    y, loss, _, _ = problem()
    assert_equal_sides(theory.gradient_curvature(y, loss, 0.0, 1.0))
    numbers, tensors = (theory.gradient_magnitude(y, loss, gamma, beta) for gamma, beta in (
        (-0.5, 2), (torch.full((4,), -0.5).double(), torch.tensor(2.0).double())))
    assert all(torch.equal(*pair) for pair in zip(numbers, tensors))


def test_nothing_is_changed():
    y, loss, gamma, beta = problem()
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    for tensor in (y, gamma, beta):
        tensor.requires_grad_()
    before, state = y.detach().clone(), torch.get_rng_state()
    with torch.no_grad():
        for statement in (*ABOUT_GRADIENTS, *NOT_AS_PROVED):
            sides = statement(y, lambda z: loss(z * weight), gamma, beta)
            assert not any(side.requires_grad for side in sides)
        at = theory.look(y, loss, gamma, beta)
    assert not any(getattr(at, name).requires_grad for name in ("y_hat", "z", "g", "mu", "sigma", "gamma"))
    assert torch.equal(before, y) and torch.equal(state, torch.get_rng_state())
    assert all(tensor.grad is None for tensor in (y, gamma, beta, weight))


# Against linear algebra that knows none of the formulas.


def test_against_the_whole_jacobian_and_hessian():
    y, loss, gamma, beta = problem(m=6, units=3)
    at = theory.look(y, loss, gamma, beta)
    m, units = y.shape
    jacobian = torch.autograd.functional.jacobian(lambda y: theory.batch_norm(y, gamma, beta), y)
    gradient = torch.einsum("bj,bjck->ck", at.g, jacobian)
    hessian = torch.autograd.functional.hessian(lambda y: loss(theory.batch_norm(y, gamma, beta)), y)
    for j in range(units):
        project = torch.eye(m).double() - 1 / m - at.y_hat[:, j, None] * at.y_hat[:, j] / m
        assert torch.allclose(jacobian[:, j, :, j], gamma[j] / at.sigma[j] * project, atol=1e-14)
    assert torch.allclose(at.backward(), gradient, atol=1e-14)
    assert torch.allclose(theory.gradient_magnitude(y, loss, gamma, beta).left, gradient.square().sum(0), rtol=1e-10)
    curvature = torch.stack([gradient[:, j] @ hessian[:, j, :, j] @ gradient[:, j] for j in range(units)])
    assert torch.allclose(theory.gradient_curvature(y, loss, gamma, beta).left, curvature, rtol=1e-10)


def test_the_inner_products_are_the_gradients_of_gamma_and_beta():
    y, loss, gamma, beta = problem()
    gamma.requires_grad_(), beta.requires_grad_()
    for_gamma, for_beta = torch.autograd.grad(loss(theory.batch_norm(y, gamma, beta)), (gamma, beta))
    at = theory.look(y, loss, gamma, beta)
    assert torch.allclose(at.along_y_hat, for_gamma, rtol=1e-12) and torch.allclose(at.along_one, for_beta, rtol=1e-12)
    assert torch.allclose(at.gain, (gamma.abs() / y.std(0, correction=0)).detach(), rtol=1e-12)


@pytest.mark.parametrize("lam", [0.5, 1.0, 4.0])
def test_no_other_batch_of_inputs_is_worse(lam):
    y, loss, gamma, beta = problem(m=8)
    worst = theory.worst_case_gradient(y, loss, gamma, beta, lam=lam).left

    def weight_gradient(x):
        w = torch.linalg.solve(x, y).requires_grad_()  # The weights that give y from these inputs.
        [gradient] = torch.autograd.grad(loss(theory.batch_norm(x @ w, gamma, beta)), w)
        return gradient.square().sum(0)

    for _ in range(50):
        x = torch.randn(8, 8).double()
        x *= lam / torch.linalg.matrix_norm(x, 2)
        assert (weight_gradient(x) <= worst * (1 + 1e-9)).all()
        rotation = lam * torch.linalg.qr(x).Q
        assert torch.allclose(weight_gradient(rotation), worst, rtol=1e-9)


def test_agrees_with_the_layer_of_the_course_up_to_its_eps():
    from bncourse.norms import BatchNorm

    y, loss, gamma, beta = problem(offset=0)
    layer = BatchNorm(4, eps=1e-14, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(gamma), layer.bias.copy_(beta)
    y.requires_grad_()
    [gradient] = torch.autograd.grad(loss(layer(y)), y)
    assert torch.allclose(gradient, theory.look(y, loss, gamma, beta).backward(), rtol=1e-9, atol=1e-12)


# What the paper prints.


@settings(max_examples=40)
@given(problems)
def test_the_printed_4_1_fails_wherever_gamma_has_a_gradient(problem):
    sides, at = theory.printed_gradient_magnitude(*problem), theory.look(*problem)
    m, taken = len(at.g), at.along_y_hat.square() / at.g.square().sum(0).clamp(min=theory.TINY)
    too_much = (m ** -0.5 - 1 / m) * taken
    assert not sides.holds[(too_much > 1e-9) & (sides.scale > 1e-300)].any()
    assert sides.holds[too_much < 1e-13].all()


def test_the_gradient_of_the_plain_network_bounds_nothing():
    y, loss, _, _ = problem(units=6, m=32)
    # The same network in two positions of y: normalization sees no difference, the plain network does.
    near, far = (theory.plain_gradient_magnitude(y + shift, loss) for shift in (0.0, -3.0))
    assert torch.allclose(near.left, far.left, rtol=1e-9) and not torch.allclose(near.right, far.right, rtol=1e-2)
    # A plain network at its minimum has no gradient; the normalized one has.
    at_minimum = theory.plain_gradient_magnitude(y, lambda z: (z - y).pow(4).sum())
    assert at_minimum.right.abs().max() == 0 and (at_minimum.left > 0).all() and not at_minimum.holds.any()
    # At z = y the two are one network, and it holds.
    at = theory.look(y, loss)
    same = theory.plain_gradient_magnitude(y, loss, at.sigma, at.mu)
    assert (same.left - same.right).abs().max() <= TOLERANCE * same.scale.max()


def test_whether_the_printed_4_4_holds_depends_on_the_unit_of_the_loss():
    y, loss, gamma, beta = problem(m=32)

    def share(times, **reading):
        return theory.printed_worst_case_gradient(y, lambda z: times * loss(z), gamma, beta, **reading).holds.double().mean()

    assert share(1e-4) == 0 and share(1e4) == 1
    assert share(1e-4, squared_twice=False) == share(1e4, squared_twice=False) == 0


def test_the_printed_4_4_term_by_term():
    y, loss, gamma, beta = problem(m=9)
    at, lam = theory.look(y, loss, gamma, beta), 3.0
    proved = theory.worst_case_gradient(y, loss, gamma, beta, lam)
    for squared_twice in (True, False):
        printed = theory.printed_worst_case_gradient(y, loss, gamma, beta, lam, squared_twice)
        g_max = lam ** 2 * at.g.square().sum(0)
        expected = (g_max ** (1 + squared_twice) - 9 * at.g.mean(0) ** 2 - lam ** 2 * at.along_y_hat ** 2) * at.gain ** 2
        assert torch.equal(printed.left, proved.left)
        assert torch.allclose(printed.right, expected, rtol=1e-9)


# These tests can fail.


@pytest.mark.parametrize("m", [3, 20])
@pytest.mark.parametrize("wrong", ["no mean", "no y_hat", "root", "gain once", "g of y"])
def test_a_wrong_4_1_is_noticed(wrong, m):
    y, loss, gamma, beta = problem(m=m)
    sides, at = theory.gradient_magnitude(y, loss, gamma, beta), theory.look(y, loss, gamma, beta)
    one, hat, g = at.along_one ** 2 / m, at.along_y_hat ** 2 / m, at.g.square().sum(0)
    right = {"no mean": at.gain ** 2 * (g - hat), "no y_hat": at.gain ** 2 * (g - one),
             "root": theory.printed_gradient_magnitude(y, loss, gamma, beta).right,
             "gain once": at.gain * (g - one - hat), "g of y": theory.plain_gradient_magnitude(y, loss, gamma, beta).right}
    assert_equal_sides(sides)
    with pytest.raises(AssertionError):
        assert_equal_sides(sides._replace(right=right[wrong]))


@pytest.mark.parametrize("wrong", ["sign", "gamma squared", "no second term"])
def test_a_wrong_4_2_is_noticed(wrong):
    y, loss, gamma, beta = problem()
    sides, at = theory.gradient_curvature(y, loss, gamma, beta), theory.look(y, loss, gamma, beta)
    term = gamma / (len(y) * at.sigma ** 2) * at.along_y_hat * at.backward().square().sum(0)
    change = {"sign": 2 * term, "gamma squared": term - gamma * term, "no second term": term}[wrong]
    with pytest.raises(AssertionError):
        assert_equal_sides(sides._replace(right=sides.right + change))


@pytest.mark.parametrize("statement", ABOUT_GRADIENTS)
@pytest.mark.parametrize("detached", ["mu", "sigma"])
def test_a_backward_pass_that_forgets_a_statistic_is_noticed(statement, detached, monkeypatch):
    def forgetful(y, gamma=1.0, beta=0.0):
        mu, sigma = y.mean(0), y.std(0, correction=0)
        return gamma * (y - (mu.detach() if detached == "mu" else mu)) / (sigma.detach() if detached == "sigma" else sigma) + beta

    problem_ = problem()
    assert_equal_sides(statement(*problem_))
    monkeypatch.setattr(theory, "batch_norm", forgetful)
    with pytest.raises(AssertionError):
        assert_equal_sides(statement(*problem_))


def test_a_wrong_4_5_is_noticed():
    w0, w_star = torch.tensor([2.0, 1.0]).double(), torch.tensor([3.0, 0.0]).double()
    sides = theory.initialization_gain(w0, w_star)
    assert sides.left.item() == sides.right.item() == 1 and sides.scale.item() == 2  # The nearest point of the ray is (2, 0).
    with pytest.raises(AssertionError):
        assert_equal_sides(sides._replace(right=sides.right + 1e-9))


def test_relative_to_the_terms_not_to_what_is_left_of_them():
    sides = Sides(*torch.tensor([[1e-20, 1, 0, 5e-324], [0, 1, 0, 0], [1, 1, 0, 0]], dtype=torch.float64))
    assert sides.relative_error.tolist() == [1e-20, 0, 0, pytest.approx(2.2e-16, rel=0.1)]
    assert sides.holds.tolist() == [True, True, True, True]
    assert not Sides(*torch.tensor([1.1, 1, 1]).double()).holds


# Bad input.


@pytest.mark.parametrize("statement", [*ABOUT_GRADIENTS, *NOT_AS_PROVED, theory.look])
@pytest.mark.parametrize("wrong, error, says", [
    (dict(y=torch.randn(8, 3)), TypeError, r"y is torch.float32.*y.double\(\)"),
    (dict(y=torch.ones(8, 3).long()), TypeError, "int64"),
    (dict(y=[[1.0, 2.0]]), TypeError, "y is a list"),
    (dict(y=torch.randn(8).double()), ValueError, r"\(m, units\).*y\[:, None\]"),
    (dict(y=torch.randn(8, 3, 2).double()), ValueError, r"\(m, units\)"),
    (dict(y=torch.randn(1, 3).double()), ValueError, "at least 2 examples"),
    (dict(y=torch.randn(8, 0).double()), ValueError, "at least 1 unit"),
    (dict(y=torch.tensor([[1.0, 0.1], [2.0, 0.1], [4.0, 0.1]]).double()), ValueError, r"units \[1\] do not vary"),
    (dict(y=torch.tensor([[1.0, float("nan")], [2.0, 0.0]]).double()), ValueError, "NaN"),
    (dict(gamma=torch.ones(3)), TypeError, "gamma is torch.float32"),
    (dict(gamma=torch.ones(4).double()), ValueError, r"gamma has shape \(4,\).*\(3,\)"),
    (dict(beta=torch.ones(8, 3).double()), ValueError, "beta has shape"),
    (dict(beta=float("nan")), ValueError, "beta has NaN"),
    (dict(loss=lambda z: z.square()), ValueError, r"shape \(8, 3\), not a scalar.*\.mean\(\)"),
    (dict(loss=lambda z: z.square().sum().reshape(1)), ValueError, "not a scalar"),
    (dict(loss=lambda z: z.square().sum().item()), TypeError, "gave a float"),
    (dict(loss=lambda z: z.float().square().sum()), TypeError, r"float32.*\.double\(\)"),
    (dict(loss=lambda z: z.detach().square().sum()), ValueError, "does not depend on z"),
    (dict(loss=lambda z: torch.ones((), dtype=torch.float64, requires_grad=True) * 2), ValueError, "does not depend on z"),
    (dict(loss=lambda z: z.sum() * float("nan")), ValueError, "not finite"),
])
def test_bad_input(statement, wrong, error, says):
    good = dict(y=torch.randn(8, 3).double(), loss=lambda z: z.square().mean(), gamma=1.0, beta=0.0)
    statement(**good)
    with pytest.raises(error, match=says):
        statement(**good | wrong)


@pytest.mark.parametrize("lam", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("statement", [theory.worst_case_gradient, theory.printed_worst_case_gradient])
def test_a_bound_is_positive(statement, lam):
    with pytest.raises(ValueError, match="positive"):
        statement(*problem(), lam=lam)


def test_same_minimum_checks_its_input():
    with pytest.raises(TypeError, match="float32"):
        theory.same_minimum(torch.randn(8, 3))
    with pytest.raises(ValueError, match="do not vary"):
        theory.same_minimum(torch.ones(8, 3).double())


@pytest.mark.parametrize("w0, w_star, error, says", [
    (torch.ones(3), torch.ones(3).double(), TypeError, "w0 is torch.float32"),
    (torch.ones(3).double(), [1.0, 1.0, 1.0], TypeError, "w_star is a list"),
    (torch.ones(3).double(), torch.ones(4).double(), ValueError, r"\(3,\).*\(4,\)"),
    (torch.ones(3).double(), -torch.ones(3).double(), ValueError, "<w0, w_star> = -3.*above 0"),
    (torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double(), ValueError, "above 0"),
    (torch.ones(3).double(), torch.zeros(3).double(), ValueError, "above 0"),
    (torch.ones(3).double(), torch.full((3,), float("inf")).double(), ValueError, "w_star has NaN or infinity"),
])
def test_initialization_with_bad_input(w0, w_star, error, says):
    with pytest.raises(error, match=says):
        theory.initialization_gain(w0, w_star)
