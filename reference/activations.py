"""Activations and their derivatives, elementwise on pre-activations z of shape (batch, units).

The rectifiers are one function, max(0, z) + alpha min(0, z), with alpha = 1 (identity), 0 (relu),
0.01 (leaky_relu) or learned for every unit (prelu). The backward pass takes `saved`: the output y
where the derivative follows from it, else the pre-activation z (SAVES_INPUT). At z = 0 the
derivative is the one from the left.
"""

from functools import partial

import numpy as np

from .bounds import ELEMENTARY, EXACT, Bound, flushed, smallest_normal, sum_bound, unit_roundoff
from .spec import Operation, Result, border_values, store

ACTIVATIONS = (
    "identity",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    "silu",
    "rectifier",
)
SAVES_INPUT = ("prelu", "rectifier", "silu")
# The variance of the weights before it, times fan_in: He et al. 2015, selu Klambauer et al. 2017.
WEIGHT_GAINS = {"relu": 2, "leaky_relu": 2, "prelu": 2, "elu": 2, "selu": 1}
DEFAULT_ALPHA = {"leaky_relu": 0.01, "elu": 1.0}

# Klambauer et al., Self-Normalizing Neural Networks, NeurIPS 2017, appendix A1.
SELU_LAMBDA = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


def activation_forward(z, activation, alpha=None, *, out=None):
    """y = act(z), elementwise.

    identity    z
    relu        max(0, z)
    leaky_relu  z if z > 0 else alpha z                            alpha >= 0, 0.01 unless given
    prelu       z if z > 0 else alpha z                            alpha (units,), learned
    rectifier   max(0, z) + alpha min(0, z)                        alpha a number or (units,)
    elu         z if z > 0 else alpha (exp(z) - 1)                 alpha >= 0, 1 unless given
    selu        lambda z if z > 0 else lambda alpha (exp(z) - 1)   fixed lambda and alpha
    sigmoid     1 / (1 + exp(-z))
    tanh        tanh(z)
    silu        z / (1 + exp(-z))

    z, out: (batch, units). Raises ValueError for an unknown activation.
    Sources: Nair and Hinton 2010 (relu), Maas et al. 2013 (leaky_relu), He et al. 2015 (prelu),
    Clevert et al. 2016 (elu), Klambauer et al. 2017 (selu), Elfwing et al. 2018 (silu).
    """
    alpha = DEFAULT_ALPHA.get(activation) if alpha is None else alpha
    match activation:
        case "identity":
            y = z.copy()
        case "relu":
            y = np.maximum(z, 0)
        case "leaky_relu" | "prelu":
            y = np.where(z > 0, z, alpha * z)
        case "rectifier":
            y = np.maximum(z, 0) + alpha * np.minimum(z, 0)
        case "elu":
            y = np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))
        case "selu":
            y = SELU_LAMBDA * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0)))
        case "sigmoid":
            e = np.exp(-np.abs(z))  # never overflows
            y = np.where(z >= 0, 1, e) / (1 + e)
        case "tanh":
            y = np.tanh(z)
        case "silu":
            y = z * activation_forward(z, "sigmoid")
        case _:
            raise _unknown(activation)
    return store(out, y)


def _unknown(activation):
    return ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")


def activation_backward(dy, saved, activation, alpha=None, *, out=None):
    """dz = dy act'(z); for prelu (dz, dalpha) with dalpha = sum over the batch of dy min(0, z).

    act' from y: relu 1 or 0, leaky_relu 1 or alpha, elu 1 or y + alpha, selu lambda or
    y + lambda alpha, sigmoid y (1 - y), tanh (1 - y)(1 + y); from z: prelu, rectifier 1 or alpha,
    silu s + z s (1 - s) with s = 1 / (1 + exp(-z)).

    dy, saved: (batch, units); dalpha: (units,). out: dz, or (dz, dalpha) for prelu.
    Raises ValueError for an unknown activation.
    """
    alpha = DEFAULT_ALPHA.get(activation) if alpha is None else alpha
    match activation:
        case "identity":
            dz = dy.copy()
        case "relu":
            dz = np.where(saved > 0, dy, 0)
        case "leaky_relu" | "prelu" | "rectifier":
            dz = np.where(saved > 0, dy, alpha * dy)
        case "elu":
            dz = np.where(saved > 0, dy, (saved + alpha) * dy)
        case "selu":
            dz = np.where(saved > 0, SELU_LAMBDA * dy, (saved + SELU_LAMBDA * SELU_ALPHA) * dy)
        case "sigmoid":
            dz = saved * (1 - saved) * dy
        case "tanh":
            dz = (1 - saved) * (1 + saved) * dy
        case "silu":
            s = activation_forward(saved, "sigmoid")
            dz = (s + saved * s * (1 - s)) * dy
        case _:
            raise _unknown(activation)
    if activation != "prelu":
        return store(out, dz)
    dalpha = (dy * np.minimum(saved, 0)).sum(axis=0)
    dz_out, dalpha_out = out or (None, None)
    return store(dz_out, dz), store(dalpha_out, dalpha)


# --- specification ------------------------------------------------------------

# Roundings of one evaluation, in units of u relative to the result: (forward, backward). alpha and
# lambda are themselves rounded; sigmoid and tanh take an exponential, an addition and a division.
ROUNDINGS = {
    "identity": (0, 0),
    "relu": (0, 0),
    "leaky_relu": (2, 2),
    "prelu": (1, 1),
    "rectifier": (2, 2),
    "elu": (ELEMENTARY + 2, 2),
    "selu": (ELEMENTARY + 3, 2),
    "sigmoid": (ELEMENTARY + 2, 3),
    "tanh": (ELEMENTARY + 2, 4),
    "silu": (ELEMENTARY + 3, 2 * ELEMENTARY + 9),
}
FLOPS = {  # forward, backward
    "identity": (0, 0),
    "relu": (1, 1),
    "leaky_relu": (2, 2),
    "prelu": (2, 4),
    "rectifier": (2, 2),
    "elu": (3, 3),
    "selu": (4, 3),
    "sigmoid": (4, 3),
    "tanh": (1, 4),
    "silu": (5, 9),
}
# The slopes beside 0, to the left and to the right; alpha to the left of the other activations.
# Where there is a kink no slope is larger than these two.
SLOPES = {
    "identity": (1.0, 1.0),
    "relu": (0.0, 1.0),
    "selu": (SELU_LAMBDA * SELU_ALPHA, SELU_LAMBDA),
    "sigmoid": (0.25, 0.25),
    "tanh": (1.0, 1.0),
    "silu": (0.5, 0.5),
}
ALPHAS = {"leaky_relu": (0.0, 1.0), "elu": (0.0, 2.0)}  # from where samples are drawn
# Of activations without a kink: the largest |act'| and |act''|.
SMOOTH = {"sigmoid": (0.25, 0.0963), "tanh": (1.0, 0.7699), "silu": (1.0999, 0.5)}


def slopes(activation, alpha):
    """The slopes beside 0, to the left and to the right."""
    alpha = DEFAULT_ALPHA.get(activation) if alpha is None else alpha
    return SLOPES.get(activation, (alpha, 1.0))


def _largest_slope(activation, alpha):
    left, right = slopes(activation, alpha)
    return SMOOTH[activation][0] if activation in SMOOTH else np.maximum(np.abs(left), right)


def curvature(activation, alpha):
    """The largest |act''| beside the kink at 0."""
    if activation in ("elu", "selu"):
        return slopes(activation, alpha)[0]
    return SMOOTH.get(activation, (0.0, 0.0))[1]


def forward_bound(z, y, activation, alpha, dtype, of_z=EXACT):
    """Of y = act(z), given that of z."""
    u, (left, right) = unit_roundoff(dtype), slopes(activation, alpha)
    largest = _largest_slope(activation, alpha)
    scale = largest * _factor(z, activation)
    rounding = ROUNDINGS[activation][0] * u * np.abs(y) + flushed(y, dtype, scale)
    if of_z is EXACT:
        return Bound.of(rounding)
    # The slope at z, or as far as it changes within the error: what is that near to the kink may
    # fall on either side.
    slope = np.abs(_dz(np.ones_like(z), z if activation in SAVES_INPUT else y, activation, alpha))
    slope = slope + curvature(activation, alpha) * of_z.each
    slope = slope + np.abs(right - left) * (np.abs(z) <= of_z.each)
    return of_z * np.minimum(slope, largest) + Bound.of(rounding)


def backward_bound(dy, saved, activation, alpha, dtype, of_dy=EXACT, of_saved=EXACT):
    """Of dz = dy act'(z), given those of dy and of what is saved."""
    u, tiny, (left, right) = unit_roundoff(dtype), smallest_normal(dtype), slopes(activation, alpha)
    dz, size = np.abs(_dz(dy, saved, activation, alpha)), np.abs(dy)
    largest = _largest_slope(activation, alpha)
    rounding = ROUNDINGS[activation][1] * u * _magnitude(dy, saved, activation, alpha)
    if activation in ("elu", "selu"):  # alpha is rounded before it is added to saved
        rounding = rounding + np.where(saved > 0, 0.0, 2 * u * left * size)
    # A subnormal flushed to zero falls on the other side of the kink.
    crossing = (saved > 0) & (saved < tiny)
    rounding = rounding + np.where(crossing, size * np.abs(right - left), 0.0)
    scale = largest * np.maximum(1.0, size) * _factor(saved, activation)
    rounding = rounding + flushed(dz, dtype, scale)
    if of_dy is EXACT and of_saved is EXACT:
        return Bound.of(rounding)
    slope = np.abs(_dz(np.ones_like(dy), saved, activation, alpha))
    change = np.abs(right - left) * ((np.abs(saved) <= of_saved.each) & (of_saved.each > 0))
    change = Bound.of(change) + of_saved * (_sensitivity(saved, activation) + of_saved.each)
    return of_dy * (slope + change.each) + change * size + Bound.of(rounding)


def slope_bound(dy, z, dtype, of_dy=EXACT, of_z=EXACT):
    """Of dalpha = sum over the batch of dy min(0, z), given those of dy and z."""
    negative = np.abs(np.minimum(z, 0))
    of_terms = of_dy * (negative + of_z.each) + of_z * (np.abs(dy) * (z <= of_z.each))
    of_terms = of_terms + Bound.of(unit_roundoff(dtype) * np.abs(dy) * negative)
    return sum_bound(dy * np.minimum(z, 0), dtype, of_terms)


def _dz(dy, saved, activation, alpha):
    dz = activation_backward(dy, saved, activation, alpha)
    return dz[0] if activation == "prelu" else dz


def _factor(z, activation):
    """What a quotient that is flushed to zero would have been multiplied by."""
    return np.maximum(1.0, np.abs(z)) if activation == "silu" else 1.0


def _magnitude(dy, saved, activation, alpha):
    """Of what dz is the sum of."""
    if activation != "silu":
        return np.abs(_dz(dy, saved, activation, alpha))
    s = activation_forward(saved, "sigmoid")
    return np.abs(dy) * (s + np.abs(saved) * s * (1 - s))


def _sensitivity(saved, activation):
    """The slope of act' as a function of what is saved, beside the kink."""
    match activation:
        case "elu" | "selu":
            return np.where(saved > 0, 0.0, 1.0)
        case "sigmoid":
            return np.abs(1 - 2 * saved)
        case "tanh":
            return 2 * np.abs(saved)
    return curvature(activation, None) if activation in SMOOTH else 0.0


def sample_alpha(rng, activation, units, case):
    """The `alpha` of an activation where it takes one, as a dictionary of none or one entry."""
    if activation in ("prelu", "rectifier"):
        return {"alpha": rng.uniform(-0.5, 1.5, units).astype(case.dtype)}
    if case.vary and activation in ALPHAS:
        return {"alpha": rng.uniform(*ALPHAS[activation])}
    return {}


def sample_saved(rng, activation, shape, dtype, alpha):
    """What a forward pass of normal pre-activations leaves for the backward pass."""
    z = rng.standard_normal(shape).astype(dtype)
    if activation in SAVES_INPUT:
        return z
    return activation_forward(z, activation, **alpha).astype(dtype, copy=False)


def _sample_forward(activation, rng, case):
    shape = case.sizes["batch"], case.sizes["fan_out"]
    z = 3 * rng.standard_normal(shape)
    alpha = sample_alpha(rng, activation, shape[1], case)
    return {"z": z.astype(case.dtype), "activation": activation, **alpha}


def _sample_backward(activation, rng, case):
    shape = case.sizes["batch"], case.sizes["fan_out"]
    alpha = sample_alpha(rng, activation, shape[1], case)
    return {
        "dy": rng.standard_normal(shape).astype(case.dtype),
        "saved": sample_saved(rng, activation, shape, case.dtype, alpha),
        "activation": activation,
        **alpha,
    }


def _forward_error(inputs, dtype):
    z, activation, alpha = inputs["z"], inputs["activation"], inputs["alpha"]
    y = activation_forward(z, activation, alpha)
    return (forward_bound(z, y, activation, alpha, dtype),)


def _backward_error(inputs, dtype):
    dy, saved, activation = inputs["dy"], inputs["saved"], inputs["activation"]
    dz = backward_bound(dy, saved, activation, inputs["alpha"], dtype)
    return (dz, slope_bound(dy, saved, dtype)) if activation == "prelu" else (dz,)


def _forward_edges(activation, dtype):
    z = border_values(dtype)
    for shape in ((1, z.size), (z.size, 1)):
        inputs = {"z": z.reshape(shape), "activation": activation}
        if activation in ("prelu", "rectifier"):
            inputs["alpha"] = np.full(shape[1], 0.25, dtype)
        yield f"border values {shape}", inputs
    if activation == "rectifier":
        yield "one slope for all", {"z": z.reshape(1, -1), "activation": activation, "alpha": -0.5}
    for alpha in (0.0, 0.3, 2.5) if activation in DEFAULT_ALPHA else ():
        given = {"z": z.reshape(1, -1), "activation": activation, "alpha": alpha}
        yield f"alpha = {alpha}", given


def _backward_edges(activation, dtype):
    for label, forward in _forward_edges(activation, dtype):
        z = forward.pop("z")
        with np.errstate(all="ignore"):
            saved = z if activation in SAVES_INPUT else activation_forward(z, **forward)
        for dy in (1.0, -2.5, 0.0):
            yield f"{label}, dy = {dy}", {"dy": np.full_like(z, dy), "saved": saved, **forward}


def _operations():
    for activation in ACTIVATIONS:
        forward, backward = FLOPS[activation]
        has_alpha = activation in ("prelu", "rectifier")
        alphas = 2 if activation == "prelu" else int(has_alpha)
        yield Operation(
            "activation_forward",
            activation_forward,
            ("batch", "fan_out"),
            partial(_sample_forward, activation),
            lambda batch, fan_out, n=forward, **_: n * batch * fan_out,
            lambda batch, fan_out, a=int(has_alpha), **_: (2 * batch + a) * fan_out,
            (Result("y"),),
            _forward_error,
            partial(_forward_edges, activation),
            activation,
        )
        reads = 2 if activation == "identity" else 3
        yield Operation(
            "activation_backward",
            activation_backward,
            ("batch", "fan_out"),
            partial(_sample_backward, activation),
            lambda batch, fan_out, n=backward, **_: n * batch * fan_out,
            lambda batch, fan_out, r=reads, a=alphas, **_: (r * batch + a) * fan_out,
            (Result("dz"), *[Result("dalpha")] * (activation == "prelu")),
            _backward_error,
            partial(_backward_edges, activation),
            activation,
        )


OPERATIONS = tuple(_operations())
