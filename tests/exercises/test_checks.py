"""What the checks say, and what they notice, on answers of exercises 1, 2 and 7."""

from answers import ex02
from answers.ex01 import FLAT, NORM, Q1, Q4, Q5


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


def test_one_slip_that_shows_twice_is_told_as_one(judge):
    message = judge("ex01", "q4", Q4.replace("var(0, correction=0)", "var(0)") + "return dx, dgamma, dbeta").message
    assert "forward pass divides by N." in message and "dγ is off because it holds x̂" in message and "one line an example" not in message


def test_a_message_names_what_to_mend(judge):
    assert "back to place 1" in judge("ex01", "q5", Q5 + FLAT + "return z.reshape(p.shape)").message
    assert "`.to(x.dtype)`" in judge("ex01", "q1", Q1 + "x = x.double()\n    " + NORM).message
    mean_only = ex02.Q1 + "return (m.abs() / sd(b))[v].mean(), "
    assert "Your shift of the sd is always 0" in judge("ex02", "q1", mean_only + "0").message
    assert "The second of the two numbers is None" in judge("ex02", "q1", mean_only + "None").message
    assert "no longer varies *afterwards*" in judge("ex02", "q1", ex02.Q1 + "v = v & (sd(a) > 0)\n    " + ex02.Q1_RIGHT).message
    assert "yours is one list of 3" in judge("ex02", "q3", ex02.q3(end="return list(zip(distances, cosines))")).message
    assert "list(range(8))" in judge("ex07", "q1", "answer_q1['seeds'] = range(8)").message
