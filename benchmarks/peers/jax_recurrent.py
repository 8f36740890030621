"""Recurrent layers as JAX does them: a product of all inputs, jax.lax.scan over the steps, jax.vjp.

Sequences lie beforehand as a scan takes them, (steps, batch, features). The forward pass leaves
what the backward pass reads, as ours does: jax.vjp's function, which the backward pass calls again
and again. Sequences of several lengths, of which a scan knows nothing, are not compared.
"""

import functools

import numpy as np

from reference import recurrence

from .given import cell_of, recurrent_bias


def bound(operation, inputs, place, wait):
    """(call, results); wait(results) waits on the CPU.

    Raises NotImplementedError where sequences have lengths.
    """
    import jax

    if "lengths" in inputs:
        raise NotImplementedError(f"a scan reads all steps of {operation}")
    cell = cell_of(operation)
    units = len(inputs["recurrent"])
    bias = inputs["bias"] if "bias" in inputs else recurrent_bias(cell, inputs)
    first = [np.zeros((len(inputs["x"]), units), np.float32)] * (2 if cell == "lstm" else 1)
    given = _by_steps(inputs["x"]), inputs["weight"], inputs["recurrent"], bias, *first
    given = [jax.device_put(np.array(array), place) for array in given]
    forward = jax.jit(lambda *given: jax.vjp(functools.partial(_layer, cell), *given))

    def leave():
        wait(jax.tree.leaves(forward(*given)))

    def states():
        y, *last = map(np.asarray, forward(*given)[0])
        return y.swapaxes(0, 1), *last

    if operation.name.endswith("forward"):
        return leave, states
    dlast = [jax.device_put(array, place) for array in first]
    dy = jax.device_put(_by_steps(inputs["dy"]), place)
    _, pull = forward(*given)
    backward = functools.partial(jax.jit(lambda pull, *d: pull(d)), pull, dy, *dlast)

    def gradients():
        dx, *others = map(np.asarray, backward())
        return dx.swapaxes(0, 1), *others

    return lambda: wait(backward()), gradients


def _layer(cell, x, weight, recurrent, bias, *first):
    """(y, the states after the last step), by the equations of reference/recurrence.py."""
    import jax

    columns = weight.shape[1]
    cells = {"rnn": recurrence.rnn_cell("tanh"), "lstm": recurrence.lstm_cell,
             "gru": recurrence.gru_cell(bias[columns:])}  # fmt: skip

    def act(z, name):
        return getattr(jax.nn, name)(z)

    def step(states, z):
        states, _ = cells[cell](act, z, states[0] @ recurrent, *states)
        return states, states[0]

    last, y = jax.lax.scan(step, first, x @ weight + bias[:columns])
    return y, *last


def _by_steps(array):
    return np.ascontiguousarray(array.swapaxes(0, 1))
