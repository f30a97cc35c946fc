"""The time at the top of a chapter: how long it takes to read, counted on the page, and how long its run took, measured.

In a notebook the first cell can only estimate: "about 25 minutes to read". The page knows better, and says so in its place.
"""

import json
import os
import re

from bs4 import BeautifulSoup

ESTIMATE = re.compile(r"<strong>Time</strong> about \d+ minutes to read\. The last cell says how long the run took\.")

WORDS_A_MINUTE = 230  # silent reading of non-fiction: mean 238 over 190 studies (Brysbaert 2019)
# Our own assumptions, in minutes each; a folded cell is passed over.
FIGURE, SLIDERS, FORMULA, LINE_OF_CODE = 0.5, 1.0, 0.25, 1 / 40


def contents(body):
    """What there is to read on a page: numbers of words, figures, figures with sliders, displayed formulas, lines of code."""
    # The pictures are most of the page and no prose: out before it is parsed.
    page = BeautifulSoup(re.sub(r"<svg\b.*?</svg>", "", body, flags=re.S), "html.parser")
    found = {
        "figures": len(page.select("figure.plot, img")),
        "sliders": len(page.select("figure.explore")),
        "formulas": len(page.select("div.math")),
    }
    for tag in page.select("details, script, style, .claim-rows, div.math, .headerlink"):
        tag.decompose()
    for tag in page.select("span.math"):
        tag.string = "formula"  # read as one word
    code = [tag.extract() for tag in page.select("pre")]
    lines = sum(1 for tag in code for line in tag.get_text().splitlines() if line.strip())
    return {"words": len(page.get_text(" ").split()), **found, "lines": lines}


def minutes(words, figures, sliders, formulas, lines):
    """Minutes to read all that, to the next five."""
    exact = words / WORDS_A_MINUTE + figures * FIGURE + sliders * SLIDERS + formulas * FORMULA + lines * LINE_OF_CODE
    return max(5, 5 * round(exact / 5))


def say_the_time(app, pagename, templatename, context, doctree):
    body = context.get("body", "")
    if not ESTIMATE.search(body):
        return
    found = contents(body)
    said = (
        f"<strong>Time</strong> about {minutes(**found)} minutes to read: {found['words']:,} words,"
        f" {found['figures'] + found['sliders']} figures, {found['lines']} lines of code."
    )
    runs = json.loads(os.environ.get("BNCOURSE_RUNS", "{}"))  # from build.py, which executed the chapters
    if (seconds := runs.get("seconds", {}).get(pagename.rpartition("/")[2])) is not None:
        said += f" The run behind this page took {seconds:.0f} s on a machine with {runs['cores']} cores."
    context["body"] = ESTIMATE.sub(said, body)


def setup(app):
    app.connect("html-page-context", say_the_time)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
