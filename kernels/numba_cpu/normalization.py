"""Batch and layer normalisation for the CPU; the loops are those of column_moments.py and
row_moments.py.
"""

import numpy as np
from numba import types

from .. import arguments, normalization
from ..normalization import EPS, MOMENTUM
from .codegen.inlined import register_jitable
from .codegen.jit import named
from .codegen.shortcut import below, disjoint, in_place, read, shortcut, span, writable, written
from .codegen.vectors import no_rows
from .column_moments import (
    columns_gradient,
    inference_scale,
    keep_running,
    normalize_columns,
    scale_columns,
)
from .row_moments import normalize_rows, rows_gradient

_REAL = types.float64
# What the shortcuts with skip and without it have in common; a call of it would cost those without
# a tenth of a microsecond. Where nothing is added, skip has no rows.
_common = register_jitable(forceinline=True)


@register_jitable
def _may_be_added(skip, x, *outputs):
    return skip.shape == x.shape and disjoint(outputs, (span(skip),))


@_common
def _batch(x, gamma, beta, running_mean, running_variance, momentum, eps, skip, y, mean, rstd):
    rows, units = x.shape
    fits = x.size > 0 and gamma.size == units and beta.size == units and y.shape == x.shape
    fits = fits and running_mean.size == units and running_variance.size == units
    fits = fits and mean.size == units and rstd.size == units and below(momentum, 1) and eps > 0
    outputs = span(y), span(mean), span(rstd), span(running_mean), span(running_variance)
    fits = fits and disjoint(outputs, (span(x), span(gamma), span(beta)))
    if fits:
        variance = np.empty(units)
        given = writable(x), writable(gamma), writable(beta), eps, skip
        normalize_columns(*given, y, mean, variance, rstd)
        keep_running(mean, variance, rows, momentum, running_mean, running_variance)
    return fits


_BATCH = read(2), read(1), read(1), written(1), written(1), _REAL, _REAL
_NORMALIZED = written(2), written(1), written(1)


@shortcut(*_BATCH, *_NORMALIZED)
def _batch_forward(x, gamma, beta, running_mean, running_variance, momentum, eps, y, mean, rstd):
    given = x, gamma, beta, running_mean, running_variance, momentum, eps
    return _batch(*given, no_rows(beta), y, mean, rstd)


@shortcut(*_BATCH, read(2), *_NORMALIZED)
def _batch_to_skip(x, gamma, beta, running_mean, running_variance, momentum, eps, skip, y, mean,
                   rstd):  # fmt: skip
    given = x, gamma, beta, running_mean, running_variance, momentum, eps
    outputs = span(y), span(mean), span(rstd), span(running_mean), span(running_variance)
    return _may_be_added(skip, x, *outputs) and _batch(*given, writable(skip), y, mean, rstd)


@_common
def _infer(x, gamma, beta, running_mean, running_variance, eps, skip, y):
    units = x.shape[1]
    fits = x.size > 0 and gamma.size == units and beta.size == units and y.shape == x.shape
    fits = fits and running_mean.size == units and running_variance.size == units and eps > 0
    inputs = span(gamma), span(beta), span(running_mean), span(running_variance)
    fits = fits and in_place(span(y), span(x)) and disjoint((span(y),), inputs)
    if fits:
        scale = inference_scale(writable(gamma), writable(running_variance), eps)
        given = writable(x), writable(running_mean), scale, writable(beta), skip
        scale_columns(*given, y)
    return fits


@shortcut(read(2), *[read(1)] * 4, _REAL, written(2))
def _inference(x, gamma, beta, running_mean, running_variance, eps, y):
    return _infer(x, gamma, beta, running_mean, running_variance, eps, no_rows(beta), y)


@shortcut(read(2), *[read(1)] * 4, _REAL, read(2), written(2))
def _inference_to_skip(x, gamma, beta, running_mean, running_variance, eps, skip, y):
    given = x, gamma, beta, running_mean, running_variance, eps
    return _may_be_added(skip, x, span(y)) and _infer(*given, writable(skip), y)


@_common
def _layer(x, gamma, beta, eps, skip, y, mean, rstd):
    rows, units = x.shape
    fits = x.size > 0 and gamma.size == units and beta.size == units and y.shape == x.shape
    fits = fits and mean.size == rows and rstd.size == rows and eps > 0
    inputs = span(x), span(gamma), span(beta)
    fits = fits and disjoint((span(y), span(mean), span(rstd)), inputs)
    if fits:
        given = writable(x), writable(gamma), writable(beta), eps, skip
        normalize_rows(*given, y, mean, rstd)
    return fits


@shortcut(read(2), read(1), read(1), _REAL, *_NORMALIZED)
def _layer_forward(x, gamma, beta, eps, y, mean, rstd):
    return _layer(x, gamma, beta, eps, no_rows(beta), y, mean, rstd)


@shortcut(read(2), read(1), read(1), _REAL, read(2), *_NORMALIZED)
def _layer_to_skip(x, gamma, beta, eps, skip, y, mean, rstd):
    fits = _may_be_added(skip, x, span(y), span(mean), span(rstd))
    return fits and _layer(x, gamma, beta, eps, writable(skip), y, mean, rstd)


# By these names the shortcuts below are found in the cache again: a compiled function of a closure
# has another name in every process.
@register_jitable
def _of_columns(dy, x, gamma, mean, rstd, dx, dgamma, dbeta):
    columns_gradient(dy, x, gamma, mean, rstd, dx, dgamma, dbeta)


@register_jitable
def _of_rows(dy, x, gamma, mean, rstd, dx, dgamma, dbeta):
    rows_gradient(dy, x, gamma, mean, rstd, dx, dgamma, dbeta)


def _backward(gradient, axis, name):
    """A shortcut around gradient(...), with a mean for every place along the axis."""

    def call(dy, x, gamma, mean, rstd, dx, dgamma, dbeta):
        places, units = x.shape[axis], x.shape[1]
        fits = x.size > 0 and dy.shape == x.shape and dx.shape == x.shape
        fits = fits and gamma.size == units and dgamma.size == units and dbeta.size == units
        fits = fits and mean.size == places and rstd.size == places
        inputs = span(x), span(gamma), span(mean), span(rstd)
        fits = fits and disjoint((span(dx), span(dgamma), span(dbeta)), inputs)
        fits = fits and disjoint((span(dgamma), span(dbeta)), (span(dy),))
        fits = fits and in_place(span(dx), span(dy))
        if fits:
            given = writable(dy), writable(x), writable(gamma), writable(mean), writable(rstd)
            gradient(*given, dx, dgamma, dbeta)
        return fits

    arrays = *[read(2)] * 2, *[read(1)] * 3, written(2), *[written(1)] * 2
    return shortcut(*arrays)(named(call, name))


_batch_backward = _backward(_of_columns, 1, "columns")
_layer_backward = _backward(_of_rows, 0, "rows")


def batch_norm_forward(x, gamma, beta, running_mean, running_variance, *, momentum=0.1, eps=1e-5,
                       skip=None, out=None):  # fmt: skip
    """(y, mean, rstd), and what runs along; see reference.batch_norm_forward."""
    given = x, gamma, beta, running_mean, running_variance
    if type(out) is tuple:
        if skip is None:
            if _batch_forward.accepts(*given, momentum, eps, *out):
                return out
        elif _batch_to_skip.accepts(*given, momentum, eps, skip, *out):
            return out
    running = {"running_mean": running_mean, "running_variance": running_variance}
    inputs = {"x": x, "gamma": gamma, "beta": beta, "skip": skip}
    _, units = normalization.forward({**inputs, **running}, np.ndarray)
    normalization.updated(running)
    arguments.disjoint(running, inputs)
    momentum = arguments.number("momentum", momentum, MOMENTUM)
    eps = arguments.number("eps", eps, EPS)
    out = arguments.outputs(out, (x.shape, (units,), (units,)), x.dtype, {**inputs, **running})
    call, more = (_batch_forward, ()) if skip is None else (_batch_to_skip, (skip,))
    call.ready(x.dtype)
    call(*given, momentum, eps, *more, *out)
    return out


def batch_norm_inference(x, gamma, beta, running_mean, running_variance, *, eps=1e-5, skip=None,
                         out=None):  # fmt: skip
    """y, which may replace x; see reference.batch_norm_inference."""
    given = x, gamma, beta, running_mean, running_variance
    if out is not None:
        if skip is None:
            if _inference.accepts(*given, eps, out):
                return out
        elif _inference_to_skip.accepts(*given, eps, skip, out):
            return out
    names = "x", "gamma", "beta", "running_mean", "running_variance", "skip"
    inputs = dict(zip(names, (*given, skip), strict=True))
    normalization.forward(inputs, np.ndarray)
    eps = arguments.number("eps", eps, EPS)
    if out is None:
        out = np.empty_like(x)
    else:
        arguments.written("out", out, np.ndarray, x.dtype, x.shape)
        arguments.disjoint({"out": out}, inputs, [("out", "x")])
    call, more = (_inference, ()) if skip is None else (_inference_to_skip, (skip,))
    call.ready(x.dtype)
    call(*given, eps, *more, out)
    return out


def batch_norm_backward(dy, x, gamma, mean, rstd, *, out=None):
    """(dx, dgamma, dbeta), dx may replace dy; see reference.batch_norm_backward."""
    return _gradients(_batch_backward, 1, dy, x, gamma, mean, rstd, out)


def layer_norm_forward(x, gamma, beta, *, eps=1e-5, skip=None, out=None):
    """(y, mean, rstd); see reference.layer_norm_forward."""
    if type(out) is tuple:
        if skip is None:
            if _layer_forward.accepts(x, gamma, beta, eps, *out):
                return out
        elif _layer_to_skip.accepts(x, gamma, beta, eps, skip, *out):
            return out
    inputs = {"x": x, "gamma": gamma, "beta": beta, "skip": skip}
    rows, _ = normalization.forward(inputs, np.ndarray)
    eps = arguments.number("eps", eps, EPS)
    out = arguments.outputs(out, (x.shape, (rows,), (rows,)), x.dtype, inputs)
    call, more = (_layer_forward, ()) if skip is None else (_layer_to_skip, (skip,))
    call.ready(x.dtype)
    call(x, gamma, beta, eps, *more, *out)
    return out


def layer_norm_backward(dy, x, gamma, mean, rstd, *, out=None):
    """(dx, dgamma, dbeta), dx may replace dy; see reference.layer_norm_backward."""
    return _gradients(_layer_backward, 0, dy, x, gamma, mean, rstd, out)


def _gradients(call, axis, dy, x, gamma, mean, rstd, out):
    if type(out) is tuple and call.accepts(dy, x, gamma, mean, rstd, *out):
        return out
    inputs = {"dy": dy, "x": x, "gamma": gamma, "mean": mean, "rstd": rstd}
    shapes = normalization.backward(inputs, np.ndarray, axis)
    out = arguments.outputs(out, shapes, dy.dtype, inputs, [("out[0]", "dy")])
    call.ready(dy.dtype)
    call(dy, x, gamma, mean, rstd, *out)
    return out
