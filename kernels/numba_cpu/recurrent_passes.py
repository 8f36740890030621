"""A pass of a recurrent layer: the products of all steps at once, and the steps between them."""

import numpy as np
from numba import carray
from numba.extending import register_jitable

from ..catalog import IDENTITY
from . import gemm
from .codegen.vectors import Matrix, address, advance, aligned, keep
from .gemm.product import FORWARD, Product
from .recurrent_cells import GRU, GRU_BACK, run
from .recurrent_steps import Recurrence, lanes_of, pack, packed_size, plan, room_size


@register_jitable
def _flat(array):
    """(batch, steps, n) as the rows of a matrix."""
    batch, steps, n = array.shape
    return carray(address(array), (batch * steps, n))


@register_jitable
def begin(state, given):
    """A state is what is given, else 0."""
    for i in range(len(state)):
        for j in range(state.shape[1]):
            state[i, j] = given[i, j] if given.size > 0 else 0


@register_jitable
def _inputs(x, weight, bias, z):
    """z = x W + b of all steps, in the first columns of z."""
    (rows, features), columns = x.shape, weight.shape[1]
    out = Matrix(address(z), z.shape[1])
    left, right = Matrix(address(x), features), Matrix(address(weight), columns)
    gemm.compute(Product(
        FORWARD, rows, columns, features, left, right, out, address(bias), False, IDENTITY,
        address(bias), out, address(z), 0,
    ))  # fmt: skip


@register_jitable
def forward_pass(kind, x, weight, matrix, bias, lengths, reverse, activation_id, y, z, cells,
             state, cell_state):  # fmt: skip
    """All steps from the state on; z is where the gates are left, of an RNN y itself."""
    batch, steps, units = y.shape
    columns, lanes = weight.shape[1], lanes_of(address(y))
    _inputs(_flat(x), weight, bias, _flat(z))
    threads, count, vectors = plan(batch, batch * steps * units * columns)
    main, width = 2 * units if kind == GRU else columns, vectors * lanes
    size, of_m = packed_size(units, main, width, lanes), packed_size(units, units, width, lanes)
    packed = np.empty(size + (of_m if kind == GRU else 0), y.dtype)
    right = aligned(address(packed))
    right_m = advance(right, size - lanes)
    pack(address(matrix), columns, units, main, width, 0, right)
    if kind == GRU:
        pack(advance(address(matrix), main), columns, units, units, width, 0, right_m)
    each = room_size((batch + count - 1) // count, units, lanes)
    room = np.empty(count * each, y.dtype)
    nothing = address(y)
    r = Recurrence(
        batch, steps, units, reverse, activation_id, count, width, address(lengths), right, right_m,
        advance(address(bias), columns), address(room), each, address(y), address(cells),
        address(z), address(state), address(cell_state), nothing, 0, nothing, 0, nothing, False,
        nothing, nothing, nothing,
    )  # fmt: skip
    run(kind, r, threads)
    keep(packed)
    keep(room)


@register_jitable
def backward_pass(kind, dy, x, weight, matrix, y, cells, gates, h0, c0, lengths, reverse,
              activation_id, dx, dweight, dmatrix, dbias, dh, dc):  # fmt: skip
    """All steps back from the gradients by the last states in dh and dc, then all products."""
    batch, steps, units = y.shape
    rows, columns, lanes = batch * steps, weight.shape[1], lanes_of(address(y))
    threads, count, vectors = plan(batch, rows * units * columns)
    width, zeros = vectors * lanes, np.zeros(units, y.dtype)
    dz, before = np.empty((rows, columns), y.dtype), np.empty((rows, units), y.dtype)
    da = np.empty((rows, columns), y.dtype) if kind == GRU_BACK else dz
    packed = np.empty(packed_size(columns, units, width, lanes), y.dtype)
    right = aligned(address(packed))
    pack(address(matrix), columns, columns, units, width, 1, right)
    each = room_size((batch + count - 1) // count, columns, lanes)
    room = np.empty(count * each, y.dtype)
    first = address(h0) if h0.size > 0 else address(zeros)
    first_cell = address(c0) if c0.size > 0 else address(zeros)
    step, cell_step = units if h0.size > 0 else 0, units if c0.size > 0 else 0
    r = Recurrence(
        batch, steps, units, reverse, activation_id, count, width, address(lengths), right, right,
        right, address(room), each, address(y), address(cells), address(gates), address(dh),
        address(dc), first, step, first_cell, cell_step, address(dy), dy.size > 0, address(dz),
        address(da), address(before),
    )  # fmt: skip
    run(kind, r, threads)
    keep(packed)
    keep(room)
    keep(zeros)
    alpha, inputs, sums = carray(address(dz), 0), _flat(x), carray(address(dbias), columns)
    gemm.backward(dz, inputs, weight, dz, IDENTITY, alpha, _flat(dx), dweight, sums)
    sums = np.empty(columns, y.dtype)
    gemm.backward_weight(da, before, da, IDENTITY, alpha, dmatrix, sums)
    if kind == GRU_BACK:
        for j in range(2 * units, columns):
            dbias[units + j] = sums[j]
