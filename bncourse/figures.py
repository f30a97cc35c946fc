"""One style for every figure, and the few plots that recur.

Figures are published as SVG inside the page, with text in ``currentColor``: they follow the reader's light or dark theme,
scale to a phone, and carry their description in the picture itself.
"""

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

# Colour, dash and marker of each network: never colour alone. A colour here is between the two of TONES, which are published.
LOOKS = {
    "none": dict(color="#d2622a", linestyle="-", marker="o"),
    "batch": dict(color="#2a86c8", linestyle="--", marker="s"),
    "noisy_batch": dict(color="#12977a", linestyle="-.", marker="^"),
    "noise": dict(color="#b9559b", linestyle=":", marker="v"),
    "frozen": dict(color="#8a7a12", linestyle=(0, (5, 1)), marker="D"),
    "frozen_noise": dict(color="#7b71c9", linestyle=(0, (1, 1)), marker="P"),
    "l1": dict(color="#2c9c52", linestyle=(0, (8, 2, 1, 2)), marker="*"),
    "l2": dict(color="#c2508c", linestyle=(0, (1, 2)), marker="X"),
    "linf": dict(color="#977f1c", linestyle=(0, (6, 2)), marker="h"),
    "layer": dict(color="#3d8f3d", linestyle=(0, (4, 1, 1, 1)), marker="<"),
    "group": dict(color="#a8641c", linestyle=(0, (2, 1)), marker=">"),
    "instance": dict(color="#5a82d8", linestyle=(0, (3, 3)), marker="p"),
    "rms": dict(color="#c7577c", linestyle=(0, (7, 1, 2, 1)), marker="d"),
    "frn": dict(color="#1b93a3", linestyle=(0, (1, 3)), marker="H"),
    "dyt": dict(color="#8c6fae", linestyle=(0, (9, 3)), marker="8"),
    "ghost": dict(color="#6f86a0", linestyle=(0, (5, 2, 1, 2, 1, 2)), marker=(4, 1, 45)),
    "batch_renorm": dict(color="#a663c4", linestyle=(0, (3, 1, 3, 3)), marker=(6, 1, 0)),
    "weight": dict(color="#7d8b22", linestyle=(0, (2, 3)), marker=(6, 2, 0)),
    "weight_standardization": dict(color="#b4713f", linestyle=(0, (6, 1, 1, 1, 1, 1)), marker=(8, 1, 0)),
}
GREY = "#888888"  # Of lines that are there to compare with.
# No colour has a contrast of 4.5 both to white and to near-black: each is published in two, for a light page and for a dark
# one. Found by a search for colours of about that hue, with enough contrast, which readers without one of the three kinds of
# cones (Machado, Oliveira & Fernandes 2009) can tell apart: best those that meet in the most figures.
TONES = {
    "none": ("#bd5706", "#e3520b"), "batch": ("#0578c9", "#0d92f4"), "noisy_batch": ("#026857", "#4ef0be"),
    "noise": ("#945896", "#b5689d"), "frozen": ("#6a4e01", "#efb92e"), "frozen_noise": ("#3d188e", "#b3b7fd"),
    "l1": ("#0c8640", "#7eb26a"), "l2": ("#6b0343", "#f58bbb"), "linf": ("#4b4a00", "#d4cb6e"),
    "layer": ("#3b8005", "#2e945c"), "group": ("#5d2a00", "#d39734"), "instance": ("#38439b", "#3b7ef1"),
    "rms": ("#a72669", "#fb6e99"), "frn": ("#266f7f", "#3cb8b8"), "dyt": ("#734d95", "#b7a2e4"),
    "ghost": ("#1c3e58", "#bcd1fc"), "batch_renorm": ("#49246e", "#9f6fc2"), "weight": ("#405d21", "#c6e04e"),
    "weight_standardization": ("#9f6651", "#ffc1a6"), "grey": ("#757575", "#8f8f8f"),
    "other1": ("#9c2f6b", "#e58fc0"), "other2": ("#33687a", "#7fb6c9"), "other3": ("#6a6510", "#b9b24a"),
    "other4": ("#5a4fb0", "#a79cf0"), "other5": ("#94492f", "#e0947a"), "other6": ("#2d6f4a", "#79bf95")}
NAMES = {"none": "no normalization", "batch": "batch norm", "noisy_batch": "noisy batch norm", "noise": "noise only",
         "frozen": "frozen statistics", "frozen_noise": "frozen statistics + noise",
         "l1": "ℓ1", "l2": "ℓ2", "linf": "ℓ∞", "layer": "layer norm", "group": "group norm", "instance": "instance norm",
         "rms": "RMS norm", "frn": "filter response norm", "dyt": "dynamic tanh", "ghost": "ghost batch norm",
         "batch_renorm": "batch renorm", "weight": "weight norm", "weight_standardization": "weight standardization"}

INITS = {"he": "He initialization", "glorot": "Glorot initialization", "default": "torch's default initialization"}
# For what is no normalizer: the colours above would each say the name of one.
OTHERS = [dict(color="#c1609a", linestyle=(0, (10, 2)), marker=(5, 1, 0)), dict(color="#588ea0", linestyle=(0, (3, 2)), marker=(3, 1, 0)),
          dict(color="#918b2e", linestyle=(0, (1, 1, 4, 1)), marker=(7, 1, 0)), dict(color="#8075d0", linestyle=(0, (2, 1, 2, 3)), marker=(4, 1, 0)),
          dict(color="#ba6e55", linestyle=(0, (12, 2, 2, 2)), marker=(5, 2, 0)), dict(color="#53966f", linestyle=(0, (4, 2, 1, 2, 1, 2)), marker=(9, 1, 0))]
# The colour that is drawn with -> the name of its two tones.
COLOURS = {look["color"]: name for name, look in LOOKS.items()} | {GREY: "grey"} | {
    look["color"]: f"other{number}" for number, look in enumerate(OTHERS, start=1)}


def fonts() -> dict[str, object]:
    """Settings of the fonts that text is measured with, before a browser sets it in that of the page around it.

    A page of the book has its own type, so its figures are measured with that. A notebook has whatever its reader's
    Jupyter has: matplotlib's own is wider than most, and room is left rather than taken.
    """
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
    """Mean of column ``y`` over seeds and its 95 % interval: a row per group ``by``, columns ``mean, low, high, seeds, left_out``.

    Several rows of a seed (layers, steps) are averaged first. Seeds without a finite value are left out with a warning, which
    stops a build of the book: there it has to be explained. ``geometric``: means of logarithms.
    """
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


AXES = {"step": "training step", "layer": "layer", "lr": "learning rate", "batch": "examples in a batch", "layers": "hidden layers"}


def curves(ax, frame: pd.DataFrame, y: str, x: str = "step", by: str = "norm", looks: Mapping | None = None,
           labels: Mapping | None = None, markers: bool = True, geometric: bool = False, named: bool = False, **axis) -> None:
    """Draw the mean of ``y`` over seeds against ``x``, one line per value of ``by``, with its 95 % interval as a band.

    ``named``: with its name at the end of each line in place of a legend. ``axis``: settings of the axes (yscale, title, …).
    """
    levels = list(dict.fromkeys(frame[by]))
    if looks is None:
        others = iter(OTHERS * len(levels))
        looks = {level: LOOKS.get(level) or next(others) for level in levels}
    labels = NAMES if labels is None else labels
    for level in levels:
        line = over_seeds(frame[frame[by] == level], y, [x], geometric)
        look = dict(looks.get(level, {}))
        if not markers or len(line) > 15:
            look.pop("marker", None)
        [drawn] = ax.plot(line[x], line["mean"], label=labels.get(level, str(level)), **look)
        ax.fill_between(line[x], line["low"], line["high"], color=drawn.get_color(), alpha=0.22, linewidth=0)
    ax.set(xlabel=AXES.get(x, x))
    if axis:
        ax.set(**axis)
    if axis.get("xscale") == "log" and frame[x].nunique() < 8:
        values = sorted(frame[x].unique())
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.minorticks_off()
    if named:
        name_lines(ax)


def name_lines(ax) -> None:
    """The name of each line at its right end, moved apart where two ends are close. The labels take their room from the axes."""
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_") and len(line.get_xdata())]
    if not lines:
        return
    fig = ax.get_figure()
    fig.canvas.draw()
    at = [ax.transData.transform((line.get_xdata()[-1], line.get_ydata()[-1]))[1] for line in lines]
    low, high = ax.get_window_extent().y0, ax.get_window_extent().y1
    room = 13 * fig.dpi / 72
    order, places = sorted(range(len(lines)), key=at.__getitem__), {}
    for i in order:
        places[i] = max(at[i], low + room / 2, *(place + room for place in places.values()), low)
    for i in reversed(order):
        ceiling = min([place - room for j, place in places.items() if order.index(j) > order.index(i)], default=high)
        places[i] = min(places[i], ceiling)
    for i, line in enumerate(lines):
        ax.annotate(line.get_label(), (1, (places[i] - low) / (high - low)), xycoords="axes fraction", xytext=(6, 0),
                    textcoords="offset points", va="center", color=line.get_color(), fontsize=10, annotation_clip=False)


def panels(count: int, height: float = 3.2):
    """A figure of one panel, or of several, each ``height`` inches high: (figure, list of axes).

    Shown side by side where the page is wide enough, and below each other on a phone, which is as wide as one of them.
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(count, 1, figsize=(4.8, height * count), squeeze=False)
    fig.panels = list(axes[:, 0])
    return fig, fig.panels


def fit(fig) -> None:
    """See that nothing leaves the figure or collides: as many columns of a legend above the panels as there is room for, labels
    of an axis that end with it, and few, plain numbers on a logarithmic axis of little more than a decade."""
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator

    fig.draw_without_rendering()
    for legend in [legend for legend in fig.legends if legend._ncols > 1]:
        handles, names = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
        while legend.get_window_extent().width > 0.98 * fig.bbox.width and legend._ncols > 1:  # a browser's letters may be wider
            columns = legend._ncols - 1
            legend.remove()
            legend = fig.legend(handles, names, loc="outside upper center", ncols=columns)
            fig.draw_without_rendering()
    for ax in fig.axes:
        if ax.xaxis.label.get_window_extent().x1 > fig.bbox.width:
            ax.xaxis.label.set(x=1, ha="right")
        low, high = ax.get_ylim()
        if isinstance(ax.yaxis.get_major_formatter(), LogFormatterSciNotation) and high < 30 * low:
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            ax.yaxis.set_minor_formatter("{x:g}")


def described(fig, axes: list | None = None) -> str:
    """What a figure shows, or some of its axes, read off what was drawn: for a reader who cannot see it."""
    parts = []
    for ax in fig.axes if axes is None else axes:
        lines = [line for line in ax.get_lines() if not line.get_label().startswith("_") and len(line.get_xdata())]
        about = f"{ax.get_ylabel() or ax.get_title() or 'values'}" + (f" against {ax.get_xlabel()}" if ax.get_xlabel() else "")
        title = f"{ax.get_title()}: " if ax.get_title() and ax.get_ylabel() else ""
        texts = [_line_in_words(line) for line in lines]
        texts += [f"{bars.get_label()}: " + ", ".join(claims.number(bar.get_height()) for bar in bars)
                  for bars in ax.containers if hasattr(bars, "patches")]
        texts += [f"{ax.get_yticklabels()[0].get_text()} to {ax.get_yticklabels()[-1].get_text()} by "
                  f"{ax.get_xticklabels()[0].get_text()} to {ax.get_xticklabels()[-1].get_text()}, from {_short(image.get_array().min())} "
                  f"to {_short(image.get_array().max())}" for image in ax.images if ax.get_yticklabels() and ax.get_xticklabels()]
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


# ------------------------------------------------------------------------------------------------- numbers in sentences

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

    def __format__(self, spec: str) -> str:
        return self.text(format(float(self), spec or "g").replace("-", "−"))

    @staticmethod
    def text(text: str) -> str:
        """Any text whose numbers were measured."""
        return f"{OPEN}{text}{CLOSE}"

    __str__ = __repr__ = lambda self: format(self)

    def _with(operation):
        return lambda self, *other: Measured(operation(float(self), *other))

    # What is computed from measured numbers is measured: a share of it, a difference in points.
    for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "neg", "abs"):
        locals()[f"__{_name}__"] = _with(getattr(float, f"__{_name}__"))


def allow(value) -> None:
    """Let sentences say a number of the design: a setting, a threshold, a count of seeds."""
    if isinstance(value, dict):
        return allow([*value, *value.values()])
    if isinstance(value, (list, tuple, set)):
        return [allow(one) for one in value] and None
    if isinstance(value, slice):
        return allow([value.start, value.stop])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        size = abs(value)
        settings.update({f"{size:g}", f"{size:,}", str(size), f"{100 * size:g}", *(str(size).removeprefix("0"),)})


def checked(text: str) -> str:
    """The text without the marks of measured numbers.
    Raises ValueError: in a chapter with a study, a number that is neither measured nor a setting: it might be anybody's.
    """
    if settings:
        typed = NUMBER.findall(NO_RESULT.sub(" ", re.sub(f"{OPEN}.*?{CLOSE}", " ", text, flags=re.S)))
        if unknown := [one for one in typed if one not in settings]:
            raise ValueError(f"nobody measured {', '.join(unknown)} in {text.replace(OPEN, '').replace(CLOSE, '')!r}: write study(quantity) in its "
                             "place, Measured(number) for something else that this run computed, or figures.allow(number) for a "
                             "setting that no study has")
    return text.replace(OPEN, "").replace(CLOSE, "")


def svg(fig, alt: str = "", key: str = "", setting: str = "") -> str:
    """The figure as an SVG element that scales, follows the page's colours and says what it shows; as several if it has
    several ``panels``: their legend, and each of them.

    ``alt``: what it shows; default: ``setting``, and what is read off it. ``key`` sets its ids apart from those of an equal
    figure on the same page.
    Raises ValueError: a description too short to describe anything.
    """
    import matplotlib.pyplot as plt

    fit(fig)
    if len(getattr(fig, "panels", [])) < 2:
        drawn = _element(fig, alt or f"{setting}{described(fig)}", key)
        plt.close(fig)
        return drawn
    fig.canvas.draw()
    fig.set_layout_engine("none")  # what is drawn below is part of what was laid out as a whole
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
    for (artists, words), inside in zip(parts, boxes):
        for artist in every:
            artist.set_visible(artist in artists)
        bottom, top = min(box.y0 for box in inside) / fig.dpi, max(box.y1 for box in inside) / fig.dpi
        drawn.append(_element(fig, words, key, (bottom - 0.03, top + 0.03)))
    plt.close(fig)
    # Inline, for a notebook that has no style sheet of the book.
    # Columns are there before their panels: one that came alone would fill the row, and shrink when the next one comes.
    columns = "display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); align-items: end; gap: 0.5rem 1rem"
    wide = '<div style="grid-column: 1 / -1">' + drawn.pop(0) + "</div>" if above else ""
    panes = "".join(f'<div style="min-width: 0">{one}</div>' for one in drawn)
    return f'<div class="panels" style="{columns}">{wide}{panes}</div>'


def _element(fig, alt: str, key: str, heights: tuple[float, float] | None = None) -> str:
    """One SVG element: the figure, or what of it lies between two ``heights`` (in inches)."""
    import matplotlib
    from matplotlib.transforms import Bbox

    if len(alt.split()) < 3:
        raise ValueError(f"alt={alt!r}: say in a sentence what the figure shows, for a reader who cannot see it")
    out = io.StringIO()
    box = heights and Bbox([[0, heights[0]], [fig.get_figwidth(), heights[1]]])
    # A fixed salt and no date: the same figure gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "bncourse"}):
        fig.savefig(out, format="svg", bbox_inches=box, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    body = out.getvalue()
    body = body[body.index("<svg"):]
    _, _, width, height = re.search(r'viewBox="([^"]+)"', body).group(1).split()
    body = body[body.index(">") + 1:]
    # Its style rule would apply to the whole page; the same is said of this picture alone below.
    body = re.sub(r"\s*<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", body, flags=re.S)
    body = body.replace(INK, "currentColor")
    # The page's style sheet knows the colours for dark; a notebook has the colour for light.
    colors = []
    for color, name in COLOURS.items():
        if color in body:
            body = body.replace(color, f"var(--{name})")
            colors.append(f"--{name}: var(--bn-{name}, {TONES[name][0]}); ")
    # Ids must be unique on a page of many figures: keep those referred to, under a name of this figure's own.
    own = "f" + hashlib.sha1((alt + key + body).encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{own}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{own}-", body)
    body = re.sub(r"\n\s*", "\n", body).replace(' xlink:href="', ' href="')
    # A hundredth of a point is finer than any screen; six decimals are half of the file. Places only: the numbers in a
    # label are somebody's result.
    body = re.sub(r' (?:d|x|y|points)="[^"]*"',
                  lambda place: re.sub(r"\d+\.\d{3,}", lambda digits: f"{float(digits[0]):.2f}", place[0]), body)
    # Matplotlib asks for its own fonts by name (in one declaration or, from 3.11 on, in two); the page's is already there.
    body = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]+; ", "", body)
    # The markers of a line look alike: their group can say it once. (Opacity of a group is another thing than of each.)
    body = re.sub(r'<g((?: clip-path="[^"]*")?)>\n((?:<use [^>]*( style="(?![^"]*[" ]opacity)[^"]*")/>\n)(?:<use [^>]*\3/>\n)+)</g>',
                  lambda group: f"<g{group[1]}{group[3]}>\n{group[2].replace(group[3], '')}</g>", body)
    return (f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {width} {height}" '
            f'style="{"".join(colors)}width: 100%; max-width: {float(width) * 4 / 3:.0f}px; height: auto; '
            f'font-family: inherit; stroke-linejoin: round; stroke-linecap: butt" '
            f'xmlns="http://www.w3.org/2000/svg">{body}')


def show(*figs, caption: str = "", alt: str = "") -> None:
    """Display figures, one below the other, with a caption. What they show is described from what was drawn (``described``);
    ``alt`` is for a figure that is drawn with something else than lines, bars, points and images."""
    from IPython.display import HTML, display

    drawn = "".join(svg(fig, checked(alt)) for fig in figs)
    caption = f"<figcaption>{escape(checked(caption))}</figcaption>" if caption else ""
    display(HTML(f'<figure class="plot">{drawn}{caption}</figure>'))


def say(text: str) -> None:
    """Display a sentence as Markdown: how the prose of a chapter carries numbers of this very run.
    Raises ValueError: it says a number that was not measured (``checked``).
    """
    from IPython.display import Markdown, display

    display(Markdown(checked(text)))
