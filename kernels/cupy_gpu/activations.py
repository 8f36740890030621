"""Activations and their derivatives on the GPU; equations as in reference/activations.py."""

from functools import lru_cache

import numpy as np

from .. import arguments
from ..catalog import SCALED_ELU
from .runtime import device
from .runtime.table import chunks

PAIRS = 64  # that are kept on the GPU for the next call
RESULTS = tuple(f"out[{k}]" for k in range(6))  # the names of results given as a tuple


def activation_forward(z, activation, alpha=None, *, out=None):
    """y = act(z), elementwise. `out` may be z."""
    arguments.floating("z", z, device.ndarray, 2)
    activation_id, slope, slopes = parameter(activation, alpha, z.shape[1], z.dtype)
    y = output(out, z.shape, z.dtype, {"z": z, "alpha": slopes}, ("z",))
    forward(z, activation_id, slope, slopes, y)
    return y


def parameter(activation, alpha, units, dtype):
    """(id, slope, slopes) of the activation; slopes are on the GPU."""
    given = arguments.activation(activation, alpha, units, device.ndarray, dtype)
    if given[0] != SCALED_ELU:
        return given
    return SCALED_ELU, 0.0, _there(given[2].tobytes(), dtype)


@lru_cache(PAIRS)
def _there(pair, dtype):
    return device.asarray(np.frombuffer(pair, dtype))


def forward(z, activation_id, slope, slopes, y):
    """y = act(z), on arguments that have been checked."""
    device.launch(
        "activation_forward", (z.size,), activation_id, z, slopes, y, slope, z.size, z.shape[1]
    )


def activation_backward(dy, saved, activation, alpha=None, *, out=None):
    """dz = dy act'(z); for prelu (dz, dalpha). dz may replace dy or saved."""
    arguments.floating("dy", dy, device.ndarray, 2)
    arguments.array("saved", saved, device.ndarray, dy.dtype, dy.shape)
    units, dtype = dy.shape[1], dy.dtype
    activation_id, slope, slopes = parameter(activation, alpha, units, dtype)
    inputs = {"dy": dy, "saved": saved, "alpha": slopes}
    if activation == "prelu":
        may_replace = [("out[0]", "dy"), ("out[0]", "saved")]
        dz, dalpha = outputs(out, [dy.shape, (units,)], dtype, inputs, may_replace)
        prelu_backward_sums(dy, saved, slopes, dz, device.empty(units, dtype), dalpha)
        return dz, dalpha
    dz = output(out, dy.shape, dtype, inputs, ("dy", "saved"))
    device.launch(
        "activation_backward",
        (dy.size,),
        activation_id,
        dy,
        saved,
        slopes,
        dz,
        slope,
        dy.size,
        units,
    )
    return dz


def prelu_backward_sums(dy, z, slopes, dz, dbias, dalpha):
    """dz = dy act'(z), dbias = sum over the batch of dz, dalpha = that of dy min(0, z)."""
    rows, units = dy.shape
    count, dz_sums = column_partials(dbias, rows, units)
    _, slope_sums = column_partials(dalpha, rows, units)
    given = dy, z, slopes, dz, dz_sums, slope_sums, rows, units
    device.launch("prelu_backward_sums", (units, count), *given)
    finish_columns(dz_sums, dbias)
    finish_columns(slope_sums, dalpha)


def backward_sums(dy, saved, activation_id, slope, slopes, dz, dbias):
    """dz = dy act'(z), dbias = sum over the batch of dz."""
    rows, units = dy.shape
    count, sums = column_partials(dbias, rows, units)
    given = activation_id, dy, saved, slopes, dz, sums, slope, rows, units
    device.launch("activation_backward_sums", (units, count), *given)
    finish_columns(sums, dbias)


def column_sums(x, out):
    """The sum of each column of x."""
    rows, units = x.shape
    count, sums = column_partials(out, rows, units)
    device.launch("column_sums", (units, count), x, sums, rows, units)
    finish_columns(sums, out)


def column_partials(out, rows, units):
    """The blocks of a column, and where they leave their sums: one leaves it in `out` itself."""
    count = chunks(rows, units)
    return count, out if count == 1 else device.empty((count, units), out.dtype)


def finish_columns(sums, out):
    """Adds up what the blocks have left."""
    if sums is not out:
        column_sums(sums, out)


def output(out, shape, dtype, inputs, may_replace=()):
    """`out`, checked, or a new array; it may be one of the `inputs` of these names."""
    if out is None:
        return device.empty(shape, dtype)
    arguments.written("out", out, device.ndarray, dtype, shape)
    arguments.disjoint({"out": out}, inputs, [("out", name) for name in may_replace])
    return out


def outputs(out, shapes, dtype, inputs, may_replace=()):
    """The arrays of the tuple `out`, checked, or new ones; may_replace as in_place of disjoint."""
    if out is None:
        return tuple(device.empty(shape, dtype) for shape in shapes)
    arguments.several("out", out, len(shapes))
    named = dict(zip(RESULTS, out, strict=False))
    for (name, array), shape in zip(named.items(), shapes, strict=True):
        arguments.written(name, array, device.ndarray, dtype, shape)
    arguments.disjoint(named, inputs, may_replace)
    return tuple(out)
