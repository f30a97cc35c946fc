"""What an answer does while it is called decides, not what its code looks like or what stands around it."""

import importlib

import numpy as np
import pytest
import torch
from answers.ex01 import NORM, Q1, Q4
from answers.ex05 import Q3 as WEIGHT
from answers.ex05 import RIGHT as RIGHT_05

BN = "(x, None, None, gamma, beta, True, 0.1, eps)"
RIGHT = Q1 + NORM + "\n"
THERE = "return F.batch_norm" + BN
LAYERS = "return F.layer_norm(x.T.contiguous(), x.shape[:1], None, None, eps).T * gamma + beta"
AUTOGRAD = """
def batch_norm_backward(dy, x, gamma, eps):
    def y(x, g, b): return g * (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt() + b
    args = x, gamma, torch.zeros_like(gamma)
"""

# What reaches a finished batch norm, or autograd, by whatever way: name, question, code.
# A thread that `threading` knows nothing of, waiting since a cell.
RAW = """
import _thread, queue
asks, told = queue.Queue(), queue.Queue()
def serve():
    while True:
        a = asks.get()
        try: told.put({})
        except Exception as error: told.put(error)
_thread.start_new_thread(serve, ())
def asked(*a):
    asks.put(a)
    return told.get()
"""
SHORTCUTS = [
    ("plain", "q1", Q1 + THERE),
    ("another operator", "q1", Q1 + LAYERS),
    ("a dict of tools", "q1", "tools = {'bn': F.batch_norm}\n" + Q1 + f"return tools['bn']{BN}"),
    ("a module in a dict", "q1", "tools = {'bn': torch.nn.BatchNorm1d}\n" + Q1 + "return tools['bn'](x.shape[1], eps).to(x)(x) * gamma + beta"),
    ("a default argument", "q1", Q1.replace("eps)", "eps, norm=F.batch_norm)") + f"return norm{BN}"),
    ("partial", "q1", "from functools import partial\nbn = partial(F.batch_norm, running_mean=None, running_var=None, training=True)\n"
     + Q1 + "return bn(x, weight=gamma, bias=beta, eps=eps)"),
    ("rebound", "q1", RIGHT + "right = batch_norm\nbatch_norm = lambda x, gamma, beta, eps: F.batch_norm" + BN),
    ("set through globals", "q1", RIGHT + f"globals()['batch_norm'] = lambda x, gamma, beta, eps: F.batch_norm{BN}"),
    ("a decoy before", "q1", RIGHT + Q1 + THERE),
    ("a decoy in a branch", "q1", f"if True:\n    def batch_norm(x, gamma, beta, eps): {THERE}\nelse:\n    def batch_norm(x, gamma, beta, eps): {NORM}"),
    ("exec", "q1", f"exec({Q1 + THERE!r})"),
    ("eval", "q1", Q1 + f"return eval('F.batch_norm'){BN}"),
    ("compile", "q1", f"exec(compile({Q1 + THERE!r}, 'x', 'exec'), globals())"),
    ("getattr", "q1", Q1 + "return getattr(torch, '_'.join(['batch', 'norm']))(x, gamma, beta, None, None, True, 0.1, eps, False)"),
    ("torch.ops", "q1", Q1 + "return torch.ops.aten.native_batch_norm(x, gamma, beta, None, None, True, 0.1, eps)[0]"),
    ("torch._C", "q1", Q1 + "return torch._C._VariableFunctions.batch_norm(x, gamma, beta, None, None, True, 0.1, eps, False)"),
    ("a pickle", "q1", f"import pickle\nkept = pickle.dumps(F.batch_norm)\n{Q1}return pickle.loads(kept){BN}"),
    ("a class that is called", "q1", f"class Norm:\n    def __call__(self, x, gamma, beta, eps): {THERE}\nbatch_norm = Norm()"),
    ("a thread", "q1", f"from threading import Thread\n{Q1}out = []\n    t = Thread(target=lambda: out.append(F.batch_norm{BN}))\n    t.start(), t.join()\n    return out[0]"),
    ("a pool of a cell", "q1", f"from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\npool.submit(int).result()\n{Q1}return pool.submit(F.batch_norm, *{BN}).result()"),
    ("a raw thread", "q1", f"import _thread, time\n{Q1}out = []\n    _thread.start_new_thread(lambda: out.append(F.batch_norm{BN}), ())\n    time.sleep(0.05)\n    return out[0] if out else x"),
    ("TorchScript", "q1", "class Norm(torch.nn.Module):\n    def forward(self, x, g, b, e: float):\n        return torch.batch_norm(x, g, b, None, None, True, 0.1, e, False)\n"
     "scripted = torch.jit.script(Norm())\n" + Q1 + "return scripted(x, gamma, beta, eps)"),
    ("TorchScript from text", "q1", "unit = torch.jit.CompilationUnit('def f(x, g, b, e: float):\\n    return torch.batch_norm(x, g, b, None, None, True, 0.1, e, False)\\n')\n"
     + Q1 + "return unit.f(x, gamma, beta, eps)"),
    ("a traced graph", "q1", "batch_norm = torch.fx.symbolic_trace(lambda x, g, b, e: torch.batch_norm(x, g, b, None, None, True, 0.1, e, False))"),
    ("vmap", "q1", Q1 + "return torch.vmap(lambda c: F.layer_norm(c, c.shape, None, None, eps), 1, 1)(x) * gamma + beta"),
    ("batched by hand", "q1", Q1 + "return torch.vmap(lambda c: torch.native_layer_norm(c, c.shape, None, None, eps)[0], 1, 1)(x) * gamma + beta"),
    ("torch's reference", "q1", "import torch._refs\n" + Q1 + "return torch._refs.native_layer_norm(x.T, [len(x)], None, None, eps)[0].T * gamma + beta"),
    ("torch's decomposition", "q1", "from torch._decomp import decomposition_table as parts\n" + Q1 + "return parts[torch.ops.aten.native_batch_norm.default](x, gamma, beta, None, None, True, 0.1, eps)[0]"),
    ("swallowed", "q1", Q1 + f"try: return F.batch_norm{BN}\n    except Exception: pass\n    {NORM}"),
    ("used and thrown away", "q1", Q1 + f"y = F.batch_norm{BN}\n    {NORM}"),
    ("an object that works later", "q1", "class Late(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, f, types, args=(), kwargs=None):\n"
     "        with torch._C.DisableTorchFunctionSubclass(): return F.batch_norm(*Late.args)\n"
     + Q1 + f"Late.args = {BN[:-1]})\n    return x.as_subclass(Late)"),
    ("without the profiler", "q1", f"import sys\n{Q1}sys.setprofile(None)\n    return torch._refs.native_layer_norm(x.T, [len(x)], None, None, eps)[0].T * gamma + beta"),
    ("this course's", "q1", "from bncourse.norms import BatchNorm\n" + Q1 + "n = BatchNorm(x.shape[1], eps=eps).to(x)\n    return n(x) * gamma + beta"),
    ("this course's checks", "q1", "import importlib\n" + Q1 + "return importlib.import_module('bncourse.grading.ex01').batch_norm(x, gamma, beta, eps)"),
    ("fused at evaluation", "q3", "from torch.nn.utils.fusion import fuse_linear_bn_weights as fuse\ndef batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):\n"
     "    w, b = fuse(torch.eye(x.shape[1]).to(x), None, running_mean, running_var, eps, gamma, beta)\n    return x @ w.T + b"),
    ("backward", "q4", AUTOGRAD + "    args = [a.clone().requires_grad_() for a in args]\n    y(*args).backward(dy)\n    return tuple(a.grad for a in args)"),
    ("enabled again", "q4", AUTOGRAD + "    with torch.enable_grad():\n        args = [a.clone().requires_grad_() for a in args]\n        return torch.autograd.grad(y(*args), args, dy)"),
    ("vjp", "q4", AUTOGRAD + "    return torch.func.vjp(y, *args)[1](dy)"),
    ("functional", "q4", AUTOGRAD + "    return torch.autograd.functional.vjp(y, args, dy)[1]"),
    ("jacrev", "q4", AUTOGRAD + "    return tuple(torch.tensordot(dy, j, 2) for j in torch.func.jacrev(y, (0, 1, 2))(*args))"),
    ("forward mode", "q4", AUTOGRAD + "    return tuple(torch.tensordot(dy, j, 2) for j in torch.func.jacfwd(y, (0, 1, 2))(*args))"),
    ("autograd in a thread", "q4", "from threading import Thread\n" + AUTOGRAD + "    args, out = [a.clone().requires_grad_() for a in args], []\n"
     "    t = Thread(target=lambda: out.extend(torch.autograd.grad(y(*args), args, dy)))\n    t.start(), t.join()\n    return tuple(out)"),
    ("in a raw thread", "q1", RAW.format("torch.batch_norm(*a)") + Q1 + "return asked(x, gamma, beta, None, None, True, 0.1, eps, False)"),
    ("autograd in a raw thread", "q4", AUTOGRAD.replace("def batch_norm_backward(dy, x, gamma, eps):", "def grads(dy, x, gamma, eps):")
     + "    with torch.enable_grad():\n        args = [a.clone().requires_grad_() for a in args]\n        return torch.autograd.grad(y(*args), args, dy)\n"
     + RAW.format("grads(*a)") + "def batch_norm_backward(dy, x, gamma, eps): return asked(dy, x, gamma, eps)"),
    ("torch's backward", "q4", "def batch_norm_backward(dy, x, gamma, eps):\n    m, v = x.mean(0), (x.var(0, correction=0) + eps).rsqrt()\n"
     "    return torch.ops.aten.native_batch_norm_backward(dy, x, gamma, None, None, m, v, True, eps, [True] * 3)"),
]  # fmt: skip

# Comparison cells and odd styles: nothing of it is forbidden, since no answer does it while it is called.
COMPARE = """
x, gamma, beta, draw, table, norm = torch.randn(4, 3, requires_grad=True), torch.ones(3), torch.zeros(3), 1, 2, 3
assert torch.allclose(F.batch_norm(x, None, None, gamma, beta, True), F.batch_norm(x, None, None, training=True))
layer = torch.nn.BatchNorm1d(3)
layer(x).sum().backward()
torch.autograd.gradcheck(lambda x: F.batch_norm(x, None, None, training=True), x.detach().double().requires_grad_())
tools = {"bn": F.batch_norm, "ln": torch.nn.LayerNorm}
from bncourse.norms import BatchNorm
BatchNorm(3)(x)
"""
HONEST = [
    ("compared", "q1", RIGHT),
    ("a local called like an import", "q1", Q1 + "draw = table = norm = BatchNorm = x.mean(0)\n    return gamma * (x - norm) / (x.var(0, correction=0) + eps).sqrt() + beta"),
    ("compared in its own cell", "q1", "from bncourse.norms import BatchNorm\n" + RIGHT + "y = torch.randn(5, 2)\nassert torch.allclose("
     "batch_norm(y, torch.ones(2), torch.zeros(2), 1e-5), BatchNorm(2)(y), atol=1e-4)\nF.batch_norm(y, None, None, training=True)"),
    ("names a shortcut in a text", "q1", Q1 + "'''as F.batch_norm does'''\n    what = 'torch.autograd.grad'\n    " + NORM),
    ("in a class of torch", "q1", "class BatchNorm1d(torch.nn.Module):\n    def forward(self, x, gamma, beta, eps):\n        " + NORM + "\nbatch_norm = BatchNorm1d()"),
    ("with a container of torch", "q1", "class Mine(torch.nn.BatchNorm1d):\n    def forward(self, x, gamma, beta, eps):\n        " + NORM
     + "\n" + Q1 + "return Mine(x.shape[1], eps)(x, gamma, beta, eps)"),
    ("exec", "q1", f"exec({RIGHT!r})"),
    ("eval and getattr", "q1", Q1 + "m = getattr(x, 'me' + 'an')(0)\n    return eval('gamma * (x - m) / (x.var(0, correction=0) + eps).sqrt() + beta', {}, dict(locals()))"),
    ("threads", "q1", "from concurrent.futures import ThreadPoolExecutor\n" + Q1 + "one = lambda c: gamma[c] * (x[:, c] - x[:, c].mean()) / (x[:, c].var(correction=0) + eps).sqrt() + beta[c]\n"
     "    with ThreadPoolExecutor(2) as pool: return torch.stack(list(pool.map(one, range(x.shape[1]))), 1)"),
    ("TorchScript", "q1", "@torch.jit.script\ndef batch_norm(x, gamma, beta, eps: float):\n    return gamma * (x - x.mean(0)) / (x.var(0, unbiased=False) + eps).sqrt() + beta"),
    ("vmap", "q1", Q1 + "return torch.vmap(lambda c: (c - c.mean()) / (c.var(correction=0) + eps).sqrt(), 1, 1)(x) * gamma + beta"),
    ("a helper of another name", "q1", "def layer_norm(x, eps): return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + eps).sqrt()\n" + Q1 + "return layer_norm(x.T, eps).T * gamma + beta"),
    ("a decorator", "q1", "import functools\ndef logged(f):\n    @functools.wraps(f)\n    def g(*a, **k): return f(*a, **k)\n    return g\n@logged\n" + RIGHT),
    ("the future", "q1", "from __future__ import annotations\ndef batch_norm(x: Tensor, gamma: Nothing, beta, eps) -> Tensor:\n    " + NORM),
    ("gradients of its own", "q4", Q4 + "return dx, dgamma, dbeta"),
    ("without grad, as is the habit", "q4", "@torch.no_grad()" + Q4 + "return dx.detach(), dgamma, dbeta"),
    ("parameters as containers", "q4", Q4.replace("    s =", "    gamma = torch.nn.Parameter(gamma)\n    s =", 1) + "return dx, dgamma, dbeta"),
]  # fmt: skip


@pytest.mark.parametrize("question, code", [row[1:] for row in SHORTCUTS], ids=[row[0] for row in SHORTCUTS])
def test_a_shortcut_gains_nothing_and_is_named(judge, question, code):
    result = judge("ex01", question, code)
    assert (result.code, result.points) == ("shortcut", 0), result


@pytest.mark.parametrize("question, code", [row[1:] for row in HONEST], ids=[row[0] for row in HONEST])
@pytest.mark.parametrize("compared", ["before", "after"])
def test_an_honest_answer_loses_nothing(judge, question, code, compared):
    result = judge("ex01", question, COMPARE + code if compared == "before" else code + COMPARE)
    assert result.status == "ok", result


# What else a cell may do, or leave behind, that no answer is to suffer from.
ODD = """
import cProfile, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
z = torch.randn(4, 6, 3, 3, requires_grad=True)
for n in (torch.nn.BatchNorm2d(6), torch.nn.GroupNorm(2, 6), torch.nn.LayerNorm([6, 3, 3]), torch.nn.InstanceNorm2d(6)):
    n(z).square().sum().backward()
torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3))(torch.ones(2, 3)).sum().backward()
F.normalize(z, dim=1), torch.renorm(torch.ones(2, 2), 2, 0, 1.0)
torch.func.vmap(lambda r: F.layer_norm(r, r.shape))(torch.ones(3, 4))
torch.func.jacrev(lambda r: F.batch_norm(r, None, None, training=True))(torch.randn(4, 2))
torch.func.jvp(torch.sin, (torch.ones(2),), (torch.ones(2),))
from scipy import stats
stats.ttest_rel([1.0, 2, 4], [0.5, 2, 3])
cProfile.Profile().runcall(torch.ones, 3)
pool = ThreadPoolExecutor(2)
list(pool.map(abs, [1, -2]))
threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
"""
LEFT = """
np.seterr(all="raise")
torch.set_grad_enabled(False)
"""


@pytest.mark.parametrize("exercise", ["ex01", "ex02", "ex03", "ex04", "ex05", "ex06"])
def test_no_right_answer_suffers_from_what_stands_around_it(judge, exercise):
    for question, ways in importlib.import_module(f"answers.{exercise}").RIGHT.items():
        for way, code in ways.items():
            with np.errstate(), torch.enable_grad():
                result = judge(exercise, question, "\n".join((COMPARE, ODD, code, ODD, COMPARE, LEFT)))
            assert result.status == "ok", f"{question}, {way}: {result}"


@pytest.mark.parametrize("code", [
    WEIGHT + "return G * F.normalize(v.flatten(1)).view(v.shape), dv, dg",
    "import sklearn.preprocessing as p\n" + WEIGHT + "return G * torch.tensor(p.normalize(v.flatten(1))).view(v.shape).to(v), dv, dg",
    "sgn = torch.jit.script(F.normalize)\n" + WEIGHT + "return G * torch.renorm(v, 2, 0, 1.0), dv, dg",
])  # fmt: skip
def test_what_a_question_bans_is_a_shortcut_there(judge, code):
    assert judge("ex05", "q3", code).code == "shortcut"
    assert judge("ex05", "q3", "F.normalize(torch.ones(2, 2))\n" + next(iter(RIGHT_05["q3"].values()))).status == "ok"


def test_the_students_line_is_named(judge):
    assert "(in the line `return F.batch_norm(x, None" in judge("ex01", "q1", Q1 + THERE).message


def test_nothing_is_left_behind(judge):
    import sys
    import threading

    judge("ex01", "q4", AUTOGRAD + "    return torch.func.vjp(y, *args)[1](dy)")
    x = torch.randn(4, 3, requires_grad=True)
    torch.nn.functional.batch_norm(x, None, None, training=True).sum().backward()
    assert not torch.is_anomaly_enabled() and sys.getprofile() is None and threading.getprofile() is None
