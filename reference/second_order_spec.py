"""The specification of directions that know of curvature; see second_order.py.

A sum of n terms may be taken in any order: it errs by summation(n) u times the sum of magnitudes,
and what follows from sums is followed on, first order by first order with the sizes as they may be.
"""

import numpy as np

from .bounds import Bound, flushed, smallest_normal, sum_bound, summation, unit_roundoff
from .second_order import (
    add_scaled,
    conjugacy,
    conjugate_direction,
    curved,
    damped_factor,
    inner_product,
    lbfgs_direction,
    newton_direction,
)
from .spec import Operation, Result

PAIRS = 4  # of a sample


def _of_sum(terms, dtype):
    """The error of a sum of products whose magnitudes these are, in any order."""
    size = summation(len(terms)) * unit_roundoff(dtype) * terms.sum()
    return size + len(terms) * smallest_normal(dtype)


def _inner_error(inputs, dtype):
    bound = sum_bound((inputs["a"] * inputs["b"])[:, None], dtype)
    last = unit_roundoff(dtype) * np.abs(inputs["a"] @ inputs["b"])
    return (Bound(bound.each[0] + last, np.hypot(bound.deviation[0], last)),)


def _scaled_error(inputs, dtype):
    """The step, the product and the sum are rounded."""
    product = inputs["step_length"] * inputs["direction"]
    y, u = inputs["x"] + product, unit_roundoff(dtype)
    return (Bound.of(u * (2.01 * np.abs(product) + np.abs(y)) + 2 * smallest_normal(dtype)),)


def _newton_error(inputs, dtype):
    """Higham, Theorem 10.4: (A + dA) d = -g with |dA| <= gamma_3n+1 |L| |L^T|; beside it lambda
    and its sums with the diagonal are rounded. So |error| <= M (|d| + |error|), M = |A^-1| |dA|.
    """
    hessian, u, tiny = inputs["hessian"], unit_roundoff(dtype), smallest_normal(dtype)
    factor, shift = damped_factor(hessian, inputs["damping"])
    if factor is None:
        return (Bound.of(0.0),)
    size, one = np.abs(factor), np.eye(len(hessian))
    change = summation(3 * len(hessian) + 1) * u * (size @ size.T)
    if shift > 0:
        change += u * one * (2 * shift + np.abs(hessian.diagonal()))
    inverse, d = np.abs(np.linalg.inv(factor @ factor.T)), np.abs(newton_direction(**inputs))
    spread = inverse @ change
    if not spread.sum(axis=1).max() < 1:  # as large a change may make it singular
        return (Bound.of(np.inf),)
    lost = len(hessian) * tiny * (inverse.sum(axis=1) + 1)
    return (Bound.of(np.linalg.solve(one - spread, spread @ d + lost) + tiny),)


def _conjugate_error(inputs, dtype):
    """Of beta, then of the sum; where it is in doubt whether d descends either may come."""
    g, before, d = inputs["grad"], inputs["previous_grad"], inputs["direction"]
    u, method = unit_roundoff(dtype), inputs["method"]
    beta, squares = conjugacy(g, before, method), before @ before
    terms = np.abs(g * (g if method == "fletcher_reeves" else g - before))
    of_squares = _of_sum(before**2, dtype)
    ratio, slope = terms.sum() / squares, g @ d
    of_beta = (_of_sum(terms, dtype) + u * terms.sum() + ratio * of_squares) / squares
    of_beta = of_beta / (1 - min(0.5, of_squares / squares)) + 2 * u * ratio
    margin = np.abs(beta * slope - g @ g)
    of_margin = (beta + of_beta) * (_of_sum(np.abs(g * d), dtype) + u * np.abs(slope))
    of_margin += of_beta * np.abs(slope) + _of_sum(g * g, dtype)
    lost = flushed(g, dtype)
    if not (beta < np.inf and beta * slope < g @ g):
        doubtful = np.abs(beta * d) if margin <= of_margin else 0.0
        return (Bound.of(lost + doubtful),)
    each = np.abs(d) * (of_beta + 2 * u * (beta + of_beta)) + u * np.abs(beta * d - g)
    each = each + lost + 3 * smallest_normal(dtype)
    return (Bound.of(each + (np.abs(beta * d) if margin <= of_margin else 0.0)),)


class _Running:
    """A vector of the recursion, with how far a computed one may be off."""

    def __init__(self, value, dtype):
        self.value, self.error, self.dtype = value.copy(), np.zeros_like(value), dtype
        self.u, self.tiny = unit_roundoff(dtype), smallest_normal(dtype)

    def product(self, other, rho, of_rho):
        """rho times the inner product with an exact vector, and its error; of_rho is relative."""
        size = np.abs(other)
        error = size @ self.error + _of_sum(size * (np.abs(self.value) + self.error), self.dtype)
        value = rho * (other @ self.value)
        return value, rho * (1 + of_rho) * error + np.abs(value) * (of_rho + self.u)

    def add(self, coefficient, error, other):
        """coefficient * other is added: the number, the product and the sum are rounded."""
        self.value += coefficient * other
        self.error += (error + 2.01 * self.u * (np.abs(coefficient) + error)) * np.abs(other)
        self.error += self.u * (np.abs(self.value) + self.error) + self.tiny

    def scale(self, factor, relative):
        self.value *= factor
        grown = relative + 2 * self.u
        self.error = factor * (1 + grown) * self.error + grown * np.abs(self.value) + self.tiny


def _lbfgs_error(inputs, dtype):
    """The two loops once more, the error of each product and sum carried along."""
    g, steps, differences = inputs["grad"], inputs["steps"], inputs["differences"]
    r, u, kept, alphas = _Running(g, dtype), unit_roundoff(dtype), [], []
    for s, y in zip(steps, differences, strict=True):
        if np.abs(s @ y) <= (of_sy := _of_sum(np.abs(s * y), dtype)) and np.any(s * y):
            return (Bound.of(np.inf),)  # it may be left out, or not
        if pair := curved([s], [y]):
            relative = of_sy * pair[0][2]
            kept.append((*pair[0], relative / (1 - relative) + u))
    for s, y, rho, of_rho in reversed(kept):
        alpha, error = r.product(s, rho, of_rho)
        alphas.append((alpha, error))
        r.add(-alpha, error, y)
    if kept:
        s, y, rho, of_rho = kept[-1]
        r.scale(1 / (rho * (y @ y)), of_rho + 2 * _of_sum(y * y, dtype) / (y @ y) + u)
    for (s, y, rho, of_rho), (alpha, error) in zip(kept, reversed(alphas), strict=True):
        beta, of_beta = r.product(y, rho, of_rho)
        c = alpha - beta
        r.add(c, error + of_beta + u * np.abs(c), s)
    return (Bound.of(r.error + flushed(r.value, dtype)),)


# --- samples --------------------------------------------------------------------------------------


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
    _vector_operation(inner_product, _sample_inner, 2, 2, 1, _inner_error, _inner_edges),
    _vector_operation(add_scaled, _sample_scaled, 2, 3, 0, _scaled_error, _scaled_edges),
    # Three inner products, one of a difference; the sum.
    _vector_operation(
        conjugate_direction, _sample_conjugate, 11, 4, 0, _conjugate_error, _conjugate_edges
    ),
    # Of a pair s^T y, two inner products, two sums; y^T y, the scale.
    _vector_operation(
        *(lbfgs_direction, _sample_lbfgs, 10 * PAIRS + 3, 2 * PAIRS + 2, 0),
        *(_lbfgs_error, _lbfgs_edges),
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
        _newton_error,
        _newton_edges,
    ),
)
