"""``reproduce``: what the nine experiments are, and that nothing which can happen meanwhile changes the table."""

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from filelock import FileLock
from typer.testing import CliRunner

from bncourse import data, provenance, records, reproduce
from bncourse.__main__ import app
from bncourse.data import Data
from bncourse.experiments import EXPERIMENTS, NETWORKS, study
from bncourse.reproduce import ReproduceError

ROOT = Path(__file__).parents[2]
BLANK = Data("cifar10", torch.zeros(128, 3, 32, 32), torch.zeros(128, dtype=torch.long), torch.zeros(1, 3, 32, 32), torch.zeros(1), 10)


def again(out, seeds=1, **options):
    """Six trainings of four steps."""
    return reproduce.reproduce("curves", "quick", "digits", seeds=seeds, out=out, **options)[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return again(tmp_path_factory.mktemp("undisturbed"))


def same(one, other):
    """To the last bit, types and order included."""
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert one.to_csv() == other.to_csv()


def kept(out):
    return sorted(out.glob("*.json.gz"))


# What the experiments are.


def test_the_nine_are_there():
    assert list(EXPERIMENTS) == ["curves", "noisy", "shift", "landscape", "lp", "lr-range", "batch-size", "normalizers", "correlation"]
    for name, experiment in EXPERIMENTS.items():
        assert (ROOT / "book" / f"{experiment.chapter}.ipynb").exists() and f'panel("{name}"'.replace('"', '\\"') in (
            ROOT / "book" / f"{experiment.chapter}.ipynb").read_text("utf-8")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_papers_scale_is_the_papers(name):
    paper, desk = (study(name, scale, BLANK) for scale in ("paper", "desk"))
    assert (paper.fixed["plan"], paper.fixed["shrink"], paper.fixed["steps"]) == ("16", 1, 15_000)
    assert paper.combinations() == desk.combinations() and len(paper.seeds) == len(desk.seeds) == 5
    assert paper.record[-1] == 15_000 and desk.record[-1] == desk.fixed["steps"]
    assert "batch" in paper.factors or paper.fixed["batch"] == 128


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_network_of_every_experiment_trains(name):
    whole = study(name, "quick", data.load("digits"))
    few = {levels["norm"]: levels for levels in whole.combinations()}
    for levels in few.values():
        frame = whole.part(levels, [0])
        assert set(levels) | {"seed", "step", "train_loss", "diverged"} <= set(frame) and frame.train_loss.notna().all()


def test_it_needs_nothing_that_draws_and_no_typer(tmp_path):
    code = """
import sys
sys.modules.update(dict.fromkeys(("matplotlib", "ipywidgets", "IPython", "rich", "typer", "pooch", "nbformat", "requests")))
from bncourse.reproduce import reproduce
print(len(reproduce("batch-size", "quick", "digits", seeds=1, out=sys.argv[1])[0]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "20"), done.stderr


# The same table, whatever happens.


def test_a_second_call_computes_nothing(undisturbed, tmp_path, monkeypatch):
    same(again(tmp_path), undisturbed)
    monkeypatch.setattr(reproduce, "compute", lambda *_: pytest.fail("all was done"))
    same(again(tmp_path), undisturbed)


def test_more_seeds_take_what_is_there(undisturbed, tmp_path):
    again(tmp_path)
    done = []
    frame = again(tmp_path, seeds=2, progress=lambda finished, of, seconds: done.append((finished, of)))
    assert done[0] == (6, 12) and done[-1] == (12, 12)
    same(frame[frame.seed == 0].reset_index(drop=True), undisturbed)


def test_killed_at_ten_moments(undisturbed, tmp_path):
    code = "import sys; from bncourse.reproduce import reproduce; reproduce('curves', 'quick', 'digits', seeds=1, out=sys.argv[1])"
    moments = random.Random(0)
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        before, deadline = len(kept(tmp_path)), time.monotonic() + 60
        while process.poll() is None and len(kept(tmp_path)) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert "damaged" not in process.communicate()[1]
    assert kept(tmp_path)
    same(again(tmp_path), undisturbed)
    assert not list(tmp_path.glob(".*.tmp"))


def test_two_processes_give_the_same_table(undisturbed, tmp_path):
    same(again(tmp_path, jobs=2), undisturbed)


def workers(of):
    return [each for each in of.children(recursive=True) if "popen_loky" in " ".join(each.cmdline())]


def test_a_process_that_is_killed_loses_only_its_own_part(undisturbed, tmp_path):
    def kill_one(done, of, seconds):
        if done == 2:
            [each.kill() for each in workers(psutil.Process())]

    with pytest.raises(ReproduceError, match="a process was killed .*run the same command again"):
        again(tmp_path, jobs=2, progress=kill_one)
    assert 2 <= len(kept(tmp_path)) < 6
    same(again(tmp_path), undisturbed)


def test_no_process_outlives_the_one_that_started_it(tmp_path):
    code = ("import sys; from bncourse.reproduce import reproduce\n"
            "reproduce('curves', 'quick', 'digits', seeds=60, jobs=2, out=sys.argv[1])")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while len(kept(tmp_path)) < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    children = workers(psutil.Process(process.pid))
    assert children
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(children, timeout=15)
    assert not alive


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
    # A worker is killed: what it was doing is done by the other, which has two threads and one set of random numbers.
    same(again(tmp_path / "one", dask=address, progress=lambda done, *_: victim.kill() if done == 2 else None), undisturbed)
    assert victim.wait(10) == -9 and survivor.poll() is None
    with monkeypatch.context() as patch:
        patch.setattr(reproduce, "surroundings", lambda name: ("other", "others", torch.__version__))
        with pytest.raises(ReproduceError, match="a worker has another bncourse than this process"):
            again(tmp_path / "two", dask=address)


def test_no_scheduler(tmp_path, monkeypatch):
    import distributed

    monkeypatch.setattr(distributed, "Client", lambda *_, **__: (_ for _ in ()).throw(TimeoutError()))
    with pytest.raises(ReproduceError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        again(tmp_path, dask="tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ReproduceError, match=r"pip install \"bncourse\[dask\]\""):
        again(tmp_path, dask="tcp://127.0.0.1:9")


# What can be wrong with a folder.

DAMAGES = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "a byte turned": lambda content: content[:-90] + bytes([content[-90] ^ 1]) + content[-89:],
    "no table": lambda content: gzip.compress(b"one line"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_put_aside_and_done_again(undisturbed, tmp_path, capsys, damage):
    again(tmp_path)
    path = kept(tmp_path)[3]
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    done = []
    same(again(tmp_path, progress=lambda finished, of, seconds: done.append(finished)), undisturbed)
    assert done == [5, 6], "that one only"
    assert f"{path.name} is damaged" in capsys.readouterr().err and len(list(tmp_path.glob("*.damaged"))) == 1


def test_parts_of_other_code_are_left_alone(undisturbed, tmp_path, monkeypatch):
    again(tmp_path)
    monkeypatch.setattr(reproduce, "surroundings", lambda name: ("other code", "data", torch.__version__))
    done = []
    same(again(tmp_path, progress=lambda finished, of, seconds: done.append(finished)), undisturbed)
    assert done[0] == 0 and len(kept(tmp_path)) == 12


def test_a_folder_in_use(undisturbed, tmp_path):
    with FileLock(tmp_path / ".lock"):
        with pytest.raises(ReproduceError, match="in use by another process"):
            again(tmp_path)
    same(again(tmp_path), undisturbed)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReproduceError, match="cannot write to .*; give another --out"):
        again(tmp_path / "file")


def test_a_full_disk(undisturbed, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(disk)], capture_output=True)
    if mount.returncode == 0:
        try:
            (disk / "taken").write_bytes(b"x" * 16384)
            with pytest.raises(ReproduceError, match=r"No space left on device\); [1-4] finished parts are kept .*make room"):
                again(disk)
            count = len(kept(disk))
            assert 1 <= count < 6 and not list(disk.rglob("*.tmp"))
            (disk / "taken").unlink()
            subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
            done = []
            same(again(disk, progress=lambda finished, of, seconds: done.append(finished)), undisturbed)
            assert done[0] == count, "what was finished is not done again"
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    else:  # Not root, or not allowed to: a limit on the size of files says nearly the same.
        code = ("import resource, sys; from bncourse.reproduce import reproduce, ReproduceError\n"
                "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
                "try: reproduce('curves', 'quick', 'digits', seeds=1, out=sys.argv[1])\n"
                "except ReproduceError as error: sys.exit(str(error))")
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "limited")], capture_output=True, text=True, cwd=ROOT)
        assert "File too large" in done.stderr and "make room" in done.stderr
        same(again(tmp_path / "limited"), undisturbed)


# The command.


def command(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def refused(result, *words):
    assert result.exit_code == 2, result.output + str(result.exception)
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("bncourse: ") and all(word in line for word in words), line


def test_the_command_writes_table_and_provenance(undisturbed, tmp_path):
    done = command("curves", "--scale", "quick", "--data", "digits", "--seeds", 1, "--out", tmp_path)
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "curves: 6 trainings" in done.stdout and "0 of them blew up" in done.stdout
    told = json.loads((tmp_path / "curves-quick.json").read_text("utf-8"))
    assert told["command"].startswith("python -m bncourse") and told["seeds"] == [0] and told["parts"] == 6
    assert re.fullmatch(r"[0-9a-f]{64}", told["data"]["sha256"]) and "scikit-learn" in told["data"]["source"]
    assert told["versions"]["torch"] == torch.__version__ and told["hardware"]["cpu"] and told["peak_memory_mib"] > 50
    assert not set(records.KEYS) - set(told), "a record needs them"
    table = pd.read_csv(tmp_path / "curves-quick.csv.gz", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(table, undisturbed, rtol=1e-5)


def test_only_what_the_book_shows_is_recorded(tmp_path, monkeypatch):
    refused(command("curves", "--scale", "quick", "--data", "digits", "--out", tmp_path, "--record"), "cifar10", "desk or paper")
    refused(command("curves", "--seeds", 3, "--out", tmp_path, "--record"), "5 seeds or more")
    monkeypatch.setattr(provenance, "commit", lambda: ("unknown", True))
    refused(command("curves", "--out", tmp_path, "--record"), "--record", "commit")
    assert not kept(tmp_path), "said before anything is computed"


def test_dry_run(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "fetch", lambda *where: pytest.fail("nothing is to be downloaded"))
    done = command("noisy", "--scale", "paper", "--out", tmp_path / "out", "--dry-run")
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "noisy: 60 trainings of 15000 steps (12 settings, 5 seeds)" in done.stdout and "norm frozen_noise, lr 0.03" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments, words", [
    (["nosy"], ("unknown experiment 'nosy'", "curves, noisy")),
    (["curves", "--scale", "huge"], ("unknown scale 'huge'", "quick, desk, paper")),
    (["curves", "--data", "mnist"], ("unknown data set 'mnist'", "cifar10")),
    (["curves", "--data", "digits", "--device", "tpu"], ("no device 'tpu'", "cpu")),
    (["curves", "--data", "digits", "--precision", "half"], ("half", "bf16")),
    (["curves", "--data", "digits", "--precision", "tf32"], ("tf32",)),
    (["curves", "--data", "digits", "--seeds", 0], ("0 seeds", "at least 1")),
    (["curves", "--data", "digits", "--jobs", 0], ("0 jobs", "at least 1")),
    (["curves", "--data", "digits", "--jobs", 2, "--dask", "tcp://127.0.0.1:9"], ("jobs or dask, not both",)),
])
def test_bad_arguments(arguments, words, tmp_path):
    refused(command(*arguments, "--out", tmp_path), *words)


def test_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(command("curves", "--data", "digits", "--device", "cuda", "--out", tmp_path), "no device 'cuda' here", "cpu")


def test_data_that_are_not_at_hand(tmp_path, monkeypatch):
    import pooch

    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(data, "CIFAR_MIRRORS", ("http://127.0.0.1:9/",))
    reproduce.load.cache_clear()
    refused(command("curves", "--out", tmp_path / "out"), "cifar-10-python.tar.gz", "127.0.0.1")
    assert set(NETWORKS) == {"quick", "desk", "paper"}
