"""Numbers that carry the Bound of what a kernel computes in their place, through an equation.

Beside Inexact, whose intervals hold whatever comes, an estimate knows standard deviations: errors
that have nothing to do with each other add up by their squares. Along a recurrence the bound of the
error becomes a recursion of its own: e_t <= |J_t| e_{t-1} + what the step rounds, J_t being the
step's Jacobian, of the weights and of the slopes of its activations where it is (N. J. Higham,
Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 3.8).
"""

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from .activation_spec import backward_bound, forward_bound
from .activations import activation_backward, activation_forward
from .bounds import ELEMENTARY, EXACT, Bound, product_bound, smallest_normal, unit_roundoff

SPANS = {"sigmoid": 1.0, "tanh": 2.0}  # of all their values


class Estimate(NDArrayOperatorsMixin):
    """An array in float64, and the Bound of what is computed of it in `dtype`."""

    def __init__(self, value, dtype, bound=EXACT):
        self.value, self.dtype = value, dtype
        finite = np.isfinite(value)  # infinity is no less exact than a number
        shape = np.shape(value)
        self.bound = Bound(
            *(np.where(finite, np.broadcast_to(part, shape), 0.0) for part in _parts(bound))
        )

    @property
    def shape(self):
        return self.value.shape

    def __getitem__(self, place):
        bound = Bound(*(part[place] for part in _parts(self.bound)))
        return Estimate(self.value[place], self.dtype, bound)

    def __array_ufunc__(self, ufunc, method, *operands):
        a, b = (x if isinstance(x, Estimate) else Estimate(x, self.dtype) for x in operands)
        value = ufunc(a.value, b.value)
        if ufunc is np.matmul:
            return Estimate(value, self.dtype, product_bound(a.value, b.value, self.dtype, a.bound))
        if ufunc is np.multiply:
            bound = _of_product(a, b)
        elif ufunc in (np.add, np.subtract):
            bound = a.bound + b.bound
        else:
            return NotImplemented
        return Estimate(value, self.dtype, bound + _rounding(value, bound, self.dtype))

    def __array_function__(self, function, kinds, arguments, settings):
        """np.where, np.concatenate and np.stack: of values, and of bounds."""
        if function is np.where:
            condition, *arrays = arguments
            of = lambda parts: np.where(condition, *parts)  # noqa: E731
        elif function in (np.concatenate, np.stack):
            (arrays,) = arguments
            of = lambda parts: function(parts, **settings)  # noqa: E731
        else:
            return NotImplemented
        arrays = [x if isinstance(x, Estimate) else Estimate(x, self.dtype) for x in arrays]
        bounds = zip(*(_parts(x.bound) for x in arrays), strict=True)
        return Estimate(of([x.value for x in arrays]), self.dtype, Bound(*map(of, bounds)))


# After many steps the worst case is far from what is seen. So it stays out of the deviation, which
# binds there still: what multiplies one deviation is another.


def _of_product(a, b):
    size_a, size_b = np.abs(a.value), np.abs(b.value)
    each = a.bound.each * (size_b + b.bound.each) + b.bound.each * size_a
    of_a = a.bound.deviation * np.hypot(size_b, b.bound.deviation)
    return Bound(each, np.hypot(of_a, b.bound.deviation * size_a))


def _rounding(value, bound, dtype):
    """Of a result that was off already."""
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    return Bound(*(u * (np.abs(value) + off) + tiny for off in _parts(bound)))


def activate(z, activation):
    """activation_forward of an estimate."""
    y = activation_forward(z.value, activation)
    bound = forward_bound(z.value, y, activation, None, z.dtype, z.bound)
    if activation in SPANS:
        most = SPANS[activation] + 2 * ELEMENTARY * unit_roundoff(z.dtype)
        bound = Bound(*(np.minimum(part, most) for part in _parts(bound)))
    return Estimate(y, z.dtype, bound)


def differentiate(dy, saved, activation):
    """activation_backward of an estimate."""
    given = dy.value, saved.value, activation, None
    dz = activation_backward(*given)
    bound = backward_bound(*given, dy.dtype, dy.bound, saved.bound)
    lost = np.isfinite(dz) & ~np.isfinite(dy.value)  # a choice, no product
    bound = Bound(*(np.where(lost, 0.0, part) for part in _parts(bound)))
    return Estimate(dz, dy.dtype, bound)


def _parts(bound):
    return bound.each, bound.deviation
