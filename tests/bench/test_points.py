"""The mathematics of the bench of chapter 2, against finite differences; under node."""

import numpy as np
import pytest

SCRIPT = """
import { along, arriving, thereAndBack } from "./wayback.js";
answer = told.map(({ x, g, detach }) => {
  const found = thereAndBack(x, g, detach);
  return { ...found, ...along(found), kinds: Object.fromEntries(["one", "random", "same", "along"].map((kind) => [kind, arriving(kind, 2, found.hat, g)])) };
});
"""
EPS = 1e-5
SWITCHES = [(False, False), (True, False), (False, True), (True, True)]


@pytest.fixture
def answers(node):
    return lambda asked: node(SCRIPT, asked)


def normalized(x, held, mean, variance):
    """x̂ of x, with mean or variance as they are for ``held``."""
    mu = held.mean() if mean else x.mean()
    # A detached mean does not keep the variance from moving: deviations are from the mean that the batch has.
    var = held.var() if variance else x.var()
    return (x - mu) / np.sqrt(var + EPS)


def differences(x, g, mean, variance, h=1e-6):
    """The gradient of Σ g x̂ by finite differences; what is detached stays where it is."""
    return np.array([sum(sign * (g * normalized(x + sign * h * unit, x, mean, variance)).sum() for sign in (1, -1)) / (2 * h)
                     for unit in np.eye(len(x))])


@pytest.mark.parametrize("mean, variance", SWITCHES)
def test_gradients_are_those_of_finite_differences(mean, variance, answers):
    random = np.random.default_rng(7)
    batches = [(scale * random.normal(size=8) + shift, random.normal(size=8)) for scale in (0.05, 1, 3) for shift in (-4, 0, 2)]
    found = answers([{"x": x.tolist(), "g": g.tolist(), "detach": {"mean": mean, "variance": variance}} for x, g in batches])
    for (x, g), one in zip(batches, found):
        assert np.allclose(one["hat"], normalized(x, x, False, False), atol=1e-12)
        expected = differences(x, g, mean, variance)
        assert np.allclose(one["dx"], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_the_sums_are_zero_unless_their_path_is_detached(answers):
    x, g = np.array([-2.6, -1.9, -0.8, -0.2, 0.5, 1.2, 2.1, 3.4]), np.array([1.0, -2, 0.5, 3, 1, -1, 2, 0.3])
    for (mean, variance), one in zip(SWITCHES, answers([{"x": x.tolist(), "g": g.tolist(), "detach": {"mean": m, "variance": v}} for m, v in SWITCHES])):
        assert (abs(one["shift"]) < 1e-9) != mean
        assert (abs(one["stretch"]) < 1e-4) != variance  # but for ε
        if mean and variance:
            assert np.allclose(one["dx"], g / one["sd"])


def test_what_shifts_or_stretches_does_not_get_through(answers):
    x = [-2.0, -1, 0, 1, 1.5, 2, 3, 4]
    kinds = answers([{"x": x, "g": x}])[0]["kinds"]
    assert kinds["one"] == [0, 0, 1, 0, 0, 0, 0, 0] and kinds["same"] == [1] * 8 and kinds["random"] == x
    for kind, path in (("same", "mean"), ("along", "variance")):
        whole, detached = answers([{"x": x, "g": kinds[kind], "detach": {path: off}} for off in (False, True)])
        assert np.abs(whole["dx"]).max() < 1e-4 < 0.1 < np.abs(detached["dx"]).max()


def test_a_batch_in_one_point_is_finite(answers):
    for one in answers([{"x": [1.5] * 8, "g": [1, 0, 0, 0, 0, 0, 0, 0], "detach": {"mean": m, "variance": v}} for m, v in SWITCHES]):
        assert one["hat"] == [0] * 8 and np.isfinite(one["dx"]).all()
