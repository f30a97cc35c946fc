"""Results that took too long to compute again: a table, and where it comes from.

A record is two files in ``book/results``: ``NAME-SCALE.csv.gz``, what ``train`` gave back, and ``NAME-SCALE.json``, its
provenance. It is refused where nobody could repeat its numbers."""

import gzip
import hashlib
import io
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from bncourse import figures
from bncourse.data import Data
from bncourse.experiments import study
from bncourse.study import Study

FOLDER = Path(__file__).parents[1] / "book" / "results"
LIMIT = 1_000_000  # bytes of a table: records live in git, which keeps every version of them
KEYS = ("experiment", "scale", "design", "data", "seeds", "command", "commit", "dirty", "started", "finished", "hardware", "versions",
        "device", "precision", "seconds", "peak_memory_mib", "deviations", "sha256")


class RecordRefused(ValueError):
    """A record that cannot be shown; the message says why, and what to do."""


@dataclass(frozen=True)
class Record:
    name: str
    scale: str
    frame: pd.DataFrame
    provenance: dict


def design(of: Study) -> dict:
    """A design in plain values, to be kept and compared."""
    return json.loads(json.dumps({"factors": of.factors, "fixed": of.fixed, "record": of.record, "combinations": of.combinations(),
                                  "probes": [_told(probe) for probe in of.probes]}))


def _told(probe) -> str:
    inner = [_told(value) if callable(value) else repr(value) for name, value in sorted(vars(probe).items())
             if name in ("probe", "ending", "multiples", "distances", "statistics")]
    return f"{type(probe).__name__}({', '.join(inner)})"


def read(name: str, scale: str, folder: Path | None = None) -> Record | None:
    """The record of an experiment at a scale, or None if there is none.
    Raises RecordRefused: no provenance, an incomplete one, another table than was recorded, or a design that has changed
    since."""
    folder = FOLDER if folder is None else Path(folder)
    table, told = folder / f"{name}-{scale}.csv.gz", folder / f"{name}-{scale}.json"
    if not table.exists() and not told.exists():
        return None

    def refuse(why: str):
        raise RecordRefused(f"the record {table.name} is refused: {why}. Record it again (python -m bncourse reproduce {name} "
                            f"--scale {scale} --record), or delete {table.name} and {told.name}")

    for path, what in ((told, "provenance"), (table, "table")):
        if not path.exists():
            refuse(f"it has no {what}, {path.name} is missing")
    try:
        provenance = json.loads(told.read_text("utf-8"))
        missing = [key for key in KEYS if provenance.get(key) is None]
        missing += [f"data: {key}" for key in ("name", "sha256", "source") if not (provenance.get("data") or {}).get(key)]
    except (ValueError, AttributeError):
        refuse(f"{told.name} is no provenance that can be read")
    if missing:
        refuse(f"its provenance does not say: {', '.join(missing)}")
    content = table.read_bytes()
    if hashlib.sha256(content).hexdigest() != provenance["sha256"]:
        refuse(f"{table.name} is not the table that was recorded, its SHA-256 differs")
    if (provenance["experiment"], provenance["scale"]) != (name, scale):
        refuse(f"by its provenance it is {provenance['experiment']} at scale {provenance['scale']}")
    before, now = provenance["design"], design(_empty(name, scale))
    before["fixed"]["precision"] = now["fixed"]["precision"]  # A matter of the run; the provenance says it by itself.
    if changed := [part for part in now if before.get(part) != now[part]]:
        refuse(f"the experiment has been changed since ({', '.join(changed)})")
    frame = pd.read_csv(io.BytesIO(gzip.decompress(content)), keep_default_na=False, na_values=[""])  # "none" is a normalizer
    if sorted(frame.seed.unique()) != sorted(provenance["seeds"]):
        refuse(f"its seeds are not those of its provenance, {provenance['seeds']}")
    return Record(name, scale, frame, provenance)


def _empty(name: str, scale: str) -> Study:
    """The design without data. Its numbers are none that a chapter may type: they are not its own."""
    x, y = torch.zeros(128, 3, 32, 32), torch.zeros(128, dtype=torch.long)
    before = set(figures.settings)
    try:
        return study(name, scale, Data("cifar10", x, y, x[:1], y[:1], 10))
    finally:
        figures.settings.intersection_update(before)


def write(name: str, scale: str, frame: pd.DataFrame, provenance: dict, folder: Path | None = None) -> Path:
    """Write a record, six significant digits a number; the same frame always gives the same bytes. Returns the table's path.
    Raises ValueError: something missing in the provenance, or a table that is too large."""
    folder = FOLDER if folder is None else Path(folder)
    content = gzip.compress(frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode(), 9, mtime=0)
    if len(content) > LIMIT:
        raise ValueError(f"the table of {name} takes {len(content):,} bytes, {LIMIT:,} at most: look at fewer steps")
    provenance = provenance | {"sha256": hashlib.sha256(content).hexdigest(), "rows": len(frame)}
    if missing := [key for key in KEYS if provenance.get(key) is None]:
        raise ValueError(f"a record needs to say: {', '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    # The table first: a record that was cut off between the two is refused, by its old provenance or for want of one.
    write_whole(folder / f"{name}-{scale}.csv.gz", content)
    write_whole(folder / f"{name}-{scale}.json", (json.dumps(provenance, indent=1, ensure_ascii=False) + "\n").encode())
    return folder / f"{name}-{scale}.csv.gz"


def write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing, also if the power fails in between: a temporary file beside it, then a new name."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's own 0600 would hide it from the others of a group.
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


