"""`make colab`: does the course install on Google Colab without touching what is there, and does every notebook run?

Makes a twin of Colab's environment from packages.txt, runs the bootstrap cell in it (with a wheel of this checkout in place
of the repository), compares `pip freeze` before and after, grades one exercise, and runs every notebook from a folder
that holds nothing but that notebook. Some minutes on two cores.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HOME = ROOT / "_build" / "colab"
PYTHON = HOME / "twin" / "bin" / "python"
PACKAGES = HERE / "packages.txt"
AT_A_TIME = 2


def run(*command, cwd=HOME):
    """Run in the twin's own world; returns what it printed, or ends with what it said."""
    others = ("PYTHONPATH", "BNCOURSE_BOOK", "MPLBACKEND")
    kept = {name: value for name, value in os.environ.items() if name not in others}
    own = {
        "JUPYTER_PATH": str(HOME / "twin/share/jupyter"),
        "JUPYTER_CONFIG_DIR": str(HOME / "config"),
        "IPYTHONDIR": str(HOME / "ipython"),
        "OMP_NUM_THREADS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    # `%pip` and the kernel go by the first Python on the path, as they do in an activated environment.
    own["PATH"] = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=kept | own, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def build_wheel(folder):
    """A wheel of the package as it is in this checkout; from a copy, because a build leaves folders behind."""
    with TemporaryDirectory() as copy:
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        shutil.copytree(ROOT / "bncourse", Path(copy) / "bncourse", ignore=shutil.ignore_patterns("__pycache__"))
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, copy]
        subprocess.run([str(part) for part in command], check=True)
    [wheel] = Path(folder).glob("bncourse-*.whl")
    return wheel


def make_twin():
    recipe = f"Python {sys.version}\n{PACKAGES.read_text('utf-8')}"
    stamp = HOME / "twin" / "made-from.txt"
    if not stamp.exists() or stamp.read_text("utf-8") != recipe:
        print(
            f"Making the twin of Colab in {HOME / 'twin'}; torch is the largest part, so this takes some minutes.", flush=True
        )
        subprocess.run([sys.executable, "-m", "venv", "--clear", HOME / "twin"], check=True)
        run(PYTHON, "-m", "pip", "install", "--quiet", "-r", PACKAGES)
        stamp.write_text(recipe, encoding="utf-8")
    run(PYTHON, "-m", "pip", "uninstall", "--quiet", "--yes", "bncourse")


def packages(frozen):
    """The lines of `pip freeze`, by the package's name in its one spelling."""
    return {re.sub(r"[-_.]+", "-", re.split(r"==| @ ", line)[0]).lower(): line for line in frozen.splitlines()}


def differences(before, after):
    """What an installation did, as two lists of lines: what it added, and what it changed or took away."""
    before, after = packages(before), packages(after)
    added = [after[name] for name in sorted(after.keys() - before.keys())]
    moved = [f"{line} -> {after.get(name, 'gone')}" for name, line in sorted(before.items()) if after.get(name) != line]
    return added, moved


def bootstrap_with(wheel):
    """The bootstrap cell of the course, which installs from this wheel instead of from the repository."""
    notebook = nbformat.read(sorted((ROOT / "book").glob("[0-9]*.ipynb"))[0], as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.source, times = re.subn(r'git\+https://[^"]+', wheel.as_uri(), cell.source)
    if times != 1:
        raise RuntimeError(f"the bootstrap cell should name one address to install from; it names {times}:\n{cell.source}")
    return cell.source


def install(wheel):
    """Run the bootstrap cell in the twin and say what it changed. Returns whether bncourse alone was added."""
    before = run(PYTHON, "-m", "pip", "freeze", "--all")
    says = "print(bncourse.__file__)"  # in the same kernel: no restart
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"{bootstrap_with(wheel)}\n{says}")])
    nbformat.write(notebook, HOME / "bootstrap.ipynb")
    run(PYTHON, HERE / "run.py", "bootstrap.ipynb")
    added, moved = differences(before, run(PYTHON, "-m", "pip", "freeze", "--all"))
    print(f"The bootstrap cell, among {len(packages(before))} packages:")
    print("  added:  ", ", ".join(line.split(" @ ")[0] for line in added) or "nothing")
    print("  changed:", ", ".join(moved) or "nothing", flush=True)
    run(PYTHON, "-m", "pip", "check")
    return list(packages("\n".join(added))) == ["bncourse"] and not moved


def grade(master):
    """Grade a master with the installed package. Returns the row it got; nothing less than full marks will do."""
    handed_in, table = HOME / "handed-in", HOME / "grades.csv"
    shutil.rmtree(handed_in, ignore_errors=True)
    table.unlink(missing_ok=True)
    handed_in.mkdir()
    shutil.copy(master, handed_in / "teacher.ipynb")
    sandbox = [] if shutil.which("bwrap") else ["--unsafe"]  # our own code
    exercise = master.stem.split("_")[0]
    run(PYTHON, "-m", "bncourse", "grade", exercise, handed_in, "--csv", table, "--feedback", HOME / "feedback", *sandbox)
    with table.open(encoding="utf-8", newline="") as rows:
        [row] = csv.DictReader(rows)
    return row


def try_notebook(path):
    """Run one notebook of the course where nothing else of the course lies. Returns whether it ran, and how."""
    with TemporaryDirectory(dir=HOME) as empty:
        shutil.copy(path, empty)
        try:
            said = run(PYTHON, HERE / "run.py", path.name, cwd=empty).rstrip()
        except RuntimeError as error:
            return False, f"FAILED\n{error}"
    return True, f"ok   {said}"


def main():
    HOME.mkdir(parents=True, exist_ok=True)
    make_twin()
    (HOME / "wheel").mkdir(exist_ok=True)
    for old in (HOME / "wheel").iterdir():
        old.unlink()
    failed = [] if install(build_wheel(HOME / "wheel")) else ["the bootstrap cell"]
    row = grade(ROOT / "exercises" / "masters" / "ex01_batch_norm.ipynb")
    print(f"Grading a master with the installed package: {row['status']}, {row['points']} of {row['max']} points", flush=True)
    failed += [] if row["status"] == "ok" and row["points"] == row["max"] else ["grading"]
    notebooks = [*sorted((ROOT / "book").glob("*.ipynb")), *sorted((ROOT / "exercises").rglob("ex*.ipynb"))]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for path, (ran, how) in zip(notebooks, pool.map(try_notebook, notebooks), strict=True):
            name = str(path.relative_to(ROOT))
            print(f"  {name:<52}{how}", flush=True)
            failed += [] if ran else [name]
    if failed:
        sys.exit(f"On the twin of Colab failed: {', '.join(failed)}")
    print(f"All {len(notebooks)} notebooks run on the twin of Colab, and installing the course moved nothing there.")


if __name__ == "__main__":
    main()
