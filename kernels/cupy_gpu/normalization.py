"""Batch and layer normalisation on the GPU; equations as in reference/normalization.py."""

from .. import arguments, normalization
from ..normalization import EPS, MOMENTUM
from .activations import column_partials, finish_columns, output, outputs
from .runtime import device
from .runtime.table import NARROW, lanes


def batch_norm_forward(x, gamma, beta, running_mean, running_variance, *, momentum=0.1, eps=1e-5,
                       skip=None, out=None):  # fmt: skip
    """(y, mean, rstd), and what runs along: moments of parts of the rows, of all, then y."""
    running = {"running_mean": running_mean, "running_variance": running_variance}
    inputs = {"x": x, "gamma": gamma, "beta": beta, "skip": skip}
    rows, units = normalization.forward({**inputs, **running}, device.ndarray)
    arguments.disjoint(running, inputs)
    momentum = arguments.number("momentum", momentum, MOMENTUM)
    eps = arguments.number("eps", eps, EPS)
    shapes = [x.shape, (units,), (units,)]
    y, mean, rstd = outputs(out, shapes, x.dtype, {**inputs, **running})
    count, means = column_partials(mean, rows, units)
    _, squares = column_partials(rstd, rows, units)
    device.launch("column_moments", (units, count), x, means, squares, rows, units)
    given = means, squares, mean, rstd, running_mean, running_variance
    settings = momentum, rows / max(1, rows - 1), eps
    device.launch("finish_moments", (units,), *given, *settings, rows, units, count)
    _scale(x, mean, rstd, gamma, beta, skip, y, eps, False)
    return y, mean, rstd


def batch_norm_inference(x, gamma, beta, running_mean, running_variance, *, eps=1e-5, skip=None,
                         out=None):  # fmt: skip
    """y, which may replace x."""
    inputs = {"x": x, "gamma": gamma, "beta": beta}
    inputs |= {"running_mean": running_mean, "running_variance": running_variance, "skip": skip}
    normalization.forward(inputs, device.ndarray)
    eps = arguments.number("eps", eps, EPS)
    y = output(out, x.shape, x.dtype, inputs, ("x",))
    _scale(x, running_mean, running_variance, gamma, beta, skip, y, eps, True)
    return y


def _scale(x, mean, spread, gamma, beta, skip, y, eps, is_variance):
    given = x, mean, spread, gamma, beta, skip, y, eps, is_variance, x.size, x.shape[1]
    device.launch("scale_columns", (x.size,), *given)


def batch_norm_backward(dy, x, gamma, mean, rstd, *, out=None):
    """(dx, dgamma, dbeta): both sums in one pass, then dx, which may replace dy."""
    rows, units, (dx, dgamma, dbeta) = _gradients(dy, x, gamma, mean, rstd, 1, out)
    given = dy, x, gamma, mean, rstd, dgamma, dbeta, dx, rows, dy.size, units
    device.launch("columns_gradient", (dy.size,), *given)
    return dx, dgamma, dbeta


def layer_norm_forward(x, gamma, beta, *, eps=1e-5, skip=None, out=None):
    """(y, mean, rstd): a row by some lanes, or by a block."""
    inputs = {"x": x, "gamma": gamma, "beta": beta, "skip": skip}
    rows, units = normalization.forward(inputs, device.ndarray)
    eps = arguments.number("eps", eps, EPS)
    y, mean, rstd = outputs(out, [x.shape, (rows,), (rows,)], x.dtype, inputs)
    _launch_rows("normalize_rows", rows, units, x, gamma, beta, skip, y, mean, rstd, eps)
    return y, mean, rstd


def layer_norm_backward(dy, x, gamma, mean, rstd, *, out=None):
    """(dx, dgamma, dbeta): both sums in one pass, then dx, which may replace dy."""
    rows, units, (dx, dgamma, dbeta) = _gradients(dy, x, gamma, mean, rstd, 0, out)
    _launch_rows("rows_gradient", rows, units, dy, x, gamma, mean, rstd, dx)
    return dx, dgamma, dbeta


def _gradients(dy, x, gamma, mean, rstd, axis, out):
    """(rows, units, results) of which dgamma and dbeta are there."""
    inputs = {"dy": dy, "x": x, "gamma": gamma, "mean": mean, "rstd": rstd}
    shapes = normalization.backward(inputs, device.ndarray, axis)
    results = outputs(out, shapes, dy.dtype, inputs, [("out[0]", "dy")])
    (rows, units), (_, dgamma, dbeta) = dy.shape, results
    count, products = column_partials(dgamma, rows, units)
    _, sums = column_partials(dbeta, rows, units)
    given = dy, x, mean, rstd, products, sums, axis == 0, rows, units
    device.launch("gradient_sums", (units, count), *given)
    finish_columns(products, dgamma)
    finish_columns(sums, dbeta)
    return rows, units, results


def _launch_rows(kernel, rows, units, *given):
    name, *across = ("narrow", lanes(units)) if units <= NARROW else ("wide",)
    device.launch(f"{kernel}_{name}", (rows, units), *given, rows, units, *across)
