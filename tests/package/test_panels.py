"""The cell under "At full scale": with a record, without one, with one that is refused, and run on the spot."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from bncourse import claims, data, panels, records
from bncourse.claims import Claim
from bncourse.lab import Lab
from bncourse.reproduce import EXPERIMENTS, fingerprint, runner, runs
from bncourse.reproduce.experiment import MLP, Run

pytestmark = pytest.mark.usefixtures("style")
SMALL, PAPER = Lab(None, "cpu", "small", 0), Lab(None, "cpu", "paper", 0)


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """What is displayed, as one page; with an empty folder of records."""
    page = []
    monkeypatch.setattr("IPython.display.display", lambda what: page.append(getattr(what, "data", "")))
    monkeypatch.setattr(records, "FOLDER", tmp_path / "results")
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(claims, "judged", {})
    return lambda: BeautifulSoup("\n".join(page), "html.parser")


@pytest.fixture(scope="module")
def frame():
    """Curves of six runs a seed, made up."""
    rows = [dict(lr=lr, seed=seed, step=step, train_loss=1.0, diverged=norm == "none" and lr == 0.5 and step > 0, norm=norm,
                 train_accuracy=round(0.1 + gain * step / 15_000 + seed / 100, 4), test_accuracy=0.5, network="vgg",
                 init="glorot")
            for norm, gain in (("none", 0.6), ("batch", 0.8), ("noisy_batch", 0.75)) for lr in (0.1, 0.5) for seed in (0, 1, 2)
            for step in (0, 2500, 15_000)]
    return pd.DataFrame(rows)


def recorded(frame, **changes):
    """Write the record of ``curves``, as ``reproduce --record`` would."""
    runs = EXPERIMENTS["curves"].runs("paper", "cifar10", (0, 1, 2))
    provenance = {"experiment": "curves", "scale": "paper", "seeds": [0, 1, 2], "runs": fingerprint(runs),
                  "data": {"name": "cifar10", "sha256": "ab" * 32, "source": "somewhere", "note": "JPEG re-encoded copy"},
                  "command": "python -m bncourse reproduce curves", "commit": "c0ffee", "dirty": True,
                  "started": "2030-01-01T00:00:00+00:00", "finished": "2030-01-01T01:00:00+00:00",
                  "hardware": [{"cpu": "a processor", "gpu": "a GPU"}], "versions": {"torch": "9.9"}, "device": "cuda",
                  "precision": "tf32", "seconds": 3600.0, "peak_memory_mib": 2048.0,
                  "deviations": ["Not stated: <something>."], "meaning": runner._meaning()} | changes
    return records.write("curves", frame, provenance)


def verdict(id, values, **side):
    claim = Claim(id, f"Sentence {id}.", "somebody", "an effect", **side)
    return claims.Verdict(claim, "supported", claims.interval(values, claim.ratio), "supported", tuple(values))


# Beside the frame above, in which these two are -5 and +15 points.
CLOSE = verdict("nb-trains-like-bn", [-0.02, -0.01, -0.02, -0.01, -0.03], above=-0.05, unit="points")
AHEAD = verdict("nb-beats-plain-late", [0.01, 0.02, 0.0, 0.01, 0.02], above=0.05, unit="points")
ELSEWHERE = verdict("of-another-chapter", [1.0, 2, 3, 4, 5], above=0)


def cells(page):
    return [[cell.get_text() for cell in row.select("td")] for row in page.select("table.full-scale tbody tr")]


def test_a_record_is_drawn_compared_and_shown_with_its_provenance(frame, shown):
    recorded(frame)
    panels.panel("curves", SMALL, [CLOSE, AHEAD, ELSEWHERE])
    page = shown()
    alt = page.svg["aria-label"]
    assert "learning rate 0.1, training accuracy at the right end: no normalization 0.710, batch norm 0.910" in alt
    caption = page.figcaption.get_text()
    assert "mean over 3 seeds" in caption and "3 of 18 runs blew up" in caption
    [close, ahead] = cells(page)
    assert close[:4] == ["Sentence nb-trains-like-bn.", "above −5 points", CLOSE.effect_text(),
                         "−5.00 [−5.00, −5.00] points, 3 seeds"]
    assert ahead[3:] == ["15.0 [15.0, 15.0] points, 3 seeds", "no"], "here below five points, there above"
    facts = page.details.get_text(" ")
    for fact in ("c0ffee, with changes that are in no commit", "a GPU", "torch 9.9", "JPEG re-encoded copy", "tf32",
                 "60.0 min", "2,048 MiB", "0, 1, 2", "abab", "Not stated: <something>."):
        assert fact in facts, fact
    assert not page.details.has_attr("open") and "<something>" not in str(page)


def test_without_verdicts_given_those_of_this_notebook_are_compared(frame, shown, monkeypatch):
    monkeypatch.setattr(claims.Verdict, "show", lambda self: None)
    monkeypatch.setattr(claims, "strict", False)
    recorded(frame)
    for each in (AHEAD, ELSEWHERE):
        each.claim.judge(each.values)
    panels.panel("curves", SMALL)
    assert [row[0] for row in cells(shown())] == ["Sentence nb-beats-plain-late."]


@pytest.mark.parametrize("values, same, text", [
    ([0.5, np.inf, 1.0], "yes", "50.0 points, infinite, 100 points"),
    ([0.5, np.nan, 1.0], "cannot be said", "50.0 points, none"),
    ([0.0, 0.01, 0.02], "no", "1.0 ["), ([0.5], "yes", "50.0 points")])
def test_sides_of_a_threshold(values, same, text, frame, shown, monkeypatch):
    effect = replace(EXPERIMENTS["curves"], effects={"nb-beats-plain-late": lambda frame: np.array(values)})
    recorded(frame)
    record = records.read("curves")
    monkeypatch.setitem(panels.EXPERIMENTS, "curves", effect)
    inside = verdict("nb-beats-plain-late", [0.1, 0.2, 0.1, 0.2, 0.3], above=0.05, unit="points")
    page = BeautifulSoup(panels._agreement(record, [inside]), "html.parser")
    [row] = cells(page)
    assert row[-1] == same and row[3].startswith(text)
    assert f"Of 1 effects measured at both scales, {int(same == 'yes')} lie" in page.get_text()


def test_nothing_recorded_says_how_to(shown):
    panels.panel("lr-range", SMALL, [])
    page = shown()
    assert page.get_text().startswith("Not yet recorded.") and not page.select("svg, table")
    assert "python -m bncourse reproduce lr-range --data cifar10 --scale paper --record" in page.get_text()
    assert not re.search(r"\d\.\d|%", page.get_text()), "a number that nobody measured"


def test_the_command_is_one_that_there_is(shown):
    from typer.testing import CliRunner

    from bncourse.__main__ import app

    panels.panel("curves", SMALL, [])
    command = next(code.get_text() for code in shown().select("code") if "reproduce" in code.get_text())
    done = CliRunner().invoke(app, [*command.split()[3:], "--help"])
    assert done.exit_code == 0 and all(option in done.output for option in re.findall(r"--\w+", command))


def test_an_installed_package_has_no_records(shown, monkeypatch, tmp_path):
    monkeypatch.setattr(records, "FOLDER", tmp_path / "nowhere")
    panels.panel("curves", SMALL, [])
    assert "published page shows this one if there is one" in shown().get_text()


@pytest.mark.parametrize("spoil, why", [
    (lambda path: path.write_bytes(path.read_bytes() + b"x"), "is not the table that was recorded"),
    (lambda path: path.with_name("curves.json").unlink(), "it has no provenance"),
])
def test_a_refused_record_shows_no_number(spoil, why, frame, shown):
    spoil(recorded(frame))
    panels.panel("curves", SMALL, [CLOSE])
    page = shown()
    assert page.get_text().startswith("No full-scale result is shown.") and why in page.get_text()
    assert not page.select("svg, table, details")


def test_a_record_of_other_code_is_refused(frame, shown):
    recorded(frame, meaning=runner._meaning() | {"bncourse.train:train": "0123456789ab"})
    panels.panel("curves", SMALL, [])
    assert "the code has changed in meaning: bncourse.train:train" in shown().get_text() and not shown().select("svg")


def test_an_unknown_experiment(shown):
    with pytest.raises(ValueError, match="unknown experiment 'curve'; there are curves, noisy"):
        panels.panel("curve", SMALL)


def test_at_the_papers_scale_it_is_run_here_and_goes_on_where_it_was(shown, monkeypatch, tmp_path, capsys):
    digits = data.load("digits")
    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "load", lambda name, device: replace(digits, name=name))
    monkeypatch.setattr(runner, "data_hash", lambda name: "ab" * 32)
    monkeypatch.setattr(runs, "load", runs.load.__wrapped__)  # which does not remember: other tests have no such cifar10
    labels = {"network": "mlp", "init": "he"}
    tiny = replace(EXPERIMENTS["curves"], runs=lambda scale, name, seeds: [
        Run({**MLP, "hidden": (8,), "norm": norm}, {"data": name}, (0.1, 0.5), tuple(seeds), 4, 32, (0, 2, 4), test=True,
            labels=labels)
        for norm in ("none", "batch", "noisy_batch")])
    monkeypatch.setitem(EXPERIMENTS, "curves", tiny)
    panels.panel("curves", PAPER, [CLOSE])
    page = shown()
    folder = tmp_path / "cache" / "reproduced" / "paper-cifar10" / "curves"
    assert f"{folder}" in page.get_text() and len(list(folder.glob("*.run.gz"))) == 3
    assert len(page.select("svg")) == 1 and 'this notebook with SCALE = "paper"' in page.details.get_text()
    assert "3 of 3 runs" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.run.gz")}
    panels.panel("curves", PAPER, [CLOSE])
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.run.gz")} == before, "computed again"


def test_every_experiment_can_be_drawn():
    assert set(panels.VIEWS) == set(EXPERIMENTS)
    for views in panels.VIEWS.values():
        assert all(view.x in panels.AXES for view in views)


def test_ratios_have_a_geometric_mean():
    assert panels._summary([2.0, 8.0], True) == pytest.approx(4) and panels._summary([2.0, 8.0], False) == 5.0
    assert panels._summary([2.0, np.inf], True) == np.inf and np.isnan(panels._summary([2.0, np.nan], False))
