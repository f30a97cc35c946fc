"""The same training twice: by ``bncourse.train``, and written down for the modules of book/bench to repeat."""

import numpy as np
import pandas as pd
import torch

from bncourse import data, nets, norms
from bncourse.probes.activations import Moments
from bncourse.probes.landscape import Landscape
from bncourse.train import batches, train

MULTIPLES = (0.5, 1, 2, 4)
M32 = 0xFFFFFFFF


def mixed(h):
    """The finalizer of MurmurHash3 on 32-bit words: numpy and JavaScript give the same."""
    h = (h ^ (h >> 16)) * 0x85EBCA6B & M32
    h = (h ^ (h >> 13)) * 0xC2B2AE35 & M32
    return h ^ (h >> 16)


def agreed_noise(step, rows, layer, units, times):
    """(s, m), (rows, units): noise that both sides can compute, about as large as the paper's. The same as in repeat.js."""
    k = np.arange(rows * units, dtype=np.uint64)
    key = np.uint64(mixed((step * 1009 + layer * 101 + rows) & M32))
    u = [mixed((k * np.uint64(2) + np.uint64(which) + key) & np.uint64(M32)).astype(float) / 2**32 for which in (0, 1)]
    return tuple(torch.from_numpy(a.reshape(rows, units)) for a in (1 + times * 0.3 * u[0], times * (u[1] - 0.5)))


def in_double(images):
    wide = {name: getattr(images, name).double() for name in ("x_train", "x_test")}
    return data.Data(images.name, y_train=images.y_train, y_test=images.y_test, classes=images.classes, **wide)


def package(design, seed, monkeypatch):
    """What ``train`` makes of a design of the bench, at its steps: rows of numbers, the gradients of the last update, and all that
    was drawn at random, for ``given`` of book/bench/train.js."""
    sizes = (64, *[design["width"]] * design["layers"], 10)
    images = in_double(data.load("digits"))
    now, calls = {}, {"count": 0}

    def noise(x, *_, **__):
        layer = calls["count"] % design["layers"]
        calls["count"] += 1
        s, m = agreed_noise(now["step"], len(x), layer, x.shape[1], design["noise"])
        return s * x + m

    monkeypatch.setattr(norms.noise, "covariate_noise", noise)

    def clock(step):
        now["step"] = step
        return 1.0

    def build(seed):
        return nets.mlp(sizes, design["norm"], design["init"], seed=seed, fused=False).double()

    gradients = {}
    real = torch.autograd.grad

    def watched(outputs, inputs, **options):
        found = real(outputs, inputs, **options)
        if options.get("allow_unused"):  # the update's own
            gradients["last"] = [g.reshape(-1).tolist() for g in found]
        return found

    monkeypatch.setattr(torch.autograd, "grad", watched)
    # One step more than is looked at: the clock does not tick behind the last update.
    frame = train(build, images, seeds=[seed], lrs=[design["lr"]], steps=design["steps"] + 1, batch_size=design["batch"],
                  record=design["record"], probes=[Moments(), Landscape(MULTIPLES)], test=False, schedule=clock)
    order = batches(len(images.x_train), design["batch"], seed)
    given = {"parameters": [p.detach().reshape(-1).tolist() for p in build(seed).parameters()],
             "order": [next(order).tolist() for _ in range(design["steps"] + 2)]}
    return frame, gradients["last"], given


def rows_of(frame: pd.DataFrame) -> list[dict]:
    """A row a step, with a list over layers of what each layer has."""
    rows = []
    for step, own in frame.groupby("step"):
        own = own.sort_values("layer")
        first = own.iloc[0]
        rows.append({"step": int(step), **{name: float(first[name]) for name in ("train_loss", "train_accuracy", "loss_range", "beta", "beta_lr")},
                     **{name: own[name].tolist() for name in ("mean_step", "mean_drift", "moved")}})
    return rows
