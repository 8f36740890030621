"""Operands of a matrix product on their way: into the order in which the register tile reads them,
and through the activation or its derivative, a few rows at a time.
"""

from numba import njit

from ...catalog import IDENTITY
from ..activation_rows import activate as activate_pieces
from ..activation_rows import differentiate
from ..codegen.jit import INTERNAL
from ..codegen.vectors import I64, Matrix, at, emitted
from .product import INPUT, WEIGHT, slopes

# Elements of dz that are formed before they are packed.
FORMED = 4096
# Bytes of a cache line, and of the part of a vector within which x86 moves elements cheaply.
LINE, PART = 64, 16


@emitted
def copy(emit, a, rows, cols, packed):
    """packed[i, j] = a[i, j] for i < rows, j < cols; 0 up to the next whole vector."""
    builder, width = emit.builder, emit.width
    whole = builder.and_(cols, I64(-width))
    is_ragged, mask = emit.less(whole, cols), emit.lanes(builder.sub(cols, whole))

    def row(_, source, target):
        def part(j):
            emit.store(emit.load(emit.offset(source, j)), emit.offset(target, j))

        emit.loop(whole, part, step=width)
        with builder.if_then(is_ragged):
            emit.store(emit.load(emit.offset(source, whole), mask), emit.offset(target, whole))
        return emit.offset(source, a.step), emit.offset(target, packed.step)

    emit.loop(rows, row, (a.data, packed.data))


@emitted
def fetch(emit, a, cols):
    """Asks for the cache lines of a[0, :cols]."""
    emit.loop(cols, lambda j: emit.prefetch(emit.offset(a.data, j)), step=LINE // emit.align)


@emitted
def transpose(emit, a, rows, cols, packed):
    """packed[j, i] = a[i, j] for i < rows, j < cols.

    Writes whole blocks of one vector by one vector: rows and columns beyond the given ones hold
    copies of the last row, and zeros. `packed` needs room for both counts rounded up to vectors.
    """
    _transpose(emit, a, rows, cols, packed)


@emitted
def transpose_within(emit, a, rows, cols, out):
    """out[j, i] = a[i, j] for i < rows, j < cols, and nothing else is written."""
    _transpose(emit, a, rows, cols, out, within=True)


def _interleaved(emit, lines, size):
    """The transpose of pieces of as many elements, each of `size` lanes, as there are lines: line n
    is interleaved with line n + count / 2, log2(count) times over.
    """
    count, width = len(lines), emit.width
    ways = [
        [
            k % 2 * width + piece + (k + high) // 2 * size + lane
            for piece in range(0, width, count * size)
            for k in range(count)
            for lane in range(size)
        ]
        for high in (0, count)
    ]
    for _ in range(count.bit_length() - 1):
        pairs = list(zip(lines[: count // 2], lines[count // 2 :], strict=True))
        lines = [emit.shuffle(*pair, lanes) for pair in pairs for lanes in ways]
    return lines


def _transposed(emit, lines):
    """The transpose of one vector by one vector. What crosses parts of 16 bytes is dear on
    x86: within each elements are transposed, then whole parts.
    """
    count = PART // emit.align
    groups = [_interleaved(emit, lines[n : n + count], 1) for n in range(0, len(lines), count)]
    parts = [_interleaved(emit, list(part), count) for part in zip(*groups, strict=True)]
    return [line for part in zip(*parts, strict=True) for line in part]


def _transpose(emit, a, rows, cols, packed, within=False):
    builder, width = emit.builder, emit.width
    last_row = builder.sub(rows, I64(1))
    whole = builder.and_(cols, I64(-width))

    def block(i, j, mask=None):
        places = [emit.least(builder.add(i, I64(r)), last_row) for r in range(width)]
        lines = [emit.load(emit.at(a, place, j), mask) for place in places]
        lines = _transposed(emit, lines)
        for p, line in enumerate(lines):
            row, left = builder.add(j, I64(p)), builder.sub(rows, i)
            if within:  # no lane of a row beyond
                left = builder.select(emit.less(row, cols), left, I64(0))
            stored = emit.lanes(left) if within else None
            emit.store(line, emit.at(packed, row, i), stored)

    def row_of_blocks(i):
        emit.loop(whole, lambda j: block(i, j), step=width)
        with builder.if_then(emit.less(whole, cols)):
            block(i, whole, emit.lanes(builder.sub(cols, whole)))

    emit.loop(rows, row_of_blocks, step=width)


@njit(**INTERNAL)
def activate(activation_id, alpha, y, rows, cols):
    """y = act(y); alpha begins with the slope of the first column, where they differ."""
    if activation_id != IDENTITY:
        activate_pieces(y.data, activation_id, y.step, y.data, y.step, alpha, rows, cols)


@njit(**INTERNAL)
def form(activation_id, alpha, dy, saved, rows, cols, dz):
    """dz = dy * act'(saved), its rows end to end; alpha as in activate, saved.step is dy.step."""
    data, step = saved.data, saved.step
    differentiate(dy.data, activation_id, dy.step, data, step, dz, cols, alpha, rows, cols)


@njit(**INTERNAL)
def pack_left(product, i, rows, p0, p1, packed, dz):
    """Rows i to i + rows and columns p0 to p1 of the left operand, as columns."""
    left = product.left
    if product.kind == WEIGHT:
        copy(at(left, p0, i), p1 - p0, rows, packed)
        return
    left = at(left, i, p0)
    if product.kind == INPUT and product.activation_id != IDENTITY:
        saved = at(product.saved, i, p0)
        form(product.activation_id, slopes(product, p0), left, saved, rows, p1 - p0, dz)
        left = Matrix(dz, p1 - p0)
    transpose(left, rows, p1 - p0, packed)


@njit(**INTERNAL)
def pack_right(product, p0, p1, j0, j1, packed, panel, dz):
    """Rows p0 to p1 and columns j0 to j1 of the right operand, in panels of packed.step columns.
    Panel n begins at packed + n * panel.
    """
    right, width = product.right, packed.step
    if product.kind == INPUT:
        for n, j in enumerate(range(j0, j1, width)):
            transpose(at(right, j, p0), min(width, j1 - j), p1 - p0, at(packed, 0, n * panel))
        return
    formed = product.kind == WEIGHT and product.activation_id != IDENTITY
    chunk = max(1, FORMED // (j1 - j0) if formed else p1 - p0)
    for p in range(p0, p1, chunk):
        rows = min(chunk, p1 - p)
        source = at(right, p, j0)
        if formed:
            saved = at(product.saved, p, j0)
            form(product.activation_id, slopes(product, j0), source, saved, rows, j1 - j0, dz)
            source = Matrix(dz, j1 - j0)
        for n, j in enumerate(range(0, j1 - j0, width)):
            target = at(packed, p - p0, n * panel)
            copy(at(source, 0, j), rows, min(width, j1 - j0 - j), target)
