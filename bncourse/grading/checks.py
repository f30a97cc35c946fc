"""The machinery every exercise shares: draw inputs, ask the student's function, compare, name the misconception.

A check is public and stores no outputs. It draws fresh inputs, computes the right answer in float64 and compares. Only
when an answer is wrong does it look for the reason: it tries the *named wrong formulas* of the question on the same
inputs, and when one of them gives the student's numbers, that misconception is what the feedback is about.
"""

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from .calls import NamespaceAnswers, Reply
from .feedback import Feedback, GradingError, Marks, Result, Results
from .shortcuts import UNREAD

TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-9}


@dataclass(frozen=True)
class Question:
    """`check(ask, rng, marks)` gives `points` in parts; `answer` is the name of the function the student writes."""

    answer: str
    points: float
    check: Callable
    autograd: bool = True  # whether the answer may use it


@dataclass(frozen=True)
class Misconception:
    """A wrong formula with a name: `formula(*args)` in float64, None where it cannot be computed for these shapes."""

    code: str
    message: str
    formula: Callable


@dataclass
class Trial:
    """One call: its arguments, the right answers (float64), and what came back."""

    args: tuple
    right: tuple
    tolerance: float
    reply: Reply


def exercises() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules([os.path.dirname(__file__)]) if m.name.startswith("ex"))


def load(name: str):
    """The module of an exercise. Raises `GradingError` listing the exercises there are."""
    if name not in exercises():
        raise GradingError(f"no exercise {name!r}; there is {', '.join(exercises())}")
    return importlib.import_module(f"{__package__}.{name}")


class Ask:
    """Calls one answer with copies of the arguments and keeps the seeds reproducible."""

    def __init__(self, answers, answer: str, rng: np.random.Generator):
        self.answers, self.answer, self.rng = answers, answer, rng

    def __call__(self, *args) -> Reply:
        # clone() keeps the strides, so a transposed input arrives transposed.
        copies = [arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in args]
        reply = self.answers.call(self.answer, copies, int(self.rng.integers(2**31)))
        if reply.outcome == "missing":
            raise Feedback("missing", missing(self.answer, reply.text))
        if reply.outcome == "shortcut":
            raise Feedback("shortcut", shortcut(self.answer, reply.text))
        if reply.error == "NotImplementedError":
            raise Feedback("not_started", f"Not written yet: replace the line that raises by your {self.answer}.")
        return reply

    def trial(self, args: tuple, right: Callable, tolerance: float | None = None) -> Trial:
        """Asks for `args` and computes `right(*args)` on float64 copies."""
        wide = tuple(a.double() if isinstance(a, torch.Tensor) else a for a in args)
        expected = right(*wide)
        expected = expected if isinstance(expected, tuple) else (expected,)
        return Trial(args, expected, tolerance or TOLERANCE[args[0].dtype], self(*args))


def missing(answer: str, text: str) -> str:
    if text == "absent":
        return f"There is no function {answer}. Define it under exactly this name, and run its cell."
    return f"{answer} is {text}, not a function. Did a later line use the same name for something else?"


def shortcut(answer: str, what: str) -> str:
    return f"{answer} uses {what}, which does what the question asks you to write. Write it with means, sums and roots."


def shapes(args: tuple) -> str:
    tensors = [f"{tuple(a.shape)} {str(a.dtype).removeprefix('torch.')}" for a in args if isinstance(a, torch.Tensor)]
    return f"called with {tensors[0]} as its first argument"


def output(trial: Trial, index: int, label: str) -> torch.Tensor:
    """Output `index` of a trial as float64, or `Feedback` on what is formally wrong with it."""
    reply, right, where = trial.reply, trial.right, shapes(trial.args)
    if reply.outcome == "raised":
        raise Feedback("raised", f"Your function raised {reply.error} ({one_line(reply.text)}) when {where}.")
    if len(right) > 1 and len(reply.values) != len(right):
        if [v.type for v in reply.values] == ["NoneType"]:
            raise Feedback("returned_nothing", "Your function returned None. Is the return statement missing?")
        raise Feedback("wrong_count", f"Return {len(right)} tensors; yours returned {len(reply.values)}.")
    if len(right) == 1 and reply.is_tuple:
        raise Feedback("wrong_type", f"Return one tensor, not a tuple or list of {len(reply.values)}.")
    value, dtype = reply.values[index], str(trial.args[0].dtype).removeprefix("torch.")
    if value.type == "NoneType":
        raise Feedback("returned_nothing", "Your function returned None. Is the return statement missing?")
    if value.type != "tensor":
        advice = " torch.from_numpy turns an array into one." if "numpy" in value.type else ""
        raise Feedback("wrong_type", f"{label} has to be a torch.Tensor; yours is a {one_line(value.type)}.{advice}")
    expected = tuple(right[index].shape)
    if value.shape != expected:
        raise Feedback("wrong_shape", f"{label} has shape {value.shape}; it has to be {expected} when {where}.")
    if value.dtype != dtype:
        raise Feedback(
            "wrong_dtype",
            f"{label} is {one_line(value.dtype)} although x is {dtype}. Something in between is created with a fixed "
            "type, for instance torch.zeros(…) without dtype=x.dtype.",
        )
    if not np.isfinite(value.array).all():
        bad = "NaN" if np.isnan(value.array).any() else "infinity"
        raise Feedback("nan", f"{label} holds {bad} when {where}. Which root or division can go wrong?")
    return torch.from_numpy(value.array).double()


def one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def off(got: torch.Tensor, right: torch.Tensor) -> float:
    """Largest error, relative to the size of the answer where that is above 1."""
    return float((got - right).abs().max() / (1 + right.abs().max()))


def judge(trials: list[Trial], index: int, label: str, misconceptions: list[Misconception], describe: Callable) -> None:
    """Returns when output `index` is right in every trial; else raises the most telling `Feedback` there is.

    `describe(got, trial)` says something true and useful about a wrong answer that no misconception explains.
    """
    formal, judged = None, []
    for trial in trials:
        try:
            got = output(trial, index, label)
            judged.append((trial, got, off(got, trial.right[index]) <= trial.tolerance))
        except Feedback as feedback:
            formal = formal or feedback
    wrong = [(trial, got) for trial, got, right in judged if not right]
    if wrong:
        named = [m for m in misconceptions if all(explains(m, trial, got) for trial, got, _ in judged)]
        if named:
            raise Feedback(named[0].code, named[0].message)
    if formal:
        raise formal
    if wrong:
        trial, got = wrong[0]
        if all(off(got, trial.right[index]) < 1e-4 for trial, got in wrong):
            raise Feedback(
                "precision_lost",
                f"{label} is right to about five digits only, for float64 input. Something in between is float32.",
            )
        raise Feedback("unknown", f"{describe(got, trial)} (Your function was {shapes(trial.args)}.)")


def explains(misconception: Misconception, trial: Trial, got: torch.Tensor) -> bool:
    wide = [a.double() if isinstance(a, torch.Tensor) else a for a in trial.args]
    try:
        formula = misconception.formula(*wide)
    except RuntimeError:  # this mistake does not fit these shapes, so it cannot have given this answer
        return False
    return formula.shape == got.shape and off(got, formula) <= max(trial.tolerance, 1e-6)


def changed(trial: Trial) -> bool:
    """Whether a tensor argument is no longer what was handed over."""
    before = [a for a in trial.args if isinstance(a, torch.Tensor)]
    return any(
        after.array is None or after.shape != tuple(arg.shape) or not np.array_equal(after.array, arg.numpy())
        for arg, after in zip(before, trial.reply.inputs)
    )


def run(name: str, question: Question, answers, seed: int) -> Result:
    """Judges one question with inputs drawn from `seed`. Only what the answers' process does (dying, never ending) is
    raised; what the student's function does is in the result."""
    marks = Marks()
    try:
        found = answers.shortcut(question.answer, question.autograd)
        if found and found != UNREAD:
            raise Feedback("shortcut", shortcut(question.answer, found))
        rng = np.random.default_rng([seed, *name.encode()])
        ask = Ask(answers, question.answer, rng)
        question.check(ask, rng, marks)
        if found == UNREAD:  # a function is there all the same
            marks.points = 0
            raise Feedback("unread", f"{question.answer} works, but its code is nowhere to be read. Write it with def in a cell.")
    except Feedback as feedback:
        marks.feedback.insert(0, feedback)
    if not marks.feedback:
        return Result(name, marks.points, question.points, "ok")
    said = {f.message: f for f in marks.feedback}  # parts often fail for the same reason: say it once
    message = "\n".join(list(said)[:2])
    return Result(name, marks.points, question.points, "wrong", marks.feedback[0].code, message)


class NotebookCheck:
    """What `exercise("ex01", globals())` returns: call it with a question, or with nothing for all of them.

    Every call draws fresh inputs. With BNCOURSE_STRICT=1 a wrong answer raises AssertionError instead.
    """

    def __init__(self, name: str, namespace: dict):
        self.module, self.answers = load(name), NamespaceAnswers(namespace)

    @cached_property
    def questions(self) -> dict:
        return self.module.QUESTIONS

    def __call__(self, question: str | None = None):
        if question is not None and question not in self.questions:
            raise ValueError(f"no question {question!r}; there is {', '.join(self.questions)}")
        seed = int.from_bytes(os.urandom(4))
        names = list(self.questions) if question is None else [question]
        results = Results(run(name, self.questions[name], self.answers, seed) for name in names)
        if os.environ.get("BNCOURSE_STRICT") == "1":
            failed = [str(r) for r in results if r.status != "ok"]
            assert not failed, "\n".join(failed)
        return results if question is None else results[0]
