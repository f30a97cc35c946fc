"""Losses to walk on."""

import torch


def parabola(matrix, bottom):
    """Takes w in float32 and in float64, as the student's call and the check's own do."""
    return lambda w: 0.5 * (w - bottom.to(w)) @ matrix.to(w) @ (w - bottom.to(w))


def ripples(heights, waves):
    """A shallow bowl with ripples: `heights` (R,), `waves` (R, P)."""
    return lambda w: 0.1 * w @ w + heights @ torch.sin(waves @ w)


def small_network(x, y):
    """Mean squared error of three tanh units on x (N, D) and y (N,); w holds D·3 + 3 + 3 numbers."""
    first, bias = 3 * x.shape[1], 3 * x.shape[1] + 3

    def loss(w):
        hidden = torch.tanh(x @ w[:first].view(-1, 3) + w[first:bias])
        return ((hidden @ w[bias:] - y) ** 2).mean()

    return loss
