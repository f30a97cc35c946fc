r"""Formulas as MathML, made while the book is built: a page needs no script to show them, and nothing moves when they come.

math-core knows the commands of LaTeX and amsmath. What it cannot read is a warning with the page and the formula, and a
warning fails the build.
"""

import re

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging

logger = logging.getLogger(__name__)
reader = LatexToMathML(fancy_error=False)


def mathml(tex, display=False):
    """A formula as a `<math>` element; LatexError if it cannot be read."""
    return reader.convert_with_local_state(tex.strip(), displaystyle=display)


def written(display):
    tag = "div" if display else "span"

    def visit(translator, node):
        try:
            found = mathml(node.astext(), display)
        except LatexError as error:
            logger.warning("this formula cannot be set: %s\n%s", node.astext().strip(), error, location=node)
            found = ""
        translator.body.append(f'<{tag} class="math notranslate nohighlight">{found}</{tag}>')
        raise nodes.SkipNode

    return visit, None


# A browser may end a line between a formula and the full stop behind it.
PUNCTUATED = re.compile(r'(<span class="math [^>]*>(?:(?!</span>).)*</math></span>)([.,;:!?)’”]+)', re.S)


def keep_together(app, pagename, templatename, context, doctree):
    context["body"] = PUNCTUATED.sub(r'<span class="together">\1\2</span>', context.get("body", ""))


def font_with_the_page(app, pagename, templatename, context, doctree):
    # Asked for before the style sheet is read, so that it is there when the first formula is drawn.
    if "<math" in context.get("body", ""):
        font = context["pathto"]("_static/fonts/stix-two-math.woff2", resource=True)
        context["metatags"] += f'<link rel="preload" as="font" type="font/woff2" crossorigin href="{font}" />\n'


def setup(app):
    app.add_html_math_renderer("mathml", written(display=False), written(display=True))
    app.connect("html-page-context", keep_together)
    app.connect("html-page-context", font_with_the_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
