"""The cells of recurrent layers: what becomes of a strip of rows, step by step, either way.

Where a row has ended its state stays, and its results are 0: what is written there by functions
that take all rows of a strip is overwritten.
"""

from numba import carray, njit, prange, types

from ..catalog import SIGMOID, TANH
from .activation_rows import activate, differentiate
from .codegen.inlined import register_jitable
from .codegen.jit import INTERNAL, named
from .codegen.symbol import Numbered, loaded, stored
from .codegen.vectors import Matrix, advance
from .gemm.macrokernel import strip_of
from .gemm.packing import fetch
from .recurrent_rows import (
    add,
    clear,
    copy,
    gru_gradient,
    gru_mix,
    gru_row,
    lstm_gradient,
    lstm_row,
)
from .recurrent_steps import BIAS, NOTHING, OLD, as_columns, multiply, recurrence_type

RNN, LSTM, GRU, RNN_BACK, LSTM_BACK, GRU_BACK = range(6)


@register_jitable
def _runs(r, row, t):
    """Whether the row has a position t."""
    return t < carray(r.lengths, r.batch)[row]


@register_jitable
def _before(r, states, first, first_step, row, t):
    """Where the state before position t of a row stands; there is one at t."""
    if r.reverse:
        if t + 1 < carray(r.lengths, r.batch)[row]:
            return advance(states, (row * r.steps + t + 1) * r.units)
    elif t > 0:
        return advance(states, (row * r.steps + t - 1) * r.units)
    return advance(first, row * first_step)


def _through_time(step, backward):
    """What takes a strip through steps by step(r, i, rows, k, t, room): its rows from i on."""
    step = register_jitable(step)

    def strip(elements, place, number):
        r = loaded(place)
        i, rows = strip_of(r.batch, number, r.strips)
        room = advance(r.room, number * r.room_size)
        for k in range(r.begin, r.end):
            t = r.steps - 1 - k if r.reverse != backward else k
            step(r, i, rows, k, t, room)

    return named(strip, step.__name__)


# Forward: z, which holds x W + b, and what a cell makes of it.


@register_jitable
def _state(r, i, rows, room):
    return as_columns(advance(r.state, i * r.units), r.units, rows, r.units, room)


@register_jitable
def _product(r, left, rows, columns, packed, out, step, start, bias):
    """Of the states of the strip and packed weights."""
    multiply(
        *(left.data, left.step, rows, r.units, packed, columns, r.width, out, step, start, bias)
    )


def _rnn(r, i, rows, k, t, room):
    units, step = r.units, r.steps * r.units
    y = advance(r.y, (i * r.steps + t) * units)
    _product(r, _state(r, i, rows, room), rows, units, r.right, y, step, OLD, y)
    activate(y, r.activation_id, step, y, step, y, rows, units)
    for n in range(rows):
        row = advance(y, n * step)
        if _runs(r, i + n, t):
            copy(row, advance(r.state, (i + n) * units), units)
        else:
            clear(row, units)


def _lstm(r, i, rows, k, t, room):
    units, step = r.units, r.steps * 4 * r.units
    z = advance(r.gates, (i * r.steps + t) * 4 * units)
    _product(r, _state(r, i, rows, room), rows, 4 * units, r.right, z, step, OLD, z)
    activate(z, SIGMOID, step, z, step, z, rows, 2 * units)
    g, o = advance(z, 2 * units), advance(z, 3 * units)
    activate(g, TANH, step, g, step, g, rows, units)
    activate(o, SIGMOID, step, o, step, o, rows, units)
    for n in range(rows):
        row = i + n
        at, gates = (row * r.steps + t) * units, advance(z, n * step)
        y, cells = advance(r.y, at), advance(r.cells, at)
        if _runs(r, row, t):
            h, c = advance(r.state, row * units), advance(r.cell_state, row * units)
            lstm_row(gates, c, cells, h, y, units)
        else:
            clear(gates, 4 * units)
            clear(cells, units)
            clear(y, units)


def _gru(r, i, rows, k, t, room):
    units, step = r.units, r.steps * 4 * r.units
    z = advance(r.gates, (i * r.steps + t) * 4 * units)
    n_, m = advance(z, 2 * units), advance(z, 3 * units)
    left = _state(r, i, rows, room)
    _product(r, left, rows, 2 * units, r.right, z, step, OLD, z)
    _product(r, left, rows, units, r.right_more, m, step, BIAS, r.bias_m)
    activate(z, SIGMOID, step, z, step, z, rows, 2 * units)
    for n in range(rows):
        gru_mix(advance(z, n * step), units)
    activate(n_, TANH, step, n_, step, n_, rows, units)
    for n in range(rows):
        row = i + n
        y, gates = advance(r.y, (row * r.steps + t) * units), advance(z, n * step)
        if _runs(r, row, t):
            gru_row(gates, advance(r.state, row * units), y, units)
        else:
            clear(gates, 4 * units)
            clear(y, units)


# Backward: dz of every row, and what R^T makes of it.


@register_jitable
def _fetch(r, row, t, saved):
    """What the next step will read comes near while products are taken; h and c are further on."""
    if 0 <= t < r.steps:
        at = (row * r.steps + t) * r.units
        before = at + (r.units if r.reverse else -r.units)
        fetch(Matrix(advance(r.gates, saved * at), 0), saved * r.units)
        for array, place in ((r.dy, at), (r.y, before), (r.cells, before)):
            fetch(Matrix(advance(array, place), 0), r.units)


def _back(gradient, saved):
    """The step whose dz of a row that has one is gradient(r, row, t, h before it, dh, dz, da), from
    so many saved gates.
    """
    gradient = register_jitable(gradient)

    def step(r, i, rows, k, t, room):
        units, columns, features = r.units, r.columns, r.features
        # In the order of steps where what is written serves them alone, else in that of x.
        each, first = (1, (k - r.begin) * r.batch) if r.gives_dx else (r.steps, t)
        for n in range(rows):
            row, place = i + n, first + (i + n) * each
            before, dh = advance(r.before, place * r.before_step), advance(r.state, row * units)
            dz, da = advance(r.dz, place * r.dz_step), advance(r.da, place * r.dz_step)
            if _runs(r, row, t):
                if r.has_dy:
                    add(advance(r.dy, (row * r.steps + t) * units), dh, units)
                copy(_before(r, r.y, r.first, r.first_step, row, t), before, units)
                gradient(r, row, t, before, dh, dz, da)
            else:
                clear(before, units)
                clear(dz, columns)
                clear(da, columns)
            _fetch(r, row, t + 1 if r.reverse else t - 1, saved)
            if r.gives_dx:
                x = advance(r.x, (row * r.steps + t) * features)
                copy(x, advance(r.inputs, place * r.before_step), features)
        first = (first + i * each) * r.dz_step
        left = as_columns(advance(r.da, first), each * r.dz_step, rows, columns, room)
        dh = advance(r.state, i * units)
        _product_back(r, left, rows, r.right, units, dh, units, OLD)
        if r.gives_dx:
            if r.has_da:
                left = as_columns(advance(r.dz, first), each * r.dz_step, rows, columns, room)
            dx = advance(r.dx, (i * r.steps + t) * features)
            _product_back(r, left, rows, r.right_more, features, dx, r.steps * features, NOTHING)

    return named(step, gradient.__name__)


@register_jitable
def _product_back(r, left, rows, packed, columns, out, step, start):
    multiply(
        *(left.data, left.step, rows, r.columns, packed, columns, r.width, out, step, start, out)
    )


def _rnn_back(r, row, t, before, dh, dz, da):
    units, y = r.units, advance(r.y, (row * r.steps + t) * r.units)
    differentiate(dh, r.activation_id, units, y, units, dz, units, dh, 1, units)
    clear(dh, units)


def _lstm_back(r, row, t, before, dh, dz, da):
    at = (row * r.steps + t) * r.units
    c = _before(r, r.cells, r.first_cell, r.first_cell_step, row, t)
    gates, cells = advance(r.gates, 4 * at), advance(r.cells, at)
    lstm_gradient(gates, cells, c, dh, advance(r.cell_state, row * r.units), dz, r.units)


def _gru_back(r, row, t, before, dh, dz, da):
    gates = advance(r.gates, (row * r.steps + t) * 4 * r.units)
    gru_gradient(gates, before, dh, dz, da, r.units)
    copy(dz, da, 2 * r.units)


_FORWARD = {RNN: _rnn, LSTM: _lstm, GRU: _gru}
_BACKWARD = {RNN_BACK: (_rnn_back, 0), LSTM_BACK: (_lstm_back, 4), GRU_BACK: (_gru_back, 4)}
strips = Numbered(
    "recurrent_strips",
    lambda p: types.void(p, types.CPointer(recurrence_type(p)), types.intp),
    {number: _through_time(step, False) for number, step in _FORWARD.items()}
    | {number: _through_time(_back(*of_row), True) for number, of_row in _BACKWARD.items()},
)
_strip = strips.call


@njit(**INTERNAL, parallel=True)
def _shared(elements, kind, place, count):
    for number in prange(count):
        _strip(elements, kind, place, number)


@njit(**INTERNAL)
def run(kind, recurrence, threads):
    """These steps of all strips, by so many threads or one."""
    elements, place = recurrence.y, stored(recurrence)
    if threads > 1:
        _shared(elements, kind, place, recurrence.strips)
    else:
        for number in range(recurrence.strips):
            _strip(elements, kind, place, number)
