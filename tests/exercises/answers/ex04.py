"""Answers to exercise 4, right and wrong."""

# The code that the notebook gives.
PRELUDE = """
def gradient(loss, w):
    w = w.detach().requires_grad_()
    return torch.autograd.grad(loss(w), w)[0]
"""

Q1 = "def losses_along(loss, w, step_sizes):\n    g = gradient(loss, w)\n    "
Q2 = """
def gradients_along(loss, w, step_sizes):
    g = gradient(loss, w)
    s = torch.tensor(step_sizes, dtype=w.dtype)
    there = torch.stack([gradient(loss, w - k * g) for k in step_sizes])
    c = (there - g).norm(dim=1)
    d = s * g.norm()
    beta = (c / d).max()
    """

# Different right answers: question, way, code.
RIGHT = {
    "q1": {
        "stack": Q1 + "return torch.stack([loss(w - s * g) for s in step_sizes])",
        "own autograd, filled in": """
def losses_along(loss, w, step_sizes):
    x = w.clone().requires_grad_(True)
    loss(x).backward()
    out = torch.zeros(len(step_sizes), dtype=w.dtype)
    with torch.no_grad():
        for i, s in enumerate(step_sizes):
            out[i] = loss(x - s * x.grad)
    return out
""",
        "all stops at once": """
def losses_along(loss, w, step_sizes):
    stops = w[None] - torch.outer(torch.tensor(step_sizes, dtype=w.dtype), gradient(loss, w))
    return torch.stack(list(map(loss, stops)))
""",
        "there and back again": """
def losses_along(loss, w, step_sizes):
    g, out = gradient(loss, w), []
    for s in step_sizes:
        w -= s * g
        out.append(loss(w).item())
        w += s * g
    return torch.tensor(out, dtype=w.dtype)
""",
        "numpy, difference quotients": """
def losses_along(loss, w, step_sizes):
    v = w.numpy().astype(np.float64)
    f = lambda x: float(loss(torch.from_numpy(x)))
    h, g = 1e-5, np.zeros_like(v)
    for i in range(len(v)):
        e = np.zeros_like(v)
        e[i] = h
        g[i] = (f(v + e) - f(v - e)) / (2 * h)
    return torch.tensor([f(v - s * g) for s in step_sizes], dtype=w.dtype)
""",
    },
    "q2": {
        "stack": Q2 + "return c, beta",
        "loop": """
def gradients_along(loss, w, step_sizes):
    g = gradient(loss, w)
    changes, beta = [], 0.0
    for s in step_sizes:
        stop = w - s * g
        change = torch.linalg.norm(gradient(loss, stop) - g)
        changes.append(change.item())
        beta = max(beta, change.item() / torch.linalg.norm(stop - w).item())
    return torch.tensor(changes, dtype=w.dtype), beta
""",
        "einsum": """
def gradients_along(loss, w, step_sizes):
    g, s = gradient(loss, w), torch.tensor(step_sizes, dtype=w.dtype)
    d = torch.stack([gradient(loss, stop) for stop in w - s[:, None] * g]) - g
    changes = torch.einsum("sp,sp->s", d, d).sqrt()
    return changes, torch.amax(changes / (s * torch.einsum("p,p->", g, g).sqrt()))
""",
        "numpy": """
def gradients_along(loss, w, step_sizes):
    g = gradient(loss, w).numpy()
    there = np.stack([gradient(loss, w - s * torch.from_numpy(g)).numpy() for s in step_sizes])
    changes = np.sqrt(((there - g) ** 2).sum(axis=1))
    return torch.from_numpy(changes), float((changes / (np.array(step_sizes) * np.linalg.norm(g))).max())
""",
    },
    "q3": {
        "dict": 'answer_q3 = {"A": "path", "B": "runs", "C": "landscape", "D": "progress"}',
        "another order, other letters": 'answer_q3 = dict(d=" Progress", c="landscape", b="RUNS", a="path")',
    },
    "q4": {
        "runs, ripples and a plane": 'answer_q4 = {"way": "B", "rough": {"ripple": 1, "waves": 5}, "smooth": {"slope": 1}}',
        "runs, two valleys": 'answer_q4 = {"way": "B", "rough": {"slope": .44, "curvature": 2}, "smooth": {"slope": .1, "curvature": .1}}',
        "runs, a valley and a plane": 'answer_q4 = {"way": "B", "rough": {"slope": 1, "curvature": 1}, "smooth": {"slope": .3}}',
        "path, the same ripples": 'answer_q4 = {"way": "a", "rough": {"ripple": 1, "waves": 5}, "smooth": {"slope": 1.0}}',
        "path, at the edge": 'answer_q4 = {"way": "A", "rough": {"slope": 1, "curvature": 19}, "smooth": {"slope": 0.6}}',
        "progress, at the edge": 'answer_q4 = {"way": "D", "rough": {"slope": 1, "curvature": 19}, "smooth": {"slope": -0.6}}',
        "progress, ripples": 'answer_q4 = {"way": "D", "rough": {"ripple": 1, "waves": 5}, "smooth": {"slope": 1}}',
    },
    "q5": {
        "read off": "answer_q5 = [0.18, 16, 2]",
        "roughly": "answer_q5 = (0.17, 15, 1.9)",
        "a tensor": "answer_q5 = torch.tensor([0.184, 15.7, 1.85])",
    },
}  # fmt: skip

PATH = """
def losses_along(loss, w, step_sizes):
    out = []
    for s in step_sizes:
        w = w - s * gradient(loss, w)
        out.append(loss(w))
    return torch.stack(out)
"""
PATH2 = """
def gradients_along(loss, w, step_sizes):
    g, here, c = gradient(loss, w), w, []
    for s in step_sizes:
        here = here - s * gradient(loss, here)
        c.append((gradient(loss, here) - g).norm())
    c = torch.stack(c)
    return c, (c / (torch.tensor(step_sizes, dtype=w.dtype) * g.norm())).max()
"""
RIPPLES = '{"ripple": 1, "waves": 5}'


def pair(way, rough, smooth):
    return f'answer_q4 = {{"way": "{way}", "rough": {rough}, "smooth": {smooth}}}'


# Wrong answers: question, code, misconception, points left.
WRONG = [
    ("q1", "x = 1", "missing", 0),
    ("q1", Q1 + 'raise NotImplementedError("q1: losses_along is not written yet")', "not_started", 0),
    ("q1", Q1 + "return [[loss(w - s * g)] for s in step_sizes]", "wrong_type", 0),
    ("q1", Q1 + "return torch.tensor([loss(w - s * g).item() for s in step_sizes]).float()", "wrong_dtype", 0),
    ("q1", Q1 + "return loss(w - step_sizes[0] * g)", "wrong_shape", 0),
    ("q1", Q1 + "w.requires_grad_()\n    w -= g\n    return loss(w)", "raised", 0),
    ("q1", PATH, "fresh_gradient", 0),
    ("q1", Q1 + "out = []\n    for s in step_sizes:\n        w -= s * g\n        out.append(loss(w))\n    return torch.stack(out)", "accumulated", 0),
    ("q1", Q1 + "return torch.stack([loss(w + s * g) for s in step_sizes])", "ascent", 0),
    ("q1", Q1 + "return torch.stack([loss(w - s * g / g.norm()) for s in step_sizes])", "normalized", 0),
    ("q1", Q1 + "return torch.stack([loss(w - s * g) - loss(w) for s in step_sizes])", "change", 0),
    ("q1", Q1 + "return torch.stack([loss(w) - s * g @ g for s in step_sizes])", "tangent", 0),
    ("q1", Q1 + "return torch.stack([loss(w) for s in step_sizes])", "stayed", 0),
    ("q1", Q1 + "return torch.stack([loss(w - s * g) for s in sorted(step_sizes)])", "sorted", 0),
    ("q1", Q1 + "return torch.stack([loss(w - s * g / 2) for s in step_sizes])", "unknown", 0),
    ("q1", Q1 + "out = torch.stack([loss(w - s * g) for s in step_sizes])\n    w -= step_sizes[0] * g\n    return out", "in_place", 1),
    ("q2", PATH2, "fresh_gradient", 0),
    ("q2", Q2 + "return c", "wrong_count", 0),
    ("q2", Q2 + "return c, c / d", "wrong_shape", 2),
    ("q2", Q2 + "return (there.norm(dim=1) - g.norm()).abs(), beta", "difference_of_norms", 2),
    ("q2", Q2 + "return there.norm(dim=1) - g.norm(), beta", "difference_of_norms", 2),
    ("q2", Q2 + "return c**2, beta", "squared", 2),
    ("q2", Q2 + "return (there - g).square().mean(1).sqrt(), beta", "averaged", 2),
    ("q2", Q2 + "return (there - g).abs().sum(1), beta", "absolute", 2),
    ("q2", Q2 + "return c / g.norm(), beta", "relative", 2),
    ("q2", Q2 + "return there.norm(dim=1), beta", "not_subtracted", 2),
    ("q2", Q2 + "return torch.cat([g[None], there]).diff(dim=0).norm(dim=1), beta", "since_last_stop", 2),
    ("q2", Q2 + "return c / d, beta", "per_distance", 2),
    ("q2", Q2 + "return c * 2, beta", "unknown", 2),
    ("q2", Q2 + "return c, (c / s).max()", "divided_by_step", 2),
    ("q2", Q2 + "return c, (c / d).mean()", "mean", 2),
    ("q2", Q2 + "return c, (c / d).min()", "smallest", 2),
    ("q2", Q2 + "return c, (c / d)[-1]", "one_stop", 2),
    ("q2", Q2 + "return c, (c / d)[s.argmax()]", "one_stop", 2),
    ("q2", Q2 + "return c, c.max() / d.max()", "max_over_max", 2),
    ("q2", Q2 + "return c, c.max()", "largest_change", 2),
    ("q2", Q2 + "return c, max(abs(loss(w - k * g) - loss(w)) / (k * g.norm()) for k in step_sizes)", "lipschitz", 2),
    ("q2", Q2 + "return c, (d / c).max()", "upside_down", 2),
    ("q2", Q2 + "return c, (c / d).square().max()", "squared", 2),
    ("q2", Q2 + "return c, beta + 1", "unknown", 2),
    ("q2", Q2.replace("w - k * g", "w + k * g") + "return c, beta", "ascent", 0),
    ("q2", Q2.replace("w - k * g", "w - k * g / g.norm()") + "return c, (c / s).max()", "normalized", 0),
    ("q3", "answer_q3 = ...", "not_started", 0),
    ("q3", 'answer_q3 = "C"', "wrong_type", 0),
    ("q3", 'answer_q3 = {"C": "landscape"}', "not_started", 1),
    ("q3", 'answer_q3 = {"A": "path", "B": "landscape", "C": "runs", "D": "progress"}', "runs_as_landscape", 2),
    ("q3", 'answer_q3 = {"A": "landscape", "B": "runs", "C": "path", "D": "progress"}', "path_as_landscape", 2),
    ("q3", 'answer_q3 = {"A": "path", "B": "runs", "C": "progress", "D": "landscape"}', "landscape_as_progress", 2),
    ("q3", 'answer_q3 = {"A": "path", "B": "runs", "C": "landscape", "D": 4}', "wrong_type", 3),
    ("q4", "answer_q4 = ...", "not_started", 0),
    ("q4", "answer_q4 = {}", "wrong_type", 0),
    ("q4", pair("B", "5", RIPPLES), "wrong_type", 0),
    ("q4", pair("E", RIPPLES, '{"slope": 1}'), "wrong_type", 0),
    ("q4", pair("B", '{"ripples": 1}', '{"slope": 1}'), "wrong_type", 0),
    ("q4", pair("B", '{"ripple": float("nan")}', '{"slope": 1}'), "wrong_type", 0),
    ("q4", pair("B", '{"ripple": "1"}', '{"slope": 1}'), "wrong_type", 0),
    ("q4", pair("C", RIPPLES, '{"slope": 1}'), "the_real_one", 0),
    ("q4", pair("B", '{"slope": 1, "curvature": 30}', '{"slope": 1}'), "diverged", 0),
    ("q4", pair("B", '{"curvature": 3}', '{"slope": 1}'), "flat", 0),
    ("q4", pair("B", '{"slope": 1}', RIPPLES), "swapped", 0),
    ("q4", pair("B", '{"slope": 2, "curvature": 2}', '{"slope": 1}'), "arrived", 0),
    ("q4", pair("B", '{"slope": 3, "curvature": 0.1}', '{"slope": 1, "curvature": 0.1}'), "steep", 0),
    ("q4", pair("B", RIPPLES, RIPPLES), "alike", 0),
    ("q4", pair("B", RIPPLES, '{"slope": 0.1}'), "both_agree", 1),
    ("q4", pair("B", RIPPLES, '{"slope": 0.8}'), "too_close", 1),
    ("q5", "answer_q5 = ...", "not_started", 0),
    ("q5", "answer_q5 = [0.18, 16]", "wrong_type", 0),
    ("q5", 'answer_q5 = ["0.18", "16", "2"]', "wrong_type", 0),
    ("q5", "answer_q5 = [1 / 0.18, 1 / 16, 2]", "upside_down", 1),
    ("q5", "answer_q5 = [16, 0.18, 2]", "other_rate", 1),
    ("q5", "answer_q5 = [0.18, 0.9, 2]", "beta", 2),
    ("q5", "answer_q5 = [0.18, -0.2, 2]", "difference", 2),
    ("q5", "answer_q5 = [0.18, 16, 20]", "product", 2),
    ("q5", "answer_q5 = [0.18, 160, 2]", "unknown", 2),
    ("q6", "answer_q6 = ...", "not_started", 0),
    ("q6", 'answer_q6 = "The band is wrong."', "too_short", 0),
    ("q6", 'answer_q6 = "landscape " * 300', "too_long", 0),
    ("q6", "answer_q6 = 3", "wrong_type", 0),
]  # fmt: skip

# Forbidden shortcuts: question, code, what the feedback names.
SHORTCUTS = [
    ("q1", "def losses_along(loss, w, step_sizes):\n    from bncourse.probes.landscape import along_gradient\n    return along_gradient(w, loss, step_sizes)", "along_gradient"),
    ("q1", "import bncourse.probes.landscape as ls\ndef losses_along(loss, w, step_sizes):\n    return ls.along_gradient(w, loss, step_sizes)", "bncourse.probes.landscape"),
    ("q1", "from bncourse.grading.ex04 import losses_along as done\ndef losses_along(loss, w, step_sizes):\n    return done(loss, w, step_sizes)", "bncourse.grading.ex04"),
    ("q2", "from bncourse.grading import ex04\ndef gradients_along(loss, w, step_sizes):\n    return ex04.gradients_along(loss, w, step_sizes)", "ex04"),
]  # fmt: skip
