"""A study refuses what would make its claims worthless, and says the same number everywhere."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bncourse import claims, figures, study
from bncourse.claims import VerdictChanged
from bncourse.figures import CLOSE, OPEN, Measured
from bncourse.lab import set_up
from bncourse.study import Measure, Study, StudyError, at_best, closing, combined, computed, know

ACCURACY = Measure("accuracy", "training accuracy", unit="points")
SHIFT = Measure("shift", "shift", over=("layer", "step"), mean="geometric")
STEPS = [0, 10, 20]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """What a process remembers of its claims, anew; what is shown, in a list."""
    for name in ("registered", "verdicts", "asked"):
        monkeypatch.setattr(study, name, {})
    monkeypatch.setattr(study, "carded", set())
    monkeypatch.setattr(figures, "settings", set())
    monkeypatch.setattr(claims, "judged", {})
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    return shown


def invented(seeds, norm, lr, **others):
    """A frame as train's: accuracy is the same in every layer, shift is not, and has no value at the first step."""
    level = {"none": 0.5, "batch": 0.8}[norm] + {0.1: 0.0, 0.3: 0.1 if norm == "batch" else -0.1}[lr]
    return pd.DataFrame([
        {"seed": seed, "step": step, "layer": layer, "accuracy": level + step / 100 + 0.001 * seed,
         "shift": np.nan if step == 0 else (2 if norm == "none" else 1) * 4.0 ** layer}
        for seed in seeds for step in STEPS for layer in (1, 2)])


LAB = SimpleNamespace(seeds=lambda count: range(7, 7 + count), data=None)


def design(**changes):
    return Study(LAB, **dict(norm=["none", "batch"], lr=[0.1, 0.3], depth=8, record=STEPS, seeds=6, each=invented) | changes)


@pytest.fixture
def run():
    return design().run()


# --- Quantities ------------------------------------------------------------------------------------------------------------

def test_one_number_a_seed(run):
    assert run.per_seed(ACCURACY("none", 10, lr=0.1)) == pytest.approx([0.6 + 0.001 * seed for seed in range(7, 13)])
    assert run.per_seed(ACCURACY("batch", [10, 20], lr=0.3)) == pytest.approx([1.05 + 0.001 * seed for seed in range(7, 13)])
    assert run.per_seed(ACCURACY("batch", slice(10, 20), lr=0.3)) == pytest.approx(run.per_seed(ACCURACY("batch", [10, 20], lr=0.3)))
    # Means over layers are geometric where the measure is; what no seed has (step 0) is no place.
    assert run.per_seed(SHIFT("none", lr=0.1)) == pytest.approx([2 * 4.0 ** 1.5] * 6)
    assert run.per_seed(SHIFT("none", lr=0.1, layer=2)) == pytest.approx([32] * 6)
    assert float(run(SHIFT("none", lr=0.1) / SHIFT("batch", lr=0.1))) == pytest.approx(2)


@pytest.mark.parametrize("quantity, words", [
    (ACCURACY("batch", 10, lr=0.1), "training accuracy, batch norm, after 10 steps, learning rate 0.1"),
    (ACCURACY("batch", 10, lr=0.1) - ACCURACY("none", 10, lr=0.1),
     "training accuracy, after 10 steps, learning rate 0.1, batch norm minus no normalization"),
    (ACCURACY("batch", 10, lr=0.1) - ACCURACY("batch", 0, lr=0.1),
     "training accuracy, batch norm, learning rate 0.1, after 10 steps minus at the start"),
    (SHIFT("none", layer=2) / ACCURACY("none", [0, 10]), "shift, no normalization, layer 2, divided by training accuracy, no normalization, mean of steps 0 and 10"),
    (at_best("lr", ACCURACY("none", 10)), "training accuracy, no normalization, after 10 steps, at its best learning rate"),
    (ACCURACY(0.1, 10), "training accuracy, 0.1, after 10 steps"),
    (1 - ACCURACY("none", 10), "1.00 minus training accuracy, no normalization, after 10 steps"),
    (ACCURACY("none", 10).called("how well it does"), "how well it does"),
])
def test_numbers_come_with_their_words(quantity, words):
    assert quantity.words == words


def test_what_is_computed_with_a_number_is_averaged_as_it_should(run):
    lead = ACCURACY("none", 10, lr=0.1) - ACCURACY("batch", 10, lr=0.1)
    half = lead / 2
    assert not half.ratio and half.unit == "points" and float(run(half)) == pytest.approx(-0.15) and (lead * 2).unit == "points"
    times = SHIFT("batch", lr=0.1) / SHIFT("none", lr=0.1)
    assert (times / 2).ratio and float(run(times / 2)) == pytest.approx(0.25)
    for left in (times - 1, 1 - times):
        assert not left.ratio and abs(float(run(left))) == pytest.approx(0.5)


def test_at_best_is_where_the_mean_is_best(run):
    assert run.per_seed(at_best("lr", ACCURACY("none", 10))) == pytest.approx(run.per_seed(ACCURACY("none", 10, lr=0.1)))
    assert run.per_seed(at_best("lr", ACCURACY("batch", 10))) == pytest.approx(run.per_seed(ACCURACY("batch", 10, lr=0.3)))
    assert run.per_seed(at_best("lr", ACCURACY("batch", 10), smallest=True)) == pytest.approx(run.per_seed(ACCURACY("batch", 10, lr=0.1)))
    by = at_best("lr", ACCURACY("none", 10), by=ACCURACY("batch", 10))
    assert run.per_seed(by) == pytest.approx(run.per_seed(ACCURACY("none", 10, lr=0.3)))


def test_quantities_of_ones_own(run):
    own = computed("rows", lambda study: study.frame.groupby("seed").size())
    assert run.per_seed(own).tolist() == [24] * 6
    best = combined("the better one", np.maximum, ACCURACY("none", 10, lr=0.1), ACCURACY("batch", 10, lr=0.1))
    assert run.per_seed(best) == pytest.approx(run.per_seed(ACCURACY("batch", 10, lr=0.1)))


@pytest.mark.parametrize("quantity, says", [
    (lambda: ACCURACY("bach", 10, lr=0.1), "'bach' is not a level of any factor"),
    (lambda: ACCURACY("batch", 11, lr=0.1), r"step 11 is not recorded; recorded are \[0, 10, 20\]"),
    (lambda: ACCURACY("batch", lr=0.1), "pick step"),
    (lambda: ACCURACY("batch", 10), "pick lr"),
    (lambda: ACCURACY("batch", 10, lr=0.2), r"lr is never 0.2 here; its levels are \[0.1, 0.3\]"),
    (lambda: ACCURACY("batch", 10, lr=0.1, depth=9), "depth is 8 throughout this study, not 9"),
    (lambda: ACCURACY("batch", 10, lr=0.1, widht=3), "this study has no 'widht'"),
    (lambda: ACCURACY("batch", 10, lr=0.1) - ACCURACY("none", 9, lr=0.1), "step 9 is not recorded"),
    (lambda: at_best("norm", ACCURACY(step=10)), "pick lr"),
    (lambda: at_best("init", ACCURACY("batch", 10, lr=0.1)), "'init' is not a factor"),
])
def test_a_claim_that_the_design_cannot_answer_is_refused_before_the_run(quantity, says):
    with pytest.raises(StudyError, match=says):
        design().claim("a-claim", quantity() > 0, "So it is.", "somebody")


def test_what_only_the_frame_can_tell_is_refused_then(run):
    with pytest.raises(StudyError, match="has no column 'losss'"):
        run.per_seed(Measure("losss", "loss")("batch", 10, lr=0.1))
    with pytest.raises(StudyError, match="pick layer"):
        run.per_seed(Measure("shift", "shift")("batch", 10, lr=0.1))
    with pytest.raises(StudyError, match="no rows"):
        run.per_seed(SHIFT("batch", lr=0.1, layer=9))


def test_a_prediction_is_neither_true_nor_false():
    with pytest.raises(TypeError, match="only after a run"):
        assert 0.1 < ACCURACY("batch", 10) < 0.3


# --- Before and after the run --------------------------------------------------------------------------------------------

def test_nothing_is_predicted_after_the_run(run):
    with pytest.raises(StudyError, match="the claim 'late' comes after the run"):
        run.claim("late", ACCURACY("batch", 10, lr=0.1) > 0, "So it is.", "somebody")
    with pytest.raises(StudyError, match="the question comes after the run"):
        run.predict("Which?", {"a": ACCURACY("batch", 10, lr=0.1) > 0, "b": ACCURACY("batch", 10, lr=0.1) < 0})
    with pytest.raises(StudyError, match="has been run"):
        run.run()
    with pytest.raises(StudyError, match=r"study.run\(\) first"):
        run.but().per_seed(ACCURACY("batch", 10, lr=0.1))


def test_a_claim_has_a_name_of_its_own():
    first, second = design(), design()
    first.claim("a-claim", ACCURACY("batch", 10, lr=0.1) > 0, "So it is.", "somebody")
    with pytest.raises(StudyError, match="there is a claim 'a-claim' already"):
        second.claim("a-claim", ACCURACY("batch", 10, lr=0.1) > 0, "So it is.", "somebody")


def test_card_prose_and_table_say_the_same(alone):
    one = design()
    lead = ACCURACY("batch", 10, lr=0.1) - ACCURACY("none", 10, lr=0.1)
    one.claim("bn-leads", lead > 0.05, "Batch norm leads.", "somebody", evidence=("shift", "order", "for"))
    one.claim("none-leads", lead < 0, "It does not.", "nobody")
    one.run().judge("bn-leads")
    with pytest.raises(StudyError, match="not judged: none-leads"):
        closing()
    one.note("none-leads", expect="contradicted")
    card = alone[-1]
    assert len(alone) == 1 and card.claim.effect == lead.words and card.claim.evidence == ("shift", "order", "for")
    assert card.effect.mean == pytest.approx(float(one(lead))) == pytest.approx(0.3)
    closing()
    bundle = alone[-1]._repr_mimebundle_()
    assert [claim["id"] for claim in bundle[claims.MIME]["claims"]] == ["bn-leads", "none-leads"]
    # The card can be linked to; a claim without one is where its row is.
    assert re.findall("<tr[^>]*>", bundle["text/html"])[1:] == [
        '<tr data-verdict="supported">', '<tr id="claim-none-leads" data-verdict="contradicted">']
    know("bn-leads")
    assert "**Supported**: 30" in alone[-1].data
    assert one.table(ACCURACY, "norm", "lr", step=10) == (
        "|  | learning rate 0.1 | learning rate 0.3 |\n|---|---|---|\n"
        f"| no normalization | {OPEN}61%{CLOSE} | {OPEN}51%{CLOSE} |\n| batch norm | {OPEN}91%{CLOSE} | {OPEN}101%{CLOSE} |")


def test_the_answer_is_what_was_measured(alone):
    lead = ACCURACY("batch", 10, lr=0.1) - ACCURACY("none", 10, lr=0.1)
    options = {"better": lead > 0.05, "as good": [lead > -0.05, lead < 0.05], "worse": lead < -0.05}
    right, wrong = design(), design()
    right.predict("Which?", options)
    right.run()
    with pytest.raises(StudyError, match="not answered"):
        closing()
    right.reveal("better")
    assert alone[-1].plain == "Measured: better"
    closing()
    wrong.predict("Which, again?", options)
    wrong.run()
    with pytest.raises(VerdictChanged, match=r"the answer is 'worse'; measured is \['better'\]"):
        wrong.reveal("worse")
    with pytest.raises(StudyError, match="not one of the options"):
        wrong.reveal("best")


def test_runs_that_blew_up_are_counted_and_not_averaged():
    def broken(seeds, **levels):
        frame = invented(seeds, **levels)
        return frame.assign(accuracy=frame.accuracy.where(frame.seed != 8), shift=frame["shift"].where(frame.seed != 8))

    one = design(each=broken, seeds=7)
    one.claim("bn-leads", ACCURACY("batch", 10, lr=0.1) - ACCURACY("none", 10, lr=0.1) > 0.05, "Batch norm leads.", "somebody")
    one.run().note("bn-leads")
    assert study.verdicts["bn-leads"].left_out == 1 and study.verdicts["bn-leads"].effect.seeds == 6
    assert np.isnan(one.per_seed(SHIFT("none", lr=0.1))).tolist() == [False, True] + [False] * 5
    with pytest.raises(StudyError, match="6 of 7 seeds gave a finite number"):
        one(ACCURACY("none", 10, lr=0.1))
    assert one.count(ACCURACY("none", 10, lr=0.1) > 0.6) == f"{Measured(6)} of {Measured(7)}"


def test_the_same_design_changed():
    one = design()
    other = one.but(lr=[0.3], seeds=5, depth=2)
    assert other.factors == {"norm": ["none", "batch"], "lr": [0.3]} and other.fixed == {"depth": 2} and len(other.seeds) == 5
    assert one.factors["lr"] == [0.1, 0.3] and other.frame is None


def test_only_some_combinations():
    one = design(only=lambda norm, lr: norm == "batch" or lr == 0.1).run()
    assert set(zip(one.frame.norm, one.frame.lr)) == {("none", 0.1), ("batch", 0.1), ("batch", 0.3)}


def test_all_levels_of_a_factor_at_once():
    calls = []

    def together(seeds, norm, lr, **others):
        calls.append((norm, lr))
        return pd.concat([invented(seeds, norm, rate).assign(lr=rate) for rate in lr])

    one = design(each=together, at_once=["lr"]).run()
    assert calls == [("none", [0.1, 0.3]), ("batch", [0.1, 0.3])]
    numbers = ACCURACY("batch", 20, lr=0.3)
    assert list(one.per_seed(numbers)) == list(design().run().per_seed(numbers))


def test_numbers_of_the_design_may_be_said():
    design(lr=[0.1, 0.3])
    assert figures.checked("At 0.3 after 20 steps, over 6 seeds.")
    ACCURACY("batch", 10) > 0.05  # a threshold is a setting, too
    assert figures.checked("By 5 points.")
    with pytest.raises(ValueError, match="nobody measured 7"):
        figures.checked("By 7 points.")


def test_trains_networks(monkeypatch):
    monkeypatch.setenv("BNCOURSE_FIRST_SEED", "4321")
    lab = set_up("digits", "cpu")
    assert lab.first_seed == 4321 and set_up("digits", "cpu", first_seed=5).first_seed == 5
    one = Study(lab, norm=["none", "batch"], pixels=["raw", "scaled"], lr=[0.1, 0.3], layers=2, width=8, steps=4, record=[4], seeds=2,
                noise={"quiet": None, "loud": dict(n_mu=2.0)}).run()
    assert len(one.frame) == 2 * 2 * 2 * 2 * 2 and set(one.frame.seed) == {4321, 4322}
    loss = Measure("train_loss", "training loss")
    place = dict(lr=0.1, noise="quiet")
    assert (one.per_seed(loss("none", pixels="raw", **place)) != one.per_seed(loss("none", pixels="scaled", **place))).all()
    # The first layer's batch norm takes the scale away; noise is not for networks that have none.
    assert one.per_seed(loss("batch", pixels="raw", **place)) == pytest.approx(one.per_seed(loss("batch", pixels="scaled", **place)), rel=0.05)
    assert one.per_seed(loss("none", pixels="raw", lr=0.1, noise="loud")) == pytest.approx(one.per_seed(loss("none", pixels="raw", **place)))


def test_a_figure_says_what_it_shows(alone, run):
    figures.use_style()
    run.figure((ACCURACY, "step", {"where": {"lr": 0.1}, "ylim": (0, 1)}), (SHIFT, "layer", {"yscale": "log", "where": {"lr": 0.1}}),
               caption="Two networks over 6 seeds.")
    html = alone[-1].data
    assert html.count("<svg") == 3, "a legend and two panels"
    assert "batch norm goes from 0.81 at 0 to 1.01 at 20" in html
    assert html.count(">batch norm<") == 1, "a legend for both panels"
    assert "no normalization goes from 8 at 1 to 32 at 2" in html and "Two networks over 6 seeds." in html
    with pytest.raises(ValueError, match="nobody measured 99"):
        run.figure((ACCURACY, "step", {"where": {"lr": 0.1}}), caption="It reaches 99 %.")
