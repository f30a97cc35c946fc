"""A study: a design, what is measured of it, claims as expressions of that, the run, and what it says.

    study = Study(lab, norm=["none", "batch"], layers=8, lr=0.1, steps=300, record=[0, 50, 300], seeds=12)  # a list: a factor
    accuracy = Measure("train_accuracy", "training accuracy", unit="points")
    study.claim("bn-faster", accuracy("batch", 50) - accuracy("none", 50) > 0.05, "Batch norm trains faster.", "folklore")
    study.run()                                     # a claim after this line is refused
    study.figure((accuracy, "step"), caption="...")
    study.judge("bn-faster")
    say(f"{study(accuracy('batch', 50)):.0%}")      # the same mean as on the card, because it is the same expression

Card, table, prose and description of a figure cannot disagree: they are all computed from one ``Quantity``."""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape

import numpy as np
import pandas as pd
from torch import nn

from bncourse import claims, data, figures, nets
from bncourse.claims import Claim, Interval, Verdict, VerdictChanged, sentence
from bncourse.figures import INITS, NAMES, Measured, allow, say
from bncourse.train import train
from bncourse.widgets import outcome, question

SIZES = ("steps", "batch", "layers", "width")  # what another scale may have otherwise, and the question stays the same
PLACES = ("step", "layer")  # what a frame of `train` may tell apart besides the factors
OPTIONS = ("weight_decay", "clip", "schedule", "precision", "test")  # train's, passed on as they are
KINDS = {"lr": "learning rate", "layers": "layers", "batch": "batch", "width": "width"}
# Of this process, in order: claims and questions, and which of them have been answered.
registered: dict[str, Claim] = {}
verdicts: dict[str, Verdict] = {}
asked: dict[str, str | None] = {}
carded: set[str] = set()


class StudyError(ValueError):
    """What was asked does not go with the design of the study; the message says what would."""


@dataclass(frozen=True)
class Quantity:
    """One number per seed, with its words and unit. ``-``, ``+``, ``*``, ``/`` compose numbers and words; ``>`` and ``<``
    predict. ``of(study)`` gives the numbers, ``check(study)`` raises where the design has no such thing."""

    name: str
    where: tuple[tuple[str | None, object], ...]
    of: Callable[["Study"], np.ndarray]
    check: Callable[["Study"], None]
    unit: str = ""
    ratio: bool = False
    at: Callable[..., "Quantity"] | None = None  # the same with more of its place picked

    @property
    def words(self) -> str:
        return ", ".join([self.name, *(_said(*place) for place in self.where)])

    def called(self, words: str) -> "Quantity":
        """The same numbers under a name of your own."""
        return replace(self, name=words, where=())

    def _with(self, other: "Quantity | float", compute: Callable, between: str, unit: str, ratio: bool = False) -> "Quantity":
        if not isinstance(other, Quantity):
            number = float(other)
            allow(number)
            # A multiple is of the same kind; what is left of a quotient is a difference, and may be negative.
            stays = self.ratio and compute in (np.multiply, np.divide)
            return replace(self, name=f"{self.words} {between} {claims.number(number)}", where=(), ratio=stays,
                           of=lambda study: compute(self.of(study), number), at=None)
        if self.name == other.name and self.where and other.where:
            common = [_said(*place) for place in self.where if place in other.where]
            mine, theirs = ([_said(*place) for place in one.where if place not in two.where]
                            for one, two in ((self, other), (other, self)))
            sides = (", ".join(side) or "in all" for side in (mine, theirs))
            words = ", ".join([self.name, *common, f" {between} ".join(sides)])
        else:
            words = f"{self.words}, {between} {other.words}"
        return combined(words, compute, self, other, unit=unit, ratio=ratio)

    def __sub__(self, other):
        return self._with(other, np.subtract, "minus", self.unit)

    def __add__(self, other):
        return self._with(other, np.add, "plus", self.unit)

    def __mul__(self, other):
        return self._with(other, np.multiply, "times", "", self.ratio)

    def __truediv__(self, other):
        return self._with(other, np.divide, "divided by", "", ratio=True)

    def __rsub__(self, number):
        return replace(self, name=f"{claims.number(number)} minus {self.words}", where=(), ratio=False,
                       of=lambda study: number - self.of(study), at=None)

    def __abs__(self):
        return replace(self, name=f"size of the {self.words}", where=(), of=lambda study: abs(self.of(study)), at=None)

    def _against(self, other: "Quantity | float", above: bool) -> "Prediction":
        if isinstance(other, Quantity):
            return Prediction(self - other, above, 0.0)
        allow(other)
        return Prediction(self, above, float(other))

    def __gt__(self, other: "Quantity | float") -> "Prediction":
        return self._against(other, above=True)

    def __lt__(self, other: "Quantity | float") -> "Prediction":
        return self._against(other, above=False)


@dataclass(frozen=True)
class Prediction:
    """A quantity is above, or below, a threshold."""

    quantity: Quantity
    above: bool
    threshold: float

    def claim(self, id: str, says: str, source: str, evidence=None) -> Claim:
        side = "above" if self.above else "below"
        return Claim(id, says, source, self.quantity.words, ratio=self.quantity.ratio, unit=self.quantity.unit,
                     evidence=evidence, **{side: self.threshold})

    def __bool__(self):
        raise TypeError("a prediction is true or false only after a run: chain two as two claims (a < q < b is not one)")


@dataclass(frozen=True)
class Measure:
    """A column of a study's frame. Called with a place it is a ``Quantity``: ``accuracy("batch", 50)``, ``shift("none",
    layer=8)``.

    A bare word is a level of one of the factors, a bare number a step; whatever else is named. A list of places, or a slice of
    steps, is averaged over.

    Args:
        words: what it is, as on an axis.
        unit: "points" and "%" print hundredths.
        over: what it is averaged over where nothing is picked, for example ("layer", "step").
        mean: "geometric" for what is compared by quotients; over places as over seeds."""

    column: str
    words: str
    unit: str = ""
    over: tuple[str, ...] = ()
    mean: str = "arithmetic"

    def __call__(self, *place: str | int, **where) -> Quantity:
        told = [("step", value) if isinstance(value, (int, list, slice)) else (None, value) for value in place]
        told += where.items()
        if len(names := [name for name, _ in told if name]) > len(set(names)):
            raise StudyError(f"{self.words}: {names} names a place twice")
        for _, value in told:
            allow(value)
        told = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in told)
        return Quantity(self.words, told, lambda study: study._numbers(self, told), lambda study: study._place(self, told),
                        self.unit, self.mean == "geometric", at=lambda **more: self(*place, **where | more))


def computed(words: str, values: Callable[["Study"], Sequence[float]], unit: str = "", ratio: bool = False,
             at_any_scale: bool = False) -> Quantity:
    """A quantity of your own: ``values(study)`` gives one number per seed, in order. ``at_any_scale``: it names no step and no
    layer of this study's, so it may be asked of a larger one."""
    def check(study):
        if study._from and not at_any_scale:
            raise StudyError(f"{words}: it is computed from steps, layers or runs of the page's own")
    return Quantity(words, (), lambda study: np.asarray(values(study), float), check, unit, ratio)


def combined(words: str, how: Callable[..., np.ndarray], *quantities: Quantity, unit: str = "", ratio: bool = False) -> Quantity:
    """``how`` of the numbers of several quantities, seed by seed: ``combined("the best of both", np.maximum, a, b)``."""
    def check(study):
        for quantity in quantities:
            quantity.check(study)
    return Quantity(words, (), lambda study: how(*(quantity.of(study) for quantity in quantities)), check, unit, ratio)


def at_best(factor: str, quantity: Quantity, by: Quantity | None = None, smallest: bool = False) -> Quantity:
    """The quantity at that level of the factor where it (or ``by``) is best on average over seeds, as somebody tuning would."""
    def best(study):
        means = {level: np.mean((by or quantity).at(**{factor: level}).of(study)) for level in study.factors[factor]}
        finite = {level: mean for level, mean in means.items() if np.isfinite(mean)}
        if not finite:
            raise StudyError(f"{quantity.words}: at no {factor} is it a finite number for every seed, so none is the best")
        return (min if smallest else max)(finite, key=finite.get)

    def check(study):
        if factor not in study.factors:
            raise StudyError(f"{factor!r} is not a factor of this study; there are {', '.join(study.factors) or 'none'}")
        if len(study.factors[factor]) < 2:
            raise StudyError(f"{quantity.words}: there is one {factor} only, and nothing to choose the best from")
        for level in study.factors[factor]:
            quantity.at(**{factor: level}).check(study)

    return Quantity(quantity.name, (*quantity.where, ("at best", factor)),
                    lambda study: quantity.at(**{factor: best(study)}).of(study), check, quantity.unit, quantity.ratio)


def _said(name: str | None, value) -> str:
    """One part of a place in words."""
    if name == "step":
        if isinstance(value, slice):
            return f"steps {value.start or 0} to {value.stop}" if value.stop else f"from step {value.start} on"
        if isinstance(value, tuple):
            return f"mean of steps {_listed(value)}"
        return f"after {value} step{'s' * (value != 1)}" if value else "at the start"
    if name == "at best":
        return f"at its best {KINDS.get(value, value)}"
    if isinstance(value, tuple):
        return f"{KINDS.get(name, name)}s {_listed(value)}"
    if isinstance(value, str):
        return NAMES.get(value) or INITS.get(value) or (f"{value} {name}" if name == "pixels" else value)
    if name in ("layers", "blocks"):
        return f"{value} {name}"
    if name is None:
        return f"{value:g}"
    return f"{KINDS.get(name, name.replace('_', ' '))} {value:g}"


def _listed(values: Sequence) -> str:
    texts = [f"{value:g}" if isinstance(value, (int, float)) else NAMES.get(value, value) for value in values]
    return ", ".join(texts[:-1]) + f" and {texts[-1]}" if len(texts) > 1 else texts[0]


def perceptron(data: data.Data, seed: int, *, norm: str = "none", layers: int = 8, width: int = 32, init: str | float = "he",
               activation: str = "relu", noise: Mapping | None = None, **options) -> nn.Module:
    """The network of most chapters: ``layers`` hidden layers of ``width`` units. ``noise`` is for the normalizers that have
    some."""
    sizes = (data.features, *[width] * layers, data.classes)
    return nets.mlp(sizes, norm, init, activation, seed, fused=True, **(noise or {} if "nois" in norm else {}), **options)


class Study:
    """Every combination of the levels of its factors, trained over the same seeds.

    Args:
        lab: data, device and seeds (``set_up``); seeds: how many.
        net: ``net(data, seed, **design)`` builds a network.
        each: ``each(seeds=, **design)`` gives the frame of one combination, with a column "seed", where that is not a training.
        at_once: factors of which ``each`` is given all levels together, as a list; its frame has a column for each.
        only: ``only(**levels)`` says which combinations to run, where not all.
        data: other than the lab's; record, probes: as in ``train``. A probe is copied for every combination.
        design: a value, or a list of values (then it is a factor, and a column of the frame), or a dictionary from names of
            levels to values. ``lr``, ``steps``, ``batch`` and ``train``'s options go to the training, ``pixels`` ("raw",
            "scaled") to the data, whatever else to ``net`` (or ``each``)."""

    def __init__(self, lab, *, seeds: int = 8, net: Callable = perceptron, each: Callable | None = None,
                 at_once: Sequence[str] = (), only: Callable | None = None, data=None, record: Sequence[int] | None = None,
                 probes: Sequence = (), **design) -> None:
        self.lab, self.seeds, self.frame = lab, lab.seeds(seeds), None
        self._given = dict(seeds=seeds, net=net, each=each, at_once=at_once, only=only, data=data, record=record,
                           probes=probes) | design
        self.at_once = tuple(at_once) if each else ("lr",)  # train takes all learning rates at once
        self.net, self.each, self.only, self.data, self.probes = net, each, only, data or lab.data, probes
        self.factors = {name: list(value) for name, value in design.items() if isinstance(value, (list, tuple, dict))}
        self.values = {name: value for name, value in design.items() if isinstance(value, dict)}
        self.fixed = {name: value for name, value in design.items() if name not in self.factors}
        steps = self.fixed.get("steps")
        self.record = sorted(set(record)) if record is not None else None if steps is None else [
            round(steps * i / 10) for i in range(11)]
        self.on = getattr(self.data, "name", "")  # the data
        self._from = None  # of a study asked at another scale: its own steps and layers
        self.claims: dict[str, tuple[Claim, Prediction]] = {}
        self.questions: dict[str, dict[str, list[Prediction]]] = {}
        for value in [len(self.seeds), *design.values(), *(self.record or ())]:
            allow(value)

    def but(self, **changes) -> "Study":
        """The same design with changes, as a study of its own."""
        return Study(self.lab, **self._given | changes)

    def claim(self, id: str, prediction: Prediction, says: str, source: str, evidence=None) -> None:
        """Write a claim down. Raises ``StudyError`` after the run, or where the design cannot answer it."""
        self._open(f"the claim {id!r}")
        if id in registered:
            raise StudyError(f"there is a claim {id!r} already: {registered[id].says}")
        prediction.quantity.check(self)
        registered[id] = prediction.claim(id, says, source, evidence)
        self.claims[id] = registered[id], prediction

    def predict(self, text: str, options: dict[str, Prediction | Sequence[Prediction]]) -> None:
        """Ask the reader. Each option is what would have to be measured for it to be right; ``reveal`` says which was."""
        self._open("the question")
        self.questions[text] = {}
        for option, predictions in options.items():
            self.questions[text][option] = [predictions] if isinstance(predictions, Prediction) else list(predictions)
            for prediction in self.questions[text][option]:
                prediction.quantity.check(self)
        asked[text] = None
        question(text, list(options))

    def _open(self, what: str) -> None:
        if self.frame is not None:
            raise StudyError(f"{what} comes after the run: what is predicted when the data are there is no prediction. Write it "
                             "above study.run(), or ask it of a new study with other seeds")

    def _ipython_display_(self) -> None:
        """A cell may end with `study.run()`: what the study says is shown by other calls."""

    def run(self) -> "Study":
        """Train, or compute, every combination. The frame has a column for each factor."""
        if self.frame is not None:
            raise StudyError("this study has been run; study.but(...) makes another")
        self.frame = pd.concat([self.part(levels) for levels in self.combinations(apart_from=self.at_once)], ignore_index=True)
        return self

    def combinations(self, apart_from: Sequence[str] = ()) -> list[dict]:
        """The levels of the factors, in order, but for those that ``only`` leaves out."""
        factors = {name: levels for name, levels in self.factors.items() if name not in apart_from}
        found = [dict(zip(factors, levels)) for levels in itertools.product(*factors.values())]
        if self.only is None:
            return found
        asked = [name for name in self.factors if name not in self.at_once]
        return [levels for levels in found if self.only(**{name: levels[name] for name in asked})]

    def part(self, levels: dict, seeds: Sequence[int] | None = None) -> pd.DataFrame:
        """The frame of one combination; by default for all seeds, and for all levels of the factors that it does not name."""
        given = self.fixed | {name: self.values.get(name, {}).get(level, level) for name, level in levels.items()}
        seeds = self.seeds if seeds is None else seeds
        if self.each is not None:
            together = {name: self.factors[name] for name in self.at_once}
            return self.each(seeds=seeds, **given, **together).assign(**levels)
        images = data.scaled(self.data) if given.pop("pixels", "raw") == "scaled" else self.data
        lrs = [given.pop("lr", 0.1)] if "lr" in given or "lr" not in self.factors else self.factors["lr"]
        options = {name: given.pop(name) for name in OPTIONS if name in given}
        steps, batch_size = given.pop("steps"), given.pop("batch", 64)
        build = partial(self.net, images, **given)
        return train(lambda seed: build(seed), images, seeds=seeds, lrs=lrs, steps=steps, batch_size=batch_size,
                     record=self.record, probes=copy.deepcopy(list(self.probes)),
                     labels={name: level for name, level in levels.items() if name != "lr"}, **{"test": False} | options)

    def judge(self, *ids: str, expect: str = "supported", card: bool = True) -> None:
        """Give the verdicts on these claims and show their cards. Raises ``VerdictChanged`` where one is not as expected."""
        for id in ids:
            if id not in self.claims:
                raise StudyError(f"this study has no claim {id!r}; it has {', '.join(self.claims) or 'none'}")
            claim, prediction = self.claims[id]
            if card:
                carded.add(id)
            verdicts[id] = claim.judge(prediction.quantity.of(self._ran()), expect, card)

    def note(self, *ids: str, expect: str = "supported") -> None:
        """Judge as ``judge`` does, without cards: these stand in the closing table alone."""
        self.judge(*ids, expect=expect, card=False)

    def reveal(self, answer: str, text: str | None = None) -> None:
        """Say which option the measurement chose. Raises ``VerdictChanged`` if it is another, or not that one alone."""
        [text] = [text] if text else [one for one in self.questions if asked[one] is None][-1:] or [None]
        if text not in self.questions:
            raise StudyError("there is no open question of this study to answer")
        if answer not in self.questions[text]:
            raise StudyError(f"{answer!r} is not one of the options {list(self.questions[text])}")
        self._ran()
        right = [option for option, predictions in self.questions[text].items() if all(
            one.claim("question", "", "").verdict(one.quantity.of(self)).word == "supported" for one in predictions)]
        if right != [answer] and claims.strict:
            raise VerdictChanged(f"the question {text!r} says that the answer is {answer!r}; measured is {right or 'none of them'}")
        asked[text] = answer
        outcome(text, answer if right == [answer] else " or ".join(right) or "none of these")

    def __call__(self, quantity: Quantity) -> Measured:
        """The mean over seeds, for prose. Raises ``StudyError`` where some seed gave no finite number: count those instead."""
        numbers = self.per_seed(quantity)
        if not np.isfinite(numbers).all():
            raise StudyError(f"{quantity.words}: {np.isfinite(numbers).sum()} of {len(numbers)} seeds gave a finite number; a "
                             "mean would hide that, so say how many did")
        return Measured(self.interval(quantity).mean)

    def per_seed(self, quantity: Quantity) -> np.ndarray:
        """One number per seed."""
        quantity.check(self)
        return quantity.of(self._ran())

    def interval(self, quantity: Quantity) -> Interval:
        return claims.interval(self.per_seed(quantity), quantity.ratio)

    def count(self, prediction: Prediction) -> str:
        """How many seeds are on the predicted side, for prose: "3 of 12"."""
        numbers = self.per_seed(prediction.quantity)
        inside = numbers > prediction.threshold if prediction.above else numbers < prediction.threshold
        return f"{Measured(inside.sum())} of {Measured(len(numbers))}"

    def rows(self, measure: Measure, **where) -> pd.DataFrame:
        """The rows of the frame at a place, one for each of what it leaves open, without those of which the column says
        nothing."""
        return self._rows(measure, self._place(measure, tuple(where.items()), whole=False))

    def _rows(self, measure: Measure, place: dict) -> pd.DataFrame:
        rows = self._ran().frame
        if unknown := [name for name in place if name not in rows]:
            raise StudyError(f"{measure.words}: no {unknown[0]} is told apart in this frame")
        there = [_matches(rows[name], value) for name, value in place.items()]
        rows = rows[np.logical_and.reduce(there)] if there else rows
        open_ = list(dict.fromkeys(name for name in (*self.factors, "seed", *PLACES, *measure.over) if name in rows))
        if "layer" in open_:
            # What is no property of a layer stands in the frame once for each.
            others = [name for name in open_ if name != "layer"]
            if rows.groupby(others, dropna=False)[measure.column].nunique(dropna=False).max() == 1:
                rows, open_ = rows.drop_duplicates(others).drop(columns="layer"), others
        # A place where no seed has a number is one where there is nothing to measure (a change before the first step).
        places = [name for name in open_ if name in PLACES or name in measure.over]
        if places and rows[measure.column].hasnans:
            rows = rows[rows[measure.column].notna().groupby([rows[name] for name in places], dropna=False).transform("any")]
        return rows

    def table(self, measure: Measure, rows: str, columns: str, spec: str = ".0%", **where) -> str:
        """Means over seeds by the levels of two factors, in Markdown."""
        heads = "".join(f" | {_said(columns, level)}" for level in self.factors[columns])
        lines = [f"| {heads} |", "|---" * (len(self.factors[columns]) + 1) + "|"]
        for level in self.factors[rows]:
            cells = "".join(f" | {self(measure(**{rows: level, columns: other}, **where)):{spec}}"
                            for other in self.factors[columns])
            lines.append(f"| {_said(rows, level)}{cells} |")
        return "\n".join(lines)

    def figure(self, *panels: tuple, by: str | None = None, caption: str, **where) -> None:
        """Curves over seeds with their intervals, one panel for each ``(measure, x)`` or ``(measure, x, options)``.

        Options are those of an axis ("yscale", "ylim", "title", …) and "where", what this panel picks beyond the others."""
        by = by or next(iter(self.factors))
        fig, axes = figures.panels(len(panels))
        for ax, (measure, x, *options) in zip(axes, panels):
            told = dict(options[0]) if options else {}
            rows = self.rows(measure, **where | told.pop("where", {}))
            figures.curves(ax, rows, measure.column, x, by, geometric=measure.mean == "geometric", labels=Said(by), **told)
            if "ylabel" not in told:
                ax.set_ylabel(measure.words)
        handles, names = axes[0].get_legend_handles_labels()
        if len(names) > 1 and not any(option.get("named") for _, _, *options in panels for option in options):
            fig.legend(handles, names, loc="outside upper center", ncol=2)
        figures.show(fig, caption=caption)

    def at(self, frame: pd.DataFrame, on: str, factors: Sequence[str], fixed: Mapping) -> "Study":
        """These very questions, asked of a run at another scale: of its frame, on these data, with its factors and what it held
        fixed. A step of this study means the same fraction of the training there, a layer the same fraction of the depth, and no
        look counts that is earlier than this study's first. A question about a level that there is not raises ``StudyError``."""
        frame = frame.assign(**{name: value for name, value in fixed.items() if name in self.factors and name not in frame})
        for name, value in fixed.items():
            if name in self.fixed and name not in SIZES and self.fixed[name] != value:
                raise StudyError(f"{name} is {value!r} at that scale, and {self.fixed[name]!r} here")
        for name in factors:
            if name in self.fixed:
                if frame[frame[name] == self.fixed[name]].empty:
                    raise StudyError(f"there is no {name} {self.fixed[name]!r} at that scale")
                frame = frame[frame[name] == self.fixed[name]]
            elif name not in self.factors:
                raise StudyError(f"pick one {name} of that scale: this study has none")
        steps, layers = self.fixed.get("steps", 0), self._ran().frame.get("layer", pd.Series([1])).max()
        first = self.record[0] / steps if self.record and steps else 0
        other = copy.copy(self)
        other.frame = frame[frame.step >= np.floor(first * frame.step.max())]
        other.seeds, other.record = sorted(frame.seed.unique()), sorted(other.frame.step.unique())
        other.factors = self.factors | {name: list(frame[name].unique()) for name in self.factors if name in frame}
        other.on, other._from = on, {"step": steps, "layer": layers}
        return other

    def _there(self, name: str, value):
        """A step or a layer of this study at the scale at which it is asked."""
        if isinstance(value, tuple):
            return tuple(dict.fromkeys(self._there(name, one) for one in value))
        if isinstance(value, slice):
            return slice(*(None if end is None else self._there(name, end) for end in (value.start, value.stop)))
        places = np.array(self.record if name == "step" else sorted(self.frame[name].dropna().unique()))
        first = 0 if name == "step" else 1
        part = (value - first) / max(self._from[name] - first, 1)
        wanted = first + part * (places[-1] - first)
        found = places[np.abs(places - wanted).argmin()]
        if abs(found - wanted) > max(1, 0.1 * places[-1]):
            raise StudyError(f"there is no look near {part:.0%} of the {'training' if name == 'step' else 'depth'} at that scale")
        return found.item()

    def _ran(self) -> "Study":
        if self.frame is None:
            raise StudyError("there is nothing to say yet: study.run() first")
        return self

    def _place(self, measure: Measure, told: tuple, whole: bool = True) -> dict:
        """Columns and values of a place. ``whole``: nothing may be left open but what the measure is averaged over."""
        place = {}
        for name, value in told:
            if name is None:
                holders = [factor for factor, levels in self.factors.items() if value in levels]
                if len(holders) != 1:
                    raise StudyError(f"{measure.words}: {value!r} is " + (f"a level of {', '.join(holders)}: name the one you mean"
                                     if holders else f"not a level of any factor; there are {self.factors}"))
                name = holders[0]
            if self._from and name in PLACES:
                value = self._there(name, value)
            values = value if isinstance(value, tuple) else (value,)
            if name in self.factors:
                if unknown := [one for one in values if one not in self.factors[name]]:
                    raise StudyError(f"{measure.words}: {name} is never {unknown[0]!r} here; its levels are {self.factors[name]}")
            elif name in self.fixed and name not in PLACES:
                if value != self.fixed[name]:
                    raise StudyError(f"{measure.words}: {name} is {self.fixed[name]!r} throughout this study, not {value!r}")
                continue
            elif name == "step" and self.record is not None and not isinstance(value, slice):
                if missing := [one for one in values if one not in self.record]:
                    raise StudyError(f"{measure.words}: step {missing[0]} is not recorded; recorded are {self.record}")
            elif name not in PLACES and name not in measure.over:
                raise StudyError(f"{measure.words}: this study has no {name!r}; it has {', '.join([*self.factors, *PLACES])}")
            place[name] = value
        if whole:
            open_ = [name for name, levels in self.factors.items()
                     if len(levels) > 1 and name not in place and name not in measure.over]
            if "step" not in place and "step" not in measure.over and self.record is not None and len(self.record) > 1:
                open_.append("step")
            if open_:
                raise StudyError(f"{measure.words}: pick {', '.join(open_)}, or name what it is averaged over (Measure(over=...))")
        return place

    def _numbers(self, measure: Measure, told: tuple) -> np.ndarray:
        place = self._place(measure, told)
        if measure.column not in self._ran().frame:
            raise StudyError(f"the frame has no column {measure.column!r}; it has {', '.join(self.frame.columns)}")
        rows = self._rows(measure, place)
        if rows.empty:
            raise StudyError(f"{measure.words}: there are no rows at {place}")
        averaged = [name for name in (*self.factors, *PLACES) if name in rows and rows[name].nunique() > 1]
        if left := [name for name in averaged if name not in measure.over and not isinstance(place.get(name), (tuple, slice))]:
            raise StudyError(f"{measure.words}: pick {', '.join(left)}, or name it in Measure(over=...)")
        column = rows[measure.column].astype(float)
        if measure.mean == "geometric":
            with np.errstate(divide="ignore", invalid="ignore"):
                column = np.log(column)
        means = column.groupby(rows["seed"]).agg(lambda values: values.mean(skipna=False)).sort_index()
        numbers = means.reindex(self.seeds).to_numpy(float)
        return np.exp(numbers) if measure.mean == "geometric" else numbers


def _matches(column: pd.Series, value) -> pd.Series:
    if isinstance(value, slice):
        return column.between(-np.inf if value.start is None else value.start, np.inf if value.stop is None else value.stop)
    return column.isin(value) if isinstance(value, tuple) else column == value


class Said(str):
    """A factor, of which ``get`` names a level, as a figure asks for it."""

    def get(self, level, default=None):
        return _said(self, level)


def know(*ids: str) -> None:
    """What the chapter found, a line for each of these claims."""
    say("\n".join(f"- {registered[id].says} **{sentence(verdicts[id].word)}**: {Measured.text(verdicts[id].effect_text())}."
                  for id in ids))


def closing() -> None:
    """The table of all claims of the chapter, and what the book's last chapter gathers.
    Raises StudyError: a claim that was not judged, or a question that was not answered."""
    if open_ := [id for id in registered if id not in verdicts]:
        raise StudyError(f"not judged: {', '.join(open_)}; a claim that was written down gets its verdict")
    if open_ := [text for text, answer in asked.items() if answer is None]:
        raise StudyError(f"not answered: {open_}; reveal(...) says what was measured")
    rows = "".join(map(_row, verdicts.values()))
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Verdict", "Claim", "Measured"))
    words = [v.word for v in verdicts.values()]
    tally = ", ".join(f"{words.count(word)} {word}" for word in claims.VERDICTS if word in words)
    claims.Shown(f'<details class="all-claims"><summary>{len(words)} claims: {tally}</summary><table class="claims">'
                 f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></details>",
                 "\n".join(v.text() for v in verdicts.values()), claims=[v.data() for v in verdicts.values()]).show()


def _row(v: Verdict) -> str:
    # The address of a claim is its card, if it has one.
    anchor = "" if v.claim.id in carded else f' id="claim-{escape(v.claim.id)}"'
    return (f'<tr{anchor} data-verdict="{v.word}"><td class="claim-verdict">{claims.SIGNS[v.word]} {v.word}</td>'
            f"<td>{escape(v.claim.says)}<br><small>{escape(sentence(v.claim.effect))}. Claim: {escape(v.claim.source)}.</small></td>"
            f"<td>{claims.picture(v, width=120)}<br>{escape(v.effect_text())}<br>"
            f"<small>predicted {escape(v.prediction_text())}; {v.seeds_text()}</small></td></tr>")
