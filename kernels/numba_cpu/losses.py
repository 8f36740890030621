"""Cross-entropies for the CPU, by groups of rows as in softmax.py: logits are read once."""

import math

import numpy as np
from numba import carray, prange, types

from .. import arguments, loss_arguments
from . import weighted_cross_entropy
from .codegen.elementary import exp, largest
from .codegen.jit import kernel, threaded
from .codegen.shortcut import below, disjoint, in_place, read, shortcut, span, writable, written
from .codegen.vectors import stack
from .softmax import GROUP, PART, row_sum, serial

NARROW = 16  # classes up to which rows are so short that vectors hold a class of many rows
ROWS = 64  # of which they hold one
BLOCK = (NARROW + 2) * ROWS
MEAN = "mean"  # known by its identity where it is the default or spelt out: that is quicker
LOG_EVERY = 16  # row sums lie between 1 and 2^31: a product of 16 of them is far from overflow


@kernel
def _narrow_rows(logits, labels, smoothing, batch, dlogits):
    """cross_entropy_rows for a few classes: the loops go over the rows, a class at a time."""
    real, classes = logits.dtype.type, logits.shape[1]
    on, off = real((1 - smoothing) / batch), real(smoothing / classes / batch)
    block = carray(stack(logits, BLOCK), (NARROW + 2, ROWS))
    loss = 0.0
    for first in range(0, len(logits), ROWS):
        rows = min(ROWS, len(logits) - first)
        x, out = logits[first : first + rows], dlogits[first : first + rows]
        top, total = block[classes, :rows], block[classes + 1, :rows]
        for c in range(classes):
            e = block[c, :rows]
            for i in range(rows):
                e[i] = x[i, c]
                top[i] = e[i] if c == 0 or e[i] > top[i] else top[i]
        for i in range(rows):
            loss -= (1 - smoothing) * (x[i, labels[first + i]] - top[i])
            total[i] = 0
        for c in range(classes):
            e = block[c, :rows]
            if smoothing > 0:
                for i in range(rows):
                    loss -= smoothing / classes * (e[i] - top[i])
            for i in range(rows):
                e[i] = exp(e[i] - top[i])
                total[i] += e[i]
        product = 1.0
        for i in range(rows):
            product *= total[i]
            if i % LOG_EVERY == LOG_EVERY - 1:
                loss += math.log(product)
                product = 1.0
            total[i] = real(1) / (total[i] * real(batch))
        loss += math.log(product)
        for c in range(classes):
            e = block[c, :rows]
            for i in range(rows):
                out[i, c] = e[i] * total[i] - off
        for i in range(rows):
            out[i, labels[first + i]] -= on
    return loss


@kernel
def _wide_rows(logits, labels, smoothing, batch, dlogits):
    """cross_entropy_rows for many classes: the loops go over a row."""
    classes = logits.shape[1]
    group, one = max(1, GROUP // classes), logits.dtype.type(1)
    on = logits.dtype.type((1 - smoothing) / batch)
    off = logits.dtype.type(smoothing / classes / batch)
    loss, product, pending = 0.0, 1.0, 0
    for first in range(0, len(logits), group):
        last = min(len(logits), first + group)
        for i in range(first, last):
            x, row = logits[i], dlogits[i]
            top = largest(x)
            for j in range(row.size):
                row[j] = x[j] - top
            loss -= (1 - smoothing) * row[labels[i]]
            if smoothing > 0:
                loss -= smoothing / classes * row_sum(row)
        part = dlogits[first:last]
        flat = part.reshape(part.size)
        for k in range(flat.size):
            flat[k] = exp(flat[k])
        for i in range(first, last):
            row = dlogits[i]
            total = row_sum(row)
            scale = one / (total * logits.dtype.type(batch))
            for j in range(row.size):
                row[j] = row[j] * scale - off
            row[labels[i]] -= on
            product *= total
            pending += 1
            if pending == LOG_EVERY:  # one logarithm for several rows
                loss += math.log(product)
                product, pending = 1.0, 0
    return loss + math.log(product)


@kernel
def cross_entropy_rows(logits, labels, smoothing, batch, dlogits):
    """dlogits of these rows, and the sum of their losses."""
    if logits.shape[1] <= NARROW:
        return _narrow_rows(logits, labels, smoothing, batch, dlogits)
    return _wide_rows(logits, labels, smoothing, batch, dlogits)


@kernel
def _part(first, rows, logits, labels, smoothing, dlogits):
    """What cross_entropy_rows makes of the rows from `first` on."""
    part = slice(first, min(len(logits), first + rows))
    return cross_entropy_rows(logits[part], labels[part], smoothing, len(logits), dlogits[part])


@kernel
def _labels_in_range(labels, classes):
    inside = True
    for i in range(labels.size):
        inside &= (labels[i] >= 0) & (labels[i] < classes)
    return inside


@threaded
def _cross_entropy(logits, labels, smoothing, loss, dlogits):
    """False, and nothing written, where a label is out of range."""
    batch, classes = logits.shape
    if not _labels_in_range(labels, classes):
        return False
    rows = 1 + PART // classes
    parts, total = (batch + rows - 1) // rows, 0.0
    if serial(logits.size):
        for c in range(parts):
            total += _part(c * rows, rows, logits, labels, smoothing, dlogits)
    else:
        losses = np.empty(parts)
        for c in prange(parts):
            losses[c] = _part(c * rows, rows, logits, labels, smoothing, dlogits)
        for c in range(parts):
            total += losses[c]
    loss[()] = total / batch
    return True


@kernel
def _sparse_cross_entropy(probabilities, labels, loss):
    batch, classes = probabilities.shape
    if not _labels_in_range(labels, classes):
        return False
    total = 0.0
    for i in range(batch):
        total -= math.log(probabilities[i, labels[i]])
    loss[()] = total / batch
    return True


@shortcut(read(2), read(1, of=1), types.float64, written(0), written(2))
def _cross_entropy_call(logits, labels, smoothing, loss, dlogits):
    fits = logits.shape == dlogits.shape and labels.size == len(logits) and logits.size > 0
    fits = fits and below(smoothing, 1) and in_place(span(dlogits), span(logits))
    fits = fits and disjoint((span(dlogits), span(loss)), (span(labels),))
    fits = fits and disjoint((span(loss),), (span(logits),))
    return fits and _cross_entropy(writable(logits), writable(labels), smoothing, loss, dlogits)


@shortcut(read(2), read(1, of=1), written(0))
def _sparse_call(probabilities, labels, loss):
    fits = labels.size == len(probabilities) and probabilities.size > 0
    fits = fits and disjoint((span(loss),), (span(probabilities), span(labels)))
    return fits and _sparse_cross_entropy(writable(probabilities), writable(labels), loss)


def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0, class_weights=None,
                          ignore_index=None, reduction="mean", out=None):  # fmt: skip
    """(loss, dlogits), which may replace logits; see reference.softmax_cross_entropy."""
    if type(out) is tuple:  # others are refused slowly
        unweighted = class_weights is None and ignore_index is None and reduction is MEAN
        if unweighted and getattr(labels, "ndim", 1) == 1:
            if _cross_entropy_call.accepts(logits, labels, label_smoothing, *out):
                return out
        elif weighted_cross_entropy.accepts(
            logits, labels, label_smoothing, class_weights, ignore_index, reduction, out
        ):
            return out
    is_soft, label_smoothing, ignored = loss_arguments.of_cross_entropy(
        logits, labels, label_smoothing, class_weights, ignore_index, reduction, np.ndarray
    )
    inputs = {"logits": logits, "labels": labels, "class_weights": class_weights}
    shapes = (logits.shape[:1] if reduction == "none" else (), logits.shape)
    out = arguments.outputs(out, shapes, logits.dtype, inputs, [("out[1]", "logits")])
    if class_weights is None and ignore_index is None and reduction == MEAN and not is_soft:
        _cross_entropy_call.ready(logits.dtype, labels.dtype)
        inside = _cross_entropy_call.accepts(logits, labels, label_smoothing, *out)
    else:
        inside = weighted_cross_entropy.cross_entropy(
            logits, labels, is_soft, label_smoothing, class_weights, ignored, reduction, out
        )
    if not inside:
        fault = loss_arguments.SOFT_LABEL_FAULT if is_soft else logits.shape[1]
        raise loss_arguments.out_of_range(fault)
    return out


def sparse_categorical_cross_entropy(probabilities, labels, *, out=None):
    """Mean loss of given probabilities; see reference.sparse_categorical_cross_entropy."""
    if out is not None and _sparse_call.accepts(probabilities, labels, out):
        return out
    arguments.floating("probabilities", probabilities, np.ndarray, 2)
    arguments.rows("probabilities", probabilities)
    arguments.labels("labels", labels, np.ndarray, len(probabilities))
    if out is None:
        out = np.empty((), probabilities.dtype)
    else:
        arguments.written("out", out, np.ndarray, probabilities.dtype, ())
        arguments.disjoint({"out": out}, {"probabilities": probabilities, "labels": labels})
    _sparse_call.ready(probabilities.dtype, labels.dtype)
    if not _sparse_call.accepts(probabilities, labels, out):
        raise arguments.label_out_of_range("labels", probabilities.shape[1])
    return out
