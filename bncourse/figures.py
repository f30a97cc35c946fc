"""One style for every figure, and the few plots that recur.

Figures are published as SVG inside the page, with text in ``currentColor``: they follow the reader's light or dark theme,
scale to a phone, and carry their description in the picture itself."""

import hashlib
import io
import os
import re
import warnings
from html import escape
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from bncourse import claims

FONTS = Path(__file__).parent / "fonts"  # the type of the book's pages, cut to size by book/fonts.py
INK = "#010203"  # A colour nobody draws with: replaced by currentColor on the way out.

# Of each network: its name in words; the colour it is drawn with, and the two that are published, for a light and for a dark page
# (no colour has a contrast of 4.5 to both); dash and marker, for it is never told by colour alone. The colours were found by a
# search for some which readers without one of the three kinds of cones (Machado, Oliveira & Fernandes 2009) can tell apart.
NORMALIZERS = {
    "none": ("no normalization", "#d2622a", "#bd5706", "#e3520b", "-", "o"),
    "batch": ("batch norm", "#2a86c8", "#0578c9", "#0d92f4", "--", "s"),
    "noisy_batch": ("noisy batch norm", "#12977a", "#026857", "#4ef0be", "-.", "^"),
    "noise": ("noise only", "#b9559b", "#945896", "#b5689d", ":", "v"),
    "frozen": ("frozen statistics", "#8a7a12", "#6a4e01", "#efb92e", (0, (5, 1)), "D"),
    "frozen_noise": ("frozen statistics + noise", "#7b71c9", "#3d188e", "#b3b7fd", (0, (1, 1)), "P"),
    "l1": ("ℓ1", "#2c9c52", "#0c8640", "#7eb26a", (0, (8, 2, 1, 2)), "*"),
    "l2": ("ℓ2", "#c2508c", "#6b0343", "#f58bbb", (0, (1, 2)), "X"),
    "linf": ("ℓ∞", "#977f1c", "#4b4a00", "#d4cb6e", (0, (6, 2)), "h"),
    "layer": ("layer norm", "#3d8f3d", "#3b8005", "#2e945c", (0, (4, 1, 1, 1)), "<"),
    "group": ("group norm", "#a8641c", "#5d2a00", "#d39734", (0, (2, 1)), ">"),
    "instance": ("instance norm", "#5a82d8", "#38439b", "#3b7ef1", (0, (3, 3)), "p"),
    "rms": ("RMS norm", "#c7577c", "#a72669", "#fb6e99", (0, (7, 1, 2, 1)), "d"),
    "frn": ("filter response norm", "#1b93a3", "#266f7f", "#3cb8b8", (0, (1, 3)), "H"),
    "dyt": ("dynamic tanh", "#8c6fae", "#734d95", "#b7a2e4", (0, (9, 3)), "8"),
    "ghost": ("ghost batch norm", "#6f86a0", "#1c3e58", "#bcd1fc", (0, (5, 2, 1, 2, 1, 2)), (4, 1, 45)),
    "batch_renorm": ("batch renorm", "#a663c4", "#49246e", "#9f6fc2", (0, (3, 1, 3, 3)), (6, 1, 0)),
    "weight": ("weight norm", "#7d8b22", "#405d21", "#c6e04e", (0, (2, 3)), (6, 2, 0)),
    "weight_standardization": ("weight standardization", "#b4713f", "#9f6651", "#ffc1a6", (0, (6, 1, 1, 1, 1, 1)), (8, 1, 0)),
}
# For what is no normalizer: the colours above would each say the name of one.
UNNAMED = [
    ("#c1609a", "#9c2f6b", "#e58fc0", (0, (10, 2)), (5, 1, 0)),
    ("#588ea0", "#33687a", "#7fb6c9", (0, (3, 2)), (3, 1, 0)),
    ("#918b2e", "#6a6510", "#b9b24a", (0, (1, 1, 4, 1)), (7, 1, 0)),
    ("#8075d0", "#5a4fb0", "#a79cf0", (0, (2, 1, 2, 3)), (4, 1, 0)),
    ("#ba6e55", "#94492f", "#e0947a", (0, (12, 2, 2, 2)), (5, 2, 0)),
    ("#53966f", "#2d6f4a", "#79bf95", (0, (4, 2, 1, 2, 1, 2)), (9, 1, 0)),
]
AXES = {"step": "training step", "layer": "layer", "lr": "learning rate", "batch": "examples in a batch",
        "layers": "hidden layers"}
GREY = "#888888"  # Of lines that are there to compare with.
INITS = {"he": "He initialization", "glorot": "Glorot initialization", "default": "torch's default initialization"}
NAMES = {name: words for name, (words, *_) in NORMALIZERS.items()}
LOOKS = {name: dict(color=color, linestyle=dash, marker=marker) for name, (_, color, _, _, dash, marker) in NORMALIZERS.items()}
OTHERS = [dict(color=color, linestyle=dash, marker=marker) for color, _, _, dash, marker in UNNAMED]
TONES = ({name: (light, dark) for name, (_, _, light, dark, *_) in NORMALIZERS.items()} | {"grey": ("#757575", "#8f8f8f")}
         | {f"other{number}": (light, dark) for number, (_, light, dark, *_) in enumerate(UNNAMED, start=1)})
# The colour that is drawn with -> the name of its two tones.
COLOURS = {look["color"]: name for name, look in LOOKS.items()} | {GREY: "grey"} | {
    look["color"]: f"other{number}" for number, look in enumerate(OTHERS, start=1)}


def fonts() -> dict[str, object]:
    """Settings of the fonts that text is measured with, before a browser sets it in that of the page around it: in the book the
    book's own; in a notebook matplotlib's, which is wider than most."""
    from matplotlib import font_manager
    if os.environ.get("BNCOURSE_BOOK") != "1":
        return {"font.family": "sans-serif"}
    for path in sorted(FONTS.glob("*.ttf")):
        font_manager.fontManager.addfont(path)
    styles = dict(rm="", it=":italic", bf=":bold", bfit=":bold", sf="", tt="", cal=":italic")
    return {"font.family": ["bncourse text", "sans-serif"], "mathtext.fontset": "custom", "mathtext.fallback": "stix",
            **{f"mathtext.{name}": f"bncourse text{style}" for name, style in styles.items()}}


def use_style() -> None:
    """Set matplotlib up for the course."""
    import matplotlib
    matplotlib.rcParams.update({
        "figure.figsize": (5.0, 3.3), "figure.constrained_layout.use": True, "figure.facecolor": "none",
        "axes.facecolor": "none", "savefig.facecolor": "none", "font.size": 11, "axes.titlesize": 11,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GREY,
        "grid.alpha": 0.25, "grid.linewidth": 0.6, "legend.frameon": False, "legend.fontsize": 10,
        "lines.linewidth": 1.8, "lines.markersize": 5, "svg.fonttype": "none",
        **fonts(),
        **{name: INK for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor",
                                  "xtick.color", "ytick.color", "patch.edgecolor", "hatch.color")},
    })


def over_seeds(frame: pd.DataFrame, y: str, by: list[str], geometric: bool = False) -> pd.DataFrame:
    """Mean of column ``y`` over seeds and its 95 % interval: a row per group ``by``, columns ``mean, low, high, seeds,
    left_out``. Several rows of a seed (layers, steps) are averaged first. Seeds without a finite value are left out with a
    warning, which stops a build of the book. ``geometric``: means of logarithms."""
    rows = []
    for key, group in frame.groupby(by, sort=True):
        with np.errstate(divide="ignore"):
            column = np.log(group[y].astype(float)) if geometric else group[y]
        values = column.groupby(group["seed"]).mean()
        finite = values[np.isfinite(values)]
        if len(finite) < len(values):
            warnings.warn(f"{y} at {dict(zip(by, key))}: {len(values) - len(finite)} of {len(values)} seeds gave no finite "
                          "number (a run that blew up?); the line is drawn from the others", stacklevel=2)
        if len(finite) < 2:
            continue
        found = claims.interval(np.exp(finite) if geometric else finite, geometric)
        rows.append(dict(zip(by, key)) | {"mean": found.mean, "low": found.low, "high": found.high, "seeds": found.seeds,
                                          "left_out": len(values) - len(finite)})
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds", "left_out"])


def curves(ax, frame: pd.DataFrame, y: str, x: str = "step", by: str = "norm", looks: Mapping | None = None,
           labels: Mapping | None = None, markers: bool = True, geometric: bool = False, named: bool = False, **axis) -> None:
    """Draw the mean of ``y`` over seeds against ``x``, one line per value of ``by``, with its 95 % interval as a band.
    ``named``: with its name at the end of each line in place of a legend. ``axis``: settings of the axes (yscale, title, …)."""
    levels, labels = list(dict.fromkeys(frame[by])), NAMES if labels is None else labels
    if looks is None:
        others = iter(OTHERS * len(levels))
        looks = {level: LOOKS.get(level) or next(others) for level in levels}
    for level in levels:
        line = over_seeds(frame[frame[by] == level], y, [x], geometric)
        look = dict(looks.get(level, {})) | ({} if markers and len(line) <= 15 else {"marker": None})
        [drawn] = ax.plot(line[x], line["mean"], label=labels.get(level, str(level)), **look)
        ax.fill_between(line[x], line["low"], line["high"], color=drawn.get_color(), alpha=0.22, linewidth=0)
    ax.set(**{"xlabel": AXES.get(x, x)} | axis)
    if axis.get("xscale") == "log" and frame[x].nunique() < 8:
        values = sorted(frame[x].unique())
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.minorticks_off()
    if named:
        name_lines(ax)


def name_lines(ax) -> None:
    """The name of each line at its right end, moved apart where two ends are close. The labels take their room from the axes."""
    if not (lines := _named(ax)):
        return
    (fig := ax.get_figure()).draw_without_rendering()
    at = [ax.transData.transform((line.get_xdata()[-1], line.get_ydata()[-1]))[1] for line in lines]
    low, high = ax.get_window_extent().y0, ax.get_window_extent().y1
    room = 13 * fig.dpi / 72
    order, places = sorted(range(len(lines)), key=at.__getitem__), {}
    for i in order:
        places[i] = max(at[i], low + room / 2, *(place + room for place in places.values()), low)
    for i in reversed(order):
        places[i] = min([places[i], high, *(place - room for j, place in places.items() if order.index(j) > order.index(i))])
    for i, line in enumerate(lines):
        ax.annotate(line.get_label(), (1, (places[i] - low) / (high - low)), xycoords="axes fraction", xytext=(6, 0),
                    textcoords="offset points", va="center", color=line.get_color(), fontsize=10, annotation_clip=False)


def _named(ax) -> list:
    """The lines of an axis that have a name and a point."""
    return [line for line in ax.get_lines() if not line.get_label().startswith("_") and len(line.get_xdata())]


def panels(count: int, height: float = 3.2):
    """A figure of ``count`` panels, each ``height`` inches high: (figure, list of axes). They are shown side by side where the
    page is wide enough, and below each other on a phone."""
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(count, 1, figsize=(4.8, height * count), squeeze=False)
    fig.panels = list(axes[:, 0])
    return fig, fig.panels


def fit(fig) -> None:
    """See that nothing leaves the figure or collides: as many columns of a legend above the panels as there is room for, labels
    of an axis that end with it, and few, plain numbers on a logarithmic axis that may have but one power of ten."""
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator
    for axis in [axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)]:
        if isinstance(axis.get_major_formatter(), LogFormatterSciNotation) and axis.get_transform().base == 10:
            low, high = sorted(axis.get_view_interval())
            axis.set_major_formatter("{x:g}" if high < 100 * low else _power)
            if high < 100 * low:
                axis.set_minor_locator(LogLocator(subs=(2, 5)))
                axis.set_minor_formatter("{x:g}")
    for _ in range(1 + any(ax.get_aspect() != "auto" for ax in fig.axes)):  # An image does not fill the place it was given.
        fig.draw_without_rendering()
    for legend in list(fig.legends):
        handles, names = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
        while legend.get_window_extent().width > 0.98 * fig.bbox.width and legend._ncols > 1:  # a browser's letters may be wider
            legend.remove()
            legend = fig.legend(handles, names, loc="outside upper center", ncols=legend._ncols - 1)
            fig.draw_without_rendering()
    for ax in fig.axes:
        if ax.xaxis.label.get_window_extent().x1 > fig.bbox.width:
            ax.xaxis.label.set(x=1, ha="right")


def _power(value: float, place: int) -> str:
    """A power of ten in plain letters: the formula that matplotlib writes takes as long to parse as the figure to draw."""
    power = f"{np.log10(value):.6g}"  # of a tick that the chapter has put elsewhere, no whole number
    return "10" + power.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) if power.lstrip("-").isdigit() else f"{value:g}"


def described(fig, axes: list | None = None) -> str:
    """What a figure shows, or some of its axes, read off what was drawn: for a reader who cannot see it."""
    parts = []
    for ax in fig.axes if axes is None else axes:
        about = f"{ax.get_ylabel() or ax.get_title() or 'values'}" + (f" against {ax.get_xlabel()}" if ax.get_xlabel() else "")
        title = f"{ax.get_title()}: " if ax.get_title() and ax.get_ylabel() else ""
        texts = [_line_in_words(line) for line in _named(ax)]
        texts += [f"{bars.get_label()}: " + ", ".join(claims.number(bar.get_height()) for bar in bars)
                  for bars in ax.containers if hasattr(bars, "patches")]
        for image in ax.images:
            rows, columns = ax.get_yticklabels(), ax.get_xticklabels()
            if rows and columns:
                texts.append(f"{rows[0].get_text()} to {rows[-1].get_text()} by {columns[0].get_text()} to {columns[-1].get_text()}, "
                             f"from {_short(image.get_array().min())} to {_short(image.get_array().max())}")
        texts += [f"{len(points.get_offsets())} points" + (f" of {points.get_label()}" if not points.get_label().startswith("_") else "")
                  for points in ax.collections if len(points.get_offsets()) > 1]
        if texts:
            parts.append(f"{title}{about}. {'; '.join(texts)}.")
    return " ".join(parts)


def _line_in_words(line) -> str:
    x, y = (np.asarray(values, float) if np.asarray(values).dtype.kind in "fiu" else None for values in line.get_data())
    if y is None or not np.isfinite(y).any():
        return line.get_label()
    x = np.arange(len(y)) if x is None else x
    shown = np.flatnonzero(np.isfinite(y))
    first, last, top, bottom = shown[0], shown[-1], shown[y[shown].argmax()], shown[y[shown].argmin()]
    said = f"{line.get_label()} goes from {_short(y[first])} at {_short(x[first])} to {_short(y[last])} at {_short(x[last])}"
    for what, place, end in ("peak", top, max(y[first], y[last])), ("low", bottom, min(y[first], y[last])):
        if abs(y[place] - end) > 0.1 * (y[top] - y[bottom]):
            said += f", {what} {_short(y[place])} at {_short(x[place])}"
    return said


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


OPEN, CLOSE = "\ue000", "\ue001"  # around a number that was measured, from where it is written until it is shown
settings: set[str] = set()  # numbers of the designs and thresholds of this process, as a sentence may write them
# Places and names in which a number is no result: Fig. 4c, section 2.1, a year, code, a formula, a citation, an address.
NO_RESULT = re.compile(
    r"\{\w+\}`[^`]*`|`[^`]*`|\$[^$]*\$|\]\([^)]*\)|<[^>]*>|\b(?:Figs?\.|Figures?|[Ss]ections?|[Tt]heorems?|[Dd]efinitions?|[Tt]ables?|"
    r"[Ee]quations?|[Aa]lgorithms?|Alg\.|[Aa]ppendix|[Cc]hapters?|[Ee]xercises?|[Ee]xperiments?|[Ll]ayers?|[Ss]teps?)"
    r"(?:\s+\d[\w.]*(?:,| and| to)?)+|\b(?:19|20)\d\d\b|\b95 % interval|[^\W\d]+-?\d+\w*")
NUMBER = re.compile(r"\d[\d.,]*(?<![.,])(?:\s?·\s?10\S+)?")


class Measured(float):
    """A number that was measured: a sentence says so when it is shown. Formats as any number does."""

    @staticmethod
    def text(text: str) -> str:
        """Any text whose numbers were measured."""
        return f"{OPEN}{text}{CLOSE}"

    def __format__(self, spec: str) -> str:
        return self.text(format(float(self), spec or "g").replace("-", "−"))

    __str__ = __repr__ = lambda self: format(self)

    def _with(operation):
        return lambda self, *other: Measured(operation(float(self), *other))

    # What is computed from measured numbers is measured.
    for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "neg", "abs"):
        locals()[f"__{_name}__"] = _with(getattr(float, f"__{_name}__"))


def allow(value) -> None:
    """Let sentences say a number of the design: a setting, a threshold, a count of seeds."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, slice):
        value = [value.start, value.stop]
    if isinstance(value, (list, tuple, set)):
        for one in value:
            allow(one)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        size = abs(value)
        settings.update({f"{size:g}", f"{size:,}", str(size), f"{100 * size:g}", str(size).removeprefix("0")})


def checked(text: str) -> str:
    """The text without the marks of measured numbers.
    Raises ValueError: in a chapter with a study, a number that is neither measured nor a setting: it might be anybody's."""
    plain = text.replace(OPEN, "").replace(CLOSE, "")
    if settings:
        typed = NUMBER.findall(NO_RESULT.sub(" ", re.sub(f"{OPEN}.*?{CLOSE}", " ", text, flags=re.S)))
        if unknown := [one for one in typed if one not in settings]:
            raise ValueError(f"nobody measured {', '.join(unknown)} in {plain!r}: write study(quantity) in its place, "
                             "Measured(number) for something else that this run computed, or figures.allow(number) for a setting "
                             "that no study has")
    return plain


def svg(fig, alt: str = "", key: str = "", setting: str = "") -> str:
    """The figure as an SVG element that scales, follows the page's colours and says what it shows; as several if it has
    several ``panels``: their legend, and each of them.
    ``alt``: what it shows; default: ``setting``, and what is read off it. ``key`` sets its ids apart from those of an equal
    figure on the same page. Raises ValueError: a description too short to describe anything."""
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    plt.close(fig)
    fig.dpi, fig.canvas = 72, FigureCanvasSVG(fig)  # Its letters are as wide as those of the page, not rounded to pixels.
    fit(fig)
    fig.set_layout_engine("none")  # What is drawn below is part of what was laid out as a whole.
    if len(getattr(fig, "panels", [])) < 2:
        return _element(fig, alt or f"{setting}{described(fig)}", key, (0, fig.get_figheight()))
    above = [*fig.legends, *fig.texts]
    names = ", ".join(text.get_text() for legend in fig.legends for text in legend.get_texts())
    parts = [(above, f"{setting}Legend of all panels: {names}")] if above else []
    for number, panel in enumerate(fig.panels, 1):
        axes = [ax for ax in fig.axes if ax.get_subplotspec() == panel.get_subplotspec()]  # a twin has the same place
        place = f"panel {number} of {len(fig.panels)}"
        parts.append((axes, f"{alt} ({place})" if alt else f"{setting}{place}, {described(fig, axes)}"))
    key += "".join(words for _, words in parts)  # two figures of a page may have one legend
    drawn, every = [], [*above, *fig.axes]
    boxes = [[artist.get_tightbbox() for artist in artists] for artists, _ in parts]
    ends = [(min(box.y0 for box in inside) / fig.dpi - 0.03, max(box.y1 for box in inside) / fig.dpi + 0.03) for inside in boxes]
    for (artists, words), heights in zip(parts, ends):
        for artist in every:
            artist.set_visible(artist in artists)
        drawn.append(_element(fig, words, key, heights))
    # Inline, for a notebook without the book's style sheet. Columns are there before their panels: one that came alone would fill
    # the row, and shrink when the next one comes.
    columns = "display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); align-items: end; gap: 0.5rem 1rem"
    wide = f'<div style="grid-column: 1 / -1">{drawn.pop(0)}</div>' if above else ""
    panes = "".join(f'<div style="min-width: 0">{one}</div>' for one in drawn)
    return f'<div class="panels" style="{columns}">{wide}{panes}</div>'


def _element(fig, alt: str, key: str, heights: tuple[float, float]) -> str:
    """One SVG element: what of the figure lies between two ``heights`` (in inches)."""
    import matplotlib
    if len(alt.split()) < 3:
        raise ValueError(f"alt={alt!r}: say in a sentence what the figure shows, for a reader who cannot see it")
    out = io.StringIO()
    # A fixed salt and no date: the same figure gives the same bytes. (`savefig` would lay it out and draw it once more.)
    with matplotlib.rc_context({"svg.hashsalt": "bncourse"}):
        fig.canvas.print_svg(out, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    view = " ".join(f"{72 * x:.6g}" for x in (0, fig.get_figheight() - heights[1], fig.get_figwidth(), heights[1] - heights[0]))
    body = out.getvalue()
    body = body[body.index(">", body.index("<svg")) + 1:]
    # Its style rule would apply to the whole page; the same is said of this picture alone below.
    body = re.sub(r"\s*<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", body, flags=re.S)
    body = body.replace(INK, "currentColor")
    # The page's style sheet knows the colours for dark; a notebook has the colour for light.
    colors = "".join(f"--{name}: var(--bn-{name}, {TONES[name][0]}); " for color, name in COLOURS.items() if color in body)
    for color, name in COLOURS.items():
        body = body.replace(color, f"var(--{name})")
    # Ids must be unique on a page of many figures: keep those referred to, under a name of this figure's own.
    own = "f" + hashlib.sha1((alt + key + body).encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{own}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{own}-", body)
    body = re.sub(r"\n\s*", "\n", body).replace(' xlink:href="', ' href="')
    # A hundredth of a point is finer than any screen. Places only: the numbers in a label are somebody's result.
    body = re.sub(r' (?:d|x|y|points)="[^"]*"',
                  lambda place: re.sub(r"\d+\.\d{3,}", lambda digits: f"{float(digits[0]):.2f}", place[0]), body)
    # Matplotlib asks for its own fonts by name (in one declaration or, from 3.11 on, in two); the page's is already there.
    body = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]+; ", "", body)
    # The markers of a line look alike: their group can say it once. (Opacity of a group is another thing than of each.)
    body = re.sub(r'<g((?: clip-path="[^"]*")?)>\n((?:<use [^>]*( style="(?![^"]*[" ]opacity)[^"]*")/>\n)(?:<use [^>]*\3/>\n)+)</g>',
                  lambda group: f"<g{group[1]}{group[3]}>\n{group[2].replace(group[3], '')}</g>", body)
    return (f'<svg role="img" aria-label="{escape(alt)}" viewBox="{view}" '
            f'style="{colors}width: 100%; max-width: {96 * fig.get_figwidth():.0f}px; height: auto; '
            f'font-family: inherit; stroke-linejoin: round; stroke-linecap: butt" '
            f'xmlns="http://www.w3.org/2000/svg">{body}')


def show(*figs, caption: str = "", alt: str = "") -> None:
    """Display figures, one below the other, with a caption. ``alt`` is for one that is drawn with something else than lines,
    bars, points and images (``described``)."""
    from IPython.display import HTML, display
    drawn = "".join(svg(fig, checked(alt)) for fig in figs)
    caption = f"<figcaption>{escape(checked(caption))}</figcaption>" if caption else ""
    display(HTML(f'<figure class="plot">{drawn}{caption}</figure>'))


def say(text: str) -> None:
    """Display a sentence as Markdown: how the prose of a chapter carries numbers of this very run.
    Raises ValueError: it says a number that was not measured (``checked``)."""
    from IPython.display import Markdown, display
    display(Markdown(checked(text)))
