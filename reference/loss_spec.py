"""The specifications of the losses of class labels: their work, error bounds, samples, borders."""

from functools import partial

import numpy as np

from .bounds import ELEMENTARY, Bound, smallest_normal, sum_bound, summation, unit_roundoff
from .losses import (
    divisor_of,
    softmax_cross_entropy,
    sparse_categorical_cross_entropy,
    targets,
)
from .softmax import edge_logits, sample_logits, softmax, softmax_terms
from .spec import Operation, Result


def _cross_entropy_error(inputs, dtype):
    logits, labels, weights = inputs["logits"], inputs["labels"], inputs["class_weights"]
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    batch, classes = logits.shape
    p, each, total = softmax_terms(logits, dtype)
    smoothing, ignored = inputs["label_smoothing"], inputs["ignore_index"]
    target, size, kept = targets(logits, labels, smoothing, weights, ignored)
    # T is 1 for labels without weights; else it is a sum, whose terms err by three roundings.
    of_size = 0.0 if weights is None and labels.ndim == 1 else (summation(classes) + 3) * u
    divisor, of_divisor = 1, 0.0
    if inputs["reduction"] == "mean":
        divisor = np.float64(divisor_of(labels, weights, kept))
        if weights is not None and labels.ndim == 1:
            of_divisor = batch * u  # at worst, as of nll: the same few weights are added
    largest = 1 if weights is None else weights.max()
    lost = tiny * (2 + size + (2 + classes) * largest)  # where targets, p or T p are subnormal
    gradient = size * p * (each + total + of_size + 4 * u) + (5 * u + of_size) * target + lost
    with np.errstate(divide="ignore", invalid="ignore"):
        gradient = (gradient + of_divisor * np.abs(size * p - target)) / divisor + tiny
        gradient = np.where(kept[:, None], gradient, 0.0)

        # log(sum) errs by the sum's relative error; logits enter it and sum_j t_j x_j by magnitude.
        m, size, counts = logits.max(axis=1), size[:, 0], size[:, 0] > 0
        used = np.where(target > 0, np.abs(logits), 0.0)
        log_total = np.log(np.exp(logits - m[:, None]).sum(axis=1))
        inner = summation(classes) * (target * used).sum(axis=1)
        of_logs = total[:, 0] + u * (3 * np.abs(m) + (1 + ELEMENTARY) * log_total)
        below = (target * np.where(target > 0, m[:, None] - logits, 0.0)).sum(axis=1)
        above = np.where(counts, size * log_total, 0.0)
        rounding = np.where(counts, size * of_logs, 0.0) + u * inner + of_size * (below + above)
        if inputs["reduction"] == "none":
            return Bound.of(rounding + 2 * u * (below + above) + tiny), Bound.of(gradient)
        loss = mean_bound([below, above], dtype, [rounding, np.zeros(batch)]) * (batch / divisor)
        return loss + Bound.of(of_divisor * (below + above).sum() / divisor), Bound.of(gradient)


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


def _settings(rng, case):
    smoothing = rng.choice([0, rng.uniform(0.01, 0.99)]) if case.vary else 0
    reduction = rng.choice(["mean", "sum"]) if case.vary else "mean"
    return {"label_smoothing": float(smoothing), "reduction": str(reduction)}


def _sample_weighted(rng, case):
    classes = case.sizes["fan_out"]
    inputs = {**sample_logits(rng, case), "labels": _sample_labels(rng, case)}
    inputs["class_weights"] = rng.uniform(0.1, 2, classes).astype(case.dtype)
    inputs["ignore_index"] = int(rng.integers(-1, classes)) if classes > 1 else -1
    return {**inputs, **_settings(rng, case)}


def _sample_soft(rng, case):
    inputs, wide = sample_logits(rng, case), case.at(dtype="float64")
    soft = softmax(sample_logits(rng, wide)["logits"]).astype(case.dtype)
    return {**inputs, "labels": soft, **_settings(rng, case)}


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


def _weighted_edges(dtype):
    """Also weights of 0, alone or beside others, rows ignored, some or all."""
    reductions = "mean", "sum", "none"
    for number, (label, logits) in enumerate(edge_logits(dtype)):
        labels = logits.argmax(axis=1).astype((np.int32, np.int64)[number % 2])
        weights = (np.arange(logits.shape[1]) % 3).astype(dtype)
        inputs = {"logits": logits, "labels": labels, "class_weights": weights}
        inputs |= {"label_smoothing": number % 2 / 4, "reduction": reductions[number % 3]}
        yield f"{label}, {inputs['reduction']}", inputs
    logits = np.array([[1.0, 2.0, 3.0], [3.0, -np.inf, 1.0], [0.0, np.nan, 1.0]], dtype)
    for reduction in reductions:
        for weights in (None, np.array([0.5, 0.0, 3.0], dtype)):
            for ignored in (0, 2, 7, -100):
                for labels in ([0, 2, ignored], [2, 1, 0], [ignored, ignored, ignored], [1, 1, 1]):
                    inputs = {"logits": logits, "labels": np.array(labels)}
                    inputs |= {"class_weights": weights, "reduction": reduction}
                    inputs |= {"ignore_index": ignored, "label_smoothing": (ignored == 2) / 8}
                    yield f"{labels}, {reduction}, {ignored} ignored, weights {weights}", inputs


def _soft_edges(dtype):
    """Also targets of 0 alone, and weights."""
    for number, (label, logits) in enumerate(edge_logits(dtype)):
        rng = np.random.default_rng(number)
        soft = rng.integers(0, 3, logits.shape).astype(dtype) / 2
        soft[0] = 0
        inputs = {"logits": logits, "labels": soft}
        inputs["reduction"] = ("mean", "sum", "none")[number % 3]
        if number % 2:
            inputs["class_weights"] = rng.integers(0, 3, logits.shape[1]).astype(dtype)
        for smoothing in (0.0, 0.3):
            yield f"{label}, {smoothing} smoothed", {**inputs, "label_smoothing": smoothing}


def _sparse_edges(dtype):
    p = np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]], dtype)
    for integer in (np.int32, np.int64):
        yield (
            f"certain, {integer.__name__}",
            {"probabilities": p, "labels": np.array([0, 2], integer)},
        )
    yield "impossible", {"probabilities": p, "labels": np.array([1, 2])}
    yield "NaN", {"probabilities": np.array([[np.nan, 1.0]], dtype), "labels": np.array([0])}


def _cross_entropy(
    variant, sample, edges, *, of_element=6, of_row=0, arrays=2, weights=0, labels=1
):
    """Operations of an element and of a row, how many arrays like the logits are moved, whether
    there are weights and labels.
    """
    return Operation(
        "softmax_cross_entropy",
        softmax_cross_entropy,
        ("batch", "fan_out"),
        sample,
        lambda batch, fan_out, **_: (of_element * fan_out + of_row) * batch,
        lambda batch, fan_out, **_: (arrays * batch + weights) * fan_out + 1,
        (Result("loss"), Result("dlogits")),
        _cross_entropy_error,
        edges,
        variant,
        lambda batch, **_: labels * LABEL_BYTES * batch,
    )


OPERATIONS = (
    *(
        _cross_entropy(variant, partial(_sample_cross_entropy, smoothing), _cross_entropy_edges)
        for variant, smoothing in (("hard", 0.0), ("smoothed", 0.1))
    ),
    # Three operations a row for the weight of its loss and of its gradient, and their sum.
    _cross_entropy("weighted", _sample_weighted, _weighted_edges, of_row=3, weights=1),
    # Of each element also the sum of the targets, their products with the logits, and their sum.
    _cross_entropy("soft", _sample_soft, _soft_edges, of_element=9, arrays=3, labels=0),
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
