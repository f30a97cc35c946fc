"""What a page says about itself to search engines and to whoever gets its address: where it belongs, a picture, a list of all.

The address is that of the repository's GitHub Pages. sphinxext-opengraph adds title, description and picture to each page, and
sphinx-notfound-page a 404.html whose links work from any folder; both are told the address here. There is no robots.txt:
it counts at the root of a host only, and OWNER.github.io/NAME/ is not one.
"""

from html import escape
from pathlib import Path
from textwrap import fill
from urllib.parse import urlsplit

import matplotlib
from address import declared, of_this_build, site
from matplotlib.figure import Figure

CARD = "_static/card.png"


def at_this_address(app, config):
    config.html_baseurl = config.ogp_site_url = site(of_this_build() or declared())
    config.notfound_urls_prefix = urlsplit(config.html_baseurl).path
    config.ogp_site_name = config.html_title
    config.ogp_image = CARD
    config.ogp_image_alt = f"The title of the course: {config.html_title}"


def draw_card(title, path):
    """The picture that is shown beside a link: the question, 1200 × 630 pixels."""
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        card = Figure(figsize=(12, 6.3), facecolor="#125bc7")
        card.text(0.07, 0.55, fill(title, 24), color="white", fontsize=50, weight="bold", va="center", linespacing=1.25)
        card.text(0.07, 0.09, "A course that measures every sentence", color="white", fontsize=25)
        card.savefig(path, dpi=100)


def for_search_engines(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    draw_card(app.config.html_title, Path(app.outdir, CARD))
    pages = (app.config.html_baseurl + app.builder.get_target_uri(name) for name in sorted(app.env.found_docs))
    Path(app.outdir, "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        + "".join(f"<url><loc>{escape(page)}</loc></url>\n" for page in pages)
        + "</urlset>\n",
        "utf-8",
    )


def nowhere(app, pagename, templatename, context, doctree):
    # The page that stands in for a missing one has no address of its own.
    if pagename == app.config.notfound_pagename:
        context["pageurl"] = None


def setup(app):
    app.connect("config-inited", at_this_address)
    app.connect("html-page-context", nowhere)
    app.connect("build-finished", for_search_engines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
