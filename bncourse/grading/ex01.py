"""ex01: batch norm forward, running statistics, evaluation mode, backward, and images.

The right answers come from torch in float64. `normalize` below is one formula with its parts exchangeable, so a
misconception is a row of a table: which part is wrong, and what to say about it.
"""

from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F

from .checks import Ask, Misconception, Question, changed, judge
from .feedback import Feedback, Marks
from .shortcuts import Rules

LARGE_MEAN = 1e4
ROUNDED = 2e-2  # tolerance at a mean of 1e4 in float32, where the mean itself is known to about 1e-3


# ---- inputs ----------------------------------------------------------------------------------------------------------


def spread(rng, shape: tuple, mean: float = 3.0, dtype=torch.float32, axis: int = 1) -> torch.Tensor:
    """Random input whose channels (along `axis`) have means up to ±`mean` and standard deviations from 0.4 to 3.

    Values are spaced out before noise is added: two equal values in a batch of 2 would make any answer ill-conditioned.
    """
    channels = shape[axis]
    rest = [n for i, n in enumerate(shape) if i != axis]
    z = np.stack([rng.permutation(np.linspace(-1.5, 1.5, int(np.prod(rest)))).reshape(rest) for _ in range(channels)])
    z += 0.2 * rng.standard_normal(z.shape)
    one_a_channel = (channels,) + (1,) * len(rest)
    z = z * np.exp(rng.uniform(np.log(0.4), np.log(3), one_a_channel)) + rng.uniform(-mean, mean, one_a_channel)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(z, 0, axis))).to(dtype)


def affine(rng, channels: int, dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """γ away from 0 and 1, β away from 0: otherwise forgetting them would not show."""
    gamma = rng.uniform(1.3, 2.5, channels) * rng.choice([-1, 1], channels)
    beta = rng.uniform(0.5, 2, channels) * rng.choice([-1, 1], channels)
    return torch.from_numpy(gamma).to(dtype), torch.from_numpy(beta).to(dtype)


def transposed(x: torch.Tensor) -> torch.Tensor:
    """The same values, but the first two axes lie the other way round in memory: `.view` on it fails."""
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def table_inputs(rng) -> list[torch.Tensor]:
    """(N, C) inputs. A square one first: there a wrong axis gives wrong numbers rather than an exception."""
    several = [tuple(int(n) for n in rng.integers(3, 12, 2)) for _ in range(2)]
    return [
        spread(rng, (5, 5)),
        spread(rng, (2, int(rng.integers(3, 8)))),
        transposed(spread(rng, several[0])),
        spread(rng, several[1], dtype=torch.float64),
    ]


def draw_eps(rng, count: int) -> list[float]:
    """One usual ε, the others so large that a misplaced one shows."""
    return [1e-5, *rng.uniform(0.2, 0.6, count - 1).tolist()]


# ---- one formula, exchangeable parts ---------------------------------------------------------------------------------


def normalize(x, gamma, beta, eps, *, over, mean=None, var=None, correction=0, root=lambda v, e: (v + e).sqrt(),
              use_gamma=True, use_beta=True, keepdim=True, along=1, centre=lambda x, mean: x - mean, swap=False,
              squares=False, beta_first=False, order=lambda x, mean, root: (x - mean) / root):  # fmt: skip
    """γ (x − mean)/root(var, ε) + β. Statistics over the axes `over` unless handed in; γ and β lie along axis `along`."""
    side = [1] * x.dim()
    side[along] = -1
    gamma, beta = (beta, gamma) if swap else (gamma, beta)
    mean = x.mean(over, keepdim=keepdim) if mean is None else mean.reshape(side)
    var = x.var(over, correction=correction, keepdim=keepdim) if var is None else var.reshape(side)
    var = x.square().mean(over, keepdim=keepdim) if squares else var
    y = order(x, x - centre(x, mean), root(var, eps))
    if beta_first:
        return gamma.reshape(side) * (y + beta.reshape(side))
    y = y * gamma.reshape(side) if use_gamma else y
    return y + use_beta * beta.reshape(side)


PARTS = [
    ("unbiased", dict(correction=1)),
    ("eps_outside", dict(root=lambda v, e: v.sqrt() + e)),
    ("divided_by_variance", dict(root=lambda v, e: v + e)),
    ("divided_by_variance", dict(root=lambda v, e: v)),
    ("eps_forgotten", dict(root=lambda v, e: v.sqrt())),
    ("eps_forgotten", dict(root=lambda v, e: (v + 1e-5).sqrt())),
    ("affine_forgotten", dict(use_gamma=False, use_beta=False)),
    ("gamma_forgotten", dict(use_gamma=False)),
    ("beta_forgotten", dict(use_beta=False)),
]
SLIPS = [  # looked for on their own only
    ("swapped", dict(swap=True)),
    ("mean_not_subtracted", dict(centre=lambda x, mean: x)),
    ("mean_added", dict(centre=lambda x, mean: x + mean)),
    ("mean_square", dict(squares=True)),
    ("multiplied", dict(root=lambda v, e: (v + e).rsqrt())),
    ("eps_squared", dict(root=lambda v, e: (v + e * e).sqrt())),
    ("beta_scaled", dict(beta_first=True)),
    ("beta_subtracted", dict(use_beta=-1)),
    ("brackets", dict(order=lambda x, mean, root: x - mean / root)),
]

SAYINGS = {
    "features": "You average over the features of each example (axis 1): that is layer norm. Batch norm asks how one "
    "feature varies from example to example. Which axis do you walk along, and which one is left?",
    "everything": "You use one mean and one variance for the whole input. Each feature needs its own: print the shape "
    "of your mean and count.",
    "unbiased": "Your variance divides by N − 1. What is normalized is the batch itself, not an estimate of a "
    "population, so batch norm divides by N. Look up `correction` (or `unbiased`) in torch.var.",
    "eps_outside": "You add ε after the root. Write down √(σ² + ε) and √σ² + ε for σ² = 0: which one is asked for?",
    "divided_by_variance": "You divide by the variance. Then doubling x would halve the output; it should not change. "
    "What has the same unit as x?",
    "eps_forgotten": "The ε that your function is given has no effect, or is a fixed number. Call it with eps=0.5 and "
    "eps=1e-5 and compare.",
    "affine_forgotten": "Your output is normalized, but γ and β do nothing yet. What do they let the layer undo?",
    "gamma_forgotten": "γ has no effect on your output: the spread is right only when γ = 1.",
    "beta_forgotten": "β has no effect on your output: each feature should be centred there, not at 0.",
    "swapped": "γ and β have changed places: the spread of your output is that of β, its mean that of γ. Which one multiplies?",
    "mean_not_subtracted": "The mean is never subtracted: your output is divided, but not centred. What should its mean be "
    "before β is added?",
    "mean_added": "You add the mean where it has to be subtracted.",
    "mean_square": "You divide by the root of E[x²]. The variance is the mean square of what is left *after* the mean is gone.",
    "multiplied": "You multiply by the standard deviation. A feature with a large spread should come out smaller, not larger.",
    "eps_squared": "You square ε. It stands under the root already, beside σ², just as it is handed to you.",
    "beta_scaled": "γ multiplies β as well. β is added last, after the scaling.",
    "beta_subtracted": "You subtract β. It is where each feature is centred: add it.",
    "corrected_again": "You multiply running_var by N / (N − 1) of the batch at hand. The buffer holds the unbiased variance already, and "
    "at evaluation an example must not depend on its neighbours.",
    "variance_averaged": "Your variance is the average of the variances of single pixels, or images. The values of a channel also differ "
    "because the *means* of those differ: take one variance over all axes at once.",
    "brackets": "Only the mean is divided, because a division comes before a difference. Which brackets are missing?",
    "scrambled": "You reshape without moving the channel axis: then values of different channels end up in one column. Which axis "
    "has to stand last (or first) before you flatten the others, and what has to be undone afterwards?",
    "not_moved_back": "You move the channel axis before you flatten, and reshape straight to the shape of x afterwards. Reshape to the "
    "shape that the moved tensor had; then the channel axis has to go back to place 1.",
    "buffers_swapped": "The two buffers have changed places: you subtract the variance and divide by the mean.",
    "batch_statistics": "You normalize with the mean and variance of the batch you are given. At evaluation an example "
    "must not depend on its neighbours: which statistics are there instead?",
    "batch_mean": "The variance is the stored one, but the mean is still that of the batch.",
    "batch_variance": "The mean is the stored one, but the variance is still that of the batch.",
    "variance_as_std": "You divide by running_var as if it were a standard deviation. What does the buffer hold?",
    "per_pixel": "You average over the batch only, so each pixel gets its own statistics. In a convolution the same "
    "filter sees every position: over which axes do its outputs count as samples of one thing?",
    "per_sample": "You average over the pixels of one image: that is instance norm. Which axis is missing?",
    "layer_norm": "You average over channels and pixels of each image: that is layer norm. Which axis must be left out, "
    "and which one is missing?",
    "affine_axis": "γ and β are multiplied along the last axis of x. They have one value a channel: give them a shape "
    "that lines up with axis 1.",
}  # fmt: skip


def flawed(flaws: list[tuple], sayings: dict = SAYINGS, **right) -> list[Misconception]:
    """Misconceptions of `normalize`: every flaw and slip alone, then every two flaws together (both are then named)."""

    def formula(change):
        return lambda *args: normalize(*args, **{**right, **change})

    alone = [Misconception(code, sayings[code], formula(change)) for code, change in [*flaws, *SLIPS]]
    pairs = [
        Misconception(a, f"Two things at once. {sayings[a]} And: {sayings[b]}", formula({**first, **second}))
        for (a, first), (b, second) in combinations(flaws, 2)
        if a != b and not first.keys() & second.keys()
    ]
    return alone + pairs


def describe_normalized(got: torch.Tensor, trial) -> str:
    """Mean and spread of one channel beside what γ and β ask for."""
    gamma, beta = trial.args[1].double(), trial.args[2].double()
    over = [axis for axis in range(got.dim()) if axis != 1]
    errors = (got - trial.right[0]).abs().amax(over)
    c = int(errors.argmax())
    column = got.select(1, c)
    return (
        f"Channel {c} of your output has mean {column.mean():.3g} and standard deviation "
        f"{column.std(correction=0):.3g}; β is {beta[c]:.3g} there and γ is {gamma[c]:.3g}. What should the two be?"
    )


def large_mean_part(ask: Ask, marks: Marks, x, gamma, beta, right, misconceptions) -> None:
    """One point: still right at a mean of 1e4, and the input is left alone. Given only when the ordinary cases are right."""
    trial = ask.trial((x, gamma, beta, 0.1), right, ROUNDED)
    with marks.part(1):
        if marks.feedback:
            raise marks.feedback[0]
        try:
            judge([trial], 0, "Your output", misconceptions, describe_normalized)
        except Feedback as feedback:
            if feedback.code not in ("nan", "unknown"):
                raise
            raise Feedback(
                "cancellation",
                f"Right for small means, wrong for channels with means around {LARGE_MEAN:g}. Do you compute the "
                "variance as E[x²] − E[x]²? In float32 two huge numbers cancel there and nothing is left. Subtract the "
                "mean before you square.",
            ) from None
        if changed(trial):
            raise Feedback(
                "in_place",
                "Your answer is right, but afterwards x is no longer what it was. `x -= …` and methods that end in an "
                "underscore overwrite the caller's tensor: make a new one.",
            )


# ---- q1: forward -----------------------------------------------------------------------------------------------------


def batch_norm(x, gamma, beta, eps):
    return F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


TABLE = flawed(
    [
        ("features", dict(over=(1,))),
        ("features", dict(over=(1,), keepdim=False)),
        ("everything", dict(over=(0, 1))),
        *PARTS,
    ],
    over=(0,),
)


def check_q1(ask: Ask, rng, marks: Marks) -> None:
    inputs = table_inputs(rng)
    cases = [(x, *affine(rng, x.shape[1], x.dtype), eps) for x, eps in zip(inputs, draw_eps(rng, len(inputs))[::-1])]
    trials = [ask.trial(case, batch_norm) for case in cases]
    with marks.part(3):
        judge(trials, 0, "Your output", TABLE, describe_normalized)
    x = spread(rng, (16, 6)) + LARGE_MEAN
    large_mean_part(ask, marks, x, *affine(rng, 6, x.dtype), batch_norm, TABLE)


# ---- q2: running statistics ------------------------------------------------------------------------------------------


def update_running(running_mean, running_var, x, momentum):
    mean, var = running_mean.clone(), running_var.clone()
    F.batch_norm(x, mean, var, training=True, momentum=momentum)
    return mean, var


def blend(old, new, momentum):
    return (1 - momentum) * old + momentum * new


SWAPPED = (
    "Your momentum is the wrong way round. In torch's convention momentum is the weight of the *new* batch: with "
    "momentum=0 nothing changes, with momentum=1 the past is forgotten."
)
REPLACED = "You return the statistics of this batch alone. What should be left of the old ones when momentum is small?"
OTHER_WAY = "You return the two in the wrong order: first the mean, then the variance."

ADDED = (
    "You add to the buffer without taking anything off, so it grows for ever. A blend has two weights, and they sum to 1: what "
    "does the old value get?"
)
HALF = "You take the plain average of old and new. Momentum has no effect on it: which weight does it stand for?"

SUBTRACTED = "You subtract the new value. A blend adds both, each with its own weight."

RUNNING_MEAN = [
    Misconception("subtracted", SUBTRACTED, lambda m, v, x, a: (1 - a) * m - a * x.mean(0)),
    Misconception("added", ADDED, lambda m, v, x, a: m + a * x.mean(0)),
    Misconception("added", ADDED, lambda m, v, x, a: m + x.mean(0)),
    Misconception("momentum_ignored", HALF, lambda m, v, x, a: (m + x.mean(0)) / 2),
    Misconception("momentum_swapped", SWAPPED, lambda m, v, x, a: blend(m, x.mean(0), 1 - a)),
    Misconception("replaced", REPLACED, lambda m, v, x, a: x.mean(0)),
    Misconception("order", OTHER_WAY, lambda m, v, x, a: blend(v, x.var(0), a)),
    Misconception("features", SAYINGS["features"], lambda m, v, x, a: blend(m, x.mean(1), a)),
]
BIASED = (
    "The variance that goes into the buffer divides by N. The buffer stands for data not yet seen, so torch stores the "
    "unbiased estimate there, although it normalizes the batch with the biased one."
)
STD = "You store the standard deviation. The buffer is called running_var for a reason: when is the root taken?"
RUNNING_VAR = [
    *(
        Misconception(code, say, lambda m, v, x, a, blended=blended, correction=correction: blended(v, x.var(0, correction=correction), a))
        for code, say, blended in (
            ("subtracted", SUBTRACTED, lambda old, new, a: (1 - a) * old - a * new),
            ("added", ADDED, lambda old, new, a: old + a * new),
            ("added", ADDED, lambda old, new, a: old + new),
            ("momentum_ignored", HALF, lambda old, new, a: (old + new) / 2),
        )
        for correction in (1, 0)
    ),
    Misconception(
        "around_the_old_mean",
        "You measure the spread around a mean from the buffer. The variance of this batch is taken around the batch's own mean.",
        lambda m, v, x, a: blend(v, (x - m).square().mean(0), a),
    ),
    Misconception("biased", BIASED, lambda m, v, x, a: blend(v, x.var(0, correction=0), a)),
    Misconception("momentum_swapped", SWAPPED, lambda m, v, x, a: blend(v, x.var(0), 1 - a)),
    Misconception(
        "momentum_swapped", f"{SWAPPED}\n{BIASED}", lambda m, v, x, a: blend(v, x.var(0, correction=0), 1 - a)
    ),
    Misconception("std", STD, lambda m, v, x, a: blend(v, x.std(0), a)),
    Misconception("std", f"{STD}\n{BIASED}", lambda m, v, x, a: blend(v, x.std(0, correction=0), a)),
    Misconception("replaced", REPLACED, lambda m, v, x, a: x.var(0)),
    Misconception("replaced", f"{REPLACED}\n{BIASED}", lambda m, v, x, a: x.var(0, correction=0)),
    Misconception("order", OTHER_WAY, lambda m, v, x, a: blend(m, x.mean(0), a)),
    Misconception("features", SAYINGS["features"], lambda m, v, x, a: blend(v, x.var(1), a)),
    Misconception("features", SAYINGS["features"], lambda m, v, x, a: blend(v, x.var(1, correction=0), a)),
]


def describe_running(index: int, name: str):
    def describe(got, trial):
        c = int((got - trial.right[index]).abs().argmax())
        old, new = float(trial.args[index][c]), float(getattr(trial.args[2].double(), name)(0)[c])
        return (
            f"Channel {c}: the buffer held {old:.3g}, the batch has {name} {new:.3g}, momentum is {trial.args[3]:.2g}, "
            f"and you return {float(got[c]):.3g}. Where between the two should it lie?"
        )

    return describe


def check_q2(ask: Ask, rng, marks: Marks) -> None:
    cases = []
    for x, momentum in zip(table_inputs(rng), [rng.uniform(0.05, 0.2), rng.uniform(0.7, 0.9), 1.0, 0.0]):
        # The old mean is far from the new one: otherwise the weights would hardly show.
        old = spread(rng, (2, x.shape[1]), mean=1, dtype=x.dtype)
        cases.append((old[0] + 6, old[1].abs() + 8, x, float(momentum)))
    trials = [ask.trial(case, update_running) for case in cases]
    if all(t.reply.outcome == "returned" and [v.type for v in t.reply.values] == ["NoneType"] for t in trials):
        if any(changed(t) for t in trials):
            raise Feedback(
                "in_place",
                "You change the buffers that were handed in and return nothing. Here the caller keeps the old ones: "
                "return a new mean and a new variance.",
            )
    with marks.part(1):
        judge(trials, 0, "The first output (the mean)", RUNNING_MEAN, describe_running(0, "mean"))
    with marks.part(2):
        judge(trials, 1, "The second output (the variance)", RUNNING_VAR, describe_running(1, "var"))
    with marks.part(1):
        if marks.feedback:
            raise marks.feedback[0]
        if any(changed(trial) for trial in trials):
            raise Feedback(
                "in_place",
                "The numbers are right, but the tensors that were handed in have changed too. `*=`, `+=` and methods "
                "that end in an underscore write into the caller's buffers: make new tensors.",
            )


# ---- q3: evaluation mode ---------------------------------------------------------------------------------------------


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    return F.batch_norm(x, running_mean, running_var, gamma, beta, training=False, eps=eps)


def flawed_eval() -> list[Misconception]:
    """The flaws of `normalize` in the order of this question's arguments; stored statistics exchanged for the batch's."""
    batch = [
        ("batch_statistics", dict(mean=False, var=False)),
        ("batch_statistics", dict(mean=False, var=False, correction=1)),
        ("batch_mean", dict(mean=False)),
        ("batch_variance", dict(var=False)),
        ("batch_variance", dict(var=False, correction=1)),
    ]
    roots = [("variance_as_std" if code == "divided_by_variance" else code, c) for code, c in PARTS if "correction" not in c]
    roots += [(code, change) for code, change in SLIPS if "squares" not in change]

    def formula(change):
        def compute(x, gamma, beta, mean, var, eps):
            stored = {"mean": mean, "var": var}
            used = {k: v for k, v in stored.items() if k not in change}
            return normalize(x, gamma, beta, eps, over=(0,), **used, **{k: v for k, v in change.items() if k not in stored})

        return compute

    def exchanged(x, gamma, beta, mean, var, eps):
        return normalize(x, gamma, beta, eps, over=(0,), mean=var, var=mean.abs())

    def corrected(x, gamma, beta, mean, var, eps):
        return normalize(x, gamma, beta, eps, over=(0,), mean=mean, var=var * len(x) / max(len(x) - 1, 1))

    found = [Misconception(code, SAYINGS[code], formula(change)) for code, change in batch + roots]
    found += [Misconception("corrected_again", SAYINGS["corrected_again"], corrected)]
    return [*found, Misconception("buffers_swapped", SAYINGS["buffers_swapped"], exchanged)]


EVAL = flawed_eval()


def describe_eval(got: torch.Tensor, trial) -> str:
    row, column = divmod(int((got - trial.right[0]).abs().argmax()), got.shape[1])
    x, gamma, beta, mean, var, eps = trial.args
    return (
        f"x[{row}, {column}] = {float(x[row, column]):.3g} becomes {float(got[row, column]):.3g}, with running mean "
        f"{float(mean[column]):.3g}, running variance {float(var[column]):.3g}, γ = {float(gamma[column]):.3g}, "
        f"β = {float(beta[column]):.3g}, ε = {eps:.2g}. Work this one number out by hand."
    )


def check_q3(ask: Ask, rng, marks: Marks) -> None:
    inputs = [*table_inputs(rng), spread(rng, (1, 4))]  # a batch of one is fine at evaluation
    cases = []
    for x, eps in zip(inputs, draw_eps(rng, len(inputs))[::-1]):
        channels = x.shape[1]
        mean = torch.from_numpy(rng.uniform(-3, 3, channels)).to(x.dtype)
        var = torch.from_numpy(np.exp(rng.uniform(np.log(0.2), np.log(5), channels))).to(x.dtype)
        cases.append((x, *affine(rng, channels, x.dtype), mean, var, eps))
    trials = [ask.trial(case, batch_norm_eval) for case in cases]
    with marks.part(2):
        judge(trials, 0, "Your output", EVAL, describe_eval)
    with marks.part(1):
        if marks.feedback:
            raise marks.feedback[0]
        if any(changed(trial) for trial in trials):
            raise Feedback(
                "in_place",
                "The output is right, but x or a buffer has changed. Evaluation only reads: do not use `-=`, `+=` or "
                "methods that end in an underscore on what you are given.",
            )


# ---- q4: backward ----------------------------------------------------------------------------------------------------


def batch_norm_backward(dy, x, gamma, eps):
    with torch.enable_grad():
        x, gamma = x.clone().requires_grad_(), gamma.clone().requires_grad_()
        beta = torch.zeros_like(gamma).requires_grad_()
        return torch.autograd.grad(batch_norm(x, gamma, beta, eps), (x, gamma, beta), dy)


def gradient(dy, x, gamma, eps, *, through_mean=True, through_var=True, use_gamma=True, total=False, correction=0,
             stretch=lambda v, e: (v + e).sqrt(), over=0, road=lambda xhat, average, sigma: xhat * average,
             scale=lambda dx, sigma, n: dx / sigma):  # fmt: skip
    """dx with its two corrections switchable: what flows back through the mean, and (along `road`) through the variance."""
    centred = x - x.mean(over, keepdim=True)
    sigma = stretch(x.var(over, keepdim=True, correction=correction), eps)
    xhat, g = centred / sigma, (dy * gamma if use_gamma else dy)
    average = torch.sum if total else torch.mean
    dx = g
    dx = dx - through_mean * average(g, over, keepdim=True)
    if through_var:
        dx = dx - road(xhat, average(g * xhat, over, keepdim=True), sigma)
    return scale(dx, sigma, x.shape[over])


def hat(x, eps, over=0, correction=0):
    return (x - x.mean(over, keepdim=True)) / (x.var(over, keepdim=True, correction=correction) + eps).sqrt()


GRADIENT_SAYINGS = {
    "statistics_constant": "You treat mean and variance as constants: dx is only dy scaled. But moving one x moves both, "
    "and through them every output of its feature. Draw the arrows that leave one x.",
    "variance_constant": "The way through the mean is there, the way through the variance is missing. What does the "
    "spread of the feature do when one x moves away from the mean?",
    "mean_constant": "The way through the variance is there, the way through the mean is missing. Add the same constant "
    "to a whole feature: y does not change. What does that say about the sum of dx over the batch?",
    "gamma_forgotten": "γ is missing in dx. It multiplies x̂ on the way forward, so it multiplies the gradient on the "
    "way back.",
    "summed": "Both ways back are there, but you subtract sums over the batch where averages belong: μ and σ² each hold "
    "a factor 1/N.",
    "unbiased": "Your gradient uses the variance that divides by N − 1. The forward pass divides by N.",
    "eps_forgotten": "ε has no effect on your gradient, or is a fixed number. It is under the root on the way forward, "
    "so it is there on the way back.",
    "eps_outside": "In your gradient ε is added after the root; on the way forward it is under it.",
    "features": "Your sums run over the features of each example (axis 1). The statistics of a feature were taken over "
    "the batch: sum over the same axis on the way back.",
    "factor_2": "The way through the variance has the wrong factor of 2. (x − μ)² brings one along, and the root of σ² another "
    "half: what is left of the two?",
    "sigma_missing": "A factor σ is missing: on every road the last step is x̂ = (x − μ)/σ, and its derivative holds 1/σ.",
    "sigma_twice": "You divide by σ once too often. Count the 1/σ on each road; the one of x − μ = σ x̂ cancels.",
    "not_normalized": "On the way through the variance you use x − μ where x̂ belongs (or the other way round): a factor σ is "
    "left over there.",
    "xhat_missing": "On the way through the variance x̂ is missing in front of the average: ∂σ²/∂x is different for every example.",
    "sign": "A sign is wrong. When μ or σ² goes up, x̂ goes down: both ways through the statistics are subtracted.",
    "n_minus_1": "On the way through the variance you divide by N − 1. The forward pass divides by N.",
    "turned_round": "Your dx has the wrong sign throughout.",
    "n_left": "Your dx is N times too large. Did you multiply by N to get rid of the averages, and not divide again?",
    "order": "dγ and dβ have changed places: return dx, dγ, dβ.",
    "xhat_unbiased": "dγ is off because it holds x̂, and the variance in that x̂ divides by N − 1.",
    "dgamma_x": "dγ is Σ dy · (what γ multiplied). Is that x itself?",
    "dgamma_centred": "You multiply dy by x − μ. What γ multiplied on the way forward was also divided by something.",
    "averaged": "You average over the batch where a sum belongs. One γ and one β touch all N outputs of their feature: "
    "contributions add.",
    "dgamma_scaled": "γ itself appears in your dγ. The derivative of γ · x̂ with respect to γ does not hold γ any more.",
    "dbeta_scaled": "γ appears in your dβ. What is the derivative of y = γ x̂ + β with respect to β?",
}  # fmt: skip


def gradient_flaws(flaws: list[tuple]) -> list[Misconception]:
    return [Misconception(code, GRADIENT_SAYINGS[code], formula) for code, formula in flaws]


def switch(**change):
    return lambda *args: gradient(*args, **change)


DX = gradient_flaws(
    [
        ("statistics_constant", switch(through_mean=False, through_var=False)),
        ("statistics_constant", switch(through_mean=False, through_var=False, use_gamma=False)),
        ("variance_constant", switch(through_var=False)),
        ("mean_constant", switch(through_mean=False)),
        ("gamma_forgotten", switch(use_gamma=False)),
        ("summed", switch(total=True)),
        ("unbiased", switch(correction=1)),
        ("eps_forgotten", switch(stretch=lambda v, e: v.sqrt())),
        ("eps_forgotten", switch(stretch=lambda v, e: (v + 1e-5).sqrt())),
        ("eps_outside", switch(stretch=lambda v, e: v.sqrt() + e)),
        ("features", switch(over=1)),
        ("factor_2", switch(road=lambda xhat, average, sigma: 2 * xhat * average)),
        ("factor_2", switch(road=lambda xhat, average, sigma: xhat * average / 2)),
        ("sigma_missing", switch(scale=lambda dx, sigma, n: dx)),
        ("sigma_twice", switch(scale=lambda dx, sigma, n: dx / sigma**2)),
        ("not_normalized", switch(road=lambda xhat, average, sigma: xhat * average * sigma)),
        ("not_normalized", switch(road=lambda xhat, average, sigma: xhat * average / sigma)),
        ("not_normalized", switch(road=lambda xhat, average, sigma: xhat * average * sigma**2)),
        ("xhat_missing", switch(road=lambda xhat, average, sigma: average)),
        ("sign", switch(road=lambda xhat, average, sigma: -xhat * average)),
        ("sign", switch(through_mean=-1)),
        ("sign", switch(through_mean=-1, road=lambda xhat, average, sigma: -xhat * average)),
        ("n_minus_1", switch(road=lambda xhat, average, sigma: xhat * average * len(xhat) / (len(xhat) - 1))),
        ("turned_round", switch(scale=lambda dx, sigma, n: -dx / sigma)),
        ("n_left", switch(scale=lambda dx, sigma, n: n * dx / sigma)),
    ]
)
DGAMMA = gradient_flaws(
    [
        ("order", lambda dy, x, gamma, eps: dy.sum(0)),
        ("dgamma_x", lambda dy, x, gamma, eps: (dy * x).sum(0)),
        ("dgamma_centred", lambda dy, x, gamma, eps: (dy * (x - x.mean(0))).sum(0)),
        ("xhat_unbiased", lambda dy, x, gamma, eps: (dy * hat(x, eps, correction=1)).sum(0)),
        ("averaged", lambda dy, x, gamma, eps: (dy * hat(x, eps)).mean(0)),
        ("features", lambda dy, x, gamma, eps: (dy * hat(x, eps)).sum(1)),
        ("features", lambda dy, x, gamma, eps: (dy * hat(x, eps, 1)).sum(1)),
        ("dgamma_scaled", lambda dy, x, gamma, eps: (dy * gamma * hat(x, eps)).sum(0)),
        ("eps_forgotten", lambda dy, x, gamma, eps: (dy * hat(x, 0)).sum(0)),
        ("eps_forgotten", lambda dy, x, gamma, eps: (dy * hat(x, 1e-5)).sum(0)),
    ]
)
DBETA = gradient_flaws(
    [
        ("order", lambda dy, x, gamma, eps: (dy * hat(x, eps)).sum(0)),
        ("averaged", lambda dy, x, gamma, eps: dy.mean(0)),
        ("features", lambda dy, x, gamma, eps: dy.sum(1)),
        ("dbeta_scaled", lambda dy, x, gamma, eps: (dy * gamma).sum(0)),
    ]
)


def describe_dx(got: torch.Tensor, trial) -> str:
    """Two things that hold for the right dx whatever the numbers are: the output ignores a shift of a feature."""
    c = int((got - trial.right[0]).abs().amax(0).argmax())
    total = float(got[:, c].sum())
    if abs(total) > 1e-2 * (1 + float(got.abs().max())):
        return (
            f"Column {c} of your dx sums to {total:.3g}. Adding a constant to a whole feature leaves y as it is, so "
            "that sum has to be 0."
        )
    return (
        f"Every column of your dx sums to 0, as it has to, but column {c} is off by up to "
        f"{float((got - trial.right[0])[:, c].abs().max()):.2g}. Compare with a difference quotient: move one x by 1e-4 "
        "in float64 and watch Σ dy · y."
    )


def describe_parameter(symbol: str):
    def describe(got, trial):
        return (
            f"Your d{symbol} is {float(got[0]):.3g} for feature 0. Write y = γ x̂ + β for that feature, one line an "
            f"example, differentiate each by {symbol}, and add up."
        )

    return describe


def check_q4(ask: Ask, rng, marks: Marks) -> None:
    cases = []
    inputs = table_inputs(rng)
    for x, eps in zip(inputs, draw_eps(rng, len(inputs))[::-1]):
        dy = torch.from_numpy(rng.standard_normal(tuple(x.shape)) + rng.uniform(0.5, 1)).to(x.dtype)
        cases.append((dy, x, affine(rng, x.shape[1], x.dtype)[0], eps))
    trials = [ask.trial(case, batch_norm_backward) for case in cases]
    for points, index, label, flaws, describe in (
        (4, 0, "dx (the first output)", DX, describe_dx),
        (1, 1, "dγ (the second output)", DGAMMA, describe_parameter("γ")),
        (1, 2, "dβ (the third output)", DBETA, describe_parameter("β")),
    ):
        with marks.part(points):
            judge(trials, index, label, flaws, describe)


# ---- q5: images ------------------------------------------------------------------------------------------------------

def scrambled(there, back, code: str = "scrambled"):
    """Batch norm of a table that `there` makes of an image, brought `back` to the shape of the image."""

    def formula(x, gamma, beta, eps):
        rows = there(x, x.shape[1])
        return back(normalize(rows, gamma, beta, eps, over=(0,)), x)

    return Misconception(code, SAYINGS[code], formula)


def variance_averaged(axis):
    """The variance of each pixel (`axis` 0) or image, averaged."""

    def formula(x, gamma, beta, eps):
        var = x.var(axis, correction=0, keepdim=True).mean((0, 2, 3))
        return normalize(x, gamma, beta, eps, over=(0, 2, 3), var=var)

    return Misconception("variance_averaged", SAYINGS["variance_averaged"], formula)


IMAGES = flawed(
    [
        ("per_pixel", dict(over=(0,))),
        ("per_sample", dict(over=(2, 3))),
        ("layer_norm", dict(over=(1, 2, 3))),
        ("everything", dict(over=(0, 1, 2, 3))),
        ("affine_axis", dict(along=3)),
        *PARTS,
    ],
    over=(0, 2, 3),
) + [
    variance_averaged(0),
    variance_averaged((2, 3)),
    scrambled(lambda x, c: x.reshape(-1, c), lambda y, x: y.reshape(x.shape)),
    scrambled(lambda x, c: x.transpose(0, 1).reshape(-1, c), lambda y, x: y.reshape(x.shape)),
    scrambled(lambda x, c: x.reshape(c, -1).T, lambda y, x: y.T.reshape(x.shape)),
    scrambled(lambda x, c: x.movedim(1, -1).reshape(-1, c), lambda y, x: y.reshape(x.shape), "not_moved_back"),
    scrambled(lambda x, c: x.movedim(1, 0).reshape(c, -1).T, lambda y, x: y.T.reshape(x.shape), "not_moved_back"),
    scrambled(lambda x, c: x.reshape(-1, c), lambda y, x: y.reshape(x.movedim(1, -1).shape).movedim(-1, 1)),
]


def channels_moved(trials: list) -> None:
    """Without the last permute right numbers stand in the wrong place. On the square input, where every shape fits, they would
    pass for scrambled ones; on the others the shape tells."""
    for trial in trials:
        x, values = trial.args[0], trial.reply.values
        got, asked = values[0].shape if values else (), tuple(x.shape)
        if got != asked and got in (tuple(x.movedim(1, place).shape) for place in (-1, 0)):
            raise Feedback(
                "wrong_shape",
                f"Your output has shape {got}; it has to be {asked}, as x is. The channel axis has to go back to place 1.",
            )


def check_q5(ask: Ask, rng, marks: Marks) -> None:
    n, c, h, w = (int(k) for k in rng.integers(2, 6, 4))
    inputs = [
        spread(rng, (3, 3, 3, 3)),
        spread(rng, (2, c, h, w + 1)),
        spread(rng, (n, c + 1, h, w)).contiguous(memory_format=torch.channels_last),
        spread(rng, (n, c, h + 1, w), dtype=torch.float64),
    ]
    cases = [(x, *affine(rng, x.shape[1], x.dtype), eps) for x, eps in zip(inputs, draw_eps(rng, len(inputs))[::-1])]
    trials = [ask.trial(case, batch_norm) for case in cases]
    with marks.part(2):
        channels_moved(trials)
        judge(trials, 0, "Your output", IMAGES, describe_normalized)
    x = spread(rng, (3, 4, 3, 2)) + LARGE_MEAN
    large_mean_part(ask, marks, x, *affine(rng, 4, x.dtype), batch_norm, IMAGES)


QUESTIONS = {
    "q1": Question("batch_norm", 4, check_q1),
    "q2": Question("update_running", 4, check_q2),
    "q3": Question("batch_norm_eval", 3, check_q3),
    "q4": Question("batch_norm_backward", 6, check_q4, Rules(autograd=False)),
    "q5": Question("batch_norm_2d", 3, check_q5),
}
