"""What one thread does to compute a matrix product with few rows or few columns.

Packing them into tiles would cost more than it saves, or leave most lanes of a vector idle.
"""

from numba import carray, njit

from ...catalog import IDENTITY
from ..codegen import caches
from ..codegen.jit import INTERNAL
from ..codegen.vectors import VECTOR_BYTES, Matrix, advance, aligned, at, keep, nowhere
from .macrokernel import itemsize_of, round_up, strip_of, workspace_of
from .microkernel import COMBINED, DOT_HEIGHT, DOT_WIDTH, HEIGHT, LOW_HEIGHT, combine, dot, tile
from .packing import activate, form, transpose, transpose_within
from .product import FORWARD, INPUT

# Columns up to which a row of the weights is short.
SHORT = 256


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
    activate(product.activation_id, product.alpha, product.out, 1, product.cols)


@njit(**INTERNAL)
def outer(product):
    """The gradient of weights by a batch of one: their rows are written once, row after row."""
    activation_id, cols = product.activation_id, product.cols
    workspace, kept = workspace_of(product, cols)
    form(activation_id, product.alpha, product.right, product.saved, 1, cols, workspace)
    dz, bias = carray(workspace, cols), carray(product.bias, cols)
    x = carray(product.left.data, product.rows)
    for i in range(product.rows):
        factor, row = x[i], carray(at(product.out, i, 0).data, cols)
        for j in range(cols):
            row[j] = factor * dz[j]
    if product.sums:
        for j in range(cols):
            bias[j] = dz[j]
    keep(kept)


@njit(**INTERNAL)
def dots_size(product):
    """Elements of the workspace of `dots`."""
    lanes = VECTOR_BYTES // itemsize_of(product)
    if product.kind == FORWARD:
        return round_up(product.depth, lanes) * round_up(product.cols, lanes)
    return product.rows * product.depth if product.activation_id != IDENTITY else 0


@njit(**INTERNAL, inline="always")
def dots(product):
    """A product by dot products of rows: of dz and the weights, or of x and the few columns of the
    weights, which are transposed first.
    """
    kind, activation_id, rows, depth = (
        product.kind,
        product.activation_id,
        product.rows,
        product.depth,
    )
    left, right, bias, alpha = product.left, product.right, product.bias, product.alpha
    step = round_up(depth, VECTOR_BYTES // itemsize_of(product))
    workspace, kept = workspace_of(product, dots_size(product))
    if kind == INPUT and activation_id != IDENTITY:
        form(activation_id, alpha, left, product.saved, rows, depth, workspace)
        left = Matrix(workspace, depth)
    if kind == FORWARD:
        transpose(right, depth, product.cols, Matrix(workspace, step))
        right = Matrix(workspace, step)
    strips = (rows + DOT_HEIGHT - 1) // DOT_HEIGHT
    # Rows of the right operand that stay in half of L1 while the others are multiplied with them.
    chunk = caches.L1 // 2 // (max(1, depth) * itemsize_of(product)) // DOT_WIDTH * DOT_WIDTH
    chunk = max(DOT_WIDTH, chunk)
    for j in range(0, product.cols, chunk):
        cols = min(chunk, product.cols - j)
        added = advance(bias, j) if kind == FORWARD else nowhere(bias)
        for s in range(strips):
            i, count = strip_of(rows, s, strips)
            dot(at(left, i, 0), at(right, j, 0), at(product.out, i, j), depth, count, cols, added)
    if kind == FORWARD:
        activate(activation_id, alpha, product.out, rows, product.cols)
    keep(kept)


@njit(**INTERNAL)
def _transposed_step(product):
    """Elements from one row of the transposed gradient to the next."""
    return round_up(product.rows, VECTOR_BYTES // itemsize_of(product))


@njit(**INTERNAL)
def transposed_size(product, blocks):
    """Elements of the workspace of `transposed_product`."""
    formed = (product.depth + blocks - 1) // blocks if product.activation_id != IDENTITY else 0
    lanes = VECTOR_BYTES // itemsize_of(product)
    return 1 + lanes + product.cols * (_transposed_step(product) + formed)


@njit(**INTERNAL, inline="always")
def transposed_product(product, blocks):
    """The gradient of weights with few columns, computed as its transpose dz.T @ x: vectors lie
    along the rows of x, which is read in place, and few of their lanes are idle.
    """
    activation_id, rows, cols, bias = (
        product.activation_id,
        product.rows,
        product.cols,
        product.bias,
    )
    workspace, kept = workspace_of(product, transposed_size(product, blocks))
    carray(workspace, 1)[0] = 1
    one = Matrix(workspace, 0)
    result = Matrix(aligned(advance(workspace, 1)), _transposed_step(product))
    formed = Matrix(advance(result.data, cols * result.step), cols)
    width = VECTOR_BYTES // itemsize_of(product) * (4 if cols <= LOW_HEIGHT else 2)
    strips = (cols + HEIGHT - 1) // HEIGHT
    for d in range(blocks):
        p0, p1 = product.depth * d // blocks, product.depth * (d + 1) // blocks
        dz = at(product.right, p0, 0)
        if activation_id != IDENTITY:
            form(
                activation_id,
                product.alpha,
                dz,
                at(product.saved, p0, 0),
                p1 - p0,
                cols,
                formed.data,
            )
            dz = formed
        if product.sums:
            tile(one, dz, Matrix(bias, 0), p1 - p0, 1, cols, d > 0, nowhere(bias), 0)
        for j in range(0, rows, width):
            x = at(product.left, p0, j)
            for s in range(strips):
                i, count = strip_of(cols, s, strips)
                n, c = min(width, rows - j), at(result, i, j)
                tile(at(dz, 0, i), x, c, p1 - p0, count, n, d > 0, nowhere(bias), width)
    transpose_within(result, cols, rows, product.out)
    keep(kept)
