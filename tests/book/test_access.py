"""Nobody is shut out: what axe finds, contrast on the screen, the keyboard alone, predictions that keep their secret."""

import os
import sys
from pathlib import Path

import pixels
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from build import pages  # noqa: E402

CONTENT = [f"{name}.html" for name in pages()]
EVERY = [*CONTENT, "search.html", "genindex.html"]
SOME = ["book/index.html", "book/02_batch_norm.html", "book/04_noisy_batch_norm.html"]  # with all that a page can have

# All that a reader may bring to light: what waits for a prediction, folded cells, replies, the pictures of all settings.
ANSWER = "() => document.querySelectorAll('.predict-skip').forEach(button => button.click())"
UNFOLD = f"""() => {{
  ({ANSWER})();
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  for (const option of document.querySelectorAll("fieldset.predict input")) option.checked = true;
  for (const frame of document.querySelectorAll(".explore-frame")) frame.hidden = false;
}}"""


@pytest.fixture(scope="module")
def axe():
    if os.environ.get("CI"):
        import axe_playwright_python.sync_playwright as found
    else:
        found = pytest.importorskip("axe_playwright_python.sync_playwright")
    return found.Axe()


@pytest.mark.parametrize("name", EVERY)
def test_axe_finds_nothing(axe, open_page, name):
    page = open_page(name)
    page.add_style_tag(content=pixels.STILL)
    # A figure is one picture to a screen reader, and code is words: the thousands of lines in the one and colours in the
    # other, which are looked at on pixels below, would take axe a minute.
    page.evaluate("""document.querySelectorAll("figure svg > *").forEach(line => line.remove());
      document.querySelectorAll("pre").forEach(code => code.textContent = code.textContent)""")
    # The other two take as long again. Dark colours are judged on pixels below, on every page; a narrow window moves the same parts
    # everywhere.
    for width, colours in ((1300, "light"), (1300, "dark"), (390, "light"))[:3 if name in SOME else 1]:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=colours)
        page.wait_for_timeout(500)  # the theme lets the keyboard into what scrolls some time after the window's size changed
        # Dark differs by its colours alone, a narrow window by all but these.
        rules = {}
        if colours == "dark":
            rules = {"runOnly": ["color-contrast"]}
        elif width == 390:
            rules = {"rules": {"color-contrast": {"enabled": False}}}
        answer = axe.run(page, options={"resultTypes": ["violations", "incomplete"], **rules}).response
        assert not answer["violations"], f"{colours}, {width} px: " + "\n".join(
            f"{rule['id']}, {len(rule['nodes'])} times: {rule['help']}; first {rule['nodes'][0]['html']}"
            for rule in answer["violations"])
        # What axe could not judge, the test of pixels below does.
        undecided = [node["target"][-1] for rule in answer["incomplete"] if rule["id"] == "color-contrast"
                     for node in rule["nodes"]]
        page.evaluate(pixels.FIND)
        overlooked = page.evaluate("""all => all.filter(one => {
          const element = document.querySelector(one);
          return element && element.checkVisibility({opacityProperty: true, visibilityProperty: true})
            && ![element, ...element.querySelectorAll("*")].some(part => looked.has(part) || part.closest("svg, math"));
        })""", undecided)
        assert not overlooked


def test_the_instrument_sees_what_is_faint(chromium):
    page = chromium.new_page()
    page.set_content("""<style>body { background: white; font: 16px sans-serif } .after::after { content: " after"; color: #bbb }
      </style><p style="color: #707070">enough</p><p style="color: #7f7f7f">faint</p><p style="opacity: 0.4">dimmed</p>
      <p style="color: white">invisible</p><p style="color: #7f7f7f; font-size: 30px">large</p>
      <p style="background: linear-gradient(black, black)">on a picture</p><p class="after">before</p>
      <svg viewBox="0 0 90 20" width="90"><rect width="90" height="20" fill="#555"/><text y="15" font-size="14">drawn</text></svg>
      <p style="filter: invert(0.6)">filtered</p>""")
    found = sorted(line.split("“")[1].rstrip("”") for line in pixels.faint_text(page, set()))
    page.close()
    assert found == ["before", "dimmed", "drawn", "faint", "filtered", "invisible", "on a picture"]


@pytest.fixture(scope="module")
def judged():
    """Kinds of text that were seen on a page before."""
    return set()


@pytest.mark.parametrize("name", EVERY)
def test_text_and_lines_stand_out_on_pixels(open_page, judged, name):
    page = open_page(name)
    page.evaluate(UNFOLD)
    pixels.rested(page)
    switch = page.locator(".theme-switch-button:visible").first
    for system, other in ("light", "dark"), ("dark", "light"):
        page.emulate_media(color_scheme=system)
        # The reader's choice goes before the system's, by rules that are the same on every page.
        for theme in (system, other) if name in SOME else (system,):
            page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
            page.evaluate("document.querySelectorAll('.tooltip').forEach(note => note.remove())")  # of the switch, fading
            faint = pixels.faint_text(page, judged)
            # Lines of the drawn figure that a bench stands for, too.
            page.evaluate("document.documentElement.classList.add('bench-failed')")
            faint += pixels.faint_lines(page)
            page.evaluate("document.documentElement.classList.remove('bench-failed')")
            assert not faint, f"{theme} page on a {system} system:\n" + "\n".join(faint)
            if name in SOME:
                switch.click()
                page.mouse.move(0, 0)
                page.evaluate("document.activeElement.blur()")
        if name in SOME:
            switch.click()
            assert page.evaluate("document.documentElement.dataset.mode") == "auto"


SMALL = """() => [...document.querySelectorAll("figure svg[role=img]")].flatMap(svg => {
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return [...svg.querySelectorAll("text, tspan")]
    .filter(text => [...text.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()))
    .map(text => {
      const size = parseFloat(getComputedStyle(text).fontSize);
      // An exponent is smaller than the number it stands at.
      const whole = Math.max(size, ...[...text.closest("g").querySelectorAll("text, tspan")].map(
        part => parseFloat(getComputedStyle(part).fontSize)));
      return {pixels: size * scale, least: size < 0.8 * whole ? 7.5 : 9, says: text.textContent};
    })
    .filter(text => text.pixels < text.least);
})"""


CUT_OFF = """() => [...document.querySelectorAll("figure svg[role=img]")].filter(svg => svg.checkVisibility()).flatMap(svg => {
  const sheet = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter(text => text.textContent.trim()).filter(text => {
    const {left, right, top, bottom} = text.getBoundingClientRect();
    return left < sheet.left - 2 || right > sheet.right + 2 || top < sheet.top - 4 || bottom > sheet.bottom + 4;
  }).map(text => `“${text.textContent.trim()}” leaves “${svg.getAttribute("aria-label").slice(0, 60)}”`);
})"""


@pytest.mark.parametrize("name", CONTENT)
def test_figures_are_legible_on_a_phone(open_page, html, name):
    if "<figure" not in (html / name).read_text("utf-8"):
        return  # a page less to load
    page = open_page(name)
    page.set_viewport_size({"width": 390, "height": 900})
    page.evaluate(UNFOLD)
    page.evaluate("document.documentElement.classList.add('bench-failed')")  # the drawn figure that a bench stands for, too
    assert not page.evaluate(SMALL)
    assert not page.evaluate(CUT_OFF)
    # No figure is cut off, at either side.
    assert not page.evaluate("""() => [...document.querySelectorAll("figure svg[role=img]")].map(svg => svg.getBoundingClientRect())
      .filter(place => place.left < 0 || place.right > innerWidth).length""")


# --- The keyboard ---------------------------------------------------------------------------------------------------------

# Every place the Tab key stops at, in order.
STOPS = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")].filter(
  stop => stop.tabIndex >= 0 && !stop.disabled && stop.checkVisibility({visibilityProperty: true}))"""


@pytest.mark.parametrize("name", CONTENT)
def test_the_keyboard_goes_down_the_page(open_page, name):
    page = open_page(name)
    page.evaluate(ANSWER)
    wrong = page.evaluate(f"""() => {{
      const stops = ({STOPS})(), text = stops.filter(stop => stop.closest("article"));
      const at = stop => stop.getBoundingClientRect();
      return {{
        jumping: stops.filter(stop => stop.tabIndex > 0).map(stop => stop.outerHTML.slice(0, 200)),
        // In the text each stop is below the one before or in its line; a row of a table has cells of several lines.
        backwards: text.filter((stop, i) => i && at(stop).bottom < at(text[i - 1]).top && !(stop.closest("tr") && stop.closest("tr") === text[i - 1].closest("tr")))
          .map(stop => stop.outerHTML.slice(0, 200)),
        sliders: text.filter(stop => stop.type === "range").length,
        first: stops[0].textContent,
      }};
    }}""")
    assert not wrong["jumping"] and not wrong["backwards"], wrong
    assert wrong["sliders"] == page.locator("input[type=range]:visible").count()
    assert "Skip" in wrong["first"]


def press(page, key):
    page.keyboard.press(key)
    return page.evaluate("""() => {
      const now = document.activeElement;
      window.stopped ??= new Map();
      if (!stopped.has(now)) stopped.set(now, stopped.size);
      return {number: stopped.get(now), name: now.localName, kind: now.type || "", first: now === document.body};
    }""")


def shows_focus(page):
    """Whether what has the focus looks different, by 3 to 1 in some pixel, from what it looks like without."""
    place = page.evaluate("""() => {
      document.activeElement.scrollIntoView({block: "center", behavior: "instant"});
      const {left, top, right, bottom} = document.activeElement.getBoundingClientRect();
      const x = Math.max(0, left - 6), y = Math.max(0, top - 6);
      return {x, y, width: Math.min(innerWidth, right + 6) - x, height: Math.min(innerHeight, bottom + 6) - y};
    }""")
    focus = pixels.picture(page, place)
    page.evaluate("window.had = document.activeElement; had.blur()")
    without = pixels.picture(page, place)
    page.evaluate("had.focus({preventScroll: true})")
    return pixels.contrast(focus, without).max() >= 3


@pytest.mark.parametrize("name", SOME)
def test_tab_alone_reaches_and_moves_everything(open_page, name):
    page = open_page(name)
    page.add_style_tag(content=pixels.STILL)
    stops = page.evaluate(f"({STOPS})().length")
    sliders, seen, choices = 0, set(), 0
    for number in range(stops + 200):  # an answer brings more of them to light
        come_into_view(page)
        now = press(page, "Tab")
        if now["first"]:
            break  # round
        assert now["number"] == number, f"stop {number} is {now}, where Tab has been before"
        if (now["name"], now["kind"]) not in seen:
            seen.add((now["name"], now["kind"]))
            assert shows_focus(page), f"one cannot see that {now} has the focus"
        if now["kind"] == "range":
            sliders += 1
            moves_by_keyboard(page)
        if now["kind"] == "radio":
            choices += 1
            answers_by_keyboard(page)
        if now["name"] == "summary":
            unfolded = "document.activeElement.parentElement.open"
            before = page.evaluate(unfolded)
            page.keyboard.press("Enter")
            assert page.evaluate(unfolded) != before
            page.keyboard.press("Enter")
    else:
        pytest.fail(f"Tab does not come round after {number} stops")
    assert sliders == page.locator("input[type=range]:visible").count()
    assert choices == page.locator("fieldset.predict:visible, fieldset.explore-choice:visible:has(input[type=radio])").count()
    assert not page.complaints


def moves_by_keyboard(page):
    look = """() => {
      const slider = document.activeElement, figure = slider.closest("figure");
      const shown = figure ? figure.querySelector(".explore-frame:not([hidden])").dataset.key : slider.value; // a bench is slower to answer
      return [slider.value, slider.getAttribute("aria-valuetext"), shown];
    }"""
    at_rest(page)
    page.keyboard.press("Home")
    first = page.evaluate(look)
    seen = []
    for key in "ArrowRight", "End", "Home":
        page.keyboard.press(key)
        seen.append(page.evaluate(look))
    last = page.evaluate("document.activeElement.max")
    assert seen[0][0] == "1" and seen[1][0] == last and seen[2] == first
    assert all(one != other for one, other in zip(seen[0], first)), "value, words and picture"


def come_into_view(page):
    """A bench makes its controls when it comes into view, which may be after a prediction."""
    if page.evaluate("[...document.querySelectorAll('.bench')].some(own => own.checkVisibility() && !own.children.length)"):
        page.locator(".bench").scroll_into_view_if_needed()
        page.wait_for_function("document.querySelector('.bench').children.length")


def at_rest(page):
    """A bench that trains moves its own slider over time; it begins a moment after the last touch."""
    if page.evaluate("document.activeElement.closest('.bench') !== null"):
        page.wait_for_timeout(400)
        pixels.rested(page)


def answers_by_keyboard(page):
    """A radio button with the focus: what it opens, or shows, follows the choice."""
    look = """() => {
      const group = document.activeElement.closest("fieldset"), figure = group.closest("figure");
      if (group.closest(".bench")) return [group.querySelector("input:checked").value];
      if (figure) return [figure.querySelector(".explore-frame:not([hidden])").dataset.key];
      const own = group.dataset.question && document.querySelector(`.outcome[data-question="${group.dataset.question}"]`);
      const told = own ? [own] : [...group.querySelectorAll("[data-reply]")];
      return told.filter(reply => reply.checkVisibility()).map(reply => reply.textContent);
    }"""
    before = page.evaluate(look)
    page.keyboard.press("Space")
    first = page.evaluate(look)
    page.keyboard.press("ArrowDown")
    second = page.evaluate(look)
    assert len(first) == len(second) == 1 and first != second
    assert before in ([], first), "a reply before the choice"


# --- Predictions ------------------------------------------------------------------------------------------------------------

def test_predictions_keep_their_secret_without_scripts(chromium, site):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    asked = 0
    for name in CONTENT:
        page.goto(site + name, wait_until="domcontentloaded")
        for question in page.locator("fieldset.predict:not([data-question])").all():
            replies, options = question.locator(".predict-reply"), question.locator("input")
            assert not question.locator(".predict-reply:visible").count(), f"{name}: a reply before the choice"
            options.last.focus()
            page.keyboard.press("Space")
            assert replies.last.is_visible() and question.locator(".predict-reply:visible").count() == 1
            assert question.locator("[aria-live]").count() == 1
            asked += 1
        # Where a script would hold back what was measured, it stands open without one; a reply is behind a summary.
        for outcome in page.locator(".outcome").all():
            assert outcome.is_visible()
            asked += 1
        assert not page.locator(".remember [data-reply]:visible").count()
    context.close()
    assert asked > 10
