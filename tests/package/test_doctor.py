"""``doctor``: one line a question, and an honest answer."""

import sys

import pytest

from bncourse import doctor as module
from bncourse.doctor import CHECKS, doctor


@pytest.fixture
def report(capsys):
    """Run it: (healthy, {question: mark}, all lines)."""
    def run():
        healthy = doctor()
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[1] for line in lines] == list(CHECKS), "one line a question"
        return healthy, {line.split()[1]: line.split()[0] for line in lines}, "\n".join(lines)
    return run


def test_all_is_well_here(report):
    healthy, marks, text = report()
    assert healthy and set(marks.values()) == {"ok"}
    for fact in (f"{sys.version_info.major}.{sys.version_info.minor}", "torch 2", "1437 + 360 images", "is writable"):
        assert fact in text


@pytest.mark.parametrize("name", ["pandas", "rich", "ipywidgets", "sklearn", "pooch"])
def test_a_missing_package(name, report, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    for loaded in [key for key in sys.modules if key.startswith(name + ".")]:
        monkeypatch.setitem(sys.modules, loaded, None)
    healthy, marks, text = report()
    assert not healthy and marks["packages"] == "FAIL"
    assert f"missing {name}" in text and "pip install" in text and "Traceback" not in text


def test_a_cache_that_cannot_be_written(report, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path / "file" / "data"))
    healthy, marks, text = report()
    assert not healthy and marks["cache"] == "FAIL" and "set BNCOURSE_DATA" in text
    assert [name for name, mark in marks.items() if mark == "FAIL"] == ["cache"], "one fault, one line"


def test_an_old_python(report, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    healthy, marks, text = report()
    assert not healthy and marks["python"] == "FAIL" and "needs 3.11 or newer" in text


def test_widgets_that_do_not_draw(report, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("bncourse.widgets.explore", broken)
    healthy, marks, text = report()
    assert not healthy and marks["widgets"] == "FAIL" and "first line second line" in text


def test_an_error_without_words_still_has_a_name(report, monkeypatch):
    def broken():
        raise KeyError()

    monkeypatch.setitem(module.CHECKS, "threads", broken)
    healthy, marks, text = report()
    assert not healthy and "KeyError" in text


def test_everything_the_package_declares_is_looked_for():
    import tomllib
    from pathlib import Path

    declared = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    names = {"scikit-learn": "sklearn"}
    for name in (requirement.split(">")[0] for requirement in declared):
        assert names.get(name, name) in module.NEEDED
