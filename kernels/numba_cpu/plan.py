"""How a network lies in memory, and what both kinds of step share: the loss and the update.

The functions are the same for every network. `memory` holds all floating-point numbers of one:
parameters, gradients and optimizer state, each flat over all layers, then the work space of a
batch. `layers` is a table that says for each layer how large it is, which activation follows and
where in `memory` its arrays begin; `plan` and `settings` say the rest.
"""

import math

from numba import carray, types
from numba.extending import register_jitable

from .elementary import exp
from .jit import kernel
from .losses import cross_entropy_rows
from .optimizers import (
    adagrad_part,
    adam_part,
    momentum_part,
    nesterov_part,
    rmsprop_part,
    sgd_part,
)
from .symbol import by_symbol
from .vectors import advance

# Columns of `layers`. Y: output; Z: pre-activation, its own place for prelu, else that of Y. DY, DZ
# are the gradients of the loss with respect to them, DZ likewise. TRANSPOSED: the weights of a
# small network, transposed. ALPHAS counts the slopes.
FAN_IN, FAN_OUT, WAY, WEIGHT, BIAS, ALPHA, ALPHAS, Y, Z, DY, DZ, TRANSPOSED, COLUMNS = range(13)
# Entries of `plan`. SIZE: of one flat array; INPUT, TARGETS: gathered rows; ZEROS: as many as the
# widest layer has units; SPACE: work space of the products, of ROOM elements; STEPS: taken so far;
# BUSY: whether a step is being taken.
SMALL, LOSS, RULE, STATES, SIZE, INPUT, TARGETS, ZEROS, SPACE, ROOM = range(10)
STEPS, BUSY, ENTRIES = range(ROOM + 1, ROOM + 4)
# What lies in the work space of a batch; everything else is the network's own.
WORK_COLUMNS, WORK_ENTRIES = [Y, Z, DY, DZ, TRANSPOSED], [INPUT, TARGETS, SPACE]
SOFTMAX_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY, MEAN_SQUARED_ERROR = range(3)
SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM = range(6)
# Entries of `settings`; the losses of the blocks follow.
LR, DECAY, SMOOTHING, BETA, RHO, BETA1, BETA2, EPS, SETTINGS = range(9)

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


@by_symbol(lambda p: types.void(p, INTEGERS, REALS, N, N))
def update(memory, plan, settings, start, stop):
    """The update rule on the parameters start ... stop."""
    n, s, size, rule = stop - start, settings, plan[SIZE], plan[RULE]
    param, grad = vector(memory, start, n), vector(memory, size + start, n)
    first = vector(memory, 2 * size + start, n) if plan[STATES] > 0 else grad
    second = vector(memory, 3 * size + start, n) if plan[STATES] > 1 else grad
    decay = param.dtype.type(s[LR] * s[DECAY])
    if decay > 0:
        for i in range(n):
            param[i] -= decay * param[i]
    if rule == SGD:
        sgd_part(param, grad, s[LR])
    elif rule == MOMENTUM:
        momentum_part(param, grad, first, s[LR], s[BETA])
    elif rule == NESTEROV:
        nesterov_part(param, grad, first, s[LR], s[BETA])
    elif rule == ADAGRAD:
        adagrad_part(param, grad, first, s[LR], s[EPS])
    elif rule == RMSPROP:
        rmsprop_part(param, grad, first, s[LR], s[RHO], s[EPS])
    else:
        steps = plan[STEPS]
        rate, correction = s[LR] / (1 - s[BETA1] ** steps), 1 / (1 - s[BETA2] ** steps)
        adam_part(param, grad, first, second, rate, correction, s[BETA1], s[BETA2], s[EPS])
