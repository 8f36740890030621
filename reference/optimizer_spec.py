"""The specification of the update rules: error bounds, samples, borders, work.

Each error takes `carried`, the errors that param and state bring along from earlier steps, and that
of the gradient (zeros where they are exact), so that a trajectory's bound is the same recursion as
the trajectory itself. What is given as a bound comes out as one, what is given as a standard
deviation as one: where errors meet, they are added up.
"""

import inspect

import numpy as np

from .bounds import EXACT, Bound, smallest_normal, unit_roundoff
from .optimizers import adadelta, adagrad, adam, adamw, momentum, nesterov, rmsprop, sgd
from .spec import Operation, Result


def _sgd_error(inputs, dtype, carried, of_grad):
    u, lr = unit_roundoff(dtype), inputs["lr"]
    change, p = np.abs(lr * inputs["grad"]), np.abs(_after(sgd, inputs)["param"])
    return (carried[0] + lr * of_grad + u * (2 * change + p) + 2 * smallest_normal(dtype),)


def _velocity_error(inputs, after, dtype, v_error, of_grad):
    u, beta, lr = unit_roundoff(dtype), inputs["beta"], inputs["lr"]
    terms = 2 * beta * np.abs(inputs["velocity"]) + 2 * np.abs(lr * inputs["grad"])
    rounding = u * (terms + np.abs(after["velocity"]))
    return beta * v_error + lr * of_grad + rounding + 3 * smallest_normal(dtype)


def _momentum_error(inputs, dtype, carried, of_grad):
    after = _after(momentum, inputs)
    v_error = _velocity_error(inputs, after, dtype, carried[1], of_grad)
    rounding = unit_roundoff(dtype) * np.abs(after["param"]) + smallest_normal(dtype)
    return carried[0] + v_error + rounding, v_error


def _nesterov_error(inputs, dtype, carried, of_grad):
    after, beta, lr = _after(nesterov, inputs), inputs["beta"], inputs["lr"]
    v_error = _velocity_error(inputs, after, dtype, carried[1], of_grad)
    pieces = beta * np.abs(after["velocity"]) + np.abs(lr * inputs["grad"])
    rounding = unit_roundoff(dtype) * (3 * pieces + np.abs(after["param"]))
    p_error = carried[0] + beta * v_error + lr * of_grad
    return p_error + rounding + 4 * smallest_normal(dtype), v_error


def _quotient_error(numerator, numerator_error, square, square_error, eps, dtype):
    """Of numerator / (sqrt(square) + eps)."""
    u, root = unit_roundoff(dtype), np.sqrt(square)
    # |sqrt(a) - sqrt(b)| = |a - b| / (sqrt(a) + sqrt(b)), where the second may be as small as this.
    other = np.sqrt(np.maximum(square - square_error, 0))
    root_error = square_error / np.maximum(root + other, smallest_normal(dtype))
    root_error = np.minimum(root_error, np.sqrt(square_error))
    denominator = root + eps
    error = root_error + 3 * u * denominator
    # The denominator is never below eps, nor can its error reach beyond it.
    low = np.maximum(denominator - error, eps * (1 - 3 * u))
    return (numerator_error + np.abs(numerator) * (error / denominator + 2 * u)) / low


def _square_error(grad, of_grad):
    """Of g^2."""
    return (2 * np.abs(grad) + of_grad) * of_grad


def _adagrad_error(inputs, dtype, carried, of_grad):
    u, tiny, grad = unit_roundoff(dtype), smallest_normal(dtype), inputs["grad"]
    after = _after(adagrad, inputs)
    square = after["accumulator"]
    square_error = carried[1] + _square_error(grad, of_grad) + u * (grad**2 + square) + 2 * tiny
    change = _scaled_gradient_error(inputs, square, square_error, dtype, of_grad)
    return carried[0] + change + u * np.abs(after["param"]) + 2 * tiny, square_error


def _rmsprop_error(inputs, dtype, carried, of_grad):
    u, tiny, grad = unit_roundoff(dtype), smallest_normal(dtype), inputs["grad"]
    after, rho = _after(rmsprop, inputs), inputs["rho"]
    square = after["mean_square"]
    terms = 2 * rho * inputs["mean_square"] + 3 * (1 - rho) * grad**2
    square_error = rho * carried[1] + (1 - rho) * _square_error(grad, of_grad)
    square_error = square_error + u * (terms + square) + 3 * tiny
    change = _scaled_gradient_error(inputs, square, square_error, dtype, of_grad)
    return carried[0] + change + u * np.abs(after["param"]) + 2 * tiny, square_error


def _scaled_gradient_error(inputs, square, square_error, dtype, of_grad):
    numerator = inputs["lr"] * inputs["grad"]
    rounding = 2 * unit_roundoff(dtype) * np.abs(numerator) + smallest_normal(dtype)
    error = inputs["lr"] * of_grad + rounding
    return _quotient_error(numerator, error, square, square_error, inputs["eps"], dtype)


def _adam_error(inputs, dtype, carried, of_grad):
    u, tiny, after = unit_roundoff(dtype), smallest_normal(dtype), _after(adam, inputs)
    beta1, beta2, step = inputs["beta1"], inputs["beta2"], inputs["step"]
    grad, m, v = np.abs(inputs["grad"]), np.abs(after["mean"]), after["variance"]
    m_terms = 2 * beta1 * np.abs(inputs["mean"]) + 2 * (1 - beta1) * grad
    m_error = beta1 * carried[1] + (1 - beta1) * of_grad + u * (m_terms + m) + 3 * tiny
    v_terms = 2 * beta2 * inputs["variance"] + 3 * (1 - beta2) * grad**2
    v_error = beta2 * carried[2] + (1 - beta2) * _square_error(grad, of_grad)
    v_error = v_error + u * (v_terms + v) + 3 * tiny
    rate, off1 = _correction(beta1, step, inputs["lr"])
    scale, off2 = _correction(beta2, step, 1.0)
    change = _quotient_error(
        rate * m,
        rate * (m_error + (2 * u + off1) * m) + tiny,
        scale * v,
        scale * (v_error + (2 * u + off2) * v) + tiny,
        inputs["eps"],
        dtype,
    )
    return carried[0] + change + u * np.abs(after["param"]) + 2 * tiny, m_error, v_error


def _adamw_error(inputs, dtype, carried, of_grad):
    p, decay = inputs["param"], inputs["lr"] * inputs["weight_decay"]
    u, others = unit_roundoff(dtype), {k: v for k, v in inputs.items() if k != "weight_decay"}
    of_p, *of_states = carried
    of_p = np.abs(1 - decay) * of_p + u * (2 * decay + 1) * np.abs(p) + smallest_normal(dtype)
    return _adam_error({**others, "param": p - decay * p}, dtype, (of_p, *of_states), of_grad)


def _adadelta_error(inputs, dtype, carried, of_grad):
    u, tiny, after = unit_roundoff(dtype), smallest_normal(dtype), _after(adadelta, inputs)
    rho, eps, grad, rest = inputs["rho"], inputs["eps"], np.abs(inputs["grad"]), 1 - inputs["rho"]
    square, before, of_change = after["mean_square"], inputs["mean_square_change"], after[CHANGE]
    square_error = rho * carried[1] + rest * _square_error(grad, of_grad) + 3 * tiny
    square_error += u * (2 * rho * inputs["mean_square"] + 3 * rest * grad**2 + square)
    root = np.sqrt(before + eps)
    root_error = carried[2] / (root + np.sqrt(np.maximum(before - carried[2], 0) + eps))
    numerator_error = (root_error + 3 * u * root) * (grad + of_grad) + root * of_grad + tiny
    shifted = square + eps, square_error + 2 * u * (square + eps)
    error = _quotient_error(root * grad, numerator_error, *shifted, 0.0, dtype)
    change = root / np.sqrt(square + eps) * grad
    change_error = rho * carried[2] + rest * _square_error(change, error) + 3 * tiny
    change_error += u * (2 * rho * before + 3 * rest * change**2 + of_change)
    lr = inputs["lr"]
    of_p = carried[0] + lr * error + u * (2 * lr * change + np.abs(after["param"])) + 2 * tiny
    return of_p, square_error, change_error


def _correction(beta, step, factor):
    """factor / (1 - beta^t) and its relative error: the power is float64's, good to an ulp."""
    power = beta**step
    return factor / (1 - power), 2 * unit_roundoff("float64") * power / (1 - power)


def _after(rule, inputs):
    """The inputs as they stand after one step of the rule."""
    after = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    rule(**after)
    return after


def parts(rule):
    """(names of its state arrays, its settings with their defaults) of an update rule."""
    parameters = inspect.signature(rule).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    settings = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    return tuple(n for n in positional if n not in ("param", "grad", "step")), settings


def counts(rule):
    """Whether it takes the number of the step."""
    return "step" in inspect.signature(rule).parameters


def draw(name, rng):
    """A hyperparameter: rates and eps from wide ranges, means' weights from 0 to 1."""
    match name:
        case "step":
            return int(rng.choice((1, 2, 3, 1000)))
        case "lr":
            return 10 ** rng.uniform(-4, 0)
        case "eps":
            return 10 ** rng.uniform(-8, 0)
    return rng.uniform()


CHANGE = "mean_square_change"
SQUARES = (
    "accumulator",
    "mean_square",
    CHANGE,
    "variance",
)  # states that are sums or means of squares


def _sample(rule, rng, shape, dtype):
    """Normal parameters and gradients, and a state as some steps would have left it."""
    inputs = {name: rng.standard_normal(shape) for name in ("param", "grad", *parts(rule)[0])}
    for name in SQUARES:
        if name in inputs:
            inputs[name] = inputs[name] ** 2
    return {name: value.astype(dtype) for name, value in inputs.items()}


def _edges(rule, settings, dtype):
    rng, states = np.random.default_rng(11), parts(rule)[0]
    for label, gradient in (
        ("zero", [0.0, -0.0]),
        ("special", [np.inf, -np.inf, np.nan]),
        ("large", [1e18, -1e18]),
        ("small", [1e-12, -1e-25, float(np.finfo(dtype).smallest_subnormal)]),
    ):
        inputs = {**_sample(rule, rng, len(gradient), dtype), **settings}
        inputs["grad"] = np.array(gradient, dtype)
        yield f"{label} gradient", inputs
        inputs = {**inputs, **{name: np.zeros(len(gradient), dtype) for name in states}}
        yield f"{label} gradient, state zero", inputs


def _operation(rule, flops, error, **settings):
    """`settings`: where a sample takes the defaults, those that have none."""
    states, defaults = parts(rule)

    def sample(rng, case):
        size = (case.sizes["fan_in"] + 1) * case.sizes["fan_out"]  # the weights and the bias
        inputs = _sample(rule, rng, size, case.dtype)
        if not case.vary:
            return {**inputs, **settings}
        return {**inputs, **{name: draw(name, rng) for name in {**settings, **defaults}}}

    def error_bound(inputs, dtype, carried=None, of_grad=EXACT):
        carried = carried or (EXACT,) * (1 + len(states))
        each = error(inputs, dtype, [c.each for c in carried], of_grad.each)
        if of_grad is EXACT and all(c is EXACT for c in carried):
            return tuple(map(Bound.of, each))
        spread = error(inputs, dtype, [c.deviation for c in carried], of_grad.deviation)
        return tuple(map(Bound, each, spread))

    return Operation(
        rule.__name__,
        rule,
        ("fan_in", "fan_out"),
        sample,
        lambda fan_in, fan_out, **_: flops * (fan_in + 1) * fan_out,
        lambda fan_in, fan_out, **_: (3 + 2 * len(states)) * (fan_in + 1) * fan_out,
        tuple(Result(name, updates=True) for name in ("param", *states)),
        error_bound,
        lambda dtype: _edges(rule, settings, dtype),
    )


OPERATIONS = (
    _operation(sgd, 2, _sgd_error, lr=0.01),
    _operation(momentum, 4, _momentum_error, lr=0.01),
    _operation(nesterov, 6, _nesterov_error, lr=0.01),
    _operation(adagrad, 7, _adagrad_error, lr=0.01),
    _operation(rmsprop, 9, _rmsprop_error, lr=0.001),
    _operation(adam, 12, _adam_error, step=3, lr=0.001),
    _operation(adamw, 14, _adamw_error, step=3, lr=0.001),
    _operation(adadelta, 15, _adadelta_error),
)
