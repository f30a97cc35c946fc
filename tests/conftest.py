"""What all tests share."""

import os

# Two workers with many threads each would fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_make_scheduler(config, log):
    """Keep on one worker the cells of a notebook (one kernel) and the tests of the book (one build, one browser)."""
    # xdist_group marks would say it more plainly, but xdist 3.8 ignores them under pytest 9.
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            if nodeid.startswith("tests/book/"):
                return "tests/book"
            file, _, _ = nodeid.partition("::")
            return file if file.endswith(".ipynb") else nodeid

    return Together(config, log)
