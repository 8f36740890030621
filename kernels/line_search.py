"""How far to go along a direction of descent: rules that kernels/second_order.py is told.

A rule is rule(phi, value, slope, first): phi(a) returns (value, slope) at the distance a >= 0 along
the direction, value and slope are those at 0, where slope < 0, and first is the distance to try
first. It returns a distance that it has asked phi for, or None where it finds none.
"""

import math
from dataclasses import dataclass

LONGEST = 2.0**60  # times the first
TRIALS = 40


@dataclass(frozen=True)
class StrongWolfe:
    """phi(a) <= phi(0) + decrease a phi'(0) and |phi'(a)| <= curvature |phi'(0)|.

    Near a minimum, where values differ by no more than their rounding, `rounding` times |phi(0)|,
    slopes decide: phi'(a) <= (2 decrease - 1) phi'(0) stands for the first condition (Hager and
    Zhang, A New Conjugate Gradient Method with Guaranteed Descent, SIAM J. Optimization 16, 2005,
    section 4). Source: Nocedal and Wright, Numerical Optimization, 2nd ed., Springer 2006,
    Algorithms 3.5 and 3.6; between two distances the cubic through values and slopes, (3.59), kept
    off the ends.
    """

    decrease: float = 1e-4
    curvature: float = 0.9
    rounding: float = 1e-6

    def __post_init__(self):
        if not 0 < self.decrease < self.curvature < 1:
            raise ValueError(
                f"decrease and curvature must be 0 < decrease < curvature < 1, "
                f"got {self.decrease} and {self.curvature}"
            )

    def __call__(self, phi, value, slope, first):
        """The distance, by brackets that grow and then one that shrinks."""
        start = before = (0.0, value, slope)
        distance = first
        for trial in range(TRIALS):
            here = (distance, *phi(distance))
            if (trial > 0 and self._rises(before, here)) or not self._falls(start, here):
                return self._zoom(phi, start, before, here)
            if abs(here[2]) <= -self.curvature * slope:
                return distance
            if here[2] >= 0:
                return self._zoom(phi, start, here, before)
            before, distance = here, 2 * distance
            if distance > LONGEST * first:
                break
        return None

    def _falls(self, start, here):
        """Whether it has fallen far enough; a value that is no number has not."""
        if here[1] <= start[1] + self.decrease * here[0] * start[2]:
            return True
        flat = here[2] <= (2 * self.decrease - 1) * start[2]
        return flat and here[1] <= start[1] + self.rounding * abs(start[1])

    def _rises(self, before, here):
        """Whether it is higher there by more than rounding."""
        return here[1] >= before[1] + self.rounding * abs(before[1])

    def _zoom(self, phi, start, low, high):
        """In the bracket, whose end `low` has fallen far enough, and the furthest so far."""
        for _ in range(TRIALS):
            distance = _between(low, high)
            if distance in (low[0], high[0]):
                break
            here = (distance, *phi(distance))
            if not self._falls(start, here) or self._rises(low, here):
                high = here
                continue
            if abs(here[2]) <= -self.curvature * start[2]:
                return distance
            if here[2] * (high[0] - low[0]) >= 0:
                high = low
            low = here
        return low[0] if low[0] > 0 else None  # as far as rounding lets one see


def _between(low, high):
    """The least of the cubic through both ends, or the middle where that is near an end or none."""
    (a, value_a, slope_a), (b, value_b, slope_b) = low, high
    width = b - a
    if all(map(math.isfinite, (value_a, slope_a, value_b, slope_b))):
        d1 = slope_a + slope_b - 3 * (value_b - value_a) / width
        if (square := d1 * d1 - slope_a * slope_b) >= 0:
            d2 = math.copysign(math.sqrt(square), width)
            if bottom := slope_b - slope_a + 2 * d2:
                share = 1 - (slope_b + d2 - d1) / bottom
                if 0.1 <= share <= 0.9:
                    return a + share * width
    return a + width / 2


def exact_on_quadratics(phi, value, slope, first):
    """Where the slope of a quadratic is 0: by the secant through its slopes at 0 and `first`."""
    _, other = phi(first)
    if not other > slope:
        return None
    distance = first * slope / (slope - other)
    phi(distance)
    return distance
