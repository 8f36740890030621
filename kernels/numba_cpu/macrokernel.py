"""What one thread does to compute a matrix product: the loops around the register tile, and two
ways without it.

A block of `right` is packed into panels as wide as the tile, then each strip of `left`, as high as
the tile, is packed into L1 and swept across the panels, which stream from L2 or L3 (Goto and van de
Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008; they keep a panel of
`right` in L1 instead: with two vectors a step the longer depth that fits when the narrow strip
stays pays more). Bias is added while the tile is in registers, the activation applied to a strip
that is still in cache, and dz formed a few rows at a time on its way into a panel.
"""

from typing import NamedTuple

import numpy as np
from numba import carray, njit

from ..interface import IDENTITY
from . import caches
from .jit import INTERNAL
from .microkernel import COMBINED, DOT_HEIGHT, HEIGHT, LOW_HEIGHT, combine, dot, tile
from .packing import FORMED, activate, form, pack_left, pack_right, transpose
from .product import FORWARD, INPUT, WEIGHT, slopes
from .vectors import VECTOR_BYTES, Matrix, address, advance, aligned, at, keep, nowhere

# Bytes of the packed block of `right`.
RIGHT_BYTES = max(caches.L2, caches.L3 // 2)
# Depth of a product from which time goes into multiplying, not into writing the gradient in order.
WAITING_DEPTH = 64
# Panels up to which the weight gradient's left operand is read in place: packing it would not pay.
FEW_PANELS = 4
# Columns up to which a row of the weights is short.
SHORT = 256
# Rows of the weights that stay in cache while the rows of dz are multiplied with them.
DOT_CHUNK = 64


@njit(**INTERNAL)
def round_up(count, unit):
    return (count + unit - 1) // unit * unit


@njit(**INTERNAL)
def _strip(rows, s, strips):
    """First row and number of rows of a strip; all have about the same height."""
    i = rows * s // strips
    return i, rows * (s + 1) // strips - i


@njit(**INTERNAL)
def itemsize_of(product):
    return carray(product.out.data, 1).itemsize


@njit(**INTERNAL)
def _work_space(product, size):
    """(pointer to so many elements, what has to be kept while they are used)."""
    kept = carray(product.out.data, 0)
    if size <= product.room:
        return product.space, kept
    kept = np.empty(size, kept.dtype)
    return address(kept), kept


class Blocking(NamedTuple):
    """How `tiles` cuts a product; sizes in elements."""

    height: int  # of a packed strip
    width: int  # of a panel
    strips: int
    strip: int
    group: int  # strips that wait in L2; 1: one at a time stays in L1
    waiting: bool
    block: int  # columns of `right` that are packed at a time
    panels: int  # of them
    panel: int
    size: int  # of the work space


@njit(**INTERNAL)
def blocking(product, in_place, blocks):
    """The Blocking for a depth that is cut into so many blocks.

    Where all strips fit L2 they wait there, while panels of `right` come by one at a time;
    otherwise one strip at a time stays in L1, while a block of panels comes by.
    """
    kind, rows, cols, itemsize = product.kind, product.rows, product.cols, itemsize_of(product)
    lanes = VECTOR_BYTES // itemsize
    height = round_up(min(rows, HEIGHT), lanes)
    width = (4 if in_place and rows <= LOW_HEIGHT else 2) * lanes
    strips = (rows + HEIGHT - 1) // HEIGHT
    depth = round_up((product.depth + blocks - 1) // blocks, lanes)
    strip = depth * height
    panel = depth * width + lanes  # a whole number of pages apart they would share few cache lines
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
    size = 1 + lanes + group * strip + panels * panel + formed
    return Blocking(height, width, strips, strip, group, waiting, block, panels, panel, size)


@njit(**INTERNAL, inline="always")  # spares LLVM one more pass over the tile
def tiles(product, in_place, blocks):
    """The product by tiles, the right operand packed or in place, its depth in so many blocks."""
    kind, rows, cols = product.kind, product.rows, product.cols
    way, out, bias = product.way, product.out, product.bias
    cut = blocking(product, in_place, blocks)
    height, width, strips, strip, group, waiting, block, panels, panel, size = cut
    # Rows of x are columns of its transpose: the weight gradient can read them in place. The first
    # panel does, multiplying while they come from memory; then they are near, and are packed.
    packs_later = kind == WEIGHT and cols > FEW_PANELS * width

    space, kept = _work_space(product, size)
    carray(space, 1)[0] = 1
    one = Matrix(space, 0)
    lefts = aligned(advance(space, 1))
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
                if kind != WEIGHT and (not waiting or j0 == 0):
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
                        first = kind == WEIGHT and (j == j0 or not packs_later)
                        left = at(product.left, p0, i) if first else a
                        tile(left, b, at(out, i, j), p1 - p0, count, n, d > 0, added, ahead)
                        if first and packs_later:
                            pack_left(product, i, count, p0, p1, a, dz)
                if last and not waiting:
                    i, count = _strip(rows, s0, strips)
                    activate(way, slopes(product, j0), at(out, i, j0), count, j1 - j0)
    if kind == FORWARD and waiting:
        activate(way, product.alpha, out, rows, cols)
    keep(kept)


@njit(**INTERNAL)
def one_row(product):
    """A forward product with a batch of one: the weights pass by once, row after row."""
    y, bias = carray(product.out.data, product.cols), carray(product.bias, product.cols)
    for j in range(product.cols):
        y[j] = bias[j]
    most = COMBINED[0] if product.cols <= SHORT else COMBINED[1]
    p = 0
    while p < product.depth:
        count = most if product.depth - p >= most else 1
        x = at(product.left, 0, p).data
        combine(x, at(product.right, p, 0), product.out.data, count, product.cols)
        p += count
    activate(product.way, product.alpha, product.out, 1, product.cols)


@njit(**INTERNAL)
def dots_size(product):
    """Elements of the work space of `dots`."""
    lanes = VECTOR_BYTES // itemsize_of(product)
    if product.kind == FORWARD:
        return round_up(product.depth, lanes) * round_up(product.cols, lanes)
    return product.rows * product.depth if product.way != IDENTITY else 0


@njit(**INTERNAL, inline="always")
def dots(product):
    """A product by dot products of rows: of dz and the weights, or of x and the few columns of the
    weights, which are transposed first.
    """
    kind, way, rows, depth = product.kind, product.way, product.rows, product.depth
    left, right, bias, alpha = product.left, product.right, product.bias, product.alpha
    step = round_up(depth, VECTOR_BYTES // itemsize_of(product))
    space, kept = _work_space(product, dots_size(product))
    if kind == INPUT and way != IDENTITY:
        form(way, alpha, left, product.saved, rows, depth, space)
        left = Matrix(space, depth)
    if kind == FORWARD:
        transpose(right, depth, product.cols, Matrix(space, step))
        right = Matrix(space, step)
    strips = (rows + DOT_HEIGHT - 1) // DOT_HEIGHT
    for j in range(0, product.cols, DOT_CHUNK):
        cols = min(DOT_CHUNK, product.cols - j)
        added = advance(bias, j) if kind == FORWARD else nowhere(bias)
        for s in range(strips):
            i, count = _strip(rows, s, strips)
            dot(at(left, i, 0), at(right, j, 0), at(product.out, i, j), depth, count, cols, added)
    if kind == FORWARD:
        activate(way, alpha, product.out, rows, product.cols)
    keep(kept)
