"""What a page weighs, and whether it stands still while it loads."""

import statistics
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "book" / "_ext"))
from build import pages  # noqa: E402

NAMES = ["search.html", *(f"{name}.html" for name in pages())]

MOVED = """new PerformanceObserver(list => {
  for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.moved += shift.value;
}).observe({type: "layout-shift", buffered: true})"""


@pytest.fixture(scope="module")
def weights(chromium, site):
    """Bytes each page loads, uncompressed."""
    found = {}
    for name in NAMES:
        context = chromium.new_context(viewport={"width": 1300, "height": 900})
        page = context.new_page()
        answers = []
        page.on("response", lambda answer: answers.append(answer))
        page.goto(site + name, wait_until="networkidle")
        found[name] = sum(len(answer.body()) for answer in answers if answer.url.startswith(site))
        context.close()
    return found


def test_no_page_is_heavy(weights):
    heaviest = max(weights, key=weights.get)
    assert weights[heaviest] <= 3e6, f"{heaviest} loads {weights[heaviest] / 1e6:.2f} MB"
    assert statistics.median(weights.values()) <= 1.22e6, weights


def test_the_page_stands_still_while_it_loads(chromium, site):
    for name in ("book/notation.html", "book/12_normalizers.html"):  # formulas in the first screen
        context = chromium.new_context(viewport={"width": 1300, "height": 900})
        context.add_init_script(f"window.moved = 0; {MOVED}")
        page = context.new_page()
        page.goto(site + name, wait_until="networkidle")
        moved = page.evaluate("window.moved")
        context.close()
        assert moved <= 0.05, f"{name} moves by {moved:.3f} while it loads"
