"""Recurrent layers for the CPU: one product for the inputs of all steps, the steps by strips of the
batch, and products for the gradients of many steps at once (recurrent_passes.py).
"""

from functools import cache

import numpy as np
from numba import types

from .. import arguments, recurrent
from ..catalog import ACTIVATIONS, IDENTITY, SIGMOID, TANH
from . import gemm
from .activation_rows import activations, derivatives
from .codegen import symbol
from .codegen.shortcut import read, shortcut, writable, written
from .recurrent_cells import GRU, GRU_BACK, LSTM, LSTM_BACK, RNN, RNN_BACK, strips
from .recurrent_gradients import add_tiles
from .recurrent_passes import backward_pass, begin, forward_pass
from .recurrent_steps import multiply, pack, transposed

_LENGTHS = np.dtype("int64")


# What Python calls. Everything is checked by then: the checks cost little beside the steps. Arrays
# that are not given are empty.


@shortcut(read(3), read(2), read(2), read(1), read(2), read(1, 1), types.boolean, types.intp,
          written(3), written(2))  # fmt: skip
def _rnn_forward(x, weight, matrix, bias, h0, lengths, reverse, activation_id, y, last):
    begin(last, h0)
    given = writable(x), writable(weight), writable(matrix), writable(bias), writable(lengths)
    forward_pass(RNN, *given, reverse, activation_id, y, y, y, last, last)
    return True


@shortcut(read(3), read(2), read(2), read(1), read(2), read(2), read(1, 1), types.boolean,
          written(3), written(2), written(2), written(3), written(3))  # fmt: skip
def _lstm_forward(
    x, weight, matrix, bias, h0, c0, lengths, reverse, y, last, last_cell, cells, gates
):
    begin(last, h0)
    begin(last_cell, c0)
    given = writable(x), writable(weight), writable(matrix), writable(bias), writable(lengths)
    forward_pass(LSTM, *given, reverse, TANH, y, gates, cells, last, last_cell)
    return True


@shortcut(read(3), read(2), read(2), read(1), read(2), read(1, 1), types.boolean, written(3),
          written(2), written(3))  # fmt: skip
def _gru_forward(x, weight, matrix, bias, h0, lengths, reverse, y, last, gates):
    begin(last, h0)
    given = writable(x), writable(weight), writable(matrix), writable(bias), writable(lengths)
    forward_pass(GRU, *given, reverse, TANH, y, gates, y, last, last)
    return True


@shortcut(read(3), read(3), read(2), read(2), read(3), read(2), read(1, 1), read(2), types.boolean,
          types.intp, written(3), written(2), written(2), written(1), written(2))  # fmt: skip
def _rnn_backward(dy, x, weight, matrix, y, h0, lengths, dlast, reverse, activation_id, dx,
                  dweight, dmatrix, dbias, dh0):  # fmt: skip
    begin(dh0, dlast)
    y, h0 = writable(y), writable(h0)
    given = writable(dy), writable(x), writable(weight), writable(matrix), y, y, y, h0, h0
    results = dx, dweight, dmatrix, dbias, dh0, dh0
    backward_pass(RNN_BACK, *given, writable(lengths), reverse, activation_id, *results)
    return True


@shortcut(*[read(3)] * 2, *[read(2)] * 2, *[read(3)] * 3, *[read(2)] * 2, read(1, 1), read(2),
          read(2), types.boolean, written(3), written(2), written(2), written(1), written(2),
          written(2))  # fmt: skip
def _lstm_backward(dy, x, weight, matrix, y, cells, gates, h0, c0, lengths, dlast, dlast_cell,
                   reverse, dx, dweight, dmatrix, dbias, dh0, dc0):  # fmt: skip
    begin(dh0, dlast)
    begin(dc0, dlast_cell)
    given = writable(dy), writable(x), writable(weight), writable(matrix), writable(y)
    saved = writable(cells), writable(gates), writable(h0), writable(c0), writable(lengths)
    backward_pass(LSTM_BACK, *given, *saved, reverse, TANH, dx, dweight, dmatrix, dbias, dh0, dc0)
    return True


@shortcut(*[read(3)] * 2, *[read(2)] * 2, *[read(3)] * 2, read(2), read(1, 1), read(2),
          types.boolean, written(3), written(2), written(2), written(1), written(2))  # fmt: skip
def _gru_backward(dy, x, weight, matrix, y, gates, h0, lengths, dlast, reverse, dx, dweight,
                  dmatrix, dbias, dh0):  # fmt: skip
    begin(dh0, dlast)
    y, h0 = writable(y), writable(h0)
    given = writable(dy), writable(x), writable(weight), writable(matrix), y, y, writable(gates)
    results = dx, dweight, dmatrix, dbias, dh0, dh0
    backward_pass(GRU_BACK, *given, h0, h0, writable(lengths), reverse, TANH, *results)
    return True


def rnn_forward(
    x, weight, recurrent, bias, h0=None, lengths=None, activation="tanh", *, reverse=False, out=None
):
    """(y, last); see reference.rnn_forward."""
    inputs = {"x": x, "weight": weight, "recurrent": recurrent, "bias": bias, "h0": h0}
    activation_id = _activation(activation)
    return _call("rnn", _rnn_forward, RNN, inputs, lengths, reverse, out, activation_id)


def rnn_backward(dy, x, weight, recurrent, y, h0=None, lengths=None, dlast=None,
                 activation="tanh", *, reverse=False, out=None):  # fmt: skip
    """(dx, dweight, drecurrent, dbias, dh0); see reference.rnn_backward."""
    inputs = {"dy": dy, "x": x, "weight": weight, "recurrent": recurrent, "y": y, "h0": h0}
    inputs |= {"lengths": lengths, "dlast": dlast}
    activation_id = _activation(activation)
    return _call("rnn", _rnn_backward, RNN_BACK, inputs, lengths, reverse, out, activation_id)


def lstm_forward(x, weight, recurrent, bias, h0=None, c0=None, lengths=None, *, reverse=False,
                 out=None):  # fmt: skip
    """(y, last, last_cell, cells, gates); see reference.lstm_forward."""
    inputs = {"x": x, "weight": weight, "recurrent": recurrent, "bias": bias, "h0": h0, "c0": c0}
    return _call("lstm", _lstm_forward, LSTM, inputs, lengths, reverse, out)


def lstm_backward(dy, x, weight, recurrent, y, cells, gates, h0=None, c0=None, lengths=None,
                  dlast=None, dlast_cell=None, *, reverse=False, out=None):  # fmt: skip
    """(dx, dweight, drecurrent, dbias, dh0, dc0); see reference.lstm_backward."""
    inputs = {"dy": dy, "x": x, "weight": weight, "recurrent": recurrent, "y": y, "cells": cells}
    inputs |= {"gates": gates, "h0": h0, "c0": c0, "lengths": lengths}
    inputs |= {"dlast": dlast, "dlast_cell": dlast_cell}
    return _call("lstm", _lstm_backward, LSTM_BACK, inputs, lengths, reverse, out)


def gru_forward(x, weight, recurrent, bias, h0=None, lengths=None, *, reverse=False, out=None):
    """(y, last, gates); see reference.gru_forward."""
    inputs = {"x": x, "weight": weight, "recurrent": recurrent, "bias": bias, "h0": h0}
    return _call("gru", _gru_forward, GRU, inputs, lengths, reverse, out)


def gru_backward(dy, x, weight, recurrent, y, gates, h0=None, lengths=None, dlast=None, *,
                 reverse=False, out=None):  # fmt: skip
    """(dx, dweight, drecurrent, dbias, dh0); see reference.gru_backward."""
    inputs = {"dy": dy, "x": x, "weight": weight, "recurrent": recurrent, "y": y, "gates": gates}
    inputs |= {"h0": h0, "lengths": lengths, "dlast": dlast}
    return _call("gru", _gru_backward, GRU_BACK, inputs, lengths, reverse, out)


def _activation(name):
    arguments.one_of("activation", name, recurrent.ACTIVATIONS)
    return ACTIVATIONS[name].id


_DIMENSIONS = {"dy": 3, "h0": 2, "c0": 2, "dlast": 2, "dlast_cell": 2}  # of what may not be given


def _call(cell, compiled, kind, inputs, lengths, reverse, out, activation_id=None):
    """Checks these inputs by name, in the order in which `compiled` takes them, and calls it."""
    inputs |= {"lengths": lengths}
    sizes = recurrent.checked(cell, inputs, np.ndarray, reverse)
    if lengths is None:
        lengths = np.full(sizes.batch, sizes.steps)
    elif lengths.min() < 1 or lengths.max() > sizes.steps:
        raise recurrent.out_of_range(sizes.steps)
    dtype = inputs["x"].dtype
    shapes = (recurrent.gradients if "dy" in inputs else recurrent.results)(cell, sizes)
    out = arguments.outputs(out, shapes, dtype, inputs)
    given = {
        name: np.empty((0,) * _DIMENSIONS[name], dtype) if array is None else array
        for name, array in (inputs | {"lengths": lengths.astype(_LENGTHS, copy=False)}).items()
    }
    _ready(dtype, kind, *_one(activation_id))
    compiled.ready(dtype, _LENGTHS)
    compiled(*given.values(), bool(reverse), *_one(activation_id), *out)
    return out


@cache
def _ready(dtype, kind, *activation_ids):
    """Compiles what the passes of a kind of cell call."""
    gemm.ready(dtype)
    activations.ready(dtype, IDENTITY, SIGMOID, TANH, *activation_ids)
    derivatives.ready(dtype, IDENTITY, *activation_ids)
    symbol.ready(dtype, pack, transposed, multiply, add_tiles)
    strips.ready(dtype, kind)


def _one(activation_id):
    return () if activation_id is None else (activation_id,)
