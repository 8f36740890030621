"""What errors of its inputs become in a normalisation, beside the roundings of its own.

To first order. With h = (x - m) r, r = rstd, over the N places of a column (of a row, transposed):

    dm = mean dx,    dr / r = -r mean(h dx),    dh = r (dx - mean dx) + h dr / r

and for the gradient w = g - mean g - h mean(g h) of which dx is a multiple by gamma r:

    dw = dg - mean dg - h mean(h dg) - dh mean(g h) - h mean(g dh)

Deviations are those of independent errors; where three terms share some, they are added up.
"""

import numpy as np

from .bounds import Bound
from .normalization import batch_norm_backward, layer_norm_backward
from .normalization_spec import (
    batch_backward_error,
    batch_forward_error,
    column_moments,
    inference_error,
    layer_backward_error,
    layer_forward_error,
    transposed,
)

EPS, MOMENTUM = 1e-5, 0.1  # the functions' defaults


def forward_bounds(kind, z, gamma, beta, running, dtype, of_z):
    """Of (n, h, rstd's relative error, the running statistics) of a normalisation in training."""
    rows = kind == "layer_norm"
    inputs = {"x": z, "gamma": gamma, "beta": beta, "eps": EPS, "skip": None}
    if rows:
        of_n, *_ = layer_forward_error(inputs, dtype)
        of_running = ()
    else:
        inputs |= dict(zip(("running_mean", "running_variance"), running, strict=True))
        of_n, _, _, *of_running = batch_forward_error({**inputs, "momentum": MOMENTUM}, dtype)
    x, of_x = (z.T, transposed(_over(of_z, z))) if rows else (z, _over(of_z, z))
    own = column_moments(x, EPS, dtype)
    h = (x - own.mean) * own.rstd
    relative = _mean(of_x, np.abs(h)) * own.rstd
    moved = _projected(of_x, h, relative.likely().each) * own.rstd
    of_h = moved + own.of_mean * own.rstd + own.relative * np.abs(h)
    relative = relative + own.relative
    if rows:
        return of_n + transposed(moved) * np.abs(gamma), transposed(of_h), relative, ()
    bias, centred = len(x) / max(1, len(x) - 1), np.abs(x - own.mean)
    changes = _mean(of_x), _mean(of_x, centred) * (2 * bias)
    of_running = [o + c * MOMENTUM for o, c in zip(of_running, changes, strict=True)]
    return of_n + moved * np.abs(gamma), of_h, relative, of_running


def inference_bound(z, gamma, beta, running, dtype, of_z):
    """Of batch norm's n by its running statistics."""
    names = "x", "gamma", "beta", "running_mean", "running_variance"
    inputs = dict(zip(names, (z, gamma, beta, *running), strict=True))
    (own,) = inference_error(inputs | {"eps": EPS, "skip": None}, dtype)
    return own + of_z * (np.abs(gamma) / np.sqrt(running[1] + EPS))


def backward_bounds(kind, dn, tape, gamma, dtype, of_dn, of_h, relative):
    """Of (dz, dgamma, dbeta)."""
    inputs = {"dy": dn, "x": tape.z, "gamma": gamma, "mean": tape.mean, "rstd": tape.rstd}
    if kind == "layer_norm":
        dz, *_ = layer_norm_backward(*inputs.values())
        of_dz, of_dgamma, of_dbeta = layer_backward_error(inputs, dtype)
        mean, rstd = tape.mean[:, None], tape.rstd[:, None]
    else:
        dz, *_ = batch_norm_backward(*inputs.values())
        of_dz, of_dgamma, of_dbeta = batch_backward_error(inputs, dtype)
        mean, rstd = tape.mean, tape.rstd
    of_dn, h = _over(of_dn, dn), (tape.z - mean) * rstd
    terms = of_dn * np.abs(h) + of_h * np.abs(dn)
    of_dgamma, of_dbeta = of_dgamma + _total(terms), of_dbeta + _total(of_dn)
    if kind == "layer_norm":
        g, of_g = (gamma * dn).T, transposed(of_dn * np.abs(gamma))
        moved = _moved(g, h.T, of_g, transposed(of_h)) * tape.rstd
        moved = transposed(_sum(moved, relative * np.abs(dz.T)))
    else:
        moved = _moved(dn, h, of_dn, of_h) * (np.abs(gamma) * rstd)
        moved = _sum(moved, relative * np.abs(dz))
    return of_dz + moved, of_dgamma, of_dbeta


def _moved(g, h, of_g, of_h):
    """Of w by errors of g and h."""
    n, size, along = len(h), np.abs(h), (g * h).mean(axis=0)
    shared = _mean(of_h, np.abs(g))
    # Of of_h the coefficients are along where it stands and h g / n of all.
    square = of_h.deviation**2 * along * (along + 2 * h * g / n) + (size * shared.deviation) ** 2
    each = of_h.each * np.abs(along) + size * shared.each
    through = _projected(of_g, h, of_h.likely().each.max(axis=0))
    return _sum(through, Bound(each, np.sqrt(np.maximum(square, 0))))


def _projected(bound, h, reach):
    """Of e - mean e - h mean(h e), e the errors; reach: how far h itself is likely to be off."""
    n, size, variance = len(h), np.abs(h), bound.deviation**2
    each = bound.each + _mean(bound).each + size * _mean(bound, size).each
    # (1 + h_i h_j) / n of error j is taken from error i.
    taken = variance.sum(axis=0) + h * (2 * (h * variance).sum(axis=0))
    taken = (taken + h**2 * (h**2 * variance).sum(axis=0)) / n**2
    left = np.maximum(variance * (1 - 2 * (1 + h**2) / n) + taken, 0)
    # Of two rows nothing is left, to first order.
    return Bound(each, np.sqrt(left) + np.minimum(reach, 1) * bound.deviation)


def _over(bound, array):
    """The bound of every element of the array."""
    return Bound(*(np.broadcast_to(part, array.shape) for part in (bound.each, bound.deviation)))


def _total(bound):
    """Of the sum of the errors over the rows."""
    return Bound(bound.each.sum(axis=0), np.sqrt((bound.deviation**2).sum(axis=0)))


def _mean(bound, factor=1.0):
    """Of the mean over the rows of the errors times a factor."""
    return _total(bound * factor) * (1 / len(bound.each))


def _sum(*bounds):
    """Of the sum of errors that may have a cause in common."""
    each, deviation = (sum(p) for p in zip(*((b.each, b.deviation) for b in bounds), strict=True))
    return Bound(each, deviation)
