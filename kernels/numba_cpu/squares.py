"""Sums of squares for the CPU, of numbers of any magnitude, and their root.

They are taken in float64, of parts that follow from the size alone and are added up in order: so
they do not depend on the number of threads. As in counting.py a part is read at two places in turn.
"""

import math

import numpy as np
from numba import prange

from .codegen.inlined import register_jitable
from .codegen.jit import kernel, reduction, serial, threaded

MOST_PARTS = 64
LEAST = 1 << 15  # elements of a part, where there are several
PIECE = 512  # elements that are read at one place
PLAIN = 2.0**-900, 2.0**900  # a piece whose sum of squares lies between them has lost nothing
BIG, SMALL = 2.0**480, 2.0**-480  # elements whose squares may over- or underflow,
DOWN, UP = 2.0**-750, 2.0**750  # and what they are multiplied with before


@reduction
def _squares(a, b):
    total = 0.0
    for k in range(a.size):
        one, other = np.float64(a[k]), np.float64(b[k])
        total += one * one + other * other
    return total


@kernel
def _scaled_squares(x, sums):
    """Blue's three sums (ACM TOMS 4, 1978): of small, other and big elements."""
    for k in range(x.size):
        value = np.float64(x[k])
        if abs(value) > BIG:
            sums[2] += (value * DOWN) ** 2
        elif abs(value) < SMALL:
            sums[0] += (value * UP) ** 2
        else:
            sums[1] += value * value


@kernel
def _part(x, sums):
    sums[:] = 0
    half = x.size // 2
    for start in range(0, half, PIECE):
        size = min(PIECE, half - start)
        a, b = x[start : start + size], x[half + start : half + start + size]
        total = _squares(a, b)
        if PLAIN[0] < total and total < PLAIN[1]:
            sums[1] += total
        else:
            _scaled_squares(a, sums)
            _scaled_squares(b, sums)
    _scaled_squares(x[2 * half :], sums)


@threaded
def add_squares(x, sums):
    """Adds the three sums of x to `sums`."""
    parts = min(MOST_PARTS, 1 + x.size // LEAST)  # by the size alone
    found = np.empty((parts, 3))
    if serial(x.size):
        for p in range(parts):
            _part(x[p * x.size // parts : (p + 1) * x.size // parts], found[p])
    else:
        for p in prange(parts):
            _part(x[p * x.size // parts : (p + 1) * x.size // parts], found[p])
    for p in range(parts):
        for k in range(3):
            sums[k] += found[p, k]


@register_jitable
def root(sums):
    """Of the sum of all squares."""
    small, middle, big = sums
    if big > 0:
        return math.sqrt(big + middle * DOWN * DOWN) * UP
    if middle != 0:  # or NaN
        return math.sqrt(middle + small * DOWN * DOWN)
    return math.sqrt(small) * DOWN
