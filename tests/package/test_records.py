"""``records``: a record says where it comes from, or is refused."""

import gzip
import json
import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bncourse import records
from bncourse.provenance import meaning
from bncourse.records import FOLDER, Record, RecordRefused, name_of, read, write
from bncourse.reproduce import EXPERIMENTS, fingerprint
from bncourse.reproduce.runner import CODE, _meaning


@pytest.fixture
def frame():
    return pd.DataFrame({"norm": ["none", "batch", "none"], "seed": [0, 0, 1], "train_loss": [0.1 + 0.2, np.inf, 1 / 3],
                         "beta": [np.nan, 1e-12, 2.0], "diverged": [False, True, False]})


@pytest.fixture
def provenance():
    """Of a run that nobody did: only its form is real."""
    return {"experiment": "curves", "scale": "quick", "seeds": [0, 1],
            "data": {"name": "digits", "sha256": "ab", "source": "here"},
            "runs": fingerprint(EXPERIMENTS["curves"].runs("quick", "digits", (0, 1))), "command": "python -m bncourse …",
            "commit": "0" * 40, "dirty": False, "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:00:09+00:00",
            "hardware": [{"cpu": "one"}], "versions": {"python": "3.11"}, "device": "cpu", "precision": "float32",
            "seconds": 9.0, "peak_memory_mib": 100.0, "deviations": [], "meaning": _meaning()}


NAME = "curves-quick-digits"


def test_what_is_written_is_read(frame, provenance, tmp_path):
    path = write(NAME, frame, provenance, tmp_path)
    record = read(NAME, tmp_path)
    assert isinstance(record, Record) and path.name == "curves-quick-digits.csv.gz"
    pd.testing.assert_frame_equal(record.frame, frame, rtol=1e-6, check_dtype=True)
    assert record.provenance["file"]["rows"] == 3 and record.provenance["seeds"] == [0, 1]
    assert sorted(each.name for each in tmp_path.iterdir()) == [f"{NAME}.csv.gz", f"{NAME}.json"], "nothing is left lying"


def test_the_same_frame_gives_the_same_bytes(frame, provenance, tmp_path):
    one = write(NAME, frame, provenance, tmp_path / "one").read_bytes()
    assert write(NAME, frame.copy(), provenance, tmp_path / "two").read_bytes() == one
    again = write(NAME, read(NAME, tmp_path / "one").frame, provenance, tmp_path / "three").read_bytes()
    assert again == one, "reading and writing changes nothing"


def test_no_record_is_none(tmp_path):
    assert read("curves", tmp_path) is None
    assert read("curves", tmp_path / "no such folder") is None


def test_a_small_run_cannot_be_called_by_the_paper_s_name(frame, provenance, tmp_path):
    assert name_of("lp", "paper", "cifar10") == "lp" and name_of("lp", "paper", "digits") == "lp-paper-digits"
    with pytest.raises(ValueError, match="is called 'curves-quick-digits', not 'curves'"):
        write("curves", frame, provenance, tmp_path)
    path = write(NAME, frame, provenance, tmp_path)
    path.rename(tmp_path / "curves.csv.gz")
    (tmp_path / f"{NAME}.json").rename(tmp_path / "curves.json")
    with pytest.raises(RecordRefused, match="would have to be called 'curves-quick-digits'"):
        read("curves", tmp_path)


def test_no_provenance_no_record(frame, provenance, tmp_path):
    write(NAME, frame, provenance, tmp_path)
    (tmp_path / f"{NAME}.json").unlink()
    with pytest.raises(RecordRefused, match=f"no provenance, {NAME}.json is missing.*Record it again"):
        read(NAME, tmp_path)


@pytest.mark.parametrize("key", ["commit", "seeds", "hardware", "meaning", "peak_memory_mib", "precision"])
def test_an_incomplete_provenance(frame, provenance, tmp_path, key):
    with pytest.raises(ValueError, match=f"needs to say: {key}"):
        write(NAME, frame, provenance | {key: None}, tmp_path)
    write(NAME, frame, provenance, tmp_path)
    told = json.loads((tmp_path / f"{NAME}.json").read_text("utf-8"))
    del told[key]
    (tmp_path / f"{NAME}.json").write_text(json.dumps(told), "utf-8")
    with pytest.raises(RecordRefused, match=f"does not say: {key}"):
        read(NAME, tmp_path)


def test_a_provenance_without_the_hash_of_its_data(frame, provenance, tmp_path):
    write(NAME, frame, provenance | {"data": {"name": "digits", "source": "here"}}, tmp_path)
    with pytest.raises(RecordRefused, match="does not say: data: sha256"):
        read(NAME, tmp_path)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe"])
def test_a_provenance_that_cannot_be_read(frame, provenance, tmp_path, content):
    write(NAME, frame, provenance, tmp_path)
    (tmp_path / f"{NAME}.json").write_bytes(content)
    with pytest.raises(RecordRefused, match="no provenance that can be read"):
        read(NAME, tmp_path)


def test_a_table_that_somebody_improved(frame, provenance, tmp_path):
    path = write(NAME, frame, provenance, tmp_path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"0.3", b"0.2")))
    with pytest.raises(RecordRefused, match="SHA-256 differs"):
        read(NAME, tmp_path)


def test_a_table_that_is_gone(frame, provenance, tmp_path):
    write(NAME, frame, provenance, tmp_path).unlink()
    with pytest.raises(RecordRefused, match="no table"):
        read(NAME, tmp_path)


def test_a_table_too_large_for_git(provenance, tmp_path):
    large = pd.DataFrame({"noise": np.random.default_rng(0).standard_normal(300_000)})
    with pytest.raises(ValueError, match="1,000,000 at most: look at fewer steps or layers"):
        write(NAME, large, provenance, tmp_path)
    assert not list(tmp_path.iterdir())


def test_code_that_has_changed_in_meaning(frame, provenance, tmp_path):
    changed = dict(provenance["meaning"], **{"bncourse.train:_train_group": "another", "bncourse.nets:gone": "was here"})
    write(NAME, frame, provenance | {"meaning": changed}, tmp_path)
    with pytest.raises(RecordRefused, match="changed in meaning: bncourse.nets:gone, bncourse.train:_train_group"):
        read(NAME, tmp_path)


def test_a_module_that_is_gone(frame, provenance, tmp_path):
    write(NAME, frame, provenance | {"meaning": {"bncourse.norms.forgotten:Norm": "x"}}, tmp_path)
    with pytest.raises(RecordRefused, match="bncourse.norms.forgotten is gone"):
        read(NAME, tmp_path)


def test_an_experiment_that_lists_other_runs_by_now(frame, provenance, tmp_path):
    write(NAME, frame, provenance | {"runs": "those of before"}, tmp_path)
    with pytest.raises(RecordRefused, match="the list of runs"):
        read(NAME, tmp_path)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module whose text can be changed: text -> its meaning."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(text):
        (tmp_path / "changing.py").write_text(text, "utf-8")
        sys.modules.pop("changing", None)
        import_module("importlib").invalidate_caches()
        return meaning(["changing"])

    return of


TEXT = '''"""About."""
import math
from os import path as where


class Layer:
    """A layer."""

    size: int = 3

    def forward(self, x: float) -> float:
        """Twice."""
        if x < 0:
            raise ValueError(f"negative: {x}")
        return 2 * x  # a comment


NORMS = {"none": None, "batch": Layer}
'''

SAME = {
    "a comment": ("# a comment", "# another comment"),
    "a docstring": ('"""Twice."""', '"""Two times x."""'),
    "no docstring": ('        """Twice."""\n', ""),
    "the docstring of the module": ('"""About."""', '"""About it."""'),
    "an annotation": ("x: float) -> float:", "x):"),
    "layout": ("        return 2 * x", "\n        return (2 *\n                x)"),
    "the words of an error": ('f"negative: {x}"', '"x is below zero"'),
}


@pytest.mark.parametrize("change", SAME)
def test_what_is_not_a_change_of_meaning(module, change):
    before = module(TEXT)
    old, new = SAME[change]
    assert old in TEXT and module(TEXT.replace(old, new)) == before


OTHER = {
    "a number": ("2 * x", "3 * x", "changing:Layer"),
    "a default": ("= 3", "= 4", "changing:Layer"),
    "a condition": ("x < 0", "x <= 0", "changing:Layer"),
    "the order": ("2 * x", "x * 2", "changing:Layer"),
    "an entry": ('"batch": Layer', '"batch": None', "changing:NORMS['batch']"),
    "an import of the same name": ("from os import path as where", "from sys import path as where", "changing:where"),
}


@pytest.mark.parametrize("change", OTHER)
def test_what_is_a_change_of_meaning(module, change):
    before = module(TEXT)
    old, new, name = OTHER[change]
    after = module(TEXT.replace(old, new))
    assert {key for key in before if before[key] != after.get(key)} == {name}


def test_what_is_added_leaves_the_rest_as_it_was(module):
    before = module(TEXT)
    after = module(TEXT.replace('"batch": Layer', '"batch": Layer, "new": Layer') + "\n\nclass New(Layer):\n    pass\n")
    assert before.items() < after.items()
    assert set(after) - set(before) == {"changing:New", "changing:NORMS['new']"}


def test_a_second_definition_of_the_same_name_counts(module):
    assert module(TEXT)["changing:Layer"] != module(TEXT + "\n\nclass Layer:\n    pass\n")["changing:Layer"]


def test_an_import_that_nobody_needs_any_more(module, frame, provenance, tmp_path, monkeypatch):
    before = module(TEXT)
    module(TEXT.replace("import math\n", ""))
    write(NAME, frame, provenance | {"meaning": before}, tmp_path / "records")
    assert read(NAME, tmp_path / "records")


def test_the_fingerprint_does_not_depend_on_the_version_of_python(module):
    # Of Python 3.11. Syntax trees have gained fields since.
    assert module(TEXT)["changing:Layer"] == "c81ad38068dc"


def test_everything_that_numbers_depend_on_is_fingerprinted():
    package = Path(records.__file__).parent
    norms = {f"bncourse.norms.{path.stem}" for path in (package / "norms").glob("[!_]*.py")}
    assert norms < set(CODE)
    code = (package / "reproduce" / "runs.py").read_text("utf-8")
    probes = {f"bncourse.probes.{path.stem}" for path in (package / "probes").glob("[!_]*.py") if f"probes.{path.stem}" in code}
    assert probes < set(CODE)
    for module in CODE:  # And what those import.
        text = (package.parent / f"{module.replace('.', '/')}.py")
        text = (text if text.exists() else text.with_suffix("") / "__init__.py").read_text("utf-8")
        imported = set(re.findall(r"^\s*(?:from|import) (bncourse\.[\w.]+)", text, re.M))
        imported |= {f"bncourse.{name.strip()}" for names in re.findall(r"^\s*from bncourse import (.+)$", text, re.M)
                     for name in names.split(",")}
        assert imported - set(CODE) <= {"bncourse.download"}, module


def test_every_record_of_the_book_is_one():
    tables, told = ({path.name.removesuffix(ending) for path in FOLDER.glob(f"*{ending}")} for ending in (".csv.gz", ".json"))
    for name in tables | told:
        assert len(read(name).frame)
    assert FOLDER.is_dir(), "a README says what belongs there"
