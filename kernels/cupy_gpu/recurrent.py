"""Recurrent layers on the GPU: all steps of a pass in one launch, and the dense layer's products of
all steps at once; equations as in reference/recurrent.py.

Lengths are on the GPU: whether they are in range is known when `synchronize` returns.
"""

from .. import arguments, recurrent
from ..catalog import ACTIVATIONS, IDENTITY
from . import dense
from .activations import column_sums, outputs
from .runtime import device


def rnn_forward(
    x, weight, recurrent, bias, h0=None, lengths=None, activation="tanh", *, reverse=False, out=None
):
    """(y, last)."""
    inputs = {"x": x, "weight": weight, "recurrent": recurrent, "bias": bias, "h0": h0}
    inputs |= {"lengths": lengths}
    activation_id = _activation(activation)
    sizes, (y, last) = _checked("rnn", inputs, reverse, out)
    _inputs(x, weight, bias, y)
    given = recurrent, h0, *_lengths(lengths), y, last, activation_id
    _launch("rnn_steps", sizes, reverse, *given)
    return y, last


def rnn_backward(dy, x, weight, recurrent, y, h0=None, lengths=None, dlast=None,
                 activation="tanh", *, reverse=False, out=None):  # fmt: skip
    """(dx, dweight, drecurrent, dbias, dh0)."""
    inputs = {"dy": dy, "x": x, "weight": weight, "recurrent": recurrent, "y": y, "h0": h0}
    inputs |= {"lengths": lengths, "dlast": dlast}
    activation_id = _activation(activation)
    sizes, results = _checked("rnn", inputs, reverse, out)
    dx, dweight, drecurrent, dbias, dh0 = results
    dz, before = device.empty(y.shape, y.dtype), device.empty(y.shape, y.dtype)
    given = recurrent, dy, y, h0, *_lengths(lengths), dlast, dz, before, dh0, activation_id
    _launch("rnn_steps_back", sizes, reverse, *given)
    _products(x, weight, before, dz, dz, dx, dweight, drecurrent)
    column_sums(_flat(dz), dbias)
    return results


def lstm_forward(x, weight, recurrent, bias, h0=None, c0=None, lengths=None, *, reverse=False,
                 out=None):  # fmt: skip
    """(y, last, last_cell, cells, gates)."""
    inputs = {"x": x, "weight": weight, "recurrent": recurrent, "bias": bias, "h0": h0, "c0": c0}
    sizes, results = _checked("lstm", inputs | {"lengths": lengths}, reverse, out)
    _inputs(x, weight, bias, results[-1])
    _launch("lstm_steps", sizes, reverse, recurrent, h0, c0, *_lengths(lengths), *results)
    return results


def lstm_backward(dy, x, weight, recurrent, y, cells, gates, h0=None, c0=None, lengths=None,
                  dlast=None, dlast_cell=None, *, reverse=False, out=None):  # fmt: skip
    """(dx, dweight, drecurrent, dbias, dh0, dc0)."""
    inputs = {"dy": dy, "x": x, "weight": weight, "recurrent": recurrent, "y": y, "cells": cells}
    inputs |= {"gates": gates, "h0": h0, "c0": c0, "lengths": lengths}
    inputs |= {"dlast": dlast, "dlast_cell": dlast_cell}
    sizes, results = _checked("lstm", inputs, reverse, out)
    dx, dweight, drecurrent, dbias, dh0, dc0 = results
    dz, before = device.empty(gates.shape, y.dtype), device.empty(y.shape, y.dtype)
    given = recurrent, dy, y, cells, gates, h0, c0, *_lengths(lengths), dlast, dlast_cell
    _launch("lstm_steps_back", sizes, reverse, *given, dz, before, dh0, dc0)
    _products(x, weight, before, dz, dz, dx, dweight, drecurrent)
    column_sums(_flat(dz), dbias)
    return results


def gru_forward(x, weight, recurrent, bias, h0=None, lengths=None, *, reverse=False, out=None):
    """(y, last, gates)."""
    inputs = {"x": x, "weight": weight, "recurrent": recurrent, "bias": bias, "h0": h0}
    sizes, results = _checked("gru", inputs | {"lengths": lengths}, reverse, out)
    columns = weight.shape[1]
    z = device.empty((sizes.batch, sizes.steps, columns), x.dtype)
    _inputs(x, weight, bias[:columns], z)
    given = z, recurrent, bias[columns:], h0, *_lengths(lengths), *results
    _launch("gru_steps", sizes, reverse, *given)
    return results


def gru_backward(dy, x, weight, recurrent, y, gates, h0=None, lengths=None, dlast=None, *,
                 reverse=False, out=None):  # fmt: skip
    """(dx, dweight, drecurrent, dbias, dh0)."""
    inputs = {"dy": dy, "x": x, "weight": weight, "recurrent": recurrent, "y": y, "gates": gates}
    inputs |= {"h0": h0, "lengths": lengths, "dlast": dlast}
    sizes, results = _checked("gru", inputs, reverse, out)
    dx, dweight, drecurrent, dbias, dh0 = results
    columns = weight.shape[1]
    dz, da = (device.empty((sizes.batch, sizes.steps, columns), y.dtype) for _ in range(2))
    dm, before = device.empty(y.shape, y.dtype), device.empty(y.shape, y.dtype)
    given = recurrent, dy, y, gates, h0, *_lengths(lengths), dlast, dz, da, dm, before, dh0
    _launch("gru_steps_back", sizes, reverse, *given)
    _products(x, weight, before, dz, da, dx, dweight, drecurrent)
    column_sums(_flat(dz), dbias[:columns])
    column_sums(_flat(dm), dbias[columns:])
    return results


def _activation(name):
    arguments.one_of("activation", name, recurrent.ACTIVATIONS)
    return ACTIVATIONS[name].id


def _checked(cell, inputs, reverse, out):
    """(sizes, the arrays of the results)."""
    sizes = recurrent.checked(cell, inputs, device.ndarray, reverse)
    shapes = (recurrent.gradients if "dy" in inputs else recurrent.results)(cell, sizes)
    return sizes, outputs(out, shapes, inputs["x"].dtype, inputs)


def _flat(array):
    """(batch, steps, n) as the rows of a matrix."""
    batch, steps, n = array.shape
    return array.reshape(batch * steps, n)


def _lengths(lengths):
    """Array, its elements' bytes, and where the kernels mark one out of range."""
    return lengths, 0 if lengths is None else lengths.itemsize, device.fault()


def _inputs(x, weight, bias, z):
    """z = x W + b of all steps."""
    dense.forward(_flat(x), weight, bias, IDENTITY, 0.0, None, _flat(z))


def _launch(kernel, sizes, reverse, *given):
    batch, steps, _, units = sizes
    device.launch(kernel, (batch,), *given, batch, steps, units, int(reverse))


def _products(x, weight, before, dz, da, dx, dweight, drecurrent):
    """The gradients by x and both weights, of all steps at once."""
    dense.input_gradient(_flat(dz), weight, _flat(dx))
    dense.weight_gradient(_flat(x), _flat(dz), dweight)
    dense.weight_gradient(_flat(before), _flat(da), drecurrent)
