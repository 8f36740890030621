"""The dense layer y = act(x W + b) and its gradients; the activation is part of the operation."""

from functools import partial

import numpy as np

from .activations import (
    ACTIVATIONS,
    FLOPS,
    activation_backward,
    activation_forward,
    dalpha_bound,
    derivative_bound,
    forward_bound,
    sample_alpha,
    sample_saved,
)
from .spec import Operation, smallest_normal, store, summation, unit_roundoff


def dense_forward(x, weight, bias, activation="identity", alpha=None, *, out=None):
    """y = act(x W + b).

    x: (batch, fan_in), weight: (fan_in, fan_out), bias: (fan_out,), alpha: see activation_forward;
    y, out: (batch, fan_out). The backward pass takes y, but for prelu and rectifier it takes
    z = x W + b: compute it with activation="identity", then apply activation_forward to it.
    Source: Goodfellow, Bengio and Courville, Deep Learning, MIT Press 2016, section 6.4.
    """
    return store(out, activation_forward(x @ weight + bias, activation, alpha))


def dense_backward(dy, x, weight, saved, activation="identity", alpha=None, *, out=None):
    """dx = dz W^T, dW = x^T dz, db = sum over the batch of dz, with dz = dy act'(z).

    dy, saved: (batch, fan_out), x: (batch, fan_in), weight: (fan_in, fan_out); `saved` and alpha as
    in activation_backward. Returns (dx, dweight, dbias) and for prelu dalpha as a fourth; out takes
    as many. Source: as for dense_forward, algorithm 6.4.
    """
    dz = activation_backward(dy, saved, activation, alpha)
    dz, *dalpha = dz if activation == "prelu" else (dz,)
    results = dz @ weight.T, x.T @ dz, dz.sum(axis=0), *dalpha
    return tuple(store(o, r) for o, r in zip(out or [None] * len(results), results, strict=True))


# --- specification ------------------------------------------------------------


def _sample_forward(activation, rng, layer, batch, dtype):
    """Rows of real data where the layer has them; weights scaled by 1 / sqrt(fan_in)."""
    rows = layer.rows(batch) if layer.rows else rng.standard_normal((batch, layer.fan_in))
    weight = rng.standard_normal((layer.fan_in, layer.fan_out)) / np.sqrt(max(1, layer.fan_in))
    return {
        "x": np.ascontiguousarray(rows, dtype),
        "weight": weight.astype(dtype),
        "bias": rng.standard_normal(layer.fan_out).astype(dtype),
        "activation": activation,
        **sample_alpha(rng, activation, layer.fan_out, dtype),
    }


def _sample_backward(activation, rng, layer, batch, dtype):
    forward = _sample_forward(activation, rng, layer, batch, dtype)
    shape = (batch, layer.fan_out)
    alpha = {name: forward[name] for name in ("alpha",) if name in forward}
    return {
        "dy": rng.standard_normal(shape).astype(dtype),
        "x": forward["x"],
        "weight": forward["weight"],
        "saved": sample_saved(rng, activation, shape, dtype, alpha),
        "activation": activation,
        **alpha,
    }


def _lipschitz(activation, alpha):
    """The largest slope of the activation: how far it can stretch an error of z."""
    largest = 1.0 if alpha is None else max(1.0, float(np.max(np.abs(alpha))))
    return 1.7581 if activation == "selu" else largest  # lambda alpha of selu


def _forward_error(inputs, dtype):
    x, weight, bias = inputs["x"], inputs["weight"], inputs["bias"]
    activation, alpha = inputs["activation"], inputs.get("alpha")
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    magnitude = np.abs(x) @ np.abs(weight) + np.abs(bias)
    z_error = (summation(x.shape[1]) + 1) * u * magnitude + (x.shape[1] + 1) * tiny
    y = dense_forward(**inputs)
    return (_lipschitz(activation, alpha) * z_error + forward_bound(y, activation, dtype),)


def _backward_error(inputs, dtype):
    dy, x, weight, saved = (inputs[name] for name in ("dy", "x", "weight", "saved"))
    activation, alpha = inputs["activation"], inputs.get("alpha")
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    batch, fan_out = dy.shape
    dz = activation_backward(dy, saved, activation, alpha)
    dz = np.abs(dz[0] if activation == "prelu" else dz)
    dz_error = derivative_bound(dy, saved, activation, alpha, dtype)
    over_units = summation(fan_out) * u * dz + dz_error
    over_batch = summation(batch) * u * dz + dz_error
    errors = (
        over_units @ np.abs(weight).T + fan_out * tiny,
        np.abs(x).T @ over_batch + batch * tiny,
        over_batch.sum(axis=0) + batch * tiny,
    )
    return (*errors, dalpha_bound(dy, saved, dtype)) if activation == "prelu" else errors


def _small(activation, dtype):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((5, 7)).astype(dtype)
    weight = rng.standard_normal((7, 9)).astype(dtype)
    alpha = sample_alpha(rng, activation, 9, dtype)
    return rng, x, weight, alpha


def _forward_edges(activation, dtype):
    """A special value in one row of x must stay in that row."""
    for value in (0.0, -0.0, np.inf, np.nan, np.finfo(dtype).smallest_subnormal, 1e30):
        _, x, weight, alpha = _small(activation, dtype)
        x[2, 3] = value
        bias = np.zeros(9, dtype)
        inputs = {"x": x, "weight": weight, "bias": bias, "activation": activation}
        yield f"{value} in x", {**inputs, **alpha}
    _, x, weight, alpha = _small(activation, dtype)
    yield "all zero", {**inputs, "x": np.zeros_like(x), **alpha}


def _backward_edges(activation, dtype):
    for value in (0.0, np.inf, np.nan, np.finfo(dtype).smallest_subnormal, 1e30):
        rng, x, weight, alpha = _small(activation, dtype)
        saved = sample_saved(rng, activation, (5, 9), dtype, alpha)
        dy = rng.standard_normal((5, 9)).astype(dtype)
        dy[2, 3] = value
        inputs = {"dy": dy, "x": x, "weight": weight, "saved": saved, "activation": activation}
        yield f"{value} in dy", {**inputs, **alpha}


def _operations():
    for activation in ACTIVATIONS:
        forward, backward = FLOPS[activation]
        alphas = int(activation in ("prelu", "rectifier"))
        yield Operation(
            "dense_forward",
            dense_forward,
            partial(_sample_forward, activation),
            lambda b, i, o, n=forward: 2 * b * i * o + (1 + n) * b * o,
            lambda b, i, o, a=alphas: b * i + i * o + b * o + (1 + a) * o,
            _forward_error,
            partial(_forward_edges, activation),
            activation,
        )
        yield Operation(
            "dense_backward",
            dense_backward,
            partial(_sample_backward, activation),
            lambda b, i, o, n=backward: 4 * b * i * o + (1 + n) * b * o,
            lambda b, i, o, a=alphas, s=int(activation != "identity"): (
                2 * b * i + 2 * i * o + (1 + s) * b * o + (1 + a) * o
            ),
            _backward_error,
            partial(_backward_edges, activation),
            activation,
        )


OPERATIONS = tuple(_operations())
