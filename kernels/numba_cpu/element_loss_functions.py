"""Losses of one element, for every id of the catalogue: the loss and its gradient, from the
prediction x, its target t and the number a. With a variance s it is the loss and two gradients.
Comparisons are written so that NaN stays NaN.
"""

import math

from .. import catalog
from .codegen.elementary import FMA, exp, log, log1p
from .codegen.inlined import register_jitable

# Whoever adds up may add in any order, a loss may not. A loop around a call is not vectorised.
_element = register_jitable(**FMA, forceinline=True)


@_element
def _squared(x, t, a):
    error = x - t
    return error * error, error + error


@_element
def _absolute(x, t, a):
    real, error = type(x), x - t
    return abs(error), real(1) if error > 0 else real(-1) if error < 0 else error


@_element
def _huber(x, t, a):
    half, error = type(x)(0.5), x - t
    size = abs(error)
    loss = half * error * error if size <= a else a * (size - half * a)
    return loss, a if error > a else -a if error < -a else error


@_element
def _logistic(x, t, a):
    zero, one, e = type(x)(0), type(x)(1), exp(-abs(x))
    loss = (zero if x < 0 else x) - x * t + log1p(e)
    return loss, (e if x < 0 else one) / (one + e) - t


@_element
def _log_of_rest(p):
    """log(1 - p), with what was lost of 1 - p; where that is 0 or less, nothing was."""
    rest = type(p)(1) - p
    lost = (type(p)(1) - rest) - p
    return log(rest) + lost / (rest if rest > 0 else type(p)(1))


@_element
def _at_least(x, least):
    return least if x < least else x


@_element
def _bernoulli(p, t, a):
    one, least = type(p)(1), type(p)(-100)
    log_p, log_rest = _at_least(log(p), least), _at_least(_log_of_rest(p), least)
    spread = _at_least(p * (one - p), type(p)(1e-12))
    return -(t * log_p + (one - t) * log_rest), (p - t) / spread


@_element
def _poisson(x, t, a):
    """Beyond 64, exp(x) is e exp(x - 1), where x - 1 is exact: exp is infinite too early."""
    one, large = type(x)(1), x > 64
    rate = exp(x - one if large else x)
    rate = rate * type(x)(math.e) if large else rate
    return rate - t * x, rate - t


@_element
def _gaussian(x, t, variance, a):
    one, half, error, s = type(x)(1), type(x)(0.5), x - t, _at_least(variance, a)
    inverse = one / s
    gradient = error * inverse
    share = error * gradient
    return half * (log(s) + share), gradient, half * (one - share) * inverse


FUNCTIONS = {
    catalog.SQUARED: _squared,
    catalog.ABSOLUTE: _absolute,
    catalog.HUBER: _huber,
    catalog.LOGISTIC: _logistic,
    catalog.BERNOULLI: _bernoulli,
    catalog.POISSON: _poisson,
    catalog.GAUSSIAN: _gaussian,
}
