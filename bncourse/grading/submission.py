"""Reading a folder of notebooks of which any may be broken. What cannot be read says what to do about it, and what is no
submission is named: nobody vanishes."""

import json
import os
import re
import stat
from pathlib import Path

from .feedback import GradingError

LARGEST = 20 * 2**20  # bytes; a notebook of an exercise has some 20 kB
KINDS = re.compile(r".*\.(ipynb|py)(\.txt|\.json)?|.*\.json", re.IGNORECASE | re.DOTALL)  # browsers save as .ipynb.txt or .json
NOBODYS = {"__MACOSX", ".ipynb_checkpoints", "__pycache__", ".git", ".DS_Store", "Thumbs.db", "desktop.ini"}


class Unreadable(Exception):
    """This submission cannot be graded as it is; the message is meant for whoever handed it in."""


def find(folder: Path, exercise: str = "") -> tuple[Path, list[Path], dict[Path, str]]:
    """The folder, the submissions in it, in order, and why each other file is none; also in subfolders, as a learning
    platform packs them. A single notebook counts as a folder of one. Raises `GradingError` when there is nothing to grade."""
    if folder.is_file() and folder.suffix.lower() in (".ipynb", ".py"):
        return folder.parent, [folder], {}
    if not folder.exists():
        raise GradingError(f"there is no {folder}; pass the folder with the notebooks to grade")
    if not folder.is_dir():
        raise GradingError(f"{folder} is neither a folder nor a notebook (.ipynb)")
    found, others = [], {}
    for place, folders, files in os.walk(folder):  # does not follow links to folders
        links = [name for name in folders if Path(place, name).is_symlink()]
        others |= {Path(place, name): "a link to a folder; put the folder itself there" for name in links}
        named_so = [name for name in folders if name.lower().endswith(".ipynb")]
        folders[:] = sorted(set(folders) - NOBODYS - set(links))
        for name in sorted(files + named_so):
            path = Path(place, name)
            if name in NOBODYS or name.startswith("._"):  # what macOS adds to an archive
                continue
            of = re.match(r"ex\d\d(?=_)", name.lower())
            if not KINDS.fullmatch(name):
                others[path] = "unpack it first" if path.suffix.lower() in (".zip", ".tar", ".gz", ".rar", ".7z") else "not a notebook"
            elif exercise and of and of[0] != exercise:
                others[path] = f"exercise {int(of[0][2:])}"
            else:
                found.append(path)
    if not found:
        raise GradingError(f"no notebook (.ipynb) in {folder}; unpack the submissions there first")
    return folder, found, others


def read_bytes(path: Path, folder: Path) -> bytes:
    """The file's content. Refuses links, which might lead to a neighbour's, and anything but a regular file of a sane size."""
    try:
        if path.is_symlink():
            raise Unreadable("This is a link to another file. Hand in the notebook itself.")
        # Not blocking: opening a named pipe would otherwise wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise Unreadable("This is not a file. Hand in the notebook itself.")
            if about.st_nlink > 1:
                raise Unreadable("This is one file under several names (a hard link). Copy the files (cp -r) and grade the copy.")
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


def code_cells(content: bytes, name: str = "") -> list[str]:
    """The sources of the code cells. Extra cells and foreign metadata (Colab's) do no harm. `name`: of the file; a script has
    its cells between lines that begin with `# %%`, or is all one."""
    again = "Open it in Jupyter or Colab, save, and hand it in again."
    if not content.strip():
        raise Unreadable("The file is empty. Save the notebook and hand it in again.")
    if name.lower().endswith(".py"):
        return re.split(r"^# (?:%%|In\[).*$", content.decode("utf-8-sig", "replace"), flags=re.MULTILINE)
    try:
        notebook = json.loads(content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"))
    except (ValueError, RecursionError):
        raise Unreadable(f"The file is not a whole notebook: its JSON is broken or cut off. {again}") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise Unreadable(f"The file is JSON, but not a notebook of format 4: it has no list of cells. {again}")
    sources = [source(cell) for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    if not any(s.strip() for s in sources):
        raise Unreadable("The notebook has no code cells. Was the right file handed in?")
    return sources


def alike(codes: dict[str, list[str]], given: list[str], share: float = 0.9, fewest: int = 8) -> list[tuple[str, str, float]]:
    """Pairs of submissions that have (nearly) the same code of their own: names, and the share of lines in common, the
    most alike first. Layout, comments and what variables are called do not count, nor do lines of the notebook that was
    `given` to all; of fewer than `fewest` lines two honest students may well write the same."""

    def lines(cells: list[str]) -> frozenset[str]:
        plain = (re.sub(r"#.*|\s+", "", line) for cell in cells for line in cell.splitlines())
        return frozenset(re.sub(r"(?<![.\w])[^\W\d]\w*", "_", line) for line in plain) - {""}

    everybodys = lines(given)
    own = {name: lines(cells) - everybodys for name, cells in codes.items()}
    own = sorted((name, code) for name, code in own.items() if len(code) >= fewest)
    pairs = [(a, b, len(x & y) / len(x | y)) for n, (a, x) in enumerate(own) for b, y in own[n + 1 :]]
    return sorted((pair for pair in pairs if pair[2] >= share), key=lambda pair: -pair[2])


def source(cell: dict) -> str:
    text = cell.get("source", "")
    if isinstance(text, list):
        text = "".join(line for line in text if isinstance(line, str))
    return text if isinstance(text, str) else ""
