"""The specification of a network's step: its work and its error bounds."""

import itertools

import numpy as np

from . import optimizers
from .activations import (
    DEFAULT_ALPHA,
    SAVES_INPUT,
    SELU_ALPHA,
    SELU_LAMBDA,
    activation_backward,
    activation_forward,
    dalpha_bound,
    derivative_bound,
    forward_bound,
)
from .losses import OPERATIONS as LOSS_OPERATIONS
from .losses import softmax
from .network import STATES
from .spec import ELEMENTARY, smallest_normal, summation, unit_roundoff


def flops(network, rows):
    """Fewest operations of one step: three products a layer, the first needs no dx; the update."""
    weights = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(network.sizes)]
    rule = next(o for o in optimizers.OPERATIONS if o.name == network.optimizer)
    parameters = sum(array.size for array in network.parameters.values())
    return 2 * rows * (3 * sum(weights) - weights[0]) + rule.flops(0, parameters - 1, 1)


def elements(network, rows):
    """Fewest array elements moved: parameters and state read and written once, the rows read."""
    parameters = sum(array.size for array in network.parameters.values())
    outputs = 1 if network.loss == "softmax_cross_entropy" else network.sizes[-1]
    per_parameter = 2 * (1 + len(STATES[network.optimizer]))
    return per_parameter * parameters + rows * (network.sizes[0] + outputs)


# The largest |act'|, the largest |act''| beside the kink at 0, and the jump of act' at the kink.
SHAPES = {
    "identity": (1.0, 0.0, 0.0),
    "relu": (1.0, 0.0, 1.0),
    "leaky_relu": (1.0, 0.0, 1.0 - DEFAULT_ALPHA["leaky_relu"]),
    "elu": (1.0, 1.0, 0.0),
    "selu": (SELU_LAMBDA * SELU_ALPHA, SELU_LAMBDA * SELU_ALPHA, SELU_LAMBDA * (SELU_ALPHA - 1)),
    "sigmoid": (0.25, 0.0963, 0.0),
    "tanh": (1.0, 0.7699, 0.0),
}


def _shape(name, alpha):
    if name != "prelu":
        return SHAPES[name]
    return max(1.0, np.abs(alpha).max()), 0.0, np.abs(1 - alpha)


def step_bound(network, x, labels, dtype):
    """Error bounds of one step in `dtype` from this very state: (of the loss, {name: of array}).

    network: in float64, before the step; the arrays are the parameters and the optimizer's state.
    The running error of each intermediate result is carried, to first order in u, through the
    products (Higham, ch. 3), the activations (by their largest slope and curvature; what is within
    its error of a kink may fall on either side), the loss and the update rule.
    """
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)

    def product(a, a_error, b, b_error):
        """Error of a @ b from those of a and b."""
        a, b, terms = np.abs(a), np.abs(b), a.shape[1]
        rounding = (summation(terms) + 1) * u * (a + a_error) @ (b + b_error) + terms * tiny
        return a_error @ b + (a + a_error) @ b_error + rounding

    inputs, sums, logits = network._forward(x)
    x_errors, z_errors, error = [], [], np.zeros_like(x)
    for layer, z in enumerate(sums):
        weight, bias, name, alpha = network._layer(layer)
        x_errors.append(error)
        z_error = product(inputs[layer], error, weight, np.zeros_like(weight))
        z_errors.append(z_error + u * (np.abs(bias) + np.abs(z)))
        y = activation_forward(z, name, alpha)
        error = _shape(name, alpha)[0] * z_errors[-1] + forward_bound(y, name, dtype)
    loss_error, error = _loss_bound(network, logits, error, labels, dtype)
    _, dy = network._loss(logits, labels)

    errors, gradients = {}, {}
    for layer in reversed(range(len(sums))):
        weight, bias, name, alpha = network._layer(layer)
        z, z_error, x, x_error = sums[layer], z_errors[layer], inputs[layer], x_errors[layer]
        after = inputs[layer + 1] if layer + 1 < len(inputs) else logits
        saved = z if name in SAVES_INPUT else after
        largest, curvature, jump = _shape(name, alpha)
        dz = activation_backward(dy, saved, name, alpha)
        dz, dalpha = dz if name == "prelu" else (dz, None)
        slack = curvature * z_error + jump * (np.abs(z) <= z_error)
        dz_error = largest * error + (np.abs(dy) + error) * slack
        dz_error = dz_error + derivative_bound(dy, saved, name, alpha, dtype)
        if name == "prelu":
            key, negative = f"layer{layer}.slope", np.abs(np.minimum(z, 0))
            each = error * (negative + z_error) + np.abs(dy) * z_error
            gradients[key] = dalpha
            errors[key] = each.sum(axis=0) + dalpha_bound(dy, z, dtype)
        key = f"layer{layer}.weight"
        gradients[key], errors[key] = x.T @ dz, product(x.T, x_error.T, dz, dz_error)
        key, ones = f"layer{layer}.bias", np.ones((1, len(x)))
        gradients[key] = dz.sum(axis=0)
        errors[key] = product(ones, np.zeros_like(ones), dz, dz_error)[0]
        error = product(dz, dz_error, weight.T, np.zeros_like(weight.T))
        dy = dz @ weight.T

    bounds = {}
    for name, gradient in gradients.items():
        param = network.parameters[name]
        bounds.update(_update_bound(network, name, param, gradient, errors[name], dtype))
    return loss_error, bounds


def _loss_bound(network, logits, error, labels, dtype):
    """Error bounds of the loss and of dlogits, given that of the logits."""
    u, tiny, n = unit_roundoff(dtype), smallest_normal(dtype), logits.size
    smoothing = network.label_smoothing
    if network.loss == "softmax_cross_entropy":
        operation = next(o for o in LOSS_OPERATIONS if o.name == network.loss)
        inputs = {"logits": logits, "labels": labels, "label_smoothing": smoothing}
        loss_error, rounding = operation.error_bound(inputs, dtype)
        worst = error.max(axis=1, keepdims=True)  # p_j changes by at most 2 p_j max_k |dx_k|
        moved = softmax(logits) * np.expm1(2 * worst) / len(logits)
        return loss_error + 2 * worst.mean(), rounding + moved
    each_size = summation(n) + 2
    if network.loss == "mean_squared_error":
        difference = np.abs(logits - labels)
        off = error + u * difference
        loss_error = ((2 * difference + off) * off).mean() + each_size * u * (difference**2).mean()
        return loss_error + tiny, 2 * (off + 3 * u * difference) / n + tiny
    target = (1 - smoothing) * labels + smoothing / 2
    terms = (2 + ELEMENTARY) * (np.abs(logits) + 1)
    loss_error = (error + (each_size + 3) * u * terms).mean() + tiny
    p = activation_forward(logits, "sigmoid")
    return loss_error, ((ELEMENTARY + 6) * u * (p + np.abs(target)) + error / 4) / n + tiny


def _update_bound(network, name, param, gradient, error, dtype):
    """Error bounds of a parameter and its state after the rule, given that of the gradient.

    An error of the gradient acts like one that the state carries along from an earlier step.
    """
    u, rule, lr = unit_roundoff(dtype), network.optimizer, network.settings["lr"]
    operation = next(o for o in optimizers.OPERATIONS if o.name == rule)
    settings = dict(network.settings)
    if rule == "adam":
        settings["step"] = network.steps + 1
    states = {s: network.states[f"{name}.{s}"] for s in STATES[rule]}
    kept = param - lr * network.weight_decay * param
    inputs = {"param": kept, "grad": gradient, **states, **settings}
    of_param = 3 * u * np.abs(param) if network.weight_decay else 0.0
    square = (2 * np.abs(gradient) + error) * error
    match rule:
        case "sgd":
            carried = (of_param + lr * error,)
        case "momentum":
            carried = of_param, lr * error / settings.get("beta", 0.9)
        case "nesterov":
            carried = of_param + lr * error, lr * error / settings.get("beta", 0.9)
        case "adam":
            beta1, beta2 = settings.get("beta1", 0.9), settings.get("beta2", 0.999)
            carried = of_param, (1 - beta1) * error / beta1, (1 - beta2) * square / beta2
        case "adagrad" | "rmsprop":
            # p also feels the gradient's error in the numerator, over the least denominator.
            rho = settings.get("rho", 0.9)
            share = (1 - rho) if rule == "rmsprop" else 1.0
            kept_share = rho if rule == "rmsprop" else 1.0
            (state,) = states.values()
            least = kept_share * state + share * np.maximum(np.abs(gradient) - error, 0) ** 2
            numerator = lr * error / (np.sqrt(least) + settings.get("eps", 1e-8))
            carried = of_param + numerator, share * square / kept_share
    after = operation.error_bound(inputs, dtype, carried)
    names = (name, *(f"{name}.{state}" for state in states))
    return dict(zip(names, after, strict=True))
