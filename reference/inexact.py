"""Running error analysis: equations applied to inexact numbers tell how far a kernel may be off.

Each number stands with how far a computed one may lie below and above it. An operation carries
these limits on as interval arithmetic does, then rounds once (N. J. Higham, Accuracy and Stability
of Numerical Algorithms, 2nd ed., SIAM 2002, section 3.3; R. E. Moore, Interval Analysis, 1966).
A kernel that takes no more roundings than the equation stays within them; one that fuses a
multiplication and an addition takes fewer.
"""

from functools import reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from .bounds import smallest_normal, unit_roundoff


class Inexact(NDArrayOperatorsMixin):
    """A number or an array: a kernel has something from value - below to value + above.

    dtype: what it is computed in. The host's numbers are float64's, and are rounded once more where
    they meet an array; integers are exact.
    """

    def __init__(self, value: Any, error: Any = 0.0, dtype: Any = np.float64):
        self.value, self.below, self.above, self.dtype = value, error, error, np.dtype(dtype)

    @property
    def error(self) -> np.ndarray:
        """The largest error either way."""
        return np.broadcast_to(np.maximum(self.below, self.above), np.shape(self.value))

    def __int__(self) -> int:
        return int(self.value)

    def __gt__(self, other: Any) -> "Decision":
        return Decision(*(x > other for x in (self.value, *self._limits())))

    def __lt__(self, other: Any) -> "Decision":
        return Decision(*(x < other for x in (self.value, *self._limits())))

    def __array_function__(self, function, kinds, arguments, settings):
        """np.where: a decision in doubt takes in what comes of either; np.prod of what is not
        negative, in any order.
        """
        if function is np.prod:
            (factors,) = arguments
            result = Inexact(np.prod(factors.value), dtype=factors.dtype)
            low, high = map(np.prod, factors._limits())
            result.below, result.above = result.value - low, high - result.value
            result._round(max(0, factors.value.size - 1))
            return result
        if function is not np.where:
            return NotImplemented
        decision, *choices = arguments
        choices = [x if isinstance(x, Inexact) else Inexact(x) for x in choices]
        dtype = min((x.dtype for x in choices), key=lambda dtype: dtype.itemsize)
        one, other = (x._in(dtype) for x in choices)
        result = Inexact(np.where(decision.value, one.value, other.value), dtype=dtype)
        lows, highs = zip(one._limits(), other._limits(), strict=True)
        low, high = (np.where(decision.value, *ends) for ends in (lows, highs))
        if np.any(decision.doubt):
            low = np.where(decision.doubt, np.minimum(*lows), low)
            high = np.where(decision.doubt, np.maximum(*highs), high)
        with np.errstate(invalid="ignore"):
            result.below, result.above = result.value - low, high - result.value
        return result._finite()

    def __array_ufunc__(self, ufunc, method, *operands, out=None):
        if ufunc is np.power and isinstance(operands[1], int) and operands[1] == 2:
            ufunc, operands = np.square, operands[:1]
        if method != "__call__" or ufunc not in _CHANGES:
            return NotImplemented
        numbers = [x if isinstance(x, Inexact) else Inexact(x) for x in operands]
        dtype = min((x.dtype for x in numbers), key=lambda dtype: dtype.itemsize)
        numbers = [x._in(dtype) for x in numbers]
        value = ufunc(*(x.value for x in numbers))
        corners = product(*([(x.value, end) for end in x._ends()] for x in numbers))
        changes = [_CHANGES[ufunc](value, *corner) for corner in corners]
        result = out[0] if out else Inexact(value, dtype=dtype)
        result.value, result.dtype = value, dtype
        result.below, result.above = -reduce(np.minimum, changes), reduce(np.maximum, changes)
        if times := _ROUNDINGS.get(ufunc, 1):
            result._round(times)
        return result._finite()

    def _finite(self):
        """Itself; infinity is no less exact than a number."""
        if not (finite := np.isfinite(self.value)).all():
            self.below, self.above = (
                np.where(finite, end, 0.0) for end in (self.below, self.above)
            )
        return self

    def _limits(self):
        """The least and the largest that it may be."""
        return self.value - self.below, self.value + self.above

    def _ends(self):
        """The errors at which a function may be largest or smallest: at 0 if that is in reach."""
        if not np.any(self.below) and not np.any(self.above):
            return (0.0,)
        return -self.below, self.above, np.clip(-self.value, -self.below, self.above)

    def _in(self, dtype):
        """Cast to this dtype."""
        if dtype == self.dtype or isinstance(self.value, int):
            return self
        cast = Inexact(self.value, self.error, dtype)
        cast._round(1)
        return cast

    def _round(self, times):
        """Rounding is monotone: it moves the limits by what it moves the numbers there. What is 0
        for certain stays that.
        """
        u, tiny = times * unit_roundoff(self.dtype), smallest_normal(self.dtype)
        zero = (self.value == 0) & (np.asarray(self.below) == 0) & (np.asarray(self.above) == 0)
        tiny = np.where(zero, 0.0, tiny)
        self.below = self.below + u * np.abs(self.value - self.below) + tiny
        self.above = self.above + u * np.abs(self.value + self.above) + tiny


class Decision:
    """What follows from the value, and where the limits of an inexact number lead to another."""

    def __init__(self, value: Any, *ends: Any):
        self.value, self.doubt = value, (ends[0] != value) | (ends[1] != value)

    def __bool__(self) -> bool:
        return bool(self.value)


def _of_root(root, x):
    error = np.maximum(x[1], -x[0])
    return _ratio(error, np.sqrt(x[0] + error) + root)


def _of_magnitude(size, x):
    return _ratio(x[1] * (2 * x[0] + x[1]), np.abs(x[0] + x[1]) + size)


def _ratio(part, whole):
    """0 where both are."""
    whole = np.asarray(whole)
    return np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0)


# What becomes of a result by the operands' errors, each given as (value, error).
_CHANGES = {
    np.add: lambda y, a, b: a[1] + b[1],
    np.subtract: lambda y, a, b: a[1] - b[1],
    np.multiply: lambda y, a, b: a[0] * b[1] + a[1] * b[0] + a[1] * b[1],
    np.divide: lambda y, a, b: (a[1] - y * b[1]) / (b[0] + b[1]),
    np.square: lambda y, a: a[1] * (2 * a[0] + a[1]),
    np.power: lambda y, a, n: (a[0] + a[1]) ** (n[0] + n[1]) - y,
    np.positive: lambda y, a: a[1],
    np.negative: lambda y, a: -a[1],
    np.sqrt: _of_root,
    np.abs: _of_magnitude,
    np.sign: lambda y, a: np.sign(a[0] + a[1]) - y,
    np.maximum: lambda y, a, b: np.maximum(a[0] - y + a[1], b[0] - y + b[1]),
    np.minimum: lambda y, a, b: np.minimum(a[0] - y + a[1], b[0] - y + b[1]),
}
_ROUNDINGS = {np.power: 2}  # it is good to an ulp
_EXACT = np.positive, np.negative, np.abs, np.sign, np.maximum, np.minimum
_ROUNDINGS |= dict.fromkeys(_EXACT, 0)
