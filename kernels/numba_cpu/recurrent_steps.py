"""The steps of recurrent layers: what a thread does with its rows, from the first step to the last.

The products with the input weights are taken beforehand, of all steps at once (recurrent.py). Here
the batch is cut into strips of rows, as many as the register tile of the matrix product is high. A
strip goes through all steps alone, so that threads never wait for each other: at each step its
state, some kilobytes in L1, is multiplied with the recurrent weights, which lie packed in panels in
L2, and the gates are formed while they are near. An element is one chain of multiply-adds in the
order of the units wherever the batch is cut: results do not depend on the number of threads.

States and their gradients stand in the arrays that are returned, and change in place.
"""

from typing import NamedTuple

from numba import carray, njit, types

from .codegen.inlined import register_jitable
from .codegen.jit import INTERNAL
from .codegen.symbol import by_symbol
from .codegen.threads import thread_count
from .codegen.vectors import VECTOR_BYTES, Matrix, advance, at, nowhere
from .gemm.macrokernel import round_up
from .gemm.microkernel import HEIGHT, LOW_HEIGHT, tile
from .gemm.packing import copy, transpose
from .gemm.planning import THREAD_WORK

# What a product starts from.
NOTHING, OLD, BIAS = range(3)


class Recurrence(NamedTuple):
    """A layer at work on all steps; pointers are to the first element of an array."""

    batch: int
    steps: int
    features: int
    units: int
    columns: int  # of all gates
    reverse: bool
    activation_id: int
    strips: int
    width: int  # of a panel of packed weights
    lengths: object
    right: object  # packed: R, or R^T in the backward pass
    right_more: object  # packed: of a GRU R's columns for m, or W^T
    bias_m: object
    room: object  # for the state as columns, of each strip
    room_size: int
    y: object
    cells: object
    gates: object
    state: object  # h, or the gradient by it
    cell_state: object
    first: object  # h0; and the elements from one of its rows to the next: 0 where all are one
    first_step: int
    first_cell: object
    first_cell_step: int
    dy: object
    has_dy: bool
    begin: int  # the steps that are taken
    end: int
    x: object
    gives_dx: bool  # whether the steps do, else a product of all does; then x is copied beside h
    dx: object
    dz: object  # which is written; and the elements from one of its rows to the next
    dz_step: int
    da: object
    has_da: bool  # whether it is not dz
    inputs: object
    before: object  # h before each step
    before_step: int
    dweight: object
    dmatrix: object
    dbias: object
    sums: object  # of da
    one: object  # the number


def recurrence_type(pointer):
    """Numba's type of a Recurrence of elements that such a pointer points to."""
    kinds = {int: types.intp, bool: types.boolean, object: pointer}
    fields = {name: kinds[kind] for name, kind in Recurrence.__annotations__.items()}
    fields["lengths"] = types.CPointer(types.int64)
    return types.NamedTuple(list(fields.values()), Recurrence)


@njit(**INTERNAL)
def plan(batch, work):
    """(threads, strips of the batch, columns of a panel in vectors): each thread has as many strips
    for so many multiply-adds.
    """
    threads = max(1, min(thread_count(), work // THREAD_WORK))
    strips = min(batch, round_up((batch + HEIGHT - 1) // HEIGHT, threads))
    return threads, strips, 4 if (batch + strips - 1) // strips <= LOW_HEIGHT else 2


@njit(**INTERNAL)
def lanes_of(pointer):
    return VECTOR_BYTES // carray(pointer, 1).itemsize


@njit(**INTERNAL)
def _panel(depth, width, lanes):
    return round_up(depth, lanes) * width + lanes  # pages apart they would share few cache lines


@njit(**INTERNAL)
def packed_size(depth, columns, width, lanes):
    """Elements of packed weights, with room to begin at a whole vector."""
    return (columns + width - 1) // width * _panel(depth, width, lanes) + lanes


@njit(**INTERNAL)
def room_size(rows, depth, lanes):
    """Elements of the room that `multiply` takes; no two threads' share a cache line."""
    return round_up(rows, lanes) * round_up(depth, lanes) + 2 * lanes


_N = types.intp


@by_symbol(lambda p: types.void(p, _N, _N, _N, _N, _N, p))
def pack(matrix, step, depth, columns, width, transposed, packed):
    """The matrix, or its transpose, of `depth` rows, in panels of `width` columns."""
    panel = _panel(depth, width, lanes_of(matrix))
    for j in range(0, columns, width):
        out, count = Matrix(advance(packed, j // width * panel), width), min(width, columns - j)
        if transposed > 0:
            transpose(at(Matrix(matrix, step), j, 0), count, depth, out)
        else:
            copy(at(Matrix(matrix, step), 0, j), depth, count, out)


@by_symbol(lambda p: types.void(p, _N, _N, _N, p))
def transposed(state, step, rows, depth, room):
    transpose(Matrix(state, step), rows, depth, Matrix(room, round_up(rows, lanes_of(state))))


@register_jitable
def as_columns(state, step, rows, depth, room):
    """These rows as columns, as `multiply` takes them."""
    if rows == 1:
        return Matrix(state, 1)
    transposed(state, step, rows, depth, room)
    return Matrix(room, round_up(rows, lanes_of(state)))


@by_symbol(lambda p: types.void(p, _N, _N, _N, p, _N, _N, p, _N, _N, p))
def multiply(left, left_step, rows, depth, packed, columns, width, out, step, start, bias):
    """out = left^T @ packed, of so many rows, added to what it starts from."""
    panel = _panel(depth, width, lanes_of(left))
    for j in range(0, columns, width):
        right = Matrix(advance(packed, j // width * panel), width)
        sums, count = Matrix(advance(out, j), step), min(width, columns - j)
        added = advance(bias, j) if start == BIAS else nowhere(bias)
        state = Matrix(left, left_step)
        tile(state, right, sums, depth, rows, count, start == OLD, added, 8 * width)
