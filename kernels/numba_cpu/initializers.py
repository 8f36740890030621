"""Initial weights for the CPU; equations as in reference/initializers.py.

A thread makes the random words of a few thousand elements, which stay in its L1 cache, and then the
numbers of these.
"""

from functools import partial

import numpy as np
from numba import carray, njit, prange, types

from .. import arguments, initialization
from ..catalog import CONSTANT, NORMAL, ORTHOGONAL, SPARSE_NORMAL, UNIFORM
from .codegen.inlined import register_jitable
from .codegen.jit import INTERNAL, threaded
from .codegen.philox import MOST, PAIRS, random_words
from .codegen.shortcut import shortcut, written
from .codegen.threads import thread_count
from .codegen.variates import normal_pair, symmetric
from .codegen.vectors import never_inlined, stack

THREADS_FROM = 1 << 14  # elements: one takes about a nanosecond
PART = 1 << 13  # elements that a thread takes at a time
COLUMNS = 256  # of a row that a thread takes at a time; with two blocks no more than MOST words
_inner = partial(njit, **INTERNAL, fastmath={"contract"})


@register_jitable
def _serial(size):
    return size < THREADS_FROM or thread_count() == 1


@_inner
def _uniform(words, limit, out):
    real = out.dtype.type
    for i in range(out.size):
        out[i] = limit * symmetric(words[i], real)


@_inner
def _normal(words, deviation, out):
    real, last = out.dtype.type, out.size - 1
    for pair in range(out.size // 2):
        first, second = normal_pair(words[2 * pair], words[2 * pair + 1], real)
        out[2 * pair] = deviation * first
        out[2 * pair + 1] = deviation * second
    if last % 2 == 0:
        out[last] = deviation * normal_pair(words[last], words[last + 1], real)[0]


@_inner
def _draw(first, out, distribution, scale, seed, stream):
    """The elements from `first` on, where a block of words begins."""
    never_inlined()
    drawn, scale = carray(stack(np.uint64, PAIRS), PAIRS), out.dtype.type(scale)
    if distribution == CONSTANT:
        out[:] = scale
        return
    for start in range(0, out.size, MOST):
        part = out[start : start + MOST]
        begin = first + start
        words = random_words(drawn, begin, begin + part.size, seed, stream, 0)
        if distribution == UNIFORM:
            _uniform(words, scale, part)
        else:
            _normal(words, scale, part)


@_inner
def _connect(weight, first, last, count, seed, stream):
    """Clears all but `count` inputs of the units first ... last - 1, at most COLUMNS of them."""
    never_inlined()
    fan_in, fan_out = weight.shape
    drawn = carray(stack(np.uint64, PAIRS), PAIRS)
    missing = np.full(last - first, np.uint64(count))
    for i in range(fan_in):
        row, left = weight[i, first:last], np.uint64(fan_in - i)
        words = random_words(drawn, i * fan_out + first, i * fan_out + last, seed, stream, 1)
        for j in range(row.size):
            chosen = np.uint64(words[j]) * left >> np.uint64(32) < missing[j]
            missing[j] -= np.uint64(chosen)
            row[j] = row[j] if chosen else row.dtype.type(0)


@threaded
def _fill(weight, distribution, number, seed, stream):
    flat, scale = weight.reshape(-1), 1.0 if distribution == SPARSE_NORMAL else number
    if _serial(flat.size):
        _draw(0, flat, distribution, scale, seed, stream)
    else:
        for c in prange((flat.size + PART - 1) // PART):
            part = flat[c * PART : (c + 1) * PART]
            _draw(c * PART, part, distribution, scale, seed, stream)


@threaded
def _connect_units(weight, count, seed, stream):
    fan_out = weight.shape[1]
    if _serial(weight.size):
        for first in range(0, fan_out, COLUMNS):
            _connect(weight, first, min(fan_out, first + COLUMNS), count, seed, stream)
    else:
        for c in prange((fan_out + COLUMNS - 1) // COLUMNS):
            _connect(weight, c * COLUMNS, min(fan_out, (c + 1) * COLUMNS), count, seed, stream)


@shortcut(written(2), types.intp, types.float64, types.uint64, types.uint64)
def _call(weight, distribution, number, seed, stream):
    if distribution not in (CONSTANT, UNIFORM, NORMAL, SPARSE_NORMAL):
        return False
    _fill(weight, distribution, number, seed, stream)
    if distribution == SPARSE_NORMAL:
        _connect_units(weight, number, seed, stream)
    return True


def initialize(weight, initializer, *, seed=0, stream=0, value=None):
    """Overwrites weight, (fan_in, fan_out); see reference.initialize."""
    distribution, number = initialization.check(weight, initializer, value, np.ndarray)
    seed, stream = arguments.random_numbers(seed, stream)
    if distribution == ORTHOGONAL:
        drawn = np.empty(weight.shape)
        _call.ready(drawn.dtype)
        _call(drawn, NORMAL, 1.0, seed, stream)
        weight[...] = initialization.orthogonal(drawn, number)
    else:
        _call.ready(weight.dtype)
        _call(weight, distribution, number, seed, stream)
