"""What comes after the checks: a person's marks, the files for learning platforms, the pages for students and teacher."""

import csv
import errno
import re

import pytest
from bs4 import BeautifulSoup

from bncourse.grading import table as tables
from bncourse.grading.checks import Question, Written
from bncourse.grading.feedback import GradingError, Result
from bncourse.grading.report import write_pages
from bncourse.grading.submission import alike, code_cells, find
from bncourse.grading.table import Row, Table, alias, read_marks, student_of

QUESTIONS = {"q1": Question("f", 4, None), "q2": Written("answer_q2", {"says what was seen": 2, "and what was not": 1})}
RIGHT = Result("q1", 4, 4, "ok")
WRONG = Result("q1", 1, 4, "wrong", "unbiased", "Your variance divides by N − 1.\nLook again.")
TEXT = Result("q2", 0, 3, "pending", "", "80 words, for a person to read.")
NOTHING = Result("q2", 0, 3, "wrong", "not_started", "Not answered yet.")
CANVAS, MOODLE = "doejane_LATE_4711_99_ex02-1.ipynb", "Joe Bloggs_123_assignsubmission_file/work.ipynb"


@pytest.fixture
def table(tmp_path):
    """Four students, one of them with two submissions and one whose file cannot be read."""
    made = Table(tmp_path / "grades.csv", "ex02", QUESTIONS)
    made.add(Row(CANVAS, "a", "wrong", {"q1": WRONG, "q2": TEXT}), 7)
    made.add(Row(MOODLE, "b", "ok", {"q1": RIGHT, "q2": TEXT}), 7)
    made.add(Row("<b>x</b>.ipynb", "c", "wrong", {"q1": WRONG, "q2": NOTHING}), 7)
    made.add(Row("doejane_4711_98_ex02.ipynb", "d", "wrong", {"q1": RIGHT, "q2": TEXT}), 7)
    made.add(Row("broken.ipynb", "e", "unreadable", message="The file is empty."), 7)
    return made


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def marks(tmp_path, text: str):
    path = tmp_path / "marks.csv"
    path.write_text(text, encoding="utf-8")
    return read_marks(path, QUESTIONS)


@pytest.mark.parametrize("file, student, number", [
    (CANVAS, "doejane", "4711"),
    (f"week 3/{CANVAS}", "doejane", "4711"),
    ("doejane_4711_98_my_work.ipynb", "doejane", "4711"),
    (MOODLE, "Joe Bloggs", "123"),
    ("jane.ipynb", "jane", ""),
    ("jane_doe_2.ipynb", "jane_doe_2", ""),
    ("tuesday/jane.ipynb", "tuesday/jane", ""),
    ("jane/ex02_covariate_shift.ipynb", "jane", ""),
    ("ex02_covariate_shift.ipynb", "ex02_covariate_shift", ""),
    ("./=cmd.ipynb", "./=cmd", ""),
    ("=cmd_12_34_ex02.ipynb", "./=cmd", "12"),
    ("anon_aB3x9_99_ex02.ipynb", "anonymous aB3x9", "aB3x9"),
    ("LATE_anon_aB3x9_99_ex02.ipynb", "anonymous aB3x9", "aB3x9"),
    ("van_der_berg_LATE_4711_99_ex02.ipynb", "van_der_berg", "4711"),
    (f"week 3/all/{MOODLE}", "Joe Bloggs", "123"),
    ("Joe Bloggs_123_assignsubmission_file_work.IPYNB", "Joe Bloggs", "123"),
    ("Participant_77_assignsubmission_file_/ex02.ipynb", "Participant", "77"),
    ("exercise-2-submissions/ex02-janedoe/exercises/ex02_covariate_shift.ipynb", "janedoe", ""),
    ("exercise-2-janedoe/work.ipynb", "janedoe", ""),
    ("jane.ipynb.txt", "jane", ""),
    ("jane.IPYNB", "jane", ""),
    ("jane.py", "jane", ""),
    ("Jose\u0301.ipynb", "Jos\u00e9", ""),
])  # fmt: skip
def test_a_student_is_known_by_the_name_the_platform_gave_the_file(file, student, number):
    assert student_of(file, "ex02") == (student, number)


def test_a_text_counts_neither_way_until_it_is_read(table, tmp_path):
    (joe,) = [row for row in read(table.path) if row["student"] == "Joe Bloggs"]
    assert (joe["points"], joe["max"], joe["pending"], joe["status"]) == ("4", "4", "3", "ok")
    unknown = table.merge(marks(tmp_path, "student,question,points,comment\nJoe Bloggs,q2,2.5,Good.\nNobody,q2,1,\n"))
    assert [(m.student, m.line) for m in unknown] == [("Nobody", 3)]
    (joe,) = [row for row in read(table.path) if row["student"] == "Joe Bloggs"]
    assert (joe["points"], joe["max"], joe["pending"]) == ("6.5", "7", "0")
    assert (joe["q2"], joe["q2_status"], joe["q2_feedback"]) == ("2.5", "manual", "Good.")


def test_marks_stay_when_the_table_is_read_again_and_no_marks_are_given(table, tmp_path):
    table.merge(marks(tmp_path, "student,question,points\ndoejane,q2,3\n"))
    again = Table(table.path, "ex02", QUESTIONS)
    assert [row["q2"] for row in again.rows.values() if row["student"] == "doejane"] == ["3", "3"]
    assert again.rows == table.rows


def test_a_person_may_overrule_a_check(table, tmp_path):
    table.merge(marks(tmp_path, f"student,question,points\n{CANVAS},q1,4\n"))
    assert table.rows[CANVAS]["q1_status"] == "manual" and table.rows[CANVAS]["points"] == "4"
    assert table.rows["doejane_4711_98_ex02.ipynb"]["q1_status"] == "ok"


def test_a_spreadsheet_may_write_semicolons_commas_and_a_byte_order_mark(table, tmp_path):
    (mark,) = marks(tmp_path, "\ufeffStudent;Question;Points\n4711;q2;1,5\n;;\n")
    assert (mark.student, mark.points) == ("4711", 1.5)
    assert table.merge([mark]) == [] and table.rows[CANVAS]["q2"] == "1.5"


def test_two_students_of_one_name_and_two_rows_for_one_student_are_refused_by_line(table, tmp_path):
    table.add(Row("doejane_4712_97_ex02.ipynb", "f", "wrong", {"q1": RIGHT, "q2": TEXT}), 7)
    before = table.path.read_bytes()
    with pytest.raises(GradingError, match=r"line 3 of the marks: 'doejane' fits doejane \(4711\) and doejane \(4712\)"):
        table.merge(marks(tmp_path, "student,question,points\n123,q2,1\ndoejane,q2,3\n"))
    with pytest.raises(GradingError, match="line 3 of the marks: Joe Bloggs has points for q2 in line 2 already"):
        table.merge(marks(tmp_path, "student,question,points\n123,q2,1\nJoe Bloggs,q2,3\n"))
    assert table.path.read_bytes() == before
    assert table.merge(marks(tmp_path, "student,question,points\n4712,q2,3\n")) == []
    assert [row["q2"] for row in table.rows.values() if row["student"] == "doejane"] == ["0", "0", "3"]


def test_texts_come_in_a_table_to_be_filled_in_and_what_is_in_it_stays(table):
    text = Result("q2", 0, 3, "pending", "", "80 words.", "=I saw that\nit moved.")
    table.add(Row(CANVAS, "a", "wrong", {"q1": WRONG, "q2": text}), 7)
    path = table.write_marks()
    rows = {row["student"]: row for row in read(path)}
    assert set(rows) == {"doejane", "Joe Bloggs"} and rows["Joe Bloggs"]["of"] == "3"
    assert rows["Joe Bloggs"]["criteria"] == "says what was seen (2); and what was not (1)"
    assert read_marks(path, QUESTIONS) == []  # nothing filled in yet is no mistake
    path.write_text(path.read_text().replace("Joe Bloggs,q2,,", "Joe Bloggs,q2,2.5,Good."))
    table.write_marks()
    (mark,) = read_marks(path, QUESTIONS)
    assert (mark.student, mark.points, mark.comment) == ("Joe Bloggs", 2.5, "Good.")
    assert table.merge([mark]) == [] and table.rows[MOODLE]["points"] == "6.5"
    path.write_text("something,else\n")
    assert table.write_marks() is None and path.read_text() == "something,else\n"


@pytest.mark.parametrize("text, says", [
    ("student,points\nx,1\n", "line 1: no column question"),
    ("", "line 1: no column student"),
    ("student,question,points\nx,q9,1\n", "line 2: no question 'q9'; there is q1, q2"),
    ("student,question,points\nx,q2,9\n", "line 2: '9' is not a number of points from 0 to 3"),
    ("student,question,points\nx,q2,nan\n", "line 2: 'nan'"),
    ("student,question,points\nx,q2,\n", "line 2: ''"),
    ("student,question,points\nx,q2,-1\n", "line 2: '-1'"),
    ("student,question,points\nx,q2\n", "line 2"),
    ("student,question,points\n,q2,1\n", "line 2: no student"),
    ("student,question,points\nx,q2,1\nx,q2,2\n", "line 3: x has points for q2 in line 2 already"),
])  # fmt: skip
def test_a_mistake_in_the_marks_is_named_with_its_line(tmp_path, text, says):
    with pytest.raises(GradingError, match=says):
        marks(tmp_path, text)


def test_no_file_of_marks_is_one_clear_line(tmp_path):
    with pytest.raises(GradingError, match="cannot read .*none.csv"):
        read_marks(tmp_path / "none.csv", QUESTIONS)


def as_moodle_reads(path, most: float) -> dict:
    """Number → grade and comment of a worksheet, by the rules of Moodle's importer (mod/assign/feedback/offline, 4.x): comma and
    UTF-8; columns found by name; every row as long as the head; the number stands behind "Participant "; a row without a
    known number, and a grade that is empty, below 0 or above the assignment's own maximum, is passed over in silence."""
    with open(path, newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert len(set(head)) == len(head) and all(len(row) == len(head) for row in rows)
    who, grade, modified, comment = map(head.index, ("Identifier", "Grade", "Last modified (grade)", "Feedback comments"))
    assert comment > 0  # what stands in the first column is not read as a comment
    assert {row[modified] for row in rows} == {"-"}  # no date: older than any grade that is there
    known = [row for row in rows if row[who].startswith("Participant ") and row[who][12:].isdecimal()]
    return {row[who][12:]: (float(row[grade]), row[comment]) for row in known if 0 <= float(row[grade]) <= most}


def as_canvas_reads(path) -> tuple[str, float, dict]:
    """Title, points possible, and (name, number) → points, by the rules of Canvas' gradebook_importer.rb."""
    lines = path.read_text(encoding="utf-8").splitlines()[:3]
    assert len({line.count(";") for line in lines}) > 1 or lines[0].count(";") <= lines[0].count(",")  # else it splits there
    with open(path, newline="", encoding="utf-8") as file:
        head, possible, *rows = csv.reader(file)
    assert len(head) > 3 and "Student" in head[0] and "ID" in head[1]
    assert head[2:4] == ["SIS User ID", "SIS Login ID"] and "Section" in head[4]  # then assignments begin
    (title,) = head[5:]
    assert "Points Possible" in possible[0] and not any("Points Possible" in row[0] for row in rows)
    assert all(row[1] == "" or row[1].isdecimal() for row in rows)  # read as far as it is a number, whoever that may be
    return title, float(possible[5]), {(row[0], row[1]): float(row[5]) for row in rows}


def test_canvas_and_moodle_get_one_row_a_student_with_the_better_submission(table):
    table.add(Row("anon_5aB3x_99_ex02.ipynb", "f", "wrong", {"q1": RIGHT, "q2": TEXT}), 7)
    canvas, moodle, nbgrader = table.write_imports()
    (jane,) = [row for row in read(nbgrader) if row["student_id"] == "4711"]
    assert (jane["assignment"], jane["score"], jane["max_score"]) == ("ex02", "4", "7")
    title, possible, points = as_canvas_reads(canvas)
    assert (title, possible) == ("Exercise 2", 7)
    assert points == {("doejane", "4711"): 4, ("Joe Bloggs", "123"): 4, ("<b>x</b>", ""): 1, ("broken", ""): 0, ("anonymous 5aB3x", ""): 4}
    told = "q1: Right.<br>\nq2: 80 words, for a person to read."
    assert as_moodle_reads(moodle, 7) == {"4711": (4, told), "123": (4, told)}
    assert as_moodle_reads(moodle, 3) == {} and len(read(moodle)) == 5  # the assignment's maximum has to be that of the exercise
    (broken,) = [row for row in read(moodle) if row["Full name"] == "broken"]
    (x,) = [row for row in read(moodle) if row["Full name"] == "<b>x</b>"]
    assert x["Feedback comments"] == "q1: Your variance divides by N − 1.<br>\nLook again.<br>\nq2: Not answered yet."
    assert broken["Feedback comments"] == "The file is empty." and broken["Grade"] == "0" and broken["Maximum Grade"] == "7"


def test_a_table_of_another_exercise_is_left_alone(table):
    before = table.path.read_bytes()
    with pytest.raises(GradingError, match="not a grade table of this exercise"):
        Table(table.path, "ex03", {"q1": QUESTIONS["q1"]})
    assert table.path.read_bytes() == before


def test_a_full_disk_keeps_the_table_and_says_so(table, monkeypatch):
    before = table.path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tables.csv.DictWriter, "writerows", full)
    with pytest.raises(GradingError, match="No space left.*still there"):
        table.add(Row("new.ipynb", "f", "ok", {"q1": RIGHT, "q2": TEXT}), 7)
    assert table.path.read_bytes() == before
    assert [p.name for p in table.path.parent.iterdir()] == [table.path.name]


# ---- pages -----------------------------------------------------------------------------------------------------------


def text_of(path) -> str:
    return re.sub(r"\s+", " ", BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").get_text())


def test_every_student_has_a_page_of_their_own(table, tmp_path):
    report, *pages = write_pages(tmp_path / "pages", table)
    assert len(pages) == 5 and all(page.stat().st_mode & 0o077 == 0 for page in [report, *pages])
    joe = tmp_path / "pages" / "students" / "Joe Bloggs_123_assignsubmission_file" / "work.html"
    assert "Joe Bloggs" in text_of(joe) and "4 of 4 points, and up to 3 more" in text_of(joe)
    jane = tmp_path / "pages" / "students" / "doejane_LATE_4711_99_ex02-1.html"
    assert "q1: 1 of 4 points" in text_of(jane) and "divides by N − 1" in text_of(jane) and "seed 7" in text_of(jane)
    for page in pages:
        assert "doejane" not in text_of(page) or "Joe" not in text_of(page)
    assert "The file is empty." in text_of(tmp_path / "pages" / "students" / "broken.html")


def test_the_class_page_counts_misconceptions_and_links_to_every_page(table, tmp_path):
    report, *pages = write_pages(tmp_path / "pages", table)
    soup = BeautifulSoup(report.read_text(encoding="utf-8"), "html.parser")
    rows = [[cell.get_text() for cell in tr.find_all("td")] for tr in soup.find_all("tr")]
    assert ["q1", "unbiased", "1", "Your variance divides by N − 1.\nLook again."] in rows  # Jane's was superseded
    assert ["q1", "3", "4", "2 ok, 1 wrong"] in rows  # neither that one nor the unreadable file counts as 0
    assert ["q2", "not_started", "1", "Not answered yet."] in rows
    from urllib.parse import unquote

    assert {(report.parent / unquote(a["href"])).resolve() for a in soup.find_all("a")} == {p.resolve() for p in pages}


def test_lateness_texts_what_is_alike_and_what_was_not_graded_are_on_the_pages(table, tmp_path):
    text = Result("q2", 0, 3, "pending", "", "80 words.", "What I saw: <i>it moved</i>.")
    table.add(Row("late_LATE_1_2_x.ipynb", "a", "wrong", {"q1": WRONG, "q2": text}), 7)
    table.alike, table.others = [("a.ipynb", "b.ipynb", 0.95)], {"notes.pdf": "not a notebook"}
    report, *pages = write_pages(tmp_path / "pages", table)
    (page,) = [page for page in pages if "What I saw: <i>it moved</i>." in text_of(page)]
    said = text_of(report)
    assert "a.ipynb and b.ipynb: 95 %" in said and "notes.pdf: not a notebook" in said
    assert "<td>late</td>" in report.read_text()


def test_anonymous_pages_and_marks_name_nobody_and_their_names_are_understood(table, tmp_path):
    report, *pages = write_pages(tmp_path / "pages", table, anonymous=True)
    for page in [report, *pages]:
        assert not re.search("doejane|Bloggs|4711", str(page) + page.read_text()), page
    (joe,) = [row for row in read(table.write_marks(anonymous=True)) if row["student"] == alias(table.rows[MOODLE])]
    assert table.merge(marks(tmp_path, f"student,question,points\n{joe['student']},q2,3\n")) == []
    assert table.rows[MOODLE]["points"] == "7"


def test_copies_are_alike_whatever_variables_are_called_and_short_answers_are_not():
    code = "\n".join(f"y{n} = x.mean({n}) + {n}" for n in range(10))
    renamed = "# mine\n" + code.replace("y", "mu_").replace(" = ", "=")
    other = "\n".join(f"z = x.sum({n}) * {n}" for n in range(10))
    assert alike({"a": [code], "b": [renamed], "c": [other], "d": [code[:60]]}, []) == [("a", "b", 1.0)]
    assert alike({"a": [code], "b": [code]}, [code]) == []


def test_nothing_of_a_submission_is_markup_on_a_page(table, tmp_path):
    table.add(Row("e.ipynb", "f", "wrong", {"q1": Result("q1", 0, 4, "wrong", "raised", "<script>alert(1)</script>")}), 7)
    for page in write_pages(tmp_path / "pages", table):
        assert "<script" not in page.read_text() and "<b>x" not in page.read_text()


def test_pages_stay_in_their_folder_and_never_overwrite_each_other(table, tmp_path):
    for name in ("../../outside.ipynb", "x.ipynb", "x.py", "x.html/y.ipynb", "line\nbreak.ipynb", "index.ipynb"):
        table.add(Row(name, name[:4], "ok", {"q1": RIGHT, "q2": TEXT}), 7)
    report, *pages = write_pages(tmp_path / "pages", table)
    assert len({page.resolve() for page in pages}) == len(table.rows) == 11
    assert all(page.resolve().is_relative_to(tmp_path / "pages" / "students") for page in pages)
    assert "the class" in text_of(report)


def test_a_place_that_cannot_be_written_is_one_clear_line(table, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(GradingError, match="cannot write pages into .*taken.*grades are in"):
        write_pages(tmp_path / "taken", table)


def test_every_file_is_a_submission_or_named(tmp_path):
    content = '{"cells": [{"cell_type": "code", "source": "x = 1"}]}'
    graded = ["a.ipynb", "b.IPYNB", "c.ipynb.txt", "d.json", "e.py", "Joe_1_assignsubmission_file_/ex02.ipynb", "ex02-jo/sub/w.ipynb"]
    left = ["f.pdf", "g.zip", "ex03_other.ipynb", "names.txt"]
    nobodys = ["__MACOSX/a.ipynb", "._a.ipynb", ".ipynb_checkpoints/a.ipynb", ".DS_Store"]
    for name in graded + left + nobodys:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "linked").symlink_to(tmp_path / "ex02-jo")
    _, paths, others = find(tmp_path, "ex02")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in paths) == sorted(graded)
    assert {path.name: why for path, why in others.items()} == {
        "f.pdf": "not a notebook", "g.zip": "unpack it first", "ex03_other.ipynb": "exercise 3", "names.txt": "not a notebook",
        "linked": "a link to a folder; put the folder itself there"}  # fmt: skip
    assert code_cells(b"# %%\nx = 1\n# %% [markdown]\n# hello\n", "e.py") == ["", "\nx = 1\n", "\n# hello\n"]
    assert code_cells(content.encode("utf-16"), "a.ipynb") == ["x = 1"]
