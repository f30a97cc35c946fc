"""ex05: layer and RMS norm, group norm, weight norm with its gradient, what each cannot see, and statistics of two values.

The right answers are computed in float64. As in ex01, each formula has exchangeable parts, so a misconception is a row of
a table. What a normalizer is blind to is tried out on random numbers, not looked up; the experiment is run again.
"""

from functools import lru_cache

import torch

from .calls import is_number
from .checks import VALUE, Ask, Misconception, Question, Written, changed, judge, off
from .ex01 import affine, draw_eps, spread, transposed
from .ex03 import cubes_gradient, gradient_through
from .feedback import Feedback, Marks
from .shortcuts import Rules

ROOTS = {
    "eps_outside": lambda v, e: v.sqrt() + e,
    "eps_forgotten": lambda v, e: v.sqrt(),
    "eps_fixed": lambda v, e: (v + 1e-5).sqrt(),
    "no_root": lambda v, e: v + e,
    "no_root_no_eps": lambda v, e: v,
}

SAYINGS = {
    "batch": "You average over the first axis, the examples: that is batch norm. Here each example is normalized by its own "
    "values, so a batch of one has to work too. Which axis disappears when you take the mean?",
    "everything": "You use one mean and one size for the whole input. Then an example's output depends on who else is in "
    "the batch: call your function with one example alone and compare.",
    "positions": "For x of shape (N, T, C) you average over the tokens as well. Every token is normalized by its own C "
    "features: how many means are there in a text of T tokens?",
    "unbiased": "Your variance divides by the count minus one. The normalizers describe the values they have and estimate "
    "nothing: look up `correction` in torch.var.",
    "eps_outside": "You add ε after the root. Write down √(v + ε) and √v + ε for v = 0: which one is asked for?",
    "eps_forgotten": "The ε that your function is given has no effect, or is a fixed number. Call it with eps=0.5 and "
    "eps=1e-5 and compare.",
    "no_root": "You divide by a mean square, not by its root. Then doubling x would halve the output; it should not change "
    "(but for ε). What has the same unit as x?",
    "affine_forgotten": "Your output is normalized, but γ and β do nothing yet.",
    "gamma_forgotten": "γ has no effect on your output: the spread is right only where γ = 1.",
    "beta_forgotten": "β has no effect on your output.",
    "affine_axis": "γ and β are multiplied along another axis. They have one value a feature (channel), the same for every "
    "example: give them a shape that lines up with that axis.",
    "never_centred": "You never take the mean off. With centre=True an example is centred first, so its size is a standard "
    "deviation.",
    "always_centred": "With centre=False you still return layer norm. RMS norm takes nothing off: add 10 to all features of "
    "an example and see whether your output changes; it should.",
    "std_for_rms": "With centre=False you leave the mean in the numerator, but you divide by the standard deviation, which "
    "is the size around the mean. RMS norm divides by the root of the mean of x²: is that the same number?",
    "centred_over_rms": "With centre=False you divide by the root mean square, but still subtract the mean on top.",
    "beta_in_rms": "With centre=False you still add β. RMS norm takes no mean off and puts none back: it has γ alone.",
    "length": "You divide by the length of x, the root of the *sum* of squares. It is to be the root of their *mean*: how "
    "large is one output for 4 features, and how large for 4 000?",
    "interleaved": "Your groups are made of every second, third, … channel. A group is a block of neighbouring channels: "
    "channels 0 to C/G − 1 come first. Which of `reshape(N, G, C // G, …)` and `reshape(N, C // G, G, …)` does that?",
    "with_batch": "Your statistics run over the examples too. In group norm every example has its own: compare the output "
    "for one image alone with its output in a batch.",
    "per_pixel": "You average over the channels of a group, pixel by pixel. The positions belong to the same statistic: "
    "how many numbers share a mean when 6 channels of 4 × 4 pixels are cut into 2 groups?",
    "groups_swapped": "You take `groups` as the number of channels in a group. It is the number of groups: with groups=1 "
    "all channels share a statistic.",
    "one_group": "The number of groups has no effect: you always normalize over all channels of an image, which is layer norm.",
    "instance": "The number of groups has no effect: each channel is normalized by itself, which is instance norm.",
    "batch_norm": "You average over examples and pixels of a channel: that is batch norm. Which axis has to stay, and which "
    "axes belong together?",
    "affine_group": "γ and β have one value a *channel*, not one a group: there are C of them, and only the statistics are "
    "shared.",
}  # fmt: skip


def named(flaws: list[tuple], formula, sayings: dict = SAYINGS) -> list[Misconception]:
    """`flaws`: (code, the exchanged parts of `formula`)."""

    def changed_formula(change):
        return lambda *args: formula(*args, **change)

    return [Misconception(code, sayings[code], changed_formula(change)) for code, change in flaws]


def flawed_roots() -> list[tuple]:
    code_of = {"eps_fixed": "eps_forgotten", "no_root_no_eps": "no_root"}
    return [(code_of.get(name, name), dict(root=root)) for name, root in ROOTS.items()]


def under_root(v, eps):
    return (v + eps).sqrt()


def untouched(trials: list) -> None:
    if any(changed(trial) for trial in trials):
        raise Feedback(
            "in_place",
            "The numbers are right, but the tensors that were handed in have changed. `-=`, `/=` and methods that end in an "
            "underscore write into the caller's tensors: make new ones.",
        )


# ---- q1: layer norm and RMS norm -------------------------------------------------------------------------------------


def layer_norm(x, gamma, beta, eps, centre, *, over=lambda x: -1, subtract=None, around=None, correction=0,
               root=under_root, total=False, use_gamma=True, use_beta=None, along=-1):  # fmt: skip
    """γ (x − mean)/root(mean square, ε) + β over the last axis. `subtract`, `around`, `use_beta`: whether the mean is taken
    off, whether the size is measured around it, whether β is added; all three as `centre` says unless given."""
    subtract, around, use_beta = (centre if part is None else part for part in (subtract, around, use_beta))
    axes = over(x)
    square = x.var(axes, correction=correction, keepdim=True) if around else x.square().mean(axes, keepdim=True)
    if total:
        square = x.square().sum(axes, keepdim=True)
    y = (x - x.mean(axes, keepdim=True) if subtract else x) / root(square, eps)
    side = [1] * x.dim()
    side[along] = -1
    y = y * gamma.reshape(side) if use_gamma else y
    return y + beta.reshape(side) if use_beta else y


ELSEWHERE = [
    ("batch", dict(over=lambda x: 0)),
    ("everything", dict(over=lambda x: tuple(range(x.dim())))),
    ("positions", dict(over=lambda x: tuple(range(1, x.dim())))),
]
LAYER = named(
    [
        *ELSEWHERE,
        ("never_centred", dict(subtract=False, around=False)),
        ("never_centred", dict(subtract=False, around=False, use_beta=False)),
        ("unbiased", dict(correction=1)),
        *flawed_roots(),
        ("affine_forgotten", dict(use_gamma=False, use_beta=False)),
        ("gamma_forgotten", dict(use_gamma=False)),
        ("beta_forgotten", dict(use_beta=False)),
        ("affine_axis", dict(along=0)),
    ],
    layer_norm,
)
RMS = named(
    [
        *ELSEWHERE,
        ("always_centred", dict(subtract=True, around=True)),
        ("always_centred", dict(subtract=True, around=True, use_beta=True)),
        ("std_for_rms", dict(around=True)),
        ("std_for_rms", dict(around=True, use_beta=True)),
        ("centred_over_rms", dict(subtract=True)),
        ("beta_in_rms", dict(use_beta=True)),
        ("length", dict(total=True)),
        ("length", dict(total=True, use_beta=True)),
        *flawed_roots(),
        ("gamma_forgotten", dict(use_gamma=False)),
        ("affine_axis", dict(along=0)),
    ],
    layer_norm,
)


SWAPPED = "γ and β have changed places: the spread of your output is that of β, its mean that of γ. Which one multiplies?"
NOT_CENTRED = "The mean is never subtracted, although the size is measured around it. What should the mean be before β is added?"
SCALED = "γ multiplies β as well. β is added last, after the scaling."
LAYER += [
    Misconception("swapped", SWAPPED, lambda x, gamma, beta, eps, centre: layer_norm(x, beta, gamma, eps, centre)),
    Misconception("mean_not_subtracted", NOT_CENTRED, lambda *args: layer_norm(*args, subtract=False)),
    Misconception("beta_scaled", SCALED, lambda x, gamma, beta, eps, centre: layer_norm(x, gamma, gamma * beta, eps, centre)),
]


def describe_example(got: torch.Tensor, trial) -> str:
    """Mean and size of one example, with γ and β taken off again, beside what they should be."""
    x, gamma, beta, eps, centre = trial.args
    plain = ((got - beta.double() * centre) / gamma.double()).flatten(0, -2)
    row = int((got - trial.right[0]).abs().flatten(0, -2).amax(1).argmax())
    return (
        f"With centre={centre} and ε = {eps:.2g}: with γ and β taken off, one example of your output has mean "
        f"{plain[row].mean():.3g} and root mean square {plain[row].square().mean().sqrt():.3g}. What should the two be for "
        "a small ε?"
    )


def check_gradient(ask: Ask, rng, centre: bool) -> None:
    """The rules allow numpy, and what autograd cannot follow at all raises in question 5 by itself. A part of the gradient would
    go unnoticed there: without the roads through mean and variance all of it survives."""
    x = spread(rng, (3, 6), dtype=torch.float64, axis=0)
    args = (x, *affine(rng, 6, x.dtype), 1e-3, centre)
    found = gradient_through(ask, *args)
    if isinstance(found, tuple) and off(found[1], cubes_gradient(layer_norm, *args)) > 1e-6:
        raise Feedback(
            "gradient_cut",
            f"centre={centre}: the numbers are right, but only a part of the gradient comes back through your function: the mean or "
            "the size is a constant to autograd. They depend on x, and in question 5 you differentiate through them: compute "
            "them from x itself, in torch, without .detach(), no_grad, numpy or plain numbers.",
        )


def check_q1(ask: Ask, rng, marks: Marks) -> None:
    # Spread along an axis of examples: each has a mean and a size of its own. A square one first, see ex01.
    inputs = [
        spread(rng, (5, 5), axis=0),
        transposed(spread(rng, (2, 3, int(rng.integers(4, 8))), axis=1)),
        spread(rng, (1, int(rng.integers(4, 8))), dtype=torch.float64, axis=0),
    ]
    trials = {}
    for centre in (True, False):
        cases = [(x, *affine(rng, x.shape[-1], x.dtype), eps, centre) for x, eps in zip(inputs, draw_eps(rng, len(inputs))[::-1])]
        trials[centre] = [ask.trial(case, layer_norm) for case in cases]
    with marks.part(2):
        judge(trials[True], 0, "Your output for centre=True", LAYER, describe_example)
        untouched(trials[True])
        check_gradient(ask, rng, True)
    with marks.part(1):
        judge(trials[False], 0, "Your output for centre=False", RMS, describe_example)
        untouched(trials[False])
        check_gradient(ask, rng, False)


# ---- q2: group norm --------------------------------------------------------------------------------------------------


def group_norm(x, gamma, beta, groups, eps, *, fold=None, over=(2, 3, 4), correction=0, root=under_root, use_gamma=True,
               use_beta=True, along=1, shared=False):  # fmt: skip
    """`fold(x, groups)`: x with its channels in two axes; `over`: the axes of that which share a statistic."""
    fold = fold or (lambda x, groups: x.unflatten(1, (groups, -1)))
    parts = fold(x, groups)
    y = (parts - parts.mean(over, keepdim=True)) / root(parts.var(over, correction=correction, keepdim=True), eps)
    y = y.reshape(x.shape)
    if shared:
        gamma, beta = (p[:groups].repeat_interleave(len(p) // groups) for p in (gamma, beta))
    side = [1] * 4
    side[along] = -1
    y = y * gamma.reshape(side) if use_gamma else y
    return y + beta.reshape(side) if use_beta else y


def interleaved(x, gamma, beta, groups, eps):
    """Channel c in group c mod G: normalize the channels in another order and put them back."""
    order = torch.arange(x.shape[1]).reshape(-1, groups).T.flatten()
    y = torch.empty_like(x)
    y[:, order] = group_norm(x[:, order], gamma[order], beta[order], groups, eps)
    return y


GROUPS = [
    Misconception("interleaved", SAYINGS["interleaved"], interleaved),
    *named(
        [
            ("with_batch", dict(over=(0, 2, 3, 4))),
            ("per_pixel", dict(over=(2,))),
            ("groups_swapped", dict(fold=lambda x, groups: x.unflatten(1, (-1, groups)))),
            ("one_group", dict(fold=lambda x, groups: x[:, None])),
            ("instance", dict(fold=lambda x, groups: x[:, :, None])),
            ("batch_norm", dict(fold=lambda x, groups: x[:, :, None], over=(0, 2, 3, 4))),
            ("everything", dict(over=(0, 1, 2, 3, 4))),
            ("unbiased", dict(correction=1)),
            *flawed_roots(),
        ],
        group_norm,
    ),
]
GROUPS_AFFINE = named(
    [
        ("affine_forgotten", dict(use_gamma=False, use_beta=False)),
        ("gamma_forgotten", dict(use_gamma=False)),
        ("beta_forgotten", dict(use_beta=False)),
        ("affine_axis", dict(along=3)),
        ("affine_axis", dict(along=0)),
        ("affine_group", dict(shared=True)),
    ],
    group_norm,
)


GROUPS_AFFINE += [
    Misconception("swapped", SWAPPED, lambda x, gamma, beta, groups, eps: group_norm(x, beta, gamma, groups, eps)),
    Misconception("beta_scaled", SCALED, lambda x, gamma, beta, groups, eps: group_norm(x, gamma, gamma * beta, groups, eps)),
]


def describe_group(got: torch.Tensor, trial) -> str:
    """One group of one image, γ and β taken off again."""
    x, gamma, beta, groups, eps = trial.args
    plain = (got - beta.double().view(-1, 1, 1)) / gamma.double().view(-1, 1, 1)
    image = int((got - trial.right[0]).abs().amax((1, 2, 3)).argmax())
    parts = plain[image].reshape(groups, -1)
    worst = int(parts.mean(1).abs().argmax())
    return (
        f"{x.shape[1]} channels in {groups} groups, ε = {eps:.2g}: with γ and β taken off, group {worst} of image {image} "
        f"has mean {parts[worst].mean():.3g} and standard deviation {parts[worst].std(correction=0):.3g} in your output. "
        "What should the two be for a small ε?"
    )


def images(rng) -> list[tuple]:
    """(x, groups). Channels and images have means and sizes of their own. In the first two γ along a wrong axis fits."""
    shapes = [
        ((2, 6, 3, 6), 2, torch.float32),
        ((6, 6, 2, 3), 3, torch.float32),
        ((3, int(rng.choice([6, 9])), 2, 2), 3, torch.float64),
        ((1, 8, 4, 1), 2, torch.float32),
        ((2, 4, 3, 5), 4, torch.float32),
    ]
    drawn = [(spread(rng, shape, dtype=dtype), groups) for shape, groups, dtype in shapes]
    sizes = [torch.from_numpy(rng.uniform(0.5, 2, (len(x), 1, 1, 1))).to(x.dtype) for x, _ in drawn]
    drawn = [(x * size, groups) for (x, groups), size in zip(drawn, sizes)]
    return [(transposed(x) if i == 1 else x, groups) for i, (x, groups) in enumerate(drawn)]


def check_q2(ask: Ask, rng, marks: Marks) -> None:
    plain, full = [], []
    for (x, groups), eps in zip(images(rng), draw_eps(rng, 5)[::-1]):
        gamma, beta = affine(rng, x.shape[1], x.dtype)
        plain.append(ask.trial((x, torch.ones_like(gamma), torch.zeros_like(beta), groups, eps), group_norm))
        if len(full) < 3:
            full.append(ask.trial((x, gamma, beta, groups, eps), group_norm))
    with marks.part(2):
        judge(plain, 0, "Your output (γ = 1, β = 0)", GROUPS, describe_group)
    with marks.part(1):
        if marks.feedback:
            raise marks.feedback[0]
        judge(full, 0, "Your output", GROUPS_AFFINE, describe_group)
        untouched(full)


# ---- q3: weight norm and its gradient --------------------------------------------------------------------------------


def per_unit(numbers, v):
    return numbers.reshape(-1, *[1] * (v.dim() - 1))


def inputs_of(v) -> tuple:
    """All axes but the first: what comes into one unit."""
    return tuple(range(1, v.dim()))


def length(v, axes=None):
    return v.square().sum(inputs_of(v) if axes is None else axes, keepdim=True).sqrt()


def weight_norm(v, g, dw):
    size, g = length(v), per_unit(g, v)
    unit = v / size
    dg = (dw * unit).sum(inputs_of(v), keepdim=True)
    return g * unit, g / size * (dw - dg * unit), dg.flatten()


def weight(v, g, dw, *, size=length, use_g=True):
    return (per_unit(g, v) if use_g else 1) * v / size(v)


def dv(v, g, dw, *, project=1, use_g=True, use_size=True, unit=lambda v: v / length(v), axes=None):
    size, g = length(v), per_unit(g, v)
    part = (dw * unit(v)).sum(inputs_of(v) if axes is None else axes, keepdim=True) * unit(v)
    return (g if use_g else 1) / (size**use_size) * (dw - project * part)


def dg(v, g, dw, *, along=lambda v, g: v / length(v), reduce=torch.sum, axes=None):
    return reduce(dw * along(v, g), inputs_of(v) if axes is None else axes)


WEIGHT_SAYINGS = {
    "length_twice": "You divide your dv by ‖v‖ once too often. How much longer has a step to be when v is ten times as long?",
    "part_added": "You add the part of dw along v; it has to be taken off, so that what is left is at right angles to v.",
    "part_twice": "You take the part of dw along v off twice. Once is enough to be at right angles to v.",
    "whole": "You divide by one length for the whole tensor. Every unit (first axis) has a length of its own: how many "
    "numbers should your lengths be?",
    "outgoing": "You take the length over the first axis, the units: that is one length for each *input*. The weights that "
    "come *into* unit k are v[k].",
    "kernel": "For a convolution you take the length of every little kernel, or of some axes only. All weights that come "
    "into one unit belong together: all input channels and all positions.",
    "g_forgotten": "g has no effect on your w: its rows have length 1. They should have length |g|.",
    "squared": "You divide by the square of the length: double v and your w halves. Which power makes w the same?",
    "rms_size": "You divide by the root of the *mean* square. Then the length of your w depends on how many inputs there are; "
    "it should be |g|.",
    "absolute": "You divide by the sum of absolute values. The length of a vector is the root of its sum of squares.",
    "g_axis": "You multiply g along the last axis. g has one value a unit, and the units are the first axis.",
    "length_constant": "Your dv treats ‖v‖ as a constant. But when v moves along itself, ‖v‖ moves too and w stays where it "
    "is: what must the gradient along v be?",
    "length_forgotten": "In your dv neither ‖v‖ nor its derivative appears. w does not change when v doubles; what does "
    "that do to the gradient?",
    "dv_without_g": "g is missing in your dv. It multiplies v/‖v‖ on the way forward, so it multiplies on the way back.",
    "dv_without_length": "Your dv has the right direction and the wrong size: it is the same for v and for 10 v. But ten "
    "times the v needs ten times the step for the same turn. What is missing in front?",
    "not_unit": "You take the component along v off, but not quite: in the projection v stands where a vector of length 1 "
    "belongs. Multiply your dv by v and sum: it should be 0.",
    "project_whole": "You project with one sum over the whole tensor. Each unit has a direction of its own: sum over what "
    "comes into one unit only.",
    "dg_v": "Your dg is the sum of dw · v. What g multiplied on the way forward had length 1.",
    "dg_scaled": "g itself appears in your dg. The derivative of g · v/‖v‖ with respect to g does not hold g any more.",
    "averaged": "You average where a sum belongs: one g touches all weights of its unit, and contributions add.",
}  # fmt: skip
WEIGHT = named(
    [
        ("whole", dict(size=lambda v: v.square().sum().sqrt())),
        ("whole", dict(size=lambda v: v.square().sum().sqrt(), use_g=False)),
        ("outgoing", dict(size=lambda v: length(v, 0))),
        ("kernel", dict(size=lambda v: length(v, 1))),
        ("kernel", dict(size=lambda v: length(v, (-2, -1)))),
        ("kernel", dict(size=lambda v: length(v, -1))),
        ("kernel", dict(size=lambda v: length(v, (2, 3)) if v.dim() == 4 else length(v))),
        ("g_forgotten", dict(use_g=False)),
        ("squared", dict(size=lambda v: length(v) ** 2)),
        ("rms_size", dict(size=lambda v: v.square().mean(inputs_of(v), keepdim=True).sqrt())),
        ("absolute", dict(size=lambda v: v.abs().sum(inputs_of(v), keepdim=True))),
    ],
    weight,
    WEIGHT_SAYINGS,
) + [Misconception("g_axis", WEIGHT_SAYINGS["g_axis"], lambda v, g, dw: g * v / length(v))]
DV = named(
    [
        ("length_constant", dict(project=False)),
        ("length_constant", dict(project=False, use_g=False)),
        ("length_forgotten", dict(project=False, use_size=False)),
        ("length_forgotten", dict(project=False, use_size=False, use_g=False)),
        ("dv_without_g", dict(use_g=False)),
        ("dv_without_length", dict(use_size=False)),
        ("dv_without_length", dict(use_size=False, use_g=False)),
        ("not_unit", dict(unit=lambda v: v)),
        ("not_unit", dict(unit=lambda v: v / length(v).sqrt())),
        ("project_whole", dict(axes=(0, 1, 2, 3))),
        ("length_twice", dict(use_size=2)),
        ("part_added", dict(project=-1)),
        ("part_twice", dict(project=2)),
    ],
    lambda v, g, dw, axes=None, **parts: dv(v, g, dw, axes=axes and axes[: v.dim()], **parts),
    WEIGHT_SAYINGS,
)
DG = named(
    [
        ("dg_v", dict(along=lambda v, g: v)),
        ("dg_scaled", dict(along=lambda v, g: per_unit(g, v) * v / length(v))),
        ("averaged", dict(reduce=torch.mean)),
        ("averaged", dict(reduce=torch.mean, along=lambda v, g: v)),
        ("outgoing", dict(axes=0)),
    ],
    dg,
    WEIGHT_SAYINGS,
)


def describe_weight(got: torch.Tensor, trial) -> str:
    unit = int((got - trial.right[0]).abs().flatten(1).amax(1).argmax())
    return (
        f"The weights that come into unit {unit} have length {got[unit].norm():.3g} in your w, and g is "
        f"{float(trial.args[1][unit]):.3g} there. How should the two be related?"
    )


def describe_dv(got: torch.Tensor, trial) -> str:
    """The right dv is at right angles to v whatever the numbers are: w does not change when v is stretched."""
    v = trial.args[0].double()
    unit = int((got - trial.right[1]).abs().flatten(1).amax(1).argmax())
    along = float((got[unit] * v[unit]).sum())
    if abs(along) > 1e-2 * (1 + float(got.abs().max())):
        return (
            f"In unit {unit} the sum of your dv · v is {along:.3g}. Stretching v does not change w, so it cannot change the "
            "loss: what does that say about this sum?"
        )
    return (
        f"Your dv is at right angles to v, as it should be. In unit {unit} its length is {got[unit].norm():.3g}, for "
        f"‖v‖ = {v[unit].norm():.3g} and g = {float(trial.args[1][unit]):.3g}. Check what multiplies it."
    )


def describe_dg(got: torch.Tensor, trial) -> str:
    unit = int((got - trial.right[2]).abs().argmax())
    return (
        f"Unit {unit}: your dg is {float(got[unit]):.3g}. Move g a little, with v held fast: along which vector does "
        f"w[{unit}] move?"
    )


def check_q3(ask: Ask, rng, marks: Marks) -> None:
    inputs = [
        spread(rng, (4, 4), mean=1, axis=0),
        transposed(spread(rng, (int(rng.integers(3, 6)), 3, 2, 2), mean=1, axis=0)),
        spread(rng, (3, 4, 3, 3), mean=1, dtype=torch.float64, axis=0),
    ]
    trials = []
    for v in inputs:
        g, _ = affine(rng, len(v), v.dtype)
        dw = torch.from_numpy(rng.uniform(0.2, 1.5, v.shape) * rng.choice([-1, 1], v.shape, p=[0.3, 0.7])).to(v.dtype)
        trials.append(ask.trial((v, g, dw), weight_norm))
    with marks.part(1):
        judge(trials, 0, "The first output (w)", WEIGHT, describe_weight)
        untouched(trials)
    with marks.part(1):
        judge(trials, 1, "The second output (dv)", DV, describe_dv)
    with marks.part(1):
        judge(trials, 2, "The third output (dg)", DG, describe_dg)


# ---- q4: what each one cannot see ------------------------------------------------------------------------------------

NORMALIZERS = ("batch", "layer", "rms", "group", "weight")
LETTERS = "ABCDEFGH"
CHANGED = 0.01  # A relative change above this is seen. What is not seen changes by rounding only.


def example_0(name: str, x, w, shift):
    """Output of example 0: x @ w.T + shift, normalized without γ, β and ε; two groups of units."""
    w = w / w.norm(dim=1, keepdim=True) if name == "weight" else w
    z = x @ w.T + shift
    if name in ("batch", "layer", "group"):
        parts = z.T[:, None] if name == "batch" else z.unflatten(1, (1 if name == "layer" else 2, -1))
        y = (parts - parts.mean(2, keepdim=True)) / parts.std(2, correction=0, keepdim=True)
        z = y[:, 0].T if name == "batch" else y.flatten(1)
    elif name == "rms":
        z = z / z.square().mean(1, keepdim=True).sqrt()
    return z[0]


def times_3(tensor, where):
    tensor = tensor.clone()
    tensor[where] *= 3
    return tensor


def plus_2(tensor, where):
    tensor = tensor.clone()
    tensor[where] += 2
    return tensor


def changes(rng, x, w, shift) -> dict:
    """Letter: (x, w, shift) after the change of question 4."""
    half = slice(len(w) // 2)
    others = torch.from_numpy(rng.standard_normal(x.shape))
    others[0] = x[0]
    return {
        "A": (times_3(x, 0), w, shift),
        "B": (x, w, plus_2(shift, 0)),
        "C": (x, times_3(w, 0), shift),
        "D": (x, 3 * w, shift),
        "E": (x, w + torch.from_numpy(rng.standard_normal(w.shape[1])), shift),
        "F": (others, w, shift),
        "G": (x, w, plus_2(shift, (slice(None), 0))),
        "H": (x, times_3(w, half), shift),
    }


def relative_changes(rng) -> dict[tuple, float]:
    x, w = torch.from_numpy(rng.standard_normal((8, 10))), torch.from_numpy(rng.standard_normal((16, 10)))
    before = (x, w, torch.zeros(8, 16, dtype=torch.float64))
    old = {name: example_0(name, *before) for name in NORMALIZERS}
    return {
        (name, letter): float((example_0(name, *after) - old[name]).norm() / old[name].norm())
        for letter, after in changes(rng, *before).items()
        for name in NORMALIZERS
    }


def blind(rng) -> dict[str, set]:
    """For each normalizer the changes that it does not see. Tried out four times: by chance one draw may hide a change."""
    tries = [relative_changes(rng) for _ in range(4)]
    return {name: {letter for letter in LETTERS if all(t[name, letter] < CHANGED for t in tries)} for name in NORMALIZERS}


# (normalizers, change): what to say when the row has this letter wrong. The first that fits is said.
ROW_SAYINGS = [
    (("layer", "rms", "group"), "C", "unit_scale", "Is {name} blind to the scale of *one* unit's weights (C)? Its size is shared by "
     "several units of the example. Triple one of them: what happens to the size, and to the units that you did not touch?"),
    (("rms",), "BE", "rms_shift", "Does RMS norm see a constant added to all units of an example (B, E)? Write out what it "
     "takes off."),
    (("batch",), "F", "neighbours", "Can batch norm, in training, ignore who else is in the batch (F)? Ask where its mean comes "
     "from."),
    (("layer", "rms", "group", "weight"), "F", "own_values", "Do the other examples matter for {name} (F)? List the values that "
     "one output is computed from."),
    (("weight",), "ABEG", "weights_only", "Weight norm never looks at x, at z or at a bias, only at the length of each unit's "
     "v (look at A, B, E and G again). What happens to z = x @ w.T when it is changed in that way?"),
    (("batch",), "ABE", "unit_by_unit", "Batch norm goes unit by unit, down the batch. A change that hits the examples "
     "differently (A, B, E) moves an example against the others: try it."),
    (("batch",), "CDH", "batch_weights", "Batch norm divides each unit by its own spread over the batch. What does that do to a "
     "factor on the unit's weights (C, D, H)? It does not matter how many units have one."),
    (("batch",), "G", "bias", "Add a constant to one unit for all examples (G), and its mean over the batch moves as well. "
     "What is left after batch norm? It is why layers before it have no bias."),
    (("weight",), "CH", "direction", "Weight norm keeps the direction of each unit's v, and g sets the length. Which of C and H turn a "
     "unit's v?"),
    (("layer", "rms"), "H", "half", "Half of the units three times as large (H): does {name} have one size for each half?"),
    (("group",), "H", "own_group", "The first half of the units is one group (H), with a size of its own. Try it."),
    (("layer", "group"), "BE", "common_shift", "Is a constant that all units of an example share (B) seen after the mean over "
     "units is taken off? And in E every unit's z moves by the same u · x: for one example, is that any different?"),
    (NORMALIZERS, "D", "all_weights", "All weights three times as large (D): what happens to z, to its size, and to their "
     "ratio? Try it on every row."),
]  # fmt: skip


def read_row(table: dict, name: str) -> set:
    got = table[name]
    got = "".join(got) if isinstance(got, list) and all(isinstance(item, str) for item in got) else got
    if not isinstance(got, str):
        raise Feedback("wrong_type", f'The row {name!r} has to be a string of letters, such as "AF", or "" for none.')
    letters = {letter for letter in got.upper() if not (letter.isspace() or letter in ",;")}
    if letters - set(LETTERS):
        raise Feedback("wrong_type", f"The row {name!r} may hold the letters {LETTERS[0]} to {LETTERS[-1]} only.")
    return letters


def judge_row(name: str, got: set, right: set) -> None:
    wrong = got ^ right
    if not wrong:
        return
    for names, letters, code, saying in ROW_SAYINGS:
        if name in names and wrong & set(letters):
            raise Feedback(code, f"Row {name!r}: " + saying.format(name=f"{name} norm" if name != "rms" else "RMS norm"))
    raise Feedback(
        f"row_{name}",
        f"Row {name!r}: not right yet in {len(wrong)} of its {len(LETTERS)} entries. Write each change as a function and try "
        "them one at a time. Which values share a statistic, and are all of them hit alike?",
    )


def check_q4(ask: Ask, rng, marks: Marks) -> None:
    table = ask.value()
    if not isinstance(table, dict) or set(table) != set(NORMALIZERS):
        raise Feedback("wrong_type", f"answer_q4 has to be a dict with the keys {', '.join(map(repr, NORMALIZERS))}.")
    rows, right = {name: read_row(table, name) for name in NORMALIZERS}, blind(rng)
    if all(rows[name] == set(LETTERS) - right[name] for name in NORMALIZERS):
        raise Feedback(
            "turned_round",
            "You list what each normalizer *sees*. Asked for are the changes that leave its output as it is.",
        )
    if not any(rows.values()):
        raise Feedback("nothing", "Every row is empty: then nothing would be normalized. Start with change A and layer norm.")
    for name in NORMALIZERS:
        with marks.part(1):
            judge_row(name, rows[name], right[name])


# ---- q5: two values --------------------------------------------------------------------------------------------------

COUNTS = (2, 4, 32)
SHARE_WITHIN = 0.015
LOST_WITHIN = 7  # points; ten seeds of either kind leave about two
SHARE_MISTAKES = [
    ("constants", lambda m: 1, "All of the gradient would get through only if the mean and the size did not depend on the values. "
     "If that is what you measure, they are constants to autograd in your layer norm: look for .detach(), no_grad or numpy there."),
    ("mean_only", lambda m: 1 - 1 / m, "Your shares are those of a projection that removes *one* direction, the mean's. "
     "The size is a function of all the values too: how many directions does it remove?"),
    ("complement", lambda m: 2 / m, "These are the shares that get lost. Asked for is what gets through."),
    ("root", lambda m: (1 - 2 / m) ** 0.5, "These are shares of the length. Asked for are shares of the *squared* length."),
    ("percent", lambda m: 100 * (1 - 2 / m), "Give the shares as numbers between 0 and 1."),
]  # fmt: skip


def share(m: int) -> float:
    """(m − 2)/m. σ dx = g less its components along the constant vector and along x̂, for small ε: a projection that leaves
    m − 2 of m directions, so a random g keeps this share of its squared length whatever x is."""
    return 1 - 2 / m


def numbers(value, count: int, what: str) -> list[float]:
    value = value.tolist() if isinstance(value, torch.Tensor) and value.numel() == count else value
    if not isinstance(value, list) or len(value) != count or not all(is_number(n) for n in value):
        raise Feedback("wrong_type", f"{what} has to be a list of {count} numbers.")
    return [float(n) for n in value]


def close(got: list, right: list, within: float) -> bool:
    return all(abs(a - b) <= within for a, b in zip(got, right))


def judge_shares(got: list[float]) -> None:
    right = [share(m) for m in COUNTS]
    if close(got, right, SHARE_WITHIN):
        return
    for code, formula, message in SHARE_MISTAKES:
        if close(got, [formula(m) for m in COUNTS], SHARE_WITHIN * (100 if code == "percent" else 1)):
            raise Feedback(code, message)
    if close(got, right[::-1], SHARE_WITHIN):
        raise Feedback("reversed", f"The three are in the wrong order: first {COUNTS[0]} values, last {COUNTS[-1]}.")
    wrong = [m for m, number, r in zip(COUNTS, got, right) if abs(number - r) > SHARE_WITHIN]
    raise Feedback(
        "unknown",
        f"The share for {wrong[0]} values is off. Measure it with surviving_share({wrong[0]}); then count: out of {wrong[0]} "
        "directions, how many does a normalizer that fixes a mean and a size leave free?",
    )


def accuracy(norm: str, batch_size: int, **options) -> float:
    """Test accuracy in points, mean of ten seeds: the network of the notebook."""
    from bncourse import data, nets
    from bncourse.train import train

    def build(seed):
        return nets.mlp((64, 64, 64, 64, 10), norm=norm, seed=seed, fused=True, **options)

    frame = train(build, data.load("digits"), seeds=range(10), lrs=[0.05], steps=120, batch_size=batch_size, record=[120])
    return 100 * float(frame.test_accuracy.mean())


@lru_cache(1)
def lost() -> tuple[float, float]:
    """Points lost by batch norm from a batch of 32 to one of 2, and by group norm from groups of 8 to pairs at batch 32."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for networks this small more are slower
    try:
        batch = accuracy("batch", 32) - accuracy("batch", 2)
        return batch, accuracy("group", 32, num_groups=8) - accuracy("group", 32, num_groups=32)
    finally:
        torch.set_num_threads(threads)


def judge_lost(got: list[float]) -> None:
    right = list(lost())
    if close(got, right, LOST_WITHIN):
        return
    told = [
        ("fraction", [100 * n for n in got], "In points, please: an accuracy of 0.5 is 50 points."),
        ("sign", [-n for n in got], "Points *lost*: large batch minus small batch, eight values minus two. Yours are negative."),
        ("swapped", got[::-1], "The two are in the wrong order: first batch norm's loss, then group norm's."),
    ]
    for code, mended, message in told:
        if close(mended, right, LOST_WITHIN):
            raise Feedback(code, message)
    first = abs(got[0] - right[0]) > LOST_WITHIN
    rows = "batch 32 minus batch 2" if first else "groups of 8 minus groups of 2, both at batch 32"
    raise Feedback(
        "unknown",
        f"{'Batch' if first else 'Group'} norm's loss is off by more than {LOST_WITHIN} points. It is the difference of two "
        f"rows of the figure, {rows}, in means over the seeds.",
    )


def check_q5(ask: Ask, rng, marks: Marks) -> None:
    got = ask.value()
    if not isinstance(got, dict) or set(got) != {"shares", "lost"}:
        raise Feedback("wrong_type", "answer_q5 has to be a dict with the keys 'shares' and 'lost'.")
    with marks.part(2):
        judge_shares(numbers(got["shares"], len(COUNTS), "answer_q5['shares']"))
    with marks.part(1):
        judge_lost(numbers(got["lost"], 2, "answer_q5['lost']"))


FINISHED = ("weight_norm", "_weight_norm", "_weight_norm_interface", "parametrizations", "parametrize", "normalize", "renorm")
QUESTIONS = {
    "q1": Question("layer_norm", 3, check_q1),
    "q2": Question("group_norm", 3, check_q2),
    "q3": Question("weight_norm", 3, check_q3, Rules(autograd=False, banned=FINISHED)),
    "q4": Question("answer_q4", 5, check_q4, VALUE),
    "q5": Question("answer_q5", 3, check_q5, VALUE),
    "q6": Written(
        "answer_q6",
        {
            "a verdict on the neighbours that rests on numbers of the figure, and says what they leave open": 1,
            "a normalizer that fits the job, with a property that you measured in this exercise as the reason": 1,
            "a measurement that could really come out against your choice": 1,
        },
        words=(60, 220),
    ),
}
