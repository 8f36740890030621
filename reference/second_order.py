"""Directions of descent that know of curvature, for problems of few parameters, and what a line
search needs: a point along a direction, and the inner product that tells the slope there.

Equations after J. Nocedal and S. J. Wright, Numerical Optimization, 2nd ed., Springer 2006. Vectors
are (n,); x, the gradient g and a direction d of a problem all have one n.
"""

import numpy as np

from .spec import store

DAMPING_SHARE = 1e-3  # the least addition, of the largest element: there it is 1e-3 alone


def inner_product(a, b, *, out=None):
    """sum_i a_i b_i, of shape (); `out` takes it.

    a, b: (n,), which may be the same array: the slope g^T d along a direction, a squared norm.
    """
    return store(out, np.dot(a, b))


def add_scaled(x, direction, step_length, *, out=None):
    """x + step_length * direction: (n,); `out` may be either. step_length: a number below 1e38."""
    return store(out, x + x.dtype.type(step_length) * direction)


def newton_direction(grad, hessian, damping=0.0, *, out=None):
    """d = -(H + lambda I)^-1 g by Cholesky's factors, lambda the first for which these exist.

    grad: (n,), hessian: (n, n), symmetric: its lower triangle alone is read. lambda begins at
    `damping` >= 0. Where H + damping I is not positive definite, lambda = damping + tau with
    tau = beta, or beta - min_i a_ii where a diagonal element a_ii of it is not above 0, doubled
    until the factors exist; beta is 1e-3 of the larger of max |h_ij| and damping, or 1e-3 where
    both are 0. So d is a direction of descent, g^T d < 0 unless g = 0, and from any point of a
    convex quadratic x + d is its minimum. A Hessian that is not finite gives NaN.
    Source: Nocedal and Wright, Algorithm 3.3 (Cholesky with added multiple of the identity), whose
    beta is 1e-3 whatever the scale of H.
    """
    factor, _ = damped_factor(hessian, damping)
    if factor is None:
        return store(out, np.full_like(grad, np.nan))
    d = -grad
    for i in range(len(d)):  # L y = -g
        d[i] = (d[i] - factor[i, :i] @ d[:i]) / factor[i, i]
    for i in reversed(range(len(d))):  # L^T d = y
        d[i] = (d[i] - factor[i + 1 :, i] @ d[i + 1 :]) / factor[i, i]
    return store(out, d)


def damped_factor(hessian, damping):
    """(L, lambda) with L L^T = H + lambda I, or (None, inf)."""
    for shift in _shifts(hessian, damping):
        try:
            damped = hessian + np.eye(len(hessian), dtype=hessian.dtype) * shift
            factor = np.linalg.cholesky(damped)
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(factor.diagonal()).all():  # LAPACK takes an infinite pivot
            return factor, shift
    return None, np.inf


def _shifts(hessian, damping):
    """The values of lambda that are tried, as Python's numbers."""
    yield float(damping)
    size, lowest = np.abs(np.tril(hessian)).max(), float(hessian.diagonal().min()) + damping
    if not np.isfinite(size):
        return
    beta = DAMPING_SHARE * (max(float(size), damping) or 1.0)
    tau = beta if lowest > 0 else beta - lowest
    while damping + tau <= np.finfo(hessian.dtype).max:
        yield float(damping + tau)
        tau *= 2


def conjugate_direction(grad, previous_grad, direction, *, method="polak_ribiere", out=None):
    """d = -g + beta d_previous, or -g: the next direction of nonlinear conjugate gradients.

    fletcher_reeves   beta = g^T g / g_previous^T g_previous
    polak_ribiere     beta = max(0, g^T (g - g_previous) / g_previous^T g_previous)

    d = -g, a restart, where beta is not finite or -g + beta d_previous is no direction of descent,
    g^T d >= 0. All arrays: (n,); `out` may be direction. The squares of the gradients must be in
    range. Sources: Nocedal and Wright, Algorithm 5.4 (Fletcher and Reeves, Computer Journal 7,
    1964) and (5.44), (5.45) (Polak and Ribiere, RIRO 3, 1969; the plus: Gilbert and Nocedal, SIAM
    J. Optimization 2, 1992).
    """
    beta = conjugacy(grad, previous_grad, method)
    descends = beta < np.inf and beta * np.dot(grad, direction) < np.dot(grad, grad)
    return store(out, beta * direction - grad if descends else -grad)


def conjugacy(grad, previous_grad, method):
    """beta before any restart."""
    with np.errstate(all="ignore"):
        squares = np.dot(previous_grad, previous_grad)
        if method == "fletcher_reeves":
            return np.dot(grad, grad) / squares
        return np.maximum(0, np.dot(grad, grad - previous_grad) / squares)


def lbfgs_direction(grad, steps, differences, *, out=None):
    """d = -H g with H the inverse Hessian that limited-memory BFGS has from m pairs.

    grad: (n,); steps s_i = x_i+1 - x_i and differences y_i = g_i+1 - g_i: (m, n), the newest last.
    Two loops, rho_i = 1 / s_i^T y_i:

        q = g;   for the newest to the oldest   alpha_i = rho_i s_i^T q,   q -= alpha_i y_i
        r = (s^T y / y^T y of the newest) q
        for the oldest to the newest            r += (alpha_i - rho_i y_i^T r) s_i;   d = -r

    A pair is left out, as if it were not there, unless 0 < rho_i < infinity: with s_i^T y_i <= 0
    H would not be positive definite. Without pairs (m = 0, or all left out) d = -g.
    Sources: Nocedal and Wright, Algorithm 7.4 and (7.20); J. Nocedal, Updating quasi-Newton
    matrices with limited storage, Mathematics of Computation 35, 1980.
    """
    kept, alphas, r = curved(steps, differences), [], grad.copy()
    for s, y, rho in reversed(kept):
        alphas.append(rho * np.dot(s, r))
        r -= alphas[-1] * y
    if kept:
        s, y, _ = kept[-1]
        r *= np.dot(s, y) / np.dot(y, y)
    for (s, y, rho), alpha in zip(kept, reversed(alphas), strict=True):
        r += (alpha - rho * np.dot(y, r)) * s
    return store(out, -r)


def curved(steps, differences):
    """(s, y, rho) of the pairs that are not left out."""
    with np.errstate(all="ignore"):
        pairs = [(s, y, 1 / np.dot(s, y)) for s, y in zip(steps, differences, strict=True)]
    return [pair for pair in pairs if 0 < pair[2] < np.inf]
