"""Graded exercises: checks that teach, a sandbox for student code, and a grader for a folder of notebooks.

    exercise(...)            what a notebook calls: instant feedback from the public checks
    ex01, …                  one exercise a module: its questions, their properties, their misconceptions
    calls, shortcuts         how an answer is called, and what is watched while it runs
    cells                    how the cells of a notebook are run
    sandbox, worker, wire    student code runs in another process and can only answer calls
    preloaded                what that process is forked from, because importing torch takes seconds
    submission, batch        reading notebooks that may be broken, grading a folder of them
    masters                  the student notebook is generated from the master

One rule holds it together: the check runs here, in the process that gives the points, and it is the same code in the
notebook and in the grader. So what passes locally passes at grading, and there is no hidden test to read or to patch.
"""

__all__ = ["exercise", "show"]


def exercise(name: str, namespace: dict):
    """The checks of an exercise for the answers in `namespace` (a notebook passes `globals()`).

    Returns a `check`: `check("q1")` gives feedback on one question, `check()` on all of them.
    """
    import os

    if os.environ.get("BNCOURSE_WORKER"):  # graded in another process: here there is nothing to check
        return lambda *_: None
    from .checks import NotebookCheck  # imported here because it needs torch, and `bncourse grade --help` does not

    return NotebookCheck(name, namespace)


def show(experiment, *args, **kwargs):
    """Runs `experiment(*args, **kwargs)` in your notebook and gives back what it returns. When the notebook is graded it
    does nothing: an experiment to look at is nothing to be graded, and a class of 200 would have to wait for it."""
    import os

    return None if os.environ.get("BNCOURSE_WORKER") else experiment(*args, **kwargs)
