"""Shared by the exercise tests: answers as text, judged in this process or handed to the grader as notebooks."""

import json
import os
import shutil
from pathlib import Path

import nbformat
import pytest

from bncourse.grading.calls import NamespaceAnswers
from bncourse.grading.checks import load, run

ROOT = Path(__file__).resolve().parents[2]
MASTER = ROOT / "exercises" / "masters" / "ex01_batch_norm.ipynb"
STUDENT = ROOT / "exercises" / "ex01_batch_norm.ipynb"


def cells_of(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def notebook(path: Path, *cells: str) -> Path:
    """Writes a notebook with these code cells, without any of the care that Jupyter takes."""
    content = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells]
    path.write_text(json.dumps({"cells": content, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture(scope="session")
def judge():
    """`judge("q1", code, seed)`: the result of one question for answers given as text."""
    questions = load("ex01").QUESTIONS

    def judge(question: str, code: str, seed: int = 0):
        code = f"import math\nimport numpy as np\nimport torch\nimport torch.nn.functional as F\n{code}"
        namespace = {"In": ["", code]}
        exec(code, namespace)
        return run(question, questions[question], NamespaceAnswers(namespace), seed)

    return judge


@pytest.fixture(scope="session")
def sandbox():
    """Skips without bubblewrap, because nobody should run the hostile submissions without; fails in CI."""
    if not shutil.which("bwrap"):
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("needs bubblewrap: sudo apt install bubblewrap")
