"""Minima of functions of few parameters, by directions that know of curvature.

The vectors stay the backend's, and what is done with them is done by its kernels; here is what is
decided between them.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import arguments
from .catalog import CONJUGACIES, Number
from .line_search import StrongWolfe

METHODS = ("newton", "lbfgs", *CONJUGACIES)
# Conjugate directions need a slope that is nearer to 0 (Nocedal and Wright, section 5.2).
CURVATURE = {"newton": 0.9, "lbfgs": 0.9, **dict.fromkeys(CONJUGACIES, 0.1)}
TOLERANCE = Number(1e-5)
ORTHOGONAL = 0.1  # |g^T g_previous| / g^T g below which gradients count as that


@dataclass(frozen=True)
class Minimum:
    """Where a search ended: x of the backend, its value and its gradient's norm there.

    converged: whether that norm is at most the tolerance; reason: why it ended, in words.
    """

    x: Any
    value: float
    norm: float
    iterations: int
    evaluations: int
    converged: bool
    reason: str


def minimize(backend, function, x, *, method="lbfgs", tolerance=1e-5, iterations=1000, pairs=10,
             line_search=None):  # fmt: skip
    """The Minimum of function(x), from x on, an array (n,) of the backend, which stays as it is.

    function      x -> (value, gradient), and the Hessian (n, n) as a third for newton: arrays of
                  the backend, in the dtype of x and new ones at every call
    method        newton, lbfgs, polak_ribiere or fletcher_reeves
    tolerance     of the gradient's norm, sqrt(sum g^2)
    iterations    steps along a direction, at most
    pairs         that lbfgs remembers
    line_search   a rule of kernels/line_search.py or one of your own; unless given StrongWolfe,
                  with curvature 0.1 for conjugate gradients and 0.9 else

    A search that finds no lower value ends with converged False: in float32 rounding hides what a
    tolerance below about 1e-4 of the gradients on the way asks for.
    """
    arguments.one_of("method", method, METHODS)
    tolerance = arguments.number("tolerance", tolerance, TOLERANCE)
    iterations = arguments.integer("iterations", iterations, 0)
    pairs = arguments.integer("pairs", pairs, 1)
    search = _Search(backend, function, x)
    chosen = {"newton": _Newton, "lbfgs": _Recalled}.get(method, _Conjugate)
    direction = chosen(search, method, pairs)
    rule = line_search or StrongWolfe(curvature=CURVATURE[method])
    for number in range(iterations + 1):
        if not math.isfinite(search.value) or not math.isfinite(search.norm):
            return search.minimum(number, False, "the function or its gradient is not finite")
        if search.norm <= tolerance:
            return search.minimum(number, True, "the gradient's norm is at most the tolerance")
        if number == iterations:
            break
        along = direction.next()
        slope = search.product(search.gradient, along)
        if not slope < 0:  # by rounding: begin anew
            along = direction.begin()
            slope = search.product(search.gradient, along)
        if not search.go(along, slope, direction.first(slope), rule):
            return search.minimum(number, False, "the line search found no lower value")
        direction.went(along)
    return search.minimum(iterations, False, "all iterations were made")


class _Search:
    """The point, what the function has there, and what both were before the last step."""

    def __init__(self, backend, function, x):
        self.backend, self.function, self.evaluations = backend, function, 0
        self.x, self.old_x, self.old_gradient, self.old_value = x, None, None, None
        self.value, self.gradient, self.hessian = self._evaluate(x)
        self.norm = self._norm()
        self.nothing = backend.asarray(np.empty((0, len(x)), x.dtype))

    def _evaluate(self, x):
        self.evaluations += 1
        value, gradient, *hessian = self.function(x)
        return float(value), gradient, *(hessian or [None])

    def _norm(self):
        return float(self.backend.to_host(self.backend.global_norm((self.gradient,))))

    def product(self, a, b):
        return float(self.backend.to_host(self.backend.inner_product(a, b)))

    def downhill(self):
        """-gradient."""
        return self.backend.lbfgs_direction(self.gradient, self.nothing, self.nothing)

    def go(self, along, slope, first, rule):
        """Moves as far as the rule says; False, and nothing done, where it finds no distance."""
        seen = {}

        def phi(distance):
            x = self.backend.add_scaled(self.x, along, distance)
            seen.clear()  # but for the last the rule returns to the lower end of its bracket alone
            seen[distance] = x, *self._evaluate(x)
            _, value, gradient, _ = seen[distance]
            return value, self.product(gradient, along)

        distance = rule(phi, self.value, slope, first)
        if distance is None:
            return False
        if distance not in seen:
            phi(distance)
        self.old_x, self.old_gradient, self.old_value = self.x, self.gradient, self.value
        self.x, self.value, self.gradient, self.hessian = seen[distance]
        self.norm = self._norm()
        return True

    def minimum(self, iterations, converged, reason):
        given = self.x, self.value, self.norm, iterations, self.evaluations, converged, reason
        return Minimum(*given)


class _Newton:
    """Directions by the Hessian, whose full step is tried first."""

    def __init__(self, search, method, pairs):
        self.search = search
        if search.hessian is None:
            raise ValueError("function must return (value, gradient, hessian) for newton, got two")

    def next(self):
        return self.search.backend.newton_direction(self.search.gradient, self.search.hessian)

    def begin(self):
        return self.search.downhill()

    def first(self, slope):
        return 1.0

    def went(self, along):
        pass


class _Conjugate:
    """Conjugate directions; a step is first tried for the change of the last.

    Fletcher and Reeves' begin anew where gradients that follow each other are far from orthogonal,
    as they are not on a quadratic: else one bad direction is followed by others (Powell's test,
    Nocedal and Wright, (5.52)). Polak and Ribiere's beta is near 0 there by itself.
    """

    def __init__(self, search, method, pairs):
        self.search, self.method, self.along, self.change = search, method, None, None

    def next(self):
        s = self.search
        if self.along is None or (self.method == "fletcher_reeves" and self._strays()):
            return self.begin()
        given = s.gradient, s.old_gradient, self.along
        return s.backend.conjugate_direction(*given, method=self.method, out=self.along)

    def _strays(self):
        s = self.search
        return abs(s.product(s.gradient, s.old_gradient)) >= ORTHOGONAL * s.norm * s.norm

    def begin(self):
        self.change = None
        return self.search.downhill()

    def first(self, slope):
        """As far as promises the change of the last step (Nocedal and Wright, section 3.5)."""
        if self.change and self.change < 0:
            return min(1e3, 2 * self.change / slope)
        return min(1.0, 1 / self.search.norm)

    def went(self, along):
        self.along, self.change = along, self.search.value - self.search.old_value


class _Recalled:
    """Directions of L-BFGS: the last pairs, the newest last, as rows that move on in memory."""

    def __init__(self, search, method, pairs):
        self.search, self.most, self.begins, self.ends = search, pairs, 0, 0
        shape, dtype = (2 * pairs, len(search.x)), search.x.dtype
        self.steps, self.differences = (
            search.backend.asarray(np.zeros(shape, dtype)) for _ in range(2)
        )

    def next(self):
        kept = slice(self.begins, self.ends)
        given = self.search.gradient, self.steps[kept], self.differences[kept]
        return self.search.backend.lbfgs_direction(*given)

    def begin(self):
        self.begins = self.ends = 0
        return self.next()

    def first(self, slope):
        return 1.0 if self.ends > self.begins else min(1.0, 1 / self.search.norm)

    def went(self, along):
        s = self.search
        if self.ends == 2 * self.most:  # the rows are used up: the kept ones go to the front
            kept = slice(self.begins + 1, self.ends)
            for rows in (self.steps, self.differences):
                rows[: self.most - 1] = rows[kept]
            self.begins, self.ends = 0, self.most - 1
        s.backend.add_scaled(s.x, s.old_x, -1.0, out=self.steps[self.ends])
        new = self.differences[self.ends]
        s.backend.add_scaled(s.gradient, s.old_gradient, -1.0, out=new)
        self.ends += 1
        self.begins = max(self.begins, self.ends - self.most)
