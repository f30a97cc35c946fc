"""Intervals and verdicts: a claim is judged by where its whole interval lies, and a changed verdict stops the notebook."""

import math
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bncourse import claims
from bncourse.claims import Claim, VerdictChanged, interval, number

ABOUT_ONE = [0.8, 0.9, 1.0, 1.1, 1.2]


def claim(**options):
    options = {"above": 0.0} | options
    if "below" in options:
        del options["above"]
    return Claim(**{"id": "a-claim", "says": "It is so.", "source": "Somebody 2018, Fig. 1", "effect": "a difference"} | options)


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    monkeypatch.setattr(claims, "strict", True)


@pytest.fixture
def shown(monkeypatch):
    cards = []
    monkeypatch.setattr("IPython.display.display", cards.append)
    return cards


# --- Intervals -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_interval_is_students(level):
    values = np.random.default_rng(0).normal(3, 2, 7)
    found = interval(values, level=level)
    low, high = stats.t.interval(level, 6, values.mean(), stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.seeds == 7


def test_five_seeds_by_hand():
    # mean 3, s = sqrt(2.5), t(0.975, 4) = 2.776445
    found = interval([1, 2, 3, 4, 5])
    assert found.high - 3 == pytest.approx(2.776445 * math.sqrt(2.5 / 5))
    assert 3 - found.low == pytest.approx(found.high - 3)


def test_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(1)
    found = [interval(random.normal(1, 1, 5)) for _ in range(1000)]
    assert np.mean([one.low < 1 < one.high for one in found]) == pytest.approx(0.95, abs=0.03)


def test_ratio_is_the_same_upside_down():
    values = [0.5, 0.7, 1.1, 0.9, 0.6]
    found, inverse = interval(values, ratio=True), interval([1 / x for x in values], ratio=True)
    assert found.mean == pytest.approx(stats.gmean(values))
    assert (found.low, found.high) == pytest.approx((1 / inverse.high, 1 / inverse.low))
    plain = interval(np.log(values))
    assert found.low == pytest.approx(math.exp(plain.low))


def test_equal_values_have_no_width():
    assert interval([2.0] * 5) == claims.Interval(2, 2, 2, 5)


@pytest.mark.parametrize("values, ratio, says", [
    ([1.0], False, r"at least 2 seeds, got shape \(1,\)"),
    ([], False, "at least 2 seeds"),
    ([[1.0, 2], [3, 4]], False, r"at least 2 seeds, got shape \(2, 2\)"),
    ([1, math.nan, 2], False, r"seeds number \[1\] gave \[nan\]"),
    ([1, 2, math.inf], False, r"seeds number \[2\] gave \[inf\]"),
    ([1, 0.0, 2], True, r"seeds number \[1\] gave \[0.0\]"),
    ([1, 2, -1.0], True, r"seeds number \[2\] gave \[-1.0\]"),
])
def test_what_cannot_be_averaged(values, ratio, says):
    with pytest.raises(ValueError, match=says):
        interval(values, ratio=ratio)


# --- Verdicts --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("side, threshold, word", [
    ("above", 0.0, "supported"), ("above", 1.0, "inconclusive"), ("above", 2.0, "contradicted"),
    ("below", 2.0, "supported"), ("below", 1.0, "inconclusive"), ("below", 0.0, "contradicted"),
])
def test_the_whole_interval_has_to_lie_on_one_side(side, threshold, word, shown):
    verdict = claim(**{side: threshold}).judge(ABOUT_ONE, expect=word)
    assert verdict.word == word and shown == [verdict]


@pytest.mark.parametrize("side", ["above", "below"])
@pytest.mark.parametrize("end", ["low", "high"])
def test_just_beyond_the_end_of_the_interval(side, end, shown):
    found = interval(ABOUT_ONE)
    inside, outside = {"low": (1e-9, -1e-9), "high": (-1e-9, 1e-9)}[end]
    assert claim(**{side: getattr(found, end) + inside}).judge(ABOUT_ONE, "inconclusive").word == "inconclusive"
    word = "supported" if (side == "above") == (end == "low") else "contradicted"
    assert claim(**{side: getattr(found, end) + outside}).judge(ABOUT_ONE, word).word == word


def test_touching_the_threshold_decides_nothing(shown):
    assert claim(above=1.0).judge([1.0] * 5, "inconclusive").word == "inconclusive"
    assert claim(below=1.0).judge([1.0] * 5, "inconclusive").word == "inconclusive"


def test_a_ratio_is_judged_on_the_ratio_scale(shown):
    assert claim(above=1.0, ratio=True).judge([1.1, 1.3, 1.2, 1.4, 1.25]).word == "supported"
    assert claim(below=1.0, ratio=True).judge([0.5, 0.7, 0.6, 0.8, 0.65]).word == "supported"


def test_a_changed_verdict_fails_after_the_card_is_shown(shown):
    with pytest.raises(VerdictChanged, match=r"'a-claim' is contradicted here.*5 seeds.*above 2.*written for 'supported'"):
        claim(above=2.0).judge(ABOUT_ONE)
    assert [verdict.word for verdict in shown] == ["contradicted"]
    with pytest.raises(VerdictChanged):
        claim(above=0.0).judge(ABOUT_ONE, expect="contradicted")


def test_on_other_data_a_changed_verdict_is_a_finding(shown, monkeypatch):
    monkeypatch.setattr(claims, "strict", False)
    assert claim(above=2.0).judge(ABOUT_ONE).word == "contradicted"
    assert len(shown) == 1


@pytest.mark.parametrize("values, says", [
    (ABOUT_ONE[:4], "'a-claim': 4 seeds; a verdict needs at least 5"),
    ([*ABOUT_ONE, math.nan], "seeds number .5. gave .nan."),
])
def test_what_cannot_be_judged_is_not_shown(values, says, shown):
    with pytest.raises(ValueError, match=says):
        claim().judge(values)
    assert not shown


def test_a_misspelt_expectation(shown):
    with pytest.raises(ValueError, match="expect='suported'; a verdict is one of supported, contradicted, inconclusive"):
        claim().judge(ABOUT_ONE, expect="suported")


@pytest.mark.parametrize("options", [dict(above=None), dict(above=1.0, below=1.0)])
def test_a_claim_predicts_one_side(options):
    with pytest.raises(ValueError, match="exactly one"):
        Claim("a", "b", "c", "d", **options)


@pytest.mark.parametrize("id", ["", "A-Claim", "a claim"])
def test_ids_are_plain(id):
    with pytest.raises(ValueError, match="lower-case"):
        claim(id=id)


def test_takes_a_column_of_a_frame(shown):
    verdict = claim().judge(pd.Series(ABOUT_ONE, index=[3, 1, 4, 5, 9]))
    assert verdict.values == tuple(ABOUT_ONE) and verdict.effect.seeds == 5


# --- The card --------------------------------------------------------------------------------------------------------

class Card(HTMLParser):
    """The attributes of the first element, the text, and whether every tag is closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text, self.attributes = [], [], "", None
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.attributes = self.attributes or dict(attributes)
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + "\n"


def test_the_card_can_be_read_by_a_machine(shown):
    verdict = claim(above=0.5).judge(ABOUT_ONE)
    card = Card(verdict.html())
    assert card.attributes["class"] == "claim" and card.attributes["data-claim-id"] == "a-claim"
    assert card.attributes["data-verdict"] == "supported" and card.attributes["data-seeds"] == "5"
    numbers = [float(card.attributes[f"data-{name}"]) for name in ("effect", "low", "high")]
    assert numbers == pytest.approx([1, verdict.effect.low, verdict.effect.high], rel=1e-5)


def test_the_card_tells_a_reader_everything(shown):
    verdict = claim(above=0.5).judge(ABOUT_ONE)
    for text in (Card(verdict.html()).text, verdict.text()):
        for fact in ("It is so.", "Somebody 2018, Fig. 1", "a difference", "1.00 [0.804, 1.20]", "above 0.500", "5"):
            assert fact in text
        assert "supported" in text.lower()
    assert verdict._repr_mimebundle_() == {"text/html": verdict.html(), "text/plain": verdict.text()}


@pytest.mark.parametrize("field", ["says", "source", "effect", "unit"])
def test_text_is_escaped(field, shown):
    hostile = '<script>alert("1 & 2")</script>'
    card = Card(claim(**{field: hostile}).judge(ABOUT_ONE).html())
    assert "script" not in card.tags and hostile in card.text
    hostile = claim(id='a"><b>').judge(ABOUT_ONE)
    assert Card(hostile.html()).attributes["data-claim-id"] == 'a"><b>'


@pytest.mark.parametrize("options, effect, prediction", [
    (dict(above=0.5), "1.00 [0.804, 1.20]", "above 0.500"),
    (dict(above=0.5, unit="nats"), "1.00 [0.804, 1.20] nats", "above 0.500 nats"),
    (dict(above=0.5, unit="points"), "100 [80.4, 120] points", "above 50.0 points"),
    (dict(above=0.5, unit="%"), "100 [80.4, 120] %", "above 50.0 %"),
    (dict(above=0.5, ratio=True), "0.990 [0.811, 1.21]×", "above 0.500×"),
    (dict(below=2), "1.00 [0.804, 1.20]", "below 2.00"),
])
def test_effects_in_words(options, effect, prediction, shown):
    verdict = claim(**options).judge(ABOUT_ONE)
    assert verdict.effect_text() == effect and verdict.prediction_text() == prediction


@pytest.mark.parametrize("x, text", [
    (0, "0"), (-0.0, "0"), (1, "1.00"), (-1.5, "−1.50"), (0.999, "0.999"), (0.9996, "1.00"), (9.994, "9.99"), (9.996, "10.0"),
    (99.96, "100"), (999.6, "1,000"), (12345.6, "12,346"), (-123456, "−123,456"), (999999.6, "1,000,000"), (1e6, "1.00·10⁶"),
    (-2.5e7, "−2.50·10⁷"), (0.00123, "0.00123"), (0.001, "0.00100"), (0.000123, "1.23·10⁻⁴"), (9.999e-4, "1.00·10⁻³"),
    (math.inf, "inf"), (-math.inf, "−inf"), (math.nan, "nan"), (np.float32(0.5), "0.500"),
])
def test_numbers(x, text):
    assert number(x) == text
    assert "-" not in number(x), "a minus sign, not a hyphen"


def test_a_run_that_blew_up_is_inconclusive_on_other_data(monkeypatch, capsys):
    claim = claims.Claim(id="blew-up", says="Anything.", source="nobody", effect="a number", above=0)
    with pytest.raises(ValueError, match="inf"):
        claim.judge([1, 2, 3, 4, math.inf])
    monkeypatch.setattr(claims, "strict", False)
    verdict = claim.judge([1, 2, 3, 4, math.inf])
    assert verdict.word == "inconclusive" and "finite" in verdict.html()
