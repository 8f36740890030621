"""The specification of what one looks at in a training run; see statistics.py.

Counts are exact; of the norm the error is that of a sum in any order.
"""

from functools import partial

import numpy as np

from .bounds import EXACT, Bound, flushed, smallest_normal, sum_bound, unit_roundoff
from .spec import Operation, Result, border_values
from .statistics import (
    connection_sparsity,
    exponent_of,
    global_norm,
    histogram,
    saturation,
    sparsity,
    unit_activity,
)


def _exact(inputs, dtype):
    return (EXACT,)


def norm_error(inputs, dtype):
    """A square and the root round once each; the sum is taken in any order. Inputs that are
    subnormal may be lost: `lost` is the sum of their squares.
    """
    exponent, u = exponent_of(inputs["arrays"]), unit_roundoff(dtype)
    g = np.concatenate([array.ravel() for array in inputs["arrays"]])
    terms = np.square(np.ldexp(g, -exponent))[:, None]
    of_sum = sum_bound(terms, dtype, Bound.of(u * terms))
    total, lost = terms.sum(), terms[np.abs(g) < smallest_normal(dtype)].sum()
    norm = np.sqrt(total)

    def of_root(error):
        return norm - np.sqrt(np.maximum(total - error - lost, 0))

    bound = Bound(of_root(of_sum.each[0]), of_root(of_sum.deviation[0])) + Bound.of(u * norm)
    size = np.ldexp(1.0, exponent)
    return (bound * size + Bound.of(flushed(norm * size, dtype)),)


HISTOGRAM_BINS = 64  # of a sample: so its result has a size
INTEGER_BYTES = 8  # int64
THRESHOLDS = (0.0, 1e-45, 0.1, 0.3, 1 / 3, 0.7, 1e300)  # most are no number of float32


def _weights(rng, case, inputs="fan_in"):
    """Normal numbers of which some are 0 or -0, as after pruning or a relu."""
    x = rng.standard_normal((case.sizes[inputs], case.sizes["fan_out"]))
    return (x * (rng.random(x.shape) < 0.7)).astype(case.dtype)


def _threshold(rng, case):
    return {"threshold": rng.uniform(0.0, 1.0) if case.vary else 0.0}


def _sample_sparsity(rng, case):
    return {"x": _weights(rng, case), **_threshold(rng, case)}


def _sample_connections(rng, case):
    return {"weight": _weights(rng, case), **_threshold(rng, case)}


def _sample_activity(rng, case):
    before = rng.integers(0, 1 << 40, case.sizes["fan_out"])
    return {"y": _weights(rng, case, "batch"), "active": before, **_threshold(rng, case)}


def _sample_saturation(activation, rng, case):
    z = 3 * rng.standard_normal((case.sizes["batch"], case.sizes["fan_out"]))
    y = np.tanh(z) if activation == "tanh" else (1 + np.tanh(z)) / 2
    margin = rng.uniform(0.001, 0.3) if case.vary else 0.01
    return {"y": y.astype(case.dtype), "activation": activation, "margin": margin}


def _sample_histogram(rng, case):
    low, high = (rng.uniform(-3, -1), rng.uniform(1, 3)) if case.vary else (-3.0, 3.0)
    return {"x": _weights(rng, case), "low": low, "high": high, "bins": HISTOGRAM_BINS}


def _sample_norm(rng, case):
    bias = rng.standard_normal(case.sizes["fan_out"]).astype(case.dtype)
    weight = rng.standard_normal((case.sizes["fan_in"], case.sizes["fan_out"]))
    return {"arrays": (weight.astype(case.dtype), bias)}


def _near(values, dtype):
    """These numbers in the dtype, and their neighbours there."""
    with np.errstate(over="ignore"):
        values = np.array(values, np.float64).astype(dtype)
        return np.concatenate([np.nextafter(values, s * np.inf, dtype=dtype) for s in (-1, 0, 1)])


def _edges(name, dtype, columns=1):
    """Border values, and numbers beside the thresholds, of each sign."""
    near = _near([*THRESHOLDS, 0.99, 1 - 0.3], dtype)
    x = np.concatenate([border_values(dtype), near, -near])
    for threshold in THRESHOLDS:
        yield f"threshold {threshold}", {name: np.tile(x[:, None], columns), "threshold": threshold}


def _activity_edges(dtype):
    for description, inputs in _edges("y", dtype, 3):
        for sign in (1, -1):
            threshold = sign * inputs["threshold"]
            given = {**inputs, "active": np.array([0, 1, 1 << 60]), "threshold": threshold}
            yield f"{description}, sign {sign}", given


def _saturation_edges(activation, dtype):
    for margin in (0.0, 0.01, 0.3, 0.7):
        near = _near([margin, 1 - margin, margin - 1], dtype)
        y = np.tile(np.concatenate([near, border_values(dtype)])[:, None], 2)
        yield f"margin {margin}", {"y": y, "activation": activation, "margin": margin}


def _histogram_edges(dtype):
    ranges = [(0.0, 1.0), (-0.0, 1e-40), (-1.0, 1.0), (0.1, 0.7), (-1e300, 1e300), (1e8, 1e8 + 1)]
    for low, high in ranges:
        for bins in (1, 3, 10, 5000):
            near = _near(np.linspace(low, high, min(bins, 100) + 1), dtype)
            x = np.concatenate([near, border_values(dtype)])
            yield f"[{low}, {high}], {bins}", {"x": x, "low": low, "high": high, "bins": bins}


def _norm_edges(dtype):
    info = np.finfo(dtype)
    large, tiny = info.max, info.tiny
    for values in (
        *[(0.0, -0.0), (3.0, 4.0), (large,), (large / 2, -large / 2), (large, large), (1e-30,) * 9],
        *[
            (1e30,) * 9,
            (large / 8, 1.0, tiny),
            (1.0, tiny, tiny),
            (tiny,) * 5,
            (np.sqrt(large),) * 3,
        ],
        *[(np.sqrt(tiny),) * 3, (np.inf, 1.0), (-np.inf, large), (np.nan, np.inf), (1.0, np.nan)],
        (info.smallest_subnormal,) * 3,
    ):
        x = np.array(values, dtype)
        yield f"{values}", {"arrays": (x,)}
        yield f"{values} apart", {"arrays": (x[:1], np.zeros((0, 3), dtype), x[1:, None])}
    yield "a number", {"arrays": (np.array(-2.5, dtype),)}


def _columns(batch, fan_out, **_):
    return batch * fan_out


OPERATIONS = (
    # Magnitude, two comparisons, two counts.
    Operation(
        "sparsity",
        sparsity,
        ("fan_in", "fan_out"),
        _sample_sparsity,
        lambda fan_in, fan_out, **_: 5 * fan_in * fan_out,
        lambda fan_in, fan_out, **_: fan_in * fan_out,
        (Result("counts", "int64"),),
        _exact,
        partial(_edges, "x"),
        other_bytes=lambda **_: 2 * INTEGER_BYTES,
    ),
    Operation(
        "connection_sparsity",
        connection_sparsity,
        ("fan_in", "fan_out"),
        _sample_connections,
        lambda fan_in, fan_out, **_: 3 * fan_in * fan_out,
        lambda fan_in, fan_out, **_: fan_in * fan_out,
        (Result("counts", "int64"),),
        _exact,
        partial(_edges, "weight", columns=3),
        other_bytes=lambda fan_out, **_: INTEGER_BYTES * fan_out,
    ),
    Operation(
        "unit_activity",
        unit_activity,
        ("batch", "fan_out"),
        _sample_activity,
        lambda **sizes: 2 * _columns(**sizes),
        _columns,
        (Result("active", "int64", updates=True),),
        _exact,
        _activity_edges,
        other_bytes=lambda fan_out, **_: 2 * INTEGER_BYTES * fan_out,
    ),
    *(
        Operation(
            "saturation",
            saturation,
            ("batch", "fan_out"),
            partial(_sample_saturation, activation),
            lambda **sizes: 3 * _columns(**sizes),
            _columns,
            (Result("counts", "int64"),),
            _exact,
            partial(_saturation_edges, activation),
            activation,
            lambda fan_out, **_: INTEGER_BYTES * fan_out,
        )
        for activation in ("sigmoid", "tanh")
    ),
    # Difference, product, floor, three comparisons, a count.
    Operation(
        "histogram",
        histogram,
        ("fan_in", "fan_out"),
        _sample_histogram,
        lambda fan_in, fan_out, **_: 7 * fan_in * fan_out,
        lambda fan_in, fan_out, **_: fan_in * fan_out,
        (Result("counts", "int64"),),
        _exact,
        _histogram_edges,
        other_bytes=lambda **_: INTEGER_BYTES * (HISTOGRAM_BINS + 3),
    ),
    Operation(
        "global_norm",
        global_norm,
        ("fan_in", "fan_out"),
        _sample_norm,
        lambda fan_in, fan_out, **_: 2 * (fan_in + 1) * fan_out + 1,
        lambda fan_in, fan_out, **_: (fan_in + 1) * fan_out + 1,
        (Result("norm"),),
        norm_error,
        _norm_edges,
    ),
)
