"""``train.train`` against a loop written the way a reader would, and what must hold around it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bncourse.data import Data, linear_map
from bncourse.nets import Stack, deep_linear, mlp, stackable
from bncourse.norms import NORMS, BatchNorm, GhostBatchNorm, LpNorm, WeightNorm, WeightStandardization
from bncourse.probes.activations import Histograms, Moments, percentiles
from bncourse.probes.curvature import Curvature
from bncourse.probes.landscape import Landscape
from bncourse.probes.shift import Shift
from bncourse.train import batch_loss, batches, clipped, frozen_statistics, recompute_statistics, train, untouched, weights_of

COLUMNS = ["lr", "seed", "step", "train_loss", "train_accuracy", "diverged", "test_accuracy", "test_accuracy_running"]


@pytest.fixture(scope="module")
def blobs():
    """Three noisy clouds in eight dimensions: learnable, not trivially so."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 8, generator=generator)
    y = torch.arange(300) % 3
    x = centres[y] + torch.randn(300, 8, generator=generator)
    return Data("blobs", x[:200], y[:200], x[200:], y[200:], classes=3)


@pytest.fixture(scope="module")
def images(blobs):
    """The same as images, (N, 2, 2, 2)."""
    return Data("images", blobs.x_train.view(-1, 2, 2, 2), blobs.y_train, blobs.x_test.view(-1, 2, 2, 2), blobs.y_test, 3)


def net(seed, norm="none", **options):
    return mlp((8, 12, 10, 3), norm, "default", "sigmoid", seed, **options)


def relu_net(seed, norm="none"):
    return mlp((8, 12, 10, 3), norm, "he", "relu", seed, **{"frn": dict(learn_eps=True)}.get(norm, {}))


def conv_net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 6, 2), BatchNorm(6), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3))


def plain_loop(model, data, lr, seed, steps, batch_size):
    optimizer, order = torch.optim.SGD(model.parameters(), lr=lr), batches(len(data.x_train), batch_size, seed)
    model.train()
    for _ in range(steps):
        index = next(order)
        optimizer.zero_grad()
        F.cross_entropy(model(data.x_train[index]), data.y_train[index]).backward()
        optimizer.step()
    return model


def accuracy(model, x, y):
    return (model(x).argmax(1) == y).float().mean().item()


# --- The training itself ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("build, kind", [(net, "blobs"), (lambda seed: net(seed, "batch"), "blobs"),
                                         (lambda seed: net(seed, "batch", fused=True), "blobs"), (conv_net, "images")])
def test_equals_a_plain_loop(build, kind, blobs, images):
    data = {"blobs": blobs, "images": images}[kind]
    frame = train(build, data, seeds=[0, 1], lrs=[0.1, 1.0], steps=20, batch_size=32, record=[20])
    for row in frame.itertuples():
        model = plain_loop(build(row.seed), data, row.lr, row.seed, 20, 32)
        with torch.no_grad():
            # A batch norm in training mode would move its statistics: the copy for evaluation comes first.
            running = accuracy(model.eval(), data.x_test, data.y_test)
            logits = model.train()(data.x_train)  # fewer than the 512 that are looked at, so all of them
        assert row.train_loss == pytest.approx(F.cross_entropy(logits, data.y_train).item(), rel=1e-4)
        assert row.train_accuracy == pytest.approx((logits.argmax(1) == data.y_train).float().mean().item(), abs=0.011)
        assert row.test_accuracy_running == pytest.approx(running, abs=0.011)
        assert not row.diverged


def test_it_learns(blobs):
    frame = train(lambda seed: net(seed, "batch"), blobs, seeds=range(3), lrs=[1.0], steps=60, batch_size=50, record=[0, 60])
    first, last = frame[frame.step == 0], frame[frame.step == 60]
    assert last.train_loss.max() < 0.5 * first.train_loss.min()
    assert last.test_accuracy.min() > 0.75


def test_batches_cover_the_training_set_once_a_pass():
    order = batches(10, 3, seed=4)
    passes = [torch.cat([next(order) for _ in range(3)]) for _ in range(2)]
    for indices in passes:  # 9 of 10: the short remainder is left out
        assert len(indices.unique()) == 9 and 0 <= indices.min() and indices.max() < 10
    assert not torch.equal(*passes), "shuffled anew"
    again = batches(10, 3, seed=4)
    assert torch.equal(next(again), passes[0][:3])
    assert not torch.equal(next(batches(10, 3, seed=5)), passes[0][:3])


@pytest.mark.parametrize("norm", ["none", "batch", "frozen"])
def test_a_run_does_not_depend_on_its_company(norm, blobs):
    def run(seeds, lrs):
        frame = train(lambda seed: net(seed, norm), blobs, seeds=seeds, lrs=lrs, steps=15, batch_size=32, record=[0, 15])
        return frame[(frame.seed == 1) & (frame.lr == 0.5)].reset_index(drop=True)

    pd.testing.assert_frame_equal(run([1], [0.5]), run([3, 1, 0], [0.1, 0.5, 2.0]), rtol=1e-5)


@pytest.mark.parametrize("norm", ["none", "batch", "noisy_batch"])
def test_twice_is_the_same_to_the_bit(norm, blobs):
    def run():
        return train(lambda seed: net(seed, norm), blobs, seeds=[0, 1], lrs=[0.5], steps=10, batch_size=32)

    first = run()
    torch.manual_seed(1234)
    pd.testing.assert_frame_equal(first, run(), check_exact=True)


def test_unseeded_networks_depend_on_the_seed_alone(images):
    def build(_):
        return nn.Sequential(nn.Flatten(), nn.Linear(8, 3))

    def run(seeds):
        frame = train(build, images, seeds=seeds, lrs=[0.1], steps=3, batch_size=32, record=[3])
        return frame.set_index("seed").train_loss

    first = run([0, 1])
    torch.manual_seed(1234)
    assert run([1, 0])[1] == first[1] and first[0] != first[1]


def test_the_same_batches_whatever_the_network(blobs):
    # Pairs by seed: frozen statistics with the first batch's own values equal batch norm for the first step.
    one, two = (train(lambda seed: net(seed, norm), blobs, seeds=[0], lrs=[0.0], steps=1, batch_size=200, record=[0])
                for norm in ("batch", "frozen"))
    assert one.train_loss[0] == pytest.approx(two.train_loss[0], rel=1e-5)


# --- The frame -------------------------------------------------------------------------------------------------------

def test_a_row_per_learning_rate_seed_and_step(blobs):
    labels = dict(norm="none", depth=2)
    frame = train(net, blobs, seeds=[0, 5], lrs=[0.1, 1], steps=20, batch_size=32, labels=labels)
    assert list(frame.columns) == [*COLUMNS, "norm", "depth"]
    without = train(net, blobs, seeds=[0, 5], lrs=[0.1, 1], steps=20, batch_size=32, test=False, labels=labels)
    assert without.equals(frame.drop(columns=["test_accuracy", "test_accuracy_running"])), "looking changes the training"
    assert sorted(frame.step.unique()) == list(range(0, 21, 2))
    assert len(frame) == 2 * 2 * 11 and not frame.duplicated(["lr", "seed", "step"]).any()
    assert set(frame.norm) == {"none"} and set(frame.lr) == {0.1, 1} and set(frame.seed) == {0, 5}
    assert frame.notna().all().all()


@pytest.mark.parametrize("typo", ["momentum", "weight_deacy", "lr", "norm"])
def test_a_misspelt_argument_is_no_column(typo, blobs):
    with pytest.raises(TypeError, match=typo):
        train(net, blobs, seeds=[0], lrs=[0.1], steps=1, **{typo: 0.1})


def test_records_at_the_steps_asked_for(blobs):
    frame = train(net, blobs, seeds=[0], lrs=[0.1], steps=5, batch_size=32, record=[5, 0, 3, 3])
    assert list(frame.step) == [0, 3, 5]


def test_looking_changes_nothing(blobs):
    def last(record):
        frame = train(lambda seed: net(seed, "noisy_batch"), blobs, seeds=[0, 1], lrs=[0.5], steps=10, batch_size=32,
                      record=record)
        return frame[frame.step == 10].reset_index(drop=True)

    pd.testing.assert_frame_equal(last([10]), last(range(11)), check_exact=True)


def test_probes_add_rows_and_columns(blobs):
    seen = []

    def probe(network, x, step):
        seen.append((network.training, tuple(x.shape), step))
        return pd.DataFrame({"member": [0, 0, 1, 1], "layer": [1, 2, 1, 2], "seen": [1.0, 2, 3, 4]})

    def other(network, x, step):
        return pd.DataFrame({"member": [1, 0], "whole": [10.0, 20.0]})

    frame = train(net, blobs, seeds=[0, 1], lrs=[0.1], steps=1, batch_size=32, record=[0, 1], probes=[probe, other])
    assert seen == [(True, (2, 200, 8), 0), (True, (2, 200, 8), 1)]
    assert len(frame) == 2 * 2 * 2
    assert frame[frame.seed == 0].whole.eq(20).all() and set(frame[frame.seed == 1].seen) == {3, 4}


class Update:
    """A probe that keeps what it is given."""

    looks_at_update = True

    def __init__(self):
        self.seen = []

    def __call__(self, net, x, step, *, y, lr):
        self.seen.append((step, x.clone(), y.clone(), lr.clone(), [p.detach().clone() for p in net.parameters()], net.training))
        return pd.DataFrame({"member": range(net.members), "seen": True})


def test_a_probe_of_updates_sees_the_update_that_follows(blobs):
    seeds, lrs, update = (0, 1), (0.05, 0.2), Update()
    train(lambda seed: net(seed), blobs, seeds=seeds, lrs=lrs, steps=3, batch_size=20, record=(1, 2), probes=[update])
    (step, x, y, lr, before, training), (_, _, _, _, after, _) = update.seen
    assert step == 1 and training and lr.tolist() == pytest.approx([0.05, 0.05, 0.2, 0.2])
    for member, (rate, seed) in enumerate((rate, seed) for rate in lrs for seed in seeds):
        order = batches(200, 20, seed)
        next(order)
        index = next(order)
        assert torch.equal(x[member], blobs.x_train[index]) and torch.equal(y[member], blobs.y_train[index])
        model = plain_loop(net(seed), blobs, rate, seed, 1, 20)
        torch.testing.assert_close(before[0][member], model.linear1.weight)
        model.zero_grad()
        F.cross_entropy(model(x[member]), y[member]).backward()
        torch.testing.assert_close(after[0][member], model.linear1.weight - rate * model.linear1.weight.grad)


def test_probes_of_different_layers_lose_none(blobs):
    def first(net, x, step):
        return pd.DataFrame({"member": [0, 0], "layer": [1, 2], "a": [1.0, 2.0]})

    def second(net, x, step):
        return pd.DataFrame({"member": [0, 0], "layer": [2, 3], "b": [20.0, 30.0]})

    frame = train(net, blobs, seeds=(0,), lrs=(0.1,), steps=0, record=(0,), batch_size=20, probes=[first, second])
    assert frame.layer.tolist() == [1, 2, 3]
    assert frame.a.tolist()[:2] == [1, 2] and math.isnan(frame.a[2]) and frame.b.tolist()[1:] == [20, 30]
    assert frame.train_loss.notna().all() and frame.seed.tolist() == [0, 0, 0]


def test_regression_is_a_plain_loop_with_squared_error():
    task = linear_map(3, 50, condensed=False)
    frame = train(lambda seed: deep_linear(3, 4, seed=seed), task, seeds=(0, 1), lrs=(0.01,), steps=20, batch_size=50,
                  record=(0, 20))
    assert frame.columns.tolist() == ["lr", "seed", "step", "train_loss", "diverged"]
    for seed in (0, 1):
        model = deep_linear(3, 4, seed=seed)
        for _ in range(20):
            loss = (model(task.x_train) - task.y_train).square().sum() / 50
            for p, g in zip(list(model.parameters()), torch.autograd.grad(loss, list(model.parameters()))):
                p.data -= 0.01 * g
        wanted = (model(task.x_train) - task.y_train).square().sum().item() / 50
        assert frame[(frame.seed == seed) & (frame.step == 20)].train_loss.item() == pytest.approx(wanted, rel=1e-4)


def test_batch_loss_is_the_loss_of_training(blobs):
    x, y = blobs.x_train[:40], blobs.y_train[:40]
    alone = [net(seed) for seed in range(2)]
    wanted = [F.cross_entropy(model(x), y) for model in alone]
    for model, value in zip(alone, wanted):
        torch.testing.assert_close(batch_loss(x, y)(model), value)
    torch.testing.assert_close(batch_loss(x.expand(2, -1, -1), y.expand(2, -1))(Stack(alone)), torch.stack(wanted))


# --- Runs that blow up -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm not in ("instance", "rms")])
def test_a_diverged_run_is_counted_and_bothers_nobody(norm, blobs):
    # Instance norm has nothing to do in an MLP. RMS norm turns what is too large to be squared into zeros, and lives on.
    lr = 1e30  # normalized networks are hard to break
    def run(lrs):
        return train(lambda seed: relu_net(seed, norm), blobs, seeds=[0, 1], lrs=lrs, steps=12, batch_size=32,
                     record=range(13))

    both = run([0.1, lr])
    lost = both[(both.lr == lr)]
    assert lost[lost.step == 12].diverged.all()
    for _, one in lost.groupby("seed"):
        assert one.diverged.is_monotonic_increasing, "once lost, lost"
        gone = one[one.diverged]
        assert (gone.train_loss == math.inf).all()
        assert gone[["train_accuracy", "test_accuracy", "test_accuracy_running"]].to_numpy() == pytest.approx(1 / 3)
        assert one[~one.diverged].train_loss.map(math.isfinite).all(), "a row is either finite or marked"
    if "nois" not in norm:
        kept = both[both.lr == 0.1].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, run([0.1]), rtol=1e-5)
    assert not both[both.lr == 0.1].diverged.any()


def test_a_run_lost_in_the_last_update_is_marked(blobs):
    # The loss of the batch before was finite; only looking shows that the update broke the network.
    frame = train(relu_net, blobs, seeds=[0], lrs=[1e30], steps=1, batch_size=32, record=[0, 1])
    assert list(frame.diverged) == [False, True] and frame.train_loss[1] == math.inf


@pytest.mark.parametrize("build", [Moments, lambda: percentiles, Histograms])
def test_a_diverged_run_does_not_stop_the_probes(build, blobs):
    def run(lrs):
        frame = train(relu_net, blobs, seeds=[0], lrs=lrs, steps=6, batch_size=32, record=range(7), probes=[build()])
        return frame[frame.lr == 0.1].reset_index(drop=True)

    pd.testing.assert_frame_equal(run([0.1, 1e20]), run([0.1]), rtol=1e-4)


def test_a_diverged_run_alone(images):
    frame = train(conv_net, images, seeds=[0], lrs=[1e30], steps=3, batch_size=32, record=[3])
    assert frame.diverged.all() and frame.test_accuracy[0] == pytest.approx(1 / 3)


def test_what_probes_see_of_a_diverged_run_is_not_kept(blobs):
    class Where:
        coordinates = ("place",)

        def __call__(self, net, x, step):
            assert all(torch.isfinite(parameter).all() for parameter in net.parameters()), "a probe meets NaN"
            return pd.DataFrame({"member": [0, 0, 1, 1], "layer": [1, 2, 1, 2], "place": [0.5, 1.5] * 2, "seen": [1.0, 2, 3, 4]})

    frame = train(relu_net, blobs, seeds=[0], lrs=[0.1, 1e30], steps=4, batch_size=32, record=[0, 4], probes=[Where()])
    lost = frame.diverged
    assert lost.sum() == 2 and frame.seen[lost].isna().all() and frame.seen[~lost].notna().all()
    assert frame.place.tolist() == [0.5, 1.5] * 4 and frame.layer.tolist() == [1, 2] * 4


def test_training_ends_when_nobody_is_left(images):
    calls = []

    class Counted(nn.Flatten):
        def forward(self, x):
            calls.append(self.training)
            return super().forward(x)

    def build(seed):
        return nn.Sequential(Counted(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))

    frame = train(build, images, seeds=[0], lrs=[1e30], steps=200, batch_size=32, record=[0, 200], test=False)
    assert list(frame.diverged) == [False, True] and len(calls) < 10


# --- What stays as it was --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, build", [("blobs", lambda seed: net(seed, "noisy_batch")), ("images", conv_net)])
def test_the_readers_random_numbers_and_networks_are_left_alone(kind, build, blobs, images):
    data = {"blobs": blobs, "images": images}[kind]
    models = {seed: build(seed) for seed in (0, 1)}
    before = {seed: {key: value.clone() for key, value in model.state_dict().items()} for seed, model in models.items()}
    for model in models.values():
        model.eval()
    torch.manual_seed(77)
    state = torch.get_rng_state()
    train(lambda seed: models[seed], data, seeds=[0, 1], lrs=[0.5], steps=3, batch_size=32)
    assert torch.equal(torch.get_rng_state(), state)
    for seed, model in models.items():
        assert not model.training
        assert all(torch.equal(value, before[seed][key]) for key, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())


def test_readers_numbers_are_safe_even_if_the_network_draws_while_built(blobs):
    state = torch.get_rng_state()
    train(lambda seed: nn.Sequential(nn.Linear(8, 3)), blobs, seeds=[0], lrs=[0.1], steps=1, batch_size=32)
    assert torch.equal(torch.get_rng_state(), state)


class Stop(Exception):
    pass


def test_untouched_restores_even_after_an_error():
    model = nn.Sequential(nn.Linear(4, 4), BatchNorm(4), nn.Dropout())
    model[1].eval()
    model(torch.randn(8, 4))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = torch.get_rng_state()
    with pytest.raises(Stop), untouched(model):
        model.train()
        for _ in range(3):
            model(torch.randn(8, 4))
        assert model[1].num_batches_tracked == 3
        raise Stop
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model] == [True, False, True] and model.training
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


@pytest.mark.parametrize("norm, fused", [("batch", False), ("batch", True), ("noisy_batch", False), ("noisy_batch", True)])
@pytest.mark.parametrize("stacked", [False, True])
def test_recomputed_statistics_are_those_of_the_clean_network_layer_by_layer(norm, fused, stacked):
    members = [net(seed, norm, fused=fused) for seed in range(2 if stacked else 1)]
    x, noisy = torch.randn(100, 8) * 2 + 1, torch.randn(40, 8)
    for model in members:
        model(noisy)
    whole = Stack(members) if stacked else members[0]
    whole.train()
    momenta = [module.momentum for module in whole.modules() if hasattr(module, "momentum")]
    recompute_statistics(whole, x.expand(2, 100, 8) if stacked else x)

    assert all(module.training for module in whole.modules())
    assert [module.momentum for module in whole.modules() if hasattr(module, "momentum")] == momenta
    assert all(module.n_mu == 0.5 and module.n_sigma == 1.25 for module in whole.modules() if hasattr(module, "n_mu"))
    buffers = dict(whole.named_buffers())
    means = [value for name, value in buffers.items() if name.endswith("running_mean")]
    variances = [value for name, value in buffers.items() if name.endswith("running_var")]
    assert len(means) == 2
    with torch.no_grad():
        for i, model in enumerate(members):
            h = x
            for layer, (mean, var) in enumerate(zip(means, variances), start=1):
                z = getattr(model, f"linear{layer}")(h)
                units = slice(i * z.shape[1], (i + 1) * z.shape[1])
                torch.testing.assert_close(mean[units], z.mean(0), rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(var[units], z.var(0), rtol=1e-4, atol=1e-5)
                # weight 1, bias 0 at the start: the normalizer's output is this
                h = torch.sigmoid((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt())


def test_recomputing_restores_the_layer_after_an_error():
    model = nn.Sequential(nn.Linear(4, 4), BatchNorm(4, momentum=0.3), nn.Linear(5, 1)).eval()
    with pytest.raises(RuntimeError):
        recompute_statistics(model, torch.randn(8, 4))
    assert model[1].momentum == 0.3 and not model[1].training


def test_networks_without_running_statistics_pass_through():
    model = net(0, "frozen_noise").eval()
    model(torch.randn(8, 8))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    recompute_statistics(model, torch.randn(20, 8))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_test_data_never_touch_running_statistics(blobs, monkeypatch):
    # A test set far away would leave its mark on any statistic that saw it.
    far = Data("far", blobs.x_train, blobs.y_train, blobs.x_test + 1e3, blobs.y_test, 3)

    def run(data):
        return train(lambda seed: net(seed, "batch"), data, seeds=[0], lrs=[0.5], steps=5, batch_size=32, record=range(6))

    pd.testing.assert_frame_equal(run(blobs)[["train_loss", "train_accuracy"]], run(far)[["train_loss", "train_accuracy"]],
                                  check_exact=True)
    seen = []
    original = BatchNorm._update_running
    monkeypatch.setattr(BatchNorm, "_update_running",
                        lambda self, mean, var, count: (seen.append(mean.abs().max().item()),
                                                        original(self, mean, var, count)))
    run(far)
    assert seen and max(seen) < 100


def test_clean_accuracy_is_that_of_recomputed_statistics(blobs):
    # A momentum of zero leaves running statistics at their start: only recomputing can make evaluation work.
    frame = train(lambda seed: net(seed, "batch", momentum=0.0), blobs, seeds=[0], lrs=[1.0], steps=40, batch_size=50,
                  record=[40])
    model = plain_loop(net(0, "batch", momentum=0.0), blobs, 1.0, 0, 40, 50)
    recompute_statistics(model, blobs.x_train)
    with torch.no_grad():
        assert frame.test_accuracy[0] == pytest.approx(accuracy(model.eval(), blobs.x_test, blobs.y_test), abs=0.011)
    assert frame.test_accuracy[0] > 0.75 > frame.test_accuracy_running[0]


# --- Bad input -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("wrong, says", [
    (dict(seeds=[]), r"nothing to train: seeds=\[\]"),
    (dict(lrs=[]), r"nothing to train.*lrs=\[\]"),
    (dict(batch_size=201), "batch_size=201, but blobs has 200 training examples"),
    (dict(batch_size=0), "batch_size=0"),
    (dict(record=[0, 99]), r"record=\[0, 99\].*0 to 2"),
    (dict(record=[]), r"record=\[\]"),
])
def test_bad_arguments_say_what_is_wrong(wrong, says, blobs):
    with pytest.raises(ValueError, match=says):
        train(net, blobs, **{"seeds": [0], "lrs": [0.1], "steps": 2, "batch_size": 32} | wrong)


def test_a_batch_of_one_is_named_as_such(blobs):
    with pytest.raises(ValueError, match="at least 2 values per channel"):
        train(lambda seed: net(seed, "batch"), blobs, seeds=[0], lrs=[0.1], steps=2, batch_size=1)


# --- Weight decay, clipping, schedules -------------------------------------------------------------------------------

def by_hand(build, task, seed, lr, steps, change):
    """Plain SGD on one network, with ``change(name, parameter, gradient, step) -> what is subtracted``."""
    net, order = build(seed), batches(len(task.x_train), 32, seed)
    for step in range(steps):
        index = next(order)
        loss = nn.functional.cross_entropy(net(task.x_train[index]), task.y_train[index])
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(net.named_parameters(), gradients):
                parameter -= lr * change(name, parameter, gradient, step)
    return nn.functional.cross_entropy(net(task.x_train[:512]), task.y_train[:512]).item()


class Disguised(nn.Sequential):
    """Not an ``MLP``, so that it is trained alone."""


def builds(norm):
    return {"stack": lambda seed: relu_net(seed, norm), "alone": lambda seed: Disguised(*relu_net(seed, norm))}


def last_loss(build, task, **options):
    frame = train(build, task, seeds=[1, 2], lrs=[0.05], steps=6, batch_size=32, record=[6], test=False, **options)
    return frame.train_loss.tolist()


@pytest.mark.parametrize("kind", ["stack", "alone"])
@pytest.mark.parametrize("norm", ["none", "batch", "weight"])
def test_weight_decay_acts_on_weights_alone(kind, norm, blobs):
    build = builds(norm)[kind]

    def decayed(name, parameter, gradient, step):
        is_weight = parameter.dim() == 2 and not name.endswith("original0")
        return gradient + 0.3 * parameter if is_weight else gradient

    found = last_loss(build, blobs, weight_decay=0.3)
    assert found == pytest.approx([by_hand(build, blobs, seed, 0.05, 6, decayed) for seed in (1, 2)], rel=1e-4)
    assert found != pytest.approx(last_loss(build, blobs), rel=1e-4)


@pytest.mark.parametrize("kind", ["stack", "alone"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_adaptive_clipping_is_output_by_output(kind, norm, blobs):
    build = builds(norm)[kind]

    def adapted(name, parameter, gradient, step):
        if name.startswith(("linear3", "6")):  # the last layer
            return gradient
        axes = 1 if parameter.dim() == 2 else 0
        w, g = (t.norm(dim=axes, keepdim=True) for t in (parameter, gradient))
        longest = 0.02 * w.clamp(min=1e-3)
        return torch.where(g > longest, gradient * longest / g, gradient)

    found = last_loss(build, blobs, clip=0.02)
    assert found == pytest.approx([by_hand(build, blobs, seed, 0.05, 6, adapted) for seed in (1, 2)], rel=1e-4)
    assert found != pytest.approx(last_loss(build, blobs), rel=1e-4)
    assert last_loss(build, blobs, clip=1e9) == pytest.approx(last_loss(build, blobs), rel=1e-6)


def test_clipping_of_kernels_goes_filter_by_filter():
    gradient, weight = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    shorter = clipped(gradient, weight, 0.1, vectors=4)
    for one, g, w in zip(shorter, gradient, weight):
        torch.testing.assert_close(one, g * min(1, 0.1 * w.norm().item() / g.norm().item()))
    assert torch.equal(clipped(torch.zeros(2, 3), weight.view(2, -1)[:, :3], 0.1, vectors=2), torch.zeros(2, 3))


def test_a_schedule_multiplies_the_rate(blobs):
    build = builds("batch")["stack"]
    found = last_loss(build, blobs, schedule=lambda step: 1.5 ** step)
    wanted = [by_hand(build, blobs, seed, 0.05, 6, lambda name, p, g, step: 1.5**step * g) for seed in (1, 2)]
    assert found == pytest.approx(wanted, rel=1e-4)


def test_probes_are_told_the_rate_of_the_moment(blobs):
    seen = []

    def note(net, x, step, *, y, lr):
        seen.append(lr.tolist())
        return pd.DataFrame({"member": range(len(lr))})

    note.looks_at_update = True
    train(relu_net, blobs, seeds=[0], lrs=[0.1], steps=2, record=[0, 1, 2], probes=[note], schedule=lambda step: 2.0**step,
          batch_size=32)
    assert seen == [pytest.approx([rate]) for rate in (0.1, 0.2, 0.2)], "behind the last step it stays"


def test_a_schedule_is_asked_for_the_steps_that_there_are(blobs):
    rates = [1.0, 0.5, 0.25]
    train(relu_net, blobs, seeds=[0], lrs=[0.1], steps=3, batch_size=32, schedule=lambda step: rates[step])
    asked = []
    train(relu_net, blobs, seeds=[0], lrs=[0.1], steps=0, batch_size=32, schedule=asked.append)
    assert not asked


def test_two_probes_of_one_name_are_refused(blobs):
    def one(net, x, step):
        return pd.DataFrame({"member": range(len(x)), "layer": 1, "size": 0.5})

    def other(net, x, step):
        return pd.DataFrame({"member": range(len(x)), "layer": 1, "size": 0.7})

    options = dict(seeds=[0], lrs=[0.1], steps=1, batch_size=32)
    with pytest.raises(ValueError, match="two probes both measure size"):
        train(relu_net, blobs, probes=[one, other], **options)
    assert len(train(relu_net, blobs, probes=[one], **options)) == 2


# --- What runs alone: any network trains as in a plain loop ----------------------------------------------------------

def frozen(seed):
    model = relu_net(seed, "batch")
    model.linear1.requires_grad_(False)
    model.linear2.bias.requires_grad_(False)
    return model


def reused(seed):
    model = relu_net(seed)
    model.act2 = model.act1
    return model


def tied(seed):
    model = mlp((8, 8, 8, 3), "none", "he", "relu", seed)
    model.linear2.weight = model.linear1.weight
    return model


def changing(seed):
    return mlp((8, 12, 10, 3), "batch" if seed else "none", "he", "relu" if seed else "tanh", seed)


def regrouped(seed):
    model = relu_net(seed, "batch")
    model.norm1 = nn.GroupNorm(2, 12)
    return model


def hooked(seed):
    model = relu_net(seed, "batch")
    model.norm1.register_forward_hook(lambda module, inputs, output: 0.5 * output)
    model.linear2.weight.register_hook(lambda gradient: 0 * gradient)
    return model


class Doubled(nn.ReLU):
    def forward(self, x):
        return 2 * super().forward(x)


def subclassed(seed):
    model = relu_net(seed)
    model.act1 = Doubled()
    return model


def still(seed):
    model = relu_net(seed, "batch")
    model.norm1.running_mean += 0.3
    model.norm1.running_var += 1
    model.norm1.eval()
    return model


def twice(seed):
    torch.manual_seed(seed)
    layer, norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
    return nn.Sequential(layer, norm, nn.ReLU(), layer, norm, nn.ReLU(), nn.Linear(8, 3))


def single(seed):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.scale = relu_net(seed), nn.Parameter(torch.tensor(1.5))

        def forward(self, x):
            return self.scale * self.inside(x)
    return Scaled()


def unused(seed):
    model = relu_net(seed)
    model.linear1.extra = nn.Linear(3, 3)
    return model


def half_as_steep(seed):
    model = relu_net(seed, "batch")
    model.norm1.eps = 0.1 * (seed + 1)
    return model


OTHERWISE = (frozen, reused, tied, changing, regrouped, hooked, subclassed, still, twice, single, unused, half_as_steep)


@pytest.mark.parametrize("build", OTHERWISE)
def test_other_networks_are_trained_as_they_are(build, blobs):
    frame = train(build, blobs, seeds=[0, 1], lrs=[0.1], steps=15, batch_size=32, record=[15])
    for row in frame.itertuples():
        torch.manual_seed(row.seed)
        model, order = build(row.seed), batches(200, 32, row.seed)
        own = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for _ in range(15):
            index = next(order)
            loss = F.cross_entropy(model(blobs.x_train[index]), blobs.y_train[index])
            gradients = torch.autograd.grad(loss, own, allow_unused=True)
            for parameter, gradient in zip(own, gradients):
                if gradient is not None:
                    parameter.data -= 0.1 * gradient
        modes = [module.training for module in model.modules()]
        running = accuracy(model.eval(), blobs.x_test, blobs.y_test)
        for module, mode in zip(model.modules(), modes):
            module.training = mode
        wanted = F.cross_entropy(model(blobs.x_train), blobs.y_train).item()
        assert row.train_loss == pytest.approx(wanted, rel=1e-4)
        assert row.test_accuracy_running == pytest.approx(running, abs=0.011)


@pytest.mark.parametrize("build", OTHERWISE)
def test_what_a_stack_would_change_is_not_stacked(build):
    why = stackable([build(0), build(1)])
    assert why
    if build is not single and build is not twice:
        with pytest.raises(ValueError, match="cannot be computed together"):
            Stack([build(0), build(1)])
    assert not stackable([relu_net(0, "batch"), relu_net(1, "batch")])


ACTIVATIONS = ("relu", "sigmoid", "tanh", "linear", "tlu")
STACKED = [norm for norm in NORMS if norm != "instance"]


@given(st.sampled_from(STACKED), st.sampled_from(ACTIVATIONS), st.lists(st.integers(2, 9), min_size=1, max_size=3),
       st.booleans(), st.booleans(), st.permutations([0, 1, 2]), st.sampled_from([[0.1], [0.3, 0.1]]))
@settings(max_examples=30)
def test_a_seed_determines_its_run_whoever_trains_beside_it(norm, activation, hidden, fused, bias, seeds, lrs):
    task = Data("blobs", torch.randn(60, 4), torch.arange(60) % 3, torch.randn(30, 4), torch.arange(30) % 3, 3)

    def build(seed):
        return mlp((4, *hidden, 3), norm, "default", activation, seed, fused, bias,
                   **{"frn": dict(learn_eps=True), "group": dict(num_groups=1)}.get(norm, {}))

    def run(build, seeds, lrs):
        frame = train(build, task, seeds=seeds, lrs=lrs, steps=6, batch_size=20, record=[0, 3, 6], test=False)
        return frame[(frame.seed == 1) & (frame.lr == 0.1)].reset_index(drop=True)

    company = run(build, seeds, lrs)
    columns = ["train_loss", "diverged"]
    pd.testing.assert_frame_equal(company[columns], run(build, [1], [0.1])[columns], rtol=2e-4, atol=1e-5)

    def mixed(seed):  # The network of seed 1 is the same; beside it, another one keeps them from being stacked.
        return build(seed) if seed == 1 else mlp((4, 5, 3), seed=seed)

    pd.testing.assert_frame_equal(company[columns], run(mixed, seeds, lrs)[columns], rtol=2e-4, atol=1e-5)


def test_dropout_depends_on_the_seed_alone(blobs):
    def build(seed):
        return nn.Sequential(nn.Linear(8, 12), nn.Dropout(0.5), nn.ReLU(), nn.Linear(12, 3))

    def run(seeds):
        return train(build, blobs, seeds=seeds, lrs=[0.1], steps=5, batch_size=32, record=[5]).set_index("seed").train_loss

    both = run([0, 1])
    assert run([1])[1] == both[1] and run([1, 0])[0] == both[0] and both[0] != both[1]


# --- Contracts -------------------------------------------------------------------------------------------------------

def rows(**columns):
    def looks(net, x, step):
        return pd.DataFrame(columns)
    return looks


@pytest.mark.parametrize("probe, says", [
    (rows(member=[], seen=[]), "looks, at step 0, returned no row for members 0, 1 of 2"),
    (rows(member=[1], seen=[0.5]), "no row for member 0 of 2"),
    (rows(member=[0, 1, 2], seen=[0.5] * 3), "rows for member 2; there are 2"),
    (rows(seen=[0.5, 0.5]), 'returned columns seen; a probe returns a frame with a column "member"'),
    (lambda net, x, step: None, "returned a NoneType"),
    *[(rows(member=[0, 1], **{name: [1, 2]}), rf"looks.*others': {name} \({whose}\)")
      for name, whose in [(name, "train") for name in COLUMNS] + [("width", "a label")]],
    (rows(member=[0, 1, 1], seen=[0.1, 0.2, 0.3]), "several rows for member 1"),
    (rows(member=[0, 1, 1], layer=[1, 2, 2], seen=[0.1, 0.2, 0.3]), "several rows for member 1, layer 2"),
])
def test_a_probe_that_breaks_its_contract_is_named(probe, says, blobs):
    with pytest.raises(ValueError, match=says):
        train(net, blobs, seeds=[0, 1], lrs=[0.1], steps=2, batch_size=32, probes=[probe], labels=dict(width=3))


def test_all_probes_of_the_course_compose(blobs):
    probes = [Moments(), percentiles, Shift(), Landscape(multiples=(1, 2)), Curvature(iterations=3)]
    frame = train(relu_net, blobs, seeds=[0, 1], lrs=[0.1], steps=2, batch_size=32, record=[0, 2], probes=probes)
    assert len(frame) == 2 * 2 * 3 and {"gradient_norm", "whole_gradient_norm", "sharpness", "p50"} <= set(frame.columns)


@pytest.mark.parametrize("labels, says", [
    (dict(lr=1), "train has a column 'lr' of its own"), (dict(member=1), "'member'"), (dict(depths=[1, 2]), "'depths' is a list")])
def test_labels_stay_in_their_place(labels, says, blobs):
    with pytest.raises(ValueError, match=says):
        train(net, blobs, seeds=[0], lrs=[0.1], steps=1, batch_size=32, labels=labels)


@pytest.mark.parametrize("wrong, error, says", [
    (dict(seeds=[0, 1, 0]), ValueError, "0 is there more than once"), (dict(lrs=[1, 0.5, 1.0]), ValueError, "1.0 is there more"),
    (dict(lrs=[-0.1]), ValueError, "not negative"), (dict(lrs=[math.nan]), ValueError, "finite"),
    (dict(lrs=0.1), TypeError, "list of numbers"), (dict(seeds=3), TypeError, "list of numbers"),
    (dict(seeds=[0.5]), TypeError, "seeds=0.5: give a whole number"), (dict(steps=2.5), TypeError, "steps=2.5"),
    (dict(steps=-1), ValueError, "steps=-1"), (dict(clip=-1), ValueError, "clip=-1"), (dict(clip=0), ValueError, "clip=0"),
    (dict(weight_decay=-0.1), ValueError, "weight_decay=-0.1"), (dict(batch_size=32.0), TypeError, "batch_size=32.0"),
    (dict(record=[0.5]), TypeError, "record=0.5"),
])
def test_numbers_that_make_no_sense_are_named(wrong, error, says, blobs):
    with pytest.raises(error, match=says):
        train(net, blobs, **{"seeds": [0], "lrs": [0.1], "steps": 2, "batch_size": 32} | wrong)


def test_numbers_of_other_libraries_are_numbers(blobs):
    plain = train(net, blobs, seeds=[0, 1], lrs=[1.0, 2.0], steps=4, batch_size=32, record=[0, 4])
    other = train(net, blobs, seeds=np.arange(2), lrs=np.array([1, 2]), steps=np.int32(4), batch_size=np.int64(32),
                  record=np.array([0, 4]))
    pd.testing.assert_frame_equal(plain, other)
    pd.testing.assert_frame_equal(plain, train(net, blobs, seeds=torch.arange(2), lrs=torch.tensor([1, 2]), steps=4, batch_size=32,
                                               record=torch.tensor([0, 4])))


@pytest.mark.parametrize("y, error, says", [
    (torch.randn(200), ValueError, r"outputs of shape \(32, 3\) for targets of shape \(32,\)"),
    (torch.randn(200, 1), ValueError, r"\(32, 3\).*\(32, 1\)"), (torch.arange(200) % 3 == 0, TypeError, "torch.bool"),
    (torch.zeros(200, 3, dtype=torch.long), ValueError, r"for classes of shape \(32, 3\)"),
    ((torch.arange(200) % 3).float(), ValueError, r"classes are whole numbers, y.long\(\)"),
    (torch.arange(199) % 3, ValueError, "200 inputs and 199 targets"),
])
def test_targets_that_do_not_fit_are_refused(y, error, says, blobs):
    task = Data("odd", blobs.x_train, y, blobs.x_train, y, 3)
    with pytest.raises(error, match=says):
        train(net, task, seeds=[0], lrs=[0.1], steps=1, batch_size=32, record=[1])
    if len(y) == 200:
        with pytest.raises(error):
            batch_loss(blobs.x_train[:32], y[:32])(net(0))


def test_classes_of_any_whole_kind(blobs):
    found = [train(net, Data("b", blobs.x_train, blobs.y_train.to(kind), blobs.x_test, blobs.y_test.to(kind), 3), seeds=[0, 1],
                   lrs=[0.1], steps=2, batch_size=32) for kind in (torch.long, torch.int32, torch.uint8)]
    pd.testing.assert_frame_equal(found[0], found[1])
    pd.testing.assert_frame_equal(found[0], found[2])


# --- The right layer, the right tensor -------------------------------------------------------------------------------

class HeadFirst(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.head, self.body = nn.Linear(12, 3), nn.Linear(8, 12)

    def forward(self, x):
        return self.head(self.body(x).relu())


def wrapped(seed):
    return nn.Sequential(HeadFirst(seed))


@pytest.mark.parametrize("build", [HeadFirst, wrapped])
def test_clipping_spares_the_layer_that_is_called_last(build, blobs):
    def adapted(name, parameter, gradient, step):
        if "head" in name:
            return gradient
        axes = 1 if parameter.dim() == 2 else 0
        w, g = (t.norm(dim=axes, keepdim=True) for t in (parameter, gradient))
        return torch.where(g > 0.02 * w.clamp(min=1e-3), gradient * 0.02 * w.clamp(min=1e-3) / g, gradient)

    found = last_loss(build, blobs, clip=0.02)
    assert found == pytest.approx([by_hand(build, blobs, seed, 0.05, 6, adapted) for seed in (1, 2)], rel=1e-4)


def test_a_last_layer_that_cannot_be_seen_is_refused(blobs):
    class Functional(HeadFirst):
        def forward(self, x):
            return F.linear(self.body(x).relu(), self.head.weight, self.head.bias)

    with pytest.raises(ValueError, match="layers.head is used without being called"):
        last_loss(Functional, blobs, clip=0.1)


def normed(how):
    def build(seed):
        model = HeadFirst(seed)
        how(model.body)
        return model
    return build


class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.full((12, 8), 1.5))

    def forward(self, weight):
        return self.gain * weight


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("how, decayed", [
    (nn.utils.parametrizations.weight_norm, "original1"), (nn.utils.parametrizations.spectral_norm, "original"),
    (nn.utils.parametrizations.orthogonal, "original"), (nn.utils.weight_norm, "weight_v"),
    (nn.utils.spectral_norm, "weight_orig"),
    (lambda layer: nn.utils.parametrize.register_parametrization(layer, "weight", Gain()), "original"),
    (lambda layer: nn.utils.parametrize.register_parametrization(layer, "weight", WeightNorm()), "original1"),
    (lambda layer: nn.utils.parametrize.register_parametrization(layer, "weight", WeightStandardization()), "original")])
def test_weight_decay_finds_the_weight_behind(how, decayed, blobs):
    [body, head] = [weights_of(part) for part in (normed(how)(0).body, normed(how)(0).head)]
    assert len(body) == len(head) == 1
    model = normed(how)(0)
    [name] = [name for name, own in model.named_parameters() if own is weights_of(model.body)[0]]
    assert name.endswith(decayed)
    before = train(normed(how), blobs, seeds=[0], lrs=[0.1], steps=2, batch_size=32, test=False).train_loss
    after = train(normed(how), blobs, seeds=[0], lrs=[0.1], steps=2, batch_size=32, test=False, weight_decay=0.5).train_loss
    assert before.iloc[0] == after.iloc[0] and before.iloc[-1] != after.iloc[-1]


def test_weight_decay_refuses_what_it_does_not_know(blobs):
    class Product(nn.Module):
        def forward(self, a, b):
            return a @ b

        def right_inverse(self, weight):
            return weight, torch.eye(weight.shape[1])

    with pytest.raises(ValueError, match="the weight of layers.body is computed from other tensors"):
        last_loss(normed(lambda layer: nn.utils.parametrize.register_parametrization(layer, "weight", Product())), blobs,
                  weight_decay=0.1)


@pytest.mark.parametrize("norm", [lambda: nn.BatchNorm1d(8), lambda: BatchNorm(8), lambda: LpNorm(8, p=1), lambda: GhostBatchNorm(8)])
def test_a_layer_called_twice_has_the_statistics_of_both(norm):
    seen, model = [], nn.Sequential(layer := nn.Linear(8, 8), one := norm(), nn.ReLU(), layer, one)
    x = torch.randn(50, 8)
    handle = one.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    recompute_statistics(model, x)
    handle.remove()
    wanted, momentum = norm(), 1.0
    wanted.momentum, wanted.ghost_size = momentum, 10**6
    wanted(torch.cat(seen[:2]))
    for name, own in wanted.named_buffers():
        torch.testing.assert_close(dict(one.named_buffers())[name], own, msg=name)
    with pytest.raises(ValueError, match="called several times in a pass"), frozen_statistics(model, x):
        pass


def test_statistics_that_are_to_stay_are_not_recomputed():
    model = still(0)
    before = model.norm1.running_mean.clone()
    recompute_statistics(model, torch.randn(50, 8))
    assert torch.equal(model.norm1.running_mean, before) and not torch.equal(model.norm2.running_mean, torch.zeros(10))
    with frozen_statistics(model, torch.randn(50, 8)):
        assert torch.equal(model.norm1.running_mean, before)


def test_untouched_puts_replaced_buffers_back():
    model = nn.Sequential(BatchNorm(4))
    own = model[0].running_mean
    with untouched(model):
        model[0].running_mean = torch.ones(9)
    assert model[0].running_mean is own
