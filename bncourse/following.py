"""Shift that follows the updates: in 2015 it was the updates that were blamed for it, not chance.

The noise of Santurkar et al. 2018 knows nothing of the gradient. Here the mean of every unit jumps by a fixed part of that unit's
own standard deviation, and *which way* is told by what the last update did to it."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import pandas as pd
import torch
from torch import Tensor, nn

from bncourse.data import Data
from bncourse.nets import Stack, activations
from bncourse.probes.activations import mean_and_sd, nonlinearity_inputs
from bncourse.train import member_losses

# Which way a unit's mean jumps, from the change of that mean by the last update and a random sign, both (units, 1).
JUMPS = {"follow": lambda change, chance: change.sign(),
         "oppose": lambda change, chance: -change.sign(),
         "random": lambda change, chance: chance,
         "still": lambda change, chance: torch.zeros_like(change)}


def means_and_sizes(net: Stack, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean and standard deviation over examples of what each nonlinearity receives, without jumps: two of (M·units, 1) a layer."""
    return [tuple(each.view(-1, 1) for each in mean_and_sd(z)) for z in nonlinearity_inputs(net, x).values()]


def train_with_jumps(data: Data, build: Callable[[int], nn.Module], jump: str, *, seeds: Sequence[int], lr: float, steps: int,
                     batch: int = 64, size: float = 1 / 3) -> pd.DataFrame:
    """Gradient descent while the mean of every unit jumps by ``size`` of its standard deviation, anew at each step.

    ``build``: seed -> network of ``mlp``. ``jump``: "follow" the sign of the last update's change of that mean, "oppose" it,
    "random" signs, or "still", none. The change is taken on a fixed batch of 128 training images, without jumps; the first step
    has no update behind it and no jump, except for ``random``. Returns a row for each seed at eleven steps from 0 to ``steps``:
    ``train_accuracy`` in training mode, without jumps, on that batch."""
    net = Stack([build(seed) for seed in seeds]).train()
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    fixed = torch.stack([torch.randperm(len(data.x_train), generator=draw)[:128] for draw in draws]).to(data.x_train.device)
    parameters, layers = list(net.parameters()), list(activations(net.layers).values())
    before, rows = None, []
    record = {round(steps * i / 10) for i in range(11)}
    for step in range(steps + 1):
        now = means_and_sizes(net, data.x_train[fixed])
        if step in record:
            with torch.no_grad():
                right = (net(data.x_train[fixed]).argmax(-1) == data.y_train[fixed]).float().mean(1)
            rows += [{"seed": seed, "step": step, "train_accuracy": one} for seed, one in zip(seeds, right.tolist())]
        index = torch.stack([torch.randint(len(data.x_train), (batch,), generator=draw) for draw in draws]).to(fixed.device)
        signs = []
        for number, (mean, _) in enumerate(now):
            chance = torch.cat([torch.randint(2, (len(mean) // len(seeds), 1), generator=draw) for draw in draws]).to(mean) * 2 - 1
            signs.append(JUMPS[jump](mean - before[number][0] if before else torch.zeros_like(mean), chance))
        with ExitStack() as hooks:
            for module, (_, sd), sign in zip(layers, now, signs):
                hooks.enter_context(module.register_forward_pre_hook(lambda module, inputs, by=size * sd * sign: (inputs[0] + by,)))
            loss = member_losses(net(data.x_train[index]), data.y_train[index]).sum()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients):
                parameter -= lr * gradient
        before = now
    return pd.DataFrame(rows)
