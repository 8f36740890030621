"""The cross-entropy of logits, of class labels or soft targets, in nats."""

from functools import partial

import numpy as np

from .bounds import ELEMENTARY, Bound, smallest_normal, summation, unit_roundoff
from .losses import LABEL_BYTES, mean_bound, sample_labels
from .softmax import edge_logits, sample_logits, softmax, softmax_terms
from .spec import Operation, Result, store


def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0, class_weights=None,
                          ignore_index=None, reduction="mean", out=None):  # fmt: skip
    """L_i = -sum_j t_ij log p_ij with p the softmax of the logits x; dL_i/dx_ij = T_i p_ij - t_ij.

    The target is t_ij = w_j ((1 - s) q_ij + s / classes) and T_i = sum_j t_ij, with w_j the weight
    of class j, 1 unless given, s = label_smoothing in [0, 1), and q_ij = [j = label_i]; or q is
    given in the labels' place, soft targets: (batch, classes) of the logits' dtype, each from 0 to
    1; that their rows sum to 1 is not checked. A target of 0 counts nothing, whatever its logit.

    reduction: "sum" is sum_i L_i, "none" every L_i; "mean" divides the sum by sum_i w_label_i, with
    soft targets by the batch. The gradient is that of the mean or of the sum. Rows of the label
    ignore_index count in none of these: their loss and gradient are 0; it must be None for soft
    targets. A mean whose divisor is 0 is NaN. As torch.nn.CrossEntropyLoss.

    logits: (batch, classes), labels: (batch,) int32 or int64, class_weights: (classes,), of at
    least 0. Returns (loss, dlogits), which may replace the logits; the loss has shape (), or
    (batch,); out takes the two. In nats.
    Sources: as for softmax; smoothing: Szegedy et al., CVPR 2016, section 7.
    """
    given = logits, labels, label_smoothing, class_weights, ignore_index
    target, size, kept = _targets(*given)
    divisor = _divisor(labels, class_weights, kept) if reduction == "mean" else 1
    shifted = logits - logits.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    log_p = shifted - np.log(total)
    losses = -np.multiply(target, log_p, out=np.zeros_like(log_p), where=target != 0).sum(axis=1)
    loss = losses if reduction == "none" else losses.sum() / divisor
    gradient = (e * (size / total) - target) / divisor
    gradient[~kept] = 0
    loss_out, dlogits_out = out or (None, None)
    loss = store(loss_out, loss).astype(logits.dtype, copy=False)
    return loss, store(dlogits_out, gradient)


def _targets(logits, labels, smoothing, weights, ignored):
    """(t, T as a column, which rows count)."""
    batch, classes = logits.shape
    kept = np.full(batch, True) if ignored is None else labels != ignored
    if labels.ndim == 2:
        target = (1 - smoothing) * labels + smoothing / classes
    else:
        target = np.full_like(logits, smoothing / classes)
        target[np.arange(batch)[kept], labels[kept]] += 1 - smoothing
        target[~kept] = 0
        if weights is None:
            return target, kept[:, None], kept
    if weights is not None:
        target *= weights
    return target, target.sum(axis=1, keepdims=True), kept


def _divisor(labels, weights, kept):
    """That of a mean, NaN where nothing is left of it."""
    if labels.ndim == 2 or weights is None:
        return int(kept.sum()) or np.nan
    total = weights[labels[kept]].sum()
    return total if total > 0 else np.nan


# --- specification ------------------------------------------------------------


def _cross_entropy_error(inputs, dtype):
    logits, labels, weights = inputs["logits"], inputs["labels"], inputs["class_weights"]
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    batch, classes = logits.shape
    p, each, total = softmax_terms(logits, dtype)
    smoothing, ignored = inputs["label_smoothing"], inputs["ignore_index"]
    target, size, kept = _targets(logits, labels, smoothing, weights, ignored)
    # T is 1 for labels without weights; else it is a sum, whose terms err by three roundings.
    of_size = 0.0 if weights is None and labels.ndim == 1 else (summation(classes) + 3) * u
    divisor, of_divisor = 1, 0.0
    if inputs["reduction"] == "mean":
        divisor = np.float64(_divisor(labels, weights, kept))
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


def _sample_cross_entropy(smoothing, rng, case):
    inputs = {**sample_logits(rng, case), "labels": sample_labels(rng, case)}
    vary = case.vary and smoothing > 0
    return {**inputs, "label_smoothing": rng.uniform(0.01, 0.99) if vary else smoothing}


def _settings(rng, case):
    smoothing = rng.choice([0, rng.uniform(0.01, 0.99)]) if case.vary else 0
    reduction = rng.choice(["mean", "sum"]) if case.vary else "mean"
    return {"label_smoothing": float(smoothing), "reduction": str(reduction)}


def _sample_weighted(rng, case):
    classes = case.sizes["fan_out"]
    inputs = {**sample_logits(rng, case), "labels": sample_labels(rng, case)}
    inputs["class_weights"] = rng.uniform(0.1, 2, classes).astype(case.dtype)
    inputs["ignore_index"] = int(rng.integers(-1, classes)) if classes > 1 else -1
    return {**inputs, **_settings(rng, case)}


def _sample_soft(rng, case):
    inputs, wide = sample_logits(rng, case), case.at(dtype="float64")
    soft = softmax(sample_logits(rng, wide)["logits"]).astype(case.dtype)
    return {**inputs, "labels": soft, **_settings(rng, case)}


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
)
