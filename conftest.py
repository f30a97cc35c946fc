"""What all tests share, those of the notebooks included: the package of this checkout, and surroundings as in a build."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT / "book" / "_ext")]
import surroundings  # noqa: E402

# The notebooks' kernels inherit this. What the tests' own tools go by may stay.
TOOLS = ("PYTEST", "COV", "HYPOTHESIS", "PLAYWRIGHT", "BNCOURSE_", "NODE", "XDG_", "DBUS_", "DISPLAY", "COLUMNS", "TERM")
CLEAN = surroundings.environment(kept=TOOLS)
os.environ.clear()
os.environ.update(CLEAN)


def pytest_configure(config):
    if not __debug__:
        raise pytest.UsageError("Python leaves out every assert (PYTHONOPTIMIZE or -O), so no test could fail; unset it")
    if problem := surroundings.unsuitable():
        raise pytest.UsageError(problem)
    import bncourse

    if Path(bncourse.__file__) != ROOT / "bncourse" / "__init__.py":
        raise pytest.UsageError(f"these tests would be of {bncourse.__file__}, and not of {ROOT / 'bncourse'}")


NOTEBOOKS = set(surroundings.tracked("*.ipynb"))


def pytest_ignore_collect(collection_path, config):
    """A notebook that git does not keep (Untitled.ipynb, a copy, a checkpoint) is no part of the course; one that is named on
    the command line is tried all the same."""
    return True if collection_path.suffix == ".ipynb" and collection_path not in NOTEBOOKS else None


def pytest_report_header(config):
    strays = {path for folder in ("book", "exercises") for path in (ROOT / folder).rglob("*.ipynb")} - NOTEBOOKS
    names = sorted(str(path.relative_to(ROOT)) for path in strays if ".ipynb_checkpoints" not in path.parts)
    return f"not in git, so not tested: {', '.join(names)}" if names else None


@pytest.fixture(autouse=True)
def no_study_before():
    """As in a fresh kernel: no study of another test has said which numbers a sentence may hold."""
    from bncourse import figures

    figures.settings.clear()


@pytest.fixture(scope="session")
def unavailable():
    """`unavailable(why)`: skips the test, because this machine has not what it needs; in CI, where all is there, fails it."""

    def stop(why):
        (pytest.fail(why, pytrace=False) if os.environ.get("CI") else pytest.skip(why))

    return stop


def pytest_xdist_make_scheduler(config, log):
    """Keep on one worker the cells of a notebook (one kernel) and the tests of the book (one build, one browser), but not those of
    test_build.py: each of them has a tiny book of its own."""
    # xdist_group marks would say it more plainly, but xdist 3.8 ignores them under pytest 9.
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            if nodeid.startswith("tests/book/") and not nodeid.startswith("tests/book/test_build.py"):
                return "tests/book"
            file, _, _ = nodeid.partition("::")
            return file if file.endswith(".ipynb") else nodeid

    return Together(config, log)
