"""The dense layer on the GPU; equations and shapes as in reference/dense.py.

A product is computed by cuBLAS or by tiles of our own (tiles.cuh). cuBLAS is the faster where there
is much to do: its kernels are tuned for every GPU and split a deep product between blocks. But its
call costs the host more than a launch, it leaves bias and activation to a second one, and CuPy
forbids it while a graph is captured.

Where the tiles begin to lose is reckoned, not measured: no GPU was at hand. A launch costs some
3 us. At half of cuBLAS's rate, say 5 instead of 10 TFLOP/s in float32, the tiles lose as much over
MOST_FLOPS = 3 us * 10 TFLOP/s. And as a block walks through the depth alone, by 16 or 32 elements
in the time of a load from memory, half a microsecond, they also lose over MOST_DEPTH = 256.
"""

from .. import interface
from ..catalog import IDENTITY
from . import device
from .activations import backward_sums, column_sums, output, outputs, prelu_backward_sums
from .table import tile

MOST_FLOPS = 30e6
MOST_DEPTH = 256


def dense_forward(x, weight, bias, activation="identity", alpha=None, *, out=None):
    """y = act(x W + b): in one launch by tiles, or by cuBLAS and one pass over its product."""
    interface.floating("x", x, device.ndarray, 2)
    interface.floating("weight", weight, device.ndarray, 2)
    units, dtype = weight.shape[1], x.dtype
    interface.array("weight", weight, device.ndarray, dtype, (x.shape[1], units))
    interface.array("bias", bias, device.ndarray, dtype, (units,))
    way, slope, slopes = interface.activation(activation, alpha, units, device.ndarray, dtype)
    inputs = {"x": x, "weight": weight, "bias": bias, "alpha": slopes}
    y = output(out, (len(x), units), dtype, inputs)
    forward(x, weight, bias, way, slope, slopes, y)
    return y


def dense_backward(dy, x, weight, saved, activation="identity", alpha=None, *, out=None):
    """dx, dW, db and for prelu dalpha: dz and its sums in one pass, then the two products."""
    interface.floating("dy", dy, device.ndarray, 2)
    (batch, units), dtype = dy.shape, dy.dtype
    interface.floating("x", x, device.ndarray, 2)
    fan_in = x.shape[1]
    interface.array("x", x, device.ndarray, dtype, (batch, fan_in))
    interface.array("weight", weight, device.ndarray, dtype, (fan_in, units))
    interface.array("saved", saved, device.ndarray, dtype, dy.shape)
    way, slope, slopes = interface.activation(activation, alpha, units, device.ndarray, dtype)
    dalpha_shape = [(units,)] if activation == "prelu" else []
    inputs = {"dy": dy, "x": x, "weight": weight, "saved": saved, "alpha": slopes}
    results = outputs(out, [x.shape, weight.shape, (units,), *dalpha_shape], dtype, inputs)
    dx, dweight, dbias, *dalpha = results
    dz = sums_gradient(dy, saved, way, slope, slopes, dbias, *dalpha)
    input_gradient(dz, weight, dx)
    weight_gradient(x, dz, dweight)
    return results


# The parts of both, on arguments that have been checked.


def forward(x, weight, bias, way, slope, slopes, y):
    """y = act(x W + b)."""
    (rows, depth), units = x.shape, y.shape[1]
    if _by_tiles(rows, units, depth):
        given = way, x, weight, bias, slopes, y, slope, rows, depth, units
        device.launch(f"dense_forward_{tile(rows, units)}", (rows, units), *given)
    else:
        device.matmul(x, weight, out=y)
        device.launch("bias_activation", (y.size,), way, y, bias, slopes, slope, y.size, units)


def sums_gradient(dy, saved, way, slope, slopes, dbias, dalpha=None):
    """dz = dy act'(z), which is returned, dbias and, where it is given, dalpha."""
    dz = dy if way == IDENTITY else device.empty(dy.shape, dy.dtype)
    if dalpha is not None:
        prelu_backward_sums(dy, saved, slopes, dz, dbias, dalpha)
    elif dz is dy:
        column_sums(dy, dbias)
    else:
        backward_sums(dy, saved, way, slope, slopes, dz, dbias)
    return dz


def input_gradient(dz, weight, dx):
    """dx = dz W^T."""
    (batch, units), fan_in = dz.shape, dx.shape[1]
    if _by_tiles(batch, fan_in, units):
        kernel = f"input_gradient_{tile(batch, fan_in)}"
        device.launch(kernel, (batch, fan_in), dz, weight, dx, batch, fan_in, units)
    else:
        device.matmul(dz, weight.T, out=dx)


def weight_gradient(x, dz, dweight):
    """dW = x^T dz."""
    (batch, units), fan_in = dz.shape, x.shape[1]
    if _by_tiles(fan_in, units, batch):
        kernel = f"weight_gradient_{tile(fan_in, units)}"
        device.launch(kernel, (fan_in, units), x, dz, dweight, batch, fan_in, units)
    else:
        device.matmul(x.T, dz, out=dweight)


def _by_tiles(rows, columns, depth):
    """Whether a product is computed by tiles: it is small, or cuBLAS is forbidden."""
    small = depth <= MOST_DEPTH and 2 * rows * columns * depth <= MOST_FLOPS
    return small or device.capturing()
