"""Counts, histograms and norms on the GPU; equations and shapes as in reference/statistics.py."""

from functools import lru_cache

import numpy as np

from .. import arguments, intervals
from .activations import output
from .runtime import device
from .runtime.table import blocks_of, chunks

HISTOGRAMS = 64  # whose bins are kept on the GPU for the next call


def sparsity(x, *, threshold=0.0, out=None):
    """(elements that are 0, elements with |x| <= threshold)."""
    arguments.floating("x", x, device.ndarray)
    threshold = arguments.number("threshold", threshold, intervals.SIZE)
    counts = _counts(out, 2, {"x": x})
    _, most = _limits(-threshold, threshold, x.dtype)
    device.launch("sparsity", (x.size,), x, counts, most, x.size)
    return counts


def connection_sparsity(weight, *, threshold=0.0, out=None):
    """Of each unit, how many of its weights have |w| <= threshold."""
    arguments.floating("weight", weight, device.ndarray, 2)
    threshold = arguments.number("threshold", threshold, intervals.SIZE)
    counts = _counts(out, weight.shape[1], {"weight": weight})
    _count("count_inside", weight, (-threshold, threshold), counts)
    return counts


def unit_activity(y, active, *, threshold=0.0):
    """active += the number of rows in which y is above the threshold, in place."""
    arguments.floating("y", y, device.ndarray, 2)
    arguments.written("active", active, device.ndarray, intervals.COUNT, (y.shape[1],))
    threshold = arguments.number("threshold", threshold, intervals.ANY)
    arguments.disjoint({"active": active}, {"y": y})
    _count("count_outside", y, (-np.inf, threshold), active)


def saturation(y, activation, *, margin=0.01, out=None):
    """In how many rows each unit is near an end of its range."""
    arguments.floating("y", y, device.ndarray, 2)
    limits = intervals.of_activation(activation, margin)
    counts = _counts(out, y.shape[1], {"y": y})
    _count("count_outside", y, limits, counts)
    return counts


def histogram(x, *, low, high, bins, out=None):
    """Counts of equal bins of [low, high], then below, above and NaN."""
    arguments.floating("x", x, device.ndarray)
    low, high, bins, scale = intervals.of_histogram(low, high, bins)
    counts = _counts(out, bins + 3, {"x": x})
    _, highest = _limits(low, high, x.dtype)
    scale = min(scale, float(np.finfo(x.dtype).max))  # it only guesses
    given = x, _starts_there(low, high, bins, x.dtype), counts, highest, scale, bins, x.size
    device.launch("histogram", (x.size,), *given)
    return counts


def global_norm(arrays, *, out=None):
    """sqrt(sum of all squares) of a tuple or list of arrays, of shape ()."""
    intervals.several(arrays, device.ndarray)
    dtype = arrays[0].dtype
    norm = output(out, (), dtype, {f"arrays[{k}]": array for k, array in enumerate(arrays)})
    sums, count = squares(arrays)
    device.launch("root_of_squares", (), sums, norm, count)
    return norm


def squares(arrays):
    """(sums of squares, of how many blocks they are), which a kernel has yet to add up."""
    dtype = arrays[0].dtype
    blocks = [blocks_of("squares", dtype, array.size) for array in arrays]
    sums, first = device.empty(3 * sum(blocks), dtype), 0
    for array, count in zip(arrays, blocks, strict=True):
        device.launch("squares", (array.size,), array, sums, first, array.size)
        first += count
    return sums, first


def _counts(out, count, inputs):
    """`out`, checked, or a new array of so many counts, all 0."""
    counts = output(out, (count,), intervals.COUNT, inputs)
    counts.fill(0)
    return counts


def _count(kernel, x, limits, counts):
    """Adds to the counts of each unit."""
    rows, units = x.shape
    given = x, counts, *_limits(*limits, x.dtype), rows, units
    device.launch(kernel, (units, chunks(rows, units)), *given)


@lru_cache(1024)
def _limits(low, high, dtype):
    """The least number of the dtype that is not below `low`, the largest not above `high`."""
    with np.errstate(over="ignore"):
        least, most = np.array([low, high]).astype(dtype)
    if least.astype(np.float64) < low:
        least = np.nextafter(least, dtype.type(np.inf))
    if most.astype(np.float64) > high:
        most = np.nextafter(most, dtype.type(-np.inf))
    return float(least), float(most)


@lru_cache(HISTOGRAMS)
def _starts_there(low, high, bins, dtype):
    return device.asarray(starts(low, high, bins, dtype))


def starts(low, high, bins, dtype):
    """The least number of the dtype whose bin is k or one behind it, for every bin k; infinity
    where there is none. They are found by bisection of the numbers by their rank.
    """
    integers, most = np.dtype(f"i{dtype.itemsize}"), np.iinfo(f"i{dtype.itemsize}").max
    scale, number = bins / (high - low), np.arange(bins)

    def swapped(rank):  # ranks and bits are made from each other in the same way
        return rank ^ (rank >> (8 * dtype.itemsize - 1)) & most

    def reached(rank):
        x = swapped(rank).view(dtype).astype(np.float64)
        place = np.minimum(np.floor((x - low) * scale), bins - 1)
        return (x >= low) & (place >= number) | (x > high)

    below, above = (swapped(np.full(bins, end, dtype).view(integers)) for end in (-np.inf, np.inf))
    with np.errstate(all="ignore"):
        while (above > below + 1).any():
            middle = (below & above) + ((below ^ above) >> 1)  # their mean, which does not overflow
            is_reached = reached(middle)
            above, below = np.where(is_reached, middle, above), np.where(is_reached, below, middle)
    return swapped(above).view(dtype)
