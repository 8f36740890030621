"""Dropout on the GPU; equations as in reference/dropout.py."""

from .. import arguments, dropout
from .activations import output
from .runtime import device


def dropout_forward(x, rate, *, seed=0, step=0, layer=0, out=None):
    """y = x m; see reference.dropout_forward. `out` may be x."""
    return _dropped("x", x, rate, seed, step, layer, out)


def dropout_backward(dy, rate, *, seed=0, step=0, layer=0, out=None):
    """dx = dy m; see reference.dropout_backward. `out` may be dy."""
    return _dropped("dy", dy, rate, seed, step, layer, out)


def _dropped(name, x, rate, seed, step, layer, out):
    arguments.floating(name, x, device.ndarray, 2)
    rate, seed, step, layer = dropout.check(rate, seed, step, layer)
    y = output(out, x.shape, x.dtype, {name: x}, (name,))
    draw = seed & 0xFFFFFFFF, seed >> 32, dropout.stream(layer), step
    device.launch("dropout", (x.size,), x, y, x.size, *draw, *dropout.threshold_and_scale(rate))
    return y
