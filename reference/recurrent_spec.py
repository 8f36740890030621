"""The specification of recurrent layers: the errors of every step are carried to the next ones by
the equations of recurrence.py themselves, applied to estimates.

The recurrent weights that samples draw have a spectral norm of about one half, whatever the units:
errors fade, and the bounds stay near them.
"""

from functools import partial

import numpy as np

from . import recurrence, recurrent
from .bounds import Bound, product_bound, sum_bound
from .dense import linear_bound
from .estimates import Estimate, activate, differentiate
from .spec import Case, Operation, Result

STEPS = 3  # where a case names no number
# Of each cell: gates, those of x and h alone, numbers of bias; flops of a unit and step beside the
# products, forward and backward.
GATES = {"rnn": (1, 1), "lstm": (4, 4), "gru": (3, 4)}
# A sum of both products and tanh or relu; its derivative by dy, which is added. LSTM: 4 sums, three
# sigmoids of 4, two tanh, 4 for c and h; GRU: 2 sums, two sigmoids, 3 for n, 4 for h.
POINTWISE = {"rnn": (2, 4), "lstm": (22, 24), "gru": (17, 17)}
# (activation or None, whether h0, lengths and the gradients by last states are given) by variant.
VARIANTS = {"rnn": {"tanh, whole": "tanh", "relu, lengths": "relu"}}
VARIANTS |= {cell: {"whole": None, "lengths": None} for cell in ("lstm", "gru")}


# --- error bounds ---------------------------------------------------------------------------------


def _flat(array):
    return array.reshape(-1, array.shape[2])


def _of_inputs(x, weight, bias, dtype):
    """The estimate of z = x W + b of all steps."""
    flat = _flat(x)
    z = flat @ weight + bias
    bound, shape = linear_bound(flat, weight, bias, z, dtype), (*x.shape[:2], -1)
    bound = Bound(bound.each.reshape(shape), bound.deviation.reshape(shape))
    return Estimate(z.reshape(shape), dtype, bound)


def _first(state, shape, dtype):
    return Estimate(np.zeros(shape) if state is None else state, dtype)


def _forward_error(cell, inputs, dtype):
    x, weight, matrix, bias = (inputs[n] for n in ("x", "weight", "recurrent", "bias"))
    columns, shape = weight.shape[1], (len(x), len(matrix))
    names = ("h0", "c0") if cell == "lstm" else ("h0",)
    states = tuple(_first(inputs[name], shape, dtype) for name in names)
    step = {"rnn": lambda: recurrence.rnn_cell(inputs["activation"]),
            "lstm": lambda: recurrence.lstm_cell,
            "gru": lambda: recurrence.gru_cell(bias[columns:])}[cell]()  # fmt: skip
    z = _of_inputs(x, weight, bias[:columns], dtype)
    given = matrix, states, inputs["lengths"], inputs["reverse"]
    last, kept = recurrence.forward(step, z, *given, activate)
    kept = list(map(recurrence.stacked, kept))
    y, *others = (estimate.bound for estimate in kept[: len(states)])
    last = [estimate.bound for estimate in last]
    if cell == "rnn":
        return y, *last
    gates = np.concatenate(kept[len(states) :], axis=2).bound
    return y, *last, *others, gates


def _backward_error(cell, inputs, dtype):
    x, weight, matrix, y = (inputs[n] for n in ("x", "weight", "recurrent", "y"))
    lengths, reverse, shape = inputs["lengths"], inputs["reverse"], (len(x), len(matrix))
    kept = [(y, "h0", "dlast")]
    if cell == "lstm":
        kept.append((inputs["cells"], "c0", "dlast_cell"))
    firsts = [_first(inputs[first], shape, dtype) for _, first, _ in kept]
    before = [
        recurrence.previous(s, f.value, lengths, reverse)
        for (s, *_), f in zip(kept, firsts, strict=True)
    ]
    lasts = tuple(_first(inputs[gradient], shape, dtype) for *_, gradient in kept)
    saved = [y] if cell == "rnn" else np.split(inputs["gates"], 4, axis=2)
    saved = [inputs["cells"], *saved] if cell == "lstm" else saved
    gradient = {"rnn": lambda: recurrence.rnn_gradient(inputs["activation"]),
                "lstm": lambda: recurrence.lstm_gradient,
                "gru": lambda: recurrence.gru_gradient}[cell]()  # fmt: skip
    saved, before = ([Estimate(a, dtype) for a in arrays] for arrays in (saved, before))
    given = inputs["dy"], matrix, saved, before, lasts, lengths, reverse
    states, (dz, da) = recurrence.backward(gradient, *given, activate, differentiate)
    dz, da = (_flattened(recurrence.stacked(list(d))) for d in (dz, da))
    of_x = product_bound(dz.value, weight.T, dtype, dz.bound)
    of_x = Bound(of_x.each.reshape(x.shape), of_x.deviation.reshape(x.shape))
    of_weight = product_bound(_flat(x).T, dz.value, dtype, of_b=dz.bound)
    of_recurrent = product_bound(_flat(before[0].value).T, da.value, dtype, of_b=da.bound)
    of_bias = sum_bound(dz.value, dtype, dz.bound)
    if cell == "gru":
        of_m = da[:, 2 * len(matrix) :]
        of_m = sum_bound(of_m.value, dtype, of_m.bound)
        pairs = (of_bias.each, of_m.each), (of_bias.deviation, of_m.deviation)
        of_bias = Bound(*map(np.concatenate, pairs))
    return of_x, of_weight, of_recurrent, of_bias, *(state.bound for state in states)


def _flattened(estimate):
    bound = Bound(_flat(estimate.bound.each), _flat(estimate.bound.deviation))
    return Estimate(_flat(estimate.value), estimate.dtype, bound)


# --- samples --------------------------------------------------------------------------------------


def _sizes(case):
    return (
        *(case.sizes[n] for n in ("batch", "fan_in", "fan_out")),
        case.sizes.get("steps", STEPS),
    )


def _sample_forward(cell, variant, rng, case):
    batch, features, units, steps = _sizes(case)
    gates, biases = GATES[cell]
    rows = case.rows(batch) if case.rows else rng.standard_normal((batch, features))
    x = np.repeat(rows[:, None], steps, axis=1) + 0.5 * rng.standard_normal(
        (batch, steps, features)
    )
    given = {"x": x, "weight": rng.standard_normal((features, gates * units)) / np.sqrt(features)}
    given["recurrent"] = rng.standard_normal((units, gates * units)) / np.sqrt(16 * units)
    given["bias"] = 0.5 * rng.standard_normal(biases * units)
    if "lengths" in variant:
        given["h0"] = rng.standard_normal((batch, units))
        if cell == "lstm":
            given["c0"] = rng.standard_normal((batch, units))
    given = {name: np.ascontiguousarray(array, case.dtype) for name, array in given.items()}
    if "lengths" in variant:
        given["lengths"] = rng.integers(1, steps + 1, batch, np.int32)
    if (activation := VARIANTS[cell][variant]) is not None:
        given["activation"] = activation
    return {**given, **({"reverse": bool(rng.integers(2))} if case.vary else {})}


def _sample_backward(cell, variant, rng, case):
    inputs = _sample_forward(cell, variant, rng, case)
    with np.errstate(all="ignore"):
        results = getattr(recurrent, f"{cell}_forward")(**inputs)
    y = results[0]
    saved = {"rnn": {}, "lstm": dict(zip(("cells", "gates"), results[3:], strict=False)),
             "gru": dict(zip(("gates",), results[2:], strict=False))}[cell]  # fmt: skip
    names = ("h0", "c0", "lengths", "activation", "reverse")
    given = {"dy": rng.standard_normal(y.shape).astype(case.dtype)}
    given |= {name: inputs[name] for name in ("x", "weight", "recurrent")} | {"y": y, **saved}
    given |= {name: inputs[name] for name in names[:3] if name in inputs}
    if "lengths" in variant:
        for name in ("dlast", "dlast_cell") if cell == "lstm" else ("dlast",):
            given[name] = rng.standard_normal(y[:, 0].shape).astype(case.dtype)
    return given | {name: inputs[name] for name in names[3:] if name in inputs}


def _edges(sample, dtype):
    """What is special at one step of one row stays in that row, but for the sums over the rows."""
    sizes = {"batch": 5, "fan_in": 3, "fan_out": 6}
    for value in (0.0, np.inf, np.nan, np.finfo(dtype).smallest_subnormal, 1e12):
        case = Case("edges", sizes, np.dtype(dtype).name, vary=False)
        inputs = sample(np.random.default_rng(5), case)
        if "lengths" in inputs:
            inputs["lengths"] = np.array([1, 3, 2, 2, 3], np.int32)
        name = "dy" if "dy" in inputs else "x"
        inputs[name][2, 1, 2] = value
        yield f"{value} in {name}", inputs
    yield (
        "all zero",
        {
            k: np.zeros_like(v) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
            for k, v in inputs.items()
        },
    )


# --- work -----------------------------------------------------------------------------------------


def _flops(cell, passes, batch, fan_in, fan_out, steps=STEPS, **_):
    gates, biases = GATES[cell]
    rows, products = batch * steps, gates * fan_out * (fan_in + fan_out)
    sums = biases * fan_out  # of the bias, or of its gradient
    return rows * (2 * passes * products + sums + POINTWISE[cell][passes - 1] * fan_out)


def _parameters(cell, fan_in, fan_out):
    gates, _ = GATES[cell]
    return gates * fan_out * (fan_in + fan_out)


def _states(cell):
    return 2 if cell == "lstm" else 1


def _saved(cell):
    """Numbers of a unit and step that the backward pass reads."""
    return {"rnn": 1, "lstm": 6, "gru": 5}[cell]


def _forward_elements(cell, first, batch, fan_in, fan_out, steps=STEPS, **_):
    parameters = _parameters(cell, fan_in, fan_out) + GATES[cell][1] * fan_out
    moved = batch * steps * (fan_in + _saved(cell) * fan_out)
    return moved + parameters + (1 + first) * _states(cell) * batch * fan_out


def _backward_elements(cell, first, batch, fan_in, fan_out, steps=STEPS, **_):
    parameters = 2 * _parameters(cell, fan_in, fan_out) + GATES[cell][1] * fan_out
    moved = batch * steps * (2 * fan_in + (1 + _saved(cell)) * fan_out)
    return moved + parameters + (1 + 2 * first) * _states(cell) * batch * fan_out


def _operations():
    for cell, variants in VARIANTS.items():
        more = {"rnn": (), "lstm": ("last_cell", "cells", "gates"), "gru": ("gates",)}[cell]
        gradients = ("dx", "dweight", "drecurrent", "dbias", "dh0", "dc0")[: 4 + _states(cell)]
        for variant in variants:
            first = int("lengths" in variant)
            for passes, name, sample, elements, names, error in (
                (1, "forward", _sample_forward, _forward_elements, ("y", "last", *more),
                 _forward_error),
                (2, "backward", _sample_backward, _backward_elements, gradients, _backward_error),
            ):  # fmt: skip
                sample = partial(sample, cell, variant)
                yield Operation(
                    f"{cell}_{name}",
                    getattr(recurrent, f"{cell}_{name}"),
                    ("batch", "fan_in", "fan_out"),
                    sample,
                    partial(_flops, cell, passes),
                    partial(elements, cell, first),
                    tuple(map(Result, names)),
                    partial(error, cell),
                    partial(_edges, sample),
                    variant,
                    other_bytes=lambda batch, first=first, **_: 4 * batch * first,
                )


OPERATIONS = tuple(_operations())
