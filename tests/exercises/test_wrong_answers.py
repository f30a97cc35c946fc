"""Each typical mistake gets its own feedback, for any numbers drawn, and loses points."""

import pytest
import torch.nn.functional as F

from bncourse.grading.calls import NamespaceAnswers

Q1 = "def batch_norm(x, gamma, beta, eps):\n    "
Q2 = "def update_running(running_mean, running_var, x, momentum):\n    m, v, a = running_mean, running_var, momentum\n    "
Q3 = "def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):\n    m, v = running_mean, running_var\n    "
Q4 = """
def batch_norm_backward(dy, x, gamma, eps, correction=0):
    s = (x.var(0, correction=0) + eps).sqrt()
    h = (x - x.mean(0)) / s
    g = dy * gamma
    dx, dgamma, dbeta = (g - g.mean(0) - h * (g * h).mean(0)) / s, (dy * h).sum(0), dy.sum(0)
    """
Q5 = "def batch_norm_2d(x, gamma, beta, eps):\n    G, B = gamma.view(1, -1, 1, 1), beta.view(1, -1, 1, 1)\n    "

NORM = "return gamma * (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt() + beta"
IMAGE = "return G * (x - x.mean(D, keepdim=True)) / (x.var(D, keepdim=True, correction=0) + eps).sqrt() + B"

# question, the mistake, misconception, points that are left
WRONG = [
    ("q1", Q1 + "return gamma * (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + eps).sqrt() + beta", "features", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(1)) / (x.var(1, correction=0) + eps).sqrt() + beta", "features", 0),
    ("q1", Q1 + "return gamma * (x - x.mean()) / (x.var(correction=0) + eps).sqrt() + beta", "everything", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) / (x.var(0) + eps).sqrt() + beta", "unbiased", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) / (x.std(0) + eps) + beta", "unbiased", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) / (x.std(0, correction=0) + eps) + beta", "eps_outside", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) / (x.var(0, correction=0) + eps) + beta", "divided_by_variance", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) / x.var(0, correction=0).sqrt() + beta", "eps_forgotten", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() + beta", "eps_forgotten", 0),
    ("q1", Q1 + "return (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt()", "affine_forgotten", 0),
    ("q1", Q1 + "return (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt() + beta", "gamma_forgotten", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt()", "beta_forgotten", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) / ((x * x).mean(0) - x.mean(0) ** 2 + eps).sqrt() + beta", "cancellation", 3),
    ("q1", Q1 + "x -= x.mean(0)\n    return gamma * x / (x.var(0, correction=0) + eps).sqrt() + beta", "in_place", 3),
    ("q1", Q1 + "pass", "returned_nothing", 0),
    ("q1", Q1 + NORM.replace("return", "y =") + "\n    return y.numpy()", "wrong_type", 0),
    ("q1", Q1 + NORM.replace("return", "y =") + "\n    return y, x", "wrong_type", 0),
    ("q1", Q1 + NORM.replace("return", "y =") + "\n    return y.sum(0)", "wrong_shape", 0),
    ("q1", Q1 + "out = torch.zeros(x.shape)\n    " + NORM.replace("return", "out[:] =") + "\n    return out", "wrong_dtype", 0),
    ("q1", Q1 + "x = x.float()\n    " + NORM.replace("return", "y =") + "\n    return y.to(gamma.dtype)", "precision_lost", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) / (-x.var(0) + eps).sqrt() + beta", "nan", 0),
    ("q1", Q1 + "return gamma * (x @ x) + beta", "raised", 0),
    ("q1", Q1 + "raise SystemExit", "raised", 0),
    ("q1", Q1 + "raise NotImplementedError", "not_started", 0),
    ("q1", Q1 + "return gamma * torch.tanh(x) + beta", "unknown", 0),
    ("q1", "batch_nrom = 1", "missing", 0),
    ("q1", "batch_norm = 3", "missing", 0),
    ("q2", Q2 + "return a * m + (1 - a) * x.mean(0), a * v + (1 - a) * x.var(0)", "momentum_swapped", 0),
    ("q2", Q2 + "return (1 - a) * m + a * x.mean(0), (1 - a) * v + a * x.var(0, correction=0)", "biased", 1),
    ("q2", Q2 + "return (1 - a) * m + a * x.mean(0), (1 - a) * v + a * x.std(0)", "std", 1),
    ("q2", Q2 + "return x.mean(0), x.var(0)", "replaced", 0),
    ("q2", Q2 + "return (1 - a) * v + a * x.var(0), (1 - a) * m + a * x.mean(0)", "order", 0),
    ("q2", Q2 + "m.mul_(1 - a).add_(a * x.mean(0))\n    v.mul_(1 - a).add_(a * x.var(0))", "in_place", 0),
    ("q2", Q2 + "m.mul_(1 - a).add_(a * x.mean(0))\n    v.mul_(1 - a).add_(a * x.var(0))\n    return m, v", "in_place", 3),
    ("q2", Q2 + "m = (1 - a) * m + a * x.mean(0)", "returned_nothing", 0),
    ("q2", Q2 + "return (1 - a) * m + a * x.mean(0)", "wrong_count", 0),
    ("q3", Q3 + "return gamma * (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt() + beta", "batch_statistics", 0),
    ("q3", Q3 + "return gamma * (x - x.mean(0)) / (v + eps).sqrt() + beta", "batch_mean", 0),
    ("q3", Q3 + "return gamma * (x - m) / (x.var(0, correction=0) + eps).sqrt() + beta", "batch_variance", 0),
    ("q3", Q3 + "return gamma * (x - m) / v.sqrt() + beta", "eps_forgotten", 0),
    ("q3", Q3 + "return gamma * (x - m) / (v.sqrt() + eps) + beta", "eps_outside", 0),
    ("q3", Q3 + "return gamma * (x - m) / (v + eps) + beta", "variance_as_std", 0),
    ("q3", Q3 + "return gamma * (x - m) / v + beta", "variance_as_std", 0),
    ("q3", Q3 + "return (x - m) / (v + eps).sqrt()", "affine_forgotten", 0),
    ("q3", Q3 + "x -= m\n    return gamma * x / (v + eps).sqrt() + beta", "in_place", 2),
    ("q4", Q4 + "return g / s, dgamma, dbeta", "statistics_constant", 2),
    ("q4", Q4 + "return (g - g.mean(0)) / s, dgamma, dbeta", "variance_constant", 2),
    ("q4", Q4 + "return (g - h * (g * h).mean(0)) / s, dgamma, dbeta", "mean_constant", 2),
    ("q4", Q4 + "return dx / gamma, dgamma, dbeta", "gamma_forgotten", 2),
    ("q4", Q4 + "return (g - g.sum(0) - h * (g * h).sum(0)) / s, dgamma, dbeta", "summed", 2),
    ("q4", Q4 + "return -dx, dgamma, dbeta", "unknown", 2),
    ("q4", Q4 + "return dx, (dy * x).sum(0), dbeta", "dgamma_x", 5),
    ("q4", Q4 + "return dx, (dy * (x - x.mean(0))).sum(0), dbeta", "dgamma_centred", 5),
    ("q4", Q4 + "return dx, (g * h).sum(0), dbeta", "dgamma_scaled", 5),
    ("q4", Q4 + "return dx, (dy * h).mean(0), dbeta", "averaged", 5),
    ("q4", Q4 + "return dx, dgamma, dy.mean(0)", "averaged", 5),
    ("q4", Q4 + "return dx, dgamma, dy.sum(1)", "features", 5),
    ("q4", Q4 + "return dx, (dy * h).sum(1), dbeta", "features", 5),
    ("q4", Q4 + "return dx, dgamma, g.sum(0)", "dbeta_scaled", 5),
    ("q4", Q4 + "return dx, dgamma, dy", "wrong_shape", 5),
    ("q4", Q4 + "return dx", "wrong_count", 0),
    ("q5", Q5 + "D = (0,)\n    " + IMAGE, "per_pixel", 0),
    ("q5", Q5 + "D = (2, 3)\n    " + IMAGE, "per_sample", 0),
    ("q5", Q5 + "D = (1, 2, 3)\n    " + IMAGE, "layer_norm", 0),
    ("q5", Q5 + "D = (0, 1, 2, 3)\n    " + IMAGE, "everything", 0),
    ("q5", Q5 + "D = (0, 2, 3)\n    G, B = gamma, beta\n    " + IMAGE, "affine_axis", 0),
    ("q5", Q5 + "D = (0, 2, 3)\n    " + IMAGE.replace("correction=0", "correction=1"), "unbiased", 0),
    ("q5", Q5 + "D = (0, 2, 3)\n    m = x.mean(D, keepdim=True)\n    return G * (x - m) / ((x * x).mean(D, keepdim=True) - m * m + eps).sqrt() + B", "cancellation", 2),
]  # fmt: skip


@pytest.mark.parametrize("question, code, misconception, points", WRONG)
def test_a_mistake_gets_its_own_feedback(judge, question, code, misconception, points):
    for seed in range(10):
        result = judge(question, code, seed)
        assert (result.code, result.points) == (misconception, points), f"seed {seed}: {result}"
        assert result.status == "wrong" and len(result.message) > 30


def test_two_mistakes_at_once_are_both_named(judge):
    code = Q1 + "return gamma * (x - x.mean(0)) / (x.std(0) + eps)"
    message = judge("q1", Q1 + "return gamma * (x - x.mean(0)) / (x.std(0) + eps) + beta").message
    assert "N − 1" in message and "after the root" in message
    assert judge("q1", code).status == "wrong"  # three at once: no name, but no points either


def test_feedback_for_a_mistake_without_a_name_says_what_the_numbers_look_like(judge):
    message = judge("q1", Q1 + "return gamma * torch.tanh(x) + beta").message
    assert "has mean" in message and "β is" in message
    assert "sums to" in judge("q4", Q4 + "return dx + 1, dgamma, dbeta").message


SHORTCUTS = [
    ("q1", Q1 + "return F.batch_norm(x, None, None, gamma, beta, True, eps=eps)", "F.batch_norm"),
    ("q1", Q1 + "return torch.batch_norm(x, gamma, beta, None, None, True, 0.1, eps, False)", "torch.batch_norm"),
    ("q1", Q1 + "return torch.native_batch_norm(x, gamma, beta, None, None, True, 0.1, eps)[0]", "native_batch_norm"),
    ("q1", Q1 + "return gamma * torch.nn.BatchNorm1d(x.shape[1], eps=eps).to(x)(x) + beta", "BatchNorm1d"),
    ("q1", Q1 + "return F.layer_norm(x.T, x.shape[:1], eps=eps).T * gamma + beta", "layer_norm"),
    ("q1", "from torch.nn.functional import batch_norm as bn\n" + Q1 + "return bn(x, None, None, gamma, beta, True, eps=eps)", "import batch_norm"),
    ("q1", "bn = F.batch_norm\ndef helper(*a): return bn(*a)\n" + Q1 + "return helper(x, None, None, gamma, beta, True, 0.1, eps)", "F.batch_norm"),
    ("q1", Q1 + "import bncourse.norms\n    return bncourse.norms.BatchNorm(x.shape[1])(x)", "bncourse.norms"),
    ("q1", Q1 + "from bncourse.norms import BatchNorm\n    return BatchNorm(x.shape[1])(x)", "bncourse.norms"),
    ("q1", Q1 + "return getattr(F, 'batch' + '_norm')(x, None, None, gamma, beta, True, eps=eps)", "getattr"),
    ("q1", Q1 + "return eval('F.batch_norm')(x, None, None, gamma, beta, True, eps=eps)", "eval"),
    ("q1", "ops = [f for n, f in sorted(F.__dict__.items()) if n == 'batch' + '_norm']\n" + Q1 + "return ops[0](x, None, None, gamma, beta, True, eps=eps)", "__dict__"),
    ("q3", Q3 + "return F.batch_norm(x, m, v, gamma, beta, False, eps=eps)", "F.batch_norm"),
    ("q4", "def batch_norm_backward(dy, x, gamma, eps):\n    x.requires_grad_()\n    x.sum().backward()\n    return x.grad, gamma, gamma", "grad"),
    ("q4", "from torch.autograd import grad\ndef batch_norm_backward(dy, x, gamma, eps):\n    return grad(x, x)", "autograd"),
    ("q5", Q5 + "return torch.nn.BatchNorm2d(x.shape[1], eps=eps).to(x)(x) * G + B", "BatchNorm2d"),
    ("q5", Q5 + "return F.instance_norm(x, None, None, gamma, beta)", "instance_norm"),
]  # fmt: skip


@pytest.mark.parametrize("question, code, named", SHORTCUTS)
def test_a_shortcut_is_found_and_named(judge, question, code, named):
    result = judge(question, code)
    assert (result.code, result.points) == ("shortcut", 0), result
    assert named in result.message


def test_a_shortcut_under_another_name_is_caught_while_it_runs(judge):
    hidden = "import operator\n" + Q1 + "try:\n        y = operator.attrgetter('batch' + '_norm')(F)(x, None, None, gamma, beta, True, eps=eps)\n    except Exception:\n        y = x\n    return y"  # fmt: skip
    assert judge("q1", hidden).code == "shortcut"


def test_comparing_with_torch_in_a_scratch_cell_is_no_shortcut(judge):
    scratch = "\nx = torch.randn(4, 3, requires_grad=True)\nF.batch_norm(x, None, None, training=True).sum().backward()\n"
    assert judge("q1", scratch + Q1 + NORM).status == "ok"
    assert judge("q4", scratch + Q4 + "return dx, dgamma, dbeta").status == "ok"


def test_an_answer_that_cannot_be_read_gets_no_points(judge):
    result = judge("q1", f"exec({Q1 + NORM!r})")
    assert (result.code, result.points) == ("unread", 0)


def batch_norm(x, gamma, beta, eps):
    return F.batch_norm(x, None, None, gamma, beta, True, eps=eps)


def test_a_cell_that_is_not_in_the_history_is_read_all_the_same():
    namespace = {"In": [""], "batch_norm": batch_norm}
    assert NamespaceAnswers(namespace).shortcut("batch_norm", True) == "F.batch_norm"
