"""Gradient descent with one learning rate for the weights in front of a normalizer and another for all other parameters.

Only the first are scale-invariant: what a weight decay or a schedule does to them has to be told apart from what it does to the
rest (the learned scales and shifts, and the last layer)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bncourse import data as datasets
from bncourse import nets
from bncourse.train import batches, member_losses, recompute_statistics, untouched, weights_of

SPHERE = "batch norm on a sphere"  # After every step, each unit's weights are put back to the length they started with.


def split(net: nets.Stack) -> tuple[list[Tensor], list[Tensor]]:
    """The weights of the hidden layers (of weight norm: v), each (M, out, in), and all other parameters."""
    hidden = weights_of(net)[:-1]
    return hidden, [parameter for parameter in net.parameters() if id(parameter) not in map(id, hidden)]


def descend(data: datasets.Data, seeds: Sequence[int], lr: Sequence[float], decay: Sequence[float] = (0.0,), *, steps: int,
            layers: int = 3, width: int = 32, norm: str = "batch", others: float | None = 0.1, batch: int = 32,
            momentum: float = 0.0, schedule: Callable[[int], tuple[float, float]] | None = None,
            labels: Callable[[int], Tensor] | None = None, **options) -> Iterator[tuple[int, nets.Stack, list[Tensor], list[Tensor]]]:
    """Train a network for each of lr × decay × seeds, in this order; ``lr`` and ``decay`` (L2) are those of the hidden weights.

    Yields (step, net, hidden weights, their gradients) before each update and after the last. ``others`` is the learning rate of
    the other parameters (None: the same), ``schedule(step)`` what the two rates are multiplied by, ``labels(seed)`` the training
    labels of that seed, (N,)."""
    runs, x = list(product(lr, decay, seeds)), data.x_train
    sizes, kind = (data.features, *[width] * layers, data.classes), "batch" if norm == SPHERE else norm
    net = nets.Stack([nets.mlp(sizes, kind, seed=seed, fused=True, **options) for *_, seed in runs]).to(x).train()
    hidden, rest = split(net)
    eta, shrink = (torch.tensor([run[i] for run in runs], dtype=torch.float64).to(x)[:, None, None] for i in (0, 1))
    eta_rest = eta[:, :, 0] if others is None else torch.full_like(eta[:, :, 0], others)
    lengths = [w.detach().norm(dim=2, keepdim=True) for w in hidden]
    kept = [0.0] * len(hidden + rest)
    y = torch.stack([data.y_train if labels is None else labels(seed) for seed in seeds]).to(data.y_train.device)
    orders = [batches(len(x), batch, seed) for seed in seeds]
    for step in range(steps + 1):
        index = torch.stack([next(order) for order in orders]).to(y.device)
        many = len(runs) // len(seeds)
        loss = member_losses(net(x[index].repeat(many, 1, 1)), y.gather(1, index).repeat(many, 1)).sum()
        gradients = torch.autograd.grad(loss, hidden + rest)
        yield step, net, hidden, list(gradients[:len(hidden)])
        if step == steps:
            return
        times, times_rest = schedule(step) if schedule else (1, 1)
        with torch.no_grad():
            for i, (p, g) in enumerate(zip(hidden + rest, gradients)):
                g = g + shrink * p if i < len(hidden) else net.per_member(g)
                kept[i] = g = g + momentum * kept[i] if momentum else g
                if i >= len(hidden):
                    net.per_member(p).sub_(times_rest * eta_rest * g)
                    continue
                p -= times * eta * g
                if norm == SPHERE:
                    p *= lengths[i] / p.norm(dim=2, keepdim=True)


def walk(data: datasets.Data, *, seeds: Sequence[int], lr: Sequence[float], decay: Sequence[float] = (0.0,), record: Sequence[int],
         pixels: str = "raw", test: bool = False, labels: Callable[[int], Tensor] | None = None, **design) -> pd.DataFrame:
    """``descend`` as a frame: a row for each run, recorded step and hidden layer, with the ``length`` of the weights, their
    ``effective`` learning rate lr/length², the ``turn`` lr·‖gradient‖/length (root mean square since the look before), ``walked``
    (the length at first and all steps, as the sides of right angles) and accuracies (on the test set with ``test``)."""
    data = datasets.scaled(data) if pixels == "scaled" else data
    runs = pd.DataFrame(product(lr, decay, seeds), columns=["lr", "decay", "seed"])
    eta, frames, walked, turned, since = runs["lr"].to_numpy(), [], 0, 0, 0
    y = torch.stack([data.y_train if labels is None else labels(seed) for seed in seeds]).repeat(len(runs) // len(seeds), 1)
    for step, net, hidden, gradients in descend(data, seeds, lr, decay, labels=labels, steps=max(record), **design):
        w, g = (torch.stack([p.detach().square().sum((1, 2)) for p in some]).double().cpu().numpy() for some in (hidden, gradients))
        with np.errstate(all="ignore"):  # a run that blew up has lengths of no finite number
            walked, turned, since = walked if step else w, turned + eta ** 2 * g / w, since + 1
        if step in record:
            shown = [a.cpu().numpy() for a in accuracies(net, data, y, test)]
            for i in range(len(w)):
                frames.append(runs.assign(step=step, layer=i + 1, length=w[i] ** 0.5, effective=eta / w[i], walked=walked[i] ** 0.5,
                                          turn=(turned[i] / since) ** 0.5, train_accuracy=shown[0], test_accuracy=shown[1]))
            turned, since = 0, 0
        walked = walked + eta ** 2 * g
    return pd.concat(frames, ignore_index=True)


@torch.no_grad()
def accuracies(net: nets.Stack, data: datasets.Data, y: Tensor, test: bool) -> list[Tensor]:
    """Shares of right answers, (M,): in training mode on training images with labels y, and on the test set with statistics of
    the training set. A network whose outputs are not finite guesses."""
    def share(logits, targets):
        right = (logits.argmax(-1) == targets.to(logits.device)).double().mean(1)
        return torch.where(torch.isfinite(logits).all(-1).all(-1), right, 1 / data.classes)

    def many(x):
        return x.expand(net.members, *x.shape)

    with untouched(net):
        seen = share(net(many(data.x_train[:512])), y[:, :512])
        if not test:
            return [seen, torch.full_like(seen, torch.nan)]
        recompute_statistics(net.eval(), many(data.x_train[:2048]))
        return [seen, share(net(many(data.x_test)), data.y_test)]
