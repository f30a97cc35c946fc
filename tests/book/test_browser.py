"""Every page in a real browser, with every other host blocked."""

import sys
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

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
            assert not page.evaluate("""[...document.querySelectorAll("article *")]
              .filter(box => box.scrollWidth > box.clientWidth && ["auto", "scroll"].includes(getComputedStyle(box).overflowX))
              .map(box => box.textContent.split("\\n").sort((a, b) => b.length - a.length)[0])"""), "its longest line does not fit"
    page.wait_for_timeout(100)
    assert not page.complaints


def test_a_definition_comes_with_hover_and_focus_and_goes_with_escape(open_page):
    page = open_page("book/04_noisy_batch_norm.html")
    for width in 1300, 390:
        page.set_viewport_size({"width": width, "height": 900})
        term = page.locator("main a.term:visible").first
        definition = page.locator(f"#{term.get_attribute('aria-describedby')}")
        for ask in term.hover, lambda: (term.blur(), page.mouse.move(0, 0), page.keyboard.press("Tab"), term.focus()):
            assert not definition.is_visible()
            ask()
            assert definition.is_visible()
            box = definition.bounding_box()
            assert 0 <= box["x"] and box["x"] + box["width"] <= width and box["y"] >= term.bounding_box()["y"] + 10
            page.keyboard.press("Escape")
            assert not definition.is_visible()
            page.mouse.move(0, 0)
            term.blur()


@pytest.fixture
def without_scripts(chromium, site):
    """Open a page in a browser that runs no scripts."""
    context = chromium.new_context(viewport={"width": 1300, "height": 900}, java_script_enabled=False)

    def open_(name):
        page = context.new_page()
        page.goto(site + name, wait_until="load")
        return page

    yield open_
    context.close()


@pytest.mark.parametrize("name", CONTENT)
def test_without_scripts_formulas_are_drawn_and_no_slider_is_dead(without_scripts, name):
    page = without_scripts(name)
    boxes = page.evaluate("""[...document.querySelectorAll("article math")].filter(formula => !formula.closest("details"))
      .map(formula => [formula.textContent, formula.getBoundingClientRect().width, formula.getBoundingClientRect().height])""")
    assert not [text for text, width, height in boxes if width < 2 or height < 5]
    # What is left of a formula nobody recognized; code may say what it likes.
    raw = page.evaluate("""() => {
      const main = document.querySelector("main article").cloneNode(true);
      main.querySelectorAll("pre, code, script, style").forEach(tag => tag.remove());
      return main.textContent.match(/.{0,30}(\\$|\\\\).{0,30}/g);
    }""")
    assert not raw
    for figure in page.locator("figure.explore").all():
        assert figure.locator(".explore-frame:visible").count() == 1
        assert not figure.locator("input, button").first.is_visible()
        said = figure.evaluate("tag => getComputedStyle(tag, '::after').content")
        assert figure.get_attribute("aria-label") in said and "With JavaScript" in said
    page.close()


def test_formulas_are_in_the_font_of_the_book(open_page):
    """The subset has each sign of each formula: a sign that it lacks would come from a font of the machine."""
    asked = set()
    for name in CONTENT:
        page = open_page(name)
        asked |= set(page.evaluate("[...document.querySelectorAll('math')].map(formula => formula.textContent).join('')"))
        page.context.close()
    font = TTFont(ROOT / "book" / "_static" / "fonts" / "stix-two-math.woff2")
    missing = {sign for sign in asked if ord(sign) not in font.getBestCmap() and not sign.isspace()}
    assert len(asked) > 60 and not missing, f"add {missing} to the subset (how: book/_static/fonts/stix-two-math.txt)"
    assert "MATH" in font


@pytest.mark.parametrize("name", CONTENT)
def test_sliders(open_page, name):
    page = open_page(name)
    while (button := page.get_by_role("button", name="Show without predicting")).count():
        button.first.click()
    # Where a bench trains, the drawn figure is for who has no scripts (test_benches.py); its sliders work all the same.
    page.evaluate("document.documentElement.classList.add('bench-failed')")
    for figure in page.locator("figure.explore").all():
        controls = figure.locator(".explore-controls > div")
        # How many positions the frames know; the sliders and buttons must have just as many.
        positions = figure.evaluate(
            """figure => {
              const keys = [...figure.querySelectorAll(".explore-frame")].map(f => f.dataset.key.split(",").map(Number));
              return keys[0].map((_, i) => 1 + Math.max(...keys.map(key => key[i])));
            }"""
        )
        assert controls.count() == len(positions)
        for control, count in zip(controls.all(), positions, strict=True):
            buttons, slider, seen = control.locator("input[type=radio]"), control.locator("input[type=range]"), []
            assert count > 1 and (buttons.count() == count or int(slider.get_attribute("max")) == count - 1)
            for position in range(count):
                if buttons.count():
                    buttons.nth(position).check()
                else:
                    slider.focus()
                    page.keyboard.press("ArrowRight" if position else "Home")
                seen.append(look(figure, control))
                assert position == 0 or seen[-1]["picture"] != seen[-2]["picture"], f"{seen[-1]['label']} looks like {seen[-2]['label']}"
            labels = [one["label"] for one in seen]
            assert len(set(labels)) == count, labels
            if buttons.count():
                buttons.first.check()
            else:
                page.keyboard.press("Home")
    assert not page.complaints


def look(figure, control):
    """The picture that is shown now, in pixels, and what the slider, or the button, says about itself."""
    frames = figure.locator(".explore-frame:visible")
    assert frames.count() == 1, "exactly one picture at a time"
    label = control.evaluate("tag => (tag.querySelector('input:checked')?.parentElement ?? tag.querySelector('output')).textContent.trim()")
    slider = control.locator("input[type=range]")
    assert label and (not slider.count() or slider.get_attribute("aria-valuetext") == label)
    return {"label": label, "picture": frames.screenshot()}


def test_the_list_of_claims_can_be_filtered(open_page):
    [name] = [name for name in CONTENT if "15_verdict" in name]
    page = open_page(name)
    rows, form = page.locator("#every-claim .claim-row"), page.locator("form.claim-filter")
    everything = rows.count()
    assert everything > 30 and form.locator("output").inner_text() == f"{everything} of {everything} shown"
    assert not page.locator("#every-claim .claim-row:visible").count(), "the chapters are folded until somebody asks"

    def shown():
        visible = page.locator("#every-claim .claim-row:visible")
        assert form.locator("output").inner_text() == f"{visible.count()} of {everything} shown"
        return visible.evaluate_all("rows => rows.map(row => [row.dataset.verdict, row.parentElement.parentElement.dataset.chapter, "
                                    "row.textContent])")

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
    assert not page.complaints


def test_a_prediction_is_kept_marked_and_counted(open_page):
    page = open_page("book/15_verdict.html")
    question = page.locator("fieldset[data-question]:not([data-answer])").first
    key = question.get_attribute("data-question")
    outcome = page.locator(f".outcome[data-question='{key}']")
    options, right = question.locator("input"), outcome.get_attribute("data-answer")
    assert not outcome.is_visible(), "the result waits for a prediction"
    card = page.locator(".claim").first
    assert not card.is_visible()
    question.locator(f"input[value='{right}']").check()
    assert outcome.is_visible() and card.is_visible() and "You predicted this." in outcome.inner_text()
    page.reload(wait_until="networkidle")
    assert outcome.is_visible() and question.locator(f"input[value='{right}']").is_checked()
    assert page.locator("#score").inner_text().startswith("1 of 1 right; the book asks ")
    # Another choice is answered; the first one counts.
    [other] = [value for value in options.evaluate_all("all => all.map(one => one.value)") if value != right][:1]
    question.locator(f"input[value='{other}']").check()
    assert f"You predicted: {other}." in outcome.inner_text()
    page.reload(wait_until="networkidle")
    assert page.locator("#score").inner_text().startswith("1 of 1 right")

    # Without a prediction: a button, or an address that leads behind it.
    page.evaluate("localStorage.clear()")
    page.reload(wait_until="networkidle")
    assert not outcome.is_visible()
    page.get_by_role("button", name="Show without predicting").first.click()
    assert outcome.is_visible()
    page.goto(page.url.partition("#")[0] + f"#{card.get_attribute('id')}", wait_until="networkidle")
    page.reload(wait_until="networkidle")
    assert card.is_visible()
    assert not page.complaints


def test_two_questions_before_one_run_keep_their_own_answers_back(chromium):
    """In a browser that keeps nothing (a page without an address has no storage)."""
    page = chromium.new_page()

    def question(key):
        return (f"<div class='cell'><fieldset data-question='{key}'><input type='radio' name='{key}' value='yes'></fieldset></div>")

    page.set_content(f"<style>.waiting {{ display: none }}</style><article><section>{question('a')}{question('b')}<p>the run</p>"
                     "<div class='cell'><p class='outcome' data-question='a' data-answer='yes'>A</p></div><p>about A</p>"
                     "<div class='cell'><p class='outcome' data-question='b' data-answer='no'>B</p></div><p>about B</p></section></article>")
    page.add_script_tag(path=ROOT / "book" / "_static" / "questions.js")
    assert page.locator("input:visible").count() == 2 and page.locator("p:visible").count() == 0
    page.locator("[name=a]").check()
    assert page.locator("p:visible").all_inner_texts() == []
    page.locator("[name=b]").check()
    assert page.locator("p:visible").all_inner_texts() == [
        "the run", "A You predicted this.", "about A", "B You predicted: yes.", "about B"]
    page.close()


def test_all_code_can_be_unfolded_and_stays_so(open_page):
    page = open_page("book/15_verdict.html")
    folded = page.locator(".cell.tag_hide-input details.hide")
    assert folded.count() > 1 and not folded.evaluate_all("all => all.some(one => one.open)")
    page.get_by_label("show all code").check()
    page.reload(wait_until="networkidle")
    assert folded.evaluate_all("all => all.every(one => one.open)") and page.get_by_label("show all code").is_checked()


def test_a_slider_put_back_by_the_browser_shows_its_picture(open_page):
    for name in CONTENT:
        page = open_page(name)
        if page.locator("figure.explore:visible").count():
            break
    else:
        pytest.fail("no widget in the whole book")
    slider = page.locator("figure.explore:visible input[type=range]").first
    slider.focus()
    page.keyboard.press("End")
    page.goto(page.url.rsplit("/", 2)[0] + "/search.html")
    page.go_back(wait_until="load")
    page.wait_for_timeout(200)
    figure = page.locator("figure.explore:visible").first
    shown = figure.locator(".explore-frame:visible").get_attribute("data-key")
    values = [chosen.input_value() for chosen in figure.locator("input[type=range], input:checked").all()]
    assert shown == ",".join(values)
