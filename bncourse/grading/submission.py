"""Reading a folder of notebooks of which any may be broken. What cannot be read says what to do about it."""

import json
import os
import stat
from pathlib import Path

from .feedback import GradingError

LARGEST = 20 * 2**20  # bytes; a notebook of an exercise has some 20 kB


class Unreadable(Exception):
    """This submission cannot be graded as it is; the message is meant for whoever handed it in."""


def find(folder: Path) -> tuple[Path, list[Path]]:
    """The folder and its notebooks, in order; also in subfolders, as a learning platform packs them. A single notebook
    counts as a folder of one. Raises `GradingError` when there is nothing to grade."""
    if folder.is_file() and folder.suffix == ".ipynb":
        return folder.parent, [folder]
    if not folder.exists():
        raise GradingError(f"there is no {folder}; pass the folder with the notebooks to grade")
    if not folder.is_dir():
        raise GradingError(f"{folder} is neither a folder nor a notebook (.ipynb)")
    notebooks = []
    for place, folders, files in os.walk(folder):  # does not follow links to folders
        folders[:] = sorted(f for f in folders if f != ".ipynb_checkpoints")
        names = files + [f for f in folders if f.endswith(".ipynb")]
        notebooks += [Path(place, name) for name in sorted(names) if name.endswith(".ipynb")]
    if not notebooks:
        raise GradingError(f"no notebook (.ipynb) in {folder}; unpack the submissions there first")
    return folder, notebooks


def read_bytes(path: Path, folder: Path) -> bytes:
    """The file's content. Refuses links that leave the folder, and anything but a regular file of a sane size."""
    try:
        if not path.resolve(strict=True).is_relative_to(folder.resolve()):
            raise Unreadable("This is a link to a file outside of the folder. Hand in the notebook itself.")
        # Not blocking: opening a named pipe would otherwise wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise Unreadable("This is not a file. Hand in the notebook itself.")
            if about.st_size > LARGEST:
                raise Unreadable(
                    f"The file has {about.st_size / 2**20:.0f} MB, the limit is {LARGEST / 2**20:.0f}. Clear all outputs, "
                    "save, and hand it in again."
                )
            return file.read(LARGEST + 1)
    except FileNotFoundError:
        raise Unreadable("The file is missing: a link that leads nowhere. Hand in the notebook itself.") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise Unreadable(f"The file cannot be opened ({type(error).__name__}). Hand it in again.") from None


def code_cells(content: bytes) -> list[str]:
    """The sources of the code cells. Extra cells and foreign metadata (Colab's) do no harm."""
    again = "Open it in Jupyter or Colab, save, and hand it in again."
    if not content.strip():
        raise Unreadable("The file is empty. Save the notebook and hand it in again.")
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise Unreadable(f"The file is not a whole notebook: its JSON is broken or cut off. {again}") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise Unreadable(f"The file is JSON, but not a notebook of format 4: it has no list of cells. {again}")
    sources = [source(cell) for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    if not any(s.strip() for s in sources):
        raise Unreadable("The notebook has no code cells. Was the right file handed in?")
    return sources


def source(cell: dict) -> str:
    text = cell.get("source", "")
    if isinstance(text, list):
        text = "".join(line for line in text if isinstance(line, str))
    return text if isinstance(text, str) else ""
