"""How to cite the book, at the end of its first page: made from CITATION.cff, so that there is no second copy to forget."""

from html import escape
from pathlib import Path

import yaml
from address import of_this_build


def read(file, address=None):
    """What a citation is made of. A fork that builds on GitHub Actions is cited at its own address."""
    cff = yaml.safe_load(Path(file).read_text("utf-8"))
    authors = [author.get("name") or f"{author['given-names']} {author['family-names']}" for author in cff["authors"]]
    return {
        "authors": authors,
        "title": cff["title"],
        "version": str(cff["version"]),
        "year": str(cff.get("date-released", ""))[:4],
        "url": address or cff["repository-code"],
    }


def plain(cited):
    year = f" ({cited['year']})" if cited["year"] else ""
    stop = "" if cited["title"].endswith("?") else "."
    return f"{', '.join(cited['authors'])}{year}. {cited['title']}{stop} Version {cited['version']}. {cited['url']}"


def bibtex(cited):
    # Second braces: a name that is no person's, and capitals in the title, stay as they are.
    fields = {
        "author": " and ".join(f"{{{name}}}" for name in cited["authors"]),
        "title": f"{{{cited['title']}}}",
        "version": cited["version"],
        "year": cited["year"],
        "url": cited["url"],
    }
    lines = [f"  {name:<7} = {{{value}}}" for name, value in fields.items() if value]
    return "@misc{bncourse,\n" + ",\n".join(lines) + "\n}"


def add(app, pagename, templatename, context, doctree):
    file = Path(app.srcdir, "CITATION.cff")
    if pagename != app.config.root_doc or not file.exists():
        return
    cited = read(file, of_this_build())
    context["body"] += (
        f'<section id="cite-this"><h2>Cite this book</h2><p>{escape(plain(cited))}</p>'
        f'<div class="highlight-bibtex notranslate"><div class="highlight"><pre>{escape(bibtex(cited))}</pre></div></div>'
        "</section>"
    )


def setup(app):
    app.connect("html-page-context", add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
