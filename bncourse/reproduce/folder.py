"""Where finished runs are kept: a file each, so that whoever is stopped at any moment loses only what was under way."""

import gzip
import hashlib
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from bncourse.reproduce.runs import Run

ENDING = ".run.gz"


class ReproduceError(RuntimeError):
    """What a person can put right, in one line."""


class FolderError(ReproduceError):
    """A folder that cannot be used, with what to do about it."""


def pack(key: str, facts: dict, frame: pd.DataFrame) -> bytes:
    """The content of a file: a line that says whose it is and a hash of the next, then the facts and the frame, every number
    to its last bit."""
    body = json.dumps({"facts": facts, "frame": {name: frame[name].tolist() for name in frame.columns}})
    head = json.dumps({"key": key, "sha256": hashlib.sha256(body.encode()).hexdigest()})
    return gzip.compress(f"{head}\n{body}\n".encode(), 5, mtime=0)


def unpack(key: str, content: bytes) -> tuple[dict, pd.DataFrame]:
    """The facts and the frame.

    Raises:
        ValueError: it is damaged, or another run's.
    """
    try:
        head, body, _ = gzip.decompress(content).decode().split("\n")
        head = json.loads(head)
        if head["key"] != key:
            raise ValueError(f"it holds another run, {head['key']}")
        if hashlib.sha256(body.encode()).hexdigest() != head["sha256"]:
            raise ValueError("its SHA-256 differs")
        body = json.loads(body)
        return body["facts"], pd.DataFrame(body["frame"])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"cut off or damaged: {type(error).__name__}") from error


class Folder:
    """The finished runs of one experiment with one set of settings."""

    def __init__(self, path: Path, settings: dict) -> None:
        self.path, self.settings = Path(path), settings

    @contextmanager
    def ours(self):
        """Nobody else writes here meanwhile, and what lies here was computed with the same settings.

        Raises:
            FolderError: in use, of other settings, full of something else, not writable.
        """
        from filelock import FileLock, Timeout  # torch brings it along.

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise FolderError(f"{self.path} is in use by another process that runs the same experiment; wait for it, end it, "
                              "or give another --out") from None
        except OSError as error:
            raise FolderError(f"cannot write to {self.path} ({error.strerror or error}); give another --out") from error
        try:
            for left in self.path.glob(".*.tmp"):  # What somebody who was killed was writing.
                left.unlink(missing_ok=True)
            self._check_settings()
            yield self
        finally:
            lock.release()

    def _check_settings(self) -> None:
        path = self.path / "settings.json"
        if not path.exists():
            others = [each.name for each in self.path.iterdir() if each.name != ".lock"]
            if others:
                raise FolderError(f"{self.path} holds other files ({', '.join(sorted(others)[:3])}) and no settings.json; give "
                                  "another --out")
            self._write(path, json.dumps(self.settings, indent=1).encode())
            return
        try:
            theirs = json.loads(path.read_text("utf-8"))
            different = [name for name in self.settings if theirs.get(name) != self.settings[name]]
        except (ValueError, AttributeError) as error:
            raise FolderError(f"{path} cannot be read ({error}), so nobody can tell whose runs these are; delete {self.path} "
                              "or give another --out") from error
        if different:
            told = ", ".join(f"{name} {_short(theirs.get(name))} there, {_short(self.settings[name])} here"
                             for name in different)
            raise FolderError(f"{self.path} belongs to other settings ({told}); give another --out, or delete it")

    def finished(self, runs: Sequence[Run]) -> dict[str, tuple[dict, pd.DataFrame]]:
        """Facts and frame of each run that is done, by key. A damaged file is put aside, and said."""
        found = {}
        for run in runs:
            path = self.path / (run.key() + ENDING)
            if not path.exists():
                continue
            try:
                found[run.key()] = unpack(run.key(), path.read_bytes())
            except ValueError as error:
                number = 1
                while (aside := path.with_name(f"{run.key()}.damaged-{number}")).exists():
                    number += 1
                os.replace(path, aside)
                print(f"bncourse: {path.name} ({error}) is put aside as {aside.name}, and its run is done again",
                      file=sys.stderr)
        return found

    def keep(self, key: str, content: bytes) -> None:
        self._write(self.path / (key + ENDING), content)

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_whole(path, content)
        except OSError as error:
            count = len(list(self.path.glob("*" + ENDING)))
            raise FolderError(f"cannot write {path} ({error.strerror or error}); {count} finished runs are kept in "
                              f"{self.path}: make room and run the same command again") from error


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing, also if the power fails in between: a temporary file beside it, then a new name."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's own 0600 would hide it from the others of a group.
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # The new name, too, has to reach the disk.
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
