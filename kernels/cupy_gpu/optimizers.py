"""Update rules on the GPU, all by one kernel; equations as in reference/optimizers.py."""

from .. import arguments
from ..catalog import RULES
from .runtime import device

__all__ = [*RULES]
MOST_STATES, MOST_SCALARS = 3, 8  # as in rules.cuh


def sgd(param, grad, *, lr):
    """p -= lr g."""
    _update("sgd", param, grad, (), 1, lr)


def momentum(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= v."""
    _update("momentum", param, grad, (velocity,), 1, lr, beta)


def nesterov(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= beta v + lr g, in its lookahead form."""
    _update("nesterov", param, grad, (velocity,), 1, lr, beta)


def adagrad(param, grad, accumulator, *, lr, eps=1e-8):
    """G += g^2; p -= lr g / (sqrt(G) + eps)."""
    _update("adagrad", param, grad, (accumulator,), 1, lr, eps)


def rmsprop(param, grad, mean_square, *, lr, rho=0.9, eps=1e-8):
    """E = rho E + (1 - rho) g^2; p -= lr g / (sqrt(E) + eps)."""
    _update("rmsprop", param, grad, (mean_square,), 1, lr, rho, eps)


def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    p -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) with t = step >= 1.
    """
    _update("adam", param, grad, (mean, variance), step, lr, beta1, beta2, eps)


def adamw(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8,
          weight_decay=0.01):  # fmt: skip
    """p -= lr weight_decay p, then adam."""
    _update("adamw", param, grad, (mean, variance), step, lr, beta1, beta2, eps, weight_decay)


def adadelta(param, grad, mean_square, mean_square_change, *, lr=1.0, rho=0.9, eps=1e-6):
    """E = rho E + (1 - rho) g^2; d = sqrt(D + eps) / sqrt(E + eps) g;
    D = rho D + (1 - rho) d^2; p -= lr d.
    """
    _update("adadelta", param, grad, (mean_square, mean_square_change), 1, lr, rho, eps)


def adamax(param, grad, mean, infinity_norm, step, *, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; u = max(beta2 u, |g| + eps); p -= lr (m / (1 - beta1^t)) / u."""
    _update("adamax", param, grad, (mean, infinity_norm), step, lr, beta1, beta2, eps)


def amsgrad(param, grad, mean, variance, largest, step, *, lr=0.001, beta1=0.9, beta2=0.999,
            eps=1e-8):  # fmt: skip
    """m and v as in adam; u = max(u, v);
    p -= lr (m / (1 - beta1^t)) / (sqrt(u / (1 - beta2^t)) + eps).
    """
    _update("amsgrad", param, grad, (mean, variance, largest), step, lr, beta1, beta2, eps)


def lion(param, grad, mean, *, lr=0.0001, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p); m = beta2 m + (1 - beta2) g."""
    _update("lion", param, grad, (mean,), 1, lr, beta1, beta2, weight_decay)


def radam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m and v as in adam; p -= lr m^ r / (sqrt(v^) + eps), r the rectification of the variance."""
    _update("radam", param, grad, (mean, variance), step, lr, beta1, beta2, eps)


def centered_rmsprop(param, grad, mean_square, mean, velocity, *, lr, rho=0.9, beta=0.0, eps=1e-8):
    """E and m are means of g^2 and g; v = beta v + g / (sqrt(E - m^2) + eps); p -= lr v."""
    states = mean_square, mean, velocity
    _update("centered_rmsprop", param, grad, states, 1, lr, rho, beta, eps)


def asgd(param, grad, average, step, *, lr=0.01, lambd=1e-4, alpha=0.75, t0=1e6):
    """p -= lambd r p + r g with r = lr / (1 + lambd lr (t - 1))^alpha; a is p's average from t0."""
    _update("asgd", param, grad, (average,), step, lr, lambd, alpha, t0)


def nadam(param, grad, mean, variance, step, *, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8,
          momentum_decay=0.004):  # fmt: skip
    """m and v as in adam; p -= lr (mu' m / (1 - M') + (1 - mu) g / (1 - M)) / (sqrt(v^) + eps)."""
    settings = lr, beta1, beta2, eps, momentum_decay
    _update("nadam", param, grad, (mean, variance), step, *settings)


def rprop(param, grad, previous, step_size, *, lr=0.01, eta_minus=0.5, eta_plus=1.2, smallest=1e-6,
          largest=50.0):  # fmt: skip
    """p -= sign(g) s; s grows where g keeps its sign, and shrinks, with no step, where it turns."""
    settings = lr, eta_minus, eta_plus, smallest, largest
    _update("rprop", param, grad, (previous, step_size), 1, *settings)


def delta_bar_delta(param, grad, trend, rate, *, lr, kappa=0.001, phi=0.1, theta=0.7):
    """p -= r g; r grows by kappa where g has its trend's sign, by -phi r where the other one."""
    _update("delta_bar_delta", param, grad, (trend, rate), 1, lr, kappa, phi, theta)


def _update(name, param, grad, states, step, *settings):
    """The rule of this name; settings in the catalogue's order."""
    rule, step = RULES[name], arguments.step("step", step)
    arguments.updated(param, grad, dict(zip(rule.states, states, strict=True)), device.ndarray)
    given = zip(rule.settings.items(), settings, strict=True)
    numbers = [arguments.number(key, value, allowed) for (key, allowed), value in given]
    scalars = rule.scalars(step, *numbers)
    size, no_state, no_scalar = param.size, _NO_STATE[len(states) :], _NO_SCALAR[len(scalars) :]
    given = rule.id, param, grad, *states, *no_state, size, *scalars, *no_scalar
    device.launch("update", (size,), *given)


_NO_STATE, _NO_SCALAR = (None,) * MOST_STATES, (0.0,) * MOST_SCALARS
