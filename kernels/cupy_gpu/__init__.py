"""The backend for NVIDIA GPUs: CUDA C++ kernels, and cuBLAS through CuPy for the matrix product.

Importing it touches no GPU: kernels are compiled at their first use. Functions return when their
work is queued; `synchronize` waits for it. Products are taken in full float32, whatever CUPY_TF32
says, unless precision="tf32" permits less.
"""

from . import network, optimizers
from .activations import activation_backward, activation_forward
from .dense import dense_backward, dense_forward
from .losses import (
    log_softmax,
    softmax,
    softmax_cross_entropy,
    sparse_categorical_cross_entropy,
)
from .optimizers import *  # noqa: F403  every update rule
from .runtime import device
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
    *optimizers.__all__,
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
