"""How the pages look and handle: play, paper, the length of a line, what scrolls in its box, hints, citing, editing."""

import json
import re
import sys
from html import unescape
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import address  # noqa: E402
import citing  # noqa: E402
import lean  # noqa: E402
import reading  # noqa: E402
from build import pages  # noqa: E402
from surroundings import tracked  # noqa: E402

CHAPTERS = [path.stem for path in tracked("book/[0-9][0-9]_*.ipynb")]
EXERCISES = [path.stem for path in tracked("exercises/ex*.ipynb")]


def read(html, name):
    return (html / f"{name}.html").read_text("utf-8")


def links(page, button):
    """Where the buttons of this kind lead. (By pattern: a parser takes a second a chapter.)"""
    tags = re.findall(rf"<a [^>]*{button}[^>]*>", page)
    return {unescape(href) for tag in tags for href in re.findall('href="([^"]*)"', tag)}


@pytest.fixture
def playing(open_page):
    """The landing page for a reader who minds no motion: the page, its play button and its slider."""
    page = open_page("book/index.html")
    page.route("**/bench/*", lambda route: route.abort())  # the drawn figure stands in for what trains
    page.emulate_media(reduced_motion="no-preference")
    page.reload()
    return page, page.locator(".explore-play"), page.locator("figure.explore input[type=range]")


def test_play_runs_to_the_end_and_stops(playing):
    page, button, slider = playing
    page.clock.install()
    page.reload()
    last = slider.get_attribute("max")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true" and "training step" in button.get_attribute("aria-label")
    seen = set()
    for _ in range(int(last) + 2):
        seen.add(page.locator(".explore-frame:visible").get_attribute("data-key"))
        page.clock.run_for(500)
    assert seen == {str(i) for i in range(int(last) + 1)}, "every picture is shown"
    assert slider.input_value() == last and button.get_attribute("aria-pressed") == "false"
    page.keyboard.press("Space")  # from the end it begins again
    assert slider.input_value() == "0" and button.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "false"


def test_play_stops_when_the_reader_moves_the_slider(playing):
    page, button, slider = playing
    page.clock.install()
    page.reload()
    button.click()
    page.clock.run_for(1700)
    assert int(slider.input_value()) > 0
    slider.focus()
    page.keyboard.press("Home")
    page.clock.run_for(3000)
    assert slider.input_value() == "0" and button.get_attribute("aria-pressed") == "false"


def test_no_play_button_for_who_wants_no_motion(playing):
    page, button, _ = playing
    assert button.is_visible()
    page.emulate_media(reduced_motion="reduce")
    assert not button.is_visible()


def test_on_paper(open_page):
    page = open_page("book/01_moving_targets.html")
    page.locator("button.theme-switch-button:visible").first.evaluate("() => document.documentElement.dataset.theme = 'dark'")
    page.emulate_media(media="print")
    for gone in ("#pst-primary-sidebar", "#pst-secondary-sidebar", ".bd-header-article", "button", ".explore-controls",
                 ".prev-next-footer", "details.hide:not([open])"):
        assert not [tag for tag in page.locator(gone).all() if tag.is_visible()], f"{gone} is printed"
    assert page.locator(".explore-frame:visible").count() == page.locator("figure.explore").count() > 0
    said = page.locator("figure.explore figcaption").first.evaluate("tag => getComputedStyle(tag, '::after').content")
    assert "on the web page" in said.lower()
    for whole in (".claim", "figure.plot"):
        assert page.locator(whole).first.evaluate("tag => getComputedStyle(tag).breakInside") == "avoid"
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    white = "tag => getComputedStyle(tag).backgroundColor"
    assert page.locator("body").evaluate(white) == "rgb(255, 255, 255)"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.pdf(prefer_css_page_size=True)[:5] == b"%PDF-"


def test_no_page_takes_a_ream(open_page):
    """Sheets of A4, as a printer would count them."""
    sheets = {}
    for name in pages():
        pdf = open_page(f"{name}.html").pdf(prefer_css_page_size=True, format="A4")
        sheets[name] = len(re.findall(rb"/Type\s*/Page\b", pdf))
    every_claim = sheets.pop("book/15_verdict")  # it lists all claims of the book
    assert 1 < max(sheets.values()) <= 20 and every_claim <= 40, (sheets, every_claim)


def test_a_line_of_prose_has_about_85_characters(open_page):
    page = open_page("book/05_measuring_shift.html")
    # Characters of each full line: those of a paragraph, by the line they stand on, without the last.
    lines = page.evaluate("""() => [...document.querySelectorAll("article section > p")].flatMap(p => {
      if (p.querySelector(".math, code")) return [];
      const lines = {}, range = document.createRange();
      const walk = document.createTreeWalker(p, NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) for (let i = 0; i < walk.currentNode.length; i++) {
        range.setStart(walk.currentNode, i), range.setEnd(walk.currentNode, i + 1);
        const line = Math.round(range.getBoundingClientRect().bottom / 8);
        lines[line] = (lines[line] ?? 0) + 1;
      }
      return Object.values(lines).slice(0, -1);
    })""")
    assert len(lines) > 30
    assert 80 <= sorted(lines)[len(lines) // 2] <= 92


def test_the_first_tab_stop_skips_to_the_text(open_page):
    page = open_page("book/01_moving_targets.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Skip to main content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize("name", ["book/02_batch_norm", "book/10_scale_invariance", "book/15_verdict", "book/notation",
                                  "exercises/ex02_covariate_shift"])
def test_what_is_too_wide_for_a_phone_scrolls_in_its_box(open_page, name):
    page = open_page(f"{name}.html")
    page.set_viewport_size({"width": 390, "height": 844})
    cut = page.evaluate("""() => [...document.querySelectorAll("article *")].filter(tag => {
      const {right, width} = tag.getBoundingClientRect();
      if (!width || right <= innerWidth + 1) return false;
      if (tag.closest("[hidden], .visually-hidden, .sr-only")) return false;
      for (let box = tag.parentElement; box; box = box.parentElement) {
        if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)) return false;
      }
      return true;
    }).map(tag => tag.outerHTML.slice(0, 100))""")
    assert not cut


def test_hints_open_by_keyboard(open_page):
    page = open_page("exercises/ex01_batch_norm.html")
    hint = page.locator("article details").first
    hint.locator("summary").focus()
    for state in True, False:
        page.keyboard.press("Enter")
        assert hint.evaluate("tag => tag.open") is state and hint.locator("p").first.is_visible() is state


def test_the_time_at_the_top_of_a_chapter(build, html):
    """The run's time is the measured one; the notebook's estimate, which Colab shows, is near what the page counts."""
    for name in CHAPTERS:
        text = re.search(r"<p><strong>Time</strong>(.*?)</p>", read(html, f"book/{name}"))[1]
        said = re.fullmatch(r" about (\d+) minutes to read: [\d,]+ words, \d+ figures, \d+ lines of code\."
                            r" The run behind this page took (\d+) s on a machine with \d+ cores\.", text)
        assert said, f"{name}: {text}"
        assert abs(int(said[2]) - build.timings["chapters"][name]) <= 1, name
        source = nbformat.read(ROOT / "book" / f"{name}.ipynb", as_version=4).cells[0].source
        typed = int(re.search(r"\*\*Time\*\* about (\d+) minutes to read\.", source)[1])
        assert abs(typed - int(said[1])) <= 10, f"{name} says {typed} minutes; type {said[1]} into its first cell"


def test_what_counts_as_reading():
    body = ("<h1>Two words</h1><p>and three more</p><svg><text>not this</text></svg><div class='math'>x</div>"
            "<pre>one = 1\n\ntwo = 2</pre><details><p>folded</p><pre>no = 0</pre></details><figure class='plot'></figure>")
    found = reading.contents(body)
    assert found == {"words": 5, "figures": 1, "sliders": 0, "formulas": 1, "lines": 2}
    assert reading.minutes(**found) == 5
    assert reading.minutes(words=2300, figures=4, sliders=1, formulas=4, lines=240) == 20  # 10 + 2 + 1 + 1 + 6


def test_style_sheets_keep_what_pages_use_and_nothing_else(tmp_path):
    (tmp_path / "base.css").write_text(".b{color:var(--c)}")
    (tmp_path / "a.css").write_text(
        '@import "base.css"; :root{--c:red;--d:var(--e);--e:blue;--u:url("data:x;y")} .a{margin:0} .gone,.a b{top:0}'
        ' .gone .a{top:1px}'
        ' @media print{.gone{top:2px}.b:not(.gone){top:3px}} .from-script{top:4px} @font-face{font-family:"Font Awesome"}')
    page = tmp_path / "page.html"
    html = '<link rel="stylesheet" href="_static/a.css?v=1" /><p class="a b">'
    for _ in range(2):  # the second time it finds its own work
        html = lean.slim({page: html}, tmp_path, "add('from-script')")[page]
        assert re.search(r'href="_static/a\.lean\.css\?v=\w{8}"', html)
    css = (tmp_path / "a.lean.css").read_text()
    assert "".join(css.split()).replace(";}", "}") == (
        ".b{color:var(--c)}:root{--c:red}.a{margin:0}.ab{top:0}"
        "@mediaprint{.b:not(.gone){top:3px}}.from-script{top:4px}")


def test_cite_this_is_made_from_the_citation_file(html, tmp_path):
    box = BeautifulSoup(read(html, pages()[0]).partition('<section id="cite-this">')[2], "html.parser")
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    here = address.of_this_build() or cff["repository-code"]
    assert here == (address.of_this_build() or address.declared())
    for text in box.select_one("p").get_text(), box.select_one("pre").get_text():
        assert all(part in text for part in (cff["title"], cff["authors"][0]["name"], str(cff["version"]), here)), text
    assert box.select_one("pre").get_text().startswith("@misc{")

    other = tmp_path / "CITATION.cff"
    other.write_text(json.dumps({"authors": [{"given-names": "Ada", "family-names": "L."}, {"name": "B"}], "title": "T",
                                 "version": 2.0, "date-released": "2027-01-31", "repository-code": "https://example.org/t"}))
    cited = citing.read(other)
    assert citing.plain(cited) == "Ada L., B (2027). T. Version 2.0. https://example.org/t"
    assert "author  = {{Ada L.} and {B}}" in citing.bibtex(cited) and "year    = {2027}" in citing.bibtex(cited)


def test_suggest_edit_leads_to_the_file_the_page_is_made_from(html):
    here = address.of_this_build() or address.declared()
    for name in pages():
        page = read(html, name)
        [source] = [path for path in (ROOT / f"{name}.ipynb", ROOT / f"{name}.md") if path.exists()]
        edits = links(page, "btn-source-edit-button")
        if source.stem in EXERCISES:
            assert not edits, f"{name} is generated from its master: an edit would be lost"
        else:
            assert edits == {f"{here}/edit/main/{source.relative_to(ROOT).as_posix()}"}, name
        assert {link.partition("?")[0] for link in links(page, "btn-source-issues-button")} == {f"{here}/issues/new"}, name
