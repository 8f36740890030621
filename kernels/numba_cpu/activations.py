"""Activations for the CPU: two scalar functions an activation, and the loops over them.

`way`, the id of the catalogue, is chosen at run time, so that what is compiled once serves every
activation; the dense layer applies the same loops to its tiles. `alpha` holds one
slope, or one for every unit where the way is SLOPES.
"""

import numpy as np
from numba import carray, prange, types
from numba.extending import register_jitable

from .. import interface
from ..catalog import (
    ACTIVATIONS,
    ELU,
    IDENTITY,
    RELU,
    SELU,
    SELU_ALPHA,
    SELU_LAMBDA,
    SIGMOID,
    SILU,
    SLOPE,
    SLOPES,
    TANH,
)
from .elementary import exp, expm1, tanh
from .jit import CHUNK, choice, kernel, serial, threaded
from .shortcut import disjoint, in_place, read, shortcut, span, writable, written
from .symbol import stored
from .vectors import location

# act(z) of one number and dy act'(z), from s: z or y, as the catalogue says; a is alpha. NaN stays
# NaN.


@register_jitable
def _identity(z, a):
    return z


@register_jitable
def _d_identity(dy, s, a):
    return dy


@register_jitable
def _relu(z, a):
    return type(z)(0) if z < 0 else z


@register_jitable
def _d_relu(dy, s, a):
    return dy if s > 0 else type(s)(0)


@register_jitable
def _slope(z, a):
    return z if z > 0 else a * z


@register_jitable
def _d_slope(dy, s, a):
    return dy if s > 0 else a * dy


@register_jitable
def _elu(z, a):
    return z if z > 0 else a * expm1(z)


@register_jitable
def _d_elu(dy, s, a):
    return dy if s > 0 else (s + a) * dy


@register_jitable
def _selu(z, a):
    left = type(z)(SELU_LAMBDA * SELU_ALPHA) * expm1(z)
    return type(z)(SELU_LAMBDA) * z if z > 0 else left


@register_jitable
def _d_selu(dy, s, a):
    left = (s + type(s)(SELU_LAMBDA * SELU_ALPHA)) * dy
    return type(s)(SELU_LAMBDA) * dy if s > 0 else left


@register_jitable
def _sigmoid(z, a):
    one, e = type(z)(1), exp(-abs(z))
    return (e if z < 0 else one) / (one + e)


@register_jitable
def _d_sigmoid(dy, s, a):
    return s * (type(s)(1) - s) * dy


@register_jitable
def _tanh(z, a):
    return tanh(z)


@register_jitable
def _d_tanh(dy, s, a):
    return (type(s)(1) - s) * (type(s)(1) + s) * dy


@register_jitable
def _silu(z, a):
    return z * _sigmoid(z, a)


@register_jitable
def _d_silu(dy, s, a):
    one, gate = type(s)(1), _sigmoid(s, a)
    return (gate + s * gate * (one - gate)) * dy


# Of one alpha for all units; SLOPES, with one for each, has loops of its own below.
_FUNCTIONS = {
    IDENTITY: (_identity, _d_identity),
    RELU: (_relu, _d_relu),
    SLOPE: (_slope, _d_slope),
    ELU: (_elu, _d_elu),
    SELU: (_selu, _d_selu),
    SIGMOID: (_sigmoid, _d_sigmoid),
    TANH: (_tanh, _d_tanh),
    SILU: (_silu, _d_silu),
}
_IDS = {declared.id for declared in ACTIVATIONS.values()} - {SLOPES}
# with_forward(loop, way, *arguments): loop(act, *arguments); with_derivative alike.
with_forward, with_derivative = (
    choice({way: functions[k] for way, functions in _FUNCTIONS.items()}, _IDS) for k in range(2)
)
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
def forward_row(way, z, alpha, y):
    """y = act(z) of 1-D arrays: one row, or several rows end to end unless the way is SLOPES."""
    if way == SLOPES:
        for j in range(y.size):
            y[j] = _slope(z[j], alpha[j])
    else:
        with_forward(_row, way, z, alpha[0], y)


@kernel
def activate_row(way, y, alpha):
    """y = act(y). Given one array for both, forward_row falls back to a scalar loop: LLVM guards
    its vector loops by a check that z and y do not overlap.
    """
    if way == SLOPES:
        for j in range(y.size):
            y[j] = _slope(y[j], alpha[j])
    else:
        with_forward(_row_in_place, way, y, alpha[0])


@kernel
def backward_row(way, dy, saved, alpha, dz):
    """dz = dy act'(saved) of 1-D arrays, as in forward_row."""
    if way == SLOPES:
        for j in range(dz.size):
            dz[j] = _d_slope(dy[j], saved[j], alpha[j])
    else:
        with_derivative(_d_row, way, dy, saved, alpha[0], dz)


@kernel
def activate_pieces(way, y, step, alpha, rows, cols):
    """y = act(y) of `rows` pieces of `cols` elements that begin `step` apart. A call for each would
    take longer than a short piece.
    """
    if way == SLOPES:
        for i in range(rows):
            activate_row(way, y[i * step : i * step + cols], alpha)
    else:
        with_forward(_pieces_in_place, way, y, step, alpha[0], rows, cols)


@kernel
def backward_pieces(way, dy, saved, step, alpha, dz, rows, cols):
    """dz = dy act'(saved) of such pieces; those of dz lie end to end."""
    if way == SLOPES:
        for i in range(rows):
            piece = slice(i * step, i * step + cols)
            backward_row(way, dy[piece], saved[piece], alpha, dz[i * cols : (i + 1) * cols])
    else:
        with_derivative(_d_pieces, way, dy, saved, step, alpha[0], dz, rows, cols)


@kernel
def forward_rows(way, z, alpha, y):
    """y = act(z) of 2-D arrays: row by row only where the slopes differ within a row."""
    if way == SLOPES:
        for i in range(len(y)):
            row, out = z[i], y[i]
            for j in range(out.size):
                out[j] = _slope(row[j], alpha[j])
    elif location(z) == location(y):
        activate_row(way, y.reshape(y.size), alpha)
    else:
        forward_row(way, z.reshape(z.size), alpha, y.reshape(y.size))


@kernel
def backward_rows(way, dy, saved, alpha, dz):
    if way == SLOPES:
        for i in range(len(dz)):
            row, s, out = dy[i], saved[i], dz[i]
            for j in range(out.size):
                out[j] = _d_slope(row[j], s[j], alpha[j])
    elif location(dy) == location(dz):
        size = dz.size
        with_derivative(d_row_in_place, way, dz.reshape(size), saved.reshape(size), alpha[0])
    else:
        size = dz.size
        backward_row(way, dy.reshape(size), saved.reshape(size), alpha, dz.reshape(size))


@threaded
def forward(way, z, alpha, y):
    """y = act(z) of 2-D arrays."""
    if serial(2 * y.size if way in _COSTLY else y.size):  # exponentials take twice as long
        forward_rows(way, z, alpha, y)
    else:
        rows = 1 + (CHUNK - 1) // y.shape[1]
        for c in prange((len(y) + rows - 1) // rows):
            part = slice(c * rows, min(len(y), (c + 1) * rows))
            forward_rows(way, z[part], alpha, y[part])


@threaded
def backward(way, dy, saved, alpha, dz):
    """dz = dy act'(saved) of 2-D arrays."""
    if serial(dz.size):
        backward_rows(way, dy, saved, alpha, dz)
    else:
        rows = 1 + (CHUNK - 1) // dz.shape[1]
        for c in prange((len(dz) + rows - 1) // rows):
            part = slice(c * rows, min(len(dz), (c + 1) * rows))
            backward_rows(way, dy[part], saved[part], alpha, dz[part])


@kernel
def slope_gradient(dy, z, dalpha):
    """dalpha_j = sum_i dy_ij min(0, z_ij), row by row so that memory is read in order."""
    dalpha[:] = 0
    for i in range(len(dy)):
        row, s = dy[i], z[i]
        for j in range(dalpha.size):
            dalpha[j] += row[j] * (type(s[j])(0) if s[j] > 0 else s[j])


@shortcut(read(2), types.intp, types.float64, written(2))
def _forward_call(z, way, slope, y):
    fits = z.shape == y.shape and in_place(span(y), span(z))
    if fits:
        forward(way, writable(z), carray(stored(y.dtype.type(slope)), 1), y)
    return fits


@shortcut(read(2), read(1), written(2))
def _forward_slopes(z, alpha, y):
    fits = z.shape == y.shape and alpha.size == y.shape[1] and in_place(span(y), span(z))
    fits = fits and disjoint((span(y),), (span(alpha),))
    if fits:
        forward(SLOPES, writable(z), writable(alpha), y)
    return fits


@shortcut(read(2), read(2), types.intp, types.float64, written(2))
def _backward_call(dy, saved, way, slope, dz):
    fits = dy.shape == dz.shape and saved.shape == dz.shape
    fits = fits and in_place(span(dz), span(dy)) and in_place(span(dz), span(saved))
    if fits:
        alpha = carray(stored(dz.dtype.type(slope)), 1)
        backward(way, writable(dy), writable(saved), alpha, dz)
    return fits


@shortcut(read(2), read(2), read(1), written(2))
def _backward_slopes(dy, saved, alpha, dz):
    fits = dy.shape == dz.shape and saved.shape == dz.shape and alpha.size == dz.shape[1]
    fits = fits and in_place(span(dz), span(dy)) and in_place(span(dz), span(saved))
    fits = fits and disjoint((span(dz),), (span(alpha),))
    if fits:
        backward(SLOPES, writable(dy), writable(saved), writable(alpha), dz)
    return fits


@shortcut(read(2), read(2), read(1), written(2), written(1))
def _prelu_backward(dy, z, alpha, dz, dalpha):
    fits = dy.shape == dz.shape and z.shape == dz.shape
    fits = fits and alpha.size == dz.shape[1] and dalpha.size == alpha.size
    fits = fits and in_place(span(dz), span(dy)) and in_place(span(dz), span(z))
    fits = fits and disjoint((span(dz), span(dalpha)), (span(alpha),))
    fits = fits and disjoint((span(dalpha),), (span(dy), span(z)))
    if fits:
        dy, z = writable(dy), writable(z)
        slope_gradient(dy, z, dalpha)  # first: dz may replace what it reads
        backward(SLOPES, dy, z, writable(alpha), dz)
    return fits


def activation_forward(z, activation, alpha=None, *, out=None):
    """y = act(z), elementwise; see reference.activation_forward. `out` may be z."""
    plain = interface.plain(activation, alpha)
    if plain and out is not None and _forward_call.accepts(z, *plain, out):
        return out
    interface.floating("z", z, np.ndarray, 2)
    way, slope, slopes = interface.activation(activation, alpha, z.shape[1], np.ndarray, z.dtype)
    if out is None:
        out = np.empty_like(z)
    else:
        interface.written("out", out, np.ndarray, z.dtype, z.shape)
        interface.disjoint({"out": out}, {"z": z, "alpha": slopes}, [("out", "z")])
    if slopes is None:
        _forward_call.ready(z.dtype)
        _forward_call(z, way, slope, out)
    else:
        _forward_slopes.ready(z.dtype)
        _forward_slopes(z, slopes, out)
    return out


def activation_backward(dy, saved, activation, alpha=None, *, out=None):
    """dz = dy act'(z), for prelu (dz, dalpha); see reference.activation_backward.

    dz may replace dy or saved.
    """
    plain = interface.plain(activation, alpha)
    if plain and out is not None and _backward_call.accepts(dy, saved, *plain, out):
        return out
    is_prelu = activation == "prelu" and type(out) is tuple
    if is_prelu and _prelu_backward.accepts(dy, saved, alpha, *out):
        return out
    interface.floating("dy", dy, np.ndarray, 2)
    interface.array("saved", saved, np.ndarray, dy.dtype, dy.shape)
    way, slope, slopes = interface.activation(activation, alpha, dy.shape[1], np.ndarray, dy.dtype)
    inputs = {"dy": dy, "saved": saved, "alpha": slopes}
    if activation != "prelu":
        if out is None:
            out = np.empty_like(dy)
        else:
            interface.written("out", out, np.ndarray, dy.dtype, dy.shape)
            interface.disjoint({"out": out}, inputs, [("out", "dy"), ("out", "saved")])
        if slopes is None:
            _backward_call.ready(dy.dtype)
            _backward_call(dy, saved, way, slope, out)
        else:
            _backward_slopes.ready(dy.dtype)
            _backward_slopes(dy, saved, slopes, out)
        return out
    if out is None:
        out = np.empty_like(dy), np.empty_like(slopes)
    else:
        interface.several("out", out, 2)
        interface.written("out[0]", out[0], np.ndarray, dy.dtype, dy.shape)
        interface.written("out[1]", out[1], np.ndarray, dy.dtype, slopes.shape)
        outputs = {f"out[{k}]": array for k, array in enumerate(out)}
        interface.disjoint(outputs, inputs, [("out[0]", "dy"), ("out[0]", "saved")])
    _prelu_backward.ready(dy.dtype)
    _prelu_backward(dy, saved, slopes, *out)
    return tuple(out)
