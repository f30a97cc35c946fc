"""Every page in a real browser, with every other host blocked."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from build import pages  # noqa: E402

CONTENT = [f"{name}.html" for name in pages()]


@pytest.mark.parametrize("name", ["index.html", *CONTENT, "search.html", "genindex.html"])
def test_quiet_and_within_the_window(open_page, name):
    page = open_page(name)
    for width, colours in (1300, "light"), (390, "light"), (1300, "dark"):
        page.emulate_media(color_scheme=colours)
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"scrolls sideways at {width} px"
        if width == 1300:  # what has to be scrolled on a phone is whole where there is room
            page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
            page.evaluate("window.MathJax?.startup?.promise")
            assert not page.evaluate("""[...document.querySelectorAll("article *")]
              .filter(box => box.scrollWidth > box.clientWidth && ["auto", "scroll"].includes(getComputedStyle(box).overflowX))
              .map(box => box.textContent.split("\\n").sort((a, b) => b.length - a.length)[0])"""), "its longest line does not fit"
    page.wait_for_timeout(100)
    assert not page.complaints


@pytest.mark.parametrize("name", CONTENT)
def test_math_is_rendered(open_page, name):
    page = open_page(name)
    page.wait_for_function("!window.MathJax || (MathJax.startup && MathJax.startup.promise)")
    page.evaluate("window.MathJax && MathJax.startup.promise")
    missing = page.evaluate("[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).length")
    assert not missing
    assert not page.locator("mjx-merror").count()
    # What is left of a formula nobody recognized; code may say what it likes.
    raw = page.evaluate(
        """() => {
          const main = document.querySelector("main article").cloneNode(true);
          main.querySelectorAll("pre, code, script, style, mjx-container").forEach(tag => tag.remove());
          return main.textContent.match(/.{0,30}(\\$|\\\\\\(|\\\\\\[).{0,30}/g);
        }"""
    )
    assert not raw


@pytest.mark.parametrize("name", CONTENT)
def test_sliders(open_page, name):
    page = open_page(name)
    for figure in page.locator("figure.explore").all():
        sliders = figure.locator("input[type=range]")
        # How many positions the frames know; the sliders must have just as many.
        positions = figure.evaluate(
            """figure => {
              const keys = [...figure.querySelectorAll(".explore-frame")].map(f => f.dataset.key.split(",").map(Number));
              return keys[0].map((_, i) => 1 + Math.max(...keys.map(key => key[i])));
            }"""
        )
        assert sliders.count() == len(positions)
        for slider, count in zip(sliders.all(), positions, strict=True):
            assert count > 1 and int(slider.get_attribute("max")) == count - 1
            slider.focus()
            page.keyboard.press("Home")
            seen = [look(figure, slider)]
            for _ in range(count - 1):
                page.keyboard.press("ArrowRight")
                seen.append(look(figure, slider))
                assert seen[-1]["picture"] != seen[-2]["picture"], f"{seen[-1]['label']} looks like {seen[-2]['label']}"
            labels = [one["label"] for one in seen]
            assert len(set(labels)) == count, labels
            page.keyboard.press("Home")
    assert not page.complaints


def look(figure, slider):
    """The picture that is shown now, in pixels, and what the slider says about itself."""
    frames = figure.locator(".explore-frame:visible")
    assert frames.count() == 1, "exactly one picture at a time"
    label = slider.evaluate("slider => slider.parentElement.querySelector('output').value")
    assert label and slider.get_attribute("aria-valuetext") == label
    return {"label": label, "picture": frames.screenshot()}


def test_the_table_of_claims_can_be_filtered(open_page):
    [name] = [name for name in CONTENT if "15_verdict" in name]
    page = open_page(name)
    rows, form = page.locator("#every-claim tbody tr"), page.locator("form.claim-filter")
    everything = rows.count()
    assert everything > 30 and form.locator("output").inner_text() == f"{everything} of {everything} shown"

    def shown():
        visible = page.locator("#every-claim tbody tr:visible")
        assert form.locator("output").inner_text() == f"{visible.count()} of {everything} shown"
        return visible.evaluate_all("rows => rows.map(row => [row.dataset.verdict, row.dataset.chapter, row.textContent])")

    for verdict in ("supported", "contradicted"):
        form.locator("[name=verdict]").select_option(verdict)
        found = shown()
        assert 0 < len(found) < everything and {row[0] for row in found} == {verdict}
    form.locator("[name=verdict]").select_option("")
    chapter = found[0][1]
    form.locator("[name=chapter]").select_option(chapter)
    assert {row[1] for row in shown()} == {chapter}
    form.locator("[name=chapter]").select_option("")
    form.locator("[name=words]").fill("SANTURKAR  shift")
    found = shown()
    assert 0 < len(found) < everything
    assert all("santurkar" in row[2].lower() and "shift" in row[2].lower() for row in found)
    form.locator("[name=words]").fill("no such words anywhere")
    assert shown() == []
    form.locator("[name=words]").fill("")
    assert len(shown()) == everything
    assert not page.complaints


def test_a_slider_put_back_by_the_browser_shows_its_picture(open_page):
    for name in CONTENT:
        page = open_page(name)
        if page.locator("figure.explore").count():
            break
    else:
        pytest.fail("no widget in the whole book")
    slider = page.locator("figure.explore input[type=range]").first
    slider.focus()
    page.keyboard.press("End")
    page.goto(page.url.rsplit("/", 2)[0] + "/search.html")
    page.go_back(wait_until="load")
    page.wait_for_timeout(200)
    figure = page.locator("figure.explore").first
    shown = figure.locator(".explore-frame:visible").get_attribute("data-key")
    values = [slider.input_value() for slider in figure.locator("input[type=range]").all()]
    assert shown == ",".join(values)
