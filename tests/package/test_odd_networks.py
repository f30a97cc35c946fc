"""Networks as readers build them, odd but ordinary, under every probe: the number of plain code that looks at no structure, or
an error that names the cause."""

import copy
import itertools
import math
import random

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bncourse import nets, norms
from bncourse.probes.activations import Histograms, Moments, nonlinearity_inputs, percentiles
from bncourse.probes.curvature import Curvature, top_eigenvalue
from bncourse.probes.landscape import Landscape, along_gradient
from bncourse.probes.shift import Shift, shift
from bncourse.train import Alone, batch_loss, train

LR = 0.3


class Net(nn.Module):
    """Modules by name, in the order in which they are registered, and a forward that uses them as it likes."""

    def __init__(self, use, **parts):
        super().__init__()
        self.use = use
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.use(self, x)


def linear(*sizes):
    return [nn.Linear(*pair) for pair in itertools.pairwise(sizes)]


class Block(nn.Module):
    """A transformer's: registered from the back, so that order says nothing."""

    def __init__(self, width):
        super().__init__()
        self.down, self.up = nn.Linear(2 * width, width), nn.Linear(width, 2 * width)
        self.norm2, self.norm1 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x):
        h = self.norm1(x)
        x = x + self.attend(h, h, h, need_weights=False)[0]
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.cell, self.into = nn.Linear(6, 3), nn.LSTM(6, 6, batch_first=True), nn.Linear(3, 6)

    def forward(self, x):
        return self.out(self.cell(torch.tanh(self.into(x.view(-1, 2, 3))))[0][:, -1])


class Counting(nn.Module):
    """Counts its passes in a plain attribute and lets the count in."""

    def __init__(self):
        super().__init__()
        self.count, self.average = 0, torch.zeros(6, dtype=torch.float64)

    def forward(self, x):
        self.count += 1
        self.average = 0.9 * self.average + 0.1 * x.detach().mean(0)
        return x * (1 + 0.1 * self.count) + self.average


class OwnGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.numpy = torch.Generator().manual_seed(1), np.random.default_rng(1)

    def forward(self, x):
        return x + torch.randn(x.shape, generator=self.generator, dtype=x.dtype) + self.numpy.normal() * random.random()


class Scaled(nn.Linear):
    """A linear layer only by name: it looks at the whole batch."""

    def forward(self, x):
        return super().forward(x - x.mean(0))


def tied():
    one, two, three = linear(6, 6, 6, 3)
    two.weight = one.weight
    return nn.Sequential(one, nn.Tanh(), two, nn.Tanh(), three)


def tied_backwards():
    two, one, three = linear(6, 6, 6, 3)
    two.weight = one.weight
    return Net(lambda n, x: n.three(torch.tanh(n.two(torch.tanh(n.one(x))))), three=three, two=two, one=one)


def frozen():
    net = nets.mlp((6, 5, 5, 3), "batch", activation="tanh")
    net.linear2.requires_grad_(False)
    net.norm1.bias.requires_grad_(False)
    return net


def evaluated():
    net = nets.mlp((6, 5, 5, 3), "batch", activation="tanh")
    net(torch.randn(20, 6))
    net.norm1.eval()
    return net


def hooked():
    net = nets.mlp((6, 5, 5, 3), activation="tanh")
    net.linear1.register_forward_hook(lambda module, inputs, output: 2 * output)
    return net


def replaced_forward():
    net = nets.mlp((6, 5, 5, 3), activation="tanh")
    net.act1.forward = torch.sin
    return net


def sequence(*layers):
    return nn.Sequential(nn.Unflatten(1, (2, 3)), *layers)


tanh = torch.tanh
NETWORKS = {
    "registered backwards": lambda: Net(lambda n, x: n.c(tanh(n.b(tanh(n.a(x))))), **dict(zip("cba", linear(6, 5, 4, 3)[::-1]))),
    "a normalizer registered last": lambda: Net(lambda n, x: n.b(tanh(n.norm(n.a(x)))), b=nn.Linear(5, 3), a=nn.Linear(6, 5),
                                                norm=nn.BatchNorm1d(5)),
    "F.relu": lambda: Net(lambda n, x: n.b(F.relu(n.a(x))), a=nn.Linear(6, 5), b=nn.Linear(5, 3)),
    "ModuleList backwards": lambda: Net(lambda n, x: n.all[0](tanh(n.all[1](tanh(n.all[2](x))))),
                                        all=nn.ModuleList(linear(6, 5, 4, 3)[::-1])),
    "ModuleDict": lambda: Net(lambda n, x: n.all["out"](tanh(n.all["in"](x))),
                              all=nn.ModuleDict({"out": nn.Linear(5, 3), "in": nn.Linear(6, 5)})),
    "residual": lambda: Net(lambda n, x: n.out(x + n.b(tanh(n.a(x)))), out=nn.Linear(6, 3), b=nn.Linear(6, 6), a=nn.Linear(6, 6)),
    "a layer used twice": lambda: Net(lambda n, x: n.out(tanh(n.a(tanh(n.b(tanh(n.a(x))))))), out=nn.Linear(6, 3),
                                      a=nn.Linear(6, 6), b=nn.Linear(6, 6)),
    "a layer that is not used": lambda: Net(lambda n, x: n.b(tanh(n.a(x))), aside=nn.Linear(6, 4), b=nn.Linear(5, 3),
                                            a=nn.Linear(6, 5)),
    "used without its module": lambda: Net(lambda n, x: F.linear(tanh(n.a(x)), n.b.weight), b=nn.Linear(5, 3), a=nn.Linear(6, 5)),
    "a number of its own, used last": lambda: Net(lambda n, x: n.s * n.b(tanh(n.a(x))), s=nn.Parameter(torch.tensor(0.7)),
                                                  b=nn.Linear(5, 3), a=nn.Linear(6, 5)),
    "a weight of its own, used last": lambda: Net(lambda n, x: tanh(n.b(tanh(n.a(x)))) @ n.weight,
                                                  weight=nn.Parameter(torch.randn(4, 3)), b=nn.Linear(5, 4), a=nn.Linear(6, 5)),
    "order by the data": lambda: Net(lambda n, x: n.out(n.a(tanh(n.b(x))) if x[0, 0] > 9 else n.b(tanh(n.a(x)))),
                                     out=nn.Linear(6, 3), b=nn.Linear(6, 6), a=nn.Linear(6, 6)),
    "members of another kind": lambda: Net(lambda n, x: sum(member(x) for member in n.members),
                                           members=nn.ModuleList([nn.Linear(6, 3), nn.Linear(6, 3)])),
    "tied": tied, "tied backwards": tied_backwards, "frozen": frozen, "evaluated": evaluated, "hooked": hooked,
    "a forward of its own": replaced_forward,
    "one activation": lambda: (lambda act: nn.Sequential(nn.Linear(6, 5), act, nn.Linear(5, 4), act, nn.Linear(4, 3)))(nn.Tanh()),
    "derived from Linear": lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), Scaled(5, 4), nn.Tanh(), nn.Linear(4, 3)),
    "transformer": lambda: sequence(Net(lambda n, x: n.head(n.block(n.embed(x) + n.position).mean(1)), head=nn.Linear(4, 3),
                                        block=Block(4), position=nn.Parameter(torch.randn(2, 4)), embed=nn.Linear(3, 4))),
    "LSTM": Recurrent,
    "LayerNorm over two axes": lambda: sequence(nn.Linear(3, 4), nn.LayerNorm((2, 4)), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)),
    "batch renormalization": lambda: nn.Sequential(nn.Linear(6, 5), norms.BatchRenorm(5, r_max=3.0, d_max=5.0), nn.Tanh(),
                                                   nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)),
    "dropout": lambda: nn.Sequential(nn.Linear(6, 9), nn.Dropout(0.3), nn.Tanh(), nn.Linear(9, 4), nn.Tanh(), nn.Linear(4, 3)),
    "F.dropout": lambda: Net(lambda n, x: n.b(F.dropout(tanh(n.a(x)), 0.3)), b=nn.Linear(9, 3), a=nn.Linear(6, 9)),
    "counting": lambda: nn.Sequential(nn.Linear(6, 6), Counting(), nn.Tanh(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)),
    "other random numbers": lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh(), OwnGenerator(), nn.Linear(6, 4), nn.Linear(4, 3)),
    "convolutions": lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Tanh(),
                                          nn.Flatten(), nn.Linear(6, 3)),
}
SPECTRAL = {"spectral norm": nn.utils.parametrizations.spectral_norm, "weight norm": nn.utils.parametrizations.weight_norm}
for name, wrap in SPECTRAL.items():
    NETWORKS[name] = lambda wrap=wrap: nn.Sequential(wrap(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 3))


def problem(kind):
    net = NETWORKS[kind]().double()
    return net, torch.randn(20, 6, dtype=torch.float64), torch.randint(3, (20,))


class Fresh:
    """Loss and gradients of copies of a network, each as if it were the first and only pass; no structure is looked at."""

    def __init__(self, net, x, y):
        self.net, self.x, self.y = copy.deepcopy(net), x, y
        self.random = torch.get_rng_state(), random.getstate(), np.random.get_state()

    def rewind(self):
        torch.set_rng_state(self.random[0]), random.setstate(self.random[1]), np.random.set_state(self.random[2])

    def __call__(self, values=None):
        net = copy.deepcopy(self.net)
        own = {name: p for name, p in net.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for name, value in (values or {}).items():
                own[name].copy_(value)
        self.rewind()
        loss = F.cross_entropy(net(self.x), self.y)
        found = torch.autograd.grad(loss, list(own.values()), allow_unused=True, materialize_grads=True)
        self.rewind()
        return loss, dict(zip(own, found)), {name: p.detach() for name, p in own.items()}


def everything(net):
    """All that a look could leave different."""
    plain = {(name, key): value.clone() if isinstance(value, torch.Tensor) else value
             for name, module in net.named_modules() for key, value in vars(module).items()
             if isinstance(value, (torch.Tensor, int, float)) and key != "refuse_nonfinite"}
    return {**plain, **{key: value.clone() for key, value in net.state_dict().items()}, "torch": torch.get_rng_state(),
            "python": random.getstate()[1][:20], "numpy": np.random.get_state()[1].tolist()}


def assert_unchanged(net, before):
    for key, value in everything(net).items():
        same = torch.equal(value, before[key]) if isinstance(value, torch.Tensor) else value == before[key]
        assert same, key


# For each network the names of the parameters with a weight to measure, in the order in which a pass meets them, each with
# what the pass has met before it. Written by hand, as a reader of ``forward`` would.
IN_ORDER = {
    "registered backwards": "a.weight a.bias | b.weight b.bias | c.weight c.bias",
    "a normalizer registered last": "a.weight a.bias norm.weight norm.bias | b.weight b.bias",
    "F.relu": "a.weight a.bias | b.weight b.bias",
    "ModuleList backwards": "all.2.weight all.2.bias | all.1.weight all.1.bias | all.0.weight all.0.bias",
    "ModuleDict": "all.in.weight all.in.bias | all.out.weight all.out.bias",
    "residual": "a.weight a.bias | b.weight b.bias | out.weight out.bias",
    "a layer used twice": "a.weight a.bias | b.weight b.bias | out.weight out.bias",
    "a layer that is not used": "a.weight a.bias | b.weight b.bias | aside.weight aside.bias",
    "used without its module": "a.weight a.bias | b.weight b.bias",
    "a number of its own, used last": "a.weight a.bias | b.weight b.bias s",
    "a weight of its own, used last": "a.weight a.bias | b.weight b.bias | weight",
    "order by the data": "a.weight a.bias | b.weight b.bias | out.weight out.bias",
    "members of another kind": "members.0.weight members.0.bias | members.1.weight members.1.bias",
    "tied": "0.weight 0.bias 2.bias | 4.weight 4.bias",
    "tied backwards": "two.weight one.bias two.bias | three.weight three.bias",
    "frozen": "linear1.weight linear1.bias norm1.weight norm2.weight norm2.bias | linear3.weight linear3.bias",
    "evaluated": "linear1.weight linear1.bias norm1.weight norm1.bias | linear2.weight linear2.bias norm2.weight norm2.bias | "
                 "linear3.weight linear3.bias",
    "hooked": "linear1.weight linear1.bias | linear2.weight linear2.bias | linear3.weight linear3.bias",
    "a forward of its own": "linear1.weight linear1.bias | linear2.weight linear2.bias | linear3.weight linear3.bias",
    "one activation": "0.weight 0.bias | 2.weight 2.bias | 4.weight 4.bias",
    "derived from Linear": "0.weight 0.bias | 2.weight 2.bias | 4.weight 4.bias",
    "transformer": "1.embed.weight 1.embed.bias 1.position 1.block.norm1.weight 1.block.norm1.bias "
                   "1.block.attend.in_proj_weight 1.block.attend.in_proj_bias | 1.block.attend.out_proj.weight "
                   "1.block.attend.out_proj.bias 1.block.norm2.weight 1.block.norm2.bias | 1.block.up.weight 1.block.up.bias | "
                   "1.block.down.weight 1.block.down.bias | 1.head.weight 1.head.bias",
    "LSTM": "into.weight into.bias cell.weight_ih_l0 cell.weight_hh_l0 cell.bias_ih_l0 cell.bias_hh_l0 | out.weight out.bias",
    "LayerNorm over two axes": "1.weight 1.bias 2.weight 2.bias | 5.weight 5.bias",
    "batch renormalization": "0.weight 0.bias 1.weight 1.bias | 3.weight 3.bias | 5.weight 5.bias",
    "dropout": "0.weight 0.bias | 3.weight 3.bias | 5.weight 5.bias",
    "F.dropout": "a.weight a.bias | b.weight b.bias",
    "counting": "0.weight 0.bias | 3.weight 3.bias | 5.weight 5.bias",
    "other random numbers": "0.weight 0.bias | 3.weight 3.bias | 4.weight 4.bias",
    "convolutions": "1.weight 1.bias 2.weight 2.bias | 5.weight 5.bias",
}


@pytest.mark.parametrize("kind", IN_ORDER)
def test_shift(kind):
    net, x, y = problem(kind)
    before, fresh = everything(net), Fresh(net, x, y)
    found = shift(net, x, y, LR)
    assert_unchanged(net, before)
    groups = [group.split() for group in IN_ORDER[kind].split(" | ")]
    assert found.layer.tolist() == list(range(1, len(groups) + 1))
    _, G, own = fresh()
    assert {name for group in groups for name in group} == set(own), "the test knows every parameter"
    below = []
    for row, group in zip(found.itertuples(), groups):
        weight = group[0]
        _, there, _ = fresh({name: own[name] - LR * G[name] for name in below})
        below += group
        size = G[weight].norm().item()
        assert row.gradient_norm == pytest.approx(size, rel=1e-10)
        assert row.l2 == pytest.approx((G[weight] - there[weight]).norm().item(), rel=1e-8, abs=1e-13)
        if size:
            cosine = F.cosine_similarity(G[weight].flatten(), there[weight].flatten(), dim=0).item()
            assert row.cosine == pytest.approx(cosine, rel=1e-9)
    assert found.l2[1:].max() > 1e-6 or len(groups) == 1 or kind == "members of another kind"
    part = shift(net, x, y, LR, layers=[layer_name(net, groups[1][0])])
    pd.testing.assert_frame_equal(part, found[found.layer == 2].reset_index(drop=True), rtol=1e-9)


def layer_name(net, parameter):
    return parameter.rpartition(".")[0]


@pytest.mark.parametrize("kind", SPECTRAL)
def test_shift_refuses_weights_that_are_computed(kind):
    net, x, y = problem(kind)
    with pytest.raises(ValueError, match="weight of 0 is computed from others"):
        shift(net, x, y, LR)


@pytest.mark.parametrize("old", [nn.utils.spectral_norm, nn.utils.weight_norm, lambda layer: prune(layer)])
@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_shift_refuses_the_old_ways_to_compute_a_weight(old):
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), old(nn.Linear(5, 3)))
    with pytest.raises(ValueError, match="weight of 2 is computed from others"):
        shift(net, torch.randn(9, 6), torch.randint(3, (9,)), LR)


def prune(layer):
    from torch.nn.utils import prune as pruning

    return pruning.l1_unstructured(layer, "weight", 0.5)


# They hold back a part of their gradient, so differences of gradients are not a Hessian.
CONSTANTS_INSIDE = "batch renormalization", "counting", "spectral norm"


@pytest.mark.parametrize("kind", NETWORKS)
def test_landscape_and_curvature(kind):
    net, x, y = problem(kind)
    before, fresh = everything(net), Fresh(net, x, y)
    found = along_gradient(net, batch_loss(x, y), [LR, 2 * LR])
    assert_unchanged(net, before)
    start, G, own = fresh()
    norm = math.sqrt(sum(g.square().sum() for g in G.values()))
    for row, s in zip(found.itertuples(), (LR, 2 * LR)):
        loss, there, _ = fresh({name: own[name] - s * G[name] for name in own})
        change = math.sqrt(sum((there[name] - G[name]).square().sum() for name in own))
        assert (row.start_loss, row.loss) == (pytest.approx(start.item(), rel=1e-10), pytest.approx(loss.item(), rel=1e-9))
        assert row.gradient_change == pytest.approx(change, rel=1e-7) and row.gradient_norm == pytest.approx(norm, rel=1e-9)

    probe = Landscape((1, 2))(Alone([net]), x[None], 0, y=y[None], lr=torch.tensor([LR], dtype=torch.float64))
    assert probe.beta[0] == pytest.approx(found.beta.max(), rel=1e-5)

    if kind not in CONSTANTS_INSIDE and kind not in ("LSTM", "transformer", "weight norm"):  # The top of the Hessian, from differences of gradients.
        sharpness = top_eigenvalue(net, batch_loss(x, y), iterations=200, tolerance=1e-6).sharpness[0]
        assert_unchanged(net, before)
        rows, h, here = [], 1e-6, torch.cat([g.flatten() for g in G.values()])
        for name in own:
            for place in range(own[name].numel()):
                moved = own[name].clone()
                moved.view(-1)[place] += h
                rows.append((torch.cat([g.flatten() for g in fresh({name: moved})[1].values()]) - here) / h)
        hessian = torch.stack(rows)
        assert sharpness == pytest.approx(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1].item(), rel=1e-3)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_curvature_refuses_a_second_derivative_that_is_wrong(wrap):
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), wrap(nn.Linear(5, 3)))
    with pytest.raises(ValueError, match="2.*torch's weight_norm gives wrong second derivatives"):
        top_eigenvalue(net, batch_loss(torch.randn(9, 6), torch.randint(3, (9,))))
    v, g = torch.randn(3, 5, dtype=torch.float64, requires_grad=True), torch.rand(3, 1, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):  # When torch is mended, so can the refusal be.
        torch.autograd.gradgradcheck(lambda v, g: torch._weight_norm(v, g, 0), (v, g))


class Remembers(nn.Module):
    """In a place where nobody can look for it."""

    def __init__(self):
        super().__init__()
        self.seen = [0]

    def forward(self, x):
        self.seen[0] += 1
        return x * self.seen[0]


def test_a_network_that_is_not_one_function_is_refused():
    net = nn.Sequential(nn.Linear(6, 5), Remembers(), nn.Tanh(), nn.Linear(5, 3))
    x, y = torch.randn(9, 6), torch.randint(3, (9,))
    for look in (lambda: shift(net, x, y, LR), lambda: along_gradient(net, batch_loss(x, y), [LR])):
        with pytest.raises(ValueError, match="the same weights gave the losses .*register_buffer"):
            look()


def test_gradients_that_a_hook_changes():
    net, x, y = problem("F.relu")
    net.a.weight.register_hook(lambda gradient: 0 * gradient)
    for look in (along_gradient, lambda net, loss, _: top_eigenvalue(net, loss)):
        with pytest.raises(ValueError, match="hooks change the gradient of a.weight"):
            look(net, batch_loss(x, y), [LR])
    assert shift(net, x, y, LR).gradient_norm[0] == 0
    chain = nets.mlp((6, 5, 3)).double()
    chain.linear2.weight.register_hook(lambda gradient: 0 * gradient)
    assert shift(chain, x, y, LR).l2[1] == 0


def test_what_shift_is_not_made_for():
    net, x, y = problem("F.relu")
    with pytest.raises(TypeError, match="x must be one tensor, got tuple"):
        shift(net, (x, x), y, LR)
    with pytest.raises(TypeError, match="outputs of the network are a tuple"):
        shift(Net(lambda n, x: (n.a(x), x), a=nn.Linear(6, 3).double()), x, y, LR)
    with pytest.raises(ValueError, match=r"lr of shape \(2,\) for one network"):
        shift(net, x, y, [0.1, 0.2])
    stack = nets.Stack([nets.mlp((6, 5, 3), seed=seed).double() for seed in range(4)])
    with pytest.raises(ValueError, match=r"lr of shape \(2,\) for a stack of 4"):
        shift(stack, x.expand(4, -1, -1), y.expand(4, -1), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="name at least one of a, b"):
        shift(net, x, y, LR, layers=[])
    wanted = shift(net, x, y, 1.0)
    for lr in (1, np.int64(1), np.float32(1), torch.tensor([1]), [1]):
        pd.testing.assert_frame_equal(shift(net, x, y, lr), wanted)


# --- what nonlinearities receive --------------------------------------------------------------------------------------


def acts(use, **parts):
    return Net(use, **parts)


def test_labels_are_those_of_the_names():
    net = acts(lambda n, x: n.act1(n.b(n.act2(n.a(x)))), act1=nn.ReLU(inplace=True), act2=nn.ReLU(inplace=True),
               a=nn.Linear(6, 5), b=nn.Linear(5, 4), activation=nn.ReLU())
    x = torch.randn(9, 6)
    found = nonlinearity_inputs(net, x)
    assert list(found) == [1, 2]
    torch.testing.assert_close(found[2][0], net.a(x).T)  # Not what the activation has written over it.
    torch.testing.assert_close(found[1][0], net.b(F.relu(net.a(x))).T)


def test_units_are_where_the_layer_before_has_them():
    x = torch.randn(9, 2, 3)
    net = acts(lambda n, x: n.act1(n.norm(n.a(x))), a=nn.Linear(3, 5), norm=nn.LayerNorm(5), act1=nn.GELU())
    torch.testing.assert_close(nonlinearity_inputs(net, x)[1][0], net.norm(net.a(x)).flatten(0, 1).T)
    net = acts(lambda n, x: n.act1(input=n.norm(n.a(x).transpose(1, 2))), a=nn.Linear(3, 5), norm=nn.BatchNorm1d(5), act1=nn.ReLU())
    assert nonlinearity_inputs(net, x)[1].shape == (1, 5, 18)
    with pytest.raises(ValueError, match="act1 receives .*which axis"):
        nonlinearity_inputs(acts(lambda n, x: n.act1(x), act1=nn.ReLU()), x)
    with pytest.raises(ValueError, match="act1 receives .*which axis"):
        nonlinearity_inputs(acts(lambda n, x: n.act1(n.a(x).transpose(1, 2)), a=nn.Linear(3, 5), act1=nn.ReLU()), x)


def test_what_cannot_be_labelled_is_refused_by_name():
    x, act = torch.randn(9, 6), nn.ReLU()
    twice = acts(lambda n, x: n.act2(n.b(n.act1(n.a(x)))), a=nn.Linear(6, 5), b=nn.Linear(5, 4), act1=act, act2=act)
    with pytest.raises(ValueError, match="act1 and act2 are one and the same module"):
        nonlinearity_inputs(twice, x)
    again = acts(lambda n, x: n.act1(n.b(n.act1(n.a(x)))), a=nn.Linear(6, 5), b=nn.Linear(5, 4), act1=nn.ReLU(), act7=nn.ReLU())
    with pytest.raises(ValueError, match="one pass called act1 2 times, act7 0 times"):
        nonlinearity_inputs(again, x)
    with pytest.raises(ValueError, match="no hidden layer to look at"):
        nonlinearity_inputs(acts(lambda n, x: n.activation(x), activation=nn.ReLU()), x)


def test_plain_attributes_stay_when_a_probe_looks():
    net = acts(lambda n, x: n.act1(n.count(n.a(x))), a=nn.Linear(6, 6).double(), count=Counting(), act1=nn.ReLU())
    x, before = torch.randn(9, 6, dtype=torch.float64), everything(net)
    Moments()(net, x, 0)
    assert_unchanged(net, before)


@pytest.mark.parametrize("build, column", [(Moments, "mean_drift"), (Histograms, "density")])
def test_another_network_is_another_run(build, column):
    x, probe = torch.randn(50, 6), build()
    probe(nets.mlp((6, 5, 3), seed=0), x, 0)
    other = nets.mlp((6, 5, 3), seed=1)
    assert (probe(other, x, 7)[column] == build()(other, x, 0)[column]).all()


# --- together ---------------------------------------------------------------------------------------------------------

PROBES = {"moments": Moments, "percentiles": lambda: percentiles, "histograms": lambda: Histograms(bins=3), "shift": Shift,
          "landscape": lambda: Landscape((1, 2)), "curvature": lambda: Curvature(iterations=3)}


@pytest.mark.parametrize("one, other", list(itertools.combinations(PROBES, 2)))
def test_any_two_probes_go_together(one, other, flat):
    def frame(*names):
        return train(lambda seed: nets.mlp((128, 4, 3), "batch", seed=seed), flat, seeds=[0], lrs=[0.1], steps=1, batch_size=16,
                     record=[0, 1], test=False, probes=[PROBES[name]() for name in names])

    both = frame(one, other)
    for name in (one, other):
        alone = frame(name)
        keys = [column for column in ("step", "layer", "bin") if column in alone]
        mine = both[alone.columns].dropna(subset=alone.columns.difference(["mean_step", "sd_step"])).drop_duplicates(keys)
        pd.testing.assert_frame_equal(mine.sort_values(keys, ignore_index=True), alone.sort_values(keys, ignore_index=True),
                                      check_dtype=False)


def test_all_probes_go_together(flat):
    frame = train(lambda seed: nets.mlp((128, 4, 3), "batch", seed=seed), flat, seeds=[0], lrs=[0.1], steps=1, batch_size=16,
                  record=[0], test=False, probes=[build() for build in PROBES.values()])
    assert {"gradient_norm", "whole_gradient_norm", "mean", "p15", "density", "sharpness"} <= set(frame)


assert IN_ORDER.keys() | SPECTRAL.keys() == NETWORKS.keys()
