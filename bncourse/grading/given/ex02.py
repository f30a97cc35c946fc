"""The loss of a small network."""

import torch
import torch.nn.functional as F


def network_loss(norm: bool, activation: str, squared: bool):
    """A loss of (weights, x, y): the network x → … → W_k h, with batch norm (no γ, no β) before each activation or without.
    Called by `Given` too, so student code receives it."""
    act = {"tanh": torch.tanh, "relu": torch.relu, "none": lambda z: z}[activation]

    def loss(weights, x, y):
        h = x
        for W in weights[:-1]:
            z = h @ W
            if norm:
                z = (z - z.mean(0)) / torch.sqrt(z.var(0, correction=0) + 1e-9)
            h = act(z)
        out = h @ weights[-1]
        return ((out - y) ** 2).sum(1).mean() / 2 if squared else F.cross_entropy(out, y)

    return loss
