"""Shared by the exercise tests: judging an answer in this process, and whether hostile ones may be run at all."""

import importlib
import os
import shutil

import pytest

from bncourse.grading.calls import NamespaceAnswers
from bncourse.grading.checks import load, run

PRELUDE = "import math\nimport numpy as np\nimport torch\nimport torch.nn.functional as F\n"


@pytest.fixture(scope="session")
def judge():
    """`judge("ex01", "q1", code, seed)`: the result of one question for answers given as text."""

    def judge(exercise: str, question: str, code: str, seed: int = 0):
        questions = load(exercise).QUESTIONS
        before = PRELUDE + getattr(importlib.import_module(f"answers.{exercise}"), "PRELUDE", "")
        namespace = {"In": ["", before, code]}
        exec(before + code, namespace)
        return run(question, questions[question], NamespaceAnswers(namespace), seed)

    return judge


@pytest.fixture(scope="session")
def sandbox():
    """Skips without bubblewrap, because nobody should run the hostile submissions without; fails in CI."""
    if not shutil.which("bwrap"):
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("needs bubblewrap: sudo apt install bubblewrap")
