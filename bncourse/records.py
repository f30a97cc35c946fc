"""Results that took too long to compute again: a table, and where it comes from.

A record is two files in ``book/results``: ``NAME.csv.gz`` and ``NAME.json``, its provenance. Without a complete provenance, or
when the table is not the one that was recorded, or when the code that computed it has changed in meaning since, a record is
refused: better no number than one that nobody can repeat.
"""

import gzip
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bncourse.provenance import meaning
from bncourse.reproduce import EXPERIMENTS, fingerprint
from bncourse.reproduce.folder import write_whole

FOLDER = Path(__file__).parents[1] / "book" / "results"
LIMIT = 1_000_000  # bytes of a table: records live in git, which keeps every version of them

# What has to be known of a record. ``write`` adds the last three.
KEYS = ("experiment", "scale", "data", "seeds", "runs", "command", "commit", "dirty", "started", "finished", "hardware",
        "versions", "device", "precision", "seconds", "peak_memory_mib", "deviations", "meaning",
        "name", "format", "file")


class RecordRefused(ValueError):
    """A record that cannot be shown; the message says why, and what to do."""


@dataclass(frozen=True)
class Record:
    name: str
    frame: pd.DataFrame
    provenance: dict


def name_of(experiment: str, scale: str, data: str) -> str:
    """What the record of an experiment is called. Only the paper's own scale and data go without saying, so that nothing
    smaller can be taken for it."""
    return experiment if (scale, data) == ("paper", "cifar10") else f"{experiment}-{scale}-{data}"


def read(name: str, folder: Path | None = None) -> Record | None:
    """The record of that name, or None if there is none.

    Raises:
        RecordRefused: no provenance, an incomplete one, another table than was recorded, or code that has changed since.
    """
    folder = FOLDER if folder is None else Path(folder)
    table, told = folder / f"{name}.csv.gz", folder / f"{name}.json"
    if not table.exists() and not told.exists():
        return None

    def refuse(why: str):
        raise RecordRefused(f"the record {name!r} is refused: {why}. Record it again (python -m bncourse reproduce … "
                            f"--record), or delete {table.name} and {told.name}")

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
    if hashlib.sha256(content).hexdigest() != provenance["file"].get("sha256"):
        refuse(f"{table.name} is not the table that was recorded, its SHA-256 differs")
    should = name_of(provenance["experiment"], provenance["scale"], provenance["data"]["name"])
    if {name, provenance["name"]} != {should}:
        refuse(f"by its provenance it would have to be called {should!r}")
    if changed := _changed(provenance):
        refuse(f"since it was computed, the code has changed in meaning: {', '.join(changed[:5])}"
               + (f" and {len(changed) - 5} more" if len(changed) > 5 else ""))
    return Record(name, _from_csv(gzip.decompress(content)), provenance)


def write(name: str, frame: pd.DataFrame, provenance: dict, folder: Path | None = None) -> Path:
    """Write a record, six significant digits a number; the same frame always gives the same bytes. Returns the table's path.

    Raises:
        ValueError: a name that hides scale or data, something missing in the provenance, or a table that is too large.
    """
    folder = FOLDER if folder is None else Path(folder)
    should = name_of(provenance["experiment"], provenance["scale"], provenance["data"]["name"])
    if name != should:
        raise ValueError(f"a record of {provenance['experiment']} at scale {provenance['scale']} on "
                         f"{provenance['data']['name']} is called {should!r}, not {name!r}: its name has to say what it is")
    content = gzip.compress(frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode(), 9, mtime=0)
    if len(content) > LIMIT:
        raise ValueError(f"the table of {name!r} takes {len(content):,} bytes, {LIMIT:,} at most: look at fewer steps "
                         "or layers")
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "rows": len(frame), "bytes": len(content)}
    provenance = provenance | {"name": name, "format": 1, "file": facts}
    if missing := [key for key in KEYS if provenance.get(key) is None]:
        raise ValueError(f"a record needs to say: {', '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    # The table first: a record that was cut off between the two is refused, by its old provenance or for want of one.
    write_whole(folder / f"{name}.csv.gz", content)
    write_whole(folder / f"{name}.json", (json.dumps(provenance, indent=1, ensure_ascii=False) + "\n").encode())
    return folder / f"{name}.csv.gz"


def _from_csv(content: bytes) -> pd.DataFrame:
    # "" alone is missing: "none" is a normalizer.
    return pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""])


def _changed(provenance: dict) -> list[str]:
    """The definitions that are no longer what they were, and an experiment that lists other runs by now."""
    before = provenance["meaning"]
    try:
        now = meaning({name.partition(":")[0] for name in before})
    except ModuleNotFoundError as error:
        return [f"{error.name} is gone"]
    changed = sorted(name for name, was in before.items()
                     # An import that nobody needs any more is no change; one that brings something else is.
                     if now.get(name) != was and not (name not in now and was.startswith("import ")))
    experiment = EXPERIMENTS.get(provenance["experiment"])
    if experiment is None:
        return [*changed, f"there is no experiment {provenance['experiment']!r}"]
    runs = experiment.runs(provenance["scale"], provenance["data"]["name"], tuple(provenance["seeds"]))
    return changed + ["the list of runs"] * (fingerprint(runs) != provenance["runs"])
