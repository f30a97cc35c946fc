"""Every chapter again with other seeds: how often does a verdict come out as the chapter says? Writes book/blocks.csv.

    .venv/bin/python book/blocks.py 20 15_verdict        # blocks 1 to 20 of one chapter, or of all; half a minute each

What the file already holds of the same code is not run again. "How far to trust a verdict" shows it as a table.
"""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
from build import execute  # noqa: E402
from surroundings import tracked  # noqa: E402
from told import first_seed, told  # noqa: E402

RECORD = HERE / "blocks.csv"
BLOCK = 1_000  # seeds of a block begin at its number times this: more than any chapter needs
COLUMNS = ["chapter", "code", "block", "claim", "as_expected", "verdict", "mean", "low", "high"]


def recorded():
    return pd.read_csv(RECORD) if RECORD.exists() else pd.DataFrame(columns=COLUMNS)


def tried(path, block):
    """A row per claim of a chapter with the seeds of a block, and one without a claim if the chapter stopped."""
    notebook = nbformat.read(path, as_version=4)
    code = first_seed(notebook)
    _, problem = asyncio.run(execute(notebook, path.parent, seed=BLOCK * block))
    rows = [[path.stem, code, block, claim["id"], claim["as_expected"], claim["verdict"], *(claim[end] for end in ("mean", "low", "high"))]
            for claim in told(notebook)["claims"]]
    if problem:
        print(f"{path.stem}, block {block}: {problem}", file=sys.stderr)
        rows.append([path.stem, code, block, "", False, "stopped", None, None, None])
    return rows


def main(blocks, *names):
    os.environ |= {"BNCOURSE_BOOK": "1", "BNCOURSE_STRICT": "0", "OMP_NUM_THREADS": "1"}
    chapters = [path for path in tracked("book/[0-9][0-9]_*.ipynb") if not names or path.stem in names]
    codes = {path.stem: first_seed(nbformat.read(path, as_version=4)) for path in chapters}
    record = recorded()
    record = record.loc[[codes.get(name, code) == code for name, code in zip(record.chapter, record.code)]]
    known = set(zip(record.chapter, record.block))
    todo = [(path, block) for block in range(1, int(blocks) + 1) for path in chapters if (path.stem, block) not in known]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for rows in pool.map(lambda one: tried(*one), todo):
            record = pd.concat([record, pd.DataFrame(rows, columns=COLUMNS)], ignore_index=True)
            record.sort_values(["chapter", "block", "claim"]).to_csv(RECORD, index=False, float_format="%.4g")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["20"])
