"""The step of a network with normalisation, maxout, dropout or skips: its program, run; see
kernels/network/program.py. A row of its table tells an operation's kind, its layer's size and where
in memory its arrays begin; each kind is compiled when a network first has it.
"""

import numpy as np
from numba import carray, prange, types

from ...catalog import FIRST_DROPOUT, IDENTITY, SLOPES
from ...network.program import KINDS, MOST_ARRAYS
from .. import gemm
from ..activation_rows import backward, forward, slope_gradient
from ..codegen.inlined import register_jitable
from ..codegen.jit import chunk, chunks, kernel, named, serial, threaded
from ..codegen.symbol import Numbered
from ..codegen.vectors import advance, location, no_rows
from ..column_moments import (
    columns_gradient,
    inference_scale,
    keep_running,
    normalize_columns,
    scale_columns,
)
from ..dropout import drop_all
from ..maxout import largest, winners
from ..row_moments import normalize_rows, rows_gradient
from .plan import (
    ACTIVATION,
    CLIP_NORM,
    DROPOUT,
    FAN_IN,
    FAN_OUT,
    FOUND,
    INFERRED,
    INPUT,
    INTEGERS,
    OPERATIONS,
    REALS,
    SEED,
    STEPS,
    TRAINED,
    WORKSPACE,
    WORKSPACE_SIZE,
    N,
    loss_part,
    matrix,
    vector,
)
from .update import clipped_update, count_step, finish_all

# Columns of a program's table besides those of a layer's size and activation, which stand where
# they do in `layers`, FAN_OUT with all pieces of its UNITS; NOWHERE: of an array that there is not.
KIND, LAYER, UNITS, ARRAYS = range(ACTIVATION + 1, ACTIVATION + 5)
OPERATION_COLUMNS, NOWHERE = ARRAYS + MOST_ARRAYS, -1
EPS, MOMENTUM = 1e-5, 0.1  # the defaults


@register_jitable
def _of_batch(memory, op, k, rows):
    """Array k of an operation, (rows, units), the pieces of maxout counted as units."""
    return matrix(memory, op[ARRAYS + k], rows, op[FAN_OUT])


@register_jitable
def _of_outputs(memory, op, k, rows):
    """Array k of an operation on what a layer makes of its pieces."""
    return matrix(memory, op[ARRAYS + k], rows, op[UNITS])


@register_jitable
def _of_pieces(memory, op, k, rows):
    """Array k of an operation, (rows, pieces, units)."""
    shape = rows, op[FAN_OUT] // op[UNITS], op[UNITS]
    return carray(advance(memory, op[ARRAYS + k]), shape)


@register_jitable
def _of_units(memory, op, k):
    """Array k of an operation, (units,)."""
    return vector(memory, op[ARRAYS + k], op[FAN_OUT])


@register_jitable
def _workspace(memory, plan):
    return advance(memory, plan[WORKSPACE]), plan[WORKSPACE_SIZE]


def _product(memory, op, layers, count, plan, settings, labels, rows):
    x = matrix(memory, op[ARRAYS], rows, op[FAN_IN])
    weight, bias = matrix(memory, op[ARRAYS + 1], op[FAN_IN], op[FAN_OUT]), _of_units(memory, op, 2)
    y = _of_batch(memory, op, 3, rows)
    gemm.compute(
        gemm.forward_product(x, weight, bias, IDENTITY, bias, y, *_workspace(memory, plan))
    )


def _product_backward(memory, op, layers, count, plan, settings, labels, rows):
    dy, x = _of_batch(memory, op, 0, rows), matrix(memory, op[ARRAYS + 1], rows, op[FAN_IN])
    weight, dweight = (
        matrix(memory, op[ARRAYS + 2], op[FAN_IN], op[FAN_OUT]),
        matrix(memory, op[ARRAYS + 3], op[FAN_IN], op[FAN_OUT]),
    )
    dbias, space = _of_units(memory, op, 4), _workspace(memory, plan)
    gemm.compute(gemm.weight_product(dy, x, dy, IDENTITY, dbias, dweight, dbias, *space))
    if op[ARRAYS + 5] != NOWHERE:
        dx = matrix(memory, op[ARRAYS + 5], rows, op[FAN_IN])
        gemm.compute(gemm.input_product(dy, weight, dy, IDENTITY, dbias, dx, *space))


def _batch_norm(memory, op, layers, count, plan, settings, labels, rows):
    x, y = _of_batch(memory, op, 0, rows), _of_batch(memory, op, 5, rows)
    gamma, beta = _of_units(memory, op, 1), _of_units(memory, op, 2)
    mean, rstd = _of_units(memory, op, 6), _of_units(memory, op, 7)
    variance = np.empty(op[FAN_OUT])
    normalize_columns(x, gamma, beta, EPS, no_rows(beta), y, mean, variance, rstd)
    running = _of_units(memory, op, 3), _of_units(memory, op, 4)
    keep_running(mean, variance, rows, MOMENTUM, *running)


def _batch_norm_inference(memory, op, layers, count, plan, settings, labels, rows):
    x, y = _of_batch(memory, op, 0, rows), _of_batch(memory, op, 5, rows)
    scale = inference_scale(_of_units(memory, op, 1), _of_units(memory, op, 4), EPS)
    given = _of_units(memory, op, 3), scale, _of_units(memory, op, 2)
    scale_columns(x, *given, no_rows(given[-1]), y)


def _batch_norm_backward(memory, op, layers, count, plan, settings, labels, rows):
    given = _of_batch(memory, op, 0, rows), _of_batch(memory, op, 1, rows), _of_units(memory, op, 2)
    moments = _of_units(memory, op, 3), _of_units(memory, op, 4)
    dx = _of_batch(memory, op, 5, rows)
    columns_gradient(*given, *moments, dx, _of_units(memory, op, 6), _of_units(memory, op, 7))


def _layer_norm(memory, op, layers, count, plan, settings, labels, rows):
    x, y = _of_batch(memory, op, 0, rows), _of_batch(memory, op, 3, rows)
    moments = vector(memory, op[ARRAYS + 4], rows), vector(memory, op[ARRAYS + 5], rows)
    gamma, beta = _of_units(memory, op, 1), _of_units(memory, op, 2)
    normalize_rows(x, gamma, beta, EPS, no_rows(beta), y, *moments)


def _layer_norm_backward(memory, op, layers, count, plan, settings, labels, rows):
    given = _of_batch(memory, op, 0, rows), _of_batch(memory, op, 1, rows), _of_units(memory, op, 2)
    moments = vector(memory, op[ARRAYS + 3], rows), vector(memory, op[ARRAYS + 4], rows)
    dx = _of_batch(memory, op, 5, rows)
    rows_gradient(*given, *moments, dx, _of_units(memory, op, 6), _of_units(memory, op, 7))


def _activation(memory, op, layers, count, plan, settings, labels, rows):
    x, y = _of_batch(memory, op, 0, rows), _of_batch(memory, op, 2, rows)
    forward(op[ACTIVATION], x, _of_units(memory, op, 1), y)


def _activation_backward(memory, op, layers, count, plan, settings, labels, rows):
    dy, saved = _of_batch(memory, op, 0, rows), _of_batch(memory, op, 1, rows)
    alpha, dx = _of_units(memory, op, 2), _of_batch(memory, op, 3, rows)
    if op[ACTIVATION] == SLOPES:
        slope_gradient(dy, saved, _of_units(memory, op, 4))
    backward(op[ACTIVATION], dy, saved, alpha, dx)


def _maxout(memory, op, layers, count, plan, settings, labels, rows):
    largest(_of_pieces(memory, op, 0, rows), _of_outputs(memory, op, 1, rows))


def _maxout_backward(memory, op, layers, count, plan, settings, labels, rows):
    x, dx = _of_pieces(memory, op, 1, rows), _of_pieces(memory, op, 2, rows)
    winners(_of_outputs(memory, op, 0, rows), x, dx)


def _dropout(memory, op, layers, count, plan, settings, labels, rows):
    x, y = _of_outputs(memory, op, 0, rows), _of_outputs(memory, op, 1, rows)
    stream, step = np.uint64(FIRST_DROPOUT + op[LAYER]), np.uint64(plan[STEPS] + 1)
    drop_all(x, settings[DROPOUT], np.uint64(plan[SEED]), stream, step, y)


@kernel
def _add_part(x, skip, y):
    if location(x) == location(y):
        for i in range(y.size):
            y[i] += skip[i]
    else:
        for i in range(y.size):
            y[i] = x[i] + skip[i]


@threaded
def _add_all(x, skip, y):
    if serial(y.size):
        _add_part(x, skip, y)
    else:
        for c in prange(chunks(y.size)):
            part = chunk(c, y.size)
            _add_part(x[part], skip[part], y[part])


def _add(memory, op, layers, count, plan, settings, labels, rows):
    """Of the outputs of a layer forward, of its inputs backward: both are as wide."""
    size = rows * op[UNITS]
    x, skip = vector(memory, op[ARRAYS], size), vector(memory, op[ARRAYS + 1], size)
    _add_all(x, skip, vector(memory, op[ARRAYS + 2], size))


def _loss(memory, op, layers, count, plan, settings, labels, rows):
    given = memory, layers, count, plan, settings, labels, 0, rows, rows
    settings[FOUND] = loss_part(*given)


IDS = {kind: number for number, kind in enumerate(KINDS)}
_FUNCTIONS = {number: named(globals()[f"_{kind}"], "operation") for kind, number in IDS.items()}
operations = Numbered(
    "operations",
    lambda p: types.void(p, INTEGERS, INTEGERS, N, INTEGERS, REALS, INTEGERS, N),
    _FUNCTIONS,
)
_run = operations.call


@register_jitable
def _run_all(memory, first, last, layers, count, plan, settings, x, labels, rows):
    """Operations first ... last - 1 of the program, on the rows of x."""
    size = rows * layers[FAN_IN]
    given, input_rows = carray(x, size), vector(memory, plan[INPUT], size)
    if location(given) != location(input_rows):
        for i in range(size):
            input_rows[i] = given[i]
    for k in range(first, last):
        op = advance(plan, OPERATIONS + k * OPERATION_COLUMNS)
        _run(memory, op[KIND], op, layers, count, plan, settings, labels, rows)


@kernel
def program_step(memory, layers, count, plan, settings, x, labels, batch):
    last = plan[TRAINED]
    _run_all(memory, 0, last, layers, count, plan, settings, x, labels, batch)
    count_step(plan, settings)
    finish_all(memory, plan, settings)
    if settings[CLIP_NORM] > 0:
        clipped_update(memory, plan, settings)
    return settings[FOUND]


@kernel
def program_inference(memory, layers, count, plan, settings, x, labels, batch):
    first = plan[TRAINED]
    last = first + plan[INFERRED]
    _run_all(memory, first, last, layers, count, plan, settings, x, labels, batch)
