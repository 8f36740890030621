"""The negative log-likelihood of labels, with weights of classes and a label that is ignored."""

from functools import partial

import numpy as np

from .bounds import Bound, smallest_normal, sum_bound, unit_roundoff
from .losses import LABEL_BYTES
from .softmax import log_softmax
from .spec import Operation, Result, store


def nll(log_probabilities, labels, *, class_weights=None, ignore_index=None, reduction="mean",
        out=None):  # fmt: skip
    """L_i = -w_i y_i,label_i with w_i the weight of the label's class, and the gradient by y.

    reduction: "mean" is sum_i L_i / sum_i w_i, "sum" the first of these, "none" every L_i; the
    gradient is that of the mean or the sum. Rows of the label ignore_index count in none of them:
    their loss and gradient are 0, and a mean over no others is NaN. As torch.nn.NLLLoss.
    log_probabilities y: (batch, classes), labels: (batch,) int32 or int64, class_weights:
    (classes,), of at least 0. Returns (loss, dlog_probabilities), which may replace
    log_probabilities; the loss has shape (), or (batch,); out takes the two. In nats.
    """
    rows, kept = np.arange(len(labels)), np.full(len(labels), True)
    if ignore_index is not None:
        kept = labels != ignore_index
    chosen = np.where(kept, labels, 0)
    weights = np.ones_like(log_probabilities[:, 0])
    if class_weights is not None:
        weights = class_weights[chosen]
    with np.errstate(divide="ignore", invalid="ignore"):
        losses = np.where(kept, -weights * log_probabilities[rows, chosen], 0)
        total = np.where(kept, weights, 0).sum() if reduction == "mean" else 1
        loss = losses if reduction == "none" else losses.sum() / total
        slopes = np.where(kept, -weights / total, 0)
    gradient = np.zeros_like(log_probabilities)
    gradient[rows, chosen] = slopes
    loss_out, gradient_out = out or (None, None)
    loss = store(loss_out, loss).astype(log_probabilities.dtype, copy=False)
    return loss, store(gradient_out, gradient)


# --- specification ------------------------------------------------------------


def _error(inputs, dtype):
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    given = {name: value for name, value in inputs.items() if name not in ("reduction", "out")}
    losses, _ = nll(**given, reduction="none")
    each = Bound.of(u * np.abs(losses) + tiny)
    loss, gradient = nll(**given, reduction=inputs["reduction"])
    of_total = 0.0
    if inputs["reduction"] == "mean" and inputs["class_weights"] is not None:
        # At worst: rounding errs alike where the same few weights are added, none being negative.
        of_total = len(losses) * u
    of_gradient = Bound.of((of_total + 3 * u) * np.abs(gradient) + tiny)
    if inputs["reduction"] == "none":
        return each, of_gradient
    column = losses[:, None]
    of_sum = sum_bound(column, dtype, Bound.of(each.each[:, None]))
    of_sum = Bound(of_sum.each[0], of_sum.deviation[0])
    if inputs["reduction"] == "sum":
        return of_sum + Bound.of(u * np.abs(loss)), of_gradient
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.abs(loss / losses.sum()) if losses.any() else np.float64(1)
    return of_sum * share + Bound.of((of_total + 3 * u) * np.abs(loss) + tiny), of_gradient


def _sample(weighted, rng, case):
    batch, classes = case.sizes["batch"], case.sizes["fan_out"]
    y = log_softmax(3 * rng.standard_normal((batch, classes))).astype(case.dtype)
    labels = rng.integers(0, classes, batch, dtype=np.int32)
    inputs = {"log_probabilities": y, "labels": labels}
    if weighted:
        inputs["class_weights"] = rng.uniform(0.1, 2, classes).astype(case.dtype)
        inputs["ignore_index"] = int(rng.integers(-1, classes)) if classes > 1 else -1
    if case.vary:
        inputs["reduction"] = str(rng.choice(["mean", "sum"]))
    return inputs


def _edges(weighted, dtype):
    y = np.array([[-1.0, -np.inf, 0.0], [-0.5, -2.0, -1e-3], [-np.inf, np.nan, -1.0]], dtype)
    weights = {"class_weights": np.array([0.5, 0.0, 3.0], dtype)} if weighted else {}
    for reduction in ("mean", "sum", "none"):
        for integer in (np.int32, np.int64):
            for labels in ([0, 0, 2], [2, 2, 2], [1, 0, 0], [0, 0, 1], [1, 1, 1]):
                for ignored in (None, 0, 2, 1000):
                    inputs = {"log_probabilities": y, "labels": np.array(labels, integer)}
                    inputs |= {**weights, "reduction": reduction, "ignore_index": ignored}
                    yield f"{labels}, {integer.__name__}, {reduction}, {ignored} ignored", inputs
            labels = np.array([-100, 2, -100], integer)
            inputs = {"log_probabilities": y, "labels": labels, **weights, "reduction": reduction}
            yield f"-100 ignored, {reduction}", {**inputs, "ignore_index": -100}


OPERATIONS = tuple(
    Operation(
        "nll",
        nll,
        ("batch", "fan_out"),
        partial(_sample, weighted),
        # The sum; with weights also two products and the sum of the weights.
        lambda batch, _cost=4 if weighted else 1, **_: _cost * batch,
        lambda batch, fan_out, _read=weighted, **_: (batch + _read) * fan_out + batch + 1,
        (Result("loss"), Result("dlog_probabilities")),
        _error,
        partial(_edges, weighted),
        "weighted" if weighted else "plain",
        lambda batch, **_: LABEL_BYTES * batch,
    )
    for weighted in (False, True)
)
