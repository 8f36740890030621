"""The register tile of the matrix product, written as LLVM IR for the host's vector registers.

A processor reaches its peak only if every fused multiply-add finds its operands in registers. The
tile keeps a block of C in registers, `HEIGHT` rows by two vectors, and walks down the common
dimension: at each step it loads one row of B (two vectors) and broadcasts one element of A to each
row,

    c[r, :] += a[p, r] * b[p, :]        r < HEIGHT, p < depth

so that 2 + HEIGHT loads feed 2 * HEIGHT multiply-adds. HEIGHT is what the register file holds
beside one row of B and one broadcast: 14 with AVX-512 (32 registers), 6 with AVX2 (16), 14 with
NEON (32). Each element of C is one chain of multiply-adds in the order of p, whatever the tile's
shape and place, so results do not depend on how a product is cut.

Numba cannot promise that an array of accumulators stays in
registers, hence the IR. All functions take typed pointers (`address`) and strides in elements. None
reads or writes outside of what its arguments describe: ragged edges use masked loads and stores.

    tile       c[rows, cols] (+)= a.T @ b     columns of a contiguous: packed, or transposed
    dot        c[rows, cols] = a @ b.T        both read along their rows, nothing packed
    combine    y[cols] += x @ w               w read once, row by row
    transpose  packs rows as columns, padded to whole vectors
    copy       packs rows as rows, padded to whole vectors with zeros
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)


def _host_features():
    if config.CPU_FEATURES is not None:
        return {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    if config.CPU_NAME == "generic":
        return set()
    return {name for name, present in llvm.get_host_cpu_features().items() if present}


def _vector_unit():
    """Of the host: bytes of a vector register, number of them, whether masked loads are free."""
    features = _host_features()
    if "avx512f" in features:
        return 64, 32, True
    if "avx2" in features and "fma" in features:
        return 32, 16, False
    return 16, 32 if "neon" in features else 16, False


VECTOR_BYTES, REGISTERS, FREE_MASKS = _vector_unit()
HEIGHT = (REGISTERS - 3) // 2
"""Rows of the tile that is two vectors wide."""
LOW_HEIGHT = max(1, (REGISTERS - 5) // 4)
"""Rows up to which the tile may be four vectors wide: few rows need more columns to keep the
multipliers busy.
"""


class _Emitter:
    """Vector operations on one element type, at the builder's current place."""

    def __init__(self, context, builder, pointer_type):
        self.builder = builder
        self.element = context.get_value_type(pointer_type.dtype)
        self.width = VECTOR_BYTES // (4 if isinstance(self.element, ir.FloatType) else 8)
        self.vector = ir.VectorType(self.element, self.width)
        self.align = VECTOR_BYTES // self.width
        self.suffix = f"v{self.width}f{8 * self.align}"
        self.zero = ir.Constant(self.vector, [0.0] * self.width)
        self.undefined = ir.Constant(self.vector, ir.Undefined)

    def _call(self, name, result, *args):
        kind = ir.FunctionType(result, [arg.type for arg in args])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, args)

    def offset(self, pointer, *factors):
        index = I64(1)
        for factor in factors:
            index = self.builder.mul(index, I64(factor) if isinstance(factor, int) else factor)
        return self.builder.gep(pointer, [index])

    def mask(self, count):
        """Lanes whose number is below count."""
        lanes = ir.VectorType(I64, self.width)
        return self.builder.icmp_signed(
            "<", ir.Constant(lanes, list(range(self.width))), self._splat(count, lanes)
        )

    def _splat(self, value, vector):
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def load(self, pointer, mask=None):
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            return self.builder.load(place, align=self.align)
        name = f"llvm.masked.load.{self.suffix}.p0"
        return self._call(name, self.vector, place, I32(self.align), mask, self.zero)

    def store(self, value, pointer, mask=None):
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            self.builder.store(value, place, align=self.align)
        else:
            name = f"llvm.masked.store.{self.suffix}.p0"
            self._call(name, ir.VoidType(), value, place, I32(self.align), mask)

    def broadcast(self, pointer):
        return self._splat(self.builder.load(pointer, align=self.align), self.vector)

    def multiply_add(self, a, b, c):
        return self._call(f"llvm.fma.{self.suffix}", self.vector, a, b, c)

    def is_given(self, pointer):
        return self.builder.icmp_unsigned("!=", pointer, ir.Constant(pointer.type, None))

    def add_if(self, condition, values, others):
        """values + others() where the condition holds, else values."""
        before = self.builder.block
        with self.builder.if_then(condition):
            added = [self.builder.fadd(a, b) for a, b in zip(values, others(), strict=True)]
            inside = self.builder.block
        phis = [self.builder.phi(self.vector) for _ in values]
        for phi, value, new in zip(phis, values, added, strict=True):
            phi.add_incoming(value, before)
            phi.add_incoming(new, inside)
        return phis

    def prefetch(self, pointer, for_writing=False):
        """Asks for the cache line of an address, which need not exist."""
        place = self.builder.bitcast(pointer, ir.IntType(8).as_pointer())
        self._call("llvm.prefetch.p0", ir.VoidType(), place, I32(int(for_writing)), I32(3), I32(1))

    def shuffle(self, a, b, lanes):
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


def _loop(builder, count, start, body, step=1):
    """Emits `for i in range(0, count, step): carried = body(i, carried)` with the carried values
    in registers.
    """
    before = builder.block
    head = builder.append_basic_block("loop")
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", count, I64(0)), head, done)
    builder.position_at_end(head)
    index = builder.phi(I64)
    carried = [builder.phi(value.type) for value in start]
    after = body(index, carried)
    following = builder.add(index, I64(step))
    last = builder.block
    builder.cbranch(builder.icmp_signed("<", following, count), head, done)
    index.add_incoming(I64(0), before)
    index.add_incoming(following, last)
    builder.position_at_end(done)
    results = []
    for phi, first, value in zip(carried, start, after, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(value, last)
        result = builder.phi(value.type)
        result.add_incoming(first, before)
        result.add_incoming(value, last)
        results.append(result)
    return results


@intrinsic
def address(typingctx, array, index):
    """Typed pointer to element `index` of a C-contiguous array's data."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.gep(data, [args[1]])

    return types.CPointer(array.dtype)(array, types.intp), codegen


@intrinsic
def nowhere(typingctx, pointer):
    """The null pointer of the given pointer's type."""

    def codegen(context, builder, signature, args):
        return ir.Constant(args[0].type, None)

    return pointer(pointer), codegen


@intrinsic
def advance(typingctx, pointer, elements):
    """pointer + elements."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), codegen


def _emit_tile(
    emit,
    rows,
    vectors,
    ragged,
    a,
    a_step,
    b,
    b_step,
    c,
    c_step,
    depth,
    cols,
    accumulate,
    bias,
    ahead,
):
    """One tile of fixed height and width; ragged: its last vector is partly filled."""
    builder, width = emit.builder, emit.width
    masks = [None] * vectors
    if ragged:
        masks[-1] = emit.mask(builder.sub(cols, I64((vectors - 1) * width)))
    places = [
        [emit.offset(emit.offset(c, c_step, r), v * width) for v in range(vectors)]
        for r in range(rows)
    ]
    for row in places:
        for place in row:
            emit.prefetch(place, for_writing=True)
    zeros = [emit.zero] * (rows * vectors)

    def step(_, carried):
        a, b, *sums = carried
        for v in range(vectors):
            emit.prefetch(emit.offset(emit.offset(b, ahead), v * width))
        row = [emit.load(emit.offset(b, v * width), masks[v]) for v in range(vectors)]
        for r in range(rows):
            factor = emit.broadcast(emit.offset(a, r))
            for v in range(vectors):
                sums[r * vectors + v] = emit.multiply_add(factor, row[v], sums[r * vectors + v])
        return [emit.offset(a, a_step), emit.offset(b, b_step), *sums]

    _, _, *sums = _loop(builder, depth, [a, b, *zeros], step)

    def old():
        return [
            emit.load(place, mask) for row in places for place, mask in zip(row, masks, strict=True)
        ]

    def biases():
        return [emit.load(emit.offset(bias, v * width), masks[v]) for v in range(vectors)] * rows

    sums = emit.add_if(accumulate, sums, old)
    sums = emit.add_if(emit.is_given(bias), sums, biases)
    for r in range(rows):
        for v in range(vectors):
            emit.store(sums[r * vectors + v], places[r][v], masks[v])


@intrinsic
def tile(typingctx, a, a_step, b, b_step, c, c_step, depth, rows, cols, accumulate, bias, ahead):
    """c[r, j] (+)= sum_p a[p * a_step + r] * b[p * b_step + j] for r < rows, j < cols, p < depth,
    then + bias[j].

    `accumulate` says whether the old c is added, `bias` may be `nowhere`. Each step
    prefetches what lies `ahead` elements after its row of b.
    1 <= rows <= HEIGHT; cols fill at most two vectors, or four where rows <= LOW_HEIGHT.
    """
    n = types.intp
    signature = types.void(a, n, b, n, c, n, n, n, n, types.boolean, a, n)

    def codegen(context, builder, signature, args):
        a, a_step, b, b_step, c, c_step, depth, rows, cols, accumulate, bias, ahead = args
        emit = _Emitter(context, builder, signature.args[0])
        vectors = builder.sdiv(builder.add(cols, I64(emit.width - 1)), I64(emit.width))
        full = builder.icmp_signed("==", builder.mul(vectors, I64(emit.width)), cols)
        # One number for the case: 64 * rows + 2 * vectors + (1 where the last vector is partly
        # filled).
        case = builder.add(builder.mul(rows, I64(64)), builder.mul(vectors, I64(2)))
        if not FREE_MASKS:
            case = builder.add(case, builder.zext(builder.not_(full), I64))
        end = builder.append_basic_block("end")
        unknown = builder.append_basic_block("unknown")
        switch = builder.switch(case, unknown)
        for height in range(1, HEIGHT + 1):
            for number in range(1, 5 if height <= LOW_HEIGHT else 3):
                for ragged in (True,) if FREE_MASKS else (False, True):
                    block = builder.append_basic_block(f"tile_{height}x{number}")
                    switch.add_case(
                        I64(64 * height + 2 * number + (ragged and not FREE_MASKS)), block
                    )
                    builder.position_at_end(block)
                    _emit_tile(
                        emit, height, number, ragged,
                        a, a_step, b, b_step, c, c_step, depth, cols, accumulate, bias, ahead,
                    )  # fmt: skip
                    builder.branch(end)
        builder.position_at_end(unknown)
        builder.unreachable()
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def transpose(typingctx, a, a_step, rows, cols, packed, packed_step):
    """packed[p * packed_step + r] = a[r * a_step + p] for r < rows, p < cols, in blocks of one
    vector by one vector.

    Writes whole blocks: rows and columns beyond the given ones hold copies of the last row, and
    zeros. `packed` needs room for both counts rounded up to whole vectors.
    """
    n = types.intp
    signature = types.void(a, n, n, n, a, n)

    def codegen(context, builder, signature, args):
        a, a_step, rows, cols, packed, packed_step = args
        emit = _Emitter(context, builder, signature.args[0])
        width = emit.width
        last_row = builder.sub(rows, I64(1))

        def block(first_row, first_col, mask):
            lines = []
            for r in range(width):
                row = builder.add(first_row, I64(r))
                row = builder.select(builder.icmp_signed("<", row, rows), row, last_row)
                lines.append(emit.load(emit.offset(emit.offset(a, row, a_step), first_col), mask))
            # Interleaving line i with line i + width / 2, log2(width) times over, is the transpose.
            half = width // 2
            low = [lane // 2 + width * (lane % 2) for lane in range(width)]
            high = [half + lane for lane in low]
            for _ in range(width.bit_length() - 1):
                pairs = [(lines[i], lines[i + half]) for i in range(half)]
                lines = [emit.shuffle(a, b, lanes) for a, b in pairs for lanes in (low, high)]
            for p, line in enumerate(lines):
                place = emit.offset(packed, builder.add(first_col, I64(p)), packed_step)
                emit.store(line, emit.offset(place, first_row))

        def along_cols(first_row, _):
            whole = builder.and_(cols, I64(-width))

            def full(first_col, _):
                block(first_row, first_col, None)
                return []

            _loop(builder, whole, [], full, width)
            with builder.if_then(builder.icmp_signed("<", whole, cols)):
                block(first_row, whole, emit.mask(builder.sub(cols, whole)))
            return []

        _loop(builder, rows, [], along_cols, width)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def copy(typingctx, a, a_step, rows, cols, packed, packed_step):
    """packed[r * packed_step + j] = a[r * a_step + j] for r < rows, j < cols; 0 up to the next
    whole vector.
    """
    n = types.intp
    signature = types.void(a, n, n, n, a, n)

    def codegen(context, builder, signature, args):
        a, a_step, rows, cols, packed, packed_step = args
        emit = _Emitter(context, builder, signature.args[0])
        whole = builder.and_(cols, I64(-emit.width))
        is_ragged = builder.icmp_signed("<", whole, cols)
        mask = emit.mask(builder.sub(cols, whole))

        def row(_, carried):
            source, target = carried

            def full(j, _):
                emit.store(emit.load(emit.offset(source, j)), emit.offset(target, j))
                return []

            _loop(builder, whole, [], full, emit.width)
            with builder.if_then(is_ragged):
                emit.store(emit.load(emit.offset(source, whole), mask), emit.offset(target, whole))
            return [emit.offset(source, a_step), emit.offset(target, packed_step)]

        _loop(builder, rows, [a, packed], row)
        return context.get_dummy_value()

    return signature, codegen


def _emit_dot(emit, rows, columns, a, a_step, b, b_step, depth, c, c_step, cols):
    """c[r, :cols] = dots of row r of a with `columns` rows of b; the last valid one is read again
    beyond cols.
    """
    builder, width = emit.builder, emit.width
    last = builder.sub(cols, I64(1))
    starts = [
        emit.offset(b, builder.select(builder.icmp_signed("<", I64(j), cols), I64(j), last), b_step)
        for j in range(columns)
    ]
    whole = builder.and_(depth, I64(-width))

    def step(p, sums, mask=None):
        sums = list(sums)
        lines = [emit.load(emit.offset(start, p), mask) for start in starts]
        for r in range(rows):
            factor = emit.load(emit.offset(emit.offset(a, r, a_step), p), mask)
            for j in range(columns):
                sums[r * columns + j] = emit.multiply_add(factor, lines[j], sums[r * columns + j])
        return sums

    sums = _loop(builder, whole, [emit.zero] * (rows * columns), step, width)
    before = builder.block
    with builder.if_then(builder.icmp_signed("<", whole, depth)):
        tail = step(whole, sums, emit.mask(builder.sub(depth, whole)))
        inside = builder.block
    merged = []
    for value, tailed in zip(sums, tail, strict=True):
        phi = builder.phi(emit.vector)
        phi.add_incoming(value, before)
        phi.add_incoming(tailed, inside)
        merged.append(phi)
    lanes = ir.VectorType(I64, columns)
    valid = builder.icmp_signed(
        "<", ir.Constant(lanes, list(range(columns))), emit._splat(cols, lanes)
    )
    small = ir.VectorType(emit.element, columns)
    for r in range(rows):
        group = merged[r * columns : (r + 1) * columns]
        dots = 1  # One vector holds partial sums of so many dots: lane l belongs to l % dots.
        while len(group) > 1:
            even = []
            for lane in range(width):
                part, dot = divmod(lane, 2 * dots)
                even.append(dot // dots * width + dot % dots + 2 * part * dots)
            odd = [lane + dots for lane in even]
            group = [
                builder.fadd(emit.shuffle(first, second, even), emit.shuffle(first, second, odd))
                for first, second in zip(group[::2], group[1::2], strict=True)
            ]
            dots *= 2
        result, lane_count = group[0], width
        while lane_count > columns:
            lane_count //= 2
            lower = emit.shuffle(result, result, list(range(lane_count)))
            upper = emit.shuffle(result, result, list(range(lane_count, 2 * lane_count)))
            result = builder.fadd(lower, upper)
        place = builder.bitcast(emit.offset(c, c_step, r), small.as_pointer())
        name = f"llvm.masked.store.v{columns}f{8 * emit.align}.p0"
        emit._call(name, ir.VoidType(), result, place, I32(emit.align), valid)


DOT_HEIGHT = 6 if REGISTERS >= 32 else 3


@intrinsic
def dot(typingctx, a, a_step, b, b_step, depth, c, c_step, rows, cols):
    """c[r * c_step + j] = sum_p a[r * a_step + p] * b[j * b_step + p] for r < rows, j < cols, p <
    depth.

    1 <= rows <= DOT_HEIGHT, cols any: b is read once, along its rows.
    """
    n = types.intp
    signature = types.void(a, n, a, n, n, a, n, n, n)

    def codegen(context, builder, signature, args):
        a, a_step, b, b_step, depth, c, c_step, rows, cols = args
        emit = _Emitter(context, builder, signature.args[0])
        columns = min(4, emit.width)
        end = builder.append_basic_block("end")
        unknown = builder.append_basic_block("unknown")
        switch = builder.switch(rows, unknown)
        for height in range(1, DOT_HEIGHT + 1):
            block = builder.append_basic_block(f"dot_{height}")
            switch.add_case(I64(height), block)
            builder.position_at_end(block)

            def strip(j, _, height=height):
                place = emit.offset(b, j, b_step)
                left = builder.sub(cols, j)
                _emit_dot(
                    emit,
                    height,
                    columns,
                    a,
                    a_step,
                    place,
                    b_step,
                    depth,
                    emit.offset(c, j),
                    c_step,
                    left,
                )
                return []

            _loop(builder, cols, [], strip, columns)
            builder.branch(end)
        builder.position_at_end(unknown)
        builder.unreachable()
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def aligned(typingctx, pointer):
    """The first address from `pointer` on that starts a vector."""

    def codegen(context, builder, signature, args):
        place = builder.ptrtoint(args[0], I64)
        up = builder.and_(builder.add(place, I64(VECTOR_BYTES - 1)), I64(-VECTOR_BYTES))
        return builder.inttoptr(up, args[0].type)

    return pointer(pointer), codegen


COMBINED = 8
"""Rows of a matrix that `combine` adds at a time."""


@intrinsic
def combine(typingctx, x, w, w_step, count, y, cols):
    """y[j] += sum_p x[p] * w[p * w_step + j] for p < count, j < cols; count is COMBINED or 1."""
    n = types.intp
    signature = types.void(x, x, n, n, x, n)

    def codegen(context, builder, signature, args):
        x, w, w_step, count, y, cols = args
        emit = _Emitter(context, builder, signature.args[0])
        whole = builder.and_(cols, I64(-emit.width))

        def sweep(rows):
            factors = [emit.broadcast(emit.offset(x, p)) for p in range(rows)]
            starts = [emit.offset(w, w_step, p) for p in range(rows)]

            def step(j, _, mask=None):
                total = emit.load(emit.offset(y, j), mask)
                for factor, start in zip(factors, starts, strict=True):
                    total = emit.multiply_add(factor, emit.load(emit.offset(start, j), mask), total)
                emit.store(total, emit.offset(y, j), mask)
                return []

            _loop(builder, whole, [], step, emit.width)
            with builder.if_then(builder.icmp_signed("<", whole, cols)):
                step(whole, [], emit.mask(builder.sub(cols, whole)))

        is_one = builder.icmp_signed("==", count, I64(1))
        with builder.if_else(is_one) as (one, several):
            with one:
                sweep(1)
            with several:
                sweep(COMBINED)
        return context.get_dummy_value()

    return signature, codegen
