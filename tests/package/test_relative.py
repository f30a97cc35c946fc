"""Relative sharpness does not change where the function does not; the eigenvalue itself does."""

import pytest
import torch

from bncourse import nets
from bncourse.nets import Stack
from bncourse.probes.curvature import Curvature
from bncourse.probes.relative import RelativeCurvature
from bncourse.train import Alone, weights_of

LR = torch.tensor([0.1])


def scaled(norm, seed=0):
    """A network, and the same function with other weights: a for one layer, and 1/a for the next where nothing normalizes."""
    pair = [nets.mlp((6, 12, 12, 3), norm=norm, seed=seed, fused=True).double() for _ in range(2)]
    with torch.no_grad():
        weights = weights_of(pair[1])
        weights[0].mul_(4)
        weights[1].mul_(4 if norm == "batch" else 1 / 4)
    return pair


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_same_function_has_the_same_relative_sharpness(norm):
    x, y = torch.randn(1, 40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.arange(40)[None] % 3
    seen = {probe: [probe(Stack([net]), x, 0, y=y, lr=LR).iloc[0, 1] for net in scaled(norm)]
            for probe in (RelativeCurvature(60, 1e-6), Curvature("live", 60, 1e-6))}
    (before, after), (sharp, other) = seen.values()
    assert after == pytest.approx(before, rel=2e-3), "batch norm's eps is all that may differ"
    assert other != pytest.approx(sharp, rel=0.1)


def test_members_of_a_stack_and_a_network_alone_agree_and_nothing_is_changed():
    models = [nets.mlp((6, 8, 3), norm="batch", seed=seed, fused=True).double() for seed in range(3)]
    x, y = torch.randn(1, 20, 6, dtype=torch.float64).expand(3, -1, -1), (torch.arange(20) % 3).expand(3, -1)
    stack, probe = Stack(models), RelativeCurvature(40, 1e-6)
    before = [p.clone() for p in stack.parameters()]
    together = probe(stack, x, 0, y=y, lr=LR).relative_sharpness
    alone = [probe(Alone([model]), x[:1], 0, y=y[:1], lr=LR).relative_sharpness[0] for model in models]
    assert together.tolist() == pytest.approx(alone, rel=1e-4)
    assert all(p.requires_grad and torch.equal(p, old) for p, old in zip(stack.parameters(), before))
