"""Figures on their way to the page: theme colours, ids of their own, a description, the same bytes every time."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

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
    figures.show(rich_figure(), ALT, "Loss < 1 & falling")
    figures.show(rich_figure(), ALT)
    assert shown[0].data.startswith('<figure class="plot"><svg') and f'aria-label="{ALT}"' in shown[0].data
    assert "<figcaption>Loss &lt; 1 &amp; falling</figcaption></figure>" in shown[0].data
    assert "figcaption" not in shown[1].data


def test_over_seeds(frame):
    # Two rows of one seed (two layers, say) count as one seed.
    doubled = pd.concat([frame, frame.assign(loss=frame.loss + 1)])
    found = figures.over_seeds(doubled, "loss", ["norm", "step"])
    assert list(found.columns) == ["norm", "step", "mean", "low", "high", "seeds"] and len(found) == 6
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
        assert len({str(look[kind]) for look in figures.LOOKS.values()}) == len(figures.LOOKS)
    assert set(figures.NAMES) == set(figures.LOOKS) == set(figures.TONES) - {"grey"}


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
