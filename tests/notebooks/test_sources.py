"""The notebooks as they are kept in git: no results, nothing typed in, nothing a machine left behind."""

import re
from pathlib import Path

import nbformat
import pytest
from build import pages
from surroundings import tracked

ROOT = Path(__file__).parents[2]
NOTEBOOKS = tracked("*.ipynb")
CHAPTERS = tracked("book/[0-9][0-9]_*.ipynb")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def mend(path):
    return f"python -m bncourse tidy {path.relative_to(ROOT)}"


def bootstrap(path):
    return code_cells(path)[0].source


def test_make_test_executes_every_notebook():
    # `make test` gives nbval the landing page and the exercises; the chapters are executed by the build and with other seeds.
    assert NOTEBOOKS
    assert {path.relative_to(ROOT).parts[0] for path in NOTEBOOKS} <= {"book", "exercises"}
    assert "--nbval-lax" in (ROOT / "Makefile").read_text() and "tests book/index.ipynb exercises" in (ROOT / "Makefile").read_text()


def test_every_chapter_of_the_book_is_in_git():
    named = [ROOT / f"{name}.ipynb" for name in pages()]
    missing = [str(path.relative_to(ROOT)) for path in named if path.exists() and path not in NOTEBOOKS]
    assert not missing, f"_toc.yml names them, but no test looks at them yet: git add {' '.join(missing)}"


@every_notebook
def test_format(path):
    text = path.read_text("utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids)), "two cells have the same id"
    assert text == nbformat.writes(notebook) + "\n", f"not formatted as it is kept: {mend(path)}"


@every_notebook
def test_nothing_left_behind(path):
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}, mend(path)
    assert notebook.metadata.kernelspec.name == "python3", mend(path)
    assert notebook.metadata.language_info == {"name": "python"}, mend(path)
    for number, cell in enumerate(notebook.cells):
        folded = {"mystnb"} if "hide-input" in cell.metadata.get("tags", []) else set()
        assert set(cell.metadata) <= {"tags"} | folded, f"cell {number}: {mend(path)}"
        assert set(cell.metadata.get("mystnb", {})) <= {"code_prompt_show", "code_prompt_hide"}, f"cell {number}"
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, f"cell {number} carries results: {mend(path)}"


@every_notebook
def test_bootstrap_is_the_first_code_cell_and_the_same_everywhere(path):
    assert bootstrap(path).startswith("# Bootstrap:")
    assert bootstrap(path) == bootstrap(NOTEBOOKS[0]), f"differs from {NOTEBOOKS[0].name}"


@every_notebook
def test_no_network(path):
    for cell in code_cells(path)[1:]:
        found = re.search(r"https?://|urllib|urlopen|\brequests\b|^\s*[!%]", cell.source, re.M)
        assert not found, f"{found[0]!r} in:\n{cell.source}"


# Numbers that name a place in a source, not a result.
PLACE = r"(Def(inition)?|Theorem|Thm|Lemma|Fig(ure)?s?|Section|§|Eq(uation)?|Table|Alg(orithm)?|Obs(ervation)?|Python|BY)\.?\s*\(?\d+(\.\d+)*"
RESULT = r"\d+\.\d+|\d\s?%"


def typed_results(markdown):
    """Decimal numbers and percentages in prose, except in code, in math and in paragraphs that cite their source."""
    markdown = re.sub(r"^(```|~~~).*?^\1", "", markdown, flags=re.S | re.M)
    markdown = re.sub(r"\$\$.*?\$\$", "", markdown, flags=re.S)
    for paragraph in re.split(r"\n\s*\n|^\s*[-*|]\s", markdown, flags=re.M):
        if "{cite" not in paragraph:
            prose = re.sub(r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)", "", paragraph)
            yield from (found[0] for found in re.finditer(RESULT, re.sub(PLACE, "", prose)))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_result_is_typed_into_prose(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            assert not list(typed_results(cell.source)), f"measure it in a cell, or cite it:\n{cell.source}"


def test_typed_results_are_found():
    assert list(typed_results("It reached 97 % in\nhalf the time.")) == ["7 %"]
    assert list(typed_results("- one\n- by 3.1 times")) == ["3.1"]
    assert not list(typed_results("Definition 2.1 and Fig. 4.2; `lr=0.1`, $n_\\mu = 0.5$."))
    assert not list(typed_results("It was 92.3 % {cite}`somebody2018`."))
