"""The dense layer y = act(x W + b) and its gradients; the activation is part of the operation.

Products are taken in full precision. precision="tf32" is a permission: in float32 the factors of a
product may be rounded to TF32, a b becoming a (1 + d) b (1 + e) with |d|, |e| <= 2^-11, and are
added up in float32. TF32 has the 8 bits of float32's exponent and 10 of its 23 of mantissa; tensor
cores multiply it (NVIDIA A100 Tensor Core GPU Architecture, 2020). float64 is not affected, and who
has no such hardware, as NumPy, computes in full precision.
"""

from functools import partial

import numpy as np

from .activation_spec import (
    backward_bound,
    forward_bound,
    sample_alpha,
    sample_saved,
    slope_bound,
)
from .activations import ACTIVATIONS, activation_backward, activation_forward
from .bounds import EXACT, Bound, product_bound, sum_bound, unit_roundoff
from .spec import Case, Operation, Result, store


def dense_forward(x, weight, bias, activation="identity", alpha=None, *, precision=None, out=None):
    """y = act(x W + b).

    x: (batch, fan_in), weight: (fan_in, fan_out), bias: (fan_out,), alpha: see activation_forward;
    y, out: (batch, fan_out). The backward pass takes y, but for prelu and rectifier it takes
    z = x W + b: compute it with activation="identity", then apply activation_forward to it.
    precision: None, or "tf32", which permits x and W to be rounded to TF32.
    Source: Goodfellow, Bengio and Courville, Deep Learning, MIT Press 2016, section 6.4.
    """
    return store(out, activation_forward(x @ weight + bias, activation, alpha))


def dense_backward(
    dy, x, weight, saved, activation="identity", alpha=None, *, precision=None, out=None
):
    """dx = dz W^T, dW = x^T dz, db = sum over the batch of dz, with dz = dy act'(z).

    dy, saved: (batch, fan_out), x: (batch, fan_in), weight: (fan_in, fan_out); `saved` and alpha as
    in activation_backward. Returns (dx, dweight, dbias) and for prelu dalpha as a fourth; out takes
    as many. precision: None, or "tf32", which permits dz, W and x to be rounded to TF32 in both
    products. Source: as for dense_forward, algorithm 6.4.
    """
    dz = activation_backward(dy, saved, activation, alpha)
    dz, *dalpha = dz if activation == "prelu" else (dz,)
    results = dz @ weight.T, x.T @ dz, dz.sum(axis=0), *dalpha
    return tuple(store(o, r) for o, r in zip(out or [None] * len(results), results, strict=True))


# --- specification ------------------------------------------------------------


def linear_bound(x, weight, bias, z, dtype, of_x=EXACT, precision=None):
    """Of z = x W + b, given that of x; an infinite sum is exact."""
    bound = product_bound(x, weight, dtype, of_x, precision=precision)
    bound = bound + Bound.of(unit_roundoff(dtype) * (np.abs(bias) + np.abs(z)))
    infinite = np.isinf(z)
    return Bound(*(np.where(infinite, 0.0, part) for part in (bound.each, bound.deviation)))


def gradient_bounds(dz, x, weight, dtype, of_dz=EXACT, of_x=EXACT, precision=None):
    """Of dx, dweight and dbias, given those of dz and x."""
    return (
        product_bound(dz, weight.T, dtype, of_dz, precision=precision),
        product_bound(x.T, dz, dtype, _transposed(of_x), of_dz, precision),
        sum_bound(dz, dtype, of_dz),
    )


# (activation, precision): of products of rounded factors one activation stands for all.
VARIANTS = (*((name, None) for name in ACTIVATIONS), ("relu", "tf32"))


def _transposed(bound):
    return bound if bound is EXACT else Bound(bound.each.T, bound.deviation.T)


def _sample_forward(activation, precision, rng, case):
    """Rows of real data where the case has them; weights scaled by 1 / sqrt(fan_in)."""
    batch, fan_in, fan_out = (case.sizes[name] for name in ("batch", "fan_in", "fan_out"))
    rows = case.rows(batch) if case.rows else rng.standard_normal((batch, fan_in))
    weight = rng.standard_normal((fan_in, fan_out)) / np.sqrt(max(1, fan_in))
    return {
        "x": np.ascontiguousarray(rows, case.dtype),
        "weight": weight.astype(case.dtype),
        "bias": rng.standard_normal(fan_out).astype(case.dtype),
        "activation": activation,
        **sample_alpha(rng, activation, fan_out, case),
        **({"precision": precision} if precision else {}),
    }


def _sample_backward(activation, precision, rng, case):
    forward = _sample_forward(activation, precision, rng, case)
    shape = case.sizes["batch"], case.sizes["fan_out"]
    alpha = {name: forward[name] for name in ("alpha",) if name in forward}
    permitted = {name: forward[name] for name in ("precision",) if name in forward}
    return {
        "dy": rng.standard_normal(shape).astype(case.dtype),
        "x": forward["x"],
        "weight": forward["weight"],
        "saved": sample_saved(rng, activation, shape, case.dtype, alpha),
        "activation": activation,
        **alpha,
        **permitted,
    }


def _forward_error(inputs, dtype):
    x, weight, bias = inputs["x"], inputs["weight"], inputs["bias"]
    activation, alpha = inputs["activation"], inputs["alpha"]
    z = x @ weight + bias
    y = activation_forward(z, activation, alpha)
    of_z = linear_bound(x, weight, bias, z, dtype, precision=inputs["precision"])
    return (forward_bound(z, y, activation, alpha, dtype, of_z),)


def _backward_error(inputs, dtype):
    dy, x, weight, saved = (inputs[name] for name in ("dy", "x", "weight", "saved"))
    activation, alpha = inputs["activation"], inputs["alpha"]
    dz = activation_backward(dy, saved, activation, alpha)
    dz = dz[0] if activation == "prelu" else dz
    of_dz = backward_bound(dy, saved, activation, alpha, dtype)
    bounds = gradient_bounds(dz, x, weight, dtype, of_dz, precision=inputs["precision"])
    return (*bounds, slope_bound(dy, saved, dtype)) if activation == "prelu" else bounds


def _small(activation, precision, dtype):
    """The inputs of a small forward and a small backward pass."""
    case = Case("edges", {"batch": 5, "fan_in": 7, "fan_out": 9}, np.dtype(dtype).name)
    forward = _sample_forward(activation, precision, np.random.default_rng(5), case)
    forward["bias"][:] = 0
    return forward, _sample_backward(activation, precision, np.random.default_rng(5), case)


def _forward_edges(activation, precision, dtype):
    """A special value in one row of x must stay in that row."""
    for value in (0.0, -0.0, np.inf, np.nan, np.finfo(dtype).smallest_subnormal, 1e30):
        inputs, _ = _small(activation, precision, dtype)
        inputs["x"][2, 3] = value
        yield f"{value} in x", inputs
    inputs, _ = _small(activation, precision, dtype)
    yield "all zero", {**inputs, "x": np.zeros_like(inputs["x"])}


def _backward_edges(activation, precision, dtype):
    for value in (0.0, np.inf, np.nan, np.finfo(dtype).smallest_subnormal, 1e30):
        _, inputs = _small(activation, precision, dtype)
        inputs["dy"][2, 3:6] = value
        yield f"{value} in dy", inputs


def _operations():
    for activation, precision in VARIANTS:
        forward, backward = ACTIVATIONS[activation].flops
        alphas = int(activation in ("prelu", "rectifier"))
        of_slopes, saved = int(activation == "prelu"), int(activation != "identity")
        variant = f"{activation} {precision}" if precision else activation
        yield Operation(
            "dense_forward",
            dense_forward,
            ("batch", "fan_in", "fan_out"),
            partial(_sample_forward, activation, precision),
            lambda batch, fan_in, fan_out, n=forward, **_: (
                2 * batch * fan_in * fan_out + (1 + n) * batch * fan_out
            ),
            lambda batch, fan_in, fan_out, a=alphas, **_: (
                batch * fan_in + fan_in * fan_out + batch * fan_out + (1 + a) * fan_out
            ),
            (Result("y"),),
            _forward_error,
            partial(_forward_edges, activation, precision),
            variant,
            precision=precision,
        )
        yield Operation(
            "dense_backward",
            dense_backward,
            ("batch", "fan_in", "fan_out"),
            partial(_sample_backward, activation, precision),
            lambda batch, fan_in, fan_out, n=backward, **_: (
                4 * batch * fan_in * fan_out + (1 + n) * batch * fan_out
            ),
            lambda batch, fan_in, fan_out, s=saved, a=alphas + of_slopes, **_: (
                2 * (batch + fan_out) * fan_in + ((1 + s) * batch + 1 + a) * fan_out
            ),
            tuple(map(Result, ("dx", "dweight", "dbias", *["dalpha"] * of_slopes))),
            _backward_error,
            partial(_backward_edges, activation, precision),
            variant,
            precision=precision,
        )


OPERATIONS = tuple(_operations())
