"""The products of a dense layer. The matrix product itself is BLAS's, through numpy.dot."""

import numpy as np

from .activations import backward_row, forward_biased_row
from .jit import kernel


@kernel
def forward(x, weight, bias, way, alpha, y):
    """y = act(x W + b)."""
    np.dot(x, weight, y)
    for i in range(len(y)):
        forward_biased_row(way, y[i], bias, alpha, y[i])


@kernel
def backward(dy, x, weight, saved, way, alpha, dx, dweight, dbias):
    """dx = dz W^T, dW = x^T dz, db = sum over the batch of dz, with dz = dy act'(z)."""
    dz = np.empty_like(dy)
    dbias[:] = 0
    for i in range(len(dy)):
        backward_row(way, dy[i], saved[i], alpha, dz[i])
        for j in range(dbias.size):
            dbias[j] += dz[i, j]
    np.dot(dz, weight.T, dx)
    np.dot(x.T, dz, dweight)
