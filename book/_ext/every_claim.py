"""Gather what all chapters measured: the list and the map of the last chapter, every reference to a claim, the reader's score.

A page asks for the list with `<div id="every-claim"></div>`, for the map with `<div id="map"></div>`, for the score with
`<span id="score"></span>`, for how often verdicts change with the seeds (blocks.csv) with `<div id="blocks"></div>`, for one verdict with `<span class="claim-ref" data-claim-id="some-claim"></span>` and for the figure
above a claim's card with `<div class="borrowed" data-claim-id="some-claim"></div>`. All are filled after the pages are written,
from what the chapters told (told.py): what they say is what the chapters measured, and nothing is typed twice.
"""

import csv
import itertools
import json
import os
import posixpath
import re
from collections import Counter
from html import escape
from pathlib import Path

import nbformat
from sphinx.errors import ExtensionError
from told import first_seed

LIST = re.compile(r'<div id="every-claim">(?:<!-- gathered -->.*?<!-- end -->)?\s*</div>', re.S)
MAP = re.compile(r'<div id="map">(?:<!-- gathered -->.*?<!-- end -->)?\s*</div>', re.S)
BLOCKS = re.compile(r'<div id="blocks">(?:<!-- gathered -->.*?<!-- end -->)?\s*</div>', re.S)
SCORE = re.compile(r'<span id="score"[^>]*>[^<]*</span>')
BORROWED = re.compile(r'(<div class="borrowed" data-claim-id="([^"]*)">)(?:<!-- gathered -->.*?<!-- end -->)?\s*(</div>)', re.S)
REFERENCE = re.compile(r'(<span class="claim-ref" data-claim-id="([^"]*)">)[^<]*(?:<a .*?</a>)?(?:<small>.*?</small>)*(</span>)', re.S)
LEANS = re.compile(r"\.\.\.|…|(The same|It|Its|They|So|Nor|And|But|That|This|Of that)\b")  # words that only what stands before can explain
FIGURE = re.compile(r'<figure class="(?:plot|explore)".*?</figure>', re.S)
VERDICTS = ("supported", "contradicted", "inconclusive")
SIGNS = {"supported": "✓", "contradicted": "✗", "inconclusive": "?"}
SUSPECTS = {"shift": "less shift of layer inputs", "smoothness": "a smoother loss", "gradient": "better gradients",
            "scale": "scale invariance and larger rates", "noise": "noise of the batch"}
KINDS = {"present": "Is it there?", "intervention": "What if only it changes?", "order": "Does more of it go with training?",
         "theory": "What does theory say?"}
SIDES = {"for": "+ speaks for it", "against": "− speaks against it", "open": "? leaves it open"}


def filled(content):
    return f"<!-- gathered -->{content}<!-- end -->"


def link(claim, page, text):
    return f'<a href="{posixpath.relpath(claim["page"] + ".html", posixpath.dirname(page))}#claim-{claim["id"]}">{text}</a>'


def referred(claim, page):
    """The verdict of a claim, as a link to it; and what became of it at a larger scale."""
    there = "".join(f'<small> (on {escape(one["data"])}{", too" if one["verdict"] == claim["verdict"] else ": " + one["verdict"]})</small>'
                    for one in claim["scales"])
    return link(claim, page, f"{claim['verdict']}: {escape(claim['effect_text'])}") + there


def listed(claims, page):
    """All claims by chapter, each with its interval drawn against its threshold. Without a script, all of them, unfolded by hand."""
    chapters = list(dict.fromkeys(claim["chapter"] for claim in claims))

    def tally(some):
        counts = Counter(claim["verdict"] for claim in some)
        return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])

    def choice(name, label, everything, values):
        options = "".join(f"<option>{value}</option>" for value in values)
        return f'<label>{label} <select name="{name}"><option value="">{everything}</option>{options}</select></label>'

    def elsewhere(claim):
        return "".join(f'<small data-verdict="{there["verdict"]}">{there["data"]}: {SIGNS[there["verdict"]]} {there["verdict"]}</small>'
                       for there in claim["scales"])

    def row(claim):
        return (f'<li class="claim-row" data-verdict="{claim["verdict"]}"><span class="claim-verdict">{SIGNS[claim["verdict"]]} '
                f'{claim["verdict"]}{elsewhere(claim)}</span><span>{link(claim, page, escape(claim["says"]))} <small>{escape(claim["source"])}</small></span>'
                f'<span class="claim-forest">{claim["picture"]}<small>{escape(claim["effect_text"])}; predicted '
                f'{escape(claim["prediction_text"])}</small>'
                "</span></li>")

    parts = []
    for chapter in chapters:
        rows = [claim for claim in claims if claim["chapter"] == chapter]
        parts.append(f'<details class="claim-chapter" data-chapter="{chapter}"><summary>{chapter} <small>{len(rows)}: {tally(rows)}</small>'
                     f'</summary><ul>{"".join(map(row, rows))}</ul></details>')
    decided = sum(claim["verdict"] != "inconclusive" for claim in claims)
    desk = [(claim["verdict"], there["verdict"]) for claim in claims for there in claim["scales"] if there["scale"] == "desk"]
    agree = sum(here == there for here, there in desk)
    turned = sum({here, there} == {"supported", "contradicted"} for here, there in desk)
    larger = f" Of these, {len(desk)} were put to a convolutional network on CIFAR-10 as well: {agree} get the same verdict there, {turned} the " \
        f"opposite one, and {len(desk) - agree - turned} are open at one of the two." if desk else ""
    return filled(
        f"<p>{len(claims)} claims: {tally(claims)}. If every true effect lay exactly on its threshold, an interval of 95 % would decide about "
        f"{0.05 * len(claims):.0f} of {len(claims)} by chance; {decided} are decided here, on seeds that follow from the chapters' code.{larger}</p>"
        f'<form class="claim-filter" hidden>{choice("verdict", "Verdict", "any", VERDICTS)}{choice("chapter", "Chapter", "all", chapters)}'
        f'<label>Words <input name="words" type="search"></label><output aria-live="polite"></output></form>{"".join(parts)}')


def side(claim):
    """On which side of its suspect a claim turned out to be."""
    intended = claim["evidence"][2]
    turned = {"for": "against", "against": "for"}[intended]
    return {"supported": intended, "contradicted": turned, "inconclusive": "open"}[claim["verdict"]]


def mapped(claims, page):
    """Suspects by kinds of evidence: a table of links, each with a sign that says on which side it is."""
    bearing = [claim for claim in claims if claim["evidence"]]
    for suspect, kind, side_ in (claim["evidence"] for claim in bearing):
        if suspect not in SUSPECTS or kind not in KINDS or side_ not in ("for", "against"):
            raise ExtensionError(f"the map has no place for {(suspect, kind, side_)}: there are {', '.join(SUSPECTS)}; {', '.join(KINDS)}")
    heads = "".join(f'<th scope="col">{head}</th>' for head in ["Suspect", *KINDS.values()])
    rows = []
    for suspect, words in SUSPECTS.items():
        cells = []
        for kind, head in KINDS.items():
            here = [claim for claim in bearing if claim["evidence"][:2] == [suspect, kind]]
            entries = "".join(f'<li class="map-{side(claim)}" title="{SIDES[side(claim)]}"><span>{SIDES[side(claim)][0]}</span> '
                              f'{link(claim, page, escape(claim["says"]))} <span title="{claim["verdict"]}">{SIGNS[claim["verdict"]]}</span></li>' for claim in here)
            cells.append(f'<td data-label="{head}">{f"<ul>{entries}</ul>" if here else "–"}</td>')
        rows.append(f'<tr><th scope="row">{words}</th>{"".join(cells)}</tr>')
    legend = f"{', '.join(SIDES.values())}. Behind an entry: {', '.join(f'{SIGNS[verdict]} {verdict}' for verdict in VERDICTS)}"
    return filled(f'<table class="map"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table><p><small>{legend}.</small></p>')


def changing(claims, page, source):
    """How often verdicts came out otherwise with other seeds, by chapter, and which; of the code as it is now."""
    with open(Path(source, "book", "blocks.csv"), encoding="utf-8", newline="") as file:
        record = list(csv.DictReader(file))
    rows, flips, runs = [], [], 0
    for chapter, group in itertools.groupby(claims.values(), key=lambda claim: claim["page"]):
        ids = {claim["id"] for claim in group}
        code = str(first_seed(nbformat.read(Path(source, f"{chapter}.ipynb"), as_version=4)))
        all_here = [row for row in record if row["chapter"] == posixpath.basename(chapter) and row["code"] == code]
        here = [row for row in all_here if row["claim"] in ids]
        wrong = Counter(row["claim"] for row in here if row["as_expected"] != "True")
        blocks = len({row["block"] for row in all_here})
        stopped = sum(row["verdict"] == "stopped" for row in all_here)
        said = f"{blocks}, of which {stopped} stopped" if stopped else blocks
        runs += len(here)
        flips += [(count, blocks, claims[id]) for id, count in wrong.items()]
        tried = f"<td>{said}</td><td>{wrong.total()} of {len(here)}</td><td>{len(wrong)} of {len(ids)}</td>" if all_here else \
            '<td colspan="3">not tried since its code changed</td>'
        rows.append(f'<tr><th scope="row">{next(claim["chapter"] for claim in claims.values() if claim["page"] == chapter)}</th>{tried}</tr>')
    which = "".join(f"<li>{link(claim, page, escape(claim['says']))} {count} of {blocks}</li>"
                    for count, blocks, claim in sorted(flips, key=lambda flip: -flip[0] / flip[1]))
    total = f"<p>{sum(flip[0] for flip in flips)} of {runs} verdicts came out otherwise than the chapter says.</p>" if runs else ""
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Chapter", "blocks of seeds", "verdicts that changed", "claims that ever did"))
    return filled(f"{total}<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
                  + (f"<p>Those that changed:</p><ul>{which}</ul>" if which else ""))


def gathered(app, names):
    """All claims in order of the pages, with page and chapter; raises where two have one name, or a memory is wrong."""
    told = json.loads(Path(os.environ["BNCOURSE_TOLD"]).read_text("utf-8"))
    claims, questions = {}, 0
    for name in names:
        here = told.get(name, {"claims": [], "questions": [], "remembered": []})
        number, title = re.match(r"(\d\d)_", posixpath.basename(name)), escape(app.env.titles[name].astext())
        questions += len(here["questions"])
        for claim in here["claims"]:
            if claim["id"] in claims:
                raise ExtensionError(f"two claims are called {claim['id']!r}: on {claims[claim['id']]['page']} and on {name}")
            if leaning := LEANS.match(claim["says"]):
                raise ExtensionError(f"{name}: claim {claim['id']!r} begins with {leaning[0]!r}, but in a list or on the map it has another "
                                     f"before it, or none. Say the whole of it: {claim['says']!r}")
            claims[claim["id"]] = claim | {"page": name, "scales": [one for one in here.get("scales", []) if one["id"] == claim["id"]], "chapter": f"{int(number[1])} {title}" if number else title}
    for name in names:
        for memory in told.get(name, {}).get("remembered", []):
            found = claims.get(memory["claim"], {}).get("verdict", "made by no chapter")
            if found != memory["verdict"]:
                raise ExtensionError(f"{name} remembers that {memory['claim']!r} is {memory['verdict']}, but it is {found}")
    return claims, questions


def gather(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    names = sorted(app.env.found_docs)
    pages = {name: Path(app.outdir, f"{name}.html").read_text("utf-8") for name in names}
    claims, questions = gathered(app, names)

    def known(name, id):
        if id not in claims:
            raise ExtensionError(f"{name} refers to a claim {id!r}, which no chapter makes; there are {', '.join(claims)}")
        return claims[id]

    def figure_of(name, id):
        page = pages[known(name, id)["page"]]
        card = page.find(f'<div class="claim" id="claim-{id}"')  # not a row of the closing table, which stands below other figures
        above = FIGURE.findall(page[: max(0, card)])
        if not above:
            raise ExtensionError(f"{name} borrows the figure above the card of {id!r}, but there is no such {'figure' if card > 0 else 'card'}")
        return above[-1]

    for name, html in pages.items():
        new = REFERENCE.sub(lambda m: m[1] + referred(known(name, m[2]), name) + m[3], html)
        new = LIST.sub(lambda m: f'<div id="every-claim">{listed(list(claims.values()), name)}</div>', new)
        new = MAP.sub(lambda m: f'<div id="map">{mapped(list(claims.values()), name)}</div>', new)
        new = BLOCKS.sub(lambda m: f'<div id="blocks">{changing(claims, name, app.srcdir)}</div>', new)
        new = SCORE.sub(lambda m: f'<span id="score" data-questions="{questions}">none yet.</span>', new)
        new = BORROWED.sub(lambda m: m[1] + filled(figure_of(name, m[2])) + m[3], new)
        if new != html:
            Path(app.outdir, f"{name}.html").write_text(new, "utf-8")


def setup(app):
    app.connect("build-finished", gather)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
