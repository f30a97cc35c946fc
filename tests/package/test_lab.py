"""What the settings cell turns into."""

import matplotlib
import pytest
import torch

from bncourse import claims, data, figures
from bncourse.lab import Lab, set_up

pytestmark = pytest.mark.usefixtures("style")


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    monkeypatch.setattr(claims, "strict", True)


def test_defaults():
    lab = set_up()
    assert lab.data.name == "digits" and lab.data.x_train.device.type == lab.device
    assert lab.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert claims.strict and matplotlib.rcParams["text.color"] == figures.INK


def test_seeds_start_where_told_and_grow_with_the_scale():
    assert list(set_up(device="cpu", first_seed=10).seeds(5)) == [10, 11, 12, 13, 14]
    assert set_up(device="cpu", scale="large").seeds(5) == range(20)


def test_small_networks_run_on_one_thread():
    torch.set_num_threads(2)
    set_up(device="cpu")
    assert torch.get_num_threads() == 1


def test_other_data_turn_verdicts_into_findings(monkeypatch):
    digits = data.load("digits")
    monkeypatch.setattr(data, "load", lambda name, device: digits)
    set_up("cifar10")
    assert not claims.strict
    set_up("digits")
    assert claims.strict


@pytest.mark.parametrize("wrong, says", [
    (dict(dataset="mnist"), "unknown data set 'mnist'; there are digits"),
    (dict(device="gpu"), "unknown device 'gpu'; there are auto, cpu, cuda, mps"),
    (dict(scale="huge"), "unknown scale 'huge'; there are small, large"),
])
def test_unknown_settings_list_the_known_ones_and_change_nothing(wrong, says):
    with pytest.raises(ValueError, match=says):
        set_up(**wrong)
    assert claims.strict, "a misspelt name must not switch the verdicts off"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(RuntimeError, match='DEVICE = "cuda", but torch sees no GPU here; use "auto"'):
        set_up(device="cuda")
