"""Loops that count for the CPU: rows of each unit, elements, bins.

Counts are integers, so that it does not matter how the work is shared: every thread takes one part.
Within a part they are int32, as wide as the elements that they go with. A part is read at two
places in turn, in short pieces: a core gets more from memory by two streams than by one.
"""

import numpy as np
from numba import prange

from .codegen.inlined import register_jitable
from .codegen.jit import kernel, named, serial, threaded
from .codegen.threads import thread_count

GROUP = 1024  # elements of neighbouring rows that are counted as one row
ROWS = 1 << 16  # that int32 counts see before they are added up
PIECE = 256  # elements that are read at one place
BLOCK = 1 << 12  # elements that stay in the L1 cache
FEW_BINS = 1 << 12  # that each thread has several times: an increment waits for the one before it
PAIRED_BINS = 64  # whose pairs, 18 KB of int32, stay in the L1 cache
PAIRED = 16, 1 << 30  # the fewest elements for each of the pairs, the most before they are added up
PAIRS = 64  # whose bins are computed while those before are still being counted


@register_jitable
def _parts(size):
    return 1 if serial(size) else thread_count()


@register_jitable
def _part(p, parts, size):
    return slice(p * size // parts, (p + 1) * size // parts)


# Not in the threaded functions themselves, where each of these would be a parallel region.


@kernel
def _zeros(rows, width):
    return np.zeros((rows, width), np.int64)


@kernel
def _add_rows(found, counts):
    for row in found:
        counts += row


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
        half = flat.size // (2 * width) * width
        for start in range(0, half, width):
            for first in range(0, width, PIECE):
                near = found[first : min(width, first + PIECE)]
                a, b = flat[start + first :], flat[half + start + first :]
                for k in range(near.size):
                    one, other = counted(a[k], low, high), counted(b[k], low, high)
                    near[k] += np.int32(one) + np.int32(other)
        for start in range(2 * half, flat.size, width):
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
            found = _zeros(parts, x.shape[1])
            for p in prange(parts):
                of_part(x[_part(p, parts, len(x))], low, high, found[p])
            _add_rows(found, counts)

    return threaded(named(count, name))


count_inside, count_outside = _by_units(_inside, "inside"), _by_units(_outside, "outside")


@kernel
def _small_part(x, most, counts):
    half = x.size // 2
    for start in range(0, half, PIECE):
        a, b = x[start : min(half, start + PIECE)], x[half + start :]
        zeros = small = np.int32(0)
        for k in range(a.size):
            zeros = np.int32(zeros + np.int32(a[k] == 0) + np.int32(b[k] == 0))
            small = np.int32(small + np.int32(abs(a[k]) <= most) + np.int32(abs(b[k]) <= most))
        counts[0] += zeros
        counts[1] += small
    for value in x[2 * half :]:
        counts[0] += value == 0
        counts[1] += abs(value) <= most


@threaded
def count_small(x, most, counts):
    """Adds to them how many elements are 0, and how many are at most `most` in magnitude."""
    parts = _parts(x.size)
    if parts == 1:
        _small_part(x, most, counts)
    else:
        found = _zeros(parts, 2)
        for p in prange(parts):
            _small_part(x[_part(p, parts, x.size)], most, found[p])
        _add_rows(found, counts)


@register_jitable
def _bin(value, low, high, scale, bins):
    """Where it is counted: `bins` below, then above, then NaN. One choice after another: these are
    vectorised, and only what is left at the end is converted.
    """
    place, last = (value - low) * scale, np.float64(bins - 1)
    place = place if place < last else last
    place = place if value >= low else np.float64(bins)
    place = place if value <= high else np.float64(bins + 1)
    place = place if value == value else np.float64(bins + 2)
    return np.uint32(np.int32(place))


@kernel
def _bins_of_pairs(x, low, high, bins, scale, counts):
    """One increment counts two elements, by the pair of their bins: there are half as many, and one
    rarely waits for another of the same pair.
    """
    width, half = np.uint32(bins + 3), x.size // 2
    places, found = np.empty(PAIRS, np.uint32), np.zeros(width * width, np.int32)
    whole = half - half % PAIRS
    for start in range(0, whole, PAIRS):
        a, b = x[start : start + PAIRS], x[half + start : half + start + PAIRS]
        for k in range(PAIRS):
            one = _bin(np.float64(a[k]), low, high, scale, bins)
            places[k] = width * one + _bin(np.float64(b[k]), low, high, scale, bins)
        for k in range(PAIRS):
            found[places[k]] += 1
    for i in range(width):
        row = found[i * width : (i + 1) * width]
        for j in range(width):
            counts[i] += row[j]
            counts[j] += row[j]
    for rest in (x[whole:half], x[half + whole :]):
        for value in rest:
            counts[_bin(np.float64(value), low, high, scale, bins)] += 1


@kernel
def _bins_part(x, low, high, bins, scale, counts):
    """counts: (4, bins + 3) or (1, bins + 3), of which the sum counts."""
    fewest, most = PAIRED
    if bins <= PAIRED_BINS and x.size >= fewest * (bins + 3) ** 2:
        for start in range(0, x.size, most):
            _bins_of_pairs(x[start : start + most], low, high, bins, scale, counts[0])
        return
    places, last = np.empty(BLOCK, np.uint32), len(counts) - 1
    first, second, third, fourth = counts[0], counts[1 & last], counts[2 & last], counts[last]
    for start in range(0, x.size, BLOCK):
        block = x[start : start + BLOCK]
        for k in range(block.size):
            places[k] = _bin(np.float64(block[k]), low, high, scale, bins)
        whole = block.size - block.size % 4
        for k in range(0, whole, 4):
            first[places[k]] += 1
            second[places[k + 1]] += 1
            third[places[k + 2]] += 1
            fourth[places[k + 3]] += 1
        for k in range(whole, block.size):
            first[places[k]] += 1


@threaded
def count_bins(x, low, high, bins, scale, counts):
    """Adds to them how many elements are in each bin, below, above and NaN."""
    parts, copies = _parts(x.size), 4 if bins <= FEW_BINS else 1
    if parts * bins > x.size:
        parts = 1
    found = _zeros(parts * copies, bins + 3)
    if parts == 1:
        _bins_part(x, low, high, bins, scale, found)
    else:
        for p in prange(parts):
            mine = found[p * copies : (p + 1) * copies]
            _bins_part(x[_part(p, parts, x.size)], low, high, bins, scale, mine)
    _add_rows(found, counts)
