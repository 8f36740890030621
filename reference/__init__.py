"""What each operation is: plain NumPy functions that read like equations, and their specifications.

This package is a backend as well (`kernels.load("numpy")`): the oracle in float64, the baseline in
float32. It checks no arguments: what NumPy makes of them is what they mean.
"""

import time

import numpy as np

from . import activation_spec, dense, losses, network, optimizer_spec, optimizers, statistics_spec
from .activations import activation_backward, activation_forward
from .dense import dense_backward, dense_forward
from .losses import (
    log_softmax,
    softmax,
    softmax_cross_entropy,
    sparse_categorical_cross_entropy,
)
from .optimizers import *  # noqa: F403  every update rule
from .spec import Case, Operation, Result
from .statistics import (
    connection_sparsity,
    global_norm,
    histogram,
    saturation,
    sparsity,
    unit_activity,
)

FAMILIES = {
    "activations": activation_spec.OPERATIONS,
    "dense": dense.OPERATIONS,
    "losses": losses.OPERATIONS,
    "optimizers": optimizer_spec.OPERATIONS,
    "statistics": statistics_spec.OPERATIONS,
}


def asarray(host):
    """The host array itself: this backend computes where the data is."""
    return np.asarray(host, order="C")


def to_host(array):
    """The array itself."""
    return array


def synchronize():
    """Nothing to wait for: every function has finished when it returns."""


def timer():
    """Seconds of a monotonic clock; the difference of two calls is a duration."""
    return time.perf_counter()


__all__ = [
    *optimizers.__all__,
    "FAMILIES",
    "Case",
    "Operation",
    "Result",
    "activation_backward",
    "activation_forward",
    "asarray",
    "connection_sparsity",
    "dense_backward",
    "dense_forward",
    "global_norm",
    "histogram",
    "log_softmax",
    "network",
    "saturation",
    "softmax",
    "softmax_cross_entropy",
    "sparse_categorical_cross_entropy",
    "sparsity",
    "synchronize",
    "timer",
    "to_host",
    "unit_activity",
]
