"""One matrix product of a dense layer: its operands, and what is done to them on the way."""

from typing import NamedTuple

from numba import njit, types

from ...catalog import SLOPES
from ..codegen.jit import INTERNAL
from ..codegen.vectors import Matrix, advance, at

FORWARD, INPUT, WEIGHT = range(3)


class Product(NamedTuple):
    """out[rows, cols] = left[rows, depth] @ right[depth, cols], but for the transposes."""

    kind: int  # FORWARD, INPUT or WEIGHT
    rows: int
    cols: int
    depth: int
    left: Matrix  # x, dy, x transposed
    right: Matrix  # weight, weight transposed, dy
    out: Matrix  # y, dx, dweight
    bias: object  # bias, ignored, dbias
    sums: bool  # whether dbias is to be computed
    activation_id: int  # the activation
    alpha: object
    saved: Matrix  # beside dy
    workspace: object  # workspace, and
    workspace_size: int  # its elements; where they are too few it is allocated


def product_type(pointer):
    """Numba's type of a Product of elements that such a pointer points to."""
    matrix = types.NamedTuple([pointer, types.intp], Matrix)
    kinds = {int: types.intp, bool: types.boolean, object: pointer, Matrix: matrix}
    fields = [kinds[kind] for kind in Product.__annotations__.values()]
    return types.NamedTuple(fields, Product)


@njit(**INTERNAL)
def slopes(product, unit):
    """Pointer to the slope of a unit, or to the one slope of all."""
    return advance(product.alpha, unit) if product.activation_id == SLOPES else product.alpha


@njit(**INTERNAL)
def part(product, number, parts, i0, i1, j0, j1):
    """The product whose result is out[i0:i1, j0:j1], with its share of the workspace."""
    kind, left, right, saved = product.kind, product.left, product.right, product.saved
    workspace_size = product.workspace_size // parts
    return Product(
        kind,
        i1 - i0,
        j1 - j0,
        product.depth,
        at(left, 0, i0) if kind == WEIGHT else at(left, i0, 0),
        at(right, j0, 0) if kind == INPUT else at(right, 0, j0),
        at(product.out, i0, j0),
        advance(product.bias, j0),
        product.sums and i0 == 0,
        product.activation_id,
        product.alpha if kind == INPUT else slopes(product, j0),
        at(saved, i0, 0) if kind == INPUT else at(saved, 0, j0),
        advance(product.workspace, number * workspace_size),
        workspace_size,
    )
