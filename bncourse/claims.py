"""A claim is written down before the run and judged after it.

A chapter registers a ``Claim``: who said it, what is measured, and on which side of which threshold it should fall. The run
supplies one number per seed; the interval over seeds gives the verdict. Each chapter also says which verdict it was written
for. When the measurement stops agreeing, the notebook fails, because its prose has become false.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

VERDICTS = ("supported", "contradicted", "inconclusive")
MIN_SEEDS = 5

# Off when the reader runs a chapter on other data than it was written for: a new verdict is then a finding, not a fault.
strict = True

# The verdicts of this process by the id of their claim, the latest of each.
judged: dict[str, "Verdict"] = {}


class VerdictChanged(AssertionError):
    """The measurement no longer gives the verdict that the chapter was written for."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its confidence interval (Student's t); for ratios, both taken on logarithms."""

    mean: float
    low: float
    high: float
    seeds: int


def interval(values: Sequence[float], ratio: bool = False, level: float = 0.95) -> Interval:
    """The mean of one number per seed, with its ``level`` confidence interval.

    Raises:
        ValueError: fewer than two values, or one that is not finite (for a ratio: not positive).
    """
    from scipy import stats

    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval needs one number from each of at least 2 seeds, got shape {values.shape}")
    if not np.isfinite(values).all() or (ratio and (values <= 0).any()):
        bad = np.flatnonzero(~np.isfinite(values) | (ratio & (values <= 0))).tolist()
        raise ValueError(f"seeds number {bad} gave {values[bad].tolist()}; an average would hide that: "
                         "count such runs and report a rate instead")
    if ratio:
        values = np.log(values)
    mean, n = values.mean(), len(values)
    half = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n)
    ends = (mean, mean - half, mean + half)
    return Interval(*map(float, np.exp(ends) if ratio else ends), seeds=n)


def per_seed(frame, y: str, **where) -> np.ndarray:
    """One number per seed: column ``y`` of the rows that match ``where``, in order of seed, ready to subtract or divide.

    Raises:
        ValueError: no row, or more than one for some seed; names what still has to be picked.
    """
    rows = frame
    for column, value in where.items():
        rows = rows[rows[column] == value]
    counts = rows.groupby("seed").size()
    if counts.empty or counts.max() > 1:
        raise ValueError(f"{y} where {where}: {'no rows' if counts.empty else f'{counts.max()} rows for one seed'}; "
                         f"pick one value of each of {[c for c in ('norm', 'lr', 'step', 'layer') if c not in where]}")
    return rows.sort_values("seed")[y].to_numpy(dtype=float)


@dataclass(frozen=True)
class Claim:
    """A sentence that a measurement can contradict.

    Args:
        id: unique in the book, lower-case-with-dashes.
        says: the sentence, as somebody states it.
        source: who, where (figure, section).
        effect: what is measured, one number per seed, in words.
        above, below: give one: the claim predicts the effect on that side of this threshold.
        ratio: the effect is a quotient (its mean is geometric); otherwise a difference or a level.
        unit: printed behind the numbers; "points" and "%" print hundredths.
    """

    id: str
    says: str
    source: str
    effect: str
    above: float | None = None
    below: float | None = None
    ratio: bool = False
    unit: str = ""

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"claim {self.id!r}: predict above= or below= a threshold, exactly one of them")
        if not self.id or self.id != self.id.lower() or " " in self.id:
            raise ValueError(f"claim id {self.id!r}: use lower-case words joined by dashes")

    def judge(self, values: Sequence[float], expect: str = "supported") -> "Verdict":
        """Give the verdict on one number per seed: **supported** when the whole interval lies on the predicted side of the
        threshold, **contradicted** when it lies wholly on the other, else **inconclusive**. Shows the card.

        Raises:
            VerdictChanged: the verdict is not the one expected (after the card is shown).
            ValueError: fewer than five seeds, a value that is not finite (while ``strict``; otherwise that is inconclusive),
                or an unknown verdict expected.
        """
        if expect not in VERDICTS:
            raise ValueError(f"claim {self.id!r}: expect={expect!r}; a verdict is one of {', '.join(VERDICTS)}")
        values = list(values)
        if len(values) < MIN_SEEDS:
            raise ValueError(f"claim {self.id!r}: {len(values)} seeds; a verdict needs at least {MIN_SEEDS}")
        try:
            found = interval(values, self.ratio)
        except ValueError:
            if strict:
                raise
            # On other data than the chapter was written for, a run that blew up is a finding; the rest can still be read.
            found = Interval(math.nan, math.nan, math.nan, len(values))
        threshold = self.above if self.above is not None else self.below
        if found.low > threshold:
            word = "supported" if self.above is not None else "contradicted"
        elif found.high < threshold:
            word = "contradicted" if self.above is not None else "supported"
        else:
            word = "inconclusive"
        verdict = Verdict(self, word, found, expect, tuple(map(float, values)))
        judged[self.id] = verdict
        verdict.show()
        if word != expect and strict:
            raise VerdictChanged(
                f"claim {self.id!r} is {word} here ({verdict.effect_text()}, {found.seeds} seeds; predicted "
                f"{verdict.prediction_text()}), but this chapter was written for {expect!r}: its prose is no longer true. "
                "Find out what changed (data, seeds, versions, code), then change the chapter, not the threshold")
        return verdict


@dataclass(frozen=True)
class Verdict:
    """What ``Claim.judge`` found. ``word`` is the verdict, ``effect`` the interval, ``values`` one number per seed."""

    claim: Claim
    word: str
    effect: Interval
    expected: str
    values: tuple[float, ...] = field(repr=False)

    def effect_text(self) -> str:
        if math.isnan(self.effect.mean):
            return "no interval, because not every seed gave a finite number"
        mean, low, high = (self._number(x) for x in (self.effect.mean, self.effect.low, self.effect.high))
        return f"{mean} [{low}, {high}]{self._unit()}"

    def prediction_text(self) -> str:
        side, threshold = ("above", self.claim.above) if self.claim.above is not None else ("below", self.claim.below)
        return f"{side} {self._number(threshold)}{self._unit()}"

    def _unit(self) -> str:
        return {"": "×" if self.claim.ratio else "", "%": " %"}.get(self.claim.unit, f" {self.claim.unit}")

    def _number(self, x: float) -> str:
        return number(x * 100 if self.claim.unit in ("points", "%") else x)

    def show(self) -> None:
        from IPython.display import display

        display(self)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/html": self.html(), "text/plain": self.text()}

    def text(self) -> str:
        return (f"[{self.word}] {self.claim.says} ({self.claim.source})\n{self.claim.effect}: {self.effect_text()}; "
                f"predicted {self.prediction_text()}; {self.effect.seeds} seeds")

    def html(self) -> str:
        facts = {"Measured": self.claim.effect, "Effect": f"{self.effect_text()}, 95 % interval",
                 "Predicted": self.prediction_text(), "Seeds": str(self.effect.seeds)}
        rows = "".join(f"<div><dt>{name}</dt><dd>{escape(fact)}</dd></div>" for name, fact in facts.items())
        return (f'<div class="claim" data-claim-id="{escape(self.claim.id)}" data-verdict="{self.word}" '
                f'data-effect="{self.effect.mean:.6g}" data-low="{self.effect.low:.6g}" data-high="{self.effect.high:.6g}" '
                f'data-seeds="{self.effect.seeds}" id="claim-{escape(self.claim.id)}">'
                f'<p class="claim-verdict">{self.word.capitalize()}</p><p class="claim-says">{escape(self.claim.says)}</p>'
                f'<dl class="claim-facts">{rows}</dl><p class="claim-source">{escape(self.claim.source)}</p></div>')


def number(x: float) -> str:
    """Three significant digits, thousands separated, a real minus sign."""
    if x == 0 or not math.isfinite(x):
        text = f"{abs(x) if x == 0 else x:.0f}"  # Never a minus zero.
    elif abs(x) >= 1e6 or abs(x) < 1e-3:
        mantissa, exponent = f"{x:.2e}".split("e")
        text = f"{mantissa}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    else:
        rounded = float(f"{x:.2e}")  # Before counting digits: 9.996 has one decimal, because it is 10.0.
        text = f"{x:,.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"
    return text.replace("-", "−")
