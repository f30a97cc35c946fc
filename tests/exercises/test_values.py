"""Answers that are numbers, words or text, and functions that are handed more than tensors."""

from collections import Counter

import pytest
import torch

from bncourse.grading import checks, exercise
from bncourse.grading.calls import NamespaceAnswers
from bncourse.grading.checks import VALUE, Question, Written, choose, judge_number, run
from bncourse.grading.feedback import Feedback, Results
from bncourse.grading.shortcuts import Rules


def number(ask, rng, marks):
    with marks.part(2):
        judge_number(ask.number(), 0.25, 0.01, [("squared", 0.0625, "You squared it: why?")], "Neither it nor its square.")


def word(ask, rng, marks):
    with marks.part(1):
        choose(ask.value(), "batch", {"layer": "That one looks at one example.", "none": "Then nothing is normalized."})


NUMBER, WORD = Question("answer_q1", 2, number, VALUE), Question("answer_q2", 1, word, VALUE)
TEXT = Written("answer_q3", {"says what was seen": 2, "and what was not": 1}, words=(3, 6))


def judge(question, code: str):
    namespace = {"In": ["", code], "torch": torch}
    exec(code, namespace)
    return run("q", question, NamespaceAnswers(namespace), 0)


@pytest.mark.parametrize("code, told", [
    ("answer_q1 = 0.25", ""),
    ("answer_q1 = 0.2541", ""),
    ("answer_q1 = torch.tensor(0.25)", ""),
    ("import numpy; answer_q1 = numpy.float32(0.25)", ""),
    ("import numpy; answer_q1 = numpy.array(0.25)", ""),
    ("answer_q1 = 1 / 16", "squared"),
    ("answer_q1 = 3", "unknown"),
    ("answer_q1 = ...", "not_started"),
    ("answer_q1 = None", "not_started"),
    ("answer_q1 = 'a quarter'", "wrong_type"),
    ("answer_q1 = True", "wrong_type"),
    ("answer_q1 = float('nan')", "wrong_type"),
    ("answer_q1 = [0.25]", "wrong_type"),
    ("answer_q1 = 10**400", "wrong_type"),
    ("answer_q1 = object()", "wrong_type"),
    ("answer = 0.25", "missing"),
    ("answer_q1 = eval('0.25')", ""),  # how a number was found is the student's business
])  # fmt: skip
def test_a_number(code, told):
    result = judge(NUMBER, code)
    assert (result.code, result.points) == (told, 0 if told else 2), result


@pytest.mark.parametrize("code, told", [
    ("answer_q2 = 'batch'", ""),
    ("answer_q2 = ' Batch '", ""),
    ("answer_q2 = 'layer'", "layer"),
    ("answer_q2 = 'weight'", "wrong_type"),
    ("answer_q2 = 1", "wrong_type"),
])  # fmt: skip
def test_a_choice(code, told):
    assert judge(WORD, code).code == told


@pytest.mark.parametrize("code, status, told", [
    ("answer_q3 = 'Four words are enough.'", "pending", ""),
    ("answer_q3 = '   '", "wrong", "not_started"),
    ("answer_q3 = ...", "wrong", "not_started"),
    ("answer_q3 = 'Too short.'", "wrong", "too_short"),
    ("answer_q3 = 'word ' * 7", "wrong", "too_long"),
    ("answer_q3 = ['a', 'b', 'c', 'd']", "wrong", "wrong_type"),
])  # fmt: skip
def test_a_text_waits_for_a_person(code, status, told):
    result = judge(TEXT, code)
    assert (result.status, result.code, result.points, result.max) == (status, told, 0, 3)


def test_a_sum_says_what_is_still_to_be_read():
    results = Results([judge(NUMBER, "answer_q1 = 0.25"), judge(TEXT, "answer_q3 = 'Four words are enough.'")])
    assert "All in all: 2 of 2 points, and up to 3 for what a person reads." in str(results)
    assert "says what was seen (2)" in str(results) and "up to 3 points" in results._repr_html_()


def test_a_banned_function_under_another_name_is_caught_while_it_runs():
    def call_it(ask, rng, marks):
        with marks.part(1):
            if ask(torch.ones(2, 2)).outcome != "returned":
                raise Feedback("raised", "It raised.")

    code = "import operator\nhidden = operator.attrgetter('sort')(torch)\ndef f(x): return hidden(x)[0]"
    assert judge(Question("f", 1, call_it, Rules(banned=("sort",))), code).code == "shortcut"
    assert judge(Question("f", 1, call_it), code).status == "ok"


def test_lists_of_weights_and_given_functions_are_copies():
    def check(ask, rng, marks):
        weights = [torch.ones(2, 2), torch.zeros(1)]
        reply = ask(weights, {"eta": 0.5})
        assert torch.equal(weights[0], torch.ones(2, 2)) and reply.values[0].data() == 4.5
        assert reply.inputs[0].array.sum() == 0  # what was changed can be seen
        marks.points = 1

    code = "def f(weights, more):\n    total = weights[0].sum().item() + more['eta']\n    weights[0].zero_()\n    return total"
    assert judge(Question("f", 1, check), code).status == "ok"


def test_a_notebook_tells_no_parts_of_a_wrong_value_and_every_further_try_takes_longer(monkeypatch):
    waited = []
    monkeypatch.setattr(checks.time, "sleep", waited.append)
    monkeypatch.setattr(checks, "tries", Counter())
    namespace = {"answer_q3": {"A": "path", "B": "runs", "C": "landscape", "D": "runs"}}
    check = exercise("ex04", namespace)
    results = [check("q3") for _ in range(12)]
    assert {(r.points, r.code) for r in results} == {(0, "wrong")} and "D is something else" in str(results[0])
    assert waited[:3] == [0, 0, 0] and waited[3:7] == [1, 2, 4, 8] and waited[-1] == 60
    assert "at least" in exercise("ex04", namespace)().total and "not all right yet" in str(results[0])
    namespace["answer_q3"]["D"] = "progress"
    assert (check("q3").points, check("q3").status) == (4, "ok")


@pytest.mark.parametrize("code", ["answer_q1 = show(lambda: 0.25)", "seen = show(lambda: 0.25)\nanswer_q1 = 1 * seen"])
def test_an_answer_that_leans_on_show_is_right_here_and_is_warned_of_grading(code):
    result = judge(NUMBER, f"from bncourse.grading import show\n{code}")
    assert (result.status, result.points) == ("ok", 2) and "show does nothing when the notebook is graded" in result.message
    mended = judge(NUMBER, f"from bncourse.grading import show\n{code}\nseen = answer_q1 = 0.25")
    assert mended.message == "Right."


def test_autograd_is_there_unless_it_is_not_allowed():
    def check(ask, rng, marks):
        marks.points = float(ask(torch.ones(1)).values[0].plain)

    code = "def f(x): return float((x.requires_grad_() * 1).requires_grad)"
    assert judge(Question("f", 1, check), code).points == 1
    anyway = "def f(x):\n    with torch.enable_grad(): return float((x.requires_grad_() * 1).requires_grad)"
    result = judge(Question("f", 1, check, Rules(autograd=False)), anyway)
    assert (result.code, result.points) == ("shortcut", 0) and "autograd" in result.message
