"""Is everything here that the course needs? One line a question."""

import importlib
import os
import platform
import sys
from pathlib import Path

NEEDED = ("torch", "numpy", "pandas", "sklearn", "matplotlib", "ipywidgets", "nbformat", "jinja2", "pooch", "requests",
          "filelock", "joblib", "typer", "rich")


def doctor() -> bool:
    """Print one line per check; True when nothing the course needs is missing. What is only good to have never fails."""
    healthy = True
    for name, check in CHECKS.items():
        try:
            mark, text = "ok", check()
        except Exception as error:  # Whatever is wrong, say it and go on to the next question.
            mark, text, healthy = "FAIL", f"{error}" or type(error).__name__, False
        print(f"{mark:<4} {name:<9} {' '.join(text.split())}")  # One line each, also of an error that has several.
    return healthy


def _python() -> str:
    if sys.version_info < (3, 11):
        raise RuntimeError(f"Python {platform.python_version()}; the course needs 3.11 or newer")
    return f"{platform.python_version()} on {platform.system()}"


def _packages() -> str:
    found, missing = [], []
    for name in NEEDED:
        try:
            module = importlib.import_module(name)
            found.append(f"{name} {getattr(module, '__version__', '')}".strip())
        except ImportError:
            missing.append(name)
    if missing:
        raise RuntimeError(f"missing {', '.join(missing)}; run: python -m pip install -r requirements.txt")
    return ", ".join(found)


def _device() -> str:
    import torch
    return f"cuda: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "cpu (no GPU seen; no chapter needs one)"


def _threads() -> str:
    import torch
    return f"{torch.get_num_threads()} for torch, {os.cpu_count()} cores; chapters use one on the CPU"


def _data() -> str:
    from bncourse import data
    loaded = data.load("digits")
    found = [f"digits: {len(loaded.x_train)} + {len(loaded.x_test)} images"]
    for name in data.NAMES[1:]:
        size = data.to_download(name)
        found.append(f"{name}: {f'would be downloaded, {size / 1e6:.0f} MB' if size else 'at hand'}")
    return "; ".join(found)


def _cache() -> str:
    from bncourse import data
    return f"{data.cache_dir()} is writable"


def _widgets() -> str:
    import ipywidgets
    import matplotlib
    matplotlib.use("agg", force=False)
    from matplotlib.figure import Figure
    from bncourse.widgets import explore
    explore(lambda n: Figure(figsize=(1, 1)), alt="an empty test picture {n}", n=[1, 2]).live()
    return f"ipywidgets {ipywidgets.__version__} draws and slides"


def _course() -> str:
    from bncourse.provenance import PACKAGE, checkout_around
    here = checkout_around(Path.cwd())
    if here and here / "bncourse" != PACKAGE:
        raise RuntimeError(f"{PACKAGE} is imported, and not {here / 'bncourse'}, where you are: run it as python -m bncourse in "
                           f"{here}, or install that one: python -m pip install -e {here}")
    return f"{PACKAGE} is imported"


def _grader() -> str:
    from bncourse.grading.feedback import GradingError
    from bncourse.grading.sandbox import check_sandbox
    try:
        check_sandbox(unsafe=False)
    except GradingError as error:
        return f"only to grade, and it cannot here: {error}"
    return "bubblewrap holds students' code"


CHECKS = {"python": _python, "packages": _packages, "course": _course, "device": _device, "threads": _threads, "data": _data,
          "cache": _cache, "widgets": _widgets, "grader": _grader}
