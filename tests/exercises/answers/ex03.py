"""Answers to exercise 3, right and wrong. PRELUDE is what the notebook gives."""

PRELUDE = """
EPS = 1e-5
def t_quantile(p, df):
    from scipy import special
    return float(special.stdtrit(df, p))
def gradient_through(answer, x, *others):
    x.requires_grad_()
    function = globals()[answer]
    y = function(x.clone(), *others)
    return y, torch.autograd.grad((y**3).sum(), x)[0]
"""

Q1 = """
def covariate_noise(a, n_mu, n_sigma, r_mu, r_sigma):
    unit = (1, a.shape[1], *[1] * (a.dim() - 2))
    U = lambda shape: torch.rand(shape, dtype=a.dtype)
    J, G = 2 * U(a.shape) - 1, torch.randn_like(a)
    mu, sigma = (2 * U(unit) - 1) * n_mu, 1 + (n_sigma - 1) * U(unit)
    """
NOISY = "return (sigma + r_sigma * G) * a + mu + r_mu * J"
Q2 = """
def hidden(z, kind, first, noise):
    n = lambda z, by, correction=0, over=0: (z - by.mean(over, keepdim=True)) / (by.var(over, correction=correction, keepdim=True) + EPS).sqrt()
    """
HIDDEN = "return noise({'plain': z, 'batch': n(z, z), 'frozen': n(z, first)}[kind])"
Q4 = "def paired_interval(a, b):\n    d = a - b; n = len(d); se = d.std() / n ** 0.5; t = t_quantile(0.975, n - 1)\n    "
RIGHT_Q3 = {
    "harmless": ["plain", "plain + noise"],
    "scale": ["frozen + noise", "batch + noise"],
    "unfit": ["frozen", "frozen + noise"],
    "ahead": ["frozen", "batch"],
}
RIGHT_Q5 = {"frozen": [53.4, 47.9, 58.9], "batch": [10.4, 8.0, 12.8], "difference": [43.0, 37.4, 48.6]}


def q3(**other) -> str:
    return f"answer_q3 = {RIGHT_Q3 | other!r}"


def q5(**other) -> str:
    return f"answer_q5 = {RIGHT_Q5 | other!r}"


# Different right answers: question, way, code.
RIGHT = {
    "q1": {
        "torch": Q1 + NOISY,
        "in place on new tensors": """
def covariate_noise(a, n_mu, n_sigma, r_mu, r_sigma):
    unit = a.new_empty(1, a.shape[1], *[1] * (a.dim() - 2))
    mu, sigma = unit.clone().uniform_(-n_mu, n_mu), unit.clone().uniform_(1, n_sigma)
    m = mu + torch.empty_like(a).uniform_(-r_mu, r_mu)
    return torch.addcmul(m, torch.normal(sigma.expand_as(a).clone(), r_sigma), a)
""",
        "distributions": """
def covariate_noise(a, n_mu, n_sigma, r_mu, r_sigma):
    from torch.distributions import Normal, Uniform
    C = a.shape[1]
    mu, sigma = Uniform(-n_mu, n_mu).sample((C,)), Uniform(1.0, n_sigma).sample((C,))
    last = a.movedim(1, -1)
    m = Uniform(mu - r_mu, mu + r_mu).sample(last.shape[:-1])
    s = Normal(sigma, r_sigma).sample(last.shape[:-1])
    return (s * last + m).to(a.dtype).movedim(-1, 1)
""",
        "loop over examples": """
def covariate_noise(a, n_mu, n_sigma, r_mu, r_sigma):
    C, rows = a.shape[1], []
    mu = torch.tensor([random.uniform(-n_mu, n_mu) for _ in range(C)], dtype=a.dtype)
    sigma = torch.tensor([random.uniform(1, n_sigma) for _ in range(C)], dtype=a.dtype)
    for row in a:
        m, s = (t.reshape(C, *[1] * (row.dim() - 1)).expand_as(row) for t in (mu, sigma))
        m = m + (torch.rand_like(row) * 2 - 1) * r_mu
        s = s + torch.empty_like(row).normal_(0, r_sigma)
        rows.append(s * row + m)
    return torch.stack(rows)
import random
""",
        "numpy draws, einsum": """
def covariate_noise(a, n_mu, n_sigma, r_mu, r_sigma):
    rng = np.random.default_rng()
    def per_unit(low, high):
        return torch.einsum("c,nc...->nc...", torch.from_numpy(rng.uniform(low, high, a.shape[1])).to(a.dtype), torch.ones_like(a))
    m = per_unit(-n_mu, n_mu) + torch.from_numpy(rng.uniform(-r_mu, r_mu, a.shape)).to(a.dtype)
    s = per_unit(1, n_sigma) + torch.from_numpy(rng.normal(0, r_sigma, a.shape)).to(a.dtype)
    return s * a + m
""",
    },
    "q2": {
        "torch": """
def hidden(z, kind, first, noise):
    by = {"plain": None, "batch": z, "frozen": first}[kind]
    if by is not None:
        z = (z - by.mean(0)) / torch.sqrt(by.var(0, correction=0) + EPS)
    return noise(z)
""",
        "one branch a kind": """
def hidden(z, kind, first, noise):
    if kind == "plain":
        y = z
    elif kind == "batch":
        centred = z - z.mean(0, keepdim=True)
        y = centred * torch.rsqrt((centred ** 2).mean(0, keepdim=True) + EPS)
    else:
        var, mean = torch.var_mean(first, 0, correction=0)
        y = z / (var + EPS) ** 0.5 - mean / (var + EPS) ** 0.5
    return noise(y)
""",
        "loops": """
def hidden(z, kind, first, noise):
    if kind == "plain":
        return noise(z)
    by, columns = z if kind == "batch" else first, []
    for c in range(z.shape[1]):
        mean = sum(by[:, c]) / len(by)
        var = sum((v - mean) ** 2 for v in by[:, c]) / len(by)
        columns.append((z[:, c] - mean) / torch.sqrt(var + EPS))
    return noise(torch.stack(columns, 1))
""",
        "einsum": """
def hidden(z, kind, first, noise):
    def statistics(by):
        mean = torch.einsum("nc->c", by) / len(by)
        return mean, torch.einsum("nc,nc->c", by - mean, by - mean) / len(by)
    mean, var = {"plain": lambda: (0.0, torch.tensor(1 - EPS)), "batch": lambda: statistics(z), "frozen": lambda: statistics(first)}[kind]()
    return noise((z - mean) / torch.sqrt(var + EPS))
""",
    },
    "q3": {
        "in any order": q3(harmless=["plain + noise", "plain"], ahead=["batch", "frozen"]),
        "as the text has it": q3(),
        "tuples, spaced otherwise": q3(scale=(" batch+noise", "Frozen +  Noise "), unfit=("frozen", "frozen+noise")),
    },
    "q4": {
        "torch": Q4 + "return d.mean(), d.mean() - t * se, d.mean() + t * se",
        "numpy": """
def paired_interval(a, b):
    d = a.numpy() - b.numpy()
    half = t_quantile(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return [d.mean(), d.mean() - half, d.mean() + half]
""",
        "loops and scipy": """
def paired_interval(a, b):
    from scipy import stats
    n = len(a)
    d = [float(x) - float(y) for x, y in zip(a, b)]
    mean = sum(d) / n
    var = sum((x - mean) ** 2 for x in d) / (n - 1)
    t = stats.t.ppf(0.975, df=n - 1)
    return mean, mean - t * math.sqrt(var / n), mean + t * math.sqrt(var / n)
""",
        "a printed table": """
T = {3: 3.182, 4: 2.776, 7: 2.365}
def paired_interval(a, b):
    d, n = a - b, len(a)
    half = T[n - 1] * torch.sqrt(((d - d.mean()) ** 2).sum() / (n * (n - 1)))
    return torch.stack([d.mean(), d.mean() - half, d.mean() + half]).tolist()
""",
    },
    "q5": {
        "read off": q5(),
        "other draws of the noise": q5(frozen=[50.3, 43.5, 57.1], batch=(9.9, 7.9, 11.9), difference=[40.3, 32.6, 48.0]),
        "rounded, as tensors": "answer_q5 = {'frozen': torch.tensor([53, 48, 59]), 'batch': [10, 8, 13], 'difference': [43, 37, 49]}",
    },
}

# Mistakes: question, code, misconception, points that are left.
WRONG = [
    ("q1", Q1 + "return a", "no_noise", 0),
    ("q1", Q1 + "mu, sigma = mu[:, :1], sigma[:, :1]\n    " + NOISY, "one_for_all", 1),
    ("q1", Q1 + "mu = (2 * torch.rand(1, dtype=a.dtype) - 1) * n_mu\n    " + NOISY, "one_for_all", 1),
    ("q1", Q1 + "sigma = sigma[:, :1]\n    " + NOISY, "one_for_all", 2),
    ("q1", Q1 + "first = (len(a), *[1] * (a.dim() - 1))\n    mu, sigma = (2 * U(first) - 1) * n_mu, 1 + (n_sigma - 1) * U(first)\n    " + NOISY, "per_example", 0),
    ("q1", Q1 + "mu, sigma = (2 * U(a.shape) - 1) * n_mu, 1 + (n_sigma - 1) * U(a.shape)\n    " + NOISY, "per_value", 0),
    ("q1", Q1 + "one = (1, *a.shape[1:])\n    mu, sigma = (2 * U(one) - 1) * n_mu, 1 + (n_sigma - 1) * U(one)\n    " + NOISY, "per_position", 3),
    ("q1", Q1 + "mu, sigma = mu.reshape(1, -1), sigma.reshape(1, -1)\n    " + NOISY, "raised", 3),
    ("q1", Q1 + "torch.manual_seed(0)\n    mu = (2 * U(unit) - 1) * n_mu\n    sigma = 1 + (n_sigma - 1) * U(unit)\n    " + NOISY, "fixed", 2),
    ("q1", Q1.replace("\ndef", "\nKEPT = {}\ndef", 1) + "mu, sigma = KEPT.setdefault(a.shape, (mu, sigma))\n    " + NOISY, "fixed", 2),
    ("q1", Q1 + "sigma = 1\n    " + NOISY, "scale_forgotten", 2),
    ("q1", Q1 + "return (sigma + r_sigma * G) * a + r_mu * J", "shift_forgotten", 1),
    ("q1", Q1 + "mu = U(unit) * n_mu\n    " + NOISY, "not_centred", 2),
    ("q1", Q1 + "mu = (U(unit) - 0.5) * n_mu\n    " + NOISY, "half_range", 2),
    ("q1", Q1 + "mu = torch.randn(unit, dtype=a.dtype) * n_mu\n    " + NOISY, "normal_shift", 2),
    ("q1", Q1 + "return (sigma + r_sigma * G) * (a + mu + r_mu * J)", "shift_scaled", 2),
    ("q1", Q1 + "sigma = 1 + n_sigma * U(unit)\n    " + NOISY, "scale_range", 2),
    ("q1", Q1 + "sigma = n_sigma * U(unit)\n    " + NOISY, "scale_range", 2),
    ("q1", Q1 + "sigma = 1 + (n_sigma - 1) * (2 * U(unit) - 1)\n    " + NOISY, "scale_range", 2),
    ("q1", Q1 + "sigma = 1 + (n_sigma - 1) * torch.randn(unit, dtype=a.dtype)\n    " + NOISY, "normal_scale", 2),
    ("q1", Q1 + "die = U(unit)\n    mu, sigma = (2 * die - 1) * n_mu, 1 + (n_sigma - 1) * die\n    " + NOISY, "one_die", 2),
    ("q1", Q1 + "return sigma * a + mu", "jitter_forgotten", 2),
    ("q1", Q1 + "return sigma * a + mu + r_mu * J", "jitter_forgotten", 3),
    ("q1", Q1 + "return (sigma + r_sigma * G) * a + mu", "jitter_forgotten", 2),
    ("q1", Q1 + "J, G = J[:, :1], G[:, :1]\n    " + NOISY, "jitter_shared", 2),
    ("q1", Q1 + "return (sigma + r_sigma * G) * a + mu + r_mu * (J + 1) / 2", "jitter_not_centred", 3),
    ("q1", Q1 + "return (sigma + r_sigma * G) * a + mu + r_mu * torch.randn_like(a)", "jitter_distribution", 3),
    ("q1", Q1 + "return (sigma + r_sigma ** 0.5 * G) * a + mu + r_mu * J", "r_sigma_as_variance", 3),
    ("q1", Q1 + "return (sigma * (1 + r_sigma * G)) * a + mu + r_mu * J", "jitter_relative", 3),
    ("q1", Q1 + "a *= sigma + r_sigma * G\n    return a.add_(mu + r_mu * J)", "in_place", 2),
    ("q1", Q1 + "return (sigma + r_sigma * G) * a.abs() + mu + r_mu * J", "not_affine", 2),
    ("q1", Q1 + "return ((sigma + r_sigma * G) * a + mu).numpy()", "wrong_type", 0),
    ("q1", Q1 + "return ((sigma + r_sigma * G) * a + mu).float()", "wrong_dtype", 0),
    ("q1", Q1 + "return ((sigma + r_sigma * G) * a + mu).mean(0)", "wrong_shape", 0),
    ("q1", Q1 + "return a / 0 + a * float('nan')", "nan", 0),
    ("q1", Q1 + "pass", "returned_nothing", 0),
    ("q1", Q1 + "return (sigma + r_sigma * G) * a.detach() + mu + r_mu * J", "gradient_cut", 2),
    ("q1", Q1 + "return sigma * a + r_sigma * G * a.detach() + mu + r_mu * J", "gradient_cut", 2),
    ("q1", Q1 + "a = torch.from_numpy(a.detach().numpy())\n    " + NOISY, "gradient_cut", 2),
    ("q1", Q1 + "with torch.no_grad():\n        " + NOISY, "gradient_cut", 2),
    ("q1", Q1 + "raise NotImplementedError", "not_started", 0),
    ("q1", "covariate_nose = 1", "missing", 0),
    ("q2", Q2 + "return n(noise(z), noise(z)) if kind == 'batch' else noise(n(z, first)) if kind == 'frozen' else noise(z)", "noise_removed", 2),
    ("q2", Q2 + "y = noise(z)\n    return {'plain': y, 'batch': n(y, y), 'frozen': n(y, first)}[kind]", "noise_removed", 1),
    ("q2", Q2 + "y = noise(z)\n    return {'plain': y, 'batch': noise(n(z, z)), 'frozen': n(y, first)}[kind]", "noise_before", 2),
    ("q2", Q2 + "return {'plain': z, 'batch': n(z, z), 'frozen': n(z, first)}[kind]", "noise_forgotten", 0),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z), 'frozen': n(z, z)}[kind])", "live_statistics", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, first), 'frozen': n(z, first)}[kind])", "frozen_for_batch", 2),
    ("q2", Q2 + "return noise(z)", "not_normalized", 1),
    ("q2", Q2 + "return noise(n(z, z) if kind != 'frozen' else n(z, first))", "normalized", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z, 1), 'frozen': n(z, first, 1)}[kind])", "unbiased", 1),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z, 0, 1), 'frozen': n(z, first[:len(z)], 0, 1)}[kind])", "features", 1),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z), 'frozen': n(z, noise(first))}[kind])", "first_noisy", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z), 'frozen': z - first.mean(0)}[kind])", "mean_only", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z), 'frozen': z / (first.var(0, correction=0) + EPS).sqrt()}[kind])", "scale_only", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z), 'frozen': (z - z.mean(0)) / (first.var(0, correction=0) + EPS).sqrt()}[kind])", "live_mean", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': (z - z.mean(0)) / z.var(0, correction=0), 'frozen': n(z, first)}[kind])", "variance", 2),
    ("q2", Q2 + "z -= z.mean(0) if kind == 'batch' else 0\n    " + HIDDEN, "in_place", 2),
    ("q2", Q2 + HIDDEN.replace("return", "y =") + "\n    return torch.tanh(y)", "unknown", 0),
    ("q2", Q2 + HIDDEN.replace("return", "y =") + "\n    return y, first", "wrong_type", 0),
    ("q2", Q2 + "z = z.detach()\n    " + HIDDEN, "gradient_cut", 0),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z.detach()), 'frozen': n(z, first)}[kind])", "gradient_cut", 2),
    ("q2", Q2 + "m, s = z.detach().numpy().mean(0), np.sqrt(z.detach().numpy().var(0) + EPS)\n    return noise({'plain': z, 'batch': (z - torch.from_numpy(m)) / torch.from_numpy(s), 'frozen': n(z, first)}[kind])", "gradient_cut", 2),
    ("q2", Q2 + "s = torch.tensor([math.sqrt(v + EPS) for v in z.var(0, correction=0)])\n    return noise({'plain': z, 'batch': (z - z.mean(0)) / s, 'frozen': n(z, first)}[kind])", "gradient_cut", 2),
    ("q2", Q2 + "with torch.no_grad():\n        " + HIDDEN, "gradient_cut", 0),
    ("q2", Q2 + HIDDEN + ".detach()", "gradient_cut", 0),
    ("q2", Q2 + "return {'plain': noise(z), 'batch': n(z, z), 'frozen': noise(n(z, first))}[kind]", "noise_forgotten", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z), 'frozen': n(z, first)}[kind]) if kind != 'plain' else n(z, z)", "normalized", 2),
    ("q2", Q2 + "return n(z, z) if kind == 'frozen' else noise({'plain': z, 'batch': n(z, z)}[kind])", "live_statistics", 2),
    ("q2", Q2.replace(" + EPS).sqrt()", ").sqrt()") + HIDDEN, "eps", 1),
    ("q2", Q2.replace(" + EPS).sqrt()", ").sqrt() + EPS)").replace("(by.var", "((by.var") + HIDDEN, "eps", 1),
    ("q2", Q2.replace("EPS", "1e-3") + HIDDEN, "eps", 1),
    ("q2", Q2.replace("EPS", "1e-4") + HIDDEN, "eps", 1),
    ("q2", Q2 + "return noise(z, 0.5)", "raised", 0),
    ("q3", q3(harmless=["plain", "batch + noise"]), "confounded", 3),
    ("q3", q3(harmless=["batch", "batch + noise"]), "wrong_background", 3),
    ("q3", q3(scale=["plain + noise", "batch + noise"]), "wrong_background", 3),
    ("q3", q3(scale=["frozen", "batch + noise"]), "confounded", 3),
    ("q3", q3(unfit=["frozen", "plain"]), "wrong_factor", 3),
    ("q3", q3(unfit=["frozen + noise", "frozen + noise"]), "same_network", 3),
    ("q3", q3(ahead=["frozen + noise", "batch + noise"]), "wrong_background", 3),
    ("q3", q3(ahead=["batch", "batch + noise"]), "wrong_factor", 3),
    ("q3", q3(ahead=["frozen", "live"]), "wrong_type", 3),
    ("q3", q3(ahead="batch"), "wrong_type", 3),
    ("q3", q3(ahead=["batch", 3]), "wrong_type", 3),
    ("q3", "answer_q3 = {'scale': ['frozen + noise', 'batch + noise']}", "incomplete", 1),
    ("q3", "answer_q3 = ['plain', 'batch']", "wrong_type", 0),
    ("q3", "answer_q3 = ...", "not_started", 0),
    ("q4", Q4 + "return -d.mean(), -d.mean() - t * se, -d.mean() + t * se", "reversed", 0),
    ("q4", Q4 + "se = ((a.var() + b.var()) / n) ** 0.5; t = t_quantile(0.975, 2 * n - 2)\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "unpaired", 1),
    ("q4", Q4 + "se = ((a.var() + b.var()) / n) ** 0.5; t = 1.96\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "unpaired", 1),
    ("q4", Q4 + "return d.mean(), d.mean() - 1.96 * se, d.mean() + 1.96 * se", "z_for_t", 1),
    ("q4", Q4 + "return d.mean(), d.mean() - t * d.std(), d.mean() + t * d.std()", "sd_for_se", 1),
    ("q4", Q4 + "se = d.std(correction=0) / n ** 0.5\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "population", 1),
    ("q4", Q4 + "t = t_quantile(0.95, n - 1)\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "one_sided", 1),
    ("q4", Q4 + "t = t_quantile(0.975, n)\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "degrees", 1),
    ("q4", Q4 + "return d.mean(), d.mean() - se, d.mean() + se", "no_quantile", 1),
    ("q4", Q4 + "return d.mean(), d.mean() + t * se, d.mean() - t * se", "ends_swapped", 1),
    ("q4", Q4 + "t = t_quantile(0.025, n - 1)\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "ends_swapped", 1),
    ("q4", Q4 + "return d.mean() - t * se, d.mean(), d.mean() + t * se", "order", 1),
    ("q4", Q4 + "return d.abs().mean(), d.mean() - t * se, d.mean() + t * se", "absolute", 2),
    ("q4", Q4 + "return d.mean(), d.mean() - 5, d.mean() + 5", "unknown", 1),
    ("q4", Q4 + "return d.mean(), t * se", "wrong_count", 0),
    ("q4", Q4 + "return d.mean(), torch.tensor(float('inf'), dtype=a.dtype), 'wide'", "nan", 1),
    ("q4", Q4 + "pass", "returned_nothing", 0),
    ("q5", q5(frozen=[-53.4, -58.9, -47.9]), "reversed", 2),
    ("q5", q5(frozen=[0.534, 0.479, 0.589]), "fraction", 2),
    ("q5", q5(frozen=[2.5, 1.1, 3.9]), "other_depth", 2),
    ("q5", q5(frozen=[2.5, 1.1, 3.9], difference=[1.8, 0.3, 3.2]), "other_depth", 1),
    ("q5", q5(frozen=[66.5, 60.1, 71.9]), "level", 2),
    ("q5", q5(frozen=[10.1, 8.0, 12.2]), "other_network", 2),
    ("q5", q5(batch=[69.0, 66.6, 71.4]), "level", 2),
    ("q5", q5(difference=[55.9, 52.1, 59.7]), "no_baseline", 2),
    ("q5", q5(difference=[53.4, 47.9, 58.9]), "given_twice", 2),
    ("q5", q5(difference=[30.0, 25.0, 35.0]), "unknown", 2),
    ("q5", q5(batch=[10.4, 12.8, 8.0]), "ends_swapped", 2),
    ("q5", q5(batch=[10.4, 3.0, 11.4]), "lopsided", 2),
    ("q5", q5(batch=[10.4, 2.1, 18.7]), "sd_for_se", 2),
    ("q5", q5(frozen=[53.4, 52.4, 54.4]), "width", 2),
    ("q5", q5(frozen=53.4), "wrong_type", 2),
    ("q5", q5(frozen=["53.4", "47.9", "58.9"]), "wrong_type", 2),
    ("q5", "answer_q5 = {'batch': [10.4, 8.0, 12.8]}", "incomplete", 1),
    ("q5", "answer_q5 = 43.0", "wrong_type", 0),
    ("q5", "answer_q5 = ...", "not_started", 0),
    ("q1", Q1 + "mu = n_mu * (2 * (U(unit) > 0.5).to(a.dtype) - 1)\n    " + NOISY, "few_values", 2),
    ("q1", Q1 + "mu = n_mu * torch.randint(-1, 2, unit).to(a.dtype)\n    " + NOISY, "few_values", 2),
    ("q1", Q1 + "mu = (2 * U(unit) - 1) * 2 * n_mu\n    " + NOISY, "double_range", 2),
    ("q1", Q1 + "mu = U(unit) - 0.5\n    " + NOISY, "n_mu_ignored", 1),
    ("q1", Q1 + "mu = torch.randn(unit, dtype=a.dtype) * n_mu / 2\n    " + NOISY, "normal_shift", 2),
    ("q1", Q1 + "sigma = 1 - (n_sigma - 1) * U(unit)\n    " + NOISY, "scale_range", 2),
    ("q1", Q1 + "sigma = (n_sigma * torch.randn(unit, dtype=a.dtype)).exp()\n    " + NOISY, "log_normal_scale", 2),
    ("q1", Q1 + "return a / (sigma + r_sigma * G) + mu + r_mu * J", "divided", 1),
    ("q1", Q1 + "return a + (sigma + r_sigma * G) * a + mu + r_mu * J", "added_twice", 2),
    ("q1", Q1 + "same = torch.Generator().manual_seed(1)\n    mu = (2 * torch.rand(unit, generator=same, dtype=a.dtype) - 1) * n_mu\n    " + NOISY, "fixed", 2),
    ("q1", Q1 + "return (sigma + r_sigma * G) * a + mu + 2 * r_mu * J", "jitter_range", 3),
    ("q1", Q1 + "return (sigma + r_sigma * G) * a + mu + r_mu ** 2 * J", "r_squared", 3),
    ("q1", Q1 + "return (sigma + r_sigma ** 2 * G) * a + mu + r_mu * J", "r_squared", 3),
    ("q1", Q1 + "return (sigma + r_sigma * G.abs()) * a + mu + r_mu * J", "jitter_one_sided", 3),
    ("q1", Q1 + "J = G\n    " + NOISY, "jitter_distribution", 3),
    ("q1", Q1 + "J, G = J[:1], G[:1]\n    " + NOISY, "jitter_forgotten", 2),
    ("q2", Q2 + HIDDEN.replace("return noise(", "y = (") + "\n    return y + noise(y)", "noise_beside", 0),
    ("q2", Q2 + HIDDEN.replace("noise(", "noise(noise(") + ")", "noise_twice", 0),
    ("q2", Q2 + HIDDEN.replace("noise(", "torch.relu(noise(") + ")", "activated", 0),
    ("q2", Q2 + "z = torch.relu(z)\n    " + HIDDEN, "activated", 0),
    ("q2", Q2 + "n = lambda z, by: (z - by.mean()) / (by.var(correction=0) + EPS).sqrt()\n    " + HIDDEN, "whole_layer", 1),
    ("q2", Q2 + "return noise({'plain': z, 'batch': z / (z.var(0, correction=0) + EPS).sqrt(), 'frozen': n(z, first)}[kind])", "scale_only", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': z - z.mean(0), 'frozen': n(z, first)}[kind])", "mean_only", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z), 'frozen': (z - first.mean(0)) / (z.var(0, correction=0) + EPS).sqrt()}[kind])", "live_spread", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z), 'frozen': n(z, z) * first.std(0) + first.mean(0)}[kind])", "live_statistics", 2),
    ("q2", Q2 + "return noise({'plain': z, 'batch': n(z, z), 'frozen': n(first, first)[:len(z)]}[kind])", "first_itself", 2),
    ("q4", Q4 + "d = a / b; se = d.std() / n ** 0.5\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "relative", 0),
    ("q4", Q4 + "d = 100 * (a - b) / b; se = d.std() / n ** 0.5\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "relative", 0),
    ("q4", Q4 + "return d.median(), d.mean() - t * se, d.mean() + t * se", "median", 2),
    ("q4", Q4 + "return d.mean(), d.mean() - 2 * se, d.mean() + 2 * se", "z_for_t", 1),
    ("q4", Q4 + "se = d.std() / n\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "n_without_root", 1),
    ("q4", Q4 + "se = d.std() / (n - 1) ** 0.5\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "corrected_twice", 1),
    ("q4", Q4 + "se = d.var() / n ** 0.5\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "variance", 1),
    ("q4", Q4 + "t = t_quantile(0.975, n - 2)\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "degrees", 1),
    ("q4", Q4 + "t = t_quantile(0.995, n - 1)\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "level", 1),
    ("q4", Q4 + "return d.mean(), -t * se, t * se", "around_zero", 1),
    ("q4", Q4 + "return d.mean(), d.min(), d.max()", "range", 1),
    ("q4", Q4 + "return d.mean(), d.quantile(0.025), d.quantile(0.975)", "range", 1),
    ("q4", Q4 + "se = a.std() / n ** 0.5\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "one_arm", 1),
    ("q4", Q4 + "d = a.sort().values - b.sort().values; se = d.std() / n ** 0.5\n    return d.mean(), d.mean() - t * se, d.mean() + t * se", "pairs_broken", 1),
    ("q5", q5(difference=[63.8, 57.0, 70.6]), "summed", 2),
    ("q6", "answer_q6 = 'It works.'", "too_short", 0),
    ("q6", "answer_q6 = 3", "wrong_type", 0),
]  # fmt: skip

# Code that does the work: question, code, what the feedback names.
SHORTCUTS = [
    ("q1", "from bncourse.norms.noise import covariate_noise", "covariate_noise"),
    ("q1", "import bncourse.norms\ndef covariate_noise(a, n_mu, n_sigma, r_mu, r_sigma):\n    return bncourse.norms.CovariateNoise(n_mu, n_sigma, r_mu, r_sigma)(a)", "bncourse.norms"),
    ("q2", "def hidden(z, kind, first, noise):\n    return noise(z if kind == 'plain' else F.batch_norm(z, None, None, training=True))", "batch_norm"),
    ("q2", "from bncourse.grading.ex03 import hidden", "hidden"),
    ("q4", "from bncourse.claims import interval\ndef paired_interval(a, b):\n    i = interval(a - b)\n    return i.mean, i.low, i.high", "interval"),
    ("q4", "from scipy import stats\ndef paired_interval(a, b):\n    r = stats.ttest_rel(a, b)\n    return (a - b).mean(), *r.confidence_interval()", "ttest_rel"),
]  # fmt: skip
