"""Right answers of any shape get full marks, each typical mistake gets its own feedback, for any numbers drawn.

The answers are in `answers/exNN.py`: RIGHT (question: way: code), WRONG (question, code, misconception, points left) and
SHORTCUTS (question, code, what the feedback names). A module may have a PRELUDE, which stands before every answer.
"""

import importlib

import pytest

from bncourse.grading.checks import Written, exercises, load

ANSWERS = {name: importlib.import_module(f"answers.{name}") for name in exercises()}
RIGHT = [(ex, q, way) for ex, module in ANSWERS.items() for q, ways in module.RIGHT.items() for way in ways]
WRONG = [(ex, *row) for ex, module in ANSWERS.items() for row in module.WRONG]
SHORTCUTS = [(ex, *row) for ex, module in ANSWERS.items() for row in module.SHORTCUTS]


@pytest.mark.parametrize("exercise, question, way", RIGHT, ids=["-".join(row) for row in RIGHT])
def test_a_right_answer_gets_full_marks_for_any_numbers_drawn(judge, exercise, question, way):
    for seed in range(25):
        result = judge(exercise, question, ANSWERS[exercise].RIGHT[question][way], seed)
        assert (result.status, result.points) == ("ok", result.max), f"seed {seed}: {result}"


@pytest.mark.parametrize("exercise", ANSWERS)
def test_the_usual_answer_over_many_seeds(judge, exercise):
    for question, ways in ANSWERS[exercise].RIGHT.items():
        code = next(iter(ways.values()))
        for seed in range(1000, 1040):
            result = judge(exercise, question, code, seed)
            assert result.status == "ok", f"seed {seed}: {result}"


@pytest.mark.parametrize("exercise, question, code, misconception, points", WRONG)
def test_a_mistake_gets_its_own_feedback(judge, exercise, question, code, misconception, points):
    for seed in range(10):
        result = judge(exercise, question, code, seed)
        assert (result.code, result.points) == (misconception, points), f"seed {seed}: {result}"
        assert result.status == "wrong" and len(result.message) > 30


@pytest.mark.parametrize("exercise, question, code, named", SHORTCUTS)
def test_a_shortcut_is_found_and_named(judge, exercise, question, code, named):
    result = judge(exercise, question, code)
    assert (result.code, result.points) == ("shortcut", 0), result
    assert named in result.message


@pytest.mark.parametrize("exercise", ANSWERS)
def test_every_question_has_its_right_ways_and_its_mistakes(exercise):
    module, formal = ANSWERS[exercise], {"missing", "not_started", "raised", "wrong_type", "wrong_shape", "nan", "unknown"}
    told = [{code for question, _, code, _ in module.WRONG if question == q} - formal for q in load(exercise).QUESTIONS]
    assert len(set.union(*told)) >= 6
    for name, question in load(exercise).QUESTIONS.items():
        if isinstance(question, Written):
            continue
        assert [row for row in module.WRONG if row[0] == name], name
        # A value has one right answer; a function can be written in several ways.
        assert len(module.RIGHT[name]) >= (1 if question.rules.anything else 3), name
