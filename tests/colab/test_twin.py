"""What `make colab` rests on, without the minutes it takes: see twin.py."""

import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import twin  # noqa: E402
from sliders import DRIVE, WATCH, with_sliders_driven  # noqa: E402
from surroundings import tracked  # noqa: E402

PINS = "\n".join(line for line in twin.PACKAGES.read_text("utf-8").splitlines() if not line.startswith("#"))
COLAB = {name: line.split("==")[1] for name, line in twin.packages(PINS).items()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return twin.build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_file_of_the_package(wheel):
    package = {
        str(path.relative_to(twin.ROOT))
        for path in tracked("*")
        if path.is_relative_to(twin.ROOT / "bncourse")
    }
    assert "bncourse/grading/pages.html" in package
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == package


def test_colab_has_all_the_course_asks_for():
    asked = map(Requirement, tomllib.loads((twin.ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"])
    for needs in asked:
        assert needs.specifier.contains(COLAB[needs.name]), f"{needs}, but Colab has {COLAB[needs.name]}"


def test_the_bootstrap_cell_takes_the_wheel_and_nothing_else_changes(wheel):
    cell = twin.bootstrap_with(wheel)
    assert f'%pip install --quiet "bncourse @ {wheel.as_uri()}"' in cell and "git+" not in cell and "github" not in cell


def test_a_package_that_moved_is_seen():
    before = "numpy==2.1.3\nJinja2==3.1.6\nold_one==1\ntorch==2.13.0+cpu"
    course = "bncourse @ file:///x/bncourse.whl"
    assert twin.differences(before, f"{before}\n{course}") == ([course], [])
    after = "numpy==2.4.6\njinja2==3.1.6\nold-one==1\ncomm==0.2.3"
    added, moved = twin.differences(before.replace("Jinja2", "jinja2").replace("old_one", "old-one"), after)
    assert added == ["comm==0.2.3"] and moved == ["numpy==2.1.3 -> numpy==2.4.6", "torch==2.13.0+cpu -> gone"]


@pytest.mark.parametrize(
    "draw, says",
    [
        ("lambda step: plt.figure(figsize=(1, 1))", None),
        ("lambda step: plt.figure(figsize=(1, 1)) if step < 3 else 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_slider_that_fails_at_its_end_fails_the_notebook(draw, says):
    cells = [
        "import matplotlib.pyplot as plt",
        "from bncourse.widgets import explore",
        f"shown = explore({draw}, alt='A square, {{step}}.', step=[1, 2, 3])._repr_mimebundle_()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    assert with_sliders_driven(notebook)
    sources = [cell.source for cell in notebook.cells]
    assert sources[1] == WATCH and sources[-1] == DRIVE

    from bncourse.widgets import explore

    live = explore.live
    try:
        if says:
            with pytest.raises(ZeroDivisionError):
                exec("\n".join(sources), {})
        else:
            exec("\n".join(sources), {})
    finally:
        explore.live = live


def test_a_notebook_without_sliders_is_left_alone():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    assert not with_sliders_driven(notebook) and len(notebook.cells) == 1
