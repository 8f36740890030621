"""What becomes of gradients before the update rule: loops that a network's step takes as well."""

from numba import prange

from .codegen.inlined import register_jitable
from .codegen.jit import chunk, chunks, serial, threaded


@register_jitable
def penalise(grad, param, l2):
    """g += l2 p."""
    for i in range(grad.size):
        grad[i] += l2 * param[i]


@register_jitable
def limit_values(grad, limit):
    """Every element to -limit ... limit; NaN stays NaN."""
    for i in range(grad.size):
        g = grad[i]
        grad[i] = limit if g > limit else -limit if g < -limit else g


@register_jitable
def clip_factor(norm, limit):
    """That brings a norm to its limit."""
    return limit / norm if norm > limit else 1.0


@register_jitable
def scale(grad, factor):
    """g *= factor; a factor of 1 costs nothing."""
    if factor != 1:
        for i in range(grad.size):
            grad[i] *= factor


@threaded
def penalise_all(grad, param, l2):
    """`penalise` by all threads."""
    if serial(grad.size):
        penalise(grad, param, l2)
    else:
        for c in prange(chunks(grad.size)):
            penalise(grad[chunk(c, grad.size)], param[chunk(c, grad.size)], l2)


@threaded
def limit_all(grad, limit):
    """`limit_values` by all threads."""
    if serial(grad.size):
        limit_values(grad, limit)
    else:
        for c in prange(chunks(grad.size)):
            limit_values(grad[chunk(c, grad.size)], limit)


@threaded
def scale_all(grad, factor):
    """`scale` by all threads."""
    if serial(grad.size):
        scale(grad, factor)
    else:
        for c in prange(chunks(grad.size)):
            scale(grad[chunk(c, grad.size)], factor)
