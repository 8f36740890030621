"""The three matrix products of a dense layer, by one thread or several.

    forward          y = act(x @ weight + bias)
    backward_input   dx = dz @ weight.T                      with dz = dy * act'(saved)
    backward_weight  dweight = x.T @ dz, dbias = dz.sum(0)

All three are out[rows, cols] = left @ right over a depth. `planning` decides how to compute them:
by register tiles over packed operands; forward also over weights in place, or left packed by the
first strip of rows that reads them; by dot products, where few rows or columns share an operand;
row by row for a batch of one; as the transpose of a gradient with few columns; and into which parts
the threads cut `out`.

Each element is summed in the order of depth, in blocks that depend only on the sizes of the whole
product: results do not depend on the number of threads. Every thread packs what it needs for its
own part of `out`; nothing is shared and nothing waits.
"""

from functools import cache

from numba import njit, prange, types

from ..codegen import symbol
from ..codegen.jit import INTERNAL, OPTIONS
from ..codegen.symbol import by_symbol, loaded, stored
from ..codegen.vectors import Matrix, address
from .macrokernel import blocking, tiles
from .planning import DOTS, ONE_ROW, OUTER, TURNED, cut, grid_of, plan
from .product import FORWARD, INPUT, WEIGHT, Product, product_type
from .thin import dots, dots_size, one_row, outer, transposed_product, transposed_size


def _arguments(pointer):
    """The types of a pointer to elements, a pointer to a Product, and five numbers."""
    return pointer, types.CPointer(product_type(pointer)), *[types.intp] * 5


@by_symbol(lambda pointer: types.void(*_arguments(pointer)))
def _part(elements, place, how, blocks, down, across, number):
    """What is the calling thread's part of the product."""
    product = cut(loaded(place), (down, across), number)
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
    down, across = grid_of(product, how)
    if down * across == 1:
        _part(elements, place, how, blocks, 1, 1, 0)
    else:
        _parts(elements, place, how, blocks, down, across)


@njit(**INTERNAL)
def workspace_size(product):
    """Elements of workspace for the product by as many threads as there are now."""
    how, blocks = plan(product)
    grid, most = grid_of(product, how), 0
    for number in range(grid[0] * grid[1]):
        mine = cut(product, grid, number)
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
