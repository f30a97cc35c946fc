"""The data sets: what comes out, where files are looked for, and what is said when there are none."""

import gzip
import hashlib
import io
import pickle
import re
import struct
import subprocess
import sys
import tarfile

import numpy as np
import pooch
import pytest
import requests
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from bncourse import data, nets


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An own data folder, and nothing anywhere else."""
    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path))
    monkeypatch.setattr(data, "DEBIAN_FASHION", tmp_path / "no such folder")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "empty cache")
    return tmp_path


@pytest.fixture
def offline(folder, monkeypatch):
    tried = []

    def get(url, **options):
        tried.append(url)
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(requests, "get", get)
    return tried


def test_digits():
    digits = data.load("digits")
    assert (digits.name, digits.classes, digits.features) == ("digits", 10, 64)
    assert digits.x_train.shape == (1437, 64) and digits.x_test.shape == (360, 64)
    assert digits.x_train.dtype == torch.float32 and digits.y_train.dtype == torch.int64
    assert torch.allclose(digits.x_train.mean(0), torch.zeros(64), atol=1e-5), "centred by the training mean of each pixel"
    assert digits.x_test.mean(0).abs().max() > 1e-3, "not by its own"
    assert digits.x_train.max() - digits.x_train.min() <= 2 and digits.x_train.abs().max() <= 1
    # Every digit is in both parts, in the same proportion; nothing is in both.
    assert torch.equal(digits.y_test.unique(), torch.arange(10))
    assert (digits.y_test.bincount() / 360 - digits.y_train.bincount() / 1437).abs().max() < 0.01
    assert not (digits.x_test[:, None] == digits.x_train[None]).all(2).any()


def test_digits_are_those_of_scikit_learn():
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split((images / 16).astype(np.float32), labels, test_size=360,
                                                        stratify=labels, random_state=0)
    mean = x_train.mean(0, keepdims=True, dtype=np.float64).astype(np.float32)
    digits = data.load("digits")
    for mine, theirs in ((digits.x_train, x_train - mean), (digits.y_train, y_train),
                         (digits.x_test, x_test - mean), (digits.y_test, y_test)):
        assert mine.dtype == torch.from_numpy(theirs).dtype and np.array_equal(mine, theirs)


def test_digits_do_not_import_scikit_learn():
    code = "import sys; from bncourse import data; data.load(); print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_everybody_gets_the_same_split():
    np.random.seed(5)
    torch.manual_seed(5)
    first = data.load().x_test
    np.random.seed(6)
    assert torch.equal(first, data.load().x_test)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("place, zipped", [(".", True), (".", False), ("fashion-mnist", True), ("FashionMNIST/raw", False)])
def test_fashion_files_put_in_place(place, zipped, folder):
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, (20, 28, 28)), np.arange(20) % 10, random.integers(0, 256, (10, 28, 28)), np.arange(10)]
    (folder / place).mkdir(parents=True, exist_ok=True)
    for file, array in zip(data.FASHION_FILES, arrays):
        assert data.to_download("fashion-mnist") > 0
        path = folder / place / file.name.removesuffix("" if zipped else ".gz")
        path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    assert data.to_download("fashion-mnist") == 0
    fashion = data.load("fashion-mnist")
    assert fashion.x_train.shape == (20, 784) and fashion.x_test.shape == (10, 784) and fashion.classes == 10
    mean = arrays[0].reshape(20, -1).mean(0) / 255
    np.testing.assert_allclose(fashion.x_test.numpy(), arrays[2].reshape(10, -1) / 255 - mean, atol=1e-6)
    assert fashion.y_train.tolist() == arrays[1].tolist()


@pytest.mark.parametrize("unpacked", [False, True])
def test_cifar_put_in_place(unpacked, folder):
    random, batches = np.random.default_rng(0), {}
    assert data.to_download("cifar10") == 170498071
    for name in data.CIFAR_PARTS:
        batches[name] = {"data": random.integers(0, 256, (10, 3072), dtype=np.uint8), "labels": list(range(10))}
    with tarfile.open(folder / data.CIFAR_FILE.name, "w:gz") as archive:
        for name, batch in batches.items():
            content = pickle.dumps(batch)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    if unpacked:
        (folder / data.CIFAR_FILE.name).unlink()
        (folder / data.CIFAR_FOLDER).mkdir()
        for name, batch in batches.items():
            (folder / data.CIFAR_FOLDER / name).write_bytes(pickle.dumps(batch))
    assert data.to_download("cifar10") == 0
    cifar = data.load("cifar10")
    assert cifar.x_train.shape == (50, 3, 32, 32) and cifar.features == 3072 and cifar.y_train.tolist() == list(range(10)) * 5
    images = np.stack([batches[f"data_batch_{i}"]["data"] for i in range(1, 6)]).reshape(50, 3, 32, 32) / 255
    mean = images.mean((0, 2, 3))
    assert cifar.x_train.mean((0, 2, 3)).abs().max() < 1e-4
    np.testing.assert_allclose(cifar.x_test[3, 1, 2, 5], batches["test_batch"]["data"][3, 1024 + 2 * 32 + 5] / 255 - mean[1],
                               atol=1e-5)


# --- Other shapes and other tasks ------------------------------------------------------------------------------------

def test_flat_digits_become_images():
    flat = data.load("digits")
    images = data.as_images(flat)
    assert images.x_train.shape == (1437, 1, 8, 8) and torch.equal(images.x_train.flatten(1), flat.x_train)
    assert torch.equal(images.y_test, flat.y_test)
    halves = data.as_images(flat, size=4)
    assert halves.x_test.shape == (360, 1, 4, 4)
    torch.testing.assert_close(halves.x_test[5, 0, 1, 2], images.x_test[5, 0, 2:4, 4:6].mean())
    assert data.as_images(images).x_train.shape == images.x_train.shape


def test_what_is_no_image_says_so():
    flat = data.load("digits")
    with pytest.raises(ValueError, match="10 values in an example are not a square image"):
        data.as_images(data.linear_map())
    for size in (3, 0, 16):
        with pytest.raises(ValueError, match=f"size={size} does not divide images of 8×8"):
            data.as_images(flat, size=size)


def test_the_linear_map():
    task = data.linear_map(4, 5000, seed=1, condensed=False, dtype=torch.float64)
    assert task.x_train.shape == task.y_train.shape == (5000, 4) and task.classes == 4
    torch.testing.assert_close(task.x_train.T.cov(), torch.eye(4, dtype=torch.float64), rtol=0, atol=0.1)
    A = torch.linalg.lstsq(task.x_train, task.y_train).solution.T
    torch.testing.assert_close(task.x_train @ A.T, task.y_train)
    assert not torch.equal(task.y_train, data.linear_map(4, 5000, seed=2, condensed=False, dtype=torch.float64).y_train)
    assert data.linear_map().x_train.dtype == torch.float32


@pytest.mark.parametrize("norm", ["none", "batch", "centred_l2", "l2"])
def test_condensed_examples_are_the_same_task(norm):
    losses, gradients = [], []
    for condensed in (True, False):
        task = data.linear_map(5, 300, seed=3, condensed=condensed, dtype=torch.float64)
        assert len(task.x_train) == (6 if condensed else 300)
        net = nets.deep_linear(5, 7, norm, seed=1).double()
        loss = (net(task.x_train) - task.y_train).square().sum(1).mean()
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, list(net.parameters())))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    largest = max(gradient.abs().max() for gradient in gradients[0])
    for ours, wanted in zip(*gradients):
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-12 * largest.item())


def test_unknown_data_set_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown data set 'mnist'; there are digits, fashion-mnist, cifar10"):
        data.load("mnist")


@pytest.mark.parametrize("name, mirrors", [("fashion-mnist", data.FASHION_MIRRORS), ("cifar10", data.CIFAR_MIRRORS)])
def test_without_network_it_says_where_it_looked_and_what_to_do(name, mirrors, folder, offline):
    with pytest.raises(RuntimeError) as caught:
        data.load(name)
    for words in (str(folder), "no route to host", "set BNCOURSE_DATA", 'DATASET = "digits"', *mirrors):
        assert words in str(caught.value)
    assert [url.rsplit("/", 1)[0] + "/" for url in offline] == list(mirrors), "one after the other, each once"
    assert list(folder.glob("*.gz")) == []


@pytest.mark.parametrize("content", [b"", b"<html>", gzip.compress(b"\0" * 1000)[:-9], gzip.compress(b"<html>")],
                         ids=["empty", "a web page", "half of it", "something else"])
@pytest.mark.parametrize("name, file", [("fashion-mnist", data.FASHION_FILES[0]), ("cifar10", data.CIFAR_FILE)])
def test_a_damaged_file_in_place_is_named(name, file, content, folder):
    (folder / file.name).write_bytes(content)
    with pytest.raises(RuntimeError, match=rf"{folder / file.name} is damaged .*delete it, and it is downloaded again"):
        data.load(name)


@pytest.mark.skipif(not data.DEBIAN_FASHION.exists(), reason="Debian's dataset-fashion-mnist is not installed")
@pytest.mark.parametrize("file, packed, md5", [
    (data.FASHION_FILES[0], 1504176606, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    (data.FASHION_FILES[1], 1504176606, "25c81989df183df01b3e8a0aad5dffbe"),
    (data.FASHION_FILES[2], 1504176627, "bef4ecab320f06d8554ea6380940ec79"),
    (data.FASHION_FILES[3], 1504176627, "bb300cfdad3c16e7a12a480ee83cd310")])
def test_our_sums_are_those_of_the_files_the_authors_published(file, packed, md5):
    # The authors publish the MD5. Debian packed the same bytes without name and time; with both, the file is theirs again.
    debian = (data.DEBIAN_FASHION / file.name).read_bytes()
    name = file.name.removesuffix(".gz").encode() + b"\0"
    published = debian[:3] + b"\x08" + struct.pack("<I", packed) + debian[8:10] + name + debian[10:]
    assert hashlib.md5(published).hexdigest() == md5
    assert (len(published), hashlib.sha256(published).hexdigest()) == (file.size, file.sha256)


def test_digits_needs_neither_network_nor_cache(offline, monkeypatch):
    monkeypatch.setattr(data, "cache_dir", lambda: pytest.fail("not needed"))
    assert data.to_download("digits") == 0 and data.load("digits").classes == 10 and not offline


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    # Root may write anywhere, but nobody can make a folder below a file.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(RuntimeError, match=r"cannot write to the data folder .*data.*set BNCOURSE_DATA to a folder you may"):
        data.cache_dir()
    assert data.to_download("cifar10") > 0, "what is not there is no error before it is wanted"


def test_a_cache_on_a_read_only_disk(tmp_path, monkeypatch):
    def refuse(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path))
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(RuntimeError, match="cannot write to the data folder .*Read-only file system.*BNCOURSE_DATA"):
        data.cache_dir()


def test_the_cache_is_made_when_missing_and_left_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("BNCOURSE_DATA", str(tmp_path / "new" / "folder"))
    assert data.cache_dir() == tmp_path / "new" / "folder" and not list(data.cache_dir().iterdir())


def jpeg(path, count=20, **changes):
    """CIFAR-10 as one file of JPEGs, class by class, in very small."""
    from PIL import Image

    parts = {}
    for part in ("train", "test"):
        y = np.sort(np.arange(count) % 10)
        packed = []
        for label in y:
            file = io.BytesIO()
            Image.fromarray(np.full((32, 32, 3), 20 * label, np.uint8)).save(file, "JPEG")
            packed.append(file.getvalue())
        parts |= {f"{part}_jpeg": np.frombuffer(b"".join(packed), np.uint8), f"{part}_labels": y,
                  f"{part}_offsets": np.cumsum([0, *map(len, packed)])}
    np.savez(path, **parts | changes)


def test_a_copy_as_jpeg_is_read_shuffled_and_named(folder):
    jpeg(folder / data.CIFAR_JPEG)
    assert data.to_download("cifar10") == 0 and "JPEG re-encoded copy" in data.origin("cifar10")
    cifar = data.load("cifar10")
    assert cifar.x_train.shape == (20, 3, 32, 32) and cifar.x_test.shape == (20, 3, 32, 32)
    assert cifar.y_train.tolist() != sorted(cifar.y_train.tolist()), "the first few hundred would be of one class"
    brightness = cifar.x_train.mean((1, 2, 3))
    assert (brightness.argsort() == cifar.y_train.argsort(stable=True)).float().mean() > 0.4
    assert all(brightness[cifar.y_train == label].std() < 0.01 for label in range(10)), "an image keeps its own label"


def test_labels_that_are_missing_are_an_error_in_words(folder):
    jpeg(folder / data.CIFAR_JPEG, train_labels=np.arange(15) % 10)
    with pytest.raises(RuntimeError, match="damaged or not what its name says"):
        data.load("cifar10")
    batches = {"data": np.zeros((10, 3072), np.uint8), "labels": list(range(5))}
    (folder / data.CIFAR_FOLDER).mkdir()
    for part in data.CIFAR_PARTS:
        (folder / data.CIFAR_FOLDER / part).write_bytes(pickle.dumps(batches))
    with pytest.raises(RuntimeError, match=r"images of shape \(50, 3, 32, 32\) and labels of shape \(25,\)"):
        data.load("cifar10")
    assert data.origin("cifar10") == "CIFAR-10, a copy whose files are not the published ones"


def test_an_archive_of_somebody_s_own_is_called_that(folder):
    (folder / data.CIFAR_FILE.name).write_bytes(b"an archive of somebody's own")
    assert "not the published files" in data.origin("cifar10") and "scikit-learn" in data.origin("digits")


def test_alice_is_there_from_the_first_chapter_to_the_last():
    text = data.wonderland()
    assert len(text) > 140_000 and sorted(set(text)) == sorted(" .,'!?abcdefghijklmnopqrstuvwxyz") and "  " not in text
    assert text.startswith("chapter i down the rabbit hole alice was beginning") and text.endswith("happy summer days.")
    assert not re.search("gutenberg|copyright", text)
