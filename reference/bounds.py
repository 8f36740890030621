"""How large a rounding error may be, and what becomes of it.

The bounds are forward bounds of the standard model of floating-point arithmetic,
fl(a op b) = (a op b)(1 + d), |d| <= u (N. J. Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., SIAM 2002, ch. 2 and 3), with these assumptions about a kernel:

- exp, expm1, log, tanh, and sin and cos of angles up to pi / 4, are correct to ELEMENTARY * u (4
  ulp: numpy's vectorised float32 log states 3.83 ulp and its exp 2.52, CUDA's math library 1 to 2),
- a sum of n terms may be taken in any order; its error grows as min(n, SIGMAS sqrt(n)) u: the first
  is the worst case, the second holds with probability above 1 - 2 n exp(-SIGMAS^2 / 2) for
  independent roundings (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis,
  SISC 41, 2019),
- subnormal numbers may be flushed to zero, as CUDA code does under -ftz=true,
- where precision="tf32" permits it, a product's float32 factors are rounded to the nearest number
  of 8 bits of exponent and 10 of mantissa (NVIDIA A100 Tensor Core GPU Architecture, 2020: the
  format TF32), so by half a unit in the last place at most, 2^-11 |value|; sums stay float32's.

Beside the bound of each element stands the standard deviation of its error. A rounding errs by u
|value| at most and evenly, so by u |value| / sqrt(3) in the root mean square. Of n terms with the
sum S and the sum of squares Q, taken in an order that has nothing to do with their values, j have a
sum whose mean square is at most (j / n) Q + (j / n)^2 S^2. Adding one term after another rounds the
most and the largest of such sums: (n + 1) / 2 Q + (n + 1)(2 n + 1) / (6 n) S^2 altogether. For data
around zero that is a factor sqrt(n) below the worst case, so a product of rounded inputs (TF32,
bfloat16) shows at every depth. The root mean square of error / deviation over an array may reach
SIGMAS, even if all of its errors had one cause.

Against float64 kernels the float64 oracle errs by as much itself, so their bounds are doubled.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

ELEMENTARY = 8
SIGMAS = 8.0


@dataclass(frozen=True)
class Bound:
    """Of the errors of an array: |error| <= each, with a standard deviation <= deviation."""

    each: Any
    deviation: Any

    @classmethod
    def of(cls, each: Any) -> "Bound":
        """Where nothing is known of the errors but how large each can be."""
        return cls(each, each)

    def __add__(self, other: "Bound") -> "Bound":
        """Of the sum of two errors."""
        deviation = np.hypot(self.deviation, other.deviation)
        return Bound(self.each + other.each, deviation)

    def __mul__(self, factor: Any) -> "Bound":
        """Of the error times a factor that is not negative."""
        return Bound(self.each * factor, self.deviation * factor)

    def likely(self) -> "Bound":
        """As far as the deviation lets errors go."""
        if self.deviation is self.each:
            return self
        return Bound(np.minimum(self.each, SIGMAS * self.deviation), self.deviation)

    def reshape(self, shape: tuple) -> "Bound":
        """Of the array in another shape."""
        return Bound(*(np.reshape(part, shape) for part in (self.each, self.deviation)))

    def shares(self, got: np.ndarray, want: np.ndarray) -> tuple[float, float]:
        """How much of the bounds the errors took: the worst element, the root mean square.

        What is not finite does not count, nor what is exact.
        """
        with np.errstate(all="ignore"):
            error = np.abs(np.asarray(got, np.float64) - want)
            counts = np.isfinite(error)
            worst = np.divide(error, self.each, out=np.zeros_like(error), where=counts)
        worst = np.nan_to_num(worst, nan=0.0).max(initial=0.0)
        return float(worst), self.mean_share(got, want)

    def mean_share(self, got: np.ndarray, want: np.ndarray) -> float:
        """How much of the bounds the errors took in the root mean square."""
        with np.errstate(all="ignore"):
            error = np.abs(np.asarray(got, np.float64) - want)
            deviation = np.broadcast_to(self.deviation, error.shape)
            counts = np.isfinite(error) & np.isfinite(deviation) & (deviation > 0)
            if not counts.all():
                error, deviation = error[counts], deviation[counts]
            squares = (error / deviation) ** 2
        return float(np.sqrt(squares.mean()) / SIGMAS) if squares.size else 0.0


EXACT = Bound.of(0.0)


def of_likely_errors(bound_of):
    """bound_of(...) of given bounds, but that its deviation is of errors as far as theirs let them
    go: these, not the worst case of every layer before, decide on which side of a kink something
    may fall, and whether first order is enough.
    """

    @functools.wraps(bound_of)
    def call(*given):
        reach = [one.likely() if isinstance(one, Bound) else one for one in given]
        bound = bound_of(*given)
        if all(new is old for new, old in zip(reach, given, strict=True)):
            return bound
        return Bound(bound.each, bound_of(*reach).deviation)

    return call


def product_bound(a, b, dtype, of_a=EXACT, of_b=EXACT, precision=None) -> Bound:
    """Of a @ b, the sums taken in any order, given those of a and b; factors may be rounded."""
    u, terms = unit_roundoff(dtype), a.shape[1]
    size_a, size_b = np.abs(a), np.abs(b)
    each = summation(terms) * u * ((size_a + of_a.each) @ (size_b + of_b.each))
    squares, sums = (terms + 3) / 2, (terms + 1) * (2 * terms + 1) / (6 * max(1, terms))
    variance = u**2 / 3 * (squares * ((a * a) @ (b * b)) + sums * (a @ b) ** 2)
    if of_a is not EXACT:
        each = each + of_a.each @ (size_b + of_b.each)
        variance = variance + of_a.deviation**2 @ (b * b)
    if of_b is not EXACT:
        each = each + size_a @ of_b.each
        variance = variance + (a * a) @ of_b.deviation**2
    if precision == "tf32" and np.dtype(dtype) == np.float32:
        of_terms, squares = _rounded_factors(size_a + of_a.each, size_b + of_b.each)
        each, variance = each + of_terms, variance + squares / 3
    flushed = terms * smallest_normal(dtype)
    return Bound(each + flushed, np.sqrt(variance) + flushed)


def _rounded_factors(a, b):
    """(the largest error of a @ b, the sum of squares of its parts) by factors rounded to TF32.

    a, b: the factors' magnitudes, r and s half a unit in their last places. A term is then off by
    r b d + a s e + r s d e with |d|, |e| <= 1. At worst all of these add up. The first two have no
    sign in common from term to term: their sum stays below SIGMAS times the root of Q, the sum of
    their squares, with probability above 1 - 2 exp(-SIGMAS^2 / 2) (Hoeffding, Journal of the
    American Statistical Association 58, 1963), and its standard deviation is sqrt(Q / 3).
    """
    r, s = _half_unit_of_tf32(a), _half_unit_of_tf32(b)
    squares, second = r**2 @ b**2 + a**2 @ s**2, r @ s
    return np.minimum(r @ b + a @ s, SIGMAS * np.sqrt(squares)) + second, squares


def _half_unit_of_tf32(size):
    """Of the last place of TF32, 2^13 times float32's; a subnormal number may be flushed."""
    return np.float64(np.spacing(np.float32(size))) * 2**12 + smallest_normal(np.float32)


def sum_bound(terms, dtype, of_terms=EXACT) -> Bound:
    """Of the sum over the rows of an array, given that of its elements."""
    ones = np.ones((1, len(terms)))
    bound = product_bound(ones, terms, dtype, of_b=of_terms)
    return Bound(bound.each[0], bound.deviation[0])


def unit_roundoff(dtype: Any) -> float:
    """u = eps / 2: the largest relative error of one rounding to nearest."""
    return float(np.finfo(dtype).eps) / 2


def smallest_normal(dtype: Any) -> float:
    """The largest error of flushing one subnormal number to zero."""
    return float(np.finfo(dtype).tiny)


def flushed(value: np.ndarray, dtype: Any, scale: Any = 1.0) -> np.ndarray:
    """Error of a result that is lost where it is subnormal; `scale` may have made it larger."""
    size = np.abs(value)
    return np.where(size < 2 * smallest_normal(dtype) * np.maximum(1.0, scale), size, 0.0)


def summation(terms: int) -> float:
    """Error growth of a sum of `terms` numbers, in units of u times the sum of magnitudes."""
    return min(terms, SIGMAS * np.sqrt(terms))
