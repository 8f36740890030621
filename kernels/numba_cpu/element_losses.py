"""Losses of elements for the CPU: their functions, checked; loops and threads are of the parts.

Where a target or a variance is out of range, arrays given as `out` may be partly written, unless
they were to replace inputs.
"""

from functools import cache

import numpy as np
from numba import carray, types

from .. import arguments, loss_arguments
from ..catalog import ELEMENT_LOSSES, REDUCTIONS
from .codegen.inlined import register_jitable
from .codegen.shortcut import Shortcut, disjoint, in_place, read, span, written
from .codegen.vectors import address
from .element_loss_parts import NONE, losses, reduced

__all__ = [*ELEMENT_LOSSES]

is_known = losses.known


@register_jitable
def _flat(array):
    return carray(address(array), (array.size,))


@register_jitable
def _fit(loss_id, x, t, reduction, loss, dx):
    fits = x.shape == t.shape and x.shape == dx.shape and x.size > 0
    fits = fits and (loss.shape == x.shape if reduction == NONE else loss.size == 1)
    fits = fits and in_place(span(dx), span(x)) and disjoint((span(dx), span(loss)), (span(t),))
    return fits and disjoint((span(loss),), (span(x),)) and is_known(address(dx), loss_id)


def _one_gradient(loss_id, x, t, a, reduction, loss, dx):
    if not _fit(loss_id, x, t, reduction, loss, dx):
        return False
    x, t, loss, dx = _flat(x), _flat(t), _flat(loss), _flat(dx)
    return reduced(loss_id, x, t, x, loss, dx, dx, span(dx) == span(x), a, reduction)


def _two_gradients(loss_id, x, t, s, a, reduction, loss, dx, ds):
    fits = _fit(loss_id, x, t, reduction, loss, dx) and x.shape == s.shape and x.shape == ds.shape
    fits = fits and in_place(span(ds), span(s)) and disjoint((span(dx), span(loss)), (span(s),))
    fits = fits and disjoint((span(ds),), (span(x), span(t), span(loss), span(dx)))
    if not fits:
        return False
    replaces = span(dx) == span(x) or span(ds) == span(s)
    x, t, s, loss, dx, ds = _flat(x), _flat(t), _flat(s), _flat(loss), _flat(dx), _flat(ds)
    return reduced(loss_id, x, t, s, loss, dx, ds, replaces, a, reduction)


@cache
def _call(ndim, loss_ndim, has_variance):
    """The shortcut for arrays of so many dimensions."""
    arrays = [read(ndim)] * (3 if has_variance else 2)
    results = written(loss_ndim), *[written(ndim)] * (len(arrays) - 1)
    function = _two_gradients if has_variance else _one_gradient
    return Shortcut((types.intp, *arrays, types.float64, types.intp, *results), function)


def _loss(name, given, setting, reduction, out):
    """(loss, gradients) of the loss of this name; `given` are its arrays."""
    declared, x, setting = ELEMENT_LOSSES[name], given[0], loss_arguments.setting(name, setting)
    if type(out) is tuple and type(x) is np.ndarray and type(reduction) is str:
        call = _call(x.ndim, x.ndim if reduction == "none" else 0, declared.variance)
        number = REDUCTIONS.get(reduction, -1)
        if number >= 0 and call.accepts(declared.id, *given, setting, number, *out):
            return out
    inputs = dict(zip(declared.arrays, given, strict=True))
    shapes = loss_arguments.shapes(inputs, reduction, np.ndarray)
    out = arguments.outputs(out, shapes, x.dtype, inputs, declared.may_replace)
    losses.ready(x.dtype, declared.id)
    call = _call(x.ndim, len(shapes[0]), declared.variance)
    call.ready(x.dtype)
    if not call.accepts(declared.id, *given, setting, REDUCTIONS[reduction], *out):
        raise loss_arguments.element_out_of_range(name)
    return out


def mean_squared_error(prediction, target, *, reduction="mean", out=None):
    """(x - t)^2 and its gradient, which may replace prediction; see reference."""
    return _loss("mean_squared_error", (prediction, target), None, reduction, out)


def mean_absolute_error(prediction, target, *, reduction="mean", out=None):
    """|x - t| and its gradient, which may replace prediction; see reference."""
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
    """exp(x) - t x and its gradient, which may replace log_rate; see reference."""
    return _loss("poisson_nll", (log_rate, target), None, reduction, out)


def gaussian_nll(mean, target, variance, *, eps=1e-6, reduction="mean", out=None):
    """(log s + (x - t)^2 / s) / 2, s = max(variance, eps), and its gradients by mean and variance,
    which may replace these.
    """
    return _loss("gaussian_nll", (mean, target, variance), eps, reduction, out)
