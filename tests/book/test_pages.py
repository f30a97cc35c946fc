"""What the build wrote, read as HTML."""

import json
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from bncourse import figures
from bncourse.grading.masters import SOLUTION

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import address  # noqa: E402
from surroundings import tracked  # noqa: E402

CHAPTERS = tracked("book/[0-9][0-9]_*.ipynb")


@pytest.fixture(scope="session")
def pages(html):
    files = sorted(html.rglob("*.html"))
    files = [file for file in files if "_static" not in file.relative_to(html).parts]
    assert files
    return {file: BeautifulSoup(file.read_text("utf-8"), "html.parser") for file in files}


def test_every_chapter_is_in_the_book(html):
    assert CHAPTERS
    for path in CHAPTERS:
        assert (html / "book" / f"{path.stem}.html").exists(), f"{path.name} is not in _toc.yml"


def test_every_exercise_is_in_the_book_without_its_solution(html, pages):
    masters = tracked("exercises/masters/*.ipynb")
    assert masters
    texts = {file: page.get_text() for file, page in pages.items()}
    texts |= {file: file.read_text("utf-8") for file in (html / "_sources").rglob("*") if file.is_file()}
    for master in masters:
        assert (html / "exercises" / f"{master.stem}.html").exists(), f"{master.name} is not in _toc.yml"
        given = "\n".join(cell.source for cell in nbformat.read(master.parents[1] / master.name, as_version=4).cells)
        cells = nbformat.read(master, as_version=4).cells
        solved = [match[0] for cell in cells for match in SOLUTION.finditer(cell.source)]
        solved += [cell.source for cell in cells if "solution" in cell.metadata.get("tags", [])]
        lines = {line.strip() for text in solved for line in text.splitlines() if len(line.strip()) > 30} - {""}
        telling = {line for line in lines if line not in given}
        assert telling
        for file, text in texts.items():
            assert not (found := [line for line in telling if line in text]), f"{file}: {found}"


def test_chapters_explain_the_words_of_the_glossary_once_where_they_begin(html, pages):
    told = pages[html / "book" / "glossary.html"]
    told = {item["id"]: " ".join(item.find_next("dd").get_text().split()) for item in told.select("dl.glossary dt[id]")}
    for path in CHAPTERS:
        page = pages[html / "book" / f"{path.stem}.html"]
        terms = page.select("a.term")
        assert len(terms) > 1 and not page.select(":is(h1, h2, h3, table, pre) a.term, a a"), path.name
        ids = [term["href"].partition("#")[2] for term in terms]
        assert len(set(ids)) == len(ids), f"{path.name} explains a word twice"
        for term, name in zip(terms, ids):
            definition = page.find(id=term["aria-describedby"])
            assert definition["role"] == "tooltip" and definition == term.find_next_sibling()
            assert re.sub(r"\W", "", definition.get_text())[:20] == re.sub(r"\W", "", told[name])[:20]


def test_no_error_output(pages):
    for file, page in pages.items():
        assert "Traceback (most recent call last)" not in page.get_text(), file.name
        assert not (found := re.search(r"<[^<>]* at 0x[0-9a-f]+>", page.get_text())), f"{file.name} shows an object: {found[0]}"
        assert not page.select(".cell_output .stderr, .cell_output .traceback"), file.name


def test_no_empty_figure(pages):
    drawn = 0
    for file, page in pages.items():
        for svg in page.select("figure svg"):
            assert len(svg.select("path, line, polyline, rect, circle, use, text")) >= 3, f"{file.name}: {str(svg)[:200]}"
            drawn += 1
        for figure in page.select("figure.explore"):
            assert figure.select("input"), f"{file.name}: a widget with nothing to choose"
        for image in page.select("img[src]"):
            if not urlsplit(image["src"]).scheme:
                assert (file.parent / unquote(urlsplit(image["src"]).path)).stat().st_size > 0, f"{file.name}: {image}"
    assert drawn


def test_every_picture_has_an_alt_text(pages):
    for file, page in pages.items():
        content = page.select_one("article") or page  # without the theme's own buttons
        pictures = [(svg, svg.get("aria-label", "")) for svg in content.select("figure svg")]
        pictures += [(image, image.get("alt", "")) for image in content.select("img")]
        for picture, alt in pictures:
            assert len(alt) >= 15 and " " in alt.strip(), f"{file.name}: {str(picture)[:200]}"
            assert picture.name == "img" or picture.get("role") == "img", f"{file.name}: {str(picture)[:200]}"


def test_every_figure_has_a_caption_and_descriptions_of_its_own(pages):
    for file, page in pages.items():
        alts = []
        for figure in page.select("article figure:has(svg[role=img], img)"):
            caption = figure.select_one("figcaption")
            assert caption and len(caption.get_text().split()) >= 3, f"{file.name}: no caption: {str(figure)[:200]}"
            for picture in figure.select("svg[role=img], img"):
                alts.append(picture.get("aria-label") or picture.get("alt"))
                assert alts[-1] != caption.get_text(), f"{file.name}: said twice: {alts[-1]}"
                assert not re.search(r"\.(png|svg|webp|jpe?g)\b|[{}]", alts[-1]), f"{file.name}: {alts[-1]}"
        twice = {alt for alt in alts if alts.count(alt) > 1 and "Legend of all panels" not in alt}
        assert not twice, f"{file.name}: two pictures, or two settings of a slider, that are described alike"


def test_the_style_sheet_has_the_dark_tones():
    [dark] = re.findall(r'html\[data-theme="dark"\] \{\s*(--bn-none:[^}]*)\}', (ROOT / "book/_static/bncourse.css").read_text())
    written = dict(re.findall(r"--bn-([\w-]+): ([^;]+);", dark))
    assert written == {name: tone for name, (_, tone) in figures.TONES.items()}


def drawn_lines(axes, marks):
    """{colour: {(dash, shape of marker)}} of what is drawn with more than two points or a marker, and not faintly."""
    found = {}
    for path in axes.select("g > path"):
        style = dict(re.findall(r"([\w-]+): ([^;]+)", path.get("style", "")))
        colour, use = style.get("stroke", "none"), path.parent.find("use")
        if style.get("fill") != "none" or colour in ("none", "currentColor", "var(--grey)"):
            continue
        if float(style.get("stroke-opacity", 1)) > 0.5 and (use or path["d"].count("L") > 1):
            shape = marks[use["href"]] if use else None
            found.setdefault(colour, set()).add((style.get("stroke-dasharray"), shape))
    return found


def test_no_two_lines_differ_by_colour_alone(pages):
    lines = 0
    for file, page in pages.items():
        for picture in page.select("article figure svg[role=img]"):
            marks = {f"#{path['id']}": path["d"] for path in picture.select("defs path[id]")}
            for axes in picture.find("g", recursive=False).find_all("g", recursive=False):
                drawn = list(drawn_lines(axes, marks).items())
                lines += len(drawn)
                for number, (colour, looks) in enumerate(drawn):
                    for other, others in drawn[:number]:
                        assert not looks & others, f"{file.name}: {colour} and {other} in “{picture['aria-label'][:80]}”"
    assert lines > 100


def test_every_internal_link_resolves(pages, html):
    anchors = {file: {tag["id"] for tag in page.select("[id]")} for file, page in pages.items()}
    for file, page in pages.items():
        for tag in page.select("a[href], link[href], script[src]"):
            url = urlsplit(tag.get("href") or tag.get("src"))
            if url.scheme or url.netloc or file.name == "404.html":  # whose links have a test of their own
                continue
            target = (file.parent / unquote(url.path)).resolve() if url.path else file
            assert target.is_relative_to(html) and target.exists(), f"{file.name}: {tag}"
            if url.fragment and target in anchors:
                assert unquote(url.fragment) in anchors[target] | {""}, f"{file.name}: {tag}"


def test_what_a_page_says_about_itself(pages, html):
    home = address.site(address.of_this_build() or address.declared())
    names = [file for file in pages if file.parent.name in ("book", "exercises")]
    assert len(names) > 20
    said = {}
    for file in names:
        page, here = pages[file], home + file.relative_to(html).as_posix()
        [canonical] = page.select("link[rel=canonical]")
        assert canonical["href"] == here
        about = {tag.get("property") or tag.get("name"): tag["content"] for tag in page.select("meta[content]")}
        assert about["og:url"] == here and about["og:title"] == page.select_one("h1").find(string=True)
        assert about["description"] == about["og:description"] and len(about["description"].split()) >= 8, file.name
        assert about["og:image"].startswith(home) and about["og:image:alt"]
        with Image.open(html / about["og:image"].removeprefix(home)) as picture:
            assert (picture.format, picture.size) == ("PNG", (1200, 630))
        said[file] = about["description"]
    assert len(set(said.values())) == len(said), "two pages with one description"
    listed = re.findall("<loc>(.*)</loc>", (html / "sitemap.xml").read_text("utf-8"))
    assert sorted(listed) == sorted(home + file.relative_to(html).as_posix() for file in names)


def test_a_fork_has_its_own_address():
    assert address.site("https://github.com/Jane/fork") == "https://jane.github.io/fork/"


def test_the_page_for_what_is_not_there_works_in_any_folder(pages, html):
    page, root = pages[html / "404.html"], urlsplit(address.site(address.of_this_build() or address.declared())).path
    assert "no page at this address" in page.get_text() and not page.select("link[rel=canonical]")
    links = [tag.get("href") or tag.get("src") for tag in page.select("a[href], link[href], script[src], img[src]")]
    links = [urlsplit(link) for link in links if not link.startswith("#")]
    ours = [unquote(link.path) for link in links if not link.netloc]
    assert len(ours) > 30
    for path in ours:
        assert path.startswith(root) and (html / path.removeprefix(root)).exists(), path


def test_ids_are_unique_on_a_page(pages):
    for file, page in pages.items():
        # A verdict's, a slider's or a figure's: what two pictures on a page could get in each other's way with.
        ids = [tag["id"] for tag in page.select("figure [id], .claim [id], .claim[id]")]
        assert len(ids) == len(set(ids)), file.name


@pytest.fixture(scope="session")
def told(html):
    """What the chapters told when they were executed: {id: claim}, with its page."""
    chapters = json.loads((ROOT / "_build" / "told.json").read_text("utf-8"))
    return {claim["id"]: claim | {"page": name} for name, chapter in chapters.items() for claim in chapter["claims"]}


def test_every_claim_stands_on_its_page(pages, told, html):
    """As a card or as a row of the chapter's table, with its verdict in words and what was measured."""
    for path in CHAPTERS:
        assert any(claim["page"] == f"book/{path.stem}" for claim in told.values()), f"{path.name} gives no verdict"
    for id, claim in told.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id)
        [place] = pages[html / f"{claim['page']}.html"].select(f"#claim-{id}")
        text = " ".join(place.get_text(" ").split())
        assert place["data-verdict"] == claim["verdict"] and claim["verdict"] in text.lower(), id
        for part in (claim["says"], claim["effect_text"], claim["source"]):
            assert " ".join(part.split()) in text, f"{id} does not show {part!r}"


def test_the_list_has_every_claim_and_no_other(pages, told):
    rows = [row for page in pages.values() for row in page.select("#every-claim .claim-row")]
    listed = {row.a["href"].partition("#claim-")[2]: row for row in rows}
    assert len(listed) == len(rows) and set(listed) == set(told)
    for id, row in listed.items():
        assert row["data-verdict"] == told[id]["verdict"] and told[id]["effect_text"] in row.get_text()


def test_every_reference_to_a_claim_says_its_verdict(pages, told):
    references = [tag for page in pages.values() for tag in page.select(".claim-ref")]
    assert references
    for tag in references:
        assert tag.get_text().startswith(told[tag["data-claim-id"]]["verdict"]) and tag.select_one("a[href]"), tag


def test_each_of_the_twenty_seven_sentences_is_answered(pages):
    [page] = [page for file, page in pages.items() if file.stem == "sentences"]
    answers = {}
    for heading in page.select("h2"):
        if number := re.match(r"(\d+)\. ", heading.get_text()):
            answers[int(number[1])] = heading.parent
    assert sorted(answers) == list(range(1, 28))
    for number, answer in answers.items():
        # A measurement of this book, or a source by name.
        assert answer.select(".claim-ref a, .claim, a.reference[href*='bibliography']"), f"sentence {number} is left hanging"


def test_the_colab_button_opens_the_notebook_itself(pages, html):
    here = address.of_this_build() or address.declared()
    for file, page in pages.items():
        source = ROOT / file.relative_to(html).with_suffix(".ipynb")
        buttons = {tag["href"] for tag in page.select("a[href^='https://colab.research.google.com/']")}
        if source.exists():
            path = source.relative_to(ROOT).as_posix()
            assert buttons == {f"https://colab.research.google.com/github/{here.removeprefix(address.HOST)}/blob/main/{path}"}
        else:
            assert not buttons, f"{file.name} is no notebook"


def test_the_repository_button_leads_to_the_repository(pages):
    here = address.of_this_build() or address.declared()
    for file, page in pages.items():
        if buttons := page.select("a.btn-source-repository-button"):
            assert [tag["href"] for tag in buttons] == [here], file.name
    assert any(page.select("a.btn-source-repository-button") for page in pages.values())
