"""Chapters again with seeds they were not written with: their verdicts, which they assert themselves, have to hold.

And with every slider driven over its whole range, as a reader with a kernel would. All chapters take a quarter of an hour, and
book/blocks.csv is a record of the same. So a chapter is tried here if it is not in that record as it is, and some of the others are.

    BNCOURSE_CHAPTERS=all .venv/bin/python -m pytest tests/notebooks/test_other_seeds.py -n 2
"""

import asyncio
import os
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "colab"), str(ROOT / "book")]
from blocks import recorded  # noqa: E402
from build import digest, execute  # noqa: E402
from sliders import with_sliders_driven  # noqa: E402
from surroundings import tracked  # noqa: E402
from told import first_seed  # noqa: E402

SETTING = re.compile(r"^FIRST_SEED = (0|None)\b", re.M)
SEED = 100  # the build has other ones: they follow from the code
CHAPTERS = tracked("book/[0-9][0-9]_*.ipynb")
BLOCKS, DRAWN = 5, 6  # in so many blocks of seeds a chapter has to be recorded; so many of those that are, are tried all the same


def due(chapters, everything=os.environ.get("BNCOURSE_CHAPTERS") == "all"):
    """What is not recorded, and a few that are drawn: the package decides which, so no chapter does for itself."""
    record, code = recorded(), {path: first_seed(nbformat.read(path, 4)) for path in chapters}
    known = set()
    for path in chapters:
        rows = record[(record.chapter == path.stem) & (record.code == code[path])]
        through = rows.groupby("block").verdict.apply(lambda verdicts: "stopped" not in set(verdicts))
        if through.sum() >= BLOCKS:
            known.add(path)
    drawn = random.Random(digest([ROOT / "bncourse"])).sample(sorted(known), len(known) if everything else min(DRAWN, len(known)))
    return [path for path in chapters if path not in known or path in drawn]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_reader_can_choose_the_seeds(path):
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    found = [source for source in code if SETTING.search(source)]
    assert len(found) == 1, f"{path.name} needs one settings cell with the line 'FIRST_SEED = None'; it has {len(found)}"


@pytest.mark.slow
@pytest.mark.parametrize("path", due(CHAPTERS), ids=lambda path: path.stem)
def test_chapter(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = SETTING.sub(f"FIRST_SEED = {SEED}", cell.source)
    with_sliders_driven(notebook)
    # In a thread of its own: Playwright leaves an event loop running in the worker it has been used in.
    with ThreadPoolExecutor(1) as alone:
        _, problem = alone.submit(asyncio.run, execute(notebook, path.parent)).result()
    if problem:
        pytest.fail(f"{path.name} with FIRST_SEED = {SEED}:\n{problem}", pytrace=False)
