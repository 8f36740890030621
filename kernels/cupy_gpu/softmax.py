"""Softmax on the GPU, along any axis; equations and shapes as in reference/softmax.py."""

from ..loss_arguments import logits_along
from .activations import output
from .runtime import device
from .runtime.table import NARROW, lanes


def softmax(logits, *, axis=-1, out=None):
    """p_j = exp(x_j - m) / sum_k exp(x_k - m) along an axis. `out` may be logits."""
    return _along(axis, "softmax", False, logits, out)


def log_softmax(logits, *, axis=-1, out=None):
    """y_j = x_j - m - log sum_k exp(x_k - m) along an axis. `out` may be logits."""
    return _along(axis, "log_softmax", True, logits, out)


def _along(axis, function, takes_log, logits, out):
    before, along, behind = logits_along(axis, logits, device.ndarray)
    result = output(out, logits.shape, logits.dtype, {"logits": logits}, ("logits",))
    if behind == 1:
        kernel, *across = by_width(function, along)
        device.launch(kernel, (before, along), logits, result, before, along, *across)
    else:
        columns = before * behind
        given = logits, result, columns, along, behind, takes_log
        device.launch("softmax_columns", (columns,), *given)
    return result


def by_width(kernel, classes):
    """The kernel for rows of this width, and its lanes a row where that is its to know."""
    return (f"{kernel}_narrow", lanes(classes)) if classes <= NARROW else (f"{kernel}_wide",)
