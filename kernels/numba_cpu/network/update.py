"""What becomes of the gradients: L2, clipping, decay, and the rule at its rate."""

import math

import numpy as np
from numba import prange, types

from ..clipping import clip_factor, limit_values, penalise, scale
from ..codegen.inlined import register_jitable
from ..codegen.jit import CHUNK, chunk, chunks, reduction, threaded
from ..codegen.symbol import by_symbol
from ..codegen.threads import thread_count
from ..codegen.vectors import advance
from ..optimizers import counts, parts
from .plan import (
    CLIP_NORM,
    CLIP_VALUE,
    DECAY,
    FACTOR,
    GIVEN,
    INTEGERS,
    L2,
    REALS,
    RULE,
    SCALARS,
    SIZE,
    STEPS,
    N,
    vector,
)

_part, _count = parts.call, counts.call


@register_jitable
def count_step(plan, settings):
    """One step more, and what the rule's inner loop needs in it."""
    plan[STEPS] += 1
    given, scalars = advance(settings, GIVEN), advance(settings, SCALARS)
    _count(given, plan[RULE], plan[STEPS], scalars)


@by_symbol(lambda p: types.void(p, INTEGERS, REALS, N, N))
def update(memory, plan, settings, start, stop):
    """Decay and the update rule on the parameters start ... stop."""
    param = vector(memory, start, stop - start)
    decay = param.dtype.type(settings[GIVEN] * settings[DECAY])
    if decay > 0:
        for i in range(param.size):
            param[i] -= decay * param[i]
    scalars = advance(settings, SCALARS)
    _part(memory, plan[RULE], plan[SIZE], start, param.size, scalars)


@by_symbol(lambda p: types.void(p, INTEGERS, REALS, N, N))
def finish(memory, plan, settings, start, stop):
    """L2 and clipping by value on the gradients start ... stop. Then their parameters are updated,
    unless all gradients have to be known first: `clipped_update`.
    """
    grad = vector(memory, plan[SIZE] + start, stop - start)
    l2, limit = grad.dtype.type(settings[L2]), grad.dtype.type(settings[CLIP_VALUE])
    if l2 > 0:
        penalise(grad, vector(memory, start, stop - start), l2)
    if limit > 0:
        limit_values(grad, limit)
    if settings[CLIP_NORM] == 0:
        update(memory, plan, settings, start, stop)


@threaded
def finish_all(memory, plan, settings):
    """`finish` on all parameters."""
    size = plan[SIZE]
    if thread_count() == 1:
        finish(memory, plan, settings, 0, size)
    else:
        for c in prange(chunks(size)):
            finish(memory, plan, settings, c * CHUNK, min(size, (c + 1) * CHUNK))


@reduction
def _squares(x):
    """In float64, which holds the square of every float32."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@by_symbol(lambda p: types.void(p, INTEGERS, REALS, N, N))
def limited_update(memory, plan, settings, start, stop):
    """The gradients start ... stop, clipped by their norm, and the update of their parameters."""
    grad = vector(memory, plan[SIZE] + start, stop - start)
    scale(grad, grad.dtype.type(settings[FACTOR]))
    update(memory, plan, settings, start, stop)


@threaded
def clipped_update(memory, plan, settings):
    """Clips all gradients by their norm, and updates all parameters."""
    size, limit = plan[SIZE], settings[CLIP_NORM]
    grad, squares = vector(memory, size, size), np.empty(chunks(size))
    alone = thread_count() == 1
    if alone:
        for c in range(chunks(size)):
            squares[c] = _squares(grad[chunk(c, size)])
    else:
        for c in prange(chunks(size)):
            squares[c] = _squares(grad[chunk(c, size)])
    total = 0.0
    for c in range(chunks(size)):
        total += squares[c]
    settings[FACTOR] = clip_factor(math.sqrt(total), limit)
    if alone:
        limited_update(memory, plan, settings, 0, size)
    else:
        for c in prange(chunks(size)):
            limited_update(memory, plan, settings, c * CHUNK, min(size, (c + 1) * CHUNK))
