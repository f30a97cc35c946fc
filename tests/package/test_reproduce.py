"""``reproduce``: what the nine experiments list, and that nothing which can happen meanwhile changes the table."""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from filelock import FileLock
from harness import EXTRA, TINY
from typer.testing import CliRunner

from bncourse import data, panels, provenance, records
from bncourse.__main__ import app
from bncourse.reproduce import EXPERIMENTS, SCALES, Plan, ReproduceError, Run, reproduce, runner, runs
from bncourse.reproduce.estimate import estimate, in_words, of_finished, time_left
from bncourse.reproduce.folder import FolderError, pack, unpack

HARNESS = Path(__file__).with_name("harness.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Two experiments more: eight runs that take a moment each, and a third of those of batch-size."""
    for name, experiment in EXTRA.items():
        monkeypatch.setitem(EXPERIMENTS, name, experiment)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The frame of the tiny experiment, one seed, one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXPERIMENTS, "tiny", TINY)
        return reproduce("tiny", seeds=[0], out=tmp_path_factory.mktemp("undisturbed"))


def same(one, other):
    """To the last bit, types and order included."""
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert one.to_json(double_precision=15) == other.to_json(double_precision=15)


def tiny_again(out, **options):
    return reproduce("tiny", seeds=[0], out=out, **options)


def kept(out):
    return sorted((out / "tiny").glob("*.run.gz"))


# What the experiments list.

NAMES = ["curves", "noisy", "shift", "landscape", "lp", "lr-range", "batch-size", "normalizers", "correlation"]


def test_the_nine_are_there():
    assert [name for name in EXPERIMENTS if name not in EXTRA] == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", SCALES)
def test_a_list_of_runs(name, scale):
    listed = EXPERIMENTS[name].runs(scale, "digits", (0, 1, 2))
    keys = [run.key() for run in listed]
    assert len(set(keys)) == len(keys) > 1
    assert [run.key() for run in EXPERIMENTS[name].runs(scale, "digits", range(3))] == keys
    for run in listed:
        assert json.loads(run.text()) == json.loads(json.dumps(asdict(run))) and hash(run.kind())
        assert set(run.seeds) <= {0, 1, 2} and max(run.record) <= run.steps and list(run.record) == sorted(set(run.record))
        # Everything convolutional is a run of its own: that is what is lost at most, and what can be shared out.
        assert run.net["make"] != "vgg" or len(run.seeds) == len(run.lrs) == 1
    assert {seed for run in listed for seed in run.seeds} == {0, 1, 2}


@pytest.mark.parametrize("name", NAMES)
def test_the_paper_s_scale_is_the_paper_s(name):
    for run in EXPERIMENTS[name].runs("paper", "cifar10", (0,)):
        if run.net["make"] == "vgg":
            assert (run.net["plan"], run.steps, run.task) == ("16", 15_000, {"data": "cifar10", "images": True})
            assert run.batch == 128 or name == "batch-size"
        else:
            assert run.net["make"] == "deep_linear" and run.steps == 10_000 and run.batch == 0
            assert set(run.lrs) <= {1e-4, 1e-3}, "the paper's 1e-7 and 1e-6, for a loss averaged over 1000 examples"
    told = " ".join(EXPERIMENTS[name].deviations("paper", "cifar10"))
    assert "depth of the VGG" in told and "weight decay" in told and "CIFAR-10" not in told
    assert "fashion-mnist" in " ".join(EXPERIMENTS[name].deviations("paper", "fashion-mnist"))
    if name in ("curves", "noisy", "shift", "lp"):
        assert {run.net["init"] for run in EXPERIMENTS[name].runs("paper", "cifar10", (0,))} >= {"glorot"}


@pytest.mark.parametrize("name", NAMES)
def test_claims_are_those_of_the_chapter(name):
    experiment = EXPERIMENTS[name]
    chapter = (ROOT / "book" / f"{experiment.chapter}.ipynb").read_text("utf-8")
    for claim in experiment.effects:  # Some ids are put together in a loop.
        assert claim in chapter or f'\\"{claim.removeprefix("ll-vgg-")}\\"' in chapter, claim


def short(run):
    """The same run in four steps of four examples at most, with a sixteenth of the channels."""
    net = run.net | ({"shrink": 16} if run.net["make"] == "vgg" else {})
    return replace(run, net=net, steps=4, record=(0, 1, 4), batch=run.batch and min(run.batch, 4))


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_the_paper_s_scale_runs_and_every_effect_can_be_taken_and_drawn(name, monkeypatch, style):
    frames, done = [], {}
    for run in EXPERIMENTS[name].runs("paper", "digits", (0, 1)):
        brief = short(run)
        kind = brief.kind() + brief.net["init"]
        if kind not in done:
            done[kind] = brief.do()
        frame = done[kind].copy()
        if run.net["make"] == "vgg":  # Rates and seeds differ in numbers only: one training will do for all.
            frame = frame.assign(lr=run.lrs[0], seed=run.seeds[0])
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    assert {"network", "norm", "init", "lr", "seed", "step", "train_loss", "diverged"} <= set(frame)
    for claim, effect in EXPERIMENTS[name].effects.items():
        values = np.asarray(effect(frame))
        assert values.shape == (2,) and np.issubdtype(values.dtype, np.floating), claim

    page = []
    monkeypatch.setattr("IPython.display.display", lambda what: page.append(what.data))
    panels._draw(records.Record(name, frame, {}))
    svg = BeautifulSoup(page[0], "html.parser").svg
    for view in panels.VIEWS[name]:
        assert view.title in svg["aria-label"] and view.says in svg["aria-label"]
    assert float(svg["viewbox"].split()[2]) < 380, "too wide to be read on a phone"


def test_a_run_that_blew_up_counts_as_what_it_is():
    # What a probe sees of it is of no network: not a number in the averages of shift, infinite in those of smoothness.
    wild = {"make": "mlp", "hidden": (8,) * 2, "init": "he"}
    listed = [Run({**wild, "norm": norm}, {"data": "digits"}, (0.3,), (0, 1), 20, 32, (0, 10, 20),
                  (("moments", {}), ("landscape", {"multiples": (1, 2)})), labels={"network": "mlp", "init": "he"})
              for norm in ("none", "batch")]
    frame = pd.concat([run.do() for run in listed], ignore_index=True)
    gone = (frame.norm == "none") & (frame.seed == 1) & (frame.step > 0)
    frame.loc[gone, ["diverged", "mean_step", "loss_range"]] = True, 0.0, 0.0
    assert np.isinf(EXPERIMENTS["landscape"].effects["ll-loss-range-large-lr"](frame)).tolist() == [False, True]
    shift = EXPERIMENTS["shift"].effects["ms-bn-reduces-moment-shift"](frame.assign(lr=0.1, mean_step=1.0))
    assert shift.tolist() == [1.0, 1.0]
    lost = frame.assign(lr=0.1, mean_step=1.0, diverged=gone | ((frame.norm == "none") & (frame.seed == 1)))
    assert np.isnan(EXPERIMENTS["shift"].effects["ms-bn-reduces-moment-shift"](lost)).tolist() == [False, True]


def test_it_needs_nothing_that_draws_and_no_typer(tmp_path):
    code = """
import sys
sys.modules.update(dict.fromkeys(("matplotlib", "ipywidgets", "IPython", "rich", "typer", "pooch", "nbformat", "requests")))
from bncourse.reproduce import EXPERIMENTS, Experiment, Run, reproduce
run = Run({"make": "mlp", "hidden": (8,), "norm": "batch"}, {"data": "digits"}, (0.1,), (0,), 1, 32, (1,))
EXPERIMENTS["bare"] = Experiment("bare", "", "", "", lambda *settings: [run])
print(len(reproduce("bare", out=sys.argv[1])))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


# The same table, whatever happens.

def test_a_second_call_computes_nothing(undisturbed, tmp_path, monkeypatch):
    same(tiny_again(tmp_path), undisturbed)
    monkeypatch.setattr(runner, "compute", lambda *_: pytest.fail("all was done"))
    same(tiny_again(tmp_path), undisturbed)


def test_the_provenance_of_a_frame(undisturbed):
    told = undisturbed.attrs["provenance"]
    assert (told["experiment"], told["scale"], told["data"]["name"], told["seeds"]) == ("tiny", "quick", "digits", [0])
    assert told["number_of_runs"] == 8 and told["seconds"] > 0 and told["peak_memory_mib"] > 50
    assert told["versions"]["torch"] == torch.__version__ and told["hardware"][0]["cpu"]
    assert re.fullmatch(r"[0-9a-f]{64}", told["data"]["sha256"]) and "scikit-learn" in told["data"]["source"]
    missing = set(records.KEYS) - set(told) - {"command", "name", "format", "file"}
    assert not missing, "a record needs them"


def harness(*arguments, timeout=400):
    return subprocess.run([sys.executable, str(HARNESS), *map(str, arguments)], capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize("name, longest", [("tiny", 0.2), ("third", 0.6)])
def test_killed_at_ten_random_moments(name, longest, tmp_path):
    done = harness(name, tmp_path, 1, longest)
    assert done.returncode == 0, done.stderr
    kills, log = int(done.stdout), (tmp_path / "log").read_text().split()
    listed = [run.key() for run in EXPERIMENTS[name].runs("quick", "digits", (0,))]
    assert kills >= 1 and len(log) > 0
    assert len(set(log)) == len(log) and set(log) <= set(listed), "no run was finished twice"
    assert "damaged" not in done.stderr and not list(tmp_path.rglob("*.tmp"))
    same(reproduce(name, seeds=[0], out=tmp_path), reproduce(name, seeds=[0], out=tmp_path / "undisturbed"))


def test_two_processes_give_the_same_frame(undisturbed, tmp_path):
    same(tiny_again(tmp_path, jobs=2), undisturbed)


def test_a_process_that_is_killed_loses_only_its_own_run(undisturbed, tmp_path):
    import psutil

    def kill_one(done, of, left, run):
        if done == 2:
            [each.kill() for each in psutil.Process().children(recursive=True) if "popen_loky" in " ".join(each.cmdline())]

    with pytest.raises(ReproduceError, match="a process was killed .*run the same command again"):
        tiny_again(tmp_path, jobs=2, progress=kill_one)
    assert 2 <= len(kept(tmp_path)) < 8
    same(tiny_again(tmp_path), undisturbed)


@pytest.fixture
def cluster(tmp_path):
    """Address of a scheduler; it and two workers, each a process of its own. The second worker does two things at a time."""
    file = tmp_path / "scheduler.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(kind, *options):
        with open(tmp_path / "log", "ab") as log:
            return subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(file),
                                     "--no-dashboard", *options], env=environment, cwd=tmp_path, stdout=log, stderr=log)

    processes = [start("scheduler", "--host", "127.0.0.1", "--port", "0")]
    try:
        processes += [start("worker", "--host", "127.0.0.1", "--nthreads", threads, "--no-nanny") for threads in ("1", "2")]
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline and processes[0].poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"], *processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_on_dask(undisturbed, cluster, tmp_path, monkeypatch):
    # One test, because a cluster takes as long to start as all of this takes.
    import distributed

    address, scheduler, victim, survivor = cluster
    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)

    def kill(process):
        return lambda done, of, left, run: process.kill() if done == 2 and run else None

    # A worker is killed: what it was doing is done by the other, which has two threads and one set of random numbers.
    same(tiny_again(tmp_path / "one", dask=address, progress=kill(victim)), undisturbed)
    assert victim.wait(10) == -9 and survivor.poll() is None

    with monkeypatch.context() as patch:
        patch.setattr(runner, "_meaning_hash", lambda: "of another version")
        with pytest.raises(ReproduceError, match="a worker has another bncourse than this process"):
            tiny_again(tmp_path / "two", dask=address)

    # The scheduler is killed: the connection is lost, and nothing else.
    with pytest.raises(ReproduceError, match=f"the connection to {address} was lost; what was finished is kept"):
        tiny_again(tmp_path / "three", dask=address, progress=kill(scheduler))
    assert 2 <= len(kept(tmp_path / "three")) < 8
    same(tiny_again(tmp_path / "three"), undisturbed)


def test_no_scheduler(tmp_path, monkeypatch):
    import distributed

    monkeypatch.setattr(distributed, "Client", lambda *_, **__: (_ for _ in ()).throw(TimeoutError()))
    with pytest.raises(ReproduceError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        tiny_again(tmp_path, dask="tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ReproduceError, match=r"pip install \"bncourse\[dask\]\""):
        tiny_again(tmp_path, dask="tcp://127.0.0.1:9")


# What can be wrong with a folder.

DAMAGES = {
    "cut off": lambda content: content[:len(content) // 2],
    "empty": lambda content: b"",
    "a byte turned": lambda content: content[:90] + bytes([content[90] ^ 1]) + content[91:],
    "another number": lambda content: gzip.compress(gzip.decompress(content).replace(b"0.1", b"0.2")),
    "no table": lambda content: gzip.compress(b"one line"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_put_aside_and_done_again(undisturbed, tmp_path, capsys, damage):
    tiny_again(tmp_path)
    path = kept(tmp_path)[3]
    before = path.read_bytes()
    path.write_bytes(DAMAGES[damage](before))
    asked = []
    same(tiny_again(tmp_path, progress=lambda done, of, left, run: asked.append(run)), undisturbed)
    assert [run.key() for run in asked if run] == [path.name.removesuffix(".run.gz")], "that one only"
    said = capsys.readouterr().err
    assert f"{path.name} (" in said and "is put aside as" in said
    assert [each.name for each in (tmp_path / "tiny").glob("*.damaged-*")] == [path.name.removesuffix(".run.gz") + ".damaged-1"]


def test_the_file_of_another_run(undisturbed, tmp_path, capsys):
    tiny_again(tmp_path)
    one, other, *_ = kept(tmp_path)
    one.write_bytes(other.read_bytes())
    same(tiny_again(tmp_path), undisturbed)
    assert "it holds another run" in capsys.readouterr().err


def test_every_bit_survives_the_file():
    frame = pd.DataFrame({"text": ["none", "ℓ1"], "whole": [1, 2**53], "yes": [True, False],
                          "real": [np.nextafter(1, 2), 5e-324], "gaps": [np.nan, -np.inf], "empty": [np.nan, np.nan]})
    facts, back = unpack("key", pack("key", {"seconds": 1.5}, frame))
    assert facts == {"seconds": 1.5}
    pd.testing.assert_frame_equal(back, frame, check_exact=True)


def test_a_folder_of_other_settings(undisturbed, tmp_path):
    tiny_again(tmp_path)
    before = {path: path.read_bytes() for path in kept(tmp_path)}
    with pytest.raises(FolderError, match=r"belongs to other settings \(seeds \[0\] there, \[0, 1\] here"):
        reproduce("tiny", seeds=[0, 1], out=tmp_path)
    assert {path: path.read_bytes() for path in kept(tmp_path)} == before


def test_code_that_has_changed_does_not_mix_with_older_runs(tmp_path, monkeypatch):
    tiny_again(tmp_path)
    monkeypatch.setattr(runner, "_meaning_hash", lambda: "new")
    with pytest.raises(FolderError, match="code .* there, \"new\" here"):
        tiny_again(tmp_path)


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.txt").write_text("chapter 1")
    with pytest.raises(FolderError, match="holds other files .thesis.txt. and no settings.json"):
        tiny_again(tmp_path)


def test_settings_that_cannot_be_read(tmp_path):
    tiny_again(tmp_path)
    (tmp_path / "tiny" / "settings.json").write_text("{")
    with pytest.raises(FolderError, match="nobody can tell whose runs these are"):
        tiny_again(tmp_path)
    assert len(kept(tmp_path)) == 8


def test_a_folder_in_use(undisturbed, tmp_path):
    (tmp_path / "tiny").mkdir()
    with FileLock(tmp_path / "tiny" / ".lock"):
        with pytest.raises(FolderError, match="in use by another process"):
            tiny_again(tmp_path)
    same(tiny_again(tmp_path), undisturbed)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot write to .*; give another --out"):
        tiny_again(tmp_path / "file")


def test_a_full_disk(undisturbed, tmp_path):
    # A disk of eight pages, half of them taken: room for the settings and a few runs.
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(disk)], capture_output=True)
    if mount.returncode == 0:
        try:
            (disk / "taken").write_bytes(b"x" * 16384)
            with pytest.raises(FolderError, match=r"No space left on device\); [1-4] finished runs are kept .*make room"):
                tiny_again(disk)
            count = len(kept(disk))
            assert 1 <= count < 8 and not list(disk.rglob("*.tmp"))
            (disk / "taken").unlink()
            subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
            asked = []
            same(tiny_again(disk, progress=lambda done, of, left, run: asked.append(run)), undisturbed)
            assert len(asked) == 1 + 8 - count, "what was finished is not done again"
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    else:  # Not root, or not allowed to: a limit on the size of files says nearly the same.
        done = harness("tiny", tmp_path / "limited", 1, 0, 600)
        assert done.returncode == 2 and "File too large" in done.stderr and "make room" in done.stderr
        (tmp_path / "limited" / "log").unlink()
        same(tiny_again(tmp_path / "limited"), undisturbed)


# How long it takes.

def of(norm, steps=100):
    return Run({"make": "mlp", "hidden": (8,), "norm": norm}, {"data": "digits"}, (0.1,), (0,), steps, 32, (0, steps))


def test_estimates():
    finished = [(of("none"), 3.0), (of("none"), 5.0)]
    assert list(of_finished(finished).values()) == [4.0]
    assert time_left([of("none"), of("batch", 200)], finished) == 4 + 8, "4 s a hundred steps, of a kind not seen yet too"
    assert time_left([of("none")], []) is None and time_left([of("none")] * 4, finished, at_once=2) == 8

    def time_it(run):  # 10 ms a look and 2 ms a step
        return 0.01 * len(run.record) + 0.002 * run.steps

    known, new = estimate([of("none"), of("batch", 1000)], finished, time_it)
    assert (known.seconds, known.source) == (4.0, "finished")
    assert new.source == "timed" and new.seconds == pytest.approx(2.02)


def test_an_estimate_does_not_take_for_ever(monkeypatch):
    monkeypatch.setattr("bncourse.reproduce.estimate.PATIENCE", -1)
    found = estimate([of("batch"), of("layer"), of("layer")], [], lambda run: 1.0)
    assert [each.source for each in found] == ["timed", "guessed", "guessed"]


def test_seconds_in_words():
    assert [in_words(x) for x in (5, 300, 9000)] == ["5 s", "5 min", "2.5 h"]


# The command.

def command(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def refused(result, *words):
    assert result.exit_code == 2, result.output + str(result.exception)
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("bncourse: ") and all(word in line for word in words), line


def test_the_command_writes_table_and_provenance(undisturbed, tmp_path):
    done = command("tiny", "--seeds", 1, "--out", tmp_path, "--note", "copied by hand")
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "tiny: 8 runs, 24 rows" in done.stdout
    record = records._from_csv(gzip.decompress((tmp_path / "tiny-quick-digits.csv.gz").read_bytes()))
    pd.testing.assert_frame_equal(record, undisturbed, rtol=1e-5)
    told = json.loads((tmp_path / "tiny-quick-digits.json").read_text("utf-8"))
    assert told["data"]["note"] == "copied by hand" and told["command"].startswith("python -m bncourse")


def test_the_command_records(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "FOLDER", tmp_path / "book" / "results")
    (tmp_path / "book").mkdir()
    monkeypatch.setattr(provenance, "commit", lambda: ("f" * 40, False))
    assert command("tiny", "--seeds", 1, "--out", tmp_path / "out", "--record").exit_code == 0
    record = records.read("tiny-quick-digits")
    assert record.provenance["scale"] == "quick" and records.read("tiny") is None, "a small run is no record of a large one"


def test_a_record_needs_a_commit_and_a_book(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda: ("unknown", True))
    refused(command("tiny", "--seeds", 1, "--out", tmp_path, "--record"), "--record", "git")
    monkeypatch.setattr(records, "FOLDER", tmp_path / "site-packages" / "book" / "results")
    refused(command("tiny", "--seeds", 1, "--out", tmp_path, "--record"), "without one", "copy the table")
    assert not kept(tmp_path), "said before anything is computed"


def test_dry_run(tmp_path, undisturbed):
    done = command("tiny", "--seeds", 1, "--out", tmp_path, "--dry-run")
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "tiny: 8 runs, 0 of them done" in done.stdout and "8 runs estimated from a few steps" in done.stdout
    assert not (tmp_path / "tiny").exists()
    tiny_again(tmp_path)
    kept(tmp_path)[0].unlink()
    done = command("tiny", "--seeds", 1, "--out", tmp_path, "--dry-run")
    assert "8 runs, 7 of them done" in done.stdout and "1 runs estimated as long as finished runs" in done.stdout


@pytest.mark.parametrize("arguments, words", [
    (["nosy"], ("unknown experiment 'nosy'", "curves, noisy")),
    (["curves", "--scale", "huge"], ("unknown scale 'huge'", "quick, paper")),
    (["curves", "--data", "mnist"], ("unknown data set 'mnist'", "cifar10")),
    (["tiny", "--device", "tpu"], ("unknown device 'tpu'", "cuda")),
    (["tiny", "--precision", "half"], ("half", "bf16")),
    (["tiny", "--precision", "tf32"], ("tf32",)),
    (["tiny", "--seeds", 0], ("--seeds 0", "at least 1")),
    (["tiny", "--jobs", 0], ("jobs 0", "at least 1")),
    (["tiny", "--jobs", 2, "--dask", "tcp://127.0.0.1:9"], ("jobs or dask, not both",)),
    (["tiny", "--dry-run", "--dask", "tcp://127.0.0.1:9"], ("leave --dask out",)),
])
def test_bad_arguments(arguments, words, tmp_path):
    refused(command(*arguments, "--out", tmp_path), *words)


def test_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(command("tiny", "--device", "cuda", "--out", tmp_path), "torch sees no cuda device here", "--device auto")


def test_data_that_are_not_at_hand(tmp_path, monkeypatch):
    import pooch

    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(data, "CIFAR_MIRRORS", ("http://127.0.0.1:9/",))
    done = command("curves", "--data", "cifar10", "--scale", "paper", "--out", tmp_path / "out")
    refused(done, "cifar-10-python.tar.gz", "127.0.0.1")


def test_a_dry_run_needs_no_data(tmp_path, monkeypatch):
    import pooch

    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(data, "fetch", lambda *where: pytest.fail("nothing is to be downloaded"))
    done = command("curves", "--data", "cifar10", "--scale", "paper", "--out", tmp_path / "out", "--dry-run")
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "curves: " in done.stdout and "norm batch" in done.stdout
    assert "nobody knows before cifar10 is here; the runs themselves download it (170 MB)" in done.stdout.replace("\n", " ")


def test_where_data_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path))
    assert "scikit-learn" in data.origin("digits")
    (tmp_path / data.CIFAR_FILE.name).write_bytes(b"an archive of somebody's own")
    assert "not the published files" in data.origin("cifar10")
    (tmp_path / data.CIFAR_FOLDER).mkdir()
    assert "unpacked copy" in data.origin("cifar10")


def test_the_plan_knows_what_runs_depend_on(tmp_path):
    one, two = (Plan("tiny", "digits", "quick", seeds, tmp_path) for seeds in ([0], [1]))
    assert one.settings("cpu") != two.settings("cpu") and one.settings("cpu") != one.settings("cuda")
    assert runs.fingerprint(one.runs) == one.settings("cpu")["list of runs"]
    with pytest.raises(ReproduceError, match="none of them twice"):
        Plan("tiny", "digits", "quick", [1, 1], tmp_path)
