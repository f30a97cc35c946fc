"""Gather the verdicts of all chapters into the table of the last one, and fill in every reference to a claim.

A page asks for the table with `<div id="every-claim"></div>` and for one verdict with
`<span class="claim-ref" data-claim-id="some-claim"></span>`. Both are filled after the pages are written, from the verdict cards
that stand on them: what the table says is what the chapters say, and nothing is typed twice.
"""

import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup
from sphinx.errors import ExtensionError

CARD = re.compile(r'<div class="claim" .*?</div>\s*</dl>.*?</div>', re.S)
TABLE = re.compile(r'<div id="every-claim">(?:\s*<!-- gathered -->.*?<!-- end -->)?\s*</div>', re.S)
REFERENCE = re.compile(r'(<span class="claim-ref" data-claim-id="([^"]*)">)[^<]*(?:<a .*?</a>)?(</span>)', re.S)
VERDICTS = ("supported", "contradicted", "inconclusive")
FIGURES = ("data-verdict", "data-effect", "data-low", "data-high", "data-seeds")


@dataclass(frozen=True)
class Card:
    """One verdict as it stands on a page: texts as HTML, figures as written."""

    id: str
    page: str  # from the root of the book, without suffix
    chapter: str
    says: str
    source: str
    measured: str
    effect: str
    predicted: str
    seeds: str
    figures: dict[str, str]

    @property
    def verdict(self) -> str:
        return self.figures["data-verdict"]

    def link(self, page: str, text: str) -> str:
        target = posixpath.relpath(f"{self.page}.html", posixpath.dirname(page))
        return f'<a href="{target}#claim-{self.id}">{text}</a>'


def cards_of(page: str, chapter: str, html: str) -> list[Card]:
    """The verdict cards on a page, in order."""
    found = []
    for card in CARD.findall(html):
        tag = BeautifulSoup(card, "html.parser").find()
        facts = {term.get_text(): escape(term.find_next("dd").get_text()) for term in tag.select("dt")}
        found.append(Card(
            tag["data-claim-id"], page, chapter, escape(tag.select_one(".claim-says").get_text()),
            escape(tag.select_one(".claim-source").get_text()), facts["Measured"], facts["Effect"], facts["Predicted"],
            facts["Seeds"], {name: tag[name] for name in FIGURES}))
    begun = html.count('<div class="claim" ')
    if len(found) != begun:
        raise ExtensionError(f"{page}: {begun} verdict cards, of which {len(found)} can be read; "
                             "has bncourse.claims changed their form?")
    return found


def table(cards: list[Card], page: str) -> str:
    """The table of all claims with its filters. Without a script it is simply all of them."""
    counts = Counter(card.verdict for card in cards)
    chapters = list(dict.fromkeys(card.chapter for card in cards))
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])

    def choice(name: str, label: str, everything: str, values) -> str:
        options = "".join(f"<option>{value}</option>" for value in values)
        return f'<label>{label} <select name="{name}"><option value="">{everything}</option>{options}</select></label>'

    rows, whole = [], ""
    for card in cards:
        # "... and at a small one." goes on from the claim before it, which a filter may hide.
        goes_on = card.says.startswith("...")
        before = f'<span class="claim-before">{whole} </span>' if goes_on else ""
        whole = whole if goes_on else card.says
        figures = " ".join(f'{name}="{value}"' for name, value in card.figures.items())
        rows.append(
            f'<tr data-claim-id="{card.id}" {figures} data-chapter="{card.chapter}">'
            f'<td data-label="Verdict" class="claim-verdict">{card.verdict}</td>'
            f'<td data-label="Claim">{before}{card.link(page, card.says)}</td>'
            f'<td data-label="Source">{card.source}</td>'
            f'<td data-label="Prediction">{card.measured}: {card.predicted}</td>'
            f'<td data-label="Effect and interval">{card.effect}; {card.seeds} seeds</td>'
            f'<td data-label="Chapter">{card.chapter}</td></tr>')
    heads = "".join(f'<th scope="col">{head}</th>' for head in (
        "Verdict", "Claim", "Source", "Prediction", "Effect and interval", "Chapter"))
    return (f'<div id="every-claim"><!-- gathered --><p>{len(cards)} claims: {summary}.</p>'
            f'<form class="claim-filter" hidden>{choice("verdict", "Verdict", "any", VERDICTS)}'
            f'{choice("chapter", "Chapter", "all", chapters)}<label>Words <input name="words" type="search"></label>'
            f'<output aria-live="polite"></output></form>'
            f'<div class="claim-rows" role="region" aria-label="Every claim of this book" tabindex="0">'
            f'<table class="claim-table"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div><!-- end --></div>')


def gather(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    names = sorted(app.env.found_docs)
    pages = {name: Path(app.outdir, f"{name}.html").read_text("utf-8") for name in names}
    cards, seen = [], {}
    for name, html in pages.items():
        title = escape(app.env.titles[name].astext())
        number = re.match(r"(\d\d)_", posixpath.basename(name))
        for card in cards_of(name, f"{int(number[1])} {title}" if number else title, html):
            if card.id in seen:
                raise ExtensionError(f"two claims are called {card.id!r}: on {seen[card.id].page} and on {name}")
            seen[card.id] = card
            cards.append(card)

    for name, html in pages.items():
        def filled(match):
            if match[2] not in seen:
                raise ExtensionError(f"{name} refers to a claim {match[2]!r}, which no chapter makes; "
                                     f"there are {', '.join(seen)}")
            card = seen[match[2]]
            return match[1] + card.link(name, f"{card.verdict}: {card.effect.removesuffix(', 95 % interval')}") + match[3]

        new = TABLE.sub(lambda match: table(cards, name), REFERENCE.sub(filled, html))
        if new != html:
            Path(app.outdir, f"{name}.html").write_text(new, "utf-8")


def setup(app):
    app.connect("build-finished", gather)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
