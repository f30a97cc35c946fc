"""The words of the glossary where a chapter first uses them: a link, with the definition on hover and focus.

A chapter's text needs no mark for it, and reads the same in Jupyter.
"""

import html
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

GLOSSARY = "book/glossary"
CHAPTER = re.compile(r"book/\d\d_")
EVERYDAY = {"claim", "effect", "folding", "prediction", "seed", "std"}  # words that mostly mean what they always mean
ELSEWHERE = (nodes.title, nodes.reference, nodes.literal, nodes.table, nodes.caption, nodes.Admonition)  # no place for a link


class explained(nodes.Inline, nodes.Element):
    """A word with its definition; no text of its own, so a search does not find the definition on every page."""


def definitions(env):
    """``{term: (words that lead to it, id in the glossary, definition)}``; empty in a book without a glossary."""
    found = {}
    if GLOSSARY not in env.found_docs:
        return found
    for item in env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        name = item.next_node(nodes.term)
        if name.astext() not in EVERYDAY:
            words = re.escape(name.astext()).replace(r"\ ", r"\s+")
            found[name.astext()] = (words, name["ids"][0], said(item.next_node(nodes.definition)))
    return found


def said(definition):
    """Its words without citations, which are keys until the glossary's own page is written."""
    words = definition.deepcopy()
    for cited in [node for node in words.findall(addnodes.pending_xref) if node["refdomain"] == "cite"]:
        cited.parent.remove(cited)
    return re.sub(r" (?=[.,;:])", "", " ".join(words.astext().split()))


def link(app, doctree, docname):
    if app.builder.format != "html" or not CHAPTER.match(docname):
        return
    terms = definitions(app.env)
    unused = dict(terms)
    glossary = app.builder.get_relative_uri(docname, GLOSSARY)
    for text in [text for text in doctree.findall(nodes.Text) if in_prose(text)]:
        parts, rest = [], text.astext()
        while found := first(rest, terms, unused):
            name, match = found
            _, at, definition = unused.pop(name)
            parts += [nodes.Text(rest[: match.start()]), explained(words=match[0], to=f"{glossary}#{at}", at=at, definition=definition)]
            rest = rest[match.end() :]
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(rest)])


def in_prose(node):
    inside = []
    while node := node.parent:
        inside.append(node)
    return any(isinstance(one, nodes.paragraph) for one in inside) and not any(isinstance(one, ELSEWHERE) for one in inside)


def first(text, terms, unused):
    """The first unused term in a text: (name, match). What is part of a longer one ("covariate shift" in "internal covariate shift") is not it."""
    names = sorted(terms, key=len, reverse=True)
    words = "|".join(f"({terms[name][0]}(?:e?s)?)" for name in names)
    found = re.finditer(rf"(?<![\w-])(?:{words})(?![\w-])", text, re.I) if names else ()
    return next(((names[match.lastindex - 1], match) for match in found if names[match.lastindex - 1] in unused), None)


def visit(translator, node):
    words, to, definition = (html.escape(node[name]) for name in ("words", "to", "definition"))
    translator.body.append(
        f'<a class="term" href="{to}" aria-describedby="about-{node["at"]}">{words}</a>'
        f'<span class="definition" role="tooltip" id="about-{node["at"]}">{definition}</span>'
    )
    raise nodes.SkipNode


def read_again(app, docname, source):
    if CHAPTER.match(docname) and GLOSSARY in app.env.found_docs:
        app.env.note_dependency(str(Path(app.srcdir, f"{GLOSSARY}.md")))


def setup(app):
    app.add_node(explained, html=(visit, None))
    app.connect("source-read", read_again)
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
