"""How any loss of elements goes over its arrays: one pass over memory for loss and gradient.

The arrays fall into parts, which threads share, and these into blocks that stay in the L1 cache. A
block's inputs are copied first, so that its gradients may replace them and its loop be vectorised
all the same. Whoever takes a part calls the loss by its id: each is compiled when it is first used.
"""

import numpy as np
from numba import carray, prange, types

from ..catalog import ELEMENT_LOSSES, REDUCTIONS
from .codegen.inlined import register_jitable
from .codegen.jit import kernel, named, reduction, serial, threaded
from .codegen.symbol import Numbered
from .codegen.vectors import address, advance, never_inlined, stack
from .element_loss_functions import FUNCTIONS

BLOCK = 512  # elements
PART = 1 << 13  # elements that a thread takes at a time; fixed, so that sums do not depend on it
COST = 8  # times as long as a difference takes an exponential or a logarithm

NONE, MEAN = REDUCTIONS["none"], REDUCTIONS["mean"]
_BY_ID = {declared.id: declared for declared in ELEMENT_LOSSES.values()}
# With numbers that are no id: Numba takes no empty tuple.
_COSTLY = -1, *(number for number, declared in _BY_ID.items() if declared.exponentials)
_FRACTIONS = -1, *(number for number, declared in _BY_ID.items() if declared.fractions)
_VARIANCES = -1, *(number for number, declared in _BY_ID.items() if declared.variance)


@reduction
def _sum(values):
    total = 0.0
    for k in range(values.size):
        total += values[k]
    return total


@register_jitable
def _copied(source, count, to):
    """The first `count` elements, copied."""
    values, copy = carray(source, count), carray(to, count)
    for k in range(count):
        copy[k] = values[k]
    return copy


@kernel
def _all_fractions(target):
    inside = True
    for k in range(target.size):
        inside &= (target[k] >= 0) & (target[k] <= 1)
    return inside


@kernel
def _none_negative(variance):
    negative = False
    for k in range(variance.size):
        negative |= variance[k] < 0
    return not negative


@register_jitable
def _in_range(loss_id, target, variance):
    if loss_id in _FRACTIONS:
        return _all_fractions(target)
    return _none_negative(variance) if loss_id in _VARIANCES else True


def _loop(declared):
    """The losses of a block, and its gradients times `scale`."""
    function = FUNCTIONS[declared.id]

    def one_gradient(x, t, s, loss, dx, ds, a, scale):
        never_inlined()
        for k in range(x.size):
            loss[k], gradient = function(x[k], t[k], a)
            dx[k] = gradient * scale

    def two_gradients(x, t, s, loss, dx, ds, a, scale):
        never_inlined()
        for k in range(x.size):
            loss[k], gradient, of_variance = function(x[k], t[k], s[k], a)
            dx[k], ds[k] = gradient * scale, of_variance * scale

    loop = two_gradients if declared.variance else one_gradient
    return register_jitable(named(loop, function.__name__))


def _part(declared):
    """The losses of `count` elements: each into `loss` where the caller `asks` for them, else their
    sum into `total`. Returns how many blocks had a value out of range.
    """
    loop, number, has_variance = _loop(declared), declared.id, declared.variance

    def part(x, t, s, loss, dx, ds, total, a, scale, count, asks):
        like = carray(x, 1)
        x_block, s_block, losses = stack(like, BLOCK), stack(like, BLOCK), stack(like, BLOCK)
        real, outside, added = like.dtype.type, 0, 0.0
        for first in range(0, count, BLOCK):
            n = min(BLOCK, count - first)
            prediction = _copied(advance(x, first), n, x_block)
            target = carray(advance(t, first), n)
            gradient, each = carray(advance(dx, first), n), carray(losses, n)
            variance, of_variance = prediction, gradient
            if has_variance:
                variance = _copied(advance(s, first), n, s_block)
                of_variance = carray(advance(ds, first), n)
            outside += not _in_range(number, target, variance)
            loop(prediction, target, variance, each, gradient, of_variance, real(a), real(scale))
            if asks:
                _copied(losses, n, advance(loss, first))
            else:
                added += _sum(each)
        carray(total, 1)[0] = added
        return outside

    return named(part, FUNCTIONS[number].__name__)


_N, _F = types.intp, types.float64
losses = Numbered(
    "element_losses",
    lambda p: types.intp(p, p, p, p, p, p, types.CPointer(_F), _F, _F, _N, _N),
    {number: _part(declared) for number, declared in _BY_ID.items()},
)
part_of = losses.call


@register_jitable
def _at(array, c):
    return advance(address(array), c * PART)


@register_jitable
def _losses_of(c, loss_id, x, t, s, loss, dx, ds, totals, a, scale, asks):
    """Part c of the arrays."""
    each, total = _at(loss, c if asks else 0), advance(address(totals), c)
    return part_of(
        *(_at(x, c), loss_id, _at(t, c), _at(s, c), each, _at(dx, c), _at(ds, c)),
        *(total, a, scale, min(PART, x.size - c * PART), asks),
    )


@threaded
def reduced(loss_id, x, t, s, loss, dx, ds, replaces, a, reduction):
    """The loss and its gradients, of arrays of one dimension.

    False where a value is out of range; where the gradients are to replace inputs, these stay.
    """
    if replaces and not _in_range(loss_id, t, s):
        return False
    asks, scale = reduction == NONE, 1.0 / x.size if reduction == MEAN else 1.0
    parts, outside = (x.size + PART - 1) // PART, 0
    totals = np.empty(parts)
    if serial(COST * x.size if loss_id in _COSTLY else x.size):
        for c in range(parts):
            outside += _losses_of(c, loss_id, x, t, s, loss, dx, ds, totals, a, scale, asks)
    else:
        for c in prange(parts):
            outside += _losses_of(c, loss_id, x, t, s, loss, dx, ds, totals, a, scale, asks)
    if not asks:
        total = 0.0
        for c in range(parts):
            total += totals[c]
        loss[0] = total * scale
    return outside == 0
