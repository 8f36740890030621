"""Maxout: a unit is the largest of a few linear pieces, so that it learns its activation.

Source: Goodfellow, Warde-Farley, Mirza, Courville and Bengio, Maxout Networks, ICML 2013.
"""

from functools import partial
from statistics import NormalDist

import numpy as np

from .bounds import Bound, of_likely_errors
from .dense import gradient_bounds, linear_bound
from .spec import Case, Operation, Result, store


def maxout_forward(x, weight, bias, *, out=None):
    """y_ij = max over the pieces k of z_ikj with z_ikj = sum_f x_if W_fkj + b_kj.

    x: (batch, fan_in), weight: (fan_in, pieces, fan_out), bias: (pieces, fan_out), of one piece at
    least. Returns, and out takes, y: (batch, fan_out) and z: (batch, pieces, fan_out), which the
    backward pass reads. A unit with a piece that is NaN is NaN.
    """
    z = np.tensordot(x, weight, 1) + bias
    y_out, z_out = out or (None, None)
    return store(y_out, z.max(axis=1)), store(z_out, z)


def maxout_backward(dy, x, weight, z, *, out=None):
    """dx = dz W^T, dW = x^T dz, db = sum over the batch of dz, with dz_ikj = dy_ij where z_ikj is
    the largest of its pieces, the first of equals, else 0.

    dy: (batch, fan_out); x, weight and z as in maxout_forward. Returns (dx, dweight, dbias); out
    takes as many. The first piece that is NaN counts as the largest.
    """
    dz = pieces_gradient(dy, z)
    results = np.tensordot(dz, weight, ((1, 2), (1, 2))), np.tensordot(x.T, dz, 1), dz.sum(axis=0)
    return tuple(store(o, r) for o, r in zip(out or [None] * 3, results, strict=True))


def pieces_gradient(dy, z):
    """dz of maxout_backward: (batch, pieces, fan_out)."""
    return np.where(_winners(z), dy[:, None, :], np.zeros((), dy.dtype))


def weight_gain(pieces):
    """Over fan_in: the variance of the weights at which a unit keeps the second moment of its
    inputs, 1 / E[max^2] of so many standard normals, by the trapezoidal rule; of two it is 1.

    Source: Tseran and Montufar, Expected Gradients of Maxout Networks and Consequences to Parameter
    Initialization, ICML 2023.
    """
    normal, points = NormalDist(), [k / 16 for k in range(-160, 161)]
    density = [pieces * normal.cdf(x) ** (pieces - 1) * normal.pdf(x) for x in points]
    return 16 / sum(x * x * d for x, d in zip(points, density, strict=True))


def _winners(z):
    return np.arange(z.shape[1])[:, None] == z.argmax(axis=1)[:, None, :]


# --- specification ------------------------------------------------------------

PIECES = {"two pieces": 2, "five pieces": 5}  # of the variants


def _flat(array):
    """The pieces beside each other: the matrix of one dense layer."""
    return array.reshape(len(array), -1)


def _sample_forward(pieces, rng, case):
    """Rows of real data where the case has them; weights scaled by 1 / sqrt(fan_in)."""
    batch, fan_in, fan_out = (case.sizes[name] for name in ("batch", "fan_in", "fan_out"))
    rows = case.rows(batch) if case.rows else rng.standard_normal((batch, fan_in))
    weight = rng.standard_normal((fan_in, pieces, fan_out)) / np.sqrt(max(1, fan_in))
    return {
        "x": np.ascontiguousarray(rows, case.dtype),
        "weight": weight.astype(case.dtype),
        "bias": rng.standard_normal((pieces, fan_out)).astype(case.dtype),
    }


def _sample_backward(pieces, rng, case):
    """Pieces that tie, for z is drawn from few numbers."""
    forward = _sample_forward(pieces, rng, case)
    batch, fan_out = case.sizes["batch"], case.sizes["fan_out"]
    return {
        "dy": rng.standard_normal((batch, fan_out)).astype(case.dtype),
        "x": forward["x"],
        "weight": forward["weight"],
        "z": np.round(2 * rng.standard_normal((batch, pieces, fan_out))).astype(case.dtype),
    }


def _forward_error(inputs, dtype):
    """The largest of several numbers is no further off than one of them."""
    x, weight, bias = inputs["x"], inputs["weight"], inputs["bias"]
    z = maxout_forward(x, weight, bias)[1]
    of_z = linear_bound(x, _flat(weight), bias.ravel(), _flat(z), dtype)
    of_z = of_z.reshape(z.shape)
    return largest_bound(of_z), of_z


def largest_bound(of_z):
    """Of the largest of each unit's pieces, given that of the pieces."""
    return Bound(of_z.each.max(axis=1), of_z.deviation.max(axis=1))


@of_likely_errors
def pieces_gradient_bound(dy, z, of_dy, of_z):
    """Of dz, given those of dy and z: where more than one piece may be the largest, each of these
    may have all of dy or nothing of it.
    """
    may_win = _winners(z) | (z + of_z.each > (z - of_z.each).max(axis=1, keepdims=True))
    others = may_win & (may_win.sum(axis=1, keepdims=True) > 1)
    of_winner = Bound(of_dy.each[:, None], of_dy.deviation[:, None])
    return of_winner * may_win + Bound.of(np.abs(dy)[:, None] * others)


def _backward_error(inputs, dtype):
    dy, x, weight, z = (inputs[name] for name in ("dy", "x", "weight", "z"))
    dz = _flat(pieces_gradient(dy, z))
    of_dx, of_dweight, of_dbias = gradient_bounds(dz, x, _flat(weight), dtype)
    return of_dx, of_dweight.reshape(weight.shape), of_dbias.reshape(weight.shape[1:])


def _small(sample, pieces, dtype):
    case = Case("edges", {"batch": 5, "fan_in": 7, "fan_out": 9}, np.dtype(dtype).name)
    return sample(pieces, np.random.default_rng(5), case)


def _forward_edges(pieces, dtype):
    """A special value in one row of x must stay in that row, one of a piece in its unit."""
    for value in (0.0, -0.0, np.inf, np.nan, np.finfo(dtype).smallest_subnormal, 1e30):
        inputs = _small(_sample_forward, pieces, dtype)
        inputs["x"][2, 3] = value
        yield f"{value} in x", inputs
    for value in (np.inf, -np.inf, np.nan):
        inputs = _small(_sample_forward, pieces, dtype)
        inputs["bias"][pieces - 1, 3] = value
        yield f"{value} in the bias of a piece", inputs


def _backward_edges(pieces, dtype):
    for value in (0.0, np.inf, np.nan, np.finfo(dtype).smallest_subnormal, 1e30):
        inputs = _small(_sample_backward, pieces, dtype)
        inputs["dy"][2, 3:6] = value
        yield f"{value} in dy", inputs
    for value in (np.inf, -np.inf, np.nan):
        for places in ([0], [pieces - 1], [0, pieces - 1]):
            inputs = _small(_sample_backward, pieces, dtype)
            inputs["z"][1:3, places] = value
            yield f"{value} in the pieces {places}", inputs
    inputs = _small(_sample_backward, pieces, dtype)
    yield "all pieces equal", {**inputs, "z": np.ones_like(inputs["z"])}


def _operations():
    """Of a gradient's products only the winners' terms count."""
    for variant, pieces in PIECES.items():
        yield Operation(
            "maxout_forward",
            maxout_forward,
            ("batch", "fan_in", "fan_out"),
            partial(_sample_forward, pieces),
            lambda batch, fan_in, fan_out, k=pieces, **_: (
                (2 * fan_in * k + 2 * k - 1) * batch * fan_out
            ),
            lambda batch, fan_in, fan_out, k=pieces, **_: (
                batch * fan_in + ((fan_in + 1) * k + (1 + k) * batch) * fan_out
            ),
            (Result("y"), Result("z")),
            _forward_error,
            partial(_forward_edges, pieces),
            variant,
        )
        yield Operation(
            "maxout_backward",
            maxout_backward,
            ("batch", "fan_in", "fan_out"),
            partial(_sample_backward, pieces),
            lambda batch, fan_in, fan_out, k=pieces, **_: (4 * fan_in + k) * batch * fan_out,
            lambda batch, fan_in, fan_out, k=pieces, **_: (
                2 * batch * fan_in + ((2 * fan_in + 1) * k + (1 + k) * batch) * fan_out
            ),
            (Result("dx"), Result("dweight"), Result("dbias")),
            _backward_error,
            partial(_backward_edges, pieces),
            variant,
        )


OPERATIONS = tuple(_operations())
