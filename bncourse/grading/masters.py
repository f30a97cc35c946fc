"""The student notebook is generated from the master, so the two cannot drift apart.

In a master the solution stands between `### BEGIN SOLUTION` and `### END SOLUTION`; a cell tagged `solution` is for
teachers only. Everything else is the same text in both.
"""

import re
from pathlib import Path

import nbformat

from .feedback import GradingError

SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION[ \t]*\n.*?^[ \t]*### END SOLUTION[ \t]*$", re.MULTILINE | re.DOTALL)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def canonical(notebook) -> str:
    """The one way a notebook is written here: no outputs, no counts, no editor's metadata."""
    for cell in notebook.cells:
        # What a cell is for, and what its folded code is called.
        cell.metadata = {name: cell.metadata[name] for name in ("mystnb", "tags") if cell.metadata.get(name)}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def tidy(path: Path, check: bool = False) -> bool:
    """Writes a notebook in the one way (with `check`: writes nothing). Says whether that changes it."""
    text = path.read_text(encoding="utf-8")
    tidied = canonical(nbformat.reads(text, as_version=4))
    if tidied != text and not check:
        path.write_text(tidied, encoding="utf-8", newline="\n")
    return tidied != text


def without_solutions(source: str, question_of: dict[str, str]) -> str:
    """The cell with every solution replaced by a stub: three dots where an answer is a value, else a line that raises.
    `question_of`: answer to question, for the stub's message."""

    def stub(match) -> str:
        values = re.findall(r"^(answer_\w+) = ", match[0], re.MULTILINE)
        if values:
            return "\n".join(f"{value} = ..." for value in values)
        written = re.findall(r"^[ \t]*def (\w+)", source[: match.start()], re.MULTILINE)
        answer = written[-1] if written else "this"
        question = f"{question_of[answer]}: " if answer in question_of else ""
        return f'{match[1]}raise NotImplementedError("{question}{answer} is not written yet")'

    source = SOLUTION.sub(stub, source)
    if "SOLUTION" in source:
        raise GradingError(f"BEGIN SOLUTION and END SOLUTION do not match in the cell that starts {source[:60]!r}")
    return source


def student_version(master: Path) -> str:
    from .checks import load  # imported here because it needs torch, and `bncourse tidy` does not

    notebook = nbformat.read(master, as_version=4)
    questions = load(master.stem.split("_")[0]).QUESTIONS
    question_of = {question.answer: name for name, question in questions.items()}
    notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = without_solutions(cell.source, question_of)
    return canonical(notebook)


def regenerate(folder: Path, check: bool = False) -> list[Path]:
    """Writes `folder/exNN_….ipynb` for every `folder/masters/exNN_….ipynb`; returns those that changed (with `check`:
    would change, and nothing is written). Raises `GradingError` when there are no masters."""
    masters = sorted((folder / "masters").glob("ex*.ipynb"))
    if not masters:
        raise GradingError(f"no masters in {folder / 'masters'}; run this in a checkout of the course")
    changed = []
    for master in masters:
        student, text = folder / master.name, student_version(master)
        if not student.exists() or student.read_text(encoding="utf-8") != text:
            changed.append(student)
            if not check:
                student.write_text(text, encoding="utf-8", newline="\n")
    return changed
