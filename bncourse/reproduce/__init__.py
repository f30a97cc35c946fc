"""The experiments of the chapters at the paper's own scale, or small: lists of runs, and what carries them out.

``python -m bncourse reproduce NAME``, or ``reproduce(NAME)`` from Python, which needs neither typer nor rich nor anything that
draws. The networks, ``train`` and the probes are those of the chapters.
"""

from bncourse.reproduce.catalogue import EXPERIMENTS
from bncourse.reproduce.experiment import SCALES, SEEDS, Experiment
from bncourse.reproduce.folder import ReproduceError
from bncourse.reproduce.runner import Plan, reproduce
from bncourse.reproduce.runs import Run, fingerprint

__all__ = ["EXPERIMENTS", "SCALES", "SEEDS", "Experiment", "Plan", "ReproduceError", "Run", "fingerprint", "reproduce"]
