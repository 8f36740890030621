"""How far the directions of second_order.py may be off; what bounds are is told in bounds.py.

A sum of n terms may be taken in any order: it errs by summation(n) u times the sum of magnitudes,
and what follows from sums is followed on, first order by first order with the sizes as they may be.
"""

import numpy as np

from .bounds import Bound, flushed, smallest_normal, sum_bound, summation, unit_roundoff
from .second_order import conjugacy, curved, damped_factor, newton_direction


def _of_sum(terms, dtype):
    """The error of a sum of products whose magnitudes these are, in any order."""
    size = summation(len(terms)) * unit_roundoff(dtype) * terms.sum()
    return size + len(terms) * smallest_normal(dtype)


def inner_error(inputs, dtype):
    bound = sum_bound((inputs["a"] * inputs["b"])[:, None], dtype)
    last = unit_roundoff(dtype) * np.abs(inputs["a"] @ inputs["b"])
    return (Bound(bound.each[0] + last, np.hypot(bound.deviation[0], last)),)


def scaled_error(inputs, dtype):
    """The step, the product and the sum are rounded."""
    product = inputs["step_length"] * inputs["direction"]
    y, u = inputs["x"] + product, unit_roundoff(dtype)
    return (Bound.of(u * (2.01 * np.abs(product) + np.abs(y)) + 2 * smallest_normal(dtype)),)


def newton_error(inputs, dtype):
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


def conjugate_error(inputs, dtype):
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
    """A vector of the recursion, rows[0], with how far a computed one may be off.

    Every step is linear, so what is off in a number that a step computes goes the way of the vector
    itself: rows[k] is how the vector changes with number k, which errs by errors[k] at most. So the
    projections that take an error away again take it away here. `local` is what the roundings of
    the elements leave.
    """

    def __init__(self, value, dtype):
        self.rows, self.errors, self.local = value[None].copy(), np.zeros(1), np.zeros_like(value)
        self.dtype, self.u, self.tiny = dtype, unit_roundoff(dtype), smallest_normal(dtype)

    def error(self):
        return self.local + self.errors @ np.abs(self.rows)

    def size(self):
        return np.abs(self.rows[0]) + self.error()

    def product(self, other, rho, of_rho):
        """rho times the inner product with an exact vector, and how that changes with each number,
        itself the last; of_rho is relative.
        """
        number, length = rho * (self.rows @ other), np.abs(other)
        of_sum = length @ self.local + _of_sum(length * self.size(), self.dtype)
        relative = (1 + of_rho) * (1 + self.u) - 1
        reach = np.abs(number[0]) + self.errors @ np.abs(number)
        self._depend(np.zeros_like(other), rho * (1 + relative) * of_sum + relative * reach)
        return np.append(number, 1.0)

    def add(self, number, other):
        """number * other is added: the number, the product and the sum are rounded."""
        reach = np.abs(number[0]) + self.errors @ np.abs(number)
        self.rows += number[:, None] * other
        self.local += 2.01 * self.u * reach * np.abs(other) + self.tiny
        self.local += self.u * self.size()

    def scale(self, factor, relative):
        self.rows, self.local = factor * self.rows, factor * self.local
        relative = (1 + relative) * (1 + self.u) - 1  # of the factor as it is stored
        self.local += relative * self.error() + self.u * (1 + relative) * self.size() + self.tiny
        self._depend(self.rows[0], relative)

    def _depend(self, row, error):
        self.rows, self.errors = np.vstack([self.rows, row]), np.append(self.errors, error)


def lbfgs_error(inputs, dtype):
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
        alphas.append(r.product(s, rho, of_rho))
        r.add(-alphas[-1], y)
    if kept:
        s, y, rho, of_rho = kept[-1]
        r.scale(1 / (rho * (y @ y)), of_rho + 2 * _of_sum(y * y, dtype) / (y @ y) + u)
    for (s, y, rho, of_rho), alpha in zip(kept, reversed(alphas), strict=True):
        beta = r.product(y, rho, of_rho)
        r.add(np.pad(alpha, (0, len(beta) - len(alpha))) - beta, s)
    return (Bound.of(r.error() + flushed(r.rows[0], dtype)),)
