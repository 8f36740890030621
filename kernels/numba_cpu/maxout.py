"""Maxout for the CPU: the product of a dense layer for all pieces at once, and their largest."""

import numpy as np
from numba import carray, prange

from .. import arguments
from ..catalog import IDENTITY
from . import gemm
from .activation_rows import activations, derivatives
from .codegen.jit import CHUNK, kernel, serial, threaded
from .codegen.shortcut import disjoint, read, shortcut, span, writable, written
from .codegen.vectors import address, stack

COLUMNS = 256  # units that are gone over at once: what is kept of each stays in L1
ROOM = 2 * COLUMNS


@kernel
def _largest_of(z, y):
    """y = max over the pieces of z, of these rows."""
    for i in range(len(y)):
        row, piece = y[i], z[i, 0]
        for j in range(row.size):
            row[j] = piece[j]
        for k in range(1, z.shape[1]):
            piece = z[i, k]
            for j in range(row.size):
                row[j] = piece[j] if piece[j] > row[j] or piece[j] != piece[j] else row[j]


@kernel
def _winners_of(dy, z, dz):
    """dz = dy where z is the first of the largest pieces, else 0, of these rows."""
    pieces, units, zero = z.shape[1], z.shape[2], dy.dtype.type(0)
    room = carray(stack(dy, ROOM), (2, COLUMNS))
    for i in range(len(dy)):
        for first in range(0, units, COLUMNS):
            part = slice(first, min(units, first + COLUMNS))
            gradient, piece = dy[i, part], z[i, 0, part]
            top, winner = room[0, : gradient.size], room[1, : gradient.size]
            for j in range(top.size):
                top[j], winner[j] = piece[j], zero
            for k in range(1, pieces):
                piece, number = z[i, k, part], dy.dtype.type(k)
                for j in range(top.size):
                    t, p = top[j], piece[j]
                    wins = (p > t) | ((p != p) & (t == t))
                    top[j], winner[j] = p if wins else t, number if wins else winner[j]
            for k in range(pieces):
                out, number = dz[i, k, part], dy.dtype.type(k)
                for j in range(out.size):
                    out[j] = gradient[j] if winner[j] == number else zero


@threaded
def largest(z, y):
    """y: the largest of the pieces z (rows, pieces, units)."""
    if serial(z.size):
        _largest_of(z, y)
    else:
        rows = 1 + (CHUNK - 1) // (z.shape[1] * z.shape[2])
        for c in prange((len(y) + rows - 1) // rows):
            part = slice(c * rows, min(len(y), (c + 1) * rows))
            _largest_of(z[part], y[part])


@threaded
def winners(dy, z, dz):
    """dz: dy for the first of the largest pieces, else 0."""
    if serial(z.size):
        _winners_of(dy, z, dz)
    else:
        rows = 1 + (CHUNK - 1) // (z.shape[1] * z.shape[2])
        for c in prange((len(dy) + rows - 1) // rows):
            part = slice(c * rows, min(len(dy), (c + 1) * rows))
            _winners_of(dy[part], z[part], dz[part])


@shortcut(read(2), read(3), read(2), written(2), written(3))
def _forward(x, weight, bias, y, z):
    (batch, fan_in), (pieces, units) = x.shape, bias.shape
    fits = pieces > 0 and weight.shape == (fan_in, pieces, units)
    fits = fits and y.shape == (batch, units) and z.shape == (batch, pieces, units)
    fits = fits and disjoint((span(y), span(z)), (span(x), span(weight), span(bias)))
    if fits:
        width = pieces * units
        matrix, offsets = carray(address(weight), (fan_in, width)), carray(address(bias), (width,))
        sums, alpha = carray(address(z), (batch, width)), carray(address(bias), (0,))
        gemm.forward(writable(x), matrix, offsets, IDENTITY, alpha, sums)
        largest(writable(z), writable(y))
    return fits


@shortcut(read(2), read(2), read(3), read(3), written(2), written(3), written(2))
def _backward(dy, x, weight, z, dx, dweight, dbias):
    (batch, fan_in), (pieces, units) = x.shape, dbias.shape
    fits = pieces > 0 and weight.shape == (fan_in, pieces, units) and dweight.shape == weight.shape
    fits = fits and dy.shape == (batch, units) and z.shape == (batch, pieces, units)
    fits = fits and dx.shape == x.shape
    inputs = span(dy), span(x), span(weight), span(z)
    fits = fits and disjoint((span(dx), span(dweight), span(dbias)), inputs)
    if fits:
        width = pieces * units
        dz = np.empty((batch, pieces, units), dx.dtype)
        winners(writable(dy), writable(z), dz)
        flat = dz.reshape((batch, width))  # counts as a reference: an address would not
        matrix = carray(address(weight), (fan_in, width))
        of_matrix = carray(address(dweight), (fan_in, width))
        of_offsets, alpha = carray(address(dbias), (width,)), carray(address(dbias), (0,))
        gemm.backward(flat, writable(x), matrix, flat, IDENTITY, alpha, dx, of_matrix, of_offsets)
    return fits


def maxout_forward(x, weight, bias, *, out=None):
    """(y, z): the largest of each unit's pieces, and the pieces; see reference.maxout_forward."""
    if type(out) is tuple and _forward.accepts(x, weight, bias, *out):
        return out
    arguments.floating("x", x, np.ndarray, 2)
    pieces, units = arguments.maxout(weight, np.ndarray, x.dtype, x.shape[1])
    arguments.array("bias", bias, np.ndarray, x.dtype, (pieces, units))
    shapes = (len(x), units), (len(x), pieces, units)
    out = arguments.outputs(out, shapes, x.dtype, {"x": x, "weight": weight, "bias": bias})
    gemm.ready(x.dtype)
    activations.ready(x.dtype, IDENTITY)
    _forward.ready(x.dtype)
    _forward(x, weight, bias, *out)
    return out


def maxout_backward(dy, x, weight, z, *, out=None):
    """(dx, dweight, dbias); see reference.maxout_backward."""
    if type(out) is tuple and _backward.accepts(dy, x, weight, z, *out):
        return out
    arguments.floating("dy", dy, np.ndarray, 2)
    arguments.floating("x", x, np.ndarray, 2)
    arguments.array("x", x, np.ndarray, dy.dtype, (len(dy), x.shape[1]))
    pieces, units = arguments.maxout(weight, np.ndarray, dy.dtype, x.shape[1], dy.shape[1])
    arguments.array("z", z, np.ndarray, dy.dtype, (len(dy), pieces, units))
    shapes = x.shape, weight.shape, (pieces, units)
    inputs = {"dy": dy, "x": x, "weight": weight, "z": z}
    out = arguments.outputs(out, shapes, dy.dtype, inputs)
    gemm.ready(dy.dtype)
    derivatives.ready(dy.dtype, IDENTITY)
    _backward.ready(dy.dtype)
    _backward(dy, x, weight, z, *out)
    return out
