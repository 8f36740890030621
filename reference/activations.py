"""Activations and their derivatives, elementwise on pre-activations z of shape (batch, units).

The rectifiers are one function, max(0, z) + alpha min(0, z), with alpha = 1 (identity), 0 (relu),
0.01 (leaky_relu) or learned for every unit (prelu). The backward pass takes `saved`: the output y
where the derivative follows from it, else the pre-activation z (SAVES_INPUT). At z = 0 the
derivative is the one from the left.
"""

from functools import partial

import numpy as np

from .spec import (
    ELEMENTARY,
    Operation,
    border_values,
    smallest_normal,
    store,
    summation,
    unit_roundoff,
)

ACTIVATIONS = (
    "identity",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    "rectifier",
)
SAVES_INPUT = ("prelu", "rectifier")
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

    z, out: (batch, units). Raises ValueError for an unknown activation.
    Sources: Nair and Hinton 2010 (relu), Maas et al. 2013 (leaky_relu), He et al. 2015 (prelu),
    Clevert et al. 2016 (elu), Klambauer et al. 2017 (selu).
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
        case _:
            raise _unknown(activation)
    return store(out, y)


def _unknown(activation):
    return ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")


def activation_backward(dy, saved, activation, alpha=None, *, out=None):
    """dz = dy act'(z); for prelu (dz, dalpha) with dalpha = sum over the batch of dy min(0, z).

    act' from y: relu 1 or 0, leaky_relu 1 or alpha, elu 1 or y + alpha, selu lambda or
    y + lambda alpha, sigmoid y (1 - y), tanh (1 - y)(1 + y); from z: prelu, rectifier 1 or alpha.

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
}


def sample_alpha(rng, activation, units, dtype):
    """The `alpha` of an activation where it takes one, as a dictionary of none or one entry."""
    if activation not in ("prelu", "rectifier"):
        return {}
    return {"alpha": rng.uniform(-0.5, 1.5, units).astype(dtype)}


def sample_saved(rng, activation, shape, dtype, alpha):
    """What a forward pass of normal pre-activations leaves for the backward pass."""
    z = rng.standard_normal(shape).astype(dtype)
    return z if activation in SAVES_INPUT else activation_forward(z, activation, **alpha)


def forward_bound(y, activation, dtype):
    """Error bound of y = act(z) for an exact z."""
    return ROUNDINGS[activation][0] * unit_roundoff(dtype) * np.abs(y) + 2 * smallest_normal(dtype)


def derivative_bound(dy, saved, activation, alpha, dtype):
    """Error bound of dz = dy act'(z), with `alpha` as given to activation_backward."""
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    dz = activation_backward(dy, saved, activation, alpha)
    dz = dz[0] if activation == "prelu" else dz
    bound = ROUNDINGS[activation][1] * u * np.abs(dz)
    given = DEFAULT_ALPHA.get(activation) if alpha is None else alpha
    fixed = {"identity": 1.0, "relu": 0.0, "selu": SELU_LAMBDA * SELU_ALPHA}
    left = fixed.get(activation, given)  # the slope on the left; none for sigmoid and tanh
    if activation in ("elu", "selu"):  # alpha is rounded before it is added to saved
        bound = bound + np.where(saved > 0, 0.0, 2 * u * left * np.abs(dy))
    if left is not None:  # a subnormal flushed to zero falls on the other side of the kink
        right = SELU_LAMBDA if activation == "selu" else 1.0
        flushed = (saved > 0) & (saved < tiny)
        bound = bound + np.where(flushed, np.abs(dy) * np.abs(right - left), 0.0)
    return bound + 2 * tiny * (1 + np.abs(dy))


def _sample_forward(activation, rng, layer, batch, dtype):
    z = 3 * rng.standard_normal((batch, layer.fan_out))
    alpha = sample_alpha(rng, activation, layer.fan_out, dtype)
    return {"z": z.astype(dtype), "activation": activation, **alpha}


def _sample_backward(activation, rng, layer, batch, dtype):
    shape = (batch, layer.fan_out)
    alpha = sample_alpha(rng, activation, layer.fan_out, dtype)
    return {
        "dy": rng.standard_normal(shape).astype(dtype),
        "saved": sample_saved(rng, activation, shape, dtype, alpha),
        "activation": activation,
        **alpha,
    }


def _forward_error(inputs, dtype):
    return (forward_bound(activation_forward(**inputs), inputs["activation"], dtype),)


def _backward_error(inputs, dtype):
    dy, saved, activation = inputs["dy"], inputs["saved"], inputs["activation"]
    dz = derivative_bound(dy, saved, activation, inputs.get("alpha"), dtype)
    if activation != "prelu":
        return (dz,)
    return dz, dalpha_bound(dy, saved, dtype)


def dalpha_bound(dy, z, dtype):
    """Error bound of dalpha = sum over the batch of dy min(0, z)."""
    magnitude = np.abs(dy * np.minimum(z, 0)).sum(axis=0)
    growth = 1 + summation(len(dy))
    return growth * unit_roundoff(dtype) * magnitude + len(dy) * smallest_normal(dtype)


def _forward_edges(activation, dtype):
    z = border_values(dtype)
    for shape in ((1, z.size), (z.size, 1)):
        inputs = {"z": z.reshape(shape), "activation": activation}
        if activation in ("prelu", "rectifier"):
            inputs["alpha"] = np.full(shape[1], 0.25, dtype)
        yield f"border values {shape}", inputs
    if activation == "rectifier":
        yield "one slope for all", {"z": z.reshape(1, -1), "activation": activation, "alpha": -0.5}
    if activation in DEFAULT_ALPHA:
        yield "alpha given", {"z": z.reshape(1, -1), "activation": activation, "alpha": 0.3}


def _backward_edges(activation, dtype):
    for label, forward in _forward_edges(activation, dtype):
        z = forward.pop("z")
        with np.errstate(all="ignore"):
            saved = z if activation in SAVES_INPUT else activation_forward(z, **forward)
        for dy in (1.0, -2.5, 0.0):
            yield f"{label}, dy = {dy}", {"dy": np.full_like(z, dy), "saved": saved, **forward}


def _operations():
    for activation in ACTIVATIONS:
        per_element = FLOPS[activation]
        has_alpha = activation in ("prelu", "rectifier")
        alphas = 2 if activation == "prelu" else int(has_alpha)
        yield Operation(
            "activation_forward",
            activation_forward,
            partial(_sample_forward, activation),
            lambda batch, fan_in, fan_out, n=per_element[0]: n * batch * fan_out,
            lambda batch, fan_in, fan_out, a=int(has_alpha): (2 * batch + a) * fan_out,
            _forward_error,
            partial(_forward_edges, activation),
            activation,
        )
        reads = 2 if activation == "identity" else 3
        yield Operation(
            "activation_backward",
            activation_backward,
            partial(_sample_backward, activation),
            lambda batch, fan_in, fan_out, n=per_element[1]: n * batch * fan_out,
            lambda batch, fan_in, fan_out, r=reads, a=alphas: (r * batch + a) * fan_out,
            _backward_error,
            partial(_backward_edges, activation),
            activation,
        )


OPERATIONS = tuple(_operations())
