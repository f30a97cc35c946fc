"""The book, built strictly, served on loopback, and a browser that can reach nothing else."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from xml.sax.saxutils import escape

import pytest

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html"
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
                  "--disable-sync"]


def find_chromium() -> str:
    """The path of a Chromium that starts: Ubuntu has one on the path that does nothing but ask for a snap.
    Raises RuntimeError: none does; why, and what to install."""
    said = []
    for path in filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        # A folder that the browser may still be writing to when it has answered.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            asked = [path, "--headless", *CHROMIUM_FLAGS, f"--user-data-dir={folder}", "--dump-dom", "data:text/html,it-starts"]
            try:
                done = subprocess.run(asked, capture_output=True, encoding="utf-8", errors="replace", timeout=120)
            except (OSError, subprocess.TimeoutExpired) as error:
                said.append(f"{path} does not start ({error})")
                continue
        if "it-starts" in done.stdout:
            return path
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        said.append(f"{path} does not start ({lines[-1].strip()})")
    raise RuntimeError(f"{'; '.join(said) or 'no Chromium is installed'}. On Debian: sudo apt install chromium. On Ubuntu, where "
                       "that is a snap: sudo snap install chromium, or install Google Chrome")


@pytest.fixture(scope="session")
def run_build():
    """Run build.py; gives its exit code, what it said, and its timings (those of the last build that came through)."""

    def run(root=ROOT, *options, env=None):
        done = subprocess.run(
            [sys.executable, str(root / "book" / "_ext" / "build.py"), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=env,
        )
        file = root / "_build" / "timings.json"
        timings = json.loads(file.read_text("utf-8")) if file.exists() else None
        return SimpleNamespace(code=done.returncode, said=done.stdout, timings=timings)

    return run


@pytest.fixture(scope="session")
def build(run_build):
    done = run_build()
    assert done.code == 0, done.said
    return done


@pytest.fixture(scope="session")
def html(build):
    return HTML


@pytest.fixture(scope="session")
def site(html):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=html))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def launch(tmp_path_factory, unavailable):
    """Start Chromium: with the machine's fonts, or as on a machine that has no fonts but those of a folder."""
    try:
        path = find_chromium()
    except RuntimeError as error:
        unavailable(str(error))
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:

        def start(fonts=None):
            environment = dict(os.environ)
            if fonts:
                scratch = tmp_path_factory.mktemp("fontconfig")
                environment["FONTCONFIG_FILE"] = str(scratch / "fonts.conf")
                (scratch / "fonts.conf").write_text(
                    f"<fontconfig><dir>{escape(str(fonts))}</dir><cachedir>{escape(str(scratch))}</cachedir></fontconfig>"
                )
            return playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS, env=environment)

        yield start


@pytest.fixture(scope="session")
def chromium(launch):
    """As on this machine, or, with BNCOURSE_FONTS=FOLDER, as on one that has the fonts of that folder alone."""
    browser = launch(os.environ.get("BNCOURSE_FONTS"))
    yield browser
    browser.close()


@pytest.fixture
def open_page(chromium, site):
    """Open a page of the book. What it complained of, and whom it tried to reach, is in the page's `complaints`."""
    contexts = []

    def open_(name):
        context = chromium.new_context(viewport={"width": 1300, "height": 900}, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(f"error: {error}"))
        page.on("response", lambda got: got.status >= 400 and page.complaints.append(f"{got.status}: {got.url}"))
        page.on(
            "console",
            lambda said: said.type in ("error", "warning") and page.complaints.append(f"{said.type}: {said.text}"),
        )

        def only_here(route):
            if route.request.url.startswith((site, "data:", "blob:")):
                route.continue_()
            else:
                page.complaints.append(f"reached for {route.request.url}")
                route.abort()

        context.route("**/*", only_here)
        page.goto(site + name, wait_until="networkidle")
        return page

    yield open_
    for context in contexts:
        context.close()
