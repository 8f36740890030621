"""Layer norm's loops for the CPU: mean and variance of rows, and what is done with them.

A row is read from memory once, and gone over again from L1. Sums are taken in float64; those over
the rows of parts that follow from the shape alone and are added up in order.
"""

import numpy as np
from numba import prange

from .codegen.inlined import register_jitable
from .codegen.jit import CHUNK, kernel, reduction, serial, threaded

MOST_PARTS = 16  # of the rows, each with sums of its own


@reduction
def _sum(row):
    total = 0.0
    for j in range(row.size):
        total += np.float64(row[j])
    return total


@reduction
def _squares(row, mean):
    total = 0.0
    for j in range(row.size):
        distance = np.float64(row[j]) - mean
        total += distance * distance
    return total


@kernel
def _normalize(x, gamma, beta, eps, skip, y, mean, rstd):
    """Of these rows."""
    real, units = x.dtype.type, x.shape[1]
    for i in range(len(x)):
        row, result = x[i], y[i]
        exact = _sum(row) / units
        deviation = 1 / np.sqrt(_squares(row, exact) / units + eps)
        mean[i], rstd[i] = real(exact), real(deviation)
        m, r = real(exact), real(deviation)
        if len(skip) > 0:
            more = skip[i]
            for j in range(row.size):
                result[j] = (row[j] - m) * r * gamma[j] + beta[j] + more[j]
        else:
            for j in range(row.size):
                result[j] = (row[j] - m) * r * gamma[j] + beta[j]


@threaded
def normalize_rows(x, gamma, beta, eps, skip, y, mean, rstd):
    """Layer norm's y, mean and rstd; skip has no rows where nothing is added."""
    rows = 1 + (CHUNK - 1) // x.shape[1]
    if serial(x.size):
        _normalize(x, gamma, beta, eps, skip, y, mean, rstd)
    else:
        for c in prange((len(x) + rows - 1) // rows):
            part = slice(c * rows, min(len(x), (c + 1) * rows))
            _normalize(x[part], gamma, beta, eps, skip[part], y[part], mean[part], rstd[part])


@reduction
def _sums_of_gradient(dy, x, gamma, mean):
    """(sum of g, sum of g (x - mean)) along a row, g = gamma dy."""
    total, product = 0.0, 0.0
    for j in range(dy.size):
        g = np.float64(gamma[j]) * dy[j]
        total += g
        product += g * (x[j] - np.float64(mean))
    return total, product


@kernel
def _gradient(dy, x, gamma, mean, rstd, dx, dgamma, dbeta):
    """Of these rows; adds to the sums dgamma and dbeta, in float64."""
    real, units = x.dtype.type, x.shape[1]
    for i in range(len(x)):
        gradient, row, result = dy[i], x[i], dx[i]
        m, r = mean[i], rstd[i]
        total, product = _sums_of_gradient(gradient, row, gamma, m)
        wide = np.float64(r)
        offset, along = real(total / units), real(wide * wide * product / units)
        for j in range(row.size):
            g, centred = gradient[j], row[j] - m
            dgamma[j] += np.float64(g) * (centred * r)
            dbeta[j] += g
            result[j] = r * (gamma[j] * g - offset - centred * along)


@register_jitable
def _rows_a_part(rows, units):
    least = 1 + (CHUNK - 1) // units
    return max(least, (rows + MOST_PARTS - 1) // MOST_PARTS)


@register_jitable
def _part(p, each, dy, x, gamma, mean, rstd, dx, sums):
    part = slice(p * each, min(len(x), (p + 1) * each))
    given = dy[part], x[part], gamma, mean[part], rstd[part]
    for j in range(gamma.size):
        sums[p, 0, j] = 0
        sums[p, 1, j] = 0
    _gradient(*given, dx[part], sums[p, 0], sums[p, 1])


@threaded
def rows_gradient(dy, x, gamma, mean, rstd, dx, dgamma, dbeta):
    """Layer norm's gradients."""
    (rows, units), real = x.shape, x.dtype.type
    each = _rows_a_part(rows, units)
    parts = (rows + each - 1) // each
    sums = np.empty((parts, 2, units))
    if serial(x.size):
        for p in range(parts):
            _part(p, each, dy, x, gamma, mean, rstd, dx, sums)
    else:
        for p in prange(parts):
            _part(p, each, dy, x, gamma, mean, rstd, dx, sums)
    for p in range(1, parts):
        for k in range(2):
            for j in range(units):
                sums[0, k, j] += sums[p, k, j]
    for j in range(units):
        dgamma[j], dbeta[j] = real(sums[0, 0, j]), real(sums[0, 1, j])
