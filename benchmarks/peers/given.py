"""What a call is given that is not among its inputs: defaults, and what a library keeps for its
backward pass where our specification keeps something else.
"""

import numpy as np

from kernels.catalog import ACTIVATIONS, SELU_ALPHA, SELU_LAMBDA
from reference import FAMILIES, dropout, optimizer_spec, recurrence
from reference.spec import upcast

_RECURRENT = {operation.name for operation in FAMILIES["recurrent"]}


def settings_of(operation, inputs):
    """The settings of an update rule by name, those not among the inputs its defaults."""
    _, defaults = optimizer_spec.parts(operation.function)
    return {name: inputs.get(name, default) for name, default in defaults.items()}


def alpha_of(inputs):
    """The parameter of the activation among the inputs, or None."""
    declared = ACTIVATIONS[inputs["activation"]].alpha
    return inputs.get("alpha", declared and declared.default)


def mask_of(inputs):
    """The elements that dropout keeps, which a library stores for the backward pass."""
    places = (inputs.get(name, 0) for name in ("seed", "step", "layer"))
    return dropout.factors(inputs["dy"], inputs["rate"], *places) > 0


def cell_of(operation):
    """The cell of a recurrent layer: rnn, lstm or gru, or None."""
    return operation.name.partition("_")[0] if operation.name in _RECURRENT else None


def recurrent_bias(cell, inputs):
    """The bias of a layer whose sequences begin at 0, from what its forward pass saved: the middle
    one of those that every step of every row was given.
    """
    wide, logit, arctanh = upcast(inputs), lambda p: np.log(p) - np.log1p(-p), np.arctanh
    y, units = wide["y"], wide["y"].shape[2]
    z = wide["x"] @ wide["weight"]
    a = recurrence.previous(y, np.zeros_like(y[:, 0]), None, False) @ wide["recurrent"]
    gates = [y] if cell == "rnn" else np.split(wide["gates"], 4, axis=2)
    inverses = {"rnn": (arctanh,), "lstm": (logit, logit, arctanh, logit),
                "gru": (logit, logit, arctanh, np.positive)}[cell]  # fmt: skip
    linear = z + a
    if cell == "gru":
        r, _, _, m = gates
        of_n, of_m = z[..., 2 * units :] + r * m, a[..., 2 * units :]
        linear = np.concatenate([linear[..., : 2 * units], of_n, of_m], axis=2)
    with np.errstate(divide="ignore"):  # of gates that are shut or open
        found = [inverse(gate) for inverse, gate in zip(inverses, gates, strict=True)]
    found = np.median(np.concatenate(found, axis=2) - linear, axis=(0, 1))
    return found.astype(inputs["y"].dtype)


def pre_activation(inputs):
    """z where `saved` is y = act(z), in its dtype: at the flat ends any z that leads there."""
    y, activation, alpha = inputs["saved"], inputs["activation"], alpha_of(inputs)
    if ACTIVATIONS[activation].saves_input or activation in ("identity", "relu"):
        return y
    wide = y.astype(np.float64)
    left = np.minimum(wide, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        match activation:
            case "leaky_relu":
                z = np.where(wide > 0, wide, wide / alpha)
            case "elu":
                z = np.where(wide > 0, wide, np.log1p(left / alpha))
            case "celu":
                z = np.where(wide > 0, wide, alpha * np.log1p(left / alpha))
            case "selu":
                negative = np.log1p(left / (SELU_LAMBDA * SELU_ALPHA))
                z = np.where(wide > 0, wide / SELU_LAMBDA, negative)
            case "sigmoid":
                z = np.log(wide) - np.log1p(-wide)
            case "tanh":
                z = np.arctanh(wide)
            case "softplus":
                z = wide + np.log(-np.expm1(-wide))
            case "softsign":
                z = wide / (1 - np.abs(wide))
            case "hard_sigmoid":
                z = np.where(wide <= 0, -4, np.where(wide >= 1, 4, 6 * wide - 3))
            case "thresholded_relu":
                z = np.where(wide > 0, wide, alpha - 1)
    return z.astype(y.dtype)
