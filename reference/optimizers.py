"""Update rules: param and state arrays, of one shape, are updated in place; nothing is returned.

grad is the gradient of the loss with respect to param. lr is the learning rate, eps stands outside
the root, step counts from 1. The equations are those of Goodfellow, Bengio and Courville, Deep
Learning, MIT Press 2016, sections 8.3 and 8.5.
"""

import numpy as np

from .spec import Operation, smallest_normal, unit_roundoff


def sgd(param, grad, *, lr):
    """p -= lr g."""
    param -= lr * grad


def momentum(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= v. Source: Polyak 1964."""
    velocity *= beta
    velocity += lr * grad
    param -= velocity


def nesterov(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g(p - beta v); p -= v, in its lookahead form.

    `param` holds q = p - beta v, the point at which the gradient is taken; in q the rule reads
    v = beta v + lr g(q); q -= beta v + lr g(q). The parameters themselves are p = q + beta v.
    Sources: Nesterov 1983; Sutskever et al., ICML 2013.
    """
    velocity *= beta
    velocity += lr * grad
    param -= beta * velocity + lr * grad


def adagrad(param, grad, accumulator, *, lr, eps=1e-8):
    """G += g^2; p -= lr g / (sqrt(G) + eps). Source: Duchi et al., JMLR 12, 2011."""
    accumulator += grad**2
    param -= lr * grad / (np.sqrt(accumulator) + eps)


def rmsprop(param, grad, mean_square, *, lr, rho=0.9, eps=1e-8):
    """E = rho E + (1 - rho) g^2; p -= lr g / (sqrt(E) + eps). Source: Tieleman and Hinton 2012."""
    mean_square *= rho
    mean_square += (1 - rho) * grad**2
    param -= lr * grad / (np.sqrt(mean_square) + eps)


def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    p -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) with t = step >= 1.

    Source: Kingma and Ba, Adam, ICLR 2015, algorithm 1.
    """
    mean *= beta1
    mean += (1 - beta1) * grad
    variance *= beta2
    variance += (1 - beta2) * grad**2
    corrected = np.sqrt(variance / (1 - beta2**step))
    param -= lr * (mean / (1 - beta1**step)) / (corrected + eps)


# --- specification ------------------------------------------------------------
# Each bound takes `carried`, the errors that param and state bring along from earlier steps (zeros
# at the first), so that a trajectory's bound is the same recursion as the trajectory itself.


def _sgd_error(inputs, dtype, carried=(0.0,)):
    (p_error,) = carried
    u, change = unit_roundoff(dtype), np.abs(inputs["lr"] * inputs["grad"])
    p = np.abs(_after(sgd, inputs)["param"])
    return (p_error + u * (2 * change + p) + 2 * smallest_normal(dtype),)


def _velocity_error(inputs, after, dtype, v_error):
    u, beta = unit_roundoff(dtype), inputs.get("beta", 0.9)
    terms = 2 * beta * np.abs(inputs["velocity"]) + 2 * np.abs(inputs["lr"] * inputs["grad"])
    rounding = u * (terms + np.abs(after["velocity"]))
    return beta * v_error + rounding + 3 * smallest_normal(dtype)


def _momentum_error(inputs, dtype, carried=(0.0, 0.0)):
    after = _after(momentum, inputs)
    v_error = _velocity_error(inputs, after, dtype, carried[1])
    rounding = unit_roundoff(dtype) * np.abs(after["param"]) + smallest_normal(dtype)
    return carried[0] + v_error + rounding, v_error


def _nesterov_error(inputs, dtype, carried=(0.0, 0.0)):
    after, beta = _after(nesterov, inputs), inputs.get("beta", 0.9)
    v_error = _velocity_error(inputs, after, dtype, carried[1])
    pieces = beta * np.abs(after["velocity"]) + np.abs(inputs["lr"] * inputs["grad"])
    rounding = unit_roundoff(dtype) * (3 * pieces + np.abs(after["param"]))
    return carried[0] + beta * v_error + rounding + 4 * smallest_normal(dtype), v_error


def _quotient_error(numerator, numerator_error, square, square_error, eps, dtype):
    """Error bound of numerator / (sqrt(square) + eps)."""
    u, root = unit_roundoff(dtype), np.sqrt(square)
    relative_to_root = square_error / np.maximum(root, smallest_normal(dtype))
    root_error = np.minimum(relative_to_root, np.sqrt(square_error))
    denominator = root + eps
    error = root_error + 3 * u * denominator
    # The denominator is never below eps, nor can its error reach beyond it.
    low = np.maximum(denominator - error, eps * (1 - 3 * u))
    return (numerator_error + np.abs(numerator) * (error / denominator + 2 * u)) / low


def _adagrad_error(inputs, dtype, carried=(0.0, 0.0)):
    u, tiny, after = unit_roundoff(dtype), smallest_normal(dtype), _after(adagrad, inputs)
    square = after["accumulator"]
    square_error = carried[1] + u * (inputs["grad"] ** 2 + square) + 2 * tiny
    change = _scaled_gradient_error(inputs, square, square_error, dtype)
    return carried[0] + change + u * np.abs(after["param"]) + 2 * tiny, square_error


def _rmsprop_error(inputs, dtype, carried=(0.0, 0.0)):
    u, tiny, after = unit_roundoff(dtype), smallest_normal(dtype), _after(rmsprop, inputs)
    rho, square = inputs.get("rho", 0.9), after["mean_square"]
    terms = 2 * rho * inputs["mean_square"] + 3 * (1 - rho) * inputs["grad"] ** 2
    square_error = rho * carried[1] + u * (terms + square) + 3 * tiny
    change = _scaled_gradient_error(inputs, square, square_error, dtype)
    return carried[0] + change + u * np.abs(after["param"]) + 2 * tiny, square_error


def _scaled_gradient_error(inputs, square, square_error, dtype):
    numerator = inputs["lr"] * inputs["grad"]
    rounding = 2 * unit_roundoff(dtype) * np.abs(numerator) + smallest_normal(dtype)
    eps = inputs.get("eps", 1e-8)
    return _quotient_error(numerator, rounding, square, square_error, eps, dtype)


def _adam_error(inputs, dtype, carried=(0.0, 0.0, 0.0)):
    u, tiny, after = unit_roundoff(dtype), smallest_normal(dtype), _after(adam, inputs)
    beta1, beta2 = inputs.get("beta1", 0.9), inputs.get("beta2", 0.999)
    grad, m, v = np.abs(inputs["grad"]), np.abs(after["mean"]), after["variance"]
    m_terms = 2 * beta1 * np.abs(inputs["mean"]) + 2 * (1 - beta1) * grad
    m_error = beta1 * carried[1] + u * (m_terms + m) + 3 * tiny
    v_terms = 2 * beta2 * inputs["variance"] + 3 * (1 - beta2) * grad**2
    v_error = beta2 * carried[2] + u * (v_terms + v) + 3 * tiny
    scale1 = inputs.get("lr", 0.001) / (1 - beta1 ** inputs["step"])
    scale2 = 1 / (1 - beta2 ** inputs["step"])
    change = _quotient_error(
        scale1 * m,
        scale1 * (m_error + 2 * u * m) + tiny,
        scale2 * v,
        scale2 * (v_error + 2 * u * v) + tiny,
        inputs.get("eps", 1e-8),
        dtype,
    )
    return carried[0] + change + u * np.abs(after["param"]) + 2 * tiny, m_error, v_error


def _after(rule, inputs):
    """The inputs as they stand after one step of the rule."""
    after = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    rule(**after)
    return after


def _sample(names, squares, settings, rng, shape, dtype):
    """Normal parameters and gradients, and a state as some steps would have left it."""
    inputs = {name: rng.standard_normal(shape) for name in ("param", "grad", *names)}
    for name in squares:
        inputs[name] = inputs[name] ** 2
    return {**{name: value.astype(dtype) for name, value in inputs.items()}, **settings}


def _edges(names, squares, settings, dtype):
    rng = np.random.default_rng(11)
    for label, gradient in (
        ("zero", [0.0, -0.0]),
        ("special", [np.inf, -np.inf, np.nan]),
        ("large", [1e18, -1e18]),
        ("small", [1e-12, -1e-25, float(np.finfo(dtype).smallest_subnormal)]),
    ):
        inputs = _sample(names, squares, settings, rng, len(gradient), dtype)
        inputs["grad"] = np.array(gradient, dtype)
        yield f"{label} gradient", inputs
        for name in names:
            inputs = {**inputs, name: np.zeros(len(gradient), dtype)}
        yield f"{label} gradient, state zero", inputs


def _operation(rule, flops, error, states=(), squares=(), **settings):
    def sample(rng, layer, batch, dtype):
        shape = (layer.fan_in + 1) * layer.fan_out  # the weights and the bias
        return _sample(states, squares, settings, rng, shape, dtype)

    return Operation(
        rule.__name__,
        rule,
        sample,
        lambda batch, fan_in, fan_out: flops * (fan_in + 1) * fan_out,
        lambda batch, fan_in, fan_out: (3 + 2 * len(states)) * (fan_in + 1) * fan_out,
        error,
        lambda dtype: _edges(states, squares, settings, dtype),
        in_place=("param", *states),
        batched=False,
    )


OPERATIONS = (
    _operation(sgd, 2, _sgd_error, lr=0.01),
    _operation(momentum, 4, _momentum_error, ("velocity",), lr=0.01),
    _operation(nesterov, 6, _nesterov_error, ("velocity",), lr=0.01),
    _operation(adagrad, 6, _adagrad_error, ("accumulator",), ("accumulator",), lr=0.01),
    _operation(rmsprop, 8, _rmsprop_error, ("mean_square",), ("mean_square",), lr=0.001),
    _operation(adam, 12, _adam_error, ("mean", "variance"), ("variance",), step=3, lr=0.001),
)
