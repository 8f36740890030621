"""Kernels of your own in NumPy. A function has the name and the arguments of the reference's
(`reference/`), returns new arrays or writes to `out`, and leaves its inputs as they are, but for
those that it updates in place.

    python -m benchmarks check examples/numpy_kernels.py
    python3 run.py bench --backend examples/numpy_kernels.py --only softmax adam
"""

import numpy as np


def softmax(logits, *, axis=-1, out=None):
    y = np.subtract(logits, logits.max(axis=axis, keepdims=True), out=out)
    np.exp(y, out=y)
    return np.divide(y, y.sum(axis=axis, keepdims=True), out=y)


def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    mean *= beta1
    mean += (1 - beta1) * grad
    variance *= beta2
    variance += (1 - beta2) * grad * grad
    root = np.sqrt(variance / (1 - beta2**step))
    param -= lr / (1 - beta1**step) * mean / (root + eps)
