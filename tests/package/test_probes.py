"""Probes against numpy on what a network really computes; and that a look leaves no trace."""

import numpy as np
import pytest
import torch
from torch import nn

from bncourse.nets import Stack, mlp
from bncourse.probes.activations import Histograms, Moments, nonlinearity_inputs, percentiles

PROBES = {"moments": Moments, "percentiles": lambda: percentiles, "histograms": Histograms}


def by_hand(net, x):
    """z of each hidden layer of one MLP, in float64: {layer: (units, examples)}."""
    z, h = {}, x.numpy().astype(float)
    layers = dict(net.named_children())
    for layer in (1, 2):
        weight, bias = (parameter.detach().numpy().astype(float) for parameter in layers[f"linear{layer}"].parameters())
        h = h @ weight.T + bias
        if hasattr(layers[f"norm{layer}"], "eps"):
            h = (h - h.mean(0)) / np.sqrt(h.var(0) + layers[f"norm{layer}"].eps)
        z[layer] = h.T
        h = 1 / (1 + np.exp(-h))
    return z


def networks(norm="none"):
    return [mlp((4, 6, 5, 3), norm, "default", "sigmoid", seed) for seed in range(2)]


def nudge(stack):
    """What an update does, only larger."""
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter += 0.3 * torch.randn_like(parameter)


@pytest.fixture
def batch():
    return torch.randn(2, 50, 4) * 2 + 1


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_z_is_what_the_nonlinearity_receives(norm, batch):
    nets = networks(norm)
    seen = nonlinearity_inputs(Stack(nets), batch)
    assert list(seen) == [1, 2] and seen[1].shape == (2, 6, 50)
    for member, net in enumerate(nets):
        for layer, z in by_hand(net, batch[member]).items():
            np.testing.assert_allclose(seen[layer][member], z, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(nonlinearity_inputs(net, batch[member])[layer][0], z, rtol=1e-3, atol=1e-5)


def test_any_network_with_named_nonlinearities_will_do():
    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(2, 3, 2))
    net.add_module("act1", nn.ReLU())
    x = torch.randn(7, 2, 5, 5)
    [z] = nonlinearity_inputs(net, x).values()
    assert z.shape == (1, 3, 7 * 4 * 4)
    torch.testing.assert_close(z[0, 1], net[0](x)[:, 1].flatten())


def test_a_network_without_hidden_layers_is_named_as_such():
    with pytest.raises(ValueError, match="no hidden layer to look at"):
        nonlinearity_inputs(mlp((4, 3)), torch.randn(8, 4))


def test_moments(batch):
    nets, probe = networks(), Moments()
    stack = Stack(nets)
    start = probe(stack, batch, 4).set_index(["member", "layer"])
    assert (start[["mean_drift", "sd_drift"]] == 0).all().all(), "nothing has moved since the first look"
    assert start[["mean_step", "sd_step"]].isna().all().all(), "there is no earlier look"

    def look():
        return {(m, layer): z[m].numpy() for layer, z in nonlinearity_inputs(stack, batch).items() for m in range(2)}

    looks, frames = [look()], []
    for step in (5, 6, 9):
        nudge(stack)
        frames.append(probe(stack, batch, step).set_index(["member", "layer"]))
        looks.append(look())

    def moments(z):
        return z.mean(1), z.std(1, ddof=1)

    for i, (step, frame) in enumerate(zip((5, 6, 9), frames), start=1):
        assert len(frame) == 4
        for key, row in frame.iterrows():
            (mean, sd), (mean_0, sd_0), (mean_1, sd_1) = (moments(looks[j][key]) for j in (i, 0, i - 1))
            wanted = {"mean": abs(mean), "sd": sd, "moved": abs(mean - mean_0),
                      "mean_drift": abs(mean - mean_0) / sd_0, "sd_drift": abs(sd - sd_0) / sd_0,
                      "mean_step": abs(mean - mean_1) / sd_1, "sd_step": abs(sd - sd_1) / sd_1}
            for name, values in wanted.items():
                if name.endswith("step") and step == 9:
                    assert np.isnan(row[name]), "three updates since the last look"
                else:
                    assert row[name] == pytest.approx(values.mean(), rel=1e-3), (name, step)


def test_a_unit_that_never_varies_is_left_out_of_moments(batch):
    net, probe = mlp((4, 6, 3), "none", 0.5), Moments()
    with torch.no_grad():
        net.linear1.weight[0] = 0
    probe(net, batch[0], 0)
    with torch.no_grad():
        net.linear1.bias += 1
    z = nonlinearity_inputs(net, batch[0])[1][0, 1:].numpy()
    found = probe(net, batch[0], 1)
    assert found.mean_drift[0] == pytest.approx((1 / z.std(1, ddof=1)).mean(), rel=1e-4)


@pytest.mark.parametrize("build, column", [(Moments, "mean_drift"), (Histograms, "density")])
def test_a_second_run_starts_afresh(build, column, batch):
    # Networks trained one after another are looked at by one probe.
    one, two = networks()
    shared = build()
    for step in (0, 5):
        shared(one, batch[0], step)
    for step in (0, 5):
        wanted, found = build()(two, batch[0], 0), shared(two, batch[0], step)
        assert (found[column] == wanted[column]).all()


def test_percentiles(batch):
    nets = networks()
    frame = percentiles(Stack(nets), batch, 0, unit=2).set_index(["member", "layer"])
    assert len(frame) == 4
    for member, net in enumerate(nets):
        for layer, z in by_hand(net, batch[member]).items():
            row, q = frame.loc[(member, layer)], np.percentile(z, [15, 50, 85], axis=1)
            assert row[["p15", "p50", "p85"]].to_numpy() == pytest.approx(q[:, 2], rel=1e-3, abs=1e-5)
            assert row.spread == pytest.approx((q[2] - q[0]).mean(), rel=1e-3)


@pytest.mark.parametrize("limit", [0.3, 4.0])
def test_histograms(limit, batch):
    nets, probe = networks(), Histograms(limit=limit, bins=10)
    stack, edges = Stack(nets), np.linspace(-limit, limit, 11)
    probe(stack, batch, 0)
    centres = {layer: z.mean(-1, keepdim=True).numpy() for layer, z in nonlinearity_inputs(stack, batch).items()}
    nudge(stack)
    frame = probe(stack, batch, 1)
    assert len(frame) == 2 * 2 * 10
    for (member, layer), rows in frame.groupby(["member", "layer"]):
        assert rows.bin.to_numpy() == pytest.approx((edges[:-1] + edges[1:]) / 2)
        assert (rows.density * 2 * limit / 10).sum() == pytest.approx(1), "nothing falls off either end"
        z = nonlinearity_inputs(stack, batch)[layer][member].numpy() - centres[layer][member]
        wanted = [np.mean((z >= low) & (z < high)) for low, high in zip([-np.inf, *edges[1:-1]], [*edges[1:-1], np.inf])]
        assert rows.density.to_numpy() * 2 * limit / 10 == pytest.approx(wanted, abs=2 / z.size)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("norm", ["batch", "noisy_batch", "frozen"])
@pytest.mark.parametrize("training", [True, False])
def test_a_probe_leaves_no_trace(probe, norm, training, batch):
    stack = Stack(networks(norm)).train(training)
    stack(batch)
    before, state = {key: value.clone() for key, value in stack.state_dict().items()}, torch.get_rng_state()
    look, kept = PROBES[probe](), batch.clone()
    for step in (0, 1):
        look(stack, batch, step)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(batch, kept)
    assert all(module.training == training for module in stack.modules())
    for key, value in stack.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not any(module._forward_pre_hooks for module in stack.modules())


def test_a_probe_leaves_no_hook_behind_when_the_network_fails():
    net = mlp((4, 6, 3))
    with pytest.raises(RuntimeError):
        Moments()(net, torch.randn(8, 5), 0)
    assert not any(module._forward_pre_hooks for module in net.modules())
