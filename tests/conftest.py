"""What all tests share."""

import os

import pytest

# Two workers with many threads each would fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep together, on one worker, the cells of a notebook (one kernel) and the tests of the book (one build)."""
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        elif item.path.parent.name == "book":
            item.add_marker(pytest.mark.xdist_group("book"))
