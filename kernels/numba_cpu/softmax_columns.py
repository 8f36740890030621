"""Softmax for the CPU along an axis behind which there are others: down the columns of matrices.

A block of columns is read row by row, so that loads are vectors, with running maxima and sums for
its columns (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018). As many rows
as fit are taken together into a work space, where every exponential is taken once. Where they are
all, they are read from memory once, else a second time for the result. Of a matrix with few columns
several rows make one, each of whose places has a running sum of its own.
"""

import numpy as np
from numba import carray, prange, types
from numba.extending import register_jitable

from .codegen.elementary import exp, log
from .codegen.jit import kernel, threaded
from .codegen.shortcut import in_place, read, shortcut, span, writable, written
from .codegen.threads import thread_count
from .codegen.vectors import stack

WIDTH = 64  # the most columns of a block
STATE = 4 * WIDTH
VECTOR = 16  # float32 of a large register
SPACE = 1 << 13  # elements that are taken together: 32 KiB of float32
THREADS_FROM = 1 << 13  # elements
PART = 1 << 12  # elements that a thread takes at a time, or one block


@kernel
def _merge(top, period):
    """The largest of every column, in all of its places."""
    for c in range(period, top.size):
        top[c % period] = top[c] if top[c] > top[c % period] else top[c % period]
    for c in range(period, top.size):
        top[c] = top[c % period]


@kernel
def _block(x, out, begin, step, width, period, takes_log):
    """The columns from `begin` on of a matrix; in place c of a row stands column c % period."""
    real, lowest = x.dtype.type, x.dtype.type(-np.inf)
    work, state = carray(stack(x, SPACE), SPACE), carray(stack(x, STATE), (4, WIDTH))
    top, total, shift, part = state[0, :width], state[1, :width], state[2, :width], state[3, :width]
    for c in range(width):
        top[c], total[c] = lowest, 0
    count, at_once = (x.size - begin + step - 1) // step, SPACE // width
    for first in range(0, count, at_once):
        rows = min(at_once, count - first)
        for c in range(width):
            shift[c], part[c] = top[c], 0
        for r in range(rows):
            start = begin + (first + r) * step
            row, kept = x[start : min(x.size, start + width)], work[r * width : (r + 1) * width]
            for c in range(row.size):
                kept[c] = row[c]
                top[c] = row[c] if row[c] > top[c] else top[c]
        if period < width:
            _merge(top, period)
        for c in range(width):
            if top[c] > shift[c]:
                total[c] *= exp(shift[c] - top[c])
            shift[c] = top[c] if top[c] > lowest else real(0)  # -inf - -inf is NaN
        for r in range(rows):
            start = begin + (first + r) * step
            kept = work[r * width : r * width + min(width, x.size - start)]
            for c in range(kept.size):
                e = exp(kept[c] - shift[c])
                part[c] += e
                kept[c] = kept[c] if takes_log else e
        for c in range(width):
            total[c] += part[c]
    for c in range(period, width):
        total[c % period] += total[c]
    for c in range(width):
        total[c] = total[c % period]
        shift[c] = log(total[c]) if takes_log else real(1) / total[c]
    for r in range(count):
        start = begin + r * step
        row, result = x[start : min(x.size, start + width)], out[start : min(x.size, start + width)]
        kept = work[r * width : r * width + row.size] if count <= at_once else row
        if takes_log:
            for c in range(row.size):
                result[c] = kept[c] - top[c] - shift[c]
        elif count <= at_once:
            for c in range(row.size):
                result[c] = kept[c] * shift[c]
        else:
            for c in range(row.size):
                result[c] = exp(row[c] - top[c]) * shift[c]


@register_jitable
def _widths(along, behind):
    """(columns of a block, their places in a row of the work space)."""
    if 2 * behind <= WIDTH:
        return behind, behind * min(along, WIDTH // behind)
    blocks = (behind + WIDTH - 1) // WIDTH
    width = (behind + blocks - 1) // blocks
    width = min(behind, (width + VECTOR - 1) // VECTOR * VECTOR)
    return width, width


@kernel
def _blocks(first, last, x, out, behind, columns, width, takes_log):
    """Blocks number `first` ... `last` - 1 of all matrices, which are rows of x and out."""
    each = (behind + columns - 1) // columns
    for number in range(first, last):
        begin = number % each * columns
        columns_here = min(columns, behind - begin)
        step = width if width > columns else behind
        places = width if width > columns else columns_here
        _block(x[number // each], out[number // each], begin, step, places, columns_here, takes_log)


@threaded
def _columns(x, out, takes_log):
    before, along, behind = x.shape
    columns, width = _widths(along, behind)
    count = before * ((behind + columns - 1) // columns)
    at_once = 1 + PART // (along * columns)
    x, out = x.reshape(before, along * behind), out.reshape(before, along * behind)
    if x.size < THREADS_FROM or thread_count() == 1:
        _blocks(0, count, x, out, behind, columns, width, takes_log)
    else:
        for c in prange((count + at_once - 1) // at_once):
            first = c * at_once
            last = min(count, first + at_once)
            _blocks(first, last, x, out, behind, columns, width, takes_log)


@shortcut(read(3), written(3), types.boolean)
def columns_call(logits, out, takes_log):
    """A shortcut of (logits, out, whether it takes the logarithm) around the kernels."""
    fits = logits.shape == out.shape and out.size > 0 and in_place(span(out), span(logits))
    if fits:
        _columns(writable(logits), out, takes_log)
    return fits
