"""Batch and layer normalisation: mean 0 and variance 1 a unit, or a row, then a learned scale.

Sources: Ioffe and Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift, ICML 2015, algorithms 1 and 2; Ba, Kiros and Hinton, Layer Normalization,
2016 (arXiv 1607.06450), section 3. Settings and results are PyTorch's.

Everywhere x is (batch, units) with at least one row and one column, gamma and beta are (units,);
rstd is 1 / sqrt(variance + eps), eps > 0. The variance is a mean of squared distances, so the
square of x - mean must be in range. A NaN or an infinity leaves nothing finite in its unit or row.

skip, (batch, units), is what y is added to in the same pass, as at the end of a residual branch (He
et al., Deep Residual Learning for Image Recognition, CVPR 2016): it may be x. Its gradient is dy,
and the others stay what they are. Nothing is added where it is None.
"""

import numpy as np

from .spec import store


def batch_norm_forward(x, gamma, beta, running_mean, running_variance, *, momentum=0.1, eps=1e-5,
                       skip=None, out=None):  # fmt: skip
    """y_ij = gamma_j (x_ij - m_j) rstd_j + beta_j + skip_ij with m_j and v_j the mean and the
    variance of column j over the batch, as in training.

    Updates in place, m being momentum in [0, 1): running_mean = (1 - m) running_mean + m mean, and
    running_variance likewise with the variance times batch / (batch - 1), which has no bias (for a
    single row times 1). Returns, and out takes, (y, mean, rstd), of shapes (batch, units) and
    (units,): the backward pass reads the latter.
    """
    mean, batch = x.mean(axis=0), len(x)
    variance = np.square(x - mean).mean(axis=0)
    rstd = 1 / np.sqrt(variance + eps)
    unbiased = variance * (batch / max(1, batch - 1))
    running_mean += momentum * (mean - running_mean)
    running_variance += momentum * (unbiased - running_variance)
    y = _added(gamma * (x - mean) * rstd + beta, skip)
    return _stored(out, (y, mean, rstd), x.dtype)


def batch_norm_inference(x, gamma, beta, running_mean, running_variance, *, eps=1e-5, skip=None,
                         out=None):  # fmt: skip
    """y_ij = gamma_j (x_ij - running_mean_j) / sqrt(running_variance_j + eps) + beta_j + skip_ij.

    running_variance is at least 0: else y is NaN there. `out` may be x, unless skip is.
    """
    rstd = 1 / np.sqrt(running_variance + eps)
    y = _added(gamma * (x - running_mean) * rstd + beta, skip)
    return store(out, y.astype(x.dtype, copy=False))


def batch_norm_backward(dy, x, gamma, mean, rstd, *, out=None):
    """The gradients of batch_norm_forward by x, gamma and beta, through mean and variance too:

    dx_ij = gamma_j rstd_j (dy_ij - dbeta_j / B - h_ij dgamma_j / B), dgamma_j = sum_i dy_ij h_ij,
    dbeta_j = sum_i dy_ij, with h_ij = (x_ij - mean_j) rstd_j and B the rows. Returns
    (dx, dgamma, dbeta); dx may replace dy.
    """
    h, batch = (x - mean) * rstd, len(x)
    dgamma, dbeta = (dy * h).sum(axis=0), dy.sum(axis=0)
    dx = gamma * rstd * (dy - dbeta / batch - h * dgamma / batch)
    return _stored(out, (dx, dgamma, dbeta), x.dtype)


def layer_norm_forward(x, gamma, beta, *, eps=1e-5, skip=None, out=None):
    """y_ij = gamma_j (x_ij - m_i) rstd_i + beta_j + skip_ij with m_i and v_i the mean and the
    variance of row i.

    Returns, and out takes, (y, mean, rstd), of shapes (batch, units) and (batch,).
    """
    mean = x.mean(axis=1)
    centred = x - mean[:, None]
    rstd = 1 / np.sqrt(np.square(centred).mean(axis=1) + eps)
    y = _added(gamma * (centred * rstd[:, None]) + beta, skip)
    return _stored(out, (y, mean, rstd), x.dtype)


def layer_norm_backward(dy, x, gamma, mean, rstd, *, out=None):
    """The gradients of layer_norm_forward by x, gamma and beta, through mean and variance too:

    dx_ij = rstd_i (g_ij - mean_j g_ij - h_ij mean_j(g_ij h_ij)) with g = gamma dy and
    h_ij = (x_ij - mean_i) rstd_i; dgamma_j = sum_i dy_ij h_ij, dbeta_j = sum_i dy_ij. Returns
    (dx, dgamma, dbeta); dx may replace dy.
    """
    h, g = (x - mean[:, None]) * rstd[:, None], gamma * dy
    along = (g * h).mean(axis=1, keepdims=True)
    dx = rstd[:, None] * (g - g.mean(axis=1, keepdims=True) - h * along)
    return _stored(out, (dx, (dy * h).sum(axis=0), dy.sum(axis=0)), x.dtype)


def _added(y, skip):
    return y if skip is None else y + skip


def _stored(out, results, dtype):
    results = (r.astype(dtype, copy=False) for r in results)
    return tuple(store(o, r) for o, r in zip(out or [None] * 3, results, strict=True))
