"""Answers to exercise 6, right and wrong."""

PRELUDE = '''
def norms_of(loss, weights):
    weights = [w.detach().requires_grad_() for w in weights]
    return [g.norm() for g in torch.autograd.grad(loss(weights), weights)]


def averages(activation, k=8, flat=False):
    z = torch.linspace(-k, k, 8001, dtype=torch.float64, requires_grad=True)
    a = activation(z)
    (s,) = torch.autograd.grad(a.sum(), z)
    p = torch.ones_like(z).detach() if flat else torch.exp(-z.detach() ** 2 / 2)
    p, a = p / p.sum(), a.detach()
    return [float((p * v).sum()) for v in (a, a * a, s, s * s)]


def shrunk(rates, decay):
    after = torch.cumprod(1 - rates * decay, 0)
    return torch.cat([torch.ones_like(after[:1]), after[:-1]]), after


'''

Q1 = "def growth(loss, weights):\n    r = norms_of(loss, weights)\n    L = len(r)\n    "
RAW = "def growth(loss, weights):\n    ws = [w.requires_grad_() for w in weights]\n    g = torch.autograd.grad(loss(ws), ws)\n    L = len(g)\n    "
Q2 = "def predict_growth(activation):\n    a, aa, s, ss = averages(activation)\n    "
Q3 = "def level(loss, weights):\n    r = norms_of(loss, weights)\n    L = len(r)\n    "
Q4 = 'answer_q4 = {{"turn drawn": {}, "turn levelled": {}, "accuracy drawn": {}, "accuracy levelled": {}}}'
Q5 = "def twin(rates, decay):\n    p, q = shrunk(rates, decay)\n    t = torch.arange(len(rates))\n    "
GEOMETRIC = "return (r[0] / r[-1]) ** (1 / (L - 1))"
LEVEL = "return [w * n / r[-1] for w, n in zip(weights, r)]"

# Different right answers: question, way, code.
RIGHT = {
    "q1": {
        "torch": Q1 + GEOMETRIC,
        "all ratios": """
def growth(loss, weights):
    live = [w.clone().requires_grad_(True) for w in weights]
    loss(live).backward()
    product = 1.0
    for below, above in zip(live[:-1], live[1:]):
        product *= float(torch.sqrt((below.grad**2).sum()) / torch.sqrt((above.grad**2).sum()))
    return product ** (1 / (len(weights) - 1))
""",
        "numpy, in logarithms": """
def growth(loss, weights):
    for w in weights:
        w.requires_grad_()
    loss(weights).backward()
    logs = np.log([np.linalg.norm(w.grad.numpy()) for w in weights])
    return np.exp(-np.diff(logs).mean())
""",
        "one tensor": """
def growth(loss, weights):
    r = torch.stack(norms_of(loss, weights)).reshape(-1, 1)
    return torch.exp((r[:-1] / r[1:]).log().mean(0))
""",
        "float32 at the end": Q1 + "return torch.tensor([float((r[0] / r[-1]) ** (1 / (L - 1)))])",
    },
    "q2": {
        "torch": Q2 + "return math.sqrt(ss / (aa - a**2))",
        "numpy and differences": """
def predict_growth(activation):
    z = torch.linspace(-7, 7, 4001, dtype=torch.float64)
    p = np.exp(-z.numpy() ** 2 / 2)
    p /= p.sum()
    a = activation(z).numpy()
    slope = (activation(z + 1e-5) - activation(z - 1e-5)).numpy() / 2e-5
    return np.sqrt((p * slope**2).sum() / (p * (a - (p * a).sum()) ** 2).sum())
""",
        "random numbers": """
def predict_growth(activation):
    z = torch.randn(200_000, requires_grad=True)
    a = activation(z)
    (slope,) = torch.autograd.grad(a.sum(), z)
    return slope.square().mean().sqrt() / a.std()
""",
        "Gauss and Hermite": """
def predict_growth(activation):
    x, weight = np.polynomial.hermite_e.hermegauss(150)
    z, p = torch.tensor(x, requires_grad=True), torch.tensor(weight / weight.sum())
    a = activation(z)
    slope = torch.autograd.grad(a.sum(), z)[0]
    return ((p * slope**2).sum() / ((p * a * a).sum() - (p * a).sum() ** 2)) ** 0.5
""",
    },
    "q3": {
        "torch": Q3 + LEVEL,
        "loop": """
def level(loss, weights):
    live = [w.clone().requires_grad_() for w in weights]
    loss(live).backward()
    target = math.sqrt(float((live[-1].grad ** 2).sum()))
    new = []
    for w in live:
        new.append(w.detach() * (math.sqrt(float((w.grad**2).sum())) / target))
    return new
""",
        "one layer after the other": """
def level(loss, weights):
    new = [w.clone() for w in weights]
    for k in range(len(new) - 2, -1, -1):
        r = norms_of(loss, new)
        new[k] = new[k] * (r[k] / r[k + 1])
    return tuple(new)
""",
        "einsum": Q3 + "return [torch.einsum('ij,->ij', w, n / r[-1]) for w, n in zip(weights, r)]",
    },
    "q4": {
        "measured": Q4.format(16.5, 0.0606, 0.89, 0.28),
        "another run": Q4.format(19.86, 0.051, 0.91, 0.27),
        "rounded": Q4.format(17, 0.06, 0.9, 0.3),
        "derived from the growth": "f = 1.21\n" + Q4.format("f**15", "1 / f**15", "torch.tensor(0.91)", 0.25),
    },
    "q5": {
        "torch": Q5 + "return rates / (p * q)",
        "loop": """
def twin(rates, decay):
    p, new = 1.0, torch.zeros_like(rates)
    for t in range(len(rates)):
        after = p * (1 - rates[t] * decay)
        new[t] = rates[t] / p / after
        p = after
    return new
""",
        "list": """
def twin(rates, decay):
    p, new = 1.0, []
    for rate in rates.tolist():
        new.append(rate / (p * p * (1 - rate * decay)))
        p *= 1 - rate * decay
    return new
""",
        "numpy, in logarithms": """
def twin(rates, decay):
    eta = rates.numpy()
    logs = np.log1p(-eta * decay)
    return torch.from_numpy(eta * np.exp(-2 * np.cumsum(logs) + logs))
""",
        "effective rate": """
def twin(rates, decay):
    length, new = 1.0, []
    for rate in rates:
        alpha = 1 - rate * decay
        new.append(rate / alpha * length**2)
        length = length / alpha
    return new
""",
    },
}

WORDS = "answer_q6 = 'The twin has long weights and computes the same function. ' * {}"
DECAYED = "rates * torch.tensor([float(a) ** -int(2 * k + 1) for a, k in zip({}, t)], dtype=rates.dtype)"

# Mistakes: question, code, misconception, points that are left.
WRONG = [
    ("q1", Q1 + "return (r[-1] / r[0]) ** (1 / (L - 1))", "upwards", 0),
    ("q1", Q1 + "return (r[0] / r[-1]) ** (2 / (L - 1))", "squared", 0),
    ("q1", Q1 + "return (r[0] / r[-1]) ** (1 / L)", "off_by_one", 0),
    ("q1", Q1 + "return r[0] / r[-1]", "whole", 0),
    ("q1", Q1 + "return sum(a / b for a, b in zip(r, r[1:])) / (L - 1)", "arithmetic", 0),
    ("q1", Q1 + "return sum(b / a for a, b in zip(r, r[1:])) / (L - 1)", "upwards", 0),
    ("q1", Q1 + "return math.exp(-np.polyfit(range(L), [math.log(n) for n in r], 1)[0])", "fitted", 0),
    ("q1", RAW + "return (g[0].abs().max() / g[-1].abs().max()) ** (1 / (L - 1))", "largest_entry", 0),
    ("q1", RAW + "return (g[0].square().mean() / g[-1].square().mean()) ** (0.5 / (L - 1))", "per_entry", 0),
    ("q1", RAW + "return (g[0].abs().mean() / g[-1].abs().mean()) ** (1 / (L - 1))", "per_entry", 0),
    ("q1", RAW + "return (torch.linalg.norm(g[0], 2) / torch.linalg.norm(g[-1], 2)) ** (1 / (L - 1))", "spectral", 0),
    ("q1", Q1 + "return (sum(r[:-1]) / sum(r[1:]))", "unknown", 0),
    ("q1", Q1 + "return torch.stack(r)", "wrong_shape", 0),
    ("q1", Q1 + "r[0] / r[-1]", "returned_nothing", 0),
    ("q1", "def growth(loss, weights):\n    return loss(weights).backward()", "raised", 0),
    ("q1", "def growth(loss, weights):\n    return float('nan')", "nan", 0),
    ("q1", "def growth(loss, weights):\n    return 'twice'", "wrong_type", 0),
    ("q1", "growht = 1", "missing", 0),
    ("q2", Q2 + "return ss / (aa - a**2)", "squared", 0),
    ("q2", Q2 + "return math.sqrt((aa - a**2) / ss)", "upside_down", 0),
    ("q2", Q2 + "return math.sqrt(ss / aa)", "mean_kept", 2),
    ("q2", Q2 + "return abs(s) / math.sqrt(aa - a**2)", "averaged_too_early", 0),
    ("q2", Q2 + "return 1 / math.sqrt(aa - a**2)", "slope_forgotten", 0),
    ("q2", Q2 + "return math.sqrt(ss)", "division_forgotten", 0),
    ("q2", Q2 + "return math.sqrt(ss) / (aa - a**2)", "variance_as_std", 0),
    ("q2", Q2.replace("(activation)\n    ", "(activation, 4, True)\n    ", 1).replace("averages(activation)", "averages(activation, 4, True)")
     + "return math.sqrt(ss / (aa - a**2))", "not_gaussian", 0),
    ("q2", Q2 + "return math.sqrt(math.pi / (math.pi - 1))", "relu_only", 0),
    ("q2", Q2 + "return 1 + ss", "unknown", 0),
    ("q2", Q2 + "return [a, s]", "wrong_type", 0),
    ("q2", Q2 + "return activation(torch.linspace(-8, 8, 100))", "wrong_shape", 0),
    ("q3", Q3 + "return [w * r[-1] / n for w, n in zip(weights, r)]", "upside_down", 0),
    ("q3", Q3 + "return [w / n for w, n in zip(weights, r)]", "upside_down", 0),
    ("q3", Q3 + "return [w * (n / r[-1]) ** 0.5 for w, n in zip(weights, r)]", "half_way", 0),
    ("q3", Q3 + "return [w * (n / r[-1]) ** 2 for w, n in zip(weights, r)]", "squared", 0),
    ("q3", Q3 + "return [w / w.norm() for w in weights]", "unit_length", 0),
    ("q3", Q3 + "return [w * weights[-1].norm() / w.norm() for w in weights]", "unit_length", 0),
    ("q3", Q3 + "return [w * (r[0] / r[-1]) ** ((L - 1 - k) / (L - 1)) for k, w in enumerate(weights)]", "average_growth", 0),
    ("q3", Q3 + "return [w.clone() for w in weights]", "unchanged", 0),
    ("q3", Q3 + "return [w * n for w, n in zip(weights, r)]", "last_layer_changed", 2),
    ("q3", Q3 + "return [w * n / r[0] for w, n in zip(weights, r)]", "last_layer_changed", 2),
    ("q3", Q3 + "for w, n in zip(weights, r):\n        w.detach().mul_(n / r[-1])\n    return weights", "in_place", 2),
    ("q3", Q3 + "return [-w * n / r[-1] for w, n in zip(weights, r)]", "another_direction", 0),
    ("q3", Q3 + "return [w + n / r[-1] for w, n in zip(weights, r)]", "another_direction", 0),
    ("q3", Q3 + "return [w * (n / r[-1] + 1) for w, n in zip(weights, r)]", "unknown", 0),
    ("q3", Q3 + "return [w * n / r[-1] for w, n in zip(weights[:-1], r)]", "wrong_count", 0),
    ("q3", Q3 + "return torch.stack([n / r[-1] for n in r])", "wrong_count", 0),
    ("q4", Q4.format(0.06, 16.5, 0.89, 0.28), "upside_down", 1),
    ("q4", Q4.format(1.21, 0.06, 0.89, 0.28), "per_layer", 2),
    ("q4", Q4.format(16.5, 1, 0.89, 0.28), "gradients_only", 2),
    ("q4", Q4.format(16.5, 4.1, 0.89, 0.28), "half_way", 2),
    ("q4", Q4.format(16.5, 0.06, 0.28, 0.89), "swapped", 2),
    ("q4", Q4.format(16.5, 0.06, 89, 28), "percent", 2),
    ("q4", Q4.format(16.5, 0.06, 0.9, 0.9), "other_accuracy", 2),
    ("q4", Q4.format(-16.5, 0.06, 0.9, 0.3), "negative", 2),
    ("q4", Q4.format(300, 0.06, 0.9, 0.3), "unknown", 2),
    ("q4", "answer_q4 = [16.5, 0.06, 0.9, 0.3]", "wrong_type", 0),
    ("q4", "answer_q4 = {'turn drawn': 16.5}", "wrong_type", 0),
    ("q4", Q4.format("'large'", 0.06, 0.9, "float('nan')"), "wrong_type", 0),
    ("q4", "answer_q4 = ...", "not_started", 0),
    ("q5", Q5 + "return rates", "unchanged", 0),
    ("q5", Q5 + "return rates / p", "one_power", 0),
    ("q5", Q5 + "return rates / q", "one_power", 0),
    ("q5", Q5 + "return rates * p * q", "shrinking", 0),
    ("q5", Q5 + "return rates / p**2", "too_early", 0),
    ("q5", Q5 + "return rates / q**2", "too_late", 0),
    ("q5", Q5 + "return " + DECAYED.format("1 - rates * decay"), "copied", 1),
    ("q5", Q5 + "return " + DECAYED.format("[1 - rates[0] * decay] * len(t)"), "copied", 1),
    ("q5", Q5 + "return " + DECAYED.format("[1 - decay] * len(t)"), "rate_forgotten", 0),
    ("q5", Q5 + "p, q = shrunk(rates, -decay)\n    return rates / (p * q)", "sign", 0),
    ("q5", Q5 + "p, q = shrunk(rates, -decay)\n    return rates * p * q", "sign", 0),
    ("q5", Q5 + "return rates / (p * q) + 0.1", "unknown", 0),
    ("q5", Q5 + "return (rates / (p * q)).float()", "wrong_dtype", 0),
    ("q5", Q5 + "return rates / p[-1] * torch.inf", "nan", 0),
    ("q5", Q5 + "return torch.cat([rates, rates])", "wrong_shape", 0),
    ("q5", Q5 + "return {'rates': rates}", "wrong_type", 0),
    ("q6", "answer_q6 = 7", "wrong_type", 0),
    ("q6", WORDS.format(1), "too_short", 0),
    ("q6", WORDS.format(50), "too_long", 0),
]  # fmt: skip

# Forbidden shortcuts: question, code, what the feedback names.
SHORTCUTS = [
    ("q1", "from bncourse.grading.ex06 import growth as ours\ndef growth(loss, weights):\n    return ours(loss, weights)", "bncourse.grading.ex06"),
    ("q2", "from bncourse.grading import ex06\ndef predict_growth(activation):\n    return ex06.predict_growth(activation)", "bncourse.grading.ex06"),
    ("q3", "import bncourse\ndef level(loss, weights):\n    return bncourse.grading.ex06.level(loss, weights)", "bncourse.grading"),
    ("q5", "def twin(rates, decay):\n    import bncourse.grading.ex06\n    return bncourse.grading.ex06.twin(rates, decay)", "bncourse.grading.ex06"),
]  # fmt: skip
