"""Two learning rates: what they do to a network that ``train`` would train with one, and what invariance does to the weights."""

import numpy as np
import pytest
import torch

from bncourse import data, nets
from bncourse.invariance import SPHERE, descend, split, walk
from bncourse.train import train


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_with_one_rate_for_all_it_is_train(digits):
    ours = walk(digits, seeds=[3, 4], lr=[0.1], record=[20], layers=2, width=16, others=None, test=True, decay=[0.0])
    theirs = train(lambda seed: nets.mlp((digits.features, 16, 16, digits.classes), "batch", seed=seed, fused=True), digits,
                   seeds=[3, 4], lrs=[0.1], steps=20, batch_size=32, record=[20])
    for column in ("train_accuracy", "test_accuracy"):
        assert list(ours[ours.layer == 1][column]) == pytest.approx(list(theirs[column]), abs=1e-6)


def test_rates_and_decays_belong_to_their_runs(digits):
    design = dict(seeds=[0, 1], record=[5], layers=2, width=8)
    together = walk(digits, lr=[0.1, 1.0], decay=[0.0, 0.01], **design)
    alone = walk(digits, lr=[1.0], decay=[0.01], **design)
    mine = together[(together.lr == 1.0) & (together.decay == 0.01)]
    assert np.allclose(mine.length, alone.length) and len(together) == 2 * 2 * 2 * 2


@pytest.mark.parametrize("norm", ["batch", "weight", "none"])
def test_only_the_hidden_weights_are_scale_invariant(digits, norm):
    net = nets.Stack([nets.mlp((digits.features, 8, 8, digits.classes), norm, seed=seed, fused=True) for seed in (0, 1)])
    hidden, others = split(net)
    assert [tuple(w.shape) for w in hidden] == [(2, 8, digits.features), (2, 8, 8)]
    assert len(hidden) + len(others) == len(list(net.parameters()))


def test_on_a_sphere_lengths_stay_and_without_they_grow(digits):
    for norm, grows in ((SPHERE, False), ("batch", True)):
        frame = walk(digits, seeds=[0], lr=[1.0], record=[0, 10], layers=2, width=8, norm=norm)
        before, after = (frame[frame.step == step].length.to_numpy() for step in (0, 10))
        assert (after > 1.001 * before).all() if grows else after == pytest.approx(before)
        if grows:  # every step at right angles to the weights
            assert frame[frame.step == 10].walked.to_numpy() == pytest.approx(after, rel=1e-4)


def test_a_schedule_and_labels(digits):
    seen = {}
    labels = {seed: torch.full((len(digits.x_train),), seed) for seed in (1, 2)}
    for step, net, hidden, _ in descend(digits, [1, 2], [0.1], steps=3, layers=1, width=8, labels=labels.get,
                                        schedule=lambda step: (0, 1)):
        seen[step] = [p.detach().clone() for p in (*hidden, *split(net)[1])]
    assert torch.equal(seen[0][0], seen[3][0]) and not torch.equal(seen[0][-1], seen[3][-1])
    assert torch.equal(split(net)[1][-1], seen[3][-1]), "no update after the last look"
    bias = seen[3][-1] - seen[0][-1]  # of the last layer: each network moves towards its own label
    assert bias.argmax(1).tolist() == [1, 2]
