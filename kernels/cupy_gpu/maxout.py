"""Maxout on the GPU: the dense layer's products, and one pass over the pieces; equations as in
reference/maxout.py.
"""

from .. import arguments
from ..catalog import IDENTITY
from . import dense
from .activations import column_sums, outputs
from .runtime import device


def maxout_forward(x, weight, bias, *, out=None):
    """(y, z): the largest of each unit's pieces, and the pieces."""
    arguments.floating("x", x, device.ndarray, 2)
    rows, fan_in = x.shape
    pieces, units = arguments.maxout(weight, device.ndarray, x.dtype, fan_in)
    arguments.array("bias", bias, device.ndarray, x.dtype, (pieces, units))
    shapes, inputs = [(rows, units), (rows, pieces, units)], {"x": x, "weight": weight}
    y, z = outputs(out, shapes, x.dtype, {**inputs, "bias": bias})
    width = pieces * units
    matrix, sums = weight.reshape(fan_in, width), z.reshape(rows, width)
    dense.forward(x, matrix, bias.reshape(width), IDENTITY, 0.0, None, sums)
    largest(z, y, pieces)
    return y, z


def largest(z, y, pieces):
    """y (rows, units): the largest of so many pieces of a unit; z holds rows of these."""
    device.launch("largest_piece", (y.size,), z, y, y.size, pieces, y.shape[1])


def winners(dy, z, dz, pieces):
    """dz: dy (rows, units) for the first of the largest pieces, else 0."""
    device.launch("winning_piece", (dy.size,), dy, z, dz, dy.size, pieces, dy.shape[1])


def maxout_backward(dy, x, weight, z, *, out=None):
    """(dx, dweight, dbias): dz in one pass, its sums, then the two products."""
    arguments.floating("dy", dy, device.ndarray, 2)
    (rows, units), dtype = dy.shape, dy.dtype
    arguments.floating("x", x, device.ndarray, 2)
    fan_in = x.shape[1]
    arguments.array("x", x, device.ndarray, dtype, (rows, fan_in))
    pieces, _ = arguments.maxout(weight, device.ndarray, dtype, fan_in, units)
    arguments.array("z", z, device.ndarray, dtype, (rows, pieces, units))
    shapes, inputs = [x.shape, weight.shape, (pieces, units)], {"dy": dy, "x": x, "z": z}
    dx, dweight, dbias = results = outputs(out, shapes, dtype, {**inputs, "weight": weight})
    width = pieces * units
    dz = device.empty((rows, width), dtype)
    winners(dy, z, dz, pieces)
    column_sums(dz, dbias.reshape(width))
    dense.input_gradient(dz, weight.reshape(fan_in, width), dx)
    dense.weight_gradient(x, dz, dweight.reshape(fan_in, width))
    return results
