"""What people read after grading: a page for each student, and one for the teacher about the class."""

from collections import Counter
from importlib import resources
from pathlib import Path

from jinja2 import Environment

from .feedback import GradingError
from .table import Table, alias

SIGNS = {"ok": "✓", "manual": "✎", "pending": "…"}


def page(name: str, **content) -> str:
    """A page that needs nothing but itself. Everything from a submission is escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = resources.files(__package__).joinpath("pages.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(page=name, **content)


def answers(row: dict, table: Table) -> list[dict]:
    return [
        {
            "name": name,
            "points": row[name],
            "max": f"{question.points:g}",
            "status": row[f"{name}_status"],
            "sign": SIGNS.get(row[f"{name}_status"], "✗"),
            "told": row[f"{name}_feedback"].splitlines(),
            "text": row.get(f"{name}_text", "").removeprefix("./"),
        }
        for name, question in table.questions.items()
    ]


def counted(table: Table) -> list[dict]:
    """The rows that statistics are about: what was read, and of several submissions by one student the one that counts."""
    return [row for row in table.best() if row["status"] != "unreadable"]


def misconceptions(table: Table) -> list[dict]:
    """The wrong ideas of the class, the commonest first: question, code, how many, and what one of them was told."""
    count, example = Counter(), {}
    for row in counted(table):
        for name in table.questions:
            if code := row[f"{name}_misconception"]:
                count[name, code] += 1
                example.setdefault((name, code), row[f"{name}_feedback"])
    most_first = sorted(count, key=lambda key: (-count[key], key))
    return [{"question": q, "code": code, "count": count[q, code], "told": example[q, code]} for q, code in most_first]


def by_question(table: Table) -> list[dict]:
    """How the class did: mean of the points, and how many answers have which status."""
    found = []
    for name, question in table.questions.items():
        decided = [float(row[name]) for row in counted(table) if row[f"{name}_status"] != "pending"]
        statuses = Counter(row[f"{name}_status"] for row in counted(table))
        mean = f"{sum(decided) / len(decided):.2g}" if decided else "–"
        found.append({"name": name, "max": f"{question.points:g}", "mean": mean, "statuses": sorted(statuses.items())})
    return found


def place(folder: Path, row: dict) -> Path:
    """A student's page lies where the submission lay, so that a platform takes the folder back as feedback files."""
    parts = [part for part in Path(row["file"]).with_suffix(".html").parts if part not in ("..", "/", ".")]
    return folder.joinpath("students", *parts)


def write_pages(folder: Path, table: Table, anonymous: bool = False) -> list[Path]:
    """`folder/index.html` for the teacher, `folder/students/…` for the students; returns what was written. `anonymous`:
    without names, of students and of their files."""
    common = {"exercise": f"Exercise {int(table.exercise[2:])}"}
    written, students = [], []
    try:
        for name in sorted(table.rows):
            row = table.rows[name]
            if anonymous:
                row = row | {"student": alias(row), "file": f"{alias(row)}-{row['digest'][:6]}.ipynb"}
            text = page("student", row=row, answers=answers(row, table), **common)
            path = place(folder, row)
            if path in written:  # x.ipynb beside x.py
                path = path.with_name(f"{path.stem}-{row['digest'][:6]}.html")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            except (IsADirectoryError, NotADirectoryError, FileExistsError):  # x.ipynb beside a folder called x.html
                path = folder / "students" / f"{len(written)}-{row['digest']}.html"
                path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
            written.append(path)
            students.append({"row": row, "link": path.relative_to(folder).as_posix()})
        report = folder / "index.html"
        content = dict(students=students, questions=by_question(table), misconceptions=misconceptions(table))
        content |= {} if anonymous else dict(alike=table.alike, others=sorted(table.others.items()))
        report.write_text(page("class", **content, **common), encoding="utf-8")
        report.chmod(0o600)
    except OSError as error:
        raise GradingError(f"cannot write pages into {folder}: {error.strerror or error}; the grades are in {table.path}") from None
    return [report, *written]
