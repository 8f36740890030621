"""The three matrix products of a dense layer: packing, cache blocking and threads around the
register tile.

    forward          y = act(x @ weight + bias)
    backward_input   dx = dz @ weight.T                      with dz = dy * act'(saved)
    backward_weight  dweight = x.T @ dz, dbias = dz.sum(0)

All three are out[rows, cols] = left @ right over a depth. A block of `right` is packed into panels
as wide as the tile, then each strip of `left`, as high as the tile, is packed into L1 and swept
across the panels, which stream from L2 or L3 (Goto and van de Geijn, Anatomy of High-Performance
Matrix Multiplication, ACM TOMS 34(3), 2008; they keep a panel of `right` in L1 instead: with two
vectors a step the longer depth that fits when the narrow strip stays pays more). Bias is added
while the tile is in registers, the activation applied to a strip that is still in cache, and dz
formed a few rows at a time on its way into a panel. Few rows do not pay for packing `right`:
forward then reads the weights in place, backward_input takes dot products along their rows.

Each element is summed in the order of depth, in blocks that depend only on the depth: results do
not depend on the number of threads. Every thread packs what it needs for its own part of `out`;
nothing is shared and nothing waits.

The work is compiled once for float32 and once for float64 and called by symbol: Numba would
otherwise compile it again into each caller, and each caller's callers. Hence `ready`, which every
function that Python may call has to call first.
"""

import platform
import subprocess
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..interface import IDENTITY, SLOPES
from .activations import activate_row, backward_row
from .jit import OPTIONS
from .microkernel import (
    COMBINED,
    DOT_HEIGHT,
    HEIGHT,
    LOW_HEIGHT,
    VECTOR_BYTES,
    address,
    advance,
    aligned,
    combine,
    copy,
    dot,
    nowhere,
    tile,
    transpose,
)

FORWARD, INPUT, WEIGHT = range(3)


def _cache_bytes(level, fallback):
    """One thread's share of the data cache of a level."""
    if platform.system() == "Darwin":
        name = f"hw.perflevel0.l{level}{'d' if level == 1 else ''}cachesize"
        answer = subprocess.run(["sysctl", "-n", name], check=False, capture_output=True, text=True)
        return int(answer.stdout) if answer.returncode == 0 else fallback
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if int((index / "level").read_text()) != level:
                continue
            if (index / "type").read_text().strip() == "Instruction":
                continue
            size = int((index / "size").read_text().strip().removesuffix("K")) * 1024
            sharers = (index / "shared_cpu_map").read_text().replace(",", "")
            return size // max(1, int(sharers, 16).bit_count())
        except (OSError, ValueError):
            return fallback
    return fallback


_L1 = _cache_bytes(1, 32 << 10)
_L2 = _cache_bytes(2, 512 << 10)
_RIGHT_BYTES = max(_L2, _cache_bytes(3, 2 << 20) // 2)
RAW_ROWS = 128
"""Rows up to which forward reads the weights in place: packing them would not pay."""
RAW_DEPTH = 128
"""Rows of the weights that pass at a time then: their lines must fit L2 even a power of two apart.
"""
DOT_ROWS = 32
"""Rows up to which backward_input takes dot products along the rows of the weights, where these
are long enough.
"""
WAITING_DEPTH = 64
"""Depth of a product from which time goes into multiplying, not into writing the gradient in
order.
"""
DOT_CHUNK = 64
"""Rows of the weights that stay in cache while dz's rows are multiplied with them."""
FORM_SIZE = 4096
"""Elements of dz that are formed before they are packed."""
THREAD_WORK = 500_000
"""Multiply-adds that are worth a thread: what one does while a parallel region begins and ends,
several times over.
"""

_internal = njit(**OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_internal
def _round_up(count, unit):
    return (count + unit - 1) // unit * unit


@_internal
def _tile(a, a_step, b, b_step, c, c_step, depth, rows, cols, accumulate, bias, ahead):
    tile(a, a_step, b, b_step, c, c_step, depth, rows, cols, accumulate, bias, ahead)


@_internal
def _transpose(a, a_step, rows, cols, packed, packed_step):
    transpose(a, a_step, rows, cols, packed, packed_step)


@_internal
def _copy(a, a_step, rows, cols, packed, packed_step):
    copy(a, a_step, rows, cols, packed, packed_step)


@_internal
def _keep(array):
    """Numba frees an array after its last mention, pointers into it or not: this mentions it."""


@_internal
def _activate(way, alpha, y, y_step, rows, j0, j1):
    """y[:rows, j0:j1] = act(y[:rows, j0:j1])."""
    if way == IDENTITY:
        return
    whole = j1 - j0 == y_step and way != SLOPES
    slopes = alpha[j0:j1] if way == SLOPES else alpha
    for i in range(1 if whole else rows):
        row = carray(advance(y, i * y_step + j0), rows * y_step if whole else j1 - j0)
        activate_row(way, row, slopes)


@_internal
def _form(way, alpha, dy, saved, dy_step, rows, j0, j1, dz):
    """dz = dy * act'(saved) of rows of dy[:, j0:j1]; the rows of dz lie end to end."""
    whole = j1 - j0 == dy_step and way != SLOPES
    slopes = alpha[j0:j1] if way == SLOPES else alpha
    size = rows * dy_step if whole else j1 - j0
    for i in range(1 if whole else rows):
        place = i * dy_step + j0
        backward_row(
            way,
            carray(advance(dy, place), size),
            carray(advance(saved, place), size),
            slopes,
            carray(advance(dz, i * size), size),
        )


@_internal
def _pack_right(
    product, way, alpha, right, right_step, saved, p0, p1, j0, j1, packed, step, panel, dz
):
    """right[p0:p1, j0:j1] into panels of `step` columns; panel n begins at packed + n * panel."""
    if product == INPUT:
        for j in range(j0, j1, step):
            source = advance(right, j * right_step + p0)
            _transpose(source, right_step, min(step, j1 - j), p1 - p0, packed, step)
            packed = advance(packed, panel)
        return
    formed = product == WEIGHT and way != IDENTITY
    chunk = max(1, FORM_SIZE // (j1 - j0)) if formed else max(1, p1 - p0)
    for p in range(p0, p1, chunk):
        rows = min(chunk, p1 - p)
        source, source_step = advance(right, p * right_step + j0), right_step
        if formed:
            place = p * right_step
            _form(
                way,
                alpha,
                advance(right, place),
                advance(saved, place),
                right_step,
                rows,
                j0,
                j1,
                dz,
            )
            source, source_step = dz, j1 - j0
        target = advance(packed, (p - p0) * step)
        for j in range(0, j1 - j0, step):
            _copy(advance(source, j), source_step, rows, min(step, j1 - j0 - j), target, step)
            target = advance(target, panel)


@_internal
def _pack_left(product, way, alpha, left, left_step, saved, i, rows, p0, p1, packed, step, dz):
    """One strip of the left operand, rows i to i + rows, as p1 - p0 columns."""
    if product == WEIGHT:
        _copy(advance(left, p0 * left_step + i), left_step, p1 - p0, rows, packed, step)
    elif product == INPUT and way != IDENTITY:
        place = i * left_step
        _form(way, alpha, advance(left, place), advance(saved, place), left_step, rows, p0, p1, dz)
        _transpose(dz, p1 - p0, rows, p1 - p0, packed, step)
    else:
        _transpose(advance(left, i * left_step + p0), left_step, rows, p1 - p0, packed, step)


@_internal
def _takes_dots(batch, fan_out):
    """Whether backward_input takes dot products: for few rows, if they are long against the sum at
    their end.
    """
    return batch <= DOT_ROWS and fan_out > 32


@_internal
def _one_row(way, x, weight, alpha, bias, y, fan_in, fan_out, j0, j1):
    """y[j0:j1] for a batch of one: the weights pass by once, row after row."""
    total = carray(advance(y, j0), j1 - j0)
    total[:] = 0
    p = 0
    while p < fan_in:
        count = COMBINED if fan_in - p >= COMBINED else 1
        combine(
            advance(x, p),
            advance(weight, p * fan_out + j0),
            fan_out,
            count,
            advance(y, j0),
            j1 - j0,
        )
        p += count
    for j, b in enumerate(carray(advance(bias, j0), j1 - j0)):
        total[j] += b
    _activate(way, alpha, y, fan_out, 1, j0, j1)


@_internal
def _dots(way, dy, weight, saved, alpha, dx, batch, fan_in, fan_out, j0, j1, one):
    """dx[:, j0:j1] = dz @ weight[j0:j1].T for few rows."""
    space = np.empty(0 if way == IDENTITY else batch * fan_out, one.dtype)
    dz = dy
    if way != IDENTITY:
        dz = address(space, 0)
        _form(way, alpha, dy, saved, fan_out, batch, 0, fan_out, dz)
    strips = (batch + DOT_HEIGHT - 1) // DOT_HEIGHT
    for j in range(j0, j1, DOT_CHUNK):
        b = advance(weight, j * fan_out)
        for s in range(strips):
            i = batch * s // strips
            a, c = advance(dz, i * fan_out), advance(dx, i * fan_in + j)
            rows = batch * (s + 1) // strips - i
            dot(a, fan_out, b, fan_out, fan_out, c, fan_in, rows, min(DOT_CHUNK, j1 - j))
    _keep(space)


def _product_part(
    product,
    way,
    left,
    right,
    saved,
    alpha,
    slopes,
    bias,
    out,
    batch,
    fan_in,
    fan_out,
    i0,
    i1,
    j0,
    j1,
):
    """out[i0:i1, j0:j1] of one product."""
    one = np.ones(1, carray(out, 1).dtype)
    alpha = carray(alpha, slopes)
    if product == INPUT and _takes_dots(batch, fan_out):
        _dots(way, left, right, saved, alpha, out, batch, fan_in, fan_out, j0, j1, one)
        return
    if product == FORWARD and batch == 1:
        _one_row(way, left, right, alpha, bias, out, fan_in, fan_out, j0, j1)
        return
    left_step = fan_out if product == INPUT else fan_in
    right_step = fan_out
    out_step = fan_in if product == INPUT else fan_out
    depth = batch if product == WEIGHT else left_step

    lanes = VECTOR_BYTES // one.itemsize
    raw = product == FORWARD and batch <= RAW_ROWS
    right_width = 4 * lanes if raw and i1 - i0 <= LOW_HEIGHT else 2 * lanes
    strips = (i1 - i0 + HEIGHT - 1) // HEIGHT
    left_width = _round_up(min(i1 - i0, HEIGHT), lanes)

    # Blocks of about equal depth, so that a strip fills L1; the fewer, the less often `out` is read
    # and written.
    shallow = raw or (product == WEIGHT and fan_out <= right_width)
    most = RAW_DEPTH if shallow else _L1 // (_round_up(HEIGHT, lanes) * one.itemsize)
    blocks = max(1, (depth + most // 2) // most)
    block = _round_up((depth + blocks - 1) // blocks, lanes)
    strip = block * left_width
    panel = (
        block * right_width + lanes
    )  # Panels a whole number of pages apart would share few cache lines.
    # Few rows: all strips are packed and wait in L2 while the panels of `right` come by one at a
    # time.
    few = strips * strip * one.itemsize <= _L2 // 2 and (
        product != WEIGHT or depth >= WAITING_DEPTH
    )
    at_once = max(1, strips) if few else 1
    most_cols = right_width
    if product == WEIGHT or not few:
        most_cols = max(
            right_width, _RIGHT_BYTES // (max(1, block) * one.itemsize) // right_width * right_width
        )
    packed_cols = 0 if raw else _round_up(min(j1 - j0, most_cols), right_width)
    formed = 0
    if way != IDENTITY and product != FORWARD:
        formed = HEIGHT * block if product == INPUT else max(FORM_SIZE, packed_cols)

    space = np.empty(
        lanes + at_once * strip + packed_cols // right_width * panel + formed, one.dtype
    )
    left_packed = aligned(address(space, 0))
    right_packed = advance(left_packed, at_once * strip)
    dz = advance(right_packed, packed_cols // right_width * panel)
    nothing = nowhere(dz)
    for d in range(blocks):
        p0, p1 = depth * d // blocks, depth * (d + 1) // blocks
        last = product == FORWARD and d == blocks - 1
        for jc in range(j0, j1, most_cols):
            je = min(jc + most_cols, j1)
            if not raw:
                _pack_right(
                    product,
                    way,
                    alpha,
                    right,
                    right_step,
                    saved,
                    p0,
                    p1,
                    jc,
                    je,
                    right_packed,
                    right_width,
                    panel,
                    dz,
                )
            if product == WEIGHT and i0 == 0:
                for j in range(
                    jc, je, right_width
                ):  # Sums of columns: a product with a column of ones.
                    b = advance(right_packed, (j - jc) // right_width * panel)
                    cols = min(right_width, je - j)
                    _tile(
                        address(one, 0),
                        0,
                        b,
                        right_width,
                        advance(bias, j),
                        0,
                        p1 - p0,
                        1,
                        cols,
                        d > 0,
                        nothing,
                        0,
                    )
            for sc in range(0, strips, at_once):
                se = min(sc + at_once, strips)
                if not few or jc == j0:
                    for s in range(sc, se):
                        i = i0 + (i1 - i0) * s // strips
                        rows = i0 + (i1 - i0) * (s + 1) // strips - i
                        a = advance(left_packed, (s - sc) * strip)
                        _pack_left(
                            product,
                            way,
                            alpha,
                            left,
                            left_step,
                            saved,
                            i,
                            rows,
                            p0,
                            p1,
                            a,
                            left_width,
                            dz,
                        )
                for j in range(jc, je, right_width):
                    cols = min(right_width, je - j)
                    if raw:
                        b, b_step, ahead = (
                            advance(right, p0 * right_step + j),
                            right_step,
                            right_width,
                        )
                    else:
                        b, b_step = (
                            advance(right_packed, (j - jc) // right_width * panel),
                            right_width,
                        )
                        ahead = 8 * right_width
                    for s in range(sc, se):
                        i = i0 + (i1 - i0) * s // strips
                        rows = i0 + (i1 - i0) * (s + 1) // strips - i
                        a = advance(left_packed, (s - sc) * strip)
                        c = advance(out, i * out_step + j)
                        added = advance(bias, j) if last else nothing
                        _tile(
                            a,
                            left_width,
                            b,
                            b_step,
                            c,
                            out_step,
                            p1 - p0,
                            rows,
                            cols,
                            d > 0,
                            added,
                            ahead,
                        )
                if last and not few:
                    start, end = i0 + (i1 - i0) * sc // strips, i0 + (i1 - i0) * se // strips
                    _activate(
                        way, alpha, advance(out, start * out_step), out_step, end - start, jc, je
                    )
    if product == FORWARD and few:
        _activate(way, alpha, advance(out, i0 * out_step), out_step, i1 - i0, j0, j1)
    _keep(space)
    _keep(one)


def _signature(pointer):
    n = types.intp
    return types.void(
        n, n, pointer, pointer, pointer, pointer, n, pointer, pointer, n, n, n, n, n, n, n
    )


def _symbol(dtype):
    return f"fusebench_product_part_{dtype}"


@cache
def ready(dtype):
    """Compiles the work for this dtype; to be called before the first product of its kind.

    Not at import: it takes seconds, and starts Numba's threads in a process that may yet fork.
    """
    numba.get_num_threads()  # makes the symbol that _thread_count calls known
    pointer = types.CPointer(numba.from_dtype(dtype))
    compiled = cfunc(_signature(pointer), **OPTIONS)(_product_part)
    llvm.add_symbol(_symbol(pointer.dtype), compiled.address)
    return compiled  # the cache keeps the code alive


@intrinsic
def _part(
    typingctx,
    product,
    way,
    left,
    right,
    saved,
    alpha,
    slopes,
    bias,
    out,
    batch,
    fan_in,
    fan_out,
    i0,
    i1,
    j0,
    j1,
):
    """out[i0:i1, j0:j1] of one product, by the calling thread."""
    signature = _signature(left)

    def codegen(context, builder, _, args):
        arguments = [context.get_value_type(argument) for argument in signature.args]
        kind = ir.FunctionType(ir.VoidType(), arguments)
        builder.call(
            cgutils.get_or_insert_function(builder.module, kind, _symbol(left.dtype)), args
        )
        return context.get_dummy_value()

    return signature, codegen


# Numba's own function would keep its callers out of the cache.
_thread_count = types.ExternalFunction("get_num_threads", types.intp())


@njit(**OPTIONS, parallel=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _product(product, way, left, right, saved, alpha, slopes, bias, out, batch, fan_in, fan_out):
    rows = fan_in if product == WEIGHT else batch
    cols = fan_in if product == INPUT else fan_out
    # Fewer than 16 rows cost as much as 16: the time to read or write the weights.
    threads = max(1, min(_thread_count(), max(batch, 16) * fan_in * fan_out // THREAD_WORK))
    # The grid of parts that packs least twice. Forming dz makes its side of the product twice as
    # dear.
    dots = product == INPUT and _takes_dots(batch, fan_out)
    down, across, least = 1, threads, np.inf
    for d in range(1, threads + 1):
        twice = d * cols * (2 if product == WEIGHT else 1) + threads // d * rows * (
            2 if product == INPUT else 1
        )
        if threads % d == 0 and twice < least and (d == 1 or not dots):
            down, across, least = d, threads // d, twice
    units = (cols + 15) // 16  # Parts begin at whole vectors.
    if threads == 1:
        _part(
            product, way, left, right, saved, alpha, slopes, bias, out, batch, fan_in, fan_out,
            0, rows, 0, cols,
        )  # fmt: skip
    else:
        for t in prange(threads):
            r, c = t // across, t % across
            _part(
                product, way, left, right, saved, alpha, slopes, bias, out, batch, fan_in, fan_out,
                rows * r // down, rows * (r + 1) // down,
                min(cols, units * c // across * 16), min(cols, units * (c + 1) // across * 16),
            )  # fmt: skip


@njit(**OPTIONS)
def forward(x, weight, bias, way, alpha, y):
    """y = act(x @ weight + bias)."""
    _product(
        FORWARD,
        way,
        address(x, 0),
        address(weight, 0),
        address(x, 0),
        address(alpha, 0),
        alpha.size,
        address(bias, 0),
        address(y, 0),
        x.shape[0],
        x.shape[1],
        y.shape[1],
    )


@njit(**OPTIONS)
def backward_input(dy, weight, saved, way, alpha, dx):
    """dx = dz @ weight.T with dz = dy * act'(saved)."""
    _product(
        INPUT,
        way,
        address(dy, 0),
        address(weight, 0),
        address(saved, 0),
        address(alpha, 0),
        alpha.size,
        address(dy, 0),
        address(dx, 0),
        dx.shape[0],
        dx.shape[1],
        dy.shape[1],
    )


@njit(**OPTIONS)
def backward_weight(dy, x, saved, way, alpha, dweight, dbias):
    """dweight = x.T @ dz and dbias = dz.sum(0) with dz = dy * act'(saved)."""
    _product(
        WEIGHT,
        way,
        address(x, 0),
        address(dy, 0),
        address(saved, 0),
        address(alpha, 0),
        alpha.size,
        address(dbias, 0),
        address(dweight, 0),
        x.shape[0],
        x.shape[1],
        dy.shape[1],
    )
