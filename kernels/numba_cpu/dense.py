"""The dense layer for the CPU: a matrix product with bias and activation in its epilogue."""

import numpy as np
from numba import carray, types

from .. import arguments
from ..catalog import SCALED_ELU, SLOPES
from . import gemm
from .activation_rows import activations, derivatives, slope_gradient
from .codegen.inlined import register_jitable
from .codegen.jit import named
from .codegen.shortcut import disjoint, read, shortcut, span, writable, written
from .codegen.symbol import stored
from .codegen.vectors import address

is_activation_known, is_derivative_known = activations.known, derivatives.known


@shortcut(read(2), read(2), read(1), types.intp, types.float64, written(2))
def _forward(x, weight, bias, activation_id, slope, y):
    (batch, fan_in), units = x.shape, bias.size
    fits = weight.shape == (fan_in, units) and y.shape == (batch, units)
    fits = fits and disjoint((span(y),), (span(x), span(weight), span(bias)))
    fits = fits and is_activation_known(address(y), activation_id)
    if fits:
        alpha = carray(stored(y.dtype.type(slope)), 1)
        gemm.forward(writable(x), writable(weight), writable(bias), activation_id, alpha, y)
    return fits


def _forward_by(activation_id, name):
    """A shortcut of (x, weight, bias, an array of alphas, y)."""

    def call(x, weight, bias, alpha, y):
        (batch, fan_in), units = x.shape, bias.size
        fits = weight.shape == (fan_in, units) and y.shape == (batch, units)
        fits = fits and alpha.size == (2 if activation_id == SCALED_ELU else units)
        fits = fits and disjoint((span(y),), (span(x), span(weight), span(bias), span(alpha)))
        if fits:
            x, weight, bias, alpha = writable(x), writable(weight), writable(bias), writable(alpha)
            gemm.forward(x, weight, bias, activation_id, alpha, y)
        return fits

    return shortcut(read(2), read(2), read(1), read(1), written(2))(named(call, name))


_forward_slopes, _forward_pair = _forward_by(SLOPES, "slopes"), _forward_by(SCALED_ELU, "pair")


@shortcut(*[read(2)] * 4, types.intp, types.float64, written(2), written(2), written(1))
def _backward(dy, x, weight, saved, activation_id, slope, dx, dweight, dbias):
    (batch, fan_in), units = x.shape, dbias.size
    fits = weight.shape == (fan_in, units) and dweight.shape == weight.shape
    fits = fits and dy.shape == (batch, units) and saved.shape == dy.shape and dx.shape == x.shape
    inputs = span(dy), span(x), span(weight), span(saved)
    fits = fits and disjoint((span(dx), span(dweight), span(dbias)), inputs)
    fits = fits and is_derivative_known(address(dx), activation_id)
    if fits:
        dy, x, weight, saved = writable(dy), writable(x), writable(weight), writable(saved)
        alpha = carray(stored(dx.dtype.type(slope)), 1)
        gemm.backward(dy, x, weight, saved, activation_id, alpha, dx, dweight, dbias)
    return fits


@register_jitable
def _slopes_fit(dy, x, weight, saved, alpha, count, dx, dweight, dbias):
    (batch, fan_in), units = x.shape, dbias.size
    fits = weight.shape == (fan_in, units) and dweight.shape == weight.shape
    fits = fits and dy.shape == (batch, units) and saved.shape == dy.shape and dx.shape == x.shape
    return fits and alpha.size == count


def _backward_by(activation_id, name):
    """A shortcut of (dy, x, weight, saved, an array of alphas, dx, dweight, dbias)."""

    def call(dy, x, weight, saved, alpha, dx, dweight, dbias):
        count = 2 if activation_id == SCALED_ELU else dbias.size
        fits = _slopes_fit(dy, x, weight, saved, alpha, count, dx, dweight, dbias)
        inputs = span(dy), span(x), span(weight), span(saved), span(alpha)
        fits = fits and disjoint((span(dx), span(dweight), span(dbias)), inputs)
        if fits:
            dy, x, weight, saved = writable(dy), writable(x), writable(weight), writable(saved)
            alpha = writable(alpha)
            gemm.backward(dy, x, weight, saved, activation_id, alpha, dx, dweight, dbias)
        return fits

    arrays = *[read(2)] * 4, read(1), written(2), written(2), written(1)
    return shortcut(*arrays)(named(call, name))


_backward_slopes, _backward_pair = _backward_by(SLOPES, "slopes"), _backward_by(SCALED_ELU, "pair")


@shortcut(*[read(2)] * 4, read(1), written(2), written(2), written(1), written(1))
def _prelu_backward(dy, x, weight, z, alpha, dx, dweight, dbias, dalpha):
    fits = _slopes_fit(dy, x, weight, z, alpha, dbias.size, dx, dweight, dbias)
    fits = fits and dalpha.size == alpha.size
    inputs = span(dy), span(x), span(weight), span(z), span(alpha)
    fits = fits and disjoint((span(dx), span(dweight), span(dbias), span(dalpha)), inputs)
    if fits:
        dy, x, weight, z = writable(dy), writable(x), writable(weight), writable(z)
        gemm.backward(dy, x, weight, z, SLOPES, writable(alpha), dx, dweight, dbias)
        slope_gradient(dy, z, dalpha)
    return fits


def dense_forward(x, weight, bias, activation="identity", alpha=None, *, precision=None, out=None):
    """y = act(x W + b); see reference.dense_forward. The product is in full precision always."""
    if precision is not None:
        arguments.precision(precision)
    plain = arguments.plain(activation, alpha)
    if plain and out is not None and _forward.accepts(x, weight, bias, *plain, out):
        return out
    arguments.floating("x", x, np.ndarray, 2)
    arguments.floating("weight", weight, np.ndarray, 2)
    units = weight.shape[1]
    arguments.array("weight", weight, np.ndarray, x.dtype, (x.shape[1], units))
    arguments.array("bias", bias, np.ndarray, x.dtype, (units,))
    activation_id, slope, slopes = arguments.activation(
        activation, alpha, units, np.ndarray, x.dtype
    )
    if out is None:
        out = np.empty((len(x), units), x.dtype)
    else:
        arguments.written("out", out, np.ndarray, x.dtype, (len(x), units))
        inputs = {"x": x, "weight": weight, "bias": bias, "alpha": slopes}
        arguments.disjoint({"out": out}, inputs)
    gemm.ready(x.dtype)
    activations.ready(x.dtype, activation_id)
    if slopes is None:
        _forward.ready(x.dtype)
        _forward(x, weight, bias, activation_id, slope, out)
    else:
        call = _forward_pair if activation_id == SCALED_ELU else _forward_slopes
        call.ready(x.dtype)
        call(x, weight, bias, slopes, out)
    return out


def dense_backward(
    dy, x, weight, saved, activation="identity", alpha=None, *, precision=None, out=None
):
    """(dx, dweight, dbias), for prelu dalpha as well; see reference.dense_backward. The products
    are in full precision always.
    """
    if precision is not None:
        arguments.precision(precision)
    plain = arguments.plain(activation, alpha)
    if plain and type(out) is tuple and _backward.accepts(dy, x, weight, saved, *plain, *out):
        return out
    arguments.floating("dy", dy, np.ndarray, 2)
    arguments.floating("weight", weight, np.ndarray, 2)
    batch, fan_in, units = len(dy), len(weight), dy.shape[1]
    arguments.array("x", x, np.ndarray, dy.dtype, (batch, fan_in))
    arguments.array("weight", weight, np.ndarray, dy.dtype, (fan_in, units))
    arguments.array("saved", saved, np.ndarray, dy.dtype, dy.shape)
    activation_id, slope, slopes = arguments.activation(
        activation, alpha, units, np.ndarray, dy.dtype
    )
    shapes = x.shape, weight.shape, *[(units,)] * (2 if activation == "prelu" else 1)
    inputs = {"dy": dy, "x": x, "weight": weight, "saved": saved, "alpha": slopes}
    out = arguments.outputs(out, shapes, dy.dtype, inputs)
    gemm.ready(dy.dtype)
    derivatives.ready(dy.dtype, activation_id)
    if slopes is None:
        _backward.ready(dy.dtype)
        _backward(dy, x, weight, saved, activation_id, slope, *out)
    else:
        call = _backward_pair if activation_id == SCALED_ELU else _backward_slopes
        call = _prelu_backward if activation == "prelu" else call
        call.ready(dy.dtype)
        call(dy, x, weight, saved, slopes, *out)
    return out
