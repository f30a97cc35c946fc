"""Figures with sliders, on a live kernel and on a page without one.

On a live kernel (Lab, VS Code, Colab) ``explore(draw, name=[values, ...])`` gives ipywidgets and draws on demand. While the book
is built it draws every frame, and the page gets plain ``<input type="range">`` sliders over them: no kernel, no library."""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from html import escape

from bncourse.claims import Shown
from bncourse.figures import allow, checked, settings, svg

TIME = ("step", "epoch", "time")  # On the page, a slider of this name gets a button that plays it.


class explore:
    """A figure with one slider per keyword, or buttons where its values are words.

    Args:
        draw: called with one value of each name; returns a matplotlib figure.
        alt: what the frame shows: a function of the same arguments, or text with ``{name}`` in it. Default:
        ``figures.described``.
        labels: slider names for the reader; default: the argument names.
        initially: ``{name: value}``, where a slider stands at first; default: at its first position.
        values: ``name=[values]``, the positions of each slider.
    Raises ValueError: no slider, one with fewer than two positions, or ``initially`` not one of them."""

    def __init__(self, draw: Callable, *, alt: str | Callable[..., str] = "", caption: str = "",
                 labels: dict[str, str] | None = None, initially: dict | None = None, **values: Sequence) -> None:
        if not values:
            raise ValueError("explore needs at least one slider: explore(draw, alt=..., step=[0, 10, 100])")
        for name, positions in values.items():
            if len(positions) < 2:
                raise ValueError(f"slider {name!r} has {len(positions)} position(s); it needs at least 2 to slide")
        self.draw, self.alt, self.caption = draw, alt, checked(caption)
        self.values = {name: list(positions) for name, positions in values.items()}
        if settings:
            allow(self.values)  # a frame may be named by where the sliders stand
        self.labels = {name: (labels or {}).get(name, name.replace("_", " ")) for name in values}
        self.start = {name: positions[0] for name, positions in self.values.items()} | (initially or {})
        for name, value in self.start.items():
            if value not in self.values.get(name, []):
                raise ValueError(f"initially: {name}={value!r} is not a position of a slider; there are {self.values}")

    def frame(self, **chosen) -> str:
        """One frame as an SVG element."""
        fig = self.draw(**chosen)
        alt = self.alt(**chosen) if callable(self.alt) else self.alt.format(**chosen)
        place = ", ".join(f"{self.labels[name]} {value}" for name, value in chosen.items())
        # With the setting as key: two settings may look alike, and a reference into a hidden frame would find nothing.
        return svg(fig, checked(alt), key=str(chosen), setting=f"{place}: ")

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        if os.environ.get("BNCOURSE_BOOK") == "1":
            return {"text/html": self.html(), "text/plain": "a figure with sliders"}
        # A widget of ipywidgets 7 (Colab) has no bundle to give. The HTML is for viewers without widgets: the first frame, still.
        view = {"version_major": 2, "version_minor": 0, "model_id": self.live().model_id}
        return {"application/vnd.jupyter.widget-view+json": view, "text/html": self.html(all_frames=False),
                "text/plain": "a figure with sliders"}

    def html(self, all_frames: bool = True) -> str:
        """A ``<figure class="explore">`` with a frame for every setting, or only that of the start, without sliders."""
        frames = []
        for index in itertools.product(*(range(len(positions)) for positions in self.values.values())):
            chosen = {name: positions[i] for (name, positions), i in zip(self.values.items(), index)}
            if chosen == self.start or all_frames:
                hidden = "" if chosen == self.start else " hidden"
                key = ",".join(map(str, index))
                frames.append(f'<div class="explore-frame" data-key="{key}"{hidden}>{self.frame(**chosen)}</div>')
        controls = "".join(f"<div>{self._control(name)}</div>" for name in self.values) if all_frames else ""
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        name = escape("Figure with sliders: " + ", ".join(self.labels.values()))
        return (f'<figure class="explore" aria-label="{name}"><div class="explore-frames">{"".join(frames)}</div>'
                f'<div class="explore-controls">{controls}</div>{caption}</figure>')

    def _words(self, name: str) -> bool:
        """Whether this is a choice between names, which have no order to slide along."""
        return all(isinstance(value, str) for value in self.values[name])

    def _control(self, name: str) -> str:
        positions, first = [str(value) for value in self.values[name]], self.values[name].index(self.start[name])
        if self._words(name):
            group = "explore-" + hashlib.sha1(f"{name}{positions}{self.caption}".encode()).hexdigest()[:8]
            buttons = "".join(f'<label><input type="radio" name="{group}" value="{i}"{" checked" * (i == first)}> {escape(position)}'
                              "</label>" for i, position in enumerate(positions))
            return f'<fieldset class="explore-choice"><legend>{escape(self.labels[name])}</legend>{buttons}</fieldset>'
        # Its name stays and "pressed" changes: both together would say the opposite of what is meant.
        play = (f'<button type="button" class="explore-play" aria-pressed="false" '
                f'aria-label="Play: {escape(self.labels[name])}"></button>') if name in TIME else ""
        return (f'{play}<label class="explore-control"><span class="explore-name">{escape(self.labels[name])}</span>'
                f'<input type="range" min="0" max="{len(positions) - 1}" step="1" value="{first}" '
                f"data-labels='{escape(json.dumps(positions, ensure_ascii=False))}' "
                f'aria-valuetext="{escape(positions[first])}"><output>{escape(positions[first])}</output></label>')

    def live(self):
        """The ipywidgets version: sliders and a picture, redrawn when a slider moves. Works on ipywidgets 7 and 8."""
        import ipywidgets

        def control(name: str, positions: list):
            settings = dict(options=[(str(value), value) for value in positions], value=self.start[name],
                            description=self.labels[name], style={"description_width": "initial"})
            if self._words(name):
                return ipywidgets.ToggleButtons(**settings)
            return ipywidgets.SelectionSlider(**settings, continuous_update=False,
                                              layout=ipywidgets.Layout(width="95%", max_width="560px"))

        sliders = {name: control(name, positions) for name, positions in self.values.items()}
        picture = ipywidgets.HTML()

        def redraw(_=None) -> None:
            picture.value = self.frame(**{name: slider.value for name, slider in sliders.items()})

        for slider in sliders.values():
            slider.observe(redraw, names="value")
        redraw()
        return ipywidgets.VBox([picture, *sliders.values(), ipywidgets.HTML(escape(self.caption))])


def _key(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()[:8]


def _choice(kind: str, legend: str, text: str, options: Sequence[str], answer: str = "", replies: str = "") -> str:
    inputs = "".join(f'<label><input type="radio" name="question-{_key(text)}" value="{escape(option)}"> {escape(option)}</label>'
                     for option in options)
    return (f'<fieldset class="{kind}" data-question="{_key(text)}"{answer}><legend>{legend}</legend>'
            f'<p class="predict-question">{escape(text)}</p>{inputs}{replies}</fieldset>')


def question(text: str, options: Sequence[str]) -> None:
    """Ask the reader to choose before the run. The page keeps the choice, holds back what follows until there is one (or the
    reader asks to see it without), and compares it with the ``outcome``. Raises ValueError: fewer than two options."""
    if len(options) < 2:
        raise ValueError(f"a question needs at least 2 options to choose from, got {len(options)}")
    Shown(_choice("predict", "Predict first", text, options), f"Predict first: {text} ({' / '.join(options)})",
          questions=[_key(text)]).show()


def outcome(text: str, answer: str) -> None:
    """Show what was measured of a question."""
    Shown(f'<p class="outcome" data-question="{_key(text)}" data-answer="{escape(answer)}">'
          f"<strong>Measured:</strong> {escape(answer)}.</p>", f"Measured: {answer}").show()


def remember(text: str, options: dict[str, str], answer: str, claim: str, verdict: str = "supported") -> Shown:
    """A question about an earlier chapter: ``options`` is ``{answer: reply}``, ``answer`` the right one. The build fails where
    the claim that decides it has not that verdict. Raises ValueError: fewer than two options, or an answer that is none of
    them."""
    if len(options) < 2 or answer not in options:
        raise ValueError(f"remember needs 2 options or more, and {answer!r} to be one of {list(options)}")
    replies = "".join(f'<p data-reply="{escape(option)}">{"<strong>Right.</strong> " if option == answer else ""}{escape(reply)}</p>'
                      for option, reply in options.items())
    return Shown(_choice("predict remember", "Do you remember?", text, options, f' data-answer="{escape(answer)}"',
                         f"<details><summary>Answer</summary>{replies}</details>"),
                 f"Do you remember? {text} ({' / '.join(options)})",
                 questions=[_key(text)], remembered=[{"claim": claim, "verdict": verdict}])
