"""Small networks with every loss, rule and activation between them; a step held to its bound."""

import numpy as np
import pytest

from kernels.schedules import Exponential
from reference import network as reference
from reference import optimizer_spec
from reference.activations import ACTIVATIONS
from reference.network_spec import step_disagreement

MOONS = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}
# (sizes, activations, loss, optimizer, settings)
CASES = {
    "moons": ((2, 32, 16, 2), "relu", "softmax_cross_entropy", "adam", MOONS),
    "prelu": (
        *((5, 7, 9, 3), ("prelu", "prelu"), "sigmoid_cross_entropy", "nesterov"),
        {"label_smoothing": 0.1, "weight_decay": 0.05, "beta": 0.8, "l2": 0.02, "clip_norm": 0.1},
    ),
    "one layer": ((5, 37), (), "mean_squared_error", "rmsprop", {"rho": 0.8, "eps": 1e-6}),
    "wide output": (
        *((5, 7, 40), "tanh", "softmax_cross_entropy", "momentum"),
        {"label_smoothing": 0.2, "beta": 0.6, "schedule": Exponential(0.7)},
    ),
    "deep": (
        *((3, 5, 4, 6, 3, 2), ("elu", "selu", "sigmoid", "leaky_relu")),
        *("mean_squared_error", "adagrad"),
        {"weight_decay": 0.1, "eps": 0.01, "l2": 0.1, "clip_value": 0.02},
    ),
    "one output": ((1, 33, 1), "identity", "sigmoid_cross_entropy", "sgd", {}),
}
# And with what a program has besides; on a GPU always a chain.
DEEP_CASES = {
    "batch norm": (
        *((5, 7, 7, 9, 3), ("prelu", "maxout", "prelu"), "softmax_cross_entropy", "momentum"),
        {"normalization": "batch_norm", "residual": True, "beta": 0.8},
    ),
    "layer norm": (
        *((6, 6, 40), "gelu", "sigmoid_cross_entropy", "sgd"),
        {"normalization": "layer_norm", "dropout": 0.3, "residual": True, "clip_norm": 0.1},
    ),
}


def create(backend, case, batch, dtype="float32", **others):
    sizes, activations, loss, optimizer, settings = (CASES | DEEP_CASES)[case]
    others = {"activations": activations, "lr": 0.02, "seed": 1, **settings, **others}
    return backend.create(
        sizes,
        loss=loss,
        optimizer=optimizer,
        batch=batch,
        dtype=dtype,
        **others,
    )


def rows(case, count, dtype="float32", seed=0):
    """x and labels, host arrays."""
    sizes, _, loss, _, _ = (CASES | DEEP_CASES)[case]
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, sizes[0])).astype(dtype)
    if loss == "softmax_cross_entropy":
        return x, rng.integers(0, sizes[-1], count, ("int32", "int64")[count % 2])
    return x, rng.random((count, sizes[-1])).astype(dtype)


def wide(array):
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def trained(state, seed=0):
    """A state as some steps would have left it: nothing of it is zero, steps stay as they are.

    The first step of adam from zero is the sign of the gradient, which says little of it.
    """
    rng, found = np.random.default_rng(seed), {"steps": state["steps"]}
    for name, array in state.items():
        last, values = name.rpartition(".")[2], rng.standard_normal(array.shape)
        if last == "infinity_norm":  # it divides: no smaller than the means beside it
            values = 0.1 * (1 + np.abs(values))
        elif last in optimizer_spec.SQUARES:
            values = 0.01 * values**2
        elif last in ("velocity", "mean", "average", "previous", "trend"):
            values = 0.1 * values
        elif last in ("bias", "slope"):
            values = array + 0.3 * values
        else:
            values = array
        found.setdefault(name, values.astype(array.dtype))
    for name in found:  # a mean square is no less than the square of the mean
        if name.endswith(".mean_square") and (mean := name.removesuffix("_square")) in found:
            found[name] += found[mean] ** 2
    return found


def verify_step(backend, network, case, x, labels, dtype="float32"):
    """Hold one step against the reference in float64 from the same state; returns the loss.

    A network that has taken none is first given a state as if it had.
    """
    if not network.state()["steps"]:
        network.load_state(trained(network.state()))
    oracle = create(reference, case, network.batch, "float64")
    return hold(backend, network, oracle, x, labels, dtype)


def hold(backend, network, oracle, x, labels, dtype):
    """Hold one step of the network against the oracle's from the same state; returns the loss."""
    oracle.load_state({name: wide(array) for name, array in network.state().items()})
    loss = network.step(backend.asarray(x), backend.asarray(labels))
    assert type(loss) is float
    given = wide(x), wide(labels), dtype, loss, network.state(), network.gradients
    assert (complaint := step_disagreement(oracle, *given)) is None, complaint
    return loss


# All that a network may name: a rectifier is no layer's, its cases are.
EVERY_ACTIVATION = [name for name in ACTIVATIONS if name != "rectifier"]
# For tests of one property at a time, in float64.
MIXED = ("prelu", "leaky_relu", "elu", "tanh")
SMALL = {"sizes": (5, 17, 33, 9, 16, 3), "activations": MIXED}
# One layer has more weights than a small network's: another path of the CPU's kernels.
LARGE = {"sizes": (20, 200, 180, 4), "activations": ("prelu", "sigmoid")}
# A small one with enough to do for two threads.
BUSY = {"sizes": (16, 64, 48, 10), "activations": ("prelu", "relu")}
NETWORKS = pytest.mark.parametrize("network", [SMALL, LARGE], ids=["small", "large"])


def make(backend, network, *, dtype="float64", **arguments):
    arguments = {"batch": 16, "lr": 0.01, "dtype": dtype, **network, **arguments}
    return backend.network.create(arguments.pop("sizes"), **arguments)


def sample(network, rows, loss="softmax_cross_entropy", dtype="float64", seed=0):
    """Host arrays (x, labels); the labels depend on x, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, network["sizes"][0])).astype(dtype)
    teacher = np.random.default_rng(99).standard_normal((x.shape[1], network["sizes"][-1]))
    logits = x @ teacher
    if loss == "softmax_cross_entropy":
        return x, logits.argmax(axis=1).astype(np.int32)
    return x, (1 / (1 + np.exp(-logits))).astype(dtype)


def put(backend, *arrays):
    return tuple(backend.asarray(array) for array in arrays)


# One of each, and all together, with everything that happens to gradients after them.
BLOCKS = {
    "dropout": {"dropout": 0.3, "optimizer": "adam", "beta1": 0.8},
    "skips": {"residual": True, "optimizer": "sgd"},
    "batch norm": {"normalization": "batch_norm", "optimizer": "momentum"},
    "layer norm": {"normalization": "layer_norm", "optimizer": "momentum"},
    "all": {
        "normalization": "batch_norm",
        "dropout": 0.2,
        "residual": True,
        "beta": 0.8,
        "optimizer": "nesterov",
        "l2": 0.02,
        "clip_norm": 0.1,
        "weight_decay": 0.05,
    },
    "all by rows": {
        "normalization": "layer_norm",
        "dropout": 0.6,
        "residual": True,
        "optimizer": "momentum",
        "clip_value": 0.02,
        "loss": "sigmoid_cross_entropy",
    },
    "maxout": {"activations": "maxout", "pieces": 3, "optimizer": "momentum", "clip_norm": 0.1},
    "all with maxout": {
        "activations": "maxout",
        "normalization": "batch_norm",
        "dropout": 0.2,
        "residual": True,
        "optimizer": "sgd",
        "l2": 0.02,
    },
}
of_every_kind = pytest.mark.parametrize("kind", BLOCKS)
