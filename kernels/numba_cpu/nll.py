"""The negative log-likelihood for the CPU: a number of each row is read, its gradient written."""

import numpy as np
from numba import carray, prange, types

from .. import arguments, loss_arguments
from ..arguments import FLOATS
from ..catalog import REDUCTIONS
from .codegen.inlined import register_jitable
from .codegen.jit import kernel, serial, threaded
from .codegen.shortcut import disjoint, in_place, read, shortcut, span, writable, written
from .codegen.vectors import address

PART = 1 << 13  # elements that a thread takes at a time; fixed, so that sums do not depend on it
NONE, MEAN = REDUCTIONS["none"], REDUCTIONS["mean"]
UNWEIGHTED = {dtype: np.empty(0, dtype) for dtype in FLOATS}


@kernel
def total_weight(labels, weights, classes, ignores, ignored):
    """(whether every label names a class or is ignored, the sum of the weights of the others)."""
    inside, total = True, 0.0
    for label in labels:
        if ignores and label == ignored:
            continue
        inside &= 0 <= label < classes
        total += weights[label] if weights.size > 0 and inside else 1
    return inside, total


@kernel
def _rows(y, labels, weights, ignores, ignored, scale, loss, dy):
    """The gradient of these rows, their losses where `loss` has room for them; returns the sum."""
    total, real = 0.0, y.dtype.type
    for i in range(labels.size):
        label, row, weight, nats = labels[i], dy[i], 0.0, 0.0
        kept = not (ignores and label == ignored)
        if kept:
            weight = np.float64(weights[label]) if weights.size > 0 else 1.0
            nats = -weight * y[i, label]
        for j in range(row.size):
            row[j] = 0
        if kept:
            row[label] = real(-weight * scale)
        if loss.size > 0:
            loss[i] = nats
        total += nats
    return total


@register_jitable
def _part(c, rows, y, labels, weights, ignores, ignored, scale, each, dy):
    part = slice(c * rows, min(len(y), (c + 1) * rows))
    return _rows(y[part], labels[part], weights, ignores, ignored, scale, each[part], dy[part])


@threaded
def _nll(y, labels, weights, ignores, ignored, reduction, loss, dy):
    """False, and nothing written, where a label is out of range."""
    inside, weight = total_weight(labels, weights, y.shape[1], ignores, ignored)
    if not inside:
        return False
    divisor = weight if reduction == MEAN else 1.0
    each = loss if reduction == NONE else loss[:0]
    rows = 1 + PART // y.shape[1]
    parts, total, scale = (len(y) + rows - 1) // rows, 0.0, 1 / divisor
    totals = np.empty(parts)
    if serial(y.size):
        for c in range(parts):
            totals[c] = _part(c, rows, y, labels, weights, ignores, ignored, scale, each, dy)
    else:
        for c in prange(parts):
            totals[c] = _part(c, rows, y, labels, weights, ignores, ignored, scale, each, dy)
    if reduction != NONE:
        for c in range(parts):
            total += totals[c]
        loss[0] = total / divisor
    return True


def _checked(y, labels, weights, is_weighted, ignores, ignored, reduction, loss, dy):
    fits = y.shape == dy.shape and labels.size == len(y) and y.size > 0
    fits = fits and weights.size == (y.shape[1] if is_weighted else 0)
    fits = fits and loss.size == (len(y) if reduction == NONE else 1)
    fits = fits and in_place(span(dy), span(y)) and disjoint((span(loss),), (span(y),))
    fits = fits and disjoint((span(dy), span(loss)), (span(labels), span(weights)))
    y, labels, weights = writable(y), writable(labels), writable(weights)
    flat = carray(address(loss), (loss.size,))
    return fits and _nll(y, labels, weights, ignores, ignored, reduction, flat, dy)


_N = types.intp
_given = read(2), read(1, of=1), read(1), _N, _N, _N, _N
_reduced_call = shortcut(*_given, written(0), written(2))(_checked)
_each_call = shortcut(*_given, written(1), written(2))(_checked)


def nll(log_probabilities, labels, *, class_weights=None, ignore_index=None, reduction="mean",
        out=None):  # fmt: skip
    """(loss, dlog_probabilities), which may replace log_probabilities; see reference.nll."""
    if type(out) is tuple and type(reduction) is str:
        weights, plain = class_weights, ignore_index is None and reduction == "mean"
        if weights is None:
            weights = UNWEIGHTED.get(getattr(log_probabilities, "dtype", None))
        if plain and class_weights is None:
            if _reduced_call.accepts(log_probabilities, labels, weights, 0, 0, 0, MEAN, *out):
                return out
        elif (ignored := loss_arguments.ignored_label(ignore_index)) and reduction in REDUCTIONS:
            call = _each_call if reduction == "none" else _reduced_call
            settings = int(class_weights is not None), *ignored, REDUCTIONS[reduction]
            if call.accepts(log_probabilities, labels, weights, *settings, *out):
                return out
    arguments.floating("log_probabilities", log_probabilities, np.ndarray, 2)
    arguments.rows("log_probabilities", log_probabilities)
    (batch, classes), dtype = log_probabilities.shape, log_probabilities.dtype
    arguments.labels("labels", labels, np.ndarray, batch)
    ignored = loss_arguments.of_classes(class_weights, ignore_index, np.ndarray, dtype, classes)
    arguments.one_of("reduction", reduction, REDUCTIONS)
    shape = (batch,) if reduction == "none" else ()
    inputs = {"log_probabilities": log_probabilities, "labels": labels}
    inputs["class_weights"] = class_weights
    shapes, in_place = (shape, (batch, classes)), [("out[1]", "log_probabilities")]
    out = arguments.outputs(out, shapes, dtype, inputs, in_place)
    call = _each_call if reduction == "none" else _reduced_call
    call.ready(dtype, labels.dtype)
    weights = UNWEIGHTED[dtype] if class_weights is None else class_weights
    settings = class_weights is not None, *ignored, REDUCTIONS[reduction]
    if not call.accepts(log_probabilities, labels, weights, *settings, *out):
        raise arguments.label_out_of_range("labels", classes)
    return out
