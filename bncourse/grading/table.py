"""The grade table: one row a submission, a person's marks merged in, and the files that Canvas and Moodle import."""

import csv
import hashlib
import html
import os
import re
import tempfile
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from .feedback import GradingError, Result

# Learning platforms pack submissions under names of their own: name, number, and what the student called the file. Canvas
# puts LATE before the number, and anon_… in the place of name and number when it hides them; Moodle makes a folder, or not.
CANVAS = re.compile(r"(?:(?P<name>.+?)_)??(?P<late>LATE_)?(?:(?P<number>\d+)|anon_(?P<anonymous>\w+?))_\d+_.+", re.DOTALL)
MOODLE = re.compile(r"(?P<name>.+?)_(?P<number>\d+)_assignsubmission_.*", re.DOTALL)


@dataclass
class Row:
    """One submission, graded. `file`: its path in the folder; `digest`: of its content and of the checks; `partial`: only the
    questions there are results for were graded now."""

    file: str
    digest: str
    status: str
    results: dict[str, Result] = field(default_factory=dict)
    message: str = ""
    late: bool = False
    partial: bool = False


@dataclass(frozen=True)
class Mark:
    """Points that a person gives. `line`: where in the file, for messages."""

    student: str
    question: str
    points: float
    comment: str
    line: int


def harmless(name: str) -> str:
    """`=cmd` would be a formula to a spreadsheet."""
    return f"./{name}" if name[:1] in tuple("=+-@\t\r") else name


def student_of(file: str, exercise: str) -> tuple[str, str]:
    """Who handed in `file`, and the number their platform knows them by ("" if it does not say).

    Canvas and Moodle say it in the name of the file or of a folder around it, GitHub Classroom in that of the repository
    (`ex02-jane/…`). Else a file called after the exercise belongs to whoever its folder is called after (`jane/ex02.ipynb`), and
    any other file's own name is the student's (`jane.ipynb`, `tuesday/jane.ipynb`).
    """
    parts = unicodedata.normalize("NFC", file.removeprefix("./")).split("/")
    for part in parts:
        if found := MOODLE.fullmatch(part):
            return harmless(found["name"]), found["number"]
    if found := CANVAS.fullmatch(parts[-1]):
        return harmless(found["name"] or f"anonymous {found['anonymous']}"), found["number"] or found["anonymous"]
    for part in reversed(parts[:-1]):
        if found := re.fullmatch(rf"(?:{exercise}|exercise[-_]?0?{int(exercise[2:])})[-_](.+)", part, re.IGNORECASE):
            return harmless(found[1]), ""
    *folders, name = parts
    own = re.sub(r"(\.(ipynb|txt|json|py))+$", "", name, flags=re.IGNORECASE)
    return harmless("/".join(folders if folders and name.lower().startswith(exercise) else [*folders, own])), ""


def alias(row: dict) -> str:
    """A name that tells nobody who it is; the same in every run, and understood by `--manual`."""
    return "anonymous-" + hashlib.sha256(f"{row['student']}/{row['number']}".encode()).hexdigest()[:8]


def is_late(file: str) -> bool:
    """Whether Canvas says so."""
    found = CANVAS.fullmatch(file.rpartition("/")[2])
    return bool(found and found["late"])


def write_csv(path: Path, columns: list[str], rows) -> None:
    """Written whole under another name and then renamed, so the file is never half there."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.chmod(temporary, 0o600)  # grades are nobody else's business
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class Table:
    """Rows by file. Every change is written at once, so an interruption loses nothing."""

    def __init__(self, path: Path, exercise: str, questions: dict):
        self.path, self.exercise, self.questions, self.rows = path, exercise, questions, {}
        self.written = [name for name, question in questions.items() if hasattr(question, "rubric")]
        # Of this run: files that are no submissions, each with the reason, and pairs of submissions that are alike.
        self.others: dict[str, str] = {}
        self.alike: list[tuple[str, str, float]] = []
        per_question = [f"{q}{what}" for what in ("", "_status", "_misconception", "_feedback") for q in questions]
        self.columns = ["file", "status", "points", "max", *per_question]
        self.columns += [f"{q}_text" for q in self.written]
        self.columns += ["message", "pending", "student", "number", "late", "seed", "digest"]
        if path.exists():
            self.read()
        self.write()

    def read(self) -> None:
        other = GradingError(f"{self.path} exists and is not a grade table of this exercise; choose another name with --csv")
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file, strict=True)
                if reader.fieldnames != self.columns:
                    raise other
                self.rows = {row["file"]: row for row in reader}
        except (ValueError, csv.Error):
            raise other from None
        except OSError as error:
            raise self.cannot_write(error) from None

    def cannot_write(self, error: OSError) -> GradingError:
        kept = " What was written before is still there." if self.path.is_file() else ""
        return GradingError(f"cannot write {self.path}: {error.strerror or error}; make room or choose another place with --csv.{kept}")

    def has(self, file: str, digest: str, retry: bool) -> bool:
        """Whether this very submission is graded. `retry`: not if it ran out of time or crashed."""
        row = self.rows.get(file)
        return row is not None and row["digest"] == digest and not (retry and row["status"] in ("timeout", "crashed"))

    def add(self, row: Row, seed: int) -> None:
        """Takes a row in. Of a submission that was graded before, only what `row` has results for is replaced."""
        student, number = student_of(row.file, self.exercise)
        cells = {"file": row.file, "status": row.status, "message": row.message, "digest": row.digest}
        cells |= {"student": student, "number": number, "seed": str(seed), "late": "late" if row.late or is_late(row.file) else ""}
        cells |= {f"{name}_text": harmless(row.results[name].text) if name in row.results else "" for name in self.written}
        before = self.rows.get(row.file)
        for name in self.questions:
            result = row.results.get(name)
            if row.partial and before and not result:
                cells |= {column: before[column] for column in self.columns if column == name or column.startswith(f"{name}_")}
                continue
            cells[name] = f"{result.points:g}" if result else "0"
            cells[f"{name}_status"] = result.status if result else row.status
            cells[f"{name}_misconception"] = result.code if result else ""
            cells[f"{name}_feedback"] = result.message if result else ""
        if row.partial and before:
            statuses = {cells[f"{name}_status"] for name in self.questions}
            cells["status"] = next((status for status in ("timeout", "crashed", "wrong") if status in statuses), "ok")
        self.rows[row.file] = cells
        self.add_up(cells)
        self.write()

    def add_up(self, cells: dict) -> None:
        """`max` holds what is decided; a text that nobody has read yet is `pending`, and counts neither way."""
        pending = {q for q in self.questions if cells[f"{q}_status"] == "pending"}
        cells["points"] = f"{sum(float(cells[q]) for q in self.questions):g}"
        cells["max"] = f"{sum(q.points for name, q in self.questions.items() if name not in pending):g}"
        cells["pending"] = f"{sum(self.questions[name].points for name in pending):g}"

    def merge(self, marks: list[Mark]) -> list[Mark]:
        """Puts a person's points in the place of the check's. Returns the marks that fit no submission. Raises
        `GradingError`, naming the lines, before anything is changed, when a mark fits two students or two marks fit one."""
        unknown, given = [], {}
        for mark in marks:
            rows = [r for r in self.rows.values() if mark.student in (r["student"], r["file"], r["number"], alias(r))]
            who = sorted({(r["student"], r["number"]) for r in rows})
            if len(who) > 1:
                told = " and ".join(f"{name} ({number or 'no number'})" for name, number in who)
                raise GradingError(f"line {mark.line} of the marks: {mark.student!r} fits {told}; use the number or the file instead")
            for cells in rows:
                before = given.setdefault((cells["file"], mark.question), mark)
                if before is not mark:
                    raise GradingError(f"line {mark.line} of the marks: {cells['student']} has points for {mark.question} in line {before.line} already")
            if not rows:
                unknown.append(mark)
        for (file, question), mark in given.items():
            cells = self.rows[file]
            cells[question] = f"{mark.points:g}"
            cells[f"{question}_status"] = "manual"
            cells[f"{question}_misconception"] = ""
            cells[f"{question}_feedback"] = mark.comment
            self.add_up(cells)
        self.write()
        return unknown

    def write_marks(self, anonymous: bool = False) -> Path | None:
        """A table for `--manual` with a row for each text that is still to be read: put the points in. What somebody has
        written into it before stays; None when there is nothing to read, or the file there is another one."""
        path, columns = self.path.with_name(f"{self.path.stem}-marks.csv"), ["student", "question", "points", "comment", "of", "text", "criteria"]
        rows = {}
        if path.exists():
            try:
                with open(path, newline="", encoding="utf-8-sig") as file:
                    reader = csv.DictReader(file)
                    if reader.fieldnames != columns:
                        return None
                    rows = {(row["student"], row["question"]): row for row in reader}
            except (OSError, ValueError, csv.Error):
                return None
        for row in self.best():
            same = [other for other in self.best() if other["student"] == row["student"]]
            student = alias(row) if anonymous else row["student"] if len(same) == 1 else row["number"] or row["file"]
            for name in self.written:
                if row[f"{name}_status"] == "pending":
                    question = self.questions[name]
                    criteria = "; ".join(f"{what} ({points:g})" for what, points in question.rubric.items())
                    new = dict(zip(columns, (student, name, "", "", f"{question.points:g}", row[f"{name}_text"], criteria)))
                    old = rows.get((student, name), new)
                    rows[student, name] = new | {key: old[key] for key in ("points", "comment")}
        if rows:
            try:
                write_csv(path, columns, rows.values())
            except OSError as error:
                raise GradingError(f"cannot write {path}: {error.strerror or error}; the grades are in {self.path}") from None
        return path if rows else None

    def write(self) -> None:
        try:
            write_csv(self.path, self.columns, (self.rows[name] for name in sorted(self.rows)))
        except OSError as error:
            raise self.cannot_write(error) from None

    def best(self) -> list[dict]:
        """One row a student: of several submissions the one with most points."""
        best = {}
        for row in self.rows.values():
            key = (row["student"], row["number"])
            if key not in best or float(row["points"]) > float(best[key]["points"]):
                best[key] = row
        return [best[key] for key in sorted(best)]

    def write_imports(self) -> list[Path]:
        """Beside the table, what Canvas ("Import" in the gradebook), Moodle ("Upload grading worksheet") and those who read
        nbgrader's export take.

        Either finds a student by the number in the file names it had packed; names of other files, and anonymous ones, leave that
        to be filled in. What each importer demands is written out as a test (tests/exercises/test_table.py).
        """
        title, written = f"Exercise {int(self.exercise[2:])}", []
        canvas = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", title]
        # Moodle takes no worksheet without the column "Last modified (grade)". "-" is what it writes itself for a grade that
        # was never set: it will then not replace a newer one unless it is told to. It keeps comments as HTML.
        moodle = ["Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (grade)", "Feedback comments"]
        nbgrader = ["assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email", "raw_score",
                    "late_submission_penalty", "score", "max_score"]  # fmt: skip
        full = sum(q.points for q in self.questions.values())
        # Canvas takes the points possible of an exercise that is new to it from a row above the students.
        rows = {"canvas": [{"Student": "    Points Possible", title: f"{full:g}"}], "moodle": [], "nbgrader": []}
        for row in self.best():
            number = row["number"] if row["number"].isdecimal() else ""  # of "5xAbc" Canvas would read student 5
            told = [f"{q}: {row[f'{q}_feedback']}" for q in self.questions if row[f"{q}_feedback"]]
            rows["canvas"].append({"Student": row["student"], "ID": number, title: row["points"]})
            rows["moodle"].append(
                {
                    "Identifier": f"Participant {number}" if number else "",
                    "Full name": row["student"],
                    "Grade": row["points"],
                    "Maximum Grade": f"{full:g}",
                    "Last modified (grade)": "-",
                    "Feedback comments": "<br>\n".join(html.escape("\n".join([row["message"], *told]).strip(), False).splitlines()),
                }
            )
            points = {"raw_score": row["points"], "late_submission_penalty": "0.0", "score": row["points"], "max_score": f"{full:g}"}
            rows["nbgrader"].append({"assignment": self.exercise, "student_id": row["number"] or row["student"]} | points)
        for name, columns in (("canvas", canvas), ("moodle", moodle), ("nbgrader", nbgrader)):
            path = self.path.with_name(f"{self.path.stem}-{name}.csv")
            try:
                write_csv(path, columns, rows[name])
            except OSError as error:
                raise GradingError(f"cannot write {path}: {error.strerror or error}; the grades are in {self.path}") from None
            written.append(path)
        return written


def read_marks(path: Path, questions: dict) -> list[Mark]:
    """A CSV with the columns student, question, points and perhaps comment. Raises `GradingError` naming the line."""

    def wrong(line: int, what: str) -> GradingError:
        return GradingError(f"{path}, line {line}: {what}")

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise GradingError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not text in UTF-8'}") from None
    first = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(keepends=True), delimiter=";" if ";" in first and "," not in first else ",")
    names = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
    missing = [name for name in ("student", "question", "points") if name not in names]
    if missing:
        raise wrong(1, f"no column {', '.join(missing)}; there have to be student, question and points (and perhaps comment)")
    marks = {}
    for cells in reader:
        line = reader.line_num
        student, question, points = ((cells[names[name]] or "").strip() for name in ("student", "question", "points"))
        if not points and (not (student or question) or "text" in names):  # a text that is still to be read
            continue
        if not student:
            raise wrong(line, "no student: their name as in the column student of the grade table, or the file's")
        if question not in questions:
            raise wrong(line, f"no question {question!r}; there is {', '.join(questions)}")
        try:
            given = float(points.replace(",", "."))
        except ValueError:
            given = -1.0
        if not 0 <= given <= questions[question].points:
            raise wrong(line, f"{points!r} is not a number of points from 0 to {questions[question].points:g} for {question}")
        if (student, question) in marks:
            raise wrong(line, f"{student} has points for {question} in line {marks[student, question].line} already")
        comment = (cells[names["comment"]] or "").strip() if "comment" in names else ""
        marks[student, question] = Mark(student, question, given, comment, line)
    return list(marks.values())
