"""What the backends share of normalisation: the ranges of its numbers and the checks of arrays."""

from . import arguments
from .catalog import ABOVE_ZERO, FRACTION, Number

EPS, MOMENTUM = Number(1e-5, low=ABOVE_ZERO), FRACTION


def forward(inputs, kind):
    """(rows, units) of x, the first of these arrays by name; skip, unless it is None, has its
    shape, the others have a number a unit.
    """
    x = inputs["x"]
    arguments.floating("x", x, kind, 2)
    arguments.rows("x", x)
    for name, array in inputs.items():
        if name != "x" and not (name == "skip" and array is None):
            shape = x.shape if name == "skip" else x.shape[1:]
            arguments.array(name, array, kind, x.dtype, shape)
    return x.shape


def updated(running):
    """The arrays that a forward pass updates may be written to; shapes are checked already."""
    for name, array in running.items():
        arguments.writeable(name, array)


def backward(inputs, kind, axis):
    """The shapes of (dx, dgamma, dbeta); mean and rstd have a number for each place of the axis."""
    dy = inputs["dy"]
    arguments.floating("dy", dy, kind, 2)
    arguments.rows("dy", dy)
    places, units = dy.shape[axis], dy.shape[1]
    shapes = {"x": dy.shape, "gamma": (units,), "mean": (places,), "rstd": (places,)}
    for name, shape in shapes.items():
        arguments.array(name, inputs[name], kind, dy.dtype, shape)
    return dy.shape, (units,), (units,)
