"""What one thread does to compute a matrix product: the loops around the register tile.

A block of `right` is packed into panels as wide as the tile, then each strip of `left`, as high as
the tile, is packed into L1 and swept across the panels, which stream from L2 or L3 (Goto and van de
Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008; they keep a panel of
`right` in L1 instead: with two vectors a step the longer depth that fits when the narrow strip
stays pays more). Bias is added while the tile is in registers, the activation applied to a strip
that is still in cache, and dz formed a few rows at a time on its activation_id into a panel.
"""

from typing import NamedTuple

import numpy as np
from numba import carray, njit

from ...catalog import IDENTITY
from ..codegen import caches
from ..codegen.jit import INTERNAL
from ..codegen.vectors import VECTOR_BYTES, Matrix, address, advance, aligned, at, keep, nowhere
from .microkernel import HEIGHT, LOW_HEIGHT, copying_tile, tile
from .packing import FORMED, activate, fetch, pack_left, pack_right
from .product import FORWARD, INPUT, WEIGHT, slopes

# Where tiles find the right operand: packed beforehand; where it lies, from which the first strip
# leaves each panel packed for the others; where it lies, by every strip.
PACKED, COPIED, IN_PLACE = range(3)
# Bytes of the packed block of `right`.
RIGHT_BYTES = max(caches.L2, caches.L3 // 2)
# Depth of a product from which time goes into multiplying, not into writing the gradient in order.
WAITING_DEPTH = 64
# Panels up to which the weight gradient's left operand is read in place: packing it would not pay.
FEW_PANELS = 4


@njit(**INTERNAL)
def round_up(count, unit):
    return (count + unit - 1) // unit * unit


@njit(**INTERNAL)
def strip_of(rows, s, strips):
    """First row and number of rows of a strip; all have about the same height."""
    i = rows * s // strips
    return i, rows * (s + 1) // strips - i


@njit(**INTERNAL)
def itemsize_of(product):
    return carray(product.out.data, 1).itemsize


@njit(**INTERNAL)
def workspace_of(product, size):
    """(pointer to so many elements, what has to be kept while they are used)."""
    kept = carray(product.out.data, 0)
    if size <= product.workspace_size:
        return product.workspace, kept
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
    size: int  # of the workspace


@njit(**INTERNAL)
def blocking(product, how, blocks):
    """The Blocking for a depth that is cut into so many blocks.

    Where all strips fit L2 they wait there, while panels of `right` come by one at a time, as they
    do where those are not packed beforehand; otherwise one strip at a time stays in L1, while a
    block of panels comes by.
    """
    kind, rows, cols, itemsize = product.kind, product.rows, product.cols, itemsize_of(product)
    lanes = VECTOR_BYTES // itemsize
    height = round_up(min(rows, HEIGHT), lanes)
    width = (4 if how != PACKED and rows <= LOW_HEIGHT else 2) * lanes
    strips = (rows + HEIGHT - 1) // HEIGHT
    depth = round_up((product.depth + blocks - 1) // blocks, lanes)
    strip = depth * height
    panel = depth * width + lanes  # a whole number of pages apart they would share few cache lines
    waiting = strips * strip * itemsize <= caches.L2 // 2
    waiting = waiting and (kind != WEIGHT or product.depth >= WAITING_DEPTH)
    waiting = waiting or how != PACKED
    group = max(1, strips) if waiting else 1
    block = width
    if kind == WEIGHT or not waiting:
        block *= max(1, RIGHT_BYTES // (max(1, depth) * itemsize) // width)
    panels = (min(cols, block) + width - 1) // width if how != IN_PLACE else 0
    formed = 0
    if product.activation_id != IDENTITY and kind != FORWARD:
        formed = HEIGHT * depth if kind == INPUT else max(FORMED, panels * width)
    size = 1 + lanes + group * strip + panels * panel + formed
    return Blocking(height, width, strips, strip, group, waiting, block, panels, panel, size)


@njit(**INTERNAL, inline="always")  # spares LLVM one more pass over the tile
def tiles(product, how, blocks):
    """The product by tiles, the right operand PACKED, COPIED or IN_PLACE, its depth in so many
    blocks.
    """
    kind, rows, cols = product.kind, product.rows, product.cols
    activation_id, out, bias = product.activation_id, product.out, product.bias
    cut = blocking(product, how, blocks)
    height, width, strips, strip, group, waiting, block, panels, panel, size = cut
    # Rows of x are columns of its transpose: the weight gradient can read them in place. The first
    # panel does, multiplying while they come from memory; then they are near, and are packed.
    packs_later = kind == WEIGHT and cols > FEW_PANELS * width
    copies = how == COPIED and strips > 1
    # The rows of x that are packed next come near while the last panels pass, one beside each, or
    # more where these are few: they are read side by side, which processors do not foresee. Those
    # of dy and saved are formed one after the other.
    fetches = kind == FORWARD and how == PACKED and not waiting

    workspace, kept = workspace_of(product, size)
    carray(workspace, 1)[0] = 1
    one = Matrix(workspace, 0)
    lefts = aligned(advance(workspace, 1))
    packed = Matrix(advance(lefts, group * strip), width)
    dz = advance(packed.data, panels * panel)
    for d in range(blocks):
        p0, p1 = product.depth * d // blocks, product.depth * (d + 1) // blocks
        last = kind == FORWARD and d == blocks - 1
        for j0 in range(0, cols, block):
            j1 = min(cols, j0 + block)
            if how == PACKED:
                pack_right(product, p0, p1, j0, j1, packed, panel, dz)
            for s0 in range(0, max(1, strips), group):
                s1 = min(strips, s0 + group)
                if kind != WEIGHT and (not waiting or j0 == 0):
                    for s in range(s0, s1):
                        a = Matrix(advance(lefts, (s - s0) * strip), height)
                        i, count = strip_of(rows, s, strips)
                        pack_left(product, i, count, p0, p1, a, dz)
                for j in range(j0, j1, width):
                    b, n = at(packed, 0, (j - j0) // width * panel), min(width, j1 - j)
                    if product.sums and s0 == 0:
                        dbias = Matrix(advance(bias, j), 0)
                        tile(one, b, dbias, p1 - p0, 1, n, d > 0, nowhere(bias), 0)
                    if fetches:
                        after, i = (j1 - 1 - j) // width, strip_of(rows, s1, strips)[0]
                        for row in range(i + after, min(rows, i + HEIGHT), panels):
                            fetch(at(product.left, row, p0), p1 - p0)
                    added = advance(bias, j) if last else nowhere(bias)
                    for s in range(s0, s1):
                        a = Matrix(advance(lefts, (s - s0) * strip), height)
                        i, count = strip_of(rows, s, strips)
                        first = kind == WEIGHT and (j == j0 or not packs_later)
                        left = at(product.left, p0, i) if first else a
                        c, there = at(out, i, j), at(product.right, p0, j)
                        if how == PACKED or (copies and s > 0 and n == width):
                            tile(left, b, c, p1 - p0, count, n, d > 0, added, 8 * width)
                        elif copies and n == width:
                            copying_tile(a, there, c, p1 - p0, count, d > 0, added, width, b.data)
                        else:
                            tile(a, there, c, p1 - p0, count, n, d > 0, added, width)
                        if first and packs_later:
                            pack_left(product, i, count, p0, p1, a, dz)
                if last and not waiting:
                    i, count = strip_of(rows, s0, strips)
                    activate(activation_id, slopes(product, j0), at(out, i, j0), count, j1 - j0)
    if kind == FORWARD and waiting:
        activate(activation_id, product.alpha, out, rows, cols)
    keep(kept)
