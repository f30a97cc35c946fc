"""ex06: gradient flow and scale invariance.

Three laws and what follows from them. Batch norm multiplies the gradient by √(E φ′² / Var φ) a layer; in front of a
normalizer ∇(c w) = ∇(w) / c; so the size of a gradient there is a matter of units, and weight decay is a learning rate in
disguise. Right answers are computed in float64, by autograd or in closed form; the two networks of q4 are trained once.
"""

import math
from functools import lru_cache
from itertools import combinations

import torch
import torch.nn.functional as F

from .calls import Given, is_number
from .checks import VALUE, Ask, Misconception, Question, Trial, Written, changed, judge, output
from .feedback import Feedback, Marks


def after(marks: Marks) -> None:
    """For a part that says nothing on its own: fails when an earlier one did."""
    if marks.feedback:
        raise marks.feedback[0]


def gradient_norms(loss, weights) -> torch.Tensor:
    with torch.enable_grad():
        weights = [w.detach().requires_grad_() for w in weights]
        return torch.stack([g.norm() for g in torch.autograd.grad(loss(weights), weights)])


def draw_layers(rng, sizes: list[int], spread: float) -> list[torch.Tensor]:
    """Matrices whose overall size differs from layer to layer by up to e^±spread."""
    return [
        torch.from_numpy(rng.standard_normal((n, m)) / math.sqrt(n) * math.exp(rng.uniform(-spread, spread)))
        for n, m in zip(sizes, sizes[1:])
    ]


def draw_problem(rng, maker: str, sizes: list[int], spread: float, examples: int = 12) -> tuple[Given, list]:
    x, target = (torch.from_numpy(rng.standard_normal((examples, n))) for n in (sizes[0], sizes[-1]))
    return Given("ex06", maker, (x, target)), draw_layers(rng, sizes, spread)


# ---- q1: growth of the gradient a layer ------------------------------------------------------------------------------


def growth(loss, weights, *, size=lambda g: g.norm(), mean="geometric", down=True):
    """One formula, exchangeable parts: what is measured of a gradient, how ratios are averaged, and in which direction."""
    with torch.enable_grad():
        weights = [w.detach().requires_grad_() for w in weights]
        sizes = torch.stack([size(g) for g in torch.autograd.grad(loss(weights), weights)])
    sizes = sizes if down else sizes.flip(0)
    layers, whole = len(sizes), sizes[0] / sizes[-1]
    if mean == "arithmetic":
        return (sizes[:-1] / sizes[1:]).mean()
    if mean == "fitted":
        depth = torch.arange(layers, dtype=sizes.dtype) - (layers - 1) / 2
        return torch.exp(-(depth * sizes.log()).sum() / (depth**2).sum())
    return whole ** {"geometric": 1 / (layers - 1), "whole": 1, "off_by_one": 1 / layers}[mean]


GROWTH_SAYINGS = {
    "upwards": "Your factor is that from the input towards the output. The gradient travels the other way: which layer does "
    "it reach first, and which last?",
    "squared": "Your factor is that of the *squared* norms. By how much does a norm grow when its square doubles?",
    "largest_entry": "You follow the largest entry of each gradient. The question is about the norm of all of them.",
    "per_entry": "You divide each norm by the number of entries (or its root). Layers of different shapes then count "
    "differently; the norm itself is asked for.",
    "spectral": "You take the largest singular value of each gradient (ord=2 of a matrix). Asked for is the root of the sum "
    "of all squared entries.",
    "arithmetic": "You add up the ratios and divide. Think of a gradient that is doubled by one layer and halved by the next: "
    "where is it after both, and what does your average say?",
    "fitted": "You fit a line to the logarithms of the norms. That is a sensible estimate, and another number than the "
    "geometric mean of the ratios. What is left of the product of all ratios when you write it out?",
    "whole": "That is the growth over the whole network. How much is it for each step from one layer to the next?",
    "off_by_one": "Your root is the L-th for L layers. How many steps are there from the last layer to the first?",
}  # fmt: skip

GROWTH_FLAWS = [
    ("upwards", dict(down=False)),
    ("squared", dict(size=lambda g: g.square().sum())),
    ("largest_entry", dict(size=lambda g: g.abs().max())),
    ("per_entry", dict(size=lambda g: g.square().mean().sqrt())),
    ("per_entry", dict(size=lambda g: g.abs().mean())),
    ("per_entry", dict(size=lambda g: g.norm() / g.numel())),
    ("spectral", dict(size=lambda g: torch.linalg.matrix_norm(g, 2))),
    ("arithmetic", dict(mean="arithmetic")),
    ("fitted", dict(mean="fitted")),
    ("whole", dict(mean="whole")),
    ("off_by_one", dict(mean="off_by_one")),
]


def flawed_growth() -> list[Misconception]:
    """Every flaw alone, then every two together (both are then named)."""

    def formula(change):
        return lambda loss, weights: growth(loss, weights, **change)

    alone = [Misconception(code, GROWTH_SAYINGS[code], formula(change)) for code, change in GROWTH_FLAWS]
    pairs = [
        Misconception(a, f"Two things at once. {GROWTH_SAYINGS[a]} And: {GROWTH_SAYINGS[b]}", formula({**one, **two}))
        for (a, one), (b, two) in combinations(GROWTH_FLAWS, 2)
        if not one.keys() & two.keys()
    ]
    return alone + pairs


GROWTH = flawed_growth()


def describe_growth(got, trial: Trial) -> str:
    norms = gradient_norms(trial.args[0].build(), trial.args[1])
    return (
        f"You return {float(got):.4g} for a network whose gradients have, from the first layer to the last, the norms "
        f"{', '.join(f'{n:.3g}' for n in norms.tolist())}. Work this case out by hand."
    )


def check_q1(ask: Ask, rng, marks: Marks) -> None:
    # The second is long enough for every mean to give another number; the others have layers of different shapes.
    shapes = [[3, 6, 2], [4] * int(rng.integers(6, 9)), rng.integers(2, 7, 5).tolist()]
    trials = [ask.trial(draw_problem(rng, "plain_loss", sizes, 0.7), growth, 1e-6) for sizes in shapes]
    with marks.part(3):
        judge(trials, 0, "The growth", GROWTH, describe_growth)


# ---- q2: the growth that batch norm brings, for any activation -------------------------------------------------------

GRID = torch.linspace(-9, 9, 3001, dtype=torch.float64)
GAUSS = torch.exp(-(GRID**2) / 2) / torch.exp(-(GRID**2) / 2).sum()


def averages(activation, z=GRID, weight=GAUSS) -> dict:
    """E φ, E φ², E φ′, E φ′² over z."""
    with torch.enable_grad():
        z = z.clone().requires_grad_()
        a = activation(z)
        (slope,) = torch.autograd.grad(a.sum(), z)
    a = a.detach()
    return {"a": (weight * a).sum(), "aa": (weight * a * a).sum(), "s": (weight * slope).sum(), "ss": (weight * slope**2).sum()}


def predict_growth(activation, formula=lambda e: (e["ss"] / (e["aa"] - e["a"] ** 2)).sqrt(), **over):
    return formula(averages(activation, **over))


def on_interval(k: float) -> dict:
    z = torch.linspace(-k, k, 1001, dtype=torch.float64)
    return {"z": z, "weight": torch.full_like(z, 1 / len(z))}


def predicted(code: str, message: str, formula) -> Misconception:
    return Misconception(code, message, lambda activation: predict_growth(activation, formula))


NOT_GAUSSIAN = (
    "You average over an interval with equal weights. Behind batch norm a unit is close to a standard normal variable: how "
    "much more often is it near 0 than near 3?"
)
PREDICTION = [
    predicted("squared", "Your number is the factor of the *squared* gradient. What is that of the gradient?",
              lambda e: e["ss"] / (e["aa"] - e["a"] ** 2)),
    predicted("upside_down", "Your fraction is upside down. Batch norm divides by a standard deviation: when that is small, "
              "does the gradient get larger or smaller?", lambda e: ((e["aa"] - e["a"] ** 2) / e["ss"]).sqrt()),
    predicted("mean_kept", "You divide by the mean square of the activation. What does batch norm do with the part of the "
              "signal that is the same for every example, before it divides?", lambda e: (e["ss"] / e["aa"]).sqrt()),
    predicted("averaged_too_early", "You average the slope and then square. A ReLU lets half of the entries of a gradient "
              "pass: what is left of its *squares*?", lambda e: e["s"].abs() / (e["aa"] - e["a"] ** 2).sqrt()),
    predicted("slope_forgotten", "The division by the standard deviation is there. On its way down the gradient also passes "
              "the activation: what does it multiply it by?", lambda e: (e["aa"] - e["a"] ** 2).rsqrt()),
    predicted("division_forgotten", "Your number knows only the activation's slope. Which number does batch norm divide the "
              "gradient by, and where does the activation come into that?", lambda e: e["ss"].sqrt()),
    predicted("variance_as_std", "You divide by the variance where the standard deviation belongs.",
              lambda e: e["ss"].sqrt() / (e["aa"] - e["a"] ** 2)),
    Misconception("relu_only", "You return ReLU's number whatever the activation is. Which averages over z stand behind it?",
                  lambda activation: torch.tensor(math.sqrt(math.pi / (math.pi - 1)), dtype=torch.float64)),
    *[
        Misconception("not_gaussian", NOT_GAUSSIAN, lambda activation, k=k: predict_growth(activation, **on_interval(k)))
        for k in (1, 2, 3, 4, 5, 6, 8, 10)
    ],
]  # fmt: skip


def describe_prediction(got, trial: Trial) -> str:
    given = trial.args[0]
    if given.maker == "squashed":
        name = "tanh({:.2f} z + {:.2f})".format(*given.args)
    else:
        name = "φ(z) = z" if given.args == (1.0,) else f"a leaky ReLU of slope {given.args[0]:.2f}"
    return (
        f"For {name} you predict {float(got):.3f}, which is farther off than rounding explains. For φ(z) = z nothing is lost on the "
        "way up or down, and the factor has to be 1; for ReLU chapter 09 derives it. What do you get for these two?"
    )


def check_q2(ask: Ask, rng, marks: Marks) -> None:
    steep, shift = rng.uniform(1.5, 3, 2), rng.uniform(0.4, 0.8, 2)
    even_handed = [("bent", (1.0,)), ("squashed", (float(steep[0]), 0.0)), ("squashed", (0.5, 0.0))]
    with_a_mean = [("bent", (float(rng.uniform(0.25, 0.4)),)), ("squashed", (float(steep[1]), float(shift[1]))), ("bent", (0.0,))]
    parts = [
        [ask.trial((Given("ex06", *maker),), predict_growth, 0.012) for maker in makers]
        for makers in (even_handed, with_a_mean)
    ]
    # Points for each part; but the reason is looked for in both, since odd activations cannot show every mistake.
    try:
        judge(parts[0] + parts[1], 0, "The factor", PREDICTION, describe_prediction)
        marks.points += 4
    except Feedback as feedback:
        reason = feedback
        for trials in parts:
            with marks.part(2):
                try:
                    judge(trials, 0, "The factor", PREDICTION, describe_prediction)
                except Feedback:
                    raise reason from None


# ---- q3: the same function with level gradients ----------------------------------------------------------------------


def level(loss, weights):
    norms = gradient_norms(loss, weights)
    return [w * norm / norms[-1] for w, norm in zip(weights, norms)]


def lengths(weights) -> torch.Tensor:
    return torch.stack([w.norm() for w in weights])


# What each layer is multiplied by when the gradients do not come out level, from the norms r of the gradients and the lengths
# n of the weights.
LEVELLING = [
    ("unchanged", "The weights that you return are those that you were given.", lambda r, n: torch.ones_like(r)),
    ("upside_down", "You make the layers with large gradients *shorter*, and their gradients grow. What does twice the weight "
     "do to the gradient, in front of a normalizer?", lambda r, n: r[-1] / r),
    ("upside_down", "You divide each layer by the norm of its gradient, and the imbalance grows. What does twice the weight do "
     "to the gradient, in front of a normalizer?", lambda r, n: 1 / r),
    ("half_way", "You multiply by the root of the imbalance, and its other half is left. (This would level something else: "
     "gradient over weight.) By how much does the gradient shrink when the weights double?", lambda r, n: (r / r[-1]).sqrt()),
    ("unit_length", "You bring all weights to the same length. Their gradients differ for another reason, too.",
     lambda r, n: 1 / n),
    ("unit_length", "You bring all weights to the same length. Their gradients differ for another reason, too.",
     lambda r, n: n[-1] / n),
    ("squared", "You multiply by the square of the imbalance, and the imbalance is turned round. ∇(cw) = ∇(w)/c: one power.",
     lambda r, n: (r / r[-1]) ** 2),
    ("average_growth", "You use the average growth for every step. It differs from layer to layer, so the result is level on "
     "average only: use the norms themselves.",
     lambda r, n: (r[0] / r[-1]) ** (torch.arange(len(r) - 1, -1, -1, dtype=r.dtype) / (len(r) - 1))),
]  # fmt: skip


def factors(trial: Trial) -> torch.Tensor:
    """What each matrix was multiplied by. `Feedback` when one is not a positive multiple of what it was."""
    found = []
    for index, w in enumerate(trial.args[1]):
        new = output(trial, index, f"Layer {index + 1}")
        c = (new * w).sum() / (w * w).sum()
        if c <= 0 or (new - c * w).norm() > 1e-6 * new.norm():
            raise Feedback(
                "another_direction",
                f"Layer {index + 1} that you return is not a positive multiple of the one you were given, so the network "
                "computes another function. One number a layer is all you may multiply by.",
            )
        found.append(c)
    return torch.stack(found)


def same(a, b) -> bool:
    return bool(((a / b).log().abs() < 1e-6).all())


def check_q3(ask: Ask, rng, marks: Marks) -> None:
    shapes = [[4, 5, 3, 4], [5] * 5, rng.integers(3, 7, 6).tolist()]
    trials = [ask.trial(draw_problem(rng, "normalized_loss", sizes, 0.8), level) for sizes in shapes]
    norms = [gradient_norms(t.args[0].build(), t.args[1]) for t in trials]
    before = [lengths(t.args[1]) for t in trials]
    found = []
    with marks.part(2):
        found = [factors(trial) for trial in trials]
        if not all(same(c / r, (c / r)[-1]) for c, r in zip(found, norms)):
            for code, message, wrong in LEVELLING:
                if all(same(c, wrong(r, n)) for c, r, n in zip(found, norms, before)):
                    raise Feedback(code, message)
            now = ", ".join(f"{v:.3g}" for v in (norms[0] / found[0]).tolist())
            was = ", ".join(f"{v:.3g}" for v in norms[0].tolist())
            raise Feedback("unknown", f"A network with gradients of norm {was} has {now} with your weights. They should be equal.")
    with marks.part(1):
        after(marks)
        if any(abs(c[-1] - 1) > 1e-6 for c in found):
            raise Feedback(
                "last_layer_changed",
                "The gradients are level and the function is the same. But the last layer was to stay as it is: which norm do "
                "the others have to come to?",
            )
        if any(changed(trial) for trial in trials):
            raise Feedback(
                "in_place",
                "The weights that you return are right, but those that you were given have changed as well. `*=` and methods "
                "that end in an underscore write into the caller's network: make new tensors.",
            )


# ---- q4: does it train better? ---------------------------------------------------------------------------------------

LAYERS, WIDTH, EXAMPLES, STEPS, RATE = 16, 64, 128, 60, 0.1


def forward(weights, x):
    for w in weights[:-1]:
        y = x @ w
        var, mean = torch.var_mean(y, 1, correction=0, keepdim=True)
        x = torch.relu((y - mean) / (var + 1e-12).sqrt())
    return x @ weights[-1]


def member_gradients(weights, x, labels):
    """Gradients of several networks' losses at once: every tensor has the network as its first axis."""
    weights = [w.detach().requires_grad_() for w in weights]
    loss = F.cross_entropy(forward(weights, x).flatten(0, 1), labels.flatten(), reduction="sum") / x.shape[1]
    return torch.autograd.grad(loss, weights)


def norm_of_each(tensors) -> torch.Tensor:
    return torch.stack([t.flatten(1).norm(dim=1) for t in tensors])


@lru_cache
def trained(seeds: int = 3) -> dict[str, float]:
    """Turn of the first layer over that of the last, and accuracy after training, as drawn and with level gradients."""
    from bncourse.data import load

    data = load("digits")
    x, labels = data.x_train.flatten(1), data.y_train
    found = {}
    with torch.enable_grad():
        for name in ("drawn", "levelled"):
            generators = [torch.Generator().manual_seed(1000 + seed) for seed in range(seeds)]
            weights = [
                torch.stack([math.sqrt(2 / WIDTH) * torch.randn(WIDTH, units, generator=g) for g in generators])
                for units in [WIDTH] * LAYERS + [data.classes]
            ]
            for step in range(STEPS):
                index = torch.stack([torch.randperm(len(x), generator=g)[:EXAMPLES] for g in generators])
                gradients = member_gradients(weights, x[index], labels[index])
                if step == 0:
                    norms = norm_of_each(gradients[:-1])
                    if name == "levelled":
                        scale = (norms / norms[-1])[:, :, None, None]
                        weights = [*(w * c for w, c in zip(weights, scale)), weights[-1]]
                        gradients = member_gradients(weights, x[index], labels[index])
                        norms = norm_of_each(gradients[:-1])
                    turn = norms / norm_of_each(weights[:-1])
                    found[f"turn {name}"] = (turn[0] / turn[-1]).log().mean().exp().item()
                weights = [w - RATE * g for w, g in zip(weights, gradients)]
            with torch.no_grad():
                right = forward(weights, x.expand(seeds, -1, -1)).argmax(-1) == labels
            found[f"accuracy {name}"] = right.double().mean().item()
    return found


def numbers(ask: Ask, keys: list[str]) -> dict[str, float]:
    """A dict of finite numbers with (at least) these keys."""
    got = ask.value()
    if not isinstance(got, dict):
        raise Feedback("wrong_type", f"{ask.answer} has to be a dict with the keys {', '.join(map(repr, keys))}.")
    missing = [key for key in keys if key not in got]
    if missing:
        raise Feedback("wrong_type", f"{ask.answer} has no {', '.join(map(repr, missing))}. Keep the keys as they are.")
    plain_numbers = {k: float(got[k]) if isinstance(got[k], torch.Tensor) and got[k].numel() == 1 else got[k] for k in keys}
    odd = [key for key, value in plain_numbers.items() if not is_number(value)]
    if odd:
        raise Feedback("wrong_type", f"{', '.join(map(repr, odd))} in {ask.answer} has to be one finite number.")
    return plain_numbers


def check_q4(ask: Ask, rng, marks: Marks) -> None:
    got, right = numbers(ask, ["turn drawn", "turn levelled", "accuracy drawn", "accuracy levelled"]), trained()
    one = right["turn drawn"]
    turns = [
        ("upside_down", 1 / one, "You divide the last layer's turn by the first one's; asked for is the first over the last."),
        ("per_layer", one ** (1 / (LAYERS - 1)), "That is the growth from one layer to the next. Asked for is that between "
         f"layer {LAYERS} and layer 1."),
    ]  # fmt: skip
    with marks.part(1):
        judge_ratio(got["turn drawn"], one, turns, "turn drawn")
    turns = [
        ("upside_down", one, "You divide the last layer's turn by the first one's; asked for is the first over the last."),
        ("gradients_only", 1, "The *gradients* are level now. The turn is gradient over weight: what has happened to the weights?"),
        ("half_way", one**0.5, "What is left is not half of the imbalance. Gradient and weight have both changed."),
    ]
    with marks.part(1):
        judge_ratio(got["turn levelled"], right["turn levelled"], turns, "turn levelled")
    with marks.part(1):
        drawn, levelled = got["accuracy drawn"], got["accuracy levelled"]
        if max(drawn, levelled) > 1.5 and 1 <= min(drawn, levelled) and max(drawn, levelled) <= 100:
            raise Feedback("percent", "Your accuracies are percentages. Give shares between 0 and 1.")
        far = [abs(drawn - right["accuracy drawn"]) > 0.15, abs(levelled - right["accuracy levelled"]) > 0.15]
        swapped = abs(drawn - right["accuracy levelled"]) < 0.15 and abs(levelled - right["accuracy drawn"]) < 0.15
        if swapped:
            raise Feedback("swapped", "Your two accuracies are the wrong way round. Look again at which line is which.")
        if any(far):
            raise Feedback(
                "other_accuracy",
                f"The accuracy of the network {'as drawn' if far[0] else 'with level gradients'} is not what our own run "
                f"gives. Take it at a learning rate of {RATE:g}, on the training images, after {STEPS} steps. Is the check "
                "of question 3 passed?",
            )


def judge_ratio(got: float, right: float, mistakes: list[tuple], key: str) -> None:
    """Within a factor of 1.6, since seeds differ; the mistakes are farther apart than that."""

    def near(number):
        return abs(math.log(got) - math.log(number)) < math.log(1.6)

    if got <= 0:
        raise Feedback("negative", f"{key!r} is a ratio of two lengths, so it cannot be {got:.3g}.")
    if near(right):
        return
    for code, number, message in mistakes:
        if near(number):
            raise Feedback(code, message)
    raise Feedback("unknown", f"{key!r} is {got:.3g}; our own run gives something else. Has question 3 passed its check?")


# ---- q5: weight decay as a schedule ----------------------------------------------------------------------------------


def shrinkage(rates, decay) -> torch.Tensor:
    """What decay alone has done to the weights before step 0, 1, …, T."""
    return torch.cat([torch.ones(1, dtype=rates.dtype), torch.cumprod(1 - rates * decay, 0)])


def twin(rates, decay, formula=lambda rates, now, then: rates / (now * then)):
    shrunk = shrinkage(rates, decay)
    return formula(rates, shrunk[:-1], shrunk[1:])


def steps_before(rates):
    return torch.arange(len(rates), dtype=rates.dtype)


def twinned(code: str, message: str, formula) -> Misconception:
    return Misconception(code, message, lambda rates, decay: twin(rates, decay, formula))


ONE_POWER = (
    "Your rates make up for the shrinking once. It comes in twice: the twin's weights are longer, so its step has to be longer "
    "to turn them as far; and its gradient …?"
)
COPIED = (
    "Right for a constant rate. Your exponent counts steps as if each had shrunk the weights by the same factor; with "
    "changing rates each step has its own. What is the product of all of them so far?"
)
OTHER_ALPHA = (
    "Your weights do not shrink by 1 − ηλ a step. Write out w − η(∇ + λw) and collect what multiplies w: is the learning "
    "rate in it?"
)
TWINS = [
    twinned("unchanged", "Your twin keeps the rates it had with decay. It has no decay, so its weights grow longer and longer: "
            "what does that do to the turn per step?", lambda rates, now, then: rates),
    twinned("one_power", ONE_POWER, lambda rates, now, then: rates / now),
    twinned("one_power", ONE_POWER, lambda rates, now, then: rates / then),
    twinned("shrinking", "Your rates fall where they should rise. The twin's weights grow longer than those of the decayed "
            "network: does it need larger or smaller steps to turn as far?", lambda rates, now, then: rates * now * then),
    twinned("too_early", "Nearly: you use the shrinking *before* the step twice. The step leads from u_t to u_{t+1}: which "
            "power of the shrinking is divided out of the new weights?", lambda rates, now, then: rates / now**2),
    twinned("too_late", "Nearly: you use the shrinking *after* the step twice. At which weights is the gradient taken, those "
            "before the step or those after it?", lambda rates, now, then: rates / then**2),
    Misconception("copied", COPIED,
                  lambda rates, decay: rates * (1 - rates * decay) ** -(2 * steps_before(rates) + 1)),
    Misconception("copied", COPIED, lambda rates, decay: rates * (1 - rates[0] * decay) ** -(2 * steps_before(rates) + 1)),
    Misconception("rate_forgotten", OTHER_ALPHA, lambda rates, decay: rates * (1 - decay) ** -(2 * steps_before(rates) + 1)),
    Misconception("sign", "Decay makes weights shorter: by 1 − ηλ, not by 1 + ηλ.",
                  lambda rates, decay: rates / twin(rates, -decay, lambda _, now, then: now * then)),
    Misconception("sign", "Decay makes weights shorter: by 1 − ηλ, not by 1 + ηλ.",
                  lambda rates, decay: rates * twin(rates, -decay, lambda _, now, then: now * then)),
]  # fmt: skip


def parting(rates, decay: float, others) -> tuple[int, float]:
    """After how many steps a decayed weight and its twin with the rates `others` point in other directions, and by how many
    degrees at most: descent on 1 − cos of the angle to (1, 1, 1)."""
    target = torch.ones(3, dtype=torch.float64) / math.sqrt(3)
    w = u = torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64)

    def gradient(v):
        unit = v / v.norm()
        return -(target - (target @ unit) * unit) / v.norm()

    first, most = 0, 0.0
    for step, (rate, other) in enumerate(zip(rates, others), start=1):
        w, u = (1 - rate * decay) * w - rate * gradient(w), u - other * gradient(u)
        apart = math.degrees(2 * math.asin(min(1.0, float((w / w.norm() - u / u.norm()).norm()) / 2)))
        first = step if apart > 1e-6 and not first else first
        most = max(most, apart) if math.isfinite(apart) else most
    return first, most


def describe_twin(got, trial: Trial) -> str:
    first, most = parting(trial.args[0], trial.args[1], got)
    index = int(((got - trial.right[0]).abs() > 1e-9 * trial.right[0]).nonzero()[0])
    said = f"From step {index} on (counted from 0) your rates are not those of the twin"
    if not first:
        return f"{said}, though the difference is small. Is something rounded?"
    return (
        f"{said}. On a small scale-invariant problem the two weights part at step {first - 1} and come to point up to {most:.2g} "
        "degrees apart. What do decayed weights and their twin have to have in common after every single step?"
    )


def check_q5(ask: Ask, rng, marks: Marks) -> None:
    constant = [(torch.full((int(n),), float(rng.uniform(0.2, 1)), dtype=torch.float64), float(rng.uniform(0.05, 0.2)))
                for n in (1, *rng.integers(5, 12, 2))]  # fmt: skip
    changing = [(torch.from_numpy(rng.uniform(0.2, 1, int(n))), float(rng.uniform(0.05, 0.2))) for n in rng.integers(5, 12, 2)]
    parts = [[ask.trial(args, twin) for args in cases] for cases in (constant, changing)]
    for points, trials in zip((1, 2), parts):
        with marks.part(points):
            judge(trials, 0, "What you return", TWINS, describe_twin)


QUESTIONS = {
    "q1": Question("growth", 3, check_q1),
    "q2": Question("predict_growth", 4, check_q2),
    "q3": Question("level", 3, check_q3),
    "q4": Question("answer_q4", 3, check_q4, VALUE),
    "q5": Question("twin", 3, check_q5),
    "q6": Written(
        "answer_q6",
        {
            "why short weights rule out no function, where weights are scale-invariant": 1,
            "evidence from your own run, with a number: who had long weights, and what it computed": 1,
            "what weight decay does to such weights instead": 1,
            "where the sentence could still be right, or where your evidence ends": 1,
        },
        (60, 200),
    ),
}
