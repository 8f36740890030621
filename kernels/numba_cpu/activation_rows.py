"""Activations of rows and of tiles: the loops over one activation's function of a number.

The dense layer applies the same loops to its tiles. `alpha` holds one slope, or one for every unit
where the activation is SLOPES.
"""

from numba import prange
from numba.extending import register_jitable

from ..catalog import ACTIVATIONS, SLOPES
from .activation_functions import d_slope, slope, with_derivative, with_forward
from .codegen.jit import CHUNK, kernel, serial, threaded
from .codegen.vectors import location

_COSTLY = tuple(sorted({a.id for a in ACTIVATIONS.values() if a.exponentials}))


@register_jitable
def _row(act, z, a, y):
    for j in range(y.size):
        y[j] = act(z[j], a)


@register_jitable
def _row_in_place(act, y, a):
    for j in range(y.size):
        y[j] = act(y[j], a)


@register_jitable
def _d_row(derivative, dy, saved, a, dz):
    for j in range(dz.size):
        dz[j] = derivative(dy[j], saved[j], a)


@register_jitable
def d_row_in_place(derivative, dy, saved, a):
    """With dy and dz as two arguments that overlap, the loop would not be vectorised."""
    for j in range(dy.size):
        dy[j] = derivative(dy[j], saved[j], a)


@register_jitable
def _pieces_in_place(act, y, step, a, rows, cols):
    for i in range(rows):
        row = y[i * step :]
        for j in range(cols):
            row[j] = act(row[j], a)


@register_jitable
def _d_pieces(derivative, dy, saved, step, a, dz, rows, cols):
    for i in range(rows):
        d, s, z = dy[i * step :], saved[i * step :], dz[i * cols :]
        for j in range(cols):
            z[j] = derivative(d[j], s[j], a)


@kernel
def forward_row(activation_id, z, alpha, y):
    """y = act(z) of 1-D arrays: one row, or rows end to end unless the activation is SLOPES."""
    if activation_id == SLOPES:
        for j in range(y.size):
            y[j] = slope(z[j], alpha[j])
    else:
        with_forward(_row, activation_id, z, alpha[0], y)


@kernel
def activate_row(activation_id, y, alpha):
    """y = act(y). Given one array for both, forward_row falls back to a scalar loop: LLVM guards
    its vector loops by a check that z and y do not overlap.
    """
    if activation_id == SLOPES:
        for j in range(y.size):
            y[j] = slope(y[j], alpha[j])
    else:
        with_forward(_row_in_place, activation_id, y, alpha[0])


@kernel
def backward_row(activation_id, dy, saved, alpha, dz):
    """dz = dy act'(saved) of 1-D arrays, as in forward_row."""
    if activation_id == SLOPES:
        for j in range(dz.size):
            dz[j] = d_slope(dy[j], saved[j], alpha[j])
    else:
        with_derivative(_d_row, activation_id, dy, saved, alpha[0], dz)


@kernel
def activate_pieces(activation_id, y, step, alpha, rows, cols):
    """y = act(y) of `rows` pieces of `cols` elements that begin `step` apart. A call for each would
    take longer than a short piece.
    """
    if activation_id == SLOPES:
        for i in range(rows):
            activate_row(activation_id, y[i * step : i * step + cols], alpha)
    else:
        with_forward(_pieces_in_place, activation_id, y, step, alpha[0], rows, cols)


@kernel
def backward_pieces(activation_id, dy, saved, step, alpha, dz, rows, cols):
    """dz = dy act'(saved) of such pieces; those of dz lie end to end."""
    if activation_id == SLOPES:
        for i in range(rows):
            piece = slice(i * step, i * step + cols)
            backward_row(
                activation_id, dy[piece], saved[piece], alpha, dz[i * cols : (i + 1) * cols]
            )
    else:
        with_derivative(_d_pieces, activation_id, dy, saved, step, alpha[0], dz, rows, cols)


@kernel
def forward_rows(activation_id, z, alpha, y):
    """y = act(z) of 2-D arrays: row by row only where the slopes differ within a row."""
    if activation_id == SLOPES:
        for i in range(len(y)):
            row, out = z[i], y[i]
            for j in range(out.size):
                out[j] = slope(row[j], alpha[j])
    elif location(z) == location(y):
        activate_row(activation_id, y.reshape(y.size), alpha)
    else:
        forward_row(activation_id, z.reshape(z.size), alpha, y.reshape(y.size))


@kernel
def backward_rows(activation_id, dy, saved, alpha, dz):
    if activation_id == SLOPES:
        for i in range(len(dz)):
            row, s, out = dy[i], saved[i], dz[i]
            for j in range(out.size):
                out[j] = d_slope(row[j], s[j], alpha[j])
    elif location(dy) == location(dz):
        size = dz.size
        with_derivative(
            d_row_in_place, activation_id, dz.reshape(size), saved.reshape(size), alpha[0]
        )
    else:
        size = dz.size
        backward_row(activation_id, dy.reshape(size), saved.reshape(size), alpha, dz.reshape(size))


@threaded
def forward(activation_id, z, alpha, y):
    """y = act(z) of 2-D arrays."""
    # Exponentials take twice as long.
    if serial(2 * y.size if activation_id in _COSTLY else y.size):
        forward_rows(activation_id, z, alpha, y)
    else:
        rows = 1 + (CHUNK - 1) // y.shape[1]
        for c in prange((len(y) + rows - 1) // rows):
            part = slice(c * rows, min(len(y), (c + 1) * rows))
            forward_rows(activation_id, z[part], alpha, y[part])


@threaded
def backward(activation_id, dy, saved, alpha, dz):
    """dz = dy act'(saved) of 2-D arrays."""
    if serial(dz.size):
        backward_rows(activation_id, dy, saved, alpha, dz)
    else:
        rows = 1 + (CHUNK - 1) // dz.shape[1]
        for c in prange((len(dz) + rows - 1) // rows):
            part = slice(c * rows, min(len(dz), (c + 1) * rows))
            backward_rows(activation_id, dy[part], saved[part], alpha, dz[part])


@kernel
def slope_gradient(dy, z, dalpha):
    """dalpha_j = sum_i dy_ij min(0, z_ij), row by row so that memory is read in order."""
    dalpha[:] = 0
    for i in range(len(dy)):
        row, s = dy[i], z[i]
        for j in range(dalpha.size):
            dalpha[j] += row[j] * (type(s[j])(0) if s[j] > 0 else s[j])
