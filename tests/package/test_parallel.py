"""``parallel.SyncBatchNorm`` in real processes against torch's batch normalization in one; ``in_processes`` when work fails.

Starting a process costs seconds, so one start checks many shapes.
"""

import copy
import os
import signal
import sys
import time

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from bncourse import nets, norms, parallel
from bncourse.parallel import SyncBatchNorm, WorkerFailed, in_processes, synchronized, train_share

# How many examples each process holds; None of them may be all of them.
SPLITS = {2: [(3, 3), (1, 6), (0, 5), (1, 1)], 3: [(2, 3, 4), (5, 0, 1), (1, 0, 1)]}
SHAPES = [(3,), (4, 5), (2, 3, 4), (2, 2, 3, 2)]  # Channels and positions.
OPTIONS = [{}, {"momentum": None, "eps": 0.1}, {"affine": False}, {"bias": False, "momentum": 0.7},
           {"track_running_stats": False}]
TWINS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


# What the processes do. They import this module, so it stands at the top level.

def steps_of_layers(cases):
    """Two forward and backward passes through each layer: outputs, gradients, buffers. And which process this was."""
    results = []
    for layer, inputs, upstream in cases:
        outputs, gradients = [], []
        for x, up in zip(inputs, upstream):
            x.requires_grad_()
            y = layer(x)
            y.backward(up)
            outputs.append(y.detach())
            gradients.append(x.grad)
        results.append((outputs, gradients, [p.grad for p in layer.parameters()], list(layer.buffers())))
    return results, os.getpid()


def other_modes(x):
    """Second derivatives; half precision; evaluation, in which process 0 alone calls the layer; too few values in all."""
    x.requires_grad_()
    layer = SyncBatchNorm(3, dtype=torch.float64)
    [first] = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
    [second] = torch.autograd.grad(first.square().sum(), x)

    half = SyncBatchNorm(3)
    y = half((x.detach() * 3 + 200).half())

    evaluated = layer.eval()(x.detach()) if dist.get_rank() == 0 else None

    try:
        refusal = layer.train()(x.detach()[: 1 - dist.get_rank()])
    except ValueError as error:
        refusal = str(error)
    return second, y, half.running_var, evaluated, layer, refusal


def refuse_nan(x):
    return SyncBatchNorm(3)(x)


def misbehave(what):
    if what == "die":
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows ends a process at once on any signal.
    if what == "sleep":
        time.sleep(600)
    return lambda: None  # Cannot be sent back.


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("processes", [2, 3])
def test_equals_one_process(processes, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel.tempfile, "tempdir", str(tmp_path))
    generator = torch.Generator().manual_seed(processes)
    cases, twins = [[] for _ in range(processes)], []
    for split in SPLITS[processes]:
        for shape in SHAPES:
            for options in OPTIONS:
                layer = SyncBatchNorm(shape[0], dtype=torch.float64, **options)
                twin = TWINS[len(shape) + 1](shape[0], dtype=torch.float64, **options)
                with torch.no_grad():
                    for mine, other in zip(layer.parameters(), twin.parameters(), strict=True):
                        other.copy_(mine.copy_(torch.randn(mine.shape, generator=generator) + 1))
                # A mean far from 0, where one pass over E[x²] - E[x]² would lose every digit; parts that differ.
                xs = [torch.randn(sum(split), *shape, generator=generator, dtype=torch.float64) * 2 + 1000
                      + torch.arange(sum(split)).view(-1, *[1] * len(shape)) for _ in range(2)]
                ups = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in xs]
                for rank, parts in enumerate(zip(zip(*(x.split(split) for x in xs)), zip(*(up.split(split) for up in ups)))):
                    cases[rank].append((layer, [x.clone() for x in parts[0]], [up.clone() for up in parts[1]]))
                twins.append(steps_of_layers([(twin, xs, ups)])[0][0])

    found, pids = zip(*in_processes(steps_of_layers, cases))
    assert len({*pids, os.getpid()}) == processes + 1
    assert not list(tmp_path.iterdir()), "files left behind"
    for number, (outputs, inputs, parameters, buffers) in enumerate(twins):
        mine = [results[number] for results in found]
        for step in range(2):
            # Against the size of x: 1000 with 16 digits leaves 13.
            torch.testing.assert_close(torch.cat([one[0][step] for one in mine]), outputs[step], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(torch.cat([one[1][step] for one in mine]), inputs[step], rtol=1e-9, atol=1e-9)
        for place, gradient in enumerate(parameters):  # What data-parallel training adds up.
            torch.testing.assert_close(sum(one[2][place] for one in mine), gradient, rtol=1e-9, atol=1e-9)
        for one in mine:  # Every process keeps the same running statistics.
            for buffer, wanted in zip(one[3], buffers, strict=True):
                close(buffer, wanted)


def test_second_derivatives_half_precision_evaluation_and_too_few_values():
    x = torch.randn(7, 3, dtype=torch.float64)
    whole = x.clone().requires_grad_()
    [first] = torch.autograd.grad(nn.BatchNorm1d(3, dtype=torch.float64)(whole).pow(3).sum(), whole, create_graph=True)
    [wanted] = torch.autograd.grad(first.square().sum(), whole)
    half = norms.BatchNorm(3)
    half_y = half((x * 3 + 200).half())

    one, two = in_processes(other_modes, [x[:2].clone(), x[2:].clone()])
    close(torch.cat([one[0], two[0]]), wanted)
    assert one[1].dtype == torch.float16
    torch.testing.assert_close(torch.cat([one[1], two[1]]), half_y, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one[2], half.running_var, rtol=1e-5, atol=1e-5)
    twin = nn.BatchNorm1d(3, dtype=torch.float64).eval()
    twin.load_state_dict(one[4].state_dict())
    close(one[3], twin(x[:2]))
    for process in (one, two):
        assert "at least 2 values per channel in all 2 processes together, got 1" in process[5]


@pytest.fixture(scope="module")
def trained():
    """Three steps of a small network, plain and synchronized, on 5 and 11 of 16 examples."""
    net = nets.mlp((6, 5, 4, 3), norm="batch", seed=1).double()
    batches = [(torch.randn(16, 6, dtype=torch.float64), torch.randint(3, (16,))) for _ in range(3)]
    jobs = [[dict(net=one, lr=0.2, batches=[(x[part], y[part]) for x, y in batches]) for one in (net, synchronized(net))]
            for part in (slice(0, 5), slice(5, 16))]
    found = in_processes(train_share, jobs)

    alone, first = copy.deepcopy(net), None
    for x, y in batches:
        outputs = alone(x)
        gradients = torch.autograd.grad(F.cross_entropy(outputs, y), list(alone.parameters()))
        first = first or (outputs.detach(), torch.cat([g.flatten() for g in gradients]))
        with torch.no_grad():
            for parameter, gradient in zip(alone.parameters(), gradients):
                parameter -= 0.2 * gradient
    return first, alone, found


def test_synchronized_training_is_training_in_one_process(trained):
    (outputs, gradient), alone, found = trained
    close(torch.cat([process[1]["outputs"] for process in found]), outputs)
    for process in found:
        close(process[1]["gradient"], gradient)
        assert list(process[1]["net"].state_dict()) == list(alone.state_dict())
        for mine, wanted in zip(process[1]["net"].state_dict().values(), alone.state_dict().values()):
            close(mine, wanted)


def test_plain_statistics_per_process_are_not(trained):
    (outputs, gradient), alone, found = trained
    one, two = found
    plain = torch.cat([one[0]["outputs"], two[0]["outputs"]])
    assert (plain - outputs).norm() > 0.05 * outputs.norm()
    assert (one[0]["gradient"] - gradient).norm() > 0.05 * gradient.norm()
    close(one[0]["gradient"], two[0]["gradient"])  # The gradient they share is the same; it is that of another network.
    assert (one[0]["net"].norm1.running_mean - two[0]["net"].norm1.running_mean).norm() > 1e-3


def test_synchronized_copies_everything_and_leaves_the_original():
    net = nets.mlp((4, 6, 3), norm="batch", seed=0, fused=True).double()
    net(torch.randn(8, 4).double())
    outer = nn.Sequential(nn.Sequential(net, nn.ReLU()), nn.BatchNorm2d(3, eps=0.3, momentum=None, affine=False)).eval()
    sync = synchronized(outer)
    assert [type(m).__name__ for m in sync.modules() if hasattr(m, "running_mean")] == ["SyncBatchNorm"] * 2
    assert not any(isinstance(m, SyncBatchNorm) for m in outer.modules())
    assert not {id(p) for p in sync.parameters()} & {id(p) for p in outer.parameters()}, "parameters are shared"
    assert all(not m.training for m in sync.modules())
    assert (sync[1].eps, sync[1].momentum, sync[1].weight) == (0.3, None, None)
    for (name, mine), (other, wanted) in zip(sync.state_dict().items(), outer.state_dict().items(), strict=True):
        assert name == other and mine.dtype == wanted.dtype and torch.equal(mine, wanted)
    assert isinstance(synchronized(norms.BatchNorm(3, bias=False)), SyncBatchNorm)
    assert synchronized(norms.BatchNorm(3, bias=False)).bias is None
    with pytest.raises(TypeError, match="no synchronized version of NoisyBatchNorm"):
        synchronized(nets.mlp((4, 6, 3), norm="noisy_batch"))


class OwnNorm(nn.BatchNorm1d):
    def forward(self, x):
        return 2 * super().forward(x)


def test_synchronized_keeps_what_is_shared_frozen_hooked_or_the_readers_own():
    norm, calls = nn.BatchNorm1d(6), []
    net = nn.Sequential(nn.Linear(6, 6), norm, nn.Linear(6, 6), norm, nn.BatchNorm1d(6), nets.mlp((6, 4, 3), "batch"))
    net[2].weight = net[0].weight
    net[4].weight.requires_grad_(False)
    net[4].eval()
    net[4].weight.no_decay = True
    net.best, net[0].favourite = 0.5, net[4]
    norm.register_forward_hook(lambda module, inputs, output: calls.append(type(module).__name__))
    net[0].bias.register_hook(lambda gradient: 0 * gradient)
    sync = synchronized(net)
    assert type(net[1]) is type(net[4]) is nn.BatchNorm1d and not hasattr(net[0].weight, "no_decay")
    assert sync[1] is sync[3] and sync[0].weight is sync[2].weight and sync[0].favourite is sync[4]
    assert len(list(sync.parameters())) == len(list(net.parameters()))
    assert [p.requires_grad for p in sync.parameters()] == [p.requires_grad for p in net.parameters()]
    assert [m.training for m in sync.modules()] == [m.training for m in net.modules()] and not sync[4].training
    assert sync[4].weight.no_decay and sync.best == 0.5
    assert [type(sync[place]) for place in (1, 4)] == [SyncBatchNorm] * 2 and type(sync[5].norm1) is SyncBatchNorm
    x = torch.randn(9, 6)
    torch.testing.assert_close(sync.eval()(x), net.eval()(x))
    assert calls == ["SyncBatchNorm"] * 2 + ["BatchNorm1d"] * 2
    assert (torch.autograd.grad(sync(x).sum(), sync[0].bias)[0] == 0).all(), "the hook on the parameter is there"
    again = synchronized(sync)
    assert type(again[1]) is SyncBatchNorm and again[1] is not sync[1]


@pytest.mark.parametrize("layer", [OwnNorm(3), norms.BatchRenorm(3), norms.make("l1", 3), norms.FrozenBatchNorm(3),
                                   norms.GhostBatchNorm(3), nn.LazyBatchNorm1d()], ids=lambda layer: type(layer).__name__)
def test_a_layer_whose_statistics_would_not_be_synchronized_is_named(layer):
    with pytest.raises(TypeError, match=rf"no synchronized version of {type(layer).__name__} \(1\)"):
        synchronized(nn.Sequential(nn.Linear(3, 3), layer))
    synchronized(nn.Sequential(nn.InstanceNorm1d(3, track_running_stats=True), norms.GroupNorm(1, 3)))


def test_needs_a_process_group_to_train_and_none_to_evaluate():
    layer, x = SyncBatchNorm(3), torch.randn(4, 3)
    with pytest.raises(RuntimeError, match="no process group.*init_process_group"):
        layer(x)
    twin = nn.BatchNorm1d(3).eval()
    torch.testing.assert_close(layer.eval()(x), twin(x))


def test_the_process_that_failed_is_named_not_the_one_that_waited():
    start = time.monotonic()
    with pytest.raises(WorkerFailed, match="(?s)process 1 failed: ValueError: NaN or infinity in the batch.*Traceback"):
        in_processes(refuse_nan, [torch.randn(4, 3), torch.full((4, 3), float("nan"))], timeout=300)
    assert time.monotonic() - start < 150


def test_a_process_that_dies_is_reported_with_its_last_words():
    with pytest.raises(WorkerFailed, match="(?s)process 1 ended with exit code (-9|15):\n.*last words"):
        in_processes(misbehave, ["sleep", "die"], timeout=300)  # Process 0 would notice nothing for ten minutes.


def test_results_that_cannot_be_sent_back_are_reported():
    with pytest.raises(WorkerFailed, match="process 0 failed: .*pickle"):
        in_processes(misbehave, [""])


def test_a_process_that_does_not_end_is_ended(monkeypatch):
    started = []

    class Noted(parallel.subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(parallel.subprocess, "Popen", Noted)
    with pytest.raises(TimeoutError, match=r"processes \[0\] of 1 not done after 3 s"):
        in_processes(misbehave, ["sleep"], timeout=3)
    assert [child.returncode is not None for child in started] == [True]


def test_what_cannot_be_sent_is_refused():
    with pytest.raises(ValueError, match="arguments is empty"):
        in_processes(misbehave, [])
    with pytest.raises(ValueError, match="cannot import .*lambda.* top level of a module"):
        in_processes(lambda x: x, [1])
