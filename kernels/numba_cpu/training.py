"""One training step of a dense network, compiled: forward, loss, backward, update.

The functions are the same for every network. `memory` holds all floating-point numbers of one:
parameters, gradients and optimizer state, each flat over all layers, then the work space of a
batch. `layers` is a table that says for each layer how large it is, which activation follows and
where in `memory` its arrays begin; `plan` and `settings` say the rest.

A small network takes two passes. The first goes over the rows, a block at a time through all layers
to the loss and back, so that a block's activations stay in L1. The second goes over the parameters:
the gradient of a few rows of weights, and at once their update. Either may be split between threads
without a result depending on how, because every sum is taken in the order of the rows. A large
network is a chain of products that use the threads themselves.
"""

import math

from numba import carray, prange, types
from numba.extending import register_jitable

from ..interface import IDENTITY, SLOPES
from . import gemm, symbol
from .activations import (
    activate_row,
    backward_rows,
    forward,
    forward_rows,
    slope_gradient,
    with_derivative,
)
from .elementary import exp
from .jit import CHUNK, chunks, kernel, thread_count, threaded
from .losses import cross_entropy_rows
from .microkernel import DOT_HEIGHT, dot
from .optimizers import (
    adagrad_part,
    adam_part,
    momentum_part,
    nesterov_part,
    rmsprop_part,
    sgd_part,
)
from .packing import transpose
from .symbol import by_symbol
from .unpacked import lanes, product
from .vectors import Matrix, address, advance, nowhere

# Columns of `layers`. Y: output; Z: pre-activation, its own place for prelu, else that of Y. DY, DZ
# are the gradients of the loss with respect to them, DZ likewise. TRANSPOSED: the weights of a
# small network, transposed. ALPHAS counts the slopes.
FAN_IN, FAN_OUT, WAY, WEIGHT, BIAS, ALPHA, ALPHAS, Y, Z, DY, DZ, TRANSPOSED, COLUMNS = range(13)
# Entries of `plan`. SIZE: of one flat array; INPUT, TARGETS: gathered rows; ZEROS: as many as the
# widest layer has units; SPACE: work space of the products, of ROOM elements; STEPS: taken so far.
SMALL, LOSS, RULE, STATES, SIZE, INPUT, TARGETS, ZEROS, SPACE, ROOM, STEPS, ENTRIES = range(12)
SOFTMAX, SIGMOID, SQUARED = range(3)
SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM = range(6)
# Entries of `settings`; the losses of the blocks follow.
LR, DECAY, SMOOTHING, BETA, RHO, BETA1, BETA2, EPS, SETTINGS = range(9)

ROWS = 64  # of a block, at most
HALF = 8  # rows that are worth half of the first pass: a tile of fewer would keep no core busy
DEPTH = 256  # rows of a batch that one sweep over a gradient takes
THREAD_WORK = 400_000  # multiply-adds of a pass from which two threads pay

_N = types.intp
_INTEGERS = types.CPointer(types.int64)
_REALS = types.CPointer(types.float64)


@register_jitable
def _matrix(memory, start, rows, cols):
    return carray(advance(memory, start), (rows, cols))


@register_jitable
def _vector(memory, start, size):
    return carray(advance(memory, start), (size,))


@register_jitable
def _padded(count, memory):
    """The count rounded up to whole vectors."""
    return (count + lanes(memory) - 1) // lanes(memory) * lanes(memory)


# --- loss ---------------------------------------------------------------------


@kernel
def _elementwise_loss(kind, logits, targets, smoothing, count, dlogits):
    """Sum of the sigmoid's cross-entropies or squared differences; dlogits is that of the mean."""
    scalar = logits.dtype.type
    one, zero, scale = scalar(1), scalar(0), scalar(1 / count)
    total = 0.0
    for k in range(logits.size):
        x, t = logits[k], targets[k]
        if kind == SIGMOID:
            t = scalar((1 - smoothing) * t + smoothing / 2)
            e = exp(-abs(x))
            total += max(x, zero) - t * x + math.log1p(e)
            dlogits[k] = ((e if x < 0 else one) / (one + e) - t) * scale
        else:
            total += (x - t) * (x - t)
            dlogits[k] = scalar(2) * (x - t) * scale
    return total


@by_symbol(lambda p: types.float64(p, _INTEGERS, _N, _INTEGERS, _REALS, _INTEGERS, _N, _N, _N))
def loss_part(memory, layers, count, plan, settings, labels, first, rows, batch):
    """The share of these rows in the mean loss of the batch, and dlogits in memory."""
    last, kind, smoothing = carray(layers, (count, COLUMNS))[-1], plan[LOSS], settings[SMOOTHING]
    classes = last[FAN_OUT]
    start, size = first * classes, rows * classes
    if kind == SOFTMAX:
        logits = _matrix(memory, last[Y] + start, rows, classes)
        dlogits = _matrix(memory, last[DY] + start, rows, classes)
        part = _vector(labels, first, rows)
        return cross_entropy_rows(logits, part, smoothing, batch, dlogits) / batch
    logits = _vector(memory, last[Y] + start, size)
    dlogits = _vector(memory, last[DY] + start, size)
    targets, count = _vector(memory, plan[TARGETS] + start, size), batch * classes
    return _elementwise_loss(kind, logits, targets, smoothing, count, dlogits) / count


# --- update -------------------------------------------------------------------


@by_symbol(lambda p: types.void(p, _INTEGERS, _REALS, _N, _N))
def _update(memory, plan, settings, start, stop):
    """The update rule on the parameters start ... stop."""
    n, s, size, rule = stop - start, settings, plan[SIZE], plan[RULE]
    param, grad = _vector(memory, start, n), _vector(memory, size + start, n)
    first = _vector(memory, 2 * size + start, n) if plan[STATES] > 0 else grad
    second = _vector(memory, 3 * size + start, n) if plan[STATES] > 1 else grad
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


# --- a small network ----------------------------------------------------------


@register_jitable
def _d_in_place(derivative, dy, y, alpha):
    """With dy and dz as two arguments that overlap, the loop would not be vectorised."""
    for k in range(dy.size):
        dy[k] = derivative(dy[k], y[k], alpha)


@register_jitable
def _forward_block(memory, layers, x, first, rows):
    """Every layer's y (and z) of rows first ... first + rows."""
    inputs = x
    for n in range(len(layers)):
        layer = layers[n]
        fan_in, fan_out, way = layer[FAN_IN], layer[FAN_OUT], layer[WAY]
        z = advance(memory, layer[Z] + first * fan_out)
        product(
            advance(inputs, first * fan_in), fan_in, 1, advance(memory, layer[WEIGHT]), fan_out,
            z, fan_out, rows, fan_out, fan_in, advance(memory, layer[BIAS]), 0,
        )  # fmt: skip
        inputs = advance(memory, layer[Y])
        alpha = _vector(memory, layer[ALPHA], layer[ALPHAS])
        if way == SLOPES:
            y = carray(advance(inputs, first * fan_out), (rows, fan_out))
            forward_rows(way, carray(z, (rows, fan_out)), alpha, y)
        elif way != IDENTITY:
            activate_row(way, carray(z, (rows * fan_out,)), alpha)


@register_jitable
def _backward_block(memory, layers, plan, first, rows):
    """dz of every layer for rows whose dlogits lie in memory."""
    zeros = advance(memory, plan[ZEROS])
    for n in range(len(layers) - 1, -1, -1):
        layer = layers[n]
        fan_in, fan_out, way = layer[FAN_IN], layer[FAN_OUT], layer[WAY]
        start = first * fan_out
        dz = advance(memory, layer[DZ] + start)
        alpha = _vector(memory, layer[ALPHA], layer[ALPHAS])
        if way == SLOPES:
            dy = _matrix(memory, layer[DY] + start, rows, fan_out)
            z = _matrix(memory, layer[Z] + start, rows, fan_out)
            backward_rows(way, dy, z, alpha, carray(dz, (rows, fan_out)))
        elif way != IDENTITY:
            y = _vector(memory, layer[Y] + start, rows * fan_out)
            with_derivative(_d_in_place, way, carray(dz, (rows * fan_out,)), y, alpha[0])
        if n > 0:
            dx = advance(memory, layers[n - 1, DY] + first * fan_in)
            if rows <= DOT_HEIGHT:
                weight = advance(memory, layer[WEIGHT])
                to, by = Matrix(dx, fan_in), Matrix(weight, fan_out)
                dot(Matrix(dz, fan_out), by, to, fan_out, rows, fan_in, nowhere(dz))
            else:
                transposed, width = advance(memory, layer[TRANSPOSED]), _padded(fan_in, memory)
                product(
                    dz, fan_out, 1, transposed, width, dx, fan_in, rows, fan_in, fan_out,
                    zeros, 0,
                )  # fmt: skip


@by_symbol(lambda p: types.float64(p, _INTEGERS, _N, _INTEGERS, _REALS, p, _INTEGERS, _N, _N, _N))
def _block(memory, layers, count, plan, settings, x, labels, first, rows, batch):
    """Rows first ... first + rows of x through all layers; their share in the loss, and back.

    batch = 0: no more than the logits is wanted.
    """
    table = carray(layers, (count, COLUMNS))
    _forward_block(memory, table, x, first, rows)
    if batch == 0:
        return 0.0
    loss = loss_part(memory, layers, count, plan, settings, labels, first, rows, batch)
    _backward_block(memory, table, plan, first, rows)
    return loss


@register_jitable
def _gradient(a, a_row, a_step, dz, fan_out, batch, out, rows, zeros):
    """out[r] = sum over the batch of a[r * a_row + i * a_step] dz[i]."""
    for first in range(0, batch, DEPTH):
        product(
            advance(a, first * a_step), a_row, a_step, advance(dz, first * fan_out), fan_out,
            out, fan_out, rows, fan_out, min(DEPTH, batch - first),
            out if first else zeros, fan_out if first else 0,
        )  # fmt: skip


@by_symbol(lambda p: types.void(p, _INTEGERS, _N, _INTEGERS, _REALS, p, _N, _N, _N))
def _parameters_part(memory, table, count, plan, settings, x, batch, start, stop):
    """The gradients of the rows of weights that begin in start ... stop, and their update."""
    layers = carray(table, (count, COLUMNS))
    zeros, gradients = advance(memory, plan[ZEROS]), advance(memory, plan[SIZE])
    ones, inputs = advance(zeros, -1), x
    for n in range(count):
        layer = layers[n]
        fan_in, fan_out, weight, bias = layer[FAN_IN], layer[FAN_OUT], layer[WEIGHT], layer[BIAS]
        dz = advance(memory, layer[DZ])
        first = min(fan_in, max(0, (start - weight + fan_out - 1) // fan_out))
        last = min(fan_in, max(0, (stop - weight + fan_out - 1) // fan_out))
        if last > first:
            rows, place = last - first, weight + first * fan_out
            left, out = advance(inputs, first), advance(gradients, place)
            _gradient(left, 1, fan_in, dz, fan_out, batch, out, rows, zeros)
            _update(memory, plan, settings, place, place + rows * fan_out)
        if start <= bias < stop:
            end, out = bias + fan_out, advance(gradients, bias)
            _gradient(ones, 0, 0, dz, fan_out, batch, out, 1, zeros)
            if layer[WAY] == SLOPES:
                slope = layer[ALPHA]
                dy = _matrix(memory, layer[DY], batch, fan_out)
                z = _matrix(memory, layer[Z], batch, fan_out)
                slope_gradient(dy, z, _vector(gradients, slope, fan_out))
                end = slope + fan_out
            _update(memory, plan, settings, bias, end)
        inputs = advance(memory, layer[Y])


@register_jitable
def _blocks(batch):
    """How many blocks: two at least, for as many threads. The loss is added up by blocks."""
    return max((batch + ROWS - 1) // ROWS, min(2, batch // HALF), 1)


@register_jitable
def _rows(b, blocks, batch):
    """First row of a block, and the number of its rows; all have about the same number."""
    first = batch * b // blocks
    return first, batch * (b + 1) // blocks - first


@threaded
def _small_step(memory, layers, count, plan, settings, x, labels, batch):
    blocks, threads, size = _blocks(batch), thread_count(), plan[SIZE]
    if batch > DOT_HEIGHT:
        table = carray(layers, (count, COLUMNS))
        for n in range(1, count):
            fan_in, fan_out = table[n, FAN_IN], table[n, FAN_OUT]
            weight = advance(memory, table[n, WEIGHT])
            transposed = advance(memory, table[n, TRANSPOSED])
            to = Matrix(transposed, _padded(fan_in, memory))
            transpose(Matrix(weight, fan_out), fan_in, fan_out, to)
    plan[STEPS] += 1
    if threads == 1 or batch * size < THREAD_WORK:
        loss = 0.0
        for b in range(blocks):
            first, rows = _rows(b, blocks, batch)
            loss += _block(memory, layers, count, plan, settings, x, labels, first, rows, batch)
        _parameters_part(memory, layers, count, plan, settings, x, batch, 0, size)
        return loss
    for b in prange(blocks):
        first, rows = _rows(b, blocks, batch)
        settings[SETTINGS + b] = _block(
            memory, layers, count, plan, settings, x, labels, first, rows, batch
        )  # fmt: skip
    for t in prange(threads):
        start, stop = size * t // threads, size * (t + 1) // threads
        _parameters_part(memory, layers, count, plan, settings, x, batch, start, stop)
    loss = 0.0
    for b in range(blocks):
        loss += settings[SETTINGS + b]
    return loss


# --- a large network ----------------------------------------------------------


@register_jitable
def _products(memory, layers, plan, x, n, batch):
    """The products of layer n: forward, of its weights' gradient, and of its input's."""
    layer, space, size = layers[n], advance(memory, plan[SPACE]), plan[ROOM]
    fan_in, fan_out, way = layer[FAN_IN], layer[FAN_OUT], layer[WAY]
    fused = IDENTITY if way == SLOPES else way
    gradients, before = plan[SIZE], layers[max(n - 1, 0)]
    weight = _matrix(memory, layer[WEIGHT], fan_in, fan_out)
    bias = _vector(memory, layer[BIAS], fan_out)
    dweight = _matrix(memory, gradients + layer[WEIGHT], fan_in, fan_out)
    dbias = _vector(memory, gradients + layer[BIAS], fan_out)
    alpha = _vector(memory, layer[ALPHA], layer[ALPHAS])
    z = _matrix(memory, layer[Z], batch, fan_out)
    dy = _matrix(memory, layer[DY], batch, fan_out)
    inputs = carray(x if n == 0 else advance(memory, before[Y]), (batch, fan_in))
    dx = _matrix(memory, before[DY], batch, fan_in)
    return (
        gemm.forward_product(inputs, weight, bias, fused, alpha, z, space, size),
        gemm.weight_product(dy, inputs, z, way, alpha, dweight, dbias, space, size),
        gemm.input_product(dy, weight, z, way, alpha, dx, space, size),
    )


@kernel
def large_room(elements, layers, plan, batch):
    """Elements of work space for the products of a large network; `elements` sets their dtype."""
    memory, most = address(elements), 0
    for n in range(len(layers)):
        for each in _products(memory, layers, plan, memory, n, batch):
            most = max(most, gemm.room(each))
    return most


@kernel
def _large_forward(memory, layers, plan, x, batch):
    for n in range(len(layers)):
        layer = layers[n]
        gemm.compute(_products(memory, layers, plan, x, n, batch)[0])
        if layer[WAY] == SLOPES:
            z = _matrix(memory, layer[Z], batch, layer[FAN_OUT])
            y = _matrix(memory, layer[Y], batch, layer[FAN_OUT])
            forward(SLOPES, z, _vector(memory, layer[ALPHA], layer[ALPHAS]), y)


@threaded
def _large_update(memory, plan, settings):
    size = plan[SIZE]
    for c in prange(chunks(size)):
        _update(memory, plan, settings, c * CHUNK, min(size, (c + 1) * CHUNK))


@kernel
def _large_step(memory, table, count, plan, settings, x, labels, batch):
    layers, gradients = carray(table, (count, COLUMNS)), plan[SIZE]
    _large_forward(memory, layers, plan, x, batch)
    loss = loss_part(memory, table, count, plan, settings, labels, 0, batch, batch)
    for n in range(count - 1, -1, -1):
        layer = layers[n]
        if layer[WAY] == SLOPES:
            z = _matrix(memory, layer[Z], batch, layer[FAN_OUT])
            dy = _matrix(memory, layer[DY], batch, layer[FAN_OUT])
            slope_gradient(dy, z, _vector(memory, gradients + layer[ALPHA], layer[ALPHAS]))
        _, of_weights, of_input = _products(memory, layers, plan, x, n, batch)
        gemm.compute(of_weights)
        if n > 0:
            gemm.compute(of_input)
    plan[STEPS] += 1
    _large_update(memory, plan, settings)
    return loss


# --- both ---------------------------------------------------------------------


def ready(dtype):
    """Compiles what a step calls for a dtype, which has to be done before the first step."""
    gemm.ready(dtype)
    symbol.ready(dtype, product, loss_part, _update, _block, _parameters_part)


@kernel
def train(memory, layers, count, plan, settings, x, labels, batch):
    """One step on `batch` rows in place; returns the mean loss.

    All but the counts are pointers. labels: class numbers, unused where the loss takes targets,
    which then lie in memory.
    """
    if plan[SMALL]:
        return _small_step(memory, layers, count, plan, settings, x, labels, batch)
    return _large_step(memory, layers, count, plan, settings, x, labels, batch)


@kernel
def infer(memory, layers, count, plan, settings, x, labels, batch):
    """The logits of `batch` rows, in memory."""
    if plan[SMALL]:
        for first in range(0, batch, ROWS):
            rows = min(ROWS, batch - first)
            _block(memory, layers, count, plan, settings, x, labels, first, rows, 0)
    else:
        _large_forward(memory, carray(layers, (count, COLUMNS)), plan, x, batch)
