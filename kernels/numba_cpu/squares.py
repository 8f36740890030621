"""Sums of squares for the CPU, of numbers of any magnitude, and their root.

They are taken in float64 over chunks of a fixed size, which are added up in order: so they do not
depend on the number of threads.
"""

import math

import numpy as np
from numba import prange
from numba.extending import register_jitable

from .codegen.jit import chunk, chunks, kernel, reduction, serial, threaded

BLOCK = 1 << 12  # elements that stay in the L1 cache
PLAIN = 2.0**-900, 2.0**900  # a block whose sum of squares lies between them has lost nothing
BIG, SMALL = 2.0**480, 2.0**-480  # elements whose squares may over- or underflow,
DOWN, UP = 2.0**-750, 2.0**750  # and what they are multiplied with before


@reduction
def _squares(x):
    total = 0.0
    for k in range(x.size):
        value = np.float64(x[k])
        total += value * value
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
def _squares_part(x, sums):
    for start in range(0, x.size, BLOCK):
        block = x[start : start + BLOCK]
        total = _squares(block)
        if PLAIN[0] < total and total < PLAIN[1]:
            sums[1] += total
        else:
            _scaled_squares(block, sums)


@threaded
def add_squares(x, sums):
    """Adds the three sums of x to `sums`."""
    found = np.zeros((chunks(x.size), 3))
    if serial(x.size):
        for c in range(len(found)):
            _squares_part(x[chunk(c, x.size)], found[c])
    else:
        for c in prange(len(found)):
            _squares_part(x[chunk(c, x.size)], found[c])
    for c in range(len(found)):
        sums += found[c]


@register_jitable
def root(sums):
    """Of the sum of all squares."""
    small, middle, big = sums
    if big > 0:
        return math.sqrt(big + middle * DOWN * DOWN) * UP
    if middle != 0:  # or NaN
        return math.sqrt(middle + small * DOWN * DOWN)
    return math.sqrt(small) * DOWN
