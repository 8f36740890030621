"""The three matrix products of a dense layer: cache blocking and threads around the register tile.

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

Each element is summed in the order of depth, in blocks that depend only on the sizes of the whole
product: results do not depend on the number of threads. Every thread packs what it needs for its
own part of `out`; nothing is shared and nothing waits.
"""

from functools import cache

import numpy as np
from numba import carray, njit, prange, types

from ..interface import IDENTITY
from . import caches, symbol
from .jit import INTERNAL, OPTIONS
from .microkernel import COMBINED, DOT_HEIGHT, HEIGHT, LOW_HEIGHT, combine, dot, tile
from .packing import FORMED, activate, form, pack_left, pack_right, transpose
from .product import FORWARD, INPUT, WEIGHT, Product, part, product_type, slopes
from .symbol import by_symbol, loaded, stored, thread_count
from .vectors import VECTOR_BYTES, Matrix, address, advance, aligned, at, keep, nowhere

# How: tiles over both operands packed, or over weights in place; dot products; one row.
PACKED, IN_PLACE, DOTS, ONE_ROW = range(4)

# Bytes of the packed block of `right`.
RIGHT_BYTES = max(caches.L2, caches.L3 // 2)
# Rows up to which forward reads the weights in place: packing them would not pay. So many rows of
# the weights pass at a time then: their lines must fit L2 even a power of two apart.
IN_PLACE_ROWS = 128
IN_PLACE_DEPTH = 128
# Dot products have a sum over their lanes at the end: they are taken where the depth is so many
# times the rows or columns that share an operand. These are backward_input's rows, up to DOT_ROWS,
# and forward's columns, up to so many vectors.
DEEP = 4
DOT_ROWS = 32
DOT_VECTORS = 3
# Rows of the weights that stay in cache while the rows of dz are multiplied with them.
DOT_CHUNK = 64
# Depth of a product from which time goes into multiplying, not into writing the gradient in order.
WAITING_DEPTH = 64
# Multiply-adds that are worth a thread: what one does while a parallel region begins and ends,
# several times over.
THREAD_WORK = 500_000


@njit(**INTERNAL)
def _round_up(count, unit):
    return (count + unit - 1) // unit * unit


@njit(**INTERNAL)
def _strip(rows, s, strips):
    """First row and number of rows of a strip; all have about the same height."""
    i = rows * s // strips
    return i, rows * (s + 1) // strips - i


@njit(**INTERNAL)
def _itemsize(product):
    return carray(product.out.data, 1).itemsize


@njit(**INTERNAL)
def _workspace(product, size):
    return np.empty(size, carray(product.out.data, 1).dtype)


@njit(**INTERNAL, inline="always")  # spares LLVM one more pass over the tile
def _tiles(product, in_place, blocks):
    """The product by tiles, the right operand packed or in place, its depth in so many blocks."""
    kind, rows, cols = product.kind, product.rows, product.cols
    way, out, bias = product.way, product.out, product.bias
    itemsize = _itemsize(product)
    lanes = VECTOR_BYTES // itemsize
    height = _round_up(min(rows, HEIGHT), lanes)
    width = (4 if in_place and rows <= LOW_HEIGHT else 2) * lanes
    strips = (rows + HEIGHT - 1) // HEIGHT
    depth = _round_up((product.depth + blocks - 1) // blocks, lanes)
    strip = depth * height
    panel = depth * width + lanes  # a whole number of pages apart they would share few cache lines

    # Where all strips fit L2 they wait there, while panels of `right` come by one at a time;
    # otherwise one strip at a time stays in L1, while a block of panels comes by.
    waiting = strips * strip * itemsize <= caches.L2 // 2
    waiting = waiting and (kind != WEIGHT or product.depth >= WAITING_DEPTH)
    group = max(1, strips) if waiting else 1
    block = width
    if kind == WEIGHT or not waiting:
        block *= max(1, RIGHT_BYTES // (max(1, depth) * itemsize) // width)
    panels = 0 if in_place else (min(cols, block) + width - 1) // width
    formed = 0
    if product.way != IDENTITY and kind != FORWARD:
        formed = HEIGHT * depth if kind == INPUT else max(FORMED, panels * width)

    space = _workspace(product, 1 + lanes + group * strip + panels * panel + formed)
    space[0] = 1
    one = Matrix(address(space), 0)
    lefts = aligned(advance(one.data, 1))
    packed = Matrix(advance(lefts, group * strip), width)
    dz = advance(packed.data, panels * panel)
    for d in range(blocks):
        p0, p1 = product.depth * d // blocks, product.depth * (d + 1) // blocks
        last = kind == FORWARD and d == blocks - 1
        for j0 in range(0, cols, block):
            j1 = min(cols, j0 + block)
            if not in_place:
                pack_right(product, p0, p1, j0, j1, packed, panel, dz)
            for s0 in range(0, max(1, strips), group):
                s1 = min(strips, s0 + group)
                if not waiting or j0 == 0:
                    for s in range(s0, s1):
                        a = Matrix(advance(lefts, (s - s0) * strip), height)
                        i, count = _strip(rows, s, strips)
                        pack_left(product, i, count, p0, p1, a, dz)
                for j in range(j0, j1, width):
                    b, ahead = at(packed, 0, (j - j0) // width * panel), 8 * width
                    if in_place:
                        b, ahead = at(product.right, p0, j), width
                    n = min(width, j1 - j)
                    if product.sums and s0 == 0:
                        dbias = Matrix(advance(bias, j), 0)
                        tile(one, b, dbias, p1 - p0, 1, n, d > 0, nowhere(bias), 0)
                    added = advance(bias, j) if last else nowhere(bias)
                    for s in range(s0, s1):
                        a = Matrix(advance(lefts, (s - s0) * strip), height)
                        i, count = _strip(rows, s, strips)
                        tile(a, b, at(out, i, j), p1 - p0, count, n, d > 0, added, ahead)
                if last and not waiting:
                    i, count = _strip(rows, s0, strips)
                    activate(way, slopes(product, j0), at(out, i, j0), count, j1 - j0)
    if kind == FORWARD and waiting:
        activate(way, product.alpha, out, rows, cols)
    keep(space)


@njit(**INTERNAL)
def _one_row(product):
    """A forward product with a batch of one: the weights pass by once, row after row."""
    y, bias = carray(product.out.data, product.cols), carray(product.bias, product.cols)
    for j in range(product.cols):
        y[j] = bias[j]
    p = 0
    while p < product.depth:
        count = COMBINED if product.depth - p >= COMBINED else 1
        x = at(product.left, 0, p).data
        combine(x, at(product.right, p, 0), product.out.data, count, product.cols)
        p += count
    activate(product.way, product.alpha, product.out, 1, product.cols)


@njit(**INTERNAL, inline="always")
def _dots(product):
    """A product by dot products of rows: of dz and the weights, or of x and the few columns of the
    weights, which are transposed first.
    """
    kind, way, rows, depth = product.kind, product.way, product.rows, product.depth
    left, right, bias, alpha = product.left, product.right, product.bias, product.alpha
    lanes = VECTOR_BYTES // _itemsize(product)
    step = _round_up(depth, lanes)
    formed = kind == INPUT and way != IDENTITY
    transposed = kind == FORWARD
    size = rows * depth * formed + step * _round_up(product.cols, lanes) * transposed
    space = _workspace(product, size)
    if formed:
        form(way, alpha, left, product.saved, rows, depth, address(space))
        left = Matrix(address(space), depth)
    if transposed:
        transpose(right, depth, product.cols, Matrix(address(space), step))
        right = Matrix(address(space), step)
    strips = (rows + DOT_HEIGHT - 1) // DOT_HEIGHT
    for j in range(0, product.cols, DOT_CHUNK):
        cols = min(DOT_CHUNK, product.cols - j)
        added = advance(bias, j) if kind == FORWARD else nowhere(bias)
        for s in range(strips):
            i, count = _strip(rows, s, strips)
            dot(at(left, i, 0), at(right, j, 0), at(product.out, i, j), depth, count, cols, added)
    if kind == FORWARD:
        activate(way, alpha, product.out, rows, product.cols)
    keep(space)


@njit(**INTERNAL)
def _plan(product):
    """How to compute the product, and in how many blocks of depth of about equal size, so that a
    strip fills L1: the fewer, the less often `out` is read and written.
    """
    kind, rows, cols, depth = product.kind, product.rows, product.cols, product.depth
    itemsize = _itemsize(product)
    lanes = VECTOR_BYTES // itemsize
    in_place = kind == FORWARD and rows <= IN_PLACE_ROWS
    if kind == FORWARD and rows == 1:
        return ONE_ROW, 1
    if (
        kind == FORWARD
        and cols <= (1 if in_place else DOT_VECTORS) * lanes
        and depth >= DEEP * cols
    ):
        return DOTS, 1
    if kind == INPUT and rows <= DOT_ROWS and depth >= DEEP * rows:
        return DOTS, 1
    most = caches.L1 // (_round_up(HEIGHT, lanes) * itemsize)
    if in_place or (kind == WEIGHT and cols <= 2 * lanes):
        most = IN_PLACE_DEPTH
    blocks = max(1, (depth + most // 2) // most)
    return IN_PLACE if in_place else PACKED, blocks


@njit(**INTERNAL)
def _grid(product, how):
    """Into how many parts, downwards and across, the threads cut `out`: those that pack least
    twice. Forming dz makes its side of the product twice as dear.
    """
    # Fewer than 16 rows cost as much as 16: the time to read or write the weights.
    rows, cols, kind = product.rows, product.cols, product.kind
    batch = product.depth if kind == WEIGHT else rows
    work = product.rows * cols * product.depth // max(1, batch) * max(batch, 16)
    threads = max(1, min(thread_count(), work // THREAD_WORK))
    best, least = (1, threads), np.inf
    for down in range(1, threads + 1):
        across = threads // down
        twice = down * cols * (1 + (kind == WEIGHT)) + across * rows * (1 + (kind == INPUT))
        if how == DOTS and kind == INPUT:
            twice = down  # every part down reads all weights
        if down * across == threads and twice < least:
            best, least = (down, across), twice
    return best


def _arguments(pointer):
    """The types of a pointer to elements, a pointer to a Product, and six numbers."""
    return pointer, types.CPointer(product_type(pointer)), *[types.intp] * 6


@by_symbol(lambda pointer: types.void(*_arguments(pointer)))
def _part(elements, place, how, blocks, i0, i1, j0, j1):
    """out[i0:i1, j0:j1] by the calling thread."""
    product = part(loaded(place), i0, i1, j0, j1)
    if how == ONE_ROW:
        _one_row(product)
    elif how == DOTS:
        _dots(product)
    else:
        _tiles(product, how == IN_PLACE, blocks)


@njit(**INTERNAL, parallel=True)
def _parts(elements, place, how, blocks, rows, cols, down, across):
    units = (cols + 15) // 16  # parts begin at whole vectors
    for t in prange(down * across):
        r, c = t // across, t % across
        _part(
            elements, place, how, blocks, rows * r // down, rows * (r + 1) // down,
            min(cols, units * c // across * 16), min(cols, units * (c + 1) // across * 16),
        )  # fmt: skip


@by_symbol(lambda pointer: types.void(*_arguments(pointer)[:2]))
def _product(elements, place):
    product = loaded(place)
    how, blocks = _plan(product)
    down, across = _grid(product, how)
    if down * across == 1:
        _part(elements, place, how, blocks, 0, product.rows, 0, product.cols)
    else:
        _parts(elements, place, how, blocks, product.rows, product.cols, down, across)


@cache
def ready(dtype):
    """Compiles the products for a dtype, which has to be done before the first of its kind."""
    symbol.ready(dtype, _part, _product)


@njit(**INTERNAL)
def _matrix(array):
    return Matrix(address(array), array.shape[1])


@njit(**OPTIONS)
def forward(x, weight, bias, way, alpha, y):
    """y = act(x @ weight + bias)."""
    (batch, fan_in), fan_out = x.shape, y.shape[1]
    product = Product(
        FORWARD, batch, fan_out, fan_in, _matrix(x), _matrix(weight), _matrix(y),
        address(bias), False, way, address(alpha), _matrix(y),
    )  # fmt: skip
    _product(address(y), stored(product))


@njit(**OPTIONS)
def backward_input(dy, weight, saved, way, alpha, dx):
    """dx = dz @ weight.T with dz = dy * act'(saved)."""
    (batch, fan_in), fan_out = dx.shape, dy.shape[1]
    product = Product(
        INPUT, batch, fan_in, fan_out, _matrix(dy), _matrix(weight), _matrix(dx),
        address(dy), False, way, address(alpha), _matrix(saved),
    )  # fmt: skip
    _product(address(dx), stored(product))


@njit(**OPTIONS)
def backward_weight(dy, x, saved, way, alpha, dweight, dbias):
    """dweight = x.T @ dz and dbias = dz.sum(0) with dz = dy * act'(saved)."""
    (batch, fan_in), fan_out = x.shape, dy.shape[1]
    product = Product(
        WEIGHT, fan_in, fan_out, batch, _matrix(x), _matrix(dy), _matrix(dweight),
        address(dbias), True, way, address(alpha), _matrix(saved),
    )  # fmt: skip
    _product(address(dbias), stored(product))


@njit(**OPTIONS)
def backward(dy, x, weight, saved, way, alpha, dx, dweight, dbias):
    """Both backward products."""
    backward_input(dy, weight, saved, way, alpha, dx)
    backward_weight(dy, x, saved, way, alpha, dweight, dbias)
