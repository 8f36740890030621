"""The cross-entropy losses of class labels, in nats."""

from functools import partial

import numpy as np

from .bounds import ELEMENTARY, Bound, smallest_normal, sum_bound, summation, unit_roundoff
from .softmax import edge_logits, sample_logits, softmax, softmax_terms
from .spec import Operation, Result, store


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


def _cross_entropy_error(inputs, dtype):
    logits, labels, smoothing = inputs["logits"], inputs["labels"], inputs["label_smoothing"]
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    batch, classes = logits.shape
    p, each, total = softmax_terms(logits, dtype)
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


def _sample_cross_entropy(smoothing, rng, case):
    inputs = {**sample_logits(rng, case), "labels": _sample_labels(rng, case)}
    vary = case.vary and smoothing > 0
    return {**inputs, "label_smoothing": rng.uniform(0.01, 0.99) if vary else smoothing}


def _sample_sparse(rng, case):
    logits = sample_logits(rng, case.at(dtype="float64"))["logits"]
    labels = _sample_labels(rng, case)
    return {"probabilities": softmax(logits).astype(case.dtype), "labels": labels}


def _cross_entropy_edges(dtype):
    for number, (label, logits) in enumerate(edge_logits(dtype)):
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
