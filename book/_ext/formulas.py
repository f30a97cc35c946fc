r"""How large a formula will be, estimated from its TeX, so that the page keeps its place free until MathJax has set it.

MathJax sets formulas in the browser, after the text stands. Without a place kept free, every line behind a formula moves
then. The estimate adds up the widths of Computer Modern's signs (Knuth 1986, rounded) and knows no more of TeX than widths
need: `x_i = \frac{1}{2}` is about 4.4 em wide. Lengths go to the page in `ex`, because MathJax scales its font to match the
x-height of the text around it.
"""

import re
from html import unescape

EX = 0.442  # em of MathJax's font that it makes as high as an x of the page
SCRIPT = 0.71  # size of what is raised, lowered, or in a small fraction

TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|[{}^_&]|\s+|.", re.S)
SPACES = {r"\,": 0.17, r"\:": 0.22, r"\;": 0.28, r"\!": -0.17, r"\ ": 0.25, r"\quad": 1.0, r"\qquad": 2.0, "~": 0.25}
RELATIONS = {"=", "<", ">", ":", *(rf"\{name}" for name in (
    "approx ne neq le leq ge geq in notin sim simeq propto to leftarrow rightarrow mapsto equiv succeq preceq ll gg lt gt "
    "gets mid subset Rightarrow parallel perp").split())}
OPERATORS = {"+", "-", *(rf"\{name}" for name in "cdot pm mp times odot circ".split())}
LARGE = {r"\sum": 1.06, r"\prod": 0.95, r"\int": 0.6}
NAMES = {rf"\{name}": 0.5 * len(name) for name in "max min log exp lim sup inf sign det cos sin tanh arg ln tr diag".split()}
# No sign of their own: how a letter is set, how large a bracket is, how wide a limit counts.
SILENT = {rf"\{name}" for name in (
    "left right bigl bigr Bigl Bigr big Big biggl biggr mathbf mathbb mathcal mathrm boldsymbol bm hat bar tilde dot vec "
    "widehat overline underline displaystyle textstyle limits nolimits").split()}
NARROW = {**dict.fromkeys("()[]", 0.39), **dict.fromkeys(".,;", 0.36), **dict.fromkeys("|!'", 0.28), "/": 0.5,
          **dict.fromkeys("fijlrt", 0.4), "m": 0.88, "w": 0.72, r"\ell": 0.42, r"\lVert": 0.5, r"\rVert": 0.5, r"\|": 0.5,
          r"\lvert": 0.28, r"\rvert": 0.28, r"\partial": 0.57, r"\dots": 1.3, r"\ldots": 1.3, r"\cdots": 1.3, r"\nabla": 0.83,
          r"\langle": 0.39, r"\rangle": 0.39, r"\top": 0.78, r"\iota": 0.35, r"\infty": 1.0}


def size(tex, display=False):
    """Width and height of a formula, in em of its font."""
    tokens = TOKEN.findall(tex)
    tokens.reverse()
    return _row(tokens, display, level=0)


def _row(tokens, display, level, until=None):
    """Width and height of what stands before `until`. The tokens are taken off from the end, where the next one is."""
    width, height, rows, widest, sign = 0.0, 1.0, 1, 0.0, False
    while tokens:
        token = tokens.pop()
        if token == until:
            break
        if token in "^_":
            # The other script of the same sign stands above or below it: the wider one counts.
            scripts = [_argument(tokens, False, level + 1)[0] * SCRIPT]
            if tokens and tokens[-1] in "^_" and tokens.pop():
                scripts.append(_argument(tokens, False, level + 1)[0] * SCRIPT)
            width += max(scripts) + 0.05
            height = max(height, 1.15 + 0.25 * (len(scripts) - 1))
        elif token == r"\\":
            rows, widest, width = rows + 1, max(widest, width), 0.0
        elif token in (r"\begin", r"\end"):
            _argument(tokens, display, level, words=True)
        else:
            # A minus behind nothing, or behind a bracket or another sign, is set close to its number.
            more, high = _sign(token, tokens, display, level if sign else max(level, token in OPERATORS))
            width, height = width + more, max(height, high)
            sign = sign if token.isspace() else token not in OPERATORS | RELATIONS and token not in "([,"
    return max(widest, width), height + (rows - 1) * (height + 0.3)


def _argument(tokens, display, level, words=False):
    """The next group, or the next sign."""
    while tokens and tokens[-1].isspace():
        tokens.pop()
    if not tokens:
        return 0.0, 1.0
    token = tokens.pop()
    if token != "{":
        return _sign(token, tokens, display, level)
    if not words:
        return _row(tokens, display, level, until="}")
    text = ""
    while tokens and (token := tokens.pop()) != "}":
        text += token
    return 0.47 * len(text), 1.0


def _sign(token, tokens, display, level):
    if token.isspace() or token in SILENT or token in "&}":
        return 0.0, 1.0
    if token == "{":
        return _row(tokens, display, level, until="}")
    if token in SPACES:
        return SPACES[token], 1.0
    if token in (r"\text", r"\operatorname", r"\textbf", r"\texttt", r"\mathit"):
        return _argument(tokens, display, level, words=True)
    if token in (r"\frac", r"\tfrac", r"\dfrac"):
        small = token == r"\tfrac" or not (display or token == r"\dfrac")
        (above, high), (below, deep) = (_argument(tokens, False, level) for _ in range(2))
        scale = SCRIPT if small else 1.0
        return max(above, below) * scale + 0.24, (high + deep) * (0.45 if small else 1.0) + 0.3
    if token == r"\sqrt":
        width, height = _argument(tokens, False, level)
        return width + 0.85, height
    # In scripts no space is set around signs that compare or combine.
    if token in RELATIONS:
        return 0.78 if level else 1.33, 1.0
    if token in OPERATORS:
        return (0.28 if token == r"\cdot" else 0.78) + (0.0 if level else 0.44), 1.0
    if token in LARGE:
        return LARGE[token] * (1.4 if display else 1.0) + 0.17, 3.0 if display else 1.1
    if token in NAMES:
        return NAMES[token] + 0.17, 1.0
    if token in NARROW:
        return NARROW[token], 1.0
    return 0.75 if token.isupper() else 0.55, 1.0


FORMULA = re.compile(r'<(span|div) class="math notranslate nohighlight"(>\s*\\[(\[])(.*?)(\\[)\]])', re.S)
# A browser may end a line between a formula and the full stop behind it.
PUNCTUATED = re.compile(r'(<span class="math [^>]*>[^<]*</span>)([.,;:!?)’”]+)')


def keep_their_places(app, pagename, templatename, context, doctree):
    def sized(match):
        tag, begin, tex, end = match.groups()
        width, height = size(unescape(tex).strip(), tag == "div")
        style = f"--bn-wide: {width / EX:.2f}" if tag == "span" else f"--bn-high: {height / EX:.2f}"
        return f'<{tag} class="math notranslate nohighlight" style="{style}"{begin}{tex}{end}'

    context["body"] = PUNCTUATED.sub(r'<span class="together">\1\2</span>', FORMULA.sub(sized, context.get("body", "")))


def setup(app):
    app.connect("html-page-context", keep_their_places)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
