"""The gradients by a recurrent layer's parameters, by some steps: x^T dz, h^T da and sums.

What these steps have written lies in cache still, for every row of the batch and step: dz, and x
beside the h before it. The register tile reads them in place. A gradient's element is a
chain of multiply-adds for so many rows, whoever computes it: results do not depend on threads.
"""

from numba import carray, njit, prange, types

from .codegen import caches
from .codegen.jit import INTERNAL
from .codegen.symbol import by_symbol, loaded, stored
from .codegen.vectors import Matrix, advance, nowhere
from .gemm.macrokernel import round_up, strip_of
from .gemm.microkernel import HEIGHT, tile
from .recurrent_steps import lanes_of, recurrence_type

AHEAD = 8  # rows of dz that are asked for before their turn


@njit(**INTERNAL)
def depth_of(pointer):
    """Rows of dz that are summed up at a time: the strip of x or h beside them fills L1."""
    itemsize = carray(pointer, 1).itemsize
    return caches.L1 // (round_up(HEIGHT, lanes_of(pointer)) * itemsize)


@njit(**INTERNAL)
def _strips(rows):
    return (rows + HEIGHT - 1) // HEIGHT


@njit(**INTERNAL)
def _tiles(r):
    """Of both gradients together."""
    width = 2 * lanes_of(r.dz)
    return (r.columns + width - 1) // width * (_strips(r.features) + _strips(r.units))


_N = types.intp


@by_symbol(lambda p: types.void(p, types.CPointer(recurrence_type(p)), _N, _N))
def add_tiles(elements, place, first, last):
    """Adds the steps that were taken to so many tiles; the first steps are where they begin."""
    r = loaded(place)
    of_x, of_h = _strips(r.features), _strips(r.units)
    width, most = 2 * lanes_of(r.dz), depth_of(r.dz)
    rows, one, none = (r.end - r.begin) * r.batch, Matrix(r.one, 0), nowhere(r.dz)
    for p in range(0, rows, most):
        depth, old = min(most, rows - p), r.begin + p > 0
        dz = advance(r.dz, p * r.dz_step)
        da = advance(r.da, p * r.dz_step)
        x, h = advance(r.inputs, p * r.before_step), advance(r.before, p * r.before_step)
        for number in range(first, last):
            s, j = number % (of_x + of_h), number // (of_x + of_h) * width
            count = min(width, r.columns - j)
            if s < of_x:
                i, height = strip_of(r.features, s, of_x)
                left, right, out = advance(x, i), dz, r.dweight
            else:
                i, height = strip_of(r.units, s - of_x, of_h)
                left, right, out = advance(h, i), da, r.dmatrix
            right = Matrix(advance(right, j), r.dz_step)
            out = Matrix(advance(out, i * r.columns + j), r.columns)
            if s == 0 or (s == of_x and r.has_da):
                sums = Matrix(advance(r.dbias if s == 0 else r.sums, j), 0)
                tile(one, right, sums, depth, 1, count, old, none, 0)
            left = Matrix(left, r.before_step)
            tile(left, right, out, depth, height, count, old, none, AHEAD * r.dz_step)


@njit(**INTERNAL, parallel=True)
def _shared(elements, place, tiles, threads):
    for n in prange(threads):
        add_tiles(elements, place, tiles * n // threads, tiles * (n + 1) // threads)


@njit(**INTERNAL)
def add_gradients(recurrence, threads):
    """All tiles, by so many threads or one."""
    elements, place, tiles = recurrence.y, stored(recurrence), _tiles(recurrence)
    if threads > 1:
        _shared(elements, place, tiles, threads)
    else:
        add_tiles(elements, place, 0, tiles)
