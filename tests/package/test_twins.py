"""Our normalizers in the place of torch's: torch's own sample inputs, its tools, and everything that traces a network."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.testing._internal.common_modules import module_db
from torch.utils.checkpoint import checkpoint

from bncourse import norms
from bncourse.norms import BatchNorm, BatchRenorm, FusedBatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

# Importing torch's own tests forbids the whole process to set torch.backends' switches, which bncourse.precision does.
setattr(torch.backends.m, "__allow_nonbracketed_mutation_flag", True)

BATCH = {nn.BatchNorm1d: BatchNorm, nn.BatchNorm2d: BatchNorm, nn.BatchNorm3d: BatchNorm}
INSTANCE = {nn.InstanceNorm1d: InstanceNorm, nn.InstanceNorm2d: InstanceNorm, nn.InstanceNorm3d: InstanceNorm}
TWINS = BATCH | INSTANCE | {nn.GroupNorm: GroupNorm, nn.LayerNorm: LayerNorm, nn.RMSNorm: RMSNorm}
SAMPLES = [info for info in module_db if info.module_cls in TWINS]
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# Every normalizer of activations, by name; noise is another helper of the same shape.
LAYERS = [name for name in norms.NORMS if "weight" not in name and name != "none"]
QUIET = {"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0}


def make(name, channels=8, fused=False):
    return norms.make(name, channels, fused, **(QUIET if "nois" in name else {}))


def orders(x):
    """x in every order in memory that torch's layers are tested with."""
    yield x
    yield x.transpose(0, -1).contiguous().transpose(0, -1)
    if x.dim() in LAST:
        yield x.contiguous(memory_format=LAST[x.dim()])


def test_the_other_tests_of_this_process_may_set_switches():
    assert not torch.backends.flags_frozen()


def test_there_are_samples_of_every_twin():
    assert {info.module_cls for info in SAMPLES} == set(TWINS)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("info", SAMPLES, ids=lambda info: info.name)
def test_torchs_own_samples(info, dtype, training):
    # Half precision against the twin in float32: torch adds up gradients in half precision there, and is off by up to a third.
    exact, rounding = (torch.float32, 2e-2) if dtype.itemsize == 2 else (dtype, 2e-5)
    close = partial(torch.testing.assert_close, rtol=rounding, atol=rounding, check_dtype=exact == dtype)
    samples = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=training)
    assert samples
    for sample in samples:
        arguments, [x] = sample.constructor_input, sample.forward_input.args
        for x in orders(x):
            theirs = info.module_cls(*arguments.args, **arguments.kwargs, dtype=exact).train(training)
            ours = TWINS[info.module_cls](*arguments.args, **arguments.kwargs, dtype=dtype).train(training)
            ours.load_state_dict(theirs.state_dict())
            mine, other = x.clone().requires_grad_(), x.to(exact, copy=True).requires_grad_()
            y, wanted = ours(mine), theirs(other)
            close(y, wanted)
            assert y.dtype == dtype
            up = torch.randn_like(y)
            y.backward(up), wanted.backward(up.to(exact))
            close(mine.grad, other.grad)
            for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
                close(one.grad, two.grad)
            for one, two in zip(ours.buffers(), theirs.buffers(), strict=True):
                close(one, two)


@pytest.mark.parametrize("info", [info for info in SAMPLES if info.module_error_inputs_func], ids=lambda info: info.name)
def test_refuses_what_torch_refuses(info):
    wrong = info.module_error_inputs_func(info, device="cpu", dtype=torch.float32, requires_grad=False, training=True)
    assert wrong
    for each in wrong:
        arguments, forward = each.module_error_input.constructor_input, each.module_error_input.forward_input
        with pytest.raises(each.error_type, match=each.error_regex):
            TWINS[info.module_cls](*arguments.args, **arguments.kwargs)(*forward.args)


@pytest.mark.parametrize("eps", [0.0, -1e-5])
@pytest.mark.parametrize("name", [name for name in LAYERS if name not in ("noise", "dyt", "frn", "frozen_noise")])
def test_eps_below_zero(name, eps):
    layer = make(name)
    layer.eps = eps
    per_example = name in ("layer", "group", "rms", "instance")
    if per_example and not eps:
        assert layer(torch.randn(4, 8, 3)).isfinite().all()
    else:
        with pytest.raises(ValueError, match=f"eps must be {'at least 0' if per_example else 'positive'}, but got {eps}"):
            layer(torch.randn(4, 8, 3))


@pytest.mark.parametrize("shape", [(0, 8), (0, 8, 5), (4, 8, 0)])
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "noise"])
def test_nothing_in_nothing_out(name, shape):
    layer = make(name, 8)
    if name in ("instance", "frn") and len(shape) == 2:
        pytest.xfail("refused: one value per channel")
    kept = {key: value.clone() for key, value in layer.state_dict().items() if key != "num_batches_tracked"}
    assert layer(torch.randn(shape, requires_grad=True)).shape == shape
    for key, value in kept.items():
        assert torch.equal(layer.state_dict()[key], value), key


# --- torch's tools ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("build", [BatchNorm, FusedBatchNorm, norms.NoisyBatchNorm, norms.GhostBatchNorm])
def test_has_the_types_of_its_twins(build):
    assert all(isinstance(build(3), twin) for twin in BATCH)
    assert all(isinstance(InstanceNorm(3), twin) for twin in INSTANCE)
    assert build._version == nn.BatchNorm2d._version


@pytest.mark.parametrize("momentum", [0.1, None])
def test_update_bn(momentum):
    ours = nn.Sequential(nn.Linear(4, 3), BatchNorm(3, momentum=momentum))
    theirs = nn.Sequential(copy.deepcopy(ours[0]), nn.BatchNorm1d(3, momentum=momentum))
    batches = torch.randn(5, 16, 4)
    for net in (ours, theirs):
        net(torch.randn(16, 4) * 9)
        torch.optim.swa_utils.update_bn(batches, net)
    for one, two in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, two)
    assert ours[1].momentum == momentum and ours[1].num_batches_tracked == 5


def test_tools_that_replace_batch_norm_find_ours():
    conv, ours = nn.Conv2d(3, 4, 3), BatchNorm(4)
    ours(torch.randn(8, 4, 5, 5) * 3 + 1)
    x = torch.randn(2, 3, 6, 6)
    wanted = ours.eval()(conv(x))
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(conv, ours))
    assert type(converted[1]) is nn.SyncBatchNorm
    torch.testing.assert_close(converted.eval()(x), wanted)
    torch.testing.assert_close(fuse_conv_bn_eval(conv.eval(), ours)(x), wanted)


def test_a_checkpoint_from_before_batches_were_counted():
    state = nn.BatchNorm1d(3).state_dict()
    state["running_mean"] += 2
    del state["num_batches_tracked"]
    old = {key: value for key, value in state.items()}  # Without the version that state_dict() writes beside it.
    layer = BatchNorm(3)
    layer.load_state_dict(old)
    assert layer.running_mean[0] == 2 and layer.num_batches_tracked == 0
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        layer.load_state_dict(state)  # This one says it is new, and one is missing: torch refuses, too.


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("reentrant", [True, False])
def test_computed_again_for_the_backward_pass(name, reentrant):
    if name in ("noisy_batch", "noise", "frozen_noise"):
        layer = norms.make(name, 8)
    else:
        layer = make(name)
    layer, x, up = layer.double(), torch.randn(16, 8, 3, dtype=torch.float64), torch.randn(16, 8, 3, dtype=torch.float64)
    layer(x), layer(x + 1)
    again, plain = copy.deepcopy(layer), copy.deepcopy(layer)
    gradients = []
    for run in (plain, lambda x: checkpoint(again, x, use_reentrant=reentrant)):
        torch.manual_seed(0)
        own = x.clone().requires_grad_()
        y = run(own)
        if name == "batch_renorm" and gradients:
            with pytest.raises(RuntimeError, match="cannot be computed a second time.*leave it out of torch.utils.checkpoint"):
                y.backward(up)
            return
        y.backward(up)
        gradients.append(own.grad)
    torch.testing.assert_close(*gradients)


def test_renorm_is_recomputed_in_evaluation():
    layer, x = BatchRenorm(3).eval(), torch.randn(4, 3, requires_grad=True)
    checkpoint(layer, x, use_reentrant=False).sum().backward()
    assert x.grad.isfinite().all()


# --- Half precision and order in memory ------------------------------------------------------------------------------

@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", [name for name in LAYERS if name not in ("noise", "frozen_noise")])
def test_half_precision(name, fused):
    if fused and name not in norms.FUSED:
        return
    layer, x = make(name, fused=fused), torch.randn(16, 8, 5)
    wanted = copy.deepcopy(layer)(x)
    for dtype in (torch.bfloat16, torch.float16):
        for half in (copy.deepcopy(layer), copy.deepcopy(layer).to(dtype)):
            own = x.to(dtype).requires_grad_()
            y = half(own)
            assert y.dtype == dtype
            torch.testing.assert_close(y.float(), wanted, rtol=4e-2, atol=4e-2)
            y.sum().backward()
            assert own.grad.dtype == dtype
        with torch.autocast("cpu", dtype):
            assert layer(x.to(dtype)).dtype == dtype and layer(x).dtype == torch.float32


@pytest.mark.parametrize("name", ["batch", "ghost", "layer", "group", "instance"])
@pytest.mark.parametrize("shape", [(4, 8, 5, 6), (4, 8, 2, 5, 6)])
def test_order_in_memory_is_that_of_the_fused_twin(name, shape):
    x = torch.randn(shape).contiguous(memory_format=LAST[len(shape)])
    plain, fused = make(name, 8), make(name, 8, fused=True)
    assert plain(x).stride() == fused(x).stride()


# --- One example -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(3, 7), (3, 5, 6), (3, 2, 5, 6)])
@pytest.mark.parametrize("track", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_one_instance_needs_no_batch_axis(shape, track, fused):
    twin = list(INSTANCE)[len(shape) - 2](3, track_running_stats=track)
    ours = norms.make("instance", 3, fused, affine=False, track_running_stats=track)
    for training in (True, False):
        x = torch.randn(shape) * 2 + 1
        torch.testing.assert_close(ours.train(training)(x), twin.train(training)(x))
    for one, two in zip(ours.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(one, two)


def test_as_many_examples_as_channels_are_a_batch():
    x = torch.randn(3, 3, 7)
    torch.testing.assert_close(InstanceNorm(3)(x), nn.InstanceNorm1d(3)(x))
    with pytest.raises(ValueError, match="one value per channel"):
        InstanceNorm(3)(torch.randn(3, 3))


# --- Where there are no numbers to look at ---------------------------------------------------------------------------

class Block(nn.Module):
    def __init__(self, norm, channels, wanted, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, wanted, 3, stride, 1, bias=False), norm(wanted)
        self.conv2, self.bn2 = nn.Conv2d(wanted, wanted, 3, 1, 1, bias=False), norm(wanted)
        self.relu, self.downsample = nn.ReLU(), None
        if stride != 1 or channels != wanted:
            self.downsample = nn.Sequential(nn.Conv2d(channels, wanted, 1, stride, bias=False), norm(wanted))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet18(norm, width=8, stages=4, blocks=2):
    """The plan of He et al. 2016, its stem and all, narrow. Fewer stages and blocks make it short: with two stages of one
    block it has still a block of each kind, the one that keeps its input's shape and the one that does not."""
    layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), norm(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = width
    for stage in range(stages):
        for block in range(blocks):
            layers.append(Block(norm, channels, width << stage, 2 if stage and not block else 1))
            channels = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def pair(**size):
    torch.manual_seed(0)
    ours, theirs = resnet18(BatchNorm, **size), resnet18(nn.BatchNorm2d, **size)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("dtype, last", [(torch.float32, False), (torch.float64, True), (torch.bfloat16, False)])
def test_resnet18_is_the_same_network(dtype, last):
    ours, theirs = pair()
    order = torch.channels_last if last else torch.contiguous_format
    ours, theirs = (net.to(dtype, memory_format=order) for net in (ours, theirs))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    # bfloat16 has under three digits, and twenty layers to lose them in.
    rounding = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 0.25}[dtype]
    for training in (True, False):
        x = torch.randn(8, 3, 64, 64).to(dtype, memory_format=order)
        y, wanted = ours.train(training)(x), theirs.train(training)(x)
        torch.testing.assert_close(y, wanted, rtol=rounding, atol=rounding)
        if dtype != torch.bfloat16:
            up = torch.randn_like(y)
            found = torch.autograd.grad(y, list(ours.parameters()), up)
            for one, two in zip(found, torch.autograd.grad(wanted, list(theirs.parameters()), up)):
                torch.testing.assert_close(one / two.norm(), two / two.norm(), rtol=rounding, atol=rounding)


# Tracing takes seconds a block, and the blocks of a kind are traced alike.
SHORT = {"stages": 2, "blocks": 1}


def test_resnet18_is_copied_like_the_other():
    ours, _ = pair()
    x = torch.randn(4, 3, 64, 64)
    ours(x)
    wanted = ours.eval()(x)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        torch.testing.assert_close(twin(x), wanted)
    replica = ours[1]._replicate_for_data_parallel()  # What DataParallel sends to each GPU, with tensors for parameters.
    for name, own in ours[1].named_parameters():
        setattr(replica, name, own.clone())
    torch.testing.assert_close(replica(x.new_ones(2, 8, 3, 3)), ours[1](x.new_ones(2, 8, 3, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_export_with_a_batch_of_any_size(training):
    ours, theirs = pair(**SHORT)
    x = torch.randn(4, 3, 64, 64)
    exported = torch.export.export(ours.train(training), (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    run = exported.module()
    for size in (4, 7):
        x = torch.randn(size, 3, 64, 64)
        torch.testing.assert_close(run(x), theirs.train(training)(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_compiles_as_one_graph(training):
    torch.compiler.reset()
    ours, theirs = pair(**SHORT)
    compiled = torch.compile(ours.train(training), fullgraph=True, backend="eager")
    x = torch.randn(4, 3, 64, 64)
    torch.testing.assert_close(compiled(x), theirs.train(training)(x), rtol=1e-3, atol=1e-3)
    for one, two in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


def test_symbolic_tracing_writes_down_the_same_nodes():
    ours, theirs = pair()
    traced, twin = fx.symbolic_trace(ours.eval()), fx.symbolic_trace(theirs.eval())
    assert [(node.op, node.target) for node in traced.graph.nodes] == [(node.op, node.target) for node in twin.graph.nodes]
    x = torch.randn(4, 3, 64, 64)
    torch.testing.assert_close(traced(x), twin(x), rtol=1e-3, atol=1e-3)


def seen(layer):
    """Whether the layer asks a value of its input or its buffers by design."""
    return not any(isinstance(module, norms.FrozenBatchNorm) for module in layer.modules())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_without_numbers(name, training):
    layer = make(name).train(training)
    if not seen(layer):
        return
    x = torch.randn(6, 8, 4)
    assert copy.deepcopy(layer).to("meta")(x.to("meta")).shape == x.shape
    with FakeTensorMode() as mode:
        assert make(name).train(training)(mode.from_tensor(x)).shape == x.shape
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="eager")
    if "nois" not in name or not training:
        torch.testing.assert_close(compiled(x), copy.deepcopy(layer)(x))
        graph = fx.symbolic_trace(nn.Sequential(copy.deepcopy(layer)))
        torch.testing.assert_close(graph(x), copy.deepcopy(layer)(x))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_exported_for_evaluation(name):
    layer = make(name).eval()
    if not seen(layer):
        return
    x = torch.randn(6, 8, 4)
    run = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},)).module()
    for size in (6, 9):
        x = torch.randn(size, 8, 4)
        torch.testing.assert_close(run(x), layer(x))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_under_vmap(name):
    layer, x = make(name).eval(), torch.randn(3, 6, 8, 4)
    if not seen(layer):
        return
    torch.testing.assert_close(torch.vmap(layer)(x), torch.stack([layer(one) for one in x]))


def test_batch_statistics_under_vmap():
    layer, x = BatchNorm(8, track_running_stats=False), torch.randn(3, 6, 8, 4)
    torch.testing.assert_close(torch.vmap(layer)(x), torch.stack([layer(one) for one in x]))


def test_nan_is_found_in_training_and_passes_in_evaluation():
    layer, x = BatchNorm(3), torch.randn(4, 3)
    x[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"channels \[2\]"):
        layer(x)
    assert layer.eval()(x).isnan().sum() == 1
