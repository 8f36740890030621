"""The cross-entropy losses of class labels, in nats."""

import numpy as np

from .spec import store


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
    target, size, kept = targets(*given)
    divisor = divisor_of(labels, class_weights, kept) if reduction == "mean" else 1
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


def targets(logits, labels, smoothing, weights, ignored):
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


def divisor_of(labels, weights, kept):
    """That of a mean, NaN where nothing is left of it."""
    if labels.ndim == 2 or weights is None:
        return int(kept.sum()) or np.nan
    total = weights[labels[kept]].sum()
    return total if total > 0 else np.nan


def sparse_categorical_cross_entropy(probabilities, labels, *, out=None):
    """Mean loss L = -1/B sum_i log p_i,label_i of given probabilities.

    probabilities: (batch, classes), labels: (batch,) int32 or int64. Returns, and `out` takes, an
    array of shape (). A true class of probability 0 makes the loss infinite; nothing is clipped.
    """
    batch = len(labels)
    with np.errstate(divide="ignore"):
        return store(out, -np.log(probabilities[np.arange(batch), labels]).mean())
