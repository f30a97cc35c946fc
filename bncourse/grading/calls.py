"""Calling an answer: the one way a student's function is run, in the notebook and in the worker alike.

A call hands over fresh copies of the arguments and brings back plain data (numpy arrays and names of types), never the
student's objects. So nothing that a submission returns, however it compares or prints itself, reaches a check.
"""

import inspect
import random
import traceback
from dataclasses import dataclass, field

import numpy as np
import torch

from .shortcuts import UNREAD, ShortcutUsed, find_shortcut, watch

FLOATS = {torch.float32: "float32", torch.float64: "float64"}
LARGEST = 2**20  # elements an answer may have; checks ask for far fewer


@dataclass(frozen=True)
class Value:
    """One returned object: a float tensor with its `array`, or anything else with only the name of its `type`."""

    type: str
    dtype: str = ""
    shape: tuple = ()
    array: np.ndarray | None = None


@dataclass(frozen=True)
class Reply:
    """What came of a call. `outcome` is returned, raised, shortcut or missing.

    `values`: what was returned, one `Value` an item of a tuple; `is_tuple` tells `(x,)` from `x`.
    `inputs`: the tensor arguments after the call, to see whether they were changed in place.
    `error`, `text`: type and message of the exception, or what is missing.
    """

    outcome: str
    values: list = field(default_factory=list)
    is_tuple: bool = False
    inputs: list = field(default_factory=list)
    error: str = ""
    text: str = ""


def describe(obj) -> Value:
    if not isinstance(obj, torch.Tensor):
        return Value(f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")[:80])
    dtype, shape = str(obj.dtype).removeprefix("torch."), tuple(obj.shape)
    if obj.dtype not in FLOATS or obj.layout is not torch.strided or obj.numel() > LARGEST:
        return Value("tensor", dtype, shape)
    return Value("tensor", dtype, shape, np.array(obj.detach().cpu().numpy(), copy=True, order="C"))


def reseed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def call(namespace: dict, name: str, args: list, seed: int) -> Reply:
    """Runs `namespace[name](*args)`. The random generators are reseeded first, so that an answer that draws numbers
    does not depend on what ran before. Raises nothing that student code raises, except KeyboardInterrupt."""
    answer = namespace.get(name)
    if answer is None:
        return Reply("missing", text="absent")
    if not callable(answer):
        return Reply("missing", text=f"a {type(answer).__name__}")
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), watch():
            reseed(seed)
            returned = answer(*args)
        is_tuple = isinstance(returned, (tuple, list))
        values = [describe(item) for item in (returned[:16] if is_tuple else [returned])]
        inputs = [describe(arg) for arg in args if isinstance(arg, torch.Tensor)]
        return Reply("returned", values, is_tuple, inputs)
    except ShortcutUsed as used:
        return Reply("shortcut", text=str(used))
    except (Exception, SystemExit) as error:
        return Reply("raised", error=type(error).__name__[:80], text=str(error)[:300] or last_line(error))


def last_line(error: BaseException) -> str:
    """The student's line that raised: an AssertionError often has nothing else to say."""
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].line or "")[:300] if frames else ""


class NamespaceAnswers:
    """Answers that live in this process: the notebook's own."""

    def __init__(self, namespace: dict):
        self.namespace = namespace

    def shortcut(self, name: str, autograd: bool) -> str | None:
        """See `find_shortcut`. Reads the cells run so far (IPython's `In`); outside of a notebook there are none."""
        history = self.namespace.get("In")
        if not isinstance(history, list):
            return None
        cells = [str(cell) for cell in history]
        found = find_shortcut(cells, name, autograd)
        if found == UNREAD:  # a client may run cells without adding them to the history
            try:
                found = find_shortcut([*cells, inspect.getsource(self.namespace[name])], name, autograd)
            except (KeyError, OSError, TypeError):
                pass
        return found

    def call(self, name: str, args: list, seed: int) -> Reply:
        return call(self.namespace, name, args, seed)
