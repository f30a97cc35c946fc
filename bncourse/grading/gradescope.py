"""Exercises on Gradescope: a zip for its autograder, and what runs there.

Gradescope unpacks the zip into /autograder/source, runs setup.sh once and `run_autograder` for each submission, and shows a
student what is then in /autograder/results/results.json. One submission has one container to itself. The same grader as
everywhere grades it; where the container does not allow the sandbox (user namespaces are needed) it says so instead of points.
"""

import json
import os
import zipfile
from pathlib import Path

from .batch import grade
from .checks import Written, load
from .feedback import GradingError

SETUP = """#!/bin/sh
set -e
apt-get update -qq
apt-get install -y -qq bubblewrap python3-pip python3-venv
python3 -m venv /autograder/venv
# If your registry has a torch without GPU parts under an index of its own, install that first: it is smaller.
/autograder/venv/bin/pip install -q /autograder/source
"""
# PYTHON and ROOT are for trying it out elsewhere.
RUN = """#!/bin/sh
root="${{ROOT:-/autograder}}"
PYTHONPATH="$root/source" "${{PYTHON:-/autograder/venv/bin/python}}" -m bncourse.grading.gradescope {exercise} "$root"
"""


def write_zip(exercise: str, path: Path) -> Path:
    """The autograder of an exercise, with the course's package in it. Raises `GradingError` when it cannot be written."""
    load(exercise)
    package = Path(__file__).resolve().parents[1]
    files = [file for file in sorted(package.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    project = package.parent / "pyproject.toml"
    if not project.is_file():
        raise GradingError("run this in a checkout of the course: its pyproject.toml goes into the zip")
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in (("setup.sh", SETUP), ("run_autograder", RUN.format(exercise=exercise))):
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o755 << 16
                archive.writestr(entry, text)
            archive.writestr("README.md", "The package of the course, for Gradescope's autograder.\n")
            for file in [*files, project]:
                archive.write(file, file.relative_to(package.parent))
    except OSError as error:
        raise GradingError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def results(exercise: str, row: dict) -> dict:
    """What Gradescope shows: a test a question. A text that a person has to read is a test of no points, to be graded there."""
    tests = []
    for name, question in load(exercise).QUESTIONS.items():
        told, status = row[f"{name}_feedback"] or row["message"], row[f"{name}_status"]
        points = {} if isinstance(question, Written) else {"score": float(row[name]), "max_score": question.points}
        tests.append({"name": name, "number": name[1:], "output": told, "visibility": "visible", **points}
                     | ({} if status == "pending" else {"status": "passed" if status == "ok" else "failed"}))  # fmt: skip
    return {"output": row["message"], "tests": tests}


def main(exercise: str, root: Path) -> None:
    """Grades what lies in `root/submission` into `root/results/results.json`."""
    out = root / "results"
    out.mkdir(exist_ok=True)
    try:
        table = grade(exercise, root / "submission", out / "grades.csv", jobs=1, retry=True)
        found = results(exercise, max(table.rows.values(), key=lambda row: float(row["points"])))
    except GradingError as error:
        found = {"score": 0, "output": f"Not graded: {error}", "stdout_visibility": "visible"}
    (out / "results.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    import sys

    os.umask(0o077)
    main(sys.argv[1], Path(sys.argv[2]))
