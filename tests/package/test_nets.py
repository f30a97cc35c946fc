"""``nets.mlp`` and ``nets.Stack``: many networks computed together are each the network alone."""

import math

import pytest
import torch
from torch import nn

from bncourse import nets, norms
from bncourse.nets import Stack, mlp
from bncourse.train import weights_of

SIZES = (6, 5, 4, 3)


def test_layers_stand_where_the_papers_put_them():
    assert [name for name, _ in mlp(SIZES, "batch").named_children()] == [
        "linear1", "norm1", "act1", "linear2", "norm2", "act2", "linear3"]
    assert list(nets.activations(mlp(SIZES))) == [1, 2]


@pytest.mark.parametrize("init", [*nets.INITS, 0.1])
@pytest.mark.parametrize("fused", [False, True])
def test_a_seed_gives_every_norm_the_same_weights(init, fused):
    def weights(net):  # where one is normalized, what stands behind it
        return weights_of(net) + [module.bias for module in net if isinstance(module, nn.Linear)]

    wanted = weights(mlp(SIZES, "none", init, seed=7))
    for norm in norms.NORMS:
        net = mlp(SIZES, norm, init, seed=7, fused=fused)
        assert all(torch.equal(a, b) for a, b in zip(weights(net), wanted, strict=True)), norm
    assert not torch.equal(wanted[0], mlp(SIZES, "none", init, seed=8).linear1.weight)


def test_building_leaves_the_readers_random_numbers_alone():
    state = torch.get_rng_state()
    first = mlp(SIZES, "batch", seed=3).linear1.weight
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(first, mlp(SIZES, "batch", seed=3).linear1.weight)


# 400 × 300 weights: a standard deviation is known to 0.2 %, the end of a uniform range to 0.01 %.
def drawn(init):
    return [parameter.detach() for parameter in mlp((400, 300), init=init).linear1.parameters()]


def test_he():
    weight, bias = drawn("he")
    assert weight.std() == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert (weight.abs() > 1.96 * math.sqrt(2 / 400)).float().mean() == pytest.approx(0.05, abs=0.005), "normal"
    assert not bias.any()


def test_glorot():
    weight, bias = drawn("glorot")
    bound = math.sqrt(6 / 700)
    assert 0.999 * bound < weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not bias.any()


def test_default_is_what_linear_does_by_itself():
    theirs = [parameter.detach() for parameter in nn.Linear(400, 300).parameters()]
    for mine, other, tolerance in zip(drawn("default"), theirs, (1e-3, 0.05)):
        assert mine.abs().max() == pytest.approx(other.abs().max().item(), rel=tolerance)
        # Kolmogorov-Smirnov: at these sizes a distance of 2.5 / sqrt(n/2) has a chance of one in 100,000.
        grid = torch.cat([mine.flatten(), other.flatten()]).sort().values
        distance = max(abs((mine <= x).float().mean() - (other <= x).float().mean()) for x in grid[::grid.numel() // 50])
        assert distance < 2.5 / math.sqrt(mine.numel() / 2)


def test_a_number_is_a_standard_deviation():
    weight, bias = drawn(0.3)
    assert weight.std() == pytest.approx(0.3, rel=0.02) and not bias.any()


OPTIONS = {"frn": dict(learn_eps=True), "group": dict(num_groups=1), "ghost": dict(ghost_size=4)}


@pytest.mark.parametrize("norm, fused", [(norm, fused) for fused, names in ((False, norms.NORMS), (True, norms.FUSED))
                                         for norm in names if "nois" not in norm and norm != "instance"])
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_a_stack_is_each_network_alone(norm, fused, activation):
    alone = [mlp(SIZES, norm, "default", activation, seed, fused, **OPTIONS.get(norm, {})).double() for seed in range(3)]
    for net in alone:  # no parameter at its default, so that each must have come along
        for name, parameter in net.named_parameters():
            if "norm" in name or "original0" in name:
                nn.init.normal_(parameter, 1.0, 0.3)
    stack = Stack(alone)
    assert not any(a.data_ptr() == b.data_ptr() for a in stack.parameters() for net in alone for b in net.parameters())

    for training in (True, True, False):
        stack.train(training)
        x, up = torch.randn(3, 8, 6, dtype=torch.float64), torch.randn(3, 8, 3, dtype=torch.float64)
        stack.zero_grad()
        y = stack(x)
        assert y.shape == (3, 8, 3)
        y.backward(up)
        for i, net in enumerate(alone):
            net.train(training)
            net.zero_grad()
            wanted = net(x[i])
            wanted.backward(up[i])
            torch.testing.assert_close(y[i], wanted, rtol=1e-8, atol=1e-10)
            together = dict(stack.layers.named_parameters()) | dict(stack.layers.named_buffers())
            together = {name.replace(".layer.", "."): own for name, own in together.items()}
            for name, own in net.named_parameters():
                mine = stack.per_member(together[name].grad)[i]
                torch.testing.assert_close(mine, own.grad.flatten(), rtol=1e-8, atol=1e-10, msg=name)
            for name, own in net.named_buffers():
                mine = stack.per_member(together[name])[i] if own.dim() else together[name]
                torch.testing.assert_close(mine, own.flatten() if own.dim() else own, rtol=1e-8, atol=1e-10, msg=name)


def test_a_stack_without_biases():
    alone = [nets.deep_linear(4, 3, "batch", seed=seed) for seed in range(3)]
    x = torch.randn(3, 8, 4)
    torch.testing.assert_close(Stack(alone)(x), torch.stack([net(own) for net, own in zip(alone, x)]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_a_stacked_layer_takes_several_variants(bias):
    layer, x = nets.StackedLinear([nn.Linear(5, 4, bias=bias) for _ in range(3)]), torch.randn(6, 3 * 5, 7)
    torch.testing.assert_close(layer(x), torch.cat([layer(one[None]) for one in x]))


# --- Deep linear networks and VGGs -----------------------------------------------------------------------------------

def test_the_deep_linear_network_of_the_paper():
    net = nets.deep_linear()
    weights = [module.weight for module in net if isinstance(module, nn.Linear)]
    assert [tuple(weight.shape) for weight in weights] == [(10, 10)] * 25
    assert all(module.bias is None for module in net if isinstance(module, nn.Linear))
    assert max(weight.abs().max() for weight in weights) <= math.sqrt(6 / 20)  # Glorot
    x = torch.randn(7, 10)
    wanted = x
    for weight in weights:
        wanted = wanted @ weight.T
    torch.testing.assert_close(net(x), wanted)
    assert [name for name, _ in nets.deep_linear(3, 2, "batch").named_children()] == [
        "linear1", "norm1", "act1", "linear2"], "the output is not normalized"


CONVS = {"small": 6, "11": 8, "13": 10, "16": 13}


@pytest.mark.parametrize("plan", nets.VGG_PLANS)
@pytest.mark.parametrize("image", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 5, 9)])
def test_every_vgg_takes_every_image(plan, image):
    net = nets.vgg(image, 7, plan, "batch", shrink=8)
    assert net(torch.randn(4, *image)).shape == (4, 7)
    assert list(nets.activations(net)) == list(range(1, CONVS[plan] + 1))
    for layer in nets.activations(net):
        names = list(dict(net.named_children()))
        assert names[names.index(f"conv{layer}") + 1:][:2] == [f"norm{layer}", f"act{layer}"]


def test_the_full_vgg():
    net = nets.vgg((3, 32, 32), 10, "16")
    convs = [module for module in net if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert net.linear14.in_features == 512, "five halvings leave one position"
    weight = convs[3].weight  # 128 -> 128 channels, 3×3
    assert weight.abs().max() <= math.sqrt(6 / (9 * 256)) and not convs[3].bias.any()  # Glorot, with the whole kernel's fan
    he = nets.vgg((3, 32, 32), 10, "16", init="he").conv4.weight.detach()
    assert he.std() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    default = nets.vgg((3, 32, 32), 10, "16", init="default").conv4
    for own in (default.weight, default.bias):
        assert 0.9 / math.sqrt(9 * 128) < own.abs().max() <= 1 / math.sqrt(9 * 128)


def test_a_seed_gives_every_vgg_the_same_weights():
    def weights(norm, seed=3):
        return weights_of(nets.vgg((1, 8, 8), 10, norm=norm, seed=seed))
    for norm in norms.NORMS:
        assert all(torch.equal(a, b) for a, b in zip(weights(norm), weights("none"), strict=True)), norm
    assert not torch.equal(weights("none")[0], weights("none", seed=4)[0])


def test_building_a_vgg_leaves_the_readers_random_numbers_alone():
    state = torch.get_rng_state()
    nets.vgg((1, 8, 8), 10, norm="batch", init="default")
    nets.deep_linear(norm="batch")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("norm", norms.FUSED)
def test_fused_layers_take_images(norm):
    quiet = {"noisy_batch": dict(n_mu=0.0, n_sigma=1.0, r_mu=0.0, r_sigma=0.0), "ghost": dict(ghost_size=4)}.get(norm, {})
    plain, fused = (nets.vgg((1, 8, 8), 10, norm=norm, fused=fused, **quiet) for fused in (False, True))
    x = torch.randn(8, 1, 8, 8)
    torch.testing.assert_close(plain(x), fused(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("wrong, says", [
    (dict(image=(64,)), r"image=\(64,\): a VGG needs \(channels, height, width\)"),
    (dict(plan="19"), "unknown plan '19'; there are small, 11, 13, 16"),
    (dict(norm="layr"), "unknown normalizer"),
    (dict(init="xavier"), "unknown initialization"),
])
def test_a_bad_vgg_says_what_there_is(wrong, says):
    with pytest.raises(ValueError, match=says):
        nets.vgg(**{"image": (1, 8, 8), "classes": 10} | wrong)


def test_stacking_leaves_the_networks_as_they_were():
    alone = [mlp(SIZES, "frozen_noise", seed=seed) for seed in range(2)]
    before = [{key: value.clone() for key, value in net.state_dict().items()} for net in alone]
    stack = Stack(alone)
    stack(torch.randn(2, 8, 6)).sum().backward()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.zero_()
    for net, kept in zip(alone, before):
        assert all(torch.equal(value, kept[key]) for key, value in net.state_dict().items())
        assert net.norm1[0].num_features == 5 and net.linear1.weight.grad is None


@pytest.mark.parametrize("norm", ["noise", "noisy_batch", "frozen_noise"])
def test_members_of_a_stack_do_not_share_noise(norm):
    # Two copies of one network: only the noise can tell them apart.
    stack, x = Stack([mlp(SIZES, norm, "default", "sigmoid", seed=0)] * 2), torch.randn(8, 6).expand(2, 8, 6)
    one, two = stack.eval()(x)
    torch.testing.assert_close(one, two)
    one, two = stack.train()(x)
    assert (one - two).abs().min() > 1e-5


@pytest.mark.parametrize("wrong, says", [
    (dict(sizes=(64,)), r"sizes=\(64,\): an MLP needs at least an input and an output size"),
    (dict(norm="layr"), "unknown normalizer 'layr'; there are none, batch"),
    (dict(init="xavier"), "unknown initialization 'xavier'; there are he, glorot, default, or a standard deviation"),
    (dict(activation="gelu"), "unknown activation 'gelu'; there are relu, sigmoid"),
])
def test_bad_arguments_say_what_there_is(wrong, says):
    with pytest.raises(ValueError, match=says):
        mlp(**{"sizes": SIZES} | wrong)
