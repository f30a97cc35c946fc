"""Answers as text and as notebooks: what the exercise tests hand in."""

import json
from pathlib import Path

import nbformat
from surroundings import tracked

ROOT = Path(__file__).resolve().parents[2]
MASTERS = tracked("exercises/masters/ex*.ipynb")
STUDENTS = tracked("exercises/ex*.ipynb")
MASTER, STUDENT = MASTERS[0], STUDENTS[0]  # exercise 1, where any will do


def cells_of(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def notebook(path: Path, *cells: str) -> Path:
    """Writes a notebook with these code cells, without any of the care that Jupyter takes."""
    content = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells]
    path.write_text(json.dumps({"cells": content, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path
