"""Matrix products too small to pay for packing: every operand is read where it lies.

The register tile is that of microkernel, but for the left operand: its elements are broadcast one
by one, so any two strides will do, and one function serves x W, x^T dz and dz W^T.
"""

from numba import types
from numba.extending import intrinsic

from .microkernel import HEIGHT, I64, VECTOR_BYTES, _Emitter, _loop, advance
from .symbol import by_symbol


def _emit_tile(
    emit, rows, vectors, a, a_row, a_step, b, b_step, c, c_step, depth, cols, start, start_step
):
    builder, width = emit.builder, emit.width
    masks = [None] * (vectors - 1) + [emit.mask(builder.sub(cols, I64((vectors - 1) * width)))]
    sums = [
        emit.load(emit.offset(emit.offset(start, start_step, r), v * width), masks[v])
        for r in range(rows)
        for v in range(vectors)
    ]
    lines = [emit.offset(a, a_row, r) for r in range(rows)]

    def step(p, carried):
        b, *sums = carried
        row = [emit.load(emit.offset(b, v * width), masks[v]) for v in range(vectors)]
        at = builder.mul(p, a_step)
        for r in range(rows):
            factor = emit.broadcast(emit.offset(lines[r], at))
            for v in range(vectors):
                sums[r * vectors + v] = emit.multiply_add(factor, row[v], sums[r * vectors + v])
        return [emit.offset(b, b_step), *sums]

    _, *sums = _loop(builder, depth, [b, *sums], step)
    for r in range(rows):
        for v in range(vectors):
            place = emit.offset(emit.offset(c, c_step, r), v * width)
            emit.store(sums[r * vectors + v], place, masks[v])


@intrinsic
def widest(typingctx, pointer):
    """Columns of the tile: the elements of two vectors."""
    count = 2 * VECTOR_BYTES // (pointer.dtype.bitwidth // 8)
    return types.intp(pointer), lambda *_: I64(count)


@intrinsic
def _tile(typingctx, a, a_row, a_step, b, b_step, c, c_step, rows, cols, depth, start, start_step):
    """`product` for rows <= HEIGHT and cols <= two vectors."""
    n = types.intp
    signature = types.void(a, n, n, b, n, c, n, n, n, n, a, n)

    def codegen(context, builder, signature, args):
        a, a_row, a_step, b, b_step, c, c_step, rows, cols, depth, start, start_step = args
        emit = _Emitter(context, builder, signature.args[0])
        wide = builder.zext(builder.icmp_signed(">", cols, I64(emit.width)), I64)
        case = builder.add(builder.mul(rows, I64(2)), wide)
        end, unknown = builder.append_basic_block("end"), builder.append_basic_block("unknown")
        switch = builder.switch(case, unknown)
        for height in range(1, HEIGHT + 1):
            for vectors in (1, 2):
                block = builder.append_basic_block(f"tile_{height}x{vectors}")
                switch.add_case(I64(2 * height + vectors - 1), block)
                builder.position_at_end(block)
                _emit_tile(
                    emit, height, vectors, a, a_row, a_step, b, b_step, c, c_step, depth, cols,
                    start, start_step,
                )  # fmt: skip
                builder.branch(end)
        builder.position_at_end(unknown)
        builder.unreachable()
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


_N = types.intp


@by_symbol(lambda p: types.void(p, _N, _N, p, _N, p, _N, _N, _N, _N, p, _N))
def product(a, a_row, a_step, b, b_step, c, c_step, rows, cols, depth, start, start_step):
    """c[r, j] = start[r * start_step + j] + sum_p a[r * a_row + p * a_step] b[p * b_step + j].

    All but the strides are pointers and counts of elements. start_step = 0 adds one row, such as a
    bias, to all; start may be c.
    """
    width = widest(a)
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
