"""ex03: noisy batch norm and its controls: the noise, three networks that carry it, which comparison says what, a paired
interval, and what the noise costs.

The noise is random, so its check looks at what must hold for every draw: which numbers are shared by which values, and how
thousands of them are distributed, with bounds that no right answer misses by chance.
"""

import itertools
import math
from functools import lru_cache

import numpy as np
import torch
from scipy import special

from bncourse.data import load

from .calls import Given, is_number
from .checks import (
    TOLERANCE,
    VALUE,
    Ask,
    Misconception,
    Question,
    Trial,
    Written,
    changed,
    judge,
    judge_number,
    off,
    one_line,
    output,
    widened,
)
from .feedback import Feedback, Marks
from .shortcuts import Rules

EPS = 1e-5
TINY = 1e-6  # stands for 0 where a parameter is switched off: some samplers refuse an empty range
EXACT = 2e-2  # what TINY may leave of an equality, also where somebody took its root


# ---- what comes back through an answer -------------------------------------------------------------------------------


def gradient_through(ask: Ask, *args) -> tuple[torch.Tensor, torch.Tensor] | str | None:
    """What the answer returns for the first of `args`, and the gradient that comes back to it for the sum of cubes; what torch
    says where none comes back. An answer's reply is plain numbers, without a graph, so a function of the same name in the
    notebook asks for the gradient. None where a notebook has none, because it is an older one."""
    try:
        reply = ask(ask.answer, *args, of="gradient_through")
    except Feedback as feedback:
        if feedback.code == "missing":
            return None
        raise
    if reply.outcome == "raised":
        return one_line(reply.text)
    return tuple(output(Trial(args, (args[0], args[0]), 0, reply), index, "The gradient") for index in (0, 1))


def cubes_gradient(function, x, *others) -> torch.Tensor:
    """What `gradient_through` has to find."""
    x = x.double().clone().requires_grad_()
    return torch.autograd.grad((function(x, *others) ** 3).sum(), x)[0]


# ---- q1: the noise ---------------------------------------------------------------------------------------------------

PAPER = (0.5, 1.25, 0.1, 0.1)  # n_mu, n_sigma, r_mu, r_sigma
UNITS = 1000


def covariate_noise(a, n_mu, n_sigma, r_mu, r_sigma):
    one_a_unit = (1, a.shape[1]) + (1,) * (a.dim() - 2)
    mu = (2 * torch.rand(one_a_unit, dtype=a.dtype) - 1) * n_mu
    sigma = 1 + (n_sigma - 1) * torch.rand(one_a_unit, dtype=a.dtype)
    m = mu + (2 * torch.rand_like(a) - 1) * r_mu
    return (sigma + r_sigma * torch.randn_like(a)) * a + m


def between(low, high):
    """Even from `low` to `high`. Not cut off at 0 and 1, so that a single value far outside is a large distance."""
    return lambda v: (v - low) / (high - low)


def normal(mean, sd):
    return lambda v: special.ndtr((v - mean) / sd)


def distance(values: torch.Tensor, cdf) -> float:
    """Kolmogorov and Smirnov's: the largest gap between the shares of `values` and the distribution function `cdf`."""
    values = np.sort(values.numpy().ravel())
    shares = np.arange(len(values) + 1) / len(values)
    theirs = cdf(values)
    return float(max((shares[1:] - theirs).max(), (theirs - shares[:-1]).max()))


def fits(values: torch.Tensor, cdf) -> bool:
    """With n draws the chance of a distance above d is at most 2 exp(−2 n d²) (Dvoretzky, Kiefer and Wolfowitz), so that of
    a right answer to fail is 1e-12."""
    return distance(values, cdf) <= math.sqrt(14 / values.numel())


def judge_draws(values: torch.Tensor, right, mistakes: list[tuple], what: str) -> None:
    """Returns when `values` may come from `right`; else raises the `Feedback` of the most likely of `mistakes` (code,
    distribution function, message) that they may come from."""
    if fits(values, right):
        return
    if len(different := values.mul(1e3).round().unique()) < 20:
        raise Feedback("few_values", f"{what} take only {len(different)} different values. They have to be drawn evenly from a whole range.")
    likely = [(distance(values, cdf), code, message) for code, cdf, message in mistakes if fits(values, cdf)]
    if likely:
        raise Feedback(*min(likely)[1:])
    raise Feedback(
        "distribution",
        f"{what} follow another distribution than the one asked for: over {values.numel()} of them yours have mean "
        f"{values.mean():.3g}, standard deviation {values.std():.3g}, smallest {values.min():.3g} and largest {values.max():.3g}.",
    )


def noisy(ask: Ask, a: torch.Tensor, *parameters: float) -> tuple[torch.Tensor, Trial]:
    trial = Trial((a, *parameters), (a,), 0, ask(a, *parameters))
    return output(trial, 0, "Your output"), trial


def equal(values: torch.Tensor, axis: int) -> bool:
    """Whether `values` are the same all along `axis`."""
    return bool((values - values.select(axis, 0).unsqueeze(axis)).abs().max() <= EXACT)


SAYINGS = {
    "no_noise": "Your output is the input: nothing has been added or multiplied.",
    "shift_forgotten": "An activation of 0 stays 0, so nothing is added. The noise has two dice: a shift μ and a scale σ.",
    "scale_forgotten": "Every unit keeps its scale, whatever n_sigma is. The noise has two dice: a shift μ and a scale σ.",
    "one_for_all": "With the jitter switched off every unit gets the same shift or the same scale. Then a layer moves as a whole; in "
    "the paper each unit jumps by itself. How many draws does a layer of C units (for images: C channels) need, and "
    "of which shape?",
    "per_example": "With the jitter switched off your noise differs from example to example and is the same for all units of an "
    "example. It has to be the other way round: which of the two axes is the units' one?",
    "per_value": "With r_mu and r_sigma at (almost) 0 your noise still differs between the examples of one unit. Noise that is new "
    "for every value averages out over the batch. The jump must be shared by the whole batch: of which shape is its "
    "draw?",
    "per_position": "In images a channel is the unit: all its examples and all its positions share one shift. Yours differ within a "
    "channel. Which shape lines up with axis 1 of (N, C, H, W)?",
    "not_affine": "With the jitter switched off a unit's output has to be σ · a + μ, a straight line in a. Yours is not: try a = "
    "−1, 0, 1, 2.",
    "shift_scaled": "Your shift is multiplied by the scale, as in σ · (a + μ). Which is applied first in σ · a + μ?",
    "one_die": "Units with a large shift have a large scale in your noise. Shift and scale are two dice: do you use one draw for "
    "both?",
    "fixed": "Two calls gave the same shifts, or the same scales. What never changes is no shift: the next layer gets used to it. Where is your "
    "draw made, or which seed is set?",
    "in_place": "Your noise is right, but a itself has changed. Methods that end in an underscore, `+=` and `*=` write into the "
    "caller's tensor.",
    "gradient_cut": "The numbers are right, but no gradient (or only a part of it) comes back through your function: you detach a, or go "
    "through numpy or plain numbers. The network in question 5 trains through this function: keep s · a in the graph.",
    "jitter_forgotten": "With r_mu or r_sigma well above 0 all examples of a unit still get the same shift or the same scale. Each value "
    "has an m and an s of its own, drawn around its unit's μ and σ.",
    "jitter_shared": "Several values get the same jitter in your noise: all units of an example, or all positions of an image. Each "
    "value has an m and an s of its own: of which shape are those draws?",
    "jitter_relative": "The jitter of s grows with σ in your noise. It has to be N(σ, r_sigma): the same width for every unit.",
}  # fmt: skip


def wrong(code: str) -> Feedback:
    return Feedback(code, SAYINGS[code])


def check_sharing(values: torch.Tensor) -> None:
    """`values`: (examples, units), drawn without jitter. One number a unit is right."""
    along_examples, along_units = equal(values, 0), equal(values, 1)
    if along_units:
        raise wrong("one_for_all" if along_examples else "per_example")
    if not along_examples:
        raise wrong("per_value")


def check_jump(ask: Ask, rng) -> None:
    """With the jitter off, rows of 0 return the shifts themselves, and rows of 1 shift plus scale."""
    n_mu, n_sigma = rng.uniform(2.2, 3.5), rng.uniform(1.5, 3)
    rows = torch.tensor([0.0, 0, 1, 1, -1, 2], dtype=torch.float64)[:, None].repeat(1, UNITS)
    out, trial = noisy(ask, rows, n_mu, n_sigma, TINY, TINY)
    if (out - rows).abs().max() <= EXACT:
        raise wrong("no_noise")
    shift, scale = out[:2], out[2:4] - out[:2]
    if shift.abs().max() <= EXACT:
        raise wrong("shift_forgotten")
    if (scale - 1).abs().max() <= EXACT:
        raise wrong("scale_forgotten")
    check_sharing(shift)
    check_sharing(scale)
    mu, sigma = shift[0], scale[0]
    if max((out[4] - mu + sigma).abs().max(), (out[5] - mu - 2 * sigma).abs().max()) > EXACT:
        raise wrong("not_affine")
    even = between(-n_mu, n_mu)
    if fits(mu / sigma, even) and not fits(mu, even):
        raise wrong("shift_scaled")
    judge_draws(mu, even, shift_mistakes(n_mu), "Your shifts")
    judge_draws(sigma, between(1, n_sigma), scale_mistakes(n_sigma), "Your scales")
    if abs(np.corrcoef(mu, sigma)[0, 1]) > 0.3:  # 9 standard errors
        raise wrong("one_die")
    again, _ = noisy(ask, rows, n_mu, n_sigma, TINY, TINY)
    if any((now - then).abs().max() <= EXACT for now, then in ((again[0], mu), (again[2] - again[0], sigma))):
        raise wrong("fixed")
    if changed(trial):
        raise wrong("in_place")
    check_gradient(ask, rng)


def check_gradient(ask: Ask, rng) -> None:
    """Without a shift the output y is s · a, and the gradient of the sum of its cubes is 3 y² s = 3 y³ / a."""
    a = torch.from_numpy(rng.uniform(1, 2, (6, 5)) * rng.choice([-1, 1], (6, 5)))
    found = gradient_through(ask, a, TINY, 2.0, TINY, 0.3)
    if isinstance(found, str) or found and off(found[1] * a, 3 * found[0] ** 3) > 1e-3:
        raise wrong("gradient_cut")


def shift_mistakes(n: float) -> list[tuple]:
    return [
        ("not_centred", between(0, n), "Your shifts run from 0 to n_mu: all units are pushed the same way. torch.rand gives numbers from 0 to 1; "
         "where does −n_mu come from?"),
        ("half_range", between(-n / 2, n / 2), "Your shifts stay within ±n_mu / 2. They have to reach from −n_mu to n_mu: how long is that range?"),
        ("double_range", between(-2 * n, 2 * n), "Your shifts reach from −2 n_mu to 2 n_mu, twice as far as they have to."),
        ("n_mu_ignored", between(-1, 1), "Your shifts reach from −1 to 1, whatever n_mu is."),
        ("n_mu_ignored", between(-0.5, 0.5), "Your shifts reach from −0.5 to 0.5, whatever n_mu is."),
        *(("normal_shift", normal(0, sd), "Your shifts are normally distributed. The paper draws them evenly from −n_mu to n_mu, so that none "
           "is larger than n_mu.") for sd in (n, n / 2, n / 3, n / math.sqrt(3), math.sqrt(n), 1)),
    ]  # fmt: skip


def scale_mistakes(n: float) -> list[tuple]:
    return [
        ("scale_range", between(1, 1 + n), "Your scales run from 1 to 1 + n_sigma. n_sigma is the upper end itself: how long is the range from 1 to "
         "n_sigma?"),
        ("scale_range", between(0, n), "Your scales run from 0 to n_sigma. They have to start at 1: this noise never makes a unit smaller on "
         "average."),
        ("scale_range", between(2 - n, n), "Your scales lie evenly around 1. They have to run from 1 to n_sigma."),
        ("scale_range", between(2 - n, 1), "Your scales run downwards from 1. They have to run from 1 up to n_sigma."),
        ("added_twice", between(2, 1 + n), "Your scales run from 2 to 1 + n_sigma: a itself is added once more, as in a + σ · a + μ."),
        ("divided", lambda v: (n - 1 / np.maximum(v, 1e-9)) / (n - 1), "You divide by the scale. The noise multiplies: σ · a + μ."),
        ("log_normal_scale", lambda v: special.ndtr(np.log(np.maximum(v, 1e-300)) / n), "Your scales are exponentials of normal numbers. They "
         "have to be even, from 1 to n_sigma."),
        *(("normal_scale", normal(mean, sd), "Your scales are normally distributed. Only the jitter of the scale is; the jump itself is even, "
           "from 1 to n_sigma.") for mean, sd in ((1, n - 1), (1, n), (0, n), (1, (n - 1) / 2), (1, 1))),
    ]  # fmt: skip


def check_jitter(ask: Ask, rng) -> None:
    r = rng.uniform(0.2, 0.4)
    m, _ = noisy(ask, torch.zeros(20, 100, dtype=torch.float64), TINY, 1 + TINY, r, TINY)
    check_own(m)
    judge_draws(m, between(-r, r), m_mistakes(r), "The jitters of the shift")
    # Scales far apart, so that a jitter relative to the scale shows. Less their unit's mean, which 100 examples give well.
    r = rng.uniform(0.2, 0.3)  # so that its square shows, too
    s, _ = noisy(ask, torch.ones(100, 20, dtype=torch.float64), TINY, 4.0, TINY, r)
    check_own(s)
    around = (s - s.mean(0)) * math.sqrt(100 / 99)
    relative = around / s.mean(0)
    if fits(relative, normal(0, r)) and not fits(around, normal(0, r)):
        if distance(relative, normal(0, r)) < min(distance(around, cdf) for _, cdf, _ in s_mistakes(r)):
            raise wrong("jitter_relative")
    judge_draws(around, normal(0, r), s_mistakes(r), "The jitters of the scale")


def check_own(values: torch.Tensor) -> None:
    """`values`: (examples, units), jittered. No two are the same."""
    if equal(values, 0):
        raise wrong("jitter_forgotten")
    if equal(values, 1):
        raise wrong("jitter_shared")


def m_mistakes(r: float) -> list[tuple]:
    return [
        ("jitter_not_centred", between(0, r), "Your m runs from μ to μ + r_mu. It has to lie on both sides of μ."),
        ("jitter_not_centred", between(-r / 2, r / 2), "Your m stays within r_mu / 2 of μ. It has to reach from μ − r_mu to μ + r_mu."),
        ("jitter_range", between(-2 * r, 2 * r), "Your m reaches 2 r_mu away from μ. It has to reach from μ − r_mu to μ + r_mu."),
        ("r_squared", between(-r * r, r * r), "You square r_mu. m has to reach from μ − r_mu to μ + r_mu."),
        ("jitter_distribution", normal(0, r), "Your m is normally distributed around μ. Of the two jitters only that of the scale is normal; m is even."),
    ]  # fmt: skip


def s_mistakes(r: float) -> list[tuple]:
    return [
        ("r_sigma_as_variance", normal(0, math.sqrt(r)), "Your s has variance r_sigma. In this course r_sigma is the standard deviation."),
        ("r_squared", normal(0, r * r), "The standard deviation of your s is the square of r_sigma. It has to be r_sigma itself."),
        ("jitter_one_sided", lambda v: 2 * special.ndtr(np.maximum(v / r + math.sqrt(2 / math.pi), 0)) - 1, "Your s is never smaller than "
         "σ. It has to lie on both sides of it."),
        ("jitter_distribution", between(-r, r), "Your s is drawn evenly around σ. The jitter of the scale is normal, with standard deviation r_sigma."),
    ]  # fmt: skip


def check_images(ask: Ask, rng) -> None:
    shape = (4, 8, *(int(n) for n in rng.integers(3, 6, 2)))
    n_mu, n_sigma = rng.uniform(0.5, 3), rng.uniform(1.5, 3)
    out, _ = noisy(ask, torch.zeros(shape, dtype=torch.float64), n_mu, n_sigma, TINY, TINY)
    values = out.transpose(0, 1).flatten(1)  # (channels, samples)
    if not equal(values, 1):
        raise wrong("per_position")
    if equal(values, 0):
        raise wrong("one_for_all")
    out, _ = noisy(ask, torch.zeros(shape, dtype=torch.float64), TINY, 1 + TINY, 0.3, 0.1)
    if equal(out.flatten(2), 2) or equal(out, 0) or equal(out, 1):
        raise wrong("jitter_shared")


def check_q1(ask: Ask, rng, marks: Marks) -> None:
    noisy(ask, torch.zeros(3, 4), *PAPER)  # what is formally wrong is said once, before any part
    with marks.part(2):
        check_jump(ask, rng)
    for check in (check_jitter, check_images):
        with marks.part(1):
            if marks.feedback and marks.feedback[0].code in ("per_example", "per_value"):
                raise marks.feedback[0]  # where the jump is shared by the wrong values, the jitter cannot be told from it
            check(ask, rng)


# ---- q2: three networks that carry it --------------------------------------------------------------------------------


def normalized(z, by, correction=0, over=0, power=1, centre=True, stretch=True):
    z = z - by.mean(over, keepdim=True) if centre else z
    return z / (by.var(over, correction=correction, keepdim=True) + EPS).sqrt() ** power if stretch else z


def hidden(z, kind, first, noise):
    return noise({"plain": lambda: z, "batch": lambda: normalized(z, z), "frozen": lambda: normalized(z, first)}[kind]())


LAYERS = {
    "noise_removed": "The output has no trace of the noise: it equals batch norm of z alone. You add the noise *before* the "
    "normalization. A shift and a scale that the whole batch shares: what does batch norm do to them?",
    "noise_before": "You add the noise before the normalization. Frozen statistics cannot remove it, but they rescale it: then this "
    "network no longer gets the same noise as the others.",
    "noise_forgotten": "This is the network without noise. `noise` is a function that you are handed: where do you call it?",
    "not_normalized": "This network only adds the noise. It has to normalize first.",
    "normalized": "The plain network must not be normalized: it is the comparison, what there was before batch norm.",
    "frozen_for_batch": "You normalize by the statistics of the first batch. Live statistics are those of z, the batch at hand.",
    "live_statistics": "You normalize by the statistics of z, so they follow the network. Then this is batch norm again, and no control. "
    "Which tensor remembers the first batch?",
    "live_mean": "The spread is that of the first batch, the mean is still that of z. A mean that follows the batch removes every "
    "shift: just what this control must not do.",
    "first_noisy": "You put the first batch through the noise before you take its statistics. They are asked of `first` as it is.",
    "live_spread": "The mean is that of the first batch, the spread is still that of z. A spread that follows the batch removes every "
    "change of scale: just what this control must not do.",
    "first_itself": "You return the first batch, normalized. Its statistics are wanted, of z: the batch at hand.",
    "scale_only": "You divide by the spread, but the mean is not subtracted.",
    "mean_only": "You subtract the mean, but do not divide by the spread. This is about scale, too.",
    "whole_layer": "You use one mean and one variance for the whole layer. Each unit needs those of its own column.",
    "noise_twice": "The noise is in your output twice. It is called once, at the end.",
    "noise_beside": "You add noise(y) to y. `noise` gives back y with the noise in it, not the noise alone.",
    "activated": "There is a ReLU in your function. `hidden` ends where the activation begins: it is applied to what you return.",
    "features": "You average over the units of each example. Each unit needs the mean and variance of its own column.",
    "unbiased": "Your variance divides by N − 1; batch norm divides by N. Look up `correction` in torch.var.",
    "variance": "You divide by the variance. Doubling z and first together would then halve the output; it should not change.",
    "eps": "Your ε is not EPS, or stands outside the root. It hardly shows until a unit is nearly constant: what do you divide by "
    "where the variance is smaller than EPS?",
    "gradient_cut": "The numbers are right, but no gradient (or only a part of it) comes back through your function: you detach z, or go "
    "through numpy or plain numbers. The network in question 5 trains through this function.",
    "statistics_cut": 'For "batch" the mean and variance depend on z, too: keep them in the graph.',
}  # fmt: skip

# What each wrong order or wrong statistic computes, by kind: code, formula of z, first and noise.
FORMULAS = {
    "plain": [
        ("noise_forgotten", lambda z, first, noise: z),
        ("normalized", lambda z, first, noise: noise(normalized(z, z))),
        ("normalized", lambda z, first, noise: normalized(noise(z), noise(z))),
        ("normalized", lambda z, first, noise: normalized(z, z)),
        ("normalized", lambda z, first, noise: noise(normalized(z, first))),
    ],
    "batch": [
        ("noise_removed", lambda z, first, noise: normalized(noise(z), noise(z))),
        ("noise_forgotten", lambda z, first, noise: normalized(z, z)),
        ("not_normalized", lambda z, first, noise: noise(z)),
        ("frozen_for_batch", lambda z, first, noise: noise(normalized(z, first))),
        ("features", lambda z, first, noise: noise(normalized(z, z, over=1))),
        ("unbiased", lambda z, first, noise: noise(normalized(z, z, correction=1))),
        ("variance", lambda z, first, noise: noise(normalized(z, z, power=2))),
        ("whole_layer", lambda z, first, noise: noise(normalized(z, z, over=(0, 1)))),
        ("scale_only", lambda z, first, noise: noise(normalized(z, z, centre=False))),
        ("mean_only", lambda z, first, noise: noise(normalized(z, z, stretch=False))),
    ],
    "frozen": [
        ("noise_removed", lambda z, first, noise: normalized(noise(z), noise(z))),
        ("noise_before", lambda z, first, noise: normalized(noise(z), first)),
        ("noise_forgotten", lambda z, first, noise: normalized(z, first)),
        ("not_normalized", lambda z, first, noise: noise(z)),
        ("live_statistics", lambda z, first, noise: noise(normalized(z, z))),
        ("live_statistics", lambda z, first, noise: normalized(z, z)),
        ("live_mean", lambda z, first, noise: noise(normalized(z - z.mean(0) + first.mean(0), first))),
        ("first_noisy", lambda z, first, noise: noise(normalized(z, noise(first)))),
        ("scale_only", lambda z, first, noise: noise(normalized(z, first, centre=False))),
        ("mean_only", lambda z, first, noise: noise(normalized(z, first, stretch=False))),
        ("features", lambda z, first, noise: noise(normalized(z, first[: len(z)], over=1))),
        ("unbiased", lambda z, first, noise: noise(normalized(z, first, correction=1))),
        ("variance", lambda z, first, noise: noise(normalized(z, first, power=2))),
        ("whole_layer", lambda z, first, noise: noise(normalized(z, first, over=(0, 1)))),
        ("live_spread", lambda z, first, noise: noise((z - first.mean(0)) / (z.var(0, correction=0) + EPS).sqrt())),
        ("live_statistics", lambda z, first, noise: noise(normalized(z, z) * first.std(0, correction=0) + first.mean(0))),
        ("live_statistics", lambda z, first, noise: noise(normalized(z, z) * first.std(0) + first.mean(0))),
        ("first_itself", lambda z, first, noise: noise(normalized(first, first))[: len(z)]),
        ("first_itself", lambda z, first, noise: noise(normalized(first, first)[: len(z)])),
    ],
}


for kind, clean in {"plain": lambda z, first: z, "batch": lambda z, first: normalized(z, z), "frozen": normalized}.items():
    FORMULAS[kind] += [
        ("noise_twice", lambda z, first, noise, clean=clean: noise(noise(clean(z, first)))),
        ("noise_twice", lambda z, first, noise, clean=clean: noise(clean(noise(z), first))),
        ("noise_beside", lambda z, first, noise, clean=clean: clean(z, first) + noise(clean(z, first))),
        ("activated", lambda z, first, noise, clean=clean: torch.relu(noise(clean(z, first)))),
        ("activated", lambda z, first, noise, clean=clean: noise(torch.relu(clean(z, first)))),
        ("activated", lambda z, first, noise, clean=clean: noise(clean(torch.relu(z), first))),
    ]


def misconceptions(kind: str) -> list[Misconception]:
    def formula(compute):
        return lambda z, _, first, noise: compute(z, first, noise)

    return [Misconception(code, f"kind={kind!r}: {LAYERS[code]}", formula(compute)) for code, compute in FORMULAS[kind]]


MISTAKES = {kind: misconceptions(kind) for kind in FORMULAS}


def describe_hidden(got, trial) -> str:
    z, kind, *_ = trial.args
    unit = int((got - trial.right[0]).abs().amax(0).argmax())
    return (
        f"kind={kind!r}: unit {unit} of your output has mean {got[:, unit].mean():.3g} and standard deviation "
        f"{got[:, unit].std(correction=0):.3g}. In z it has {z[:, unit].mean():.3g} and {z[:, unit].std(correction=0):.3g}; which "
        "steps lie between, and in which order?"
    )


def check_q2(ask: Ask, rng, marks: Marks) -> None:
    for kind in FORMULAS:
        trials = [ask.trial(layer(rng, kind, examples, units), hidden) for examples, units in ((5, 5), (6, int(rng.integers(3, 9))))]
        # Noise of its own for each value: batch norm cannot remove it, so that noise before it is not taken for none at all.
        trials.append(ask.trial(layer(rng, kind, 5, 4, own=True), hidden))
        narrow = ask.trial(layer(rng, kind, 6, 5, spread=3e-3), hidden)  # variances about as large as EPS
        with marks.part(1):
            judge(trials, 0, "Your output", MISTAKES[kind], describe_hidden)
            if any(changed(trial) for trial in trials):
                raise Feedback(
                    "in_place",
                    f"kind={kind!r}: the output is right, but z or first has changed. Make a new tensor.",
                )
            if off(output(narrow, 0, "Your output"), narrow.right[0]) > narrow.tolerance:
                raise Feedback("eps", f"kind={kind!r}: {LAYERS['eps']}")
            check_way_back(ask, layer(rng, kind, 6, 4))


def layer(rng, kind: str, examples: int, units: int, own: bool = False, spread: float = 1) -> tuple:
    """Arguments of `hidden`: two batches whose statistics differ; noise far from 1 and 0, for each unit or each value its `own`."""
    z, first = (spread * columns(rng, n, units) for n in (examples, examples + (0 if own else 2)))
    shape = (examples, units) if own else units
    scale, shift = torch.from_numpy(rng.uniform(1.5, 3, shape)), torch.from_numpy(rng.uniform(1, 3, shape))
    return z, kind, first, Given("ex03", "fixed_noise", (scale, shift))


def check_way_back(ask: Ask, args: tuple) -> None:
    """For "batch" the gradient has three roads, two of them through the statistics."""
    found, kind = gradient_through(ask, *args), args[1]
    right = cubes_gradient(hidden, *widened(args))
    if isinstance(found, str) or found and off(found[1], right) > TOLERANCE[torch.float32]:
        more = f" {LAYERS['statistics_cut']}" if kind == "batch" else ""
        raise Feedback("gradient_cut", f"kind={kind!r}: {LAYERS['gradient_cut']}{more}")


def columns(rng, examples: int, units: int) -> torch.Tensor:
    """(examples, units), each unit with a mean and a spread of its own."""
    z = np.stack([rng.permutation(np.linspace(-1.5, 1.5, examples)) for _ in range(units)], 1)
    z = z + 0.1 * rng.standard_normal(z.shape)
    return torch.from_numpy(z * rng.uniform(0.5, 3, units) + rng.uniform(-3, 3, units)).float()


# ---- q3: what a comparison can say -----------------------------------------------------------------------------------

NETWORKS = {name + noise: (name, bool(noise)) for noise in ("", " + noise") for name in ("plain", "frozen", "batch")}
RIVALS = {
    "harmless": {"plain", "plain + noise"},
    "scale": {"frozen + noise", "batch + noise"},
    "unfit": {"frozen", "frozen + noise"},
    "ahead": {"frozen", "batch"},
}  # fmt: skip


def name_of(word) -> str:
    """The network that `word` names, however it is spaced."""
    name = " + ".join(part.strip() for part in word[:100].lower().split("+")) if isinstance(word, str) else ""
    if name not in NETWORKS:
        raise Feedback("wrong_type", f"A comparison is a list of two networks out of {', '.join(map(repr, NETWORKS))}.")
    return name


def check_comparison(rival: str, pair) -> None:
    if not isinstance(pair, list) or len(pair) != 2:
        raise Feedback("wrong_type", f"{rival!r}: a comparison is a list of two networks, such as ['plain', 'batch'].")
    one, other = map(name_of, pair)
    if {one, other} == RIVALS[rival]:
        return
    differ = [a != b for a, b in zip(NETWORKS[one], NETWORKS[other])]
    asked = [a != b for a, b in zip(*(NETWORKS[name] for name in RIVALS[rival]))]
    if not any(differ):
        raise Feedback("same_network", f"{rival!r}: you compare a network with itself.")
    if all(differ):
        raise Feedback(
            "confounded",
            f"{rival!r}: {one!r} and {other!r} differ in two things, the statistics and the noise. If they end differently, "
            "which of the two did it?",
        )
    factor = "the noise" if differ[1] else "the statistics"
    if differ != asked:
        raise Feedback(
            "wrong_factor",
            f"{rival!r}: {one!r} and {other!r} differ in {factor} only. Read the sentence again: a change of what "
            "would it show itself in?",
        )
    raise Feedback(
        "wrong_background",
        f"{rival!r}: {one!r} and {other!r} differ in {factor} only, which is right. But the sentence is about that "
        "difference in other networks: which ones?",
    )


def check_q3(ask: Ask, rng, marks: Marks) -> None:
    got = ask.value()
    if not isinstance(got, dict):
        raise Feedback("wrong_type", f"Answer with a dict that has a comparison for each of {', '.join(map(repr, RIVALS))}.")
    for rival in RIVALS:
        with marks.part(1):
            if rival not in got:
                raise Feedback("incomplete", f"There is no comparison for {rival!r} yet.")
            check_comparison(rival, got[rival])


# ---- q4: a paired interval -------------------------------------------------------------------------------------------


def t_quantile(p, df):
    return float(special.stdtrit(df, p))


def half_width(d, n=None, df=None, p=0.975, t=None, correction=1):
    n = n or len(d)
    return (t or t_quantile(p, df or len(d) - 1)) * d.std(correction=correction) / math.sqrt(n)


def pooled(a, b):
    return t_quantile(0.975, 2 * len(a) - 2) * math.sqrt((a.var() + b.var()) / len(a))


def welch(a, b):
    va, vb = float(a.var()), float(b.var())
    return t_quantile(0.975, (va + vb) ** 2 / (va**2 + vb**2) * (len(a) - 1)) * math.sqrt((va + vb) / len(a))


HALVES = {
    "unpaired": ("Your interval is as wide as if the two lists had nothing to do with each other. The seeds come in pairs: add 10 "
                 "to both numbers of one seed, and no difference changes. Does your width?",
                 [pooled, welch, lambda a, b: t_quantile(0.975, len(a) - 1) * math.sqrt((a.var() + b.var()) / len(a)),
                  lambda a, b: t_quantile(0.975, len(a) - 1) * (a.std() + b.std()) / math.sqrt(len(a)),
                  lambda a, b: 1.96 * math.sqrt((a.var() + b.var()) / len(a))]),
    "z_for_t": ("You use 1.96, the normal quantile. The standard deviation is itself estimated, from a handful of seeds: which "
                "distribution allows for that, and what does it need to know?",
                [lambda a, b: half_width(a - b, t=1.96), lambda a, b: half_width(a - b, t=2.0), lambda a, b: half_width(a - b, t=1.96, correction=0)]),
    "sd_for_se": ("Your width is that of single seeds: it would not shrink with more of them. The interval is for their *mean*: "
                  "what is the standard deviation of a mean of n values?",
                  [lambda a, b: half_width(a - b, n=1), lambda a, b: 1.96 * (a - b).std(), lambda a, b: (a - b).std()]),
    "n_without_root": ("You divide the standard deviation by n. Four times as many seeds make a mean twice as certain, not four times.",
                       [lambda a, b: half_width(a - b) / math.sqrt(len(a))]),
    "variance": ("You use the variance of the differences where their standard deviation belongs. Does that have the unit of a mean?",
                 [lambda a, b: half_width(a - b) * (a - b).std(), lambda a, b: half_width(a - b) * (a - b).std() / math.sqrt(len(a))]),
    "corrected_twice": ("You divide by the root of n − 1, although the standard deviation has its n − 1 already. The error of a mean "
                        "has the root of n.", [lambda a, b: half_width(a - b, n=len(a) - 1)]),
    "level": ("Your quantile is that of a 99 % interval: 2.5 % are left outside on each side.", [lambda a, b: half_width(a - b, p=0.995)]),
    "one_arm": ("Your width is that of one of the two lists. The interval is for the differences: how much do *they* vary?",
                [lambda a, b: half_width(a), lambda a, b: half_width(b)]),
    "pairs_broken": ("You sort the lists before you subtract. Then the number of one seed meets that of another.",
                     [lambda a, b: half_width(a.sort().values - b.sort().values)]),
    "population": ("Your standard deviation divides by n. The mean is estimated from the same seeds, which costs one of them.",
                   [lambda a, b: half_width(a - b, correction=0)]),
    "one_sided": ("Your quantile leaves 5 % on one side. A 95 % interval leaves 5 % on both sides together.",
                  [lambda a, b: half_width(a - b, p=0.95), lambda a, b: half_width(a - b, t=1.645), lambda a, b: -half_width(a - b, p=0.95)]),
    "degrees": ("Your t quantile has another number of degrees of freedom. One was used up by the mean: how many of n are left?",
                [lambda a, b, more=more: half_width(a - b, df=len(a) + more) for more in (0, -2)]
                + [lambda a, b: half_width(a - b, df=2 * len(a) - 2)]),
    "no_quantile": ("Your ends are one standard error away from the mean. How many standard errors make 95 %?",
                    [lambda a, b: half_width(a - b, t=1.0)]),
}  # fmt: skip
RANGE = "You report how far single seeds reach. More seeds would make that no narrower, although they tell you more about the mean."
RELATIVE = "You divide by one of the two. The effect is a difference, in the unit of a and b; a − b is asked for."
RATIOS = [
    lambda a, b: a / b,
    lambda a, b: a / b - 1,
    lambda a, b: 100 * (a / b - 1),
    lambda a, b: (a - b) / b.mean(),
    lambda a, b: 100 * (a - b) / b.mean(),
]
ORDER = "The order is another one: return the mean first, then low, then high."
REVERSED = "Your numbers belong to b − a. The effect of a over b is a − b: positive when a is larger."
SWAPPED = (
    "Your lower and upper end are the wrong way round: return mean, low, high. If that is the order in your code, look at the sign "
    "of your quantile. (t_quantile(0.025, …) is negative.)"
)


def paired_interval(a, b):
    mean, half = (a - b).mean(), half_width(a - b)
    return mean, mean - half, mean + half


def interval_mistakes(end: int) -> list[Misconception]:
    """Misconceptions of the lower (end=−1) or the upper end (+1), each also with the sign of the mean reversed."""

    def formula(half, sign):
        return lambda a, b: sign * (a - b).mean() + end * half(a, b)

    right = lambda a, b: half_width(a - b)  # noqa: E731
    return [
        Misconception("reversed", REVERSED, formula(right, -1)),
        Misconception("ends_swapped", SWAPPED, lambda a, b: (a - b).mean() - end * right(a, b)),
        Misconception("order", ORDER, lambda a, b: (a - b).mean()),
        Misconception("around_zero", "Your interval lies around 0. It has to lie around the mean.", lambda a, b: torch.as_tensor(end * right(a, b))),
        Misconception("range", RANGE, lambda a, b: (a - b).max() if end > 0 else (a - b).min()),
        Misconception("range", RANGE, lambda a, b: (a - b).quantile(0.975 if end > 0 else 0.025)),
        *(Misconception("relative", RELATIVE, lambda a, b, ratio=ratio: paired_interval(ratio(a, b), torch.zeros_like(a))[1 if end < 0 else 2]) for ratio in RATIOS),
        Misconception("no_quantile", "You return the half width itself. The ends of the interval lie that far from the mean.", lambda a, b: torch.as_tensor(right(a, b))),
        *(Misconception(code, message, formula(half, 1)) for code, (message, halves) in HALVES.items() for half in halves),
        *(Misconception(code, f"{message}\n{REVERSED}", formula(half, -1)) for code, (message, halves) in HALVES.items() for half in halves),
    ]  # fmt: skip


LOWER, UPPER = interval_mistakes(-1), interval_mistakes(1)
MEAN = [
    Misconception("reversed", REVERSED, lambda a, b: (b - a).mean()),
    Misconception("order", ORDER, lambda a, b: paired_interval(a, b)[1]),
    *(Misconception("relative", RELATIVE, lambda a, b, ratio=ratio: ratio(a, b).mean()) for ratio in RATIOS),
    Misconception("median", "You take the median of the differences. The interval is one for their mean.", lambda a, b: (a - b).median()),
    Misconception("median", "You take the median of the differences. The interval is one for their mean.", lambda a, b: (a - b).quantile(0.5)),
    Misconception("absolute", "You average absolute differences. Seeds that go the other way have to count against the effect.", lambda a, b: (a - b).abs().mean()),
]  # fmt: skip


def describe_interval(index: int):
    def describe(got, trial):
        a, b, mean = trial.args[0], trial.args[1], float((trial.args[0] - trial.args[1]).mean())
        if index == 0:
            return f"For a = {rounded(a)} and b = {rounded(b)} your mean is {float(got):.4g}. Subtract seed by seed, by hand."
        return (
            f"For {len(a)} seeds with differences {rounded(a - b)}, whose mean is {mean:.4g}, your {'lower' if index == 1 else 'upper'} "
            f"end is {float(got):.4g}, a distance of {abs(float(got) - mean):.4g}. Quantile times standard error: what are the two?"
        )

    return describe


def rounded(values: torch.Tensor) -> list[float]:
    return [round(float(v), 1) for v in values]


def check_q4(ask: Ask, rng, marks: Marks) -> None:
    trials = []
    for n in (4, 5, 8):
        luck = 20 * rng.permutation(np.linspace(-1, 1, n))  # of the seed: shared, so pairing matters
        apart = 8 * rng.permutation(np.linspace(-1, 1, n)) + rng.standard_normal(n)
        pair = (50 + luck + apart + rng.choice([-4, 4]) * rng.uniform(1, 1.5), 50 + luck)
        trials.append(ask.trial(tuple(map(torch.from_numpy, pair)), paired_interval, 1e-3))  # a printed table will do
    with marks.part(1):
        judge(trials, 0, "The mean", MEAN, describe_interval(0))
    with marks.part(1):
        judge(trials, 1, "The lower end", LOWER, describe_interval(1))
    with marks.part(1):
        judge(trials, 2, "The upper end", UPPER, describe_interval(2))


# ---- q5: what the noise costs ----------------------------------------------------------------------------------------

DEEP, SHALLOW, SEEDS, STEPS, WIDTH, BATCH, RATE = 10, 4, 24, 50, 32, 64, 0.1


def experiment(hidden, noise, network: str, depth: int) -> torch.Tensor:
    """Training accuracy, in points, of one of NETWORKS after STEPS steps: one number per seed, measured without noise.

    Digits, `depth` hidden layers of ReLU units, He initialization, gradient descent. A seed has the same first weights and
    the same batches in every network. To `hidden` a unit is a unit, so all seeds run as one layer of SEEDS · WIDTH units.
    """
    kind, with_noise = NETWORKS[network]
    data, draw = load("digits"), torch.Generator().manual_seed(depth)
    sizes = [data.features, *[WIDTH] * depth, data.classes]
    weights = [torch.randn(SEEDS, n, m, generator=draw) * math.sqrt(2 / n) for n, m in itertools.pairwise(sizes)]
    biases = [torch.zeros(SEEDS, 1, m) for m in sizes[1:]]
    parameters = [p.requires_grad_() for p in weights + biases]
    first = {}  # per layer, its input in the very first batch

    def forward(x, noise):
        for layer, (weight, bias) in enumerate(zip(weights, biases)):
            z = torch.baddbmm(bias, x, weight)  # (seeds, examples, units)
            if layer == depth:
                return z
            together = z.transpose(0, 1).reshape(z.shape[1], -1)
            first.setdefault(layer, together.detach())
            x = torch.relu(hidden(together, kind, first[layer], noise)).reshape(z.shape[1], SEEDS, -1).transpose(0, 1)

    def silent(a):
        return a

    def loud(a):
        return noise(a, *PAPER)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(106)
        batches = torch.randint(len(data.x_train), (STEPS, SEEDS, BATCH), generator=draw)
        with torch.no_grad():
            forward(data.x_train[batches[0]], silent)
        for batch in batches:
            logits = forward(data.x_train[batch], loud if with_noise else silent)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), data.y_train[batch].flatten()) * SEEDS
            with torch.no_grad():
                for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
                    p -= RATE * gradient
        with torch.no_grad():
            logits = forward(data.x_train.expand(SEEDS, -1, -1), silent)
    return 100 * (logits.argmax(-1) == data.y_train).double().mean(1)


@lru_cache
def ours(network: str, depth: int) -> torch.Tensor:
    with torch.enable_grad():
        return experiment(hidden, covariate_noise, network, depth)


def cost(kind: str, depth: int) -> torch.Tensor:
    return ours(kind, depth) - ours(f"{kind} + noise", depth)


# How far from ours a mean may be. Other draws of the same noise move the three by 1.9, 0.7 and 2.1 points (standard
# deviation over 22 draws); the nearest mistake is 9 points away from the cost of batch norm, 13 from the others.
WITHIN = {"frozen": 9.0, "batch": 5.0, "difference": 10.0}
ASKED = {"frozen": "what the noise costs frozen statistics", "batch": "what the noise costs batch norm",
         "difference": "how much more it costs frozen statistics than batch norm"}  # fmt: skip
LEVEL = "This is an accuracy, not a cost. A cost is a difference of two accuracies, with and without noise, of the same network."
NO_BASELINE = (
    "This compares the two noisy networks with each other. How far apart do the two end *without* noise? The cost is what the noise "
    "takes from each, measured from its own start."
)
SHALLOW_ONE = f"This is the cost with {SHALLOW} layers; {DEEP} are asked for."
SHALLOW_ALONE = (
    f"This is near the cost with {SHALLOW} layers, your other numbers are not. If it does belong to {DEEP} layers, your network "
    "trains differently from ours, and `hidden` or `covariate_noise` may be at fault: run their checks again."
)
SIGN = "The sign is the wrong way round: a cost is positive when the noise takes something away."


def costs(depth: int) -> dict[str, torch.Tensor]:
    frozen, batch = cost("frozen", depth), cost("batch", depth)
    return {"frozen": frozen, "batch": batch, "difference": frozen - batch}


def looks_shallow(what: str, got) -> bool:
    """Whether the mean in an entry of the answer is nearer to the cost with few layers than to the one asked for."""
    try:
        mean = three_numbers(what, got)[0]
    except Feedback:
        return False
    shallow, deep = (abs(mean - float(costs(depth)[what].mean())) for depth in (SHALLOW, DEEP))
    return shallow < deep


def cost_mistakes(what: str, alone: bool) -> list[tuple]:
    right, shallow = costs(DEEP), costs(SHALLOW)
    mean = lambda values: float(values.mean())  # noqa: E731
    mistakes = [("reversed", -mean(right[what]), SIGN), ("other_depth", mean(shallow[what]), SHALLOW_ALONE if alone else SHALLOW_ONE)]
    if what == "difference":
        mistakes += [
            ("no_baseline", sign * mean(ours("batch + noise", DEEP) - ours("frozen + noise", DEEP)), NO_BASELINE)
            for sign in (1, -1)
        ]
        mistakes += [("summed", mean(right["frozen"] + right["batch"]), "This is the sum of the two costs. How much *more* does it cost one?")]
    else:
        other = {"frozen": "batch", "batch": "frozen"}[what]
        mistakes += [("other_network", mean(right[other]), f"This is what the noise costs the other network, {other!r}.")]
        mistakes += [("level", mean(ours(name, DEEP)), LEVEL) for name in (what, f"{what} + noise")]
    return mistakes


def three_numbers(what: str, got) -> list[float]:
    items = list(got) if isinstance(got, torch.Tensor) and got.dim() == 1 else got
    if isinstance(items, list) and len(items) == 3:
        items = [i.item() if isinstance(i, torch.Tensor) and i.numel() == 1 else i for i in items]
        if all(map(is_number, items)):
            return [float(i) for i in items]
    raise Feedback("wrong_type", f"{what!r}: give [mean, low, high], three numbers.")


def check_cost(what: str, mean: float, low: float, high: float, alone: bool) -> None:
    """`alone`: whether no more than one of the three numbers could be one with few layers."""
    right = paired_interval(costs(DEEP)[what], 0)
    if max(abs(mean), abs(low), abs(high)) <= 1:
        raise Feedback("fraction", f"{what!r}: give points of accuracy, 0 to 100, not fractions.")
    otherwise = (
        f"{what!r}: asked for is {ASKED[what]}, {DEEP} layers. {mean:.4g} points is far from what our own layers give. "
        "Does your line use the right two networks, and did you restart and run all cells after your last change?"
    )
    if abs(mean - float(right[0])) > WITHIN[what]:
        mistakes = sorted(cost_mistakes(what, alone), key=lambda mistake: abs(mistake[1] - mean))
        judge_number(mean, float(right[0]), WITHIN[what], [(code, at, f"{what!r}: {say}") for code, at, say in mistakes], otherwise)
    if not low < mean < high:
        raise Feedback("ends_swapped", f"{what!r}: the mean has to lie between low and high. Give [mean, low, high].")
    half, theirs = float(right[2] - right[0]), (high - low) / 2
    if abs((low + high) / 2 - mean) > 0.2 * half + 0.5:
        raise Feedback(
            "lopsided",
            f"{what!r}: the ends have to lie equally far from the mean. Did you copy all three from the same line?",
        )
    if theirs > 3 * half:
        raise Feedback("sd_for_se", f"{what!r}: your interval is several times too wide. Is it the spread of single seeds?")
    if not half / 1.8 < theirs < half * 1.8:
        raise Feedback(
            "width",
            f"{what!r}: the mean is right, but your interval is {'wider' if theirs > half else 'narrower'} than it can "
            f"be with {SEEDS} seeds. Take it from your paired_interval.",
        )


def check_q5(ask: Ask, rng, marks: Marks) -> None:
    got = ask.value()
    if not isinstance(got, dict):
        raise Feedback(
            "wrong_type",
            f"Answer with a dict that has [mean, low, high] for each of {', '.join(map(repr, ASKED))}.",
        )
    given, shallow = [], [what for what in ASKED if what in got and looks_shallow(what, got[what])]
    for what in ASKED:
        with marks.part(1):
            if what not in got:
                raise Feedback("incomplete", f"There is nothing for {what!r} yet.")
            numbers = three_numbers(what, got[what])
            if numbers in given:
                raise Feedback(
                    "given_twice",
                    f"{what!r}: you have given these three numbers already. Which networks are asked for here?",
                )
            given.append(numbers)
            check_cost(what, *numbers, alone=len(shallow) == 1)


READY_MADE = ("ttest_rel", "ttest_1samp", "ttest_ind", "interval", "confidence_interval", "bootstrap")
QUESTIONS = {
    "q1": Question("covariate_noise", 4, check_q1),
    "q2": Question("hidden", 3, check_q2),
    "q3": Question("answer_q3", 4, check_q3, VALUE),
    "q4": Question("paired_interval", 3, check_q4, Rules(banned=READY_MADE)),
    "q5": Question("answer_q5", 3, check_q5, VALUE),
    "q6": Written(
        "answer_q6",
        {
            "says what surviving the noise shows, and about which part of the 2015 story": 1,
            "names the comparison that carries the conclusion, with your own numbers, at both depths": 1,
            "names one thing the experiment cannot show, and an experiment that would": 1,
        },
        words=(60, 220),
    ),
}
