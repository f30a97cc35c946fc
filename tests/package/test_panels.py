"""The cell under "On CIFAR-10": a study's own claims, asked of a record; without one, and with one that is refused."""

import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from bncourse import claims, panels, records
from bncourse.claims import VerdictChanged
from bncourse.lab import Lab
from bncourse.study import Measure, Study, StudyError, at_best, computed

pytestmark = pytest.mark.usefixtures("style")
LAB = Lab(None, "cpu", "small", 0)
accuracy = Measure("train_accuracy", "training accuracy", unit="points")
shift = Measure("mean_step", "shift", over=("layer", "step"), mean="geometric")


def made_up(gains, steps, layers=(1,), lrs=(0.1,), seeds=range(5), lost=()):
    """A frame as ``train`` gives it: accuracy grows evenly to a tenth and the gain of its normalizer, shift with the layer."""
    rows = [dict(norm=norm, lr=lr, seed=seed, step=step, layer=layer, train_loss=1.0, diverged=(norm, lr, seed) in lost,
                 train_accuracy=0.1 + gain * step / max(steps) + seed / 1000, mean_step=0.01 * layer)
            for norm, gain in gains.items() for lr in lrs for seed in seeds for step in steps for layer in layers]
    return pd.DataFrame(rows)


PAGE = {"none": 0.5, "batch": 0.8, "noisy_batch": 0.6}
THERE = {"none": 0.5, "batch": 0.6, "noisy_batch": 0.7}


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """What is displayed, as one page; with an empty folder of records."""
    page = []
    monkeypatch.setattr("IPython.display.display", lambda what: page.append(
        what._repr_mimebundle_()["text/html"] if hasattr(what, "_repr_mimebundle_") else getattr(what, "data", "")))
    monkeypatch.setattr(records, "FOLDER", tmp_path / "results")
    (tmp_path / "results").mkdir()
    return lambda: BeautifulSoup("\n".join(page), "html.parser")


@pytest.fixture
def study(monkeypatch):
    """A page's study of 300 steps and eight layers, run and judged."""
    for name in ("registered", "verdicts"):
        monkeypatch.setattr(f"bncourse.study.{name}", {})
    monkeypatch.setattr(claims, "judged", {})
    one = Study(LAB, each=lambda seeds, norm, **_: made_up({norm: PAGE[norm]}, [0, 50, 300], range(1, 9)).drop(columns="norm"),
                norm=list(PAGE), lr=0.1, steps=300, layers=8, record=[0, 50, 300], seeds=5)
    one.claim("ahead", accuracy("batch", 300) - accuracy("noisy_batch", 300) > 0.1, "Batch norm ends ahead of the noisy one.", "somebody")
    one.claim("early", accuracy("batch", 50) - accuracy("none", 50) > 0.01, "It is ahead early.", "somebody")
    one.claim("steeper", shift("batch", layer=8) / shift("batch", layer=1) > 2, "Shift grows with the layer.", "somebody")
    one.claim("own", computed("something of the page's own", lambda study: np.ones(5)) > 0, "Of the page alone.", "somebody")
    one.run()
    one.note("ahead", "early", "steeper", "own")
    return one


def recorded(frame, scale="desk", **changes):
    """Write a record of ``curves``, as ``reproduce --record`` would."""
    told = {"experiment": "curves", "scale": scale, "seeds": sorted(frame.seed.unique().tolist()),
            "design": records.design(records._empty("curves", scale)),
            "data": {"name": "cifar10", "sha256": "ab" * 32, "source": "CIFAR-10, JPEG re-encoded copy"},
            "command": "python -m bncourse reproduce curves", "commit": "c0ffee", "dirty": True, "started": "2030-01-01T00:00:00+00:00",
            "finished": "2030-01-01T01:00:00+00:00", "hardware": [{"cpu": "a processor", "gpu": "a GPU"}], "versions": {"torch": "9.9"},
            "device": "cuda", "precision": "tf32", "seconds": 3600.0, "peak_memory_mib": 2048.0,
            "deviations": ["Not stated: <something>."]} | changes
    return records.write("curves", scale, frame, told)


DESK = dict(steps=[0, 133, 134, 800], layers=range(1, 5), lrs=(0.1, 0.5))


def test_claims_are_asked_drawn_and_compared(study, shown):
    recorded(made_up(THERE, **DESK, lost={("none", 0.5, 1)}))
    [there] = panels.panel("curves", study, differ={"ahead": "contradicted"})
    page = shown()
    assert "Of 3 claims that could be asked there, 1 gets another verdict." in page.get_text()
    assert page.select_one("details:not(.provenance) summary").get_text() == "2 with the same verdict"
    rows = {row.p.get_text(): row for row in page.select(".scales")}
    ahead = next(row for text, row in rows.items() if text.startswith("Batch norm ends ahead"))
    assert [line["data-verdict"] for line in ahead.select("ul li")] == ["supported", "contradicted"] and not ahead.find_parent("details")
    assert len(ahead.select("svg g")) == 2 and "across" not in ahead.svg["aria-label"]
    assert float(there(accuracy("batch", 300))) == pytest.approx(0.702), "the end of either training"
    assert float(there(accuracy("batch", 50))) == pytest.approx(0.1 + 0.6 * 133 / 800 + 0.002, abs=1e-5), "a sixth of either"
    assert there.interval(shift("batch", layer=8) / shift("batch", layer=1)).mean == pytest.approx(4), "the last layer of either"
    assert "Of the page alone" not in page.get_text()
    caption = page.figcaption.get_text()
    assert "JPEG re-encoded copy" in caption and "800 steps" in caption and "Of all 30 runs 1 blew up" in caption and "Glorot" in caption
    facts = page.select_one("details.provenance").get_text(" ")
    for fact in ("c0ffee, with changes that are in no commit", "a GPU", "torch 9.9", "JPEG re-encoded copy", "tf32", "60.0 min",
                 "2,048 MiB", "0, 1, 2", "abab", "Not stated: <something>."):
        assert fact in facts, fact
    assert "paper's scale: not recorded yet." in page.get_text()


@pytest.mark.parametrize("differ", [{}, {"ahead": "inconclusive"}, {"ahead": "contradicted", "early": "contradicted"}])
def test_prose_that_is_not_what_was_recorded_stops_the_chapter(differ, study, shown):
    recorded(made_up(THERE, **DESK))
    with pytest.raises(VerdictChanged, match="at the desk these verdicts differ from the page's: .'ahead': 'contradicted'."):
        panels.panel("curves", study, differ=differ)


def test_both_scales_stand_side_by_side(study, shown):
    recorded(made_up(PAGE, **DESK))
    recorded(made_up(THERE, [0, 2500, 15_000], range(1, 14), (0.1, 0.5)), "paper")
    panels.panel("curves", study)
    ahead = next(row for row in shown().select(".scales") if "ends ahead" in row.p.get_text())
    assert [line["data-verdict"] for line in ahead.select("ul li")] == ["supported", "supported", "contradicted"]
    assert "not recorded" not in shown().get_text() and len(shown().select("details.provenance")) == 2


def test_looks_at_a_plateau_do_not_count(study, shown):
    frame = made_up(THERE, [0, 133, 400, 800], range(1, 5), (0.1, 0.5))
    frame.loc[(frame.norm == "none") & (frame.step == 400), "train_accuracy"] = 0.1
    recorded(frame)
    [every] = panels.panel("curves", study, differ={"ahead": "contradicted"})
    some, _ = panels._ask(study, records.read("curves", "desk"), {}, True)
    assert set(every.frame.step) == {0, 133, 400, 800} and set(some.frame.step) == {800}


def test_where_nobody_left_the_plateau_nothing_is_asked(study, shown):
    frame = made_up(THERE, **DESK)
    frame.loc[frame.norm == "none", "train_accuracy"] = 0.1
    recorded(frame)
    there, answers = panels._ask(study, records.read("curves", "desk"), {}, True)
    assert answers == {} and len(there.frame)
    panels.panel("curves", study, trained=[study])
    assert "None of this chapter's claims can be asked there." in shown().get_text()


def test_a_level_that_is_not_there_is_not_asked(study, shown):
    frame = made_up(THERE, **DESK)
    assert panels._ask(study, records.Record("curves", "desk", frame[frame.norm != "noisy_batch"], {
        "design": {"factors": {"norm": [], "lr": []}, "fixed": {}}, "data": {"name": "cifar10"}}), {}, False)[1].keys() == {
        "early", "steeper"}
    with pytest.raises(StudyError, match="there is no lr 0.1 at that scale"):
        study.at(frame[frame.lr == 0.5], "cifar10", ["lr"], {})
    with pytest.raises(StudyError, match="pick one init of that scale"):
        study.at(frame.assign(init="he"), "cifar10", ["init"], {})
    there = study.at(frame[~frame.step.isin([133, 134])], "cifar10", ["lr"], {})
    with pytest.raises(StudyError, match="no look near 17% of the training"):
        there(accuracy("batch", 50))


def test_a_rate_that_was_tuned_is_tuned_among_the_rates_that_are_there(monkeypatch):
    one = Study(LAB, each=lambda seeds, norm, lr, **_: made_up({norm: PAGE[norm] - lr}, [0, 300], lrs=[lr]).drop(columns=["norm", "lr"]),
                norm=list(PAGE), lr=[0.1, 0.3], steps=300, record=[0, 300], seeds=5).run()
    frame = pd.concat([made_up({"batch": 1 - lr}, [0, 800], lrs=[lr]) for lr in (0.01, 0.5)])
    there = one.at(frame, "cifar10", ["norm", "lr"], {})
    assert float(there(at_best("lr", accuracy("batch", 300)))) == pytest.approx(0.1 + 0.99 + 0.002)
    assert (one.on, there.on) == ("", "cifar10")


def test_what_is_held_fixed_otherwise_is_refused_and_sizes_are_not(study):
    frame = made_up(THERE, **DESK)
    for changed in ({"pixels": "scaled"}, {"init": "default"}):
        other = study.but(**changed, seeds=5)
        other.frame = study.frame
        [(name, here)] = changed.items()
        with pytest.raises(StudyError, match=f"{name} is .* at that scale, and '{here}' here"):
            other.at(frame, "cifar10", ["lr"], {"pixels": "raw", "init": "he", "steps": 800})
    assert study.at(frame, "cifar10", ["lr"], {"pixels": "raw", "steps": 800, "batch": 128}).seeds == list(range(5))
    with pytest.raises(StudyError, match="pick one init of that scale"):
        panels._ask(study, records.Record("shift", "desk", frame.assign(init="he"), {
            "design": {"factors": {"norm": [], "init": []}, "fixed": {}}, "data": {"name": "cifar10"}}), {}, False)


def test_nothing_is_best_among_one():
    one = Study(LAB, each=lambda seeds, norm, lr, **_: made_up({norm: PAGE[norm] - lr}, [0, 300], lrs=[lr]).drop(columns=["norm", "lr"]),
                norm=list(PAGE), lr=[0.1, 0.3], steps=300, record=[0, 300], seeds=5).run()
    there = one.at(made_up(THERE, [0, 800]), "cifar10", ["norm"], {})
    with pytest.raises(StudyError, match="there is one lr only"):
        there(at_best("lr", accuracy("batch", 300)))


def test_numbers_of_a_record_are_none_that_a_chapter_may_type(study, shown):
    from bncourse import figures

    before = set(figures.settings)
    recorded(made_up(PAGE, **DESK))
    panels.panel("curves", study)
    assert before and not figures.settings - before


def test_nothing_recorded_says_how_to(study, shown):
    assert panels.panel("lr-range", study) == []
    text = shown().get_text()
    assert "python -m bncourse reproduce lr-range --scale desk --record" in text and not shown().select("svg, table")
    assert not re.search(r"\d\.\d|%", text), "a number that nobody measured"


def test_the_command_is_one_that_there_is(study, shown):
    from typer.testing import CliRunner

    from bncourse.__main__ import app

    panels.panel("curves", study)
    for code in shown().select("code"):
        done = CliRunner().invoke(app, [*code.get_text().split()[3:], "--help"])
        assert done.exit_code == 0 and all(option in done.output for option in re.findall(r"--\w+", code.get_text()))


def test_an_installed_package_has_no_records(study, shown, monkeypatch, tmp_path):
    monkeypatch.setattr(records, "FOLDER", tmp_path / "nowhere")
    panels.panel("curves", study)
    assert "published page shows them" in shown().get_text()


def test_a_refused_record_shows_no_number(study, shown):
    path = recorded(made_up(THERE, **DESK))
    path.write_bytes(path.read_bytes() + b"x")
    assert panels.panel("curves", study) == []
    assert "A record is not shown." in shown().get_text() and "is not the table that was recorded" in shown().get_text()
    assert not shown().select("svg, table, details")


def test_an_unknown_experiment(study):
    with pytest.raises(ValueError, match="unknown experiment 'curve'; there are curves, noisy"):
        panels.panel("curve", study)
