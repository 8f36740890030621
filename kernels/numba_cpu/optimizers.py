"""Update rules for the CPU: one pass over memory each, in place; see reference.optimizers.

Here is what a rule does to one parameter; updates.py goes over the arrays. Factors like 1 - beta
are given, not taken here: in float32 they would lose digits.
"""

import numpy as np

from .. import arguments
from ..catalog import RULES
from .codegen.inlined import register_jitable
from .updates import numbered, update_rule

__all__ = [*RULES]


@update_rule("sgd")
def _sgd(p, g, lr):
    return p - lr * g


@update_rule("momentum")
def _momentum(p, g, v, lr, beta):
    v = beta * v + lr * g
    return p - v, v


@update_rule("nesterov")
def _nesterov(p, g, v, lr, beta):
    change = lr * g
    v = beta * v + change
    return p - (beta * v + change), v


@update_rule("adagrad")
def _adagrad(p, g, total, lr, eps):
    total = total + g * g
    return p - lr * g / (np.sqrt(total) + eps), total


@update_rule("rmsprop")
def _rmsprop(p, g, mean_square, lr, rho, one_minus_rho, eps):
    mean_square = rho * mean_square + one_minus_rho * (g * g)
    return p - lr * g / (np.sqrt(mean_square) + eps), mean_square


@update_rule("adam")
def _adam(p, g, m, v, rate, correction, beta1, rest1, beta2, rest2, eps):
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * (g * g)
    return p - rate * m / (np.sqrt(v * correction) + eps), m, v


_adam_rule = _adam.rule


@update_rule("adamw")
def _adamw(p, g, m, v, rate, correction, beta1, rest1, beta2, rest2, eps, decay):
    return _adam_rule(p - decay * p, g, m, v, rate, correction, beta1, rest1, beta2, rest2, eps)


@update_rule("adadelta")
def _adadelta(p, g, mean_square, of_change, lr, rho, one_minus_rho, eps):
    mean_square = rho * mean_square + one_minus_rho * (g * g)
    change = np.sqrt(of_change + eps) / np.sqrt(mean_square + eps) * g
    of_change = rho * of_change + one_minus_rho * (change * change)
    return p - lr * change, mean_square, of_change


@update_rule("adamax")
def _adamax(p, g, m, largest, rate, beta1, one_minus_beta1, beta2, eps):
    m = beta1 * m + one_minus_beta1 * g
    before, now = beta2 * largest, abs(g) + eps
    largest = now if now > before or now != now else before
    return p - rate * m / largest, m, largest


@update_rule("amsgrad")
def _amsgrad(p, g, m, v, largest, rate, correction, beta1, rest1, beta2, rest2, eps):
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * (g * g)
    largest = v if v > largest or v != v else largest
    return p - rate * m / (np.sqrt(largest * correction) + eps), m, v, largest


@update_rule("lion")
def _lion(p, g, m, lr, beta1, rest1, beta2, rest2, decay):
    mixed = beta1 * m + rest1 * g
    step = lr if mixed > 0 else -lr if mixed < 0 else mixed  # 0 or NaN
    return p - decay * p - step, beta2 * m + rest2 * g


@update_rule("radam")
def _radam(p, g, m, v, rate, beta1, rest1, beta2, rest2, eps):
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * (g * g)
    change = rate * m
    return p - (change / (np.sqrt(v) + eps) if eps > 0 else change), m, v


@update_rule("centered_rmsprop")
def _centered_rmsprop(p, g, mean_square, m, v, lr, rho, one_minus_rho, beta, eps):
    mean_square = rho * mean_square + one_minus_rho * (g * g)
    m = rho * m + one_minus_rho * g
    variance = mean_square - m * m
    variance = type(variance)(0) if variance < 0 else variance
    v = beta * v + g / (np.sqrt(variance) + eps)
    return p - lr * v, mean_square, m, v


@update_rule("asgd")
def _asgd(p, g, average, rate, decay, share):
    p = p - decay * p - rate * g
    return p, average + share * (p - average)


@update_rule("nadam")
def _nadam(p, g, m, v, of_grad, of_mean, correction, beta1, rest1, beta2, rest2, eps):
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * (g * g)
    return p - (of_mean * m + of_grad * g) / (np.sqrt(v * correction) + eps), m, v


@register_jitable
def _agreement(one, other):
    """Whether both have one sign, and whether they have different ones; neither for 0 and NaN."""
    agree = ((one > 0) & (other > 0)) | ((one < 0) & (other < 0))
    return agree, ((one > 0) & (other < 0)) | ((one < 0) & (other > 0))


@update_rule("rprop")
def _rprop(p, g, previous, size, lr, eta_minus, eta_plus, smallest, largest):
    agree, differ = _agreement(g, previous)
    size = size if size > 0 else lr
    more, less = eta_plus * size, eta_minus * size
    more, less = more if more < largest else largest, less if less > smallest else smallest
    size = more if agree else less if differ else size
    g = type(g)(0) if differ else g
    change = size if g > 0 else -size if g < 0 else g  # 0 or NaN
    return p - change, g, size


@update_rule("delta_bar_delta")
def _delta_bar_delta(p, g, trend, rate, lr, kappa, one_minus_phi, theta, one_minus_theta):
    agree, differ = _agreement(g, trend)
    rate = rate if rate > 0 else lr
    rate = rate + kappa if agree else one_minus_phi * rate if differ else rate
    return p - rate * g, theta * trend + one_minus_theta * g, rate


parts, counts = numbered()


def sgd(param, grad, *, lr):
    """p -= lr g."""
    _sgd.apply(param, grad, lr)


def momentum(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= v."""
    _momentum.apply(param, grad, velocity, lr, beta)


def nesterov(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; q -= beta v + lr g, where param holds the lookahead q = p - beta v."""
    _nesterov.apply(param, grad, velocity, lr, beta)


def adagrad(param, grad, accumulator, *, lr, eps=1e-8):
    """G += g^2; p -= lr g / (sqrt(G) + eps)."""
    _adagrad.apply(param, grad, accumulator, lr, eps)


def rmsprop(param, grad, mean_square, *, lr, rho=0.9, eps=1e-8):
    """E = rho E + (1 - rho) g^2; p -= lr g / (sqrt(E) + eps)."""
    _rmsprop.apply(param, grad, mean_square, lr, rho, eps)


def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p -= lr m^ / (sqrt(v^) + eps)."""
    _adam.apply(param, grad, mean, variance, arguments.step("step", step), lr, beta1, beta2, eps)


def adamw(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8,
          weight_decay=0.01):  # fmt: skip
    """p -= lr weight_decay p, then adam."""
    step = arguments.step("step", step)
    _adamw.apply(param, grad, mean, variance, step, lr, beta1, beta2, eps, weight_decay)


def adadelta(param, grad, mean_square, mean_square_change, *, lr=1.0, rho=0.9, eps=1e-6):
    """E = rho E + (1 - rho) g^2; d = sqrt(D + eps) / sqrt(E + eps) g; D like E of d; p -= lr d."""
    _adadelta.apply(param, grad, mean_square, mean_square_change, lr, rho, eps)


def adamax(param, grad, mean, infinity_norm, step, *, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; u = max(beta2 u, |g| + eps); p -= lr m^ / u."""
    _adamax.apply(
        param, grad, mean, infinity_norm, arguments.step("step", step), lr, beta1, beta2, eps
    )


def amsgrad(param, grad, mean, variance, largest, step, *, lr=0.001, beta1=0.9, beta2=0.999,
            eps=1e-8):  # fmt: skip
    """m and v as in adam; u = max(u, v); p -= lr m^ / (sqrt(u^) + eps)."""
    step = arguments.step("step", step)
    _amsgrad.apply(param, grad, mean, variance, largest, step, lr, beta1, beta2, eps)


def lion(param, grad, mean, *, lr=0.0001, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p); m = beta2 m + (1 - beta2) g."""
    _lion.apply(param, grad, mean, lr, beta1, beta2, weight_decay)


def radam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m and v as in adam; p -= lr m^ r / (sqrt(v^) + eps), r the rectification of the variance."""
    _radam.apply(param, grad, mean, variance, arguments.step("step", step), lr, beta1, beta2, eps)


def centered_rmsprop(param, grad, mean_square, mean, velocity, *, lr, rho=0.9, beta=0.0, eps=1e-8):
    """E and m are means of g^2 and g; v = beta v + g / (sqrt(E - m^2) + eps); p -= lr v."""
    _centered_rmsprop.apply(param, grad, mean_square, mean, velocity, lr, rho, beta, eps)


def asgd(param, grad, average, step, *, lr=0.01, lambd=1e-4, alpha=0.75, t0=1e6):
    """p -= lambd r p + r g with r = lr / (1 + lambd lr (t - 1))^alpha; a is p's average from t0."""
    _asgd.apply(param, grad, average, arguments.step("step", step), lr, lambd, alpha, t0)


def nadam(param, grad, mean, variance, step, *, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8,
          momentum_decay=0.004):  # fmt: skip
    """m and v as in adam; p -= lr (mu' m / (1 - M') + (1 - mu) g / (1 - M)) / (sqrt(v^) + eps)."""
    step = arguments.step("step", step)
    _nadam.apply(param, grad, mean, variance, step, lr, beta1, beta2, eps, momentum_decay)


def rprop(param, grad, previous, step_size, *, lr=0.01, eta_minus=0.5, eta_plus=1.2, smallest=1e-6,
          largest=50.0):  # fmt: skip
    """p -= sign(g) s; s grows where g keeps its sign, and shrinks, with no step, where it turns."""
    _rprop.apply(param, grad, previous, step_size, lr, eta_minus, eta_plus, smallest, largest)


def delta_bar_delta(param, grad, trend, rate, *, lr, kappa=0.001, phi=0.1, theta=0.7):
    """p -= r g; r grows by kappa where g has its trend's sign, by -phi r where the other one."""
    _delta_bar_delta.apply(param, grad, trend, rate, lr, kappa, phi, theta)
