"""The cells of recurrent layers: what becomes of a strip of rows, step by step, either way.

Where a row has ended its state stays, and its results are 0: what is written there by functions
that take all rows of a strip is overwritten.
"""

from numba import carray, njit, prange, types
from numba.extending import register_jitable

from ..catalog import SIGMOID, TANH
from .activation_rows import activate, differentiate
from .codegen.jit import INTERNAL
from .codegen.symbol import Numbered, loaded, stored
from .codegen.vectors import advance
from .gemm.macrokernel import strip_of
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
from .recurrent_steps import multiply, recurrence_type

RNN, LSTM, GRU, RNN_BACK, LSTM_BACK, GRU_BACK = range(6)


@register_jitable
def _position(r, k, backward):
    return r.steps - 1 - k if r.reverse != backward else k


@register_jitable
def _before(r, states, first, first_step, row, t):
    """Where the state before position t of a row stands; there is one at t."""
    if r.reverse:
        if t + 1 < carray(r.lengths, r.batch)[row]:
            return advance(states, (row * r.steps + t + 1) * r.units)
    elif t > 0:
        return advance(states, (row * r.steps + t - 1) * r.units)
    return advance(first, row * first_step)


@register_jitable
def _product(r, rows, at, columns, packed, out, step, added, bias, room):
    """Of the states of the strip and packed weights."""
    state = advance(r.state, at * r.units)
    multiply(
        *(state, r.units, rows, r.units, packed, columns, r.width, out, step, added, bias, room)
    )


@register_jitable
def _carry_back(r, rows, at, da, step, depth, room):
    """The gradients by the states before the step: += da R^T."""
    state = advance(r.state, at * r.units)
    multiply(*(da, step, rows, depth, r.right, r.units, r.width, state, r.units, 1, state, room))


def _rnn(elements, place, number):
    r = loaded(place)
    i, rows = strip_of(r.batch, number, r.strips)
    room, units, lengths = (
        advance(r.room, number * r.room_size),
        r.units,
        carray(r.lengths, r.batch),
    )
    step = r.steps * units
    for k in range(r.steps):
        t = _position(r, k, False)
        y = advance(r.y, (i * r.steps + t) * units)
        _product(r, rows, i, units, r.right, y, step, 1, y, room)
        activate(y, r.activation_id, step, y, step, y, rows, units)
        for n in range(rows):
            row = advance(y, n * step)
            if t < lengths[i + n]:
                copy(row, advance(r.state, (i + n) * units), units)
            else:
                clear(row, units)


def _lstm(elements, place, number):
    r = loaded(place)
    i, rows = strip_of(r.batch, number, r.strips)
    room, units, lengths = (
        advance(r.room, number * r.room_size),
        r.units,
        carray(r.lengths, r.batch),
    )
    step = r.steps * 4 * units
    for k in range(r.steps):
        t = _position(r, k, False)
        z = advance(r.gates, (i * r.steps + t) * 4 * units)
        _product(r, rows, i, 4 * units, r.right, z, step, 1, z, room)
        activate(z, SIGMOID, step, z, step, z, rows, 2 * units)
        g, o = advance(z, 2 * units), advance(z, 3 * units)
        activate(g, TANH, step, g, step, g, rows, units)
        activate(o, SIGMOID, step, o, step, o, rows, units)
        for n in range(rows):
            row = i + n
            at, gates = (row * r.steps + t) * units, advance(z, n * step)
            y, cells = advance(r.y, at), advance(r.cells, at)
            if t < lengths[row]:
                h, c = advance(r.state, row * units), advance(r.cell_state, row * units)
                lstm_row(gates, c, cells, h, y, units)
            else:
                clear(gates, 4 * units)
                clear(cells, units)
                clear(y, units)


def _gru(elements, place, number):
    r = loaded(place)
    i, rows = strip_of(r.batch, number, r.strips)
    room, units, lengths = (
        advance(r.room, number * r.room_size),
        r.units,
        carray(r.lengths, r.batch),
    )
    step = r.steps * 4 * units
    for k in range(r.steps):
        t = _position(r, k, False)
        z = advance(r.gates, (i * r.steps + t) * 4 * units)
        n_, m = advance(z, 2 * units), advance(z, 3 * units)
        _product(r, rows, i, 2 * units, r.right, z, step, 1, z, room)
        _product(r, rows, i, units, r.right_m, m, step, 0, r.bias_m, room)
        activate(z, SIGMOID, step, z, step, z, rows, 2 * units)
        for n in range(rows):
            gru_mix(advance(z, n * step), units)
        activate(n_, TANH, step, n_, step, n_, rows, units)
        for n in range(rows):
            row = i + n
            y, gates = advance(r.y, (row * r.steps + t) * units), advance(z, n * step)
            if t < lengths[row]:
                gru_row(gates, advance(r.state, row * units), y, units)
            else:
                clear(gates, 4 * units)
                clear(y, units)


def _rnn_back(elements, place, number):
    r = loaded(place)
    i, rows = strip_of(r.batch, number, r.strips)
    room, units, lengths = (
        advance(r.room, number * r.room_size),
        r.units,
        carray(r.lengths, r.batch),
    )
    step, d = r.steps * units, advance(r.state, i * units)
    for k in range(r.steps):
        t = _position(r, k, True)
        first = (i * r.steps + t) * units
        y, dz = advance(r.y, first), advance(r.dz, first)
        for n in range(rows):
            if t < lengths[i + n] and r.has_dy:
                add(advance(r.dy, first + n * step), advance(d, n * units), units)
        differentiate(d, r.activation_id, units, y, step, dz, step, d, rows, units)
        for n in range(rows):
            before = advance(r.before, first + n * step)
            if t < lengths[i + n]:
                copy(_before(r, r.y, r.first, r.first_step, i + n, t), before, units)
                clear(advance(d, n * units), units)
            else:
                clear(before, units)
                clear(advance(dz, n * step), units)
        _carry_back(r, rows, i, dz, step, units, room)


def _lstm_back(elements, place, number):
    r = loaded(place)
    i, rows = strip_of(r.batch, number, r.strips)
    room, units, lengths = (
        advance(r.room, number * r.room_size),
        r.units,
        carray(r.lengths, r.batch),
    )
    for k in range(r.steps):
        t = _position(r, k, True)
        for n in range(rows):
            row = i + n
            at = (row * r.steps + t) * units
            before, dz = advance(r.before, at), advance(r.dz, 4 * at)
            if t < lengths[row]:
                dh, dc = advance(r.state, row * units), advance(r.cell_state, row * units)
                if r.has_dy:
                    add(advance(r.dy, at), dh, units)
                copy(_before(r, r.y, r.first, r.first_step, row, t), before, units)
                c = _before(r, r.cells, r.first_cell, r.first_cell_step, row, t)
                gates, cells = advance(r.gates, 4 * at), advance(r.cells, at)
                lstm_gradient(gates, cells, c, dh, dc, dz, units)
            else:
                clear(before, units)
                clear(dz, 4 * units)
        dz = advance(r.dz, (i * r.steps + t) * 4 * units)
        _carry_back(r, rows, i, dz, r.steps * 4 * units, 4 * units, room)


def _gru_back(elements, place, number):
    r = loaded(place)
    i, rows = strip_of(r.batch, number, r.strips)
    room, units, lengths = (
        advance(r.room, number * r.room_size),
        r.units,
        carray(r.lengths, r.batch),
    )
    for k in range(r.steps):
        t = _position(r, k, True)
        for n in range(rows):
            row = i + n
            at = (row * r.steps + t) * units
            before, dz, da = advance(r.before, at), advance(r.dz, 3 * at), advance(r.da, 3 * at)
            if t < lengths[row]:
                dh, gates = advance(r.state, row * units), advance(r.gates, 4 * at)
                if r.has_dy:
                    add(advance(r.dy, at), dh, units)
                copy(_before(r, r.y, r.first, r.first_step, row, t), before, units)
                gru_gradient(gates, before, dh, dz, da, units)
                copy(dz, da, 2 * units)
            else:
                clear(before, units)
                clear(dz, 3 * units)
                clear(da, 3 * units)
        da = advance(r.da, (i * r.steps + t) * 3 * units)
        _carry_back(r, rows, i, da, r.steps * 3 * units, 3 * units, room)


strips = Numbered(
    "recurrent_strips",
    lambda p: types.void(p, types.CPointer(recurrence_type(p)), types.intp),
    {RNN: _rnn, LSTM: _lstm, GRU: _gru, RNN_BACK: _rnn_back, LSTM_BACK: _lstm_back,
     GRU_BACK: _gru_back},
)  # fmt: skip
_strip = strips.call


@njit(**INTERNAL, parallel=True)
def _shared(elements, kind, place, count):
    for number in prange(count):
        _strip(elements, kind, place, number)


@njit(**INTERNAL)
def run(kind, recurrence, threads):
    """All strips, by so many threads or one."""
    elements, place = recurrence.y, stored(recurrence)
    if threads > 1:
        _shared(elements, kind, place, recurrence.strips)
    else:
        for number in range(recurrence.strips):
            _strip(elements, kind, place, number)
