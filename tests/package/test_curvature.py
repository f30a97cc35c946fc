"""The top of the Hessian's spectrum against the Hessian itself, written out in full."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from bncourse import data, nets, norms
from bncourse.probes.curvature import Curvature, top_eigenvalue
from bncourse.train import batch_loss, batches, frozen_statistics, train

pytestmark = pytest.mark.filterwarnings("error")


class Quadratic(nn.Module):
    """½ θᵀAθ for each of M members, with an A of known spectrum."""

    def __init__(self, *spectra, dtype=torch.float64, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        size = len(spectra[0])
        turned = []
        for spectrum in spectra:
            Q = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
            turned.append((Q * torch.tensor(spectrum, dtype=torch.float64)) @ Q.T)
        self.A = torch.stack(turned).to(dtype)
        self.theta = nn.Parameter(torch.randn(len(spectra), size, generator=generator, dtype=torch.float64).to(dtype))
        if len(spectra) > 1:
            self.members = len(spectra)


def value(net):
    return 0.5 * torch.einsum("mi,mij,mj->m", net.theta, net.A, net.theta)


@given(seed=st.integers(0, 10_000), size=st.integers(1, 40), members=st.integers(1, 3), sign=st.sampled_from([-1, 0, 1]))
@settings(max_examples=80)
def test_a_quadratic_of_known_spectrum(seed, size, members, sign):
    generator = np.random.default_rng(seed)
    spectra = generator.normal(size=(members, size)) * 10 ** generator.uniform(-3, 3)
    spectra = np.abs(spectra) * sign if sign else spectra
    found = top_eigenvalue(Quadratic(*spectra, seed=seed), value, tolerance=1e-6)
    assert found.converged.all() and found.member.tolist() == list(range(members))
    scale = np.abs(spectra).max(1)
    np.testing.assert_allclose(found.sharpness, spectra.max(1), rtol=1e-4, atol=1e-5 * scale.max())
    assert (np.abs(found.sharpness - spectra.max(1)) <= found.sharpness_error + 1e-9 * scale).all()
    assert (found.lowest >= spectra.min(1) - 1e-9 * scale).all() and (found.lowest <= found.sharpness + 1e-9 * scale).all()


SPECTRA = {
    "definite": [4.0, 3.0, 2.0, 1.0, 0.5],
    "negative definite": [-1.0, -2.0, -3.0, -4.0, -5.0],
    "one number five times": [-2.0] * 5,
    "two numbers": [3.0, 3.0, 1.0, 1.0, 1.0],
    "largest in magnitude is negative": [-100.0, 2.0, 1.0, 0.0, -1.0],
    "flat": [0.0] * 5,
    "top at zero": [0.0, -1.0, -1.0, -2.0, -3.0],
    "tiny": [1e-12, 1e-13, 0.0, 0.0, 0.0],
    "huge": [1e12, 1e11, 1.0, 0.0, -1e10],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_unusual_spectra(spectrum, dtype):
    [row] = top_eigenvalue(Quadratic(spectrum, dtype=dtype), value).to_dict("records")
    assert row["converged"] and row["iterations"] <= 5
    assert row["sharpness"] == pytest.approx(max(spectrum), rel=2e-4, abs=2e-6 * np.abs(spectrum).max())
    assert row["lowest"] == pytest.approx(min(spectrum), rel=1e-3, abs=1e-5 * np.abs(spectrum).max())


def test_a_member_that_is_done_early_waits_for_the_others():
    # Each of these spectra takes another number of products.
    spectra = list(SPECTRA.values())
    found = top_eigenvalue(Quadratic(*spectra), value, tolerance=1e-8)
    scale = np.abs(spectra).max(1)
    assert found.converged.all()
    assert (np.abs(found.sharpness - np.max(spectra, 1)) <= 1e-7 * scale).all()
    assert (np.abs(found.lowest - np.min(spectra, 1)) <= 1e-7 * scale).all()


def test_one_parameter():
    net = nn.ParameterList([nn.Parameter(torch.tensor([2.0]))])
    [row] = top_eigenvalue(net, lambda net: (net[0] ** 3).sum()).to_dict("records")
    assert row["sharpness"] == pytest.approx(12) and row["iterations"] == 1 and row["converged"]


@pytest.mark.parametrize("batch", [1, 7])
def test_a_linear_loss_is_flat(batch):
    net, x = nn.Linear(3, 1), torch.randn(batch, 3)
    [row] = top_eigenvalue(net, lambda net: net(x).sum()).to_dict("records")
    assert row["sharpness"] == 0 and row["converged"]


def test_a_bound_says_how_good_it_is():
    spectrum = np.linspace(-1, 1, 200).tolist()  # Crowded at the top: slow.
    net = Quadratic(spectrum)
    few, many = (top_eigenvalue(net, value, iterations=n, tolerance=1e-6).loc[0] for n in (5, 120))
    assert not few.converged and few.iterations == 5 and 1 - few.sharpness <= few.sharpness_error + 0.5
    assert few.sharpness < many.sharpness and few.sharpness_error > many.sharpness_error
    assert many.converged and many.sharpness == pytest.approx(1, abs=1e-5)


def test_the_same_call_gives_the_same_number():
    net = Quadratic(np.linspace(-1, 1, 50).tolist())
    one, again, other = (top_eigenvalue(net, value, iterations=4, seed=seed).sharpness[0] for seed in (0, 0, 1))
    assert one == again != other


# --- networks ---------------------------------------------------------------------------------------------------------


def dense(net, loss):
    """The eigenvalues of the whole Hessian, in float64."""
    net = copy.deepcopy(net).double()
    names, shapes = zip(*[(name, p.shape) for name, p in net.named_parameters()])
    theta = torch.cat([p.detach().flatten() for p in net.parameters()])

    def at(theta):
        pieces = theta.split([shape.numel() for shape in shapes])
        values = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes)}
        return loss(lambda x: functional_call(net, values, (x,)))

    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(at, theta))


def a_network(kind, norm, dtype):
    generator = torch.Generator().manual_seed(7)
    if kind == "mlp":
        net, shape = nets.mlp((4, 6, 5, 3), norm, seed=2), (20, 4)
    elif kind == "fused":
        net, shape = nets.mlp((4, 6, 5, 3), norm, seed=2, fused=True), (20, 4)
    elif kind == "sigmoid":
        net, shape = nets.mlp((4, 6, 5, 3), norm, activation="sigmoid", init=1.0, seed=2), (20, 4)
    else:
        net = nn.Sequential(nn.Conv2d(1, 3, 2), norms.make(norm, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3))
        for layer in (net[0], net[4]):
            nets.initialize(layer, "he", generator)
        shape = (20, 1, 3, 3)
    net, x = net.to(dtype), torch.randn(*shape, generator=generator).to(dtype)
    y = torch.randint(3, (20,), generator=generator)
    # As it is after a few updates: not where the initialization puts it.
    loss = batch_loss(x, y)
    for _ in range(5):
        gradients = torch.autograd.grad(loss(net), list(net.parameters()))
        with torch.no_grad():
            for p, g in zip(net.parameters(), gradients):
                p -= 0.05 * g
    return net, x, y


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("statistics", ["live", "frozen"])
@pytest.mark.parametrize("norm", ["none", "batch", "l1"])
@pytest.mark.parametrize("kind", ["mlp", "fused", "sigmoid", "conv"])
def test_against_the_dense_hessian(kind, norm, statistics, dtype):
    net, x, y = a_network(kind, norm, dtype)
    if statistics == "frozen":
        with frozen_statistics(net, x):
            found = top_eigenvalue(net, batch_loss(x, y), iterations=100)
            wanted = dense(net, batch_loss(x.double(), y))
    else:
        found = top_eigenvalue(net, batch_loss(x, y), iterations=100)
        wanted = dense(net, batch_loss(x.double(), y))
    assert found.converged[0]
    assert found.sharpness[0] == pytest.approx(wanted[-1].item(), rel=1e-3)
    assert wanted[0].item() - 1e-3 * wanted[-1].item() <= found.lowest[0]


def test_frozen_statistics_make_another_function():
    net, x, y = a_network("mlp", "batch", torch.float64)
    live = top_eigenvalue(net, batch_loss(x, y)).sharpness[0]
    with frozen_statistics(net, x):
        assert abs(top_eigenvalue(net, batch_loss(x, y)).sharpness[0] / live - 1) > 0.1


@pytest.mark.parametrize("norm, fused", [("none", False), ("batch", False), ("batch", True), ("linf", False), ("frozen", False)])
def test_a_stack_is_its_members_alone(norm, fused):
    models = [nets.mlp((5, 8, 7, 4), norm, seed=seed, fused=fused).double() for seed in range(4)]
    x, y = torch.randn(4, 30, 5, dtype=torch.float64), torch.randint(4, (4, 30))
    together = top_eigenvalue(nets.Stack(models), batch_loss(x, y), iterations=150, tolerance=1e-7)
    for m, model in enumerate(models):
        alone = top_eigenvalue(model, batch_loss(x[m], y[m]), iterations=150, tolerance=1e-7)
        assert together.sharpness[m] == pytest.approx(alone.sharpness[0], rel=1e-5)


def test_parameters_that_require_no_gradient_are_left_out():
    net, x, y = a_network("mlp", "none", torch.float64)
    for p in (net.linear1.weight, net.linear1.bias, net.linear2.weight, net.linear2.bias):
        p.requires_grad_(False)
    h = net[:-1](x)
    last = net.linear3
    wanted = dense(last, batch_loss(h.detach(), y))[-1].item()
    assert top_eigenvalue(net, batch_loss(x, y)).sharpness[0] == pytest.approx(wanted, rel=1e-3)


def test_noise_is_drawn_once():
    net = nets.mlp((5, 8, 7, 4), "noisy_batch").double()
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randint(4, (30,))
    state = torch.get_rng_state()
    one, again = (top_eigenvalue(net, batch_loss(x, y)).sharpness[0] for _ in range(2))
    assert one == again and torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("norm, fused", [(norm, False) for norm in norms.NORMS] + [(norm, True) for norm in norms.FUSED])
def test_nothing_is_left_behind(norm, fused):
    net, x, y = nets.vgg((2, 8, 8), 3, norm=norm, fused=fused), torch.randn(10, 2, 8, 8), torch.randint(3, (10,))
    net(x + 1).square().sum().backward()
    net.act2.eval()
    state = copy.deepcopy(net.state_dict())
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in net.named_parameters()}
    modes = [module.training for module in net.modules()]
    own, random = [id(p) for p in net.parameters()], torch.get_rng_state()

    def unchanged():
        assert state.keys() == net.state_dict().keys()
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
        assert [module.training for module in net.modules()] == modes and torch.equal(torch.get_rng_state(), random)
        assert [id(p) for p in net.parameters()] == own and all(p.requires_grad for p in net.parameters())
        for name, p in net.named_parameters():
            assert gradients[name] is None if p.grad is None else torch.equal(gradients[name], p.grad)

    top_eigenvalue(net, batch_loss(x, y), iterations=3)
    unchanged()
    with torch.no_grad(), frozen_statistics(net, x):
        top_eigenvalue(net, batch_loss(x, y), iterations=3)
    unchanged()
    with pytest.raises(ValueError):
        top_eigenvalue(net, lambda net: net(x))
    unchanged()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_infinite_and_stays_with_its_member(bad):
    models = [nets.mlp((5, 8, 4), "batch", seed=seed) for seed in range(3)]
    x, y = torch.randn(3, 30, 5), torch.randint(4, (3, 30))
    calm = top_eigenvalue(nets.Stack(models), batch_loss(x, y))
    with torch.no_grad():
        models[1].linear2.weight[0, 0] = bad
    found = top_eigenvalue(nets.Stack(models), batch_loss(x, y))
    assert np.isinf(found.sharpness).tolist() == np.isinf(found.sharpness_error).tolist() == [False, True, False]
    np.testing.assert_allclose(found.sharpness[[0, 2]], calm.sharpness[[0, 2]], rtol=1e-3)
    assert not found.converged[1]


def test_bad_input():
    net, x, y = nets.mlp((5, 6, 4)), torch.randn(9, 5), torch.randint(4, (9,))
    for iterations in (0, -1):
        with pytest.raises(ValueError, match="iterations="):
            top_eigenvalue(net, batch_loss(x, y), iterations)
    with pytest.raises(ValueError, match="one number"):
        top_eigenvalue(net, lambda net: net(x))
    with pytest.raises(ValueError, match="does not depend"):
        top_eigenvalue(net, lambda net: torch.tensor(0.0))
    with pytest.raises(ValueError, match="requires a gradient"):
        top_eigenvalue(net.requires_grad_(False), batch_loss(x, y))
    stack = nets.Stack([nets.mlp((5, 6, 4)) for _ in range(2)])
    with pytest.raises(ValueError, match="each of 2 members"):
        top_eigenvalue(stack, lambda net: net(x.expand(2, -1, -1)).sum())
    with pytest.raises(ValueError, match="statistics="):
        Curvature("cold")


# --- within train -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blobs():
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(3, 8, generator=generator)
    y = torch.arange(150) % 3
    x = centres[y] + torch.randn(150, 8, generator=generator)
    return data.Data("blobs", x, y, x, y, classes=3)


@pytest.mark.parametrize("statistics", ["live", "frozen"])
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("kind", ["mlp", "vgg", "deep_linear"])
def test_curvature_within_train(kind, norm, statistics, blobs):
    build, task, size = lambda seed: nets.mlp((8, 10, 3), norm, seed=seed), blobs, 32
    if kind == "vgg":
        task = data.Data("pictures", *(v.view(-1, 2, 2, 2) if v.dim() == 2 else v for v in (
            blobs.x_train, blobs.y_train, blobs.x_test, blobs.y_test)), classes=3)
        build = lambda seed: nets.vgg((2, 2, 2), 3, norm=norm, init="he", seed=seed)  # noqa: E731
    if kind == "deep_linear":
        build, task, size = lambda seed: nets.deep_linear(10, 4, norm, seed=seed), data.linear_map(), 11
    options = dict(seeds=(0, 1), lrs=(0.01, 0.03), steps=4, batch_size=size, record=(0, 4), test=False)
    frame = train(build, task, probes=[Curvature(statistics, iterations=100, tolerance=1e-4)], **options)
    assert len(frame) == 8
    np.testing.assert_allclose(frame.sharpness_lr, frame.sharpness * frame.lr, rtol=1e-5)
    for row in frame.itertuples():
        net, order = build(row.seed), batches(len(task.x_train), size, row.seed)
        for _ in range(row.step):
            index = next(order)
            gradients = torch.autograd.grad(batch_loss(task.x_train[index], task.y_train[index])(net), list(net.parameters()))
            with torch.no_grad():
                for p, g in zip(net.parameters(), gradients):
                    p -= row.lr * g
        index = next(order)
        x, loss = task.x_train[index], batch_loss(task.x_train[index], task.y_train[index])
        if statistics == "frozen":
            with frozen_statistics(net, x):
                wanted = top_eigenvalue(net, loss, iterations=100).sharpness[0]
        else:
            wanted = top_eigenvalue(net, loss, iterations=100).sharpness[0]
        assert row.sharpness == pytest.approx(wanted, rel=1e-2)
    # Looking changes nothing.
    looked_at = frame.drop(columns=["sharpness", "sharpness_lr", "sharpness_error"])
    pd.testing.assert_frame_equal(train(build, task, **options), looked_at)
