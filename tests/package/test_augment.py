"""Cropping and mirroring in one go, against one image at a time."""

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from bncourse.augment import crop_and_flip
from bncourse.data import Data
from bncourse.nets import mlp, vgg
from bncourse.probes.landscape import Landscape
from bncourse.train import train


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    x, y = torch.randn(96, 2, 8, 8, generator=generator()), torch.arange(96) % 3
    return Data("images", x[:64], y[:64], x[64:], y[64:], classes=3)


def where_from(image, result):
    """Every (row, column, mirrored) that makes the result of the padded image."""
    padded, (height, width) = F.pad(image, [4] * 4), image.shape[-2:]
    cuts = {(row, column): padded[:, row:row + height, column:column + width] for row in range(9) for column in range(9)}
    return [(*place, mirrored) for place, cut in cuts.items() for mirrored in (False, True)
            if torch.equal(cut.flip(-1) if mirrored else cut, result)]


@pytest.mark.parametrize("shape", [(300, 3, 6, 6), (1, 300, 1, 5, 7)])
def test_each_image_is_shifted_and_mirrored_by_itself(shape):
    x = torch.rand(shape, generator=generator()) + 1  # no zero but those of the padding
    before = x.clone()
    result = crop_and_flip(x, generator(1))
    assert result.shape == x.shape and torch.equal(x, before)
    places = []
    for image, changed in zip(x.flatten(0, -4), result.flatten(0, -4)):
        [place] = where_from(image, changed)
        places.append(place)
    rows, columns, mirrored = zip(*places)
    assert set(rows) == set(columns) == set(range(9)) and 0.4 < sum(mirrored) / 300 < 0.6
    assert len(set(places)) > 100, "shifts and mirrors hang together"


def test_the_generator_decides():
    x = torch.rand(20, 3, 6, 6)
    state = torch.get_rng_state()
    assert torch.equal(crop_and_flip(x, generator(1)), crop_and_flip(x, generator(1)))
    assert not torch.equal(crop_and_flip(x, generator(1)), crop_and_flip(x, generator(2)))
    assert torch.equal(torch.get_rng_state(), state), "drew from the reader's random numbers"


def run(images, **options):
    options = dict(seeds=[0, 1], lrs=[0.05], steps=8, batch_size=32, record=[0, 4, 8]) | options
    return train(lambda seed: vgg((2, 8, 8), 3, "small", "batch", "he", seed, shrink=4), images, **options)


def test_training_sees_new_images_and_looks_do_not(images):
    plain, augmented = run(images), run(images, augment="crop-flip")
    assert not plain.attrs and augmented.attrs["training"]["augment"] == "crop-flip"
    start, later = (augmented.step == 0), (augmented.step > 0)
    assert augmented.train_loss[start].equals(plain.train_loss[start])
    assert (augmented.train_loss[later] != plain.train_loss[later]).all()
    pd.testing.assert_frame_equal(augmented, run(images, augment="crop-flip"), check_exact=True)
    last = run(images, augment="crop-flip", record=[8])
    assert last.train_loss.tolist() == augmented[augmented.step == 8].train_loss.tolist(), "looking changes the training"


def test_a_probe_of_updates_sees_the_images_of_the_update(images):
    seen, made = [], []

    def note(net, x, step, *, y, lr):
        seen.append(x.clone())
        return pd.DataFrame({"member": [0]})

    note.looks_at_update = True
    run(images, augment="crop-flip", seeds=[0], record=range(9), probes=[note, Landscape((1,))])
    shifts, order = generator(0), torch.Generator().manual_seed(0)
    for _ in range(4):
        made += [crop_and_flip(images.x_train[index], shifts) for index in
                 torch.randperm(64, generator=order).split(32)]
    assert len(seen) == 9 and all(torch.equal(x[0], wanted) for x, wanted in zip(seen, made))


@pytest.mark.parametrize("build, change, says", [
    (lambda seed: vgg((2, 8, 8), 3, shrink=4), dict(augment="mixup"), "unknown augmentation 'mixup'; there is crop-flip"),
    (lambda seed: mlp((128, 8, 3)), dict(augment="crop-flip"), r'augment="crop-flip" is for convolutional networks'),
])
def test_bad_arguments(build, change, says, images):
    with pytest.raises(ValueError, match=says):
        train(build, images, seeds=[0], lrs=[0.1], steps=1, batch_size=32, **change)


def test_flat_images_are_refused(images):
    flat = Data("flat", images.x_train.flatten(1), images.y_train, images.x_test.flatten(1), images.y_test, 3)
    with pytest.raises(ValueError, match=r"for flat data, data.as_images"):
        train(lambda seed: torch.nn.Sequential(torch.nn.Linear(128, 3)), flat, seeds=[0], lrs=[0.1], steps=1, batch_size=32,
              augment="crop-flip")
