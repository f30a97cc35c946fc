"""Shared by the exercise tests: judging an answer in this process, and whether hostile ones may be run at all."""

import importlib

import pytest

from bncourse.grading.calls import NamespaceAnswers
from bncourse.grading.cells import run as run_cell
from bncourse.grading.checks import load, run
from bncourse.grading.feedback import GradingError
from bncourse.grading.sandbox import check_sandbox

PRELUDE = "import math\nimport numpy as np\nimport torch\nimport torch.nn.functional as F\n"


@pytest.fixture(scope="session")
def judge():
    """`judge("ex01", "q1", code, seed)`: the result of one question for answers given as text."""

    def judge(exercise: str, question: str, code: str, seed: int = 0):
        questions = load(exercise).QUESTIONS
        before = PRELUDE + getattr(importlib.import_module(f"answers.{exercise}"), "PRELUDE", "")
        namespace = {"In": ["", before, code], "__name__": "__main__"}
        for number, cell in enumerate((before, code)):
            assert run_cell(cell, namespace, number) == ""
        return run(question, questions[question], NamespaceAnswers(namespace), seed)

    return judge


@pytest.fixture(scope="session")
def sandbox(unavailable):
    """Only with bubblewrap that works, because nobody should run the hostile submissions without."""
    try:
        check_sandbox(unsafe=False)
    except GradingError as error:
        unavailable(str(error))
