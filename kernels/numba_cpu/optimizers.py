"""Update rules for the CPU: one pass over memory each, in place; see reference.optimizers.

Here is what a rule does to one parameter; updates.py goes over the arrays. Factors like 1 - beta
are given, not taken here: in float32 they would lose digits.
"""

import numpy as np
from numba.extending import register_jitable

from .. import arguments
from ..catalog import ADADELTA, ADAGRAD, ADAM, ADAMW, MOMENTUM, NESTEROV, RMSPROP, RULES, SGD
from .codegen.shortcut import shortcut, writable
from .updates import argument_types, checked, choices, update, update_rule

__all__ = [*RULES]


@update_rule("sgd")
@register_jitable
def _sgd(p, g, lr):
    return p - lr * g


@update_rule("momentum")
@register_jitable
def _momentum(p, g, v, lr, beta):
    v = beta * v + lr * g
    return p - v, v


@update_rule("nesterov")
@register_jitable
def _nesterov(p, g, v, lr, beta):
    change = lr * g
    v = beta * v + change
    return p - (beta * v + change), v


@update_rule("adagrad")
@register_jitable
def _adagrad(p, g, total, lr, eps):
    total = total + g * g
    return p - lr * g / (np.sqrt(total) + eps), total


@update_rule("rmsprop")
@register_jitable
def _rmsprop(p, g, mean_square, lr, rho, one_minus_rho, eps):
    mean_square = rho * mean_square + one_minus_rho * (g * g)
    return p - lr * g / (np.sqrt(mean_square) + eps), mean_square


@update_rule("adam")
@register_jitable
def _adam(
    p, g, m, v, rate, correction, beta1, one_minus_beta1, beta2, one_minus_beta2, eps
):  # fmt: skip
    m = beta1 * m + one_minus_beta1 * g
    v = beta2 * v + one_minus_beta2 * (g * g)
    return p - rate * m / (np.sqrt(v * correction) + eps), m, v


@update_rule("adamw")
@register_jitable
def _adamw(p, g, m, v, rate, correction, beta1, rest1, beta2, rest2, eps, decay):
    return _adam(p - decay * p, g, m, v, rate, correction, beta1, rest1, beta2, rest2, eps)


@update_rule("adadelta")
@register_jitable
def _adadelta(p, g, mean_square, of_change, lr, rho, one_minus_rho, eps):
    mean_square = rho * mean_square + one_minus_rho * (g * g)
    change = np.sqrt(of_change + eps) / np.sqrt(mean_square + eps) * g
    of_change = rho * of_change + one_minus_rho * (change * change)
    return p - lr * change, mean_square, of_change


with_scalars, with_part = choices()


@shortcut(*argument_types(SGD))
def _sgd_call(param, grad, lr):
    return update(SGD, (param, writable(grad)), 1, (lr,))


def sgd(param, grad, *, lr):
    """p -= lr g."""
    if not _sgd_call.accepts(param, grad, lr):
        checked(_sgd_call, "sgd", param, grad, lr)


@shortcut(*argument_types(MOMENTUM))
def _momentum_call(param, grad, velocity, lr, beta):
    return update(MOMENTUM, (param, writable(grad), velocity), 1, (lr, beta))


def momentum(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= v."""
    if not _momentum_call.accepts(param, grad, velocity, lr, beta):
        checked(_momentum_call, "momentum", param, grad, velocity, lr, beta)


@shortcut(*argument_types(NESTEROV))
def _nesterov_call(param, grad, velocity, lr, beta):
    return update(NESTEROV, (param, writable(grad), velocity), 1, (lr, beta))


def nesterov(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; q -= beta v + lr g, where param holds the lookahead q = p - beta v."""
    if not _nesterov_call.accepts(param, grad, velocity, lr, beta):
        checked(_nesterov_call, "nesterov", param, grad, velocity, lr, beta)


@shortcut(*argument_types(ADAGRAD))
def _adagrad_call(param, grad, accumulator, lr, eps):
    return update(ADAGRAD, (param, writable(grad), accumulator), 1, (lr, eps))


def adagrad(param, grad, accumulator, *, lr, eps=1e-8):
    """G += g^2; p -= lr g / (sqrt(G) + eps)."""
    if not _adagrad_call.accepts(param, grad, accumulator, lr, eps):
        checked(_adagrad_call, "adagrad", param, grad, accumulator, lr, eps)


@shortcut(*argument_types(RMSPROP))
def _rmsprop_call(param, grad, mean_square, lr, rho, eps):
    return update(RMSPROP, (param, writable(grad), mean_square), 1, (lr, rho, eps))


def rmsprop(param, grad, mean_square, *, lr, rho=0.9, eps=1e-8):
    """E = rho E + (1 - rho) g^2; p -= lr g / (sqrt(E) + eps)."""
    if not _rmsprop_call.accepts(param, grad, mean_square, lr, rho, eps):
        checked(_rmsprop_call, "rmsprop", param, grad, mean_square, lr, rho, eps)


@shortcut(*argument_types(ADAM))
def _adam_call(param, grad, mean, variance, step, lr, beta1, beta2, eps):
    return update(ADAM, (param, writable(grad), mean, variance), step, (lr, beta1, beta2, eps))


def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p -= lr m^ / (sqrt(v^) + eps)."""
    given = param, grad, mean, variance, arguments.step("step", step), lr, beta1, beta2, eps
    if not _adam_call.accepts(*given):
        checked(_adam_call, "adam", *given)


@shortcut(*argument_types(ADAMW))
def _adamw_call(param, grad, mean, variance, step, lr, beta1, beta2, eps, weight_decay):
    settings = lr, beta1, beta2, eps, weight_decay
    return update(ADAMW, (param, writable(grad), mean, variance), step, settings)


def adamw(
    param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8,
    weight_decay=0.01,
):  # fmt: skip
    """p -= lr weight_decay p, then adam."""
    step = arguments.step("step", step)
    given = param, grad, mean, variance, step, lr, beta1, beta2, eps, weight_decay
    if not _adamw_call.accepts(*given):
        checked(_adamw_call, "adamw", *given)


@shortcut(*argument_types(ADADELTA))
def _adadelta_call(param, grad, mean_square, mean_square_change, lr, rho, eps):
    arrays = param, writable(grad), mean_square, mean_square_change
    return update(ADADELTA, arrays, 1, (lr, rho, eps))


def adadelta(param, grad, mean_square, mean_square_change, *, lr=1.0, rho=0.9, eps=1e-6):
    """E = rho E + (1 - rho) g^2; d = sqrt(D + eps) / sqrt(E + eps) g; D like E of d; p -= lr d."""
    given = param, grad, mean_square, mean_square_change, lr, rho, eps
    if not _adadelta_call.accepts(*given):
        checked(_adadelta_call, "adadelta", *given)
