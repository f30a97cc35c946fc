"""Answers to ex07. The study of the prelude trains one weight for a step, which is quick and as legitimate as any other."""

PRELUDE = """
from bncourse.claims import interval
from bncourse.grading import show
from bncourse.grading.ex07 import verdict
from bncourse.grading.given.ex07 import fingerprint

answer_q1 = {
    "claim": "With arm a the loss is larger than with arm b.",
    "measure": "a toy loss after no steps at all",
    "unit": "nats",
    "arms": ["a", "b"],
    "sign": 1,
    "threshold": 0.5,
    "seeds": [3, 1, 4, 15, 9, 2, 6, 5],
    "pilot": [100, 101],
}

def descend(target):
    # one step of gradient descent on (w - target)² / 2 leads to the target
    w = torch.zeros((), dtype=torch.float64, requires_grad=True)
    return (w - torch.autograd.grad((w - target) ** 2 / 2, w)[0]).item()

def experiment(arm, seed):
    draw = np.random.default_rng(seed)
    shared, own_a, own_b = draw.normal(size=3)
    return descend(20 + 6 * shared + (own_a if arm == "a" else own_b - 1.3))

def study():
    return {arm: [float(f"{experiment(arm, seed):.5g}") for seed in answer_q1["seeds"]] for arm in answer_q1["arms"]}

def report():
    first, second = (np.array(answer_q3[arm], dtype=float) for arm in answer_q1["arms"])
    i = interval(first - second)
    return {"effect": i.mean, "low": i.low, "high": i.high, "fingerprint": fingerprint(answer_q1),
            "verdict": verdict(i.low, i.high, answer_q1["sign"], answer_q1["threshold"])}

answer_q3 = study()
answer_q4 = report()
"""

# A study with given differences, whatever the experiment would have given: question 4 asks only for consistency.
DIFFERENCES = """
def with_differences(differences, sign=1, threshold=0.5):
    answer_q1.update(seeds=list(range(len(differences))), sign=sign, threshold=threshold)
    shared = 20 + 6 * np.random.default_rng(0).normal(size=len(differences))
    answer_q3.update(a=(shared + differences).tolist(), b=shared.tolist())
    return report()

SPREAD = np.array([-0.5, -0.4, -0.3, -0.1, 0.0, 0.2, 0.5, 0.6])  # mean 0, standard error about 0.14
"""

ANEW = "\nanswer_q3 = study()\nanswer_q4 = report()\n"  # after a change of registration or experiment
FEW_STEPS = """
from bncourse import data, nets
from bncourse.train import train
DATA = data.linear_map(width=4, examples=40, condensed=False)
answer_q1.update(arms=["batch", "none"], sign=-1, threshold=1e-3, seeds=[0, 1, 2, 3, 4])
def experiment(arm, seed):
    run = train(lambda s: nets.deep_linear(4, 2, norm=arm, seed=s, fused=True), DATA, seeds=[seed], lrs=[0.01], steps=1, batch_size=40, record=[1])
    return math.log(run.train_loss.iloc[-1])
"""
PLAIN_TORCH = """
answer_q1.update(arms=["before the ReLU", "behind the ReLU"], seeds=list(range(5)))
def experiment(arm, seed):
    torch.manual_seed(seed)
    x, w = torch.randn(16, 3), torch.randn(3, 2)
    norm, act = torch.nn.BatchNorm1d(5), torch.nn.ReLU()
    middle = (norm, act) if arm.startswith("before") else (act, norm)
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), *middle, torch.nn.Linear(5, 2))
    for _ in range(2):
        loss = (net(x) - x @ w).square().mean()
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients):
                parameter -= 0.1 * gradient
    net.eval()  # allowed, although eval(…) is not elsewhere
    with torch.no_grad():
        return (net(x) - x @ w).square().mean()
"""
COARSE = """
def experiment(arm, seed):
    random = np.random.RandomState(seed)
    return np.float32(descend((random.rand(40) < (0.9 if arm == "a" else 0.5)).mean() * 100))
"""
ARM_CONSTANT = """
def experiment(arm, seed):
    return descend(10.0 if arm == "b" else 10 + 80 * float(np.random.default_rng(seed).random()))
"""

RIGHT = {
    "q1": {
        "the toy": "",
        "negative sign": "answer_q1['sign'] = -1.0",
        "no pilot": "answer_q1['pilot'] = []",
        "tuples and extra entries": "answer_q1.update(arms=('x', 'y'), seeds=tuple(range(20)), date='today', threshold=3)",
        "a large threshold where there is room": "answer_q1.update(measure='loss after 60 steps, over that at the start', unit='%', threshold=150)",
        "most of a share": "answer_q1.update(measure='test accuracy after 60 steps, digits', unit='points', threshold=40)",
        "numpy threshold": "answer_q1['threshold'] = np.float64(0.01)",
    },
    "q2": {
        "numpy": "",
        "bncourse": FEW_STEPS,
        "plain torch": PLAIN_TORCH,
        "coarse measure": COARSE,
        "one arm never varies": ARM_CONSTANT,
        "global numpy generator": "def experiment(arm, seed):\n    np.random.seed(seed)\n    return descend(np.random.rand() + len(arm + 'a' * (arm == 'b')))",
        "tensor of one": "def experiment(arm, seed):\n    torch.manual_seed(seed)\n    return descend(torch.randn(1).item() + (arm == 'b')) * torch.ones(1)",
    },
    "q3": {
        "the toy": "",
        "plain torch": PLAIN_TORCH + ANEW,
        "coarse measure": COARSE + ANEW,
        "all digits": "answer_q3 = {arm: [experiment(arm, seed) for seed in answer_q1['seeds']] for arm in 'ba'}",
        "rounded": "answer_q3 = {arm: [round(x, 2) for x in numbers] for arm, numbers in answer_q3.items()}",
        "tuples": "answer_q3 = {arm: tuple(numbers) for arm, numbers in answer_q3.items()}",
        "arrays": "answer_q3 = {arm: torch.tensor(numbers) for arm, numbers in answer_q3.items()}",
        "other rounding in the eighth digit": "answer_q3 = {arm: [x * (1 + 1e-8) for x in numbers] for arm, numbers in answer_q3.items()}",
        "threshold missing": "answer_q1.pop('threshold')",
        "many seeds": "answer_q1['seeds'] = list(range(40, 0, -1))" + ANEW,
    },
    "q4": {
        "the toy": "",
        "supported": DIFFERENCES + "answer_q4 = with_differences(SPREAD + 1)",
        "contradicted, the other way": DIFFERENCES + "answer_q4 = with_differences(SPREAD - 1)",
        "contradicted, too small to count": DIFFERENCES + "answer_q4 = with_differences(SPREAD, threshold=2)",
        "inconclusive": DIFFERENCES + "answer_q4 = with_differences(SPREAD + 0.6)",
        "supported below": DIFFERENCES + "answer_q4 = with_differences(SPREAD - 1, sign=-1)",
        "inconclusive below": DIFFERENCES + "answer_q4 = with_differences(SPREAD - 0.5, sign=-1)",
        "three digits": DIFFERENCES + "answer_q4 = {k: float(f'{v:.3g}') if isinstance(v, float) else v for k, v in with_differences(SPREAD + 1).items()}",
        "three digits, many seeds": DIFFERENCES + "answer_q4 = {k: float(f'{v:.3g}') if isinstance(v, float) else v for k, v in with_differences(np.tile(SPREAD, 12) + 41).items()}",
        "capitals and spaces": DIFFERENCES + "answer_q4 = with_differences(SPREAD + 1)\nanswer_q4.update(verdict=' Supported ', fingerprint=answer_q4['fingerprint'].upper() + ' ')",
        "arms that differ by a constant": DIFFERENCES + "answer_q4 = with_differences(np.full(6, 2.0))",
        "no effect at all": DIFFERENCES + "answer_q4 = with_differences(np.zeros(6))",
        "tensors": DIFFERENCES + "answer_q4 = {k: torch.tensor(v) if isinstance(v, float) else v for k, v in with_differences(SPREAD + 1).items()}",
        "by hand": "d = np.subtract(answer_q3['a'], answer_q3['b'])\nhalf = 2.3646 * d.std(ddof=1) / len(d) ** 0.5\nanswer_q4.update(effect=d.mean(), low=d.mean() - half, high=d.mean() + half)",
        "words spaced otherwise": "answer_q1.update(claim='  With arm a the loss  is larger\\nthan with arm b.', threshold=0.50)",
    },
}

# Registrations in many styles: words and arms, all of them honest, and none to be turned away.
HONEST = {
    "chapter": ("Batch norm belongs before the nonlinearity, not behind it.", "test accuracy on digits after 60 steps", "percentage points", ["before", "behind"]),
    "odd": ("Bigger is better, until it is not: twice the width gives a lower loss.", "loss on the training set, last step", "nats", ["128", "64"]),
    "nickname": ("The banana network reaches a higher accuracy than the apple network.", "accuracy, end of training, test set", "points", ["banana", "apple"]),
    "one sentence with numbers": ("At lr=1.0 plain nets diverge more often than with BN.", "1 if the loss is nan after 100 steps, else 0", "runs", ["none", "batch"]),
    "no harm": ("Noise behind batch norm does no harm at depth four.", "accuracy at step 200 without the noise", "%", ["noisy", "clean"]),
    "gradients": ("Layer one gets the smaller gradient of the two.", "length of the gradient at initialization, log10", "decades", ["sigmoid", "relu"]),
    "speed": ("ReLU learns faster than tanh does on digits.", "number of steps until the loss is below 0.5", "steps", ["relu", "tanh"]),
    "symbols": ("γ and β are needed: without them it trains worse.", "test error after 2 epochs on digits", "fraction", ["affine", "bare"]),
    "weights": ("Weight decay leaves smaller weights in the first layer.", "norm of W1 when training ends", "one", ["decay", "none"]),
    "seeds and luck": ("Two different inits end further apart than two batch orders do.", "share of test images classified differently, at the end", "share", ["init", "order"]),
    "linear": ("A deep linear network learns a linear map no faster than a single matrix.", "mean squared error after 50 updates", "squared units", ["deep", "single"]),
    "shouting": ("ADAM BEATS SGD ON EVERYTHING THAT I HAVE TRIED", "ACCURACY AFTER 100 STEPS, TEST SET", "PERCENT", ["ADAM", "SGD"]),
    "curvature": ("The loss surface is flatter along the gradient with BN than without.", "largest eigenvalue of the Hessian, step 50, digits", "1", ["bn", "none"]),
    "dead units": ("Large biases kill rectifiers: more hidden units are never active.", "count of units that are 0 on all images, after 100 steps", "units", ["5", "0"]),
    "no verb": ("Lower loss with momentum 0.9 than with none", "cross-entropy over the last ten steps", "nats", ["0.9", "0"]),
    "labels": ("Random labels are learned more slowly than the real ones.", "steps until 90 % of the training set is right", "steps", ["random", "real"]),
    "precision": ("Float64 makes no difference to where it ends.", "test error after 200 iterations", "percent", ["float64", "float32"]),
    "initial size": ("Initial size does not matter if outputs are standardized", "final cost on held-out images", "nats", ["big", "small"]),
    "one step": ("The first step is the largest of them all", "distance moved in step 1 over the mean of the next ten", "ratio", ["batch", "none"]),
    "statistics": ("Evaluating with running statistics costs something early on.", "accuracy, eval minus train mode, step 20", "points", ["0.1", "0.01"]),
    "everyday words": ("If you show a net the same picture twice in a row it learns worse.", "how many of the 360 test digits it gets right, end", "digits", ["twice", "once"]),
}  # fmt: skip
BANANAS = [  # words and arms, misconception, points left
    ("Bananas are better than apples in every way.", "how yellow the fruit is on Monday morning", "yellowness", ["banana", "apple"], "not_about_networks", 0),
    ("Bananas lose weight faster than apples on a shelf.", "weight of ten fruits after three days", "grams", ["banana", "apple"], "not_about_networks", 0),
    ("The train to Paris is later than the bus.", "minutes of delay at the station, every Monday", "minutes", ["train", "bus"], "not_about_networks", 0),
    ("Lorem ipsum dolor sit amet, consectetur adipiscing elit.", "sed do eiusmod tempor incididunt ut 3", "labore", ["x", "y"], "not_about_networks", 0),
    ("Cats sleep longer than dogs at every age.", "hours of sleep a day, mean over 7 days", "hours", ["cat", "dog"], "not_about_networks", 0),
    ("Coffee makes students work longer hours in exam weeks", "hours in the library a day", "hours", ["coffee", "tea"], "not_about_networks", 0),
    ("Team A scores more goals than team B this season", "mean number of goals per match, until May", "goals", ["A", "B"], "not_about_networks", 0),
    ("The moon is made of green cheese, mostly", "share of cheese in 10 random samples", "percent", ["moon", "sun"], "not_about_networks", 0),
    ("word word word word word", "word word word word", "word", ["a", "b"], "not_about_networks", 0),
    ("Bananas are better than apples in every way.", "test accuracy on digits after 60 steps", "points", ["banana", "apple"], "claim_elsewhere", 3),
    ("Batch norm trains better than layer norm does.", "how good the network is afterwards, on digits", "goodness", ["batch", "layer"], "no_quantity", 3),
    ("Batch norm trains better than layer norm does.", "accuracy of the network on digits", "points", ["batch", "layer"], "no_moment", 3),
    ("loss loss loss loss loss", "accuracy after 60 steps on digits", "points", ["batch", "layer"], "vague_claim", 3),
]  # fmt: skip


def registration(claim, measure, unit, arms) -> str:
    return f"answer_q1.update(claim={claim!r}, measure={measure!r}, unit={unit!r}, arms={arms!r})"


RIGHT["q1"] |= {name: registration(*words) for name, words in HONEST.items()}

CHANGED = DIFFERENCES + "answer_q4 = with_differences(SPREAD + 1)\nanswer_q4."
S = DIFFERENCES + "s = SPREAD.std(ddof=1)\nanswer_q4 = with_differences(SPREAD + 1)\nanswer_q4."
RAISES = "def experiment(arm, seed):\n    "

# question, code, misconception, points left
WRONG = [
    ("q2", "def experiment(arm, seed):\n    return len(arm + 'a' * (arm == 'b')) + np.random.default_rng(seed).random()", "no_training", 0),
    ("q3", "def experiment(arm, seed):\n    return len(arm + 'a' * (arm == 'b')) + np.random.default_rng(seed).random()" + ANEW, "no_training", 0),
    ("q4", "def experiment(arm, seed):\n    return len(arm + 'a' * (arm == 'b')) + np.random.default_rng(seed).random()" + ANEW, "no_training", 0),
    ("q1", "del answer_q1", "missing", 0),
    ("q1", "answer_q1 = ...", "not_started", 0),
    ("q1", "answer_q1 = 'batch norm helps'", "wrong_type", 0),
    ("q1", "answer_q1 = {}", "incomplete", 0),
    ("q1", "answer_q1.pop('claim')", "incomplete", 3),
    ("q1", "answer_q1.pop('pilot')", "incomplete", 3),
    ("q1", "answer_q1['claim'] = 'BN helps'", "vague_claim", 3),
    ("q1", "answer_q1['claim'] = 'Batch norm might help with training, sometimes.'", "hedged", 3),
    ("q1", "answer_q1['measure'] = 'accuracy'", "vague_measure", 3),
    ("q1", "answer_q1['unit'] = ' '", "vague_unit", 3),
    ("q1", "answer_q1['arms'] = ['batch', 'batch']", "arms_equal", 3),
    ("q1", "answer_q1['arms'] = ['batch']", "arms_count", 3),
    ("q1", "answer_q1['arms'] = ['batch', 'layer', 'none']", "arms_count", 3),
    ("q1", "answer_q1['arms'] = 'batch against none'", "wrong_type", 3),
    ("q1", "answer_q1['arms'] = ['', 'x']", "wrong_type", 3),
    ("q1", "answer_q1['arms'] = 7", "wrong_type", 3),
    ("q1", "answer_q1['arms'] = torch.ones(2)", "wrong_type", 3),
    ("q1", "answer_q1['sign'] = 0", "no_sign", 3),
    ("q1", "answer_q1['sign'] = '+'", "no_sign", 3),
    ("q1", "answer_q1['sign'] = float('nan')", "no_sign", 3),
    ("q1", "answer_q1['sign'] = -0.5", "sign_size", 3),
    ("q1", "answer_q1['threshold'] = 0", "threshold_zero", 3),
    ("q1", "answer_q1['threshold'] = -1.0", "threshold_negative", 3),
    ("q1", "answer_q1['threshold'] = float('inf')", "wrong_type", 3),
    ("q1", "answer_q1['threshold'] = '1 point'", "wrong_type", 3),
    ("q1", "answer_q1['seeds'] = [0, 1, 2, 3]", "few_seeds", 3),
    ("q1", "answer_q1['seeds'] = [1, 2, 3, 4, 5, 5]", "seeds_repeated", 3),
    ("q1", "answer_q1['seeds'] = [0.5, 1.5, 2.5, 3.5, 4.5]", "seeds_not_ints", 3),
    ("q1", "answer_q1['seeds'] = [True, False, 2, 3, 4]", "seeds_not_ints", 3),
    ("q1", "answer_q1['seeds'] = range(8)", "range", 0),
    ("q1", "answer_q1.update(measure='test accuracy after 60 steps, digits', unit='points', threshold=500)", "threshold_unreachable", 3),
    ("q1", "answer_q1.update(measure='share of the test images that are right, at the end', unit='%', threshold=100)", "threshold_unreachable", 3),
    ("q1", "answer_q1['pilot'] = [4]", "pilot_reused", 3),
    ("q1", "answer_q1.update(threshold=0, seeds=[1])", "threshold_zero", 2),
    ("q2", "del experiment", "missing", 0),
    ("q2", RAISES + "raise NotImplementedError", "not_started", 0),
    ("q2", "answer_q1 = ...", "not_started", 0),
    ("q2", "answer_q1['arms'] = ['a']", "registration", 0),
    ("q2", RAISES + "return {'batch': 1, 'none': 2}[arm] + seed", "raised", 0),
    ("q2", "known = study()\n" + RAISES + "return known[arm][answer_q1['seeds'].index(seed)]", "raised", 0),
    ("q2", RAISES + "print(seed)", "returned_nothing", 0),
    ("q2", RAISES + "return [seed, 1.0]", "wrong_type", 0),
    ("q2", RAISES + "return torch.ones(3)", "wrong_type", 0),
    ("q2", RAISES + "return arm == 'a'", "wrong_type", 0),
    ("q2", RAISES + "return float('inf') if arm == 'b' else seed", "not_finite", 0),
    ("q2", RAISES + "return torch.randn(()) + (arm == 'a')", "unseeded", 2),
    ("q2", RAISES + "draw = np.random.default_rng(seed)\n    return draw.random() + np.random.rand() + (arm == 'a')", "unseeded", 2),
    ("q2", "draw = np.random.default_rng(0)\n" + RAISES + "return draw.random() + (arm == 'a')", "remembers", 2),
    ("q2", "net = torch.nn.Linear(1, 1)\n" + RAISES + "torch.manual_seed(seed)\n    with torch.no_grad():\n        net.weight += torch.rand(1) + (arm == 'a')\n    return net.weight.item()", "remembers", 2),
    ("q2", RAISES + "torch.manual_seed(0)\n    return float(torch.randn(())) + (arm == 'a')", "seed_ignored", 4),
    ("q2", RAISES + "return float(np.random.default_rng(seed).random())", "arm_ignored", 4),
    ("q2", RAISES + "return 90.0", "seed_ignored", 3),
    ("q3", "del answer_q3", "missing", 0),
    ("q3", "answer_q3 = ...", "not_started", 0),
    ("q3", "answer_q1 = ...", "not_started", 0),
    ("q3", "answer_q1['arms'] = ['a', 'a']", "registration", 0),
    ("q3", "answer_q3 = [1, 2, 3]", "wrong_type", 0),
    ("q3", "answer_q3['a'] = 3.5", "wrong_type", 0),
    ("q3", "answer_q3['a'] = [str(x) for x in answer_q3['a']]", "wrong_type", 0),
    ("q3", "answer_q3 = {'batch': answer_q3['a'], 'none': answer_q3['b']}", "other_arms", 0),
    ("q3", "answer_q3['c'] = answer_q3['a']", "other_arms", 0),
    ("q3", "answer_q3 = {arm: numbers[:6] for arm, numbers in answer_q3.items()}", "seeds_dropped", 0),
    ("q3", "answer_q3['b'].pop()", "seeds_dropped", 0),
    ("q3", "answer_q3 = {arm: [*numbers, 20.0] for arm, numbers in answer_q3.items()}", "seeds_added", 0),
    ("q3", "answer_q3['b'][0] = float('nan')", "not_finite", 0),
    ("q3", "answer_q3['b'][0] = 1e200", "not_finite", 0),
    ("q3", "del experiment", "missing", 1),
    ("q3", RAISES + "raise NotImplementedError", "not_started", 1),
    ("q3", RAISES + "raise ValueError('boom')", "raised", 1),
    ("q3", RAISES + "return {3: 1.0}[seed]", "raised", 1),
    ("q3", "answer_q3 = {'a': [21.0, 21.1, 21.2, 20.9, 21.0, 21.1, 20.8, 21.3], 'b': [0.1 * i for i in range(8)]}", "not_reproduced", 1),
    ("q3", "def other(arm, seed):\n    return 60 + seed + (arm == 'a')\nexperiment = other", "not_reproduced", 1),
    ("q3", "answer_q3 = {arm: [x / 100 for x in numbers] for arm, numbers in answer_q3.items()}", "unit", 1),
    ("q3", "answer_q3 = {arm: [x * 100 for x in numbers] for arm, numbers in answer_q3.items()}", "unit", 1),
    ("q3", "def experiment(arm, seed): return seed / 7 + 50 * (arm == 'a')\nanswer_q3 = study()\nanswer_q3 = {'a': answer_q3['b'], 'b': answer_q3['a']}", "arms_swapped", 1),
    ("q3", "def experiment(arm, seed): return 1.0 + 4.0 ** answer_q1['seeds'].index(seed) + (arm == 'a')\nanswer_q3 = {arm: numbers[::-1] for arm, numbers in study().items()}", "seed_order", 1),
    ("q4", "del answer_q4", "missing", 0),
    ("q4", "answer_q4 = ...", "not_started", 0),
    ("q4", "answer_q4 = 0.3", "wrong_type", 0),
    ("q4", "answer_q4 = {}", "incomplete", 0),
    ("q4", "answer_q1 = ...", "not_started", 0),
    ("q4", "answer_q1 = 3", "registration", 0),
    ("q4", "answer_q3 = ...", "record", 1),
    ("q4", "answer_q3['a'].pop()", "record", 1),
    ("q4", "answer_q1.pop('sign')", "registration", 0),
    ("q4", CHANGED + "pop('low')", "incomplete", 3),
    ("q4", CHANGED + "update(effect='one')", "wrong_type", 3),
    ("q4", CHANGED + "update(effect=-answer_q4['effect'])", "order", 3),
    ("q4", DIFFERENCES + "answer_q4 = with_differences(SPREAD - 1, sign=-1)\nanswer_q4.update(effect=1.0, low=-answer_q4['high'], high=-answer_q4['low'])", "order", 2),
    ("q4", CHANGED + "update(effect=1 / np.mean(answer_q3['b']))", "relative", 3),
    ("q4", CHANGED + "update(effect=100 / np.mean(answer_q3['b']))", "relative", 3),
    ("q4", CHANGED + "update(effect=100.0)", "unit", 3),
    ("q4", CHANGED + "update(effect=float(np.median(SPREAD + 1)))", "median", 3),
    ("q4", CHANGED + "update(effect=np.mean(answer_q3['a']))", "one_arm", 3),
    ("q4", CHANGED + "update(effect=8.0)", "sum", 3),
    ("q4", CHANGED + "update(effect=0.7)", "unknown", 3),
    ("q4", CHANGED + "update(low=answer_q4['high'], high=answer_q4['low'])", "ends_swapped", 3),
    ("q4", CHANGED + "update(low=3.0, high=2.0)", "ends_swapped", 3),
    ("q4", S + "update(low=1 - 1.96 * s / 8**.5, high=1 + 1.96 * s / 8**.5)", "z_instead_of_t", 3),
    ("q4", S + "update(low=1 - 1.8946 * s / 8**.5, high=1 + 1.8946 * s / 8**.5)", "one_sided", 3),
    ("q4", S + "update(low=1 - s / 8**.5, high=1 + s / 8**.5)", "one_standard_error", 3),
    ("q4", S + "update(low=1 - s, high=1 + s)", "sd", 3),
    ("q4", S + "update(low=1 - 2.3646 * s, high=1 + 2.3646 * s)", "sd", 3),
    ("q4", S.replace("ddof=1", "ddof=0") + "update(low=1 - 2.3646 * s / 8**.5, high=1 + 2.3646 * s / 8**.5)", "biased_sd", 3),
    ("q4", S + "update(low=1 - 2.306 * s / 8**.5, high=1 + 2.306 * s / 8**.5)", "degrees_of_freedom", 3),
    ("q4", "from scipy import stats\n" + CHANGED + "update(zip(('low', 'high'), stats.ttest_ind(answer_q3['a'], answer_q3['b']).confidence_interval()))", "unpaired", 3),
    ("q4", "from scipy import stats\n" + CHANGED + "update(zip(('low', 'high'), stats.ttest_ind(answer_q3['a'], answer_q3['b'], equal_var=False).confidence_interval()))", "unpaired", 3),
    ("q4", CHANGED + "update(low=0.5, high=1.6)", "range", 3),
    ("q4", CHANGED + "update({k: answer_q4[k] / np.mean(answer_q3['b']) for k in ('low', 'high')})", "relative", 3),
    ("q4", CHANGED + "update(low=0.2, high=1.0)", "unknown", 3),
    ("q4", CHANGED + "update(low=0.9, high=1.1)", "unknown", 3),
    ("q4", CHANGED + "update(low=float('nan'))", "wrong_type", 3),
    ("q4", CHANGED + "update(verdict='proved')", "wrong_type", 3),
    ("q4", CHANGED + "update(verdict='contradicted')", "direction", 3),
    ("q4", DIFFERENCES + "answer_q4 = with_differences(SPREAD + 0.6)\nanswer_q4['verdict'] = 'supported'", "threshold_ignored", 3),
    ("q4", DIFFERENCES + "answer_q4 = with_differences(SPREAD, threshold=2)\nanswer_q4['verdict'] = 'inconclusive'", "threshold_ignored", 3),
    ("q4", DIFFERENCES + "answer_q4 = with_differences(SPREAD + 0.6, threshold=0.7)\nanswer_q4['verdict'] = 'contradicted'", "direction", 3),
    ("q4", DIFFERENCES + "answer_q4 = with_differences(SPREAD + 0.2, threshold=0.1)\nanswer_q4['verdict'] = 'supported'", "mean_only", 3),
    ("q4", CHANGED + "update(verdict='inconclusive')", "verdict", 3),
    ("q4", CHANGED + "update(fingerprint=12345)", "wrong_type", 3),
    ("q4", CHANGED + "update(fingerprint='I forgot it')", "wrong_type", 3),
    ("q4", CHANGED + "update(fingerprint='0000-0000-0000-0000-0000')", "other_registration", 3),
    ("q4", CHANGED + "update(fingerprint=fingerprint({**answer_q1, 'threshold': 2.0}))", "threshold_changed", 3),
    ("q4", CHANGED + "update(fingerprint=fingerprint({**answer_q1, 'sign': -1}))", "sign_changed", 3),
    ("q4", CHANGED + "update(fingerprint=fingerprint({**answer_q1, 'seeds': [*range(9)]}))", "seeds_changed", 3),
    ("q4", CHANGED + "update(fingerprint=fingerprint({**answer_q1, 'pilot': []}))", "seeds_changed", 3),
    ("q4", CHANGED + "update(fingerprint=fingerprint({**answer_q1, 'claim': 'With arm b the loss is larger.'}))", "words_changed", 3),
    ("q4", CHANGED + "update(fingerprint=fingerprint({**answer_q1, 'arms': ['b', 'a']}))", "arms_changed", 3),
    ("q5", "answer_q5 = ...", "not_started", 0),
    ("q5", "answer_q5 = ''", "not_started", 0),
    ("q5", "answer_q5 = 42", "wrong_type", 0),
    ("q5", "answer_q5 = 'The claim is supported, p < 0.05.'", "too_short", 0),
    ("q5", "answer_q5 = 'word ' * 400", "too_long", 0),
    *(("q1", registration(*words), code, points) for *words, code, points in BANANAS),
]  # fmt: skip

# Forbidden shortcuts: question, code, what the feedback names. Only `show` is one, because it does nothing when graded.
SHORTCUTS = [
]  # fmt: skip
