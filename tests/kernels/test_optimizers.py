"""Optimizers over whole trajectories, and first steps that can be checked by hand."""

import numpy as np
import pytest
from conftest import case

import reference
from reference import optimizer_spec
from reference.bounds import unit_roundoff
from reference.spec import compare, oracles_share

OPERATIONS = {operation.name: operation for operation in reference.FAMILIES["optimizers"]}
STEPS = 50


@pytest.mark.parametrize("vary", [False, True], ids=["defaults", "drawn"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_trajectory_of_fifty_steps(backend, name, dtype, vary):
    """State from zero; the bound of each step carries the errors of the steps before it."""
    operation, rng = OPERATIONS[name], np.random.default_rng(0)
    inputs = operation.sample(rng, case(1, 12, 9, dtype, vary))
    for state in operation.in_place[1:]:
        inputs[state] = np.zeros_like(inputs["param"])
    updated = {name: inputs[name] for name in operation.in_place}
    ours = {**inputs, **{k: backend.asarray(v.copy()) for k, v in updated.items()}}
    oracle = {**inputs, **{k: v.astype(np.float64) for k, v in updated.items()}}
    defaults = optimizer_spec.parts(operation.function)[1]
    carried, factor = None, oracles_share(dtype)
    for step in range(1, STEPS + 1):
        grad = rng.standard_normal(inputs["grad"].shape).astype(dtype)
        if "step" in inputs:
            ours["step"] = oracle["step"] = step
        ours["grad"], oracle["grad"] = backend.asarray(grad), grad.astype(np.float64)
        carried = operation.error_bound({**defaults, **oracle}, dtype, carried)
        getattr(backend, name)(**ours)
        operation.function(**oracle)
        for bound, array in zip(carried, operation.in_place, strict=True):
            got, want = backend.to_host(ours[array]), oracle[array]
            complaint = compare(got, want, bound * factor, dtype)
            assert complaint is None, (array, step, complaint)
    # The bound must mean something: far below the distance, but for what every step rounds, three
    # times at most.
    travelled = np.abs(oracle["param"] - inputs["param"]).mean()
    rounded = 3 * STEPS * unit_roundoff(dtype) * np.abs(inputs["param"]).mean()
    allowed = travelled * (2e-3 if dtype == "float32" else 1e-11)
    assert carried[0].each.mean() < max(allowed, rounded)


def test_nesterov_in_lookahead_form_is_nesterov():
    """The textbook's gradient is that at p - beta v; on a quadratic both give one trajectory."""
    rng = np.random.default_rng(1)
    curvature = rng.uniform(0.1, 2.0, 20)
    lr, beta = 0.05, 0.9
    p, v = rng.standard_normal(20), np.zeros(20)
    q, w = p.copy(), np.zeros(20)
    for _ in range(STEPS):
        v = beta * v + lr * curvature * (p - beta * v)
        p = p - v
        reference.nesterov(q, curvature * q, w, lr=lr, beta=beta)
        np.testing.assert_allclose(w, v, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(q + beta * w, p, rtol=1e-10, atol=1e-14)


def test_first_step_of_adam_has_the_length_of_the_rate(backend):
    """After bias correction m / sqrt(v) is the sign of the gradient, whatever its size."""
    grad = np.array([1e-3, -5.0, 700.0])
    arrays = [backend.asarray(a.copy()) for a in (np.zeros(3), grad, np.zeros(3), np.zeros(3))]
    backend.adam(*arrays, 1, lr=0.01)
    np.testing.assert_allclose(backend.to_host(arrays[0]), [-0.01, 0.01, -0.01], rtol=2e-5)


def test_arrays_of_any_dimension(fast_backend):
    """A weight matrix is updated as its elements are."""
    rng = np.random.default_rng(2)
    param, grad = rng.standard_normal((2, 6, 5))
    flat = fast_backend.asarray(param.reshape(-1).copy())
    matrix = fast_backend.asarray(param.copy())
    fast_backend.sgd(flat, fast_backend.asarray(grad.reshape(-1).copy()), lr=0.1)
    fast_backend.sgd(matrix, fast_backend.asarray(grad), lr=0.1)
    np.testing.assert_array_equal(
        fast_backend.to_host(flat), fast_backend.to_host(matrix).reshape(-1)
    )
