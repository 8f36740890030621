"""Every operation of every backend against the float64 oracle: a product over specifications."""

import inspect

import numpy as np
import pytest
from conftest import FAST_NATIVE, NATIVE, verify

import kernels
import reference
from benchmarks.workloads import batches, layers
from reference import Layer

OPERATIONS = [operation for family in reference.FAMILIES.values() for operation in family]
over_operations = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
over_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

# (batch, fan_in, fan_out): one element, one row, one column, and around the widths of a vector
# (4, 8, 16), a warp (32) and their multiples.
SHAPES = [
    *[(1, 1, 1), (1, 1, 2), (2, 1, 1), (1, 1, 33), (33, 1, 1), (1, 65, 1), (3, 2, 2)],
    *[(3, 4, 5), (5, 3, 4), (7, 8, 9), (8, 9, 7), (9, 7, 8), (15, 16, 17), (16, 17, 15)],
    *[(17, 15, 16), (31, 32, 33), (32, 33, 31), (33, 31, 32), (63, 64, 65), (64, 65, 63)],
    *[(65, 63, 64), (127, 10, 129), (128, 129, 10), (129, 128, 127), (257, 2, 33), (4, 2, 1025)],
]


@over_dtypes
@over_operations
def test_agrees_with_oracle_at_small_shapes(backend, operation, dtype):
    rng = np.random.default_rng(1)
    for batch, fan_in, fan_out in SHAPES:
        layer = Layer("test", fan_in, fan_out)
        verify(backend, operation, operation.sample(rng, layer, batch, dtype))


@over_dtypes
@over_operations
def test_agrees_with_oracle_at_borders(backend, operation, dtype):
    for description, inputs in operation.edges(dtype):
        try:
            verify(backend, operation, inputs)
        except AssertionError as error:
            raise AssertionError(f"{description}: {error}") from None


@pytest.mark.parametrize("backend", NATIVE, indirect=True)
@over_operations
def test_agrees_with_oracle_on_workloads(backend, operation):
    """Every layer of every workload, the data sets' own rows, at a minibatch."""
    rng = np.random.default_rng(2)
    for layer in layers().values():
        verify(backend, operation, operation.sample(rng, layer, 32, "float32"))


@pytest.mark.parametrize("fast_backend", FAST_NATIVE, indirect=True)
@pytest.mark.parametrize("layer", [name for name in layers() if name != "wide-2048x2048"])
@pytest.mark.parametrize("variant", ["relu", "tanh", "prelu", "hard", ""])
def test_agrees_with_oracle_on_full_batches(fast_backend, layer, variant):
    rng = np.random.default_rng(3)
    full = batches(layer.split("-")[0])[-1]
    for operation in OPERATIONS:
        if operation.variant == variant and operation.batched:
            inputs = operation.sample(rng, layers()[layer], full, "float32")
            verify(fast_backend, operation, inputs)


@pytest.mark.parametrize("package", ["kernels.numba_cpu", "kernels.cupy_gpu"])
def test_signatures_are_those_of_the_reference(package):
    """Also where the backend cannot run: it can be imported without its device."""
    module = pytest.importorskip(package, reason="CuPy was left out of this installation")
    assert set(reference.__all__) - {"FAMILIES", "Layer", "Operation"} == set(module.__all__)
    pairs = {f: (getattr(module, f), getattr(reference, f)) for f in module.__all__}
    ours, theirs = pairs.pop("network")
    pairs["network.create"] = ours.create, theirs.create
    for method, expected in inspect.getmembers(theirs.Network, inspect.isfunction):
        if not method.startswith("_"):
            pairs[method] = getattr(ours.Network, method, None), expected
    for name, (function, expected) in pairs.items():
        if name != "loss_and_gradients":  # the reference's own, for its error bound
            assert inspect.signature(function) == inspect.signature(expected), name


def test_a_kernel_that_does_nothing_disagrees():
    """The comparison itself: zeros, and inputs left as they are, are wrong for every operation."""
    rng = np.random.default_rng(4)
    for operation in OPERATIONS:
        inputs = operation.sample(rng, Layer("test", 5, 7), 6, "float32")
        if operation.in_place:
            results = tuple(inputs[name] for name in operation.in_place)
        else:
            results = tuple(np.zeros_like(r, dtype="float32") for r in operation.oracle(inputs))
        assert operation.disagreement(inputs, results) is not None, operation


def test_load_names_what_there_is():
    with pytest.raises(ValueError, match="backend must be one of numpy, numba, cupy"):
        kernels.load("fortran")
    with pytest.raises(ValueError, match="there is no such file"):
        kernels.load("missing_backend.py")
