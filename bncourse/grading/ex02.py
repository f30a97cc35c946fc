"""ex02: internal covariate shift, measured as 2015 meant it (moments) and as 2018 defined it (Definition 2.1).

All is float64, and a network is a list of weight matrices without biases. `moment_shift` and `definition` below are one
formula each with its parts exchangeable, so a misconception is a row of a table. The experiment of question 4 is run here
again, once a process, with these two.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from .calls import Given, Value, is_number, tensors_in
from .checks import VALUE, Ask, Misconception, Question, Trial, Written, choose, judge, judge_number, one_number
from .feedback import Feedback, Marks
from .given.ex02 import network_loss

CLOSE = 1e-5  # so that an answer collected in float32, or a difference quotient, is close enough

# ---- answers may be numbers, lists of numbers, or tensors --------------------------------------------------------------


def as_tensor(value: Value) -> Value:
    """A number or a list of numbers as the float64 tensor it stands for; anything else as it is."""
    if value.array is not None:
        found = value.array
    elif value.type in ("list", "tuple"):
        found = [one_number(item) for item in value.items]
        if None in found:
            return value
    else:
        found = one_number(value)
        if found is None:
            return value
    array = np.array(found, dtype=np.float64)
    return Value("tensor", "float64", array.shape, array)


def ask_trial(ask: Ask, args: tuple, right) -> Trial:
    trial = ask.trial(args, right, CLOSE)
    return replace(trial, reply=replace(trial.reply, values=[as_tensor(value) for value in trial.reply.values]))


# ---- q1: moments -----------------------------------------------------------------------------------------------------


def moment_shift(before, after, *, axis=0, correction=0, unit=lambda b, a, sd: sd(b), change=torch.abs, size=torch.abs,
                 over=torch.mean, spread=torch.std):  # fmt: skip
    """How far mean and standard deviation of each unit moved, in units of its standard deviation before. Units that did
    not vary are left out."""

    def sd(z):
        return spread(z, axis, correction=correction)

    varies = sd(before) > 1e-12
    scale = unit(before, after, sd)
    scale = scale[varies] if scale.dim() else scale
    moves = (after.mean(axis) - before.mean(axis), sd(after) - sd(before))
    return tuple(size(over(change(move[varies]) / scale)) for move in moves)


def whole_layer(before, after):
    mean, sd = (before.mean(), after.mean()), (before.std(correction=0), after.std(correction=0))
    return abs(mean[1] - mean[0]) / sd[0], abs(sd[1] - sd[0]) / sd[0]


def paired(before, after):
    """How far each example moved, which is not how far the distribution moved."""
    if before.shape != after.shape:
        raise RuntimeError("examples cannot be paired")
    move = ((after - before).abs().mean(0) / before.std(0, correction=0)).mean()
    return move, move


def signed(move):
    return move


def standardized(before, after):
    """Nothing moves where either recording is first brought to mean 0 and spread 1."""
    return torch.zeros((), dtype=before.dtype), torch.zeros((), dtype=before.dtype)


def paired_spread(before, after):
    if before.shape != after.shape:
        raise RuntimeError("examples cannot be paired")
    sd = before.std(0, correction=0)
    return (after.mean(0) - before.mean(0)).abs().div(sd).mean(), ((after - before).std(0, correction=0) / sd).mean()


def mean_deviation(z, axis, correction=0):
    return (z - z.mean(axis, keepdim=True)).abs().mean(axis)


def root_mean_square(move):
    return move.square().mean().sqrt()


def variance_move(before, after, unit):
    var = before.var(0, correction=0)
    return ((after.var(0, correction=0) - var).abs() / unit(var)).mean()


MOMENT_SAYINGS = {
    "examples": "You take the moments of each example over its units (axis 1). The 2015 story is about one unit and how it "
    "varies from image to image: which axis disappears then?",
    "whole_layer": "You use one mean and one standard deviation for the whole layer. Let one unit go up by 1 and its "
    "neighbour down by 1: what do you report, and did nothing move?",
    "signed": "Units that go up and units that go down cancel in your average. Is that no shift?",
    "no_unit": "Multiply the layer's inputs by 1000, before and after: your number grows with them. It has to be stated "
    "in a unit that grows too. Which one does the text ask for?",
    "unit_after": "You divide by the standard deviation *afterwards*. Let a unit's spread go from 1 to 10: what would a "
    "move of its mean by 5 be in each unit, and which one is asked for?",
    "unit_variance": "You divide by the variance. Does that have the unit of a mean?",
    "unit_layer": "You divide the average move by one number for the whole layer. Each unit is measured by its own "
    "standard deviation, before anything is averaged over units.",
    "paired": "You follow single examples from before to after. Shuffle the rows of `after`: the distribution is what it "
    "was, so your number should be too. And the two recordings need not be equally long.",
    "unbiased": "Your standard deviation divides by N − 1; the text asks for N. Look up `correction` in torch.std.",
    "summed": "You add up over the units. Then a layer twice as wide shifts twice as much; an average is asked for.",
    "largest": "You report the unit that moved most. One number a layer is the average over its units here.",
    "squared": "You square the moves. A unit that moved by half of its standard deviation should count 0.5, not 0.25.",
    "order": "You return the two in the wrong order: first the mean's, then the standard deviation's.",
    "variance": "You follow the variance. A unit whose spread doubles has moved by one of its standard deviations; what does "
    "the variance do?",
    "unit_both": "Your unit mixes the spreads before and after. Then what happened to the spread changes the unit in which it is "
    "measured. Whose standard deviation does the text ask for?",
    "unit_mean": "You divide by the size of the mean. A unit whose mean is near 0 would then have moved by any number you like. Which "
    "unit does the text ask for?",
    "standard_error": "You divide by the standard deviation of the *mean*. Record four times as many images of the same two "
    "distributions: what does your number do, and has anything moved further?",
    "standardized": "You bring each recording to mean 0 and spread 1 by its own moments before you compare them. What could still move?",
    "median": "You take the median over the units. An average is asked for: units that moved far should count as far as they moved.",
    "root_mean_square": "You square the moves of the units and take a root at the end. That weighs large moves more; the plain average of "
    "their sizes is asked for.",
    "mean_deviation": "Your spread is the mean absolute deviation. The text asks for the standard deviation.",
    "examples_counted": "Your average over the units divides by the number of examples. Of what are there as many as moves?",
    "ratio": "Your second number is the spread afterwards over the spread before. For a unit that does not change it should be 0: what "
    "does yours give?",
    "logarithm": "You take the logarithm of the ratio of the two spreads. That is symmetric, which is nice; asked for is the size of "
    "their difference, over the spread before.",
    "counted_as_zero": "Right, as long as every unit varies. A unit that did not vary before is counted as if it had not "
    "moved: that pulls your average down. How many units should the average be over?",
    "still_varying": "You also leave out a unit that no longer varies *afterwards*. It has a unit to be measured in, σ before; its "
    "spread has moved by exactly one.",
}  # fmt: skip

MOMENTS = [  # code, function of (before, after) that returns both numbers
    ("examples", lambda b, a: moment_shift(b, a, axis=1)),
    ("whole_layer", whole_layer),
    ("signed", lambda b, a: moment_shift(b, a, change=signed)),
    ("signed", lambda b, a: moment_shift(b, a, change=signed, size=signed)),
    ("no_unit", lambda b, a: moment_shift(b, a, unit=lambda *_: torch.tensor(1.0))),
    ("unit_after", lambda b, a: moment_shift(b, a, unit=lambda b, a, sd: sd(a))),
    ("unit_variance", lambda b, a: moment_shift(b, a, unit=lambda b, a, sd: sd(b) ** 2)),
    ("unit_layer", lambda b, a: moment_shift(b, a, unit=lambda b, a, sd: sd(b).mean())),
    ("unit_layer", lambda b, a: moment_shift(b, a, unit=lambda b, a, sd: b.std(correction=0))),
    ("unit_layer", lambda b, a: moment_shift(b, a, unit=lambda b, a, sd: root_mean_square(sd(b)))),
    ("unit_both", lambda b, a: moment_shift(b, a, unit=lambda b, a, sd: sd(torch.cat([b, a])))),
    ("unit_both", lambda b, a: moment_shift(b, a, unit=lambda b, a, sd: (sd(b) + sd(a)) / 2)),
    ("unit_both", lambda b, a: moment_shift(b, a, unit=lambda b, a, sd: ((sd(b) ** 2 + sd(a) ** 2) / 2).sqrt())),
    ("standard_error", lambda b, a: moment_shift(b, a, unit=lambda b, a, sd: sd(b) / len(b) ** 0.5)),
    ("standardized", standardized),
    ("signed", lambda b, a: moment_shift(b, a, change=torch.neg, size=signed)),
    ("median", lambda b, a: moment_shift(b, a, over=torch.median)),
    ("root_mean_square", lambda b, a: moment_shift(b, a, over=root_mean_square)),
    ("root_mean_square", lambda b, a: moment_shift(b, a, over=torch.linalg.vector_norm)),
    ("squared", lambda b, a: moment_shift(b, a, over=lambda move: move.square().mean())),
    ("mean_deviation", lambda b, a: moment_shift(b, a, spread=mean_deviation)),
    ("examples_counted", lambda b, a: moment_shift(b, a, over=lambda move: move.sum() / len(b))),
    ("paired", paired),
    ("paired", paired_spread),
    ("unbiased", lambda b, a: moment_shift(b, a, correction=1)),
    ("summed", lambda b, a: moment_shift(b, a, over=torch.sum)),
    ("largest", lambda b, a: moment_shift(b, a, over=torch.max)),
    ("squared", lambda b, a: moment_shift(b, a, change=torch.square)),
    ("order", lambda b, a: moment_shift(b, a)[::-1]),
]


def moment_flaws(index: int, also=()) -> list[Misconception]:
    def only(formula):
        return lambda b, a: formula(b, a)[index]

    rows = [(code, only(formula)) for code, formula in MOMENTS] + list(also)
    return [Misconception(code, MOMENT_SAYINGS[code], formula) for code, formula in rows]


MEAN_FLAWS = moment_flaws(0, [("unit_mean", lambda b, a: ((a.mean(0) - b.mean(0)) / b.mean(0)).abs().mean())])
SD_FLAWS = moment_flaws(
    1,
    [
        ("variance", lambda b, a: variance_move(b, a, lambda var: var)),
        ("variance", lambda b, a: variance_move(b, a, lambda var: var.sqrt())),
        ("variance", lambda b, a: variance_move(b, a, torch.ones_like)),
        ("ratio", lambda b, a: (a.std(0, correction=0) / b.std(0, correction=0)).mean()),
        ("ratio", lambda b, a: (a.std(0, correction=1) / b.std(0, correction=1)).mean()),
        ("logarithm", lambda b, a: (a.std(0, correction=0) / b.std(0, correction=0)).log().abs().mean()),
    ],
)

NOT_WRITTEN = Misconception(
    "always_zero",
    "Your shift of the sd is always 0. Is it written yet? |σ′ − σ| / σ, averaged over units.",
    lambda before, after: standardized(before, after)[1],
)


def as_zero(index: int) -> Misconception:
    def formula(before, after):
        varied = (before.std(0, correction=0) > 1e-12).double().mean()
        return moment_shift(before, after)[index] * varied

    return Misconception("counted_as_zero", MOMENT_SAYINGS["counted_as_zero"], formula)


def still_varying(index: int) -> Misconception:
    """Units that are constant afterwards left out as well."""

    def formula(before, after):
        varies = after.std(0, correction=0) > 1e-12
        return moment_shift(before[:, varies], after[:, varies])[index]

    return Misconception("still_varying", MOMENT_SAYINGS["still_varying"], formula)


def describe_moments(got: torch.Tensor, trial: Trial) -> str:
    before, after = trial.args
    m, s = (float(z[:, 0].mean()) for z in (before, after)), (float(z[:, 0].std(correction=0)) for z in (before, after))
    return (
        "You return {:.3g} for the layer. Its unit 0 goes from mean {:.3g} to {:.3g}, and from standard deviation {:.3g} to "
        "{:.3g}: work out what this one unit contributes.".format(float(got), *m, *s)
    )


def recordings(rng, units: int, counts: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two recordings of one layer. Spreads differ from unit to unit, and means move up and down, by about one spread."""
    sd = np.exp(rng.uniform(np.log(0.3), np.log(3), units))
    mean = rng.uniform(-2, 2, units)
    move = sd * rng.uniform(0.4, 1.6, units) * np.where(np.arange(units) % 2, -1, 1)
    wider = np.exp(rng.uniform(0.2, 0.8, units) * np.where(np.arange(units) % 3, 1, -1))
    before = mean + sd * rng.standard_normal((counts[0], units))
    after = mean + move + sd * wider * rng.standard_normal((counts[1], units))
    return torch.from_numpy(before), torch.from_numpy(after)


def check_q1(ask: Ask, rng, marks: Marks) -> None:
    n, units = (int(k) for k in rng.integers(5, 12, 2))
    # A square one first: there a wrong axis gives a wrong number rather than an exception.
    pairs = [recordings(rng, 6, (6, 6)), recordings(rng, units, (n + 10, n + 10)), recordings(rng, units, (n + 3, 2 * n))]
    trials = [ask_trial(ask, pair, moment_shift) for pair in pairs]
    with marks.part(2):
        judge(trials, 0, "The first output (the mean's move)", MEAN_FLAWS, describe_moments)
    with marks.part(1):
        if any([value.type == "NoneType" for value in trial.reply.values] == [False, True] for trial in trials):
            raise Feedback("returned_nothing", "The second of the two numbers is None. Is it written yet?")
        # A 0 beside a mean that moves has not been written yet; it says nothing of the recordings.
        unwritten = [] if any(feedback.code == "standardized" for feedback in marks.feedback) else [NOT_WRITTEN]
        judge(trials, 1, "The second output (the standard deviation's move)", unwritten + SD_FLAWS, describe_moments)
    with marks.part(1):
        if marks.feedback:
            raise marks.feedback[0]
        constant_units(ask, rng)


def constant_units(ask: Ask, rng) -> None:
    before, after = recordings(rng, 5, (8, 8))
    before[:, 1], before[:, 3], after[:, 3] = 3.0, 0.0, 0.0  # one moves away from its constant, one stays
    after[:, 4] = 1.0  # one comes to a constant: its spread has moved as well
    trial = ask_trial(ask, (before, after), moment_shift)
    for index, label in enumerate(("The first output", "The second output")):
        try:
            judge([trial], index, label, [as_zero(index), still_varying(index)], describe_moments)
        except Feedback as feedback:
            if feedback.code in ("nan", "unknown"):
                raise Feedback(
                    "constant_unit",
                    "Right, as long as every unit varies. With a unit whose standard deviation before is 0, your number "
                    f"comes out as {float(trial.reply.values[index].array):.3g}. What is a move worth in units of nothing? "
                    "The text says what to do with such a unit.",
                ) from None
            raise


# ---- q2: with pencil and paper ---------------------------------------------------------------------------------------

START, TARGET = (1.0, 3.0), 1.0  # w1, w2; the loss is (w2 w1 − target)² / 2


def pencil(lr: float, sign: int = -1) -> dict[str, float]:
    """Everything there is to know about one step of the network with two numbers for weights."""
    w1, w2 = START
    error = w2 * w1 - TARGET
    g1, g2 = error * w2, error * w1
    new1, new2 = w1 + sign * lr * g1, w2 + sign * lr * g2

    def g2_at(v1, v2):
        return (v2 * v1 - TARGET) * v1

    def loss(v1, v2):
        return (v2 * v1 - TARGET) ** 2 / 2

    return {
        "G": g2,
        "G_prime": g2_at(new1, w2),
        "all_moved": g2_at(new1, new2),
        "itself_moved": g2_at(w1, new2),
        "layer_1": abs((new2 * w1 - TARGET) * new2 - g1),
        "loss": loss(new1, new2),
        "loss_before": loss(w1, w2),
        "only_below": loss(new1, w2),
        "only_above": loss(w1, new2),
        "error": new2 * new1 - TARGET,
    }


def entry(ask: Ask, key: str):
    """One entry of an answer that is a dict."""
    got = ask.value()
    if not isinstance(got, dict):
        raise Feedback("wrong_type", f"{ask.answer} has to be a dict, with the names that the text gives its entries.")
    if key not in got:
        raise Feedback("missing_entry", f"{ask.answer} has no entry {key!r}. The text shows what the dict looks like.")
    return got[key]


def number(ask: Ask, key: str, got) -> float:
    if isinstance(got, torch.Tensor) and got.numel() == 1:
        got = got.item()
    if not is_number(got):
        raise Feedback("wrong_type", f"{key!r} has to be a plain number.")
    return float(got)


def check_q2(ask: Ask, rng, marks: Marks) -> None:
    small, large = pencil(0.05), pencil(0.15)
    g, right = small["G"], abs(small["G"] - small["G_prime"])
    with marks.part(1):
        judge_number(
            number(ask, "distance", entry(ask, "distance")),
            right,
            0.011,
            [
                ("everything_moved", abs(g - small["all_moved"]), "You let layer 2 take its step as well. The definition asks "
                 "what the *others* did to its gradient: which weights are new, and which are old?"),
                ("itself_moved", abs(g - small["itself_moved"]), "You moved layer 2 and left layer 1 where it is. Whose move "
                 "is it that layer 2 could not foresee?"),
                ("ascent", abs(g - pencil(0.05, +1)["G_prime"]), "Your layer 1 has gone uphill. Which sign does a step of "
                 "gradient descent have?"),
                ("squared", right**2, "That is the distance squared. The distance between two numbers is the size of their difference."),
                ("relative", right / g, "You divided by the size of G. The distance alone is asked for."),
                ("signed", -right, "The size is right, but a distance cannot be negative."),
                ("wrong_layer", small["layer_1"], "That is how the gradient of layer 1 changes when layer 2 moves. The "
                 "definition moves the layers *below* and looks at the one above."),
                ("first_layer", 0.0, "Zero is what layer 1 has: nothing lies below it. Something lies below layer 2."),
                ("gradient", small["G_prime"], "That is G′ itself. How far is it from G?"),
                ("other_rate", abs(g - large["G_prime"]), "That is the distance at learning rate 0.15; 0.05 is asked for here."),
                ("lr_forgotten", abs(g - pencil(1.0)["G_prime"]), "Your w₁ moves by the whole gradient. Where is the learning rate?"),
            ],
            f"Layer 2 has G = {g:g} at the old weights. Move w₁ by its step at learning rate 0.05, put the new w₁ and the "
            "old w₂ into the same formula, and compare.",
        )  # fmt: skip
    with marks.part(1):
        g_prime = large["G_prime"]
        judge_number(
            number(ask, "cosine", entry(ask, "cosine")),
            -1.0,
            0.01,
            [
                ("not_turned", 1.0, "A cosine of 1 says that G and G′ have the same sign. Work both out at learning rate 0.15: "
                 "what is w₂w₁ − 1 before, and after w₁ has moved?"),
                ("dot_product", g * g_prime, "That is the product of G and G′. A cosine does not depend on how long the two "
                 "are: divide by both lengths."),
                ("gradient", g_prime, "That is G′ itself. A cosine compares its direction with that of G, and for single "
                 "numbers there are only two directions."),
                ("angle", 180.0, "That is the angle, in degrees. Its cosine is asked for."),
                ("angle", float(np.pi), "That is the angle. Its cosine is asked for."),
                ("no_direction", 0.0, "A cosine of 0 would be a right angle. G and G′ are single numbers here: how many "
                 "directions are there?"),
            ],
            "G and G′ are single numbers here, so they can only point the same way or opposite ways. Which cosine belongs to "
            "each?",
        )  # fmt: skip
    with marks.part(1):
        not_both = (
            "You moved w₁ and then either left w₂ alone or let it look at the new w₁. In gradient descent both weights step "
            "at once, each by its gradient at the old weights."
        )
        judge_number(
            number(ask, "loss", entry(ask, "loss")),
            large["loss"],
            0.006,
            [
                ("not_both", large["only_below"], not_both),
                ("only_above", large["only_above"], "You moved w₂ and left w₁ where it is. In gradient descent both weights step at once."),
                ("factor", 2 * large["loss"], "Twice too much: the loss has a factor in front of the square."),
                ("not_squared", large["error"], "That is w₂w₁ − 1. What does the loss do with it?"),
                ("before", large["loss_before"], "That is the loss before the step."),
                ("ascent", pencil(0.15, +1)["loss"], "Both weights have gone uphill. Which sign does a step have?"),
                ("other_rate", small["loss"], "That is the loss after a step at learning rate 0.05; 0.15 is asked for."),
            ],
            "Both weights step at once, each by 0.15 times its own gradient at the old weights. Then put the two new weights "
            "into the loss.",
        )  # fmt: skip


# ---- q3: Definition 2.1 ----------------------------------------------------------------------------------------------


def gradients(loss, weights, x, y) -> list[torch.Tensor]:
    leaves = [W.detach().requires_grad_() for W in weights]
    return list(torch.autograd.grad(loss(leaves, x, y), leaves))


def one_after_another(loss, weights, x, y, lr):
    """The step as it is not: each layer moves by its gradient in the network whose lower layers have already moved."""
    new = list(weights)
    for i in range(len(new)):
        new[i] = new[i] - lr * gradients(loss, new, x, y)[i]
    return new


def compared(loss, weights, x, y, lr, *, moves=lambda j, i: j < i, start=None, rate=lambda lr: lr, step=lambda g: g,
             sequential=False, together=False, accumulate=False, of_weights=False, backwards=False, from_end=False):  # fmt: skip
    """G and G′ of every layer i. `moves(j, i)`: whether layer j has taken its step in G′; `start(j, i)`: whether it has in
    G. `step(g)`: what a layer moves by, in place of its gradient. `together`: the gradients of all layers in place of layer i's.
    `accumulate`: G′ as .grad holds it when it is never set back to zero. `of_weights`: a layer's weights before and after, in
    place of gradients. `backwards`: the last layer first. `from_end`: `moves` counts the layers that move from the last one."""
    old = gradients(loss, weights, x, y)
    if sequential:
        new = one_after_another(loss, weights, x, y, lr)
    else:
        new = [W - rate(lr) * step(g) for W, g in zip(weights, old)]
    if of_weights:
        return list(zip(weights, new))

    def after(chosen, i):
        moved = [chosen(j, i) for j in range(len(new))][:: -1 if from_end else 1]
        return gradients(loss, [a if m else b for m, a, b in zip(moved, new, weights)], x, y)

    pairs = [(after(start, i) if start else old, after(moves, i)) for i in range(len(new))]
    if together:
        return [tuple(torch.cat([v.flatten() for v in side]) for side in pair) for pair in pairs]
    if accumulate:
        return [(old[i], old[i] + sum(G_prime[i] for _, G_prime in pairs[: i + 1])) for i in range(len(new))]
    return [(G[i], G_prime[i]) for i, (G, G_prime) in enumerate(pairs)][:: -1 if backwards else 1]


def length(v):
    return v.square().sum().sqrt()


def distance(g, h):
    return length(g - h)


def cosine(g, h):
    return (g * h).sum() / (length(g) * length(h))


def definition(loss, weights, x, y, lr):
    """Definition 2.1 of Santurkar et al. 2018: distances and cosines, layer 1 first."""
    pairs = compared(loss, weights, x, y, lr)
    return tuple(torch.stack([measure(g, h) for g, h in pairs]) for measure in (distance, cosine))


MOVES = [
    ("itself_moved", dict(moves=lambda j, i: j <= i), "In your G′ layer i itself has moved too. Then layer 1, with nothing below "
     "it, already reports a shift. Whose moves does the definition ask about?"),
    ("everything_moved", dict(moves=lambda j, i: True), "In your G′ the whole network has taken its step. That is the gradient "
     "of the next step, and layer 1 shows it: nothing lies below it, so what must its shift be?"),
    ("others_moved", dict(moves=lambda j, i: j != i), "In your G′ every layer but layer i has moved, those above it too. Layer 1 "
     "has nothing below it: what must its shift be, and what do you report?"),
    ("above_moved", dict(moves=lambda j, i: j > i), "You moved the layers *above* layer i. Your last layer reports no shift; which "
     "layer should have none? Layers are counted from the input."),
    ("above_moved", dict(moves=lambda j, i: j >= i), "You moved layer i and the layers *above* it. Which part of the list of "
     "weights is below layer i? Layers are counted from the input."),
    ("above_moved", dict(from_end=True), "You counted from the output: as many layers as lie below layer i have moved, but at the other end. "
     "Layers are counted from the input."),
    ("one_short", dict(moves=lambda j, i: j < i - 1), "You stop one layer short: in your G′ the layer right below layer i has not "
     "moved. Your layer 2 reports no shift at all. Look at where your indices start."),
    ("neighbour", dict(moves=lambda j, i: j == i - 1), "In your G′ only the layer right below layer i has moved. Right for layer 2; "
     "for layer 3, which layers lie below?"),
    ("previous", dict(start=lambda j, i: j < i - 1), "Your G is not taken at the old weights: when you get to layer i, some layers "
     "below have already moved. Right for layers 1 and 2, and no longer for layer 3. Where do you overwrite G?"),
    ("only_itself", dict(moves=lambda j, i: j == i), "In your G′ layer i has moved and the layers below it have not: that is the "
     "other way round."),
    ("nothing_moved", dict(moves=lambda j, i: False), "You report no shift for any layer: your two gradients are the same. Has "
     "anything moved when the second one is taken? Or are both names for one tensor that was changed in between?"),
    ("accumulated", dict(accumulate=True), "Your second gradient still holds the first: `.backward()` *adds* to `.grad`. Where is it "
     "set back to zero? (The function `gradients` above starts afresh each time.)"),
    ("sequential", dict(sequential=True), "Your layers step one after another: each takes its gradient in a network whose "
     "lower layers have already moved. Layers 1 and 2 come out right, layer 3 does not. At which weights does an optimizer "
     "compute all gradients?"),
    ("ascent", dict(rate=lambda lr: -lr), "Your layers go uphill: the step has the wrong sign. Right for a learning rate of −lr."),
    ("lr_forgotten", dict(rate=lambda lr: 1), "The learning rate has no effect on your answer. How far do the layers go in one step?"),
    ("other_rate", dict(rate=lambda lr: 2 * lr), "Your layers go twice as far as the learning rate says."),
    ("other_rate", dict(rate=lambda lr: lr / 2), "Your layers go half as far as the learning rate says."),
    ("not_the_gradient", dict(step=lambda g: g / length(g)), "Your layers move by a gradient of length 1. The step of gradient descent "
     "is as long as the gradient times the learning rate."),
    ("not_the_gradient", dict(step=torch.sign), "Your layers move by the sign of the gradient. The definition takes the step of plain "
     "gradient descent."),
    ("start_moved", dict(start=lambda j, i: True), "Your G is the gradient at the *new* weights, all layers moved. G is what layer i "
     "stepped by: at which weights was that?"),
    ("own_step", dict(start=lambda j, i: j < i, moves=lambda j, i: j <= i), "You compare layer i's gradient before and after its own step, "
     "with the layers below moved in both. What did the *others'* steps do to it?"),
    ("of_weights", dict(of_weights=True), "You compare a layer's weights before and after the step. The definition compares two "
     "gradients."),
    ("backwards", dict(backwards=True), "Your numbers are right, and in the wrong order: layer 1 is the one at the input."),
    ("all_layers", dict(together=True), "You compare the gradients of *all* layers at once. Layer i is the one whose target may "
     "have moved: take its gradient only."),
]  # fmt: skip


def scaled(g, h):
    return distance(g, h) / length(g)


def rowwise(g, h, axis=1):
    return F.cosine_similarity(g, h, dim=axis).mean()


def spectral(g, h):
    return torch.linalg.matrix_norm(g - h, 2)


SQUARED = "You report squared distances. ‖G − G′‖ has the unit of a gradient: which step is missing?"
RELATIVE = "You divide the distances by the size of a gradient. That is a useful number too (chapter 05 uses it), but not the one asked for."
LENGTHS = "You subtract lengths. Two gradients can be equally long and point in opposite directions: take the difference first, then its length."
SIGNED = "You add up differences of both signs, which cancel. A distance adds up their squares, and takes a root."
ROW_LENGTHS = "You take the length of each row or column, and then average or add these. A layer is one long list of numbers here: one length."
SPECTRAL = "You take the largest singular value: torch.linalg.norm(M, 2) of a matrix means that. Here a weight matrix is one long list of numbers."
NUCLEAR = "You add up singular values. Here a weight matrix is one long list of numbers."
TOO_LONG = "That is the product of the two gradients. A cosine does not change when a gradient is twice as long: divide by both lengths."
ONE_LENGTH = "You divide by the length of one gradient, squared. The two gradients have different lengths: which product belongs there?"
ROWS = "You average the cosines of single rows or columns. (torch's cosine_similarity works along one axis.) A layer has one direction: lay all its weights in one long list first."
DIFFERENCE = "You compare G with the difference G′ − G. The definition asks for the angle between G and G′ themselves."
DISTANCES = [
    ("squared", lambda g, h: (g - h).square().sum(), SQUARED),
    ("relative", scaled, RELATIVE),
    ("relative", lambda g, h: distance(g, h) / length(h), RELATIVE),
    ("averaged", lambda g, h: (g - h).square().mean(), "You average the squared differences over the weights. Then a larger layer "
     "shifts less. A distance adds them up, and takes a root."),
    ("averaged", lambda g, h: (g - h).square().mean().sqrt(), "You average over the weights before you take the root. A distance "
     "adds up the squares of all differences."),
    ("averaged", lambda g, h: (g - h).abs().mean(), "You average absolute differences. The ℓ2 distance adds up squares, and takes a root."),
    ("relative", lambda g, h: distance(g, h) / (length(g) + length(h)), RELATIVE),
    ("relative", lambda g, h: scaled(g, h) ** 2, RELATIVE),
    ("largest", lambda g, h: (g - h).abs().max(), "You report the largest difference of a single weight. The ℓ2 distance adds up the "
     "squares of all of them, and takes a root."),
    ("signed", lambda g, h: (g - h).sum(), SIGNED),
    ("signed", lambda g, h: (g - h).sum().abs(), SIGNED),
    ("row_lengths", lambda g, h: (g - h).norm(dim=1).mean(), ROW_LENGTHS),
    ("row_lengths", lambda g, h: (g - h).norm(dim=0).mean(), ROW_LENGTHS),
    ("row_lengths", lambda g, h: (g - h).norm(dim=1).sum(), ROW_LENGTHS),
    ("row_lengths", lambda g, h: (g - h).norm(dim=0).sum(), ROW_LENGTHS),
    ("absolute", lambda g, h: (g - h).abs().sum(), "You add up absolute values. The ℓ2 distance adds up squares, and takes a root."),
    ("lengths", lambda g, h: length(g) - length(h), LENGTHS),
    ("lengths", lambda g, h: (length(g) - length(h)).abs(), LENGTHS),
    ("spectral", spectral, SPECTRAL),
    ("spectral", lambda g, h: torch.linalg.matrix_norm(g - h, "nuc"), NUCLEAR),
    ("order", cosine, "Your first output holds cosines: distances first, then cosines."),
]  # fmt: skip
COSINES = [
    ("not_normalized", lambda g, h: (g * h).sum(), TOO_LONG),
    ("one_length", lambda g, h: (g * h).sum() / g.square().sum(), ONE_LENGTH),
    ("sum_of_lengths", lambda g, h: (g * h).sum() / (length(g) + length(h)), "You divide by the sum of the two lengths. Two equal "
     "gradients should give 1, whatever their length: which combination of the lengths does that?"),
    ("squared_lengths", lambda g, h: (g * h).sum() / (length(g) * length(h)) ** 2, "You divide by the squares of the lengths. Which root is "
     "missing?"),
    ("averaged", lambda g, h: (g * h).mean() / (length(g) * length(h)), "You average the products of the weights, where a cosine adds them "
     "up. A larger layer would have a smaller cosine."),
    ("correlation", lambda g, h: F.cosine_similarity((g - g.mean()).flatten(), (h - h.mean()).flatten(), 0), "You subtract each gradient's mean first: that is a correlation. The "
     "angle is between the gradients as they are."),
    ("one_length", lambda g, h: (g * h).sum() / h.square().sum(), ONE_LENGTH),
    ("rows", rowwise, ROWS),
    ("rows", lambda g, h: rowwise(g, h, 0), ROWS),
    ("difference", lambda g, h: F.cosine_similarity(g.flatten(), (h - g).flatten(), 0), DIFFERENCE),
    ("difference", lambda g, h: F.cosine_similarity(g.flatten(), (g - h).flatten(), 0), DIFFERENCE),
    ("angle", lambda g, h: torch.arccos(cosine(g, h).clamp(-1, 1)), "That is the angle. Its cosine is asked for."),
    ("one_minus", lambda g, h: 1 - cosine(g, h), "You report 1 − cosine. Two gradients that agree should give 1 here."),
    ("absolute", lambda g, h: cosine(g, h).abs(), "Your cosines have lost their sign. A gradient that turns round should give −1."),
    ("order", distance, "Your second output holds distances: distances first, then cosines."),
]  # fmt: skip


def definition_flaws(measure, others: list[tuple], common: tuple[str, ...], known: dict) -> list[Misconception]:
    """The wrong measure, the wrong move, and every wrong move with the wrong measures that are `common`. `known` holds the
    gradients found so far in this check, since many formulas differ only in what they do with them."""

    def formula(by, row=None):
        def compute(*args):
            key = row, args[-1]  # the learning rate, drawn anew for each trial, tells trials apart
            if key not in known:
                known[key] = compared(*args, **({} if row is None else MOVES[row][1]))
            return torch.stack([by(g, h) for g, h in known[key]])

        return compute

    measures = [Misconception(code, say, formula(by)) for code, by, say in others]
    measures += [
        Misconception("running_sum", "You add up over the layers: each number holds those before it. Each layer has a number of its own.",
                      lambda *args: formula(measure)(*args).cumsum(0)),
        Misconception("divided", "You divide by the number of layers. Each layer has a number of its own; nothing is averaged over layers.",
                      lambda *args: formula(measure)(*args) / len(args[1])),
    ]  # fmt: skip
    moves = [Misconception(code, say, formula(measure, row)) for row, (code, _, say) in enumerate(MOVES)]
    both = [
        Misconception(code, f"Two things at once. {say} And: {also}", formula(by, row))
        for row, (code, _, say) in enumerate(MOVES)
        for other, by, also in others
        if other in common
    ]
    return measures + moves + both


def describe_distance(got: torch.Tensor, trial: Trial) -> str:
    if (got < 0).any():
        return f"You report a distance of {float(got.min()):.3g}; a distance cannot be negative."
    if abs(float(got[0])) > CLOSE:
        return f"For layer 1 you report a distance of {float(got[0]):.3g}. Nothing lies below layer 1: what must it be?"
    i = int((got - trial.right[0]).abs().argmax())
    return (
        f"Layer 1 comes out with distance 0, as it has to; layer {i + 1} of {len(got)} with {float(got[i]):.3g}, which is not "
        "right. Try the network of question 2, where you know the answer."
    )


def describe_cosine(got: torch.Tensor, trial: Trial) -> str:
    if (got.abs() > 1 + 1e-6).any():
        return f"You report a cosine of {float(got[got.abs().argmax()]):.3g}; cosines lie between −1 and 1."
    if abs(float(got[0]) - 1) > CLOSE:
        return f"For layer 1 you report a cosine of {float(got[0]):.3g}. Nothing lies below layer 1: what must it be?"
    i = int((got - trial.right[1]).abs().argmax())
    return (
        f"Layer 1 comes out with cosine 1, as it has to; layer {i + 1} of {len(got)} with {float(got[i]):.3g}, which is not "
        "right. Look at G and G′ of that layer: which two gradients do you compare?"
    )


def draw_pencil(rng) -> tuple:
    """The network of question 2 with other numbers: the gradient of layer 2 turns round."""
    w2 = float(rng.uniform(2, 4))
    fastest, slowest = 1 / ((w2 - 1) * w2), 1 / w2**2  # the learning rates between which it does
    lr = slowest + float(rng.uniform(0.3, 0.7)) * (fastest - slowest)
    one = torch.ones(1, 1, dtype=torch.float64)
    return Given("ex02", "network_loss", (False, "none", True)), [one, w2 * one], one, one, lr


def draw_network(rng, layers: int, norm: bool, activation: str, squared: bool) -> tuple:
    """loss, weights, x, y, lr: a network that moves far enough in one step for every mistake to show."""
    widths = [int(n) for n in rng.integers(3, 7, layers + 1)]
    weights = [torch.from_numpy(rng.standard_normal((a, b)) * 1.2 / a**0.5) for a, b in zip(widths, widths[1:])]
    x = torch.from_numpy(rng.standard_normal((12, widths[0])))
    y = torch.from_numpy(rng.standard_normal((12, widths[-1])) if squared else rng.integers(0, widths[-1], 12))
    return Given("ex02", "network_loss", (norm, activation, squared)), weights, x, y, float(rng.uniform(0.2, 0.5))


def moved(trial: Trial) -> bool:
    """Whether the network, or the batch, is somewhere else afterwards. Moving it there and back changes a last digit, which is
    forgiven."""
    before, after = tensors_in(trial.args), trial.reply.inputs
    return len(before) != len(after) or any(
        a.array is None or a.shape != tuple(b.shape) or not np.allclose(a.array, b.numpy()) for b, a in zip(before, after)
    )


def pairs_of(trials: list[Trial]) -> None:
    """A pair for each layer in place of two lists. Where there are two layers, the one cannot be told from the other."""
    for trial in trials:
        layers = len(trial.args[1])
        if layers > 2 and [value.shape for value in trial.reply.values] in ([(2,)] * layers, [(layers, 2)]):
            raise Feedback(
                "wrong_count",
                f"Return two lists, the distances and the cosines; yours is one list of {layers} (a pair for each layer?).",
            )


def check_q3(ask: Ask, rng, marks: Marks) -> None:
    cases = [
        draw_network(rng, 3, False, "tanh", False),
        draw_network(rng, 3, True, "relu", False),
        draw_network(rng, 3, False, "none", True),
        draw_pencil(rng),
    ]
    known = {}
    trials = [ask_trial(ask, case, definition) for case in cases]
    pairs_of(trials)
    with marks.part(3):
        flaws = definition_flaws(distance, DISTANCES, ("squared", "relative"), known)
        judge(trials, 0, "The first output (distances)", flaws, describe_distance)
    with marks.part(2):
        flaws = definition_flaws(cosine, COSINES, ("not_normalized", "rows"), known)
        judge(trials, 1, "The second output (cosines)", flaws, describe_cosine)
    with marks.part(1):
        if marks.feedback:
            raise marks.feedback[0]
        if any(moved(trial) for trial in trials):
            raise Feedback(
                "in_place",
                "The numbers are right, but afterwards the network is not where it was: `-=` and methods that end in an "
                "underscore move the caller's weights. A thermometer should not heat the room: make new tensors.",
            )


# ---- q4: the experiment ----------------------------------------------------------------------------------------------

SIZES = (64, 24, 24, 24, 24, 24, 10)
STEPS, EVERY, BATCH, LOOKS_AT, SEEDS = 40, 5, 64, 256, 4
EXPERIMENTS = {"A": (False, 0.3), "B": (True, 0.3), "C": (True, 0.03)}  # whether pixels are divided by their sd; learning rate
NETWORKS = ("plain", "batch norm")


def received(weights, x, norm: bool) -> list[torch.Tensor]:
    """What each activation receives."""
    h, zs = x, []
    for W in weights[:-1]:
        z = h @ W
        zs.append((z - z.mean(0)) / torch.sqrt(z.var(0, correction=0) + 1e-9) if norm else z)
        h = torch.relu(zs[-1])
    return zs


def one_run(norm: bool, images, labels, lr: float, seed: int) -> dict[str, float]:
    loss, draw = network_loss(norm, "relu", False), torch.Generator().manual_seed(seed)
    weights = [torch.randn(a, b, generator=draw, dtype=torch.float64) * (2 / a) ** 0.5 for a, b in zip(SIZES, SIZES[1:])]
    fixed = images[:LOOKS_AT]
    moments, cosines = [], []
    for step in range(STEPS):
        rows = torch.randint(len(images), (BATCH,), generator=draw)
        x, y = images[rows], labels[rows]
        new = [W - lr * g for W, g in zip(weights, gradients(loss, weights, x, y))]
        if step % EVERY == 0:
            cosines.append(definition(loss, weights, x, y, lr)[1][1:].mean())
            both = zip(received(weights, fixed, norm), received(new, fixed, norm))
            moments.append(torch.stack([moment_shift(before, after)[0] for before, after in both]).mean())
        weights = new
    return {
        "moments": float(torch.stack(moments).mean()),
        "cosine": float(torch.stack(cosines).mean()),
        "loss": float(loss(weights, fixed, labels[:LOOKS_AT])),
    }


@lru_cache(1)
def results() -> dict[tuple[str, str], dict[str, float]]:
    """(experiment, network) → the averages over seeds that the notebook's table shows."""
    from bncourse import data

    digits, found = data.load("digits"), {}
    pixels, labels = digits.x_train.double(), digits.y_train
    for name, (standardized, lr) in EXPERIMENTS.items():
        images = pixels / pixels.std() if standardized else pixels
        for network in NETWORKS:
            runs = [one_run(network == "batch norm", images, labels, lr, seed) for seed in range(SEEDS)]
            found[name, network] = {key: sum(run[key] for run in runs) / SEEDS for key in runs[0]}
    return found


def who_moves_more(key: str, sign: int) -> list[str]:
    """The network with the larger `sign` × `key` in each experiment."""
    return [max(NETWORKS, key=lambda network: sign * results()[name, network][key]) for name in EXPERIMENTS]


def listed(ask: Ask, key: str, count: int) -> list:
    got = entry(ask, key)
    got = got.tolist() if isinstance(got, torch.Tensor) and got.dim() == 1 else got
    if not isinstance(got, list) or len(got) != count:
        raise Feedback("wrong_type", f"{key!r} has to be a list with {count} entries.")
    return got


def check_q4(ask: Ask, rng, marks: Marks) -> None:
    with marks.part(1):
        choose(entry(ask, "moments"), who_moves_more("moments", 1)[0], MOMENT_CHOICES)
    with marks.part(1):
        check_words([word(got) for got in listed(ask, "gradients", 3)], who_moves_more("cosine", -1))
    with marks.part(1):
        check_cosines([number(ask, "cosines", got) for got in listed(ask, "cosines", 2)])
    with marks.part(1):
        before, after = (results()[name, "plain"]["loss"] for name in "AB")
        right, wrong = ("lower", "higher") if after < before else ("higher", "lower")
        saying = (
            "Look at the last column of the two rows of the plain network, A and B. What happened to its loss when its "
            "cosine changed?"
        )
        choose(entry(ask, "loss"), right, {wrong: saying})


MOMENT_CHOICES = {
    "batch norm": "Look at the column of moments again: how far do the means of the batch-normalized network move, and can they?",
    "depends": "It could have depended on the experiment. Compare the two networks in the column of moments, experiment by "
    "experiment.",
}


def word(got) -> str:
    if not isinstance(got, str) or got.strip().lower() not in NETWORKS:
        raise Feedback("wrong_type", f"Each entry of 'gradients' is one of {', '.join(map(repr, NETWORKS))}.")
    return got.strip().lower()


def check_words(got: list[str], right: list[str]) -> None:
    if got == right:
        return
    if all(g != r for g, r in zip(got, right)):
        raise Feedback("cosine_reversed", "Each of the three is the wrong way round. Which cosine means more shift, one near 1 or one near 0?")
    if len(set(got)) == 1:
        raise Feedback("all_the_same", "One network for all three experiments: is that what your column of cosines says, or what you expected?")
    wrong = [name for name, g, r in zip(EXPERIMENTS, got, right) if g != r]
    raise Feedback("one_experiment", f"Not right for {' and '.join(wrong)}. The network with the *smaller* cosine there shifts more.")


def check_cosines(got: list[float]) -> None:
    right = [results()[name, "plain"]["cosine"] for name in "AB"]
    other = [results()[name, "batch norm"]["cosine"] for name in "AB"]

    def near(numbers):
        return all(abs(g - n) <= 0.02 for g, n in zip(got, numbers))

    if near(right):
        return
    if near(right[::-1]):
        raise Feedback("swapped", "The two are in the wrong order: first A, then B.")
    if near(other):
        raise Feedback("other_network", "Those are the cosines of the batch-normalized network. The plain one's are asked for.")
    if near([results()[name, "plain"]["loss"] for name in "AB"]):
        raise Feedback("wrong_column", "Those are losses. Which column holds the cosines?")
    raise Feedback(
        "unknown",
        "Those are not the numbers in the rows A and B of the plain network, column cosine, to two decimals. Do the checks of "
        "questions 1 and 3 pass? Has a number in the cell of the experiment been changed?",
    )


QUESTIONS = {
    "q1": Question("moment_shift", 4, check_q1),
    "q2": Question("answer_q2", 3, check_q2, VALUE),
    "q3": Question("definition", 6, check_q3),
    "q4": Question("answer_q4", 4, check_q4, VALUE),
    "q5": Written(
        "answer_q5",
        {
            "says what each of the two definitions finds in your runs, with numbers from the table": 1,
            "says what does not follow for the explanation of 2015, and why": 1,
            "names an experiment that holds something fixed, and the results that would speak for and against": 1,
        },
        words=(60, 220),
    ),
}
