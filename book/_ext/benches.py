"""The laboratory in the page (book/bench): its modules and the digits beside them, and its style sheet on the pages that have one.

A page asks for a bench with an empty ``<div class="bench" data-bench="NAME"></div>``; ``bench/mount.js`` fetches ``NAME.js`` when
that comes into view.
"""

import gzip
import json
import shutil
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench"
IN_A_PAGE = 'class="bench"'


def write_digits(path):
    """The training images and labels that the chapters have, a byte a pixel (0 to 16), then a byte a label; gzipped."""
    import numpy as np

    from bncourse import data  # only where a page has a bench: a book without one needs no package

    pixels, labels, *_ = data._digits()
    levels = np.rint(pixels * 16).astype(np.uint8)
    path.write_bytes(gzip.compress(levels.tobytes() + labels.astype(np.uint8).tobytes(), mtime=0))


def write_looks(path):
    """Colours and dashes of the book's figures, by name. A dark page has its colours in variables (bncourse.css)."""
    from bncourse.figures import LOOKS, TONES

    dashes = {"-": None, "--": "7 3", "-.": "8 3 2 3", ":": "2 3"}
    looks = {
        name: {"variable": name, "colour": light, "dash": dashes.get(line) if isinstance(line, str) else " ".join(str(2 * on) for on in line[1])}
        for name, (light, _) in TONES.items()
        for line in [LOOKS.get(name, {"linestyle": "-"})["linestyle"]]
    }
    path.write_text(f"export const LOOKS = {json.dumps(looks)};\n", "utf-8")


def copy(app, exception):
    if exception is None and app.builder.format == "html":
        if any(IN_A_PAGE in page.read_text("utf-8") for page in Path(app.outdir).rglob("*.html")):
            furnish(Path(app.outdir, "_static", "bench"))


def furnish(folder):
    """All that a bench needs, in one folder."""
    shutil.copytree(BENCH, folder, dirs_exist_ok=True)
    write_digits(folder / "digits.bin")
    write_looks(folder / "looks.js")


def where_there_is_one(app, pagename, templatename, context, doctree):
    if IN_A_PAGE in context.get("body", ""):
        app.add_css_file("bench/bench.css")
        # Without it nobody else is there to say that the bench does not come.
        app.add_js_file("bench/mount.js", type="module", onerror="document.documentElement.classList.add('bench-failed')")


def setup(app):
    app.connect("html-page-context", where_there_is_one)
    app.connect("build-finished", copy, priority=800)  # before bookfixes looks which classes scripts may set
    return {"parallel_read_safe": True, "parallel_write_safe": True}
