"""Runs in the twin: executes one notebook in the current folder, with its sliders driven; prints how it went."""

import sys
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from sliders import moves, with_sliders_driven

notebook = nbformat.read(sys.argv[1], as_version=4)
driven = with_sliders_driven(notebook)
start = time.perf_counter()
try:
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
except CellExecutionError as error:
    sys.exit(str(error))
print(f"{time.perf_counter() - start:5.0f} s  {moves(notebook) if driven else ''}")
# Not an error, but a reader would see it.
warnings = [output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
if warnings:
    print(f"     {len(warnings)} × stderr, first:\n{warnings[0].rstrip()}")
