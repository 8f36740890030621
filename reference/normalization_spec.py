"""The specification of batch and layer normalisation; see normalization.py.

The variance may be taken as that of the distances from a mean that errs by d: it comes out as
v + d^2. Where parts of the rows are merged, each with a mean m of its own that was rounded by
2 u |m|, it errs by twice the product of that and the deviation as well (Chan, Golub and LeVeque,
Algorithms for Computing the Sample Variance, The American Statistician 37, 1983). The difference of
the mean square and the squared mean, which errs by u m^2, is thereby excluded.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .bounds import ELEMENTARY, Bound, smallest_normal, sum_bound, unit_roundoff
from .normalization import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    layer_norm_backward,
    layer_norm_forward,
)
from .spec import Case, Operation, Result


@dataclass(frozen=True)
class Moments:
    """Of the columns: exact, and how far off they may be; `relative` is rstd's relative error."""

    mean: Any
    variance: Any
    rstd: Any
    of_mean: Bound
    of_variance: Bound
    relative: Bound


def column_moments(x, eps, dtype):
    u, rows, tiny = unit_roundoff(dtype), len(x), smallest_normal(dtype)
    mean = x.mean(axis=0)
    of_mean = sum_bound(x, dtype) * (1 / rows) + Bound.of(2 * u * np.abs(mean) + tiny)
    squares = np.square(x - mean)
    variance = squares.mean(axis=0)
    of_variance = sum_bound(squares, dtype, Bound.of(3 * u * squares)) * (1 / rows)
    of_variance += Bound(of_mean.each**2, of_mean.deviation**2)
    merged = 4 * u * np.sqrt(variance) * np.abs(mean)
    of_variance += Bound.of(merged + 2 * u * variance + tiny)
    relative = Bound(*(_of_root(variance, eps, e) for e in _parts(of_variance)))
    rstd = 1 / np.sqrt(variance + eps)
    return Moments(mean, variance, rstd, of_mean, of_variance, relative + Bound.of(ELEMENTARY * u))


def _parts(bound):
    return bound.each, bound.deviation


def _of_root(variance, eps, error):
    """Relative error of 1 / sqrt(v + eps) where v >= 0 may be off by so much."""
    above = 1 - np.sqrt((variance + eps) / (variance + error + eps))
    below = np.sqrt((variance + eps) / (np.maximum(variance - error, 0) + eps)) - 1
    return np.maximum(above, below)


def _forward_bounds(x, gamma, beta, moments, dtype, skip=None):
    """Of y; everything but x and skip is of a column or goes along with it. Where skip is added, in
    any order, every term has one rounding more, and skip as many as there are sums.
    """
    u, centred = unit_roundoff(dtype), x - moments.mean
    scale = np.abs(gamma) * moments.rstd
    scaled = scale * np.abs(centred)
    rounded = Bound.of(4 * u * scaled + 2 * u * np.abs(beta) + smallest_normal(dtype))
    if skip is not None:
        more = scaled + np.abs(beta) + 2 * np.abs(skip)
        rounded += Bound.of(u * more + smallest_normal(dtype))
    largest = 1 + moments.relative.each
    return moments.of_mean * (scale * largest) + moments.relative * scaled + rounded


def transposed(bound):
    return Bound(*(np.asarray(part).T for part in _parts(bound)))


def batch_forward_error(inputs, dtype):
    x, u, tiny = inputs["x"], unit_roundoff(dtype), smallest_normal(dtype)
    moments, share = column_moments(x, inputs["eps"], dtype), inputs["momentum"]
    given = inputs["gamma"], inputs["beta"], moments, dtype, inputs["skip"]
    of_y = _forward_bounds(x, *given)
    of_rstd = moments.relative * moments.rstd
    bias = len(x) / max(1, len(x) - 1)
    running = []
    for name, now, of_now in (
        ("running_mean", moments.mean, moments.of_mean),
        ("running_variance", bias * moments.variance, moments.of_variance * bias),
    ):
        before = inputs[name]
        roundings = 5 * u * (np.abs(before) + share * np.abs(now)) + tiny
        running.append(of_now * share + Bound.of(roundings))
    return of_y, moments.of_mean, of_rstd, *running


def inference_error(inputs, dtype):
    u = unit_roundoff(dtype)
    mean, variance = inputs["running_mean"], inputs["running_variance"]
    rstd = 1 / np.sqrt(variance + inputs["eps"])
    moments = Moments(
        mean,
        variance,
        rstd,
        Bound.of(2 * u * np.abs(mean)),
        Bound.of(0.0),
        Bound.of(ELEMENTARY * u),
    )
    given = inputs["gamma"], inputs["beta"], moments, dtype, inputs["skip"]
    return (_forward_bounds(inputs["x"], *given),)


def layer_forward_error(inputs, dtype):
    x, gamma, beta = inputs["x"].T, inputs["gamma"][:, None], inputs["beta"][:, None]
    moments = column_moments(x, inputs["eps"], dtype)
    skip = None if inputs["skip"] is None else inputs["skip"].T
    of_y = transposed(_forward_bounds(x, gamma, beta, moments, dtype, skip))
    return of_y, moments.of_mean, moments.relative * moments.rstd


def _gradient_sums(dy, h, dtype):
    """(of the sums of dy h, of those of dy) over the rows; h has two roundings, the term a third.

    A subnormal factor may be lost before it is multiplied.
    """
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    lost = tiny * (1 + np.abs(dy) + np.abs(h))
    of_products = sum_bound(dy * h, dtype, Bound.of(3 * u * np.abs(dy * h) + lost))
    return of_products, sum_bound(dy, dtype, Bound.of(np.full(dy.shape, tiny)))


def batch_backward_error(inputs, dtype):
    dy, x, gamma, mean, rstd = (inputs[n] for n in ("dy", "x", "gamma", "mean", "rstd"))
    h = (x - mean) * rstd
    of_dgamma, of_dbeta = _gradient_sums(dy, h, dtype)
    of_dx = _input_gradient(dy, h, of_dbeta, of_dgamma, dtype) * (np.abs(gamma) * rstd)
    return of_dx, of_dgamma, of_dbeta


def layer_backward_error(inputs, dtype):
    dy, x, gamma, mean, rstd = (inputs[n] for n in ("dy", "x", "gamma", "mean", "rstd"))
    h = (x - mean[:, None]) * rstd[:, None]
    of_dgamma, of_dbeta = _gradient_sums(dy, h, dtype)
    g, h, u = (gamma * dy).T, h.T, unit_roundoff(dtype)
    of_products, of_sums = _gradient_sums(g, h, dtype)
    of_products += Bound.of(u * np.abs(g * h).sum(axis=0))  # gamma dy was rounded
    of_sums += Bound.of(u * np.abs(g).sum(axis=0))
    of_dx = _input_gradient(g, h, of_sums, of_products, dtype) * rstd
    return transposed(of_dx), of_dgamma, of_dbeta


def _input_gradient(g, h, of_sums, of_products, dtype):
    """Of g - mean g - h mean(g h) over the rows, and of the factor it is multiplied with."""
    u, rows = unit_roundoff(dtype), len(g)
    along = np.abs((g * h).sum(axis=0)) / rows
    size = np.abs(g) + np.abs(g.sum(axis=0)) / rows + np.abs(h) * along
    bound = of_sums * (1 / rows) + of_products * (np.abs(h) / rows)
    return bound + Bound.of(8 * u * size + 4 * smallest_normal(dtype) * (1 + np.abs(h)))


# --- samples --------------------------------------------------------------------------------------


def _sample(rng, case):
    """Columns of several means and deviations."""
    batch, units = case.sizes["batch"], case.sizes["fan_out"]
    x = rng.standard_normal((batch, units)) * rng.uniform(0.3, 3, units)
    given = {"x": x + rng.standard_normal(units)}
    given |= {"gamma": rng.uniform(0.5, 1.5, units), "beta": rng.standard_normal(units)}
    return {name: np.ascontiguousarray(array, case.dtype) for name, array in given.items()}


def _eps(rng, case):
    return {"eps": 10.0 ** rng.uniform(-6, -1)} if case.vary else {}


def _running(rng, case):
    units = case.sizes["fan_out"]
    given = {"running_mean": rng.standard_normal(units)}
    given["running_variance"] = rng.uniform(0.2, 4, units)
    return {name: array.astype(case.dtype) for name, array in given.items()}


def _sample_batch_forward(rng, case):
    momentum = {"momentum": rng.uniform(0.05, 0.95)} if case.vary else {}
    return {**_sample(rng, case), **_running(rng, case), **momentum, **_eps(rng, case)}


def _sample_inference(rng, case):
    return {**_sample(rng, case), **_running(rng, case), **_eps(rng, case)}


def _sample_layer_forward(rng, case):
    return {**_sample(rng, case), **_eps(rng, case)}


def _with_skip(sample):
    """The same inputs, and what y is added to."""

    def sampled(rng, case):
        given = sample(rng, case)
        return {**given, "skip": rng.standard_normal(given["x"].shape).astype(case.dtype)}

    return sampled


def _sample_backward(axis, rng, case):
    forward = _sample(rng, case)
    x = forward["x"]
    dy = rng.standard_normal(x.shape).astype(case.dtype)
    rstd = 1 / np.sqrt(x.var(axis=axis, dtype=np.float64) + 1e-5)
    moments = {"mean": x.mean(axis=axis, dtype=np.float64), "rstd": rstd}
    moments = {name: array.astype(case.dtype) for name, array in moments.items()}
    return {"dy": dy, "x": x, "gamma": forward["gamma"], **moments}


def _edges(sample, dtype):
    """Far from zero, constant, NaN in one place, subnormal, and large."""

    def fresh(batch=37, units=9):
        case = Case("edges", {"batch": batch, "fan_out": units}, np.dtype(dtype).name, vary=False)
        return sample(np.random.default_rng(8), case)

    for batch, units in ((37, 9), (3, 700), (700, 3)):
        inputs = fresh(batch, units)
        inputs["x"] = (inputs["x"] + 1e4).astype(dtype)
        if "mean" in inputs:
            inputs["mean"] = (inputs["mean"] + 1e4).astype(dtype)
        yield f"mean 1e4, deviation 1, {batch} x {units}", inputs
    for value in (0.0, -0.0, 7.0, np.finfo(dtype).smallest_subnormal, 1e12):
        inputs = fresh()
        inputs["x"] = np.full_like(inputs["x"], value)
        if "mean" in inputs:
            inputs["mean"] = np.full_like(inputs["mean"], value)
        yield f"all {value}", inputs
    for name in fresh():
        inputs = fresh()
        if isinstance(inputs[name], np.ndarray):
            inputs[name][(1,) * inputs[name].ndim] = np.nan
            yield f"NaN in {name}", inputs


def _operation(function, sample, flops, elements, results, error, variant=""):
    return Operation(
        function.__name__,
        function,
        ("batch", "fan_out"),
        sample,
        flops,
        elements,
        results,
        error,
        partial(_edges, sample),
        variant,
    )


def _with_and_without_skip(function, sample, flops, elements, results, error):
    """The sum takes an operation and a reading an element."""
    yield _operation(function, sample, flops, elements, results, error)
    yield _operation(
        function,
        _with_skip(sample),
        lambda batch, fan_out, **_: flops(batch, fan_out) + batch * fan_out,
        lambda batch, fan_out, **_: elements(batch, fan_out) + batch * fan_out,
        results,
        error,
        "skip",
    )


_FORWARD = Result("y"), Result("mean"), Result("rstd")
_BACKWARD = Result("dx"), Result("dgamma"), Result("dbeta")
_RUNNING = Result("running_mean", updates=True), Result("running_variance", updates=True)

OPERATIONS = (
    # An element: sum, distance, its square added, scaled, shifted; a unit: 6 for mean, variance and
    # scale, 7 for what runs along.
    *_with_and_without_skip(
        batch_norm_forward,
        _sample_batch_forward,
        lambda batch, fan_out, **_: (6 * batch + 13) * fan_out,
        lambda batch, fan_out, **_: (2 * batch + 8) * fan_out,
        (*_FORWARD, *_RUNNING),
        batch_forward_error,
    ),
    *_with_and_without_skip(
        batch_norm_inference,
        _sample_inference,
        lambda batch, fan_out, **_: (3 * batch + 4) * fan_out,
        lambda batch, fan_out, **_: (2 * batch + 4) * fan_out,
        (Result("y"),),
        inference_error,
    ),
    # An element: a sum, the distance, a product added, a dy + b (x - mean) + c.
    _operation(
        batch_norm_backward,
        partial(_sample_backward, 0),
        lambda batch, fan_out, **_: (8 * batch + 7) * fan_out,
        lambda batch, fan_out, **_: (3 * batch + 5) * fan_out,
        _BACKWARD,
        batch_backward_error,
    ),
    # As batch norm's, but scaled twice; a row: mean, variance, eps, root, quotient.
    *_with_and_without_skip(
        layer_norm_forward,
        _sample_layer_forward,
        lambda batch, fan_out, **_: (7 * fan_out + 5) * batch,
        lambda batch, fan_out, **_: 2 * (batch * fan_out + fan_out + batch),
        _FORWARD,
        layer_forward_error,
    ),
    # An element: gamma dy, h, four sums of which two are of products, and 4 for dx.
    _operation(
        layer_norm_backward,
        partial(_sample_backward, 1),
        lambda batch, fan_out, **_: (13 * fan_out + 2) * batch,
        lambda batch, fan_out, **_: 3 * batch * fan_out + 3 * fan_out + 2 * batch,
        _BACKWARD,
        layer_backward_error,
    ),
)
