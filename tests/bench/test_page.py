"""The page "The bench", as far as no browser is needed: claims as a reader writes them, the state in the address, the cell for a
notebook."""

import math

import pytest

from bncourse import claims, study

DESIGN = {"norms": ["none", "batch", "noisy_batch"], "steps": 300}

MODULES = """
import * as expression from "./expression.js";
import * as address from "./address.js";
import * as python from "./python.js";
const parsed = (asked) => {
  const claim = expression.parse(asked.text);
  if (asked.design) expression.check(claim, asked.design);
  return claim;
};
const does = {
  parse: parsed,
  written: (asked) => expression.written(parsed(asked), asked.steps),
  effect: (asked) => expression.effect(parsed(asked), asked.steps),
  judged(asked) {
    const claim = parsed(asked);
    const values = expression.valuesOf(claim, asked.seeds, (norm, seed) => asked.rows[norm]?.[seed], asked.steps);
    return { values, ...expression.judged(claim, values) };
  },
  read: ({ hash }) => address.read(hash),
  again: ({ state }) => address.read(address.write({ ...address.defaults(), ...state })),
  looks: (asked) => python.looks(asked.state, parsed(asked)),
  cell: ({ state }) => python.inNotebook({ ...address.defaults(), ...state }, parsed({ text: state.claim }), "https://github.com/bncourse/bncourse"),
};
try {
  answer = { result: does[told.does](told) };
} catch (error) {
  answer = { error: error.message };
}
"""


@pytest.fixture
def ask(node):
    """Ask the modules. Gives the result; an error is raised as ValueError."""

    def ask_(does, **told):
        answer = node(MODULES, {"does": does, **told})
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["result"]

    return ask_


@pytest.mark.parametrize(
    ("text", "written", "in_python"),
    [
        ("noisy − batch, accuracy at 300, above −0.05", "noisy − batch, accuracy at 300, above −0.05",
         lambda m: m["accuracy"]("noisy_batch", 300) - m["accuracy"]("batch", 300) > -0.05),
        ("Noisy Batch Norm-BN, training accuracy at step 300,> -5 points", "noisy − batch, accuracy at 300, above −0.05",
         lambda m: m["accuracy"]("noisy_batch", 300) - m["accuracy"]("batch", 300) > -0.05),
        ("batch / plain, shift at 50, below 1", "batch / plain, shift at 50, below 1",
         lambda m: m["shift"]("batch", 50) / m["shift"]("none", 50) < 1),
        ("batch, sharpness × rate, under 2 times", "batch, beta × rate at 300, below 2", lambda m: m["edge"]("batch", 300) < 2),
        ("plain minus batch, loss range after 10 steps, less than .5", "plain − batch, loss range at 10, below 0.5",
         lambda m: m["range"]("none", 10) - m["range"]("batch", 10) < 0.5),
    ],
)
def test_a_claim_is_read_as_it_is_meant_and_says_what_the_package_says(ask, text, written, in_python):
    measures = {
        "accuracy": study.Measure("train_accuracy", "training accuracy", unit="points"),
        "shift": study.Measure("mean_step", "one-step shift of the mean, in sd", over=("layer",), mean="geometric"),
        "range": study.Measure("loss_range", "loss range along the gradient", mean="geometric"),
        "edge": study.Measure("beta_lr", "effective smoothness times learning rate", mean="geometric"),
    }
    prediction = in_python(measures)
    read = ask("parse", text=text, design=DESIGN)
    assert ask("written", text=text, steps=300) == written
    assert ask("effect", text=text, steps=300) == prediction.quantity.words
    assert (read["side"] == "above", read["threshold"]) == (prediction.above, pytest.approx(prediction.threshold))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "three parts"),
        ("noisy − batch", "For example: noisy − batch, accuracy at 300, above −0.05"),
        ("foo − batch, accuracy at 300, above 0", "There is no network “foo”. There are “plain”, “batch”"),
        ("batch − , accuracy at 300, above 0", "missing"),
        ("plain − batch − noisy, accuracy at 300, above 0", "more than two"),
        ("batch − bn, accuracy at 300, above 0", "with itself"),
        ("layer − batch, accuracy at 300, above 0", "“layer” does not train here"),
        ("batch, speed at 300, above 0", "“speed” is not measured here. What is: accuracy, loss"),
        ("batch, accuracy at noon, above 0", "a whole number: accuracy at 300"),
        ("batch, accuracy at 301, above 0", "from 0 to 300"),
        ("batch, shift at 0, below 1", "nothing has moved"),
        ("batch, accuracy at 300, 0.9", "above or below"),
        ("batch, accuracy at 300, above", "above −0.05"),
        ("batch, accuracy at 300, above 0,9", "behind a point"),
        ("batch / plain, accuracy at 300, above 0", "above 0"),
        ("batch / plain, shift at 300, below 5 %", "points"),
    ],
)
def test_what_is_not_understood_is_named_with_what_could_stand_there(ask, text, says):
    with pytest.raises(ValueError) as error:
        ask("parse", text=text, design=DESIGN)
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["noisy − batch, accuracy at 2, above −0.05", "noisy / batch, shift at 2, above 2", "batch, loss, below 1"])
def test_the_verdict_is_the_packages(ask, text):
    seeds = list(range(1, 9))
    row = lambda norm, seed: {"step": 2, "train_accuracy": 0.9 - 0.01 * seed * len(norm) / 7, "train_loss": 0.3 + 0.05 * seed,  # noqa: E731
                              "mean_step": [0.1 * len(norm) ** 2, 0.03 * seed]}
    rows = {norm: {seed: [row(norm, seed)] for seed in seeds} for norm in ("batch", "noisy_batch")}
    found = ask("judged", text=text, seeds=seeds, rows=rows, steps=2)
    claim = claims.Claim("x", "", "", "", ratio="shift" in text, **{("below" if "below" in text else "above"): found["threshold"]})
    verdict = claim.verdict(found["values"])
    assert verdict.word == found["word"]
    for end in "mean", "low", "high":
        assert getattr(verdict.effect, end) == pytest.approx(found["effect"][end], rel=1e-3)
    if "shift" in text:  # geometric over layers, as over seeds
        assert found["values"][0] == pytest.approx(math.sqrt(0.1 * 121 * 0.03 / (0.1 * 25 * 0.03)))


def test_a_seed_that_blew_up_is_left_out_and_counted(ask):
    rows = {"batch": {seed: [{"step": 9, "train_loss": None if seed == 1 else 0.5 + seed / 100}] for seed in range(1, 7)}}
    del rows["batch"][1][0]["train_loss"]  # what is infinite cannot be told in JSON
    found = ask("judged", text="batch, loss at 9, below 1", seeds=list(range(1, 7)), rows=rows, steps=9)
    assert (found["word"], found["effect"]["seeds"], found["effect"]["leftOut"]) == ("supported", 5, 1)


def test_an_address_gives_back_what_made_it(ask):
    state = {"norms": ["none", "frozen_noise"], "init": "glorot", "layers": 16, "width": 48, "batch": 4, "lr": 0.0015, "noise": 2.25, "steps": 1000,
             "seed": 41, "seeds": 12, "show": "edge", "claim": "frozen + noise / plain, beta × rate at 10, above 1.5"}
    assert ask("again", state=state) == {"state": state, "wrong": ""}
    first = ask("again", state={})["state"]
    assert ask("read", hash="") == ask("read", hash="#a-place-on-the-page") == {"state": first, "wrong": ""}


@pytest.mark.parametrize(
    ("hash", "says"),
    [
        ("#layers=10000", "layers=10000 (a whole number from 2 to 16)"),
        ("#layers=NaN", "layers=NaN"), ("#layers=2.5", "layers=2.5"), ("#layers=", "layers="), ("#lr=Infinity", "0.001 to 3"),
        ("#lr=-1", "lr=-1"), ("#lr=1e-99", "lr=1e-99"), ("#init=magic", "one of he, glorot, default"), ("#norms=", "any of none, batch"),
        ("#norms=foo", "norms=foo"), ("#__proto__=1", "no such setting"), ("#=", "no such setting"), ("#&&%%%=%", "no such setting"),
        ("#claim=" + "x" * 500, "200 characters"), ("?seeds=1000000", "from 2 to 32"),
    ],
)
def test_what_an_address_cannot_have_is_said_and_left_as_it_was(ask, hash, says):
    read = ask("read", hash=hash)
    assert says in read["wrong"] and len(read["wrong"]) < 300
    assert read["state"] == ask("again", state={})["state"]


def test_what_is_right_beside_it_is_taken(ask):
    read = ask("read", hash="#norms=batch,foo&layers=99&lr=0.5")
    assert (read["state"]["norms"], read["state"]["lr"], read["state"]["layers"]) == (["batch"], 0.5, 8)
    assert "foo" in read["wrong"] and "layers=99" in read["wrong"] and "lr" not in read["wrong"]


def test_the_step_of_a_claim_is_looked_at_and_the_one_before_where_it_has_to_be(ask):
    state = {"steps": 300, "show": "accuracy"}
    assert 77 in ask("looks", state=state, text="batch, accuracy at 77, above 0.5")["record"]
    shift = ask("looks", state=state, text="batch, shift at 77, below 0.5")
    assert {76, 77, 299, 300} <= set(shift["record"]) and not shift["along"]
    assert ask("looks", state=state, text="batch, beta at 77, below 100")["along"]


@pytest.mark.parametrize(
    "state",
    [
        {"claim": "noisy − batch, accuracy at 10, above −0.05", "norms": ["batch", "noisy_batch"], "noise": 2.25},
        {"claim": "batch / plain, shift at 9, below 1", "norms": ["none", "batch", "layer"], "show": "edge"},
        {"claim": "frozen + noise, loss range, below 9", "norms": ["frozen", "frozen_noise", "noise"], "show": "shift", "init": "default"},
        {"claim": "batch, accuracy at 7, above 0", "norms": ["batch"], "seeds": 3},
    ],
)
def test_the_cell_for_a_notebook_runs_and_runs_again(ask, state, monkeypatch):
    monkeypatch.setattr(claims, "strict", claims.strict)  # a cell of a reader's own takes any verdict; other tests do not
    cell = ask("cell", state={"steps": 12, "seeds": 5, "layers": 3, **state})
    assert max(map(len, cell.splitlines())) <= 100
    lines = [line for line in cell.splitlines() if not line.lstrip().startswith("%pip")]
    names = {}
    for _ in range(2 if state["norms"] == ["batch", "noisy_batch"] else 1):
        exec(compile("\n".join(lines), "cell", "exec"), names)  # noqa: S102
        assert len(names["study"].frame.norm.unique()) == len(state["norms"])
    if state.get("seeds") != 3:
        assert study.verdicts["bench"].claim.says.startswith(state["claim"].split(",")[0])
