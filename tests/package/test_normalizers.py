"""The other normalizers: against their torch twin where there is one, else against the formula of the paper."""

import copy
import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from bncourse import nets, norms
from bncourse.norms import (
    TLU, BatchNorm, BatchRenorm, ChannelRMSNorm, DynamicTanh, FilterResponseNorm, GhostBatchNorm, GroupNorm, InstanceNorm,
    LayerNorm, RMSNorm, WeightNorm, WeightStandardization)
from bncourse.train import recompute_statistics

seeds = st.integers(0, 10**6)
dtypes = st.sampled_from([torch.float64, torch.float32])
# Two values that happen to be close are pulled apart by up to 1/sqrt(eps), and their rounding with them.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3, torch.bfloat16: 2e-2}


def lists(low, high, count):
    return st.lists(st.integers(low, high), min_size=count[0], max_size=count[1])


def close(found, wanted, dtype=torch.float64):
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    scale = 1 + wanted.abs().max() if wanted.numel() else 1  # a gradient is measured against its own size
    torch.testing.assert_close(found / scale, wanted / scale, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def unset_defaults(ours, twin):
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), twin.parameters(), strict=True):
            other.copy_(mine.copy_(torch.randn_like(mine) + 1))


def same_step(ours, twin, x):
    """Forward and backward through both: outputs, gradients and buffers agree."""
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, wanted = ours(mine), twin(other)
    close(y, wanted, x.dtype)
    up = torch.randn_like(wanted)
    y.backward(up)
    wanted.backward(up)
    close(mine.grad, other.grad, x.dtype)
    for one, two in zip(ours.parameters(), twin.parameters(), strict=True):
        close(one.grad, two.grad, x.dtype)
    assert [name for name, _ in ours.named_buffers()] == [name for name, _ in twin.named_buffers()]
    for one, two in zip(ours.buffers(), twin.buffers()):
        close(one.double(), two.double(), x.dtype)


@settings(max_examples=120)
@given(normalized=lists(1, 6, (1, 3)), leading=lists(1, 4, (0, 3)), eps=st.sampled_from([1e-5, 0.1]), affine=st.booleans(),
       bias=st.booleans(), dtype=dtypes, seed=seeds)
def test_layer_norm(normalized, leading, eps, affine, bias, dtype, seed):
    torch.manual_seed(seed)
    normalized = normalized if math.prod(normalized) > 1 else [2, *normalized]
    ours, twin = (build(normalized, eps, affine, bias, dtype=dtype) for build in (LayerNorm, nn.LayerNorm))
    unset_defaults(ours, twin)
    same_step(ours, twin, (torch.randn(*leading, *normalized) * 3 + 1).to(dtype))


@settings(max_examples=80)
@given(normalized=lists(1, 6, (1, 3)), leading=lists(1, 4, (0, 3)), eps=st.sampled_from([None, 1e-5, 0.1]),
       affine=st.booleans(), dtype=st.sampled_from([torch.float64, torch.float32]), seed=seeds)
def test_rms_norm(normalized, leading, eps, affine, dtype, seed):
    torch.manual_seed(seed)
    normalized = normalized if math.prod(normalized) > 1 else [2, *normalized]
    ours, twin = (build(normalized, eps, affine, dtype=dtype) for build in (RMSNorm, nn.RMSNorm))
    unset_defaults(ours, twin)
    same_step(ours, twin, torch.randn(*leading, *normalized, dtype=dtype) * 3 + 1)


@settings(max_examples=120)
@given(groups=st.integers(1, 4), each=st.integers(1, 4), batch=st.integers(1, 5), positions=lists(1, 4, (0, 3)),
       affine=st.booleans(), dtype=dtypes, seed=seeds)
def test_group_norm(groups, each, batch, positions, affine, dtype, seed):
    torch.manual_seed(seed)
    each = each if each * math.prod(positions) > 1 else 2
    ours, twin = (build(groups, groups * each, affine=affine, dtype=dtype) for build in (GroupNorm, nn.GroupNorm))
    unset_defaults(ours, twin)
    same_step(ours, twin, (torch.randn(batch, groups * each, *positions) * 3 + 1).to(dtype))


@settings(max_examples=120)
@given(channels=st.integers(1, 5), batch=st.integers(1, 5), positions=lists(1, 4, (1, 3)), affine=st.booleans(),
       track=st.booleans(), momentum=st.sampled_from([None, 0.1, 1.0]), modes=st.lists(st.booleans(), min_size=1, max_size=3),
       dtype=st.sampled_from([torch.float64, torch.float32]), seed=seeds)
def test_instance_norm(channels, batch, positions, affine, track, momentum, modes, dtype, seed):
    torch.manual_seed(seed)
    positions = positions if math.prod(positions) > 1 else [2, *positions[1:]]
    twins = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
    ours, twin = (build(channels, momentum=momentum, affine=affine, track_running_stats=track, dtype=dtype)
                  for build in (InstanceNorm, twins[len(positions)]))
    unset_defaults(ours, twin)
    for training in modes:
        ours.train(training), twin.train(training)
        same_step(ours, twin, torch.randn(batch, channels, *positions, dtype=dtype) * 3 + 1)
        ours.zero_grad(), twin.zero_grad()


@pytest.mark.parametrize("ours, twin, shape", [
    (LayerNorm(64), nn.LayerNorm(64), (8, 64)), (RMSNorm(64), nn.RMSNorm(64), (8, 64)),
    (GroupNorm(4, 64), nn.GroupNorm(4, 64), (8, 64)), (InstanceNorm(3, affine=True), nn.InstanceNorm1d(3, affine=True), (8, 3, 64))])
@pytest.mark.parametrize("layer_too", [False, True])
def test_half_precision(ours, twin, shape, layer_too):
    x = torch.randn(shape).bfloat16()
    if layer_too:
        ours, twin = (copy.deepcopy(layer).bfloat16() for layer in (ours, twin))
        close(ours(x), twin(x), torch.bfloat16)
    close(ours(x), twin.float()(x.float()).bfloat16(), torch.bfloat16)  # torch's RMSNorm takes no mixture


TWINS = [(LayerNorm, nn.LayerNorm), (RMSNorm, nn.RMSNorm), (GroupNorm, nn.GroupNorm), (InstanceNorm, nn.InstanceNorm2d)]


@pytest.mark.parametrize("ours, twin", TWINS)
def test_takes_the_arguments_of_its_twin(ours, twin):
    mine, theirs = inspect.signature(ours).parameters, inspect.signature(twin).parameters
    assert set(mine) - set(theirs) <= {"bias"}, "only what an older torch does not have yet"
    assert [name for name in mine if name in theirs] == list(theirs)
    assert all(mine[name].default == theirs[name].default for name in theirs)


@pytest.mark.parametrize("ours, twin", TWINS)
def test_state_travels_both_ways(ours, twin):
    arguments = (2, 4) if ours is GroupNorm else (4,)
    options = dict(affine=True, track_running_stats=True) if ours is InstanceNorm else {}
    mine, theirs = ours(*arguments, **options), twin(*arguments, **options)
    unset_defaults(mine, theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    ours(*arguments, **options).load_state_dict(theirs.state_dict())
    twin(*arguments, **options).load_state_dict(mine.state_dict())


def test_between_layer_and_instance():
    x = torch.randn(5, 6, 3, 4, dtype=torch.float64)
    close(GroupNorm(1, 6).double()(x), LayerNorm((6, 3, 4), elementwise_affine=False)(x))
    close(GroupNorm(6, 6).double()(x), InstanceNorm(6)(x))
    close(ChannelRMSNorm(1, 6).double()(x), RMSNorm((6, 3, 4), elementwise_affine=False)(x))
    flat = torch.randn(5, 6, dtype=torch.float64)
    close(norms.make("layer", 6).double()(flat), nn.LayerNorm(6).double()(flat))
    close(norms.make("rms", 6).double()(flat), nn.RMSNorm(6).double()(flat))


@pytest.mark.parametrize("channels, groups", [(3, 1), (8, 1), (16, 2), (24, 3), (64, 8), (100, 10), (17, 1)])
def test_groups_of_at_least_eight_where_nothing_is_said(channels, groups):
    assert norms.groups_for(channels) == groups == norms.make("group", channels).num_groups
    assert norms.make("group", 12, num_groups=4).num_groups == 4


# --- Weights ---------------------------------------------------------------------------------------------------------

def layers():
    return [nn.Linear(5, 4), nn.Conv1d(3, 4, 2), nn.Conv2d(3, 4, (2, 3))]


@pytest.mark.parametrize("dim", [0, 1, -1, None])
@pytest.mark.parametrize("index", range(3))
def test_weight_norm(index, dim):
    layer = layers()[index].double()
    before = layer.weight.detach().clone()
    ours, twin = copy.deepcopy(layer), parametrizations.weight_norm(copy.deepcopy(layer), dim=dim)
    parametrize.register_parametrization(ours, "weight", WeightNorm(dim))
    close(ours.weight.detach(), before)
    assert list(ours.state_dict()) == list(twin.state_dict())
    ours.load_state_dict(twin.state_dict())
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), twin.parameters()):
            assert mine.shape == other.shape
            other.copy_(mine.copy_(torch.randn_like(mine)))
    same_step(ours, twin, torch.randn(6, *{0: [5], 1: [3, 7], 2: [3, 4, 5]}[index], dtype=torch.float64))


@pytest.mark.parametrize("index", range(3))
def test_weight_standardization(index):
    weight = layers()[index].weight.detach().double() * 3 + 1
    found, scaled = WeightStandardization(eps=1e-3)(weight), WeightStandardization(eps=1e-3, scaled=True)(weight)
    for row, mine, other in zip(weight, found, scaled):
        variance = row.square().mean() - row.mean() ** 2
        close(mine, (row - row.mean()) / (variance + 1e-3).sqrt())
        close(other, mine * math.sqrt(2 / (1 - 1 / math.pi)) / math.sqrt(row.numel()))


def test_scaled_standardized_weights_keep_the_variance_of_a_relu_network():
    net = nets.mlp([512] * 11, "weight_standardization", activation="relu")
    x = torch.randn(2000, 512)
    spreads = []
    for name, module in net.named_children():
        x = module(x).detach()
        if name.startswith("linear"):
            spreads.append(x.var(0).mean().item())
    # The first layer gets input of variance 1 that is not behind a ReLU; each later one that of a unit of variance spreads[0].
    assert spreads[-1] == pytest.approx(spreads[0], rel=0.25)
    close(norms.make("weight_standardization", 4, scaled=False)(net.linear1.weight), WeightStandardization()(net.linear1.weight),
          torch.float32)


def test_normalized_weights_know_no_scale():
    for name, power in (("weight", 1), ("weight_standardization", 1)):
        net, x = nets.mlp((5, 4), name).double(), torch.randn(6, 5, dtype=torch.float64)
        assert list(dict(net.named_children())) == ["linear1"], "an output layer is not normalized"
        net = nets.mlp((5, 4, 3), name).double()
        y = net(x)
        *_, free = net.linear1.parametrizations.weight.parameters()
        with torch.no_grad():
            free *= 7
        torch.testing.assert_close(net(x), y, rtol=1e-3, atol=1e-6)  # eps
        assert not torch.allclose(net(x * 1.5), y, rtol=1e-2), "but the scale of the data"


# --- Batches ---------------------------------------------------------------------------------------------------------

@settings(max_examples=60)
@given(size=st.integers(2, 6), parts=st.integers(1, 4), rest=st.integers(0, 5), positions=lists(1, 3, (0, 2)),
       momentum=st.sampled_from([0.1, 0.5, None]), seed=seeds)
def test_ghost_batches_are_batches(size, parts, rest, positions, momentum, seed):
    torch.manual_seed(seed)
    x = torch.randn(size * parts + rest % size, 3, *positions, dtype=torch.float64)
    ghost, plain = (build(3, momentum=momentum).double() for build in (
        lambda *a, **o: GhostBatchNorm(*a, ghost_size=size, **o), BatchNorm))
    unset_defaults(ghost, plain)
    pieces = x.tensor_split(parts)
    assert min(map(len, pieces)) >= size
    close(ghost(x), torch.cat([plain(piece) for piece in pieces]))
    for one, two in zip(ghost.buffers(), plain.buffers()):
        close(one.double(), two.double())
    close(ghost.eval()(x), plain.eval()(x))


def test_a_small_batch_is_one_ghost():
    x = torch.randn(5, 3)
    close(GhostBatchNorm(3, ghost_size=32)(x), BatchNorm(3)(x), torch.float32)
    assert GhostBatchNorm(3, ghost_size=4)(torch.randn(2, 3)).shape == (2, 3)


@settings(max_examples=60)
@given(r_max=st.sampled_from([1.0, 1.5, 3.0]), d_max=st.sampled_from([0.0, 0.5, 5.0]), momentum=st.sampled_from([0.01, 0.3]),
       positions=lists(1, 3, (0, 2)), seed=seeds)
def test_batch_renorm_is_algorithm_1(r_max, d_max, momentum, positions, seed):
    torch.manual_seed(seed)
    layer = BatchRenorm(3, eps=1e-3, momentum=momentum, r_max=r_max, d_max=d_max).double()
    gamma, beta = torch.randn(2, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(gamma), layer.bias.copy_(beta)
    mean, sigma = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for _ in range(4):
        x = torch.randn(7, 3, *positions, dtype=torch.float64) * 2 + 1
        y = layer(x)
        for c in range(3):
            values = x[:, c]
            mu_B = values.mean()
            sigma_B = (1e-3 + ((values - mu_B) ** 2).mean()).sqrt()
            r = min(max(sigma_B / sigma[c], 1 / r_max), r_max)
            d = min(max((mu_B - mean[c]) / sigma[c], -d_max), d_max)
            close(y[:, c], gamma[c] * ((values - mu_B) / sigma_B * r + d) + beta[c])
            mean[c] += momentum * (mu_B - mean[c])
            sigma[c] += momentum * (sigma_B - sigma[c])
        close(layer.running_mean, mean)
        close(layer.running_std, sigma)
    x = torch.randn(1, 3, *positions, dtype=torch.float64)
    along = [1, 3, *[1] * len(positions)]
    close(layer.eval()(x), gamma.view(along) * (x - mean.view(along)) / sigma.view(along) + beta.view(along))


def test_batch_renorm_without_corrections_is_batch_norm():
    ours, twin = BatchRenorm(3, r_max=1, d_max=0).double(), BatchNorm(3).double()
    x, up = torch.randn(2, 8, 3, dtype=torch.float64)
    mine, other = (x.clone().requires_grad_() for _ in range(2))
    ours(mine).backward(up)
    twin(other).backward(up)
    close(mine.grad, other.grad)


def test_no_gradient_through_the_corrections():
    layer = BatchRenorm(2).double()
    layer.running_mean += 0.3
    layer.running_std *= 1.2
    x, up = torch.randn(2, 8, 2, dtype=torch.float64)
    [found] = torch.autograd.grad((copy.deepcopy(layer)(x.requires_grad_()) * up).sum(), x)
    sigma_B = (x.var(0, correction=0) + layer.eps).sqrt().detach()
    [plain] = torch.autograd.grad((BatchNorm(2).double()(x) * up).sum(), x)
    close(found, plain * (sigma_B / layer.running_std).clamp(1 / 3, 3))


@pytest.mark.parametrize("name, options", [("batch_renorm", {}), ("ghost", dict(ghost_size=3))])
def test_recomputed_statistics_are_those_of_batch_norm(name, options):
    net, x = nets.mlp((6, 5, 4, 3), name, **options).double(), torch.randn(20, 6, dtype=torch.float64) * 9
    plain = nets.mlp((6, 5, 4, 3), "batch").double()
    net(torch.randn(20, 6, dtype=torch.float64))
    settings = repr(net)
    for each in (net, plain):
        recompute_statistics(each, x)
    close(net.eval()(x), plain.eval()(x)) if name == "ghost" else close(net.eval()(x), plain.train()(x))
    assert repr(net) == settings


def test_running_statistics_of_instances_can_be_recomputed():
    net, x = nn.Sequential(InstanceNorm(3, track_running_stats=True)), torch.randn(20, 3, 50) * 2 + 1
    net(torch.randn(20, 3, 50))
    recompute_statistics(net, x)
    close(net[0].running_mean, x.mean((0, 2)), torch.float32)
    assert (net[0].momentum, net.training) == (0.1, True)


# --- Single values ---------------------------------------------------------------------------------------------------

@settings(max_examples=40)
@given(positions=lists(1, 4, (1, 3)), eps=st.sampled_from([1e-6, -0.5]), seed=seeds)
def test_filter_response_norm(positions, eps, seed):
    torch.manual_seed(seed)
    positions = positions if math.prod(positions) > 1 else [2, *positions[1:]]
    layer = FilterResponseNorm(3, eps=eps).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -2, 3])), layer.bias.copy_(torch.tensor([1.0, 0, -1]))
    x = torch.randn(4, 3, *positions, dtype=torch.float64) + 2
    y = layer(x)
    for n in range(4):
        for c in range(3):
            nu2 = x[n, c].square().mean()
            close(y[n, c], layer.weight[c] * x[n, c] / (nu2 + abs(eps)).sqrt() + layer.bias[c])


def test_filter_response_norm_of_one_value_learns_its_eps():
    layer, x = FilterResponseNorm(3, learn_eps=True).double(), torch.randn(8, 3, dtype=torch.float64)
    close(layer(x), x / (x.square() + 1e-4).sqrt())
    layer(x).sum().backward()
    assert layer.eps.grad.abs().min() > 0
    images = torch.randn(8, 3, 4, dtype=torch.float64)
    close(layer(images), FilterResponseNorm(3, eps=1e-4).double()(images))


def test_tlu():
    layer, x = TLU(3), torch.randn(5, 3, 4)
    close(layer(x), F.relu(x), torch.float32)
    with torch.no_grad():
        layer.tau.copy_(torch.tensor([-1.0, 0.5, 2]))
    close(layer(x), torch.stack([x[:, c].clamp(min=tau) for c, tau in enumerate((-1, 0.5, 2))], 1), torch.float32)
    assert isinstance(nets.mlp((6, 5, 4), "frn", activation="tlu", learn_eps=True).act1, TLU)


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 2, 2)])
def test_dynamic_tanh(shape):
    assert DynamicTanh(3, alpha_init=1).alpha.item() == 1
    layer, x = DynamicTanh(3, alpha_init=0.75).double(), torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -2, 3])), layer.bias.copy_(torch.tensor([1.0, 0, -1]))
    y = layer(x)
    for c in range(3):
        close(y[:, c], layer.weight[c] * torch.tanh(0.75 * x[:, c]) + layer.bias[c])
    assert [tuple(p.shape) for p in layer.parameters()] == [(1,), (3,), (3,)]


# --- What all of them do ---------------------------------------------------------------------------------------------

ALONE = {"layer": GroupNorm, "group": GroupNorm, "rms": ChannelRMSNorm, "instance": InstanceNorm, "frn": FilterResponseNorm,
         "dyt": DynamicTanh}


@pytest.mark.parametrize("name", ALONE)
def test_who_else_is_in_the_batch_does_not_matter(name):
    layer, x = norms.make(name, 8).double(), torch.randn(6, 8, 3, dtype=torch.float64)
    assert type(layer) is ALONE[name]
    close(layer(x), torch.cat([layer(one[None]) for one in x]))
    close(layer.eval()(x), layer.train()(x))


@pytest.mark.parametrize("name", [name for name in norms.NORMS if name not in ("none", "noise")])
def test_gradients_are_those_of_the_forward_pass(name):
    layer = norms.make(name, 4, **({"ghost_size": 3} if name == "ghost" else {})).double().eval()
    x = torch.randn(6, 4, 3, dtype=torch.float64, requires_grad=True)
    if name == "weight":
        g, v = (t.detach().requires_grad_() for t in layer.right_inverse(x))
        assert torch.autograd.gradcheck(layer, (g, v))
    elif name not in ("noisy_batch", "frozen_noise", "batch_renorm"):  # which draw, or hold constants in the backward pass
        layer.train()
        layer(x.detach())
        assert torch.autograd.gradcheck(layer, x)
    else:
        layer(x.detach()) if "frozen" not in name else layer.train()(x.detach())
        assert torch.autograd.gradcheck(layer.eval(), x)


@pytest.mark.parametrize("name", norms.NORMS)
def test_describes_itself(name):
    assert type(norms.make(name, 8)).__name__ in repr(norms.make(name, 8))


# --- Input that cannot be normalized ---------------------------------------------------------------------------------

BAD = {
    "layer norm, another end": (lambda: LayerNorm(4)(torch.randn(3, 5)), r"ends in \(4,\), got shape \(3, 5\)"),
    "layer norm of one value": (lambda: LayerNorm(1)(torch.randn(3, 1)), "one value per example"),
    "RMS norm of one value": (lambda: RMSNorm((1, 1))(torch.randn(3, 1, 1)), "one value per example"),
    "groups that do not divide": (lambda: GroupNorm(4, 6), r"\(6\) must be divisible by num_groups \(4\).*can be 1, 2, 3, 6"),
    "no groups": (lambda: GroupNorm(0, 6), r"divisible by num_groups \(0\)"),
    "groups by name": (lambda: norms.make("group", 10, num_groups=4), r"divisible by num_groups \(4\)"),
    "group of one value": (lambda: GroupNorm(6, 6)(torch.randn(2, 6)), "one value in a group.*fewer groups"),
    "group norm, channels": (lambda: GroupNorm(2, 6)(torch.randn(2, 4)), "built for 6 channels, got 4.*num_channels=4"),
    "instance norm on (N, C)": (lambda: InstanceNorm(6)(torch.randn(2, 6)), "one value per channel.*layer or group"),
    "instance norm, one position": (lambda: InstanceNorm(6)(torch.randn(2, 6, 1, 1)), "one value per channel"),
    "fused instance norm": (lambda: norms.make("instance", 6, fused=True)(torch.randn(2, 6)), "one value per channel"),
    "instance norm in an MLP": (lambda: nets.mlp((4, 3, 2), "instance")(torch.randn(8, 4)), "one value per"),
    "instance norm, channels": (lambda: InstanceNorm(6)(torch.randn(2, 5, 4)), "built for 6 channels, got 5"),
    "instance norm, one example": (lambda: InstanceNorm(6)(torch.randn(6)), r"x\[None\]"),
    "response norm of one value": (lambda: FilterResponseNorm(6)(torch.randn(2, 6)), "learn_eps=True"),
    "tlu, channels": (lambda: TLU(3)(torch.randn(2, 4)), "built for 3 channels"),
    "dynamic tanh, channels": (lambda: DynamicTanh(3)(torch.randn(2, 4)), "built for 3 channels"),
    "a vector of zeros": (lambda: WeightNorm().right_inverse(torch.zeros(2, 3)), "no direction"),
    "a bias under weight norm": (lambda: WeightNorm().right_inverse(torch.ones(3)), "no vector to normalize"),
    "one input": (lambda: WeightStandardization()(torch.randn(4, 1)), "1 input for each output"),
    "ghosts of nobody": (lambda: GhostBatchNorm(3, ghost_size=0), "at least one example"),
    "ghosts of one": (lambda: GhostBatchNorm(3, ghost_size=1)(torch.randn(4, 3)), "at least 2 values per channel"),
    "renorm, one example": (lambda: BatchRenorm(3)(torch.randn(1, 3)), "at least 2 values per channel"),
    "renorm, no room": (lambda: BatchRenorm(3, r_max=0.5), "r_max must be at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_says_what_cannot_be_normalized(case):
    call, says = BAD[case]
    with pytest.raises(ValueError, match=f"(?s){says}"):
        call()


@pytest.mark.parametrize("build", [lambda: LayerNorm(4), lambda: RMSNorm(4), lambda: GroupNorm(2, 4), lambda: DynamicTanh(4),
                                   lambda: InstanceNorm(4, affine=True), lambda: FilterResponseNorm(4), lambda: TLU(4)])
@pytest.mark.parametrize("dtype, says", [(torch.long, r"x\.float\(\)"), (torch.float64, "torch.float32 and got torch.float64")])
def test_refuses_another_precision(build, dtype, says):
    with pytest.raises(TypeError, match=says):
        build()(torch.ones(2, 4, 4, dtype=dtype))
