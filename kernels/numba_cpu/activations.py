"""Activations for the CPU: their functions, checked; loops and threads are those of the rows."""

import numpy as np
from numba import carray, types

from .. import arguments
from ..catalog import SCALED_ELU, SLOPES
from .activation_rows import activations, backward, derivatives, forward, prelu_backward
from .codegen.jit import named
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


def _forward_by(activation_id, name):
    """A shortcut of (z, an array of alphas, y)."""

    def call(z, alpha, y):
        count = 2 if activation_id == SCALED_ELU else y.shape[1]
        fits = z.shape == y.shape and alpha.size == count and in_place(span(y), span(z))
        fits = fits and disjoint((span(y),), (span(alpha),))
        if fits:
            forward(activation_id, writable(z), writable(alpha), y)
        return fits

    return shortcut(read(2), read(1), written(2))(named(call, name))


_forward_slopes, _forward_pair = _forward_by(SLOPES, "slopes"), _forward_by(SCALED_ELU, "pair")


@shortcut(read(2), read(2), types.intp, types.float64, written(2))
def _backward_call(dy, saved, activation_id, slope, dz):
    fits = dy.shape == dz.shape and saved.shape == dz.shape
    fits = fits and in_place(span(dz), span(dy)) and in_place(span(dz), span(saved))
    fits = fits and is_derivative_known(address(dz), activation_id)
    if fits:
        alpha = carray(stored(dz.dtype.type(slope)), 1)
        backward(activation_id, writable(dy), writable(saved), alpha, dz)
    return fits


def _backward_by(activation_id, name):
    """A shortcut of (dy, saved, an array of alphas, dz)."""

    def call(dy, saved, alpha, dz):
        count = 2 if activation_id == SCALED_ELU else dz.shape[1]
        fits = dy.shape == dz.shape and saved.shape == dz.shape and alpha.size == count
        fits = fits and in_place(span(dz), span(dy)) and in_place(span(dz), span(saved))
        fits = fits and disjoint((span(dz),), (span(alpha),))
        if fits:
            backward(activation_id, writable(dy), writable(saved), writable(alpha), dz)
        return fits

    return shortcut(read(2), read(2), read(1), written(2))(named(call, name))


_backward_slopes, _backward_pair = _backward_by(SLOPES, "slopes"), _backward_by(SCALED_ELU, "pair")


@shortcut(read(2), read(2), read(1), written(2), written(1))
def _prelu_backward(dy, z, alpha, dz, dalpha):
    fits = dy.shape == dz.shape and z.shape == dz.shape
    fits = fits and alpha.size == dz.shape[1] and dalpha.size == alpha.size
    fits = fits and in_place(span(dz), span(dy)) and in_place(span(dz), span(z))
    fits = fits and disjoint((span(dz), span(dalpha)), (span(alpha),))
    fits = fits and disjoint((span(dalpha),), (span(dy), span(z)))
    if fits:
        prelu_backward(writable(dy), writable(z), writable(alpha), dz, dalpha)
    return fits


def _has_slopes(activation, alpha):
    """Whether alpha is an array, which a shortcut takes; others Numba would refuse slowly."""
    return type(alpha) is np.ndarray and activation in ("prelu", "rectifier")


def activation_forward(z, activation, alpha=None, *, out=None):
    """y = act(z), elementwise; see reference.activation_forward. `out` may be z."""
    plain = arguments.plain(activation, alpha)
    if plain and out is not None and _forward_call.accepts(z, *plain, out):
        return out
    if (
        out is not None
        and _has_slopes(activation, alpha)
        and _forward_slopes.accepts(z, alpha, out)
    ):
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
        call = _forward_pair if activation_id == SCALED_ELU else _forward_slopes
        call.ready(z.dtype)
        call(z, slopes, out)
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
    is_rectifier = activation == "rectifier" and out is not None and _has_slopes(activation, alpha)
    if is_rectifier and _backward_slopes.accepts(dy, saved, alpha, out):
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
            call = _backward_pair if activation_id == SCALED_ELU else _backward_slopes
            call.ready(dy.dtype)
            call(dy, saved, slopes, out)
        return out
    in_place = [("out[0]", "dy"), ("out[0]", "saved")]
    out = arguments.outputs(out, (dy.shape, slopes.shape), dy.dtype, inputs, in_place)
    derivatives.ready(dy.dtype, activation_id)
    _prelu_backward.ready(dy.dtype)
    _prelu_backward(dy, saved, slopes, *out)
    return out
