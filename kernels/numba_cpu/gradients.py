"""What becomes of gradients before the update rule, for the CPU: see reference.gradients.

The arguments are checked here; the loops are those of clipping.py and squares.py. The norm and the
factor are taken in float64.
"""

import math

import numpy as np
from numba import types

from .. import arguments, gradient_arguments
from .clipping import clip_factor, limit_all, penalise_all, scale_all
from .codegen.shortcut import below, disjoint, read, shortcut, span, writable, written
from .squares import root
from .statistics import SUMS, add_squares_of, as_row


@shortcut(written(2), read(2), types.float64)
def _penalise(grad, param, l2):
    size = grad.size
    penalise_all(grad.reshape(size), writable(param).reshape(size), grad.dtype.type(l2))
    return True


@shortcut(written(2), types.float64)
def _limit(grad, limit):
    limit_all(grad.reshape(grad.size), grad.dtype.type(limit))
    return True


@shortcut(written(2), types.float64)
def _scale(grad, factor):
    scale_all(grad.reshape(grad.size), grad.dtype.type(factor))
    return True


@shortcut(written(2), written(1), read(2), read(1), types.float64)
def _penalise_layer(weight, bias, of_weight, of_bias, l2):
    fits = weight.shape == of_weight.shape and bias.shape == of_bias.shape and below(l2, math.inf)
    fits = fits and disjoint((span(weight), span(bias)), (span(of_weight), span(of_bias)))
    if fits:
        factor, rows = weight.dtype.type(l2), writable(of_weight)
        penalise_all(weight.reshape(weight.size), rows.reshape(weight.size), factor)
        penalise_all(bias, writable(of_bias), factor)
    return fits


@shortcut(written(2), written(1), types.float64)
def _limit_layer(weight, bias, limit):
    fits = limit > 0 and limit < math.inf and disjoint((span(weight),), (span(bias),))
    if fits:
        limit_all(weight.reshape(weight.size), weight.dtype.type(limit))
        limit_all(bias, bias.dtype.type(limit))
    return fits


def _of_layer(arrays):
    """Whether these may be a weight and its bias, whose checks are compiled."""
    return type(arrays) in (tuple, list) and len(arrays) == 2


@shortcut(SUMS, types.float64, written(0))
def _norm_and_factor(sums, limit, norm):
    """Leaves the factor in the first of the sums."""
    found = root(sums)
    norm[()] = found
    sums[0] = clip_factor(found, limit)
    return True


def add_l2(grads, params, l2):
    """g += l2 p, in place; see reference.add_l2."""
    if _of_layer(grads) and _of_layer(params) and _penalise_layer.accepts(*grads, *params, l2):
        return
    gradient_arguments.checked(grads, np.ndarray, params=params)
    l2 = arguments.number("l2", l2, gradient_arguments.WEIGHT)
    for call in (_penalise, _penalise_layer):
        call.ready(grads[0].dtype)
    for g, p in zip(grads, params, strict=True):
        _penalise(as_row(g), as_row(p), l2)


def clip_by_value(grads, limit):
    """Every element to -limit ... limit, in place; see reference.clip_by_value."""
    if _of_layer(grads) and _limit_layer.accepts(*grads, limit):
        return
    gradient_arguments.checked(grads, np.ndarray)
    limit = arguments.number("limit", limit, gradient_arguments.LIMIT)
    for call in (_limit, _limit_layer):
        call.ready(grads[0].dtype)
    for g in grads:
        _limit(as_row(g), limit)


def clip_by_global_norm(grads, max_norm, *, out=None):
    """Brings all gradients to a norm of max_norm where theirs, which is returned, is above it, in
    place; see reference.clip_by_global_norm.
    """
    dtype, sums = gradient_arguments.checked(grads, np.ndarray), np.zeros(3)
    max_norm = arguments.number("max_norm", max_norm, gradient_arguments.LIMIT)
    if out is None:
        out = np.empty((), dtype)
    else:
        arguments.written("out", out, np.ndarray, dtype, ())
        arguments.disjoint({"out": out}, {f"grads[{k}]": g for k, g in enumerate(grads)})
    for call in (add_squares_of, _norm_and_factor, _scale):
        call.ready(dtype)
    for g in grads:
        add_squares_of(as_row(g), sums)
    _norm_and_factor(sums, max_norm, out)
    if sums[0] != 1:
        for g in grads:
            _scale(as_row(g), sums[0])
    return out
