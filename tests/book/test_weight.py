"""What a page weighs, and whether it stands still while it loads."""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "book" / "_ext"))
from build import pages  # noqa: E402

NAMES = ["search.html", *(f"{name}.html" for name in pages())]

# Adds up what moves, as the browser scores it, and keeps what moved.
WATCH = """window.moved = 0; window.movers = []; new PerformanceObserver(list => {
  for (const shift of list.getEntries()) {
    if (shift.hadRecentInput) continue;
    window.moved += shift.value;
    for (const {node} of shift.sources) window.movers.push((node?.outerHTML ?? node?.textContent ?? "?").slice(0, 80));
  }
}).observe({type: "layout-shift", buffered: true})"""

SETTLED = """async () => {
  await document.fonts.ready;
  for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
  await new Promise(done => setTimeout(done, 50));
  return [window.moved, window.movers?.slice(0, 5)];
}"""


def load(chromium, site, name):
    """Load a page for the first time. Gives its bytes, uncompressed, how far it moved while loading, and what moved."""
    context = chromium.new_context(viewport={"width": 1300, "height": 900})
    context.add_init_script(WATCH)
    page = context.new_page()
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(site + name, wait_until="load")
    moved, movers = page.evaluate(SETTLED)
    size = sum(len(answer.body()) for answer in answers)
    context.close()
    return size, moved, movers


def test_pages_are_light_and_stand_still_while_they_load(chromium, site):
    """One test of both and of all pages: each is loaded once, whichever worker it is."""
    sizes, wrong = {}, []
    for name in NAMES:
        sizes[name], moved, movers = load(chromium, site, name)
        if sizes[name] > 3e6:
            wrong.append(f"{name} loads {sizes[name] / 1e6:.2f} MB")
        if moved > 0.01:
            wrong.append(f"{name} moves by {moved:.3f}: {movers}")
    median = statistics.median(sizes.values())
    if median > 1.2e6:
        wrong.append(f"the median page loads {median / 1e6:.3f} MB: {sizes}")
    assert not wrong, "\n".join(wrong)


def test_scripts_that_come_late_move_nothing(chromium, site):
    # What the theme's scripts decide (light or dark, for one) has to look as it will before they are there.
    context = chromium.new_context(viewport={"width": 1300, "height": 900})
    context.add_init_script(WATCH)
    page = context.new_page()

    def late(route):
        page.wait_for_timeout(300)
        route.continue_()

    page.route("**/*.js*", late)
    page.goto(f"{site}exercises/ex07_capstone.html", wait_until="load")
    moved, movers = page.evaluate(SETTLED)
    context.close()
    assert moved < 0.01, movers
