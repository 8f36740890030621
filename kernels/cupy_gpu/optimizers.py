"""Update rules on the GPU, all by one kernel; equations as in reference/optimizers.py."""

from .. import interface
from ..catalog import RULES
from . import device

MOST_STATES, MOST_SCALARS = 2, 8  # as in rules.cuh


def sgd(param, grad, *, lr):
    """p -= lr g."""
    _update("sgd", param, grad, (), lr=lr)


def momentum(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= v."""
    _update("momentum", param, grad, (velocity,), lr=lr, beta=beta)


def nesterov(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= beta v + lr g, in its lookahead form."""
    _update("nesterov", param, grad, (velocity,), lr=lr, beta=beta)


def adagrad(param, grad, accumulator, *, lr, eps=1e-8):
    """G += g^2; p -= lr g / (sqrt(G) + eps)."""
    _update("adagrad", param, grad, (accumulator,), lr=lr, eps=eps)


def rmsprop(param, grad, mean_square, *, lr, rho=0.9, eps=1e-8):
    """E = rho E + (1 - rho) g^2; p -= lr g / (sqrt(E) + eps)."""
    _update("rmsprop", param, grad, (mean_square,), lr=lr, rho=rho, eps=eps)


def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    p -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) with t = step >= 1.
    """
    states, step = (mean, variance), interface.step("step", step)
    _update("adam", param, grad, states, step, lr=lr, beta1=beta1, beta2=beta2, eps=eps)


def _update(name, param, grad, states, step=1, **settings):
    """The rule of this name; settings in the catalogue's order."""
    rule = RULES[name]
    interface.updated(param, grad, dict(zip(rule.states, states, strict=True)), device.ndarray)
    numbers = [interface.number(key, settings[key], n) for key, n in rule.settings.items()]
    scalars = rule.scalars(step, *numbers)
    states = *states, *[None] * (MOST_STATES - len(states))
    more = [0.0] * (MOST_SCALARS - len(scalars))
    device.launch(
        "update", (param.size,), rule.id, param, grad, *states, param.size, *scalars, *more
    )
