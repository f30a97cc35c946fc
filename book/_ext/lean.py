"""Style sheets without what no page of the book uses: the theme's are written for any page that anybody may write.

A rule goes if it names a class that is on no page and in no script; then a variable that no rule left asks for.
"""

import hashlib
import re

import tinycss2

CLASSES = re.compile(r'class="([^"]*)"')
STYLESHEET = re.compile(r'(<link [^>]*?href="[^"]*?_static/)([^"?]*?)(?:\.lean)?\.css(?:\?[^"]*)?"')
IMPORT = re.compile(r'@import\s*"([^"]*)"\s*;?')
DEFINITION = re.compile(
    r"""(?<=[{;])\s*(--[\w-]+)\s*:(?:"[^"]*"|'[^']*'|\([^()]*(?:\([^()]*\)[^()]*)*\)|[^;{}"'()])*(?:;|(?=\}))"""
)


def parsed(text):
    return tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)


def without_unknown(rules, known):
    """The CSS of the rules whose classes are known; without the icon font, which icons.css replaces."""
    kept = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = []
            for selector in re.split(r",(?![^()]*\))", tinycss2.serialize(rule.prelude)):
                bare = selector
                while bare != (bare := re.sub(r"\([^()]*\)", "", bare)):  # what stands in :not() need not exist
                    pass
                if set(re.findall(r"\.(-?[a-zA-Z_][\w-]*)", bare)) <= known:
                    selectors.append(selector)
            if selectors:
                kept.append(",".join(selectors) + "{" + tinycss2.serialize(rule.content) + "}")
        elif rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports"):
            inner = without_unknown(
                tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True), known
            )
            if inner:
                kept.append(f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}")
        elif rule.type == "at-rule":
            icons = rule.lower_at_keyword in ("font-face", "keyframes") and re.search(r"Awesome|fa-", rule.serialize()[:80])
            if not icons:
                kept.append(rule.serialize())
    return "".join(kept)


def without_unused_variables(text, used):
    """The CSS without definitions of variables that are not used."""
    # A definition ends at a semicolon or its block's brace; those inside brackets or quotes belong to the value.
    return DEFINITION.sub(lambda match: match[0] if match[1] in used else "", text)


def slim(pages, static, scripts):
    """Write a lean copy beside each style sheet that the pages load, and have them load that.

    pages: ``{path: html}``; static: the folder of style sheets; scripts: the text of all scripts, of which any word may
    become a class. Returns the pages.
    """
    known = {name for html in pages.values() for names in CLASSES.findall(html) for name in names.split()}
    known.update(re.findall(r"[\w-]+", scripts))
    sheets = {}
    for name in {match[2] for html in pages.values() for match in STYLESHEET.finditer(html)}:
        file = static / f"{name}.css"

        def imported(match):
            return (file.parent / match[1]).read_text("utf-8")  # one request less, and one that waited for another

        sheets[name] = without_unknown(parsed(IMPORT.sub(imported, file.read_text("utf-8"))), known)

    asked = re.compile(r"--[\w-]+(?=\s*[,)])")
    used = set(re.findall(r"--[\w-]+", scripts)).union(*(asked.findall(html) for html in pages.values()))
    while True:
        wanted = used.union(*(asked.findall(text) for text in sheets.values()))
        leaner = {name: without_unused_variables(text, wanted) for name, text in sheets.items()}
        if leaner == sheets:
            break
        sheets = leaner

    versions = {}
    for name, text in sheets.items():
        (static / f"{name}.lean.css").write_text(text, "utf-8")
        versions[name] = hashlib.sha256(text.encode()).hexdigest()[:8]
    return {
        path: STYLESHEET.sub(lambda match: f'{match[1]}{match[2]}.lean.css?v={versions[match[2]]}"', html)
        for path, html in pages.items()
    }
