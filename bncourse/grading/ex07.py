"""ex07, the capstone: a claim of the student's own, registered, run and reported.

No check knows which claims are true, and none asks. A registration (q1) has to be one that a measurement can contradict, the
experiment (q2) has to be fixed by arm and seed, the record (q3) has to hold what the experiment gives for the registered
seeds, and the report (q4) has to follow from registration and record. Interval and verdict are those of `bncourse.claims`.
"""

import functools
import re

import numpy as np
import torch

from ..claims import MIN_SEEDS, VERDICTS, interval
from .calls import is_number
from .checks import VALUE, Ask, Question, Written, one_line
from .feedback import Feedback, Marks
from .given.ex07 import BLOCKS, fingerprint
from .shortcuts import Rules

LARGEST = 1e30  # of any number here: squares and sums of such numbers are still finite
HEDGES = {"might", "could", "sometimes", "perhaps", "possibly", "maybe"}


# ---- q1: the registration --------------------------------------------------------------------------------------------


def entry(answer, name: str, of: str):
    """Entry `name` of an answer that is a dict."""
    if not isinstance(answer, dict):
        raise Feedback("wrong_type", f"The {of} has to be a dict, {{'{name}': …}}.")
    if name not in answer:
        raise Feedback(
            "incomplete",
            f"The {of} has no entry {name!r}. The table or text of the question lists what it needs.",
        )
    return answer[name]


VAGUE = {  # entry: fewest words, what to say of fewer
    "claim": (5, "A claim is a whole sentence, one that somebody could deny."),
    "measure": (4, "What is measured, when, and on which data: could a stranger measure the same from your words?"),
    "unit": (1, "Without a unit nobody knows how large your threshold is. If the number has none, say what it counts."),
}


# What a claim of this course is about, by beginnings of words: any of the first, or three of the second, which have other
# meanings, too. Meant to let every odd claim about the training of a network pass, and to stop what is about something else.
OURS = re.compile(
    r"\b(batch|mini-?batch|(layer|group|instance|weight|rms|no)[- ]?norm|normali[sz]|networks?\b|neural|neuron|mlp|cnn|resnet|transformer|relu|"
    r"sigmoid|tanh|softmax|logit|perceptron|conv(olution|net|\b)|hidden (layer|unit)|gradient|backprop|sgd\b|adamw?\b|optimi[sz]er|momentum|"
    r"learning rate|lr\b|training|trained|trains? (as|faster|slower|better|worse|well)|test (set|error|images)|float(16|32|64)|epochs?\b|accurac|(?<!weight )loss|"
    r"cross[- ]?entropy|dropout|weight[- ]decay|overfit|generali[sz]|hyper-?param|initiali[sz]|digits\b|mnist|cifar|hessian|curvature|"
    r"covariate|loss landscape|γ|gamma and|rectifi|residual)",
    re.IGNORECASE,
)
PERHAPS_OURS = re.compile(
    r"\b(nets?\b|layer|unit|weight|bias|train|learn|rate|steps?\b|updates?\b|iteration|depth|deep|shallow|width|wide|narrow|parameter|model|"
    r"noise|noisy|shift|variance|smooth|sharp|eigenvalue|skip|attention|rank|statistic|diverge|converge|vanish|explo|augment|label|classif|"
    r"descent|activation|error|init|scale|beta|epsilon|norm|cost\b|outputs?\b|inputs?\b|standardi[sz]|forward|backward|adversarial|robust|"
    r"memori[sz]|feature|pixel|predict|quadratic|matri(?:x|ces)|random|images?\b|nonlinear|constant|eval)",
    re.IGNORECASE,
)
QUANTITY = re.compile(
    r"%|\b(accurac|error|loss|cost|entropy|nats?\b|bits?\b|points?\b|per ?cent|fraction|share|proportion|ratio|number|count|how (many|often|much|far|"
    r"long|large|fast)|norm|length|size|distance|cosine|angle|degrees?|variance|deviation|mean|median|average|largest|smallest|maximum|minimum|"
    r"max\b|min\b|sum\b|correlation|rank|eigenvalue|curvature|sharpness|slope|seconds?|ms\b|minutes?|steps?\b|epochs?|score|rate of|time|"
    r"probability|confidence|margin|digits (right|wrong)|correct|wrong|mistakes?|misclassif|squared?|mse\b|perplexity|drift|shift|spread|gap)",
    re.IGNORECASE,
)
MOMENT = re.compile(
    r"\d|\b(after|before|at\b|end|final|last|first|until|till|during|when|while|initial|begin|start|steps?\b|epochs?|iterations?|updates?|once|"
    r"over|every|each|always|throughout|untrained|converged?)",
    re.IGNORECASE,
)


def is_ours(text: str, fewest: int = 3) -> bool:
    return OURS.search(text) is not None or len({word.lower() for word in PERHAPS_OURS.findall(text)}) >= fewest


def about_networks(registration) -> bool:
    """Whether anything in the words or arms of a registration is about the training of networks; also when there are none yet."""
    if not all(isinstance(entry(registration, name, "registration"), str) for name in ("claim", "measure")):
        return True
    return is_ours(f"{registration['claim']} {registration['measure']} {arm_words(registration)}")


def arm_words(registration) -> str:
    arms = registration.get("arms")
    return " ".join(arm for arm in arms if isinstance(arm, str)) if isinstance(arms, list) else ""


def words_of(registration) -> None:
    """Claim, measure and unit are words, enough of them, and about something that a run of a network gives."""
    for name, (fewest, advice) in VAGUE.items():
        text = entry(registration, name, "registration")
        if not isinstance(text, str):
            raise Feedback("wrong_type", f"{name!r} has to be text, in quotes.")
        if len(set(text.lower().split())) < fewest:
            raise Feedback(f"vague_{name}", advice)
    hedges = sorted(HEDGES & {word.strip(".,;:()").lower() for word in registration["claim"].split()})
    if hedges:
        raise Feedback(
            "hedged",
            f"What measurement could contradict a sentence with {hedges[0]!r} in it? Say what will happen; being wrong costs "
            "nothing here.",
        )
    if not is_ours(f"{registration['claim']} {arm_words(registration)}", fewest=1):
        raise Feedback(
            "claim_elsewhere",
            "Your measure is one of a network, but the claim says nothing of networks or their training. What about them would be "
            "different if the claim were true? Say that in the claim.",
        )
    if not QUANTITY.search(f"{registration['measure']} {registration['unit']}"):
        raise Feedback(
            "no_quantity",
            "Your measure names no number that a run gives. An accuracy, a loss, a length, a count of steps: which number do you write "
            "down at the end of a run?",
        )
    if not MOMENT.search(registration["measure"]):
        raise Feedback(
            "no_moment",
            "Your measure does not say when. After how many steps, at the start, over the whole training? The answer may depend on it.",
        )


def is_name(arm) -> bool:
    return isinstance(arm, str) and 0 < len(arm) <= 60 and one_line(arm) == arm


def arms_of(registration) -> tuple[str, str]:
    arms = entry(registration, "arms", "registration")
    if not isinstance(arms, list) or not all(is_name(arm) for arm in arms):
        raise Feedback("wrong_type", "'arms' has to be a list of two short names, in quotes.")
    if len(arms) != 2:
        raise Feedback(
            "arms_count",
            f"You registered {len(arms)} arms. One difference has two ends: which two networks are compared?",
        )
    if arms[0] == arms[1]:
        raise Feedback("arms_equal", "Both arms have the same name. What is it that differs between them?")
    return tuple(arms)


def sign_of(registration) -> int:
    sign = entry(registration, "sign", "registration")
    if not is_number(sign) or sign == 0:
        raise Feedback(
            "no_sign",
            "The sign has to be 1 (you predict that the first arm has the larger number) or -1 (the smaller). Without "
            "it every result would fit.",
        )
    if sign not in (1, -1):
        raise Feedback(
            "sign_size",
            "The sign is only a direction, 1 or -1. How large an effect has to be stands in the threshold.",
        )
    return int(sign)


# What cannot differ by 100 points: a loss given in percent of another one can.
IN_PERCENT = re.compile(r"%|\b(per ?cent|points?\b)", re.IGNORECASE)
SHARE = re.compile(
    r"\b(accurac|share|fraction|proportion|correct|wrong|(mis)?classif|test error|error rate|(digits|images) .*\bright)",
    re.IGNORECASE,
)


def threshold_of(registration) -> float:
    threshold = entry(registration, "threshold", "registration")
    if not is_number(threshold) or abs(threshold) > LARGEST:
        raise Feedback("wrong_type", "The threshold has to be one number, in the unit of your measure.")
    if threshold < 0:
        raise Feedback(
            "threshold_negative",
            "The threshold is negative. The direction is in the sign; the threshold is a size. What is the smallest "
            "effect that would matter to you?",
        )
    if threshold == 0:
        raise Feedback(
            "threshold_zero",
            "With a threshold of 0 any effect counts, however tiny; with enough seeds nearly everything differs a "
            "little. From what size on would you act on it?",
        )
    measure, unit = (str(registration.get(name)) for name in ("measure", "unit"))
    if threshold >= 100 and IN_PERCENT.search(unit) and SHARE.search(measure):
        raise Feedback(
            "threshold_unreachable",
            f"A share lies between 0 and 100 %, so no effect is larger than {threshold:g}: your prediction can only fail. What is "
            "the smallest effect that would matter to you?",
        )
    return float(threshold)


def seed_list(registration, name: str) -> list[int]:
    seeds = entry(registration, name, "registration")
    if not isinstance(seeds, list) or not all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds):
        raise Feedback("seeds_not_ints", f"{name!r} has to be a list of whole numbers, 0 or larger.")
    return seeds


def seeds_of(registration) -> list[int]:
    """The registered seeds, whatever the pilot's are."""
    seeds = seed_list(registration, "seeds")
    if len(set(seeds)) < len(seeds):
        raise Feedback(
            "seeds_repeated",
            "A seed stands in the list more than once. The same run counted twice is no second observation, but it "
            "narrows the interval.",
        )
    if len(seeds) < MIN_SEEDS:
        raise Feedback(
            "few_seeds",
            f"{len(seeds)} seeds; a verdict of this course needs at least {MIN_SEEDS}. How far apart can two seeds of "
            "the same network lie?",
        )
    return seeds


def no_range(ask: Ask) -> None:
    """A range looks like the list that is asked for; the word for what a whole answer may hold would not say what to do."""
    for value in ask.answers.value(ask.answer).values:
        for name, item in zip(value.keys, value.items):
            if item.type == "range":
                raise Feedback("range", f"{name!r} is a range; write a list, such as `list(range(8))`.")


def check_q1(ask: Ask, rng, marks: Marks) -> None:
    no_range(ask)
    registration = ask.value()
    with marks.part(1):
        words_of(registration)
    with marks.part(1):
        arms_of(registration)
        sign_of(registration)
    with marks.part(1):
        threshold_of(registration)
    with marks.part(1):
        seeds, pilot = seeds_of(registration), seed_list(registration, "pilot")
        if again := sorted(set(seeds) & set(pilot)):
            raise Feedback(
                "pilot_reused",
                f"Seed {again[0]} is in the pilot and in the study. What you tried out on it has already shaped the "
                "prediction. Take a fresh one.",
            )
    if not about_networks(registration):
        marks.points = 0.0
        raise Feedback(
            "not_about_networks",
            "Nothing in these words is about networks or their training, so no experiment of this course could contradict them. Which two "
            "networks, or two ways of training one, do you compare, and which number of theirs?",
        )


def registered(ask: Ask, *parts) -> list:
    """What the `parts` (`arms_of`, …) read in the registration. Without it, the questions that rest on it cannot be judged."""
    registration = ask.value(of="answer_q1")
    try:
        return [part(registration) for part in parts]
    except Feedback as feedback:
        raise Feedback("registration", f"This rests on question 1, where something is missing. {feedback}") from None


# ---- q2: the experiment ----------------------------------------------------------------------------------------------


def measured(ask: Ask, arm: str, seed: int) -> float:
    """What the student's experiment gives, as one finite number."""
    call, reply = f"experiment({arm!r}, {seed})", ask(arm, seed, of="experiment")
    if reply.outcome == "raised":
        raise Feedback(
            "raised",
            f"{call} raised {one_line(reply.error)} ({one_line(reply.text)}). It has to work for both arms and for any "
            "seed, not only for those you registered.",
        )
    if reply.is_tuple:
        raise Feedback(
            "wrong_type",
            f"{call} returned {len(reply.values)} numbers in a list or tuple. Return one number: the measure that you "
            "registered.",
        )
    (value,) = reply.values
    if value.type == "NoneType":
        raise Feedback("returned_nothing", f"{call} returned None. Is the return statement missing?")
    number = value.array.item() if value.array is not None and value.array.size == 1 else value.plain
    if type(number) not in (int, float):
        raise Feedback(
            "wrong_type",
            f"{call} returned a {one_line(value.type)}{value.shape or ''}; it has to be one number, the measure that "
            "you registered.",
        )
    if not is_number(number) or abs(number) > LARGEST:
        raise Feedback(
            "not_finite",
            f"{call} returned {number:g}. A run that blew up is a finding, but an average cannot hold it. Decide "
            "before the study which number such a run gets (the accuracy of guessing? a largest loss?), and return "
            "that.",
        )
    return float(number)


def seen_to_train(ask: Ask, marks: Marks) -> None:
    """An experiment is no experiment when nothing is trained in it: then no point of the question stands."""
    if not marks.feedback and not ask.gradients:
        marks.points = 0.0
        raise Feedback(
            "no_training",
            "experiment(arm, seed) gives numbers, but while it ran torch computed not one gradient: no network was trained. Where "
            "in your function does a network learn something, before it is measured?",
        )


def same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * max(abs(a), abs(b))


def check_q2(ask: Ask, rng, marks: Marks) -> None:
    ((first, second),) = registered(ask, arms_of)
    seed, *others = rng.choice(10_000, 4, replace=False).tolist()  # the function is not told which seeds count
    at = functools.cache(lambda arm, seed: measured(ask, arm, seed))
    with marks.part(2):
        at(first, seed), at(second, seed)
    if marks.feedback:
        return
    at(first, others[0])  # another run in between, which must leave no trace
    again = measured(ask, first, seed)
    with marks.part(1):
        if not same(at(first, seed), again):
            raise unrepeatable(ask, first, seed, at(first, seed), again)
    if marks.feedback:  # numbers that come and go differ from seed to seed and from arm to arm for no reason
        return
    with marks.part(1):
        if all(at(arm, seed) == at(arm, other) for other in others for arm in (first, second)):
            raise Feedback(
                "seed_ignored",
                f"{len(others) + 1} seeds, and the same number to the last digit. Either the seed reaches neither the "
                "weights nor the batches, or the measure is too coarse to show that it does.",
            )
    with marks.part(1):
        if all(at(first, s) == at(second, s) for s in (seed, *others)):
            raise Feedback(
                "arm_ignored",
                f"Both arms give the same number to the last digit, for each of {len(others) + 1} seeds. Either the "
                "arm never reaches the network, or the measure is too coarse to tell the two apart. Where in your "
                "function does the arm make a difference?",
            )
    seen_to_train(ask, marks)


def unrepeatable(ask: Ask, arm: str, seed: int, before: float, after: float) -> Feedback:
    """Why the same call gave two numbers: asked once more, with the global generators at the same start."""
    twice = [measured(Ask(ask.answers, ask.answer, np.random.default_rng(0), ask.rules), arm, seed) for _ in range(2)]
    said = f"experiment({arm!r}, {seed}) gave {before:.6g}, and the same call later {after:.6g}."
    if same(*twice):
        return Feedback(
            "unseeded",
            f"{said} It draws from torch's, numpy's or Python's global random numbers, which stand elsewhere each "
            "time. What has to happen with the seed before the first number is drawn?",
        )
    return Feedback(
        "remembers",
        f"{said} It keeps something from one call to the next (a network or a generator made outside of the function "
        "goes on where it was left), or it draws from a generator that the seed does not set.",
    )


# ---- q3: the record --------------------------------------------------------------------------------------------------


def read_record(record, arms, seeds) -> dict[str, np.ndarray]:
    """One array of numbers an arm, in the order of the seeds."""
    for arm in arms:
        if isinstance(record, dict) and arm not in record:
            raise Feedback("other_arms", f"There are no numbers for the registered arm {arm!r}.")
        numbers = entry(record, arm, "record")
        if isinstance(numbers, torch.Tensor):
            numbers = numbers.tolist()
        if not isinstance(numbers, list) or not all(type(number) in (int, float) for number in numbers):
            raise Feedback(
                "wrong_type",
                f"The record of {arm!r} has to be a list of numbers, one for each registered seed.",
            )
        if not all(is_number(number) and abs(number) <= LARGEST for number in numbers):
            raise Feedback(
                "not_finite",
                f"The record of {arm!r} holds a number that is not finite, or is beyond {LARGEST:g}. Which number "
                "does a run that blew up get? Say it in the measure.",
            )
        if len(numbers) < len(seeds):
            raise Feedback(
                "seeds_dropped",
                f"You registered {len(seeds)} seeds, and {arm!r} has {len(numbers)} numbers. A run left out after it "
                "was seen is a result left out. Which ones are missing, and would you have dropped them had they gone "
                "the other way?",
            )
        if len(numbers) > len(seeds):
            raise Feedback(
                "seeds_added",
                f"You registered {len(seeds)} seeds, and {arm!r} has {len(numbers)} numbers. Whoever adds runs until "
                "the interval is narrow enough always ends at a lucky moment. Report what you registered; register a "
                "new study for the rest.",
            )
    if set(record) != set(arms):
        raise Feedback(
            "other_arms",
            "The record has arms that you did not register. They belong in a study of their own.",
        )
    return {arm: np.array([float(number) for number in record[arm]]) for arm in arms}


def spread(numbers: np.ndarray) -> float:
    """A standard deviation that one outlier cannot blow up."""
    return 1.4826 * float(np.median(np.abs(numbers - np.median(numbers))))


def agrees(recorded: float, found: float, record: np.ndarray) -> bool:
    """Equal, but for the digits that are not printed and for another machine's rounding, which training amplifies."""
    return abs(recorded - found) <= 2e-3 * abs(recorded) + 0.5 * spread(record)


def check_q3(ask: Ask, rng, marks: Marks) -> None:
    answer = ask.value()
    arms, seeds = registered(ask, arms_of, seeds_of)
    with marks.part(1):
        record = read_record(answer, arms, seeds)
    if marks.feedback:
        return
    with marks.part(2):
        rerun(ask, rng, record, arms, seeds)
    seen_to_train(ask, marks)


def rerun(ask: Ask, rng, record: dict, arms: tuple, seeds: list) -> None:
    """Three of the recorded runs once more, at least one an arm."""
    places = rng.choice(len(seeds), 3, replace=False).tolist()
    runs = [(arm, place, measured(ask, arm, seeds[place])) for arm, place in zip((*arms, arms[rng.integers(2)]), places)]
    wrong = [(arm, place, found) for arm, place, found in runs if not agrees(record[arm][place], found, record[arm])]
    if not wrong:
        return
    other = dict(zip(arms, arms[::-1]))
    if all(agrees(record[other[arm]][place], found, record[other[arm]]) for arm, place, found in runs):
        raise Feedback(
            "arms_swapped",
            f"The numbers of {arms[0]!r} stand under {arms[1]!r} and the other way round. What would that have done to "
            "your verdict?",
        )
    arm, place, found = wrong[0]
    said = f"experiment({arm!r}, {seeds[place]}) gives {found:.5g}"
    if all(any(same(round_(found), round_(number)) for number in record[arm]) for arm, _, found in wrong):
        raise Feedback(
            "seed_order",
            f"{said}, which the record has in another seed's place. Are the numbers in the order of the registered seeds? "
            "Differences are taken seed by seed.",
        )
    scaled = ({arm: scale * numbers for arm, numbers in record.items()} for scale in (100, 0.01))
    if any(all(agrees(other[arm][place], found, other[arm]) for arm, place, found in runs) for other in scaled):
        raise Feedback(
            "unit",
            "The numbers in the record are 100 times those of your experiment, or a hundredth. In which unit is your "
            "threshold?",
        )
    raise Feedback(
        "not_reproduced",
        f"{said}; the record says {record[arm][place]:.5g}. Was the function or the list changed after the run? If neither "
        "was, the run hangs on the last digit of rounding: make it shorter, or lower the rate. A number that nobody else "
        "gets is no evidence.",
    )


def round_(number: float) -> float:
    return float(f"{number:.4g}")


# ---- q4: the report --------------------------------------------------------------------------------------------------


def verdict(low: float, high: float, sign: int, threshold: float) -> str:
    """The rule of `bncourse.claims`: on which side of the threshold, seen in the predicted direction, the interval lies."""
    low, high = sorted((sign * low, sign * high))
    return "supported" if low > threshold else "contradicted" if high < threshold else "inconclusive"


def close(got: float, right: float, half: float) -> bool:
    """Three significant digits will do."""
    return abs(got - right) <= 0.00501 * abs(right) + 0.01 * half + 1e-12


SAYINGS = {
    "order": "You have the opposite sign. The effect is the first arm minus the second, whatever you predicted: the "
    "direction is in the registration already.",
    "relative": "You divide by one of the arms. The threshold was registered in the unit of the measure, so the effect "
    "is a difference, not a percentage of something.",
    "unit": "Your effect is 100 times what the record gives, or a hundredth. In which unit are the record and the "
    "threshold?",
    "median": "You report a median. The registered rule is about the mean, and the interval is one for the mean.",
    "one_arm": "That is the mean of one arm. What would the number be without the change you claim something about?",
    "sum": "That is the sum of the differences. Would twice as many seeds be twice the effect?",
    "unpaired": "Your interval treats the two arms as unrelated groups. Seed by seed they share first weights or "
    "batches: what varies when you take the difference inside each seed first?",
    "z_instead_of_t": "Your interval is too narrow: it takes 1.96 (or 2) standard errors, as if the standard deviation "
    "were known. It was estimated from a few seeds: which distribution has the wider tails that this costs?",
    "one_sided": "Your quantile leaves 5 % outside on each side. A 95 % interval with two ends leaves 5 % outside in "
    "all.",
    "one_standard_error": "Your interval is the mean plus or minus one standard error. In how many of 100 studies "
    "would that hold the true effect?",
    "sd": "You use the standard deviation: that says how far single seeds scatter. How uncertain is their mean, and "
    "what do more seeds do to it?",
    "biased_sd": "Your standard deviation divides by n. The mean was estimated from the same numbers; what does the "
    "unbiased one divide by?",
    "degrees_of_freedom": "Your t quantile has as many degrees of freedom as seeds. One is spent on the mean.",
    "range": "You report the smallest and the largest difference. More seeds would make that wider, although they tell "
    "you more.",
    "ends_swapped": "Your low is above your high. Which of the two ends is which?",
    "threshold_ignored": "That would be the verdict with a threshold of 0. You registered how large an effect has to "
    "be before it counts.",
    "mean_only": "That is on which side of the threshold the mean lies. What about the rest of the interval?",
    "direction": "That would be the verdict if you had predicted the other direction. Read your registered sign again.",
    "verdict": "Lay your interval beside the threshold: wholly beyond it in the predicted direction, wholly not, or "
    "across?",
}


def wrong_effects(first: np.ndarray, second: np.ndarray):
    differences = first - second
    mean = differences.mean()
    yield "order", -mean
    for base in (first.mean(), second.mean()):
        if base:
            yield from (("relative", mean / base), ("relative", 100 * mean / base))
    yield from (("unit", 100 * mean), ("unit", mean / 100), ("median", np.median(differences)))
    yield from (("one_arm", first.mean()), ("one_arm", second.mean()), ("sum", differences.sum()))


def wrong_intervals(first: np.ndarray, second: np.ndarray, right):
    """The ends that usual mistakes lead to, those around the right mean first."""
    differences, n, t = first - second, len(first), t_quantile
    sd, mean = differences.std(ddof=1), right.mean
    error, unpaired = sd / n**0.5, ((first.var(ddof=1) + second.var(ddof=1)) / n) ** 0.5
    yield "ends_swapped", right.high, right.low
    yield "order", -right.high, -right.low
    halves = [("z_instead_of_t", 1.96 * error), ("z_instead_of_t", 2 * error)]
    halves += [("one_sided", t(0.95, n - 1) * error), ("one_standard_error", error)]
    halves += [("sd", factor * s) for factor in (t(0.975, n - 1), 1.96, 2, 1) for s in (sd, differences.std())]
    halves += [("biased_sd", factor * differences.std() / n**0.5) for factor in (t(0.975, n - 1), 1.96, 1)]
    halves += [("degrees_of_freedom", t(0.975, n) * error)]
    quantiles = (t(0.975, 2 * n - 2), t(0.975, n - 1), welch(first, second), 1.96, 2)
    halves += [("unpaired", factor * unpaired) for factor in quantiles]
    for centre in (mean, -mean):
        yield from ((code, centre - half, centre + half) for code, half in halves)
    yield "range", differences.min(), differences.max()
    for base in (first.mean(), second.mean()):
        if base:
            yield from (("relative", scale * right.low / base, scale * right.high / base) for scale in (1, 100))


def welch(first: np.ndarray, second: np.ndarray) -> float:
    """The t quantile of Welch's interval for two unrelated groups of one size."""
    a, b = first.var(ddof=1), second.var(ddof=1)
    return t_quantile(0.975, (len(first) - 1) * (a + b) ** 2 / max(a**2 + b**2, 1e-300))


def t_quantile(level: float, freedom: float) -> float:
    from scipy import stats  # not at the top: the notebook's own process imports this module, and would wait for it

    return float(stats.t.ppf(level, freedom))


def number_in(report, name: str) -> float:
    number = entry(report, name, "report")
    if isinstance(number, torch.Tensor) and number.numel() == 1:
        number = number.item()
    if not is_number(number):
        raise Feedback("wrong_type", f"{name!r} in the report has to be one finite number.")
    return float(number)


def check_q4(ask: Ask, rng, marks: Marks) -> None:
    report = ask.value()
    if not isinstance(report, dict):
        raise Feedback("wrong_type", "The report has to be a dict, {'effect': …, 'low': …, …}.")
    with marks.part(1):
        judge_fingerprint(entry(report, "fingerprint", "report"), ask.value(of="answer_q1"))
    arms, seeds, sign, threshold = registered(ask, arms_of, seeds_of, sign_of, threshold_of)
    try:
        record = read_record(ask.value(of="answer_q3"), arms, seeds)
    except Feedback as feedback:
        raise Feedback("record", f"This rests on question 3, where something is missing. {feedback}") from None
    first, second = (record[arm] for arm in arms)
    right = interval(first - second)
    with marks.part(1):
        judge_effect(number_in(report, "effect"), first, second, right)
    with marks.part(1):
        judge_interval(number_in(report, "low"), number_in(report, "high"), first, second, right)
    with marks.part(1):
        judge_verdict(entry(report, "verdict", "report"), right, sign, threshold)
    if not marks.feedback:
        measured(ask, arms[0], seeds[0])
    seen_to_train(ask, marks)


def judge_fingerprint(given, registration) -> None:
    if not isinstance(registration, dict):
        raise Feedback("registration", "There is no registration in question 1 that the fingerprint could belong to.")
    blocks = given.strip().lower().split("-") if isinstance(given, str) else []
    if [len(block) for block in blocks] != [4] * len(BLOCKS):
        raise Feedback(
            "wrong_type",
            f"The fingerprint has to be text, {len(BLOCKS)} blocks of four joined by hyphens, as it was shown before "
            "the study.",
        )
    changed = [name for name, a, b in zip(BLOCKS, blocks, fingerprint(registration).split("-")) if a != b]
    if len(changed) == len(BLOCKS):
        raise Feedback(
            "other_registration",
            "This is the fingerprint of another registration: not one block fits. Which study is it of?",
        )
    if changed:
        raise Feedback(
            f"{changed[-1]}_changed",
            f"The registration is not the one that you noted: its {' and '.join(changed)} changed afterwards. Put back "
            "what you had registered and report on that, also when it went wrong; or register the new one, with fresh "
            "seeds.",
        )


def judge_effect(effect: float, first, second, right) -> None:
    half = (right.high - right.low) / 2
    if close(effect, right.mean, half):
        return
    for code, wrong in wrong_effects(first, second):
        if close(effect, wrong, half):
            raise Feedback(code, SAYINGS[code])
    raise Feedback(
        "unknown",
        f"Your effect is {effect:.4g}; that is not the mean of the {len(first)} differences, first arm minus second, "
        "that your record gives. Take the differences seed by seed and look at them first.",
    )


def judge_interval(low: float, high: float, first, second, right) -> None:
    half = (right.high - right.low) / 2
    if close(low, right.low, half) and close(high, right.high, half):
        return
    for code, wrong_low, wrong_high in wrong_intervals(first, second, right):
        if close(low, wrong_low, half) and close(high, wrong_high, half):
            raise Feedback(code, SAYINGS[code])
    if low > high:
        raise Feedback("ends_swapped", SAYINGS["ends_swapped"])
    if not close((low + high) / 2, right.mean, half):
        raise Feedback(
            "unknown",
            f"The middle of your interval is {(low + high) / 2:.4g}. Where does the middle of a t interval lie, and is "
            "that your effect?",
        )
    raise Feedback(
        "unknown",
        f"Your interval is too {'narrow' if high - low < 2 * half else 'wide'} for {len(first)} differences. Which "
        "three numbers make its half width: a quantile, a spread, and …?",
    )


def judge_verdict(word, right, sign: int, threshold: float) -> None:
    if not isinstance(word, str) or word.strip().lower() not in VERDICTS:
        raise Feedback("wrong_type", f"The verdict is one of {', '.join(map(repr, VERDICTS))}.")
    word = word.strip().lower()
    if word == verdict(right.low, right.high, sign, threshold):
        return
    others = {
        "direction": verdict(right.low, right.high, -sign, threshold),
        "threshold_ignored": verdict(right.low, right.high, sign, 0),
        "mean_only": verdict(right.mean, right.mean, sign, threshold),
    }
    code = next((code for code, other in others.items() if other == word), "verdict")
    raise Feedback(code, SAYINGS[code])


# ---- the exercise ----------------------------------------------------------------------------------------------------

FREE = Rules(anything=True, fused=True)  # how an experiment measures is its own affair; q3 runs it again

RUBRIC = {
    "the effect with its interval, its unit and the verdict, in words that say neither more nor less": 1,
    "the scope: network, data, rate and length of training that were measured, and where nobody has looked": 1,
    "the strongest rival explanation, and the control that would tell it from yours": 1,
    "what result would change your mind, concrete enough to be measured": 1,
}

QUESTIONS = {
    "q1": Question("answer_q1", 4, check_q1, VALUE),
    "q2": Question("experiment", 5, check_q2, FREE),
    "q3": Question("answer_q3", 3, check_q3, FREE),
    "q4": Question("answer_q4", 4, check_q4, VALUE),
    "q5": Written("answer_q5", RUBRIC, words=(80, 300)),
}
