"""Calling an answer: the one way a student's function is run or a value is read, in the notebook and in the worker alike.

A call hands over fresh copies of the arguments and brings back plain data (numpy arrays, numbers, strings, and names of
types), never the student's objects. So nothing that a submission returns, however it compares or prints itself, reaches a
check.
"""

import importlib
import math
import random
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from .cells import leans_on_show
from .shortcuts import Rules, ShortcutUsed, watch

DTYPES = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8"), "int64": np.dtype("<i8"), "bool": np.dtype("?")}
LARGEST = 2**20  # elements a tensor may have; checks ask for far fewer
LONGEST = 20_000  # characters of a string
MOST_ITEMS = 1000  # of a list or dict
DEEPEST = 4  # lists in lists


@dataclass(frozen=True)
class Given:
    """A function that an answer is handed, such as a loss: `maker(*args)` of `given.exNN`, built where it is used. It is not
    in the exercise's own module because that one, with the right answers, is closed to student code."""

    exercise: str
    maker: str
    args: tuple = ()

    def build(self):
        return getattr(importlib.import_module(f"{__package__}.given.{self.exercise}"), self.maker)(*map(hand_over, self.args))


def hand_over(arg):
    """A copy of an argument for student code. clone() keeps the strides, so a transposed tensor arrives transposed."""
    if isinstance(arg, torch.Tensor):
        return arg.clone()
    if isinstance(arg, (list, tuple)):
        return type(arg)(hand_over(item) for item in arg)
    if isinstance(arg, dict):
        return {key: hand_over(item) for key, item in arg.items()}
    return arg.build() if isinstance(arg, Given) else arg


def tensors_in(arg) -> list[torch.Tensor]:
    """All tensors in nested lists, tuples and dicts, in order."""
    if isinstance(arg, torch.Tensor):
        return [arg]
    if isinstance(arg, dict):
        arg = list(arg.values())
    return [tensor for item in arg for tensor in tensors_in(item)] if isinstance(arg, (list, tuple)) else []


@dataclass(frozen=True)
class Value:
    """One returned object. A tensor has `dtype`, `shape` and (when it is dense and not too large) its `array`; a number, a
    string or None is `plain`; a list, tuple or dict has `items` (and a dict `keys`). Of anything else only the name of
    the `type` is known."""

    type: str
    dtype: str = ""
    shape: tuple = ()
    array: np.ndarray | None = None
    plain: object = None
    items: tuple = ()
    keys: tuple = ()

    def data(self):
        """Numbers, strings, tensors, lists and dicts of them. Raises TypeError, naming the type, for anything else."""
        if self.array is not None:
            return torch.from_numpy(self.array)
        if self.type in ("list", "tuple"):
            return [item.data() for item in self.items]
        if self.type == "dict":
            return dict(zip(self.keys, (item.data() for item in self.items)))
        if self.plain is None and self.type != "NoneType":
            raise TypeError(self.type)
        return self.plain


@dataclass(frozen=True)
class Reply:
    """What came of a call. `outcome` is returned, raised, shortcut or missing.

    `values`: what was returned, one `Value` an item of a tuple or list; `is_tuple` tells `(x,)` from `x`.
    `inputs`: the tensors among the arguments after the call, to see whether they were changed in place.
    `error`, `text`: type and message of the exception, or what is missing. `gradients`: how often torch computed some.
    """

    outcome: str
    values: list = field(default_factory=list)
    is_tuple: bool = False
    inputs: list = field(default_factory=list)
    error: str = ""
    text: str = ""
    gradients: int = 0


def describe(obj, depth: int = 0) -> Value:
    """`depth`: 0 for what a function returned, where an array is a mistake worth a word; inside of lists and in variables
    it is as good as a list."""
    if isinstance(obj, torch.Tensor):
        dtype, shape = str(obj.dtype).removeprefix("torch."), tuple(obj.shape)
        if dtype not in DTYPES or obj.layout is not torch.strided or obj.is_meta or obj.numel() > LARGEST:
            return Value("tensor", dtype, shape)
        return Value("tensor", dtype, shape, np.array(obj.detach().cpu().numpy(), copy=True, order="C"))
    if isinstance(obj, np.generic):
        obj = obj.item()
    if isinstance(obj, np.ndarray) and depth and obj.size <= MOST_ITEMS:
        obj = obj.tolist()
    kind = type(obj)
    if kind in (bool, float, type(None)) or (kind is int and abs(obj) < 2**63):
        return Value(kind.__name__, plain=obj)
    if kind is str:
        return Value("str", plain=obj[:LONGEST])
    if kind in (list, tuple) and len(obj) <= MOST_ITEMS and depth < DEEPEST:
        return Value(kind.__name__, items=tuple(describe(item, depth + 1) for item in obj))
    if kind is dict and len(obj) <= MOST_ITEMS and depth < DEEPEST and all(type(key) is str for key in obj):
        return Value("dict", items=tuple(describe(item, depth + 1) for item in obj.values()), keys=tuple(obj))
    if kind in (list, tuple, dict):
        return Value(f"{kind.__name__}, too long, too deep, or with keys that are not words")
    return Value("Ellipsis" if obj is ... else f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")[:80])


def reseed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed also notes it for GPUs, which takes 2 ms


@contextmanager
def counted_gradients():
    """A list with an entry for each time that autograd goes backwards inside: whether an experiment trains can be seen."""
    passes, usual = [], torch.autograd._engine_run_backward

    def backward(*args, **options):
        passes.append(None)
        return usual(*args, **options)

    torch.autograd._engine_run_backward = backward
    try:
        yield passes
    finally:
        torch.autograd._engine_run_backward = usual


def call(namespace: dict, name: str, args: list, seed: int, rules: Rules = Rules()) -> Reply:
    """Runs `namespace[name](*args)`. The random generators are reseeded first, so that an answer that draws numbers
    does not depend on what ran before. Raises nothing that student code raises, except KeyboardInterrupt."""
    answer = namespace.get(name)
    if answer is None:
        return Reply("missing", text="absent")
    if not callable(answer):
        return Reply("missing", text=f"a {type(answer).__name__}")
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad(), counted_gradients() as passes, watch(rules):
            reseed(seed)
            returned = answer(*args)
            # Still watched: what was returned may be an object that begins to work only now.
            is_tuple = isinstance(returned, (tuple, list))
            values = [describe(item) for item in (returned[:MOST_ITEMS] if is_tuple else [returned])]
            inputs = [describe(tensor) for tensor in tensors_in(args)]
        return Reply("returned", values, is_tuple, inputs, gradients=len(passes))
    except ShortcutUsed as used:
        return Reply("shortcut", text=str(used))
    except (Exception, SystemExit) as error:
        if not rules.autograd and "does not require grad" in str(error):  # what torch says where autograd is switched off
            return Reply("shortcut", text="autograd")
        return Reply("raised", error=type(error).__name__[:80], text=str(error)[:300] or last_line(error))


def value_of(namespace: dict, name: str) -> Reply:
    """The value of `name`, for answers that are numbers, words or text."""
    return Reply("returned", [describe(namespace[name], depth=1)]) if name in namespace else Reply("missing", text="absent")


def last_line(error: BaseException) -> str:
    """The student's line that raised: an AssertionError often has nothing else to say."""
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].line or "")[:300] if frames else ""


def is_number(obj) -> bool:
    return type(obj) in (int, float) and math.isfinite(obj)


class NamespaceAnswers:
    """Answers that live in this process: the notebook's own."""

    def __init__(self, namespace: dict):
        self.namespace = namespace

    def leans_on_show(self, name: str) -> bool:
        """Reads the cells run so far (IPython's `In`); outside of a notebook there are none."""
        history = self.namespace.get("In")
        return isinstance(history, list) and leans_on_show([str(cell) for cell in history], name)

    def call(self, name: str, args: list, seed: int, rules: Rules) -> Reply:
        return call(self.namespace, name, hand_over(args), seed, rules)

    def value(self, name: str) -> Reply:
        return value_of(self.namespace, name)
