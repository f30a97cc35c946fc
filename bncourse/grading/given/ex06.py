"""Losses of small networks, and activations."""

import torch


def plain_loss(x: torch.Tensor, target: torch.Tensor):
    """loss(weights) of a tanh network without normalization."""

    def loss(weights):
        h = x
        for w in weights:
            h = torch.tanh(h @ w)
        return ((h - target) ** 2).sum()

    return loss


def normalized_loss(x: torch.Tensor, target: torch.Tensor):
    """loss(weights) of a ReLU network with batch norm behind every matrix, without ε: scale-invariant in each."""

    def loss(weights):
        h = x
        for w in weights:
            y = h @ w
            var, mean = torch.var_mean(y, 0, correction=0)
            h = torch.relu((y - mean) / var.sqrt())
        return ((h - target) ** 2).sum()

    return loss


def bent(slope: float):
    """A leaky ReLU; the identity for slope 1."""
    return lambda z: torch.where(z > 0, z, slope * z)


def squashed(steepness: float, shift: float):
    return lambda z: torch.tanh(steepness * z + shift)
