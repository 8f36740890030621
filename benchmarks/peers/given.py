"""What a call is given that is not among its inputs: defaults, and what a library keeps for its
backward pass where our specification keeps something else.
"""

import numpy as np

from kernels.catalog import ACTIVATIONS, SELU_ALPHA, SELU_LAMBDA
from reference import dropout, optimizer_spec


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
