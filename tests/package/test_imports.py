"""What importing the package brings along: a machine with bare torch, numpy, pandas and scikit-learn can train."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

LATER = ("matplotlib", "ipywidgets", "IPython", "rich", "typer", "pooch", "nbformat")


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_training_needs_no_plots_widgets_or_notebooks():
    done = run(f"""
import sys
sys.modules.update(dict.fromkeys({LATER}))  # None in place of a module: importing it fails
import bncourse, bncourse.train, bncourse.claims, bncourse.figures, bncourse.widgets, bncourse.probes.activations
from bncourse import data, nets
frame = bncourse.train.train(lambda seed: nets.mlp((64, 8, 10), "batch", seed=seed), data.load("digits"),
                             seeds=[0], lrs=[0.1], steps=1)
print(len(frame))
""")
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stderr


def test_importing_the_package_is_cheap():
    done = run("import sys, bncourse; print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])")
    assert done.stdout.strip() == "[]", "so that `bncourse.__version__` is there before anything else is installed"


def test_every_pinned_version_runs_on_the_oldest_python_we_promise():
    # A newer Python here would install what Debian's 3.11.2 cannot.
    root = Path(__file__).parents[2]
    promised = re.search(r'requires-python = ">=([\d.]+)"', (root / "pyproject.toml").read_text("utf-8"))[1]
    pins = re.findall(r"^([\w.-]+)==", (root / "constraints.txt").read_text("utf-8"), re.M)
    asked = {}
    for name in pins:
        try:
            asked[name] = metadata.distribution(name).metadata.get("Requires-Python") or ""
        except metadata.PackageNotFoundError:
            continue  # a pin for another platform
    assert len(asked) > len(pins) / 2
    assert not {name: needs for name, needs in asked.items() if not SpecifierSet(needs).contains(f"{promised}.0")}
