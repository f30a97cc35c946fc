"""The machinery every exercise shares: draw inputs, ask the student's function, compare, name the misconception.

A check is public and stores no outputs. It draws fresh inputs, computes the right answer in float64 and compares. Only
when an answer is wrong does it look for the reason: it tries the *named wrong formulas* of the question on the same
inputs, and when one of them gives the student's numbers, that misconception is what the feedback is about.
"""

import importlib
import os
import pkgutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from .calls import NamespaceAnswers, Reply, Value, hand_over, is_number, tensors_in
from .feedback import Feedback, GradingError, Marks, Result, Results
from .shortcuts import Rules

VALUE = Rules(anything=True)
TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-9}


@dataclass(frozen=True)
class Question:
    """`check(ask, rng, marks)` gives `points` in parts. `answer` is the name the student's answer goes by: a function,
    that keeps to `rules` while it is called, or (with `rules=VALUE`) a variable that holds numbers or words."""

    answer: str
    points: float
    check: Callable
    rules: Rules = Rules()


@dataclass(frozen=True)
class Written:
    """A short text in the variable `answer`, read by a person. `rubric`: what gives how many points. `words`: fewest, most."""

    answer: str
    rubric: dict[str, float]
    words: tuple[int, int] = (30, 250)
    rules = VALUE

    @property
    def points(self) -> float:
        return sum(self.rubric.values())


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
    """Calls one answer with copies of the arguments, or reads its value, and keeps the seeds reproducible."""

    def __init__(self, answers, answer: str, rng: np.random.Generator, rules: Rules = Rules()):
        self.answers, self.answer, self.rng, self.rules = answers, answer, rng, rules
        self.gradients = 0  # that torch has computed in the calls so far

    def __call__(self, *args, of: str = "") -> Reply:
        """`of`: the name of another function of the student's."""
        name = of or self.answer
        reply = self.answers.call(name, list(args), int(self.rng.integers(2**31)), self.rules)
        self.gradients += reply.gradients
        if reply.outcome == "missing":
            raise Feedback("missing", missing(name, reply.text))
        if reply.outcome == "shortcut":
            raise Feedback("shortcut", shortcut(name, reply.text))
        if reply.error == "NotImplementedError" and not reply.text.startswith(("Cannot copy", "Could not run")):  # torch has those
            raise Feedback("not_started", f"Not written yet: replace the line that raises by your {name}.")
        return reply

    def value(self, of: str = ""):
        """The value of a variable as plain data (see `Value.data`), or `Feedback` when there is none."""
        name = of or self.answer
        reply = self.answers.value(name)
        if reply.outcome == "missing":
            raise Feedback("missing", f"There is no {name}. Give your answer exactly this name, and run its cell.")
        (value,) = reply.values[:1] or [None]
        if value is None or value.type in ("Ellipsis", "NoneType"):
            raise Feedback("not_started", f"Not answered yet: give {name} a value.")
        try:
            return value.data()
        except TypeError as error:
            raise Feedback("wrong_type", f"{name} is, or holds, a {one_line(str(error))}; plain numbers, words or lists are asked for.") from None  # fmt: skip

    def number(self, of: str = "") -> float:
        """The value of a variable as one finite number."""
        got = self.value(of)
        if isinstance(got, torch.Tensor) and got.numel() == 1:
            got = got.item()
        if not is_number(got):
            raise Feedback("wrong_type", f"{of or self.answer} has to be one number.")
        return float(got)

    def trial(self, args: tuple, right: Callable, tolerance: float | None = None) -> Trial:
        """Asks for `args` and computes `right(*args)` on float64 copies."""
        expected = right(*widened(args))
        expected = tuple(expected) if isinstance(expected, (tuple, list)) else (expected,)
        return Trial(args, expected, tolerance or TOLERANCE[first_dtype(args)], self(*args))


def widened(args) -> tuple:
    """Copies of the arguments with every float tensor in float64."""

    def wide(arg):
        if isinstance(arg, torch.Tensor):
            return arg.double() if arg.is_floating_point() else arg
        if isinstance(arg, dict):
            return {key: wide(item) for key, item in arg.items()}
        return type(arg)(wide(item) for item in arg) if isinstance(arg, (list, tuple)) else hand_over(arg)

    return wide(tuple(args))


def first_dtype(args) -> torch.dtype:
    return next((t.dtype for t in tensors_in(args) if t.is_floating_point()), torch.float64)


def missing(answer: str, text: str) -> str:
    if text == "absent":
        return f"There is no function {answer}. Define it under exactly this name, and run its cell."
    return f"{answer} is {text}, not a function. Did a later line use the same name for something else?"


def shortcut(answer: str, what: str) -> str:
    return f"{answer} uses {what}, which is not allowed here: it does the work that the question asks you to write out."


def hint(answer: str) -> str:
    return f"{answer} seems to need what show(…) gives back, and show does nothing when the notebook is graded. Look at what it shows, and write that down yourself."  # fmt: skip


def shapes(args: tuple) -> str:
    tensors = [f"{tuple(a.shape)} {str(a.dtype).removeprefix('torch.')}" for a in tensors_in(args)]
    return f"called with {tensors[0]} as its first {'argument' if isinstance(args[0], torch.Tensor) else 'tensor'}" if tensors else "called"


def output(trial: Trial, index: int, label: str) -> torch.Tensor:
    """Output `index` of a trial as float64, or `Feedback` on what is formally wrong with it."""
    reply, right, where = trial.reply, trial.right, shapes(trial.args)
    if reply.outcome == "raised":
        raise Feedback("raised", f"Your function raised {reply.error} ({one_line(reply.text)}) when {where}.")
    if len(right) > 1 and not reply.is_tuple and reply.values[0].array is not None and len(reply.values[0].shape) > right[0].dim():
        # One tensor that holds them all can be unpacked like a tuple.
        one = reply.values[0]
        reply = replace(reply, values=[replace(one, shape=one.shape[1:], array=part) for part in one.array])
    if len(right) > 1 and len(reply.values) != len(right):
        if [v.type for v in reply.values] == ["NoneType"]:
            raise Feedback("returned_nothing", "Your function returned None. Is the return statement missing?")
        if "numpy" in reply.values[0].type and not reply.is_tuple:
            raise Feedback("wrong_type", f"Your function returned one {one_line(reply.values[0].type)}; return {len(right)} tensors. torch.from_numpy turns an array into one.")  # fmt: skip
        raise Feedback("wrong_count", f"Return {len(right)} things; yours returned {len(reply.values)}.")
    value = only_one(reply, right[0].dim()) if len(right) == 1 else reply.values[index]
    dtype = str(first_dtype(trial.args)).removeprefix("torch.")
    if right[index].dim() == 0 and one_number(value) is not None:
        value = Value("tensor", "", (), np.array(one_number(value)))
    if value.type == "NoneType":
        raise Feedback("returned_nothing", "Your function returned None. Is the return statement missing?")
    if value.type != "tensor":
        advice = " torch.from_numpy turns an array into one." if "numpy" in value.type else ""
        raise Feedback("wrong_type", f"{label} has to be a torch.Tensor; yours is a {one_line(value.type)}.{advice}")
    expected = tuple(right[index].shape)
    if value.shape != expected:
        raise Feedback("wrong_shape", f"{label} has shape {value.shape}; it has to be {expected} when {where}.")
    if value.dtype not in (dtype, ""):
        raise Feedback(
            "wrong_dtype",
            f"{label} is {one_line(value.dtype)} although the input is {dtype}. Something in between is created with a fixed "
            "type, for instance torch.zeros(…) without dtype=x.dtype, or you converted with .double() and did not convert back "
            "(`.to(x.dtype)`).",
        )
    if value.array is None:
        raise Feedback("wrong_type", f"{label} has to be an ordinary, dense tensor of a sensible size.")
    if not np.isfinite(value.array).all():
        bad = "NaN" if np.isnan(value.array).any() else "infinity"
        raise Feedback("nan", f"{label} holds {bad} when {where}. Which root or division can go wrong?")
    return torch.from_numpy(value.array).double()


def one_number(value: Value) -> float | None:
    """A number, or a tensor of one element: nobody loses a point for that."""
    if value.array is not None and value.array.size == 1 and value.dtype.startswith("float"):
        return float(value.array.reshape(()))
    return float(value.plain) if type(value.plain) in (int, float) else None


def only_one(reply: Reply, axes: int) -> Value:
    """The one thing that was returned; a list of numbers is as good as a tensor of one axis."""
    if not reply.is_tuple:
        return reply.values[0]
    numbers = [one_number(value) for value in reply.values]
    if axes != 1 or not numbers or None in numbers:
        raise Feedback("wrong_type", f"Return one tensor, not a tuple or list of {len(reply.values)}.")
    return Value("tensor", "", (len(numbers),), np.array(numbers, dtype=np.float64))


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
    if formal and formal.code == "wrong_count":  # where the count happens to fit, the numbers are no answer either
        raise formal
    wrong = [(trial, got) for trial, got, right in judged if not right]
    if wrong:
        named = [m for m in misconceptions if all(explains(m, trial, got) for trial, got, _ in judged)]
        if named:
            raise Feedback(named[0].code, named[0].message)
    if formal:
        raise formal
    if wrong:
        trial, got = wrong[0]
        digits = max(off(got, trial.right[index]) for trial, got in wrong)
        if digits < 1e-6 or digits < 1e-4 and all(torch.equal(got, got.float().double()) for _, got in wrong):
            raise Feedback(
                "precision_lost",
                f"{label} is right to some digits only, for float64 input. Something in between is float32.",
            )
        if digits < 1e-4:
            raise Feedback(
                "small_constant",
                f"{label} is right to four or five digits, and float64 can do far better. Is there a small constant of your own "
                "in it, such as 1e-5 against a division by 0? It belongs only where the question puts it.",
            )
        where = f" (Your function was {shapes(trial.args)}.)" if tensors_in(trial.args) else ""
        raise Feedback("unknown", describe(got, trial) + where)


def explains(misconception: Misconception, trial: Trial, got: torch.Tensor) -> bool:
    try:
        formula = misconception.formula(*widened(trial.args))
    except (RuntimeError, IndexError):  # this mistake does not fit these shapes, so it cannot have given this answer
        return False
    return formula.shape == got.shape and off(got, formula) <= max(trial.tolerance, 1e-6)


def changed(trial: Trial) -> bool:
    """Whether a tensor argument is no longer what was handed over."""
    before = tensors_in(trial.args)
    return any(
        after.array is None or after.shape != tuple(arg.shape) or not np.array_equal(after.array, arg.numpy())
        for arg, after in zip(before, trial.reply.inputs)
    )


def judge_number(got: float, right: float, within: float, mistakes: list[tuple], otherwise: str) -> None:
    """Returns when `got` is within `within` of `right`; else raises the `Feedback` of the first of `mistakes` (code, the
    number it leads to, message) that explains `got`, or `otherwise`."""
    if abs(got - right) <= within:
        return
    for code, number, message in mistakes:
        if abs(got - number) <= within:
            raise Feedback(code, message)
    raise Feedback("unknown", otherwise)


def choose(got, right: str, sayings: dict[str, str]) -> None:
    """Returns when the word `got` is `right`. `sayings`: what to say to each wrong choice; its key is the misconception."""
    options = sorted([right, *sayings])
    if not isinstance(got, str) or got.strip().lower() not in options:
        raise Feedback("wrong_type", f"Answer with one of {', '.join(map(repr, options))}.")
    if got.strip().lower() != right:
        raise Feedback(got.strip().lower(), sayings[got.strip().lower()])


def read_text(name: str, question: Written, ask: Ask) -> Result:
    """A written answer can be missing or of the wrong length; what it is worth is for a person to say."""
    text = ask.value()
    if not isinstance(text, str):
        raise Feedback("wrong_type", f"{question.answer} has to be text, in quotes.")
    count, (fewest, most) = len(text.split()), question.words
    if not count:
        raise Feedback("not_started", f"Not answered yet: write your text into {question.answer}.")
    if count < fewest:
        raise Feedback("too_short", f"{count} words; {fewest} to {most} are asked for. What have you seen that supports it?")
    if count > most:
        raise Feedback("too_long", f"{count} words; {fewest} to {most} are asked for. Which sentence would not be missed?")
    rubric = "; ".join(f"{what} ({points:g})" for what, points in question.rubric.items())
    return Result(name, 0, question.points, "pending", "", f"{count} words, for a person to read. Points are given for: {rubric}.", text)


def run(name: str, question, answers, seed: int) -> Result:
    """Judges one question with inputs drawn from `seed`. Only what the answers' process does (dying, never ending) is
    raised; what the student's function does is in the result."""
    marks = Marks()
    try:
        rng = np.random.default_rng([seed, *name.encode()])
        ask = Ask(answers, question.answer, rng, question.rules)
        if isinstance(question, Written):
            return read_text(name, question, ask)
        with torch.inference_mode(False), torch.enable_grad():  # whatever a cell has left switched off
            question.check(ask, rng, marks)
    except Feedback as feedback:
        marks.feedback.insert(0, feedback)
    hints = [hint(question.answer)] if answers.leans_on_show(question.answer) else []
    if not marks.feedback:
        return Result(name, marks.points, question.points, "ok", message=" ".join(["Right.", *hints]))
    if any(feedback.code == "shortcut" for feedback in marks.feedback):
        marks.points = 0.0
    said = {f.message: f for f in marks.feedback}  # parts often fail for the same reason: say it once
    message = "\n".join([*list(said)[:2], *hints])
    return Result(name, marks.points, question.points, "wrong", marks.feedback[0].code, message)


FREE_TRIES, LONGEST_WAIT = 3, 60  # seconds
tries: Counter = Counter()  # wrong values so far, by exercise and question


def guarded(key: tuple[str, str], result: Result) -> Result:
    """A wrong value as a notebook shows it: without the points of its parts, and later with every try. A loop could otherwise
    find the value without a thought."""
    if result.status != "wrong" or result.code in ("missing", "not_started"):
        return result
    tries[key] += 1
    time.sleep(min(LONGEST_WAIT, 2 ** (tries[key] - FREE_TRIES - 1)) if tries[key] > FREE_TRIES else 0)
    wait = f" Each further try takes longer, up to {LONGEST_WAIT} seconds: think first." if tries[key] >= FREE_TRIES else ""
    return replace(result, points=0, code="wrong", open=True, message=result.message.partition("\n")[0] + wait)


class NotebookCheck:
    """What `exercise("ex01", globals())` returns: call it with a question, or with nothing for all of them.

    Every call draws fresh inputs; a wrong value takes longer from try to try. With BNCOURSE_STRICT=1 a wrong answer raises AssertionError instead.
    """

    def __init__(self, name: str, namespace: dict):
        self.name, self.module, self.answers = name, load(name), NamespaceAnswers(namespace)

    @cached_property
    def questions(self) -> dict:
        return self.module.QUESTIONS

    def __call__(self, question: str | None = None):
        if question is not None and question not in self.questions:
            raise ValueError(f"no question {question!r}; there is {', '.join(self.questions)}")
        seed = int.from_bytes(os.urandom(4))
        names = list(self.questions) if question is None else [question]
        results = Results(self.one(name, seed) for name in names)
        if os.environ.get("BNCOURSE_STRICT") == "1":
            if failed := [str(r) for r in results if r.status not in ("ok", "pending")]:
                raise AssertionError("\n".join(failed))  # an assert would not be there under python -O
        return results if question is None else results[0]

    def one(self, name: str, seed: int) -> Result:
        question, result = self.questions[name], run(name, self.questions[name], self.answers, seed)
        return guarded((self.name, name), result) if question.rules == VALUE else result
