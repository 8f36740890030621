"""Recurrent layers, forward and backward through time: simple RNN, LSTM and GRU.

Sources: Goodfellow, Bengio and Courville, Deep Learning, MIT Press 2016, sections 10.2 and 10.10;
Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 9, 1997, with the forget gate
of Gers, Schmidhuber and Cummins, Neural Computation 12, 2000; Cho et al., Learning Phrase
Representations using RNN Encoder-Decoder, EMNLP 2014. Equations and the order of the gates are
those of torch.nn.RNN, LSTM and GRU; ONNX's RNN, LSTM and GRU are the same, gates in another order,
GRU with linear_before_reset=1.

Everywhere x is (batch, steps, features), y and all that is saved (batch, steps, ...), weight
(features, gates * units), recurrent (units, gates * units), h0, c0 and the last states (batch,
units); nothing is empty. Gates lie beside each other. Without h0 or c0 a state begins at 0.

`lengths`, (batch,) int32 or int64 from 1 to the number of steps, are those of the sequences: past
its length a row's results are 0, its state stays as it is, and what x, finite, and dy hold there
plays no part. With reverse=True a sequence is read from its end (that of its length) to its
beginning: a layer for both directions is two calls, whose y stand beside each other.

Truncated backpropagation is a call on each piece of the sequences, which is given the last state of
the piece before; with dlast, the gradient by the state that is handed on, nothing is truncated.
Backward functions take dy or None, and return gradients in the order of the arguments.
"""

import numpy as np

from .recurrence import (
    backward,
    forward,
    gru_cell,
    gru_gradient,
    lstm_cell,
    lstm_gradient,
    previous,
    rnn_cell,
    rnn_gradient,
    stacked,
)
from .spec import store


def rnn_forward(
    x, weight, recurrent, bias, h0=None, lengths=None, activation="tanh", *, reverse=False, out=None
):
    """h_t = act(x_t W + h_{t-1} R + b), act being "tanh" or "relu".

    bias: (units,). Returns, and out takes, (y, last): every h_t, and the state after the last step.
    """
    z = x @ weight + bias
    states = (np.zeros_like(z[:, 0]) if h0 is None else h0,)
    last, (y,) = forward(rnn_cell(activation), z, recurrent, states, lengths, reverse)
    return _stored(out, (stacked(y), *last))


def rnn_backward(dy, x, weight, recurrent, y, h0=None, lengths=None, dlast=None,
                 activation="tanh", *, reverse=False, out=None):  # fmt: skip
    """The gradients of rnn_forward, given those by y (None: 0) and by the last state.

    With d_t the gradient by h_t: dz_t = d_t act'(z_t), and d_{t-1} = dy_{t-1} + dz_t R^T. Returns,
    and out takes, (dx, dweight, drecurrent, dbias, dh0): dx = dz W^T, dW = x^T dz over all steps
    at once, dR = sum h_{t-1}^T dz_t, db = sum dz_t.
    """
    h0, (dlast,) = _zeros_for(y, h0), _zeros_for(y, dlast, several=True)
    saved, before = (y,), (previous(y, h0, lengths, reverse),)
    gradient = rnn_gradient(activation)
    firsts, (dz, _) = backward(gradient, dy, recurrent, saved, before, (dlast,), lengths, reverse)
    dz = stacked(dz)
    return _stored(out, (*_products(x, weight, before[0], dz, dz), _sum(dz), *firsts))


def lstm_forward(x, weight, recurrent, bias, h0=None, c0=None, lengths=None, *, reverse=False,
                 out=None):  # fmt: skip
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t), elementwise, of the gates i, f, g, o of the step:
    i, f, o = sigmoid(x_t W + h_{t-1} R + b), g = tanh(x_t W + h_{t-1} R + b), of their columns.

    bias: (4 units,), the sum of PyTorch's two. Returns, and out takes, (y, last, last_cell, cells,
    gates): every h_t, the states after the last step, every c_t and the gates, (batch, steps,
    4 units), which the backward pass reads.
    """
    z = x @ weight + bias
    states = tuple(_zeros(z, len(recurrent)) if s is None else s for s in (h0, c0))
    last, (y, cells, *gates) = forward(lstm_cell, z, recurrent, states, lengths, reverse)
    results = stacked(y), *last, stacked(cells), _joined(gates)
    return _stored(out, results)


def lstm_backward(dy, x, weight, recurrent, y, cells, gates, h0=None, c0=None, lengths=None,
                  dlast=None, dlast_cell=None, *, reverse=False, out=None):  # fmt: skip
    """The gradients of lstm_forward, given those by y (None: 0) and by the last states.

    With d_t and e_t those by h_t and c_t, e_t += d_t o (1 - tanh(c_t)^2) and the gates' are
    e_t g i (1 - i), e_t c_{t-1} f (1 - f), e_t i (1 - g^2), d_t tanh(c_t) o (1 - o): together dz_t;
    e_{t-1} = e_t f, d_{t-1} = dy_{t-1} + dz_t R^T. Returns, and out takes, (dx, dweight,
    drecurrent, dbias, dh0, dc0), sums as in rnn_backward.
    """
    h0, c0 = _zeros_for(y, h0), _zeros_for(y, c0)
    saved = (cells, *np.split(gates, 4, axis=2))
    before = tuple(previous(s, s0, lengths, reverse) for s, s0 in ((y, h0), (cells, c0)))
    lasts = _zeros_for(y, dlast, dlast_cell, several=True)
    firsts, (dz, _) = backward(lstm_gradient, dy, recurrent, saved, before, lasts, lengths, reverse)
    dz = stacked(dz)
    return _stored(out, (*_products(x, weight, before[0], dz, dz), _sum(dz), *firsts))


def gru_forward(x, weight, recurrent, bias, h0=None, lengths=None, *, reverse=False, out=None):
    """h_t = (1 - u) n + u h_{t-1}, elementwise, of the gates r, u (PyTorch's z) and n of the step:
    r, u = sigmoid(x_t W + h_{t-1} R + b), n = tanh(x_t W + b + r m) with m = h_{t-1} R + b_m.

    bias: (4 units,) for r, u, n and m: of PyTorch's two, the sum for r and u, then each for its
    own. Returns, and out takes, (y, last, gates): every h_t, the state after the last step, and
    r, u, n, m, (batch, steps, 4 units), which the backward pass reads.
    """
    columns = weight.shape[1]
    z = x @ weight + bias[:columns]
    states = (_zeros(z, len(recurrent)) if h0 is None else h0,)
    last, (y, *gates) = forward(gru_cell(bias[columns:]), z, recurrent, states, lengths, reverse)
    return _stored(out, (stacked(y), *last, _joined(gates)))


def gru_backward(dy, x, weight, recurrent, y, gates, h0=None, lengths=None, dlast=None, *,
                 reverse=False, out=None):  # fmt: skip
    """The gradients of gru_forward, given those by y (None: 0) and by the last state.

    With d_t that by h_t: dn = d_t (1 - u) (1 - n^2), du = d_t (h_{t-1} - n) u (1 - u), dm = dn r,
    dr = dn m r (1 - r). With dz = (dr, du, dn) and da = (dr, du, dm): d_{t-1} = dy_{t-1} + d_t u +
    da R^T. Returns, and out takes, (dx, dweight, drecurrent, dbias, dh0): as in rnn_backward, but
    dR of da, and db of (dr, du, dn, dm).
    """
    h0, (dlast,) = _zeros_for(y, h0), _zeros_for(y, dlast, several=True)
    saved, before = np.split(gates, 4, axis=2), (previous(y, h0, lengths, reverse),)
    given = dy, recurrent, saved, before, (dlast,), lengths, reverse
    firsts, (dz, da) = backward(gru_gradient, *given)
    dz, da = stacked(dz), stacked(da)
    dbias = np.concatenate([_sum(dz), _sum(da)[2 * len(recurrent) :]])
    return _stored(out, (*_products(x, weight, before[0], dz, da), dbias, *firsts))


def _joined(gates):
    return np.concatenate([stacked(gate) for gate in gates], axis=2)


def _zeros(like, units):
    return np.zeros((len(like), units), like.dtype)


def _zeros_for(y, *states, several=False):
    given = tuple(np.zeros_like(y[:, 0]) if s is None else s for s in states)
    return given if several else given[0]


def _rows(array):
    return array.reshape(-1, array.shape[2])


def _products(x, weight, before, dz, da):
    """dx, dweight, drecurrent."""
    return dz @ weight.T, _rows(x).T @ _rows(dz), _rows(before).T @ _rows(da)


def _sum(dz):
    return dz.sum(axis=(0, 1))


def _stored(out, results):
    return tuple(store(o, r) for o, r in zip(out or [None] * len(results), results, strict=True))
