"""Jumps that follow the updates."""

import pytest
import torch

from bncourse import data, nets
from bncourse.following import JUMPS, train_with_jumps


def test_which_way():
    change, chance = torch.tensor([[0.2], [-3.0]]), torch.tensor([[1.0], [1.0]])
    ways = {name: jump(change, chance).flatten().tolist() for name, jump in JUMPS.items()}
    assert ways == {"follow": [1, -1], "oppose": [-1, 1], "random": [1, 1], "still": [0, 0]}


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_only_the_jumps_differ_and_without_size_there_are_none(norm):
    digits = data.load("digits")
    runs = {(jump, size): train_with_jumps(digits, lambda seed: nets.mlp([64, 16, 16, 10], norm, seed=seed, fused=True), jump,
                                           seeds=[3, 4], lr=0.1, steps=10, size=size)
            for jump, size in (("still", 1 / 3), ("follow", 0.0), ("follow", 3.0))}
    still, none, large = (run.train_accuracy.tolist() for run in runs.values())
    assert still == none
    assert still[:2] == large[:2] and still != large
    assert list(runs["still", 1 / 3].step.unique()) == list(range(11))
