"""Losses of elements on the GPU; equations and shapes as in reference/element_losses.py.

A target or a variance out of range makes the loss and the gradients of its element NaN here, and
raises ValueError at the next synchronize().
"""

from .. import loss_arguments
from ..catalog import ELEMENT_LOSSES
from .activations import outputs
from .losses import finish, partial_sums
from .runtime import device

__all__ = [*ELEMENT_LOSSES]


def mean_squared_error(prediction, target, *, reduction="mean", out=None):
    """(x - t)^2 and its gradient, which may replace prediction."""
    return _loss("mean_squared_error", (prediction, target), None, reduction, out)


def mean_absolute_error(prediction, target, *, reduction="mean", out=None):
    """|x - t| and its gradient, which may replace prediction."""
    return _loss("mean_absolute_error", (prediction, target), None, reduction, out)


def huber(prediction, target, *, delta=1.0, reduction="mean", out=None):
    """(x - t)^2 / 2, from delta on linear, and its gradient, which may replace prediction."""
    return _loss("huber", (prediction, target), delta, reduction, out)


def binary_cross_entropy_with_logits(logits, target, *, reduction="mean", out=None):
    """max(x, 0) - x t + log(1 + exp(-|x|)) and its gradient, which may replace logits."""
    return _loss("binary_cross_entropy_with_logits", (logits, target), None, reduction, out)


def binary_cross_entropy(probability, target, *, reduction="mean", out=None):
    """-t log p - (1 - t) log(1 - p) and its gradient, which may replace probability."""
    return _loss("binary_cross_entropy", (probability, target), None, reduction, out)


def poisson_nll(log_rate, target, *, reduction="mean", out=None):
    """exp(x) - t x and its gradient, which may replace log_rate."""
    return _loss("poisson_nll", (log_rate, target), None, reduction, out)


def gaussian_nll(mean, target, variance, *, eps=1e-6, reduction="mean", out=None):
    """(log s + (x - t)^2 / s) / 2, s = max(variance, eps), and its gradients by mean and variance,
    which may replace these.
    """
    return _loss("gaussian_nll", (mean, target, variance), eps, reduction, out)


def _loss(name, given, setting, reduction, out):
    """(loss, gradients) of the loss of this name; `given` are its arrays."""
    declared, setting = ELEMENT_LOSSES[name], loss_arguments.setting(name, setting)
    inputs = dict(zip(declared.arrays, given, strict=True))
    shapes = loss_arguments.shapes(inputs, reduction, device.ndarray)
    x = given[0]
    loss, *gradients = results = outputs(out, shapes, x.dtype, inputs, declared.may_replace)
    each, scale = reduction == "none", 1 / x.size if reduction == "mean" else 1.0
    sums = loss if each else partial_sums(loss, "element_loss", x.size)
    no_variance = () if declared.variance else (None,)
    device.launch(
        *("element_loss", (x.size,), declared.id, *given, *no_variance, sums),
        *(*gradients, *no_variance, device.fault(), setting, scale, each, x.size),
    )
    finish(sums, loss)
    return results
