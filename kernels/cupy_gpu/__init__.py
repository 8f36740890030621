"""The backend for NVIDIA GPUs: CUDA C++ kernels, and cuBLAS through CuPy for the matrix product.

Importing it touches no GPU: kernels are compiled at their first use. Functions return when their
work is queued; `synchronize` waits for it. Products are taken in full float32, whatever CUPY_TF32
says, unless precision="tf32" permits less.
"""

from . import element_losses, network, optimizers
from .activations import activation_backward, activation_forward
from .augmentation import affine_transform, elastic_transform, random_affine
from .dense import dense_backward, dense_forward
from .dropout import dropout_backward, dropout_forward
from .element_losses import *  # noqa: F403  every loss of elements
from .gradients import add_l2, clip_by_global_norm, clip_by_value
from .initializers import initialize
from .losses import softmax_cross_entropy, sparse_categorical_cross_entropy
from .maxout import maxout_backward, maxout_forward
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
from .runtime import device
from .second_order import (
    add_scaled,
    conjugate_direction,
    inner_product,
    lbfgs_direction,
    newton_direction,
)
from .softmax import log_softmax, softmax
from .statistics import (
    connection_sparsity,
    global_norm,
    histogram,
    saturation,
    sparsity,
    unit_activity,
)

asarray, to_host = device.asarray, device.to_host
synchronize, timer = device.synchronize, device.timer

__all__ = [
    *element_losses.__all__,
    *optimizers.__all__,
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
