"""Master and student notebook: the same text, one solved and one not, and neither with anything a run leaves behind."""

import nbformat
import pytest
from handed_in import MASTER, ROOT, STUDENT, cells_of
from typer.testing import CliRunner

from bncourse.__main__ import app
from bncourse.grading import exercise
from bncourse.grading.masters import canonical, regenerate, without_solutions
from bncourse.grading.shortcuts import plain_python


def run_notebook(path):
    """Runs all cells here, as a kernel would; returns the namespace."""
    namespace = {"In": [""]}
    for cell in cells_of(path):
        namespace["In"].append(cell)
        exec(plain_python(cell), namespace)
    return namespace


def test_the_master_scores_the_maximum_and_raises_nothing_when_checks_are_strict(monkeypatch):
    monkeypatch.setenv("BNCOURSE_STRICT", "1")
    results = run_notebook(MASTER)["check"]()
    assert sum(r.points for r in results) == sum(r.max for r in results) == 20


def test_the_student_notebook_scores_nothing_and_raises_nothing():
    results = run_notebook(STUDENT)["check"]()
    assert [(r.points, r.status, r.code) for r in results] == [(0, "wrong", "not_started")] * 5


def test_an_unsolved_question_raises_when_checks_are_strict(monkeypatch):
    monkeypatch.setenv("BNCOURSE_STRICT", "1")
    with pytest.raises(AssertionError, match="Not written yet"):
        run_notebook(STUDENT)


def test_regenerating_changes_nothing():
    assert regenerate(ROOT / "exercises", check=True) == []


def test_a_stale_student_notebook_is_noticed_and_written(tmp_path):
    (tmp_path / "masters").mkdir()
    (tmp_path / "masters" / MASTER.name).write_bytes(MASTER.read_bytes())
    command = ["student", "--folder", str(tmp_path)]
    assert CliRunner().invoke(app, [*command, "--check"]).exit_code == 1
    assert not (tmp_path / STUDENT.name).exists()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (tmp_path / STUDENT.name).read_bytes() == STUDENT.read_bytes()


def test_the_student_notebook_holds_no_solution():
    text = STUDENT.read_text()
    assert "SOLUTION" not in text and "For teachers" not in text
    for answer in ("xhat = ", "x.movedim", "torch.sqrt(running_var"):
        assert answer in MASTER.read_text() and answer not in text


def test_a_solution_without_an_end_is_an_error():
    from bncourse.grading.feedback import GradingError

    with pytest.raises(GradingError, match="do not match"):
        without_solutions("def f():\n    ### BEGIN SOLUTION\n    return 1\n", {})


@pytest.mark.parametrize("path", [MASTER, STUDENT], ids=["master", "student"])
def test_a_notebook_is_written_in_the_one_way(path):
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    assert canonical(notebook) == text
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids) and all(i.startswith("ex01-") for i in ids)


@pytest.mark.parametrize("path", [MASTER, STUDENT], ids=["master", "student"])
def test_headings_start_with_one_title_and_skip_no_level(path):
    cells = nbformat.read(path, as_version=4).cells
    lines = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    levels = [len(line) - len(line.lstrip("#")) for line in lines if line.startswith("#")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:]))


def test_every_question_has_three_closed_hints():
    cells = {cell.id: cell.source for cell in nbformat.read(STUDENT, as_version=4).cells}
    for question in ("q1", "q2", "q3", "q4", "q5"):
        hints = cells[f"ex01-{question}-hints"]
        assert hints.count("<details>") == hints.count("</details>") == 3 and "<details open" not in hints


def test_unknown_names_say_what_there_is():
    from bncourse.grading.feedback import GradingError

    with pytest.raises(GradingError, match="ex99.*ex01"):
        exercise("ex99", {})
    with pytest.raises(ValueError, match="q9.*q1, q2"):
        exercise("ex01", {})("q9")


def test_feedback_is_text_and_html_and_shows_no_markup_of_the_student():
    check = exercise("ex01", {"batch_norm": lambda *_: (_ for _ in ()).throw(ValueError("<script>"))})
    result = check("q1")
    assert "<script>" in str(result) and "<script>" not in result._repr_html_()
    assert "<script>" not in check()._repr_html_()
