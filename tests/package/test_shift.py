"""Definition 2.1 against the definition itself: for every layer one more pass of the whole network, nothing saved."""

import copy
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from bncourse import data, nets, norms
from bncourse.probes.shift import Shift, shift
from bncourse.train import train

NORMS = ["none", "batch", "noisy_batch", "noise", "frozen", "frozen_noise", "l1", "linf"]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4}
MEASURED = ["gradient_norm", "l2", "relative", "cosine"]


def passes(net, x, y, lr, loss=None):
    """G and G_prime of every layer by k - 1 more passes: [(G, G_prime), ...] in order of the layers."""
    loss = loss or cross_entropy
    own, random = dict(net.named_parameters()), torch.get_rng_state()
    layers = [f"{name}.weight" if name else "weight" for name, module in net.named_modules()
              if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.dim() > 1]

    def gradients(values):
        torch.set_rng_state(random)
        values = {name: value.detach().requires_grad_() for name, value in values.items()}
        total = loss(functional_call(net, values, (x,)), y)
        return dict(zip(values, torch.autograd.grad(total, list(values.values()), allow_unused=True, materialize_grads=True)))

    G, order = gradients(own), list(own)
    pairs = [(G[layers[0]], G[layers[0]])]  # Nothing is below layer 1, not even a normalizer of the input.
    for weight in layers[1:]:
        # The order of the parameters is that of the layers: all that stands before this weight is below it.
        below = order[:order.index(weight)]
        mixed = {name: value - lr * G[name] if name in below else value for name, value in own.items()}
        pairs.append((G[weight], gradients(mixed)[weight]))
    return pairs


def cross_entropy(outputs, y):
    if outputs.dim() == 3:  # A stack: the sum over its members.
        return F.cross_entropy(outputs.flatten(0, 1), y.flatten()) * len(outputs)
    return F.cross_entropy(outputs, y)


def squared_error(outputs, y):
    return ((outputs - y) ** 2).sum(-1).mean()


def naive(net, x, y, lr, loss=None, members=1):
    net = copy.deepcopy(net)  # Whatever the passes leave in its buffers, they leave it in the copy.
    for module in net.modules():
        if hasattr(module, "refuse_nonfinite"):
            module.refuse_nonfinite = False
    with torch.random.fork_rng():
        pairs = passes(net, x, y, lr, loss)
    rows = []
    for member in range(members):
        for layer, (g, h) in enumerate(pairs, start=1):
            g, h = (v.reshape(members, -1)[member].double().numpy() for v in (g, h))
            norm, l2 = np.linalg.norm(g), np.linalg.norm(g - h)
            with np.errstate(all="ignore"):
                rows.append((member, layer, norm, l2, l2 / norm, g @ h / (norm * np.linalg.norm(h))))
    return pd.DataFrame(rows, columns=["member", "layer", *MEASURED])


def assert_same(found, wanted, tolerance):
    assert found[["member", "layer"]].to_numpy().tolist() == wanted[["member", "layer"]].to_numpy().tolist()
    for name in MEASURED:
        np.testing.assert_allclose(found[name], wanted[name], rtol=tolerance, atol=tolerance * 1e-3, err_msg=name)


def check(net, x, y, lr, loss=None, **options):
    dtype = next(net.parameters()).dtype
    x = x.to(dtype) if x.is_floating_point() else x
    found = shift(net, x, y, lr, loss, **options)
    assert_same(found, naive(net, x, y, lr, loss or (squared_error if y.is_floating_point() else None)), TOLERANCE[dtype])
    # Nothing is below layer 1: to the last bit.
    first = found[found.layer == 1]
    assert (first.l2 == 0).all() and (first.relative == 0).all() and not found.diverged.any()
    assert first.cosine.to_numpy() == pytest.approx(1, abs=1e-12)
    assert len(found) == 1 or (found.l2[1:] > 0).all(), "the comparison is of something"
    return found


def warmed_up(net, x):
    """Buffers that hold something, as those of a network in training do."""
    with torch.no_grad():
        net(x.to(next(net.parameters()).dtype) if x.is_floating_point() else x)
    return net


def images(count=24, channels=2, size=8):
    return torch.randn(count, channels, size, size), torch.randint(5, (count,))


def flat(count=30, features=7):
    return torch.randn(count, features), torch.randint(5, (count,))


both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
every_norm = pytest.mark.parametrize("norm, fused", [(norm, False) for norm in NORMS] +
                                     [("batch", True), ("noisy_batch", True)])


@both_precisions
@every_norm
def test_mlp(norm, fused, dtype):
    x, y = flat()
    net = nets.mlp((7, 9, 8, 6, 9, 5), norm, seed=1, fused=fused).to(dtype)
    check(warmed_up(net, x), x, y, 0.3)


@both_precisions
@pytest.mark.parametrize("norm", ["none", "batch", "noisy_batch", "linf"])
def test_deep_linear(norm, dtype):
    task = data.linear_map(4, 30)
    net = nets.deep_linear(4, 9, norm, seed=2).to(dtype)
    check(warmed_up(net, task.x_train), task.x_train, task.y_train.to(dtype), 0.02)


@both_precisions
@every_norm
def test_vgg(norm, fused, dtype):
    # With seed 0 one of act3's inputs is 2e-7 from the kink of ReLU: float32 rounds it to either side, as the order of sums is.
    torch.manual_seed(1)
    x, y = images()
    net = nets.vgg((2, 8, 8), 5, "small", norm, "he", seed=3, fused=fused, shrink=2).to(dtype)
    check(warmed_up(net, x), x, y, 0.1)


@settings(max_examples=40)
@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=7), batch=st.integers(4, 20), norm=st.sampled_from(NORMS),
       init=st.sampled_from(nets.INITS), activation=st.sampled_from(sorted(nets.ACTIVATIONS)),
       lr=st.floats(1e-3, 3), bias=st.booleans(), seed=st.integers(0, 9))
def test_any_mlp(sizes, batch, norm, init, activation, lr, bias, seed):
    torch.manual_seed(seed)
    x, y = torch.randn(batch, sizes[0], dtype=torch.float64), torch.randint(sizes[-1], (batch,))
    net = warmed_up(nets.mlp(sizes, norm, init, activation, seed, bias=bias).double(), x)
    found, wanted = shift(net, x, y, lr), naive(net, x, y, lr)
    # A network this small may be dead, or its shift nothing but rounding: compare on the scale of the gradients.
    scale = wanted.gradient_norm.max() + 1e-12
    for name in ("gradient_norm", "l2"):
        np.testing.assert_allclose(found[name] / scale, wanted[name] / scale, rtol=1e-11, atol=1e-11)
    alive = wanted.gradient_norm > 1e-6 * scale
    np.testing.assert_allclose(found.cosine[alive], wanted.cosine[alive], rtol=1e-7, atol=1e-7)


@settings(max_examples=15)
@given(channels=st.integers(1, 3), size=st.integers(1, 9), count=st.integers(4, 9), classes=st.integers(2, 5),
       norm=st.sampled_from(NORMS), seed=st.integers(0, 9))
def test_any_vgg(channels, size, count, classes, norm, seed):
    torch.manual_seed(seed)
    x, y = torch.randn(count, channels, size, size, dtype=torch.float64), torch.randint(classes, (count,))
    net = warmed_up(nets.vgg((channels, size, size), classes, "small", norm, "he", seed, shrink=4).double(), x)
    found, wanted = shift(net, x, y, 0.05), naive(net, x, y, 0.05)
    scale = wanted.gradient_norm.max() + 1e-12
    for name in ("gradient_norm", "l2"):
        np.testing.assert_allclose(found[name] / scale, wanted[name] / scale, rtol=1e-11, atol=1e-11)


class Scalar(nn.Module):
    """A parameter without an axis, as in a dynamic tanh."""

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        return torch.tanh(self.alpha * x)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(width, width), norms.BatchNorm(width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.two(torch.relu(self.norm(self.one(x))))


class OwnForward(nn.Module):
    """Not a chain, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(7))
        self.stem, self.block, self.head = nn.Linear(7, 6), Residual(6), nn.Linear(6, 5, bias=False)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        h = self.stem(x * self.scale)
        return self.head(self.drop(self.block(h)) + h.mean(1, keepdim=True))


shared = nn.ReLU()
CUSTOM = {
    "one layer": lambda: nn.Sequential(nn.Linear(7, 5)),
    "a bare layer": lambda: nn.Linear(7, 5),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(7, 6), nn.Tanh()), nn.Sequential(nn.Sequential(nn.Linear(6, 6))),
                                    nn.Sequential(), nn.Linear(6, 5)),
    "in place": lambda: nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Linear(6, 6),
                                      nn.ReLU(inplace=True), nn.Linear(6, 6), nn.LeakyReLU(inplace=True), nn.Linear(6, 5)),
    "one activation used twice": lambda: nn.Sequential(nn.Linear(7, 6), shared, nn.Linear(6, 6), shared, nn.Linear(6, 5)),
    "one norm used twice": lambda: (lambda norm: nn.Sequential(
        nn.Linear(7, 6), norm, nn.Linear(6, 6), norm, nn.ReLU(), nn.Linear(6, 5)))(nn.BatchNorm1d(6)),
    "dropout in place": lambda: nn.Sequential(nn.Linear(7, 9), nn.Identity(), nn.Dropout(0.3, inplace=True),
                                              nn.ReLU(inplace=True), nn.Linear(9, 8), nn.Dropout(0.5, inplace=True), nn.Linear(8, 5)),
    "dropout": lambda: nn.Sequential(nn.Linear(7, 9), nn.Dropout(0.3), nn.ReLU(), nn.Linear(9, 8), nn.Dropout(0.5),
                                     nn.Linear(8, 5)),
    "normalized input": lambda: nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 6),
                                              nn.GroupNorm(2, 6), nn.Linear(6, 5)),
    "other parameters": lambda: nn.Sequential(nn.Linear(7, 6), nn.PReLU(), nn.Linear(6, 6), Scalar(), nn.Linear(6, 5)),
    "norms without affine or buffers": lambda: nn.Sequential(
        nn.Linear(7, 6), nn.BatchNorm1d(6, affine=False), nn.ReLU(), nn.Linear(6, 6),
        nn.BatchNorm1d(6, track_running_stats=False, momentum=None), nn.ReLU(), nn.Linear(6, 6), norms.BatchNorm(6, bias=False),
        nn.Linear(6, 5)),
    "blocks in a chain": lambda: nn.Sequential(nn.Linear(7, 6), Residual(6), nn.ReLU(), Residual(6), nn.Linear(6, 5)),
    "own forward": OwnForward,
}


@both_precisions
@pytest.mark.parametrize("kind", CUSTOM)
def test_custom_network(kind, dtype):
    torch.manual_seed(4)
    x, y = flat()
    net = warmed_up(CUSTOM[kind]().to(dtype), x)
    found = check(net, x, y, 0.4)
    assert len(found) == sum(isinstance(module, nn.Linear) for module in net.modules())


def test_convolutions_of_other_kinds():
    x, y = images()
    net = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, groups=2),
                        nn.InstanceNorm2d(4, affine=True), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 2, bias=False),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).double()
    check(net, x, y, 0.2)


def test_sequences():
    # Linear layers on (B, T, F): no different.
    x, y = torch.randn(20, 6, 7), torch.randint(5, (20,))
    net = nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)).double()
    check(net, x, y, 0.2)


def test_words():
    x, y = torch.randint(11, (20, 3)), torch.randint(5, (20,))
    net = nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 5)).double()
    check(net, x, y, 0.2)


def test_two_layers_that_share_a_weight_are_one():
    x, y = flat()
    net = nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 5)).double()
    net[4].weight = net[2].weight
    found = shift(net, x.double(), y, 0.3)
    assert len(found) == 3
    assert found.cosine[1] == pytest.approx(
        shift_by_hand(net, x.double(), y, 0.3, moved=[net[0].weight, net[0].bias], weight=net[2].weight))


def shift_by_hand(net, x, y, lr, moved, weight):
    def gradient():
        return torch.autograd.grad(F.cross_entropy(net(x), y), [weight, *moved])

    before, *step = gradient()
    kept = [parameter.detach().clone() for parameter in moved]
    with torch.no_grad():
        for parameter, gradient_ in zip(moved, step):
            parameter -= lr * gradient_
    after = gradient()[0]
    with torch.no_grad():
        for parameter, value in zip(moved, kept):
            parameter.copy_(value)
    return F.cosine_similarity(before.flatten(), after.flatten(), dim=0).item()


@pytest.mark.parametrize("norm", ["none", "batch", "noisy_batch", "linf"])
def test_evaluation_mode(norm):
    x, y = flat()
    net = warmed_up(nets.mlp((7, 9, 8, 5), norm, seed=1).double(), x).eval()
    check(net, x, y, 0.3)


def test_a_layer_that_does_not_learn_is_neither_measured_nor_moved():
    x, y = flat()
    net = nets.mlp((7, 9, 8, 6, 5), "batch", seed=1).double()
    net.linear2.requires_grad_(False)
    found = shift(net, x.double(), y, 0.3)
    assert found.layer.tolist() == [1, 2, 3]
    wanted = shift_by_hand(net, x.double(), y, 0.3, weight=net.linear3.weight, moved=[
        *net.linear1.parameters(), *net.norm1.parameters(), *net.norm2.parameters()])
    assert found.cosine[1] == pytest.approx(wanted, rel=1e-11)


# Several at once

@both_precisions
@pytest.mark.parametrize("norm, fused", [("none", False), ("batch", False), ("batch", True), ("frozen", False), ("l1", False)])
def test_a_stack_with_a_learning_rate_for_each_is_its_members_alone(norm, fused, dtype):
    alone = [nets.mlp((7, 9, 8, 6, 5), norm, seed=seed, fused=fused).to(dtype) for seed in range(3)]
    x, y = torch.randn(3, 30, 7, dtype=dtype), torch.randint(5, (3, 30))
    for net, own in zip(alone, x):
        warmed_up(net, own)
    lr = torch.tensor([0.5, 0.25, 0.125], dtype=dtype)
    found = shift(nets.Stack(alone), x, y, lr)
    assert len(found) == 12
    for member, net in enumerate(alone):
        mine = found[found.member == member].reset_index(drop=True).assign(member=0)
        assert_same(mine, naive(net, x[member], y[member], lr[member].item()), 3 * TOLERANCE[dtype])


@both_precisions
@pytest.mark.parametrize("norm, fused", [("noisy_batch", False), ("noisy_batch", True), ("noise", False), ("frozen_noise", False)])
def test_a_stack_with_noise_sees_the_same_noise_in_every_pass(norm, fused, dtype):
    stack = nets.Stack([nets.mlp((7, 9, 8, 6, 5), norm, seed=seed, fused=fused) for seed in range(3)]).to(dtype)
    x, y = torch.randn(3, 30, 7, dtype=dtype), torch.randint(5, (3, 30))
    warmed_up(stack, x)
    assert_same(shift(stack, x, y, 0.3), naive(stack, x, y, 0.3, members=3), TOLERANCE[dtype])
    assert_same(shift(stack, x, y, torch.full((3,), 0.25)), naive(stack, x, y, 0.25, members=3), TOLERANCE[dtype])


def sgd(net, x, y, lr):
    total = F.cross_entropy(net(x), y)
    with torch.no_grad():
        for parameter, gradient in zip(net.parameters(), torch.autograd.grad(total, list(net.parameters()))):
            parameter -= lr * gradient


def recorder(seen):
    """A probe that writes down every update it is told of."""
    def probe(net, x, step, *, y, lr):
        seen.append((copy.deepcopy(net), x.clone(), y.clone(), lr.clone(), step))
        return pd.DataFrame({"member": range(len(x))})
    probe.looks_at_update = True
    return probe


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_probe_in_training_of_mlps(norm):
    task, seen = data.load("digits"), []
    frame = train(lambda seed: nets.mlp((64, 12, 12, 10), norm, seed=seed), task, seeds=[1, 2], lrs=[0.1, 0.4], steps=4,
                  batch_size=50, record=[0, 2, 4], probes=[recorder(seen), Shift()], test=False)
    assert len(frame) == 4 * 3 * 3
    runs = [(rate, seed) for rate in (0.1, 0.4) for seed in (1, 2)]
    for stack, x, y, lr, step in seen:
        for member, (rate, seed) in enumerate(runs):
            alone = nets.mlp((64, 12, 12, 10), norm)
            state = {name: value.view(4, *alone.state_dict()[name].shape)[member] if value.dim() else value
                     for name, value in stack.layers.state_dict().items()}
            alone.load_state_dict(state)
            found = frame[(frame.step == step) & (frame.lr == rate) & (frame.seed == seed)].assign(member=0)
            assert lr[member].item() == pytest.approx(rate)
            assert_same(found, naive(alone, x[member], y[member], rate), 1e-4)


def test_probe_looks_at_the_batch_of_the_coming_update():
    task, seen = data.load("digits"), []
    train(lambda seed: nets.mlp((64, 12, 10), seed=seed), task, seeds=[3], lrs=[0.2], steps=2, batch_size=50,
          record=[0, 1, 2], probes=[recorder(seen)], test=False)
    for (net, x, y, lr, _), (after, *_) in zip(seen, seen[1:]):
        alone = nets.mlp((64, 12, 10))
        alone.load_state_dict({name: value for name, value in net.layers.state_dict().items()})
        sgd(alone, x[0], y[0], lr.item())
        torch.testing.assert_close(alone.linear1.weight, after.layers.linear1.weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_probe_in_training_of_other_networks(norm):
    task = data.as_images(data.load("digits"))

    def build(seed):
        return nets.vgg((1, 8, 8), 10, norm=norm, init="he", seed=seed, shrink=4, fused=True)

    seen = []
    frame = train(build, task, seeds=[1, 2], lrs=[0.1], steps=2, batch_size=30, record=[0, 2],
                  probes=[Shift(), recorder(seen)], test=False)
    assert len(frame) == 2 * 2 * 7
    for (net, x, y, lr, step), seed in zip(seen, [1, 1, 2, 2]):
        mine = frame[(frame.step == step) & (frame.seed == seed)].reset_index(drop=True)
        assert_same(mine.assign(member=0), naive(net.layers, x[0], y[0], lr.item()), 1e-5)


def test_probe_in_training_of_a_network_with_a_scalar_parameter():
    task = data.load("digits")
    frame = train(lambda seed: nn.Sequential(nn.Linear(64, 8), Scalar(), nn.Linear(8, 10)), task, seeds=[1, 2], lrs=[0.1],
                  steps=1, batch_size=30, record=[0], probes=[Shift()], test=False)
    assert len(frame) == 4 and (frame.l2 >= 0).all()


def test_a_probe_does_not_change_the_training():
    task = data.load("digits")

    def losses(probes):
        frame = train(lambda seed: nets.mlp((64, 12, 12, 10), "noisy_batch", seed=seed), task, seeds=[1, 2], lrs=[0.1],
                      steps=6, batch_size=50, record=[0, 3, 6], probes=probes, test=False)
        return frame.drop_duplicates(["seed", "step"]).train_loss.tolist()
    assert losses([Shift()]) == losses([])


# No trace

def snapshot(net):
    return ({name: value.clone() for name, value in net.state_dict().items()}, {m: m.training for m in net.modules()},
            {name: (p.grad, p.requires_grad, id(p)) for name, p in net.named_parameters()},
            {m: m.refuse_nonfinite for m in net.modules() if hasattr(m, "refuse_nonfinite")}, torch.get_rng_state())


def assert_untouched(net, before):
    state, modes, fields, refusing, random = before
    assert torch.equal(torch.get_rng_state(), random)
    assert {m: m.training for m in net.modules()} == modes
    assert {m: m.refuse_nonfinite for m in net.modules() if hasattr(m, "refuse_nonfinite")} == refusing
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name
    for name, parameter in net.named_parameters():
        grad, requires_grad, identity = fields[name]
        assert parameter.grad is grad and parameter.requires_grad == requires_grad and id(parameter) == identity
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in net.modules())


@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
@every_norm
@pytest.mark.parametrize("kind", ["mlp", "stack", "vgg"])
def test_no_trace(kind, norm, fused, mode):
    if kind == "vgg":
        net, (x, y) = nets.vgg((2, 8, 8), 5, norm=norm, init="he", fused=fused, shrink=4), images()
    else:
        net, (x, y) = nets.mlp((7, 8, 8, 5), norm, fused=fused), flat()
    if kind == "stack":
        net, x, y = nets.Stack([net, nets.mlp((7, 8, 8, 5), norm, seed=1, fused=fused)]), x.expand(2, -1, -1), y.expand(2, -1)
    warmed_up(net, x)
    if mode != "train":
        net.eval()
    if mode == "mixed":
        (net.layers if kind == "stack" else net).norm1.train()
    for parameter in list(net.parameters())[::2]:
        parameter.grad = torch.randn_like(parameter)
    grads = [parameter.grad.clone() for parameter in list(net.parameters())[::2]]
    before, kept = snapshot(net), (x.clone(), y.clone())
    shift(net, x, y, 0.1)
    assert_untouched(net, before)
    assert torch.equal(x, kept[0]) and torch.equal(y, kept[1])
    assert all(torch.equal(parameter.grad, grad) for parameter, grad in zip(list(net.parameters())[::2], grads))
    with pytest.raises(ValueError):
        shift(net, x, y, 0.1, layers=["elsewhere"])
    assert_untouched(net, before)
    with pytest.raises((RuntimeError, ValueError)):
        shift(net, x[..., :-1], y, 0.1)
    assert_untouched(net, before)


class Fails(nn.Module):
    """Passes its input on, until it has done so often enough."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 3:
            raise RuntimeError("enough")
        return x


@pytest.mark.parametrize("norm", ["batch", "noisy_batch", "frozen", "l1"])
def test_no_trace_when_something_fails_half_way(norm):
    x, y = flat()
    net = nn.Sequential(nn.Linear(7, 6), norms.make(norm, 6), nn.Linear(6, 6), Fails(), norms.make(norm, 6), nn.Linear(6, 5))
    before = snapshot(net)
    with pytest.raises(RuntimeError, match="enough"):
        for _ in range(4):
            shift(net, x, y, 0.1)
    assert_untouched(net, before)

    def loss(outputs, y):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        shift(net[:3], x, y, 0.1, loss)
    assert_untouched(net, before)


def test_gradients_may_be_switched_off_around_it():
    x, y = flat()
    net = nets.mlp((7, 8, 5))
    wanted = shift(net, x, y, 0.1)
    with torch.no_grad():
        pd.testing.assert_frame_equal(shift(net, x, y, 0.1), wanted)
        assert not torch.is_grad_enabled()


# Arguments

def test_custom_loss():
    x, y = flat()
    net = nets.mlp((7, 9, 8, 5), "batch").double()

    def loss(outputs, y):
        return (outputs - F.one_hot(y, 5)).abs().sum()
    check(net, x, y, 0.02, loss)
    check(net, x, y, 0.02, lambda outputs, y: loss(outputs, y)[None])  # One number, whatever its shape.
    check(OwnForward().double(), x, y, 0.02, loss)


def test_layers_are_picked_by_name_and_keep_their_numbers():
    x, y = flat()
    net = nets.mlp((7, 9, 8, 6, 5), "batch")
    whole = shift(net, x, y, 0.1)
    part = shift(net, x, y, 0.1, layers=["linear4", "linear2"])
    assert part.layer.tolist() == [2, 4]
    pd.testing.assert_frame_equal(part, whole[whole.layer.isin([2, 4])].reset_index(drop=True))
    stack = shift(nets.Stack([net, net]), torch.stack([x, x]), torch.stack([y, y]), 0.1, layers=["linear2"])
    assert stack[["member", "layer"]].to_numpy().tolist() == [[0, 2], [1, 2]]
    assert shift(OwnForward(), x, y, 0.1, layers=["block.two"]).layer.tolist() == [3]


@pytest.mark.parametrize("fused", [False, True])
def test_a_batch_of_one_is_refused_as_the_network_refuses_it(fused):
    net = nets.mlp((7, 9, 5), "batch", fused=fused)
    with pytest.raises(ValueError) as its_own:
        net(torch.randn(1, 7))
    with pytest.raises(ValueError) as probed:
        shift(net, torch.randn(1, 7), torch.tensor([1]), 0.1)
    assert str(probed.value) == str(its_own.value)


def test_bad_input():
    x, y = flat()
    net = nets.mlp((7, 9, 5))
    with pytest.raises(ValueError, match="no layer called 'conv1'; there are linear1, linear2"):
        shift(net, x, y, 0.1, layers=["conv1"])
    with pytest.raises(ValueError, match="must be one number, got torch.Size"):
        shift(net, x, y, 0.1, lambda outputs, y: F.cross_entropy(outputs, y, reduction="none"))
    with pytest.raises(ValueError, match="must be one number"):
        shift(net, x, y, 0.1, lambda outputs, y: F.cross_entropy(outputs, y).item())
    with pytest.raises(ValueError, match="does not depend on anything that requires a gradient"):
        shift(net, x, y, 0.1, lambda outputs, y: y.double().mean())
    with pytest.raises(ValueError, match="does not depend on anything that requires a gradient"):
        shift(OwnForward(), x, y, 0.1, lambda outputs, y: outputs.detach().sum())
    with pytest.raises(ValueError, match="no layer to look at"):
        shift(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(7)), x, y, 0.1)
    with pytest.raises(ValueError, match="a Stack is measured with the loss of train"):
        shift(nets.Stack([net]), x[None], y[None], 0.1, F.cross_entropy)
    for frozen in (net.requires_grad_(False), OwnForward().requires_grad_(False)):
        with pytest.raises(ValueError, match="requires a gradient"):
            shift(frozen, x, y, 0.1)


@pytest.mark.parametrize("build", [lambda: nets.mlp((7, 9, 8, 5)), lambda: nets.mlp((7, 9, 8, 5), "batch", fused=True), OwnForward])
def test_a_zero_gradient_has_no_direction(build):
    x, y = flat()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = shift(build(), x, y, 0.1, lambda outputs, y: 0 * outputs.sum())
    assert (found.gradient_norm == 0).all() and (found.l2 == 0).all() and not found.diverged.any()
    assert found.relative.isna().all() and found.cosine.isna().all()


@pytest.mark.parametrize("training", [True, False])
@every_norm
def test_what_is_not_finite_is_reported_as_diverged(norm, fused, training):
    x, y = flat()
    net = warmed_up(nets.mlp((7, 9, 8, 5), norm, fused=fused), x).train(training)
    before = snapshot(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bad = shift(net, torch.where(torch.arange(30)[:, None] == 3, torch.nan, x), y, 0.1)
        assert bad.diverged.all() and (bad.l2 == np.inf).all() and (bad.relative == np.inf).all()
        far = shift(net, x, y, np.inf)
    assert not far.diverged[0] and far.l2[0] == 0
    assert norm != "none" or far.diverged[1:].all()
    assert_untouched(net, before)


def test_one_that_diverged_leaves_its_neighbours_alone():
    x, y = torch.randn(2, 30, 7), torch.randint(5, (2, 30))
    stack = nets.Stack([nets.mlp((7, 9, 8, 5), "batch", seed=seed) for seed in range(2)])
    wanted = shift(stack, x, y, 0.1)
    x[1, 3] = torch.nan
    found = shift(stack, x, y, 0.1)
    assert found.diverged.tolist() == [False] * 3 + [True] * 3
    pd.testing.assert_frame_equal(found[:3], wanted[:3])


# Cost

@pytest.mark.parametrize("norm", ["none", "batch"])
def test_faster_than_a_pass_for_every_layer(norm):
    task = data.load("digits")
    x, y = task.x_train[:128], task.y_train[:128]
    net = nets.mlp((64, *[64] * 9, 10), norm, fused=True)
    runs = {"probe": lambda: shift(net, x, y, 0.1), "passes": lambda: passes(net, x, y, 0.1)}
    times = {name: [] for name in runs}
    for _ in range(25):  # By turns, and in time on the processor: whatever else the machine does, it does to both.
        for name, run in runs.items():
            start = time.thread_time()
            run()
            times[name].append(time.thread_time() - start)
    faster = np.median(times["passes"][5:]) / np.median(times["probe"][5:])
    assert faster >= 1.6, f"only {faster:.2f} times as fast"


@pytest.mark.parametrize("norm", ["weight", "weight_standardization"])
def test_normalized_weights_are_refused_by_name(norm):
    net = nets.mlp((5, 4, 4, 3), norm)
    for one in (net, nets.Stack([net])):
        x, y = torch.randn(8, 5), torch.randint(3, (8,))
        if one is not net:
            x, y = x[None], y[None]
        with pytest.raises(ValueError, match="weight of .*linear1 is computed from others"):
            shift(one, x, y, 0.1)
