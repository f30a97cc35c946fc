"""One more pass through a network, as if it were the first: from the same buffers, with the same random numbers.

A probe that compares passes at different weights must not see anything else differ between them."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bncourse.norms import FrozenBatchNorm

OURS = "torch.nn.modules.", "bncourse.nets", "bncourse.norms"


def known(module: nn.Module) -> bool:
    """Whether it computes what its class says, and its class is one of torch's or the course's: no hooks, no forward of its
    own. Of anything else nobody knows what it keeps or draws."""
    hooked = any(getattr(module, f"_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre"))
    return type(module).__module__.startswith(OURS) and "forward" not in vars(module) and not hooked


class Start:
    """What a pass through ``net`` begins with. ``rewind`` puts it back; so does leaving ``with Start(...)``.

    That is: buffers (but of ``FrozenBatchNorm``, whose statistics are set by a first pass and then stay); the random numbers of
    torch on the CPU and on ``device``, and of generators that a module holds. Where modules are not ``known``, also those of
    numpy and of Python, and numbers and tensors that a module keeps as plain attributes: counters, averages."""

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        modules = list(net.modules())
        foreign = [module for module in modules if not known(module)]
        self.all_known = not foreign
        kept = [(module._buffers, name, buffer) for module in modules if not isinstance(module, FrozenBatchNorm)
                for name, buffer in module._buffers.items() if buffer is not None]
        self.numbers = []
        for module in foreign:
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    kept.append((vars(module), name, value))
                elif value is None or isinstance(value, (bool, int, float, complex)):
                    self.numbers.append((vars(module), name, value))
        self.tensors = [(*where, tensor, tensor.detach().clone(), tensor._version) for *where, tensor in kept]
        self.random = [(put_back, get()) for get, put_back in _random_numbers(modules, device, bool(foreign))]

    @torch.no_grad()
    def rewind(self) -> None:
        for place, name, tensor, value, version in self.tensors:
            if tensor._version != version:  # Writing to one that a pass has only read would spoil its way back.
                tensor.copy_(value)
            place[name] = tensor  # Some modules put in a new one rather than write to the old.
        for place, name, value in self.numbers:
            place[name] = value
        for put_back, state in self.random:
            put_back(state)

    def __enter__(self) -> "Start":
        return self

    def __exit__(self, *error) -> None:
        self.rewind()

    def check(self, before: Tensor, after: Tensor) -> None:
        """Refuse (ValueError) losses that differ though the weights were the same."""
        close = 1e3 * torch.finfo(before.dtype).eps
        if not torch.allclose(before, after, rtol=close, atol=close, equal_nan=True):
            raise ValueError(f"the same weights gave the losses {before.flatten().tolist()} and then {after.flatten().tolist()}: "
                             "the network remembers something from pass to pass, or draws random numbers, that cannot be put "
                             "back. Keep what it remembers in buffers (register_buffer), and draw with torch")


def _random_numbers(modules: list[nn.Module], device: torch.device, foreign: bool) -> Iterator[tuple[Callable, Callable]]:
    """How to ask each source of random numbers for its state, and how to put one back."""
    yield torch.get_rng_state, torch.set_rng_state
    if device.type == "cuda":
        yield lambda: torch.cuda.get_rng_state(device), lambda state: torch.cuda.set_rng_state(state, device)
    if device.type == "mps":
        yield torch.mps.get_rng_state, torch.mps.set_rng_state
    if foreign:
        yield random.getstate, random.setstate
        yield np.random.get_state, np.random.set_state
    for module in modules:
        for value in vars(module).values():
            for source in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(source, (torch.Generator, np.random.RandomState)):
                    yield source.get_state, source.set_state
                elif isinstance(source, random.Random):
                    yield source.getstate, source.setstate
                elif isinstance(source, np.random.Generator):
                    bits = source.bit_generator
                    yield lambda bits=bits: bits.state, lambda state, bits=bits: setattr(bits, "state", state)


class Renamed:
    """A probe with an ending behind the names of its columns, so that two of a kind can watch one run."""

    def __init__(self, probe: Callable, ending: str) -> None:
        self.probe, self.ending = probe, ending
        self.looks_at_update = getattr(probe, "looks_at_update", False)
        self.coordinates = tuple(name + ending for name in getattr(probe, "coordinates", ()))

    def __call__(self, *args, **kwargs) -> pd.DataFrame:
        return self.probe(*args, **kwargs).set_index("member").add_suffix(self.ending).reset_index()
