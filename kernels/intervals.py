"""What the backends share of counting: the intervals that statistics count in, and their checks."""

import math
import sys

import numpy as np

from . import arguments
from .catalog import FRACTION, Number

SIZE = Number(0.0)  # a threshold of magnitudes
ANY = Number(0.0, low=-math.inf)  # a threshold of values
FINITE = Number(low=-sys.float_info.max)
COUNT = np.dtype(np.int64)
MOST_BINS = 2**31 - 4  # their numbers, and three more, are int32

# A unit is saturated outside [low, high]: (low, high) by the activation's name.
SATURATED = {
    "sigmoid": lambda margin: (margin, 1 - margin),
    "tanh": lambda margin: (margin - 1, 1 - margin),
}


def of_activation(activation, margin):
    """The interval outside which a unit is saturated."""
    arguments.one_of("activation", activation, SATURATED)
    return SATURATED[activation](arguments.number("margin", margin, FRACTION))


def of_histogram(low, high, bins):
    """(low, high, bins, bins / (high - low)), each as a number of its kind."""
    low, high = arguments.number("low", low, FINITE), arguments.number("high", high, FINITE)
    bins = arguments.step("bins", bins)
    if bins > MOST_BINS:
        raise ValueError(f"bins must be at most {MOST_BINS}, got {bins}")
    if not (low < high and math.isfinite(high - low) and bins / (high - low) < math.inf):
        wanted = "above low, with high - low and bins / (high - low) finite"
        raise ValueError(f"high must be {wanted}, got {high} for low = {low}")
    return low, high, bins, bins / (high - low)


def several(arrays, kind, name="arrays"):
    """Checks a tuple or list of arrays of one dtype, at least one."""
    if not isinstance(arrays, tuple | list):
        got = arguments.type_name(type(arrays))
        raise TypeError(f"{name} must be a tuple or list of arrays, got {got}")
    if not arrays:
        raise ValueError(f"{name} must be at least one array, got none")
    for k, array in enumerate(arrays):
        arguments.floating(f"{name}[{k}]", array, kind)
        if array.dtype != arrays[0].dtype:
            wanted = f"{arrays[0].dtype}, as {name}[0] is"
            raise TypeError(f"{name}[{k}] must be {wanted}, got {array.dtype}")
