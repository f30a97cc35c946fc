"""Master and student notebook: the same text, one solved and one not, and neither with anything a run leaves behind."""

import re

import nbformat
import pytest
from handed_in import MASTER, MASTERS, ROOT, STUDENT, STUDENTS, cells_of
from typer.testing import CliRunner

from bncourse.__main__ import app
from bncourse.grading import exercise
from bncourse.grading.cells import plain_python
from bncourse.grading.checks import Written, exercises, load
from bncourse.grading.masters import SOLUTION, canonical, regenerate, without_solutions

name_of = lambda path: path.stem.split("_")[0]  # noqa: E731
each_master = pytest.mark.parametrize("path", MASTERS, ids=name_of)
each_student = pytest.mark.parametrize("path", STUDENTS, ids=name_of)
each_notebook = pytest.mark.parametrize("path", MASTERS + STUDENTS, ids=lambda path: f"{path.parent.name}-{name_of(path)}")


def run_notebook(path, monkeypatch):
    """Runs all cells here, as a kernel would; returns the namespace."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace = {"In": [""], "display": lambda *_, **__: None, "__name__": "__main__"}
    for cell in cells_of(path):
        namespace["In"].append(cell)
        exec(plain_python(cell), namespace)
    return namespace


def text_of(path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


def test_every_exercise_has_a_master_and_a_student_notebook():
    assert [name_of(p) for p in MASTERS] == [name_of(p) for p in STUDENTS] == exercises()


@each_master
def test_the_master_scores_the_maximum_and_raises_nothing_when_checks_are_strict(path, monkeypatch):
    monkeypatch.setenv("BNCOURSE_STRICT", "1")
    results = run_notebook(path, monkeypatch)["check"]()
    for result, question in zip(results, load(name_of(path)).QUESTIONS.values(), strict=True):
        if isinstance(question, Written):
            assert result.status == "pending", result
        else:
            assert (result.status, result.points) == ("ok", result.max), result


@each_student
def test_the_student_notebook_scores_nothing_and_raises_nothing(path, monkeypatch):
    results = run_notebook(path, monkeypatch)["check"]()
    assert [(r.points, r.status, r.code) for r in results] == [(0, "wrong", "not_started")] * len(results)


def test_an_unsolved_question_raises_when_checks_are_strict(monkeypatch):
    monkeypatch.setenv("BNCOURSE_STRICT", "1")
    with pytest.raises(AssertionError, match="Not written yet"):
        run_notebook(STUDENT, monkeypatch)


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


def test_tidying_takes_out_what_a_run_left_behind(tmp_path):
    notebook = nbformat.read(STUDENT, as_version=4)
    notebook.cells[1].metadata = {"collapsed": True}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = 3, [nbformat.v4.new_output("stream", text="a result\n")]
    notebook.metadata.language_info["version"] = "3.12.1"
    path = tmp_path / "used.ipynb"
    nbformat.write(notebook, path)
    used = path.read_bytes()
    assert CliRunner().invoke(app, ["tidy", "--check", str(path)]).exit_code == 1 and path.read_bytes() == used
    assert CliRunner().invoke(app, ["tidy", str(path)]).exit_code == 0
    assert path.read_bytes() == STUDENT.read_bytes()
    assert CliRunner().invoke(app, ["tidy", "--check", str(path)]).exit_code == 0


def test_tidying_what_is_no_notebook_says_so(tmp_path):
    (tmp_path / "torn.ipynb").write_text('{"cells": [', "utf-8")
    result = CliRunner().invoke(app, ["tidy", str(tmp_path / "torn.ipynb")])
    assert result.exit_code == 2 and "torn.ipynb is not a notebook" in result.output


@each_master
def test_the_student_notebook_holds_no_line_of_a_solution(path):
    student = text_of(path.parents[1] / path.name)
    assert "SOLUTION" not in student and "For teachers" not in student
    solutions = [line.strip() for match in SOLUTION.finditer(text_of(path)) for line in match[0].splitlines()]
    telling = [line for line in solutions if len(line) > 25 and not line.startswith("#")]
    assert len(telling) > 3
    given = student.splitlines()
    assert [line for line in telling if line in (g.strip() for g in given)] == []


def test_a_solution_without_an_end_is_an_error():
    from bncourse.grading.feedback import GradingError

    with pytest.raises(GradingError, match="do not match"):
        without_solutions("def f():\n    ### BEGIN SOLUTION\n    return 1\n", {})


def test_a_value_becomes_three_dots_and_a_function_a_line_that_raises():
    value = "### BEGIN SOLUTION\nanswer_q2 = 0.3\n### END SOLUTION"
    assert without_solutions(value, {}) == "answer_q2 = ..."
    function = "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION"
    assert without_solutions(function, {"f": "q1"}) == 'def f(x):\n    raise NotImplementedError("q1: f is not written yet")'


@each_notebook
def test_a_notebook_is_written_in_the_one_way(path):
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    assert canonical(notebook) == text
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids) and all(i.startswith(f"{name_of(path)}-") for i in ids)


@each_notebook
def test_headings_start_with_one_title_and_skip_no_level(path):
    cells = nbformat.read(path, as_version=4).cells
    lines = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    levels = [len(line) - len(line.lstrip("#")) for line in lines if re.match("#+ ", line)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:]))


@each_student
def test_every_question_has_three_closed_hints_and_a_check(path):
    name = name_of(path)
    cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
    for question in load(name).QUESTIONS:
        hints = cells[f"{name}-{question}-hints"]
        assert hints.count("<details>") == hints.count("</details>") == 3 and "<details open" not in hints
        assert f'check("{question}")' in cells[f"{name}-{question}-check"]


@each_student
def test_points_and_links_of_the_text_are_those_of_the_questions(path):
    questions = load(name_of(path)).QUESTIONS.values()
    said = re.search(r"\*\*Points\*\* (\d+): ([\d +]+)\.", text_of(path))
    assert [int(n) for n in said[2].split("+")] == [q.points for q in questions]
    assert int(said[1]) == sum(q.points for q in questions)
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", text_of(path)):
        assert (path.parent / link).exists(), link


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
