"""Drive every live slider of a notebook over its whole range, on whichever ipywidgets its kernel has."""

import nbformat

# Right after the bootstrap cell: keeps what `explore` shows, and still shows it.
WATCH = """
from bncourse.widgets import explore as _explore
_shown, _live = [], _explore.live
_explore.live = lambda self: _shown.append(_live(self)) or _shown[-1]
"""

# At the end: what a reader's hand on a slider does is to set its `index`.
DRIVE = """
import ipywidgets
assert _shown, "no figure with sliders was shown"
_drawn = 0
for _box in _shown:
    _picture, *_sliders, _caption = _box.children
    for _slider in _sliders:
        _start, _positions = _slider.index, range(len(_slider.options))
        for _index in [*(_position for _position in _positions if _position != _start), _start]:
            _before, _slider.index = _picture.value, _index
            assert _slider.value == _slider.options[_index][1], f"{_slider.description}: its value did not follow"
            assert "<svg" in _picture.value != _before, f"{_slider.description}: no new picture at {_slider.label}"
            _drawn += 1
print(f"ipywidgets {ipywidgets.__version__}: {sum(len(box.children) - 2 for box in _shown)} sliders, {_drawn} moves")
"""


def with_sliders_driven(notebook):
    """Adds both cells to a notebook that has a figure with sliders; returns whether it has."""
    code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    if not any("explore(" in notebook.cells[i].source for i in code):
        return False
    notebook.cells.append(nbformat.v4.new_code_cell(DRIVE))
    notebook.cells.insert(code[0] + 1, nbformat.v4.new_code_cell(WATCH))
    return True


def moves(notebook):
    """What the last cell said: how many sliders it moved, and how often."""
    return "".join(output.get("text", "") for output in notebook.cells[-1].outputs).strip()
