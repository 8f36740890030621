"""The specification of the activations: error bounds, samples, borders, work."""

from functools import cache, partial

import numpy as np

from .activations import (
    ACTIVATIONS,
    activation_backward,
    activation_forward,
    default_alpha,
)
from .bounds import (
    EXACT,
    Bound,
    flushed,
    of_likely_errors,
    smallest_normal,
    sum_bound,
    unit_roundoff,
)
from .spec import Operation, Result, border_values

PER_UNIT = ("prelu", "rectifier")  # alpha has a number for every unit
# Left of 0 a term of at most the slope there is added to what is saved, after so many roundings.
ADDED = {"elu": 2, "selu": 2, "celu": 3}


def derivative(z, activation, alpha=None):
    """act'(z), in float64."""
    z = np.asarray(z, np.float64)
    saved = z if ACTIVATIONS[activation].saves_input else activation_forward(z, activation, alpha)
    return _dz(np.ones_like(z), saved, activation, alpha)


def slopes(activation, alpha, place=0.0):
    """The slopes beside a place, to the left and to the right."""
    beside = np.float64(1e-200) + abs(place) * 1e-12
    alpha = default_alpha(activation, alpha)
    alone = activation not in PER_UNIT or np.ndim(alpha) == 0
    left, right = (
        derivative(np.full((1, 1 if alone else alpha.size), z), activation, alpha)[0]
        for z in (place - beside, place + beside)
    )
    return (left[0], right[0]) if alone else (left, right)


def _kinks(activation, alpha):
    """[(where in z, where in what is saved, the height of the step there, the change of slope)]"""
    alpha, found = default_alpha(activation, alpha), []
    places = ACTIVATIONS[activation].kinks
    for place in (alpha,) if places is None else places:
        left, right = slopes(activation, alpha, place)
        at = np.array([[place]], np.float64)
        value, above = (activation_forward(z, activation, alpha) for z in (at, at * (1 + 1e-12)))
        saved = at if ACTIVATIONS[activation].saves_input else value
        step = above - value if places is None else 0.0
        found.append((place, saved[0], step, np.abs(right - left)))
    return found


@cache
def steepest(activation):
    """The largest |act'| and |act''| of an activation without a kink at 0, beside its kinks.

    Between points that lie h apart act' exceeds its largest value there by h^2 / 8 |act'''| at
    most, and a difference quotient falls short by h / 2 |act'''|: by less than a hundredth.
    """
    z = np.linspace(-20, 20, 40_002)  # no kink is one of them
    slope = derivative(z.reshape(1, -1), activation)[0]
    bend = np.abs(np.diff(slope)) / (z[1] - z[0])
    for place, *_ in _kinks(activation, None):
        bend[np.searchsorted(z, place) - 1] = 0
    return 1.01 * np.abs(slope).max(), 1.01 * bend.max()


@cache
def _is_smooth(activation):
    left, right = slopes(activation, 0.5 if activation in PER_UNIT else None)
    return left == right and activation != "identity"


def _largest_slope(activation, alpha):
    """Where there is a kink at 0 no slope is larger than the two beside it."""
    left, right = slopes(activation, alpha)
    return steepest(activation)[0] if _is_smooth(activation) else np.maximum(np.abs(left), right)


def curvature(activation, alpha):
    """The largest |act''| beside the kinks."""
    if activation in ("elu", "selu"):
        return slopes(activation, alpha)[0]
    if activation == "celu":
        return 1 / default_alpha(activation, alpha)
    return steepest(activation)[1] if _is_smooth(activation) else 0.0


@of_likely_errors
def forward_bound(z, y, activation, alpha, dtype, of_z=EXACT):
    """Of y = act(z), given that of z."""
    u, largest = unit_roundoff(dtype), _largest_slope(activation, alpha)
    scale = largest * _factor(z, activation)
    rounding = _roundings(activation, 0, z) * u * np.abs(y) + flushed(y, dtype, scale)
    bends = 0.0
    for place, _, step, bend in _kinks(activation, alpha):
        rounded = u * np.abs(place) * (ACTIVATIONS[activation].kinks is None)  # alpha, there
        near = np.abs(z - place) <= of_z.each + rounded
        bends, rounding = bends + bend * near, rounding + (step + rounded) * near
    if of_z is EXACT:
        return Bound.of(rounding)
    # The slope at z, or as far as it changes within the error: what is that near to a kink may
    # fall on either side.
    saved = z if ACTIVATIONS[activation].saves_input else y
    slope = np.abs(_dz(np.ones_like(z), saved, activation, alpha))
    slope = slope + curvature(activation, alpha) * of_z.each
    return of_z * np.minimum(slope + bends, largest) + Bound.of(rounding)


@of_likely_errors
def backward_bound(dy, saved, activation, alpha, dtype, of_dy=EXACT, of_saved=EXACT):
    """Of dz = dy act'(z), given those of dy and of what is saved."""
    u, tiny, kinks = unit_roundoff(dtype), smallest_normal(dtype), _kinks(activation, alpha)
    dz, size = np.abs(_dz(dy, saved, activation, alpha)), np.abs(dy)
    largest = _largest_slope(activation, alpha)
    terms = _magnitude(dy, saved, activation, alpha)
    rounding = _roundings(activation, 1, saved) * u * terms
    if activation in ADDED:
        left, _ = slopes(activation, alpha)
        rounding = rounding + np.where(saved > 0, 0.0, ADDED[activation] * u * left * size)
    for _, place, _, bend in kinks:  # a subnormal flushed to zero falls on the other side of one
        crossing = (saved > 0) & (saved < tiny) & (place == 0)
        rounding = rounding + np.where(crossing, size * bend, 0.0)
    scale = largest * np.maximum(1.0, size) * _factor(saved, activation)
    rounding = rounding + flushed(dz, dtype, scale)
    if of_dy is EXACT and of_saved is EXACT:
        return Bound.of(rounding)
    slope = np.abs(_dz(np.ones_like(dy), saved, activation, alpha))
    change = np.zeros_like(saved)
    for _, place, _, bend in kinks:
        change += bend * ((np.abs(saved - place) <= of_saved.each) & (of_saved.each > 0))
    change = Bound.of(change) + of_saved * (_sensitivity(saved, activation, alpha) + of_saved.each)
    return of_dy * (slope + change.each) + change * size + Bound.of(rounding)


@of_likely_errors
def slope_bound(dy, z, dtype, of_dy=EXACT, of_z=EXACT):
    """Of dalpha = sum over the batch of dy min(0, z), given those of dy and z."""
    negative = np.abs(np.minimum(z, 0))
    of_terms = of_dy * (negative + of_z.each) + of_z * (np.abs(dy) * (z <= of_z.each))
    of_terms = of_terms + Bound.of(unit_roundoff(dtype) * np.abs(dy) * negative)
    return sum_bound(dy * np.minimum(z, 0), dtype, of_terms)


def _dz(dy, saved, activation, alpha):
    dz = activation_backward(dy, saved, activation, alpha)
    return dz[0] if activation == "prelu" else dz


def _roundings(activation, which, z):
    """Those of the forward (0) or backward pass (1) at z, in units of u."""
    count = ACTIVATIONS[activation].roundings[which]
    return count(z) if callable(count) else count


def _factor(z, activation):
    """What a gate that is flushed to zero would have been multiplied by."""
    return np.maximum(1.0, np.abs(z)) if ACTIVATIONS[activation].gated else 1.0


def _magnitude(dy, saved, activation, alpha):
    """Of what dz is the sum of: of z g(z) it is dy (g + z g')."""
    dz = np.abs(_dz(dy, saved, activation, alpha))
    if not ACTIVATIONS[activation].gated:
        return dz
    slope, divides = derivative(saved, activation), np.isfinite(saved) & (saved != 0)
    y = activation_forward(saved, activation)
    gate = np.divide(y, saved, out=slope.copy(), where=divides)
    return np.abs(dy) * (np.abs(gate) + np.abs(slope - gate))


def _sensitivity(saved, activation, alpha):
    """The slope of act' as a function of what is saved, beside the kink."""
    match activation:
        case "elu" | "selu":
            return np.where(saved > 0, 0.0, 1.0)
        case "celu":
            return np.where(saved > 0, 0.0, 1 / default_alpha(activation, alpha))
        case "softplus":
            return np.exp(-saved)
        case "softsign":
            return 2 * (1 - np.abs(saved))
        case "sigmoid":
            return np.abs(1 - 2 * saved)
        case "tanh":
            return 2 * np.abs(saved)
    return curvature(activation, None) if _is_smooth(activation) else 0.0


def sample_alpha(rng, activation, units, case):
    """The `alpha` of an activation where it takes one, as a dictionary of none or one entry."""
    if activation in PER_UNIT:
        return {"alpha": rng.uniform(-0.5, 1.5, units).astype(case.dtype)}
    if case.vary and ACTIVATIONS[activation].alphas:
        drawn = rng.uniform(*np.transpose(ACTIVATIONS[activation].alphas))
        if np.ndim(drawn) == 0:
            return {"alpha": drawn}
        if rng.random() < 0.7:  # without a pair it is another kernel
            return {"alpha": tuple(drawn.tolist())}
    return {}


def sample_saved(rng, activation, shape, dtype, alpha):
    """What a forward pass of normal pre-activations leaves for the backward pass."""
    z = rng.standard_normal(shape).astype(dtype)
    if ACTIVATIONS[activation].saves_input:
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
    kinks = ACTIVATIONS[activation].kinks or (ACTIVATIONS[activation].alpha,)
    kinks = np.array(kinks, dtype)
    beside = [np.nextafter(kinks, dtype.type(side)) for side in (-np.inf, np.inf)]
    z = np.concatenate([border_values(dtype), kinks, *beside])
    for shape in ((1, z.size), (z.size, 1)):
        inputs = {"z": z.reshape(shape), "activation": activation}
        if activation in PER_UNIT:
            inputs["alpha"] = np.full(shape[1], 0.25, dtype)
        yield f"border values {shape}", inputs
    if activation == "rectifier":
        yield "one slope for all", {"z": z.reshape(1, -1), "activation": activation, "alpha": -0.5}
    alphas = ACTIVATIONS[activation].alphas
    chosen = (alphas[0], 0.3, 2.5) if alphas else ()
    if activation == "selu":
        chosen = (0.0, 0.5), (0.3, 2.5), (2.5, 0.3), (1.0, 1.0)
    for alpha in chosen:
        given = {"z": z.reshape(1, -1), "activation": activation, "alpha": alpha}
        yield f"alpha = {alpha}", given


def _backward_edges(activation, dtype):
    for label, forward in _forward_edges(activation, dtype):
        z = forward.pop("z")
        with np.errstate(all="ignore"):
            takes_z = ACTIVATIONS[activation].saves_input
            saved = z if takes_z else activation_forward(z, **forward)
        for dy in (1.0, -2.5, 0.0):
            yield f"{label}, dy = {dy}", {"dy": np.full_like(z, dy), "saved": saved, **forward}


def _operations():
    for activation in ACTIVATIONS:
        forward, backward = ACTIVATIONS[activation].flops
        has_alpha = activation in PER_UNIT
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
