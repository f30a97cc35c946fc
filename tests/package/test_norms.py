"""``norms.BatchNorm`` against ``torch.nn.BatchNorm1d``, ``2d`` and ``3d``, and the errors it gives in their place."""

import copy
import inspect
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bncourse import norms
from bncourse.norms import BatchNorm, FrozenBatchNorm, NoisyBatchNorm
from bncourse.train import untouched

TWINS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
KEYS = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
# Rounding of one dtype, with room for the order of additions.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}


def close(found, wanted, dtype):
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@st.composite
def shapes(draw):
    """(N, C) to (N, C, D, H, W) with at least two values per channel."""
    axes = draw(st.integers(2, 5))
    batch, channels = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    shape = (batch, channels, *draw(st.lists(st.integers(1, 4), min_size=axes - 2, max_size=axes - 2)))
    return shape if torch.Size(shape).numel() // channels >= 2 else (2, *shape[1:])


def pair(shape, dtype=torch.float32, **options):
    """Ours and torch's, with the same parameters, none of them at its default."""
    ours, twin = BatchNorm(shape[1], dtype=dtype, **options), TWINS[len(shape)](shape[1], dtype=dtype, **options)
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), twin.parameters(), strict=True):
            other.copy_(mine.copy_(torch.randn(shape[1]) + 1))
    return ours, twin


def same_step(ours, twin, x, dtype):
    """One forward and backward through both: outputs, all gradients and all buffers agree."""
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, wanted = ours(mine), twin(other)
    close(y, wanted, dtype)
    up = torch.randn_like(wanted)
    y.backward(up)
    wanted.backward(up)
    # A gradient is a sum over the batch; it is measured against its own size.
    scale = 1 + other.grad.abs().max()
    close(mine.grad / scale, other.grad / scale, dtype)
    for one, two in zip(ours.parameters(), twin.parameters(), strict=True):
        scale = 1 + two.grad.abs().max()
        close(one.grad / scale, two.grad / scale, dtype)
        one.grad = two.grad = None
    same_buffers(ours, twin, dtype)


def same_buffers(ours, twin, dtype):
    assert [name for name, _ in ours.named_buffers()] == [name for name, _ in twin.named_buffers()]
    for (name, mine), other in zip(ours.named_buffers(), twin.buffers()):
        if name == "num_batches_tracked":
            assert mine == other and mine.dtype == torch.long
        else:
            close(mine, other, dtype)


options = st.fixed_dictionaries({
    "affine": st.booleans(), "bias": st.booleans(), "track_running_stats": st.booleans(),
    "momentum": st.sampled_from([None, 0.0, 0.1, 0.7, 1.0]), "eps": st.sampled_from([1e-5, 1e-3, 0.5]),
})


@settings(max_examples=250)
@given(shape=shapes(), options=options, dtype=st.sampled_from([torch.float32, torch.float64]),
       modes=st.lists(st.booleans(), min_size=1, max_size=4), seed=st.integers(0, 10**6))
def test_agrees_with_torch_step_by_step(shape, options, dtype, modes, seed):
    torch.manual_seed(seed)
    ours, twin = pair(shape, dtype, **options)
    for training in modes:
        ours.train(training), twin.train(training)
        same_step(ours, twin, torch.randn(shape, dtype=dtype) * 2 + 3, dtype)


@settings(max_examples=40)
@given(shape=shapes(), half=st.sampled_from([torch.bfloat16, torch.float16]), training=st.booleans(),
       seed=st.integers(0, 10**6))
def test_half_precision_input_on_float32_parameters(shape, half, training, seed):
    torch.manual_seed(seed)
    ours, twin = pair(shape)
    ours.train(training), twin.train(training)
    x = torch.randn(shape).to(half)
    y, wanted = ours(x), twin(x)
    close(y, wanted, half)
    same_buffers(ours, twin, torch.float32)  # statistics are kept to float32, whatever came in


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_throughout(half, training):
    ours, twin = pair((16, 3, 4), half)
    ours.train(training), twin.train(training)
    for _ in range(2):
        same_step(ours, twin, torch.randn(16, 3, 4).to(half), half)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_is_rounded_once_at_the_end(half, training):
    layer, _ = pair((64, 3), half)
    layer(torch.randn(64, 3).to(half) * 3 + 1)
    wide = copy.deepcopy(layer).float()
    x = torch.randn(64, 3).to(half)
    assert torch.equal(layer.train(training)(x), wide.train(training)(x.float()).to(half))


@pytest.mark.parametrize("momentum", [None, 0.0, 0.1, 1.0])
def test_running_statistics_after_many_steps(momentum):
    ours, twin = pair((5, 3, 2), torch.float64, momentum=momentum)
    for step in range(30):
        x = torch.randn(5, 3, 2, dtype=torch.float64) * (step + 1) + step
        ours(x), twin(x)
    same_buffers(ours, twin, torch.float64)
    assert ours.num_batches_tracked == 30


def test_takes_the_arguments_of_its_twins():
    ours = inspect.signature(BatchNorm).parameters
    for twin in set(TWINS.values()):
        theirs = inspect.signature(twin).parameters
        common = [name for name in ours if name in theirs]
        assert set(ours) - set(theirs) <= {"bias"}, "only what an older torch does not have yet"
        assert common == list(theirs), "same names, same order"
        for name in common:
            assert (ours[name].default, ours[name].kind) == (theirs[name].default, theirs[name].kind), name


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None, "eps": 1e-3}, {"bias": False},
                                     {"track_running_stats": False}])
def test_repr_tells_what_its_twin_tells(options):
    twin = nn.BatchNorm2d(3, **options).extra_repr()
    assert set(twin.split(", ")) <= set(BatchNorm(3, **options).extra_repr().split(", "))


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"bias": False}, {"track_running_stats": False}])
def test_state_dicts_travel_both_ways(options):
    ours, twin = pair((6, 3, 2), **options)
    same_step(ours, twin, torch.randn(6, 3, 2), torch.float32)
    assert list(ours.state_dict()) == list(twin.state_dict())
    if not options:
        assert list(ours.state_dict()) == KEYS
    fresh_ours, fresh_twin = BatchNorm(3, **options), nn.BatchNorm1d(3, **options)
    fresh_ours.load_state_dict(twin.state_dict())
    fresh_twin.load_state_dict(ours.state_dict())
    x = torch.randn(6, 3, 2)
    close(fresh_ours.eval()(x), fresh_twin.eval()(x), torch.float32)
    same_buffers(fresh_ours, fresh_twin, torch.float32)


@pytest.mark.parametrize("built_with", [True, False])
def test_track_running_stats_switched_later(built_with):
    ours, twin = pair((6, 3), track_running_stats=built_with)
    for training, tracking in [(True, built_with), (True, not built_with), (False, not built_with), (False, built_with),
                               (True, built_with)]:
        for layer in (ours, twin):
            layer.train(training)
            layer.track_running_stats = tracking
        same_step(ours, twin, torch.randn(6, 3), torch.float32)


def test_momentum_changed_later():
    ours, twin = pair((6, 3))
    for momentum in (0.1, None, 0.5):
        ours.momentum = twin.momentum = momentum
        same_step(ours, twin, torch.randn(6, 3), torch.float32)


def test_resets_as_torch_does():
    ours, twin = pair((6, 3))
    ours(torch.randn(6, 3) + 5)
    ours.reset_running_stats()
    same_buffers(ours, twin, torch.float32)
    assert not torch.equal(ours.weight, torch.ones(3)), "only the statistics"
    ours.reset_parameters()
    assert torch.equal(ours.weight, torch.ones(3)) and torch.equal(ours.bias, torch.zeros(3))


@pytest.mark.parametrize("shape, layout", [((4, 3, 5, 6), torch.channels_last), ((4, 3, 2, 5, 6), torch.channels_last_3d)])
@pytest.mark.parametrize("build", [BatchNorm, NoisyBatchNorm])
@pytest.mark.parametrize("training", [True, False])
def test_channels_last_stays_channels_last(shape, layout, build, training):
    x = torch.randn(shape).contiguous(memory_format=layout)
    y = build(3).train(training)(x)
    assert y.is_contiguous(memory_format=layout) and not y.is_contiguous()
    if build is BatchNorm:
        close(y, TWINS[len(shape)](3).train(training)(x), torch.float32)


@pytest.mark.parametrize("view", [lambda x: x.transpose(0, 2), lambda x: x[::2, :, ::2], lambda x: x[:1].expand(6, -1, -1),
                                  lambda x: x.flip(0)])
def test_input_that_is_not_contiguous(view):
    x = view(torch.randn(6, 4, 6))
    ours, twin = pair(x.shape)
    same_step(ours, twin, x, torch.float32)


@pytest.mark.parametrize("shape", [(4, 2), (3, 2, 3), (2, 2, 2, 2), (2, 1, 2, 1, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_first_and_second_derivatives(shape, training):
    layer = BatchNorm(shape[1], momentum=0.0, dtype=torch.float64).train(training)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True),
              *(torch.randn(shape[1], dtype=torch.float64, requires_grad=True) for _ in range(2))]

    def forward(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(forward, inputs)
    assert torch.autograd.gradgradcheck(forward, inputs)


@pytest.mark.parametrize("build", [BatchNorm, NoisyBatchNorm])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_after_steps(build, duplicate):
    layer = build(3)
    linear = nn.Linear(3, 3)
    for _ in range(3):
        layer(linear(torch.randn(8, 3))).sum().backward()
    twin = duplicate(layer)
    for key, value in layer.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key
    x = torch.randn(8, 3) + 9
    before = layer.running_mean.clone()
    twin(x)
    assert torch.equal(layer.running_mean, before), "a copy has buffers of its own"


def test_memory_does_not_grow_over_500_steps():
    # Counts what autograd keeps alive: each saved tensor is boxed, and a box lives as long as the graph that needs it.
    # Statistics that are not detached chain every batch to the next, and the count grows with the steps.
    alive = set()

    class Box:
        def __init__(self, tensor):
            self.tensor = tensor
            alive.add(id(self))

        def __del__(self):
            alive.discard(id(self))

    layer, linear = BatchNorm(4), nn.Linear(4, 4)
    with torch.autograd.graph.saved_tensors_hooks(Box, lambda box: box.tensor):
        for _ in range(500):
            y = layer(linear(torch.randn(8, 4))).square().sum()
            assert alive
            y.backward()
            del y
            assert not alive
    assert not layer.running_mean.requires_grad and not layer.running_var.requires_grad


@pytest.mark.parametrize("build", [BatchNorm, lambda n: NoisyBatchNorm(n, n_mu=0, n_sigma=1, r_mu=0, r_sigma=0)])
def test_a_mean_of_ten_thousand_costs_only_the_digits_of_the_input(build):
    x = torch.randn(4096, 3) + 1e4
    y, exact = build(3)(x), nn.BatchNorm1d(3, dtype=torch.float64)(x.double())
    assert y.isfinite().all()
    # float32 holds 1e4 to 1e-3; E[x^2] - E[x]^2 would be wrong by more than the variance itself.
    assert (y - exact).abs().max() < 2e-3
    torch.testing.assert_close(y.std(0), torch.ones(3), rtol=1e-3, atol=0)


def test_constant_input_becomes_the_bias_and_has_a_finite_gradient():
    # Not against torch: its kernel computes x*a + b with a in the hundreds here, and loses digits that ours keeps.
    layer, x = pair((8, 3))[0], torch.full((8, 3), 7.0, requires_grad=True)
    y = layer(x)
    torch.testing.assert_close(y, layer.bias.expand(8, 3))
    y.sum().backward()
    assert x.grad.isfinite().all()
    torch.testing.assert_close(layer.running_var, torch.full((3,), 0.9))


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode])
def test_mode_is_not_read_from_grad(grad):
    # Training mode without gradients still gathers statistics; evaluation mode with gradients does not.
    layer, x = BatchNorm(3), torch.randn(8, 3) + 2
    with grad():
        layer(x)
    assert layer.num_batches_tracked == 1
    torch.testing.assert_close(layer.running_mean, 0.1 * x.mean(0))
    layer.eval()(x.requires_grad_()).sum().backward()
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("name", [name for name in norms.NORMS if "weight" not in name])
@pytest.mark.parametrize("training", [True, False])
def test_input_is_not_modified(name, training):
    x = torch.randn(8, 3, 4)
    before = x.clone()
    norms.make(name, 3).train(training)(x)
    assert torch.equal(x, before)


def test_device_and_dtype_reach_parameters_and_buffers():
    layer = BatchNorm(3, device="meta", dtype=torch.float64)
    tensors = layer.state_dict()
    assert all(tensor.device.type == "meta" for tensor in tensors.values())
    assert {key: tensor.dtype for key, tensor in tensors.items()} == {
        key: torch.long if key == "num_batches_tracked" else torch.float64 for key in KEYS}
    assert BatchNorm(3).double().running_var.dtype == torch.float64


@pytest.mark.parametrize("name", norms.FUSED)
def test_fused_is_the_same_layer(name):
    quiet = dict(n_mu=0.0, n_sigma=1.0, r_mu=0.0, r_sigma=0.0) if name == "noisy_batch" else {}
    plain, fused = norms.make(name, 3, **quiet), norms.make(name, 3, fused=True, **quiet)
    for training in (True, True, False):
        x = torch.randn(8, 3, 5) + 1
        close(plain.train(training)(x), fused.train(training)(x), torch.float32)


@pytest.mark.parametrize("eps, momentum", [(0.5, 0.3)])
def test_frozen_keeps_the_first_batch(eps, momentum):
    first, later = torch.randn(64, 3) * 2 + 1, (torch.randn(64, 3) * 9 - 4).requires_grad_()
    layer, batch_norm = FrozenBatchNorm(3, eps=eps), BatchNorm(3, eps=eps)
    close(layer(first), batch_norm(first), torch.float32)
    y = layer(later)
    wanted = (later - first.mean(0)) / (first.var(0, correction=0) + eps).sqrt()
    close(y, wanted, torch.float32)
    close(layer.eval()(later), wanted, torch.float32)  # nothing else happens in evaluation
    [gradient] = torch.autograd.grad(y.sum(), later)
    close(gradient, (first.var(0, correction=0) + eps).rsqrt().expand(64, 3), torch.float32)  # none through statistics
    restored = FrozenBatchNorm(3, eps=eps)
    restored.load_state_dict(layer.state_dict())
    close(restored(later), wanted, torch.float32)


def test_frozen_reads_whether_it_is_set_only_when_somebody_wrote_to_that(monkeypatch):
    asked, ask = [], torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: asked.append(self) or ask(self))
    layer, unset, x = FrozenBatchNorm(3), FrozenBatchNorm(3).state_dict(), torch.randn(64, 3)
    for _ in range(2):
        layer(x)
    asked.clear()
    for _ in range(3):
        layer(5 * x)
    assert not asked, "a GPU would have been waited for"
    twin = copy.deepcopy(layer)
    twin(5 * x)
    close(twin.mean, x.mean(0), torch.float32)
    layer.load_state_dict(unset)
    again = pickle.loads(pickle.dumps(layer))
    again(5 * x)
    close(again.mean, 5 * x.mean(0), torch.float32)
    layer(x + 1)
    close(layer.mean, x.mean(0) + 1, torch.float32)
    fresh = nn.Sequential(FrozenBatchNorm(3))
    with untouched(fresh):
        fresh(x)
    fresh(x + 2)
    close(fresh[0].mean, x.mean(0) + 2, torch.float32)


# --- lp normalization ------------------------------------------------------------------------------------------------

LP = [name for name in norms.NORMS if name.endswith(("l1", "l2", "linf"))]


@pytest.mark.parametrize("shape", [(50, 3), (9, 3, 4, 5)])
@pytest.mark.parametrize("name", LP)
def test_lp_is_the_formula_of_the_paper(name, shape):
    x = torch.randn(shape, dtype=torch.float64) * 3 + 2
    y = norms.make(name, 3).double()(x)
    for channel in range(3):
        values = x[:, channel].flatten()
        sized = values - values.mean() if name.startswith("centred") else values
        p = float(name.split("l")[-1])  # "inf" too
        norm = torch.linalg.vector_norm(sized, p) / (1 if p == math.inf else len(values) ** (1 / p))
        wanted = (values - values.mean()) / norm
        assert torch.allclose(y[:, channel].flatten(), wanted, rtol=1e-4, atol=0)  # eps
        assert abs(y[:, channel].mean()) < 1e-12


def test_centred_l2_is_batch_normalization():
    ours, twin = norms.make("centred_l2", 3), BatchNorm(3)
    x = torch.randn(64, 3) * 0.01 + 5  # small enough for eps to matter
    close(ours(x), twin(x), torch.float32)
    assert not torch.allclose(norms.make("l2", 3)(x), twin(x), atol=0.1), "the paper's l2 is taken before centring"


@pytest.mark.parametrize("name", LP)
@pytest.mark.parametrize("momentum", [0.3, None])
def test_lp_evaluates_with_running_averages(name, momentum):
    layer, batches = norms.make(name, 3, momentum=momentum), torch.randn(4, 32, 3) + 1
    mean, norm = torch.zeros(3), torch.ones(3)
    for t, x in enumerate(batches, start=1):
        weight = momentum or 1 / t
        y = layer(x)
        mean = mean + weight * (x.mean(0) - mean)
        norm = norm + weight * ((x - x.mean(0))[0] / y[0] - norm)  # what x must have been divided by
    x = torch.randn(1, 3)
    close(layer.eval()(x), (x - mean) / norm, torch.float32)
    assert layer.num_batches_tracked == 4
    layer.reset_running_stats()
    close(layer(x), x, torch.float32)


@pytest.mark.parametrize("name", LP)
def test_lp_gradient_goes_through_the_statistics(name):
    layer = norms.make(name, 3).double()
    assert torch.autograd.gradcheck(layer, torch.randn(5, 3, dtype=torch.float64, requires_grad=True))


def test_lp_needs_a_norm():
    with pytest.raises(ValueError, match="p=0.5: an lp norm needs p of at least 1"):
        norms.LpNorm(3, p=0.5)


# --- Bad input -------------------------------------------------------------------------------------------------------

BAD = {
    "batch of one": (torch.randn(1, 3), ValueError, r"batch of 1.*at least 2 values.*\(1, 3\).*eval mode"),
    "one position of one example": (torch.randn(1, 3, 1, 1), ValueError, "at least 2 values"),
    "too many channels": (torch.randn(8, 4), ValueError, r"built for 3 channels, got 4.*num_features=4"),
    "channels last": (torch.randn(8, 5, 5, 3), ValueError, "built for 3 channels, got 5.*move the channels to axis 1"),
    "no batch axis": (torch.randn(3), ValueError, r"2 to 5 axes.*x\[None\]"),
    "six axes": (torch.randn(2, 3, 1, 1, 1, 1), ValueError, "2 to 5 axes"),
    "integers": (torch.ones(8, 3, dtype=torch.long), TypeError, r"torch.int64.*x\.float\(\)"),
    "booleans": (torch.ones(8, 3, dtype=torch.bool), TypeError, r"torch.bool.*x\.float\(\)"),
    "float64 on float32": (torch.randn(8, 3, dtype=torch.float64), TypeError, r"torch.float32 and got torch.float64.*x\.to"),
    "NaN": (torch.tensor([[0.0, 1, 2], [0, torch.nan, 2]]), ValueError, r"NaN or infinity.*channels \[1\]"),
    "infinity": (torch.tensor([[0.0, 1, 2], [0, 1, torch.inf]]), ValueError, r"NaN or infinity.*channels \[2\]"),
}


@pytest.mark.parametrize("build", [BatchNorm, NoisyBatchNorm, FrozenBatchNorm, norms.LpNorm])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_says_what_to_do_and_leaves_the_layer_alone(build, case):
    x, error, says = BAD[case]
    layer = build(3)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    with pytest.raises(error, match=says):
        layer(x)
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} was changed by a refused batch"


def test_one_value_is_enough_in_evaluation():
    ours, twin = pair((8, 3))
    same_step(ours, twin, torch.randn(8, 3), torch.float32)
    ours.eval(), twin.eval()
    close(ours(torch.ones(1, 3)), twin(torch.ones(1, 3)), torch.float32)


def test_without_running_statistics_evaluation_needs_two_values_as_well():
    with pytest.raises(ValueError, match="at least 2 values"):
        BatchNorm(3, track_running_stats=False).eval()(torch.randn(1, 3))


@pytest.mark.parametrize("affine", [True, False])
def test_dtype_is_compared_with_what_the_layer_holds(affine):
    layer = BatchNorm(3, affine=affine, dtype=torch.float64)
    with pytest.raises(TypeError, match="torch.float64 and got torch.float32"):
        layer(torch.randn(8, 3))
    assert layer(torch.randn(8, 3, dtype=torch.float64)).dtype == torch.float64


def test_a_layer_that_holds_nothing_takes_any_precision():
    for dtype in TOLERANCE:
        ours, twin = (build(3, affine=False, track_running_stats=False) for build in (BatchNorm, nn.BatchNorm1d))
        x = torch.randn(8, 3).to(dtype)
        close(ours(x), twin(x), dtype)


def test_unknown_normalizer_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown normalizer 'bathc'; there are none, batch, noisy_batch"):
        norms.make("bathc", 3)
