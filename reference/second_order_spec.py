"""The specification of directions that know of curvature; see second_order.py, and of their errors
second_order_bounds.py.
"""

import numpy as np

from .second_order import (
    add_scaled,
    conjugate_direction,
    inner_product,
    lbfgs_direction,
    newton_direction,
)
from .second_order_bounds import (
    conjugate_error,
    inner_error,
    lbfgs_error,
    newton_error,
    scaled_error,
)
from .spec import Operation, Result

PAIRS = 4  # of a sample


def _vectors(rng, case, *names):
    n = case.sizes["fan_in"] * case.sizes["fan_out"]
    return {name: rng.standard_normal(n).astype(case.dtype) for name in names}


def _sample_inner(rng, case):
    return _vectors(rng, case, "a", "b")


def _sample_scaled(rng, case):
    return {**_vectors(rng, case, "x", "direction"), "step_length": rng.uniform(-2, 2)}


def _sample_newton(rng, case):
    """Eigenvalues of about 0.4 to 1.6, so that the condition does not hide an error."""
    n = case.sizes["fan_in"]
    lower = np.tril(rng.uniform(-1, 1, (n, n))) / np.sqrt(n)
    hessian = np.eye(n) + (lower + lower.T) * (0.35 if n > 1 else 0.2)
    grad = rng.standard_normal(n).astype(case.dtype)
    damping = {"damping": rng.uniform() if case.vary else 0.0}
    return {"grad": grad, "hessian": hessian.astype(case.dtype), **damping}


def _sample_conjugate(rng, case):
    inputs = _vectors(rng, case, "grad", "previous_grad", "direction")
    method = str(rng.choice(("polak_ribiere", "fletcher_reeves"))) if case.vary else "polak_ribiere"
    return {**inputs, "method": method}


def _sample_lbfgs(rng, case):
    """Curvatures of 0.5 to 2; where things vary some pairs have negative ones."""
    grad = _vectors(rng, case, "grad")
    steps = rng.standard_normal((PAIRS, len(grad["grad"])))
    differences = steps * rng.uniform(0.5, 2, steps.shape)
    if case.vary:
        differences[rng.random(PAIRS) < 0.4] *= -1
    return {
        **grad,
        "steps": steps.astype(case.dtype),
        "differences": differences.astype(case.dtype),
    }


def _inner_edges(dtype):
    for values in ((0.0, -0.0), (1e18, 1.0), (np.inf, 1.0), (np.inf, -np.inf), (np.nan, 1.0), ()):
        yield f"{values}", {"a": np.array(values, dtype), "b": np.ones(len(values), dtype)}


def _scaled_edges(dtype):
    info = np.finfo(dtype)
    values = [0.0, -0.0, 1.0, info.tiny, info.smallest_subnormal, info.max, np.inf, -np.inf, np.nan]
    x, d = map(np.ravel, np.meshgrid(*[np.array(values, dtype)] * 2))
    for step in (0.0, 1.0, -0.5):
        yield f"step {step}", {"x": x.copy(), "direction": d.copy(), "step_length": step}
    yield "nothing", {"x": x[:0], "direction": d[:0], "step_length": 1.0}


def _newton_edges(dtype):
    for label, hessian in (
        ("saddle", np.diag([1.0, -1.0, 2.0])),
        ("zero", np.zeros((2, 2))),
        ("zero diagonal", np.array([[0.0, 1.0], [1.0, 0.0]])),
        ("concave", -np.eye(40)),
        ("indefinite, its diagonal positive", np.full((3, 3), 4.0) - 3 * np.eye(3)),
        ("large", np.diag([1e12, -1e12])),
        ("NaN", np.array([[1.0, 0.0], [np.nan, 1.0]])),
        ("infinite", np.diag([1.0, np.inf])),
    ):
        grad = np.arange(1.0, 1 + len(hessian)).astype(dtype)
        given = {"grad": grad, "hessian": hessian.astype(dtype)}
        yield label, {**given, "damping": 0.0}
        yield f"{label}, damped", {**given, "damping": 0.1}
    for grad in ([0.0, -0.0], [np.nan, 1.0]):
        grad, hessian = np.array(grad, dtype), np.array([[2.0, 1.0], [1.0, 2.0]], dtype)
        yield f"gradient {grad}", {"grad": grad, "hessian": hessian, "damping": 0.0}


def _conjugate_edges(dtype):
    g, before = np.array([1.0, -2.0, 3.0], dtype), np.array([2.0, 0.5, -1.0], dtype)
    for method in ("polak_ribiere", "fletcher_reeves"):
        for label, grad, previous, direction in (
            ("uphill", g, before, 10 * g),
            ("downhill", g, before, -before),
            ("the same gradient", g, g.copy(), -g),
            ("shorter", g, 2 * g, -g),
            ("at the minimum", 0 * g, before, -before),
            ("from a minimum", g, 0 * g, -before),
            ("NaN", g * np.array([1, np.nan, 1], dtype), before, -before),
            ("NaN before", g, before * np.array([1, np.nan, 1], dtype), -before),
            ("nothing", g[:0], g[:0].copy(), before[:0]),
        ):
            given = {"grad": grad, "previous_grad": previous, "direction": direction}
            yield f"{method}, {label}", {**given, "method": method}


def _lbfgs_edges(dtype):
    g, s = np.array([1.0, -2.0, 3.0], dtype), np.array([[1.0, 0.5, 0.0], [0.5, -1.0, 2.0]], dtype)
    for label, factors in (
        ("curved", (1, 2)),
        ("the newest is not", (1, -2)),
        ("the oldest is not", (-1, 2)),
        ("none is", (-1, -2)),
        ("without a difference", (1, 0)),
        ("NaN in a pair", (np.nan, 2)),
        ("an infinite pair", (1, np.inf)),
    ):
        with np.errstate(invalid="ignore"):
            differences = s * np.array(factors, dtype)[:, None]
        yield label, {"grad": g.copy(), "steps": s.copy(), "differences": differences}
        yield (
            f"gradient NaN, {label}",
            {
                "grad": g * np.array([1, np.nan, 1], dtype),
                "steps": s.copy(),
                "differences": differences,
            },
        )
    yield "no pair", {"grad": g, "steps": s[:0], "differences": s[:0].copy()}


def _vector_operation(function, sample, flops, vectors, numbers, error, edges):
    """An operation of vectors of fan_in * fan_out elements: flops an element, so many vectors."""
    return Operation(
        function.__name__,
        function,
        ("fan_in", "fan_out"),
        sample,
        lambda fan_in, fan_out, **_: flops * fan_in * fan_out,
        lambda fan_in, fan_out, **_: vectors * fan_in * fan_out + numbers,
        (Result("result"),),
        error,
        edges,
    )


OPERATIONS = (
    _vector_operation(inner_product, _sample_inner, 2, 2, 1, inner_error, _inner_edges),
    _vector_operation(add_scaled, _sample_scaled, 2, 3, 0, scaled_error, _scaled_edges),
    # Three inner products, one of a difference; the sum.
    _vector_operation(
        conjugate_direction, _sample_conjugate, 11, 4, 0, conjugate_error, _conjugate_edges
    ),
    # Of a pair s^T y, two inner products, two sums; y^T y, the scale.
    _vector_operation(
        *(lbfgs_direction, _sample_lbfgs, 10 * PAIRS + 3, 2 * PAIRS + 2, 0),
        *(lbfgs_error, _lbfgs_edges),
    ),
    # The factors, two triangular systems, the diagonal.
    Operation(
        "newton_direction",
        newton_direction,
        ("fan_in",),
        _sample_newton,
        lambda fan_in, **_: fan_in**3 / 3 + 2 * fan_in**2 + fan_in,
        lambda fan_in, **_: fan_in**2 + 2 * fan_in,
        (Result("d"),),
        newton_error,
        _newton_edges,
    ),
)
