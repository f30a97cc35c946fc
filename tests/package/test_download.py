"""``fetch`` against servers that misbehave: every failure ends in a good file or in an error that lists what was tried, in
bounded time, and a second try succeeds. All of it over real connections, to this machine only."""

import errno
import gzip
import hashlib
import io
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import filelock
import numpy as np
import pooch
import pytest

from bncourse import data, download
from bncourse.download import File, fetch

CONTENT = random.Random(0).randbytes(300_000)
FILE = File("data.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The same rules on a shorter clock, with smaller chunks of a smaller file."""
    for name, value in dict(CONNECT=1.0, PATIENCE=1.0, WAIT=1.0, CHUNK=8192).items():
        monkeypatch.setattr(download, name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Server(ThreadingHTTPServer):
    """The folder of an address is what the server does to those who ask there."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.over, self.content = [], threading.Event(), CONTENT

    def at(self, *behaviours):
        return tuple(f"http://127.0.0.1:{self.server_port}/{behaviour.__name__}/" for behaviour in behaviours)

    def handle_error(self, request, address):
        """A client that hangs up is what we test, not what we want to read about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        behaviour = self.path.split("/")[1]
        self.server.asked.append((behaviour, self.headers.get("Range")))
        self.close_connection = True
        globals()[behaviour](self)

    def head(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def wanted(self):
        """Answer as a good server does, up to the bytes themselves; those come back."""
        content, asked = self.server.content, self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if start > len(content):
            self.head(416)
            return b""
        partial = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        self.head(206 if asked else 200, Content_Length=len(content) - start, **partial)
        return content[start:]

    def log_message(self, *_):
        pass


# --- What servers do -------------------------------------------------------------------------------------------------

def good(h):
    h.wfile.write(h.wanted())


def brisk(h):
    """A good server at 400 kB/s: time enough to be killed in the middle."""
    content = h.wanted()
    for start in range(0, len(content), 8000):
        h.wfile.write(content[start:start + 8000])
        time.sleep(0.02)


def without_ranges(h):
    h.head(Content_Length=len(CONTENT))
    h.wfile.write(CONTENT)


def of_unknown_length(h):
    """And with something after the end, which is no part of the file."""
    h.head()
    h.wfile.write(CONTENT + b"bye")


def labelled_gzip(h):
    """Some servers call a .gz compressed on the way, and clients that believe them unpack it."""
    h.head(Content_Length=len(h.server.content), Content_Encoding="gzip")
    h.wfile.write(h.server.content)


def cuts_off(h):
    """After half of what it should send, so each try brings us further."""
    content = h.wanted()
    h.wfile.write(content[:len(content) // 2])


def cuts_off_and_cannot_resume(h):
    h.head(Content_Length=len(CONTENT))
    h.wfile.write(CONTENT[:len(CONTENT) // 2])


def resets(h):
    cuts_off(h)
    h.wfile.flush()
    h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    h.connection.close()


def cuts_off_in_a_chunk(h):
    h.head(Transfer_Encoding="chunked")
    h.wfile.write(b"10000\r\n" + CONTENT[:1000])


def says_404(h):
    h.head(404, Content_Length=0)


def says_500(h):
    h.head(500, Content_Length=0)


def sends_html(h):
    page = b"<!DOCTYPE html><title>Please log in</title>"
    h.head(Content_Type="text/html; charset=utf-8", Content_Length=len(page))
    h.wfile.write(page)


def sends_html_of_unknown_length(h):
    h.head(Content_Type="text/html")
    h.wfile.write(b"<!DOCTYPE html>" * 10000)


def sends_another_file(h):
    h.head(Content_Length=5, Content_Type="application/gzip")
    h.wfile.write(b"other")


def sends_wrong_bytes(h):
    h.head(Content_Length=len(CONTENT))
    h.wfile.write(b"x" * len(CONTENT))


def never_ends(h):
    h.head()
    while not h.server.over.is_set():
        h.wfile.write(b"x" * 10000)


def redirects_to_itself(h):
    h.head(302, Location=h.path, Content_Length=0)


def never_answers(h):
    h.server.over.wait(20)


def trickles_headers(h):
    h.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not h.server.over.wait(0.05):
        h.wfile.write(b"x")


def trickles(h):
    for byte in h.wanted():
        h.wfile.write(bytes([byte]))
        if h.server.over.wait(0.05):
            break


def stalls(h):
    cuts_off(h)
    h.server.over.wait(20)


def talks_nonsense(h):
    h.wfile.write(b"SSH-2.0-nobody\r\n" + bytes(100))


def resumes_elsewhere(h):
    h.head(206, Content_Range=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}", Content_Length=len(CONTENT))
    h.wfile.write(CONTENT)


FAILURES = {  # what a server does -> what the reader is told
    cuts_off: "ended at 262,500 of 300,000 bytes",
    cuts_off_and_cannot_resume: "ended at 150,000 of 300,000 bytes",
    resets: "Connection reset by peer|forcibly closed",
    cuts_off_in_a_chunk: "IncompleteRead",
    says_404: "answered 404 Not Found",
    says_500: "answered 500 Internal Server Error",
    sends_html: "sent text/html; charset=utf-8 of 43 bytes, not the file of 300000 bytes",
    sends_html_of_unknown_length: "sent text/html, not the file of 300000 bytes",
    sends_another_file: "sent application/gzip of 5 bytes, not the file",
    sends_wrong_bytes: "sent other bytes than the authors published",
    never_ends: "sent other bytes than the authors published",
    redirects_to_itself: "Exceeded 30 redirects",
    never_answers: "no answer within 1 s",
    trickles_headers: "no answer within 1 s",
    trickles: "fewer than 8,192 bytes came within 1 s",
    stalls: "fewer than 8,192 bytes came within 1 s",
    talks_nonsense: "BadStatusLine",
}


# --- What we make of it ----------------------------------------------------------------------------------------------

@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def closed():
    """Where nobody listens: a port that is taken, so that nobody else gets it, and refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


def there(folder):
    """The file is good, and beside it lies nothing but the lock."""
    return ((folder / FILE.name).read_bytes() == CONTENT
            and {path.name for path in folder.iterdir()} <= {FILE.name, FILE.name + ".lock"})


@pytest.mark.parametrize("behaviour", [good, brisk, without_ranges, of_unknown_length], ids=lambda f: f.__name__)
def test_a_good_server_is_asked_once(behaviour, server, tmp_path, capfd):
    assert fetch(FILE, server.at(behaviour, says_404), tmp_path) == tmp_path / FILE.name
    assert there(tmp_path) and server.asked == [(behaviour.__name__, None)]
    assert capfd.readouterr() == ("", ""), "a chapter prints nothing"
    assert fetch(FILE, server.at(says_404), tmp_path) and len(server.asked) == 1, "what is there is not asked for again"


@pytest.mark.parametrize("behaviour", FAILURES, ids=lambda f: f.__name__)
def test_a_bad_server(behaviour, server, tmp_path):
    began = time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        fetch(FILE, server.at(behaviour), tmp_path)
    # Of the real limits the same share is 45 s: three mirrors, each as slow as it may be.
    assert time.monotonic() - began < 3 * download.PATIENCE, "one mirror, so three times what it may take, for a busy machine"
    message = str(caught.value)
    for words in (server.at(behaviour)[0] + FILE.name, str(tmp_path), "run this again", "set BNCOURSE_DATA", '"digits"'):
        assert words in message
    assert any(words in message for words in FAILURES[behaviour].split("|")), message
    assert not (tmp_path / FILE.name).exists()
    fetch(FILE, server.at(good), tmp_path)
    assert there(tmp_path), "a second try succeeds"


@pytest.mark.parametrize("behaviour", FAILURES, ids=lambda f: f.__name__)
def test_a_bad_server_before_a_good_one(behaviour, server, tmp_path):
    fetch(FILE, server.at(behaviour, good), tmp_path)
    assert there(tmp_path)


def test_all_that_was_tried_is_listed(server, closed, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        fetch(FILE, (closed, *server.at(says_404, cuts_off_and_cannot_resume)), tmp_path)
    first, second, third = str(caught.value).splitlines()[1:4]
    assert first.startswith(f"  {closed}{FILE.name}: ") and "HTTPConnection" not in first, "in the system's words, not in those of three libraries"
    assert "says_404" in second and "cuts_off_and_cannot_resume" in third
    assert "150,000 of 300,000 bytes came and are kept" in str(caught.value)


def test_a_server_that_cuts_off_is_asked_for_the_rest(server, tmp_path):
    with pytest.raises(RuntimeError):
        fetch(FILE, server.at(cuts_off), tmp_path)
    fetch(FILE, server.at(good), tmp_path)
    assert [asked for _, asked in server.asked] == [None, "bytes=150000-", "bytes=225000-", "bytes=262500-"]
    assert there(tmp_path)


def test_a_server_that_cannot_resume_sends_everything(server, tmp_path):
    (tmp_path / "data.gz.part").write_bytes(CONTENT[:1000])
    fetch(FILE, server.at(without_ranges), tmp_path)
    assert there(tmp_path) and server.asked == [("without_ranges", "bytes=1000-")]


def test_a_server_that_resumes_elsewhere_is_not_believed(server, tmp_path):
    (tmp_path / "data.gz.part").write_bytes(CONTENT[:1000])
    with pytest.raises(RuntimeError, match="resumed something else: bytes 0-299999/300000, wanted 1000-"):
        fetch(FILE, server.at(resumes_elsewhere), tmp_path)
    fetch(FILE, server.at(resumes_elsewhere, good), tmp_path)
    assert there(tmp_path)


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)],
                         ids=["the start of another file", "another file", "more than the file"])
def test_what_was_left_of_another_file_is_thrown_away(left, server, tmp_path):
    (tmp_path / "data.gz.part").write_bytes(left)
    fetch(FILE, server.at(good), tmp_path)
    assert there(tmp_path) and server.asked[-1] == ("good", None)


def test_stopped_before_the_last_check(server, tmp_path):
    (tmp_path / "data.gz.part").write_bytes(CONTENT)
    fetch(FILE, server.at(good), tmp_path)
    assert there(tmp_path) and not server.asked


def test_bytes_are_taken_as_they_lie_in_the_file(server, tmp_path):
    server.content = gzip.compress(CONTENT)
    file = File("data.gz", len(server.content), hashlib.sha256(server.content).hexdigest())
    assert fetch(file, server.at(labelled_gzip), tmp_path).read_bytes() == server.content


# --- Processes -------------------------------------------------------------------------------------------------------

def elsewhere(server, behaviour, folder, before="", **options):
    """The same download in a process of its own."""
    code = (f"from pathlib import Path; from bncourse import download; download.CHUNK = 8192; {before}\n"
            f"download.fetch(download.{FILE}, {server.at(behaviour)}, Path({str(folder)!r}))")
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def come(folder, size):
    """Wait until so much of the file has come."""
    part, end = folder / "data.gz.part", time.monotonic() + 20
    while not (part.exists() and part.stat().st_size >= size):
        assert time.monotonic() < end, "too little came"
        time.sleep(0.005)
    return part


def test_killed_in_the_middle(server, tmp_path):
    with elsewhere(server, brisk, tmp_path) as process:
        part = come(tmp_path, 50_000)
        process.kill()  # SIGKILL: no handler and no `finally` runs.
    left = part.stat().st_size
    assert process.returncode != 0 and 50_000 <= left < len(CONTENT)
    fetch(FILE, server.at(good), tmp_path)
    assert there(tmp_path) and server.asked == [("brisk", None), ("good", f"bytes={left}-")]


def test_two_processes_download_once(server, tmp_path):
    with elsewhere(server, brisk, tmp_path) as first, elsewhere(server, brisk, tmp_path) as second:
        assert [process.communicate(timeout=30) for process in (first, second)] == [("", "")] * 2
    assert (first.returncode, second.returncode) == (0, 0)
    assert there(tmp_path) and server.asked == [("brisk", None)]


def test_behind_a_process_that_hangs(server, tmp_path):
    with filelock.FileLock(tmp_path / "data.gz.lock"):
        with pytest.raises(RuntimeError, match=r"another process is downloading data.gz into .* no further for 1 s; end it"):
            fetch(FILE, server.at(good), tmp_path)
    fetch(FILE, server.at(good), tmp_path)
    assert there(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of a file there")
def test_a_disk_that_fills_up(server, tmp_path):
    # The system's limit on the size of a file stands in for the disk: the write fails half-way, as there.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    with elsewhere(server, good, tmp_path, limit) as process:
        assert "RuntimeError: cannot write data.gz (0.3 MB) to" in process.communicate(timeout=30)[1]
    left = (tmp_path / "data.gz.part").stat().st_size
    assert 90_000 < left <= 100_000
    fetch(FILE, server.at(good), tmp_path)
    assert there(tmp_path) and server.asked[-1] == ("good", f"bytes={left}-")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_not_blamed_on_the_servers(server, tmp_path):
    (tmp_path / "data.gz.part").symlink_to("/dev/full")
    with pytest.raises(RuntimeError, match=rf"cannot write .*{os.strerror(errno.ENOSPC)}.*Make room there, or set BNCOURSE_DATA"):
        fetch(FILE, server.at(good, good), tmp_path)
    assert len(server.asked) == 1
    (tmp_path / "data.gz.part").unlink()
    fetch(FILE, server.at(good), tmp_path)
    assert there(tmp_path)


def test_a_bar_in_a_terminal_only(server, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI does, where nobody looks
    for screen, expected in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", screen)
        fetch(FILE, server.at(good), tmp_path)
        (tmp_path / FILE.name).unlink()
        assert ("data.gz" in screen.getvalue(), "300.0" in screen.getvalue()) == (expected, expected)


# --- The data sets ---------------------------------------------------------------------------------------------------

def test_a_data_set_by_download(server, tmp_path, monkeypatch):
    labels = np.arange(10, dtype=np.uint8)
    server.content = gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(40)))
    images = server.content
    digest = hashlib.sha256(images).hexdigest()
    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "no such folder")
    monkeypatch.setattr(data, "DEBIAN_FASHION", tmp_path / "no such folder")
    for name in ("train", "t10k"):  # The labels are there already; the images come from the server.
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 10]) + labels.tobytes())
    monkeypatch.setattr(data, "FASHION_FILES", [
        File(file.name, len(images), digest) for file in data.FASHION_FILES])
    monkeypatch.setattr(data, "FASHION_MIRRORS", server.at(says_500, cuts_off, good))
    assert data.to_download("fashion-mnist") == 2 * len(images)
    fashion = data.load("fashion-mnist")
    assert fashion.x_train.shape == (10, 4) and fashion.y_test.tolist() == list(range(10))
    assert data.to_download("fashion-mnist") == 0
