"""Statistics for the CPU: counts, histograms and norms, one pass over memory each.

The arguments are checked here; the loops are those of counting.py and squares.py.
"""

import numpy as np
from numba import types
from numba.extending import register_jitable

from .. import arguments, intervals
from .codegen.jit import named
from .codegen.shortcut import disjoint, read, shortcut, span, writable, written
from .counting import count_bins, count_inside, count_outside, count_small, limits
from .squares import add_squares, root


def _by_units(count, name):
    """A shortcut of (x, low, high, whether to add to the counts, counts) around count(...)."""

    def call(x, low, high, adds, counts):
        fits = counts.size == x.shape[1] and disjoint((span(counts),), (span(x),))
        if fits:
            if not adds:
                counts[:] = 0
            if x.size > 0:
                least, most = limits(x, low, high)
                count(writable(x), least, most, counts)
        return fits

    bounds = types.float64, types.float64
    return shortcut(read(2), *bounds, types.boolean, written(1, of=1))(named(call, name))


# By these names the shortcuts are found in the cache again: a compiled function of a closure has
# another name in every process.
@register_jitable
def _count_inside(x, low, high, counts):
    count_inside(x, low, high, counts)


@register_jitable
def _count_outside(x, low, high, counts):
    count_outside(x, low, high, counts)


_inside, _outside = _by_units(_count_inside, "inside"), _by_units(_count_outside, "outside")


def connection_sparsity(weight, *, threshold=0.0, out=None):
    """Weights of each unit with |w| <= threshold; see reference.connection_sparsity."""
    threshold = arguments.number("threshold", threshold, intervals.SIZE)
    return _of_units(_inside, "weight", weight, (-threshold, threshold), out)


def unit_activity(y, active, *, threshold=0.0):
    """active += rows in which each unit is above the threshold; see reference.unit_activity."""
    threshold = arguments.number("threshold", threshold, intervals.ANY)
    if not _outside.accepts(y, -np.inf, threshold, True, active):
        arguments.floating("y", y, np.ndarray, 2)
        arguments.written("active", active, np.ndarray, intervals.COUNT, (y.shape[1],))
        arguments.disjoint({"active": active}, {"y": y})
        _outside.ready(y.dtype, active.dtype)
        _outside(y, -np.inf, threshold, True, active)


def saturation(y, activation, *, margin=0.01, out=None):
    """Rows in which each unit is near an end of its range; see reference.saturation."""
    return _of_units(_outside, "y", y, intervals.of_activation(activation, margin), out)


def _of_units(call, name, x, limits, out):
    if out is not None and call.accepts(x, *limits, False, out):
        return out
    arguments.floating(name, x, np.ndarray, 2)
    out = _counts(out, x.shape[1], {name: x})
    call.ready(x.dtype, out.dtype)
    call(x, *limits, False, out)
    return out


def _counts(out, count, inputs):
    """`out`, checked, or a new array of so many counts."""
    if out is None:
        return np.empty(count, intervals.COUNT)
    arguments.written("out", out, np.ndarray, intervals.COUNT, (count,))
    arguments.disjoint({"out": out}, inputs)
    return out


@shortcut(read(2), types.float64, written(1, of=1))
def _sparsity_call(x, threshold, counts):
    fits = counts.size == 2 and disjoint((span(counts),), (span(x),))
    if fits:
        counts[:] = 0
        _, most = limits(x, -threshold, threshold)
        count_small(writable(x).reshape(x.size), most, counts)
    return fits


def sparsity(x, *, threshold=0.0, out=None):
    """Elements that are 0, and that have |x| <= threshold; see reference.sparsity."""
    threshold = arguments.number("threshold", threshold, intervals.SIZE)
    return _of_all(_sparsity_call, x, (threshold,), 2, out)


def _of_all(call, x, settings, count, out):
    if out is not None and call.accepts(x, *settings, out):
        return out
    arguments.floating("x", x, np.ndarray)
    out = _counts(out, count, {"x": x})
    call.ready(x.dtype, out.dtype)
    call(as_row(x), *settings, out)
    return out


def as_row(x):
    """A view of an array of any shape that has two axes."""
    return x if x.ndim == 2 else x.reshape(1, x.size)


@shortcut(read(2), *[types.float64] * 2, types.intp, types.float64, written(1, of=1))
def _histogram_call(x, low, high, bins, scale, counts):
    fits = counts.size == bins + 3 and disjoint((span(counts),), (span(x),))
    if fits:
        counts[:] = 0
        count_bins(writable(x).reshape(x.size), low, high, bins, scale, counts)
    return fits


def histogram(x, *, low, high, bins, out=None):
    """Counts of equal bins, then below, above and NaN; see reference.histogram."""
    settings = intervals.of_histogram(low, high, bins)
    return _of_all(_histogram_call, x, settings, settings[2] + 3, out)


SUMS = types.Array(types.float64, 1, "C")


@shortcut(read(2), SUMS)
def add_squares_of(x, sums):
    add_squares(writable(x).reshape(x.size), sums)
    return True


@shortcut(SUMS, written(0))
def _root(sums, norm):
    norm[()] = root(sums)
    return True


def global_norm(arrays, *, out=None):
    """sqrt(sum of all squares) of a tuple or list of arrays; see reference.global_norm."""
    intervals.several(arrays, np.ndarray)
    dtype, sums = arrays[0].dtype, np.zeros(3)
    if out is None:
        out = np.empty((), dtype)
    else:
        arguments.written("out", out, np.ndarray, dtype, ())
        arguments.disjoint({"out": out}, {f"arrays[{k}]": x for k, x in enumerate(arrays)})
    add_squares_of.ready(dtype)
    _root.ready(dtype)
    for array in arrays:
        add_squares_of(as_row(array), sums)
    _root(sums, out)
    return out
