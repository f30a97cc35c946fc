"""What the chapter on gradient flow measures of untrained networks."""

import numpy as np
import pytest
import torch

from bncourse import nets, signals, train
from bncourse.study import perceptron


def test_a_mirrored_network_is_linear_before_training(flat):
    net = signals.mirror(perceptron(flat, 3, layers=4, bias=False), 3)
    x, z = flat.x_train[:8], flat.x_train[8:16]
    torch.testing.assert_close(net(x + 2 * z), net(x) + 2 * net(z), rtol=1e-4, atol=1e-4)


def test_a_mirrored_network_only_rotates(flat):
    net = signals.mirror(perceptron(flat, 3, layers=4, width=128, bias=False), 3)
    x = flat.x_train[:8]
    hidden = net[:-1](x)
    torch.testing.assert_close(hidden.norm(dim=1), net[:3](x).norm(dim=1), rtol=1e-4, atol=1e-4)


def test_soft_rank_counts_the_large_singular_values():
    h = torch.diag(torch.tensor([1.0, 0.5, 0.11, 0.09, 0.0]))[None]
    assert signals.soft_rank(h).tolist() == [3]


def test_likeness_is_one_after_a_rotation_and_lost_after_a_shuffle():
    x = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    np.testing.assert_allclose(signals.likeness(x @ turn, x), 1)
    assert (abs(signals.likeness(x.flip(1), x)) < 0.3).all()


def test_movement_knows_lengths_gradients_and_their_product(flat):
    frame = train.train(lambda seed: nets.mlp((flat.features, 16, 16, flat.classes), seed=seed, bias=False), flat, seeds=[0, 1], lrs=[0.1], steps=1,
                        batch_size=32, record=[0, 1], probes=[signals.Movement()], test=False)
    start, after = frame[frame.step == 0], frame[frame.step == 1].set_index(["seed", "layer"])
    assert (start.moved == 0).all()
    for _, layers in start.groupby("seed"):  # without biases, <W, gradient> is the same in every layer
        assert layers.along.tolist() == pytest.approx([layers.along.iloc[0]] * 3, rel=1e-3, abs=1e-5)
    start = start.set_index(["seed", "layer"])
    assert after.moved.tolist() == pytest.approx((0.1 * start.gradient / start.length).tolist(), rel=1e-3)
