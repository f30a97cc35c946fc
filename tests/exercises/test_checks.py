"""What the checks say, and what they notice, on the answers of exercise 1."""

import torch.nn.functional as F
from answers.ex01 import NORM, Q1, Q4

from bncourse.grading.calls import NamespaceAnswers
from bncourse.grading.shortcuts import Rules


def test_two_mistakes_at_once_are_both_named(judge):
    code = Q1 + "return gamma * (x - x.mean(0)) / (x.std(0) + eps)"
    message = judge("ex01", "q1", Q1 + "return gamma * (x - x.mean(0)) / (x.std(0) + eps) + beta").message
    assert "N − 1" in message and "after the root" in message
    assert judge("ex01", "q1", code).status == "wrong"  # three at once: no name, but no points either


def test_feedback_for_a_mistake_without_a_name_says_what_the_numbers_look_like(judge):
    message = judge("ex01", "q1", Q1 + "return gamma * torch.tanh(x) + beta").message
    assert "has mean" in message and "β is" in message
    assert "sums to" in judge("ex01", "q4", Q4 + "return dx + 1, dgamma, dbeta").message


def test_a_shortcut_under_another_name_is_caught_while_it_runs(judge):
    hidden = "import operator\n" + Q1 + "try:\n        y = operator.attrgetter('batch' + '_norm')(F)(x, None, None, gamma, beta, True, eps=eps)\n    except Exception:\n        y = x\n    return y"  # fmt: skip
    assert judge("ex01", "q1", hidden).code == "shortcut"


def test_comparing_with_torch_in_a_scratch_cell_is_no_shortcut(judge):
    scratch = "\nx = torch.randn(4, 3, requires_grad=True)\nF.batch_norm(x, None, None, training=True).sum().backward()\n"
    assert judge("ex01", "q1", scratch + Q1 + NORM).status == "ok"
    assert judge("ex01", "q4", scratch + Q4 + "return dx, dgamma, dbeta").status == "ok"


def test_an_answer_that_cannot_be_read_gets_no_points(judge):
    result = judge("ex01", "q1", f"exec({Q1 + NORM!r})")
    assert (result.code, result.points) == ("unread", 0)


def batch_norm(x, gamma, beta, eps):
    return F.batch_norm(x, None, None, gamma, beta, True, eps=eps)


def test_a_cell_that_is_not_in_the_history_is_read_all_the_same():
    namespace = {"In": [""], "batch_norm": batch_norm}
    assert NamespaceAnswers(namespace).shortcut("batch_norm", Rules()) == "F.batch_norm"
