"""Batch statistics over several processes, for training in which each process holds only a part of the batch.

``SyncBatchNorm`` is ``norms.BatchNorm`` whose statistics are those of all parts together. ``in_processes`` runs a function
in several processes of this machine that can talk to one another, and brings back what they return.
"""

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

from bncourse.norms import BatchNorm
from bncourse.norms.checks import along, widened


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, on every process.

    The loss of *each* process depends on the sum, so the gradient of the sum is the sum of their gradients: going backward,
    too, the processes add up what they have.
    """

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

    Arguments, shapes, parameters and buffers are those of ``BatchNorm``. In training mode every process must call it, and go
    backward through it, equally often. Outputs, gradients and running statistics are those of one process that holds all
    examples (the loss being the sum of the losses of the processes). In evaluation mode processes do not talk.
    Does what ``torch.nn.SyncBatchNorm`` does on GPUs; that one refuses to run on CPUs.

    Raises (in ``forward``, beyond what ``BatchNorm`` raises):
        RuntimeError: training mode without a process group.
        ValueError: fewer than two values per channel in all processes together.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError("SyncBatchNorm: no process group to synchronize with; first call torch.distributed."
                               "init_process_group (bncourse.parallel.in_processes does), or use BatchNorm for one process")
        self._check(x, use_batch=False)  # How many values there are, only the processes together know.
        wide = widened(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]

        own_count = wide.new_tensor([x.numel() // self.num_features])
        total, count = SumOverProcesses.apply(torch.cat([wide.sum(axes), own_count])).split([self.num_features, 1])
        if count < 2:
            raise ValueError(f"batch statistics need at least 2 values per channel in all {dist.get_world_size()} processes "
                             f"together, got {int(count)}; use a larger batch, or GroupNorm")
        mean = total / count
        # A second exchange, of centred squares. One exchange of E[x] and E[x²] would do, and cancel for a large mean.
        var = SumOverProcesses.apply((wide - along(x, mean)).square().sum(axes)) / count

        if self.track_running_stats and self.running_mean is not None:
            self._update_running(mean, var, count=int(count))
        mean, var, weight, bias = (None if own is None else along(x, own) for own in (mean, var, self.weight, self.bias))
        return self.normalize(wide, mean, var, self.eps, weight, bias).to(x.dtype)


def synchronized(net: nn.Module) -> nn.Module:
    """A copy of ``net`` with every batch normalization replaced by ``SyncBatchNorm``: same parameters, buffers and mode.

    Raises:
        TypeError: a variant of ``BatchNorm`` of which there is no synchronized version.
    """
    if isinstance(net, (BatchNorm, nn.modules.batchnorm._BatchNorm)):
        if type(net).__name__ not in ("BatchNorm", "FusedBatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"):
            raise TypeError(f"there is no synchronized version of {type(net).__name__}")
        state = net.state_dict()
        sync = SyncBatchNorm(net.num_features, net.eps, net.momentum, net.affine, net.track_running_stats,
                             bias=net.bias is not None or not net.affine)
        sync.to(next(iter(state.values()), torch.empty(0)))  # Precision and device.
        sync.load_state_dict(state)
        return sync.train(net.training)
    net = copy.deepcopy(net)
    for name, child in net._modules.items():
        if child is not None:
            setattr(net, name, synchronized(child))
    return net


def train_share(jobs: Sequence[dict]) -> list[dict]:
    """Plain data-parallel training by gradient descent, seen from one process. Call it in all of them: ``in_processes``.

    The loss is the cross-entropy averaged over the examples of *all* processes, so every process divides by the total number
    of examples and the gradients are added up. (The average of the processes' averages is the same only for equal parts.)

    Args:
        jobs: trainings to do one after another. Each has ``net``, ``lr`` and ``batches``, a list of (x, y): this process's
            part of each batch.
    Returns:
        For each job the ``outputs`` of this process's part of the first batch, the ``gradient`` (one vector, in
        the order of ``net.parameters()``) of the first batch, and the trained ``net``.
    """
    results = []
    for job in jobs:
        net, first = copy.deepcopy(job["net"]).train(), {}
        parameters = list(net.parameters())
        for x, y in job["batches"]:
            count = torch.tensor(len(x))
            dist.all_reduce(count)
            outputs = net(x)
            loss = F.cross_entropy(outputs, y, reduction="sum") / count
            gradient = parameters_to_vector(torch.autograd.grad(loss, parameters))
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
    outlives the call.

    Args:
        function: at the top level of a module. A notebook's own functions cannot be sent to another process.
        arguments: one per process, anything that can be pickled; so must be the results.
        timeout: seconds for everything, the start (a few seconds) included.

    Raises:
        ValueError: no arguments, or a function that another process cannot import.
        WorkerFailed: the first process to fail, with its traceback.
        TimeoutError: names the processes that were not done.
    """
    if not arguments:
        raise ValueError("arguments is empty; give one per process")
    if function.__module__ == "__main__" or "<" in function.__qualname__:
        raise ValueError(f"another process cannot import {function.__qualname__} from {function.__module__}; "
                         "put the function at the top level of a module")
    # The child sees the modules that we see, and meets the others on loopback, whatever this machine calls itself.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if loopback:
        environment["GLOO_SOCKET_IFNAME"] = loopback

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
            raise WorkerFailed(_first_failure(folder, codes))
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


def _first_failure(folder: Path, codes: list[int | None]) -> str:
    """Which process failed first, and how. The rest fail because they lost their partner."""
    found = []
    for rank, code in enumerate(codes):
        if not code:
            continue
        error = folder / f"error{rank}"
        if error.exists():
            when, _, text = error.read_text("utf-8").partition("\n")
            found.append((int(when), f"process {rank} failed: {text.strip().splitlines()[-1]}\n\n{text}"))
        else:  # It had no chance to say why, so nobody made it fail.
            log = (folder / f"log{rank}").read_text("utf-8", "replace")[-2000:].strip()
            found.append((0, f"process {rank} ended with exit code {code}" + (f":\n{log}" if log else "")))
    return min(found)[1]
