"""The forbidden shortcut: `F.batch_norm` where batch norm is to be written.

Judged is what an answer does while it is called, whatever its code looks like and whatever stands around it. Finished
operators are stopped where torch dispatches them, for every name, thread and compiled form that leads there; functions of a
library, and of this course, when they are entered; autograd where it would note down its first step. A cell that compares
with any of them is no shortcut.
"""

import linecache
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from sys import getprofile, setprofile  # now: student code may put something else in their place

import torch
import torch.fx.traceback
from torch.library import Library

FUSED = re.compile(r"(batch|instance|layer|group|rms)_?norm|(^|_)bn(_|$)")
PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
LIBRARIES = tuple({str(Path(module.__file__).parents[1]) for module in (torch, warnings, threading)} | {sys.prefix, sys.base_prefix})


@dataclass(frozen=True)
class Rules:
    """What an answer may use. `fused`: finished normalizations. `banned`: further functions that would do the work, such as
    "normalize". `anything`: how a number was found is free."""

    anything: bool = False
    fused: bool = False
    autograd: bool = True
    banned: tuple[str, ...] = ()

    def forbids(self, name: str) -> bool:
        return name in self.banned or (not self.fused and FUSED.search(name) is not None)


class ShortcutUsed(Exception):
    """The answer used what it may not use."""


class Watch:
    """What is seen while an answer runs. `used`: the first forbidden thing, with the student's line that led there."""

    def __init__(self, rules: Rules):
        self.rules, self.used, self.places, self.names = rules, "", {}, {}

    def found(self, what: str):
        """Remembered as well as raised: student code may swallow the exception."""
        self.used = self.used or what + students_line(sys._getframe(1))
        raise ShortcutUsed(self.used)

    def enter(self, frame) -> None:
        """A Python function begins."""
        code = frame.f_code
        place = self.places.get(code.co_filename)
        if place is None:
            place = self.places[code.co_filename] = place_of(code.co_filename)
        if place == "own" or not code.co_flags & 1:  # CO_OPTIMIZED: a function, not the body of a module or class
            return
        if place == "library":
            if code.co_name not in self.names:
                self.names[code.co_name] = self.rules.forbids(code.co_name)
            if not self.names[code.co_name]:
                return
        self.found(f"{frame.f_globals.get('__name__', '')}.{code.co_qualname}".replace(".<locals>", ""))


def place_of(file: str) -> str:
    """Whose code a file is: the student's "own", a "library", or the "course", whose checks and given functions count as own."""
    if file.startswith(PACKAGE):
        inside = Path(file).relative_to(PACKAGE).parts
        return "own" if inside[0] == "grading" and ("given" in inside or not inside[-1].startswith("ex0")) else "course"
    return "library" if file.startswith(LIBRARIES) or file.startswith("<frozen") else "own"


def students_line(frame) -> str:
    while frame and (frame.f_code.co_filename.startswith(PACKAGE) or place_of(frame.f_code.co_filename) != "own"):
        frame = frame.f_back
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() if frame else ""
    return f" (in the line `{line[:120]}`)" if line else ""


watching: Watch | None = None


def observe(frame, event, arg) -> None:
    if event == "call" and watching:
        watching.enter(frame)


def observe_threads() -> None:
    """From now on in every new thread: one that was started in a cell may be asked to work for an answer."""
    threading.setprofile(observe)


@lru_cache
def operators(rules: Rules) -> tuple[tuple[str, str], ...]:
    """The forbidden ones among all that torch has, each with the kind of tensor that a kernel of it is for. One that torch
    would break into parts is stopped before it does: its parts may be harmless."""
    has, found = torch._C._dispatch_has_kernel_for_dispatch_key, []
    for name in torch._C._dispatch_get_all_op_names():
        space, _, operator = name.partition("::")
        if space == "aten" and rules.forbids(operator.partition(".")[0]):
            keys = {key for key in ("CPU", "MkldnnCPU", "NestedTensorCPU") if has(name, key)}
            keys |= {"CPU"} if has(name, "CompositeExplicitAutograd") and "out" not in operator else set()
            keys |= {"CPU", "FuncTorchBatched"} if has(name, "CompositeImplicitAutograd") else set()
            found += [(operator, key) for key in sorted(keys)]
    return tuple(found)


@contextmanager
def stopped(which: Iterable[tuple[str, str]], found):
    """Until the end of the block, `found` is told when torch dispatches one of these operators, whoever asked for it."""
    library = Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():  # that there has been a kernel before
            warnings.simplefilter("ignore")
            for operator, key in which:
                library.impl(operator, lambda *_, what=f"torch's {operator.partition('.')[0]}", **__: found(what), key)
        yield
    finally:
        library._destroy()


@contextmanager
def no_autograd(found):
    """Autograd notes down each step it takes, and in its anomaly mode it asks for the line that caused it."""
    usual = torch.fx.traceback.format_stack
    torch.fx.traceback.format_stack = lambda: found("autograd")
    before = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    torch.set_anomaly_enabled(True, False)
    try:
        with stopped([("_make_dual", "AutogradCPU")], found):  # forward mode takes no steps back
            yield
    finally:
        torch.fx.traceback.format_stack = usual
        torch.set_anomaly_enabled(*before)


@contextmanager
def watch(rules: Rules):
    """Raises `ShortcutUsed` when the block does what `rules` forbid, also when student code swallows the exception."""
    global watching
    if rules.anything:
        yield
        return
    seen, before, in_threads = Watch(rules), getprofile(), threading.getprofile()
    with ExitStack() as stack:
        stack.enter_context(stopped(operators(rules), seen.found))
        if not rules.autograd:
            stack.enter_context(torch.set_grad_enabled(False))
            stack.enter_context(no_autograd(seen.found))
        watching = seen
        threading.setprofile(observe)
        setprofile(observe)
        try:
            yield
        except Exception:
            if not seen.used:
                raise
        finally:
            blinded = getprofile() is not observe or not (rules.autograd or torch.is_anomaly_enabled())
            setprofile(before)
            threading.setprofile(in_threads)
            watching = None
    if blinded and not seen.used:
        seen.used = "a profiler of its own"
    if seen.used:
        raise ShortcutUsed(seen.used)
