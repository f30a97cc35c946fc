"""Residual networks, and what their initializations promise."""

import math

import pytest
import torch
from torch import nn

from bncourse import nets
from bncourse.nets import Residual, Scalar, Stack, residual_block, residual_mlp, resnet

WEIGHTS = {"weight", "weight_standardization"}
CASES = [(norm, rule) for norm in ("none", "batch", "layer", "weight") for rule in nets.RULES
         if (norm, rule) != ("weight", "fixup")]


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "weight"])
def test_a_block_adds_its_branch(norm):
    block, x = residual_block(8, norm).double(), torch.randn(10, 8, dtype=torch.float64)
    h = x
    for name in ("norm1", "act1", "layer1", "norm2", "act2", "layer2"):
        h = getattr(block.branch, name)(h)
    torch.testing.assert_close(block(x), x + h)
    assert list(dict(block.branch.named_children())) == ["norm1", "act1", "layer1", "norm2", "act2", "layer2"]


@pytest.mark.parametrize("rule", ["fixup", "skipinit"])
@pytest.mark.parametrize("convolution", [False, True])
def test_a_block_starts_as_the_identity(rule, convolution):
    block = residual_block(6, rule=rule, blocks=16, convolution=convolution)
    x = torch.randn(5, 6, 4, 4) if convolution else torch.randn(5, 6)
    assert torch.equal(block(x), x)
    # But it learns: the first step moves something of the branch.
    block(x).square().sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in block.branch.parameters())


def test_fixup_is_as_published():
    one, many = (residual_block(50, rule="fixup", blocks=blocks, seed=3) for blocks in (1, 16))
    torch.testing.assert_close(many.branch.layer1.weight, one.branch.layer1.weight / 4)
    assert not many.branch.layer2.weight.any()
    kinds = [f"{m.operation}" if isinstance(m, Scalar) else type(m).__name__ for m in many.branch]
    assert kinds == ["Identity", "add", "ReLU", "add", "Linear"] * 2 + ["multiply"]
    assert many.branch.scale.value.item() == 1 and many.branch.before_act1.value.item() == 0
    net = residual_mlp(6, 8, 4, 3, rule="fixup")
    assert not net.linear2.weight.any() and not net(torch.randn(5, 6)).any()


def test_skipinit_is_one_number_a_block():
    plain, skip = (residual_mlp(6, 8, 5, 3, rule=rule) for rule in ("plain", "skipinit"))
    count = [sum(p.numel() for p in net.parameters()) for net in (plain, skip)]
    assert count[1] - count[0] == 5
    assert all(torch.equal(a, b) for a, b in zip(plain.linear1.parameters(), skip.linear1.parameters()))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_how_the_signal_grows(norm):
    # The first layer makes 2 of 1. Without a normalizer each He block doubles what comes; with one it adds 1.
    # Not with the seed of the tests: x would be the very numbers the weights are.
    net, x = residual_mlp(256, 256, 6, 10, norm, seed=1), torch.randn(512, 256)
    h = net.linear1(x)
    for block in range(1, 7):
        h = getattr(net, f"block{block}")(h)
        assert h.square().mean().item() == pytest.approx(2 * 2**block if norm == "none" else 2 + block, rel=0.25)


@pytest.mark.parametrize("norm, rule", CASES)
def test_a_stack_is_each_network_alone(norm, rule):
    alone = [residual_mlp(6, 8, 3, 4, norm, rule, seed=seed).double() for seed in range(3)]
    for net in alone:
        for name, parameter in net.named_parameters():
            if name.endswith("value") or "norm" in name or name == "linear2.weight":
                nn.init.normal_(parameter, 1.0, 0.3)
    stack, x = Stack(alone), torch.randn(3, 9, 6, dtype=torch.float64)
    y = stack(x)
    y.sum().backward()
    together = {name.replace(".layer.", "."): p for name, p in stack.layers.named_parameters()}
    for i, net in enumerate(alone):
        wanted = net(x[i])
        wanted.sum().backward()
        torch.testing.assert_close(y[i], wanted)
        for name, own in net.named_parameters():
            torch.testing.assert_close(stack.per_member(together[name].grad)[i], own.grad.flatten(), msg=name)


@pytest.mark.parametrize("rule", nets.RULES)
@pytest.mark.parametrize("norm", ["none", "batch", "group", "instance"])
def test_resnet_takes_images(rule, norm):
    net = resnet((3, 8, 8), 7, channels=8, blocks=2, norm=norm, rule=rule)
    assert net(torch.randn(4, 3, 8, 8)).shape == (4, 7)
    assert [name for name, _ in net.named_children()] == [
        "conv1", "block1", "block2", "norm2", "act2", "pool", "flatten", "linear2"]
    assert isinstance(net.block1, Residual) and isinstance(net.block1.branch.layer1, nn.Conv2d)


def test_first_and_last_layer_are_drawn_apart():
    net = resnet((8, 4, 4), 8, channels=8, seed=3)
    first, last = ((layer.weight / (2 / layer.weight[0].numel()) ** 0.5).flatten() for layer in (net.conv1, net.linear2))
    assert ((last[:, None] - first).abs().amin(1) < 1e-6).sum() < 3, "the same random numbers, twice"


def test_seeds():
    one, same, other = (residual_mlp(6, 8, 2, 4, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["block1.branch.layer1.weight"], other["block1.branch.layer1.weight"])
    assert not torch.equal(one["block1.branch.layer1.weight"], one["block2.branch.layer1.weight"])
    state = torch.get_rng_state()
    resnet((1, 4, 4), 3)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("call, says", [
    (lambda: residual_block(8, rule="zero"), "unknown rule 'zero'; there are plain, fixup, skipinit"),
    (lambda: residual_block(8, norm="bathc"), "unknown normalizer"),
    (lambda: residual_block(8, norm="weight", rule="fixup"), "no direction"),
    (lambda: resnet((64,), 10), "a ResNet needs"),
])
def test_errors_say_what_there_is(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_he_weights_inside():
    block = residual_block(300, seed=1)
    assert block.branch.layer2.weight.std().item() == pytest.approx(math.sqrt(2 / 300), rel=0.02)
