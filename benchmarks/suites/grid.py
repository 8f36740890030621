"""Which cells are timed: the core grid, or everything where FUSEBENCH_ALL is set.

FUSEBENCH_BACKEND names a user's own module (a path to a .py file), which is timed beside ours.
"""

import os
from pathlib import Path

import kernels
from kernels.catalog import ELEMENT_LOSSES

from . import workloads

# The core grid, in float32 and at all five batch sizes. An elementwise function knows only how many
# elements there are: from 512, which a call's own time outweighs, to 1.8 million on one layer. In
# a dense layer one cheap and one transcendental activation stand for all, and the first in TF32
# where there are tensor cores. The losses are timed on output layers of 2 and 10 classes, where
# they are used, and on one with many, softmax along the classes. What is said of a function goes
# before what is said of its family: of the losses of elements a cheap one, one with exponentials
# and one with a variance stand for all, of the initialisers a normal and a uniform one, of the
# recurrent layers LSTM, over 64 steps. Statistics and what is done to gradients go over an array
# once: the largest, from memory, says it all.
CORE = {
    "activations": {"layers": ("mnist-512x512",)},
    "dense": {
        "layers": (
            "moons-2x32",
            "digits-64x128",
            "mnist-784x512",
            "mnist-512x512",
            "wide-2048x2048",
        ),
        "variants": ("relu", "tanh", "relu tf32"),
    },
    "maxout": {"layers": ("digits-64x128", "mnist-784x512"), "variants": ("two pieces",)},
    "initializers": {
        "layers": ("digits-64x128", "mnist-512x512", "wide-2048x2048"),
        "variants": ("he_normal", "he_uniform"),
    },
    "losses": {"layers": ("moons-16x2", "mnist-512x10", "wide-2048x2048")},
    "normalization": {"layers": ("mnist-512x512",), "variants": ("",)},
    "dropout": {"layers": ("mnist-512x512",)},
    "recurrent": {"layers": ()},
    "optimizers": {"layers": ("moons-2x32", "digits-64x128", "mnist-784x512", "wide-2048x2048")},
    "gradients": {"layers": ("wide-2048x2048",)},
    "statistics": {"layers": ("wide-2048x2048",), "variants": ("", "tanh")},
    "second_order": {"layers": ("digits-64x128", "mnist-512x512")},
    "augmentation": {"layers": ("digits-64x128", "mnist-784x512")},
}


CORE |= {name: {**CORE["losses"], "variants": ("",)} for name in ("softmax", "log_softmax")}
CORE["softmax_cross_entropy"] = {**CORE["losses"], "variants": ("hard", "smoothed")}
CORE |= {
    name: {"layers": ()} for name in ("dropout_backward", "nll", "random_affine", *ELEMENT_LOSSES)
}
CORE |= {f"lstm_{way}": {"layers": ("digits-64x128",), "variants": ("whole",)}
         for way in ("forward", "backward")}  # fmt: skip
CORE["elastic_transform"] = {"layers": ("mnist-784x512",)}
TIMED_LOSSES = "mean_squared_error", "binary_cross_entropy_with_logits", "gaussian_nll"
CORE |= {name: {"layers": ("mnist-512x10",)} for name in TIMED_LOSSES}


def axes(family, operations):
    """The parameters of a function's suite, backend last; what does not apply is left out."""
    function = next(iter(operations.values())).name
    core = {} if _everything() else CORE.get(function, CORE.get(family, {}))
    layers = core.get("layers", tuple(workloads.layers()))
    variants = [v for v in operations if v in core.get("variants", operations)]
    found = {}
    if variants != [""]:
        found["variant"] = variants
    found["layer"] = layers
    found["dtype"] = dtypes()
    if "batch" in next(iter(operations.values())).sizes:
        sizes = {size for name in layers for size in batches(workloads.layers()[name])}
        found["batch"] = sorted(sizes)
    found["backend"] = backends()
    return found


def dtypes():
    """The dtypes of the grid."""
    return ("float32", "float64") if _everything() else ("float32",)


def batches(layer):
    """The batch sizes of a layer, ascending; the last is its workload's full batch."""
    return workloads.batches(layer.name.partition("-")[0])


def backends():
    """Our backends and the user's, by the names that reports give them."""
    own = os.environ.get("FUSEBENCH_BACKEND")
    return [*kernels.BACKENDS, *([Path(own).stem] if own else [])]


def is_users(name):
    """Whether a backend of this name is the user's own module."""
    return name not in kernels.BACKENDS


def backend_path(name):
    """What kernels.load takes for a backend's name, or for the path of a file."""
    if name in kernels.BACKENDS or name.endswith(".py"):
        return name
    return os.environ["FUSEBENCH_BACKEND"]


def load(backend):
    """The backend as a module. Raises kernels.Unavailable where it cannot run here and ValueError
    for a user's file that cannot be imported.
    """
    path = backend_path(backend)
    try:
        return kernels.load(path)
    except kernels.Unavailable:
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error


def _everything():
    return bool(os.environ.get("FUSEBENCH_ALL"))
