"""How a network lies in memory, and what both kinds of step share: the loss.

The functions are the same for every network. `memory` holds all floating-point numbers of one:
parameters, gradients and optimizer state, each flat over all layers, then the workspace of a
batch. `layers` is a table that says for each layer how large it is, which activation follows and
where in `memory` its arrays begin; `plan` and `settings` say the rest.
"""

import math

from numba import carray, types

from ...catalog import SIGMOID_CROSS_ENTROPY, SOFTMAX_CROSS_ENTROPY
from ..codegen.elementary import exp
from ..codegen.inlined import register_jitable
from ..codegen.jit import kernel
from ..codegen.symbol import by_symbol
from ..codegen.vectors import advance
from ..losses import cross_entropy_rows

# Columns of `layers`. Y: output; Z: pre-activation, at a place of its own where the backward pass
# takes it, else at that of Y. DY, DZ: the gradients of the loss with respect to them, DZ at a place
# of its own for prelu. TRANSPOSED: the weights of a small network. ALPHAS counts the slopes.
FAN_IN, FAN_OUT, ACTIVATION, WEIGHT, BIAS, ALPHA, ALPHAS = range(7)
Y, Z, DY, DZ, TRANSPOSED, COLUMNS = range(ALPHAS + 1, ALPHAS + 7)
# Entries of `plan`. WAY: how a step is taken; SIZE: of one flat array; INPUT, TARGETS: gathered
# rows; ZEROS: as many as the widest layer has units; WORKSPACE: of the products, of WORKSPACE_SIZE
# elements; STEPS: taken so far; BUSY: whether a step is being taken; SEED: of dropout; TRAINED,
# INFERRED: how many operations a program has for a step, and to infer; their table begins at
# OPERATIONS.
WAY, LOSS, RULE, SIZE, INPUT, TARGETS, ZEROS, WORKSPACE, WORKSPACE_SIZE = range(9)
STEPS, BUSY, SEED, TRAINED, INFERRED, OPERATIONS = range(WORKSPACE_SIZE + 1, WORKSPACE_SIZE + 7)
SMALL, LARGE, PROGRAM = range(3)
# What lies in the workspace of a batch; everything else is the network's own.
WORK_COLUMNS, WORK_ENTRIES = [Y, Z, DY, DZ, TRANSPOSED], [INPUT, TARGETS, WORKSPACE]
# Entries of `settings`. CLIP_VALUE, CLIP_NORM: 0 where nothing is clipped; FACTOR: of the gradients
# in this step, by their norm; DROPOUT: its rate; FOUND: the loss of a program; GIVEN: the settings
# of the rule, its rate first; SCALARS: what its inner loop needs in this step; PARTS: the losses of
# the blocks.
MOST = 16
DECAY, SMOOTHING, L2, CLIP_VALUE, CLIP_NORM, FACTOR, DROPOUT, FOUND, GIVEN = range(9)
SCALARS, PARTS = GIVEN + MOST, GIVEN + 2 * MOST

N = types.intp
INTEGERS = types.CPointer(types.int64)
REALS = types.CPointer(types.float64)


@register_jitable
def matrix(memory, start, rows, cols):
    return carray(advance(memory, start), (rows, cols))


@register_jitable
def vector(memory, start, size):
    return carray(advance(memory, start), (size,))


@kernel
def _elementwise_loss(kind, logits, targets, smoothing, count, dlogits):
    """Sum of the sigmoid's cross-entropies or squared differences; dlogits is that of the mean."""
    scalar = logits.dtype.type
    one, zero, scale = scalar(1), scalar(0), scalar(1 / count)
    total = 0.0
    for k in range(logits.size):
        x, t = logits[k], targets[k]
        if kind == SIGMOID_CROSS_ENTROPY:
            t = scalar((1 - smoothing) * t + smoothing / 2)
            e = exp(-abs(x))
            total += max(x, zero) - t * x + math.log1p(e)
            dlogits[k] = ((e if x < 0 else one) / (one + e) - t) * scale
        else:
            total += (x - t) * (x - t)
            dlogits[k] = scalar(2) * (x - t) * scale
    return total


@by_symbol(lambda p: types.float64(p, INTEGERS, N, INTEGERS, REALS, INTEGERS, N, N, N))
def loss_part(memory, layers, count, plan, settings, labels, first, rows, batch):
    """The share of these rows in the mean loss of the batch, and dlogits in memory."""
    last, kind, smoothing = carray(layers, (count, COLUMNS))[-1], plan[LOSS], settings[SMOOTHING]
    classes = last[FAN_OUT]
    start, size = first * classes, rows * classes
    if kind == SOFTMAX_CROSS_ENTROPY:
        logits = matrix(memory, last[Y] + start, rows, classes)
        dlogits = matrix(memory, last[DY] + start, rows, classes)
        part = vector(labels, first, rows)
        return cross_entropy_rows(logits, part, smoothing, batch, dlogits) / batch
    logits = vector(memory, last[Y] + start, size)
    dlogits = vector(memory, last[DY] + start, size)
    targets, count = vector(memory, plan[TARGETS] + start, size), batch * classes
    return _elementwise_loss(kind, logits, targets, smoothing, count, dlogits) / count
