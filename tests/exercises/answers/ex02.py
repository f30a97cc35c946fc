"""Answers to exercise 2, right and wrong."""

# What the notebook gives.
PRELUDE = '''
def gradients(loss, weights, x, y):
    weights = [W.detach().requires_grad_() for W in weights]
    return list(torch.autograd.grad(loss(weights, x, y), weights))
'''

Q1 = "def moment_shift(b, a):\n    sd = lambda z: z.std(0, correction=0)\n    m, s = a.mean(0) - b.mean(0), sd(a) - sd(b)\n    v = sd(b) > 0\n    "
Q1_RIGHT = "return (m.abs() / sd(b))[v].mean(), (s.abs() / sd(b))[v].mean()"


def q3(network="moved[:i] + weights[i:]", distance="(g - h).norm()", cosine="(g * h).sum() / g.norm() / h.norm()",
       g="G[i]", moved="[W - lr * d for W, d in zip(weights, G)]", end="return distances, cosines", each=""):  # fmt: skip
    """The answer to question 3 with one of its parts exchanged."""
    return f"""
def definition(loss, weights, x, y, lr):
    k = len(weights)
    G = gradients(loss, weights, x, y)
    moved = {moved}
    distances, cosines = [], []
    for i in range(k):
        {each or "pass"}
        g, h = {g}, gradients(loss, {network}, x, y)[i]
        distances.append({distance})
        cosines.append({cosine})
    {end}
"""


# Gradients by .backward(), which adds to what is there; `first` is how G is kept.
BACKWARD = """
def definition(loss, weights, x, y, lr):
    ws = [W.clone().requires_grad_() for W in weights]
    loss(ws, x, y).backward()
    G = [{first} for w in ws]
    moved = [(w - lr * w.grad).detach() for w in ws]
    pairs = []
    for i in range(len(ws)):
        loss(moved[:i] + ws[i:], x, y).backward()
        pairs.append((G[i].clone(), ws[i].grad.clone()))
    return [(g - h).norm() for g, h in pairs], [(g * h).sum() / g.norm() / h.norm() for g, h in pairs]
"""

# Different right answers: question, way, code.
RIGHT = {
    "q1": {
        "torch": Q1 + Q1_RIGHT,
        "loops": """
def moment_shift(before, after):
    means, sds = [], []
    for c in range(before.shape[1]):
        stats = []
        for z in (before[:, c], after[:, c]):
            mean = sum(float(v) for v in z) / len(z)
            stats.append((mean, math.sqrt(sum((float(v) - mean) ** 2 for v in z) / len(z))))
        (m, s), (m2, s2) = stats
        if s > 0:
            means.append(abs(m2 - m) / s)
            sds.append(abs(s2 - s) / s)
    return sum(means) / len(means), sum(sds) / len(sds)
""",
        "numpy": """
def moment_shift(before, after):
    b, a = before.numpy(), after.numpy()
    with np.errstate(all="ignore"):
        unit = np.where(b.std(axis=0) > 1e-9, b.std(axis=0), np.nan)
    return [np.nanmean(np.abs(a.mean(axis=0) - b.mean(axis=0)) / unit), np.nanmean(np.abs(a.std(axis=0) / unit - b.std(axis=0) / unit))]
""",
        "einsum": """
def moment_shift(before, after):
    before, after = (z[:, before.var(0, unbiased=False) != 0] for z in (before, after))
    def moments(z):
        mean = torch.einsum("nc->c", z) / len(z)
        return torch.stack([mean, (torch.einsum("nc,nc->c", z - mean, z - mean) / len(z)) ** 0.5])
    old, new = moments(before), moments(after)
    return ((new - old).abs() / old[1]).mean(1)[0], ((new - old).abs() / old[1]).mean(1)[1]
""",
    },
    "q2": {
        "rounded": 'answer_q2 = {"distance": 1.23, "cosine": -1, "loss": 0.27}',
        "computed": """
w1, w2 = 1.0, 3.0
def G(v1, v2):
    e = v1 * v2 - 1
    return e * v2, e * v1
g1, g2 = G(w1, w2)
answer_q2 = dict(distance=abs(g2 - G(w1 - 0.05 * g1, w2)[1]), cosine=np.sign(g2 * G(w1 - 0.15 * g1, w2)[1]),
                 loss=torch.tensor(((w1 - 0.15 * g1) * (w2 - 0.15 * g2) - 1) ** 2 / 2))
""",
    },
    "q3": {
        "lists": q3(),
        "stacked, flat": """
def definition(loss, weights, x, y, lr):
    G = gradients(loss, weights, x, y)
    moved = [W - lr * g for W, g in zip(weights, G)]
    pairs = [(G[i].flatten(), gradients(loss, moved[:i] + weights[i:], x, y)[i].flatten()) for i in range(len(G))]
    return (torch.stack([torch.linalg.norm(g - h) for g, h in pairs]),
            torch.stack([torch.cosine_similarity(g, h, dim=0) for g, h in pairs]))
""",
        "autograd of its own, one layer after another": """
def definition(loss, weights, x, y, lr):
    old = [W.clone().requires_grad_(True) for W in weights]
    loss(old, x, y).backward()
    now = [W.detach().clone() for W in weights]
    out = torch.zeros(2, len(weights))
    for i in range(len(weights)):
        now[i].requires_grad_(True)
        loss(now, x, y).backward()
        g, h = old[i].grad.reshape(-1), now[i].grad.reshape(-1)
        out[0, i], out[1, i] = (g - h).pow(2).sum().sqrt(), g.dot(h) / g.dot(g).sqrt() / h.dot(h).sqrt()
        now[i] = now[i].detach() - lr * old[i].grad
    return out[0], out[1]
""",
        "numpy": """
def definition(loss, weights, x, y, lr):
    G = [g.numpy() for g in gradients(loss, weights, x, y)]
    distances, cosines = [0.0], [1]
    for i in range(1, len(weights)):
        mixed = [W - (lr if j < i else 0) * torch.from_numpy(G[j]) for j, W in enumerate(weights)]
        g, h = G[i].ravel(), gradients(loss, mixed, x, y)[i].numpy().ravel()
        distances.append(float(np.linalg.norm(g - h)))
        cosines.append(np.einsum("n,n->", g, h) / np.sqrt((g @ g) * (h @ h)))
    return distances, cosines
""",
        "there and back": """
def definition(loss, weights, x, y, lr):
    G = gradients(loss, weights, x, y)
    d, c = [], []
    for i in range(len(weights)):
        for j in range(i):
            weights[j] = weights[j] - lr * G[j]
        h = gradients(loss, weights, x, y)[i]
        for j in range(i):
            weights[j] = weights[j] + lr * G[j]
        d.append(torch.dist(G[i], h))
        c.append(torch.sum(G[i] * h) / torch.sqrt(torch.sum(G[i] ** 2) * torch.sum(h ** 2)))
    return d, c
""",
    },
    "q4": {
        "as read": 'answer_q4 = {"moments": "plain", "gradients": ["batch norm", "plain", "batch norm"], "cosines": [0.857, 0.477], "loss": "lower"}',
        "rounded": 'answer_q4 = dict(moments="Plain ", gradients=("Batch norm", "plain", "batch norm"), cosines=torch.tensor([0.86, 0.48]), loss="lower")',
    },
}


def q2(distance="1.23", cosine="-1", loss="0.27"):
    return f'answer_q2 = {{"distance": {distance}, "cosine": {cosine}, "loss": {loss}}}'


def q4(moments='"plain"', gradients='["batch norm", "plain", "batch norm"]', cosines="[0.857, 0.477]", loss='"lower"'):
    return f'answer_q4 = {{"moments": {moments}, "gradients": {gradients}, "cosines": {cosines}, "loss": {loss}}}'


# Mistakes: question, code, misconception, points that are left.
WRONG = [
    ("q1", Q1 + "sd = lambda z: z.std(1, correction=0)\n    m, s = a.mean(1) - b.mean(1), sd(a) - sd(b)\n    return (m.abs() / sd(b)).mean(), (s.abs() / sd(b)).mean()", "examples", 0),
    ("q1", "def moment_shift(b, a):\n    n = min(len(a), len(b))\n    a, b = a[:n], b[:n]\n    sd = lambda z: z.std(1, correction=0)\n    return ((a.mean(1) - b.mean(1)).abs() / sd(b)).mean(), ((sd(a) - sd(b)).abs() / sd(b)).mean()", "unknown", 0),
    ("q1", Q1 + "return (m[v] / sd(b)[v]).mean().abs(), (s[v] / sd(b)[v]).mean().abs()", "signed", 0),
    ("q1", Q1 + "return (m[v] / sd(b)[v]).mean(), (s.abs()[v] / sd(b)[v]).mean()", "signed", 1),
    ("q1", Q1 + "return (a.mean() - b.mean()).abs() / b.std(correction=0), (a.std(correction=0) - b.std(correction=0)).abs() / b.std(correction=0)", "whole_layer", 0),
    ("q1", Q1 + "return m.abs().mean(), s.abs().mean()", "no_unit", 0),
    ("q1", Q1 + "return (m.abs() / sd(a))[v].mean(), (s.abs() / sd(a))[v].mean()", "unit_after", 0),
    ("q1", Q1 + "return (m.abs() / b.var(0, correction=0))[v].mean(), (s.abs() / sd(b))[v].mean()", "unit_variance", 1),
    ("q1", Q1 + "return m.abs().mean() / sd(b).mean(), s.abs().mean() / sd(b).mean()", "unit_layer", 0),
    ("q1", Q1 + "return (m.abs() / b.std(0))[v].mean(), ((a.std(0) - b.std(0)).abs() / b.std(0))[v].mean()", "unbiased", 0),
    ("q1", Q1 + "return (m.abs() / sd(b))[v].sum(), (s.abs() / sd(b))[v].sum()", "summed", 0),
    ("q1", Q1 + "return (m.abs() / sd(b))[v].max(), (s.abs() / sd(b))[v].mean()", "largest", 1),
    ("q1", Q1 + "return (m ** 2 / sd(b))[v].mean(), (s ** 2 / sd(b))[v].mean()", "squared", 0),
    ("q1", Q1 + "m, s = s, m\n    " + Q1_RIGHT, "order", 0),
    ("q1", Q1 + "s = a.var(0, correction=0) - b.var(0, correction=0)\n    return (m.abs() / sd(b))[v].mean(), (s.abs() / b.var(0, correction=0))[v].mean()", "variance", 2),
    ("q1", Q1 + "n = min(len(a), len(b))\n    p = ((a[:n] - b[:n]).abs().mean(0) / sd(b))[v].mean()\n    return p, (s.abs() / sd(b))[v].mean()", "unknown", 1),
    ("q1", Q1 + "p = ((a - b).abs().mean(0) / sd(b))[v].mean()\n    return p, (s.abs() / sd(b))[v].mean()", "paired", 0),
    ("q1", Q1 + "return (m.abs() / sd(b)).mean(), (s.abs() / sd(b)).mean()", "constant_unit", 3),
    ("q1", Q1 + "return (m.abs() / (sd(b) + 1e-8)).mean(), (s.abs() / (sd(b) + 1e-8)).mean()", "constant_unit", 3),
    ("q1", Q1 + "return torch.where(v, m.abs() / sd(b), 0).mean(), torch.where(v, s.abs() / sd(b), 0).mean()", "counted_as_zero", 3),
    ("q1", Q1 + "v = v & (sd(a) > 0)\n    " + Q1_RIGHT, "still_varying", 3),
    ("q1", Q1 + Q1_RIGHT.replace("(s.abs() / sd(b))[v]", "(s.abs() / sd(b))[v & (sd(a) > 0)]"), "still_varying", 3),
    ("q1", Q1 + "return (m.abs() / sd(b))[v].mean(), 0", "always_zero", 2),
    ("q1", Q1 + "return (m.abs() / sd(b))[v].mean(), torch.tensor(0.0)", "always_zero", 2),
    ("q1", Q1 + "return (m.abs() / sd(b))[v].mean(), None", "returned_nothing", 2),
    ("q1", Q1 + "return m.abs() / sd(b), s.abs() / sd(b)", "wrong_shape", 0),
    ("q1", Q1 + "return (m.abs() / sd(b))[v].mean()", "wrong_count", 0),
    ("q1", Q1 + "return 'far', 'farther'", "wrong_type", 0),
    ("q1", Q1 + "return float('nan'), float('inf')", "nan", 0),
    ("q1", Q1 + "pass", "returned_nothing", 0),
    ("q1", "moment = 1", "missing", 0),
    ("q1", "def moment_shift(before, after):\n    raise NotImplementedError", "not_started", 0),
    ("q2", q2(distance="1.279"), "everything_moved", 2),
    ("q2", q2(distance="0.1"), "itself_moved", 2),
    ("q2", q2(distance="1.77"), "ascent", 2),
    ("q2", q2(distance="1.51"), "squared", 2),
    ("q2", q2(distance="0.615"), "relative", 2),
    ("q2", q2(distance="-1.23"), "signed", 2),
    ("q2", q2(distance="0.49"), "wrong_layer", 2),
    ("q2", q2(distance="0"), "first_layer", 2),
    ("q2", q2(distance="0.77"), "gradient", 2),
    ("q2", q2(distance="5"), "unknown", 2),
    ("q2", q2(cosine="1"), "not_turned", 2),
    ("q2", q2(cosine="-0.14"), "dot_product", 2),
    ("q2", q2(cosine="0"), "no_direction", 2),
    ("q2", q2(loss="0.245"), "not_both", 2),
    ("q2", q2(loss="0.2443"), "not_both", 2),
    ("q2", q2(loss="0.533"), "factor", 2),
    ("q2", q2(loss="-0.73"), "not_squared", 2),
    ("q2", q2(loss="13.886"), "ascent", 2),
    ("q2", q2(loss="0.9"), "unknown", 2),
    ("q2", q2("'far'", "[]", "float('nan')"), "wrong_type", 0),
    ("q2", "answer_q2 = [1.23, -1, 0.27]", "wrong_type", 0),
    ("q2", "answer_q2 = {'distance': 1.23}", "missing_entry", 1),
    ("q2", "answer_q2 = ...", "not_started", 0),
    ("q2", "answer_2 = 1", "missing", 0),
    ("q3", q3("moved[:i + 1] + weights[i + 1:]"), "itself_moved", 0),
    ("q3", q3("moved"), "everything_moved", 0),
    ("q3", q3("moved[:i] + [weights[i]] + moved[i + 1:]"), "others_moved", 0),
    ("q3", q3("weights[:i] + moved[i:]"), "above_moved", 0),
    ("q3", q3("moved[:max(i - 1, 0)] + weights[max(i - 1, 0):]"), "one_short", 0),
    ("q3", q3("[moved[j] if j == i - 1 else weights[j] for j in range(k)]"), "neighbour", 0),
    ("q3", q3("[moved[j] if j == i else weights[j] for j in range(k)]"), "only_itself", 0),
    ("q3", q3("weights"), "nothing_moved", 0),
    ("q3", q3(g="gradients(loss, moved[:max(i - 1, 0)] + weights[max(i - 1, 0):], x, y)[i]"), "previous", 0),
    ("q3", q3(moved="list(weights)", each="moved[i] = moved[i] - lr * gradients(loss, moved, x, y)[i]"), "sequential", 0),
    ("q3", BACKWARD.format(first="w.grad.clone()"), "accumulated", 0),
    ("q3", BACKWARD.format(first="w.grad"), "nothing_moved", 0),
    ("q3", q3(moved="[W + lr * d for W, d in zip(weights, G)]"), "ascent", 0),
    ("q3", q3(moved="[W - d for W, d in zip(weights, G)]"), "lr_forgotten", 0),
    ("q3", q3().replace("gradients(loss, moved[:i] + weights[i:], x, y)[i]", "torch.cat([d.flatten() for d in gradients(loss, moved[:i] + weights[i:], x, y)])").replace("g, h = G[i]", "g, h = torch.cat([d.flatten() for d in G])"), "all_layers", 0),
    ("q3", q3(distance="(g - h).square().sum()"), "squared", 2),
    ("q3", q3(distance="(g - h).norm() / g.norm()"), "relative", 2),
    ("q3", q3(distance="((g - h) ** 2).mean()"), "averaged", 2),
    ("q3", q3(distance="(g - h).abs().sum()"), "absolute", 2),
    ("q3", q3(distance="abs(g.norm() - h.norm())"), "lengths", 2),
    ("q3", q3(distance="torch.linalg.norm(g - h, 2)"), "spectral", 2),
    ("q3", q3("moved", distance="(g - h).square().sum()"), "everything_moved", 0),
    ("q3", q3(cosine="(g * h).sum()"), "not_normalized", 3),
    ("q3", q3(cosine="(g * h).sum() / g.norm() ** 2"), "one_length", 3),
    ("q3", q3(cosine="F.cosine_similarity(g, h).mean()"), "rows", 3),
    ("q3", q3(cosine="torch.arccos(((g * h).sum() / g.norm() / h.norm()).clamp(-1, 1))"), "angle", 3),
    ("q3", q3(cosine="1 - (g * h).sum() / g.norm() / h.norm()"), "one_minus", 3),
    ("q3", q3(cosine="((g * h).sum() / g.norm() / h.norm()).abs()"), "absolute", 3),
    ("q3", q3(cosine="(g * (h - g)).sum() / g.norm() / (h - g).norm()"), "nan", 3),
    ("q3", q3(cosine="F.cosine_similarity(g.flatten(), (h - g).flatten(), dim=0)"), "difference", 3),
    ("q3", q3(end="return cosines, distances"), "order", 0),
    ("q3", q3(moved="[W.sub_(lr * d) for W, d in zip([w.clone() for w in weights], G)]", end="[W.sub_(lr * d) for W, d in zip(weights, G)]\n    return distances, cosines"), "in_place", 5),
    ("q3", q3(end="return distances[1:], cosines[1:]"), "wrong_shape", 0),
    ("q3", q3(end="return list(zip(distances, cosines))"), "wrong_count", 0),
    ("q3", q3(end="return torch.tensor([distances, cosines]).T"), "wrong_count", 0),
    ("q3", q3(end="pass"), "returned_nothing", 0),
    ("q3", q3(distance="(g - h).norm() + 1"), "unknown", 2),
    ("q3", q3("moved[:i] - weights[i:]"), "raised", 0),
    ("q3", "def definition(loss, weights, x, y, lr):\n    raise NotImplementedError", "not_started", 0),
    ("q4", q4(moments='"batch norm"'), "batch norm", 3),
    ("q4", q4(moments='"depends"'), "depends", 3),
    ("q4", q4(moments='"both"'), "wrong_type", 3),
    ("q4", q4(gradients='["plain", "batch norm", "plain"]'), "cosine_reversed", 3),
    ("q4", q4(gradients='["batch norm"] * 3'), "all_the_same", 3),
    ("q4", q4(gradients='["batch norm", "plain", "plain"]'), "one_experiment", 3),
    ("q4", q4(gradients='"plain"'), "wrong_type", 3),
    ("q4", q4(gradients="[0.1, 0.2, 0.3]"), "wrong_type", 3),
    ("q4", q4(cosines="[0.477, 0.857]"), "swapped", 3),
    ("q4", q4(cosines="[0.724, 0.724]"), "other_network", 3),
    ("q4", q4(cosines="[0.870, 0.390]"), "wrong_column", 3),
    ("q4", q4(cosines="[0.5, 0.5]"), "unknown", 3),
    ("q4", q4(cosines="[0.8, 'x']"), "wrong_type", 3),
    ("q4", q4(loss='"higher"'), "higher", 3),
    ("q4", "answer_q4 = {'moments': 'plain'}", "missing_entry", 1),
    ("q4", "answer_q4 = 'plain'", "wrong_type", 0),
    ("q4", "answer_q4 = ...", "not_started", 0),
    ("q1", Q1 + "return m.abs().sum() / sd(b).sum(), s.abs().sum() / sd(b).sum()", "unit_layer", 0),
    ("q1", Q1 + "u = b.var(0, correction=0).mean().sqrt()\n    return m.abs().mean() / u, s.abs().mean() / u", "unit_layer", 0),
    ("q1", Q1 + "p = torch.cat([a, b]).std(0, correction=0)\n    return (m.abs() / p)[v].mean(), (s.abs() / p)[v].mean()", "unit_both", 0),
    ("q1", Q1 + "p = (sd(a) + sd(b)) / 2\n    return (m.abs() / p)[v].mean(), (s.abs() / p)[v].mean()", "unit_both", 0),
    ("q1", Q1 + "return (m / b.mean(0)).abs()[v].mean(), (s.abs() / sd(b))[v].mean()", "unit_mean", 1),
    ("q1", Q1 + "p = sd(b) / len(b) ** 0.5\n    return (m.abs() / p)[v].mean(), (s.abs() / p)[v].mean()", "standard_error", 0),
    ("q1", Q1 + "n = lambda z: (z - z.mean(0)) / sd(z)\n    return (n(a).mean(0) - n(b).mean(0)).abs().mean(), (sd(n(a)) - sd(n(b))).abs().mean()", "standardized", 0),
    ("q1", Q1 + "return (m.abs() / sd(b))[v].median(), (s.abs() / sd(b))[v].median()", "median", 0),
    ("q1", Q1 + "return (m / sd(b))[v].square().mean().sqrt(), (s / sd(b))[v].square().mean().sqrt()", "root_mean_square", 0),
    ("q1", Q1 + "return (m / sd(b))[v].norm(), (s / sd(b))[v].norm()", "root_mean_square", 0),
    ("q1", Q1 + "return (m / sd(b))[v].square().mean(), (s / sd(b))[v].square().mean()", "squared", 0),
    ("q1", Q1 + "return (-m / sd(b))[v].mean(), (-s / sd(b))[v].mean()", "signed", 0),
    ("q1", Q1 + "d = lambda z: (z - z.mean(0)).abs().mean(0)\n    return (m.abs() / d(b))[v].mean(), ((d(a) - d(b)).abs() / d(b))[v].mean()", "mean_deviation", 0),
    ("q1", Q1 + "return (m.abs() / sd(b))[v].sum() / len(b), (s.abs() / sd(b))[v].sum() / len(b)", "examples_counted", 0),
    ("q1", Q1 + "return (m.abs() / sd(b))[v].mean(), (sd(a) / sd(b))[v].mean()", "ratio", 2),
    ("q1", Q1 + "return (m.abs() / sd(b))[v].mean(), (sd(a) / sd(b))[v].log().abs().mean()", "logarithm", 2),
    ("q2", q2(distance="2.07"), "other_rate", 2),
    ("q2", q2(distance="78"), "lr_forgotten", 2),
    ("q2", q2(cosine="180"), "angle", 2),
    ("q2", q2(cosine="3.1416"), "angle", 2),
    ("q2", q2(loss="1.445"), "only_above", 2),
    ("q3", q3("weights[:k - i] + moved[k - i:]"), "above_moved", 0),
    ("q3", q3(moved="[W - 2 * lr * d for W, d in zip(weights, G)]"), "other_rate", 0),
    ("q3", q3(moved="[W - lr * d / d.norm() for W, d in zip(weights, G)]"), "not_the_gradient", 0),
    ("q3", q3(moved="[W - lr * d.sign() for W, d in zip(weights, G)]"), "not_the_gradient", 0),
    ("q3", q3(g="gradients(loss, moved, x, y)[i]"), "start_moved", 0),
    ("q3", q3("moved[:i + 1] + weights[i + 1:]", g="gradients(loss, moved[:i] + weights[i:], x, y)[i]"), "own_step", 0),
    ("q3", q3().replace("g, h = G[i], gradients(loss, moved[:i] + weights[i:], x, y)[i]", "g, h = weights[i], moved[i]"), "of_weights", 0),
    ("q3", q3(end="return distances[::-1], cosines[::-1]"), "backwards", 0),
    ("q3", q3(distance="(g - h).abs().mean()"), "averaged", 2),
    ("q3", q3(distance="(g - h).abs().max()"), "largest", 2),
    ("q3", q3(distance="(g - h).sum()"), "signed", 2),
    ("q3", q3(distance="(g - h).norm(dim=1).mean()"), "row_lengths", 2),
    ("q3", q3(distance="torch.linalg.matrix_norm(g - h, 'nuc')"), "spectral", 2),
    ("q3", q3(distance="((g - h).norm() / g.norm()) ** 2"), "relative", 2),
    ("q3", q3(end="return torch.stack(distances).cumsum(0), cosines"), "running_sum", 2),
    ("q3", q3(distance="(g - h).norm() / k"), "divided", 2),
    ("q3", q3(cosine="(g * h).sum() / (g.norm() + h.norm())"), "sum_of_lengths", 3),
    ("q3", q3(cosine="(g * h).sum() / (g.norm() * h.norm()) ** 2"), "squared_lengths", 3),
    ("q3", q3(cosine="(g * h).mean() / g.norm() / h.norm()"), "averaged", 3),
    ("q3", q3(cosine="F.cosine_similarity((g - g.mean()).flatten(), (h - h.mean()).flatten(), dim=0)"), "correlation", 3),
    ("q5", "answer_q5 = 'Less shift is better.'", "too_short", 0),
    ("q5", "answer_q5 = 'shift ' * 300", "too_long", 0),
    ("q5", "answer_q5 = 3", "wrong_type", 0),
    ("q5", "answer_q5 = ...", "not_started", 0),
]  # fmt: skip

DEFINITION = "def definition(loss, weights, x, y, lr):\n    "

# Forbidden shortcuts: question, code, what the feedback names.
SHORTCUTS = [
    ("q1", "from bncourse.probes.activations import Moments\ndef moment_shift(b, a):\n    return Moments()(b, a, 1)", "bncourse.probes.activations"),
    ("q1", "from bncourse.grading.ex02 import moment_shift as ours\ndef moment_shift(b, a):\n    return ours(b, a)", "bncourse.grading.ex02"),
    ("q3", "from bncourse.probes.shift import shift\n" + DEFINITION + "return shift(weights, x, y, lr, loss)", "bncourse.probes.shift"),
    ("q3", DEFINITION + "import bncourse.probes.shift as s\n    return s.shift(weights, x, y, lr, loss)", "bncourse.probes.shift"),
    ("q3", "import bncourse\n" + DEFINITION + "return bncourse.grading.ex02.definition(loss, weights, x, y, lr)", "bncourse.grading"),
    ("q3", DEFINITION + "return __import__('bncourse').grading.ex02.definition(loss, weights, x, y, lr)", "__import__"),
]  # fmt: skip
