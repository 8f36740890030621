"""The dense layer for the CPU: a matrix product with bias and activation in its epilogue."""

import numpy as np
from numba import carray, types

from .. import interface
from . import gemm
from .activations import slope_gradient
from .shortcut import apart, read, shortcut, span, writable, written
from .symbol import stored


@shortcut(read(2), read(2), read(1), types.intp, types.float64, written(2))
def _forward(x, weight, bias, way, slope, y):
    (batch, fan_in), units = x.shape, bias.size
    fits = weight.shape == (fan_in, units) and y.shape == (batch, units)
    fits = fits and apart((span(y),), (span(x), span(weight), span(bias)))
    if fits:
        alpha = carray(stored(y.dtype.type(slope)), 1)
        gemm.forward(writable(x), writable(weight), writable(bias), way, alpha, y)
    return fits


@shortcut(*[read(2)] * 4, types.intp, types.float64, written(2), written(2), written(1))
def _backward(dy, x, weight, saved, way, slope, dx, dweight, dbias):
    (batch, fan_in), units = x.shape, dbias.size
    fits = weight.shape == (fan_in, units) and dweight.shape == weight.shape
    fits = fits and dy.shape == (batch, units) and saved.shape == dy.shape and dx.shape == x.shape
    inputs = span(dy), span(x), span(weight), span(saved)
    fits = fits and apart((span(dx), span(dweight), span(dbias)), inputs)
    if fits:
        dy, x, weight, saved = writable(dy), writable(x), writable(weight), writable(saved)
        alpha = carray(stored(dx.dtype.type(slope)), 1)
        gemm.backward(dy, x, weight, saved, way, alpha, dx, dweight, dbias)
    return fits


def dense_forward(x, weight, bias, activation="identity", alpha=None, *, out=None):
    """y = act(x W + b); see reference.dense_forward."""
    plain = interface.plain(activation, alpha)
    if plain and out is not None and _forward.accepts(x, weight, bias, *plain, out):
        return out
    interface.floating("x", x, np.ndarray, 2)
    interface.floating("weight", weight, np.ndarray, 2)
    units = weight.shape[1]
    interface.array("weight", weight, np.ndarray, x.dtype, (x.shape[1], units))
    interface.array("bias", bias, np.ndarray, x.dtype, (units,))
    way, slope, slopes = interface.activation(activation, alpha, units, np.ndarray, x.dtype)
    if out is None:
        out = np.empty((len(x), units), x.dtype)
    else:
        interface.written("out", out, np.ndarray, x.dtype, (len(x), units))
        interface.apart({"out": out}, {"x": x, "weight": weight, "bias": bias})
    gemm.ready(x.dtype)
    _forward.ready(x.dtype)
    if slopes is None:
        _forward(x, weight, bias, way, slope, out)
    else:
        gemm.forward(x, weight, bias, way, slopes, out)
    return out


def dense_backward(dy, x, weight, saved, activation="identity", alpha=None, *, out=None):
    """(dx, dweight, dbias), for prelu dalpha as well; see reference.dense_backward."""
    plain = interface.plain(activation, alpha)
    if plain and type(out) is tuple and _backward.accepts(dy, x, weight, saved, *plain, *out):
        return out
    interface.floating("dy", dy, np.ndarray, 2)
    interface.floating("weight", weight, np.ndarray, 2)
    batch, fan_in, units = len(dy), len(weight), dy.shape[1]
    interface.array("x", x, np.ndarray, dy.dtype, (batch, fan_in))
    interface.array("weight", weight, np.ndarray, dy.dtype, (fan_in, units))
    interface.array("saved", saved, np.ndarray, dy.dtype, dy.shape)
    way, slope, slopes = interface.activation(activation, alpha, units, np.ndarray, dy.dtype)
    shapes = {"out[0]": x.shape, "out[1]": weight.shape, "out[2]": (units,)}
    if activation == "prelu":
        shapes["out[3]"] = (units,)
    if out is None:
        out = [np.empty(shape, dy.dtype) for shape in shapes.values()]
    else:
        interface.several("out", out, len(shapes))
        outputs = dict(zip(shapes, out, strict=True))
        for name, array in outputs.items():
            interface.written(name, array, np.ndarray, dy.dtype, shapes[name])
        interface.apart(outputs, {"dy": dy, "x": x, "weight": weight, "saved": saved})
    dx, dweight, dbias, *dalpha = out
    gemm.ready(dy.dtype)
    _backward.ready(dy.dtype)
    if slopes is None:
        _backward(dy, x, weight, saved, way, slope, *out)
    else:
        gemm.backward(dy, x, weight, saved, way, slopes, dx, dweight, dbias)
    if dalpha:
        slope_gradient(dy, saved, *dalpha)
    return tuple(out)
