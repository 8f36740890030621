"""The dense layer on the GPU; equations and shapes as in reference/dense.py.

A product is computed by cuBLAS or by tiles of our own (tiles.cuh). cuBLAS is the faster where there
is much to do, for its kernels are tuned for every GPU. But it leaves bias and activation to a
second launch, and CuPy forbids it while a graph is captured. limits.py says where the tiles begin
to lose. With precision="tf32" cuBLAS multiplies on tensor cores, at every size: the tiles do not.
"""

from .. import arguments
from ..catalog import IDENTITY
from .activations import (
    backward_sums,
    column_sums,
    output,
    outputs,
    parameter,
    prelu_backward_sums,
)
from .runtime import device, limits
from .runtime.table import depth_parts, tile


def dense_forward(x, weight, bias, activation="identity", alpha=None, *, precision=None, out=None):
    """y = act(x W + b): in one launch by tiles, or by cuBLAS and one pass over its product."""
    arguments.floating("x", x, device.ndarray, 2)
    arguments.floating("weight", weight, device.ndarray, 2)
    units, dtype = weight.shape[1], x.dtype
    arguments.array("weight", weight, device.ndarray, dtype, (x.shape[1], units))
    arguments.array("bias", bias, device.ndarray, dtype, (units,))
    activation_id, slope, slopes = parameter(activation, alpha, units, dtype)
    precision = arguments.precision(precision, dtype)
    inputs = {"x": x, "weight": weight, "bias": bias, "alpha": slopes}
    y = output(out, (len(x), units), dtype, inputs)
    forward(x, weight, bias, activation_id, slope, slopes, y, precision)
    return y


def dense_backward(
    dy, x, weight, saved, activation="identity", alpha=None, *, precision=None, out=None
):
    """dx, dW, db and for prelu dalpha: dz and its sums in one pass, then the two products."""
    arguments.floating("dy", dy, device.ndarray, 2)
    (batch, units), dtype = dy.shape, dy.dtype
    arguments.floating("x", x, device.ndarray, 2)
    fan_in = x.shape[1]
    arguments.array("x", x, device.ndarray, dtype, (batch, fan_in))
    arguments.array("weight", weight, device.ndarray, dtype, (fan_in, units))
    arguments.array("saved", saved, device.ndarray, dtype, dy.shape)
    activation_id, slope, slopes = parameter(activation, alpha, units, dtype)
    precision = arguments.precision(precision, dtype)
    dalpha_shape = [(units,)] if activation == "prelu" else []
    inputs = {"dy": dy, "x": x, "weight": weight, "saved": saved, "alpha": slopes}
    results = outputs(out, [x.shape, weight.shape, (units,), *dalpha_shape], dtype, inputs)
    dx, dweight, *sums = results
    dz = sums_gradient(dy, saved, activation_id, slope, slopes, *sums)
    input_gradient(dz, weight, dx, precision)
    weight_gradient(x, dz, dweight, precision)
    return results


# The parts of both, on arguments that have been checked.


def forward(x, weight, bias, activation_id, slope, slopes, y, precision=None):
    """y = act(x W + b)."""
    (rows, depth), units = x.shape, y.shape[1]
    if _by_tiles(rows, units, depth, precision):
        given = (activation_id, x, weight, bias, slopes), (slope, rows, depth, units)
        sums = _launch_tiles("dense_forward", y, (rows, units), depth, *given)
        if sums is not y:
            _finish(sums, y, activation_id, slope, bias, slopes)
    else:
        device.matmul(x, weight, out=y, precision=precision)
        _finish(y, y, activation_id, slope, bias, slopes)


def sums_gradient(dy, saved, activation_id, slope, slopes, dbias, dalpha=None):
    """dz = dy act'(z), which is returned, dbias and, where it is given, dalpha."""
    dz = dy if activation_id == IDENTITY else device.empty(dy.shape, dy.dtype)
    if dalpha is not None:
        prelu_backward_sums(dy, saved, slopes, dz, dbias, dalpha)
    elif dz is dy:
        column_sums(dy, dbias)
    else:
        backward_sums(dy, saved, activation_id, slope, slopes, dz, dbias)
    return dz


def input_gradient(dz, weight, dx, precision=None):
    """dx = dz W^T."""
    (batch, units), fan_in = dz.shape, dx.shape[1]
    if _by_tiles(batch, fan_in, units, precision):
        given = (dz, weight), (batch, fan_in, units)
        sums = _launch_tiles("input_gradient", dx, (batch, fan_in), units, *given)
        if sums is not dx:
            _finish(sums, dx)
    else:
        device.matmul(dz, weight.T, out=dx, precision=precision)


def weight_gradient(x, dz, dweight, precision=None):
    """dW = x^T dz."""
    (batch, units), fan_in = dz.shape, x.shape[1]
    if _by_tiles(fan_in, units, batch, precision):
        given = (x, dz), (batch, fan_in, units)
        sums = _launch_tiles("weight_gradient", dweight, (fan_in, units), batch, *given)
        if sums is not dweight:
            _finish(sums, dweight)
    else:
        device.matmul(x.T, dz, out=dweight, precision=precision)


def _by_tiles(rows, columns, depth, precision):
    """Whether a product is computed by tiles: it is small, or cuBLAS is forbidden. What permits
    TF32 is cuBLAS's, but where there is nothing to multiply, of which it refuses some layouts.
    """
    if precision:
        return rows * columns * depth == 0 or device.capturing()
    most = limits.current()
    small = depth <= most.most_depth and 2 * rows * columns * depth <= most.most_flops
    return small or device.capturing()


def _launch_tiles(kernel, product, shape, depth, factors, others):
    """Launches a product by tiles. Returns where its sums are: in the product itself, or, where the
    depth is split, in an array with one more axis.
    """
    side = tile(*shape)
    parts = depth_parts(side, *shape, depth)
    sums = product if parts == 1 else device.empty((parts, *shape), product.dtype)
    device.launch(f"{kernel}_{side}", (*shape, parts), *factors, sums, *others)
    return sums


def _finish(sums, product, activation_id=IDENTITY, slope=0.0, bias=None, slopes=None):
    """product = act(the parts of the sums added up + bias)."""
    parts = 1 if sums is product else len(sums)
    given = activation_id, sums, parts, bias, slopes, product, slope, product.size, product.shape[1]
    device.launch("finish_product", (product.size,), *given)
