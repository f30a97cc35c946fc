import os

os.environ.setdefault("MPLBACKEND", "agg")

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import settings

from bncourse import figures
from bncourse.data import Data

# The same examples in every run: a red test is then a change of the code, never of the weather. No deadline, because a
# machine shared with other work pauses where it likes.
settings.register_profile("course", derandomize=True, deadline=None, print_blob=False)
settings.load_profile("course")


@pytest.fixture(autouse=True)
def one_thread_and_one_seed():
    """As the chapters run (``lab.set_up``); and no test depends on which one ran before it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    figures.settings.clear()  # those of quantities that a test module makes when it is imported


@pytest.fixture
def style():
    """Figures as the chapters draw them."""
    with matplotlib.rc_context():
        figures.use_style()
        yield
    plt.close("all")


@pytest.fixture(scope="session")
def images():
    """Three classes of images, (N, 2, 8, 8), that differ in their means."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(96) % 3
    x = torch.randn(3, 2, 8, 8, generator=generator)[y] + torch.randn(96, 2, 8, 8, generator=generator)
    return Data("images", x[:64], y[:64], x[64:], y[64:], classes=3)


@pytest.fixture(scope="session")
def flat(images):
    """The same as vectors."""
    return Data("flat", images.x_train.flatten(1), images.y_train, images.x_test.flatten(1), images.y_test, classes=3)
