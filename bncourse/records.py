"""Results that took too long to compute again: a table, and where it comes from.

A record is two files in ``book/results``: ``NAME.csv.gz`` and ``NAME.json``, its provenance. Without a complete provenance, or
when the table is not the one that was recorded, or when the code that computed it has changed in meaning since, a record is
refused: better no number than one that nobody can repeat.
"""

import ast
import gzip
import hashlib
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

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
    if hasattr(os, "O_DIRECTORY"):  # The new name, too, has to reach the disk.
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _changed(provenance: dict) -> list[str]:
    """The definitions that are no longer what they were, and an experiment that lists other runs by now."""
    from bncourse.reproduce import EXPERIMENTS, fingerprint

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


def meaning(modules: Iterable[str]) -> dict[str, str]:
    """A fingerprint of every definition at the top level of these modules: {"module:name": hash}.

    It is taken from the syntax tree without docstrings, annotations and the words of error messages; comments and layout are
    not in it anyway. What is *added* to a module (another network, another normalizer) leaves the rest as it was, because
    every definition, and every entry of a dictionary such as ``norms.NORMS``, counts by itself.

    Raises:
        ModuleNotFoundError: no such module.
    """
    trees = {}
    for module in sorted(set(modules)):
        spec = importlib.util.find_spec(module)
        if spec is None:
            raise ModuleNotFoundError(f"no module {module}", name=module)
        for name, tree in _definitions(ast.parse(Path(spec.origin).read_text("utf-8"))):
            trees.setdefault(f"{module}:{name}", []).append(tree)
    return {name: ("import " if all(tree.startswith("import ") for tree in found) else "")
            + hashlib.sha256("\n".join(found).encode()).hexdigest()[:12] for name, found in trees.items()}


def _definitions(module: ast.Module):
    """(name, tree as text) of each statement of a module."""
    for statement in module.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for alias in statement.names:
                origin = (getattr(statement, "module", None) or "", getattr(statement, "level", 0), alias.name)
                yield alias.asname or alias.name, f"import {origin}"
        elif isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            yield statement.name, _text(statement)
        elif isinstance(statement, ast.Assign) and isinstance(target := statement.targets[0], ast.Name):
            entries = statement.value
            if target.id == "__all__":
                continue
            if isinstance(entries, ast.Dict) and all(isinstance(key, ast.Constant) for key in entries.keys):
                for key, value in zip(entries.keys, entries.values):
                    yield f"{target.id}[{key.value!r}]", _text(value)
            else:
                yield target.id, _text(statement)
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            yield f"{type(statement).__name__} statement", _text(statement)


def _text(node) -> str:
    """A syntax tree as text. ``ast.dump`` would give another text in another version of Python."""
    if isinstance(node, list):
        return f"[{','.join(map(_text, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Raise):
        return "raise"  # No number comes from a run that was refused.
    parts = []
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment", "type_params", "kind", "ctx") or value is None or value == []:
            continue
        if name == "body" and isinstance(value, list) and isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = value[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                value = value[1:]
        parts.append(f"{name}={_text(value)}")
    return f"{type(node).__name__}({','.join(parts)})"


def machine(device: str) -> dict:
    """Hardware and versions of this process, for a provenance."""
    import numpy
    import sklearn
    import torch

    hardware = {"cpu": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__,
                "pandas": pd.__version__, "scikit-learn": sklearn.__version__}
    if device == "cuda":
        hardware["gpu"] = torch.cuda.get_device_name()
        versions |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"hardware": hardware, "versions": versions}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> tuple[str, bool]:
    """The commit of this checkout, and whether the package differs from it; ("unknown", True) outside a checkout."""
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout
    try:
        return git("rev-parse", "HEAD").strip(), bool(git("status", "--porcelain", "--", ".").strip())
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


def peak_memory(device: str) -> float:
    """MiB: of the GPU since it was last reset; else of this process so far, NaN where the system does not say."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
