"""``records``: a record says where it comes from, or is refused."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from bncourse import records
from bncourse.experiments import EXPERIMENTS
from bncourse.records import FOLDER, Record, RecordRefused, read, write


@pytest.fixture
def frame():
    return pd.DataFrame({"norm": ["none", "batch", "none"], "seed": [0, 0, 1], "train_loss": [0.1 + 0.2, np.inf, 1 / 3],
                         "beta": [np.nan, 1e-12, 2.0], "diverged": [False, True, False]})


@pytest.fixture
def provenance():
    """Of a run that nobody did: only its form is real."""
    return {"experiment": "curves", "scale": "desk", "seeds": [0, 1], "data": {"name": "cifar10", "sha256": "ab", "source": "here"},
            "design": records.design(records._empty("curves", "desk")), "command": "python -m bncourse …", "commit": "0" * 40,
            "dirty": False, "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:00:09+00:00",
            "hardware": {"cpu": "one"}, "versions": {"python": "3.11"}, "device": "cpu", "precision": "float32",
            "seconds": 9.0, "peak_memory_mib": 100.0, "deviations": []}


def test_what_is_written_is_read(frame, provenance, tmp_path):
    path = write("curves", "desk", frame, provenance, tmp_path)
    record = read("curves", "desk", tmp_path)
    assert isinstance(record, Record) and path.name == "curves-desk.csv.gz"
    pd.testing.assert_frame_equal(record.frame, frame, rtol=1e-6, check_dtype=True)
    assert record.provenance["rows"] == 3 and record.provenance["seeds"] == [0, 1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["curves-desk.csv.gz", "curves-desk.json"], "nothing is left lying"
    once = path.read_bytes()
    assert write("curves", "desk", record.frame, provenance, tmp_path / "two").read_bytes() == once, "reading and writing changes nothing"


def test_no_record_is_none(tmp_path):
    assert read("curves", "desk", tmp_path) is None and read("curves", "paper", tmp_path / "no such folder") is None


@pytest.mark.parametrize("key", ["commit", "seeds", "hardware", "design", "peak_memory_mib", "precision"])
def test_an_incomplete_provenance(frame, provenance, tmp_path, key):
    with pytest.raises(ValueError, match=f"needs to say: {key}"):
        write("curves", "desk", frame, provenance | {key: None}, tmp_path)
    write("curves", "desk", frame, provenance, tmp_path)
    told = json.loads((tmp_path / "curves-desk.json").read_text("utf-8"))
    del told[key]
    (tmp_path / "curves-desk.json").write_text(json.dumps(told), "utf-8")
    with pytest.raises(RecordRefused, match=f"does not say: {key}"):
        read("curves", "desk", tmp_path)


def spoiled_table(folder):
    path = folder / "curves-desk.csv.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"0.3", b"0.2")))


def other_design(folder):
    path = folder / "curves-desk.json"
    told = json.loads(path.read_text("utf-8"))
    told["design"]["fixed"]["steps"] = 3
    path.write_text(json.dumps(told), "utf-8")


def other_seeds(folder):
    path = folder / "curves-desk.json"
    path.write_text(path.read_text("utf-8").replace('"seeds": [\n  0,\n  1\n ]', '"seeds": [0, 7]'), "utf-8")


def renamed(folder):
    for ending in ("csv.gz", "json"):
        (folder / f"curves-desk.{ending}").rename(folder / f"noisy-desk.{ending}")


SPOILT = {
    "no provenance, curves-desk.json is missing": lambda folder: (folder / "curves-desk.json").unlink(),
    "no table, curves-desk.csv.gz is missing": lambda folder: (folder / "curves-desk.csv.gz").unlink(),
    "SHA-256 differs": spoiled_table,
    "no provenance that can be read": lambda folder: (folder / "curves-desk.json").write_bytes(b"\xff{"),
    "cut off": lambda folder: (folder / "curves-desk.csv.gz").write_bytes((folder / "curves-desk.csv.gz").read_bytes()[:40]),
    r"has been changed since \(fixed\)": other_design,
    r"its seeds are not those of its provenance, \[0, 7\]": other_seeds,
    "by its provenance it is curves at scale desk": renamed,
}


@pytest.mark.parametrize("why", SPOILT)
def test_a_record_that_is_not_what_it_says_is_refused(why, frame, provenance, tmp_path):
    write("curves", "desk", frame, provenance, tmp_path)
    SPOILT[why](tmp_path)
    name = "noisy" if (tmp_path / "noisy-desk.json").exists() else "curves"
    with pytest.raises(RecordRefused, match="SHA-256 differs" if why == "cut off" else why) as refused:
        read(name, "desk", tmp_path)
    assert f"reproduce {name} --scale desk --record" in str(refused.value)


def test_a_provenance_without_the_hash_of_its_data(frame, provenance, tmp_path):
    write("curves", "desk", frame, provenance | {"data": {"name": "cifar10", "source": "here"}}, tmp_path)
    with pytest.raises(RecordRefused, match="does not say: data: sha256"):
        read("curves", "desk", tmp_path)


def test_a_table_too_large_for_git(provenance, tmp_path):
    large = pd.DataFrame({"noise": np.random.default_rng(0).standard_normal(300_000)})
    with pytest.raises(ValueError, match="1,000,000 at most: look at fewer steps"):
        write("curves", "desk", large, provenance, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_records_of_the_book_can_be_shown(name):
    for scale in ("desk", "paper"):
        record = read(name, scale, FOLDER)
        if record:
            assert not record.provenance["dirty"] and len(record.provenance["seeds"]) >= 5
            assert {"norm", "lr", "seed", "step", "train_loss", "diverged"} <= set(record.frame)


def test_nothing_else_lies_there():
    known = {f"{name}-{scale}.{ending}" for name in EXPERIMENTS for scale in ("desk", "paper") for ending in ("csv.gz", "json")}
    assert {path.name for path in FOLDER.iterdir()} <= known | {"README.md"}
