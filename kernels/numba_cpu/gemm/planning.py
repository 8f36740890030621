"""How a matrix product is computed: in which way, in how many blocks of depth, by which threads.

All of it follows from the product's sizes, the registers and the caches.
"""

from math import gcd

import numpy as np
from numba import njit

from ..codegen import caches
from ..codegen.jit import INTERNAL
from ..codegen.threads import thread_count
from ..codegen.vectors import VECTOR_BYTES
from .macrokernel import COPIED, IN_PLACE, PACKED, itemsize_of, round_up
from .microkernel import HEIGHT
from .packing import LINE
from .product import FORWARD, INPUT, WEIGHT, part

# How, beside tiles: dot products; one row times the weights; the gradient by one row; its
# transpose.
DOTS, ONE_ROW, OUTER, TURNED = range(IN_PLACE + 1, IN_PLACE + 5)

# Cycles that a cache line takes from L2 and from L3 at best: 32 and 16 bytes a cycle, as cores with
# AVX2 or more have had since Haswell and Zen.
NEAR, FAR = 2, 4
# Of the time that a strip multiplies with a copied panel, the lines of `out`, loaded and stored,
# take about one part in so many.
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
    """Blocks of about equal size, of about so many steps at most."""
    return max(1, (depth + most // 2) // most)


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
                how, blocks = COPIED, shallow
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
def grid_of(product, how):
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
def cut(product, grid, number):
    """The part of that number, which begins and ends at whole vectors."""
    rows, cols, (down, across) = product.rows, product.cols, grid
    r, c, units = number // across, number % across, (cols + 15) // 16
    return part(
        product, number, down * across, rows * r // down, rows * (r + 1) // down,
        min(cols, units * c // across * 16), min(cols, units * (c + 1) // across * 16),
    )  # fmt: skip
