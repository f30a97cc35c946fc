"""Figures with sliders: every frame on the page, drawn on demand on a live kernel; and questions to commit to first."""

import json
import re
from html.parser import HTMLParser

import ipywidgets
import matplotlib.pyplot as plt
import pytest

from bncourse.widgets import explore

pytestmark = pytest.mark.usefixtures("style")


class Page(HTMLParser):
    """All elements as (tag, attributes), all text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag, cls=None):
        return [attributes for name, attributes in self.elements
                if name == tag and (cls is None or cls in (attributes.get("class") or "").split())]


def draw(**chosen):
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, 1], [0, 1])
    ax.set_title(" ".join(f"{name}={value}" for name, value in chosen.items()))
    return fig


@pytest.fixture
def two():
    return explore(draw, alt="A line at step {step} with rate {lr}.", caption="Loss < 1 & falling",
                   labels={"lr": "learning rate"}, step=[0, 10, 100], lr=[0.1, 1])


@pytest.fixture
def book(monkeypatch):
    monkeypatch.setenv("BNCOURSE_BOOK", "1")


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.delenv("BNCOURSE_BOOK", raising=False)


# --- On the page -----------------------------------------------------------------------------------------------------

def test_the_page_holds_every_frame_and_shows_the_first(two, book):
    bundle = two._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" not in bundle
    page = Page(bundle["text/html"])
    frames = page.all("div", "explore-frame")
    assert [frame["data-key"] for frame in frames] == ["0,0", "0,1", "1,0", "1,1", "2,0", "2,1"]
    assert ["hidden" in frame for frame in frames] == [False] + [True] * 5
    alts = [attributes["aria-label"] for attributes in page.all("svg")]
    assert alts == [f"A line at step {step} with rate {lr}." for step in (0, 10, 100) for lr in (0.1, 1)]
    for step in (0, 10, 100):
        for lr in (0.1, 1):
            assert f"step={step} lr={lr}" in page.text
    assert len(page.all("figure", "explore")) == 1 and "Loss < 1 & falling" in page.text


def test_sliders_name_every_position(two, book):
    page = Page(two.html())
    sliders = page.all("input")
    assert [(s["type"], s["min"], s["max"], s["step"], s["value"]) for s in sliders] == [
        ("range", "0", "2", "1", "0"), ("range", "0", "1", "1", "0")]
    assert [json.loads(s["data-labels"]) for s in sliders] == [["0", "10", "100"], ["0.1", "1"]]
    assert [s["aria-valuetext"] for s in sliders] == ["0", "0.1"]
    assert len(page.all("label")) == 2 and "learning rate" in page.text
    assert page.all("figure")[0]["aria-label"] == "Figure with sliders: step, learning rate"


def test_a_slider_over_time_has_a_play_button_and_no_other():
    page = explore(draw, alt="A line that ends at {step}.", step=[0, 10], mean=[1, 2], labels={"step": "training step"}).html()
    assert page.count("<button") == 1
    # Outside the label: a label belongs to the first control in it.
    assert re.search(r'<button type="button" class="explore-play" aria-pressed="false" aria-label="Play: training step">'
                     r'</button><label class="explore-control"><span class="explore-name">training step<', page)


def test_one_slider(book):
    page = Page(explore(draw, alt="A line at step {step}.", step=[1, 2])._repr_mimebundle_()["text/html"])
    assert [frame["data-key"] for frame in page.all("div", "explore-frame")] == ["0", "1"] and len(page.all("input")) == 1


@pytest.mark.parametrize("start, key, stands", [({"step": 100}, "2,0", ["100", "0.1"]), ({"step": 10, "lr": 1}, "1,1", ["10", "1"])])
def test_a_figure_may_start_elsewhere(start, key, stands):
    figure = explore(draw, alt="A line at step {step} with rate {lr}.", initially=start, step=[0, 10, 100], lr=[0.1, 1])
    page = Page(figure.html())
    assert [frame["data-key"] for frame in page.all("div", "explore-frame") if "hidden" not in frame] == [key]
    assert [",".join(slider["value"] for slider in page.all("input"))] == [key]
    assert [slider["aria-valuetext"] for slider in page.all("input")] == stands
    still = Page(figure.html(all_frames=False))
    assert [(frame["data-key"], "hidden" in frame) for frame in still.all("div", "explore-frame")] == [(key, False)]
    picture, sliders, _ = live_parts(figure)
    assert [str(slider.value) for slider in sliders] == stands and f"step {stands[0]} with rate {stands[1]}." in picture.value


@pytest.mark.parametrize("start", [{"step": 5}, {"rate": 0.1}])
def test_a_start_that_is_no_position_is_named(start):
    with pytest.raises(ValueError, match=f"initially: {next(iter(start))}=.* is not a position"):
        explore(draw, alt="A line at step {step}.", initially=start, step=[0, 10])


def test_alt_may_be_computed(book):
    page = Page(explore(draw, alt=lambda step: f"A line that ends at {step * 2}.", step=[1, 2]).html())
    assert [svg["aria-label"] for svg in page.all("svg")] == ["A line that ends at 2.", "A line that ends at 4."]


def test_ids_are_unique_over_frames_and_figures(two, book):
    other = explore(draw, alt="Another line, at step {step}.", step=[0, 10])
    # Not even the same picture with the same description twice may share an id: a reference into a hidden frame is dead.
    still = explore(lambda step: draw(), alt="Always the same line.", step=[0, 10])
    ids = re.findall(r'\bid="([^"]+)"', two.html() + other.html() + still.html())
    assert len(ids) == len(set(ids)) > 8


def test_text_of_all_kinds_is_escaped(book):
    hostile = "<i>'\"&"
    page = Page(explore(draw, alt="A line " + hostile + " {a_b}.", caption=hostile, labels={"a_b": hostile},
                        a_b=[hostile, "plain"]).html())
    assert not page.all("i")
    assert [one["value"] for one in page.all("input")] == ["0", "1"] and "data-labels" not in page.all("input")[0]
    assert page.all("svg")[0]["aria-label"] == f"A line {hostile} {hostile}."


def test_twice_gives_the_same_page(two, book):
    assert two.html() == two.html()


# --- On a live kernel ------------------------------------------------------------------------------------------------

def live_parts(widget):
    box = widget.live()
    picture, *sliders, caption = box.children
    assert all(isinstance(slider, (ipywidgets.SelectionSlider, ipywidgets.ToggleButtons)) for slider in sliders)
    return picture, sliders, caption


def test_sliders_redraw_over_their_whole_range(two, kernel):
    picture, sliders, caption = live_parts(two)
    assert [slider.description for slider in sliders] == ["step", "learning rate"]
    assert "step=0 lr=0.1" in picture.value and caption.value == "Loss &lt; 1 &amp; falling"
    seen = {picture.value}
    for slider, name in zip(sliders, ("step", "lr")):
        for i in range(len(slider.options)):
            slider.index = i
            assert f"{name}={two.values[name][i]}" in picture.value
            assert f"step={sliders[0].value} lr={sliders[1].value}" in picture.value
            seen.add(picture.value)
    assert len(seen) == 4
    sliders[0].value = 10
    assert "step=10 lr=1" in picture.value and 'aria-label="A line at step 10 with rate 1."' in picture.value


def test_draws_on_demand(kernel):
    drawn = []
    widget = explore(lambda step: drawn.append(step) or draw(step=step), alt="A line at {step}.", step=list(range(50)))
    _, [slider], _ = live_parts(widget)
    slider.index = 7
    assert drawn == [0, 7]


def test_displays_a_widget_and_a_still_picture(two, kernel):
    bundle = two._repr_mimebundle_()
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["version_major"] == 2 and view["model_id"]
    page = Page(bundle["text/html"])
    assert len(page.all("svg")) == 1 and not page.all("input"), "a slider that nothing answers would be a broken promise"


def test_displays_without_a_bundle_of_the_widgets_own(two, kernel, monkeypatch):
    # ipywidgets 7, which Colab ships, has none.
    monkeypatch.delattr(ipywidgets.Widget, "_repr_mimebundle_", raising=False)
    assert "application/vnd.jupyter.widget-view+json" in two._repr_mimebundle_()


def test_the_view_is_that_of_the_live_widget(two, kernel, monkeypatch):
    box = two.live()
    monkeypatch.setattr(two, "live", lambda: box)
    assert two._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]["model_id"] == box.model_id


# --- Errors ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("values, says", [({}, "at least one slider"), ({"step": [3]}, r"slider 'step' has 1 position"),
                                          ({"step": []}, r"slider 'step' has 0 position")])
def test_sliders_need_somewhere_to_go(values, says):
    with pytest.raises(ValueError, match=says):
        explore(draw, alt="A line.", **values)


def test_every_frame_needs_a_description(book):
    with pytest.raises(ValueError, match="say in a sentence"):
        explore(draw, alt="", step=[0, 1]).html()


def test_what_draw_raises_is_not_swallowed(kernel):
    def broken(step):
        raise ZeroDivisionError("step")

    with pytest.raises(ZeroDivisionError):
        explore(broken, alt="A line at {step}.", step=[0, 1]).live()
