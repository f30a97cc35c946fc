"""A training step on a GPU, recorded once and then replayed.

A step of a small network is several hundred operations, each over sooner than Python can ask for the next: the GPU waits. CUDA
can record what a step asks for and do all of it again at one word ("CUDA graph"). Python then no longer runs, so a step may be
recorded only if it does the same every time: on tensors that stay where they are, without asking for a value on the way.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WARM_UP = 3  # steps before the recording, in which libraries choose their algorithms and take their memory
WORTH_IT = 50  # steps: a recording takes as long as about so many

Recorder = Callable[[Callable[[], None], Sequence[torch.Generator]], Callable[[], None]]


def cuda_graph(step: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
    """Record ``step()`` without doing it; what comes back does it. Random numbers are drawn anew each time, from torch's own
    generator and from ``generators``."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        step()
    return graph.replay


# By type of device.
RECORDERS: dict[str, Recorder] = {"cuda": cuda_graph}


class Replayed:
    """``step()``, done as it is the first few times, recorded on the way and replayed from then on.

    Where it cannot be recorded it goes on being done as it is; ``why_not`` then says why, and so does a warning.

    Args:
        step: reads and writes tensors that stay in their places, and draws random numbers only from torch's default generator
            and from ``generators``.
        net: the network that it trains. Nothing may change there behind the back of a recording but the values of its
            parameters and buffers; whoever might have changed more calls ``look_again``.
    """

    def __init__(self, step: Callable[[], None], net: nn.Module, record: Recorder,
                 generators: Sequence[torch.Generator] = ()) -> None:
        self.step, self.net, self.record, self.generators = step, net, record, generators
        self.replay, self.calls, self.fixed, self.why_not = None, 0, _fixed(net), ""

    def __call__(self) -> None:
        if self.replay is None and not self.why_not and self.calls >= WARM_UP:
            self._record()
        if self.replay is not None:
            self.replay()
        elif self.why_not:
            self.step()
        else:
            self._warm_up()

    def look_again(self) -> None:
        """Record anew if the network is no longer made of the tensors and settings that were recorded."""
        if _fixed(self.net) != self.fixed:
            self.replay, self.calls, self.fixed = None, 0, _fixed(self.net)

    def _warm_up(self) -> None:
        self.calls += 1
        with _aside(next(self.net.parameters()).device), Watch() as watch:
            self.step()
        if watch.found:
            self._give_up(f"it asks the GPU for a value ({', '.join(sorted(watch.found))})")
        elif _fixed(self.net) != self.fixed:
            self._give_up("the network changes its own settings or replaces its tensors from step to step")

    def _record(self) -> None:
        try:
            self.replay = self.record(self.step, self.generators)
        except RuntimeError as error:
            self._give_up(str(error).splitlines()[0])

    def _give_up(self, why: str) -> None:
        self.why_not = why
        warnings.warn(f"this network's training step is not replayed from a recording: {why.rstrip('.')}. It is done as it "
                      "is, with the same results, only slower", RuntimeWarning, stacklevel=2)


def _fixed(net: nn.Module) -> list:
    """What a recording of the network holds fast: where its tensors are, and the settings of its modules."""
    places = [tensor.data_ptr() for tensor in (*net.parameters(), *net.buffers())]
    return places + [(name, value) for module in net.modules() for name, value in vars(module).items()
                     if isinstance(value, (bool, int, float, str))]


@contextmanager
def _aside(device: torch.device):
    """On a stream beside the main one, where CUDA wants to see the steps before a recording."""
    if device.type != "cuda":
        yield
        return
    main, aside = torch.cuda.current_stream(device), _stream(device)
    aside.wait_stream(main)
    with torch.cuda.stream(aside):
        yield
    main.wait_stream(aside)


@lru_cache
def _stream(device: torch.device) -> "torch.cuda.Stream":
    """One for all: CUDA's libraries take memory for each that they see, and keep it."""
    return torch.cuda.Stream(device)


aten = torch.ops.aten
# For these a GPU has to finish first, because Python, or the size of a result, depends on a value.
WAITING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.unique_dim,
           aten.unique_consecutive, aten.bincount, aten.lift_fresh}


class Watch(TorchDispatchMode):
    """Notes in ``found`` the operations for which Python would wait for a GPU: reading a value (``item()``, ``if tensor:``),
    choosing by a mask, making a tensor of numbers of Python's, copying from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        devices = {tensor.device for tensor in tree_leaves((args, kwargs, result)) if isinstance(tensor, torch.Tensor)}
        # A tensor without axes on the CPU is a number to a GPU, and travels with the command.
        chooses = operation in (aten.index, aten.index_put, aten.index_put_) and any(
            mask is not None and mask.dtype == torch.bool for mask in args[1])
        if operation in WAITING or chooses or (operation in (aten._to_copy, aten.copy_) and len(devices) > 1):
            self.found.add(str(operation).removeprefix("aten."))
        return result
