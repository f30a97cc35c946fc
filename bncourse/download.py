"""One file from any of several servers, whatever they do: ``fetch``.

Servers hang, trickle, cut off, and send a web page where the file should be. So nothing counts as there before pooch has checked
its hash, what has come is kept in ``NAME.part`` for the next server or the next try, and silence has an end."""

import os
import queue
import re
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONNECT = 5.0  # seconds to reach one address of a server
PATIENCE = 15.0  # seconds for an answer, and then for each next CHUNK: three silent servers take 45 s
CHUNK = 128 * 1024  # bytes; one every PATIENCE seconds, 9 kB/s, is the slowest we put up with
TRIES = 3  # at one server, as long as each try brought us further
WAIT = 50.0  # seconds that another process may hold the download without getting further


@dataclass(frozen=True)
class File:
    """A file as its authors published it."""

    name: str
    size: int  # bytes
    sha256: str


class ServerError(Exception):
    """What a server did wrong."""


class CutOff(ServerError):
    """The connection ended early: the same server may well send the rest."""


def fetch(file: File, mirrors: tuple[str, ...], folder: Path) -> Path:
    """Download ``file`` from the first of ``mirrors`` (addresses of folders, ending in a slash) that has it, into ``folder``.
    Raises RuntimeError: no server had it, the disk did not take it, or another process hangs; says which and what to do."""
    import pooch
    pooch.get_logger().setLevel("WARNING")  # A chapter prints nothing on standard error.
    part, tried = folder / f"{file.name}.part", []
    try:
        with _alone(file, part), _progress(file) as show:
            def download(url: str, checked: str, _) -> None:
                os.remove(checked)  # pooch's empty file, which would stay for ever if we were killed on the way.
                _resume(url, part, file.size, show)
                os.replace(part, checked)

            for mirror in mirrors:
                for _ in range(TRIES):
                    had = _size(part)
                    try:
                        # pooch checks the hash and moves the file to its name in one step; or deletes it and complains.
                        return Path(pooch.retrieve(mirror + file.name, f"sha256:{file.sha256}", file.name, folder,
                                                   downloader=download))
                    except ServerError as error:
                        reason, again = error, isinstance(error, CutOff) and _size(part) > had
                    except ValueError:  # Perhaps of what was here before, and not of what this server sent: it is gone now.
                        reason, again = "sent other bytes than the authors published (the SHA-256 differs)", had > 0
                    if not again:
                        break
                tried.append(f"{mirror}{file.name}: {reason}")
    except OSError as error:  # The disk's: what comes from a server is a ServerError.
        raise RuntimeError(f"cannot write {file.name} ({file.size / 1e6:.3g} MB) to {folder}: {error.strerror or error}. Make "
                           "room there, or set BNCOURSE_DATA to another folder; the next try goes on there") from error
    raise RuntimeError(f"{file.name} is not in {folder} and could not be downloaded:\n  " + "\n  ".join(tried) +
                       f"\n{_size(part):,} of {file.size:,} bytes came and are kept: run this again, and it goes on from there. "
                       'Or put the file into a folder and set BNCOURSE_DATA to it, or use DATASET = "digits", which needs none')


def _resume(url: str, part: Path, size: int, show) -> None:
    """Bring ``part`` to ``size`` bytes. A thread does all that can hang (names, redirects, headers, a trickle); here we wait
    for it no longer than PATIENCE at a time, and only here is written, so that a thread given up can do no harm."""
    arrived, stop = queue.SimpleQueue(), threading.Event()

    def take(what: str):
        try:
            item = arrived.get(timeout=PATIENCE)
        except queue.Empty:
            raise ServerError(f"{what} within {PATIENCE:g} s") from None
        if isinstance(item, Exception):
            raise item
        return item

    have = _size(part)
    if have == size:
        return  # We were stopped after the last byte and before the check.
    threading.Thread(target=_receive, args=(url, have if have < size else 0, size, arrived, stop), daemon=True).start()
    try:
        have = take("no answer")
        with open(part, "ab" if have else "wb") as file:
            while have < size and (chunk := take(f"fewer than {CHUNK:,} bytes came")):
                file.write(chunk[:size - have])
                have += len(chunk)
                show(have)
    finally:
        stop.set()
    if have < size:
        raise CutOff(f"ended at {have:,} of {size:,} bytes")


def _receive(url: str, start: int, size: int, arrived: queue.SimpleQueue, stop: threading.Event) -> None:
    """Put there where the server begins, then what it sends, then b"" at the end; or what went wrong."""
    import requests
    # Without compression on the way, so that bytes are counted as they lie in the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT, 2 * PATIENCE)) as response:
            response.raw.enforce_content_length = False  # _resume counts, and keeps what came before the end.
            arrived.put(_begins(response, start, size))
            while not stop.is_set() and (chunk := response.raw.read(CHUNK)):
                arrived.put(chunk)
        arrived.put(b"")
    except ServerError as error:
        arrived.put(error)
    except requests.ConnectTimeout:
        arrived.put(CutOff(f"could not be reached within {CONNECT:g} s"))
    except Exception as error:  # Of requests, urllib3, ssl, socket: the connection failed. In the system's words, if it has any.
        cause = error
        while cause and not getattr(cause, "strerror", None):
            cause = cause.__context__
        arrived.put(CutOff(cause.strerror if cause else f"{type(error).__name__}: {error}"))


def _begins(response, start: int, size: int) -> int:
    """At which byte of the file the answer begins: 0 from a server that cannot resume."""
    kind = response.headers.get("Content-Type", "an unknown type")
    if response.status_code == 206:
        found = re.fullmatch(rf"bytes {start}-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or found[1] not in ("*", str(size)):
            raise ServerError(f"resumed something else: {response.headers.get('Content-Range')}, wanted {start}-…/{size}")
        return start
    if response.status_code != 200:
        raise ServerError(f"answered {response.status_code} {response.reason}")
    length = response.headers.get("Content-Length", "")
    if length not in ("", str(size)) or kind.startswith("text/html"):
        raise ServerError(f"sent {kind}{length and f' of {length} bytes'}, not the file of {size} bytes")
    return 0


@contextmanager
def _alone(file: File, part: Path):
    """One process at a time writes ``part``. The system lets go of the lock of one that was killed."""
    from filelock import FileLock, Timeout
    lock, before = FileLock(part.with_name(f"{file.name}.lock")), _size(part)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=WAIT)
        except Timeout:
            if _size(part) == before:
                raise RuntimeError(f"another process is downloading {file.name} into {part.parent} and has got no further for "
                                   f"{WAIT:g} s; end it, then run this again") from None
            before = _size(part)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _progress(file: File):
    """A bar in a terminal or a notebook; nothing in a log, not even the line that an invisible bar of rich 13 ends with."""
    from rich import progress
    from rich.console import Console
    console = Console(stderr=True)
    if not (sys.stderr.isatty() or console.is_jupyter):
        yield lambda done: None
        return
    columns = progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn(), progress.TimeRemainingColumn()
    with progress.Progress(progress.TextColumn(file.name), *columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=file.size)
        yield lambda done: bar.update(task, completed=done)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

