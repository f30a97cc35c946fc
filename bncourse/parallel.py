"""Batch statistics over several processes, for training in which each process holds only a part of the batch.

``SyncBatchNorm`` is ``norms.BatchNorm`` whose statistics are those of all parts together. ``in_processes`` runs a function
in several processes of this machine that can talk to one another, and brings back what they return."""

import copy
import datetime
import os
import pickle
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bncourse.norms import BatchNorm, FrozenBatchNorm, FusedBatchNorm, FusedInstanceNorm, InstanceNorm
from bncourse.norms.checks import along, check_finite, widened

# What computes the same as ``SyncBatchNorm`` in one process, exactly these: a class derived from one may do anything.
HAVE_ONE = BatchNorm, FusedBatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d
OF_ONE_EXAMPLE = InstanceNorm, FusedInstanceNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, on every process. The loss of *each* depends on it, so the gradient of the sum is
    the sum of their gradients: going backward, too, the processes add up what they have."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return SumOverProcesses.apply(gradient)


class SyncBatchNorm(BatchNorm):
    """``norms.BatchNorm`` over the batches of all processes of the process group, which may differ in size, down to none.

    In training mode every process must call it, and go backward through it, equally often. Outputs, gradients and running
    statistics are those of one process that holds all examples (the loss being the sum of the losses of the processes). In
    evaluation mode processes do not talk. ``torch.nn.SyncBatchNorm``, which does this on GPUs, refuses to run on CPUs.
    Raises (in ``forward``, beyond what ``BatchNorm`` raises) RuntimeError: training mode without a process group. ValueError:
    fewer than two values per channel in all processes together."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError("SyncBatchNorm: no process group to synchronize with; first call torch.distributed."
                               "init_process_group (bncourse.parallel.in_processes does), or use BatchNorm for one process")
        self._check(x, use_batch=False)  # How many values there are, only the processes together know.
        wide = widened(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]

        own, own_count = wide.sum(axes), wide.new_tensor([x.numel() // self.num_features])
        if self.refuse_nonfinite:
            check_finite(own)  # Before the exchange: the process that has the NaN is the one to say so.
        total, count = SumOverProcesses.apply(torch.cat([own, own_count])).split([self.num_features, 1])
        if count < 2:
            raise ValueError(f"batch statistics need at least 2 values per channel in all {dist.get_world_size()} processes "
                             f"together, got {int(count)}; use a larger batch, or GroupNorm")
        mean = total / count
        # A second exchange, of centred squares. One exchange of E[x] and E[x²] would do, and cancel for a large mean.
        rest = wide - along(x, mean)
        var = SumOverProcesses.apply(rest.square().sum(axes)) / count

        if self.track_running_stats and self.running_mean is not None:
            self._update_running(mean, var, count=int(count))
        var, weight, bias = (None if own is None else along(x, own) for own in (var, self.weight, self.bias))
        return self.normalize(rest, var, self.eps, weight, bias).to(x.dtype)


def synchronized(net: nn.Module) -> nn.Module:
    """A copy of ``net`` with every batch normalization made a ``SyncBatchNorm``, and all else as it is: what is shared stays
    shared and what is frozen frozen; values, modes, hooks and attributes are those of ``net``.
    Raises TypeError: a layer with statistics of the batch of which there is no synchronized version."""
    for name, module in net.named_modules():
        has_statistics = isinstance(module, (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm)) or (
            getattr(module, "running_mean", None) is not None and type(module) not in OF_ONE_EXAMPLE)
        if has_statistics and (type(module) not in (*HAVE_ONE, SyncBatchNorm) or "forward" in vars(module)):
            raise TypeError(f"there is no synchronized version of {type(module).__name__}{f' ({name})' if name else ''}, whose "
                            "statistics would be those of each process alone")
    twin = copy.deepcopy(net)
    for own, other in zip(net.parameters(), twin.parameters(), strict=True):  # What copying a parameter leaves out.
        vars(other).update(vars(own))
        for hook in (own._backward_hooks or {}).values():
            other.register_hook(hook)
    for module in twin.modules():
        if type(module) in HAVE_ONE:
            module.__class__ = SyncBatchNorm  # The very module, so that whoever refers to it, or to what it holds, still does.
    return twin


def train_share(jobs: Sequence[dict]) -> list[dict]:
    """Plain data-parallel training by gradient descent, seen from one process. Call it in all of them: ``in_processes``.

    The loss is the cross-entropy averaged over the examples of *all* processes, so every process divides by the total number
    of examples and the gradients are added up. (The average of the processes' averages is the same only for equal parts.)
    Each of ``jobs``, done one after another, has ``net``, ``lr`` and ``batches``, a list of (x, y): this process's part of each
    batch. Frozen parameters stay, with a gradient of 0; so do single layers in evaluation mode. Returned for each job are, of the
    first batch, the ``outputs`` of this process's part and the ``gradient`` (one vector), and the trained ``net``."""
    results = []
    for job in jobs:
        net, first = copy.deepcopy(job["net"]), {}
        if not net.training:
            net.train()
        parameters = list(net.parameters())
        moving = [parameter for parameter in parameters if parameter.requires_grad]
        for x, y in job["batches"]:
            count = torch.tensor(len(x))
            dist.all_reduce(count)
            outputs = net(x)
            loss = F.cross_entropy(outputs, y, reduction="sum") / count
            own = dict(zip(moving, torch.autograd.grad(loss, moving, allow_unused=True, materialize_grads=True)))
            gradient = parameters_to_vector(own.get(parameter, torch.zeros_like(parameter)) for parameter in parameters)
            dist.all_reduce(gradient)  # All in one message: it is the number of messages that costs time.
            with torch.no_grad():
                vector_to_parameters(parameters_to_vector(parameters) - job["lr"] * gradient, parameters)
            first = first or {"outputs": outputs.detach(), "gradient": gradient}
        results.append(first | {"net": net})
    return results


class WorkerFailed(RuntimeError):
    """A function raised an exception, or its process ended, in ``in_processes``."""


def in_processes(function: Callable, arguments: Sequence, timeout: float = 120) -> list:
    """Call ``function(argument)`` for each of ``arguments``, each in a new process; return the results in that order.

    The processes form a process group (gloo, over this machine's loopback) and compute with one thread each. None of them
    outlives the call. ``function`` stands at the top level of a module, not in a notebook; arguments and results can be pickled;
    ``timeout`` is in seconds, the start (a few seconds) included.
    Raises ValueError: no arguments, or a function that another process cannot import. WorkerFailed: the first process to fail,
    with its traceback. TimeoutError: names the processes that were not done."""
    if not arguments:
        raise ValueError("arguments is empty; give one per process")
    if function.__module__ == "__main__" or "<" in function.__qualname__:
        raise ValueError(f"another process cannot import {function.__qualname__} from {function.__module__}; "
                         "put the function at the top level of a module")
    # The child sees the modules that we see, and meets the others on loopback, whatever this machine calls itself.
    loopback = {"linux": {"GLOO_SOCKET_IFNAME": "lo"}, "darwin": {"GLOO_SOCKET_IFNAME": "lo0"}}.get(sys.platform, {})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1", **loopback}
    with tempfile.TemporaryDirectory(prefix="bncourse-") as name:
        folder, children, deadline = Path(name), [], time.monotonic() + timeout
        try:
            for rank, argument in enumerate(arguments):
                (folder / f"call{rank}").write_bytes(pickle.dumps((function, argument)))
                with open(folder / f"log{rank}", "wb") as log:
                    children.append(subprocess.Popen(
                        [sys.executable, "-c", "from bncourse.parallel import _work; _work()", name, str(rank),
                         str(len(arguments)), str(timeout)],
                        env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            while None in (codes := [child.poll() for child in children]) and not any(codes):
                if time.monotonic() > deadline:
                    late = [rank for rank, code in enumerate(codes) if code is None]
                    raise TimeoutError(f"processes {late} of {len(children)} not done after {timeout:g} s")
                time.sleep(0.02)
        finally:
            for child in children:
                child.kill()
                child.wait()
        if any(codes):
            raise WorkerFailed(min(_failure(folder, rank, code) for rank, code in enumerate(codes) if code)[1])
        return [pickle.loads((folder / f"result{rank}").read_bytes()) for rank in range(len(children))]


def _work() -> None:
    """What a child of ``in_processes`` does."""
    folder, rank, size, timeout = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    try:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), size), rank=rank, world_size=size,
                                timeout=datetime.timedelta(seconds=timeout))
        function, argument = pickle.loads((folder / f"call{rank}").read_bytes())
        (folder / f"result{rank}").write_bytes(pickle.dumps(function(argument)))
        code = 0
    except Exception:
        when, code = time.time_ns(), 1
        (folder / f"error{rank}").write_text(f"{when}\n{traceback.format_exc()}", "utf-8")
    os._exit(code)  # At once: taking torch down takes half a second and, after a failure, waits for the others.


def _failure(folder: Path, rank: int, code: int) -> tuple[int, str]:
    """When a process failed, and how. (After the first, the others fail because they lost their partner.)"""
    if (error := folder / f"error{rank}").exists():
        when, _, text = error.read_text("utf-8").partition("\n")
        return int(when), f"process {rank} failed: {text.strip().splitlines()[-1]}\n\n{text}"
    log = (folder / f"log{rank}").read_text("utf-8", "replace")[-2000:].strip()
    return 0, f"process {rank} ended with exit code {code}" + (f":\n{log}" if log else "")  # It had no chance to say why.
