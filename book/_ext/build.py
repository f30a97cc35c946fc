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
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jupyter_cache.cache.main
import nbformat
import sqlalchemy
import yaml
from filelock import FileLock, Timeout
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.cache.db import OrmBase
from jupyter_cache.cache.main import JupyterCacheBase
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

sys.path.insert(0, str(Path(__file__).resolve().parent))  # not there by itself under PYTHONSAFEPATH
import surroundings  # noqa: E402
from told import first_seed, told  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "_build"
HTML = BUILD / "html"
CACHE = BUILD / ".jupyter_cache"
DOCTREES = BUILD / ".doctrees"
RESULTS_STAMP = BUILD / "results.stamp"  # what the cached results were computed with
PAGES_STAMP = BUILD / "pages.stamp"  # what the pages were laid out with; only there after a build without warnings
TOLD = BUILD / "told.json"  # what the chapters measured, for the pages that gather it

BUDGET = 40  # seconds a chapter may take on two cores
TIMEOUT = 300  # seconds after which a chapter is given up
COLOURS = re.compile(r"\x1b\[[\d;]*m")  # a traceback's, which stand between its words in a log


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
        total.update(os.fsencode(file.relative_to(ROOT)) + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


def read(path):
    """What an earlier build noted there; "" where there is nothing, or nothing that can be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""


def write(path, text):
    """All of it or nothing, also when the disk is full or somebody ends the build in between."""
    whole = path.with_name(f"{path.name}.new")
    whole.write_text(text, "utf-8")
    os.replace(whole, path)


def remove(folder):
    """Unlike rmtree, does not mind that the folder is not there, and minds that it cannot be removed."""
    if folder.exists():
        shutil.rmtree(folder)


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


def load(path):
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        sys.exit(f"{path.relative_to(ROOT)} is not a notebook that can be read ({error}). No book was built.")


def create_db(folder):
    """The database of a cache. jupyter-cache writes the folder into an address, where a % or a ? has a meaning."""
    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(Path(folder, "global.db"))))
    OrmBase.metadata.create_all(engine)
    return engine


jupyter_cache.cache.main.create_db = create_db


def open_cache():
    """The cache of executed chapters; an empty one where it is damaged."""
    try:
        cache = JupyterCacheBase(CACHE)
        with cache.db.connect() as database:
            sound = database.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        if sound:
            cache.list_cache_records()
            return cache
    except Exception as error:  # whatever is wrong with it: a cache may always be made anew
        print(f"The cache of executed chapters cannot be read ({type(error).__name__}): it is made anew.", flush=True)
    remove(CACHE)
    return JupyterCacheBase(CACHE)


def bundle(cache, notebook, path, took):
    """A chapter as it goes into the cache, with a hash of what will lie there, and the seeds that it had."""
    kept, _ = cache.create_hashed_notebook(notebook)
    text = nbformat.writes(kept, nbformat.NO_CONVERT)
    data = {"execution_seconds": took, "sha256": hashlib.sha256(text.encode()).hexdigest(), "first_seed": first_seed(notebook)}
    return CacheBundleIn(notebook, path.relative_to(ROOT).as_posix(), data=data)


def seconds_if_cached(cache, path):
    """How long a chapter took, if the cache holds it, whole and unchanged; else None."""
    try:
        notebook = load(path)
        record = cache.match_cache_notebook(notebook)
        held = read(CACHE / "executed" / record.hashkey / "base.ipynb")
        sound = hashlib.sha256(held.encode()).hexdigest() == record.data["sha256"]
        return record.data["execution_seconds"] if sound and record.data["first_seed"] == first_seed(notebook) else None
    except (KeyError, TypeError):
        return None


async def execute(notebook, folder, seed=None):
    """Run a notebook in place, from a folder, with the seeds of its code or others. Returns the seconds it took and what went wrong (None if nothing did)."""
    running = {}
    environment = os.environ | {
        "PYTHONSAFEPATH": "1",  # a random.py that lies beside a chapter is not Python's random
        "BNCOURSE_FIRST_SEED": str(first_seed(notebook) if seed is None else seed),
    }
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
        await asyncio.wait_for(client.async_execute(cwd=str(folder), env=environment), TIMEOUT)
    except CellExecutionError as error:
        problem = COLOURS.sub("", str(error))
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
    if read(RESULTS_STAMP) != stamp:
        # jupyter-cache looks at a notebook's code only; what that code calls has changed.
        remove(CACHE)
        write(RESULTS_STAMP, stamp)
    cache = open_cache()

    seconds = {path.stem: took for path in notebooks if (took := seconds_if_cached(cache, path)) is not None}
    outdated = [path for path in notebooks if path.stem not in seconds]
    try:
        before = {name: float(took) for name, took in json.loads(read(BUILD / "timings.json"))["chapters"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        before = {}  # the first build, or one that was cut off
    outdated.sort(key=lambda path: -before.get(path.stem, TIMEOUT))  # the longest first keeps all cores busy to the end

    problems = {}

    async def run_all():
        free = asyncio.Semaphore(jobs)

        async def run(path):
            notebook = load(path)
            async with free:
                took, problem = await execute(notebook, path.parent)
            seconds[path.stem] = took
            print(f"  {path.stem:<28}{took:6.1f} s{'  FAILED' if problem else ''}", flush=True)
            if problem:
                problems[path.stem] = problem
                return
            try:
                cache.cache_notebook_bundle(bundle(cache, notebook, path, took), overwrite=True)
            except (OSError, RuntimeError, sqlalchemy.exc.SQLAlchemyError) as error:
                problems[path.stem] = f"its results cannot be kept in {CACHE}: {error}"
                return
            # Sphinx looks at the source only and would keep the page with the former results.
            (DOCTREES / path.relative_to(ROOT)).with_suffix(".doctree").unlink(missing_ok=True)

        await asyncio.gather(*map(run, outdated))

    if outdated:
        if problem := surroundings.prove(os.environ, ROOT):
            sys.exit(f"No chapter was executed: {problem}")
        print(f"Executing {len(outdated)} of {len(notebooks)} chapters, {jobs} at a time:", flush=True)
        asyncio.run(run_all())
    return seconds, [path.stem for path in outdated], problems


def all_told(notebooks):
    """What each chapter told when it was executed, by page."""
    cache = JupyterCacheBase(CACHE)
    names = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in notebooks}
    return {name: told(cache.get_cache_bundle(cache.match_cache_notebook(load(path)).pk).nb) for name, path in names.items()}


def build_pages(runs, say):
    """Lay out the pages, strictly; `runs` is what they may tell about the runs, `say` what the chapters told. Returns Jupyter
    Book's exit code and words."""
    layout = ("_config.yml", "_toc.yml", "constraints.txt", "CITATION.cff", "book/_ext", "book/_static", "book/bench")
    stamp = digest([ROOT / name for name in layout])
    if read(PAGES_STAMP) != stamp:
        # Warnings of pages that did not change are not repeated: after a build with warnings, or one cut short, the
        # next has to look at every page again.
        remove(DOCTREES)
    PAGES_STAMP.unlink(missing_ok=True)
    write(TOLD, json.dumps(say))
    executed_before = len(JupyterCacheBase(CACHE).list_cache_records())
    done = subprocess.run(
        [sys.executable, __file__, "--jupyter-book", "build", str(ROOT), "-W", "-n", "--keep-going", "-q"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"BNCOURSE_RUNS": json.dumps(runs), "BNCOURSE_TOLD": str(TOLD)},
    )
    if len(JupyterCacheBase(CACHE).list_cache_records()) != executed_before:
        remove(CACHE)
        return 1, done.stdout + "\nJupyter Book executed a notebook itself: build.py and _config.yml disagree."
    if done.returncode == 0:
        write(PAGES_STAMP, stamp)
    return done.returncode, done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, help=f"fail if a chapter takes longer than this (always told above {BUDGET} s)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--jobs", type=int, default=cores, help="chapters executed at a time (default: one a core)")
    parser.add_argument("--install-seconds", type=float, default=0, help="what the installation before took, for the summary")
    options = parser.parse_args()

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a chapter may fail with a σ that this console does not have
    if problem := surroundings.unsuitable(ROOT):
        sys.exit(f"No book was built: {problem}.")
    clean = surroundings.environment(ROOT) | {"BNCOURSE_BOOK": "1"}  # widgets draw every frame: the page has no kernel to ask
    os.environ.clear()
    os.environ.update(clean)
    lock = FileLock(BUILD / ".lock")
    try:
        BUILD.mkdir(exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        print("Another build of this book is running: waiting for it.", flush=True)
        lock.acquire()
    except OSError as error:
        sys.exit(f"No book was built: cannot write to {BUILD} ({error.strerror or error}).")

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
    code, said = build_pages({"seconds": seconds, "cores": cores}, all_told(notebooks))
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
    write(BUILD / "timings.json", json.dumps(timings, indent=1) + "\n")

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
    if sys.argv[1:2] == ["--jupyter-book"]:  # in a process of its own, but with this cache
        from jupyter_book.cli.main import main as jupyter_book

        jupyter_book(sys.argv[2:])
    else:
        main()
