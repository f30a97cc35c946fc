"""Steps in another precision; looks and probes always in float32."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from bncourse.nets import mlp, resnet, vgg
from bncourse.norms import NORMS
from bncourse.precision import PRECISIONS, check_precision, exactly, rounded
from bncourse.train import train

SHORT = dict(seeds=[0], lrs=[0.05], steps=6, batch_size=32, record=[0, 6])


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "instance"])
def test_every_network_takes_steps_in_bf16(norm, images, flat):
    learned = dict(learn_eps=True) if norm == "frn" else {}
    for build, data in ((lambda seed: mlp((128, 8, 8, 3), norm, seed=seed, **learned), flat),
                        (lambda seed: resnet((2, 8, 8), 3, 4, 1, norm, seed=seed), images)):
        full = train(build, data, **SHORT)
        half = train(build, data, precision="bf16", **SHORT)
        assert not half.diverged.any()
        if "nois" not in norm:  # Noise lands on other values where the order of the channels is another.
            assert half.train_loss[0] == pytest.approx(full.train_loss[0], rel=1e-6), "the look is not in float32"
        assert half.train_loss[1] != full.train_loss[1], "the steps are in float32"
        assert half.train_loss[1] == pytest.approx(full.train_loss[1], rel=0.1 if "nois" not in norm else 0.5)


def test_probes_see_float32_and_weights_stay_float32(images):
    seen = []

    def note(net, x, step, *, y, lr):
        seen.append((torch.is_autocast_enabled("cpu"), net(x).dtype, {p.dtype for p in net.parameters()}, x.dtype))
        return pd.DataFrame({"member": [0]})

    note.looks_at_update = True
    train(lambda seed: vgg((2, 8, 8), 3, "small", "batch", "he", seed, shrink=4), images, precision="bf16", probes=[note],
          **SHORT)
    assert seen == [(False, torch.float32, {torch.float32}, torch.float32)] * 2


def test_float32_on_a_gpu_is_float32_and_the_switches_are_put_back():
    switches = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn

    def state():
        return [switch.fp32_precision for switch in switches], torch.backends.cudnn.deterministic

    before = state()
    with pytest.raises(KeyError), exactly(torch.device("cuda")):
        assert state() == (["ieee"] * 3, True)
        with rounded("tf32"):
            assert state() == (["tf32"] * 3, True)
        with rounded("float32"):
            assert state() == (["ieee"] * 3, True)
        raise KeyError
    assert state() == before
    with exactly(torch.device("cpu")):
        assert state() == before


def test_before_torch_2_9_the_switches_have_another_name(monkeypatch):
    matmul, cudnn = SimpleNamespace(allow_tf32=False), SimpleNamespace(allow_tf32=True, deterministic=False)
    monkeypatch.setattr("bncourse.precision.torch", SimpleNamespace(backends=SimpleNamespace(
        cuda=SimpleNamespace(matmul=matmul), cudnn=cudnn)))
    with exactly(torch.device("cuda")):
        assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic) == (False, False, True)
        with rounded("tf32"):
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)
    assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic) == (False, True, False)


@pytest.mark.parametrize("precision, says", [
    ("float16", "unknown precision 'float16'; there are float32, tf32, bf16"), (None, "unknown precision None"),
    ("tf32", 'precision="tf32" is arithmetic of NVIDIA.* data are on cpu; use "float32"')])
def test_bad_precisions(precision, says, flat):
    with pytest.raises(ValueError, match=says):
        train(lambda seed: mlp((128, 8, 3), seed=seed), flat, precision=precision, **SHORT)


def test_a_gpu_takes_all_of_them():
    for precision in PRECISIONS:
        check_precision(precision, torch.device("cuda"))
