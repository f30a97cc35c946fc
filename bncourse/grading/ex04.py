"""ex04: a walk along the gradient, four ways to draw "the loss landscape", and a counter-example against the wrong ones.

Questions 1 and 2 are judged on losses drawn afresh. For question 4 the student hands in two landscapes, and both the wrong
way and the real walk are made here, on both of them, to see whether the claimed reversal happens. The numbers of question 5
come from networks trained here as in the notebook.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from .calls import Given, is_number
from .checks import VALUE, Ask, Misconception, Question, Written, judge, judge_number
from .feedback import Feedback, Marks

MULTIPLES = (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)
EXACT = 1e-6  # tolerance in float64: autograd and a careful difference quotient both reach it


# ---- q1 and q2: losses to walk on, and the walk ----------------------------------------------------------------------


def normal(rng, *shape) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


def draw_parabola(rng, dtype=torch.float64) -> tuple:
    turned = torch.linalg.qr(normal(rng, 4, 4))[0]
    curvatures = torch.from_numpy(rng.uniform(0.5, 3, 4))
    matrix = (turned * curvatures) @ turned.T
    return Given("ex04", "parabola", ((matrix + matrix.T) / 2, normal(rng, 4))), (3 * normal(rng, 4)).to(dtype)


def gradient(loss, w) -> torch.Tensor:
    with torch.enable_grad():
        w = w.detach().requires_grad_()
        return torch.autograd.grad(loss(w), w)[0]


def on_a_line(loss, w, steps) -> list:
    g = gradient(loss, w)
    return [w - s * g for s in steps]


def on_a_path(loss, w, steps) -> list:
    """The mistake everybody makes once: a new gradient at every stop."""
    stops = []
    for s in steps:
        w = w - s * gradient(loss, w)
        stops.append(w)
    return stops


def adding_up(loss, w, steps) -> list:
    return on_a_line(loss, w, np.cumsum(steps))


def uphill(loss, w, steps) -> list:
    return on_a_line(loss, w, [-s for s in steps])


def by_distance(loss, w, steps) -> list:
    norm = gradient(loss, w).norm()
    return on_a_line(loss, w, [s / norm for s in steps])


WALKS = (("fresh_gradient", on_a_path), ("accumulated", adding_up), ("ascent", uphill), ("normalized", by_distance))


def losses_along(loss, w, steps, walk=on_a_line):
    return torch.stack([loss(stop) for stop in walk(loss, w, steps)])


def gradients_along(loss, w, steps, walk=on_a_line):
    """How much the gradient has changed at each stop, and effective β."""
    stops, g = walk(loss, w, steps), gradient(loss, w)
    changes = torch.stack([(gradient(loss, stop) - g).norm() for stop in stops])
    return changes, (changes / torch.stack([(stop - w).norm() for stop in stops])).max()


def telling(heights, waves, w, steps, apart: float = 0.05) -> bool:
    """Whether the usual mistakes give visibly other numbers on these ripples: the roughest and the tamest stop are neither the
    first, the last nor the furthest, the gradient has changed most before the furthest, no length is near 0 or 1, and the
    walk leads somewhere. In closed form, because it is asked often."""

    def grad(at):
        return 0.2 * at + (heights * np.cos(at @ waves.T)) @ waves

    g, far = grad(w), np.argmax(steps)
    stops, norm = w - np.outer(steps, g), np.linalg.norm(g)
    changes = np.linalg.norm(grad(stops) - g, axis=1)
    slopes = changes / (steps * norm)
    losses = 0.1 * (stops**2).sum(1) + np.sin(stops @ waves.T) @ heights
    ends = slopes[[0, -1, far]]
    return (
        1.3 < norm < 30
        and 0.2 < np.ptp(losses) < 100
        and changes[far] < (1 - apart) * changes.max()
        and ends.max() < (1 - apart) * slopes.max()
        and ends.min() > (1 + apart) * slopes.min()
        and abs(slopes.max() - 1) > apart
    )


def draw_ripples(rng) -> tuple:
    """The rough case: (loss, weights, step sizes) on which all mistakes show."""
    while True:
        drawn = rng.uniform(0.5, 1, 4), 1.5 * rng.standard_normal((4, 4)), 2 * rng.standard_normal(4), rng.uniform(0.05, 0.6, 6)
        if telling(*drawn):
            heights, waves, w = map(torch.from_numpy, drawn[:3])
            return Given("ex04", "ripples", (heights, waves)), w, drawn[3].tolist()


def lines(rng) -> list[tuple]:
    """Arguments of both functions. On a parabola β is the same at every stop, so much is the same to it."""
    network = Given("ex04", "small_network", (normal(rng, 12, 2), normal(rng, 12) + 3))
    return [
        draw_ripples(rng),
        (network, 0.7 * normal(rng, 12), [float(s) for s in rng.uniform(0.1, 0.4, 6)]),
        (*draw_parabola(rng), [float(s) for s in rng.uniform(0.1, 0.5, 4)]),
        (*draw_parabola(rng, torch.float32), [0.3, 0.1, 0.2]),
    ]


def asked(ask: Ask, right, cases: list[tuple]) -> list:
    return [ask.trial(case, right, EXACT if case[1].dtype == torch.float64 else None) for case in cases]


WALK_SAYINGS = {
    "fresh_gradient": "At every stop you compute a new gradient and go on from there. That is a short training: its stops lie "
    "on a bent path. Every point of a line is reached from the same place, in the same direction.",
    "accumulated": "Your steps add up: each one starts where the last one ended (or the weights are changed by `-=` and never "
    "put back). Every step size is counted from the same w.",
    "ascent": "You walk uphill: for a small step your loss is higher than at w. Which way does the gradient point?",
    "normalized": "You divide the gradient by its length, so each stop is a distance s away. That is a fair way to compare two "
    "networks, but not what is asked for: w − s·g, with the gradient as long as it is.",
}


# ---- q1: losses along the gradient -----------------------------------------------------------------------------------

LOSSES = [
    *(Misconception(code, WALK_SAYINGS[code], lambda *a, w=walk: losses_along(*a, w)) for code, walk in WALKS),
    Misconception(
        "change",
        "You return by how much the loss changes. The question asks for the losses themselves.",
        lambda loss, w, steps: losses_along(loss, w, steps) - loss(w),
    ),
    Misconception(
        "tangent",
        "These are the losses that the slope at w predicts, L − s‖g‖². Nobody has looked what is really there: put the weights "
        "of every stop into the loss.",
        lambda loss, w, steps: torch.stack([loss(w) - s * gradient(loss, w).square().sum() for s in steps]),
    ),
    Misconception(
        "stayed",
        "All your losses are that of w itself. Do the weights that you hand to the loss differ from stop to stop?",
        lambda loss, w, steps: torch.stack([loss(w) for _ in steps]),
    ),
    Misconception(
        "sorted",
        "The right losses in another order: give them in the order of the step sizes.",
        lambda loss, w, steps: losses_along(loss, w, sorted(steps)),
    ),
]


def describe_losses(got: torch.Tensor, trial) -> str:
    loss, w, steps = trial.args
    k = int((got - trial.right[0]).abs().argmax())
    start = float(loss.build()(w))
    return (
        f"For the step size {steps[k]:.2f} you return {float(got[k]):.3g}; at w itself the loss is {start:.3g}. Do it by hand "
        "for one step size: the gradient at w, then the weights of the stop, then their loss."
    )


def moved(trial) -> bool:
    """Whether w is elsewhere afterwards. There and back again is fine: it is off by a rounding error only."""
    before = trial.args[1].numpy()
    after = [v.array for v in trial.reply.inputs if v.array is not None and v.array.shape == before.shape]
    return len(after) != 1 or not np.allclose(after[0], before, rtol=1e-5, atol=1e-5)


def check_q1(ask: Ask, rng, marks: Marks) -> None:
    trials = asked(ask, losses_along, lines(rng))
    with marks.part(1):
        judge(trials, 0, "Your output", LOSSES, describe_losses)
    with marks.part(1):
        if marks.feedback:
            raise marks.feedback[0]
        if any(moved(trial) for trial in trials):
            raise Feedback(
                "in_place",
                "The losses are right, but afterwards w is somewhere else: `-=` and methods that end in an underscore change the "
                "caller's weights. A look around must not be a step.",
            )


# ---- q2: gradients along the line ------------------------------------------------------------------------------------


def pairs_of_gradients(loss, w, steps) -> list[tuple]:
    return [(gradient(loss, w), gradient(loss, stop)) for stop in on_a_line(loss, w, steps)]


def of_gradients(measure):
    return lambda loss, w, steps: torch.stack([measure(here, there) for here, there in pairs_of_gradients(loss, w, steps)])


def since_last_stop(loss, w, steps):
    found = [gradient(loss, w), *(gradient(loss, stop) for stop in on_a_line(loss, w, steps))]
    return torch.stack([(new - old).norm() for old, new in zip(found, found[1:])])


def distances(loss, w, steps) -> torch.Tensor:
    return gradient(loss, w).norm() * torch.tensor(steps, dtype=w.dtype)


def slopes(loss, w, steps, walk=on_a_line) -> torch.Tensor:
    return gradients_along(loss, w, steps, walk)[0] / distances(loss, w, steps)


CHANGES = [
    *(Misconception(code, WALK_SAYINGS[code], lambda *a, walk=walk: gradients_along(*a, walk)[0]) for code, walk in WALKS),
    Misconception(
        "difference_of_norms",
        "You subtract two lengths. Two gradients of the same length can point in opposite directions, and then everything has "
        "changed. Subtract first, then take the length.",
        of_gradients(lambda here, there: (there.norm() - here.norm()).abs()),
    ),
    Misconception(
        "difference_of_norms",
        "You subtract two lengths (and some of your changes are negative, which no length is). Subtract first, then take the "
        "length.",
        of_gradients(lambda here, there: there.norm() - here.norm()),
    ),
    Misconception(
        "squared",
        "You return squared lengths. Is a root missing?",
        of_gradients(lambda here, there: (there - here).square().sum()),
    ),
    Misconception(
        "averaged",
        "You average over the weights. A length is the root of a sum, not of a mean; with a mean, a larger network would count "
        "as smoother.",
        of_gradients(lambda here, there: (there - here).square().mean().sqrt()),
    ),
    Misconception(
        "absolute",
        "You add up absolute values (the ℓ1 length). The question asks for the Euclidean length, ℓ2.",
        of_gradients(lambda here, there: (there - here).abs().sum()),
    ),
    Misconception(
        "relative",
        "You divide by the length of the gradient at w. The plain change is asked for.",
        of_gradients(lambda here, there: (there - here).norm() / here.norm()),
    ),
    Misconception(
        "not_subtracted",
        "These are the lengths of the gradients at the stops. By how much do they differ from the gradient at w?",
        of_gradients(lambda here, there: there.norm()),
    ),
    Misconception(
        "since_last_stop",
        "You compare each stop with the stop before it. All of them are compared with one place: which?",
        since_last_stop,
    ),
    Misconception(
        "per_distance",
        "These are changes per distance. They belong into β; the first output is the changes themselves.",
        slopes,
    ),
]

BETA = [
    *(Misconception(code, WALK_SAYINGS[code], lambda *a, walk=walk: slopes(*a, walk).max()) for code, walk in WALKS[:3]),
    Misconception("normalized", WALK_SAYINGS["normalized"], lambda *a: gradients_along(*a, by_distance)[1]),
    Misconception(
        "divided_by_step",
        "You divide by the step size s. How far is w − s·g from w? With a steep slope the same s leads further.",
        lambda loss, w, steps: (gradients_along(loss, w, steps)[0] / torch.tensor(steps, dtype=w.dtype)).max(),
    ),
    Misconception(
        "mean",
        "You average over the stops. A smoothness constant is a promise that holds everywhere: one bad stop breaks it.",
        lambda *a: slopes(*a).mean(),
    ),
    Misconception(
        "smallest",
        "You take the smallest of the stops. Where the gradient changes fastest is where it cannot be trusted.",
        lambda *a: slopes(*a).min(),
    ),
    Misconception("one_stop", "You take one stop, the last of the list. Which one of them counts?", lambda *a: slopes(*a)[-1]),
    Misconception("one_stop", "You take one stop, the first of the list. Which one of them counts?", lambda *a: slopes(*a)[0]),
    Misconception(
        "one_stop",
        "You take the stop that is furthest away. The gradient may have changed faster on the way there.",
        lambda loss, w, steps: slopes(loss, w, steps)[int(np.argmax(steps))],
    ),
    Misconception(
        "max_over_max",
        "You divide the largest change by the largest distance. They may belong to different stops: divide first, then look for "
        "the largest.",
        lambda *a: gradients_along(*a)[0].max() / distances(*a).max(),
    ),
    Misconception(
        "largest_change",
        "This is the largest change of the gradient. After which distance?",
        lambda *a: gradients_along(*a)[0].max(),
    ),
    Misconception(
        "lipschitz",
        "You measure how fast the loss changes with distance. That is a slope, the other meaning of smooth. β asks how fast the "
        "gradient changes.",
        lambda *a: ((losses_along(*a) - a[0](a[1])).abs() / distances(*a)).max(),
    ),
    Misconception(
        "upside_down",
        "You have divided the distance by the change. Which of the two makes a landscape rough?",
        lambda *a: (1 / slopes(*a)).max(),
    ),
    Misconception(
        "upside_down",
        "You have divided the distance by the change. Which of the two makes a landscape rough?",
        lambda *a: (1 / slopes(*a)).min(),
    ),
    Misconception(
        "squared",
        "You divide squared lengths. β is a quotient of lengths.",
        lambda *a: slopes(*a).square().max(),
    ),
]


def describe_changes(got: torch.Tensor, trial) -> str:
    k = int((got - trial.right[0]).abs().argmax())
    return (
        f"For the step size {trial.args[2][k]:.2f} you return {float(got[k]):.3g}. Compute the gradient at w and the gradient at "
        "that one stop, print both, and work out the length of their difference by hand."
    )


def describe_beta(got: torch.Tensor, trial) -> str:
    return (
        f"Your β is {float(got):.3g}. Try it on ½ a w² with one weight: the gradient changes by a for every unit that you walk, so "
        "β has to be a, for any step sizes and any start."
    )


def check_q2(ask: Ask, rng, marks: Marks) -> None:
    trials = asked(ask, gradients_along, lines(rng))
    with marks.part(2):
        judge(trials, 0, "The first output (the changes)", CHANGES, describe_changes)
    with marks.part(2):
        judge(trials, 1, "The second output (β)", BETA, describe_beta)


# ---- q3: which of the four is a landscape? ---------------------------------------------------------------------------

MEASURES = {"A": "path", "B": "runs", "C": "landscape", "D": "progress"}
LOOK = {
    "A": "In A, watch `here`. Where is the second gradient computed, and where the third? Mark three stops on paper: are they "
    "on a straight line?",
    "B": "In B, count the different weights in `runs` after ten steps. How many times has each of them been trained, and at "
    "which rate?",
    "C": "In C, how many gradients are computed between two updates of w, and at how many places?",
    "D": "In D, how many losses are computed per step? Where do the other seven of a band come from?",
}


def check_q3(ask: Ask, rng, marks: Marks) -> None:
    got = ask.value()
    words = sorted(MEASURES.values())
    if not isinstance(got, dict):
        raise Feedback("wrong_type", 'Answer with a dict: {"A": …, "B": …, "C": …, "D": …}.')
    got = {key.strip().upper(): said for key, said in got.items()}
    for way, right in MEASURES.items():
        with marks.part(1):
            said = got.get(way)
            if said is None:
                raise Feedback("not_started", f"What does {way} measure?")
            if not isinstance(said, str) or said.strip().lower() not in words:
                raise Feedback("wrong_type", f"{way}: answer with one of {', '.join(map(repr, words))}.")
            if said.strip().lower() != right:
                raise Feedback(f"{right}_as_{said.strip().lower()}", f"{way} is something else. {LOOK[way]}")


# ---- q4: a counter-example -------------------------------------------------------------------------------------------

RATE, STEPS = 0.1, 20
MARGIN = 1.5
REAL = "C"
DEFAULTS = {"slope": 0.0, "curvature": 0.0, "ripple": 0.0, "waves": 1.0}
LARGEST_NUMBER, LARGEST_LOSS = 1e3, 1e6
STARTS = np.array([0, 1e-9, -1e-9, 1e-8])  # an example that hangs on the ninth digit may not hold on another machine


def widths(slope, curvature, ripple, waves) -> dict[str, np.ndarray]:
    """Mean width of the band of each way, and β of the real walk, for each of STARTS."""

    def loss(w):
        return slope * w + curvature * w**2 / 2 + ripple * np.sin(waves * w)

    def grad(w):
        return slope + curvature * w + ripple * waves * np.cos(waves * w)

    multiples = np.array(MULTIPLES)[:, None]
    w, runs, curve = STARTS, np.tile(STARTS, (len(multiples), 1)), []
    bands, beta = {way: [] for way in MEASURES}, np.zeros(len(STARTS))
    for _ in range(STEPS):
        g = grad(w)
        line, path, here = w - multiples * RATE * g, [], w
        for _ in MULTIPLES:
            here = here - RATE / 2 * grad(here)
            path.append(loss(here))
        curve.append(loss(w))
        bands["A"].append(np.ptp(path, axis=0))
        bands["B"].append(np.ptp(loss(runs), axis=0))
        bands["C"].append(np.ptp(loss(line), axis=0))
        bands["D"].append(np.ptp(curve[-len(multiples) :], axis=0))
        far = np.abs(line - w)
        change = np.abs(grad(line) - g)
        beta = np.maximum(beta, np.divide(change, far, out=np.zeros_like(far), where=far > 1e-9).max(0))
        w, runs = w - RATE * g, runs - multiples * RATE * grad(runs)
    return {way: np.mean(band, axis=0) for way, band in bands.items()} | {"beta": beta}


def read_landscape(got, name: str) -> dict[str, float]:
    if not isinstance(got, dict):
        raise Feedback("wrong_type", f'answer_q4["{name}"] has to be a dict such as {{"slope": 1, "ripple": 2, "waves": 3}}.')
    unknown = sorted(set(got) - set(DEFAULTS))
    if unknown:
        raise Feedback("wrong_type", f"A landscape has no {unknown[0]!r}; it has {', '.join(DEFAULTS)}.")
    if not all(is_number(number) and abs(number) <= LARGEST_NUMBER for number in got.values()):
        raise Feedback("wrong_type", f"The numbers of {name} have to be finite, and at most {LARGEST_NUMBER:g} in size.")
    return DEFAULTS | {key: float(number) for key, number in got.items()}


def times(rough: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """rough / smooth; where smooth is 0, infinite, or 1 when both are."""
    return np.divide(rough, smooth, out=np.where(rough > 0, np.inf, 1.0), where=smooth > 0)


def surely_rougher(rough: dict, smooth: dict) -> bool:
    return all((times(rough[key], smooth[key]) >= MARGIN).all() for key in (REAL, "beta"))


FRAGILE = "That would do, but a start moved by a billionth gives other numbers. Take something less chaotic, or exaggerate a little."


def truly_rougher(rough: dict, smooth: dict) -> None:
    """Returns when the real walk calls `rough` the rougher one, in loss range and in β, else raises `Feedback`."""
    if surely_rougher(rough, smooth):
        return
    if surely_rougher(smooth, rough):
        raise Feedback("swapped", "The other way round: by loss range and by β, your rough landscape is the smoother of the two.")
    loss, beta = (float(times(rough[key], smooth[key])[0]) for key in (REAL, "beta"))
    said = f"Rough divided by smooth, the real walk finds {loss:.2g} for the loss range and {beta:.2g} for β.".replace("inf", "∞")
    if loss >= MARGIN and beta >= MARGIN:
        raise Feedback("fragile", f"{said} {FRAGILE}")
    if beta >= MARGIN:
        raise Feedback(
            "arrived",
            f"{said} It does curve more, but there is little to see of it on the line: the range also shrinks with the slope. "
            f"Has the run already come to rest in a valley? Is the other one steeper? Both have to be at least {MARGIN}.",
        )
    if loss >= MARGIN:
        raise Feedback(
            "steep",
            f"{said} The loss varies, but the gradient changes no faster: your rough landscape is steep, and steep is not rough. "
            f"Both have to be at least {MARGIN}.",
        )
    raise Feedback("alike", f"{said} Nobody could say which of the two is the rougher one. Both have to be at least {MARGIN}.")


def check_q4(ask: Ask, rng, marks: Marks) -> None:
    got = ask.value()
    if not isinstance(got, dict) or set(got) != {"way", "rough", "smooth"}:
        raise Feedback("wrong_type", 'Answer with a dict that has three keys: "way", "rough" and "smooth".')
    way = got["way"].strip().upper() if isinstance(got["way"], str) else ""
    if way not in MEASURES:
        raise Feedback("wrong_type", 'answer_q4["way"] has to be "A", "B", "C" or "D".')
    if way == REAL:
        raise Feedback("the_real_one", f"{way} cannot be refuted like this: look again at what you found in question 3.")
    rough, smooth = (widths(**read_landscape(got[name], name)) for name in ("rough", "smooth"))
    for name, found in (("rough", rough), ("smooth", smooth)):
        if not (np.concatenate([found[way], found[REAL], found["beta"]]) < LARGEST_LOSS).all():  # also when it is NaN
            raise Feedback(
                "diverged",
                f"On {name} the loss shoots off to infinity. A run that blew up tells nothing about shape: take smaller numbers.",
            )
        if found[REAL][0] == 0:
            raise Feedback("flat", f"On {name} the gradient at the start, w = 0, is zero: nobody moves. Give it a slope there.")
    with marks.part(1):
        truly_rougher(rough, smooth)
    with marks.part(3):
        if marks.feedback:
            raise marks.feedback[0]
        ratio = times(rough[way], smooth[way])
        said = f"The real walk finds more on your rough landscape, as it should. Way {way} finds {ratio[0]:.2g} times the width"
        if ratio[0] >= 1:
            raise Feedback(
                "both_agree",
                f"{said}, so it agrees: no counter-example yet. What makes the band of {way} wide although nothing is rough? What "
                "keeps it narrow?",
            )
        if ratio[0] > 1 / MARGIN:
            raise Feedback("too_close", f"{said}, which is less, but too close to call: at most 1/{MARGIN} is asked for.")
        if not (ratio <= 1 / MARGIN).all():
            raise Feedback("fragile", f"{said}. {FRAGILE}")


# ---- q5: the verdict turns with the learning rate --------------------------------------------------------------------

WIDTH, DEPTH, EXAMPLES, SEEDS, LAST, EVERY = 32, 8, 128, range(3), 80, 20
SLOW, FAST, EDGE, NEAR = 0.03, 0.3, 2.0, math.log(1.3)


def digits_networks(norm: bool):
    """A network for every seed, side by side: `losses(weights)` gives all their losses, (S,); and where they start from."""
    from bncourse import data

    digits = data.load("digits")
    x, y = digits.x_train[:EXAMPLES].double(), digits.y_train[:EXAMPLES]
    sizes, rngs = [x.shape[1], *[WIDTH] * DEPTH, digits.classes], [np.random.default_rng(seed) for seed in SEEDS]

    def losses(weights):
        h = x.expand(len(rngs), *x.shape)
        for matrices in weights[:-1]:
            h = h @ matrices
            if norm:
                h = (h - h.mean(1, keepdim=True)) / torch.sqrt(h.var(1, keepdim=True, correction=0) + 1e-5)
            h = F.relu(h)
        return F.cross_entropy((h @ weights[-1]).movedim(0, -1), y[:, None].expand(-1, len(rngs)), reduction="none").mean(0)

    shapes = list(zip(sizes, sizes[1:]))
    layers = [[rng.standard_normal(shape) * math.sqrt(2 / shape[0]) for shape in shapes] for rng in rngs]
    return losses, [torch.from_numpy(np.stack(layer)) for layer in zip(*layers)]


def look(losses, weights) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses (S,) and their gradients (S, P)."""
    weights = [matrices.detach().requires_grad_() for matrices in weights]
    found = losses(weights)
    return found.detach(), torch.cat([g.flatten(1) for g in torch.autograd.grad(found.sum(), weights)], 1)


def step_down(weights, gradients, size: float) -> list:
    pieces = gradients.split([matrices[0].numel() for matrices in weights], 1)
    return [matrices - size * piece.view(matrices.shape) for matrices, piece in zip(weights, pieces)]


def ranges_and_betas(norm: bool, rate: float) -> torch.Tensor:
    """Loss range and β on the line, (looks, 2, S)."""
    losses, weights = digits_networks(norm)
    found = []
    for step in range(LAST + 1):
        g = look(losses, weights)[1]
        if step and step % EVERY == 0:
            there = [look(losses, step_down(weights, g, m * rate)) for m in MULTIPLES]
            values = torch.stack([value for value, _ in there])
            beta = torch.stack([(far - g).norm(dim=1) / (m * rate * g.norm(dim=1)) for m, (_, far) in zip(MULTIPLES, there)])
            found.append(torch.stack([values.amax(0) - values.amin(0), beta.amax(0)]))
        weights = step_down(weights, g, rate)
    return torch.stack(found)


@lru_cache
def quotients(rate: float) -> tuple[float, float]:
    """Loss range and β, plain divided by batch norm: geometric means over looks and seeds."""
    with torch.enable_grad():
        plain, batch = (ranges_and_betas(norm, rate).log().mean((0, 2)) for norm in (False, True))
    return tuple((plain - batch).exp().tolist())


def check_q5(ask: Ask, rng, marks: Marks) -> None:
    got = ask.value()
    got = got.tolist() if isinstance(got, torch.Tensor) else got
    if not isinstance(got, list) or len(got) != 3 or not all(is_number(number) for number in got):
        raise Feedback("wrong_type", f"Answer with a list of three numbers: the quotient at {SLOW}, that at {FAST}, and the product.")
    for number, rate, other in zip(got, (SLOW, FAST), (FAST, SLOW)):
        with marks.part(1):
            if number <= 0:
                raise Feedback("difference", f"At {rate}: a quotient of two ranges is positive. Divide, do not subtract.")
            (right, beta), (elsewhere, _) = quotients(rate), quotients(other)
            mistakes = [
                ("upside_down", 1 / right, "the plain range is to be divided by that of batch norm, not the other way round."),
                ("other_rate", elsewhere, f"you give the quotient of the other learning rate: first {SLOW}, then {FAST}."),
                ("beta", beta, "you give the quotient of the βs. The question asks for the loss ranges."),
            ]
            judge_number(
                math.log(number),
                math.log(right),
                NEAR,
                [(code, math.log(result), f"At {rate} {message}") for code, result, message in mistakes],
                f"At {rate} your quotient is {number:.3g}; that is not what these networks give. Read both loss ranges off the row "
                "of this learning rate, and divide.",
            )
    with marks.part(1):
        if got[2] <= 0 or abs(math.log(got[2] / EDGE)) > NEAR:
            raise Feedback(
                "product",
                f"The third number is {got[2]:.3g}. Take the β of batch norm in each of the four rows, times the learning rate of "
                "that row: the four products are close together. Near which number?",
            )


QUESTIONS = {
    "q1": Question("losses_along", 2, check_q1),
    "q2": Question("gradients_along", 4, check_q2),
    "q3": Question("answer_q3", 4, check_q3, VALUE),
    "q4": Question("answer_q4", 4, check_q4, VALUE),
    "q5": Question("answer_q5", 3, check_q5, VALUE),
    "q6": Written(
        "answer_q6",
        {
            "says what the shaded band really measures, and why that is no landscape": 1,
            "supports it with evidence of your own: your counter-example, or the two quotients of question 5": 1,
            "says which measurement the sentence needs, and what has to stand in it (learning rate, place or phase, how far you looked), "
            "without claiming the opposite": 1,
        },
        words=(60, 220),
    ),
}  # fmt: skip
