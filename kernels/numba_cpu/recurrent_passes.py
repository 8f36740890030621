"""A pass of a recurrent layer: the products of all steps at once, and the steps between them."""

import numpy as np
from numba import carray

from ..catalog import IDENTITY
from . import gemm
from .codegen import caches
from .codegen.inlined import register_jitable
from .codegen.vectors import Matrix, address, advance, aligned, keep
from .gemm.product import FORWARD, Product
from .recurrent_cells import GRU, GRU_BACK, run
from .recurrent_gradients import add_gradients, depth_of
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
    right_more = advance(right, size - lanes)
    pack(address(matrix), columns, units, main, width, 0, right)
    if kind == GRU:
        pack(advance(address(matrix), main), columns, units, units, width, 0, right_more)
    each = room_size((batch + count - 1) // count, units, lanes)
    room = np.empty(count * each, y.dtype)
    nothing = address(y)
    r = Recurrence(
        batch, steps, x.shape[2], units, columns, reverse, activation_id, count, width,
        address(lengths), right, right_more, advance(address(bias), columns), address(room), each,
        address(y), address(cells), address(z), address(state), address(cell_state), nothing, 0,
        nothing, 0, nothing, False, 0, steps, nothing, False, nothing, nothing, 0, nothing, False,
        nothing, nothing, 0, nothing, nothing, nothing, nothing, nothing,
    )  # fmt: skip
    run(kind, r, threads)
    keep(packed)
    keep(room)


@register_jitable
def backward_pass(kind, dy, x, weight, matrix, y, cells, gates, h0, c0, lengths, reverse,
              activation_id, dx, dweight, dmatrix, dbias, dh, dc):  # fmt: skip
    """All steps back from the gradients by the last states in dh and dc.

    Where W^T and R^T fit into L2 together both multiply dz step by step, and what a few steps have
    written is used up while it is near. Else, and for a batch of one, all steps are one product.
    """
    (batch, steps, features), units = x.shape, y.shape[2]
    columns, lanes, real = weight.shape[1], lanes_of(address(y)), y.dtype
    threads, count, vectors = plan(batch, batch * steps * units * columns)
    width, constants = vectors * lanes, np.zeros(units + 1, real)
    constants[units] = 1
    gives_dx = batch > 1 and (units + features) * columns * y.itemsize <= caches.L2 // 2
    some, beside = (max(1, depth_of(address(y)) // batch), features) if gives_dx else (steps, 0)
    rows = batch * min(some, steps)
    step = _odd_lines(columns, lanes) if gives_dx else columns
    before_step = _odd_lines(features + units, lanes) if gives_dx else units
    dz, given = np.empty((rows, step), real), np.empty((rows, before_step), real)
    da = np.empty((rows, step), real) if kind == GRU_BACK else dz
    size = packed_size(columns, units, width, lanes)
    packed = np.empty(size + packed_size(columns, beside, width, lanes), real)
    right = aligned(address(packed))
    right_more = advance(right, size - lanes)
    pack(address(matrix), columns, columns, units, width, 1, right)
    pack(address(weight), columns, columns, beside, width, 1, right_more)
    each = room_size((batch + count - 1) // count, columns, lanes)
    room, sums = np.empty(count * each, real), np.empty(columns, real)
    first = address(h0) if h0.size > 0 else address(constants)
    first_cell = address(c0) if c0.size > 0 else address(constants)
    first_step, cell_step = units if h0.size > 0 else 0, units if c0.size > 0 else 0
    for begin in range(0, steps, some):
        r = Recurrence(
            batch, steps, features, units, columns, reverse, activation_id, count, width,
            address(lengths), right, right_more, right, address(room), each, address(y),
            address(cells), address(gates), address(dh), address(dc), first, first_step, first_cell,
            cell_step, address(dy), dy.size > 0, begin, min(steps, begin + some), address(x),
            gives_dx, address(dx), address(dz), step, address(da), kind == GRU_BACK, address(given),
            advance(address(given), beside), before_step, address(dweight), address(dmatrix),
            address(dbias), address(sums), advance(address(constants), units),
        )  # fmt: skip
        run(kind, r, threads)
        if gives_dx:
            add_gradients(r, threads)
    keep(packed)
    keep(room)
    keep(constants)
    if not gives_dx:
        alpha, of_z = carray(address(dz), 0), carray(address(dbias), columns)
        gemm.backward(dz, _flat(x), weight, dz, IDENTITY, alpha, _flat(dx), dweight, of_z)
        gemm.backward_weight(da, given, da, IDENTITY, alpha, dmatrix, sums)
    keep(given)
    keep(da)
    if kind == GRU_BACK:
        for j in range(2 * units, columns):
            dbias[units + j] = sums[j]


@register_jitable
def _odd_lines(count, lanes):
    """So many elements or a few more: an odd number of vectors, so that rows use all of a cache."""
    return ((count + lanes - 1) // lanes | 1) * lanes
