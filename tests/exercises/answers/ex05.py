"""Answers to exercise 5, right and wrong. PRELUDE is what the notebook gives."""

PRELUDE = """
def gradient_through(answer, x, *others):
    x.requires_grad_()
    function = globals()[answer]
    y = function(x.clone(), *others)
    return y, torch.autograd.grad((y**3).sum(), x)[0]
"""

Q1 = "def layer_norm(x, gamma, beta, eps, centre):\n    "
MS = "m, v, r = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True), x.square().mean(-1, keepdim=True)\n    "
L, R = "gamma * (x - m) / (v + eps).sqrt() + beta", "gamma * x / (r + eps).sqrt()"


def q1(layer: str = L, rms: str = R) -> str:
    return f"{Q1}{MS}return {layer} if centre else {rms}"


def q1_over(axes: str) -> str:
    return f"{Q1}D = {axes}\n    {MS.replace('-1', 'D')}return {L} if centre else {R}"


Q2 = "def group_norm(x, gamma, beta, groups, eps):\n    N, C, H, W = x.shape\n    G, a, b = groups, gamma.view(-1, 1, 1), beta.view(-1, 1, 1)\n    "
Q2_END = "\n    y = (p - p.mean(D, keepdim=True)) / (p.var(D, correction=0, keepdim=True) + eps).sqrt()\n    return y.reshape(x.shape) * a + b"


def q2(fold: str, axes: str, end: str = Q2_END) -> str:
    return f"{Q2}p, D = {fold}, {axes}{end}"


BLOCKS = "x.reshape(N, G, C // G, H, W)"
GROUP_END = lambda last: Q2_END.replace("return y.reshape(x.shape) * a + b", "y = y.reshape(x.shape)\n    return " + last)  # noqa: E731

Q3 = """
def weight_norm(v, g, dw):
    axes = tuple(range(1, v.dim()))
    total = lambda t: t.sum(axes, keepdim=True)
    G = g.view(-1, *[1] * (v.dim() - 1))
    n = total(v * v).sqrt()
    u = v / n
    w, dg = G * u, total(dw * u)
    dv = G / n * (dw - u * dg)
    dg = dg.flatten()
    """
Q3_END = "return w, dv, dg"


def q3(change: str) -> str:
    return Q3 + change + "\n    " + Q3_END


TRUTH = {"batch": "CDGH", "layer": "ABDEF", "rms": "ADF", "group": "ABDEFH", "weight": "CDFH"}


def q4(**rows) -> str:
    return f"answer_q4 = {TRUTH | rows}"


def q5(shares="[0, 0.5, 0.9375]", lost="[65, 81]") -> str:
    return f"answer_q5 = {{'shares': {shares}, 'lost': {lost}}}"


# Different right answers: question, way, code.
RIGHT = {
    "q1": {
        "torch": q1(),
        "one branch": """
def layer_norm(x, gamma, beta, eps, centre):
    if centre:
        x = x - x.mean(dim=-1, keepdim=True)
    return gamma * x * torch.rsqrt((x**2).mean(dim=-1, keepdim=True) + eps) + (beta if centre else 0)
""",
        "loops": """
def one(row, gamma, beta, eps, centre):
    C = len(row)
    mean = sum(row) / C if centre else 0
    size = (sum((value - mean) ** 2 for value in row) / C + eps) ** 0.5
    return torch.stack([gamma[c] * (row[c] - mean) / size + (beta[c] if centre else 0) for c in range(C)])
def layer_norm(x, gamma, beta, eps, centre):
    rows = x.reshape(-1, x.shape[-1])
    return torch.stack([one(row, gamma, beta, eps, centre) for row in rows]).reshape(x.shape)
""",
        "einsum": """
def layer_norm(x, gamma, beta, eps, centre):
    C = x.shape[-1]
    centred = x - torch.einsum("...c->...", x)[..., None] / C if centre else x
    size = torch.sqrt(torch.einsum("...c,...c->...", centred, centred) / C + eps)
    y = torch.einsum("...c,c,...->...c", centred, gamma, 1 / size)
    return y + beta if centre else y
""",
        "numpy": """
def layer_norm(x, gamma, beta, eps, centre):
    dtype = x.dtype
    x, gamma, beta = (t.double().numpy() for t in (x, gamma, beta))
    if not centre:
        return torch.from_numpy(gamma * x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)).to(dtype)
    return torch.from_numpy(gamma * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) + beta).to(dtype)
""",
    },
    "q2": {
        "unflatten": q2(BLOCKS, "(2, 3, 4)"),
        "flat": q2("x.reshape(N, G, -1)", "2"),
        "loops": """
def group_norm(x, gamma, beta, groups, eps):
    y, size = torch.zeros_like(x), x.shape[1] // groups
    for n in range(len(x)):
        for start in range(0, x.shape[1], size):
            part = x[n, start:start + size]
            z = (part - part.mean()) / ((part - part.mean()).pow(2).mean() + eps).sqrt()
            for c in range(size):
                y[n, start + c] = gamma[start + c] * z[c] + beta[start + c]
    return y
""",
        "chunks": """
def group_norm(x, gamma, beta, groups, eps):
    def norm(part):
        var, mean = torch.var_mean(part, dim=(1, 2, 3), correction=0, keepdim=True)
        return (part - mean) / torch.sqrt(var + eps)
    y = torch.cat([norm(part) for part in x.chunk(groups, dim=1)], dim=1)
    return torch.einsum("nchw,c->nchw", y, gamma) + beta.reshape(1, -1, 1, 1)
""",
        "numpy": """
def group_norm(x, gamma, beta, groups, eps):
    a = x.double().numpy().reshape(len(x), groups, -1)
    a = ((a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + eps)).reshape(x.shape)
    return (torch.from_numpy(a) * gamma[:, None, None] + beta[:, None, None]).to(x.dtype)
""",
    },
    "q3": {
        "axes": q3(""),
        "loops": """
def weight_norm(v, g, dw):
    w, dv, dg = torch.empty_like(v), torch.empty_like(v), torch.empty_like(g)
    for k in range(len(v)):
        n = torch.sqrt((v[k] ** 2).sum())
        dg[k] = (dw[k] * v[k]).sum() / n
        w[k] = g[k] * v[k] / n
        dv[k] = g[k] * dw[k] / n - g[k] * dg[k] * v[k] / n**2
    return w, dv, dg
""",
        "einsum": """
def weight_norm(v, g, dw):
    n = torch.linalg.vector_norm(v.flatten(1), dim=1)
    dg = torch.einsum("k...,k...,k->k", dw, v, 1 / n)
    return (torch.einsum("k...,k->k...", v, g / n), torch.einsum("k...,k->k...", dw, g / n)
            - torch.einsum("k...,k->k...", v, g * dg / n**2), dg)
""",
        "Jacobian": """
def weight_norm(v, g, dw):
    a, d = v.flatten(1), dw.flatten(1)
    n = a.norm(dim=1)
    u = a / n[:, None]
    J = (torch.eye(a.shape[1], dtype=v.dtype) - u[:, :, None] * u[:, None, :]) * (g / n)[:, None, None]
    dv = (J @ d[:, :, None])[:, :, 0]
    return [(g[:, None] * u).reshape(v.shape), dv.reshape(v.shape), (d * u).sum(1)]
""",
        "numpy": """
def weight_norm(v, g, dw):
    a, b, d = v.double().numpy().reshape(len(v), -1), g.double().numpy()[:, None], dw.double().numpy().reshape(len(v), -1)
    n = np.linalg.norm(a, axis=1, keepdims=True)
    dg = (d * a / n).sum(1, keepdims=True)
    found = (b * a / n).reshape(v.shape), (b / n * (d - dg * a / n)).reshape(v.shape), dg[:, 0]
    return tuple(torch.from_numpy(f).to(v.dtype) for f in found)
""",
    },
    "q4": {
        "letters": q4(),
        "another order, spaces and commas": q4(batch="h, g, d, c", layer="f e d b a"),
        "lists": q4(rms=["D", "A", "F"]),
    },
    "q5": {
        "exact": q5(),
        "measured": q5("[2e-9, 0.498, 0.938]", "[62.8, 79.6]"),
        "fractions, other seeds": q5("(0, 2/4, 30/32)", "[68, 83]"),
        "an array": q5("torch.tensor([0, 0.5, 0.9375])", "torch.tensor([65.0, 80.0])"),
    },
}

# Mistakes: question, code, misconception, points that are left.
WRONG = [
    ("q1", q1_over("0"), "batch", 0),
    ("q1", q1_over("tuple(range(x.dim()))"), "everything", 0),
    ("q1", q1_over("tuple(range(1, x.dim()))"), "positions", 0),
    ("q1", q1("gamma * (x - m) / (x.var(-1, keepdim=True) + eps).sqrt() + beta"), "unbiased", 1),
    ("q1", q1("gamma * (x - m) / (v.sqrt() + eps) + beta", "gamma * x / (r.sqrt() + eps)"), "eps_outside", 0),
    ("q1", q1("gamma * (x - m) / v.sqrt() + beta"), "eps_forgotten", 1),
    ("q1", q1("gamma * (x - m) / (v + 1e-5).sqrt() + beta"), "eps_forgotten", 1),
    ("q1", q1("gamma * (x - m) / (v + eps) + beta"), "no_root", 1),
    ("q1", q1("gamma * (x - m) / v + beta"), "no_root", 1),
    ("q1", q1("(x - m) / (v + eps).sqrt()"), "affine_forgotten", 1),
    ("q1", q1("(x - m) / (v + eps).sqrt() + beta"), "gamma_forgotten", 1),
    ("q1", q1("gamma * (x - m) / (v + eps).sqrt()"), "beta_forgotten", 1),
    ("q1", q1("gamma[:, None] * (x - m) / (v + eps).sqrt() + beta[:, None]"), "affine_axis", 1),
    ("q1", q1(R), "never_centred", 1),
    ("q1", q1(rms=L), "always_centred", 2),
    ("q1", q1(rms="gamma * (x - m) / (v + eps).sqrt()"), "always_centred", 2),
    ("q1", q1(rms="gamma * x / (v + eps).sqrt()"), "std_for_rms", 2),
    ("q1", q1(rms="gamma * (x - m) / (r + eps).sqrt()"), "centred_over_rms", 2),
    ("q1", q1(rms=R + " + beta"), "beta_in_rms", 2),
    ("q1", q1(rms="gamma * x / (x.square().sum(-1, keepdim=True) + eps).sqrt()"), "length", 2),
    ("q1", q1(rms="gamma * x / r.sqrt()"), "eps_forgotten", 2),
    ("q1", q1(rms="gamma * torch.tanh(x)"), "unknown", 2),
    ("q1", Q1 + "x -= x.mean(-1, keepdim=True) * centre\n    " + MS + f"return {L} if centre else {R}", "in_place", 1),
    ("q1", q1("gamma @ x @ beta @ x", "gamma @ x @ beta @ x"), "raised", 0),
    ("q1", Q1 + MS + f"m, v, r = m.detach(), v.detach(), r.detach()\n    return {L} if centre else {R}", "gradient_cut", 0),
    ("q1", Q1 + MS + f"m = m.detach()\n    return {L} if centre else {R}", "gradient_cut", 1),
    ("q1", f"{Q1}with torch.no_grad():\n        {MS}return {L} if centre else {R}", "gradient_cut", 0),
    ("q1", Q1 + MS + f"v = torch.from_numpy(x.detach().numpy().var(-1, keepdims=True))\n    return {L} if centre else {R}", "gradient_cut", 1),
    ("q1", Q1 + MS + f"r = torch.from_numpy((x.detach().numpy() ** 2).mean(-1, keepdims=True))\n    return {L} if centre else {R}", "gradient_cut", 2),
    ("q1", Q1 + "return x[0]", "wrong_shape", 0),
    ("q1", Q1 + "return x.tolist()", "wrong_type", 0),
    ("q1", Q1 + "pass", "returned_nothing", 0),
    ("q1", Q1 + "raise NotImplementedError", "not_started", 0),
    ("q2", q2("x.reshape(N, C // G, G, H, W)", "(1, 3, 4)"), "interleaved", 0),
    ("q2", q2(BLOCKS, "(0, 2, 3, 4)"), "with_batch", 0),
    ("q2", q2(BLOCKS, "2"), "per_pixel", 0),
    ("q2", q2("x.reshape(N, C // G, G, H, W)", "(2, 3, 4)"), "groups_swapped", 0),
    ("q2", q2("x", "(1, 2, 3)"), "one_group", 0),
    ("q2", q2("x", "(2, 3)"), "instance", 0),
    ("q2", q2("x", "(0, 2, 3)"), "batch_norm", 0),
    ("q2", q2("x", "(0, 1, 2, 3)"), "everything", 0),
    ("q2", q2(BLOCKS, "(2, 3, 4)", Q2_END.replace("correction=0", "correction=1")), "unbiased", 0),
    ("q2", q2(BLOCKS, "(2, 3, 4)", Q2_END.replace(" + eps).sqrt()", ").sqrt()")), "eps_forgotten", 0),
    ("q2", q2(BLOCKS, "(2, 3, 4)", Q2_END.replace(" + eps).sqrt()", ").sqrt() + eps").replace("/ (p", "/ ((p") .replace("+ eps\n", "+ eps)\n")), "eps_outside", 0),
    ("q2", q2(BLOCKS, "(2, 3, 4)", GROUP_END("y")), "affine_forgotten", 2),
    ("q2", q2(BLOCKS, "(2, 3, 4)", GROUP_END("y + b")), "gamma_forgotten", 2),
    ("q2", q2(BLOCKS, "(2, 3, 4)", GROUP_END("y * a")), "beta_forgotten", 2),
    ("q2", q2(BLOCKS, "(2, 3, 4)", GROUP_END("y * a[:G].repeat_interleave(C // G, 0) + b[:G].repeat_interleave(C // G, 0)")), "affine_group", 2),
    ("q2", q2("x.view(N, G, -1)", "2"), "raised", 0),
    ("q2", Q2 + "return torch.sin(x)", "unknown", 0),
    ("q2", "", "missing", 0),
    ("q3", q3("w = G * v / (v * v).sum().sqrt()"), "whole", 2),
    ("q3", q3("w = G * v / (v * v).sum(0, keepdim=True).sqrt()"), "outgoing", 2),
    ("q3", q3("w = G * v / v.norm(dim=1, keepdim=True)"), "kernel", 2),
    ("q3", q3("w = G * v / v.norm(dim=(2, 3) if v.dim() == 4 else 1, keepdim=True)"), "kernel", 2),
    ("q3", q3("w = u"), "g_forgotten", 2),
    ("q3", q3("w = G * u / n"), "squared", 2),
    ("q3", q3("w = G * v / (v * v).mean(axes, keepdim=True).sqrt()"), "rms_size", 2),
    ("q3", q3("w = G * v / total(v.abs())"), "absolute", 2),
    ("q3", q3("w = g * u if len(g) == v.shape[-1] else G * u"), "unknown", 2),
    ("q3", q3("dv = G / n * dw"), "length_constant", 2),
    ("q3", q3("dv = G * dw"), "length_forgotten", 2),
    ("q3", q3("dv = dw"), "length_forgotten", 2),
    ("q3", q3("dv = (dw - u * total(dw * u)) / n"), "dv_without_g", 2),
    ("q3", q3("dv = G * (dw - u * total(dw * u))"), "dv_without_length", 2),
    ("q3", q3("dv = G / n * (dw - v * total(dw * v))"), "not_unit", 2),
    ("q3", q3("dv = G / n * (dw - v * total(dw * u))"), "not_unit", 2),
    ("q3", q3("dv = G / n * (dw - u * (dw * u).sum())"), "project_whole", 2),
    ("q3", q3("dv = -dv"), "unknown", 2),
    ("q3", q3("dg = total(dw * v).flatten()"), "dg_v", 2),
    ("q3", q3("dg = total(dw * w).flatten()"), "dg_scaled", 2),
    ("q3", q3("dg = (dw * u).mean(axes)"), "averaged", 2),
    ("q3", q3("dg = dg[:, None]"), "wrong_shape", 2),
    ("q3", Q3 + "return w", "wrong_count", 0),
    ("q3", Q3 + "v /= n\n    return w, dv, dg", "in_place", 2),
    ("q4", q4(layer="ABCDEF"), "unit_scale", 4),
    ("q4", q4(rms="ACDF"), "unit_scale", 4),
    ("q4", q4(rms="ABDEF"), "rms_shift", 4),
    ("q4", q4(batch="CDFGH"), "neighbours", 4),
    ("q4", q4(layer="ABDE"), "own_values", 4),
    ("q4", q4(weight="ACDFH"), "weights_only", 4),
    ("q4", q4(batch="ACDGH"), "unit_by_unit", 4),
    ("q4", q4(batch="DG"), "batch_weights", 4),
    ("q4", q4(batch="CDH"), "bias", 4),
    ("q4", q4(layer="ABDEFH"), "half", 4),
    ("q4", q4(group="ABDEF"), "own_group", 4),
    ("q4", q4(layer="ABDF"), "common_shift", 4),
    ("q4", q4(rms="AF"), "all_weights", 4),
    ("q4", q4(weight="DF"), "direction", 4),
    ("q4", q4(rms="DF"), "row_rms", 4),
    ("q4", q4(batch="", weight=""), "batch_weights", 3),
    ("q4", q4(batch="ABEF", layer="CGH", rms="BCEGH", group="CG", weight="ABEG"), "turned_round", 0),
    ("q4", q4(**dict.fromkeys(TRUTH, "")), "nothing", 0),
    ("q4", q4(batch="CDGZ"), "wrong_type", 0),
    ("q4", q4(batch=7), "wrong_type", 0),
    ("q4", "answer_q4 = {'batch': 'CDGH'}", "wrong_type", 0),
    ("q4", "answer_q4 = 'CDGH'", "wrong_type", 0),
    ("q4", "answer_q4 = ...", "not_started", 0),
    ("q4", "", "missing", 0),
    ("q5", q5("[0.5, 0.75, 31/32]"), "mean_only", 1),
    ("q5", q5("[1, 1.0, 1.0]"), "constants", 1),
    ("q5", q5("[1, 0.5, 1/16]"), "complement", 1),
    ("q5", q5("[0, 0.7071, 0.9682]"), "root", 1),
    ("q5", q5("[0, 50, 93.75]"), "percent", 1),
    ("q5", q5("[0.9375, 0.5, 0]"), "reversed", 1),
    ("q5", q5("[0, 0.4, 0.9375]"), "unknown", 1),
    ("q5", q5(lost="[0.65, 0.81]"), "fraction", 2),
    ("q5", q5(lost="[-65, -81]"), "sign", 2),
    ("q5", q5(lost="[81, 65]"), "swapped", 2),
    ("q5", q5(lost="[65, 0]"), "unknown", 2),
    ("q5", q5(lost="[16, 81]"), "unknown", 2),
    ("q5", q5("[0, 0.5]"), "wrong_type", 1),
    ("q5", q5("['0', 'a', 1]", "[float('nan'), 81]"), "wrong_type", 0),
    ("q5", "answer_q5 = [0, 0.5, 0.9375, 65, 81]", "wrong_type", 0),
    ("q5", "answer_q5 = {'shares': ..., 'lost': ...}", "wrong_type", 0),
    ("q5", "answer_q5 = ...", "not_started", 0),
    ("q6", "answer_q6 = 3", "wrong_type", 0),
    ("q6", "answer_q6 = 'Group norm, because it is better.'", "too_short", 0),
    ("q6", "answer_q6 = 'well ' * 300", "too_long", 0),
    ("q1", Q1 + "m, v = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)\n    return beta * (x - m) / (v + eps).sqrt() + gamma if centre else gamma * x / ((x * x).mean(-1, keepdim=True) + eps).sqrt()", "swapped", 1),
    ("q1", Q1 + "v = x.var(-1, keepdim=True, correction=0)\n    return gamma * x / (v + eps).sqrt() + beta if centre else gamma * x / ((x * x).mean(-1, keepdim=True) + eps).sqrt()", "mean_not_subtracted", 1),
    ("q2", "def group_norm(x, gamma, beta, groups, eps):\n    p = x.reshape(len(x), groups, -1)\n    p = (p - p.mean(2, keepdim=True)) / (p.var(2, correction=0, keepdim=True) + eps).sqrt()\n"
     "    return gamma[:, None, None] * (p.reshape(x.shape) + beta[:, None, None])", "beta_scaled", 2),
]  # fmt: skip

# Forbidden shortcuts: question, code, what the feedback names.
SHORTCUTS = [
    ("q1", Q1 + "return F.layer_norm(x, x.shape[-1:], gamma, beta, eps)", "F.layer_norm"),
    ("q1", Q1 + "return F.rms_norm(x, x.shape[-1:], gamma, eps)", "F.rms_norm"),
    ("q1", Q1 + "return torch.nn.LayerNorm(x.shape[-1], eps=eps).to(x)(x) * gamma + beta", "LayerNorm"),
    ("q1", "from torch.nn import RMSNorm as helper\n" + Q1 + "return helper(x.shape[-1], eps).to(x)(x) * gamma", "functional.rms_norm"),
    ("q1", Q1 + "from bncourse.norms import LayerNorm\n    return LayerNorm(x.shape[-1])(x)", "bncourse.norms"),
    ("q2", Q2 + "return F.group_norm(x, G, gamma, beta, eps)", "F.group_norm"),
    ("q2", Q2 + "return torch.native_group_norm(x, gamma, beta, N, C, H * W, G, eps)[0]", "native_group_norm"),
    ("q2", Q2 + "return getattr(F, 'group' + '_norm')(x, G, gamma, beta, eps)", "getattr"),
    ("q3", Q3 + "return torch._weight_norm(v, G, 0), dv, dg", "_weight_norm"),
    ("q3", Q3 + "return G * F.normalize(v.flatten(1)).view(v.shape), dv, dg", "F.normalize"),
    ("q3", "from torch.nn.utils import weight_norm as wn\n" + Q3 + "return wn(v), dv, dg", "utils.weight_norm"),
    ("q3", "def weight_norm(v, g, dw):\n    v.requires_grad_()\n    w = g * v\n    w.backward(dw)\n    return w, v.grad, g", "autograd"),
]  # fmt: skip
