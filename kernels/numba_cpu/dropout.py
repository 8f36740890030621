"""Dropout for the CPU; equations as in reference/dropout.py.

A thread makes the random words of a thousand elements, which stay in its L1 cache, and then goes
over these elements: each is read and written once. What takes the time are the words, 15 integer
operations each, and not memory.
"""

from functools import partial

import numpy as np
from numba import carray, njit, prange, types

from .. import arguments, dropout
from .codegen.inlined import register_jitable
from .codegen.jit import INTERNAL, threaded
from .codegen.philox import MOST, PAIRS, random_words
from .codegen.shortcut import below, in_place, read, shortcut, span, writable, written
from .codegen.threads import thread_count
from .codegen.vectors import location, never_inlined, stack

THREADS_FROM = 1 << 15  # elements: one takes about a third of a nanosecond
PART = 1 << 13  # elements that a thread takes at a time
_inner = partial(njit, **INTERNAL, fastmath={"contract"})
_threshold_and_scale = register_jitable(dropout.threshold_and_scale)


@register_jitable
def factor(word, threshold, scale):
    """What the element of this random word is multiplied with."""
    return scale if word >= threshold else scale * 0


# With two arguments for one array no loop would be vectorised, for LLVM guards its vector loops by
# a check that they do not overlap.
@_inner
def _scale(x, words, threshold, scale, y):
    for i in range(y.size):
        y[i] = x[i] * factor(words[i], threshold, scale)


@_inner
def _scale_in_place(words, threshold, scale, y):
    for i in range(y.size):
        y[i] *= factor(words[i], threshold, scale)


@_inner
def drop(x, first, rate, seed, stream, step, y):
    """dropout_forward of a run of elements, of which x[0] is number `first` of its array; y may be
    x. Both have one axis.
    """
    never_inlined()
    drawn, in_place = carray(stack(np.uint64, PAIRS), PAIRS), location(x) == location(y)
    threshold, scale = _threshold_and_scale(rate)
    threshold, scale = np.uint32(threshold), y.dtype.type(scale)
    begin, end = first, first + y.size
    while begin < end:
        stop = min(end, (begin // MOST + 1) * MOST)
        words = random_words(drawn, begin, stop, seed, stream, step)
        part = slice(begin - first, stop - first)
        if in_place:
            _scale_in_place(words, threshold, scale, y[part])
        else:
            _scale(x[part], words, threshold, scale, y[part])
        begin = stop


@threaded
def drop_all(x, rate, seed, stream, step, y):
    x, y = x.reshape(-1), y.reshape(-1)
    if x.size < THREADS_FROM or thread_count() == 1:
        drop(x, 0, rate, seed, stream, step, y)
    else:
        for c in prange((x.size + PART - 1) // PART):
            part = slice(c * PART, min(x.size, (c + 1) * PART))
            drop(x[part], c * PART, rate, seed, stream, step, y[part])


@shortcut(read(2), types.float64, types.uint64, types.uint64, types.uint64, written(2))
def _call(x, rate, seed, stream, step, y):
    fits = y.shape == x.shape and in_place(span(y), span(x)) and below(rate, 1)
    if fits:
        drop_all(writable(x), rate, seed, stream, step, y)
    return fits


def dropout_forward(x, rate, *, seed=0, step=0, layer=0, out=None):
    """y = x m; see reference.dropout_forward. `out` may be x."""
    return _dropped("x", x, rate, seed, step, layer, out)


def dropout_backward(dy, rate, *, seed=0, step=0, layer=0, out=None):
    """dx = dy m; see reference.dropout_backward. `out` may be dy."""
    return _dropped("dy", dy, rate, seed, step, layer, out)


def _dropped(name, x, rate, seed, step, layer, out):
    plain = out is not None and dropout.are_plain(seed, step, layer)
    if plain and _call.accepts(x, rate, seed, dropout.stream(layer), step, out):
        return out
    arguments.floating(name, x, np.ndarray, 2)
    rate, seed, step, layer = dropout.check(rate, seed, step, layer)
    if out is None:
        out = np.empty_like(x)
    else:
        arguments.written("out", out, np.ndarray, x.dtype, x.shape)
        arguments.disjoint({"out": out}, {name: x}, [("out", name)])
    _call.ready(x.dtype)
    _call(x, rate, seed, dropout.stream(layer), step, out)
    return out
