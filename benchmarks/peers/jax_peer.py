"""JAX's way of doing our operations: jax.jit of a formula on arrays that lie on the device.

Update rules donate parameters and state, as training would, and count their steps on the device.
JAX is imported when something is bound, never with this module.
"""

import functools
import math
import os

import numpy as np

_last = []  # the results of the last call


def jitted(operation, inputs, device="cpu"):
    """(call, results). On the CPU a call waits for its result, on a GPU `wait` does."""
    jax = _jax()
    place = jax.devices(device)[0]
    arrays = {}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray) or name == "step":
            arrays[name] = jax.device_put(np.array(value, getattr(value, "dtype", "f4")), place)
    formula = _formula(operation, inputs)
    if operation.in_place:
        grad = arrays.pop("grad")
        step = jax.jit(formula, donate_argnums=tuple(range(len(arrays))))
        state = [array.copy() for array in arrays.values()]

        def call():
            state[:] = step(*state, grad)
            finish(state, device)

        return call, lambda: tuple(map(np.array, state[: len(operation.in_place)]))
    step, given = jax.jit(formula), tuple(arrays.values())

    def call():
        finish(step(*given), device)

    return call, lambda: tuple(map(np.asarray, step(*given)))


def runs_on(device):
    """Whether this build of JAX reaches the device."""
    try:
        return bool(_jax().devices(device))
    except RuntimeError:
        return False


def product(device):
    """product(a, b) of two matrices on the host, by the device."""
    jax = _jax()
    place = jax.devices(device)[0]
    multiply = jax.jit(lambda a, b: a @ b)
    return lambda a, b: np.asarray(multiply(*jax.device_put((a, b), place)))


@functools.cache
def _jax():
    """JAX, told to multiply float32 in float32: on a GPU it takes TF32 unless it is told."""
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")  # if it was imported before
    return jax


def finish(results, device):
    """Wait for the results of a call on the CPU; on a GPU leave that to `wait`."""
    _last[:] = results
    if device == "cpu":
        _last[0].block_until_ready()


def wait():
    """Wait until the last call is done."""
    _jax().block_until_ready(_last)


def _formula(operation, inputs):
    """The operation on arrays in the order of its inputs (grad last); returns a tuple."""
    jax = _jax()
    jnp, lr = jax.numpy, inputs.get("lr")
    act, slope = _activation(operation.variant) if "activation" in inputs else (None, None)

    def activation_forward(z):
        return (act(z),)

    def activation_backward(dy, saved):
        return (slope(dy, saved),)

    def dense_forward(x, weight, bias):
        return (act(x @ weight + bias),)

    def dense_backward(dy, x, weight, saved):
        dz = slope(dy, saved)
        return dz @ weight.T, x.T @ dz, dz.sum(axis=0)

    def softmax_cross_entropy(logits, labels):
        def loss(logits):
            log_p = jax.nn.log_softmax(logits)
            return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()

        return jax.value_and_grad(loss)(logits)

    def sgd(param, grad):
        return (param - lr * grad,)

    def momentum(param, velocity, grad):
        velocity = 0.9 * velocity + lr * grad
        return param - velocity, velocity

    def adam(param, mean, variance, step, grad):
        mean = 0.9 * mean + (1 - 0.9) * grad
        variance = 0.999 * variance + (1 - 0.999) * grad * grad
        # 1 - beta^t in float32 loses five digits at small t, expm1 none.
        first, second = -jnp.expm1(step * math.log(0.9)), -jnp.expm1(step * math.log(0.999))
        change = lr * (mean / first) / (jnp.sqrt(variance / second) + 1e-8)
        return param - change, mean, variance, step + 1

    if operation.name not in locals() or inputs.get("label_smoothing"):
        raise NotImplementedError(f"no formula of JAX for {operation}")
    return locals()[operation.name]


def _activation(name):
    """(act(z), dy act'(z) from saved) of an activation."""
    jax = _jax()
    jnp = jax.numpy
    found = {
        "relu": (jax.nn.relu, lambda dy, y: jnp.where(y > 0, dy, 0)),
        "elu": (jax.nn.elu, lambda dy, y: jnp.where(y > 0, dy, (y + 1) * dy)),
        "sigmoid": (jax.nn.sigmoid, lambda dy, y: y * (1 - y) * dy),
        "tanh": (jnp.tanh, lambda dy, y: (1 - y) * (1 + y) * dy),
    }
    if name not in found:
        raise NotImplementedError(f"no formula of JAX for {name}")
    return found[name]
