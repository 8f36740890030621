"""The cross-entropy of probabilities, and what the losses of class labels share; in nats."""

import numpy as np

from .bounds import ELEMENTARY, Bound, sum_bound, unit_roundoff
from .softmax import sample_logits, softmax
from .spec import Operation, Result, store


def sparse_categorical_cross_entropy(probabilities, labels, *, out=None):
    """Mean loss L = -1/B sum_i log p_i,label_i of given probabilities.

    probabilities: (batch, classes), labels: (batch,) int32 or int64. Returns, and `out` takes, an
    array of shape (). A true class of probability 0 makes the loss infinite; nothing is clipped.
    """
    batch = len(labels)
    with np.errstate(divide="ignore"):
        return store(out, -np.log(probabilities[np.arange(batch), labels]).mean())


# --- specification ------------------------------------------------------------


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


def sample_labels(rng, case):
    """Labels of (batch,)."""
    return rng.integers(0, case.sizes["fan_out"], case.sizes["batch"], dtype=np.int32)


def _sample_sparse(rng, case):
    logits = sample_logits(rng, case.at(dtype="float64"))["logits"]
    labels = sample_labels(rng, case)
    return {"probabilities": softmax(logits).astype(case.dtype), "labels": labels}


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
