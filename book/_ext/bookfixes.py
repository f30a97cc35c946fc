"""What the book changes in the theme's pages: what fails without another host, what is heavy, what a screen reader trips over.
And whose book it is.

The pages are mended after they are written. Each change leaves a page alone that has it already, because Sphinx writes only
the pages that changed.
"""

import re
from pathlib import Path

from address import of_this_build
from lean import slim

# What the theme writes -> what stands there instead.
MENDED = [
    (re.compile(old), new)
    for old, new in (
        # A megabyte and a half of icons, of which the pages show seventeen: icons.css has these.
        (r'<script src="[^"]*fontawesome\.js[^"]*"></script>', ""),
        # A name that does not contain the text one sees cannot be said to a voice control; the text alone is name enough.
        (r'<summary aria-label="Toggle hidden content">', "<summary>"),
        (r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"', r"\1"),
        # The sidebar holds the title and the search too, which are in no landmark otherwise.
        (r'<div id="pst-primary-sidebar" class', '<div id="pst-primary-sidebar" role="region" aria-label="This book" class'),
        # A role that is no longer one. The entries are children of a list.
        (r'role="doc-biblioentry"', 'role="listitem"'),
        # The corner of a table is not a heading of anything.
        (r"<th[^>]*>\s*(?:<p></p>)?\s*</th>", "<td></td>"),
        # What "auto" means is known at once. The theme finds out after its scripts have come; until then lines have no colour,
        # so they are not there, and when they come the sidebar is a pixel narrower and breaks its titles anew.
        (
            r'dataset\.theme = localStorage\.getItem\("theme"\) \|\| "auto";',
            'dataset.theme = (localStorage.getItem("theme") || "auto").replace("auto", '
            'matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");',
        ),
    )
]


def without_unused(app, pagename, templatename, context, doctree):
    # Jupyter Book always loads sphinx-thebe, twice over, and its second copy throws on every page.
    unused = ["thebe", "THEBE"]
    body = context.get("body", "")
    if "sd-tab" not in body:
        unused.append("design-tabs")
    if not re.search(r'class="[^"]*\b(toggle|dropdown)\b', body):
        unused.append("togglebutton.js")
    context["script_files"] = [
        script
        for script in context["script_files"]
        if not any(name in f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', '')}" for name in unused)
    ]


def no_edit_of_what_is_generated(app, pagename, templatename, context, doctree):
    # A student's notebook is written from its master: an edit of it would be lost, and on the way to the master the
    # solutions would be read. "Open issue" stays.
    if Path(app.srcdir, "exercises", "masters", f"{pagename.rpartition('/')[2]}.ipynb").exists():
        for group in context["header_buttons"]:
            if "buttons" in group:
                group["buttons"] = [button for button in group["buttons"] if button.get("label") != "source-edit-button"]


def preload_type(app, pagename, templatename, context, doctree):
    # Asked for with the page rather than when a style sheet has come and been read.
    italic = ["text-italic"] if "<em>" in context.get("body", "") else []
    for name in ("text", "code", *italic):
        font = context["pathto"](f"_static/fonts/{name}.woff2", resource=True)
        link = f'<link rel="preload" href="{font}" as="font" type="font/woff2" crossorigin />\n'
        context["metatags"] = context.get("metatags", "") + link


def at_its_own_address(app, config):
    # A fork that publishes from GitHub Actions gets buttons that lead to the fork, without changing a line.
    if address := of_this_build():
        config.html_theme_options |= {"repository_url": address, "repository_provider": "github"}


def with_room(html, folder):
    """Gives every drawing of a page the size that it has, so that nothing below it moves when it comes."""

    def sized(found):
        drawing = folder / found["src"]
        size = re.search(r'<svg[^>]*? width="(\d+)" height="(\d+)"', drawing.read_text("utf-8")) if drawing.exists() else None
        return f'{found[0][:-1].rstrip("/")} width="{size[1]}" height="{size[2]}"/>' if size else found[0]

    return re.sub(r'<img (?![^>]* width=)[^>]*src="(?P<src>[^":]+\.svg)"[^>]*>', sized, html)


def mend(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    pages = {}
    for path in Path(app.outdir).rglob("*.html"):
        if static not in path.parents:
            pages[path] = path.read_text("utf-8")

    mended = {}
    for path, html in pages.items():
        for old, new in MENDED:
            html = old.sub(new, html)
        mended[path] = with_room(html, path.parent)

    scripts = [*static.glob("*.js"), *static.glob("scripts/*.js"), *static.glob("bench/*.js")]
    scripts = "\n".join(path.read_text("utf-8") for path in scripts if path.stem != "fontawesome")
    for path, html in slim(mended, static, scripts).items():
        if html != pages[path]:
            path.write_text(html, "utf-8")


def setup(app):
    app.connect("config-inited", at_its_own_address, priority=100)  # before the theme takes it apart
    app.connect("html-page-context", without_unused, priority=900)
    app.connect("html-page-context", preload_type)
    app.connect("html-page-context", no_edit_of_what_is_generated, priority=900)
    app.connect("build-finished", mend, priority=900)  # the theme writes the colours of code as late as this, too
    return {"parallel_read_safe": True, "parallel_write_safe": True}
