"""Loops over vectors for the CPU: inner products, sums, and what directions are made of.

Inner products are taken in float64, of chunks that follow from the size alone and are added up in
order: so they do not depend on the number of threads. A sum of vectors takes the next inner product
along, before what it has written leaves the cache.
"""

import math

import numpy as np
from numba import prange

from ..catalog import CONJUGACIES
from .codegen.inlined import register_jitable
from .codegen.jit import chunk, chunks, kernel, reduction, serial, threaded

PIECE = 1024  # elements of a vector that are written, then read again
FLETCHER_REEVES = CONJUGACIES["fletcher_reeves"]


@reduction
def _dot(a, b):
    total = 0.0
    for k in range(a.size):
        total += np.float64(a[k]) * np.float64(b[k])
    return total


@threaded
def inner(a, b):
    if serial(a.size):
        total = 0.0
        for c in range(chunks(a.size)):
            part = chunk(c, a.size)
            total += _dot(a[part], b[part])
        return total
    found, total = np.empty(chunks(a.size)), 0.0
    for c in prange(found.size):
        part = chunk(c, a.size)
        found[c] = _dot(a[part], b[part])
    for c in range(found.size):
        total += found[c]
    return total


@reduction
def _products(g, before, direction):
    """g^T g, g^T (g - before), before^T before, g^T direction."""
    squares, change, squares_before, slope = 0.0, 0.0, 0.0, 0.0
    for k in range(g.size):
        now, then = np.float64(g[k]), np.float64(before[k])
        squares += now * now
        change += now * (now - then)
        squares_before += then * then
        slope += now * np.float64(direction[k])
    return squares, change, squares_before, slope


@threaded
def conjugacy(g, before, direction, method):
    """beta, 0 where the direction begins anew."""
    found = np.empty((chunks(g.size), 4))
    if serial(g.size):
        for c in range(len(found)):
            part = chunk(c, g.size)
            sums = _products(g[part], before[part], direction[part])
            found[c, 0], found[c, 1], found[c, 2], found[c, 3] = sums
    else:
        for c in prange(len(found)):
            part = chunk(c, g.size)
            sums = _products(g[part], before[part], direction[part])
            found[c, 0], found[c, 1], found[c, 2], found[c, 3] = sums
    squares, change, squares_before, slope = 0.0, 0.0, 0.0, 0.0
    for c in range(len(found)):
        squares += found[c, 0]
        change += found[c, 1]
        squares_before += found[c, 2]
        slope += found[c, 3]
    beta = (squares if method == FLETCHER_REEVES else change) / squares_before
    beta = 0.0 if method != FLETCHER_REEVES and beta < 0 else beta
    return beta if beta < math.inf and beta * slope < squares else 0.0


@kernel
def _combined(source, coefficient, added, scale, out, following):
    """out = scale * (source + coefficient * added), and its inner product with what follows; an
    empty array stands for nothing.
    """
    c, factor, total = out.dtype.type(coefficient), out.dtype.type(scale), 0.0
    for start in range(0, out.size, PIECE):
        part = slice(start, min(out.size, start + PIECE))
        x, piece = source[part], out[part]
        if added.size > 0:
            y = added[part]
            for k in range(piece.size):
                piece[k] = factor * (x[k] + c * y[k])
        else:
            for k in range(piece.size):
                piece[k] = factor * x[k]
        if following.size > 0:
            total += _dot(piece, following[part])
    return total


@register_jitable
def _chunk(c, source, coefficient, added, scale, out, following):
    """_combined of chunk c."""
    p = chunk(c, out.size)
    y = added[p] if added.size > 0 else added
    ahead = following[p] if following.size > 0 else following
    return _combined(source[p], coefficient, y, scale, out[p], ahead)


@threaded
def combine(source, coefficient, added, scale, out, following):
    """As _combined, by chunks."""
    total = 0.0
    if serial(out.size):
        for c in range(chunks(out.size)):
            total += _chunk(c, source, coefficient, added, scale, out, following)
        return total
    found = np.empty(chunks(out.size))
    for c in prange(found.size):
        found[c] = _chunk(c, source, coefficient, added, scale, out, following)
    for c in range(found.size):
        total += found[c]
    return total


@kernel
def two_loops(grad, steps, differences, out):
    """The two loops over the pairs that are kept."""
    rho, alpha = np.empty(len(steps)), np.empty(len(steps))
    kept, count, nothing = np.empty(len(steps), np.int64), 0, grad[:0]
    for i in range(len(steps)):
        rho[i] = 1 / inner(steps[i], differences[i])
        if rho[i] > 0 and rho[i] < math.inf:
            kept[count] = i
            count += 1
    if count == 0:
        combine(grad, 0.0, nothing, -1.0, out, nothing)
        return
    i = kept[count - 1]
    scale = 1 / (rho[i] * inner(differences[i], differences[i]))
    product = inner(steps[i], grad)
    for k in range(count - 1, -1, -1):
        i = kept[k]
        alpha[i] = rho[i] * product
        source = grad if k == count - 1 else out
        following = steps[kept[k - 1]] if k > 0 else differences[i]
        factor = 1.0 if k > 0 else scale
        product = combine(source, -alpha[i], differences[i], factor, out, following)
    for k in range(count):
        i = kept[k]
        last = k == count - 1
        following = nothing if last else differences[kept[k + 1]]
        added = alpha[i] - rho[i] * product
        product = combine(out, added, steps[i], -1.0 if last else 1.0, out, following)


@kernel
def solve(factor, grad, out):
    """out = -(L L^T)^-1 grad, L read by rows both times."""
    for i in range(out.size):
        row = factor[i, :i]
        out[i] = (-np.float64(grad[i]) - _dot(row, out[:i])) / np.float64(factor[i, i])
    for i in range(out.size - 1, -1, -1):
        out[i] /= factor[i, i]
        row, value = factor[i, :i], out[i]
        for j in range(row.size):
            out[j] -= row[j] * value
