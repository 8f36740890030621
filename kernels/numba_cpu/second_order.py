"""Directions of second order for the CPU; LAPACK, through NumPy, has Cholesky's factors.

The arguments are checked here; the loops are those of vectors.py.
"""

import numpy as np
from numba import types

from .. import arguments
from ..catalog import CONJUGACIES, DAMPING, STEP
from ..damping import dampings
from .codegen.shortcut import disjoint, in_place, read, shortcut, span, writable, written
from .vectors import combine, conjugacy, inner, solve, two_loops

STEP_LIMIT, DAMPED = STEP.high, DAMPING.default


@shortcut(read(1), read(1), written(0))
def _inner_call(a, b, out):
    fits = a.size == b.size and disjoint((span(out),), (span(a), span(b)))
    if fits:
        out[()] = inner(writable(a), writable(b))
    return fits


@shortcut(read(1), read(1), types.float64, written(1))
def _scaled_call(x, direction, length, out):
    fits = x.size == direction.size and x.size == out.size and abs(length) < STEP_LIMIT
    fits = fits and in_place(span(out), span(x)) and in_place(span(out), span(direction))
    if fits:
        x, direction = writable(x), writable(direction)
        combine(x, length, direction, 1.0, out, x[:0])
    return fits


@shortcut(read(1), read(1), read(1), types.intp, written(1))
def _conjugate_call(grad, before, direction, method, out):
    n = out.size
    fits = grad.size == n and before.size == n and direction.size == n
    fits = fits and in_place(span(out), span(direction))
    fits = fits and disjoint((span(out),), (span(grad), span(before)))
    if fits:
        grad, before, direction = writable(grad), writable(before), writable(direction)
        beta, nothing = conjugacy(grad, before, direction, method), grad[:0]
        combine(grad, -beta, direction if beta > 0 else nothing, -1.0, out, nothing)
    return fits


@shortcut(read(1), read(2), read(2), written(1))
def _recursion_call(grad, steps, differences, out):
    fits = grad.size == out.size and steps.shape[1] == out.size
    fits = fits and steps.shape == differences.shape
    fits = fits and disjoint((span(out),), (span(grad), span(steps), span(differences)))
    if fits:
        two_loops(writable(grad), writable(steps), writable(differences), out)
    return fits


@shortcut(written(2), read(1), written(1))
def _solve_call(factor, grad, out):
    solve(factor, writable(grad), out)
    return True


def inner_product(a, b, *, out=None):
    """sum_i a_i b_i, of shape (); see reference.inner_product."""
    if out is not None and _inner_call.accepts(a, b, out):
        return out
    arguments.floating("a", a, np.ndarray, 1)
    arguments.array("b", b, np.ndarray, a.dtype, a.shape)
    return _called(_inner_call, out, (), {"a": a, "b": b})


def add_scaled(x, direction, step_length, *, out=None):
    """x + step_length * direction; `out` may be either; see reference.add_scaled."""
    if out is not None and _scaled_call.accepts(x, direction, step_length, out):
        return out
    arguments.floating("x", x, np.ndarray, 1)
    arguments.array("direction", direction, np.ndarray, x.dtype, x.shape)
    length = arguments.number("step_length", step_length, STEP)
    inputs = {"x": x, "direction": direction}
    return _called(_scaled_call, out, x.shape, inputs, (length,), ("x", "direction"))


def conjugate_direction(grad, previous_grad, direction, *, method="polak_ribiere", out=None):
    """The next direction of conjugate gradients; see reference.conjugate_direction."""
    number = CONJUGACIES.get(method) if type(method) is str else None
    given = grad, previous_grad, direction, number
    if out is not None and _conjugate_call.accepts(*given, out):
        return out
    arguments.floating("grad", grad, np.ndarray, 1)
    inputs = {"grad": grad, "previous_grad": previous_grad, "direction": direction}
    for name in ("previous_grad", "direction"):
        arguments.array(name, inputs[name], np.ndarray, grad.dtype, grad.shape)
    arguments.one_of("method", method, CONJUGACIES)
    return _called(_conjugate_call, out, grad.shape, inputs, (number,), ("direction",))


def lbfgs_direction(grad, steps, differences, *, out=None):
    """-H grad by the pairs of limited-memory BFGS; see reference.lbfgs_direction."""
    if out is not None and _recursion_call.accepts(grad, steps, differences, out):
        return out
    arguments.floating("grad", grad, np.ndarray, 1)
    arguments.pairs(steps, differences, np.ndarray, grad)
    inputs = {"grad": grad, "steps": steps, "differences": differences}
    return _called(_recursion_call, out, grad.shape, inputs)


def newton_direction(grad, hessian, damping=DAMPED, *, out=None):
    """-(H + lambda I)^-1 grad by Cholesky's factors; see reference.newton_direction."""
    arguments.floating("grad", grad, np.ndarray, 1)
    arguments.array("hessian", hessian, np.ndarray, grad.dtype, (grad.size, grad.size))
    damping = arguments.number("damping", damping, DAMPING)
    out = _output(out, grad.shape, {"grad": grad, "hessian": hessian}, ())
    for shift in dampings(damping, np.asarray, hessian):
        try:
            factor = np.linalg.cholesky(_damped(hessian, shift))
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(factor.diagonal()).all():  # LAPACK takes an infinite pivot
            _solve_call.ready(grad.dtype)
            _solve_call(factor, grad, out)
            return out
    out.fill(np.nan)
    return out


def _damped(hessian, shift):
    """H + shift I."""
    if shift == 0:
        return hessian
    damped = hessian.copy()
    np.einsum("ii->i", damped)[...] += hessian.dtype.type(shift)
    return damped


def _called(call, out, shape, inputs, settings=(), may_replace=()):
    """What the call makes of arguments that have been checked, all but `out`."""
    out = _output(out, shape, inputs, may_replace)
    call.ready(out.dtype)
    call(*inputs.values(), *settings, out)
    return out


def _output(out, shape, inputs, may_replace):
    """`out`, checked, or a new array; it may be one of the `inputs` of these names."""
    dtype = next(iter(inputs.values())).dtype
    if out is None:
        return np.empty(shape, dtype)
    arguments.written("out", out, np.ndarray, dtype, shape)
    arguments.disjoint({"out": out}, inputs, [("out", name) for name in may_replace])
    return out
