"""Different right answers get full marks, whatever the numbers drawn: no false alarm."""

import pytest

FULL = {"q1": 4, "q2": 4, "q3": 3, "q4": 6, "q5": 3}

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


@pytest.mark.parametrize("question, way", [(q, way) for q, ways in RIGHT.items() for way in ways])
def test_a_right_answer_gets_full_marks_for_any_numbers_drawn(judge, question, way):
    for seed in range(25):
        result = judge(question, RIGHT[question][way], seed)
        assert (result.status, result.points) == ("ok", FULL[question]), f"seed {seed}: {result}"


def test_the_usual_answer_over_many_seeds(judge):
    for question in RIGHT:
        code = next(iter(RIGHT[question].values()))
        for seed in range(1000, 1060):
            result = judge(question, code, seed)
            assert result.status == "ok", f"seed {seed}: {result}"
