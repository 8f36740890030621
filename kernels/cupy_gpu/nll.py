"""The negative log-likelihood on the GPU; equation and shapes as in reference/nll.py.

A label that names no class makes the loss NaN here and raises ValueError at the next synchronize().
"""

from .. import arguments, loss_arguments
from ..catalog import REDUCTIONS
from .activations import outputs
from .losses import finish, partial_sums, total_weight
from .runtime import device


def nll(log_probabilities, labels, *, class_weights=None, ignore_index=None, reduction="mean",
        out=None):  # fmt: skip
    """(loss, dlog_probabilities), which may replace log_probabilities."""
    y, weights, kind = log_probabilities, class_weights, device.ndarray
    arguments.floating("log_probabilities", y, kind, 2)
    arguments.rows("log_probabilities", y)
    rows, classes = y.shape
    arguments.labels("labels", labels, kind, rows)
    ignored = loss_arguments.of_classes(weights, ignore_index, kind, y.dtype, classes)
    arguments.one_of("reduction", reduction, REDUCTIONS)
    each = reduction == "none"
    inputs = {"log_probabilities": y, "labels": labels, "class_weights": weights}
    shapes, may_replace = [(rows,) if each else (), y.shape], [("out[1]", "log_probabilities")]
    loss, dy = outputs(out, shapes, y.dtype, inputs, may_replace)
    divisor, scale = None, 1.0
    if reduction == "mean" and weights is None and ignore_index is None:
        scale = 1 / rows
    elif reduction == "mean":
        given = labels, labels.itemsize, weights, rows, classes, ignored
        divisor = total_weight(*given, y.dtype)
    sums = loss if each else partial_sums(loss, "nll", y.size)
    given = y, labels, labels.itemsize, weights, divisor, sums, dy, device.fault(), y.size, classes
    device.launch("nll", (y.size,), *given, *ignored, scale, each)
    finish(sums, loss)
    return loss, dy
