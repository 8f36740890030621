"""Initial weights on the GPU; equations as in reference/initializers.py."""

from .. import arguments, initialization
from ..catalog import CONSTANT, NORMAL, ORTHOGONAL, SPARSE_NORMAL, UNIFORM
from .runtime import device

FILL = {CONSTANT: "fill_constant", UNIFORM: "fill_uniform", NORMAL: "fill_normal"}


def initialize(weight, initializer, *, seed=0, stream=0, value=None):
    """Overwrites weight, (fan_in, fan_out). An orthogonal one is factorised on the host, in
    float64, and the call waits for it.
    """
    distribution, number = initialization.check(weight, initializer, value, device.ndarray)
    seed, stream = arguments.random_numbers(seed, stream)
    draw = seed & 0xFFFFFFFF, seed >> 32, stream
    if distribution == CONSTANT:
        _fill(CONSTANT, weight, number)
    elif distribution == SPARSE_NORMAL:
        _fill(NORMAL, weight, *draw, 1.0)
        units = weight.shape[1]
        device.launch("connect_units", (units,), weight, *weight.shape, number, *draw)
    elif distribution == ORTHOGONAL:
        drawn = device.empty(weight.shape, "float64")
        _fill(NORMAL, drawn, *draw, 1.0)
        found = initialization.orthogonal(device.to_host(drawn), number)
        weight[...] = device.asarray(found.astype(weight.dtype))
    else:
        _fill(distribution, weight, *draw, number)


def _fill(distribution, weight, *numbers):
    device.launch(FILL[distribution], (weight.size,), weight, weight.size, *numbers)
