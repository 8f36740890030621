"""Steps of recurrent layers: recurrent.py runs them on arrays, recurrent_spec.py on estimates.

A cell is a step forward, a gradient the same step backward; forward and backward go over all steps
in either direction, and leave rows that have ended as they are.
"""

import numpy as np

from .activations import activation_backward, activation_forward


def rnn_cell(activation):
    def cell(act, z, a, h):
        return (act(z + a, activation),), ()

    return cell


def lstm_cell(act, z, a, h, c):
    i, f, g, o = _parts(z + a, 4)
    i, f, o, g = act(i, "sigmoid"), act(f, "sigmoid"), act(o, "sigmoid"), act(g, "tanh")
    c = f * c + i * g
    return (o * act(c, "tanh"), c), (i, f, g, o)


def gru_cell(bias_m):
    def cell(act, z, a, h):
        (z_r, z_u, z_n), (a_r, a_u, a_m) = _parts(z, 3), _parts(a, 3)
        r, u, m = act(z_r + a_r, "sigmoid"), act(z_u + a_u, "sigmoid"), a_m + bias_m
        n = act(z_n + r * m, "tanh")
        return ((1 - u) * n + u * h,), (r, u, n, m)

    return cell


def forward(cell, z, recurrent, states, lengths, reverse, act=activation_forward):
    """(the last states, the states and what is saved as lists over the positions).

    z: of x; cell(act, z_t, h_{t-1} R, *states) is (the states, what is saved).
    """
    kept = {}
    for t in order(z.shape[1], reverse):
        now, saved = cell(act, z[:, t], states[0] @ recurrent, *states)
        runs = within(t, lengths)
        states = tuple(np.where(runs, new, old) for new, old in zip(now, states, strict=True))
        kept[t] = [np.where(runs, array, 0) for array in (*now, *saved)]
    return states, list(zip(*(kept[t] for t in sorted(kept)), strict=True))


def rnn_gradient(activation):
    def gradient(act, slope, d, y, before):
        dz = slope(d, y, activation)
        return dz, dz, (0,)

    return gradient


def lstm_gradient(act, slope, d, e, c, i, f, g, o, before, cell_before):
    t = act(c, "tanh")
    e = e + d * o * (1 - t * t)
    di, df = e * g * i * (1 - i), e * cell_before * f * (1 - f)
    dg, do = e * i * (1 - g * g), d * t * o * (1 - o)
    dz = _beside(di, df, dg, do)
    return dz, dz, (0, e * f)


def gru_gradient(act, slope, d, r, u, n, m, before):
    dn, du = d * (1 - u) * (1 - n * n), d * (before - n) * u * (1 - u)
    dr = dn * m * r * (1 - r)
    return _beside(dr, du, dn), _beside(dr, du, dn * r), (d * u,)


def backward(gradient, dy, recurrent, saved, before, states, lengths, reverse,
             act=activation_forward, slope=activation_backward):  # fmt: skip
    """(the gradients by the first states, [dz, da] as lists over the positions).

    gradient(act, slope, *states, what is saved, the states before) is (dz, da, what the states
    before have of it beside da R^T).
    """
    kept = {}
    for t in reversed(order(before[0].shape[1], reverse)):
        runs, d = within(t, lengths), states[0]
        d = d if dy is None else d + dy[:, t]
        given = (array[:, t] for array in (*saved, *before))
        dz, da, (direct, *others) = gradient(act, slope, d, *states[1:], *given)
        now = direct + da @ recurrent.T, *others
        states = tuple(np.where(runs, new, old) for new, old in zip(now, states, strict=True))
        kept[t] = [np.where(runs, array, 0) for array in (dz, da)]
    return states, list(zip(*(kept[t] for t in sorted(kept)), strict=True))


def order(steps, reverse):
    """The positions as they are read. A row whose length is shorter waits at those past it."""
    return range(steps - 1, -1, -1) if reverse else range(steps)


def within(t, lengths):
    """Which rows have a position t: (batch, 1), or True."""
    return True if lengths is None else t < lengths[:, None]


def previous(states, first, lengths, reverse):
    """The state before each step, (batch, steps, units), of those after each."""
    if not reverse:
        return np.concatenate([first[:, None], states[:, :-1]], axis=1)
    following = np.concatenate([states[:, 1:], first[:, None]], axis=1)
    if lengths is not None:
        ends = np.arange(states.shape[1])[:, None] == lengths[:, None, None] - 1
        following = np.where(ends, first[:, None], following)
    return following


def stacked(arrays):
    return np.stack(arrays, axis=1)


def _parts(z, count):
    units = z.shape[1] // count
    return [z[:, k * units : (k + 1) * units] for k in range(count)]


def _beside(*arrays):
    return np.concatenate(arrays, axis=1)
