"""Intervals and verdicts: a claim is judged by where its whole interval lies, and a changed verdict stops the notebook."""

import json
import math
import re
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


def test_what_cannot_be_judged_is_not_shown(shown):
    with pytest.raises(ValueError, match="'a-claim': 4 seeds; a verdict needs at least 5"):
        claim().judge(ABOUT_ONE[:4])
    assert not shown


def test_without_a_card_it_is_judged_all_the_same(shown):
    verdict = claim(above=0.0).judge(ABOUT_ONE, card=False)
    assert not shown and claims.judged["a-claim"] is verdict
    with pytest.raises(VerdictChanged):
        claim(above=2.0).judge(ABOUT_ONE, card=False)


@pytest.mark.parametrize("ratio, gone", [(False, math.nan), (False, math.inf), (True, 0.0), (True, -1.0)])
def test_a_seed_without_a_number_is_left_out_and_counted(ratio, gone, shown):
    verdict = claim(above=0.5, ratio=ratio).judge([gone, *ABOUT_ONE])
    assert verdict.word == "supported" and verdict.left_out == 1
    assert verdict.effect == interval(ABOUT_ONE, ratio) and len(verdict.values) == 6
    assert "5 seeds, 1 more left out" in verdict.html() and "1 more left out" in verdict.text()
    few = claim(above=0.5, ratio=ratio).verdict([gone, *ABOUT_ONE[:4]])
    assert few.word == "inconclusive" and "only 4 of 5 seeds gave a finite number" in few.html()


@pytest.mark.parametrize("ratio", [False, True])
def test_inconclusive_allows_what_is_near(ratio, shown):
    """Other seeds would decide a claim near its threshold one way or the other; one far from it has changed."""
    found = interval(ABOUT_ONE, ratio)
    beyond = {factor: found.mean * (found.high / found.mean) ** factor if ratio else
              found.mean + factor * (found.high - found.mean) for factor in (2.4, 2.6)}
    assert claim(above=beyond[2.4], ratio=ratio).judge(ABOUT_ONE, expect="inconclusive").word == "contradicted"
    with pytest.raises(VerdictChanged):
        claim(above=beyond[2.6], ratio=ratio).judge(ABOUT_ONE, expect="inconclusive")
    with pytest.raises(VerdictChanged):
        claim(above=1.0, ratio=ratio).judge(ABOUT_ONE, expect="supported")


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


def test_the_card_comes_with_its_data(shown):
    verdict = claim(above=0.5, evidence=("shift", "order", "for")).judge(ABOUT_ONE)
    card = Card(verdict.html())
    assert card.attributes == {"class": "claim", "id": "claim-a-claim", "data-verdict": "supported"}
    bundle = verdict._repr_mimebundle_()
    assert bundle["text/html"] == verdict.html() and bundle["text/plain"] == verdict.text()
    [data] = json.loads(json.dumps(bundle[claims.MIME]))["claims"]
    assert (data["id"], data["verdict"], data["seeds"], data["evidence"]) == ("a-claim", "supported", 5, ["shift", "order", "for"])
    assert [data[name] for name in ("mean", "low", "high")] == [verdict.effect.mean, verdict.effect.low, verdict.effect.high]
    assert data["values"] == ABOUT_ONE and data["effect_text"] == verdict.effect_text()


def test_the_card_tells_a_reader_everything(shown):
    verdict = claim(above=0.5).judge(ABOUT_ONE)
    for text in (Card(verdict.html()).text, verdict.text()):
        for fact in ("It is so.", "Somebody 2018, Fig. 1", "difference", "1.00 [0.80, 1.20]", "0.5", "5 seeds"):
            assert fact in text
        assert "supported" in text.lower()


@pytest.mark.parametrize("options, word", [(dict(above=0.5), "supported"), (dict(below=0.5), "contradicted"),
                                           (dict(above=1.0, ratio=True), "inconclusive"), (dict(below=2.0, ratio=True), "supported")])
def test_the_picture_shows_on_which_side_the_interval_lies(options, word, shown):
    picture = claims.picture(claim(**options).verdict(ABOUT_ONE))
    start, width = (float(re.search(rf'{name}="([\d.]+)"', picture)[1]) for name in ("x", r"y=\"0\" width"))
    at = float(re.search(r'claim-threshold" d="M([\d.]+)', picture)[1])
    low, high = map(float, re.search(r'claim-interval" d="M([\d.]+) 9H([\d.]+)', picture).groups())
    assert {"supported": start <= low < high <= start + width, "contradicted": high < start or low > start + width,
            "inconclusive": low < at < high}[word]
    assert (start == at) == ("above" in options)


@pytest.mark.parametrize("field", ["says", "source", "effect", "unit"])
def test_text_is_escaped(field, shown):
    hostile = '<script>alert("1 & 2")</script>'
    card = Card(claim(**{field: hostile}).judge(ABOUT_ONE).html())
    assert "script" not in card.tags and hostile.lower() in card.text.lower()
    hostile = claim(id='a"><b>').judge(ABOUT_ONE)
    assert Card(hostile.html()).attributes["id"] == 'claim-a"><b>'


@pytest.mark.parametrize("options, effect, prediction", [
    (dict(above=0.5), "1.00 [0.80, 1.20]", "above 0.5"),
    (dict(above=0.5, unit="nats"), "1.00 [0.80, 1.20] nats", "above 0.5 nats"),
    (dict(above=0.5, unit="points"), "100 [80, 120] points", "above 50 points"),
    (dict(above=0.5, unit="%"), "100 [80, 120] %", "above 50 %"),
    (dict(above=0.5, ratio=True), "0.99 [0.81, 1.21]×", "above 0.5×"),
    (dict(below=2), "1.00 [0.80, 1.20]", "below 2"),
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


@pytest.mark.parametrize("numbers, texts", [
    ((84.53, 80.1, 88.9), ["84.5", "80.1", "88.9"]), ((0.5, 0.4995, 0.5005), ["0.50000", "0.49950", "0.50050"]),
    ((-0.01, -4.2, 4.1), ["0.0", "−4.2", "4.1"]), ((1234.5, 1100, 1370), ["1,234", "1,100", "1,370"]),
    ((3.0, 3.0, 3.0), ["3.00", "3.00", "3.00"]),
    ((-0.97467943448089656, -0.97467943448089667, -0.97467943448089644), ["−0.975"] * 3),  # seeds alike but for rounding
    ((12.0, 2.0, 70.0), ["12.0", "2.00", "70.0"]), ((3e7, 2e7, 4e7), ["3.00·10⁷", "2.00·10⁷", "4.00·10⁷"]),
])
def test_as_many_decimals_as_the_interval_has_meaning_for(numbers, texts):
    assert claims.honest(*numbers) == texts


@pytest.mark.parametrize("blew_up", [1, 4])
def test_a_run_that_blew_up_is_null_in_the_data_of_a_verdict(blew_up):
    claim = claims.Claim("blew-up", "It holds.", "here", "effect", above=0)
    told = claim.verdict([math.inf] * blew_up + [1.0, 1.1, 1.2, 1.3, 1.4]).data() if blew_up == 1 else claim.verdict(
        [math.nan] * blew_up + [1.0, 1.1]).data()
    again = json.loads(json.dumps(told, allow_nan=False))
    assert again["values"].count(None) == again["left_out"] == blew_up
