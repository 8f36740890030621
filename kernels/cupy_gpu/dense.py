"""The dense layer on the GPU; equations and shapes as in reference/dense.py."""

from .. import interface
from . import device
from .activations import backward_sums, column_sums, output, outputs, prelu_backward_sums


def dense_forward(x, weight, bias, activation="identity", alpha=None, *, out=None):
    """y = act(x W + b): the product by cuBLAS, bias and activation in one pass over it."""
    interface.floating("x", x, device.ndarray, 2)
    interface.floating("weight", weight, device.ndarray, 2)
    units, dtype = weight.shape[1], x.dtype
    interface.array("weight", weight, device.ndarray, dtype, (x.shape[1], units))
    interface.array("bias", bias, device.ndarray, dtype, (units,))
    way, slope, slopes = interface.activation(activation, alpha, units, device.ndarray, dtype)
    y = output("out", out, (len(x), units), dtype)
    interface.apart({"out": y}, {"x": x, "weight": weight})
    device.matmul(x, weight, out=y)
    device.launch("bias_activation", (y.size,), way, y, bias, slopes, slope, y.size, units)
    return y


def dense_backward(dy, x, weight, saved, activation="identity", alpha=None, *, out=None):
    """dx, dW, db and for prelu dalpha: dz and its sums in one pass, the products by cuBLAS."""
    interface.floating("dy", dy, device.ndarray, 2)
    (batch, units), dtype = dy.shape, dy.dtype
    interface.floating("x", x, device.ndarray, 2)
    fan_in = x.shape[1]
    interface.array("x", x, device.ndarray, dtype, (batch, fan_in))
    interface.array("weight", weight, device.ndarray, dtype, (fan_in, units))
    interface.array("saved", saved, device.ndarray, dtype, dy.shape)
    way, slope, slopes = interface.activation(activation, alpha, units, device.ndarray, dtype)
    dalpha_shape = [(units,)] if activation == "prelu" else []
    results = outputs(out, [x.shape, weight.shape, (units,), *dalpha_shape], dtype)
    inputs = {"dy": dy, "x": x, "weight": weight, "saved": saved}
    interface.apart({f"out[{k}]": result for k, result in enumerate(results)}, inputs)
    dx, dweight, dbias, *dalpha = results
    dz = dy if way == interface.IDENTITY else device.empty(dy.shape, dtype)
    if dalpha:
        prelu_backward_sums(dy, saved, slopes, dz, dbias, *dalpha)
    elif dz is dy:
        column_sums(dy, dbias)
    else:
        backward_sums(dy, saved, way, slope, slopes, dz, dbias)
    device.matmul(dz, weight.T, out=dx)
    device.matmul(x.T, dz, out=dweight)
    return results
