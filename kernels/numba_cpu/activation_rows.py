"""Activations of rows: the loops over one activation's function of a number.

Whoever applies them calls them by the activation's id: each is compiled when it is first used, and
once. `alpha` points to one slope, to two numbers where the activation is SCALED_ELU, or to one for
every unit where it is SLOPES.
"""

import numpy as np
from numba import carray, prange, types

from ..catalog import ACTIVATIONS, SCALED_ELU, SLOPES
from .activation_functions import FUNCTIONS, OF_PAIRS, d_slope, slope
from .codegen.inlined import register_jitable
from .codegen.jit import CHUNK, THREADS_FROM, kernel, named, serial, threaded
from .codegen.symbol import Numbered
from .codegen.threads import thread_count
from .codegen.vectors import address, advance, location, never_inlined

_COSTLY = *sorted({a.id for a in ACTIVATIONS.values() if a.exponentials}), SCALED_ELU
_N = types.intp
MOST_PARTS = 64  # of the rows of prelu's gradients


# y = act(z) and dz = dy act'(saved) of `rows` pieces of `cols` elements that begin so many elements
# apart; a call for each would take longer than a short piece. The result is in place, or elsewhere:
# with two arguments for one array no loop would be vectorised, for LLVM guards its vector loops by
# a check that they do not overlap.
# A row is a function of its own, never inlined: of several loops LLVM would keep the constants in
# registers at once, have too few, and fetch them anew for every vector (elu takes 9 % longer so).


@register_jitable
def _same(one, other):
    return location(carray(one, 1)) == location(carray(other, 1))


@register_jitable
def _number(alpha):
    return carray(alpha, 1)[0]


@register_jitable
def _pair(alpha):
    numbers = carray(alpha, 2)
    return numbers[0], numbers[1]


def _row(act):
    return lambda function: register_jitable(named(function, act.__name__))


def _loops(act, derivative, parameter=_number):
    @_row(act)
    def mapped(x, y, cols, a):
        never_inlined()
        x, y = carray(x, cols), carray(y, cols)
        for j in range(cols):
            y[j] = act(x[j], a)

    @_row(act)
    def mapped_in_place(y, cols, a):
        never_inlined()
        y = carray(y, cols)
        for j in range(cols):
            y[j] = act(y[j], a)

    @_row(derivative)
    def product(dy, saved, dz, cols, a):
        never_inlined()
        dy, saved, dz = carray(dy, cols), carray(saved, cols), carray(dz, cols)
        for j in range(cols):
            dz[j] = derivative(dy[j], saved[j], a)

    @_row(derivative)
    def product_in_place(saved, dz, cols, a):
        never_inlined()
        saved, dz = carray(saved, cols), carray(dz, cols)
        for j in range(cols):
            dz[j] = derivative(dz[j], saved[j], a)

    def activate(z, z_step, y, y_step, alpha, rows, cols):
        if z_step == cols and y_step == cols:
            rows, cols = min(rows, 1), rows * cols
        in_place, a = _same(z, y), parameter(alpha)
        for i in range(rows):
            x, out = advance(z, i * z_step), advance(y, i * y_step)
            if in_place:
                mapped_in_place(out, cols, a)
            else:
                mapped(x, out, cols, a)

    def differentiate(dy, dy_step, saved, s_step, dz, dz_step, alpha, rows, cols):
        if dy_step == cols and s_step == cols and dz_step == cols:
            rows, cols = min(rows, 1), rows * cols
        in_place, a = _same(dy, dz), parameter(alpha)
        for i in range(rows):
            s, z = advance(saved, i * s_step), advance(dz, i * dz_step)
            if in_place:
                product_in_place(s, z, cols, a)
            else:
                product(advance(dy, i * dy_step), s, z, cols, a)

    return named(activate, act.__name__), named(differentiate, derivative.__name__)


def _activate_slopes(z, z_step, y, y_step, alpha, rows, cols):
    if rows == 0:
        return
    source = carray(z, (rows - 1) * z_step + cols)
    out, slopes = carray(y, (rows - 1) * y_step + cols), carray(alpha, cols)
    in_place = location(source) == location(out)
    for i in range(rows):
        x, y = source[i * z_step :], out[i * y_step :]
        if in_place:
            for j in range(cols):
                y[j] = slope(y[j], slopes[j])
        else:
            for j in range(cols):
                y[j] = slope(x[j], slopes[j])


def _differentiate_slopes(dy, dy_step, saved, s_step, dz, dz_step, alpha, rows, cols):
    if rows == 0:
        return
    gradient = carray(dy, (rows - 1) * dy_step + cols)
    kept = carray(saved, (rows - 1) * s_step + cols)
    out, slopes = carray(dz, (rows - 1) * dz_step + cols), carray(alpha, cols)
    for i in range(rows):
        d, s, z = gradient[i * dy_step :], kept[i * s_step :], out[i * dz_step :]
        for j in range(cols):
            z[j] = d_slope(d[j], s[j], slopes[j])


_LOOPS = {number: _loops(*functions) for number, functions in FUNCTIONS.items()}
_LOOPS |= {number: _loops(*functions, _pair) for number, functions in OF_PAIRS.items()}
_LOOPS[SLOPES] = _activate_slopes, _differentiate_slopes
_FORWARD, _BACKWARD = ({number: loops[k] for number, loops in _LOOPS.items()} for k in range(2))
activations = Numbered("activations", lambda p: types.void(p, _N, p, _N, p, _N, _N), _FORWARD)
derivatives = Numbered(
    "derivatives", lambda p: types.void(p, _N, p, _N, p, _N, p, _N, _N), _BACKWARD
)
# activate(z, activation_id, z_step, ...), differentiate(dy, activation_id, dy_step, ...)
activate, differentiate = activations.call, derivatives.call


@threaded
def forward(activation_id, z, alpha, y):
    """y = act(z) of 2-D arrays."""
    cols = y.shape[1]
    # Exponentials take twice as long.
    if serial(2 * y.size if activation_id in _COSTLY else y.size):
        activate(address(z), activation_id, cols, address(y), cols, address(alpha), len(y), cols)
    else:
        rows = 1 + (CHUNK - 1) // cols
        for c in prange((len(y) + rows - 1) // rows):
            part = slice(c * rows, min(len(y), (c + 1) * rows))
            a, b, count = z[part], y[part], len(y[part])
            activate(address(a), activation_id, cols, address(b), cols, address(alpha), count, cols)


@threaded
def backward(activation_id, dy, saved, alpha, dz):
    """dz = dy act'(saved) of 2-D arrays."""
    cols = dz.shape[1]
    if serial(dz.size):
        differentiate(
            *(address(dy), activation_id, cols, address(saved), cols, address(dz), cols),
            *(address(alpha), len(dz), cols),
        )
    else:
        rows = 1 + (CHUNK - 1) // cols
        for c in prange((len(dz) + rows - 1) // rows):
            part = slice(c * rows, min(len(dz), (c + 1) * rows))
            a, s, b = dy[part], saved[part], dz[part]
            differentiate(
                *(address(a), activation_id, cols, address(s), cols, address(b), cols),
                *(address(alpha), len(b), cols),
            )


@kernel
def _add_slope_gradient(dy, z, dalpha):
    """dalpha_j += sum_i dy_ij min(0, z_ij), row by row so that memory is read in order."""
    for i in range(len(dy)):
        row, s = dy[i], z[i]
        for j in range(dalpha.size):
            dalpha[j] += row[j] * (type(s[j])(0) if s[j] > 0 else s[j])


@kernel
def slope_gradient(dy, z, dalpha):
    """dalpha_j = sum_i dy_ij min(0, z_ij)."""
    dalpha[:] = 0
    _add_slope_gradient(dy, z, dalpha)


@kernel
def _prelu_part(dy, z, alpha, dz, dalpha):
    """dz and dalpha of some rows, so few at a time that memory is read once."""
    dalpha[:] = 0
    cols = dalpha.size
    rows = 1 + (CHUNK - 1) // cols
    for first in range(0, len(dz), rows):
        some = slice(first, min(len(dz), first + rows))
        a, s, b = dy[some], z[some], dz[some]
        _add_slope_gradient(a, s, dalpha)  # first: dz may replace what it reads
        differentiate(
            *(address(a), SLOPES, cols, address(s), cols, address(b), cols),
            *(address(alpha), len(b), cols),
        )


@kernel
def _add_up(parts, total):
    part = parts[0]
    for j in range(total.size):
        total[j] = part[j]
    for c in range(1, len(parts)):
        part = parts[c]
        for j in range(total.size):
            total[j] += part[j]


@threaded
def prelu_backward(dy, z, alpha, dz, dalpha):
    """dz and dalpha of 2-D arrays; its sums are of parts that do not depend on the threads."""
    if dz.size < THREADS_FROM:
        _prelu_part(dy, z, alpha, dz, dalpha)
        return
    rows = (len(dz) + MOST_PARTS - 1) // MOST_PARTS
    sums = np.empty(((len(dz) + rows - 1) // rows, dalpha.size), dz.dtype)
    if thread_count() == 1:
        for c in range(len(sums)):
            part = slice(c * rows, min(len(dz), (c + 1) * rows))
            _prelu_part(dy[part], z[part], alpha, dz[part], sums[c])
    else:
        for c in prange(len(sums)):
            part = slice(c * rows, min(len(dz), (c + 1) * rows))
            _prelu_part(dy[part], z[part], alpha, dz[part], sums[c])
    _add_up(sums, dalpha)
