"""What a training loop does to gradients before the update rule: the L2 penalty, clipping.

All are in place. grads is a tuple or list of at least one array, of one dtype and any shapes, as
`global_norm` takes it. network.py takes the same functions, in the order in which they stand here.
"""

import numpy as np

from .bounds import EXACT, Bound, flushed, smallest_normal, unit_roundoff
from .inexact import Inexact
from .spec import Operation, Result, border_values
from .statistics import global_norm
from .statistics_spec import norm_error


def add_l2(grads, params, l2):
    """g += l2 p: the gradient of the penalty l2 / 2 |p|^2.

    params: an array for every one of grads, of its shape; l2 >= 0. It is what torch.optim.SGD calls
    weight_decay, and optax add_decayed_weights.
    Source: Goodfellow, Bengio and Courville, Deep Learning, MIT Press 2016, section 7.1.1.
    """
    for g, p in zip(grads, params, strict=True):
        g += l2 * p


def clip_by_value(grads, limit):
    """g = min(max(g, -limit), limit) for every element; NaN stays NaN. limit > 0.

    As torch.nn.utils.clip_grad_value_ and optax.clip.
    """
    for g in grads:
        np.clip(g, -limit, limit, out=g)


def clip_by_global_norm(grads, max_norm, *, out=None):
    """g *= max_norm / |grads| where |grads| = global_norm(grads) is above max_norm; returns the
    norm before, of shape (); `out` takes it. max_norm > 0.

    A limit that is not reached, or a norm of 0, changes no bit. A norm that is infinite in the
    dtype makes finite elements 0 and infinite ones NaN, as torch.nn.utils.clip_grad_norm_ and
    optax.clip_by_global_norm do. A norm that is NaN changes nothing, where both make all elements
    NaN: whoever is to know finds it in what is returned. There is no 1e-6 beside the norm, as in
    optax and not in PyTorch.
    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks,
    ICML 2013, algorithm 1.
    """
    norm = global_norm(grads, out=out)
    if norm > max_norm:
        for g in grads:
            g *= max_norm / norm
    return norm


def _lost(values, dtype):
    """The error of an input that is flushed to zero where it is subnormal."""
    size = np.abs(values)
    return np.where(size < smallest_normal(dtype), size, 0.0)


def _of_l2(inputs, dtype):
    def inexact(arrays):
        return tuple(Inexact(a.copy(), _lost(a, dtype), dtype) for a in arrays)

    grads = inexact(inputs["grads"])
    add_l2(grads, inexact(inputs["params"]), inputs["l2"])
    return tuple(Bound.of(g.error) for g in grads)


def _of_value(inputs, dtype):
    """The limit is rounded once; what is subnormal may be taken for zero."""
    limit = inputs["limit"]

    def of(g):
        size = np.minimum(np.abs(g), limit)
        return Bound.of(unit_roundoff(dtype) * limit * (np.abs(g) >= size) + flushed(size, dtype))

    return tuple(map(of, inputs["grads"]))


def _of_norm(inputs, dtype):
    """The factor takes on the norm's relative error e, which makes e / (1 - e) of its inverse, and
    is off by rounding the limit, the quotient and itself where it is subnormal. It is at most 1, so
    that no element errs by more than itself: as where the norm overflows, or comes out as 0.
    """
    grads, max_norm, u = inputs["grads"], inputs["max_norm"], unit_roundoff(dtype)
    norm, (of_norm,) = global_norm(grads), norm_error({"arrays": grads}, dtype)
    if not (np.isfinite(norm) and norm + of_norm.each > max_norm * (1 - u)):
        return *[EXACT] * len(grads), of_norm
    if norm + of_norm.each >= np.finfo(dtype).max:
        return *(Bound.of(np.abs(g)) for g in grads), of_norm
    factor = min(1.0, max_norm / norm)
    of_factor = (of_norm * (1 / norm)) * (factor / (1 - min(0.5, of_norm.each / norm)))
    of_factor = of_factor + Bound.of(2 * u * factor + smallest_normal(dtype))

    def of(g):
        size = np.abs(g)
        rounded = Bound.of(u * factor * size + flushed(factor * size, dtype) + _lost(g, dtype))
        bound = of_factor * size + rounded
        return Bound(np.minimum(bound.each, size), np.minimum(bound.deviation, size))

    return *map(of, grads), of_norm


def _layer(rng, case):
    """A weight and a bias."""
    weight = rng.standard_normal((case.sizes["fan_in"], case.sizes["fan_out"]))
    return weight.astype(case.dtype), rng.standard_normal(case.sizes["fan_out"]).astype(case.dtype)


def _sample_l2(rng, case):
    l2 = 10 ** rng.uniform(-4, 0) if case.vary else 0.01
    return {"grads": _layer(rng, case), "params": _layer(rng, case), "l2": l2}


def _sample_value(rng, case):
    return {"grads": _layer(rng, case), "limit": rng.uniform(0.1, 2) if case.vary else 0.5}


def _sample_norm(rng, case):
    """Most limits are reached; one that is timed is not: it would be at the first call alone."""
    grads = _layer(rng, case)
    share = rng.uniform(0.01, 1.2) if case.vary else 2.0
    return {"grads": grads, "max_norm": float(share * global_norm(grads))}


LIMITS = 1e-3, 0.1, 1.0, 3.0, 1e25


def _edges_of_l2(dtype):
    x = border_values(dtype)
    for l2 in (0.0, 1e-30, 0.1, 1.0, 1e30):
        yield f"l2 {l2}", {"grads": (x, x[:5]), "params": (np.roll(x, 1), x[5:10]), "l2": l2}


def _edges_of_value(dtype):
    x = border_values(dtype)
    for limit in (*LIMITS, 1e-40, 1e300):
        yield f"limit {limit}", {"grads": (x, x[:0]), "limit": limit}


def _edges_of_norm(dtype):
    info = np.finfo(dtype)
    for values in (
        *[(0.0, -0.0), (3.0, 4.0), (info.max, 1.0), (info.max, -info.max), (1e-30, 1e-25)],
        *[(info.max / 8, 1.0, info.tiny), (info.tiny,) * 3, (info.smallest_subnormal,) * 3],
        *[(np.inf, 1.0, 0.0), (-np.inf, info.max), (np.nan, np.inf, 1.0), (1.0, np.nan)],
    ):
        for limit in LIMITS:
            x = np.array(values, dtype)
            yield f"{values}, limit {limit}", {"grads": (x[:1], x[1:, None]), "max_norm": limit}


def _operation(function, sample, flops, elements, error_bound, special, *returned):
    """Of `count` gradients, with what each takes."""

    def count(fan_in, fan_out):
        return (fan_in + 1) * fan_out

    return Operation(
        function.__name__,
        function,
        ("fan_in", "fan_out"),
        sample,
        lambda fan_in, fan_out, **_: flops * count(fan_in, fan_out) + len(returned),
        lambda fan_in, fan_out, **_: elements * count(fan_in, fan_out) + len(returned),
        (Result("grads[0]", updates=True), Result("grads[1]", updates=True), *returned),
        error_bound,
        special,
    )


OPERATIONS = (
    _operation(add_l2, _sample_l2, 2, 3, _of_l2, _edges_of_l2),
    _operation(clip_by_value, _sample_value, 2, 2, _of_value, _edges_of_value),
    # Where the limit is not reached: a square, a sum, a reading; then the root, which is written.
    _operation(
        *(clip_by_global_norm, _sample_norm, 2, 1, _of_norm, _edges_of_norm), Result("norm")
    ),
)
