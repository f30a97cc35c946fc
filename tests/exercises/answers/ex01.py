"""Answers to exercise 1, right and wrong."""

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

FLAT = "p, C = x.movedim(1, -1), x.shape[1]\n    y = p.reshape(-1, C)\n    " + NORM.replace("x", "y").replace("return", "z =") + "\n    "

# Different right answers: question, way, code.
RIGHT = {
    "q1": {
        "torch": """
def batch_norm(x, gamma, beta, eps):
    return gamma * (x - x.mean(0)) / (x.var(0, unbiased=False) + eps).sqrt() + beta
""",
        "loops": """
def batch_norm(x, gamma, beta, eps):
    N, C = x.shape
    y = torch.empty_like(x)
    for c in range(C):
        total = 0
        for n in range(N):
            total = total + x[n, c]
        mean = total / N
        var = 0
        for n in range(N):
            var = var + (x[n, c] - mean) ** 2 / N
        for n in range(N):
            y[n, c] = gamma[c] * (x[n, c] - mean) / math.sqrt(var + eps) + beta[c]
    return y
""",
        "einsum": """
def batch_norm(x, gamma, beta, eps):
    ones = torch.ones(len(x), dtype=x.dtype) / len(x)
    centred = x - torch.einsum("nc,n->c", x, ones)
    var = torch.einsum("nc,nc,n->c", centred, centred, ones)
    return torch.einsum("nc,c->nc", centred, gamma * torch.rsqrt(var + eps)) + beta
""",
        "numpy": """
def batch_norm(x, gamma, beta, eps):
    x, gamma, beta = x.numpy(), gamma.numpy(), beta.numpy()
    y = gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + x.dtype.type(eps)) + beta
    return torch.from_numpy(y)
""",
        "a class and a helper": """
class Norm:
    def __init__(self, eps): self.eps = eps
    def batch_norm(self, x):
        mean = x.mean(dim=0, keepdim=True)
        return (x - mean) / torch.sqrt(((x - mean) ** 2).mean(dim=0, keepdim=True) + self.eps)
    def forward(self, x): return self.batch_norm(x)
def batch_norm(x, gamma, beta, eps):
    return torch.addcmul(beta, gamma, Norm(eps).forward(x))
""",
        "exact in float64": """
def batch_norm(x, gamma, beta, eps):
    wide = x.double()
    var = (wide**2).mean(0) - wide.mean(0) ** 2 if x.dtype == torch.float32 else x.var(0, correction=0)
    return (gamma * (wide - wide.mean(0)) / (var + eps).sqrt() + beta).to(x.dtype)
""",
    },
    "q2": {
        "torch": """
def update_running(running_mean, running_var, x, momentum):
    return torch.lerp(running_mean, x.mean(0), momentum), torch.lerp(running_var, x.var(0), momentum)
""",
        "loops": """
def update_running(running_mean, running_var, x, momentum):
    mean, var = running_mean.clone(), running_var.clone()
    N, C = x.shape
    for c in range(C):
        m = sum(x[n, c] for n in range(N)) / N
        v = sum((x[n, c] - m) ** 2 for n in range(N)) / (N - 1)
        mean[c] = mean[c] + momentum * (m - mean[c])
        var[c] = var[c] + momentum * (v - var[c])
    return [mean, var]
""",
        "numpy": """
def update_running(running_mean, running_var, x, momentum):
    x = x.numpy()
    new = momentum * np.stack([x.mean(0), x.var(0, ddof=1)])
    old = (1 - momentum) * np.stack([running_mean.numpy(), running_var.numpy()])
    return tuple(torch.from_numpy(a) for a in new + old)
""",
        "one tensor of both": """
def update_running(running_mean, running_var, x, momentum):
    old, new = torch.stack([running_mean, running_var]), torch.stack([x.mean(0), x.var(0)])
    return old + momentum * (new - old)
""",
        "in-place on a copy": """
def update_running(running_mean, running_var, x, momentum):
    N = len(x)
    return (running_mean.clone().mul_(1 - momentum).add_(x.mean(0), alpha=momentum),
            running_var.clone().mul_(1 - momentum).add_(x.var(0, correction=0) * N / (N - 1), alpha=momentum))
""",
    },
    "q3": {
        "torch": """
def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    return (x - running_mean) * torch.rsqrt(running_var + eps) * gamma + beta
""",
        "folded": """
def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    scale = gamma / (running_var + eps) ** 0.5
    return x * scale + (beta - running_mean * scale)
""",
        "loops": """
def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    rows = [[gamma[c] * (row[c] - running_mean[c]) / math.sqrt(running_var[c] + eps) + beta[c] for c in range(len(row))]
            for row in x]
    return torch.stack([torch.stack(row) for row in rows])
""",
        "einsum": """
def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    return torch.einsum("nc,c->nc", x - running_mean, gamma / torch.sqrt(running_var + eps)) + beta
""",
    },
    "q4": {
        "compact": """
def batch_norm_backward(dy, x, gamma, eps):
    N = len(x)
    s = torch.rsqrt(x.var(0, correction=0) + eps)
    h = (x - x.mean(0)) * s
    dgamma, dbeta = (dy * h).sum(0), dy.sum(0)
    return gamma * s / N * (N * dy - dbeta - h * dgamma), dgamma, dbeta
""",
        "step by step": """
def batch_norm_backward(dy, x, gamma, eps):
    N = x.shape[0]
    mu = x.sum(0) / N
    xmu = x - mu
    var = (xmu ** 2).sum(0) / N
    sqrtvar = torch.sqrt(var + eps)
    ivar = 1 / sqrtvar
    xhat = xmu * ivar
    dbeta = dy.sum(0)
    dgamma = (dy * xhat).sum(0)
    dxhat = dy * gamma
    dvar = (dxhat * xmu).sum(0) * -0.5 * ivar ** 3
    dmu = -(dxhat * ivar).sum(0) + dvar * (-2 * xmu).sum(0) / N
    return dxhat * ivar + dvar * 2 * xmu / N + dmu / N, dgamma, dbeta
""",
        "Jacobian": """
def batch_norm_backward(dy, x, gamma, eps):
    N, C = x.shape
    sigma = (((x - x.mean(0)) ** 2).mean(0) + eps).sqrt()
    h = (x - x.mean(0)) / sigma
    eye = torch.eye(N, dtype=x.dtype)[:, :, None]
    J = (eye - 1 / N - torch.einsum("ic,jc->ijc", h, h) / N) / sigma
    return torch.einsum("jc,c,ijc->ic", dy, gamma, J), torch.einsum("nc,nc->c", dy, h), torch.einsum("nc->c", dy)
""",
        "numpy": """
def batch_norm_backward(dy, x, gamma, eps):
    dtype = x.dtype
    dy, x, gamma = (t.double().numpy() for t in (dy, x, gamma))
    sigma = np.sqrt(x.var(0) + eps)
    h = (x - x.mean(0)) / sigma
    g = dy * gamma
    dx = (g - g.mean(0) - h * (g * h).mean(0)) / sigma
    return tuple(torch.from_numpy(a).to(dtype) for a in (dx, (dy * h).sum(0), dy.sum(0)))
""",
    },
    "q5": {
        "axes": """
def batch_norm_2d(x, gamma, beta, eps):
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    return gamma[:, None, None] * (x - mean) / torch.sqrt(var + eps) + beta[:, None, None]
""",
        "flattened": """
def batch_norm_2d(x, gamma, beta, eps):
    N, C, H, W = x.shape
    flat = x.transpose(0, 1).reshape(C, -1)
    y = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, correction=0, keepdim=True) + eps).sqrt()
    return (y * gamma[:, None] + beta[:, None]).reshape(C, N, H, W).transpose(0, 1)
""",
        "loop over channels": """
def batch_norm_2d(x, gamma, beta, eps):
    y = torch.zeros_like(x)
    for c in range(x.shape[1]):
        v = x[:, c]
        y[:, c] = gamma[c] * (v - v.mean()) / torch.sqrt(((v - v.mean()) ** 2).mean() + eps) + beta[c]
    return y
""",
        "einsum": """
def batch_norm_2d(x, gamma, beta, eps):
    count = x.numel() / x.shape[1]
    centred = x - (torch.einsum("nchw->c", x) / count).view(1, -1, 1, 1)
    var = torch.einsum("nchw,nchw->c", centred, centred) / count
    return torch.einsum("nchw,c->nchw", centred, gamma / (var + eps).sqrt()) + beta.view(1, -1, 1, 1)
""",
        "numpy": """
def batch_norm_2d(x, gamma, beta, eps):
    a = x.numpy()
    a = (a - a.mean((0, 2, 3), keepdims=True)) / np.sqrt(a.var((0, 2, 3), keepdims=True) + a.dtype.type(eps))
    return torch.from_numpy(a) * gamma.view(1, -1, 1, 1) + beta.view(1, -1, 1, 1)
""",
    },
}

# Mistakes: question, code, misconception, points that are left.
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
    ("q4", Q4 + "return -dx, dgamma, dbeta", "turned_round", 2),
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
    ("q1", Q1 + "return beta * (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt() + gamma", "swapped", 0),
    ("q1", Q1 + "return gamma * x / (x.var(0, correction=0) + eps).sqrt() + beta", "mean_not_subtracted", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) / ((x * x).mean(0) + eps).sqrt() + beta", "mean_square", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0)) * (x.var(0, correction=0) + eps).sqrt() + beta", "multiplied", 0),
    ("q1", Q1 + "return gamma * ((x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt() + beta)", "beta_scaled", 0),
    ("q1", Q1 + "return gamma * (x - x.mean(0) / (x.var(0, correction=0) + eps).sqrt()) + beta", "brackets", 0),
    ("q1", Q1 + NORM.replace("eps", "eps + 1e-5"), "small_constant", 0),
    ("q1", Q1 + NORM.replace("return", "y =") + "\n    return y.to('meta')", "wrong_type", 0),
    ("q2", Q2 + "return m + a * x.mean(0), v + a * x.var(0)", "added", 0),
    ("q2", Q2 + "return (m + x.mean(0)) / 2, (v + x.var(0)) / 2", "momentum_ignored", 0),
    ("q2", Q2 + "return np.stack([((1 - a) * m + a * x.mean(0)).numpy(), ((1 - a) * v + a * x.var(0)).numpy()])", "wrong_type", 0),
    ("q3", Q3 + "return beta * (x - m) / (v + eps).sqrt() + gamma", "swapped", 0),
    ("q3", Q3 + "return gamma * x / (v + eps).sqrt() + beta", "mean_not_subtracted", 0),
    ("q3", Q3 + "return gamma * (x - v) / (m.abs() + eps).sqrt() + beta", "buffers_swapped", 0),
    ("q4", Q4 + "return dx * s, dgamma, dbeta", "sigma_missing", 2),
    ("q4", Q4 + "return dx / s, dgamma, dbeta", "sigma_twice", 2),
    ("q4", Q4 + "return (g - g.mean(0) - 2 * h * (g * h).mean(0)) / s, dgamma, dbeta", "factor_2", 2),
    ("q4", Q4 + "return (g - g.mean(0) - (x - x.mean(0)) * (g * h).mean(0)) / s, dgamma, dbeta", "not_normalized", 2),
    ("q4", Q4 + "return (g - g.mean(0) - (g * h).mean(0)) / s, dgamma, dbeta", "xhat_missing", 2),
    ("q4", Q4 + "return (g - g.mean(0) + h * (g * h).mean(0)) / s, dgamma, dbeta", "sign", 2),
    ("q4", Q4 + "return dx * len(x), dgamma, dbeta", "n_left", 2),
    ("q4", Q4 + "return dx, dbeta, dgamma", "order", 4),
    ("q5", Q5 + "C = x.shape[1]\n    y = x.reshape(-1, C)\n    " + NORM.replace("x", "y").replace("return", "z =") + "\n    return z.reshape(x.shape)", "scrambled", 0),
    ("q5", Q5 + "y = x.reshape(x.shape[1], -1).T\n    " + NORM.replace("x", "y").replace("return", "z =") + "\n    return z.T.reshape(x.shape)", "scrambled", 0),
    ("q1", Q1 + NORM.replace("+ beta", "- beta"), "beta_subtracted", 0),
    ("q2", Q2 + "return (1 - a) * m - a * x.mean(0), (1 - a) * v - a * x.var(0)", "subtracted", 0),
    ("q3", Q3 + "n = len(x)\n    v = v * n / (n - 1) if n > 1 else v\n    return gamma * (x - m) / (v + eps).sqrt() + beta", "corrected_again", 0),
    ("q4", Q4 + "dx = gamma / s * (dy + dy.mean(0) + h * (dy * h).mean(0))\n    return dx, dgamma, dbeta", "sign", 2),
    ("q4", Q4 + "dx = gamma / s * (dy - dy.mean(0) - h * (dy * h).sum(0) / (len(x) - 1))\n    return dx, dgamma, dbeta", "n_minus_1", 2),
    ("q5", Q5 + "C = x.shape[1]\n    y = x.transpose(0, 1).reshape(-1, C)\n    " + NORM.replace("x", "y").replace("return", "z =") + "\n    return z.reshape(x.shape)", "scrambled", 0),
    ("q5", Q5 + FLAT + "return z.reshape(p.shape)", "wrong_shape", 0),
    ("q5", Q5 + FLAT.replace("movedim(1, -1)", "movedim(1, 0)").replace("reshape(-1, C)", "reshape(C, -1).T") + "return z.T.reshape(p.shape)", "wrong_shape", 0),
    ("q5", Q5 + FLAT + "return z.reshape(x.shape)", "not_moved_back", 0),
    ("q1", Q1 + "x = x.double()\n    " + NORM, "wrong_dtype", 0),
    ("q3", Q3 + "return gamma * (x.double() - m) / (v + eps).sqrt() + beta", "wrong_dtype", 0),
    ("q4", Q4.replace("var(0, correction=0)", "var(0)") + "return dx, dgamma, dbeta", "unbiased", 1),
    ("q4", Q4 + "return dx, (dy * (x - x.mean(0)) / (x.var(0) + eps).sqrt()).sum(0), dbeta", "xhat_unbiased", 5),
    ("q5", Q5 + "v = x.var(0, correction=0).mean((1, 2)).view(1, -1, 1, 1)\n    return G * (x - x.mean((0, 2, 3), keepdim=True)) / (v + eps).sqrt() + B", "variance_averaged", 0),
]  # fmt: skip

# Forbidden shortcuts: question, code, what the feedback names.
SHORTCUTS = [
    ("q1", Q1 + "return F.batch_norm(x, None, None, gamma, beta, True, eps=eps)", "F.batch_norm"),
    ("q1", Q1 + "return torch.batch_norm(x, gamma, beta, None, None, True, 0.1, eps, False)", "torch.batch_norm"),
    ("q1", Q1 + "return torch.native_batch_norm(x, gamma, beta, None, None, True, 0.1, eps)[0]", "native_batch_norm"),
    ("q1", Q1 + "return gamma * torch.nn.BatchNorm1d(x.shape[1], eps=eps).to(x)(x) + beta", "BatchNorm1d"),
    ("q1", Q1 + "return F.layer_norm(x.T, x.shape[:1], eps=eps).T * gamma + beta", "layer_norm"),
    ("q1", "from torch.nn.functional import batch_norm as bn\n" + Q1 + "return bn(x, None, None, gamma, beta, True, eps=eps)", "functional.batch_norm"),
    ("q1", "bn = F.batch_norm\ndef helper(*a): return bn(*a)\n" + Q1 + "return helper(x, None, None, gamma, beta, True, 0.1, eps)", "functional.batch_norm"),
    ("q1", Q1 + "import bncourse.norms\n    return bncourse.norms.BatchNorm(x.shape[1])(x)", "bncourse.norms"),
    ("q1", Q1 + "from bncourse.norms import BatchNorm\n    return BatchNorm(x.shape[1])(x)", "bncourse.norms"),
    ("q1", Q1 + "return getattr(F, 'batch' + '_norm')(x, None, None, gamma, beta, True, eps=eps)", "getattr"),
    ("q1", Q1 + "return eval('F.batch_norm')(x, None, None, gamma, beta, True, eps=eps)", "eval"),
    ("q1", "ops = [f for n, f in sorted(F.__dict__.items()) if n == 'batch' + '_norm']\n" + Q1 + "return ops[0](x, None, None, gamma, beta, True, eps=eps)", "functional.batch_norm"),
    ("q3", Q3 + "return F.batch_norm(x, m, v, gamma, beta, False, eps=eps)", "F.batch_norm"),
    ("q4", "def batch_norm_backward(dy, x, gamma, eps):\n    x.requires_grad_()\n    x.sum().backward()\n    return x.grad, gamma, gamma", "autograd"),
    ("q4", "from torch.autograd import grad\ndef batch_norm_backward(dy, x, gamma, eps):\n    return grad(x, x)", "autograd"),
    ("q5", Q5 + "return torch.nn.BatchNorm2d(x.shape[1], eps=eps).to(x)(x) * G + B", "BatchNorm2d"),
    ("q5", Q5 + "return F.instance_norm(x, None, None, gamma, beta)", "instance_norm"),
]  # fmt: skip
