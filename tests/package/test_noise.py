"""The noise of Santurkar et al. 2018: what is drawn once per unit, what once per value, and when.

All draws are seeded. Sample sizes are such that each tolerance is at least five standard errors wide.
"""

import inspect

import pytest
import torch

from bncourse import norms
from bncourse.norms import BatchNorm, CovariateNoise, NoisyBatchNorm

QUIET = dict(n_mu=0.0, n_sigma=1.0, r_mu=0.0, r_sigma=0.0)


def shift_and_scale(noise, shape):
    """m and s of one draw, read off by feeding zeros and ones under the same random numbers."""
    torch.manual_seed(shape[0])
    m = noise(torch.zeros(shape))
    torch.manual_seed(shape[0])
    return m, noise(torch.ones(shape)) - m


def test_noisy_batch_norm_is_a_drop_in():
    ours, plain = inspect.signature(NoisyBatchNorm).parameters, inspect.signature(BatchNorm).parameters
    assert list(ours)[:len(plain)] == list(plain)
    assert all(ours[name] == plain[name] for name in plain)
    assert set(ours) - set(plain) == set(QUIET)
    layer = NoisyBatchNorm(3)
    assert list(layer.state_dict()) == list(BatchNorm(3).state_dict())
    assert {"eps=1e-05", "n_mu=0.5", "r_sigma=0.1"} <= set(layer.extra_repr().split(", "))


def test_without_noise_it_is_batch_norm():
    quiet, plain = NoisyBatchNorm(3, **QUIET), BatchNorm(3)
    for training in (True, True, False):
        x = torch.randn(8, 3, 4) + 1
        assert torch.equal(quiet.train(training)(x), plain.train(training)(x))
    for key, value in plain.state_dict().items():
        assert torch.equal(quiet.state_dict()[key], value)


@pytest.mark.parametrize("name", ["noise", "noisy_batch", "frozen_noise"])
def test_noise_in_training_only(name):
    layer, x = norms.make(name, 3), torch.randn(8, 3)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    state = torch.get_rng_state()
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(torch.get_rng_state(), state), "evaluation draws nothing"


def test_running_statistics_are_those_of_the_clean_input():
    noisy, plain, x = NoisyBatchNorm(3), BatchNorm(3), torch.randn(8, 3)
    noisy(x), plain(x)
    assert torch.equal(noisy.running_mean, plain.running_mean) and torch.equal(noisy.running_var, plain.running_var)


def test_noise_comes_after_scale_and_shift():
    # Before them, a scale of zero would silence it.
    layer = NoisyBatchNorm(3)
    torch.nn.init.zeros_(layer.weight)
    assert layer(torch.randn(8, 3)).std() > 0.1


@pytest.mark.parametrize("n_mu", [0.5, 2.0])
def test_the_mean_jumps_by_two_thirds_of_n_mu_every_step(n_mu):
    # mu_t and mu_t+1 are independent U(-n_mu, n_mu), so E|difference| = 2 n_mu / 3: a third of a unit for the paper's 0.5.
    noise = CovariateNoise(n_mu=n_mu, r_mu=0.0)
    steps = torch.stack([noise(torch.zeros(1, 20_000))[0] for _ in range(2)])
    assert steps.abs().max() <= n_mu and steps.abs().max() > 0.99 * n_mu
    jump = (steps[1] - steps[0]).abs().mean()
    assert jump == pytest.approx(2 * n_mu / 3, rel=0.03)
    assert steps.mean() == pytest.approx(0, abs=0.02 * n_mu)


def test_the_shift_varies_around_its_unit_by_r_mu():
    m, _ = shift_and_scale(CovariateNoise(n_mu=0.5, r_mu=0.1), (5000, 20))
    centre = (m.max(0).values + m.min(0).values) / 2
    around = m - centre
    assert centre.abs().max() < 0.5 and centre.std() > 0.15  # differs between units
    assert 0.099 < around.abs().max() < 0.101
    assert around.std() == pytest.approx(0.1 / 3 ** 0.5, rel=0.02)


def test_the_scale_is_normal_around_its_unit_with_standard_deviation_r_sigma():
    _, s = shift_and_scale(CovariateNoise(n_sigma=1.25, r_sigma=0.1), (5000, 400))
    centre = s.mean(0)
    assert 1 - 0.01 < centre.min() < 1.01 and 1.24 < centre.max() < 1.25 + 0.01
    assert centre.mean() == pytest.approx(1.125, abs=0.02)
    z = (s - centre) / 0.1
    assert z.std() == pytest.approx(1, rel=0.01)
    assert (z.abs() > 1.96).float().mean() == pytest.approx(0.05, abs=0.002), "normal, not uniform"


def test_images_share_a_units_centre_but_draw_for_every_position():
    m, s = shift_and_scale(CovariateNoise(r_mu=0.1, r_sigma=0.1), (50, 4, 8, 8))
    for noise, spread in ((m, 0.1 / 3 ** 0.5), (s, 0.1)):
        within = noise.movedim(1, 0).reshape(4, 50, 64)
        assert within.flatten(1).std(1).numpy() == pytest.approx(spread, rel=0.1)
        # Were a draw shared along an axis, the means over the other would scatter just as much; they scatter less.
        assert within.mean(1).std(1).max() < 1.5 * spread / 50 ** 0.5
        assert within.mean(2).std(1).max() < 1.5 * spread / 64 ** 0.5
        assert within.mean((1, 2)).std() > 0.01, "channels have centres of their own"


def test_units_draw_independently():
    m, _ = shift_and_scale(CovariateNoise(n_mu=0.5, r_mu=0.0), (2, 1000))
    assert m[0].unique().numel() == 1000
    assert torch.equal(m[0], m[1]), "one mu for the whole batch"


def test_the_gradient_is_that_of_a_scale_and_a_shift():
    noise, shape = CovariateNoise(), (6, 3)
    _, s = shift_and_scale(noise, shape)
    x = torch.zeros(shape, requires_grad=True)
    torch.manual_seed(shape[0])
    noise(x).sum().backward()
    torch.testing.assert_close(x.grad, s)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_keeps_precision(dtype):
    assert CovariateNoise()(torch.randn(8, 3, dtype=dtype)).dtype == dtype
    assert NoisyBatchNorm(3, dtype=dtype)(torch.randn(8, 3, dtype=dtype)).dtype == dtype
