"""Make the book's type from the families it is cut from: `python book/fonts.py FOLDER`, after

    pip install --no-deps --target FOLDER fontpkg-source-sans-3==3.52 fontpkg-fira-code==5.2.post1

Text is Source Sans 3, code is Fira Code, both under the SIL Open Font License. It reserves the name "Source" for the
unchanged family, so what comes out has names of its own. Kept are the characters and features below and the weights from
regular to bold. A page that uses another character fails a test: add it here, or say it as a formula.
"""

import sys
from math import radians, tan
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from fontTools.ttLib.tables._g_l_y_f import USE_MY_METRICS, Glyph, GlyphComponent
from fontTools.ttLib.tables.TupleVariation import TupleVariation
from fontTools.varLib.instancer import instantiateVariableFont

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "book" / "_static" / "fonts"  # woff2, for browsers
MEASURES = ROOT / "bncourse" / "fonts"  # ttf of one weight: matplotlib reads nothing else

# fmt: off
RANGES = [
    (0x20, 0x7E), (0xA0, 0x17F),  # Latin, with the letters of names: ą, š, ŷ
    (0x300, 0x304), (0x391, 0x3C9),  # accents to put on a letter, Greek
    (0x2010, 0x2026), (0x2030, 0x2033), (0x2039, 0x203A), (0x2044, 0x2044),  # dashes, quotation marks, primes
    (0x2070, 0x2099), (0x20AC, 0x20AC), (0x2113, 0x2113),  # superscripts, subscripts, €, ℓ
    (0x2190, 0x2195), (0x2200, 0x22FF),  # arrows, signs of mathematics
    (0x25A0, 0x25CF), (0x2713, 0x2717), (0x27E8, 0x27E9),  # bullets, ✓ ✗, ⟨ ⟩
]
# fmt: on
CHARACTERS = {code for first, last in RANGES for code in range(first, last + 1)}
LETTERS = {*range(0x20, 0x7F), *range(0x391, 0x3CA), 0x2207}
FEATURES = ["kern", "mark", "mkmk", "ccmp", "locl", "tnum"]  # no ligatures: `!=` in code is two characters
REGULAR, BOLD = 400, 700
LARGER = 1.125  # Source Sans is small for its size; the style sheet's `size-adjust` says the same


def cut(source, family, style, weights, features=FEATURES, characters=CHARACTERS):
    """The font file ``source`` with these characters alone, at these weights, under another name."""
    font = TTFont(source, recalcTimestamp=False)  # the same bytes each time
    subsetter = Subsetter(Options(layout_features=features, hinting=False, name_IDs=[0, 7, 13, 14], notdef_outline=True))
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    if ord("∇") not in font.getBestCmap():
        add_nabla(font)
    font = instantiateVariableFont(font, {"wght": weights})
    whole = f"{family} {style}"
    for number, text in (1, family), (2, style), (3, whole), (4, whole), (6, whole.title().replace(" ", "")):
        font["name"].setName(text, number, 3, 1, 0x409)
    return font


def add_nabla(font):
    """∇ for a variable font that lacks it: Δ upside down, as wide as that at every weight."""
    delta = font.getBestCmap()[ord("Δ")]
    part = GlyphComponent()
    part.glyphName, part.flags = delta, USE_MY_METRICS
    height, slant = font["glyf"][delta].yMax, tan(radians(-font["post"].italicAngle))
    part.x, part.y, part.transform = round(slant * height), height, [[1, 0], [-2 * slant, -1]]
    nabla = Glyph()
    nabla.numberOfContours, nabla.components = -1, [part]
    font["glyf"]["nabla"] = nabla
    font["hmtx"]["nabla"] = font["hmtx"][delta]
    # Of a composite the variations move its one part, here not at all, and the four points that say how wide it is.
    font["gvar"].variations["nabla"] = [
        TupleVariation(one.axes, [(0, 0), *(point or (0, 0) for point in one.coordinates[-4:])])
        for one in font["gvar"].variations[delta]
    ]
    del font["HVAR"]  # the same widths again, in a table that has none for the new glyph
    for table in font["cmap"].tables:
        if table.isUnicode():
            table.cmap[ord("∇")] = "nabla"


def save(font, path):
    font.flavor = "woff2" if path.suffix == ".woff2" else None
    path.parent.mkdir(exist_ok=True)
    font.save(path)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.1f} kB, {len(font.getBestCmap())} characters")


def measure(source, style, weight=REGULAR, characters=CHARACTERS):
    """As large as on the page, in a file that says nothing of kerning and weights."""
    font = cut(source, "bncourse text", style, weight, [], characters)
    font["OS/2"].usWeightClass = weight
    font["head"].unitsPerEm = round(font["head"].unitsPerEm / LARGER)
    return font


def main(folder):
    def source(package, name):
        return folder / package / "files" / f"{name}[wght].ttf"

    upright, italic = (source("fontpkg_source_sans_3", name) for name in ("SourceSans3", "SourceSans3-Italic"))
    code = source("fontpkg_fira_code", "FiraCode")
    save(cut(upright, "bncourse text", "Regular", (REGULAR, BOLD)), PAGES / "text.woff2")
    save(cut(italic, "bncourse text", "Italic", REGULAR), PAGES / "text-italic.woff2")
    ticks = set(map(ord, "✓✗"))  # Fira Code's look like a root: code takes those of the text
    save(cut(code, "bncourse code", "Regular", (REGULAR, BOLD), characters=CHARACTERS - ticks), PAGES / "code.woff2")
    save(measure(upright, "Regular"), MEASURES / "text.ttf")
    save(measure(upright, "Bold", BOLD, LETTERS), MEASURES / "text-bold.ttf")
    save(measure(italic, "Italic", characters=LETTERS), MEASURES / "text-italic.ttf")
    for package, places in {
        "fontpkg_source_sans_3": (PAGES / "text-LICENSE.txt", MEASURES / "LICENSE.txt"),
        "fontpkg_fira_code": (PAGES / "code-LICENSE.txt",),
    }.items():
        [licence] = folder.glob(f"{package}-*.dist-info/licenses/*")
        for place in places:
            place.write_bytes(licence.read_bytes())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
