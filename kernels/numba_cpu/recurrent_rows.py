"""What a step of a recurrent layer does to a row, unit by unit; equations: reference/recurrent.py.

Arrays come as pointers. A row is a function of its own, never inlined: see activation_rows.py.
"""

from numba import carray

from .codegen.elementary import tanh
from .codegen.inlined import register_jitable
from .codegen.vectors import advance, never_inlined


@register_jitable
def clear(row, count):
    row = carray(row, count)
    for j in range(count):
        row[j] = 0


@register_jitable
def copy(source, row, count):
    source, row = carray(source, count), carray(row, count)
    for j in range(count):
        row[j] = source[j]


@register_jitable
def add(source, row, count):
    source, row = carray(source, count), carray(row, count)
    for j in range(count):
        row[j] += source[j]


@register_jitable
def _part(gates, number, units):
    return carray(advance(gates, number * units), units)


@register_jitable
def lstm_row(gates, c, cells, h, y, units):
    never_inlined()
    i, f, g, o = (_part(gates, 0, units), _part(gates, 1, units), _part(gates, 2, units),
                  _part(gates, 3, units))  # fmt: skip
    c, cells, h, y = carray(c, units), carray(cells, units), carray(h, units), carray(y, units)
    for j in range(units):
        value = f[j] * c[j] + i[j] * g[j]
        c[j] = value
        cells[j] = value
    for j in range(units):
        value = o[j] * tanh(cells[j])
        h[j] = value
        y[j] = value


@register_jitable
def lstm_gradient(gates, cells, before, dh, dc, dz, units):
    never_inlined()
    i, f, g, o = (_part(gates, 0, units), _part(gates, 1, units), _part(gates, 2, units),
                  _part(gates, 3, units))  # fmt: skip
    di, df, dg, do = (_part(dz, 0, units), _part(dz, 1, units), _part(dz, 2, units),
                      _part(dz, 3, units))  # fmt: skip
    cells, before = carray(cells, units), carray(before, units)
    dh, dc = carray(dh, units), carray(dc, units)
    one = dh.dtype.type(1)
    for j in range(units):
        t, d = tanh(cells[j]), dh[j]
        dc[j] += d * o[j] * (one - t * t)
        do[j] = d * t * o[j] * (one - o[j])
        dh[j] = 0
    for j in range(units):
        e = dc[j]
        di[j] = e * g[j] * i[j] * (one - i[j])
        df[j] = e * before[j] * f[j] * (one - f[j])
        dg[j] = e * i[j] * (one - g[j] * g[j])
        dc[j] = e * f[j]


@register_jitable
def gru_mix(gates, units):
    never_inlined()
    r, n, m = _part(gates, 0, units), _part(gates, 2, units), _part(gates, 3, units)
    for j in range(units):
        n[j] += r[j] * m[j]


@register_jitable
def gru_row(gates, h, y, units):
    never_inlined()
    u, n = _part(gates, 1, units), _part(gates, 2, units)
    h, y = carray(h, units), carray(y, units)
    one = h.dtype.type(1)
    for j in range(units):
        value = (one - u[j]) * n[j] + u[j] * h[j]
        h[j] = value
        y[j] = value


@register_jitable
def gru_gradient(gates, before, dh, dz, da, units):
    never_inlined()
    r, u, n, m = (_part(gates, 0, units), _part(gates, 1, units), _part(gates, 2, units),
                  _part(gates, 3, units))  # fmt: skip
    dr, du, dn = _part(dz, 0, units), _part(dz, 1, units), _part(dz, 2, units)
    dm, before, dh = _part(da, 2, units), carray(before, units), carray(dh, units)
    one = dh.dtype.type(1)
    for j in range(units):
        d = dh[j]
        dn[j] = d * (one - u[j]) * (one - n[j] * n[j])
        du[j] = d * (before[j] - n[j]) * u[j] * (one - u[j])
        dh[j] = d * u[j]
    for j in range(units):
        dm[j] = dn[j] * r[j]
        dr[j] = dn[j] * m[j] * r[j] * (one - r[j])
