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
took = time.perf_counter() - start
# What a reader would see there and not here: older versions warn of other things.
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        if output.get("name") == "stderr":
            sys.exit(f"wrote to stderr:\n{output.text}\nfrom this cell:\n{cell.source}")
print(f"{took:5.0f} s  {moves(notebook) if driven else ''}")
