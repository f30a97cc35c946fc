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
from bncourse.grading.table import Row, Table, read_marks, student_of

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


def test_canvas_and_moodle_get_one_row_a_student_with_the_better_submission(table):
    canvas, moodle = table.write_imports()
    assert list(read(canvas)[0]) == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Exercise 2"]
    jane, *others = [row for row in read(canvas) if row["ID"] == "4711"]
    assert (jane["Student"], jane["Exercise 2"], others) == ("doejane", "4", [])
    (joe,) = [row for row in read(moodle) if row["Identifier"] == "Participant 123"]
    assert (joe["Full name"], joe["Grade"], joe["Maximum Grade"]) == ("Joe Bloggs", "4", "7")
    assert len(read(canvas)) == len(read(moodle)) == 4
    (broken,) = [row for row in read(moodle) if row["Full name"] == "broken"]
    assert broken["Feedback comments"].startswith("The file is empty.") and broken["Grade"] == "0"


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
    assert ["q1", "unbiased", "2", "Your variance divides by N − 1.\nLook again."] in rows
    assert ["q2", "not_started", "1", "Not answered yet."] in rows
    from urllib.parse import unquote

    assert {(report.parent / unquote(a["href"])).resolve() for a in soup.find_all("a")} == {p.resolve() for p in pages}


def test_nothing_of_a_submission_is_markup_on_a_page(table, tmp_path):
    table.add(Row("e.ipynb", "f", "wrong", {"q1": Result("q1", 0, 4, "wrong", "raised", "<script>alert(1)</script>")}), 7)
    for page in write_pages(tmp_path / "pages", table):
        assert "<script" not in page.read_text() and "<b>x" not in page.read_text()


def test_pages_stay_in_their_folder_and_never_overwrite_each_other(table, tmp_path):
    for name in ("../../outside.ipynb", "x.ipynb", "x.html/y.ipynb", "line\nbreak.ipynb", "index.ipynb"):
        table.add(Row(name, name[:4], "ok", {"q1": RIGHT, "q2": TEXT}), 7)
    report, *pages = write_pages(tmp_path / "pages", table)
    assert len({page.resolve() for page in pages}) == len(table.rows) == 10
    assert all(page.resolve().is_relative_to(tmp_path / "pages" / "students") for page in pages)
    assert "the class" in text_of(report)


def test_a_place_that_cannot_be_written_is_one_clear_line(table, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(GradingError, match="cannot write pages into .*taken.*grades are in"):
        write_pages(tmp_path / "taken", table)
