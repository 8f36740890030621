"""Activations for the CPU: their functions, checked; loops and threads are those of the rows."""

import numpy as np
from numba import carray, types

from .. import arguments
from ..catalog import SLOPES
from .activation_rows import activations, backward, derivatives, forward, slope_gradient
from .codegen.shortcut import disjoint, in_place, read, shortcut, span, writable, written
from .codegen.symbol import stored
from .codegen.vectors import address

is_activation_known, is_derivative_known = activations.known, derivatives.known


@shortcut(read(2), types.intp, types.float64, written(2))
def _forward_call(z, activation_id, slope, y):
    fits = z.shape == y.shape and in_place(span(y), span(z))
    fits = fits and is_activation_known(address(y), activation_id)
    if fits:
        forward(activation_id, writable(z), carray(stored(y.dtype.type(slope)), 1), y)
    return fits


@shortcut(read(2), read(1), written(2))
def _forward_slopes(z, alpha, y):
    fits = z.shape == y.shape and alpha.size == y.shape[1] and in_place(span(y), span(z))
    fits = fits and disjoint((span(y),), (span(alpha),))
    if fits:
        forward(SLOPES, writable(z), writable(alpha), y)
    return fits


@shortcut(read(2), read(2), types.intp, types.float64, written(2))
def _backward_call(dy, saved, activation_id, slope, dz):
    fits = dy.shape == dz.shape and saved.shape == dz.shape
    fits = fits and in_place(span(dz), span(dy)) and in_place(span(dz), span(saved))
    fits = fits and is_derivative_known(address(dz), activation_id)
    if fits:
        alpha = carray(stored(dz.dtype.type(slope)), 1)
        backward(activation_id, writable(dy), writable(saved), alpha, dz)
    return fits


@shortcut(read(2), read(2), read(1), written(2))
def _backward_slopes(dy, saved, alpha, dz):
    fits = dy.shape == dz.shape and saved.shape == dz.shape and alpha.size == dz.shape[1]
    fits = fits and in_place(span(dz), span(dy)) and in_place(span(dz), span(saved))
    fits = fits and disjoint((span(dz),), (span(alpha),))
    if fits:
        backward(SLOPES, writable(dy), writable(saved), writable(alpha), dz)
    return fits


@shortcut(read(2), read(2), read(1), written(2), written(1))
def _prelu_backward(dy, z, alpha, dz, dalpha):
    fits = dy.shape == dz.shape and z.shape == dz.shape
    fits = fits and alpha.size == dz.shape[1] and dalpha.size == alpha.size
    fits = fits and in_place(span(dz), span(dy)) and in_place(span(dz), span(z))
    fits = fits and disjoint((span(dz), span(dalpha)), (span(alpha),))
    fits = fits and disjoint((span(dalpha),), (span(dy), span(z)))
    if fits:
        dy, z = writable(dy), writable(z)
        slope_gradient(dy, z, dalpha)  # first: dz may replace what it reads
        backward(SLOPES, dy, z, writable(alpha), dz)
    return fits


def activation_forward(z, activation, alpha=None, *, out=None):
    """y = act(z), elementwise; see reference.activation_forward. `out` may be z."""
    plain = arguments.plain(activation, alpha)
    if plain and out is not None and _forward_call.accepts(z, *plain, out):
        return out
    if activation == "prelu" and out is not None and _forward_slopes.accepts(z, alpha, out):
        return out
    arguments.floating("z", z, np.ndarray, 2)
    activation_id, slope, slopes = arguments.activation(
        activation, alpha, z.shape[1], np.ndarray, z.dtype
    )
    if out is None:
        out = np.empty_like(z)
    else:
        arguments.written("out", out, np.ndarray, z.dtype, z.shape)
        arguments.disjoint({"out": out}, {"z": z, "alpha": slopes}, [("out", "z")])
    activations.ready(z.dtype, activation_id)
    if slopes is None:
        _forward_call.ready(z.dtype)
        _forward_call(z, activation_id, slope, out)
    else:
        _forward_slopes.ready(z.dtype)
        _forward_slopes(z, slopes, out)
    return out


def activation_backward(dy, saved, activation, alpha=None, *, out=None):
    """dz = dy act'(z), for prelu (dz, dalpha); see reference.activation_backward.

    dz may replace dy or saved.
    """
    plain = arguments.plain(activation, alpha)
    if plain and out is not None and _backward_call.accepts(dy, saved, *plain, out):
        return out
    is_prelu = activation == "prelu" and type(out) is tuple
    if is_prelu and _prelu_backward.accepts(dy, saved, alpha, *out):
        return out
    arguments.floating("dy", dy, np.ndarray, 2)
    arguments.array("saved", saved, np.ndarray, dy.dtype, dy.shape)
    activation_id, slope, slopes = arguments.activation(
        activation, alpha, dy.shape[1], np.ndarray, dy.dtype
    )
    inputs = {"dy": dy, "saved": saved, "alpha": slopes}
    if activation != "prelu":
        if out is None:
            out = np.empty_like(dy)
        else:
            arguments.written("out", out, np.ndarray, dy.dtype, dy.shape)
            arguments.disjoint({"out": out}, inputs, [("out", "dy"), ("out", "saved")])
        derivatives.ready(dy.dtype, activation_id)
        if slopes is None:
            _backward_call.ready(dy.dtype)
            _backward_call(dy, saved, activation_id, slope, out)
        else:
            _backward_slopes.ready(dy.dtype)
            _backward_slopes(dy, saved, slopes, out)
        return out
    in_place = [("out[0]", "dy"), ("out[0]", "saved")]
    out = arguments.outputs(out, (dy.shape, slopes.shape), dy.dtype, inputs, in_place)
    derivatives.ready(dy.dtype, activation_id)
    _prelu_backward.ready(dy.dtype)
    _prelu_backward(dy, saved, slopes, *out)
    return out
