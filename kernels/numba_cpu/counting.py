"""Loops that count for the CPU: rows of each unit, elements, bins.

Counts are integers, so that it does not matter how the work is shared: every thread takes one part.
Within a part they are int32, as wide as the elements that they go with.
"""

import numpy as np
from numba import prange
from numba.extending import register_jitable

from .codegen.jit import kernel, named, serial, threaded
from .codegen.threads import thread_count

GROUP = 1024  # elements of neighbouring rows that are counted as one row
ROWS = 1 << 16  # that int32 counts see before they are added up
BLOCK = 1 << 12  # elements that stay in the L1 cache
FEW_BINS = 1 << 12  # that each thread has several times: an increment waits for the one before it


@register_jitable
def _parts(size):
    return 1 if serial(size) else thread_count()


@register_jitable
def _part(p, parts, size):
    return slice(p * size // parts, (p + 1) * size // parts)


@register_jitable
def limits(x, low, high):
    """The least number of x's dtype that is not below `low`, the largest not above `high`."""
    real = x.dtype.type
    least, most = real(low), real(high)
    if least < low:
        least = np.nextafter(least, real(np.inf))
    if most > high:
        most = np.nextafter(most, real(-np.inf))
    return least, most


@register_jitable
def _inside(value, low, high):
    return (value >= low) & (value <= high)


@register_jitable
def _outside(value, low, high):
    return (value < low) | (value > high)


def _by_units(counted, name):
    """count(x, low, high, counts): adds to them in how many rows each unit is counted."""

    def of_rows(x, low, high, counts):
        units = x.shape[1]
        width = max(1, min(len(x), GROUP // units)) * units
        flat, found = x.reshape(x.size), np.zeros(width, np.int32)
        whole = flat.size - flat.size % (4 * width)
        for start in range(0, whole, 4 * width):
            a, b = flat[start : start + width], flat[start + width : start + 2 * width]
            rest = flat[start + 2 * width : start + 4 * width]
            c, d = rest[:width], rest[width:]
            for k in range(width):
                upper = np.int32(counted(a[k], low, high)) + np.int32(counted(b[k], low, high))
                lower = np.int32(counted(c[k], low, high)) + np.int32(counted(d[k], low, high))
                found[k] += np.int32(upper) + np.int32(lower)
        for start in range(whole, flat.size, width):
            piece = flat[start : start + width]
            for k in range(piece.size):
                found[k] += np.int32(counted(piece[k], low, high))
        for start in range(0, width, units):
            for j in range(units):
                counts[j] += found[start + j]

    of_rows = kernel(named(of_rows, name))

    def of_part(x, low, high, counts):
        for first in range(0, len(x), ROWS):
            of_rows(x[first : first + ROWS], low, high, counts)

    of_part = kernel(named(of_part, name))

    def count(x, low, high, counts):
        parts = _parts(x.size)
        if parts == 1:
            of_part(x, low, high, counts)
        else:
            found = np.zeros((parts, x.shape[1]), np.int64)
            for p in prange(parts):
                of_part(x[_part(p, parts, len(x))], low, high, found[p])
            for p in range(parts):
                counts += found[p]

    return threaded(named(count, name))


count_inside, count_outside = _by_units(_inside, "inside"), _by_units(_outside, "outside")


@kernel
def _small_part(x, most, counts):
    for start in range(0, x.size, BLOCK):
        block = x[start : start + BLOCK]
        zeros = small = np.int32(0)
        for k in range(block.size):
            zeros = np.int32(zeros + np.int32(block[k] == 0))
            small = np.int32(small + np.int32(abs(block[k]) <= most))
        counts[0] += zeros
        counts[1] += small


@threaded
def count_small(x, most, counts):
    parts = _parts(x.size)
    found = np.zeros((parts, 2), np.int64)
    if parts == 1:
        _small_part(x, most, found[0])
    else:
        for p in prange(parts):
            _small_part(x[_part(p, parts, x.size)], most, found[p])
    counts[:] = 0
    for p in range(parts):
        counts += found[p]


@register_jitable
def _bin(value, low, high, scale, bins):
    """Where it is counted: `bins` below, then above, then NaN."""
    inside = (value >= low) & (value <= high)
    other = bins if value < low else (bins + 1 if value > high else bins + 2)
    place = min(np.int32((value - low) * scale if inside else 0.0), np.int32(bins - 1))
    return np.int32(place if inside else other)


@kernel
def _bins_part(x, low, high, bins, scale, counts):
    """counts: (4, bins + 3) or (1, bins + 3), of which the sum counts."""
    places, copies = np.empty(BLOCK, np.int32), len(counts)
    last, bins = copies - 1, np.int32(bins)
    for start in range(0, x.size, BLOCK):
        block = x[start : start + BLOCK]
        for k in range(block.size):
            places[k] = _bin(np.float64(block[k]), low, high, scale, bins)
        whole = block.size - block.size % 4
        for k in range(0, whole, 4):
            counts[0, places[k]] += 1
            counts[1 & last, places[k + 1]] += 1
            counts[2 & last, places[k + 2]] += 1
            counts[3 & last, places[k + 3]] += 1
        for k in range(whole, block.size):
            counts[0, places[k]] += 1


@threaded
def count_bins(x, low, high, bins, scale, counts):
    parts, copies = _parts(x.size), 4 if bins <= FEW_BINS else 1
    if parts * bins > x.size:
        parts = 1
    found = np.zeros((parts, copies, bins + 3), np.int64)
    if parts == 1:
        _bins_part(x, low, high, bins, scale, found[0])
    else:
        for p in prange(parts):
            _bins_part(x[_part(p, parts, x.size)], low, high, bins, scale, found[p])
    counts[:] = 0
    for p in range(parts):
        for c in range(copies):
            counts += found[p, c]
