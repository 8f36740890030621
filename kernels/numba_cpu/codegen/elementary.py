"""exp, expm1, tanh, log, log1p and the largest of an array, in forms that LLVM vectorises.

math.exp in a Numba loop is a scalar library call. The functions here rest on one range reduction:
x = k ln 2 + r with |r| <= ln(2) / 2, so that exp(x) = 2^k (1 + q) with q = expm1(r), a Taylor
polynomial whose remainder is below a quarter of a rounding error. 2^k is written straight into the
exponent bits. exp and expm1 err by less than 2 ulp, tanh and log by less than 3; NaN stays
NaN.
Source: Muller, Elementary Functions, 3rd ed., Birkhaeuser 2016, ch. 11.
"""

import math
from decimal import Decimal

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from .inlined import INLINED, register_jitable

# a * b + c may be rounded once; nothing else may be rearranged.
FMA = INLINED | {"fastmath": {"contract"}}


class _Format:
    """The constants of a floating-point format; they are compiled in."""

    def __init__(self, dtype, integer, degree, high_bits):
        info = np.finfo(dtype)
        self.log2e = dtype(1 / math.log(2))
        # ln 2 in two pieces: k * high is exact for every k that occurs.
        high = math.floor(math.log(2) * 2**high_bits) / 2**high_bits
        self.ln2_high, self.ln2_low = dtype(high), dtype(Decimal(2).ln() - Decimal(high))
        # Adding 1.5 * 2^p rounds to an integer, which then stands in the low bits.
        self.shifter = dtype(1.5 * 2.0**info.nmant)
        self.exponent_bias = integer(info.maxexp - 1) - self.shifter.view(integer)
        self.mantissa = integer(info.nmant)
        self.taylor = tuple(dtype(1 / math.factorial(n)) for n in range(degree, 1, -1))
        # At this k the exponent bits of 2^k are those of 0: so exp is 0 from here down.
        self.lowest = dtype(math.log(2) * (info.minexp - 0.9))
        self.highest = dtype(math.log(2) * (info.maxexp - 0.6))  # above, 2^k may overflow: infinity
        self.saturated = dtype(-2 * math.log(2) * (info.nmant // 2 + 2))  # below, expm1 is -1
        # log(1 + x) = 2 s (1 + s^2 / 3 + s^4 / 5 + ...), s = x / (2 + x) <= 1 / 3: what is left out
        # is below an eighth of a rounding error.
        terms = math.ceil((info.nmant + 4) / math.log2(9))
        self.atanh = tuple(dtype(2 / (2 * n + 1)) for n in range(1, terms))
        self.one, self.two, self.infinity = map(dtype, (1, 2, math.inf))
        # log: what subnormal numbers are scaled by, and the bits of the number to count from.
        self.smallest, self.shift, self.scale = info.tiny, dtype(info.bits), dtype(2.0**info.bits)
        self.shifter_bits = self.shifter.view(integer)
        self.root_half = dtype(math.sqrt(0.5)).view(integer)
        self.dtype = dtype
        self.sign_shift = integer(info.bits - 1)
        self.magnitude = integer(np.iinfo(integer).max)


@intrinsic
def _bits(typing_context, x):
    """The bits of a floating-point number as an integer of the same width."""
    integer = types.int32 if x == types.float32 else types.int64

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(integer))

    return integer(x), codegen


@intrinsic
def _from_bits(typing_context, bits):
    """The floating-point number with these bits."""
    floating = types.float32 if bits == types.int32 else types.float64

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(floating))

    return floating(bits), codegen


_FORMATS = {
    types.float32: _Format(np.float32, np.int32, 7, 12),
    types.float64: _Format(np.float64, np.int64, 13, 32),
}


def _scaled_expm1(f):
    """The reduction for one format: x -> (2^k, expm1(r)) for x between lowest and highest."""
    log2e, high, low = f.log2e, f.ln2_high, f.ln2_low
    shifter, exponent_bias, mantissa, taylor = f.shifter, f.exponent_bias, f.mantissa, f.taylor
    integer = type(mantissa)

    @register_jitable(**FMA)
    def reduce(x):
        shifted = x * log2e + shifter
        k = shifted - shifter
        r = (x - k * high) - k * low
        exponent = integer(_bits(shifted) + exponent_bias)
        series = taylor[0]
        for coefficient in taylor[1:]:
            series = series * r + coefficient
        return _from_bits(integer(exponent << mantissa)), series * r * r + r

    return reduce


def polynomial(first, *others):
    """x -> first + others[0] x + others[1] x^2 + ..., by even and odd powers: functions in
    functions, since LLVM unrolls no long loop over coefficients, and vectorises no loop around one.
    Source: Estrin, Organization of Computer Systems, WJCC 1960.
    """
    if not others:
        return register_jitable(lambda x: first)
    even, odd = polynomial(first, *others[1::2]), polynomial(*others[::2])

    @register_jitable(**FMA)
    def value(x):
        square = x * x
        return odd(square) * x + even(square)

    return value


def exp(x):
    """exp(x); 0 below the normal numbers, infinity above two thirds of the largest."""
    return np.exp(x)


def expm1(x):
    """exp(x) - 1 without cancellation; -1 once it rounds to -1. Where exp is infinity it is any
    number: no activation uses it above 0.
    """
    return np.expm1(x)


def tanh(x):
    """t / (t + 2) with t = expm1(2 |x|), and the sign of x."""
    return np.tanh(x)


def log1p(x):
    """log(1 + x) for x from 0 to 1."""
    return np.log1p(x)


def log(x):
    """log(x), -inf of 0, NaN below."""
    return np.log(x)


def largest(x):
    """The largest element of a 1-D array, or NaN if there is a positive NaN.

    LLVM vectorises no maximum of floats. As integers they are in order, once the magnitudes of the
    negative ones are inverted.
    """
    return np.max(x)


@overload(largest, jit_options=FMA)
def _largest(x):
    f = _FORMATS[x.dtype]
    shift, magnitude, integer = f.sign_shift, f.magnitude, type(f.magnitude)

    def largest(x):
        bits = _bits(x[0])
        top = integer(bits ^ ((bits >> shift) & magnitude))
        for k in range(1, x.size):
            bits = _bits(x[k])
            top = max(top, integer(bits ^ ((bits >> shift) & magnitude)))
        return _from_bits(integer(top ^ ((top >> shift) & magnitude)))

    return largest


@overload(exp, jit_options=FMA)
def _exp(x):
    f = _FORMATS[x]
    reduce, lowest, highest, infinity = _scaled_expm1(f), f.lowest, f.highest, f.infinity

    def exp(x):
        scale, q = reduce(lowest if x < lowest else x)
        return infinity if x > highest else scale + scale * q

    return exp


@overload(expm1, jit_options=FMA)
def _expm1(x):
    f = _FORMATS[x]
    reduce, saturated, one = _scaled_expm1(f), f.saturated, f.one

    def expm1(x):
        scale, q = reduce(saturated if x < saturated else x)
        return scale * q + (scale - one)

    return expm1


@overload(tanh, jit_options=FMA)
def _tanh(x):
    f = _FORMATS[x]
    reduce, one, two, largest = _scaled_expm1(f), f.one, f.two, f.dtype(40)

    def tanh(x):
        twice = two * abs(x)
        scale, q = reduce(largest if twice > largest else twice)
        t = scale * q + (scale - one)
        return math.copysign(t / (t + two), x)

    return tanh


@overload(log1p, jit_options=FMA | {"forceinline": True})  # else a loop would call it
def _log1p(x):
    f = _FORMATS[x]
    series, two = polynomial(*f.atanh), f.two

    def log1p(x):
        s = x / (two + x)
        square = s * s
        return s * (square * series(square)) + two * s

    return log1p


@overload(log, jit_options=FMA | {"forceinline": True})
def _log(x):
    """k log 2 + log(1 + d), with x = 2^k (1 + d) and 1 + d between the roots of 1/2 and of 2."""
    f = _FORMATS[x]
    series, high, low = polynomial(*f.atanh), f.ln2_high, f.ln2_low
    one, two, infinity, mantissa, integer = f.one, f.two, f.infinity, f.mantissa, type(f.mantissa)
    smallest, shift, scale, root_half = f.smallest, f.shift, f.scale, f.root_half
    shifter, shifter_bits = f.shifter, f.shifter_bits

    def log(x):
        bits = _bits(x * scale if x < smallest else x)
        k = integer(integer(bits - root_half) >> mantissa)
        exponent = _from_bits(integer(k + shifter_bits)) - shifter
        exponent = exponent - shift if x < smallest else exponent
        d = _from_bits(integer(bits - integer(k << mantissa))) - one
        s = d / (two + d)
        square = s * s
        y = exponent * high + (exponent * low + (s * (square * series(square)) + two * s))
        y = y if x < infinity else x
        return (-infinity if x == 0 else infinity - infinity) if x <= 0 else y

    return log
