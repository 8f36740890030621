"""What becomes of gradients before the update rule, on the GPU; as in reference/gradients.py.

Nothing waits for the norm: its factor stays on the GPU, and a kernel that finds it to be 1 ends.
"""

import numpy as np

from .. import arguments, gradient_arguments
from .activations import output
from .runtime import device
from .statistics import squares


def add_l2(grads, params, l2):
    """g += l2 p, in place."""
    gradient_arguments.checked(grads, device.ndarray, params=params)
    l2 = arguments.number("l2", l2, gradient_arguments.WEIGHT)
    for g, p in zip(grads, params, strict=True):
        device.launch("add_l2", (g.size,), g, p, l2, g.size)


def clip_by_value(grads, limit):
    """Every element to -limit ... limit, in place."""
    gradient_arguments.checked(grads, device.ndarray)
    limit = arguments.number("limit", limit, gradient_arguments.LIMIT)
    for g in grads:
        device.launch("clip_by_value", (g.size,), g, limit, g.size)


def clip_by_global_norm(grads, max_norm, *, out=None):
    """g *= max_norm / |grads| where the norm, which is returned, is above max_norm, in place."""
    dtype = gradient_arguments.checked(grads, device.ndarray)
    max_norm = arguments.number("max_norm", max_norm, gradient_arguments.LIMIT)
    norm = output(out, (), dtype, {f"grads[{k}]": g for k, g in enumerate(grads)})
    factor, (sums, count) = device.empty((), dtype), squares(grads)
    limit = min(max_norm, float(np.finfo(dtype).max))  # or no infinite norm is above it
    device.launch("norm_and_factor", (), sums, norm, factor, limit, count)
    for g in grads:
        device.launch("scale_by", (g.size,), g, factor, g.size)
    return norm
