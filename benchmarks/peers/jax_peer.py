"""JAX's way of doing our operations: jax.jit of a formula on arrays that lie on the device.

Update rules donate parameters and state, as training would, and count their steps on the device;
those that stood here first are written out, the others optax's.
JAX is imported when something is bound, never with this module.
"""

import functools
import os

import numpy as np

from kernels.catalog import RULES
from reference.spec import with_arrays

from . import jax_formulas, jax_recurrent, jax_rules
from .given import cell_of

WRITTEN = ("sgd", "momentum", "adam")

_last = []  # the results of the last call


def jitted(operation, inputs, device="cpu"):
    """(call, results). On the CPU a call waits for its result, on a GPU `wait` does."""
    jax = _jax()
    place = jax.devices(device)[0]
    wait = functools.partial(finish, device=device)
    if cell_of(operation):
        return jax_recurrent.bound(operation, inputs, place, wait)
    if operation.name in RULES and operation.name not in WRITTEN:
        return jax_rules.bound(operation, inputs, place, wait)
    formula, inputs = jax_formulas.formula(operation, inputs), jax_formulas.kept(operation, inputs)
    arrays = {k: v for k, v in inputs.items() if isinstance(v, np.ndarray | tuple)}
    arrays = with_arrays(lambda array: jax.device_put(np.array(array), place), arrays)
    updated = [arrays.pop(name) for name in operation.in_place]
    if "step" in inputs:
        updated.append(jax.device_put(np.float32(inputs["step"]), place))
    if operation.name in ("initialize", "dropout_forward"):
        arrays["key"] = jax.random.key(inputs.get("seed", 0))
    given = tuple(arrays.values())
    if not operation.in_place:
        step = jax.jit(formula)

        def call():
            finish(step(*given), device)

        return call, lambda: tuple(map(np.asarray, step(*given)))
    step = jax.jit(formula, donate_argnums=tuple(range(len(updated))))

    returned = []

    def update():
        results = step(*updated, *given)
        updated[:], returned[:] = results[: len(updated)], results[len(updated) :]
        finish(results, device)

    def results():
        by_name = dict(zip(operation.in_place, updated, strict=False))
        found = operation.collect(by_name, tuple(returned) or None)
        return tuple(map(np.array, found))

    return update, results


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
        _jax().block_until_ready(_last[0])


def wait():
    """Wait until the last call is done."""
    _jax().block_until_ready(_last)
