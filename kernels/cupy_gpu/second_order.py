"""Directions of second order on the GPU; equations and shapes as in reference/second_order.py.

Newton's direction is solved here by kernels of ours: cuSOLVER would be a library of several hundred
megabytes more, for problems that are small. It waits for the GPU once a damping that is tried.
"""

import numpy as np

from .. import arguments
from ..catalog import CONJUGACIES, DAMPING, STEP
from ..damping import dampings
from .activations import output
from .losses import finish, partial_sums
from .runtime import device
from .runtime.table import blocks_of

SIDE = 32  # columns that are factored at once, as in cholesky.cu


def inner_product(a, b, *, out=None):
    """sum_i a_i b_i, of shape ()."""
    arguments.floating("a", a, device.ndarray, 1)
    arguments.array("b", b, device.ndarray, a.dtype, a.shape)
    result = output(out, (), a.dtype, {"a": a, "b": b})
    sums = partial_sums(result, "inner_product", a.size)
    device.launch("inner_product", (a.size,), a, b, sums, a.size)
    finish(sums, result)
    return result


def add_scaled(x, direction, step_length, *, out=None):
    """x + step_length * direction; `out` may be either."""
    arguments.floating("x", x, device.ndarray, 1)
    arguments.array("direction", direction, device.ndarray, x.dtype, x.shape)
    length = arguments.number("step_length", step_length, STEP)
    inputs = {"x": x, "direction": direction}
    y = output(out, x.shape, x.dtype, inputs, ("x", "direction"))
    device.launch("add_scaled", (x.size,), x, direction, y, length, x.size)
    return y


def conjugate_direction(grad, previous_grad, direction, *, method="polak_ribiere", out=None):
    """The next direction of conjugate gradients; `out` may be direction."""
    arguments.floating("grad", grad, device.ndarray, 1)
    inputs = {"grad": grad, "previous_grad": previous_grad, "direction": direction}
    for name in ("previous_grad", "direction"):
        arguments.array(name, inputs[name], device.ndarray, grad.dtype, grad.shape)
    arguments.one_of("method", method, CONJUGACIES)
    d, n = output(out, grad.shape, grad.dtype, inputs, ("direction",)), grad.size
    count = blocks_of("conjugate_sums", grad.dtype, n)
    sums = device.empty((4, count), grad.dtype)
    device.launch("conjugate_sums", (n,), *inputs.values(), sums, n)
    given = grad, direction, sums, d, CONJUGACIES[method], count, n
    device.launch("conjugate_sum", (n,), *given)
    return d


def lbfgs_direction(grad, steps, differences, *, out=None):
    """-H grad by the pairs of limited-memory BFGS, the newest last."""
    arguments.floating("grad", grad, device.ndarray, 1)
    arguments.pairs(steps, differences, device.ndarray, grad)
    inputs = {"grad": grad, "steps": steps, "differences": differences}
    d = output(out, grad.shape, grad.dtype, inputs)
    pairs, n, dtype = len(steps), grad.size, grad.dtype
    count = blocks_of("recursion_step", dtype, n)
    scales, alphas = device.empty(pairs + 1, dtype), device.empty(pairs, dtype)
    sums = device.empty((2 * pairs, count), dtype)
    device.launch("pair_sums", (n, pairs), steps, differences, sums, n)
    device.launch("pair_scales", (), sums, scales, pairs, count)
    here, there = device.empty(count, dtype), device.empty(count, dtype)

    def step(source, added, following, newest, factor, pair, up):
        nonlocal here, there
        given = source, added, following, scales, newest, here, d, there, alphas
        device.launch("recursion_step", (n,), *given, factor, pair, up, count, n)
        here, there = there, here

    step(grad, None, steps[-1] if pairs else None, None, 1 if pairs else -1, 0, 0)
    for pair in reversed(range(pairs)):
        following, newest = (steps[pair - 1], None) if pair else (differences[0], scales[pairs:])
        step(d, differences[pair], following, newest, 1, pair, 0)
    for pair in range(pairs):
        last = pair == pairs - 1
        following = None if last else differences[pair + 1]
        step(d, steps[pair], following, None, -1 if last else 1, pair, 1)
    return d


def newton_direction(grad, hessian, damping=DAMPING.default, *, out=None):
    """-(H + lambda I)^-1 grad by Cholesky's factors, lambda the first for which these exist."""
    arguments.floating("grad", grad, device.ndarray, 1)
    n = grad.size
    arguments.array("hessian", hessian, device.ndarray, grad.dtype, (n, n))
    damping = arguments.number("damping", damping, DAMPING)
    d = output(out, grad.shape, grad.dtype, {"grad": grad, "hessian": hessian})
    system, failed = device.empty((n + 1, n), grad.dtype), device.empty((), np.int32)
    for shift in dampings(damping, device.to_host, hessian):
        if _factored(grad, hessian, shift, system, failed):
            device.launch("back_substitution", (), system, d, n)
            return d
    d.fill(np.nan)
    return d


def _factored(grad, hessian, shift, system, failed):
    """Whether H + shift I has Cholesky's factors; they are in `system` then."""
    n = grad.size
    device.launch("damped_system", (system.size,), hessian, grad, system, failed, shift, n)
    for first in range(0, n, SIDE):
        device.launch("cholesky_corner", (), system, failed, first, n)
        rows = n + 1 - min(n, first + SIDE)
        device.launch("cholesky_panel", (rows, SIDE, 1), system, first, n)
        if rows > 1:
            device.launch("cholesky_rest", (rows, rows - 1, 1), system, first, n)
    return n == 0 or not int(failed)
