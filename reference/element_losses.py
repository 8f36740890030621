"""Losses of every prediction by its target, each with its gradient, and how they are reduced.

All arrays have the same shape, any one that is not empty. Of the losses of the elements `reduction`
makes their "mean" or their "sum", of shape (), or with "none" leaves one for each. Every function
returns (loss, its gradient), with "none" the gradient of the sum. `out` takes the same tuple; a
gradient may replace the array that it is by. x is the first argument, t the target; losses of
probabilities are in nats.
"""

import numpy as np

from .spec import store

LEAST_LOG = -100.0  # of a probability: that of 0 counts as this
LEAST_SPREAD = 1e-12  # of the variance p (1 - p), by which the gradient is divided


def mean_squared_error(prediction, target, *, reduction="mean", out=None):
    """L = (x - t)^2, dL/dx = 2 (x - t). Source: Bishop, Pattern Recognition, 2006, section 1.1."""
    error = prediction - target
    return _reduced(error**2, (2 * error,), reduction, out)


def mean_absolute_error(prediction, target, *, reduction="mean", out=None):
    """L = |x - t|, dL/dx = the sign of x - t, 0 where they are equal. Source: torch.nn.L1Loss."""
    error = prediction - target
    return _reduced(np.abs(error), (np.sign(error),), reduction, out)


def huber(prediction, target, *, delta=1.0, reduction="mean", out=None):
    """L = e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), with e = x - t; dL/dx = e
    clipped to -delta ... delta, delta above 0. As torch.nn.HuberLoss.

    Source: Huber, Robust Estimation of a Location Parameter, Ann. Math. Statist. 35, 1964.
    """
    error = prediction - target
    size = np.abs(error)
    loss = np.where(size <= delta, error**2 / 2, delta * (size - delta / 2))
    return _reduced(loss, (np.clip(error, -delta, delta),), reduction, out)


def binary_cross_entropy_with_logits(logits, target, *, reduction="mean", out=None):
    """L = max(x, 0) - x t + log(1 + exp(-|x|)), dL/dx = p - t with p = 1 / (1 + exp(-x)).

    That is -t log p - (1 - t) log(1 - p), finite for any finite logit. Targets are from 0 to 1.
    Source: Goodfellow, Bengio and Courville, Deep Learning, 2016, section 6.2.2.2.
    """
    e = np.exp(-np.abs(logits))
    p = np.where(logits < 0, e, 1) / (1 + e)
    loss = np.maximum(logits, 0) - logits * target + np.log1p(e)
    return _reduced(loss, (p - target,), reduction, out)


def binary_cross_entropy(probability, target, *, reduction="mean", out=None):
    """L = -t log p - (1 - t) log(1 - p), no logarithm taken for less than -100;
    dL/dp = (p - t) / max(p (1 - p), 1e-12).

    Targets are from 0 to 1; the loss of a p outside is NaN. Both limits are those of
    torch.nn.BCELoss (its documentation, and aten/src/ATen/native/Loss.cpp for the gradient's).
    """
    with np.errstate(divide="ignore"):
        log_p = np.maximum(np.log(probability), LEAST_LOG)
        log_rest = np.maximum(np.log1p(-probability), LEAST_LOG)
    loss = -(target * log_p + (1 - target) * log_rest)
    spread = np.maximum(probability * (1 - probability), LEAST_SPREAD)
    return _reduced(loss, ((probability - target) / spread,), reduction, out)


def poisson_nll(log_rate, target, *, reduction="mean", out=None):
    """L = exp(x) - t x, dL/dx = exp(x) - t: minus the log of the probability of a count t by the
    rate exp(x), without log t!. As torch.nn.PoissonNLLLoss with its defaults.

    Any t is taken. Source: McCullagh and Nelder, Generalized Linear Models, 2nd ed., 1989, ch. 6.
    """
    rate = np.exp(log_rate)
    return _reduced(rate - target * log_rate, (rate - target,), reduction, out)


def gaussian_nll(mean, target, variance, *, eps=1e-6, reduction="mean", out=None):
    """L = (log s + (x - t)^2 / s) / 2 with s = max(variance, eps), eps above 0; variances are at
    least 0. Returns (loss, dL/dx, dL/ds), where dL/dx = (x - t) / s and
    dL/ds = (1 - (x - t)^2 / s) / (2 s), which is not cut to 0 below eps.

    So it is in torch.nn.GaussianNLLLoss: "the clamping of var is ignored with respect to autograd".
    Source: Nix and Weigend, Estimating the mean and variance, ICNN 1994.
    """
    error, s = mean - target, np.maximum(variance, eps)
    share = error**2 / s
    gradients = error / s, (1 - share) / (2 * s)
    return _reduced((np.log(s) + share) / 2, gradients, reduction, out)


def _reduced(losses, gradients, reduction, out):
    scale = 1 / losses.size if reduction == "mean" else 1
    loss = losses if reduction == "none" else losses.sum() * scale
    results = loss, *(gradient * scale for gradient in gradients)
    return tuple(map(store, out or (None,) * len(results), results))


LOSSES = (
    mean_squared_error,
    mean_absolute_error,
    huber,
    binary_cross_entropy_with_logits,
    binary_cross_entropy,
    poisson_nll,
    gaussian_nll,
)
__all__ = [loss.__name__ for loss in LOSSES]
