"""Update rules on the GPU, each one kernel; equations as in reference/optimizers.py."""

from .. import interface
from . import device


def sgd(param, grad, *, lr):
    """p -= lr g."""
    _check(param, grad, lr)
    _update("sgd", param, grad, (), lr)


def momentum(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= v."""
    _check(param, grad, lr, velocity=velocity)
    interface.number("beta", beta, high=1)
    _update("momentum", param, grad, (velocity,), lr, beta)


def nesterov(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= beta v + lr g, in its lookahead form."""
    _check(param, grad, lr, velocity=velocity)
    interface.number("beta", beta, high=1)
    _update("nesterov", param, grad, (velocity,), lr, beta)


def adagrad(param, grad, accumulator, *, lr, eps=1e-8):
    """G += g^2; p -= lr g / (sqrt(G) + eps)."""
    _check(param, grad, lr, accumulator=accumulator)
    interface.number("eps", eps, above=True)
    _update("adagrad", param, grad, (accumulator,), lr, eps)


def rmsprop(param, grad, mean_square, *, lr, rho=0.9, eps=1e-8):
    """E = rho E + (1 - rho) g^2; p -= lr g / (sqrt(E) + eps)."""
    _check(param, grad, lr, mean_square=mean_square)
    interface.number("rho", rho, high=1)
    interface.number("eps", eps, above=True)
    _update("rmsprop", param, grad, (mean_square,), lr, rho, 1 - rho, eps)


def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    p -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) with t = step >= 1.
    """
    _check(param, grad, lr, mean=mean, variance=variance)
    interface.step("step", step)
    interface.number("beta1", beta1, high=1)
    interface.number("beta2", beta2, high=1)
    interface.number("eps", eps, above=True)
    rate, correction = lr / (1 - beta1**step), 1 / (1 - beta2**step)
    settings = rate, correction, beta1, 1 - beta1, beta2, 1 - beta2, eps
    _update("adam", param, grad, (mean, variance), *settings)


def _check(param, grad, lr, **states):
    interface.updated(param, grad, states, device.ndarray)
    interface.number("lr", lr)


def _update(kernel, param, grad, states, *settings):
    device.launch(kernel, (param.size,), param, grad, *states, param.size, *settings)
