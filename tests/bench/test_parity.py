"""What trains in the page is what ``bncourse.train`` trains: step by step from the same start, and over seeds from its own."""

import numpy as np
import pytest
from parity import package, rows_of
from scipy import stats

from bncourse import claims, data, nets
from bncourse.train import train

DESIGN = dict(init="he", layers=3, width=16, lr=0.1, batch=32, noise=1, steps=50, record=[0, 1, 10, 24, 25, 49, 50])


@pytest.mark.parametrize("norm", ["none", "batch", "noisy_batch", "noise", "layer", "frozen", "frozen_noise"])
@pytest.mark.parametrize("change", [{}, {"init": "glorot", "layers": 5, "width": 13, "batch": 50, "noise": 2, "lr": 0.03}],
                         ids=["as drawn", "otherwise"])
def test_step_by_step(norm, change, node, monkeypatch):
    design = DESIGN | change | {"norm": norm}
    frame, gradients, given = package(design, seed=3, monkeypatch=monkeypatch)
    theirs = node('import { repeat } from "./repeat.js"; answer = repeat(Run, data, told);',
                  {"design": design, "seed": 3, "given": given})
    for mine, found in zip(rows_of(frame), theirs["rows"], strict=True):
        for name, value in mine.items():
            there = [np.nan if x is None else x for x in np.atleast_1d(np.array(found[name], dtype=object))]
            np.testing.assert_allclose(np.array(there, float), np.atleast_1d(value), rtol=1e-6, err_msg=f"{name}, step {mine['step']}")
    for mine, found in zip(gradients, theirs["gradients"], strict=True):
        np.testing.assert_allclose(found, mine, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("norm", ["none", "batch", "noisy_batch", "noise", "layer", "frozen"])
def test_over_seeds_from_its_own_random_numbers(norm, node):
    design = dict(norm=norm, init="he", layers=4, width=16, lr=0.1, batch=64, noise=1, steps=60, record=[59, 60])
    frame = train(lambda seed: nets.mlp((64, *[16] * 4, 10), norm=norm, seed=seed, fused=True), data.load(), seeds=range(20), lrs=[0.1],
                  steps=60, batch_size=64, record=[60], test=False)
    ours = claims.per_seed(frame, "train_accuracy", step=60)
    theirs = node("answer = told.seeds.map((seed) => [...new Run(data, told.design, seed).train()].at(-1).train_accuracy);",
                  {"design": design, "seeds": list(range(20))})
    # Of two sets of seeds: a limit that one in a thousand pairs would exceed.
    assert stats.ttest_ind(ours, theirs, equal_var=False).pvalue > 1e-3, (np.mean(ours), np.mean(theirs))


def test_a_run_that_blows_up_is_counted_as_in_the_package(node):
    design = DESIGN | dict(norm="none", lr=1e100, record=[0, 10, 50])
    rows = node("answer = [...new Run(data, told, 0).train()].filter((row) => row);", design)
    assert [row["diverged"] for row in rows] == [False, True, True]
    assert rows[-1]["train_accuracy"] == 0.1 and rows[-1]["train_loss"] is None  # Infinity, in JSON


def test_random_numbers_are_what_they_are_called(node):
    drawn = node("""import { Random } from "./random.js";
      const random = new Random(7, 1);
      answer = { uniform: Array.from({ length: 20000 }, () => random.uniform(-1, 3)), normal: Array.from({ length: 20000 }, () => random.normal()),
        order: [...random.permutation(500)], again: [1, 1, 2].map((key) => new Random(key).word()),
        first: Array.from({ length: 4000 }, (_, seed) => new Random(seed, 0).uniform()) };""")
    assert stats.kstest(drawn["uniform"], stats.uniform(-1, 4).cdf).pvalue > 1e-3
    assert stats.kstest(drawn["normal"], "norm").pvalue > 1e-3
    assert stats.kstest(drawn["first"], "uniform").pvalue > 1e-3, "seeds that follow each other begin alike"
    assert sorted(drawn["order"]) == list(range(500)) != drawn["order"]
    assert drawn["again"][0] == drawn["again"][1] != drawn["again"][2]


def test_intervals_and_verdicts_are_those_of_the_package(node):
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(300):
        ratio, above = bool(rng.integers(2)), bool(rng.integers(2))
        scale = 10.0 ** rng.integers(-4, 6)
        values = np.exp(rng.normal(0, 0.3, rng.integers(5, 40))) * scale if ratio else rng.normal(0.5, 1, rng.integers(5, 40)) * scale
        cases.append({"values": values.tolist(), "ratio": ratio, ("above" if above else "below"): scale * float(rng.uniform(0.2, 1.6))})
    found = node("""import { honest, verdict } from "./statistics.js";
      answer = told.map((one) => { const { word, effect } = verdict(one.values, one); return { word, ...effect, said: honest(effect.mean, effect.low, effect.high) }; });""",
                 cases)
    for case, there in zip(cases, found):
        options = {name: case[name] for name in ("above", "below", "ratio") if name in case}
        here = claims.Claim("x", "", "", "", **options).verdict(case["values"])
        assert there["word"] == here.word
        # The page has a table of Student's t up to 30 degrees of freedom, and a line beyond.
        near = 0.005 * (here.effect.high - here.effect.low)
        np.testing.assert_allclose([there[end] for end in ("mean", "low", "high")], [here.effect.mean, here.effect.low, here.effect.high], atol=near, rtol=0)
        if here.effect.seeds == 20:
            assert there["said"] == claims.honest(here.effect.mean, here.effect.low, here.effect.high)


def test_what_the_landing_page_says_of_three_drags(node):
    """Accuracy over the last twenty of 300 steps, three seeds, as book/bench/shake.js measures it."""
    cases = {"default": dict(init="default", lr=0.1, noise=1), "loud": dict(init="he", lr=0.1, noise=4),
             "paper": dict(init="he", lr=0.1, noise=1), "fast": dict(init="he", lr=1, noise=1)}
    asked = {"default": ["none", "batch", "noisy_batch"], "loud": ["batch", "noisy_batch"], "paper": ["none", "batch"], "fast": ["none", "batch"]}
    ends = node("""answer = {};
      for (const [name, design] of Object.entries(told.cases)) for (const norm of told.asked[name]) {
        const record = [280, 290, 300];
        const late = [1, 2, 3].flatMap((seed) => [...new Run(data, { ...design, norm, layers: 8, width: 32, batch: 64, steps: 300, record }, seed).train()]);
        answer[`${name} ${norm}`] = late.reduce((sum, row) => sum + (row ? row.train_accuracy / 9 : 0), 0);
      }""", {"cases": cases, "asked": asked})
    assert ends["default none"] < 0.3 and min(ends["default batch"], ends["default noisy_batch"]) > 0.8
    assert ends["loud noisy_batch"] < ends["loud batch"] - 0.2
    assert abs(ends["paper none"] - ends["paper batch"]) < 0.05
    assert ends["fast none"] < 0.5 and ends["fast batch"] > 0.8
