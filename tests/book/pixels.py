"""Contrast of text as it is on the screen, whatever made it so: colours, opacity, filters, a picture behind it.

A page has thousands of words in a few dozen kinds: the same colour on the same ground. One of each kind is looked at, twice:
with the text made bolder, so that the inside of every letter has the letter's full colour, and with its own text made
transparent, which shows what lies behind it. Nothing is moved in between, so they differ by that text alone. A figure is
looked at as a whole, because its letters may lie on anything.
"""

import io
import re
from contextlib import contextmanager

import numpy as np
from PIL import Image

# Puts one text of each kind into window.kinds, and every element whose text has one of them into window.looked.
FIND = """() => {
  const kinds = new Map(), looked = new Set();
  const unseen = "script, style, title, noscript, #pst-skip-link";
  const seen = element => !element.closest(unseen) && element.checkVisibility({opacityProperty: true, visibilityProperty: true});
  // All that colours what lies on an element, from itself outwards.
  const grounds = new Map([[null, ""]]);
  const ground = element => {
    if (!grounds.has(element)) {
      const style = getComputedStyle(element), paints = [];
      if (style.backgroundColor !== "rgba(0, 0, 0, 0)") paints.push(style.backgroundColor);
      for (const name of ["backgroundImage", "filter", "opacity", "mixBlendMode"])
        if (!["none", "1", "normal"].includes(style[name])) paints.push(style[name]);
      grounds.set(element, paints.join(" ") + (paints.length ? " / " : "") + ground(element.parentElement));
    }
    return grounds.get(element);
  };
  const add = (element, colour, what, least, box) => {
    looked.add(element);
    const name = `${what} in ${colour} on ${ground(element)}`;
    if (!kinds.has(name)) kinds.set(name, {element, box, name, least, says: element.textContent.trim().slice(0, 60)});
  };
  const least = style => {
    const size = parseFloat(style.fontSize);
    return size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5;
  };
  const letters = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (letters.nextNode()) {
    const node = letters.currentNode, element = node.parentElement;
    if (!node.data.trim() || element.closest("svg, math") || !seen(element)) continue;
    const range = new Range();
    range.selectNodeContents(node);
    const size = range.getClientRects()[0];
    if (!size || size.width < 3 || size.height < 3) continue;  // there for screen readers
    add(element, getComputedStyle(element).color, "text", least(getComputedStyle(element)), range);
  }
  for (const element of document.body.querySelectorAll("*:not(svg *, math *, pre *)")) {
    if (!seen(element)) continue;
    const style = getComputedStyle(element);
    for (const side of ["::before", "::after"]) {
      const before = getComputedStyle(element, side);
      if (/^"[^"]*[^"\\s]/.test(before.content) && before.display !== "none")
        add(element, before.color, side, least(before), element);
    }
    if (element.matches("math")) add(element, style.color, "formula", 4.5, element);
    if (element.matches("select, input:is([type=text], [type=search])")) add(element, style.color, "field", 4.5, element);
    if (element.matches("[class*='fa-']")) add(element, style.backgroundColor, "icon", 3, element);
    if (element.matches("svg") && element.querySelector("text")) {
      const inks = new Set([...element.querySelectorAll("text")].map(text => getComputedStyle(text).fill));
      // Ink of its own may lie on anything, and each figure has to be seen.
      const number = inks.size > 1 ? ` ${[...document.querySelectorAll("svg")].indexOf(element)} of ${document.title}` : "";
      add(element, [...inks].sort().join(" and "), "figure" + number, 4.5, element);
    }
  }
  Object.assign(window, {kinds, looked});
  return [...kinds.values()].map(({name, least, says}) => ({name, least, says}));
}"""

# Brings one kind into the window and says where it is, and where in it are letters. (In a figure not everywhere: the
# browser does not draw the same line twice alike, to the last shade of its edge.)
SHOW = """name => {
  const {element, box} = kinds.get(name);
  element.scrollIntoView({block: "center", inline: "center", behavior: "instant"});
  const lines = box instanceof Range ? box.getClientRects() : [box.getBoundingClientRect()];
  const place = lines.length > 1 ? DOMRect.fromRect({...lines[0].toJSON(), height: lines[0].height - 5}) : lines[0]; // not the next one's tops
  const left = Math.max(0, place.left - 2), top = Math.max(0, place.top - 2);
  const clip = {x: left, y: top, width: Math.min(innerWidth, place.right + 2) - left,
                height: Math.min(innerHeight, place.bottom + 2) - top};
  const letters = element.matches("svg") ? [...element.querySelectorAll("text")].map(text => text.getBoundingClientRect()) : [place];
  return [clip, letters.map(box => [box.left - left, box.top - top, box.right - left, box.bottom - top])];
}"""

STILL = "*, *::before, *::after { transition: none !important; animation: none !important; caret-color: transparent !important; }"
BOLDER = "*, *::before, *::after { -webkit-text-stroke: 1.5px !important; }"
# A letter of a figure does not know this property.
STROKES = """bolder => { for (const text of document.querySelectorAll("svg text, svg tspan")) {
  text.style.stroke = bolder ? getComputedStyle(text).fill : "";
  text.style.strokeWidth = bolder ? "1.2px" : "";
} }"""
NO_TEXT = """
  [data-bare], [data-bare] * {
    &, &::before, &::after, &::placeholder { -webkit-text-fill-color: transparent !important; -webkit-text-stroke: 0 !important;
      text-decoration-color: transparent !important; text-shadow: none !important; }
    &:is(svg text, svg text *) { fill: transparent !important; stroke: none !important; }
    &[class*='fa-'] { background-color: transparent !important; } }"""
BARE = "([name, bare]) => kinds.get(name).element.toggleAttribute('data-bare', bare)"
BLOCK = 4  # pixels; a bolder letter has its full colour somewhere within a block of the next


def luminance(rgb):
    """Relative luminance (WCAG 2.2) of colours (..., 3) from 0 to 255."""
    part = np.arange(256) / 255
    part = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    rgb = np.asarray(rgb, dtype=np.uint8)
    return 0.2126 * part[rgb[..., 0]] + 0.7152 * part[rgb[..., 1]] + 0.0722 * part[rgb[..., 2]]


def contrast(one, other):
    """Contrast ratio (WCAG 2.2), 1 to 21, of two colours or pictures (..., 3)."""
    one, other = luminance(one), luminance(other)
    return (np.maximum(one, other) + 0.05) / (np.minimum(one, other) + 0.05)


def rested(page):
    """Where networks train in the page: until they have."""
    if page.locator(".bench").count():
        page.locator(".bench").scroll_into_view_if_needed()
        page.wait_for_function("""() => {
          const buttons = [...document.querySelectorAll(".bench button")];
          return buttons.length && buttons.every(own => own.textContent !== "Stop" || own.disabled || own.getAttribute("aria-disabled") === "true");
        }""", timeout=120_000)


@contextmanager
def styled(page, rules):
    tag = page.add_style_tag(content=rules)
    yield
    tag.evaluate("tag => tag.remove()")


def picture(page, clip):
    """A part of the window, {x, y, width, height} in pixels: an array (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))


def with_and_without(page, name):
    """One kind as it looks now, with its text and without: two arrays (height, width, 3), equal where no letter can be."""
    clip, letters = page.evaluate(SHOW, name)
    text = picture(page, clip)
    page.evaluate(BARE, [name, True])
    ground = picture(page, clip)
    page.evaluate(BARE, [name, False])
    can_be = np.zeros(text.shape[:2], bool)
    for left, top, right, bottom in letters:
        can_be[max(0, int(top) - 2) : int(bottom) + 3, max(0, int(left) - 2) : int(right) + 3] = True
    return text, np.where(can_be[..., None], ground, text)


def blocks(values):
    """The greatest of each block: (height, width) to a BLOCK-th of both."""
    height, width = (-side % BLOCK for side in values.shape)
    values = np.pad(values, ((0, height), (0, width)))
    return values.reshape(values.shape[0] // BLOCK, BLOCK, -1, BLOCK).max((1, 3))


def around(values):
    """The greatest of each block and the eight around it."""
    wide = np.pad(values, 1)
    wide = np.maximum.reduce([wide[:-2], wide[1:-1], wide[2:]])
    return np.maximum.reduce([wide[:, :-2], wide[:, 1:-1], wide[:, 2:]])


def least_contrast(text, ground):
    """Of all letters, that of the faintest: of the pictures with and without text. 1 where there is no letter at all.

    A shade or two is no letter: the browser does not draw the corner of a frame twice alike.
    """
    found = blocks(contrast(text, ground))
    there = blocks((np.abs(text.astype(int) - ground) > 2).any(-1))
    return around(found)[there].min() if there.any() else 1.0


def faint_text(page, judged):
    """What is too faint on the page as it is now, in words. `judged` are the kinds that need no second look: added to."""
    page.add_style_tag(content=STILL)
    kinds = [kind for kind in page.evaluate(FIND) if kind["name"] not in judged]
    judged.update(kind["name"] for kind in kinds)
    found = []
    with styled(page, BOLDER + NO_TEXT):
        page.evaluate(STROKES, True)
        for kind in kinds:
            if (least := least_contrast(*with_and_without(page, kind["name"]))) < kind["least"]:
                found.append(f"{least:.2f}: {kind['name']}, as in “{' '.join(kind['says'].split())}”")
        page.evaluate(STROKES, False)
    return found


# The lines, markers and bars of every figure: their colours over the page's, and how much of it is theirs.
DRAWN = """() => [...document.querySelectorAll("figure svg[role=img]")].flatMap((svg, figure) => {
  let sheet = svg;
  while (getComputedStyle(sheet).backgroundColor === "rgba(0, 0, 0, 0)") sheet = sheet.parentElement;
  const found = new Map(), paper = getComputedStyle(sheet).backgroundColor;
  for (const element of svg.querySelectorAll("path:not(defs *), use")) {
    const style = getComputedStyle(element), stroked = style.stroke !== "none";
    const colour = stroked ? style.stroke : style.fill, opaque = style.opacity * (stroked ? style.strokeOpacity : style.fillOpacity);
    const thick = stroked && parseFloat(style.strokeWidth) > 1.5 && element.matches("path") && style.strokeDasharray === "none";
    const name = [colour, opaque, thick].join();
    if (colour !== "none") found.set(name, {figure, colour, opaque, thick, paper, says: svg.getAttribute("aria-label").slice(0, 60)});
  }
  return [...found.values()];
})"""


def rgb(css):
    """The three numbers of rgb(...) or rgba(...)."""
    return np.array([float(number) for number in re.findall(r"[\d.]+", css)[:3]])


def faint_lines(page):
    """What is too faint in the figures, in words: lines and markers with 4.5, what lets half of the paper through with 3.

    Bands, grids and single seeds are fainter by intention: they stand behind what is to be seen.
    """
    found, drawn = {}, page.evaluate(DRAWN)
    for one in drawn:
        paper, colour = rgb(one["paper"]), rgb(one["colour"])
        seen = one["opaque"] * colour + (1 - one["opaque"]) * paper
        least = 4.5 if one["opaque"] > 0.9 else 3 if one["opaque"] > 0.5 else 1
        if (has := contrast(seen.round(), paper.round())) < least:
            what = f"{has:.2f}: {one['colour']}, opacity {one['opaque']:.2f}, on {one['paper']}"
            found.setdefault(what, f"{what}, as in figure “{one['says']}”")
    # The colours are those that the browser computes. On the first figure: are they what it draws?
    if drawn:
        shot = page.locator("figure svg[role=img]").first.screenshot()
        there = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).reshape(-1, 3).astype(int)
        for one in drawn:
            if one["figure"] == 0 and one["thick"] and one["opaque"] == 1 and np.abs(there - rgb(one["colour"])).max(1).min() > 8:
                found[one["colour"]] = f"{one['colour']} of figure “{one['says']}” is not on the screen"
    return list(found.values())
