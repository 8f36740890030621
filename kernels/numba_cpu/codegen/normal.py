"""The standard normal distribution, in a form that LLVM vectorises: what gelu is made of.

The tail Q(t) = P(Z > t), t >= 0, is exp(-t^2 / 2) S(w) / (t + 4) with w = (t - 4) / (t + 4), where
S is so smooth that a polynomial errs by less than a third of a rounding. It interpolates S at the
Chebyshev nodes of w, computed in 60 digits. The exponential would magnify the rounding of t^2 by
t^2 / 2: so t is cut in two, the first part so short that its square is exact.
Source: M. M. Shepherd and J. G. Laframboise, Chebyshev Approximation of (1 + 2x) exp(x^2) erfc x
in 0 <= x < infinity, Mathematics of Computation 36 (1981).
"""

import numpy as np
from numba import types
from numba.extending import overload

from .elementary import FMA, _bits, _from_bits, exp, polynomial

_SINGLE = (
    *(0.7552851379, -0.6078966355, 0.3871367051, -0.1865222052, 0.06040685058, -0.007532520982),
    *(-0.003529760178, 0.001577709262, 0.000211579292, -0.0001158436368),
)
_DOUBLE = (
    *(0.75528513041575148, -0.607896641971891758, 0.38713740074221874, -0.186521857959694349),
    *(0.0603965748907064495, -0.00754018896558471816, -0.00347969236237777316),
    *(0.00163081844172815846, 0.000133344255335844683, -0.000231094816658337311),
    *(-1.90787378690424456e-6, 3.51441712661295079e-5, 7.15029307656374749e-7),
    *(-5.91885675479799388e-6, -6.25177612722053254e-7, 1.01972390609658342e-6),
    *(2.6372855184504462e-7, -1.54153370902797447e-7, -7.6393784945292457e-8),
    *(1.44962955879635171e-8, 1.39086047165493149e-8, 9.88326679693684809e-11),
    -9.54840626183118169e-10,
)
# By type: S, the t from which Q is 0, and a mask of the bits of t's first part.
_FORMATS = {
    types.float32: (np.float32, _SINGLE, 14, np.int32(-1 << 12)),
    types.float64: (np.float64, _DOUBLE, 39, np.int64(-1 << 27)),
}


def normal(z):
    """(P(Z <= z), exp(-z^2 / 2)), to 7 and 4 ulp wherever they are normal numbers."""


@overload(normal, jit_options=FMA | {"forceinline": True})  # else a loop would call it
def _normal(z):
    real, series, most, mask = _FORMATS[z]
    smooth, integer = polynomial(*map(real, series)), type(mask)
    most, four, half, one = map(real, (most, 4, 0.5, 1))

    def normal(z):
        t = most if abs(z) > most else abs(z)
        short = _from_bits(integer(_bits(t) & mask))
        e = exp(-half * short * short) * exp(-half * (t - short) * (t + short))
        scale = one / (t + four)
        tail = e * smooth((t - four) * scale) * scale
        return (tail if z < 0 else one - tail), e

    return normal
