"""The record of verdicts with other seeds: what is run, what is kept, and what its table says."""

import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "book"), str(ROOT / "book" / "_ext")]
import blocks  # noqa: E402
from every_claim import changing  # noqa: E402
from told import first_seed  # noqa: E402

NAME = "07_theory"
CODE = first_seed(nbformat.read(ROOT / "book" / f"{NAME}.ipynb", as_version=4))


def row(block, claim, as_expected=True, verdict="supported", code=CODE):
    return [NAME, code, block, claim, as_expected, verdict, 1.0, 0.5, 1.5]


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Where the record is; what was run with which block; nothing is executed."""
    ran = []

    def tried(path, block):
        ran.append((path.stem, block))
        return [row(block, "a"), row(block, "b", block != 2, "inconclusive")] + ([row(block, "", False, "stopped")] if block == 3 else [])

    monkeypatch.setattr(blocks, "RECORD", tmp_path / "blocks.csv")
    monkeypatch.setattr(blocks, "tried", tried)
    monkeypatch.setattr(blocks.os, "environ", dict(blocks.os.environ))
    return ran


def test_what_is_recorded_is_not_run_again_unless_the_code_changed(record):
    blocks.main("2", NAME)
    assert record == [(NAME, 1), (NAME, 2)]
    blocks.main("3", NAME)
    assert record == [(NAME, 1), (NAME, 2), (NAME, 3)]
    assert len(pd.read_csv(blocks.RECORD)) == 7
    blocks.RECORD.write_text(blocks.RECORD.read_text().replace(f"{NAME},{CODE},", f"{NAME},{CODE + 1},"))
    blocks.main("1", NAME)
    assert record[-1] == (NAME, 1) and len(pd.read_csv(blocks.RECORD)) == 2, "rows of former code are dropped"


def test_the_table_counts_what_changed_and_what_stopped(record, tmp_path):
    blocks.main("3", NAME)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "blocks.csv").write_text(blocks.RECORD.read_text())
    (tmp_path / "book" / f"{NAME}.ipynb").write_bytes((ROOT / "book" / f"{NAME}.ipynb").read_bytes())
    claims = {id: {"id": id, "page": f"book/{NAME}", "chapter": "7 Theory", "says": f"Claim {id}."} for id in "ab"}
    table = changing(claims, "book/thresholds", tmp_path)
    assert "<td>3, of which 1 stopped</td><td>1 of 6</td><td>1 of 2</td>" in table
    assert "1 of 6 verdicts came out otherwise" in table and "Claim b.</a> 1 of 3" in table and "Claim a." not in table
    (tmp_path / "book" / "blocks.csv").write_text("chapter,code,block,claim,as_expected,verdict,mean,low,high\n")
    assert "not tried since its code changed" in changing(claims, "book/thresholds", tmp_path)
