"""Where numbers come from: the code that computed them, its commit, the machine, and the memory they took."""

import ast
import hashlib
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

PACKAGE = Path(__file__).resolve().parent


def checkout_around(folder: Path) -> Path | None:
    """The checkout of the course that a folder is in, or None. It need not be the one whose package is imported."""
    folder = Path(folder).resolve()
    return next((each for each in (folder, *folder.parents)
                 if (each / "bncourse" / "__init__.py").is_file() and (each / "_toc.yml").is_file()), None)


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
    # In a hook git names its own repository in the environment, which may be another one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=PACKAGE, env=environment, capture_output=True, encoding="utf-8",
                              errors="replace", check=True).stdout
    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # installed below somebody else's repository, it has no commit of that
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
