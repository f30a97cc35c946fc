"""What the checks say, and what they notice, on the answers of exercise 1."""

from answers.ex01 import NORM, Q1, Q4


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
