"""Softmax and the cross-entropy losses of integer labels; a mean over the batch, in nats."""

from functools import partial

import numpy as np

from .bounds import ELEMENTARY, Bound, smallest_normal, sum_bound, summation, unit_roundoff
from .spec import Operation, Result, store


def softmax(logits, *, out=None):
    """p_ij = exp(x_ij - m_i) / sum_k exp(x_ik - m_i) with m_i the largest logit of row i.

    logits, out: (batch, classes). Stable for any finite logits; a logit of -inf has probability 0.
    Source: Goodfellow, Bengio and Courville, Deep Learning, MIT Press 2016, sections 4.1 and 6.2.2.
    """
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return store(out, e / e.sum(axis=1, keepdims=True))


def log_softmax(logits, *, out=None):
    """y_ij = x_ij - m_i - log sum_k exp(x_ik - m_i) with m_i the largest logit of row i.

    logits, out: (batch, classes). Finite for any finite logits, where log(softmax) is not; a logit
    of -inf stays. Source: as for softmax.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    return store(out, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0, out=None):
    """Mean loss L = -1/B sum_ij t_ij log p_ij and its gradient dL/dx = (p - t) / B, in one pass.

    p is the softmax of the logits x, t_ij = (1 - s) [j = label_i] + s / classes the smoothed target
    and s = label_smoothing in [0, 1). logits: (batch, classes), labels: (batch,) int32 or int64.
    Returns (loss, dlogits), the loss as an array of shape (); out takes the two.
    Sources: as for softmax; smoothing: Szegedy et al., CVPR 2016, section 7.
    """
    batch, classes = logits.shape
    shifted = logits - logits.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    target = np.full_like(logits, label_smoothing / classes)
    target[np.arange(batch), labels] += 1 - label_smoothing
    log_p = shifted - np.log(total)
    contributions = np.multiply(target, log_p, out=np.zeros_like(log_p), where=target != 0)
    loss_out, dlogits_out = out or (None, None)
    loss = store(loss_out, -contributions.sum() / batch)
    return loss.astype(logits.dtype, copy=False), store(dlogits_out, (e / total - target) / batch)


def sparse_categorical_cross_entropy(probabilities, labels, *, out=None):
    """Mean loss L = -1/B sum_i log p_i,label_i of given probabilities.

    probabilities: (batch, classes), labels: (batch,) int32 or int64. Returns, and `out` takes, an
    array of shape (). A true class of probability 0 makes the loss infinite; nothing is clipped.
    """
    batch = len(labels)
    with np.errstate(divide="ignore"):
        return store(out, -np.log(probabilities[np.arange(batch), labels]).mean())


# --- specification ------------------------------------------------------------


def _softmax_terms(logits, dtype):
    """p and its relative error: each exp errs by its rounding and by that of its argument x - m."""
    u = unit_roundoff(dtype)
    distance = logits.max(axis=1, keepdims=True) - logits
    p = softmax(logits)
    finite = np.where(p > 0, distance, 0.0)
    each = (ELEMENTARY + finite) * u
    total = (p * each).sum(axis=1, keepdims=True) + summation(logits.shape[1]) * u
    return p, each, total


def _softmax_error(inputs, dtype):
    u = unit_roundoff(dtype)
    p, each, total = _softmax_terms(inputs["logits"], dtype)
    return (Bound.of(p * (each + total + 2 * u) + 2 * smallest_normal(dtype)),)


def _log_softmax_error(inputs, dtype):
    logits, u = inputs["logits"], unit_roundoff(dtype)
    _, _, total = _softmax_terms(logits, dtype)
    y = log_softmax(logits)
    distance = logits.max(axis=1, keepdims=True) - logits
    roundings = np.abs(y) + distance + ELEMENTARY * (np.abs(y) - distance)
    finite = np.where(np.isfinite(y), roundings, 0.0)
    return (Bound.of(u * finite + total + smallest_normal(dtype)),)


def _cross_entropy_error(inputs, dtype):
    logits, labels, smoothing = inputs["logits"], inputs["labels"], inputs["label_smoothing"]
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    batch, classes = logits.shape
    p, each, total = _softmax_terms(logits, dtype)
    target = np.full_like(logits, smoothing / classes)
    target[np.arange(batch), labels] += 1 - smoothing
    gradient = (p * (each + total + 4 * u) + 5 * u * target + 2 * tiny) / batch + tiny

    # log(sum) errs by the sum's relative error; the logits enter it and sum_j t_j x_j by magnitude.
    m = logits.max(axis=1)
    used = np.where(target > 0, np.abs(logits), 0.0)
    log_total = np.log(np.exp(logits - m[:, None]).sum(axis=1))
    inner = summation(classes) * (target * used).sum(axis=1)
    rounding = total[:, 0] + u * (inner + 3 * np.abs(m) + (1 + ELEMENTARY) * log_total)
    below = (target * np.where(target > 0, m[:, None] - logits, 0.0)).sum(axis=1)
    loss = mean_bound([below, log_total], dtype, [rounding, np.zeros(batch)])
    return loss, Bound.of(gradient)


def mean_bound(pieces, dtype, roundings):
    """Of a mean over rows whose terms are the sums of such pieces, given the errors of these."""
    terms, rows = np.concatenate(pieces), len(pieces[0])
    bound = sum_bound(terms[:, None], dtype, Bound.of(np.concatenate(roundings)[:, None]))
    last = 2 * unit_roundoff(dtype) * np.abs(terms.sum())
    return Bound(bound.each[0] + last, np.hypot(bound.deviation[0], last)) * (1 / rows)


def _sparse_error(inputs, dtype):
    chosen = inputs["probabilities"][np.arange(len(inputs["labels"])), inputs["labels"]]
    nats = np.abs(np.log(chosen))
    return (mean_bound([nats], dtype, [ELEMENTARY * unit_roundoff(dtype) * nats]),)


LABEL_BYTES = 4  # int32, the narrowest that is taken


def _sample_labels(rng, case):
    return rng.integers(0, case.sizes["fan_out"], case.sizes["batch"], dtype=np.int32)


def _sample_softmax(rng, case):
    logits = 3 * rng.standard_normal((case.sizes["batch"], case.sizes["fan_out"]))
    return {"logits": logits.astype(case.dtype)}


def _sample_cross_entropy(smoothing, rng, case):
    inputs = {**_sample_softmax(rng, case), "labels": _sample_labels(rng, case)}
    vary = case.vary and smoothing > 0
    return {**inputs, "label_smoothing": rng.uniform(0.01, 0.99) if vary else smoothing}


def _sample_sparse(rng, case):
    logits = _sample_softmax(rng, case.at(dtype="float64"))["logits"]
    labels = _sample_labels(rng, case)
    return {"probabilities": softmax(logits).astype(case.dtype), "labels": labels}


# The narrowest rows, and those for which a kernel may take another path than for these: a row in a
# few registers, in those of a warp, in several blocks' worth of memory.
WIDTHS = (3, 40, 600, 2500)


def _edge_logits(dtype):
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


def _softmax_edges(dtype):
    for label, logits in _edge_logits(dtype):
        yield label, {"logits": logits}


def _cross_entropy_edges(dtype):
    for number, (label, logits) in enumerate(_edge_logits(dtype)):
        labels = logits.argmax(axis=1).astype((np.int32, np.int64)[number % 2])
        yield f"{label}, {labels.dtype} labels", {"logits": logits, "labels": labels}
    logits = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], dtype)
    for smoothing in (0.0, 0.1, 0.999):
        for label in (0, 2):
            labels = np.full(2, label, np.int64)
            yield (
                f"label {label}, smoothing {smoothing}",
                {"logits": logits, "labels": labels, "label_smoothing": smoothing},
            )


def _sparse_edges(dtype):
    p = np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]], dtype)
    for integer in (np.int32, np.int64):
        yield (
            f"certain, {integer.__name__}",
            {"probabilities": p, "labels": np.array([0, 2], integer)},
        )
    yield "impossible", {"probabilities": p, "labels": np.array([1, 2])}
    yield "NaN", {"probabilities": np.array([[np.nan, 1.0]], dtype), "labels": np.array([0])}


OPERATIONS = (
    Operation(
        "softmax",
        softmax,
        ("batch", "fan_out"),
        _sample_softmax,
        lambda batch, fan_out, **_: 5 * batch * fan_out,
        lambda batch, fan_out, **_: 2 * batch * fan_out,
        (Result("p"),),
        _softmax_error,
        _softmax_edges,
    ),
    Operation(
        "log_softmax",
        log_softmax,
        ("batch", "fan_out"),
        _sample_softmax,
        lambda batch, fan_out, **_: (5 * fan_out + 1) * batch,
        lambda batch, fan_out, **_: 2 * batch * fan_out,
        (Result("y"),),
        _log_softmax_error,
        _softmax_edges,
    ),
    *(
        Operation(
            "softmax_cross_entropy",
            softmax_cross_entropy,
            ("batch", "fan_out"),
            partial(_sample_cross_entropy, smoothing),
            lambda batch, fan_out, **_: 6 * batch * fan_out,
            lambda batch, fan_out, **_: 2 * batch * fan_out + 1,
            (Result("loss"), Result("dlogits")),
            _cross_entropy_error,
            _cross_entropy_edges,
            variant,
            lambda batch, **_: LABEL_BYTES * batch,
        )
        for variant, smoothing in (("hard", 0.0), ("smoothed", 0.1))
    ),
    Operation(
        "sparse_categorical_cross_entropy",
        sparse_categorical_cross_entropy,
        ("batch", "fan_out"),
        _sample_sparse,
        lambda batch, **_: 2 * batch,
        lambda batch, **_: batch + 1,
        (Result("loss"),),
        _sparse_error,
        _sparse_edges,
        other_bytes=lambda batch, **_: LABEL_BYTES * batch,
    ),
)
