"""Losses of class labels on the GPU; equations and shapes as in reference/losses.py.

A label that names no class makes the loss NaN here and raises ValueError at the next synchronize().
"""

from .. import arguments
from ..catalog import FRACTION
from .activations import output, outputs
from .runtime import device
from .runtime.table import blocks_of
from .softmax import by_width


def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0, out=None):
    """Mean loss, of shape (), and dlogits in one pass; dlogits may replace logits."""
    arguments.floating("logits", logits, device.ndarray, 2)
    arguments.rows("logits", logits)
    rows, classes = logits.shape
    arguments.labels("labels", labels, device.ndarray, rows)
    arguments.number("label_smoothing", label_smoothing, FRACTION)
    inputs, may_replace = {"logits": logits, "labels": labels}, [("out[1]", "logits")]
    loss, dlogits = outputs(out, [(), logits.shape], logits.dtype, inputs, may_replace)
    kernel, *across = by_width("cross_entropy", classes)
    sums = partial_sums(loss, kernel, rows, classes)
    given = logits, labels, labels.itemsize, sums, dlogits, device.fault(), rows, classes
    settings = label_smoothing, 1 - label_smoothing, 1 / rows
    device.launch(kernel, (rows, classes), *given, *settings, *across)
    finish(sums, loss)
    return loss, dlogits


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
