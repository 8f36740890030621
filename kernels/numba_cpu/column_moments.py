"""Batch norm's loops for the CPU: mean and variance of columns, and what is done with them.

Sums are taken in float64, of parts that follow from the shape alone and are merged in order: they
do not depend on the number of threads. Memory is read once: what is read again waits in cache.
"""

import numpy as np
from numba import prange

from .codegen import caches
from .codegen.inlined import register_jitable
from .codegen.jit import CHUNK, kernel, serial, threaded

COLUMNS = 256  # that a task takes, 1 or 2 KiB of a row,
ROWS = 32  # so many rows of which are gone over twice
MOST_PARTS = 16  # of the rows
STRIP_BYTES = max(caches.L2, caches.L3 // 2)  # of the columns that are finished before the next


@register_jitable
def _parts(rows):
    """(parts of the rows, rows of each but the last); whole blocks of ROWS."""
    each = ROWS * max(1, (rows + ROWS * MOST_PARTS - 1) // (ROWS * MOST_PARTS))
    return (rows + each - 1) // each, each


@register_jitable
def _strip(rows, itemsize):
    """Columns that are finished before the next: they wait in cache."""
    return COLUMNS * max(1, STRIP_BYTES // (rows * itemsize * COLUMNS))


@register_jitable
def _task(t, rows, first, last):
    """(part, its first row, the first of the next, columns) of task t of a strip of columns."""
    parts, each = _parts(rows)
    p, left = t % parts, first + t // parts * COLUMNS
    return p, p * each, min(rows, (p + 1) * each), slice(left, min(last, left + COLUMNS))


@register_jitable
def _tasks(rows, first, last):
    return _parts(rows)[0] * ((last - first + COLUMNS - 1) // COLUMNS)


@kernel
def _add_rows(x, i, stop, some, sums):
    """sums += these rows of x, four at a time."""
    while i + 3 < stop:
        a, b, c, d = x[i, some], x[i + 1, some], x[i + 2, some], x[i + 3, some]
        for j in range(sums.size):
            sums[j] += (np.float64(a[j]) + b[j]) + (np.float64(c[j]) + d[j])
        i += 4
    for k in range(i, stop):
        row = x[k, some]
        for j in range(sums.size):
            sums[j] += row[j]


@kernel
def _add_squares(x, i, stop, some, mean, sums):
    """sums += the squared distances of these rows of x from the mean, two rows at a time."""
    while i + 1 < stop:
        a, b = x[i, some], x[i + 1, some]
        for j in range(sums.size):
            one, other = a[j] - mean[j], b[j] - mean[j]
            sums[j] += one * one + other * other
        i += 2
    for k in range(i, stop):
        row = x[k, some]
        for j in range(sums.size):
            sums[j] += (row[j] - mean[j]) ** 2


@kernel
def _merge(seen, mean, squares, more, other_mean, other_squares):
    """The moments of `seen` rows become those of `more` rows besides: Chan, Golub and LeVeque."""
    share = more / (seen + more)
    both = seen * share
    for j in range(mean.size):
        distance = other_mean[j] - mean[j]
        mean[j] += distance * share
        squares[j] += other_squares[j] + distance * distance * both


@kernel
def _moments_of(x, start, stop, some, mean, squares):
    """The mean of each column of these rows, and the sum of the squared distances from it."""
    room = np.empty((2, mean.size))
    for first in range(start, stop, ROWS):
        last = min(stop, first + ROWS)
        begins = first == start
        of_block, squares_of_block = (mean, squares) if begins else (room[0], room[1])
        of_block[:] = 0
        squares_of_block[:] = 0
        _add_rows(x, first, last, some, of_block)
        for j in range(of_block.size):
            of_block[j] *= 1 / (last - first)
        _add_squares(x, first, last, some, of_block, squares_of_block)
        if not begins:
            _merge(first - start, mean, squares, last - first, of_block, squares_of_block)


@register_jitable
def _moments_task(t, x, first, last, found):
    p, start, stop, some = _task(t, len(x), first, last)
    into = slice(some.start - first, some.stop - first)
    _moments_of(x, start, stop, some, found[p, 0, into], found[p, 1, into])


@kernel
def _scale_rows(x, start, stop, some, mean, scale, beta, skip, y):
    """y = scale (x - mean) + beta + skip, of these rows; the rest is a number a column. Where
    nothing is added skip has no rows.
    """
    for i in range(start, stop):
        row, result = x[i, some], y[i, some]
        if len(skip) > 0:
            more = skip[i, some]
            for j in range(row.size):
                result[j] = (row[j] - mean[j]) * scale[j] + beta[j] + more[j]
        else:
            for j in range(row.size):
                result[j] = (row[j] - mean[j]) * scale[j] + beta[j]


@register_jitable
def _scale_task(t, x, first, last, mean, scale, beta, skip, y):
    _, start, stop, some = _task(t, len(x), first, last)
    _scale_rows(x, start, stop, some, mean[some], scale[some], beta[some], skip, y)


@kernel
def _finish(found, rows, gamma, eps, first, mean, variance, rstd, scale):
    """Merges the parts' moments into those of the columns from `first` on."""
    real, (_, each) = mean.dtype.type, _parts(rows)
    exact, squares = found[0, 0], found[0, 1]
    for p in range(1, len(found)):
        more = min(rows, (p + 1) * each) - p * each
        _merge(p * each, exact, squares, more, found[p, 0], found[p, 1])
    for j in range(exact.size):
        k = first + j
        variance[k] = squares[j] / rows
        deviation = 1 / np.sqrt(variance[k] + eps)
        mean[k], rstd[k] = real(exact[j]), real(deviation)
        scale[k] = real(gamma[k] * deviation)


@threaded
def normalize_columns(x, gamma, beta, eps, skip, y, mean, variance, rstd):
    """Batch norm's y, mean, variance (float64) and rstd; skip as in _scale_rows."""
    rows, units = x.shape
    strip, scale = _strip(rows, x.itemsize), np.empty_like(gamma)
    for first in range(0, units, strip):
        last = min(units, first + strip)
        tasks = _tasks(rows, first, last)
        found = np.empty((_parts(rows)[0], 2, last - first))
        if serial(x.size):
            for t in range(tasks):
                _moments_task(t, x, first, last, found)
        else:
            for t in prange(tasks):
                _moments_task(t, x, first, last, found)
        _finish(found, rows, gamma, eps, first, mean, variance, rstd, scale)
        if serial(x.size):
            for t in range(tasks):
                _scale_task(t, x, first, last, mean, scale, beta, skip, y)
        else:
            for t in prange(tasks):
                _scale_task(t, x, first, last, mean, scale, beta, skip, y)


@kernel
def keep_running(mean, variance, rows, momentum, running_mean, running_variance):
    """Batch norm's running statistics after this batch, of `rows` rows."""
    real, unbiased = mean.dtype.type, rows / max(1, rows - 1)
    for j in range(mean.size):
        running_mean[j] += real(momentum * (np.float64(mean[j]) - running_mean[j]))
        now = unbiased * variance[j]
        running_variance[j] += real(momentum * (now - running_variance[j]))


@kernel
def inference_scale(gamma, running_variance, eps):
    """What batch norm's inference multiplies a unit with."""
    scale = np.empty_like(gamma)
    for j in range(gamma.size):
        scale[j] = gamma[j] / np.sqrt(np.float64(running_variance[j]) + eps)
    return scale


@register_jitable
def _whole_rows(x, start, stop, mean, scale, beta, skip, y):
    _scale_rows(x, start, stop, slice(0, x.shape[1]), mean, scale, beta, skip, y)


@threaded
def scale_columns(x, mean, scale, beta, skip, y):
    """y = scale (x - mean) + beta + skip, as _scale_rows."""
    rows = 1 + (CHUNK - 1) // x.shape[1]
    if serial(x.size):
        _whole_rows(x, 0, len(x), mean, scale, beta, skip, y)
    else:
        for c in prange((len(x) + rows - 1) // rows):
            _whole_rows(x, c * rows, min(len(x), (c + 1) * rows), mean, scale, beta, skip, y)


@kernel
def _add_gradients(dy, x, i, stop, some, mean, sums, products):
    """sums += these rows of dy, products += those of dy (x - mean), two at a time."""
    while i + 1 < stop:
        a, b, c, d = dy[i, some], dy[i + 1, some], x[i, some], x[i + 1, some]
        for j in range(sums.size):
            one, other, m = np.float64(a[j]), np.float64(b[j]), np.float64(mean[j])
            sums[j] += one + other
            products[j] += one * (c[j] - m) + other * (d[j] - m)
        i += 2
    for k in range(i, stop):
        gradient, row = dy[k, some], x[k, some]
        for j in range(sums.size):
            sums[j] += gradient[j]
            products[j] += gradient[j] * (np.float64(row[j]) - mean[j])


@register_jitable
def _sums_task(t, dy, x, mean, first, last, found):
    p, start, stop, some = _task(t, len(x), first, last)
    into = slice(some.start - first, some.stop - first)
    sums, products = found[p, 0, into], found[p, 1, into]
    for j in range(sums.size):
        sums[j] = 0
        products[j] = 0
    _add_gradients(dy, x, start, stop, some, mean[some], sums, products)


@kernel
def _gradient_rows(dy, x, start, stop, some, mean, scale, along, offset, dx):
    """dx = scale dy + along (x - mean) + offset, of these rows."""
    for i in range(start, stop):
        gradient, row, result = dy[i, some], x[i, some], dx[i, some]
        for j in range(row.size):
            result[j] = gradient[j] * scale[j] + ((row[j] - mean[j]) * along[j] + offset[j])


@register_jitable
def _gradient_task(t, dy, x, first, last, mean, factors, dx):
    _, start, stop, some = _task(t, len(x), first, last)
    scale, along, offset = factors[0, some], factors[1, some], factors[2, some]
    _gradient_rows(dy, x, start, stop, some, mean[some], scale, along, offset, dx)


@kernel
def _finish_gradients(found, rows, gamma, rstd, first, factors, dgamma, dbeta):
    """dgamma and dbeta of the columns from `first` on, from the parts' sums; the factors of dx."""
    real, sums, products = gamma.dtype.type, found[0, 0], found[0, 1]
    for p in range(1, len(found)):
        for j in range(sums.size):
            sums[j] += found[p, 0, j]
            products[j] += found[p, 1, j]
    for j in range(sums.size):
        k = first + j
        r = np.float64(rstd[k])
        of_gamma, factor = r * products[j], gamma[k] * r
        dgamma[k], dbeta[k] = real(of_gamma), real(sums[j])
        factors[0, k], factors[2, k] = real(factor), real(-factor * sums[j] / rows)
        factors[1, k] = real(-factor * r * of_gamma / rows)


@threaded
def columns_gradient(dy, x, gamma, mean, rstd, dx, dgamma, dbeta):
    """Batch norm's gradients."""
    rows, units = x.shape
    strip, factors = _strip(2 * rows, x.itemsize), np.empty((3, units), x.dtype)
    for first in range(0, units, strip):
        last = min(units, first + strip)
        tasks = _tasks(rows, first, last)
        found = np.empty((_parts(rows)[0], 2, last - first))
        if serial(x.size):
            for t in range(tasks):
                _sums_task(t, dy, x, mean, first, last, found)
        else:
            for t in prange(tasks):
                _sums_task(t, dy, x, mean, first, last, found)
        _finish_gradients(found, rows, gamma, rstd, first, factors, dgamma, dbeta)
        if serial(x.size):
            for t in range(tasks):
                _gradient_task(t, dy, x, first, last, mean, factors, dx)
        else:
            for t in prange(tasks):
                _gradient_task(t, dy, x, first, last, mean, factors, dx)
