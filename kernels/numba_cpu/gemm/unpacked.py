"""Matrix products too small to pay for packing: every operand is read where it lies.

The register tile is that of microkernel, but for the left operand: its elements are broadcast one
by one, so any two strides will do, and one function serves x W, x^T dz and dz W^T.
"""

from functools import partial

from numba import types
from numba.extending import intrinsic

from ..codegen.symbol import by_symbol
from ..codegen.vectors import I64, VECTOR_BYTES, advance, emitted
from .microkernel import HEIGHT


@emitted
def _tile(emit, a, a_row, a_step, b, b_step, c, c_step, rows, cols, depth, start, start_step):
    """`product` for rows <= HEIGHT and cols <= two vectors."""
    builder, width = emit.builder, emit.width

    def row_of(pointer, step, r):
        return emit.offset(pointer, builder.mul(I64(r), step))

    def fixed(height, vectors):
        masks = [None] * (vectors - 1) + [emit.lanes(builder.sub(cols, I64((vectors - 1) * width)))]
        lines = [row_of(a, a_row, r) for r in range(height)]

        def loaded(row):
            return [emit.load(emit.offset(row, v * width), masks[v]) for v in range(vectors)]

        def step(p, b_row, *sums):
            row, place, sums = loaded(b_row), builder.mul(p, a_step), list(sums)
            for r in range(height):
                factor = emit.broadcast(emit.offset(lines[r], place))
                for v in range(vectors):
                    n = r * vectors + v
                    sums[n] = emit.multiply_add(factor, row[v], sums[n])
            return [emit.offset(b_row, b_step), *sums]

        starts = [value for r in range(height) for value in loaded(row_of(start, start_step, r))]
        _, *sums = emit.loop(depth, step, [b, *starts])
        for n, value in enumerate(sums):
            r, v = divmod(n, vectors)
            emit.store(value, emit.offset(row_of(c, c_step, r), v * width), masks[v])

    wide = builder.zext(emit.less(I64(width), cols), I64)
    emit.choose(
        builder.add(builder.mul(rows, I64(2)), wide),
        {
            2 * height + vectors - 1: partial(fixed, height, vectors)
            for height in range(1, HEIGHT + 1)
            for vectors in (1, 2)
        },
    )


_N = types.intp


@intrinsic
def lanes(typing_context, pointer):
    """The number of elements in a vector."""
    count = VECTOR_BYTES // (pointer.dtype.bitwidth // 8)
    return types.intp(pointer), lambda *_: I64(count)


@by_symbol(lambda p: types.void(p, _N, _N, p, _N, p, _N, _N, _N, _N, p, _N))
def product(a, a_row, a_step, b, b_step, c, c_step, rows, cols, depth, start, start_step):
    """c[r, j] = start[r * start_step + j] + sum_p a[r * a_row + p * a_step] b[p * b_step + j].

    All but the strides are pointers and counts of elements. start_step = 0 adds one row, such as a
    bias, to all; start may be c.
    """
    width = 2 * lanes(a)
    strips = (rows + HEIGHT - 1) // HEIGHT
    for j in range(0, cols, width):
        part = min(width, cols - j)
        for s in range(strips):
            i = rows * s // strips
            height = rows * (s + 1) // strips - i
            _tile(
                advance(a, i * a_row), a_row, a_step, advance(b, j), b_step,
                advance(c, i * c_step + j), c_step, height, part, depth,
                advance(start, i * start_step + j), start_step,
            )  # fmt: skip
