"""Figures on their way to the page: theme colours, ids of their own, a description, the same bytes every time."""

import io
import itertools
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from matplotlib.backends.backend_svg import RendererSVG

from bncourse import claims, figures

ALT = "Two lines that rise and cross."

pytestmark = pytest.mark.usefixtures("style")


@pytest.fixture
def frame():
    return pd.DataFrame([{"norm": norm, "step": step, "seed": seed, "loss": seed + step * (norm == "batch")}
                         for norm in ("none", "batch") for step in (0, 1, 2) for seed in range(5)])


def rich_figure():
    """Everything a chapter draws, and a little more."""
    fig, (ax, other) = plt.subplots(1, 2)
    ax.plot([0, 1, 2], [1, 3, 2], marker="o", label="lr 0.00375")
    ax.fill_between([0, 1, 2], [0, 1, 1], [2, 4, 3], alpha=0.2)
    ax.set(title="accuracy at lr 0.00375 (0.12345)", xlabel="training step", ylabel="$\\mu_1$ < 3 & more")
    ax.axhline(1.5)
    ax.legend(title="a title")
    ax.annotate("here", (1, 3), (1.5, 2), arrowprops={"arrowstyle": "->"})
    ax.errorbar([0, 1], [1, 2], yerr=0.2)
    image = other.imshow(np.eye(3))
    fig.colorbar(image)
    other.set_yscale("linear")
    fig.suptitle("above all")
    return fig


@pytest.fixture(scope="module")
def svg():
    with matplotlib.rc_context():
        figures.use_style()
        return figures.svg(rich_figure(), ALT)


def parts(svg):
    return list(ElementTree.fromstring(svg).iter())


def text(svg):
    return " ".join("".join(ElementTree.fromstring(svg).itertext()).split())


def test_is_an_image_with_a_description():
    alt = 'The "first" & <second> line cross at 3.'
    root = ElementTree.fromstring(figures.svg(plt.figure(), alt))
    assert root.get("role") == "img" and root.get("aria-label") == alt


def test_stands_alone_and_loads_nothing(svg):
    root = ElementTree.fromstring(svg)  # well-formed: namespaces, quotes and ampersands are in order
    assert root.get("viewBox").split()[:2] == ["0", "0"] and "width: 100%" in root.get("style")
    assert not re.search(r"<(style|script|metadata)|<!--|<\?xml", svg), "a style rule would reach the rest of the page"
    links = [value for part in parts(svg) for name, value in part.attrib.items() if name.endswith("href")]
    assert links and all(link.startswith(("#", "data:")) for link in links)


def test_ink_follows_the_theme(svg):
    assert figures.INK not in svg and "currentColor" in svg
    assert not re.search(r"#000000|#ffffff|\bblack\b|\bwhite\b", svg), "black or white is invisible on one of two themes"
    parents = {child: part for part in parts(svg) for child in part}
    labels = [part for part in parents if part.tag.endswith("}text")]
    assert len(labels) > 15
    for label in labels:
        # Without a colour of its own or of the group it is in, text is black.
        styles = [part.get("style") or "" for part in (label, parents[label])]
        assert any("fill: currentColor" in style for style in styles), ElementTree.tostring(label)


def test_labels_keep_their_digits(svg):
    words = text(svg)
    assert "accuracy at lr 0.00375 (0.12345)" in words and "training step" in words and "above all" in words


def test_places_are_rounded_to_a_hundredth_of_a_point():
    fig, ax = plt.subplots()
    ax.plot(np.linspace(0, 1, 7), np.linspace(0, 1, 7) ** 2)
    svg = figures.svg(fig, ALT)
    paths = [part.get("d") for part in parts(svg) if part.get("d")]
    assert paths and not any(re.search(r"\.\d{3}", path) for path in paths)


def ids(svg):
    return re.findall(r'\bid="([^"]+)"', svg)


@pytest.mark.parametrize("alt, key", [(ALT + " Again.", ""), (ALT, "2")])
def test_ids_are_unique_on_the_page(alt, key, svg):
    found = ids(svg) + ids(figures.svg(rich_figure(), alt, key))
    assert len(found) == len(set(found)) > 4


def test_every_reference_has_its_target_and_every_id_is_referred_to(svg):
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg))
    assert {a or b for a, b in used} == set(ids(svg))


def test_the_same_figure_gives_the_same_bytes(svg):
    assert figures.svg(rich_figure(), ALT) == svg


@pytest.mark.parametrize("alt", ["", "  ", "a plot", "plot"])
def test_refuses_a_description_that_describes_nothing(alt):
    with pytest.raises(ValueError, match="say in a sentence what the figure shows"):
        figures.svg(plt.figure(), alt)


def test_a_drawn_figure_is_closed():
    before = plt.get_fignums()
    figures.svg(rich_figure(), ALT)
    assert plt.get_fignums() == before, "or a notebook would show it a second time"


def test_show_puts_it_into_a_figure_with_a_caption(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    figures.show(rich_figure(), caption="Loss < 1 & falling", alt=ALT)
    figures.show(rich_figure(), alt=ALT)
    assert shown[0].data.startswith('<figure class="plot"><svg') and f'aria-label="{ALT}"' in shown[0].data
    assert "<figcaption>Loss &lt; 1 &amp; falling</figcaption></figure>" in shown[0].data
    assert "figcaption" not in shown[1].data


def test_over_seeds(frame):
    # Two rows of one seed (two layers, say) count as one seed.
    doubled = pd.concat([frame, frame.assign(loss=frame.loss + 1)])
    found = figures.over_seeds(doubled, "loss", ["norm", "step"])
    assert list(found.columns) == ["norm", "step", "mean", "low", "high", "seeds", "left_out"] and len(found) == 6
    row = found[(found.norm == "batch") & (found.step == 2)].iloc[0]
    wanted = claims.interval([seed + 2.5 for seed in range(5)])
    assert (row["mean"], row.low, row.high, row.seeds) == pytest.approx((4.5, wanted.low, wanted.high, 5))


def test_curves_draw_the_mean_and_the_interval(frame):
    fig, ax = plt.subplots()
    figures.curves(ax, frame, "loss")
    assert [line.get_label() for line in ax.lines] == ["no normalization", "batch norm"]
    assert list(ax.lines[1].get_ydata()) == pytest.approx([2, 3, 4])
    half = claims.interval(range(5)).high - 2
    band = ax.collections[1].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(2 - half) and band[:, 1].max() == pytest.approx(4 + half)
    assert ax.get_xlabel() == "training step"


def test_networks_differ_by_more_than_colour():
    for kind in ("color", "linestyle", "marker"):
        looks = [*figures.LOOKS.values(), *figures.OTHERS]
        assert len({str(look[kind]) for look in looks}) == len(looks)
    assert set(figures.NAMES) == set(figures.LOOKS) == {name for name in figures.TONES if name != "grey" and "other" not in name}
    assert set(figures.COLOURS.values()) == set(figures.TONES)


def test_a_figure_is_described_by_what_was_drawn(frame):
    fig, [left, right] = figures.panels(2)
    figures.curves(left, frame, "loss", ylabel="loss")
    right.plot([1, 2, 3], [0.5, 4, 1], label="a line")
    right.set(xlabel="layer", ylabel="size", title="above")
    assert figures.described(fig) == (
        "loss against training step. no normalization goes from 2 at 0 to 2 at 2; batch norm goes from 2 at 0 to 4 at 2. "
        "above: size against layer. a line goes from 0.5 at 1 to 1 at 3, peak 4 at 2.")


def test_names_at_the_ends_of_lines_do_not_lie_on_each_other():
    fig, ax = plt.subplots()
    for end in (1.0, 1.001, 1.002):
        ax.plot([0, 1], [0, end], label=f"ends at {end}")
    figures.name_lines(ax)
    heights = sorted(text.xy[1] * ax.get_window_extent().height for text in ax.texts)
    assert len(heights) == 3 and min(np.diff(heights)) > 12


@pytest.mark.parametrize("text, refused", [
    ("It reached 77 %.", "77"), ("It is 3.1 times as much.", "3.1"), ("After 120 steps it is there.", None), ("In 2015, Fig. 4c and section 2.1.", None),
    ("{cite}`santurkar2018how` and `lr=0.3` and $x^2$", None), ("Layers 1 and 8, L2, CIFAR-10.", None), ("a 95 % interval", None),
    (f"It reached {figures.Measured(0.77):.0%}.", None), (f"It reached {figures.Measured(0.77):.0%}, not 78 %.", "78"), ("by 5 points (0.05)", None),
])
def test_a_sentence_says_only_numbers_that_were_measured_or_set(text, refused, monkeypatch):
    monkeypatch.setattr(figures, "settings", set())
    assert figures.checked("It reached 77 %.") == "It reached 77 %.", "an older chapter, without a study"
    figures.allow([120, 0.05])
    if refused:
        with pytest.raises(ValueError, match=rf"nobody measured {refused} in"):
            figures.checked(text)
    else:
        assert figures.checked(text) == text.replace(figures.OPEN, "").replace(figures.CLOSE, "")


def test_what_would_leave_the_figure_or_collide_is_fitted():
    figures.use_style()
    fig, axes = figures.panels(2)
    for ax in axes:
        for name in ("no normalization: smoothness", "no normalization: sharpness", "batch norm: smoothness", "batch norm: sharpness"):
            ax.plot([1, 2, 3], [0.02, 0.1, 0.3], label=name)
        ax.set(yscale="log")
    axes[0].set(ylim=(1e-3, 1e3))
    axes[1].set(yticks=[0.1], yticklabels=["a name as long as a third of the whole"], xlabel="a label that is longer than what is left of its axis")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncol=2)
    figures.fit(fig)
    fig.canvas.draw()
    [legend] = fig.legends
    assert legend._ncols == 1 and legend.get_window_extent().width <= fig.bbox.width
    assert axes[1].xaxis.label.get_window_extent().x1 <= fig.bbox.width
    assert {"10⁻²", "10⁰", "10²"} <= {text.get_text() for text in axes[0].get_yticklabels()}, "formulas take long to draw"
    fig, [ax] = figures.panels(1)
    ax.plot([1, 2, 3], [0.02, 0.1, 0.3])
    ax.set(yscale="log")
    figures.fit(fig)
    fig.canvas.draw()
    assert {text.get_text() for text in ax.get_yticklabels(which="both")} >= {"0.02", "0.05", "0.1", "0.2"}
    ax.set(ylim=(1e-3, 1e3), yticks=[0.02, 1, 50])
    figures.fit(fig)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0.02", "1", "50"], "where a chapter puts them"
    fig, [ax] = figures.panels(1)
    ax.plot([1, 2], [1e-3, 1e3])
    ax.set(yscale="log", yticks=[0.02, 1, 50])
    figures.fit(fig)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0.02", "10⁰", "50"]
    fig, [ax] = figures.panels(1)
    ax.imshow(np.zeros((6, 6)))
    ax.set_yticks([3], [22 * "x"])
    ax.set_xlabel("x")
    figures.svg(fig, alt="An image with a name.")
    fig.draw_without_rendering()
    assert ax.get_yticklabels()[0].get_window_extent().x0 > -1, "beside an image, which does not fill the place it was given"
    plt.close("all")


def test_panels_are_pictures_of_their_own_below_one_legend():
    figures.use_style()
    fig, axes = figures.panels(2)
    for ax, name in zip(axes, ("loss", "accuracy")):
        ax.plot([0, 1, 2], [1, 2, 4], label="plain")
        ax.plot([0, 1, 2], [1, 2, 3], label="batch norm")
        ax.set(ylabel=name, xlabel="step")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncol=2)
    legend, first, second = re.findall(r"<svg.*?</svg>", figures.svg(fig), re.S)
    for picture, shown, hidden in (legend, "batch norm", "accuracy"), (first, "loss", "accuracy"), (second, "accuracy", "loss"):
        drawn = text(picture.replace("<svg", '<svg xmlns:xlink="http://www.w3.org/1999/xlink"', 1))
        assert shown in drawn and hidden not in drawn
    assert 'aria-label="Legend of all panels: plain, batch norm"' in legend
    assert 'aria-label="panel 2 of 2, accuracy against step. plain goes from 1' in second
    fig, axes = figures.panels(2)
    for ax in axes:
        ax.plot([0, 1, 2], [5, 2, 4], label="plain")
        ax.plot([0, 1, 2], [1, 2, 3], label="batch norm")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncol=2)
    other = figures.svg(fig)
    assert not set(ids(legend + first + second)) & set(ids(other)), "two figures with one legend on a page"
    parts = [re.search(r'viewBox="0 ([\d.]+) 345.6 ([\d.]+)"', one).groups() for one in (legend, first, second)]
    tops, heights = np.array(parts, float).T
    assert (tops[1:] >= (tops + heights)[:-1] - 5).all(), "but for its margin, no part shows what another does"
    assert heights[0] < 40 and 200 < heights[1] < 240 and abs(heights[1] - heights[2]) < 1


def test_a_seed_that_blew_up_is_left_out_aloud():
    frame = pd.DataFrame({"seed": [0, 1, 2], "step": 0, "y": [1.0, 3.0, float("inf")]})
    with pytest.warns(UserWarning, match="1 of 3 seeds"):
        line = figures.over_seeds(frame, "y", ["step"])
    assert line["mean"].tolist() == [2.0] and line.seeds.tolist() == [2]


# --- Colours -----------------------------------------------------------------------------------------------------------

def linear(color):
    """Red, green and blue as amounts of light, 0 to 1."""
    parts = np.array(matplotlib.colors.to_rgb(color))
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """The contrast ratio of WCAG 2.2."""
    dark, bright = sorted(linear(color) @ [0.2126, 0.7152, 0.0722] for color in (one, other))
    return (bright + 0.05) / (dark + 0.05)


# What is seen without one of the three kinds of cones, on linear colours: Machado, Oliveira & Fernandes 2009, severity 1.
EYES = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def oklab(light):
    """Ottosson 2020: a space in which distances are about those that eyes see; black to white is 1."""
    cones = np.clip(light, 0, 1) @ np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                                            [0.2119034982, 0.6806995451, 0.1073969566],
                                            [0.0883024619, 0.2817188376, 0.6299787005]]).T
    return np.cbrt(cones) @ np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                                      [1.9779984951, -2.4285922050, 0.4505937099],
                                      [0.0259040371, 0.7827717662, -0.8086757660]]).T


PAPER = ("#ffffff", "#121212")  # of the page, light and dark


@pytest.mark.parametrize("name", figures.TONES)
def test_colours_are_legible_on_a_light_and_on_a_dark_page(name):
    for tone, paper in zip(figures.TONES[name], PAPER):
        assert contrast(tone, paper) >= 4.5


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
def test_colours_are_told_apart_with_any_eyes(page, eyes):
    often = ("none", "batch", "noisy_batch", "noise", "frozen", "frozen_noise")  # those that meet in most figures
    for names, least in (often, 0.085), (figures.LOOKS, 0.02):
        seen = {name: oklab(np.array(EYES[eyes]) @ linear(figures.TONES[name][page])) for name in names}
        for one, other in itertools.combinations(names, 2):
            assert np.linalg.norm(seen[one] - seen[other]) >= least, f"{one} looks like {other}"


def test_a_figure_has_the_tone_of_its_page():
    fig, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], **figures.LOOKS["batch"])
    svg = figures.svg(fig, ALT)
    assert figures.LOOKS["batch"]["color"] not in svg and "stroke: var(--batch)" in svg
    # A page that knows a dark tone gives it; a notebook has the one for white.
    assert f"--batch: var(--bn-batch, {figures.TONES['batch'][0]})" in svg and "--bn-none" not in svg


def test_in_the_book_text_is_as_wide_as_on_the_page(monkeypatch, caplog):
    """Measured with the book's own type; a word of matplotlib's on a missing font or letter would fail the chapter."""
    words, size = "noisy batch norm: ‖∇L‖ ≥ 10⁻³, ℓ∞ ✓", 20
    font = TTFont(figures.FONTS / "text.ttf")
    units = sum(font["hmtx"][font.getBestCmap()[ord(letter)]][0] for letter in words)
    monkeypatch.setenv("BNCOURSE_BOOK", "1")
    with matplotlib.rc_context():
        figures.use_style()
        fig = plt.figure(dpi=72)
        width = fig.text(0, 0, words, size=size).get_window_extent(RendererSVG(72, 72, io.StringIO())).width
        fig.text(0, 0, "bold", weight="bold")
        fig.text(0, 0, r"$\|\nabla L\|^2 \leq \mathbf{x}\cdot\hat\beta_1 / 10^{-3}$, $\mathdefault{10^4}$ $\mathcal{N}$")
        figures.svg(fig, ALT)
    assert width == pytest.approx(units / font["head"].unitsPerEm * size, rel=0.001)
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]
