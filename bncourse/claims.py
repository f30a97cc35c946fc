"""A claim is written down before the run and judged after it.

A claim says who said it, what is measured, and on which side of which threshold it should fall; the interval over seeds gives the
verdict. Where that is not the one that the chapter was written for, the notebook fails: its prose has become false."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape

import numpy as np
from scipy import special

VERDICTS = ("supported", "contradicted", "inconclusive")
SIGNS = {"supported": "✓", "contradicted": "✗", "inconclusive": "?"}
MIN_SEEDS = 5
NEAR = 2.5  # half-widths of the interval: within them, other seeds of the same networks may well give another word
MIME = "application/vnd.bncourse+json"  # what a chapter tells the build of the book, beside what it shows

# Off when the reader runs a chapter on other data than it was written for: a new verdict is then a finding, not a fault.
strict = True

# The verdicts of this process by the id of their claim, the latest of each.
judged: dict[str, "Verdict"] = {}


class Shown:
    """HTML for the page, the same in plain words, and what it tells the build of the book."""

    def __init__(self, html: str, plain: str = "", **told) -> None:
        self.html, self.plain, self.told = html, plain, told

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/html": self.html, "text/plain": self.plain} | ({MIME: self.told} if self.told else {})

    def show(self) -> None:
        from IPython.display import display
        display(self)


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
    Raises ValueError: fewer than two values, or one that is not finite (for a ratio: not positive)."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval needs one number from each of at least 2 seeds, got shape {values.shape}")
    if not (usable := _usable(values, ratio)).all():
        bad = np.flatnonzero(~usable).tolist()
        raise ValueError(f"seeds number {bad} gave {values[bad].tolist()}; an average would hide that: "
                         "count such runs and report a rate instead")
    values = np.log(values) if ratio else values
    mean, n = values.mean(), len(values)
    half = special.stdtrit(n - 1, (1 + level) / 2) * values.std(ddof=1) / math.sqrt(n)
    ends = (mean, mean - half, mean + half)
    return Interval(*map(float, np.exp(ends) if ratio else ends), seeds=n)


def _usable(values: np.ndarray, ratio: bool) -> np.ndarray:
    return np.isfinite(values) & ((values > 0) | (not ratio))


def per_seed(frame, y: str, **where) -> np.ndarray:
    """One number per seed: column ``y`` of the rows that match ``where``, in order of seed.
    Raises ValueError: no row, or more than one for some seed; names what still has to be picked."""
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
        says, source: the sentence, as somebody states it; who, where (figure, section).
        effect: what is measured, one number per seed, in words.
        above, below: give one: the claim predicts the effect on that side of this threshold.
        ratio: the effect is a quotient (its mean is geometric); otherwise a difference or a level.
        unit: printed behind the numbers; "points" and "%" print hundredths.
        evidence: for the map of the argument, (suspect, kind of evidence, "for" or "against"), if it has a place there."""

    id: str
    says: str
    source: str
    effect: str
    above: float | None = None
    below: float | None = None
    ratio: bool = False
    unit: str = ""
    evidence: tuple[str, str, str] | None = None

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"claim {self.id!r}: predict above= or below= a threshold, exactly one of them")
        if not self.id or self.id != self.id.lower() or " " in self.id:
            raise ValueError(f"claim id {self.id!r}: use lower-case words joined by dashes")

    @property
    def threshold(self) -> float:
        return self.below if self.above is None else self.above

    def verdict(self, values: Sequence[float], expect: str = "supported") -> "Verdict":
        """What one number per seed says: **supported** when the whole interval lies on the predicted side of the threshold,
        **contradicted** when it lies wholly on the other, else **inconclusive**. Seeds without a finite number (runs that blew
        up) are left out and counted; with fewer than five others the claim is inconclusive.
        Raises ValueError: fewer than five seeds, or an unknown verdict expected."""
        if expect not in VERDICTS:
            raise ValueError(f"claim {self.id!r}: expect={expect!r}; a verdict is one of {', '.join(VERDICTS)}")
        values = np.asarray(list(values), dtype=float)
        if len(values) < MIN_SEEDS:
            raise ValueError(f"claim {self.id!r}: {len(values)} seeds; a verdict needs at least {MIN_SEEDS}")
        finite = values[_usable(values, self.ratio)]
        word, found = "inconclusive", Interval(math.nan, math.nan, math.nan, len(finite))
        if len(finite) >= MIN_SEEDS:
            found = interval(finite, self.ratio)
            above, below = found.low > self.threshold, found.high < self.threshold
            if above or below:
                word = "supported" if above == (self.above is not None) else "contradicted"
        return Verdict(self, word, found, expect, tuple(map(float, values)), len(values) - len(finite))

    def judge(self, values: Sequence[float], expect: str = "supported", card: bool = True) -> "Verdict":
        """Give the ``verdict`` on one number per seed, and show it as a card unless told not to.
        Raises VerdictChanged: the verdict is not the one expected (after the card is shown). Where "inconclusive" is expected, a
        mean within 2.5 half-widths of the threshold is near enough. ValueError: as ``verdict``."""
        verdict = self.verdict(values, expect)
        judged[self.id] = verdict
        if card:
            verdict.show()
        if strict and not verdict.as_expected():
            raise VerdictChanged(
                f"claim {self.id!r} is {verdict.word} here ({verdict.effect_text()}, {verdict.effect.seeds} seeds; predicted "
                f"{verdict.prediction_text()}), but this chapter was written for {expect!r}: its prose is no longer true. Find "
                "out what changed (data, seeds, versions, code), then change the chapter, not the threshold")
        return verdict


@dataclass(frozen=True)
class Verdict:
    """What was found of a claim. ``word`` is the verdict, ``effect`` the interval, ``values`` one number per seed, ``left_out``
    how many of them are not finite."""

    claim: Claim
    word: str
    effect: Interval
    expected: str
    values: tuple[float, ...] = field(repr=False)
    left_out: int = 0

    def as_expected(self) -> bool:
        if self.word == self.expected or self.expected != "inconclusive":
            return self.word == self.expected
        ends = np.array([self.effect.mean, self.effect.low, self.effect.high, self.claim.threshold])
        mean, low, high, threshold = np.log(np.maximum(ends, 1e-300)) if self.claim.ratio else ends
        return bool(abs(mean - threshold) <= NEAR * (high - low) / 2)

    def effect_text(self) -> str:
        if math.isnan(self.effect.mean):
            return f"no interval, because only {self.effect.seeds} of {len(self.values)} seeds gave a finite number"
        mean, low, high = honest(*(self._scaled(x) for x in (self.effect.mean, self.effect.low, self.effect.high)))
        return f"{mean} [{low}, {high}]{self._unit()}"

    def prediction_text(self) -> str:
        return f"{'below' if self.claim.above is None else 'above'} {self._threshold_text()}"

    def _threshold_text(self) -> str:
        scaled = self._scaled(self.claim.threshold)
        exact = f"{scaled:.6g}".replace("-", "−")  # a threshold is chosen, so it has all its digits
        return f"{number(scaled) if 'e' in exact else exact}{self._unit()}"

    def _unit(self) -> str:
        return {"": "×" if self.claim.ratio else "", "%": " %"}.get(self.claim.unit, f" {self.claim.unit}")

    def _scaled(self, x: float) -> float:
        return x * 100 if self.claim.unit in ("points", "%") else x

    show = Shown.show

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/html": self.html(), "text/plain": self.text(), MIME: {"claims": [self.data()]}}

    def data(self) -> dict:
        """All of it in plain values, for the build of the book. JSON has no word for a run that blew up: null."""
        effect = {name: x if math.isfinite(x) else None for name, x in asdict(self.effect).items()}
        return asdict(self.claim) | effect | {
            "verdict": self.word, "expected": self.expected, "as_expected": self.as_expected(), "left_out": self.left_out,
            "effect_text": self.effect_text(), "prediction_text": self.prediction_text(), "picture": picture(self),
            "values": [x if math.isfinite(x) else None for x in self.values]}

    def seeds_text(self) -> str:
        blew_up = f", {self.left_out} more left out: no finite number" if self.left_out else ""
        return f"{self.effect.seeds} seeds{blew_up}"

    def text(self) -> str:
        return (f"[{self.word}] {self.claim.says} ({self.claim.source})\n{self.claim.effect}: {self.effect_text()}; "
                f"predicted {self.prediction_text()}; {self.seeds_text()}")

    def html(self) -> str:
        needed = "less" if self.claim.above is None else "more"
        return (f'<div class="claim" id="claim-{escape(self.claim.id)}" data-verdict="{self.word}">'
                f'<p class="claim-verdict"><span aria-hidden="true">{SIGNS[self.word]}</span> {self.word.capitalize()}</p>'
                f'<p class="claim-says">{escape(self.claim.says)}</p>{picture(self)}'
                f'<p class="claim-figures"><strong>{escape(self.effect_text())}</strong>; predicted: {needed} than '
                f'{escape(self._threshold_text())}</p>'
                f'<p class="claim-source">{escape(sentence(self.claim.effect))}, {self.seeds_text()}. '
                f'Claim: {escape(self.claim.source)}.</p></div>')


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def picture(*verdicts: Verdict, width: int = 240) -> str:
    """Intervals drawn against their threshold, one below the other, the predicted side shaded; on a logarithmic axis for a
    ratio."""
    shown = [verdict for verdict in verdicts if np.isfinite([verdict.effect.mean, verdict.effect.low, verdict.effect.high]).all()]
    if not shown:
        return ""
    claim, height = shown[0].claim, 18 * len(verdicts)
    ends = np.array([claim.threshold, *(end for one in shown for end in (one.effect.low, one.effect.mean, one.effect.high))])
    if claim.ratio and min(ends) > 0:
        ends = np.log(ends)
    least, most = min(ends), max(ends)
    room = 0.15 * (most - least) or abs(least) or 1
    at, *places = (round(4 + (width - 8) * (end - least + room) / (most - least + 2 * room), 1) for end in ends.tolist())
    start, end = (at, width) if claim.above is not None else (0, at)
    rows = "".join(f'<g data-verdict="{one.word}"><path class="claim-interval" d="M{low} {y}H{high}M{low} {y - 4}v8M{high} {y - 4}v8"/>'
                   f'<circle class="claim-mean" cx="{mean}" cy="{y}" r="4"/></g>'
                   for one, low, mean, high in zip(shown, places[0::3], places[1::3], places[2::3])
                   for y in [9 + 18 * verdicts.index(one)])
    lies = {"supported": "on the predicted side of", "contradicted": "on the other side of", "inconclusive": "across"}
    words = " ".join(f"The interval lies {lies[one.word]} the threshold: {escape(one.prediction_text())}." for one in shown)
    return (f'<svg class="claim-picture" role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-label="{words}">'
            f'<rect class="claim-side" x="{start}" y="0" width="{round(end - start, 1)}" height="{height}"/>'
            f'<path class="claim-threshold" d="M{at} 0v{height}"/>{rows}</svg>')


def honest(mean: float, *ends: float) -> list[str]:
    """A mean and the ends of its interval with as many decimals as the width of the interval leaves meaning to."""
    half = (max(ends) - min(ends)) / 2
    size = max(map(abs, ends))
    if half <= 1e-9 * size or not math.isfinite(half) or size >= 1e6 or size < 1e-2 or (min(ends) > 0 and max(ends) > 4 * min(ends)):
        return [number(x) for x in (mean, *ends)]
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return [f"{0 if round(x, decimals) == 0 else x:,.{decimals}f}".replace("-", "−") for x in (mean, *ends)]


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
