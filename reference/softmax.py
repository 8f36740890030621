"""Softmax and its logarithm, along any axis."""

from functools import partial

import numpy as np

from .bounds import ELEMENTARY, Bound, smallest_normal, summation, unit_roundoff
from .spec import Operation, Result, store


def softmax(logits, *, axis=-1, out=None):
    """p_j = exp(x_j - m) / sum_k exp(x_k - m) along `axis`, m the largest x along it.

    logits, out: of one or more axes; a negative axis counts from the last one, -1, which are the
    classes of (batch, classes). Stable for any finite logits; a logit of -inf has probability 0.
    As torch.nn.Softmax and ONNX's Softmax.
    Source: Goodfellow, Bengio and Courville, Deep Learning, MIT Press 2016, sections 4.1 and 6.2.2.
    """
    e = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return store(out, e / e.sum(axis=axis, keepdims=True))


def log_softmax(logits, *, axis=-1, out=None):
    """y_j = x_j - m - log sum_k exp(x_k - m) along `axis`, m the largest x along it.

    logits, out, axis: as for softmax. Finite for any finite logits, where log(softmax) is not; a
    logit of -inf stays. Source: as for softmax.
    """
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return store(out, shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


# --- specification ------------------------------------------------------------


def softmax_terms(logits, dtype, axis=-1):
    """p, its relative error but for that of the sum, and the sum's: each exp errs by its rounding
    and by that of its argument x - m.
    """
    u = unit_roundoff(dtype)
    distance = logits.max(axis=axis, keepdims=True) - logits
    p = softmax(logits, axis=axis)
    finite = np.where(p > 0, distance, 0.0)
    each = (ELEMENTARY + finite) * u
    total = (p * each).sum(axis=axis, keepdims=True) + summation(logits.shape[axis]) * u
    return p, each, total


def _softmax_error(inputs, dtype):
    u = unit_roundoff(dtype)
    p, each, total = softmax_terms(inputs["logits"], dtype, inputs["axis"])
    return (Bound.of(p * (each + total + 2 * u) + 2 * smallest_normal(dtype)),)


def _log_softmax_error(inputs, dtype):
    logits, axis, u = inputs["logits"], inputs["axis"], unit_roundoff(dtype)
    _, _, total = softmax_terms(logits, dtype, axis)
    y = log_softmax(logits, axis=axis)
    distance = logits.max(axis=axis, keepdims=True) - logits
    roundings = np.abs(y) + distance + ELEMENTARY * (np.abs(y) - distance)
    finite = np.where(np.isfinite(y), roundings, 0.0)
    return (Bound.of(u * finite + total + smallest_normal(dtype)),)


def sample_logits(rng, case):
    """Logits of (batch, fan_out)."""
    logits = 3 * rng.standard_normal((case.sizes["batch"], case.sizes["fan_out"]))
    return {"logits": logits.astype(case.dtype)}


def _sample_across(rng, case):
    return {**sample_logits(rng, case), "axis": int(rng.choice([0, -2])) if case.vary else 0}


# The narrowest rows, and those for which a kernel may take another path than for these: a row in a
# few registers, in those of a warp, in several blocks' worth of memory.
WIDTHS = (3, 40, 600, 2500)


def edge_logits(dtype):
    """(description, logits) of rows at the borders."""
    large = np.finfo(dtype).max / 4
    yield "equal", np.zeros((3, 10), dtype)
    yield "one class", np.full((4, 1), 7.0, dtype)
    yield "far below", np.array([[0.0, -80.0, -100.0, -700.0, -750.0, -1e4]], dtype)
    yield "subnormal", np.full((2, 5), np.finfo(dtype).smallest_subnormal, dtype)
    for classes in WIDTHS:
        logits = np.random.default_rng(classes).standard_normal((4, classes)).astype(dtype)

        def with_rows(*rows, logits=logits):
            changed = logits.copy()
            for row, values in enumerate(rows):
                changed[row, -len(values) :] = values
            return changed

        far = large, -large, 0.0
        yield f"large, {classes} classes", with_rows(far, (1e4, 1e4, -1e4), (-large,) * classes)
        yield f"all far above, {classes} classes", logits + np.dtype(dtype).type(1e4)
        masked = (1.0, -np.inf, 2.0), (-np.inf, -np.inf, 5.0), (-np.inf,) * (classes - 1) + (1.0,)
        yield f"masked by -inf, {classes} classes", with_rows(*masked)
        yield f"infinite, {classes} classes", with_rows((1.0, np.inf, 2.0))
        yield f"NaN in one row, {classes} classes", with_rows((1.0, 2.0), (1.0, np.nan, 2.0))


def _edges(dtype):
    for label, logits in edge_logits(dtype):
        yield label, {"logits": logits}


def _edges_across(dtype):
    """The same in columns, and an axis among others, before or behind them."""
    for label, logits in edge_logits(dtype):
        yield f"{label}, in columns", {"logits": logits.T.copy(), "axis": 0}
        beside = np.stack([np.zeros_like(logits), logits]).swapaxes(1, 2).copy()
        yield f"{label}, in columns of a matrix of two", {"logits": beside, "axis": -2}
    rng = np.random.default_rng(3)
    for shape in ((7,), (5, 1), (3, 4, 5), (2, 33, 1, 17), (4, 1, 6), (1, 300, 70), (2, 130, 3)):
        logits = (3 * rng.standard_normal(shape)).astype(dtype)
        for axis in range(-len(shape), len(shape)):
            yield f"{shape}, axis {axis}", {"logits": logits, "axis": axis}


def _operations(function, result, flops, error):
    """Of (batch, fan_out) across its columns, the last axis, and across its rows."""
    for variant, sample, edges in (
        ("", sample_logits, _edges),
        ("across rows", _sample_across, _edges_across),
    ):
        yield Operation(
            function.__name__,
            function,
            ("batch", "fan_out"),
            sample,
            partial(flops, bool(variant)),
            lambda batch, fan_out, **_: 2 * batch * fan_out,
            (Result(result),),
            error,
            edges,
            variant,
        )


OPERATIONS = (
    *_operations(
        softmax, "p", lambda across, batch, fan_out, **_: 5 * batch * fan_out, _softmax_error
    ),
    *_operations(
        log_softmax,
        "y",
        lambda across, batch, fan_out, **_: 5 * batch * fan_out + (fan_out if across else batch),
        _log_softmax_error,
    ),
)
