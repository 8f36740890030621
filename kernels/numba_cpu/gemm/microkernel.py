"""The register tile of the matrix product, and its companions for few rows.

A processor reaches its peak only if every fused multiply-add finds its operands in registers. The
tile keeps a block of C in registers, `HEIGHT` rows by two vectors, and walks down the common
dimension: at each step it loads one row of B (two vectors) and broadcasts one element of A to each
row,

    c[r, :] += a[p, r] * b[p, :]        r < HEIGHT, p < depth

so that 2 + HEIGHT loads feed 2 * HEIGHT multiply-adds. HEIGHT is what the register file holds
beside one row of B and one broadcast: 14 with AVX-512 (32 registers), 6 with AVX2 (16), 14 with
NEON (32). Each element of C is one chain of multiply-adds in the order of p, whatever the tile's
shape and place, so results do not depend on how a product is cut.

Nothing outside of what the arguments describe is read or written: ragged edges use masked loads and
stores.
"""

from functools import partial
from itertools import cycle

from ..codegen.vectors import FREE_MASKS, I64, REGISTERS, VECTOR_BYTES, emitted
from .packing import LINE

# Rows of the tile that is two vectors wide.
HEIGHT = (REGISTERS - 3) // 2
# Rows up to which the tile may be four vectors wide: few rows need more columns to keep the
# multipliers busy.
LOW_HEIGHT = max(1, (REGISTERS - 5) // 4)
# Vectors of a cache line.
LINE_VECTORS = max(1, LINE // VECTOR_BYTES)
# Rows of the left operand that `dot` takes at a time.
DOT_HEIGHT = 6 if REGISTERS >= 32 else 3
# Rows of the right operand that it takes with them; fewer where a vector has fewer lanes.
DOT_WIDTH = 4
# Rows of the matrix that `combine` takes at a time: many where rows are short and y would be read
# and written too often, few where they are long, so that as few streams come from memory.
COMBINED = 8, 4
# Bytes between what `combine` loads and what it asks for, a cache line at a time.
AHEAD = 1024


@emitted
def tile(emit, a, b, c, depth, rows, cols, accumulate, bias, ahead):
    """c[r, j] (+)= sum_p a[p, r] * b[p, j] for r < rows, j < cols, p < depth, then + bias[j].

    1 <= rows <= HEIGHT; cols fill at most two vectors, or four where rows <= LOW_HEIGHT.
    `accumulate` says whether the old c is added, `bias` may be `nowhere`. Each step prefetches what
    lies `ahead` elements after its row of b.
    """
    builder, width = emit.builder, emit.width

    def fixed(height, vectors, ragged):
        mask = emit.lanes(builder.sub(cols, I64((vectors - 1) * width))) if ragged else None
        _tile(emit, a, b, c, depth, height, vectors, mask, accumulate, bias, ahead)

    # The case: 64 * rows + 2 * vectors + (1 where the last vector is masked).
    vectors = builder.sdiv(builder.add(cols, I64(width - 1)), I64(width))
    case = builder.add(builder.mul(rows, I64(64)), builder.mul(vectors, I64(2)))
    is_ragged = emit.less(cols, builder.mul(vectors, I64(width)))
    case = builder.add(case, I64(1) if FREE_MASKS else builder.zext(is_ragged, I64))
    emit.choose(
        case,
        {
            64 * height + 2 * vectors + ragged: partial(fixed, height, vectors, ragged)
            for height in range(1, HEIGHT + 1)
            for vectors in range(1, 5 if height <= LOW_HEIGHT else 3)
            for ragged in ((True,) if FREE_MASKS else (False, True))
        },
    )


@emitted
def copying_tile(emit, a, b, c, depth, rows, accumulate, bias, ahead, copy):
    """`tile` of two whole vectors, for the first of several strips, which are at least half as high
    as the tile; leaves the rows of b end to end in `copy` for those that follow.

    The stores take no time of their own: multiply-adds are what the step waits for.
    """

    def fixed(height):
        _tile(emit, a, b, c, depth, height, 2, None, accumulate, bias, ahead, copy)

    heights = range((HEIGHT + 1) // 2, HEIGHT + 1)
    emit.choose(rows, {height: partial(fixed, height) for height in heights})


def _tile(emit, a, b, c, depth, height, vectors, mask, accumulate, bias, ahead, copy=None):
    """The tile of a fixed height and so many vectors, the last one masked where there is a mask."""
    width, masks = emit.width, [None] * (vectors - 1) + [mask]
    places = [emit.at(c, r, v * width) for r in range(height) for v in range(vectors)]
    for place in places:
        emit.prefetch(place, for_writing=True)

    def loaded(places):
        return [emit.load(place, mask) for place, mask in zip(places, cycle(masks))]

    def step(p, a_row, b_row, *sums):
        row = [emit.offset(b_row, v * width) for v in range(vectors)]
        for place in row:
            emit.prefetch(emit.offset(place, ahead))
        row, sums = loaded(row), list(sums)
        if copy is not None:
            target = emit.offset(copy, emit.builder.mul(p, I64(vectors * width)))
            for v in range(vectors):
                emit.store(row[v], emit.offset(target, v * width))
        for r in range(height):
            factor = emit.broadcast(emit.offset(a_row, r))
            for v in range(vectors):
                n = r * vectors + v
                sums[n] = emit.multiply_add(factor, row[v], sums[n])
        return [emit.offset(a_row, a.step), emit.offset(b_row, b.step), *sums]

    _, _, *sums = emit.loop(depth, step, [a.data, b.data, *[emit.zero] * height * vectors])

    def with_old(sums):
        return emit.add(sums, loaded(places))

    def with_bias(sums):
        row = loaded([emit.offset(bias, v * width) for v in range(vectors)])
        return emit.add(sums, row * height)

    sums = emit.changed_if(accumulate, sums, with_old)
    sums = emit.changed_if(emit.is_given(bias), sums, with_bias)
    for value, place, mask in zip(sums, places, masks * height, strict=True):
        emit.store(value, place, mask)


@emitted
def dot(emit, a, b, c, depth, rows, cols, bias):
    """c[r, j] = sum_p a[r, p] * b[j, p] for r < rows, j < cols, p < depth, then + bias[j].

    1 <= rows <= DOT_HEIGHT, cols any: b is read once, along its rows, a few at a time. `bias` may
    be `nowhere`.
    """
    builder, width = emit.builder, emit.width
    columns = min(DOT_WIDTH, width)
    whole = builder.and_(depth, I64(-width))

    def strip(height, first, *_):
        left = builder.sub(cols, first)
        last = builder.sub(left, I64(1))  # is read again in place of those beyond
        starts = [emit.at(b, builder.add(first, emit.least(I64(j), last))) for j in range(columns)]

        def step(p, *sums, mask=None):
            # The shorter side stays in registers while the vectors of the other pass: with one
            # register too few a sum would be kept in memory, and every step wait for it.
            turned, sums = height < columns, list(sums)
            stays = [emit.at(a, r, p) for r in range(height)]
            passes = [emit.offset(start, p) for start in starts]
            if not turned:
                stays, passes = passes, stays
            stays = [emit.load(place, mask) for place in stays]
            for m, place in enumerate(passes):
                vector = emit.load(place, mask)
                for k, other in enumerate(stays):
                    n = k * columns + m if turned else m * columns + k
                    sums[n] = emit.multiply_add(vector, other, sums[n])
            return sums

        def with_tail(sums):
            return step(whole, *sums, mask=emit.lanes(builder.sub(depth, whole)))

        sums = emit.loop(whole, step, [emit.zero] * height * columns, width)
        sums = emit.changed_if(emit.less(whole, depth), sums, with_tail)
        mask = emit.lanes(left, columns)
        dots = [_lane_sums(emit, sums[n : n + columns]) for n in range(0, len(sums), columns)]

        def with_bias(dots):
            row = emit.load(emit.offset(bias, first), mask)
            return emit.add(dots, [row] * height)

        dots = emit.changed_if(emit.is_given(bias), dots, with_bias)
        for r, row in enumerate(dots):
            emit.store(row, emit.at(c, r, first), mask)

    def fixed(height):
        emit.loop(cols, partial(strip, height), step=columns)

    emit.choose(rows, {height: partial(fixed, height) for height in range(1, DOT_HEIGHT + 1)})


def _lane_sums(emit, vectors):
    """One vector with the sum of the lanes of each of these vectors."""
    count, width = len(vectors), emit.width
    sums = 1  # of one vector: lane l belongs to sum l % sums
    while len(vectors) > 1:
        even = []
        for lane in range(width):
            part, which = divmod(lane, 2 * sums)
            even.append(which // sums * width + which % sums + 2 * part * sums)
        odd = [lane + sums for lane in even]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        pairs = [(emit.shuffle(a, b, even), emit.shuffle(a, b, odd)) for a, b in pairs]
        vectors = emit.add(*zip(*pairs, strict=True))
        sums *= 2
    (total,) = vectors
    while width > count:
        width //= 2
        lower = emit.shuffle(total, total, range(width))
        upper = emit.shuffle(total, total, range(width, 2 * width))
        (total,) = emit.add([lower], [upper])
    return total


@emitted
def combine(emit, x, w, y, count, cols):
    """y[j] += sum_p x[p] * w[p, j] for p < count, j < cols; count is 1 or in COMBINED."""
    builder, width = emit.builder, emit.width
    line, ahead = LINE_VECTORS * width, AHEAD // emit.align
    lines, whole = builder.and_(cols, I64(-line)), builder.and_(cols, I64(-width))

    def sweep(rows):
        factors = [emit.broadcast(emit.offset(x, p)) for p in range(rows)]
        starts = [emit.at(w, p) for p in range(rows)]

        def step(j, mask=None):
            total = emit.load(emit.offset(y, j), mask)
            for factor, start in zip(factors, starts, strict=True):
                total = emit.multiply_add(factor, emit.load(emit.offset(start, j), mask), total)
            emit.store(total, emit.offset(y, j), mask)

        def steps(j, *_):
            # What lies AHEAD in its row, or at its end as far on in the rows of the next call: what
            # follows the row belongs to another thread.
            within = emit.less(builder.add(j, I64(ahead)), lines)
            further = builder.sub(builder.mul(w.step, I64(rows)), lines)
            place = builder.add(builder.add(j, I64(ahead)), builder.select(within, I64(0), further))
            for start in starts:
                emit.prefetch(emit.offset(start, place))
            for v in range(0, line, width):
                step(builder.add(j, I64(v)))

        emit.loop(lines, steps, step=line)
        if line > width:
            with builder.if_then(emit.less(lines, whole)):
                step(lines)
        with builder.if_then(emit.less(whole, cols)):
            step(whole, emit.lanes(builder.sub(cols, whole)))

    emit.choose(count, {rows: partial(sweep, rows) for rows in (1, *COMBINED)})
