"""Execute the chapters over all cores, then build the book: `python book/_ext/build.py`.

Jupyter Book would execute one notebook after the other. Here they run side by side and their results go into the
jupyter-cache that Jupyter Book reads, so its own part is only to lay out pages. What has not changed is neither executed
nor laid out again.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import yaml
from filelock import FileLock, Timeout
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "_build"
HTML = BUILD / "html"
CACHE = BUILD / ".jupyter_cache"
DOCTREES = BUILD / ".doctrees"
RESULTS_STAMP = BUILD / "results.stamp"  # what the cached results were computed with
PAGES_STAMP = BUILD / "pages.stamp"  # what the pages were laid out with; only there after a build without warnings

BUDGET = 40  # seconds a chapter may take on two cores
TIMEOUT = 300  # seconds after which a chapter is given up


def digest(paths):
    """A hash over files (and all files under folders): their names and contents."""
    found = sorted(
        file
        for path in paths
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    )
    total = hashlib.sha256(sys.version.encode())
    for file in found:
        total.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return total.hexdigest()


def pages():
    """The pages the table of contents names, without suffix, in order."""

    def names(entry):
        if isinstance(entry, list):
            for value in entry:
                yield from names(value)
        elif isinstance(entry, dict):
            for key, value in entry.items():
                if key in ("root", "file"):
                    yield value
                else:
                    yield from names(value)

    return list(names(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))))


def chapters():
    """The notebooks of book/ among the pages: those that are executed."""
    for name in pages():
        if not any((ROOT / f"{name}{suffix}").exists() for suffix in (".ipynb", ".md")):
            sys.exit(f"_toc.yml names {name}, but there is no {name}.ipynb and no {name}.md")
    notebooks = [ROOT / f"{name}.ipynb" for name in pages()]
    return [path for path in notebooks if path.exists() and path.parent == ROOT / "book"]


def prepare_environment():
    """Make the kernels this Python's own, whatever Jupyter or IPython set-up the user has besides."""
    for name in ("PYTHONPATH", "MPLBACKEND"):
        os.environ.pop(name, None)
    os.environ |= {
        "BNCOURSE_BOOK": "1",  # widgets draw every frame: the page has no kernel to ask for one
        "OMP_NUM_THREADS": "1",  # the parallelism is over chapters
        "PYTHONHASHSEED": "0",
        "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_DIR": str(BUILD / ".jupyter"),
        "IPYTHONDIR": str(BUILD / ".ipython"),
    }


async def execute(notebook, folder):
    """Run a notebook in place, from a folder. Returns the seconds it took and what went wrong (None if nothing did)."""
    running = {}
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,  # it would go into the cells, and the cache would no longer recognize them
        store_widget_state=False,  # the page shows the HTML side of a widget
        extra_arguments=["--IPKernelApp.log_level=40"],  # or each kernel warns that loopback is not encrypted
        on_cell_execute=lambda cell, cell_index: running.update(source=cell.source),
    )
    start = time.perf_counter()
    problem = None
    try:
        await asyncio.wait_for(client.async_execute(cwd=str(folder)), TIMEOUT)
    except CellExecutionError as error:
        problem = str(error)
    except TimeoutError:
        problem = f"not finished after {TIMEOUT} s; it was in this cell:\n{running.get('source', '(kernel start)')}"
    except Exception as error:  # a kernel that dies or does not start must be a failed chapter, not a lost build
        problem = f"{type(error).__name__}: {error}\nIt was in this cell:\n{running.get('source', '(kernel start)')}"
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr" and not problem:
                problem = f"wrote to stderr, which would stand on the page:\n{output.text}\nfrom this cell:\n{cell.source}"
    return time.perf_counter() - start, problem


def execute_outdated(notebooks, jobs):
    """Execute what the cache does not hold. Returns seconds per notebook, names executed and problems by name."""
    stamp = digest([ROOT / "bncourse", ROOT / "constraints.txt", ROOT / "book" / "results"])
    if not RESULTS_STAMP.exists() or RESULTS_STAMP.read_text() != stamp:
        # jupyter-cache looks at a notebook's code only; what that code calls has changed.
        shutil.rmtree(CACHE, ignore_errors=True)
        RESULTS_STAMP.write_text(stamp)
    cache = get_cache(CACHE)

    seconds, outdated = {}, []
    for path in notebooks:
        try:
            record = cache.match_cache_notebook(nbformat.read(path, as_version=4))
            seconds[path.stem] = record.data["execution_seconds"]
        except KeyError:
            outdated.append(path)
    previous = json.loads((BUILD / "timings.json").read_text()) if (BUILD / "timings.json").exists() else {}
    before = previous.get("chapters", {})
    outdated.sort(key=lambda path: -before.get(path.stem, TIMEOUT))  # the longest first keeps all cores busy to the end

    problems = {}

    async def run_all():
        free = asyncio.Semaphore(jobs)

        async def run(path):
            notebook = nbformat.read(path, as_version=4)
            async with free:
                took, problem = await execute(notebook, path.parent)
            seconds[path.stem] = took
            print(f"  {path.stem:<28}{took:6.1f} s{'  FAILED' if problem else ''}", flush=True)
            if problem:
                problems[path.stem] = problem
                return
            cache.cache_notebook_bundle(CacheBundleIn(notebook, str(path), data={"execution_seconds": took}), overwrite=True)
            # Sphinx looks at the source only and would keep the page with the former results.
            (DOCTREES / path.relative_to(ROOT)).with_suffix(".doctree").unlink(missing_ok=True)

        await asyncio.gather(*map(run, outdated))

    if outdated:
        print(f"Executing {len(outdated)} of {len(notebooks)} chapters, {jobs} at a time:", flush=True)
        asyncio.run(run_all())
    return seconds, [path.stem for path in outdated], problems


def build_pages(runs):
    """Lay out the pages, strictly; `runs` is what they may say about the runs. Returns Jupyter Book's exit code and words."""
    layout = ("_config.yml", "_toc.yml", "constraints.txt", "CITATION.cff", "book/_ext", "book/_static")
    stamp = digest([ROOT / name for name in layout])
    if not PAGES_STAMP.exists() or PAGES_STAMP.read_text() != stamp:
        # Warnings of pages that did not change are not repeated: after a build with warnings, or one cut short, the
        # next has to look at every page again.
        shutil.rmtree(DOCTREES, ignore_errors=True)
    PAGES_STAMP.unlink(missing_ok=True)
    executed_before = len(get_cache(CACHE).list_cache_records())
    done = subprocess.run(
        [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
        + ["build", str(ROOT), "-W", "-n", "--keep-going", "-q"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=os.environ | {"BNCOURSE_RUNS": json.dumps(runs)},
    )
    if len(get_cache(CACHE).list_cache_records()) != executed_before:
        shutil.rmtree(CACHE)
        return 1, done.stdout + "\nJupyter Book executed a notebook itself: build.py and _config.yml disagree."
    if done.returncode == 0:
        PAGES_STAMP.write_text(stamp)
    return done.returncode, done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, help=f"fail if a chapter takes longer than this (always told above {BUDGET} s)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--jobs", type=int, default=cores, help="chapters executed at a time (default: one a core)")
    parser.add_argument("--install-seconds", type=float, default=0, help="what the installation before took, for the summary")
    options = parser.parse_args()

    prepare_environment()
    BUILD.mkdir(exist_ok=True)
    lock = FileLock(BUILD / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Another build of this book is running: waiting for it.", flush=True)
        lock.acquire()

    start = time.perf_counter()
    notebooks = chapters()
    seconds, executed, problems = execute_outdated(notebooks, options.jobs)
    executing = time.perf_counter() - start
    if problems:
        shutil.rmtree(HTML, ignore_errors=True)  # no book rather than one whose chapters and code disagree
        for name, problem in problems.items():
            print(f"\n{'=' * 100}\nbook/{name}.ipynb failed\n{'-' * 100}\n{problem}")
        sys.exit(f"\n{len(problems)} of {len(notebooks)} chapters failed: {', '.join(problems)}. No book was built.")

    start = time.perf_counter()
    code, said = build_pages({"seconds": seconds, "cores": cores})
    building = time.perf_counter() - start
    if code:
        shutil.rmtree(HTML, ignore_errors=True)
        print(said)
        sys.exit(f"Jupyter Book ended with {code} (see the warnings above; each counts as an error). No book was built.")

    seconds = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    timings = {
        "install": round(options.install_seconds, 1),
        "execute": round(executing, 1),
        "build": round(building, 1),
        "executed": executed,
        "chapters": {name: round(took, 1) for name, took in seconds.items()},
    }
    (BUILD / "timings.json").write_text(json.dumps(timings, indent=1) + "\n")

    print("\nSeconds a chapter took when it was last executed:")
    for name, took in seconds.items():
        print(f"  {name:<28}{took:6.1f}" + (f"  WARNING: more than {BUDGET}" if took > BUDGET else ""))
    print(
        f"\ninstall {timings['install']:.0f} s, execute {executing:.0f} s ({len(executed)} of {len(notebooks)} chapters),"
        f" build {building:.0f} s"
    )
    print(f"The book:   {HTML / 'index.html'}\nTo serve it: make serve")
    over = [name for name, took in seconds.items() if options.budget and took > options.budget]
    if over:
        sys.exit(f"over the budget of {options.budget:g} s: {', '.join(over)}")


if __name__ == "__main__":
    main()
