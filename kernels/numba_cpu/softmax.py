"""Softmax for the CPU, along rows; along another axis by softmax_columns.py.

Rows are taken in groups that stay in the L1 cache, and a group is one array to the exponential:
that loop runs at full vector width even when a row has two classes. The logits are read from memory
once.
"""

import math

import numpy as np
from numba import carray, prange

from .. import arguments
from ..loss_arguments import LAST, logits_along
from .codegen.elementary import exp, largest
from .codegen.inlined import register_jitable
from .codegen.jit import kernel, named, reduction, threaded
from .codegen.shortcut import in_place, read, shortcut, span, writable, written
from .codegen.threads import thread_count
from .codegen.vectors import stack
from .softmax_columns import columns_call

GROUP = 2048  # elements: 8 KiB of float32 in and as much out
THREADS_FROM = 1 << 13  # elements: a row of ten takes some 10 ns
PART = 1 << 12  # elements that a thread takes at a time; fixed, so that sums do not depend on it


@reduction
def row_sum(x):
    """The sum of an array."""
    total = x.dtype.type(0)
    for k in range(x.size):
        total += x[k]
    return total


@kernel
def _below_largest(logits, out):
    """Rows of differences to their largest."""
    for i in range(len(logits)):
        x, row = logits[i], out[i]
        top = largest(x)
        for j in range(row.size):
            row[j] = x[j] - top


@kernel
def _softmax_rows(logits, out):
    group, one = max(1, GROUP // logits.shape[1]), logits.dtype.type(1)
    for first in range(0, len(logits), group):
        last = min(len(logits), first + group)
        part = out[first:last]
        _below_largest(logits[first:last], part)
        flat = part.reshape(part.size)
        for k in range(flat.size):
            flat[k] = exp(flat[k])
        for i in range(first, last):
            row = out[i]
            scale = one / row_sum(row)
            for j in range(row.size):
                row[j] *= scale


@kernel
def _log_softmax_rows(logits, out):
    classes = logits.shape[1]
    group, e = max(1, GROUP // classes), carray(stack(logits, GROUP), GROUP)
    for first in range(0, len(logits), group):
        last = min(len(logits), first + group)
        part = out[first:last]
        _below_largest(logits[first:last], part)
        flat = part.reshape(part.size)
        for k in range(min(GROUP, flat.size)):
            e[k] = exp(flat[k])
        for i in range(first, last):
            row, begin = out[i], (i - first) * classes
            total = row_sum(e[begin : min(GROUP, begin + classes)])
            for start in range(GROUP, classes, GROUP):  # the rest of a row that fills `e`
                piece = row[start : start + GROUP]
                for k in range(piece.size):
                    e[k] = exp(piece[k])
                total += row_sum(e[: piece.size])
            shift = logits.dtype.type(math.log(total))
            for j in range(row.size):
                row[j] -= shift


@register_jitable
def serial(size):
    """Whether one thread is to go over so many elements."""
    return size < THREADS_FROM or thread_count() == 1


def _by_parts(of_rows, name):
    def every_row(logits, out):
        if serial(logits.size):
            of_rows(logits, out)
        else:
            rows = 1 + PART // logits.shape[1]
            for c in prange((len(logits) + rows - 1) // rows):
                part = slice(c * rows, min(len(logits), (c + 1) * rows))
                of_rows(logits[part], out[part])

    return threaded(named(every_row, name))


_softmax = _by_parts(_softmax_rows, "softmax")
_log_softmax = _by_parts(_log_softmax_rows, "log_softmax")


@shortcut(read(2), written(2))
def _softmax_call(logits, out):
    fits = logits.shape == out.shape and out.size > 0 and in_place(span(out), span(logits))
    if fits:
        _softmax(writable(logits), out)
    return fits


@shortcut(read(2), written(2))
def _log_softmax_call(logits, out):
    fits = logits.shape == out.shape and out.size > 0 and in_place(span(out), span(logits))
    if fits:
        _log_softmax(writable(logits), out)
    return fits


def softmax(logits, *, axis=-1, out=None):
    """exp(x_j - m) / sum_k exp(x_k - m) along an axis; `out` may be logits; see reference."""
    if out is not None:
        if axis is LAST:
            if _softmax_call.accepts(logits, out):
                return out
        elif _quick(axis, _softmax_call, False, logits, out):
            return out
    return _along(axis, _softmax_call, False, logits, out)


def log_softmax(logits, *, axis=-1, out=None):
    """x_j - m - log sum_k exp(x_k - m) along an axis; `out` may be logits; see reference."""
    if out is not None:
        if axis is LAST:
            if _log_softmax_call.accepts(logits, out):
                return out
        elif _quick(axis, _log_softmax_call, True, logits, out):
            return out
    return _along(axis, _log_softmax_call, True, logits, out)


def _quick(axis, rows_call, takes_log, logits, out):
    """Whether the rows of a matrix, or the columns of one or of several, are done."""
    if not (type(logits) is type(out) is np.ndarray and type(axis) is int):
        return False
    if axis == 1 and logits.ndim == 2:
        return rows_call.accepts(logits, out)
    if logits.ndim not in (2, 3) or axis not in (-2, logits.ndim - 2) or logits.shape[-1] == 1:
        return False
    if logits.ndim == 2:
        logits, out = logits[None], out[None]
    return columns_call.accepts(logits, out, takes_log)


def _along(axis, rows_call, takes_log, logits, out):
    before, along, behind = logits_along(axis, logits, np.ndarray)
    if out is None:
        out = np.empty_like(logits)
    else:
        arguments.written("out", out, np.ndarray, logits.dtype, logits.shape)
        arguments.disjoint({"out": out}, {"logits": logits}, [("out", "logits")])
    if behind == 1:
        call, shape, settings = rows_call, (before, along), ()
    else:
        call, shape, settings = columns_call, (before, along, behind), (takes_log,)
    call.ready(logits.dtype)
    call(logits.reshape(shape), out.reshape(shape), *settings)
    return out
