"""The cross-entropy for the CPU with weights of classes, an ignored label, soft targets, or reduced
otherwise than to its mean. Groups of rows as in softmax.py: logits and targets are read once.

The target of class j is t_j = w_j ((1 - s) q_j + s / classes), and T the sum of a row's targets.
"""

import math

import numpy as np
from numba import carray, prange, types

from .. import loss_arguments
from ..arguments import FLOATS
from ..catalog import REDUCTIONS
from .codegen.elementary import exp, largest
from .codegen.inlined import register_jitable
from .codegen.jit import kernel, reduction, threaded
from .codegen.shortcut import below, disjoint, in_place, read, shortcut, span, writable, written
from .codegen.vectors import address, location
from .nll import UNWEIGHTED, total_weight
from .softmax import GROUP, PART, row_sum, serial

NONE, MEAN = REDUCTIONS["none"], REDUCTIONS["mean"]
_NO_LABELS = np.empty(0, np.int32)
_NOT_SOFT = {dtype: np.empty((0, 0), dtype) for dtype in FLOATS}


@kernel
def _fractions(q):
    """Whether all are from 0 to 1, so none is NaN."""
    inside = True
    for k in range(q.size):
        inside &= (q[k] >= 0) & (q[k] <= 1)
    return inside


@reduction
def _of_weights(below_top, weights, spread):
    """(sum of t_j, sum of t_j (m - x_j)) with t_j = w_j s / classes; one of 0 counts nothing."""
    real = weights.dtype.type
    size, nats = real(0), real(0)
    for j in range(weights.size):
        t = weights[j] * spread
        size += t
        nats -= t * below_top[j] if t != 0 else real(0)
    return size, nats


@reduction
def _of_targets(below_top, q, weights, rest, spread):
    """The same of soft targets q, t_j = w_j ((1 - s) q_j + s / classes)."""
    real = weights.dtype.type
    size, nats = real(0), real(0)
    for j in range(q.size):
        t = weights[j] * (rest * q[j] + spread)
        size += t
        nats -= t * below_top[j] if t != 0 else real(0)
    return size, nats


@kernel
def _of_label(below_top, label, weights, smoothing):
    """The same of a label."""
    weight = (1 - smoothing) * np.float64(weights[label])
    size, nats = weight, -weight * below_top[label] if weight != 0 else 0.0
    if smoothing > 0:
        of_others = _of_weights(below_top, weights, weights.dtype.type(smoothing / weights.size))
        size, nats = size + of_others[0], nats + of_others[1]
    return size, nats


@kernel
def _rows(logits, labels, soft, weights, smoothing, ignores, ignored, scale, loss, dlogits):
    """dlogits of these rows, their losses where `loss` has room for them.

    Returns (the sum of the losses, whether all soft targets are from 0 to 1).
    """
    real, classes, is_soft = logits.dtype.type, logits.shape[1], soft.size > 0
    rest, spread, added, inside = real(1 - smoothing), real(smoothing / classes), 0.0, True
    on, off = real((1 - smoothing) * scale), real(smoothing / classes * scale)
    group, sums = max(1, GROUP // classes), np.empty((2, max(1, GROUP // classes)))
    for first in range(0, len(logits), group):
        last = min(len(logits), first + group)
        for i in range(first, last):
            x, row = logits[i], dlogits[i]
            top = largest(x)
            for j in range(classes):
                row[j] = x[j] - top
            if is_soft:
                inside &= _fractions(soft[i])
                size, nats = _of_targets(row, soft[i], weights, rest, spread)
            elif ignores and labels[i] == ignored:
                size, nats = real(0), real(0)
            else:
                size, nats = _of_label(row, labels[i], weights, smoothing)
            sums[0, i - first], sums[1, i - first] = size, nats
        part = dlogits[first:last]
        flat = part.reshape(part.size)
        for k in range(flat.size):
            flat[k] = exp(flat[k])
        for i in range(first, last):
            row, size, nats = dlogits[i], sums[0, i - first], sums[1, i - first]
            total = np.float64(row_sum(row))
            nats += size * math.log(total) if size != 0 else 0.0
            of_p = real(size * scale / total)
            if is_soft:
                q = soft[i]
                for j in range(classes):
                    row[j] = row[j] * of_p - weights[j] * (on * q[j] + off)
            elif ignores and labels[i] == ignored:
                for j in range(classes):
                    row[j] = 0
            else:
                for j in range(classes):
                    row[j] = row[j] * of_p - weights[j] * off
                row[labels[i]] -= weights[labels[i]] * on
            if loss.size > 0:
                loss[i] = nats
            added += nats
    return added, inside


@register_jitable
def _part(c, rows, logits, labels, soft, weights, settings, scale, loss, dlogits):
    part = slice(c * rows, min(len(logits), (c + 1) * rows))
    smoothing, ignores, ignored = settings
    given = logits[part], labels[part], soft[part], weights, smoothing, ignores, ignored
    return _rows(*given, scale, loss[part], dlogits[part])


@threaded
def _cross_entropy(
    logits, labels, soft, weights, smoothing, ignores, ignored, reduced, loss, dlogits
):
    """False where a label or target is out of range; the gradient has not replaced logits then."""
    batch, classes = logits.shape
    divisor, replaces = np.float64(batch), location(logits) == location(dlogits)
    if soft.size == 0:
        inside, divisor = total_weight(labels, weights, classes, ignores, ignored)
        if not inside:
            return False
        divisor = divisor if divisor > 0 else np.nan
    elif replaces and not _fractions(soft.reshape(soft.size)):
        return False
    scale, each = 1 / divisor if reduced == MEAN else 1.0, loss if reduced == NONE else loss[:0]
    rows, settings = 1 + PART // classes, (smoothing, ignores, ignored)
    parts, total = (batch + rows - 1) // rows, 0.0
    totals, all_inside = np.empty(parts), np.empty(parts, np.bool_)
    if serial(logits.size):
        for c in range(parts):
            totals[c], all_inside[c] = _part(
                c, rows, logits, labels, soft, weights, settings, scale, each, dlogits
            )
    else:
        for c in prange(parts):
            totals[c], all_inside[c] = _part(
                c, rows, logits, labels, soft, weights, settings, scale, each, dlogits
            )
    inside = True
    for c in range(parts):
        total += totals[c]
        inside &= all_inside[c]
    if reduced != NONE:
        loss[0] = total / divisor if reduced == MEAN else total
    return inside


def _checked(logits, labels, soft, weights, is_weighted, smoothing, ignores, ignored, reduced, loss,
             dlogits):  # fmt: skip
    classes = logits.shape[1]
    fits = logits.shape == dlogits.shape and logits.size > 0 and below(smoothing, 1)
    fits = fits and weights.size == (classes if is_weighted else 0)
    fits = fits and (labels.size == len(logits) if soft.size == 0 else soft.shape == logits.shape)
    fits = fits and loss.size == (len(logits) if reduced == NONE else 1)
    fits = fits and in_place(span(dlogits), span(logits))
    fits = fits and disjoint((span(loss),), (span(logits),))
    others = span(labels), span(soft), span(weights)
    if not (fits and disjoint((span(dlogits), span(loss)), others)):
        return False
    of_classes = writable(weights)
    if not is_weighted:
        of_classes = np.ones(classes, logits.dtype)
    given = writable(logits), writable(labels), writable(soft), of_classes
    flat = carray(address(loss), (loss.size,))
    return _cross_entropy(*given, smoothing, ignores, ignored, reduced, flat, dlogits)


_N = types.intp
_given = read(2), read(1, of=1), read(2), read(1), _N, types.float64, _N, _N, _N
_reduced_call = shortcut(*_given, written(0), written(2))(_checked)
_each_call = shortcut(*_given, written(1), written(2))(_checked)


def accepts(logits, labels, smoothing, weights, ignore_index, reduction, out):
    """Whether compiled code took the arguments as they are, and has written (loss, dlogits)."""
    ignored, is_soft = loss_arguments.ignored_label(ignore_index), getattr(labels, "ndim", 1) == 2
    known = type(reduction) is str and reduction in REDUCTIONS
    if ignored is None or not known or getattr(logits, "dtype", 0) not in _NOT_SOFT:
        return False
    plain = ignore_index is None and weights is None and reduction == "mean"
    if (ignore_index is not None) if is_soft else plain:  # an error, or what losses.py has
        return False
    return _call(logits, labels, is_soft, smoothing, weights, ignored, reduction, out)


def cross_entropy(logits, labels, is_soft, smoothing, weights, ignored, reduced, out):
    """Writes (loss, dlogits), all arguments checked; False where labels are out of range."""
    call = _each_call if reduced == "none" else _reduced_call
    call.ready(logits.dtype, _NO_LABELS.dtype if is_soft else labels.dtype)
    return _call(logits, labels, is_soft, smoothing, weights, ignored, reduced, out)


def _call(logits, labels, is_soft, smoothing, weights, ignored, reduced, out):
    dtype, call = logits.dtype, _each_call if reduced == "none" else _reduced_call
    labels, soft = (_NO_LABELS, labels) if is_soft else (labels, _NOT_SOFT[dtype])
    weights, is_weighted = (UNWEIGHTED[dtype], 0) if weights is None else (weights, 1)
    settings = is_weighted, smoothing, *ignored, REDUCTIONS[reduced]
    return call.accepts(logits, labels, soft, weights, *settings, *out)
