"""Uniform and normal numbers from random words, in forms that LLVM vectorises; see
reference/philox.py.

Both keep the upper 23 bits k of a word: u = (k + 1/2) 2^-23 and 2 u - 1 are exact in float32 as in
float64. The normal ones need a logarithm and a turn by 2 pi u, in series that err by less than a
quarter of a rounding: log u = e ln 2 + 2 artanh((m - 1) / (m + 1)) with u = m 2^e and m between
sqrt(1 / 2) and sqrt(2); the turn is cut, exactly, to an eighth around a quarter. Each errs by less
than 3 ulp. Source: Muller, Elementary Functions, 3rd ed., Birkhaeuser 2016, ch. 11.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from .elementary import _FORMATS, FMA, _bits, _from_bits, polynomial
from .inlined import register_jitable

INLINE = FMA | {"forceinline": True}  # else a loop would call it
# +-(2 pi)^n / n! of the sine and the cosine. What is left out from the 11th and the 18th on counts
# for less than 2^-28 and 2^-58 at a turn of 1/8.
_SERIES = tuple((2 * math.pi) ** n / math.factorial(n) * (-1) ** (n // 2) for n in range(18))


class _Format:
    """What the logarithm and the turn need of a floating-point format besides its constants."""

    def __init__(self, real, last):
        self.f = f = _FORMATS[real]
        terms = math.ceil((int(f.mantissa) + 4) / -math.log2((3 - 2**1.5) ** 2))
        self.atanh = polynomial(*f.atanh[: terms - 1])
        self.sine = polynomial(*map(f.dtype, _SERIES[3:last:2]))
        self.cosine = polynomial(*map(f.dtype, _SERIES[2:last:2]))
        self.turn, self.one = f.dtype(2 * math.pi), f.dtype(1)
        self.root = f.dtype(math.sqrt(0.5)).view(type(f.mantissa))


_BY_TYPE = {types.float32: _Format(types.float32, 11), types.float64: _Format(types.float64, 18)}


def log(x):
    """log(x) for normal numbers x above 0."""
    return np.log(x)


@overload(log, jit_options=INLINE)
def _log(x):
    g = _BY_TYPE[x]
    series, one, two, root = g.atanh, g.one, g.f.two, g.root
    mantissa, high, low = g.f.mantissa, g.f.ln2_high, g.f.ln2_low
    real, integer = g.f.dtype, type(mantissa)

    def log(x):
        exponent = integer(integer(_bits(x) - root) >> mantissa)
        m = _from_bits(integer(_bits(x) - integer(exponent << mantissa)))
        e, s = real(np.int32(exponent)), (m - one) / (m + one)
        square = s * s
        return e * high + (two * s + (s * square * series(square) + e * low))

    return log


def eighth(t):
    """(cos 2 pi t, sin 2 pi t) for |t| <= 1 / 8."""
    return np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)


@overload(eighth, jit_options=INLINE)
def _eighth(t):
    g = _BY_TYPE[t]
    sine, cosine, turn, one = g.sine, g.cosine, g.turn, g.one

    def eighth(t):
        square = t * t
        return one + square * cosine(square), t * turn + t * square * sine(square)

    return eighth


@register_jitable(**INLINE)
def symmetric(word, real):
    """2 u - 1, uniform between -1 and 1."""
    return real(np.int32(np.int32(np.int32(word >> 9) * 2) - np.int32(2**23 - 1))) * real(2**-23)


@register_jitable(**INLINE)
def normal_pair(first, second, real):
    """r cos 2 pi v and r sin 2 pi v, r = sqrt(-2 log u), of the u and v of two words.

    Source: Box and Muller, A Note on the Generation of Random Normal Deviates, Annals of
    Mathematical Statistics 29 (1958).
    """
    k = np.int32(second >> 9)
    quarter = np.int32(np.int32(k + 2**20) >> 21)  # the nearest
    rest = np.int32(np.int32(k - np.int32(quarter << 21)) * 2 + 1)
    c, s = eighth(real(rest) * real(2**-24))
    u = real(np.int32(np.int32(first >> 9) * 2 + 1)) * real(2**-24)
    r = np.sqrt(real(-2) * log(u))
    odd = (quarter & 1) == 1
    cosine, sine = s if odd else c, c if odd else s
    return (
        -r * cosine if ((quarter + 1) & 2) == 2 else r * cosine,
        -r * sine if (quarter & 2) == 2 else r * sine,
    )
