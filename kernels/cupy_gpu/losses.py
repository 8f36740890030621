"""Losses of class labels on the GPU; equations and shapes as in reference/losses.py.

A label that names no class, or a soft one out of range, makes the loss NaN here and raises
ValueError at the next synchronize().
"""

from .. import arguments, loss_arguments
from .activations import output, outputs
from .runtime import device
from .runtime.table import blocks_of, threads_of_row
from .softmax import by_width


def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0, class_weights=None,
                          ignore_index=None, reduction="mean", out=None):  # fmt: skip
    """(loss, dlogits) in one pass; dlogits may replace logits."""
    kind, weights = device.ndarray, class_weights
    is_soft, smoothing, ignored = loss_arguments.of_cross_entropy(
        logits, labels, label_smoothing, weights, ignore_index, reduction, kind
    )
    rows, classes = logits.shape
    inputs = {"logits": logits, "labels": labels, "class_weights": weights}
    shapes = [(rows,) if reduction == "none" else (), logits.shape]
    loss, dlogits = outputs(out, shapes, logits.dtype, inputs, [("out[1]", "logits")])
    settings = smoothing, 1 - smoothing, 1 / rows if reduction == "mean" else 1
    if is_soft or weights is not None or ignore_index is not None or reduction != "mean":
        labels = labels, 0 if is_soft else labels.itemsize
        _weighted(logits, labels, weights, ignored, reduction, settings, loss, dlogits)
        return loss, dlogits
    kernel, *across = by_width("cross_entropy", classes)
    sums = partial_sums(loss, kernel, rows, classes)
    given = logits, labels, labels.itemsize, sums, dlogits, device.fault(), rows, classes
    device.launch(kernel, (rows, classes), *given, *settings, *across)
    finish(sums, loss)
    return loss, dlogits


def _weighted(logits, labels, weights, ignored, reduction, settings, loss, dlogits):
    """labels: the array, and the bytes of a label, 0 of soft targets; ignored as of_classes."""
    (rows, classes), (_, label_bytes), each = logits.shape, labels, reduction == "none"
    divisor = None
    if reduction == "mean" and label_bytes:
        divisor = total_weight(*labels, weights, rows, classes, ignored, logits.dtype)
    kernel, work = "weighted_cross_entropy", (rows, classes)
    sums = loss if each else partial_sums(loss, kernel, *work)
    given = logits, *labels, weights, divisor, sums, dlogits, device.fault(), *work
    device.launch(kernel, work, *given, *ignored, *settings, each, threads_of_row(classes))
    finish(sums, loss)


def total_weight(labels, label_bytes, weights, rows, classes, ignored, dtype):
    """The sum of the weights, 1 unless given, of the labels that are not ignored; of shape ()."""
    total = device.empty((), dtype)
    sums = partial_sums(total, "label_weights", rows)
    given = sums, labels, label_bytes, weights, rows, classes, *ignored
    device.launch("label_weights", (rows,), *given)
    finish(sums, total)
    return total


def sparse_categorical_cross_entropy(probabilities, labels, *, out=None):
    """Mean of -log p_i,label_i; the loss has shape ()."""
    arguments.floating("probabilities", probabilities, device.ndarray, 2)
    arguments.rows("probabilities", probabilities)
    rows, classes = probabilities.shape
    arguments.labels("labels", labels, device.ndarray, rows)
    inputs = {"probabilities": probabilities, "labels": labels}
    loss = output(out, (), probabilities.dtype, inputs)
    sums = partial_sums(loss, "sparse_cross_entropy", rows)
    given = probabilities, labels, labels.itemsize, sums, device.fault(), rows, classes, 1 / rows
    device.launch("sparse_cross_entropy", (rows,), *given)
    finish(sums, loss)
    return loss


def partial_sums(loss, kernel, *work):
    """Where the blocks leave their sums: in `loss` itself where there is only one block."""
    count = blocks_of(kernel, loss.dtype, *work)
    return loss if count == 1 else device.empty(count, loss.dtype)


def finish(sums, loss):
    """Add up what the blocks have left."""
    if sums is not loss:
        device.launch("total", (), sums, loss, sums.size)
