"""The step of a small network, in two passes.

The first goes over the rows, a block at a time through all layers to the loss and back, so that a
block's activations stay in L1. The second goes over the parameters: the gradient of a few rows of
weights, and at once their update. Either may be split between threads without a result depending on
how, because every sum is taken in the order of the rows.
"""

from numba import carray, prange, types

from ...catalog import IDENTITY, SLOPES
from ..activation_rows import activate, differentiate, slope_gradient
from ..codegen.inlined import register_jitable
from ..codegen.jit import threaded
from ..codegen.symbol import by_symbol
from ..codegen.threads import thread_count
from ..codegen.vectors import Matrix, advance, nowhere
from ..gemm.microkernel import DOT_HEIGHT, dot
from ..gemm.packing import transpose
from ..gemm.unpacked import lanes, product
from .plan import (
    ACTIVATION,
    ALPHA,
    BIAS,
    CLIP_NORM,
    COLUMNS,
    DY,
    DZ,
    FAN_IN,
    FAN_OUT,
    INTEGERS,
    PARTS,
    REALS,
    SIZE,
    TRANSPOSED,
    WEIGHT,
    ZEROS,
    N,
    Y,
    Z,
    loss_part,
    matrix,
    vector,
)
from .update import clipped_update, count_step, finish

ROWS = 64  # of a block, at most
HALF = 8  # rows that are worth half of the first pass: a tile of fewer would keep no core busy
DEPTH = 256  # rows of a batch that one sweep over a gradient takes
THREAD_WORK = 400_000  # multiply-adds of a pass from which two threads pay


@register_jitable
def _padded(count, memory):
    """The count rounded up to whole vectors."""
    return (count + lanes(memory) - 1) // lanes(memory) * lanes(memory)


@register_jitable
def _forward_block(memory, layers, x, first, rows):
    """Every layer's y (and z) of rows first ... first + rows."""
    inputs = x
    for n in range(len(layers)):
        layer = layers[n]
        fan_in, fan_out, activation_id = layer[FAN_IN], layer[FAN_OUT], layer[ACTIVATION]
        z = advance(memory, layer[Z] + first * fan_out)
        product(
            advance(inputs, first * fan_in), fan_in, 1, advance(memory, layer[WEIGHT]), fan_out,
            z, fan_out, rows, fan_out, fan_in, advance(memory, layer[BIAS]), 0,
        )  # fmt: skip
        inputs = advance(memory, layer[Y])
        if activation_id != IDENTITY or layer[Z] != layer[Y]:
            y, alpha = advance(inputs, first * fan_out), advance(memory, layer[ALPHA])
            activate(z, activation_id, fan_out, y, fan_out, alpha, rows, fan_out)


@register_jitable
def _backward_block(memory, layers, plan, first, rows):
    """dz of every layer for rows whose dlogits lie in memory."""
    zeros = advance(memory, plan[ZEROS])
    for n in range(len(layers) - 1, -1, -1):
        layer = layers[n]
        fan_in, fan_out, activation_id = layer[FAN_IN], layer[FAN_OUT], layer[ACTIVATION]
        start = first * fan_out
        dz = advance(memory, layer[DZ] + start)
        if activation_id != IDENTITY:
            dy = advance(memory, layer[DY] + start) if activation_id == SLOPES else dz
            saved, alpha = advance(memory, layer[Z] + start), advance(memory, layer[ALPHA])
            differentiate(
                *(dy, activation_id, fan_out, saved, fan_out, dz, fan_out, alpha, rows, fan_out)
            )
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


@by_symbol(lambda p: types.float64(p, INTEGERS, N, INTEGERS, REALS, p, INTEGERS, N, N, N))
def block(memory, layers, count, plan, settings, x, labels, first, rows, batch):
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


@by_symbol(lambda p: types.void(p, INTEGERS, N, INTEGERS, REALS, p, N, N, N))
def parameters_part(memory, table, count, plan, settings, x, batch, start, stop):
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
            finish(memory, plan, settings, place, place + rows * fan_out)
        if start <= bias < stop:
            end, out = bias + fan_out, advance(gradients, bias)
            _gradient(ones, 0, 0, dz, fan_out, batch, out, 1, zeros)
            if layer[ACTIVATION] == SLOPES:
                slope = layer[ALPHA]
                dy = matrix(memory, layer[DY], batch, fan_out)
                z = matrix(memory, layer[Z], batch, fan_out)
                slope_gradient(dy, z, vector(gradients, slope, fan_out))
                end = slope + fan_out
            finish(memory, plan, settings, bias, end)
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
def small_step(memory, layers, count, plan, settings, x, labels, batch):
    blocks, threads, size = _blocks(batch), thread_count(), plan[SIZE]
    if batch > DOT_HEIGHT:
        table = carray(layers, (count, COLUMNS))
        for n in range(1, count):
            fan_in, fan_out = table[n, FAN_IN], table[n, FAN_OUT]
            weight = advance(memory, table[n, WEIGHT])
            transposed = advance(memory, table[n, TRANSPOSED])
            to = Matrix(transposed, _padded(fan_in, memory))
            transpose(Matrix(weight, fan_out), fan_in, fan_out, to)
    count_step(plan, settings)
    if threads == 1 or batch * size < THREAD_WORK:
        loss = 0.0
        for b in range(blocks):
            first, rows = _rows(b, blocks, batch)
            loss += block(memory, layers, count, plan, settings, x, labels, first, rows, batch)
        parameters_part(memory, layers, count, plan, settings, x, batch, 0, size)
        if settings[CLIP_NORM] > 0:
            clipped_update(memory, plan, settings)
        return loss
    for b in prange(blocks):
        first, rows = _rows(b, blocks, batch)
        settings[PARTS + b] = block(
            memory, layers, count, plan, settings, x, labels, first, rows, batch
        )  # fmt: skip
    for t in prange(threads):
        start, stop = size * t // threads, size * (t + 1) // threads
        parameters_part(memory, layers, count, plan, settings, x, batch, start, stop)
    if settings[CLIP_NORM] > 0:
        clipped_update(memory, plan, settings)
    loss = 0.0
    for b in range(blocks):
        loss += settings[PARTS + b]
    return loss
