"""One style for every figure, and the few plots that recur.

Figures are published as SVG inside the page, with text in ``currentColor``: they follow the reader's light or dark theme,
scale to a phone, and carry their description in the picture itself.
"""

import hashlib
import io
import re
import warnings
from html import escape

import numpy as np
import pandas as pd

from bncourse import claims

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
    "weight_standardization": ("#9f6651", "#ffc1a6"), "grey": ("#757575", "#8f8f8f")}
NAMES = {"none": "no normalization", "batch": "batch norm", "noisy_batch": "noisy batch norm", "noise": "noise only",
         "frozen": "frozen statistics", "frozen_noise": "frozen statistics + noise",
         "l1": "ℓ1", "l2": "ℓ2", "linf": "ℓ∞", "layer": "layer norm", "group": "group norm", "instance": "instance norm",
         "rms": "RMS norm", "frn": "filter response norm", "dyt": "dynamic tanh", "ghost": "ghost batch norm",
         "batch_renorm": "batch renorm", "weight": "weight norm", "weight_standardization": "weight standardization"}


def use_style() -> None:
    """Set matplotlib up for the course."""
    import matplotlib

    matplotlib.rcParams.update({
        "figure.figsize": (5.0, 3.3), "figure.constrained_layout.use": True, "figure.facecolor": "none",
        "axes.facecolor": "none", "savefig.facecolor": "none", "font.size": 11, "axes.titlesize": 11,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GREY,
        "grid.alpha": 0.25, "grid.linewidth": 0.6, "legend.frameon": False, "legend.fontsize": 10,
        "lines.linewidth": 1.8, "lines.markersize": 5, "svg.fonttype": "none",
        # The page sets its own sans-serif; widths are measured with matplotlib's, which is wider than most.
        "font.family": "sans-serif",
        **{name: INK for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor",
                                  "xtick.color", "ytick.color", "patch.edgecolor", "hatch.color")},
    })


def over_seeds(frame: pd.DataFrame, y: str, by: list[str]) -> pd.DataFrame:
    """Mean of column ``y`` over seeds and its 95 % interval: a row per group ``by``, columns ``mean, low, high, seeds``.

    Seeds without a finite value are left out with a warning, which stops a build of the book: there it has to be explained.
    """
    rows = []
    for key, group in frame.groupby(by, sort=True):
        values = group.groupby("seed")[y].mean()
        finite = values[np.isfinite(values)]
        if len(finite) < len(values):
            warnings.warn(f"{y} at {dict(zip(by, key))}: {len(values) - len(finite)} of {len(values)} seeds gave no finite "
                          "number (a run that blew up?); the line is drawn from the others", stacklevel=2)
        if len(finite) < 2:
            continue
        found = claims.interval(finite.to_numpy())
        rows.append(dict(zip(by, key)) | {"mean": found.mean, "low": found.low, "high": found.high, "seeds": found.seeds})
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])


def curves(ax, frame: pd.DataFrame, y: str, x: str = "step", by: str = "norm", looks: dict | None = None,
           labels: dict | None = None, markers: bool = True) -> None:
    """Draw the mean of ``y`` over seeds against ``x``, one line per value of ``by``, with its 95 % interval as a band."""
    looks, labels = looks or LOOKS, labels or NAMES
    for value in dict.fromkeys(frame[by]):
        line = over_seeds(frame[frame[by] == value], y, [x])
        look = dict(looks.get(value, {}))
        if not markers:
            look.pop("marker", None)
        [drawn] = ax.plot(line[x], line["mean"], label=labels.get(value, str(value)), **look)
        ax.fill_between(line[x], line["low"], line["high"], color=drawn.get_color(), alpha=0.22, linewidth=0)
    ax.set_xlabel({"step": "training step"}.get(x, x))


def svg(fig, alt: str, key: str = "") -> str:
    """The figure as an SVG element that scales, follows the page's colours and says what it shows.

    ``key`` sets its ids apart from those of an equal figure on the same page.

    Raises:
        ValueError: a description too short to describe anything.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    if len(alt.split()) < 3:
        raise ValueError(f"alt={alt!r}: say in a sentence what the figure shows, for a reader who cannot see it")
    out = io.StringIO()
    # A fixed salt and no date: the same figure gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "bncourse"}):
        fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    plt.close(fig)
    body = out.getvalue()
    body = body[body.index("<svg"):]
    _, _, width, height = re.search(r'viewBox="([^"]+)"', body).group(1).split()
    body = body[body.index(">") + 1:]
    # Its style rule would apply to the whole page; the same is said of this picture alone below.
    body = re.sub(r"\s*<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", body, flags=re.S)
    body = body.replace(INK, "currentColor")
    # The page's style sheet knows the colours for dark; a notebook has the colour for light.
    colors = []
    for name, (light, _) in TONES.items():
        color = LOOKS[name]["color"] if name in LOOKS else GREY
        if color in body:
            body = body.replace(color, f"var(--{name})")
            colors.append(f"--{name}: var(--bn-{name}, {light}); ")
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


def show(fig, alt: str, caption: str = "") -> None:
    """Display a matplotlib figure with its description (``alt``) and a caption."""
    from IPython.display import HTML, display

    caption = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    display(HTML(f'<figure class="plot">{svg(fig, alt)}{caption}</figure>'))


def say(text: str) -> None:
    """Display a sentence as Markdown: how the prose of a chapter carries numbers of this very run."""
    from IPython.display import Markdown, display

    display(Markdown(text))
