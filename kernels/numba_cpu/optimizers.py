"""Update rules for the CPU: one pass over memory each, in place; see reference.optimizers.

Every rule is a loop over part of its 1-D arrays and a function that runs it, in threads for large
arrays. Where a rule divides by a bias correction, its factors are formed once a call, in float64.
"""

import numpy as np
from numba import prange, types
from numba.extending import register_jitable

from .. import interface
from .jit import chunk, chunks, kernel, serial, threaded
from .shortcut import below, disjoint, read, shortcut, span, writable, written

INFINITY = np.inf


def _checked(call, param, grad, **states):
    """The arrays as 1-D views, when all are fit to be updated; makes the shortcut ready."""
    interface.updated(param, grad, states, np.ndarray)
    call.ready(param.dtype)
    return tuple(array.reshape(-1) for array in (param, grad, *states.values()))


@register_jitable
def _alike(grad, spans):
    """What is updated has the size of grad, and nothing shares memory with anything."""
    mine = span(grad)
    for start, end in spans:
        if end - start != mine[1] - mine[0]:
            return False
    return disjoint(spans, (mine,))


@kernel
def sgd_part(param, grad, lr):
    lr = param.dtype.type(lr)
    for i in range(param.size):
        param[i] -= lr * grad[i]


@threaded
def _sgd(param, grad, lr):
    if serial(param.size):
        sgd_part(param, grad, lr)
    else:
        for c in prange(chunks(param.size)):
            part = chunk(c, param.size)
            sgd_part(param[part], grad[part], lr)


@shortcut(written(1), read(1), types.float64)
def _sgd_call(param, grad, lr):
    fits = _alike(grad, (span(param),)) and below(lr, INFINITY)
    if fits:
        _sgd(param, writable(grad), lr)
    return fits


def sgd(param, grad, *, lr):
    """p -= lr g."""
    if _sgd_call.accepts(param, grad, lr):
        return
    lr = interface.number("lr", lr)
    _sgd_call(*_checked(_sgd_call, param, grad), lr)


@kernel
def momentum_part(param, grad, velocity, lr, beta):
    lr, beta = param.dtype.type(lr), param.dtype.type(beta)
    for i in range(param.size):
        v = beta * velocity[i] + lr * grad[i]
        velocity[i] = v
        param[i] -= v


@threaded
def _momentum(param, grad, velocity, lr, beta):
    if serial(param.size):
        momentum_part(param, grad, velocity, lr, beta)
    else:
        for c in prange(chunks(param.size)):
            part = chunk(c, param.size)
            momentum_part(param[part], grad[part], velocity[part], lr, beta)


@shortcut(written(1), read(1), written(1), *[types.float64] * 2)
def _momentum_call(param, grad, velocity, lr, beta):
    fits = _alike(grad, (span(param), span(velocity))) and below(lr, INFINITY) and below(beta, 1)
    if fits:
        _momentum(param, writable(grad), velocity, lr, beta)
    return fits


def momentum(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= v."""
    if _momentum_call.accepts(param, grad, velocity, lr, beta):
        return
    lr = interface.number("lr", lr)
    beta = interface.number("beta", beta, high=1)
    _momentum_call(*_checked(_momentum_call, param, grad, velocity=velocity), lr, beta)


@kernel
def nesterov_part(param, grad, velocity, lr, beta):
    lr, beta = param.dtype.type(lr), param.dtype.type(beta)
    for i in range(param.size):
        change = lr * grad[i]
        v = beta * velocity[i] + change
        velocity[i] = v
        param[i] -= beta * v + change


@threaded
def _nesterov(param, grad, velocity, lr, beta):
    if serial(param.size):
        nesterov_part(param, grad, velocity, lr, beta)
    else:
        for c in prange(chunks(param.size)):
            part = chunk(c, param.size)
            nesterov_part(param[part], grad[part], velocity[part], lr, beta)


@shortcut(written(1), read(1), written(1), *[types.float64] * 2)
def _nesterov_call(param, grad, velocity, lr, beta):
    fits = _alike(grad, (span(param), span(velocity))) and below(lr, INFINITY) and below(beta, 1)
    if fits:
        _nesterov(param, writable(grad), velocity, lr, beta)
    return fits


def nesterov(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; q -= beta v + lr g, where param holds the lookahead q = p - beta v."""
    if _nesterov_call.accepts(param, grad, velocity, lr, beta):
        return
    lr = interface.number("lr", lr)
    beta = interface.number("beta", beta, high=1)
    _nesterov_call(*_checked(_nesterov_call, param, grad, velocity=velocity), lr, beta)


@kernel
def adagrad_part(param, grad, accumulator, lr, eps):
    lr, eps = param.dtype.type(lr), param.dtype.type(eps)
    for i in range(param.size):
        g = grad[i]
        square = accumulator[i] + g * g
        accumulator[i] = square
        param[i] -= lr * g / (np.sqrt(square) + eps)


@threaded
def _adagrad(param, grad, accumulator, lr, eps):
    if serial(param.size):
        adagrad_part(param, grad, accumulator, lr, eps)
    else:
        for c in prange(chunks(param.size)):
            part = chunk(c, param.size)
            adagrad_part(param[part], grad[part], accumulator[part], lr, eps)


@shortcut(written(1), read(1), written(1), *[types.float64] * 2)
def _adagrad_call(param, grad, accumulator, lr, eps):
    fits = (
        _alike(grad, (span(param), span(accumulator)))
        and below(lr, INFINITY)
        and 0 < eps < INFINITY
    )
    if fits:
        _adagrad(param, writable(grad), accumulator, lr, eps)
    return fits


def adagrad(param, grad, accumulator, *, lr, eps=1e-8):
    """G += g^2; p -= lr g / (sqrt(G) + eps)."""
    if _adagrad_call.accepts(param, grad, accumulator, lr, eps):
        return
    lr = interface.number("lr", lr)
    eps = interface.number("eps", eps, above=True)
    _adagrad_call(*_checked(_adagrad_call, param, grad, accumulator=accumulator), lr, eps)


@kernel
def rmsprop_part(param, grad, mean_square, lr, rho, eps):
    keep, take = param.dtype.type(rho), param.dtype.type(1 - rho)
    lr, eps = param.dtype.type(lr), param.dtype.type(eps)
    for i in range(param.size):
        g = grad[i]
        square = keep * mean_square[i] + take * (g * g)
        mean_square[i] = square
        param[i] -= lr * g / (np.sqrt(square) + eps)


@threaded
def _rmsprop(param, grad, mean_square, lr, rho, eps):
    if serial(param.size):
        rmsprop_part(param, grad, mean_square, lr, rho, eps)
    else:
        for c in prange(chunks(param.size)):
            part = chunk(c, param.size)
            rmsprop_part(param[part], grad[part], mean_square[part], lr, rho, eps)


@shortcut(written(1), read(1), written(1), *[types.float64] * 3)
def _rmsprop_call(param, grad, mean_square, lr, rho, eps):
    fits = _alike(grad, (span(param), span(mean_square))) and below(lr, INFINITY)
    fits = fits and below(rho, 1) and 0 < eps < INFINITY
    if fits:
        _rmsprop(param, writable(grad), mean_square, lr, rho, eps)
    return fits


def rmsprop(param, grad, mean_square, *, lr, rho=0.9, eps=1e-8):
    """E = rho E + (1 - rho) g^2; p -= lr g / (sqrt(E) + eps)."""
    if _rmsprop_call.accepts(param, grad, mean_square, lr, rho, eps):
        return
    lr = interface.number("lr", lr)
    rho = interface.number("rho", rho, high=1)
    eps = interface.number("eps", eps, above=True)
    _rmsprop_call(*_checked(_rmsprop_call, param, grad, mean_square=mean_square), lr, rho, eps)


@kernel
def adam_part(param, grad, mean, variance, rate, correction, beta1, beta2, eps):
    keep1, take1 = param.dtype.type(beta1), param.dtype.type(1 - beta1)
    keep2, take2 = param.dtype.type(beta2), param.dtype.type(1 - beta2)
    rate, correction = param.dtype.type(rate), param.dtype.type(correction)
    eps = param.dtype.type(eps)
    for i in range(param.size):
        g = grad[i]
        m = keep1 * mean[i] + take1 * g
        v = keep2 * variance[i] + take2 * (g * g)
        mean[i] = m
        variance[i] = v
        param[i] -= rate * m / (np.sqrt(v * correction) + eps)


@threaded
def _adam(param, grad, mean, variance, step, lr, beta1, beta2, eps):
    rate, correction = lr / (1 - beta1**step), 1 / (1 - beta2**step)
    if serial(param.size):
        adam_part(param, grad, mean, variance, rate, correction, beta1, beta2, eps)
    else:
        for c in prange(chunks(param.size)):
            part = chunk(c, param.size)
            arrays = param[part], grad[part], mean[part], variance[part]
            adam_part(*arrays, rate, correction, beta1, beta2, eps)


@shortcut(written(1), read(1), *[written(1)] * 2, *[types.float64] * 5)
def _adam_call(param, grad, mean, variance, step, lr, beta1, beta2, eps):
    fits = _alike(grad, (span(param), span(mean), span(variance))) and below(lr, INFINITY)
    fits = fits and below(beta1, 1) and below(beta2, 1) and 0 < eps < INFINITY
    if fits:
        _adam(param, writable(grad), mean, variance, step, lr, beta1, beta2, eps)
    return fits


def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p -= lr m^ / (sqrt(v^) + eps)."""
    step = interface.step("step", step)
    if _adam_call.accepts(param, grad, mean, variance, step, lr, beta1, beta2, eps):
        return
    lr = interface.number("lr", lr)
    beta1 = interface.number("beta1", beta1, high=1)
    beta2 = interface.number("beta2", beta2, high=1)
    eps = interface.number("eps", eps, above=True)
    arrays = _checked(_adam_call, param, grad, mean=mean, variance=variance)
    _adam_call(*arrays, step, lr, beta1, beta2, eps)
