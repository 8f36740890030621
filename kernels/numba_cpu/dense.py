"""The dense layer for the CPU: a matrix product with bias and activation in its epilogue."""

import numpy as np

from .. import interface
from . import gemm
from .activations import prepared, slope_gradient


def dense_forward(x, weight, bias, activation="identity", alpha=None, *, out=None):
    """y = act(x W + b); see reference.dense_forward."""
    interface.floating("x", x, np.ndarray, 2)
    interface.floating("weight", weight, np.ndarray, 2)
    units = weight.shape[1]
    interface.array("weight", weight, np.ndarray, x.dtype, (x.shape[1], units))
    interface.array("bias", bias, np.ndarray, x.dtype, (units,))
    way, slopes = prepared(activation, alpha, units, x.dtype)
    if out is None:
        out = np.empty((len(x), units), x.dtype)
    else:
        interface.written("out", out, np.ndarray, x.dtype, (len(x), units))
        interface.apart({"out": out}, {"x": x, "weight": weight})
    gemm.ready(x.dtype)
    gemm.forward(x, weight, bias, way, slopes, out)
    return out


def dense_backward(dy, x, weight, saved, activation="identity", alpha=None, *, out=None):
    """(dx, dweight, dbias), for prelu dalpha as well; see reference.dense_backward."""
    interface.floating("dy", dy, np.ndarray, 2)
    interface.floating("weight", weight, np.ndarray, 2)
    batch, fan_in, units = len(dy), len(weight), dy.shape[1]
    interface.array("x", x, np.ndarray, dy.dtype, (batch, fan_in))
    interface.array("weight", weight, np.ndarray, dy.dtype, (fan_in, units))
    interface.array("saved", saved, np.ndarray, dy.dtype, dy.shape)
    way, slopes = prepared(activation, alpha, units, dy.dtype)
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
    gemm.backward(dy, x, weight, saved, way, slopes, dx, dweight, dbias)
    if dalpha:
        slope_gradient(dy, saved, *dalpha)
    return tuple(out)
