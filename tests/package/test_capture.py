"""A replayed step does what the step does. It takes no GPU to know: a tape of operations stands in for CUDA's recording."""

import math
import sys
import warnings

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bncourse.capture import WARM_UP, Replayed, Watch
from bncourse.data import linear_map
from bncourse.nets import deep_linear, mlp, residual_mlp, resnet, vgg
from bncourse.norms import FUSED, NORMS
from bncourse.probes.activations import Histograms, Moments, percentiles
from bncourse.probes.curvature import Curvature
from bncourse.probes.landscape import Landscape
from bncourse.probes.shift import Shift
from bncourse.train import train

module = sys.modules["bncourse.train"]
BY_SEED = {"noisy_batch", "noise"}  # In networks of mlp their noise is drawn member by member, by numbers of Python's.
DECIDES = {"frozen", "frozen_noise"}  # They ask whether they have seen a batch.


class Tape(TorchDispatchMode):
    """Like a CUDA graph: notes each operation and the memory it works on, leaves no other trace, and can do it all again there
    without any Python of the step's. Unlike one, it has to run the operations to note them, and takes back what they did."""

    def __init__(self, step, generators):
        super().__init__()
        self.operations, self.before = [], {}
        states = torch.get_rng_state(), [generator.get_state() for generator in generators]
        with self:
            step()
        for tensor, value in self.before.values():
            self.restore(tensor, value)
        torch.set_rng_state(states[0])
        for generator, state in zip(generators, states[1]):
            generator.set_state(state)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for tensor in tensors((args, kwargs)):
            self.before.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), (tensor, tensor.clone()))
        result = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def restore(self, tensor, value):
        expanded = any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape))
        if tensor.data_ptr() != value.data_ptr() and not expanded:
            tensor.copy_(value)

    @torch.no_grad()
    def __call__(self):
        for func, args, kwargs, noted in self.operations:
            for tensor, value in zip(tensors(noted), tensors(func(*args, **kwargs))):
                self.restore(tensor, value)


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor) and leaf.numel()]


@pytest.fixture
def tapes(monkeypatch):
    """Recording on the CPU; what was recorded."""
    made = []
    monkeypatch.setattr(module, "RECORDERS", {"cpu": lambda *args: made.append(Tape(*args)) or made[-1]})
    monkeypatch.setattr(module, "WORTH_IT", 0)
    return made


SHORT = dict(seeds=[0, 1], lrs=[0.1, 1.0], steps=9, batch_size=16, record=[0, 5, 9])


def both(build, data, **options):
    """The frame of replayed steps and that of plain ones."""
    options = SHORT | options
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replayed = train(build, data, **options)
    assert replayed.attrs["training"]["replayed"] == "yes"
    plain = train(build, data, capture=False, **options)
    assert plain.attrs["training"]["replayed"] == "no: not asked for, or too few steps"
    return replayed, plain


def check(tapes, build, data, **options):
    replayed, plain = both(build, data, **options)
    assert tapes and all(tape.operations for tape in tapes)
    pd.testing.assert_frame_equal(replayed, plain, check_exact=True)
    before, after = (replayed[replayed.step == step].train_loss.to_numpy() for step in (0, 9))
    assert (before != after).all(), "nothing was trained"


EVERY = [(norm, fused) for norm in NORMS for fused in ({False, norm in FUSED}) if norm not in DECIDES]


def options_of(norm):
    return dict(learn_eps=True) if norm == "frn" else {}


@pytest.mark.parametrize("norm, fused", [pair for pair in EVERY if pair[0] not in ("instance", *BY_SEED)])
def test_side_by_side(norm, fused, flat, tapes):
    check(tapes, lambda seed: mlp((128, 12, 12, 3), norm, seed=seed, fused=fused, **options_of(norm)), flat)
    check(tapes, lambda seed: residual_mlp(128, 8, 1, 3, norm, seed=seed, fused=fused, **options_of(norm)), flat)


@pytest.mark.parametrize("norm", ["batch", "l1"])
def test_an_average_of_all_batches(norm, flat, tapes):
    check(tapes, lambda seed: mlp((128, 12, 3), norm, seed=seed, momentum=None), flat)


@pytest.mark.parametrize("norm, fused", EVERY)
def test_convolutions(norm, fused, images, tapes):
    one = dict(seeds=[1], lrs=[0.05])
    check(tapes, lambda seed: resnet((2, 8, 8), 3, 4, 1, norm, seed=seed, fused=fused), images, **one)
    check(tapes, lambda seed: vgg((2, 8, 8), 3, "small", norm, "he", seed, fused, shrink=4), images, **one)


@pytest.mark.parametrize("options", [
    dict(clip=0.02), dict(weight_decay=0.1), dict(schedule=lambda step: 0.7**step),
    dict(clip=0.1, weight_decay=0.1, schedule=lambda step: 1 + step % 3)], ids=lambda options: "+".join(options))
@pytest.mark.parametrize("norm", ["none", "batch", "weight"])
def test_everything_that_changes_an_update(norm, options, flat, tapes):
    check(tapes, lambda seed: mlp((128, 12, 3), norm, seed=seed), flat, **options)


def test_regression(tapes):
    check(tapes, lambda seed: deep_linear(4, 5, "batch", seed=seed, fused=True), linear_map(4), lrs=[1e-3], batch_size=5)


@pytest.mark.parametrize("build, data", [(lambda seed: mlp((128, 12, 12, 3), "batch", seed=seed), "flat"),
                                         (lambda seed: vgg((2, 8, 8), 3, "small", "none", "he", seed, shrink=4), "images")])
def test_runs_that_blow_up(build, data, request, tapes):
    data = request.getfixturevalue(data)
    options = dict(lrs=[0.1, 1e30], steps=12, record=range(13))
    replayed, plain = both(build, data, **options)
    pd.testing.assert_frame_equal(replayed, plain, check_exact=True)
    assert replayed.diverged.any() and not replayed.diverged.all()


@pytest.mark.parametrize("build", [Moments, lambda: percentiles, Histograms, Shift, Landscape, lambda: Curvature(iterations=3),
                                   lambda: Landscape(statistics="frozen"), lambda: Curvature("frozen", iterations=3)])
@pytest.mark.parametrize("norm", ["batch", "batch_renorm"])
def test_looks_and_probes_leave_the_recording_valid(norm, build, flat, tapes):
    options = dict(record=range(10), seeds=[0], lrs=[0.3])
    replayed, plain = both(lambda seed: mlp((128, 12, 12, 3), norm, seed=seed), flat, probes=[build()], **options)
    pd.testing.assert_frame_equal(replayed, plain, check_exact=True)
    assert len(tapes) == 1, "recorded again, so something was not put back in its place"


def test_noise_is_drawn_anew_at_each_replay(tapes):
    drawn = torch.zeros(3)
    replayed = Replayed(lambda: drawn.copy_(torch.rand(3)), nn.Linear(2, 2), Tape)
    seen = []
    for _ in range(WARM_UP + 4):
        replayed()
        seen.append(tuple(drawn.tolist()))
    assert replayed.replay is not None and len(set(seen)) == len(seen)


def test_new_settings_are_recorded_anew(flat, tapes):
    def relax(net, x, step):
        for part in net.modules():
            if hasattr(part, "r_max"):
                part.r_max, part.d_max = 1.0 + step, 0.5 * step
        return pd.DataFrame({"member": range(net.members)})

    replayed, plain = both(lambda seed: mlp((128, 12, 12, 3), "batch_renorm", seed=seed), flat, probes=[relax], steps=20,
                           record=[0, 10, 20])
    pd.testing.assert_frame_equal(replayed, plain, check_exact=True)
    assert len(tapes) == 2


def test_a_weight_replaced_by_a_probe_is_trained(flat, tapes):
    def replace(net, x, step):
        if step == 6:
            net.layers.linear1.weight.data = net.layers.linear1.weight.data * 0.5
        return pd.DataFrame({"member": range(net.members)})

    replayed, plain = both(lambda seed: mlp((128, 12, 12, 3), seed=seed), flat, probes=[replace], steps=20, record=[0, 6, 20])
    pd.testing.assert_frame_equal(replayed, plain, check_exact=True)
    assert len(tapes) == 2


# --- What cannot be recorded -----------------------------------------------------------------------------------------

class Counts(nn.Module):
    """Doubles what it sees from its fifth call on: a decision of Python's."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return 2 * x if self.calls > 4 else x


class Asks(nn.Module):
    def forward(self, x):
        return x if x.mean() > 0 else -x


class Masks(nn.Module):
    def forward(self, x):
        return x.index_put((x < 0,), torch.zeros(()))


@pytest.mark.parametrize("build, why", [
    (lambda seed: mlp((128, 12, 3), "frozen", seed=seed), "asks the GPU for a value .*_local_scalar_dense"),
    (lambda seed: mlp((128, 12, 3), "noisy_batch", seed=seed), "_local_scalar_dense"),
    (lambda seed: mlp((128, 12, 3), "batch", seed=seed, fused=True, momentum=None), "_local_scalar_dense"),
    (lambda seed: nn.Sequential(nn.Linear(128, 3), Asks()), "_local_scalar_dense"),
    (lambda seed: nn.Sequential(nn.Linear(128, 3), Masks()), "index_put"),
    (lambda seed: nn.Sequential(nn.Linear(128, 3), Counts()), "changes its own settings"),
])
def test_what_decides_while_it_runs_is_not_recorded(build, why, flat, tapes):
    options = SHORT | dict(seeds=[0], lrs=[0.1])
    with pytest.warns(RuntimeWarning, match=f"not replayed from a recording: .*{why}"):
        frame = train(build, flat, **options)
    assert not tapes and frame.attrs["training"]["replayed"].startswith("no: ")
    pd.testing.assert_frame_equal(frame, train(build, flat, capture=False, **options), check_exact=True)


def test_a_recording_that_fails_is_said_and_done_without(flat, monkeypatch):
    def fails(step, generators):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand much more")

    monkeypatch.setattr(module, "RECORDERS", {"cpu": fails})
    monkeypatch.setattr(module, "WORTH_IT", 0)
    with pytest.warns(RuntimeWarning, match=r"operation not permitted when stream is capturing\. It is done as it is"):
        frame = train(lambda seed: mlp((128, 12, 3), seed=seed), flat, **SHORT)
    assert "not permitted" in frame.attrs["training"]["replayed"]
    pd.testing.assert_frame_equal(frame, train(lambda seed: mlp((128, 12, 3), seed=seed), flat, capture=False, **SHORT),
                                  check_exact=True)


@pytest.mark.parametrize("operation, found", [
    (lambda x: x.sum().item(), "_local_scalar_dense"), (lambda x: bool(x.sum() > 0), "_local_scalar_dense"),
    (lambda x: x[x > 0], "index"), (lambda x: (x > 0).nonzero(), "nonzero"), (lambda x: torch.tensor([1.0]), "lift_fresh"),
    (lambda x: x.to("meta"), "_to_copy"), (lambda x: x[torch.tensor(2):], "lift_fresh"), (lambda x: x.unique(), "_unique2")])
def test_what_would_wait_for_a_gpu_is_noticed(operation, found):
    with Watch() as watch:
        operation(torch.linspace(-1, 1, 5))
    assert found in watch.found


def test_arithmetic_does_not_wait():
    with Watch() as watch:
        x = torch.randn(4, 3).softmax(1).masked_fill_(torch.eye(4, 3) > 0, math.inf)
        x[torch.arange(2)], x.mean(), x.to(torch.float64), torch.where(x > 0, x, 0)
    assert not watch.found


def test_on_a_cpu_nothing_is_recorded(flat):
    frame = train(lambda seed: mlp((128, 12, 3), seed=seed), flat, **SHORT)
    assert not frame.attrs
