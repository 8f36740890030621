"""The three matrix products of a dense layer, by one thread or several.

    forward          y = act(x @ weight + bias)
    backward_input   dx = dz @ weight.T                      with dz = dy * act'(saved)
    backward_weight  dweight = x.T @ dz, dbias = dz.sum(0)

All three are out[rows, cols] = left @ right over a depth. Here is decided how to compute them: by
register tiles over packed operands; for few rows over weights in place, which do not pay for being
packed; by dot products, where few rows or columns share an operand; row by row for a batch of one;
as the transpose of a gradient with few columns; and into which parts the threads cut `out`.

Each element is summed in the order of depth, in blocks that depend only on the sizes of the whole
product: results do not depend on the number of threads. Every thread packs what it needs for its
own part of `out`; nothing is shared and nothing waits.
"""

from functools import cache
from math import gcd

import numpy as np
from numba import njit, prange, types

from ..codegen import caches, symbol
from ..codegen.jit import INTERNAL, OPTIONS
from ..codegen.symbol import by_symbol, loaded, stored
from ..codegen.threads import thread_count
from ..codegen.vectors import VECTOR_BYTES, Matrix, address
from .macrokernel import COPIED, IN_PLACE, PACKED, blocking, itemsize_of, round_up, tiles
from .microkernel import HEIGHT
from .packing import LINE
from .product import FORWARD, INPUT, WEIGHT, Product, part, product_type
from .thin import dots, dots_size, one_row, outer, transposed_product, transposed_size

# How, beside tiles: dot products; one row times the weights; the gradient by one row; its
# transpose.
DOTS, ONE_ROW, OUTER, TURNED = range(IN_PLACE + 1, IN_PLACE + 5)

# Cycles that a cache line takes from L2 and from L3 at best: 32 and 16 bytes a cycle, as cores with
# AVX2 or more have had since Haswell and Zen.
NEAR, FAR = 2, 4
# Of the time that a strip multiplies with a copied panel, the lines of `out`, loaded and stored,
# take at most about one part in so many.
OUT_SHARE = 64
# Misses that a line too many leads to where lines pass through a set in a circle: 2 if it replaces
# any of its lines (of a share e too many, m are missed with 1 - m = exp(-(1 + e) m)), all lines of
# the set if it replaces the oldest. From 2 to 8 the way of 512 x 512 alone changes on a Zen 5, at
# 16 to 64 rows, by 8% of its time at most.
MISSES = 4
# Rows of x that pass at a time where the gradient has few columns.
FEW_DEPTH = 128
# Dot products have a sum over their lanes at the end: they are taken where the depth is so many
# times the rows or columns that share an operand. These are backward_input's rows, up to DOT_ROWS,
# and forward's columns, up to so many vectors, or one where all rows fit into one strip.
DEEP = 4
DOT_ROWS = 32
DOT_VECTORS = 3
# Multiply-adds that are worth a thread: what one does while a parallel region begins and ends,
# several times over.
THREAD_WORK = 500_000


@njit(**INTERNAL)
def _blocks(depth, most):
    """Blocks of about equal size, of so many steps at most, or an eighth more."""
    return max(1, (depth + most - 1 - most // 8) // most)


@njit(**INTERNAL)
def copies_pay(product, blocks, waits):
    """Whether strips after the first would wait for weights in place, where `waits` bytes of
    strips are in L2 as well.

    A strip multiplies for as many cycles a step as it has rows, two vectors by one at a time; the
    step needs the cache lines of a row of the panel, which begins amid one. They stay in L2 as far
    as they fit: rows that lie a power of two apart fall into few of its sets.
    """
    row, strips = product.right.step * itemsize_of(product), (product.rows + HEIGHT - 1) // HEIGHT
    lines = 2 * VECTOR_BYTES // LINE + 1
    sets = caches.L2 // (LINE * caches.L2_WAYS)
    taken = min(sets, sets * LINE // max(1, gcd(row, sets * LINE)) * lines)
    fit = taken * caches.L2_WAYS * max(0, caches.L2 - waits) / caches.L2
    missing = min(1.0, MISSES * max(0.0, 1 - fit / max(1, product.depth // blocks * lines)))
    return lines * (NEAR + (FAR - NEAR) * missing) * strips > product.rows


@njit(**INTERNAL)
def plan(product):
    """How to compute the product, and in how many blocks of depth of about equal size, so that a
    strip fills L1: the fewer, the less often `out` is read and written.
    """
    kind, rows, cols, depth = product.kind, product.rows, product.cols, product.depth
    itemsize = itemsize_of(product)
    lanes = VECTOR_BYTES // itemsize
    if kind == FORWARD and rows == 1:
        return ONE_ROW, 1
    few_cols = kind == FORWARD and cols <= lanes * (DOT_VECTORS if rows > HEIGHT else 1)
    few_rows = kind == INPUT and rows <= DOT_ROWS
    if (few_cols and depth >= DEEP * cols) or (few_rows and depth >= DEEP * rows):
        return DOTS, 1
    how, across = PACKED, round_up(HEIGHT, lanes) * itemsize  # bytes of a strip for a step of depth
    blocks = _blocks(depth, caches.L1 // across)
    if kind == FORWARD:
        strips = (rows + HEIGHT - 1) // HEIGHT
        deep = _blocks(depth, 2 * caches.L1 // 3 // across)
        shallow = _blocks(depth, OUT_SHARE * 4 * NEAR * VECTOR_BYTES // LINE)
        waits, room = strips * across * (depth // deep), caches.L2 // 2
        if strips <= 1:
            how, blocks = IN_PLACE, deep
        elif copies_pay(product, deep, waits):
            if strips * across * (depth // shallow) <= room:
                # As deep as half of L1 allows a strip, beside the panel that passes, and L2 all.
                most = max(1, min(caches.L1 // 2, room // strips) // across)
                how, blocks = COPIED, min(shallow, (depth + most - 1) // most)
        elif waits <= room:
            how, blocks = IN_PLACE, deep
    elif kind == WEIGHT and cols <= 2 * lanes:
        blocks = _blocks(depth, FEW_DEPTH)
    # Vectors of the result by columns, against those by rows.
    fewer = cols * ((rows + lanes - 1) // lanes) <= rows * ((cols + lanes - 1) // lanes)
    if kind == WEIGHT and 0 < cols < 2 * lanes and fewer:
        return TURNED, blocks
    if kind == WEIGHT and depth == 1:
        return OUTER, 1
    return how, blocks


@njit(**INTERNAL)
def _grid(product, how):
    """Into how many parts, downwards and across, the threads cut `out`: those that pack least
    twice. Forming dz makes the left side of backward_input twice as dear.
    """
    rows, cols, kind = product.rows, product.cols, product.kind
    batch = product.depth if kind == WEIGHT else rows
    # Fewer than 16 rows cost as much as 16: the time to read or write the weights. Forward of one
    # row counts as 2: one thread reads weights that are near almost as fast as two.
    counted = max(batch, 2 if how == ONE_ROW else 16)
    work = rows * cols * product.depth // max(1, batch) * counted
    threads = max(1, min(thread_count(), work // THREAD_WORK))
    best, least = (1, threads), np.inf
    for down in range(1, threads + 1):
        across = threads // down
        twice = down * cols + across * rows * (1 + (kind == INPUT))
        if how == DOTS and kind == INPUT:
            twice = down  # every part down reads all weights
        if how == OUTER:
            twice = across  # whole rows are written in order
        if down * across == threads and twice < least:
            best, least = (down, across), twice
    return best


@njit(**INTERNAL)
def _cut(product, grid, number):
    """The part of that number, which begins and ends at whole vectors."""
    rows, cols, (down, across) = product.rows, product.cols, grid
    r, c, units = number // across, number % across, (cols + 15) // 16
    return part(
        product, number, down * across, rows * r // down, rows * (r + 1) // down,
        min(cols, units * c // across * 16), min(cols, units * (c + 1) // across * 16),
    )  # fmt: skip


def _arguments(pointer):
    """The types of a pointer to elements, a pointer to a Product, and five numbers."""
    return pointer, types.CPointer(product_type(pointer)), *[types.intp] * 5


@by_symbol(lambda pointer: types.void(*_arguments(pointer)))
def _part(elements, place, how, blocks, down, across, number):
    """What is the calling thread's part of the product."""
    product = _cut(loaded(place), (down, across), number)
    if how == ONE_ROW:
        one_row(product)
    elif how == DOTS:
        dots(product)
    elif how == OUTER:
        outer(product)
    elif how == TURNED:
        transposed_product(product, blocks)
    else:
        tiles(product, how, blocks)


@njit(**INTERNAL, parallel=True)
def _parts(elements, place, how, blocks, down, across):
    for number in prange(down * across):
        _part(elements, place, how, blocks, down, across, number)


@by_symbol(lambda pointer: types.void(*_arguments(pointer)[:2]))
def _product(elements, place):
    product = loaded(place)
    how, blocks = plan(product)
    down, across = _grid(product, how)
    if down * across == 1:
        _part(elements, place, how, blocks, 1, 1, 0)
    else:
        _parts(elements, place, how, blocks, down, across)


@njit(**INTERNAL)
def workspace_size(product):
    """Elements of workspace for the product by as many threads as there are now."""
    how, blocks = plan(product)
    grid, most = _grid(product, how), 0
    for number in range(grid[0] * grid[1]):
        mine = _cut(product, grid, number)
        if how == DOTS:
            most = max(most, dots_size(mine))
        elif how == OUTER:
            most = max(most, mine.cols)
        elif how == TURNED:
            most = max(most, transposed_size(mine, blocks))
        elif how != ONE_ROW:
            most = max(most, blocking(mine, how, blocks).size)
    return grid[0] * grid[1] * most


@cache
def ready(dtype):
    """Compiles the products for a dtype, which has to be done before the first of its kind."""
    symbol.ready(dtype, _part, _product)


@njit(**INTERNAL)
def _matrix(array):
    return Matrix(address(array), array.shape[1])


@njit(**INTERNAL)
def forward_product(x, weight, bias, activation_id, alpha, y, workspace, size):
    """y = act(x @ weight + bias), with a workspace of that size."""
    (batch, fan_in), fan_out = x.shape, y.shape[1]
    return Product(
        FORWARD, batch, fan_out, fan_in, _matrix(x), _matrix(weight), _matrix(y),
        address(bias), False, activation_id, address(alpha), _matrix(y), workspace, size,
    )  # fmt: skip


@njit(**INTERNAL)
def input_product(dy, weight, saved, activation_id, alpha, dx, workspace, size):
    """dx = dz @ weight.T with dz = dy * act'(saved)."""
    (batch, fan_in), fan_out = dx.shape, dy.shape[1]
    return Product(
        INPUT, batch, fan_in, fan_out, _matrix(dy), _matrix(weight), _matrix(dx),
        address(dy), False, activation_id, address(alpha), _matrix(saved), workspace, size,
    )  # fmt: skip


@njit(**INTERNAL)
def weight_product(dy, x, saved, activation_id, alpha, dweight, dbias, workspace, size):
    """dweight = x.T @ dz and dbias = dz.sum(0) with dz = dy * act'(saved)."""
    (batch, fan_in), fan_out = x.shape, dy.shape[1]
    return Product(
        WEIGHT, fan_in, fan_out, batch, _matrix(x), _matrix(dy), _matrix(dweight),
        address(dbias), True, activation_id, address(alpha), _matrix(saved), workspace, size,
    )  # fmt: skip


@njit(**INTERNAL)
def compute(product):
    """Writes its result."""
    _product(product.out.data, stored(product))


@njit(**INTERNAL)
def compute_by(product, how, blocks):
    """Writes its result on one thread in this way, whatever `plan` says."""
    _part(product.out.data, stored(product), how, blocks, 1, 1, 0)


@njit(**OPTIONS)
def forward(x, weight, bias, activation_id, alpha, y):
    """forward_product with a workspace of its own."""
    compute(forward_product(x, weight, bias, activation_id, alpha, y, address(y), 0))


@njit(**OPTIONS)
def backward_input(dy, weight, saved, activation_id, alpha, dx):
    """input_product with a workspace of its own."""
    compute(input_product(dy, weight, saved, activation_id, alpha, dx, address(dx), 0))


@njit(**OPTIONS)
def backward_weight(dy, x, saved, activation_id, alpha, dweight, dbias):
    """weight_product with a workspace of its own."""
    compute(weight_product(dy, x, saved, activation_id, alpha, dweight, dbias, address(dbias), 0))


@njit(**OPTIONS)
def backward(dy, x, weight, saved, activation_id, alpha, dx, dweight, dbias):
    """Both backward products."""
    backward_input(dy, weight, saved, activation_id, alpha, dx)
    backward_weight(dy, x, saved, activation_id, alpha, dweight, dbias)
