"""What the backends share of recurrent layers: the cells' widths and the checks of arguments."""

from typing import NamedTuple

from . import arguments

# Of each cell: gates, and numbers a unit of its bias.
GATES = {"rnn": (1, 1), "lstm": (4, 4), "gru": (3, 4)}
ACTIVATIONS = ("tanh", "relu")  # of the simple RNN


class Sizes(NamedTuple):
    batch: int
    steps: int
    features: int
    units: int


def checked(cell, inputs, kind, reverse):
    """The Sizes of these arguments of a forward or backward function, by name: None is one that may
    be left out. x sets batch, steps and dtype, recurrent the units.
    """
    x, recurrent = inputs["x"], inputs["recurrent"]
    arguments.floating("x", x, kind, 3)
    arguments.rows("x", x)
    arguments.floating("recurrent", recurrent, kind, 2)
    arguments.rows("recurrent", recurrent)
    sizes = Sizes(*x.shape, len(recurrent))
    for name, shape in _shapes(cell, sizes).items():
        if inputs.get(name) is not None or (name in inputs and name in _NEEDED):
            arguments.array(name, inputs[name], kind, x.dtype, shape)
    if inputs.get("lengths") is not None:
        arguments.labels("lengths", inputs["lengths"], kind, sizes.batch)
    if inputs.get("dlast", inputs) is None and inputs["dy"] is None:
        raise TypeError("dy must be an array where dlast is None, got None")
    arguments.flag("reverse", reverse)
    return sizes


_NEEDED = {"weight", "recurrent", "bias", "y", "cells", "gates"}


def _shapes(cell, sizes):
    batch, steps, features, units = sizes
    gates, biases = GATES[cell]
    state, sequence = (batch, units), (batch, steps, units)
    return {
        "recurrent": (units, gates * units),
        "weight": (features, gates * units),
        "bias": (biases * units,),
        **dict.fromkeys(("h0", "c0", "dlast", "dlast_cell"), state),
        **dict.fromkeys(("dy", "y", "cells"), sequence),
        "gates": (batch, steps, 4 * units),
    }


def results(cell, sizes):
    """The shapes of what the forward function returns."""
    batch, steps, _, units = sizes
    state, sequence = (batch, units), (batch, steps, units)
    gates = (batch, steps, 4 * units)
    return {
        "rnn": (sequence, state),
        "lstm": (sequence, state, state, sequence, gates),
        "gru": (sequence, state, gates),
    }[cell]


def gradients(cell, sizes):
    """The shapes of what the backward function returns."""
    shapes, batch, units = _shapes(cell, sizes), sizes.batch, sizes.units
    x = batch, sizes.steps, sizes.features
    states = ((batch, units),) * (2 if cell == "lstm" else 1)
    return (x, *(shapes[n] for n in ("weight", "recurrent", "bias")), *states)


def out_of_range(steps=None):
    """The error of a length that no sequence has."""
    most = "the number of steps" if steps is None else steps
    return ValueError(f"lengths must be from 1 to {most}, got one outside")
