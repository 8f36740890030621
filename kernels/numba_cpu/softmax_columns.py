"""Softmax for the CPU along an axis behind which there are others: down the columns of matrices.

A block of columns is read row by row, so that loads are vectors, with running maxima and sums for
its columns (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018). As many rows
as fit are taken together into a work space. Where they are all, the result is made of what is there
then: the exponentials, or for logarithms the rows. Else all are read again for the result, and
their exponentials are taken anew. Of a matrix with few columns several rows make one, each of whose
places has a running sum of its own.
"""

import numpy as np
from numba import carray, prange, types

from .codegen.elementary import exp, log
from .codegen.inlined import register_jitable
from .codegen.jit import kernel, threaded
from .codegen.shortcut import in_place, read, shortcut, span, writable, written
from .codegen.threads import thread_count
from .codegen.vectors import address, advance, noalias, stack

WIDTH = 128  # the most columns of a block,
NARROW = 64  # or these, where so a matrix fits into the work space whole, or has few
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


@register_jitable
def _piece(array, start, count):
    return carray(advance(address(array), start), count)


# Each loop over rows is a function of its own, whose arrays lie apart: together they would be too
# many for LLVM to check, and short rows would be checked too often. Four rows are added up, or
# compared, before what their columns have so far is loaded, changed and stored: that takes longest.


@kernel
def _take(x, begin, step, rows, width, work):
    """Copies rows of x into the work space; -inf makes up the last one, and a multiple of four."""
    noalias()
    for r in range(rows):
        start = begin + r * step
        count = min(width, x.size - start)
        row, kept = _piece(x, start, count), _piece(work, r * width, count)
        for c in range(count):
            kept[c] = row[c]
    taken = (rows - 1) * width + min(width, x.size - begin - (rows - 1) * step)
    rest = _piece(work, taken, (rows + 3) // 4 * 4 * width - taken)
    for c in range(rest.size):
        rest[c] = -np.inf


@register_jitable
def _four(work, r, width):
    rows = _piece(work, r * width, 4 * width)
    return rows[:width], rows[width : 2 * width], rows[2 * width : 3 * width], rows[3 * width :]


@kernel
def _raise(work, rows, width, top):
    """The largest so far of every column."""
    noalias()
    for r in range(0, rows, 4):
        p, q, s, t = _four(work, r, width)
        for c in range(width):
            one = p[c] if p[c] > q[c] else q[c]
            other = s[c] if s[c] > t[c] else t[c]
            one = one if one > other else other
            top[c] = one if one > top[c] else top[c]


@kernel
def _add_exponentials(work, rows, width, shift, part, room, keeps):
    """part += exp(row - shift) of the rows, which stay as they are or become these exponentials;
    `room` is for four rows.
    """
    noalias()
    for r in range(0, rows, 4):
        for k in range(4):
            kept, apart = _piece(work, (r + k) * width, width), _piece(room, k * width, width)
            if keeps:
                for c in range(width):
                    apart[c] = exp(kept[c] - shift[c])
            else:
                for c in range(width):
                    kept[c] = exp(kept[c] - shift[c])
        p, q, s, t = _four(room, 0, width) if keeps else _four(work, r, width)
        for c in range(width):
            part[c] += (p[c] + q[c]) + (s[c] + t[c])


@kernel
def _subtract(work, begin, step, rows, width, top, shift, out):
    """The rows less their columns' largest elements, less the logarithms of the sums."""
    noalias()
    for r in range(rows):
        start = begin + r * step
        count = min(width, out.size - start)
        kept, result = _piece(work, r * width, count), _piece(out, start, count)
        for c in range(count):
            result[c] = kept[c] - top[c] - shift[c]


@kernel
def _scale(work, begin, step, rows, width, top, scale, out, anew):
    """The exponentials of the rows, which are taken anew or lie there, times the scales."""
    noalias()
    for r in range(rows):
        start = begin + r * step
        count = min(width, out.size - start)
        kept, result = _piece(work, r * width, count), _piece(out, start, count)
        if anew:
            for c in range(count):
                result[c] = exp(kept[c] - top[c]) * scale[c]
        else:
            for c in range(count):
                result[c] = kept[c] * scale[c]


@kernel
def _block(x, out, begin, step, width, period, takes_log):
    """The columns from `begin` on of a matrix; in place c of a row stands column c % period."""
    real, lowest = x.dtype.type, x.dtype.type(-np.inf)
    work, state = carray(stack(x, SPACE), SPACE), carray(stack(x, STATE), (4, WIDTH))
    room = carray(stack(x, STATE), STATE)
    top, total, shift, part = state[0, :width], state[1, :width], state[2, :width], state[3, :width]
    for c in range(width):
        top[c], total[c] = lowest, 0
    count, at_once = (x.size - begin + step - 1) // step, SPACE // width // 4 * 4
    for first in range(0, count, at_once):
        rows = min(at_once, count - first)
        for c in range(width):
            shift[c], part[c] = top[c], 0
        _take(x, begin + first * step, step, rows, width, work)
        _raise(work, rows, width, top)
        if period < width:
            _merge(top, period)
        for c in range(width):
            if top[c] > shift[c]:
                total[c] *= exp(shift[c] - top[c])
            shift[c] = top[c] if top[c] > lowest else real(0)  # -inf - -inf is NaN
        _add_exponentials(work, rows, width, shift, part, room, takes_log)
        for c in range(width):
            total[c] += part[c]
    for c in range(period, width):
        total[c % period] += total[c]
    for c in range(width):
        total[c] = total[c % period]
        shift[c] = log(total[c]) if takes_log else real(1) / total[c]
    for first in range(0, count, at_once):
        rows, start = min(at_once, count - first), begin + first * step
        if count > at_once:
            _take(x, start, step, rows, width, work)
        if takes_log:
            _subtract(work, start, step, rows, width, top, shift, out)
        else:
            _scale(work, start, step, rows, width, top, shift, out, count > at_once)


@register_jitable
def _widths(along, behind):
    """(columns of a block, their places in a row of the work space)."""
    if 2 * behind <= NARROW:
        return behind, behind * min((along + 3) // 4, NARROW // behind)
    most = NARROW if NARROW * along <= SPACE < WIDTH * along else WIDTH
    blocks = (behind + most - 1) // most
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
