"""What each operation is: plain NumPy functions that read like equations, and their specifications.

This package is a backend as well (`kernels.load("numpy")`): the oracle in float64, the baseline in
float32. It checks no arguments: what NumPy makes of them is what they mean.
"""

import time

import numpy as np

from . import (
    activation_spec,
    augmentation_spec,
    cross_entropy,
    dense,
    dropout,
    element_loss_spec,
    element_losses,
    gradients,
    initializers,
    losses,
    maxout,
    network,
    normalization_spec,
    optimizer_spec,
    optimizers,
    recurrent_spec,
    second_order_spec,
    statistics_spec,
)
from .activations import activation_backward, activation_forward
from .augmentation import affine_transform, elastic_transform, random_affine
from .cross_entropy import softmax_cross_entropy
from .dense import dense_backward, dense_forward
from .dropout import dropout_backward, dropout_forward
from .element_losses import *  # noqa: F403  every loss of elements
from .gradients import add_l2, clip_by_global_norm, clip_by_value
from .initializers import initialize
from .losses import sparse_categorical_cross_entropy
from .maxout import maxout_backward, maxout_forward
from .nll import OPERATIONS as nll_spec
from .nll import nll
from .normalization import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    layer_norm_backward,
    layer_norm_forward,
)
from .optimizers import *  # noqa: F403  every update rule
from .recurrent import (
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    rnn_backward,
    rnn_forward,
)
from .second_order import (
    add_scaled,
    conjugate_direction,
    inner_product,
    lbfgs_direction,
    newton_direction,
)
from .softmax import OPERATIONS as softmax_operations
from .softmax import log_softmax, softmax
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
    "maxout": maxout.OPERATIONS,
    "normalization": normalization_spec.OPERATIONS,
    "dropout": dropout.OPERATIONS,
    "recurrent": recurrent_spec.OPERATIONS,
    "losses": (
        *softmax_operations,
        *cross_entropy.OPERATIONS,
        *losses.OPERATIONS,
        *nll_spec,
        *element_loss_spec.OPERATIONS,
    ),
    "optimizers": optimizer_spec.OPERATIONS,
    "gradients": gradients.OPERATIONS,
    "initializers": initializers.OPERATIONS,
    "statistics": statistics_spec.OPERATIONS,
    "second_order": second_order_spec.OPERATIONS,
    "augmentation": augmentation_spec.OPERATIONS,
}
OPERATIONS = {str(operation): operation for family in FAMILIES.values() for operation in family}


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
    *element_losses.__all__,
    *optimizers.__all__,
    "FAMILIES",
    "OPERATIONS",
    "Case",
    "Operation",
    "Result",
    "activation_backward",
    "activation_forward",
    "add_l2",
    "add_scaled",
    "affine_transform",
    "asarray",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "clip_by_global_norm",
    "clip_by_value",
    "conjugate_direction",
    "connection_sparsity",
    "dense_backward",
    "dense_forward",
    "dropout_backward",
    "dropout_forward",
    "elastic_transform",
    "initialize",
    "inner_product",
    "global_norm",
    "gru_backward",
    "gru_forward",
    "histogram",
    "layer_norm_backward",
    "layer_norm_forward",
    "lbfgs_direction",
    "log_softmax",
    "lstm_backward",
    "lstm_forward",
    "maxout_backward",
    "maxout_forward",
    "network",
    "newton_direction",
    "nll",
    "rnn_backward",
    "rnn_forward",
    "random_affine",
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
