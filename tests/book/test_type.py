"""The book brings its own type: what a page shows is in it, and no page looks different where the machine has other fonts."""

import re
import shutil
import sys
import unicodedata
from pathlib import Path

import matplotlib
import pytest
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont

from bncourse import figures

from pixels import rested

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "book" / "_static"
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from build import pages  # noqa: E402

SOME = ["book/index.html", "book/04_noisy_batch_norm.html", "book/15_verdict.html", "exercises/ex02_covariate_shift.html"]
TICKS = set("′✓✗")  # in code they are those of the text: a rule of the style sheet says so


def characters(path):
    return {chr(code) for code in TTFont(path).getBestCmap()}


def shown(html):
    """The characters of a page as its reader sees them: of its code, and of all else. Formulas have a font of their own."""
    page = BeautifulSoup(html, "html.parser")
    for tag in page.select("script, style, math, .math"):
        tag.decompose()
    code = {character for tag in page.select("pre, code, kbd, samp") for character in tag.extract().get_text()}
    return code, set(page.body.get_text())


def lacking(found, font):
    # An accent on a letter that has it in one (x̂ has not) is asked for as one.
    return {one for one in unicodedata.normalize("NFC", "".join(sorted(found))) if not one.isspace() and one not in font}


@pytest.mark.parametrize("name", [*(f"{name}.html" for name in pages()), "search.html", "genindex.html"])
def test_a_page_shows_no_character_that_its_type_lacks(html, name):
    text, text_italic, code = (characters(STATIC / "fonts" / f"{font}.woff2") for font in ("text", "text-italic", "code"))
    in_code, elsewhere = shown((html / name).read_text("utf-8"))
    written = set("".join(re.findall(r'(?:content|--bn-sign): "([^"]*)"', (STATIC / "bncourse.css").read_text("utf-8"))))
    say = "say it as a formula, or add it to RANGES in book/fonts.py and run that"
    assert not (missing := lacking(elsewhere | written, text & text_italic)), f"text has no {missing}: {say}"
    assert not (missing := lacking(in_code, code | TICKS)), f"code has no {missing}: {say}"


def test_a_missing_character_is_seen():
    text, code = shown("<body><p>Latin, ж</p><pre>x = ж</pre><script>ъ</script><span class='math'>ъ</span></body>")
    assert lacking(text, characters(STATIC / "fonts" / "text.woff2")) == {"ж"}
    assert lacking(code, characters(STATIC / "fonts" / "code.woff2")) == {"ж"}


def test_figures_are_measured_with_the_type_of_the_page():
    """The same widths, in parts of the font's size; the page sets its letters larger."""
    for measure, page in ("text", "text"), ("text-italic", "text-italic"):
        measured, drawn = TTFont(figures.FONTS / f"{measure}.ttf"), TTFont(STATIC / "fonts" / f"{page}.woff2")
        widths = [font["hmtx"][font.getBestCmap()[ord("m")]][0] / font["head"].unitsPerEm for font in (measured, drawn)]
        larger = re.findall(r'url\("fonts/text\.woff2"\)[^}]*size-adjust: ([\d.]+)%', (STATIC / "bncourse.css").read_text("utf-8"))
        assert widths[0] / widths[1] == pytest.approx(float(larger[0]) / 100, rel=0.002)


# Where everything on a page is, and how large.
PLACES = """() => [...document.querySelectorAll("body *")].map(tag => {
  const {x, y, width, height} = tag.getBoundingClientRect();
  return [tag.tagName, x, y, width, height].join(" ");
})"""


@pytest.mark.parametrize("width", [1300, 390])
def test_pages_look_the_same_whatever_fonts_the_machine_has(launch, site, tmp_path, width):
    """Two machines, one with a wide sans-serif and one with a narrow serif and no monospaced font, both from matplotlib."""
    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    looks = []
    for family in "DejaVu", "STIXGeneral":
        (tmp_path / family).mkdir()
        for path in fonts.glob(f"{family}*.ttf"):
            shutil.copy(path, tmp_path / family)
        browser = launch(tmp_path / family)
        page = browser.new_page(viewport={"width": width, "height": 900}, reduced_motion="reduce")
        found = {}
        for name in SOME:
            page.goto(site + name, wait_until="networkidle")
            page.evaluate("window.MathJax?.startup?.promise")
            page.evaluate("document.fonts.ready")
            rested(page)
            page.evaluate("scrollTo(0, 0)")
            found[name] = page.evaluate(PLACES)
        # The two do differ: a paragraph that asks for the machine's own font shows it.
        page.set_content("<span style='font: 16px sans-serif'>The width of a line</span>")
        looks.append((found, page.locator("span").bounding_box()["width"]))
        browser.close()
    (first, one), (second, other) = looks
    assert abs(one - other) > 10, "the two machines have the same fonts: this test tests nothing"
    for name in SOME:
        moved = [f"{here} -> {there}" for here, there in zip(first[name], second[name], strict=True) if here != there]
        assert not moved, f"{name}: {len(moved)} parts of the page, the first: {moved[:3]}"
