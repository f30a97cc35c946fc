"""The line search of Santurkar et al. 2018, Fig. 4: exact on quadratics, the same on stacks, and without a trace."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bncourse import data, nets, norms
from bncourse.probes.landscape import Landscape, along_gradient
from bncourse.train import Alone, batch_loss, batches, frozen_statistics, train

pytestmark = pytest.mark.filterwarnings("error")

STEPS = (0.05, 0.1, 0.4)
MEASURED = ["step_size", "distance", "loss", "gradient_change", "beta", "start_loss", "gradient_norm"]
EVERY_NORM = [(norm, False) for norm in norms.NORMS] + [(norm, True) for norm in norms.FUSED]
IN_AN_MLP = [(norm, fused) for norm, fused in EVERY_NORM if norm != "instance"]  # which has nothing to do there
OPTIONS = {"frn": dict(learn_eps=True), "ghost": dict(ghost_size=6)}
every_norm = pytest.mark.parametrize("norm, fused", EVERY_NORM, ids=lambda value: str(value))


class Quadratic(nn.Module):
    """½ θᵀAθ + bᵀθ for each of M members: everything along the line is known."""

    def __init__(self, A, b, theta):  # (M, n, n), (M, n), (M, n)
        super().__init__()
        self.A, self.b = A, b
        # In two pieces of different shape, as the parameters of a network are.
        self.first = nn.Parameter(theta[:, :1].clone())
        self.rest = nn.Parameter(theta[:, 1:, None].clone())
        if len(theta) > 1:
            self.members = len(theta)

    def value(self):
        theta = torch.cat([self.first, self.rest[:, :, 0]], 1)
        return 0.5 * torch.einsum("mi,mij,mj->m", theta, self.A, theta) + (self.b * theta).sum(1)


def value(net):
    return net.value()


def quadratic(members, size, seed, definite=False):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(members, size, size, generator=generator, dtype=torch.float64)
    A = A @ A.mT if definite else A + A.mT
    b, theta = torch.randn(2, members, size, generator=generator, dtype=torch.float64)
    return Quadratic(A, b, theta), A.numpy(), b.numpy(), theta.numpy()


@given(members=st.integers(1, 4), size=st.integers(1, 40), seed=st.integers(0, 10_000), definite=st.booleans(),
       steps=st.lists(st.floats(1e-3, 1e2), min_size=1, max_size=5), distance=st.booleans(), at_once=st.booleans())
@settings(max_examples=120)
def test_a_quadratic_is_measured_exactly(members, size, seed, definite, steps, distance, at_once):
    net, A, b, theta = quadratic(members, size, seed, definite)
    found = along_gradient(net, value, steps, distance=distance, at_once=at_once)
    assert len(found) == members * len(steps)
    rows = found.itertuples()
    for m in range(members):
        g = A[m] @ theta[m] + b[m]
        norm, curved = np.linalg.norm(g), np.linalg.norm(A[m] @ g)
        for step in steps:
            s = step / norm if distance else step
            row, end = next(rows), theta[m] - s * g
            assert row.member == m and not row.diverged
            terms = [0.5 * theta[m] @ A[m] @ theta[m] + b[m] @ theta[m], -s * norm**2, s**2 / 2 * g @ A[m] @ g]
            # Where the terms cancel, what they leave is only as good as they are.
            assert row.loss == pytest.approx(sum(terms), rel=1e-9, abs=1e-12 * sum(map(abs, terms)))
            assert row.start_loss == pytest.approx(terms[0], rel=1e-9, abs=1e-12)
            rounding = 1e-13 * (np.abs(A[m]).sum() * np.abs(end).max() + np.abs(b[m]).max())
            assert row.gradient_change == pytest.approx(s * curved, rel=1e-6, abs=rounding)
            assert row.beta == pytest.approx(curved / norm, rel=1e-6, abs=rounding / (s * norm))
            assert row.gradient_norm == pytest.approx(norm, rel=1e-12)
            assert row.step_size == pytest.approx(s, rel=1e-12) and row.distance == pytest.approx(s * norm, rel=1e-12)


def test_beta_and_range_to_rounding():
    net, A, b, theta = quadratic(1, 12, seed=3)
    found = along_gradient(net, value, (0.5, 1.0, 2.0))
    g = A[0] @ theta[0] + b[0]
    assert found.beta.max() == pytest.approx(np.linalg.norm(A[0] @ g) / np.linalg.norm(g), rel=1e-13)
    losses = [0.5 * t @ A[0] @ t + b[0] @ t for t in (theta[0] - s * g for s in (0.5, 1.0, 2.0))]
    assert found.loss.max() - found.loss.min() == pytest.approx(max(losses) - min(losses), rel=1e-13)


def test_two_norms_of_a_line_that_is_walked_by_hand():
    # A network, moved for real: no functional call, no flat vector.
    net = nets.mlp((6, 9, 8, 4), "batch", seed=1).double()
    x, y = torch.randn(20, 6, dtype=torch.float64), torch.randint(4, (20,))
    found = along_gradient(net, batch_loss(x, y), STEPS)

    def look(moved):
        moved.zero_grad()
        loss = torch.nn.functional.cross_entropy(moved(x), y)
        loss.backward()
        return loss.item(), [p.grad.clone() for p in moved.parameters()]

    start, gradient = look(copy.deepcopy(net))
    for row, s in zip(found.itertuples(), STEPS):
        moved = copy.deepcopy(net)
        with torch.no_grad():
            for p, g in zip(moved.parameters(), gradient):
                p -= s * g
        loss, there = look(moved)
        change = math.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(there, gradient)))
        norm = math.sqrt(sum((g**2).sum() for g in gradient))
        assert (row.loss, row.start_loss) == (pytest.approx(loss, rel=1e-12), pytest.approx(start, rel=1e-12))
        assert row.gradient_change == pytest.approx(change, rel=1e-10)
        assert row.beta == pytest.approx(change / (s * norm), rel=1e-10)


def test_parameters_that_require_no_gradient_stay_where_they_are():
    net, A, b, theta = quadratic(1, 5, seed=0)
    net.first.requires_grad_(False)
    g = (A[0] @ theta[0] + b[0])[1:]
    found = along_gradient(net, value, [0.1])
    assert found.gradient_norm[0] == pytest.approx(np.linalg.norm(g))
    assert found.beta[0] == pytest.approx(np.linalg.norm(A[0][1:, 1:] @ g) / np.linalg.norm(g))


def stack_and_members(norm="none", fused=False, members=3, batch=40, dtype=torch.float64):
    models = [nets.mlp((7, 9, 8, 5), norm, seed=seed, fused=fused, **OPTIONS.get(norm, {})).to(dtype)
              for seed in range(members)]
    return nets.Stack(models), models, torch.randn(members, batch, 7, dtype=dtype), torch.randint(5, (members, batch))


QUIET = [(norm, fused) for norm, fused in IN_AN_MLP if "nois" not in norm]


@pytest.mark.parametrize("norm, fused", QUIET, ids=str)
@pytest.mark.parametrize("distance", [False, True], ids=["multiples", "distance"])
def test_a_stack_is_its_members_alone(norm, fused, distance):
    stack, models, x, y = stack_and_members(norm, fused)
    found = along_gradient(stack, batch_loss(x, y), STEPS, distance)
    alone = pd.concat([along_gradient(model, batch_loss(x[m], y[m]), STEPS, distance).assign(member=m)
                       for m, model in enumerate(models)], ignore_index=True)
    assert list(found.columns) == list(alone.columns) and not found.diverged.any()
    np.testing.assert_allclose(found[["member", *MEASURED]], alone[["member", *MEASURED]], rtol=1e-9)


def test_every_member_has_step_sizes_of_its_own():
    stack, models, x, y = stack_and_members("batch")
    own = torch.tensor([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]])  # (S, M)
    found = along_gradient(stack, batch_loss(x, y), own)
    alone = pd.concat([along_gradient(model, batch_loss(x[m], y[m]), own[:, m]).assign(member=m)
                       for m, model in enumerate(models)], ignore_index=True)
    np.testing.assert_allclose(found[["member", *MEASURED]], alone[["member", *MEASURED]], rtol=1e-9)


@pytest.mark.parametrize("norm, fused", [case for case in QUIET if case[0] != "frozen"], ids=str)
def test_at_once_is_the_loop(norm, fused):
    stack, models, x, y = stack_and_members(norm, fused)
    for net, loss in ((stack, batch_loss(x, y)), (models[0], batch_loss(x[0], y[0]))):
        one, other = (along_gradient(net, loss, STEPS, at_once=at_once) for at_once in (False, True))
        np.testing.assert_allclose(one[MEASURED], other[MEASURED], rtol=1e-9)


@pytest.mark.parametrize("norm, fused", IN_AN_MLP, ids=str)
def test_absolute_steps_and_distances_are_two_names_of_a_point(norm, fused):
    stack, _, x, y = stack_and_members(norm, fused)
    torch.manual_seed(5)
    by_step = along_gradient(stack, batch_loss(x, y), STEPS)
    distances = torch.tensor(by_step.distance.to_numpy().reshape(3, 3).T)
    torch.manual_seed(5)
    by_distance = along_gradient(stack, batch_loss(x, y), distances, distance=True)
    np.testing.assert_allclose(by_step[MEASURED], by_distance[MEASURED], rtol=1e-6)


@pytest.mark.parametrize("norm", ["noisy_batch", "noise", "frozen_noise"])
def test_noise_is_the_same_at_every_step(norm):
    # Steps so small that nothing but noise could change the loss.
    stack, _, x, y = stack_and_members(norm)
    found = along_gradient(stack, batch_loss(x, y), (1e-9, 2e-9, 3e-9))
    assert np.abs(found.loss - found.start_loss).max() < 1e-6
    assert (found.gradient_change < 1e-4 * found.gradient_norm).all()
    other = along_gradient(nets.Stack([nets.mlp((7, 9, 8, 5), norm).double() for _ in range(3)]), batch_loss(x, y), (1e-9,))
    assert np.abs(other.start_loss - other.start_loss.mean()).max() > 1e-3, "there is noise"


def fingerprint(net):
    """Everything a look could leave behind."""
    return {"state": {name: value.clone() for name, value in net.state_dict().items()},
            "parameters": {name: (id(p), p.requires_grad, None if p.grad is None else p.grad.clone())
                           for name, p in net.named_parameters()},
            "modes": {name: module.training for name, module in net.named_modules()},
            "settings": {name: {key: getattr(module, key, None) for key in ("momentum", "n_mu", "r_sigma", "refuse_nonfinite")}
                         for name, module in net.named_modules()},
            "random": torch.get_rng_state(), "gradients": torch.is_grad_enabled(), "hooks": {
                name: len(module._forward_pre_hooks) + len(module._forward_hooks) for name, module in net.named_modules()}}


def assert_same(before, after):
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, dict):
            assert_same(value, after[key])
        elif isinstance(value, tuple):
            assert_same(dict(enumerate(value)), dict(enumerate(after[key])))
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, after[key]), key
        else:
            assert value == after[key], key


def used(norm, fused):
    """A network in the middle of something: statistics and gradients of other batches, layers in different modes."""
    net = nets.vgg((2, 8, 8), 4, norm=norm, fused=fused, seed=1)
    for _ in range(2):
        net(torch.randn(12, 2, 8, 8)).square().sum().backward()
    net.act1.eval()
    net.norm3.eval()
    return net


LOOKS = {
    "line": lambda net, x, y: along_gradient(net, batch_loss(x, y), STEPS),
    "distance": lambda net, x, y: along_gradient(net, batch_loss(x, y), STEPS, distance=True),
    "frozen": lambda net, x, y: frozen(net, x, y),
}


def frozen(net, x, y):
    with frozen_statistics(net, x):
        along_gradient(net, batch_loss(x, y), STEPS)


@every_norm
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_nothing_is_left_behind(norm, fused, look):
    net, x, y = used(norm, fused), torch.randn(12, 2, 8, 8), torch.randint(4, (12,))
    before = fingerprint(net)
    look(net, x, y)
    assert_same(before, fingerprint(net))
    # In the middle of training the look happens without gradients.
    with torch.no_grad():
        look(net, x, y)
    assert_same(before, fingerprint(net))
    with pytest.raises(ValueError, match="one number"):
        along_gradient(net, lambda net: net(x), STEPS)
    with pytest.raises(IndexError), frozen_statistics(net, x):
        along_gradient(net, batch_loss(x, torch.full((12,), 99)), STEPS)
    assert_same(before, fingerprint(net))


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("shared", ["layer", "weight"])
def test_a_layer_used_twice_is_walked_once(shared, at_once):
    one = nn.Linear(6, 6).double()
    other = one if shared == "layer" else nn.Linear(6, 6).double()
    other.weight = one.weight
    net = nn.Sequential(one, nn.Tanh(), other, nn.Tanh())
    x, before = torch.randn(9, 6, dtype=torch.float64), fingerprint(net)

    def loss(net):
        return net(x).square().mean()

    found = along_gradient(net, loss, [0.3], at_once=at_once)
    assert_same(before, fingerprint(net))
    assert net[0].weight is net[2].weight is one.weight and net[2].bias is other.bias
    gradient = torch.autograd.grad(loss(net), list(net.parameters()))
    with torch.no_grad():
        for p, g in zip(net.parameters(), gradient):
            p -= 0.3 * g
    assert found.loss[0] == pytest.approx(loss(net).item(), rel=1e-12)


def test_at_once_leaves_nothing_behind():
    net, x, y = used("batch", True), torch.randn(12, 2, 8, 8), torch.randint(4, (12,))
    before = fingerprint(net)
    along_gradient(net, batch_loss(x, y), STEPS, at_once=True)
    assert_same(before, fingerprint(net))


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("distance", [False, True])
def test_a_zero_gradient_has_no_beta(distance, at_once):
    net = Quadratic(torch.eye(4, dtype=torch.float64)[None], torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.float64))
    found = along_gradient(net, value, STEPS, distance, at_once)
    assert found.beta.isna().all() and not found.diverged.any()
    assert (found[["loss", "gradient_change", "gradient_norm", "start_loss"]] == 0).all(axis=None)
    assert found.distance.isna().all() if distance else (found.distance == 0).all()


def test_a_zero_gradient_of_one_member_leaves_the_others_alone():
    net, A, b, theta = quadratic(2, 4, seed=1)
    with torch.no_grad():
        net.b[0] = -(net.A[0] @ torch.tensor(theta[0]))
    found = along_gradient(net, value, STEPS).set_index("member")
    g = A[1] @ theta[1] + b[1]
    assert found.loc[0].gradient_norm.max() < 1e-14
    assert found.loc[1].beta.to_numpy() == pytest.approx(np.linalg.norm(A[1] @ g) / np.linalg.norm(g))


class Cliff(nn.Module):
    """√θ, started at 1: there is no loss at all beyond zero."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.ones(1))

    def value(self):
        return torch.sqrt(self.theta).sum()


@pytest.mark.parametrize("at_once", [False, True])
def test_a_loss_that_is_not_finite_is_recorded(at_once):
    found = along_gradient(Cliff(), value, (1.0, 3.0), at_once=at_once)
    assert len(found) == 2 and found.diverged.tolist() == [False, True]
    assert np.isfinite(found.loc[0, MEASURED].astype(float)).all()
    assert (found.loc[1, ["loss", "gradient_change", "beta"]] == math.inf).all()
    assert found.start_loss.tolist() == [1, 1], "it diverged on the way, not at the start"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_start_that_is_not_finite_is_recorded(bad):
    stack, _, x, y = stack_and_members("batch")
    with torch.no_grad():
        stack.layers.linear2.weight[1, 0, 0] = bad
    found = along_gradient(stack, batch_loss(x, y), STEPS)
    assert found.diverged.tolist() == [member == 1 for member in found.member]
    broken = found[found.member == 1]
    assert len(broken) == len(STEPS) and (broken[["loss", "gradient_change", "beta"]] == math.inf).all(axis=None)
    assert np.isfinite(found.loc[found.member != 1, MEASURED].to_numpy()).all()


@pytest.mark.parametrize("steps", [(), [0.1, 0.0], [-0.1], [math.nan], [math.inf], torch.empty(0, 3), torch.tensor(0.1),
                                   torch.ones(2, 2, 2)], ids=str)
def test_step_sizes_are_checked(steps):
    net, *_ = quadratic(1, 3, seed=0)
    with pytest.raises(ValueError, match="step_sizes="):
        along_gradient(net, value, steps)


def test_a_table_of_steps_must_fit_the_stack():
    stack, _, x, y = stack_and_members()
    with pytest.raises(ValueError, match="3 members"):
        along_gradient(stack, batch_loss(x, y), torch.ones(4, 2))


def test_bad_input():
    net, x, y = nets.mlp((7, 6, 5)), torch.randn(9, 7), torch.randint(5, (9,))
    with pytest.raises(ValueError, match="one number"):
        along_gradient(net, lambda net: net(x), STEPS)
    with pytest.raises(ValueError, match="one number"):
        along_gradient(net, lambda net: net(x).sum().item(), STEPS)
    with pytest.raises(ValueError, match="does not depend"):
        along_gradient(net, lambda net: torch.tensor(1.0), STEPS)
    with pytest.raises(ValueError, match="does not depend"):
        along_gradient(net, lambda net: net(x).sum().detach(), STEPS)
    with pytest.raises(ValueError, match="requires a gradient"):
        along_gradient(net.requires_grad_(False), batch_loss(x, y), STEPS)
    stack, _, x, y = stack_and_members()
    with pytest.raises(ValueError, match="each of 3 members"):
        along_gradient(stack, lambda net: batch_loss(x, y)(net).mean(), STEPS)
    with pytest.raises(ValueError, match="statistics="):
        Landscape(statistics="dead")
    for steps in ((), (0.5, -1)):
        with pytest.raises(ValueError, match="positive"):
            Landscape(multiples=steps)
        with pytest.raises(ValueError, match="positive"):
            Landscape(distances=steps)


# --- within train -----------------------------------------------------------------------------------------------------

COLUMNS = ["loss_low", "loss_high", "loss_range", "change_low", "change_high", "change_range", "beta", "beta_lr",
           "whole_gradient_norm", "walk_diverged"]


@pytest.fixture(scope="module")
def blobs():
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(3, 8, generator=generator)
    y = torch.arange(200) % 3
    x = centres[y] + torch.randn(200, 8, generator=generator)
    return data.Data("blobs", x, y, x, y, classes=3)


def networks(kind, blobs, norm, fused=False):
    if kind == "mlp":
        return lambda seed: nets.mlp((8, 10, 9, 3), norm, seed=seed, fused=fused, **OPTIONS.get(norm, {})), blobs
    if kind == "vgg":
        pictures = data.Data("pictures", *(x.view(-1, 2, 2, 2) if x.dim() == 2 else x for x in (
            blobs.x_train, blobs.y_train, blobs.x_test, blobs.y_test)), classes=3)
        return lambda seed: nets.vgg((2, 2, 2), 3, norm=norm, init="he", seed=seed, fused=fused), pictures
    return lambda seed: nets.deep_linear(10, 4, norm, seed=seed, fused=fused), data.linear_map()


def by_hand(build, task, seed, lr, steps, batch_size, record, frozen, **line):
    """Train one network in a plain loop and walk the line at each recorded step: step -> frame."""
    net, order, found = build(seed), batches(len(task.x_train), batch_size, seed), {}
    for step in range(steps + 1):
        index = next(order)
        loss = batch_loss(task.x_train[index], task.y_train[index])
        if step in record:
            if frozen:
                with frozen_statistics(net, task.x_train[index]):
                    found[step] = along_gradient(net, loss, **line)
            else:
                found[step] = along_gradient(net, loss, **line)
        gradients = torch.autograd.grad(loss(net), list(net.parameters()))
        with torch.no_grad():
            for p, g in zip(net.parameters(), gradients):
                p -= lr * g
    return found


@pytest.mark.parametrize("how", ["multiples", "distances", "frozen"])
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("kind", ["mlp", "vgg", "deep_linear"])
def test_landscape_within_train(kind, norm, how, blobs):
    build, task = networks(kind, blobs, norm)
    seeds, lrs, steps, record = (0, 1), (0.02, 0.05), 6, (0, 3, 6)
    batch_size = len(task.x_train) if kind == "deep_linear" else 32
    options = {"multiples": {}, "distances": {"distances": (0.1, 0.3)},
               "frozen": {"multiples": (1, 3), "statistics": "frozen"}}[how]
    frame = train(build, task, seeds=seeds, lrs=lrs, steps=steps, batch_size=batch_size, record=record, test=False,
                  probes=[Landscape(**options)])
    assert len(frame) == 12 and set(COLUMNS) < set(frame.columns) and not frame.diverged.any()
    for lr in lrs:
        for seed in seeds:
            line = {"step_sizes": options["distances"], "distance": True} if how == "distances" else {
                "step_sizes": [m * lr for m in options.get("multiples", (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4))]}
            walks = by_hand(build, task, seed, lr, steps, batch_size, record, how == "frozen", **line)
            for step, walk in walks.items():
                [row] = frame[(frame.lr == lr) & (frame.seed == seed) & (frame.step == step)].to_dict("records")
                low, high = walk.loss.min(), walk.loss.max()
                wanted = {"loss_low": low, "loss_high": high, "loss_range": high - low,
                          "change_low": walk.gradient_change.min(), "change_high": walk.gradient_change.max(),
                          "change_range": walk.gradient_change.max() - walk.gradient_change.min(),
                          "beta": walk.beta.max(), "beta_lr": walk.beta.max() * lr,
                          "whole_gradient_norm": walk.gradient_norm[0], "walk_diverged": 0}
                for name, value in wanted.items():
                    assert row[name] == pytest.approx(value, rel=5e-3, abs=1e-4), (lr, seed, step, name)


@pytest.mark.parametrize("statistics", ["live", "frozen"])
@pytest.mark.parametrize("norm, fused", IN_AN_MLP, ids=str)
def test_every_normalizer_can_be_looked_at_while_it_trains(norm, fused, statistics, blobs):
    build, task = networks("mlp", blobs, norm, fused)
    options = dict(seeds=(0, 1), lrs=[0.05], steps=2, batch_size=32, record=(0, 1, 2), test=False)
    frame = train(build, task, probes=[Landscape(statistics=statistics)], **options)
    assert np.isfinite(frame[COLUMNS].to_numpy()).all() and (frame.beta > 0).all()
    # Looking changes nothing.
    pd.testing.assert_frame_equal(train(build, task, **options), frame.drop(columns=COLUMNS))


def test_statistics_without_momentum_can_be_looked_at(blobs):
    frame = train(lambda seed: nets.mlp((8, 10, 3), "batch", seed=seed, momentum=None), blobs, seeds=[0], lrs=[0.1], steps=1,
                  batch_size=32, probes=[Landscape()], test=False)
    assert np.isfinite(frame.beta).all()


def test_frozen_and_live_statistics_agree_where_there_are_none_and_differ_where_there_are(blobs):
    found = {}
    for norm in ("none", "batch"):
        build, task = networks("mlp", blobs, norm)
        for statistics in ("live", "frozen"):
            frame = train(build, task, seeds=[0], lrs=[0.05], steps=3, batch_size=32, test=False, record=(0, 3),
                          probes=[Landscape(statistics=statistics)])
            found[norm, statistics] = frame.beta.to_numpy()
    np.testing.assert_allclose(found["none", "live"], found["none", "frozen"], rtol=1e-5)
    assert np.abs(found["batch", "live"] / found["batch", "frozen"] - 1).min() > 0.05


def test_a_run_that_blows_up_is_reported_and_the_others_are_not_disturbed(blobs):
    build, task = networks("mlp", blobs, "none")
    options = dict(seeds=(0, 1), steps=12, batch_size=32, record=(0, 4, 8, 12), test=False, probes=[Landscape()])
    both, calm = train(build, task, lrs=(0.05, 1e4), **options), train(build, task, lrs=(0.05,), **options)
    assert both[both.lr == 1e4].groupby("seed").diverged.any().all(), "it was meant to"
    assert len(both) == 2 * len(calm)
    pd.testing.assert_frame_equal(both[both.lr == 0.05].reset_index(drop=True), calm, rtol=1e-4, atol=1e-5)


def test_a_walk_that_falls_off_is_counted():
    class Steep(nn.Module):
        members = 1

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1e19]))

        def forward(self, x):
            return x * self.weight

    # Squared error of a weight of 1e19: at s = 1 it stays there or so, at s = 2 its square is beyond float32.
    x = torch.ones(1, 1, 1)
    frame = Landscape(multiples=(1, 2e3))(Steep(), x, 0, y=torch.zeros(1, 1, 1), lr=torch.tensor([1e-2]))
    assert frame.walk_diverged.tolist() == [1]
    assert (frame[["loss_high", "loss_range", "change_high", "change_range", "beta", "beta_lr"]] == math.inf).all(axis=None)
    assert np.isfinite(frame.loss_low[0])


def test_alone_is_the_network_inside():
    model, x, y = nets.vgg((1, 4, 4), 3, norm="batch"), torch.randn(1, 16, 1, 4, 4), torch.randint(3, (1, 16))
    lr = torch.tensor([0.1])
    one = Landscape()(Alone([model]), x, 0, y=y, lr=lr)
    other = along_gradient(model, batch_loss(x[0], y[0]), [0.1 * m for m in Landscape().multiples])
    assert one.beta[0] == pytest.approx(other.beta.max(), rel=1e-5)
    assert one.loss_range[0] == pytest.approx(other.loss.max() - other.loss.min(), rel=1e-4)


# --- frozen statistics ------------------------------------------------------------------------------------------------

WITH_STATISTICS = [(norm, fused) for norm, fused in EVERY_NORM if norm == "batch" or norm.endswith(("l1", "l2", "linf"))]


@pytest.mark.parametrize("norm, fused", WITH_STATISTICS, ids=str)
@pytest.mark.parametrize("kind", ["mlp", "vgg", "stack"])
def test_frozen_statistics_give_the_outputs_of_training(kind, norm, fused):
    if kind == "stack":
        net, _, x, _ = stack_and_members(norm, fused, batch=13)
    elif kind == "mlp":
        net, x = nets.mlp((7, 9, 8, 5), norm, fused=fused).double(), torch.randn(13, 7, dtype=torch.float64)
    else:
        net, x = nets.vgg((2, 8, 8), 4, norm=norm, fused=fused).double(), torch.randn(13, 2, 8, 8, dtype=torch.float64)
    net(torch.flip(x, [0]) * 3 + 1)  # Statistics of something else.
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn_like(p)
    live = copy.deepcopy(net)(x)
    before = fingerprint(net)
    with frozen_statistics(net, x) as inside:
        assert inside is net
        assert torch.allclose(net(x), live, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(net(2 * x), copy.deepcopy(net).train()(2 * x), rtol=1e-3), "they do not follow the batch"
    assert_same(before, fingerprint(net))


@pytest.mark.parametrize("norm, fused", WITH_STATISTICS, ids=str)
def test_no_gradient_flows_through_frozen_statistics(norm, fused):
    layer = norms.make(norm, 3, fused).double()
    x = (torch.randn(11, 3, dtype=torch.float64) + 0.5).requires_grad_()
    direction = torch.randn(11, 3, dtype=torch.float64)
    live = torch.autograd.grad((layer(x) * direction).sum(), x)[0]
    with frozen_statistics(layer, x.detach()):
        frozen = torch.autograd.grad((layer(x) * direction).sum(), x)[0]
    # Constants: a shift and a scale for each channel, so the gradient is the direction times one number a channel.
    scale = frozen / direction
    assert torch.allclose(scale, scale[:1].expand_as(scale), rtol=1e-9)
    assert not torch.allclose(live, frozen, rtol=1e-2)


def test_frozen_statistics_of_a_network_without_any():
    net, x = nets.mlp((4, 5, 3)), torch.randn(6, 4)
    before, outputs = fingerprint(net), net(x)
    with frozen_statistics(net, x):
        assert torch.equal(net(x), outputs)
    assert_same(before, fingerprint(net))


def test_frozen_statistics_restore_after_an_exception():
    net, x, wrong = used("l1", False), torch.randn(12, 2, 8, 8), torch.randn(12, 5, 6, 6)
    before = fingerprint(net)
    with pytest.raises(ZeroDivisionError), frozen_statistics(net, x):
        net(x + 1)
        raise ZeroDivisionError
    assert_same(before, fingerprint(net))
    with pytest.raises(RuntimeError), frozen_statistics(net, wrong):
        pass
    assert_same(before, fingerprint(net))
