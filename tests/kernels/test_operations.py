"""Every operation of every backend against the float64 oracle: a product over specifications."""

import inspect

import numpy as np
import pytest
from conftest import FAST_NATIVE, NATIVE, SHAPES, case, is_quick, over_dtypes, verify

import kernels
import reference
from benchmarks.suites.workloads import batches, layers
from kernels.numba_cpu import (
    column_moments,
    counting,
    dropout,
    element_loss_parts,
    initializers,
    losses,
    resampling,
    softmax_columns,
)
from kernels.numba_cpu.codegen import jit
from kernels.numba_cpu.gemm.microkernel import HEIGHT
from reference import OPERATIONS

over_operations = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=str)
WIDE = "wide-2048x2048"
# At a minibatch of it these stand for all others, which take minutes.
EVERY_TIME = {
    *("activation_forward[tanh]", "activation_backward[relu]", "dense_forward[relu]"),
    *("dense_backward[tanh]", "softmax_cross_entropy[hard]", "mean_squared_error", "adam"),
    *("initialize[he_normal]", "sparsity", "global_norm", "clip_by_value"),
}


def around(count):
    """One fewer, as many, one more: what is left for the last thread."""
    return count - 1, count, count + 1


def rows_a_part(elements, width):
    """Rows that a thread of the CPU's kernels takes at a time: so many elements, or just more."""
    return 1 + (elements - 1) // width


# Where the CPU's kernels share their work between threads, and around the parts of each.
SHARED = {
    "activations": [
        *((n, 1, 1) for n in around(jit.THREADS_FROM)),
        *((n, 1, 100) for n in around(4 * rows_a_part(jit.CHUNK, 100))),
        (2, 1, jit.THREADS_FROM // 2 + 1),
    ],
    "optimizers": [(0, n - 1, 1) for n in (*around(jit.THREADS_FROM), 5 * jit.CHUNK + 1)],
    "gradients": [(0, n, 1) for n in (*around(jit.THREADS_FROM), 5 * jit.CHUNK + 1)],
    "losses": [
        *((n, 1, 10) for n in around(3 * rows_a_part(losses.PART + 1, 10))),
        *((n, 1, 16) for n in around(3 * rows_a_part(losses.PART + 1, 16))),
        *((n, 1, 17) for n in around(3 * rows_a_part(losses.PART + 1, 17))),
        *[(1, 1, 9001), (3, 1, 5000)],
        *((n, 1, 70) for n in around(softmax_columns.SPACE // softmax_columns.NARROW)),
        *((1, 1, n) for n in around(element_loss_parts.BLOCK)),
        *((n, 1, 1) for n in around(3 * element_loss_parts.PART)),
        *((n, 1, 1) for n in around(jit.THREADS_FROM // element_loss_parts.COST)),
        *((n, 1, 1) for n in around(jit.THREADS_FROM)),
    ],
    "maxout": [
        *((n, 3, 100) for n in around(2 * rows_a_part(jit.CHUNK, 200))),
        *((n, 3, 100) for n in around(2 * rows_a_part(jit.CHUNK, 500))),
        *[(1, 2, 70_001), (2, 3, 257), (30, 2, 513)],
    ],
    # Parts of 32 rows and of more, columns that a task takes, rows that a thread takes, one row.
    "normalization": [
        *((n, 1, 1000) for n in around(5 * column_moments.ROWS)),
        *((n, 1, 260) for n in around(2 * column_moments.ROWS * column_moments.MOST_PARTS)),
        *((600, 1, n) for n in around(column_moments.COLUMNS)),
        *((n, 1, 100) for n in around(14 * rows_a_part(jit.CHUNK, 100))),
        *[(1, 1, jit.THREADS_FROM + 1), (70_001, 1, 2)],
    ],
    # And parts that begin within a row.
    "dropout": [
        *((n, 1, 1) for n in around(dropout.THREADS_FROM)),
        *((n, 1, 3) for n in around(5 * dropout.PART)),
    ],
    # Strips as high as the register tile, threads with a row each.
    "recurrent": [(2 * HEIGHT + 1, 5, 120), (4, 3, 300)],
    # And units of which a thread takes so many.
    "initializers": [
        *((0, n, 1) for n in around(initializers.THREADS_FROM)),
        *((0, 70, n) for n in around(2 * initializers.COLUMNS)),
    ],
    # Around where threads begin, rows that are counted together or alone, more rows than a count in
    # int32 sees, one row of many columns.
    "statistics": [
        *((n, n, 1) for n in around(jit.THREADS_FROM)),
        *((n, n, 100) for n in around(-(-jit.THREADS_FROM // 100))),
        *((140, 140, n) for n in around(counting.GROUP)),
        *[(2 * counting.ROWS + 1, 70_001, 2), (1, 1, jit.THREADS_FROM + 1)],
        (5, 5, 5 * counting.BLOCK + 3),
        # Bins counted in pairs by two threads.
        (1, 1, 2 * counting.PAIRED[0] * (counting.PAIRED_BINS + 3) ** 2 + 4 * counting.PAIRS - 3),
    ],
    # And more equations than a block of columns, or than two.
    "second_order": [
        *((1, 1, n) for n in (*around(jit.CHUNK), *around(jit.THREADS_FROM), 5 * jit.CHUNK + 1)),
        (1, 257, 1),
    ],
    # Images, of which an elastic distortion takes longer; blocks of pixels.
    "augmentation": [
        *((n, 64, 1) for n in around(resampling.THREADS_FROM // 64)),
        *((n, 64, 1) for n in around(resampling.THREADS_FROM // 64 // resampling.ELASTIC_COST)),
        *((n, 64, 1) for n in around(3 * rows_a_part(resampling.PART, 64))),
        *((2, n, 1) for n in around(2 * resampling.BLOCK)),
        (3, resampling.THREADS_FROM, 1),
    ],
    # One row; few rows; rows read in place and packed; columns one beside whole vectors; depths
    # beyond a block; few columns.
    "dense": [
        *[(1, 1000, 1025), (2, 1001, 1023), (17, 700, 257), (127, 100, 97), (128, 101, 96)],
        *[(129, 100, 95), (131, 769, 33), (1301, 257, 10), (701, 40, 161)],
    ],
}


@over_dtypes
@over_operations
def test_agrees_with_oracle_at_small_shapes(backend, operation, dtype):
    rng = np.random.default_rng(1)
    for shape in (shape for shape in SHAPES if is_quick(operation, *shape)):
        verify(backend, operation, operation.sample(rng, case(*shape, dtype)))


@over_dtypes
@over_operations
def test_agrees_with_oracle_at_borders(backend, operation, dtype):
    for description, inputs in operation.edges(np.dtype(dtype)):
        try:
            verify(backend, operation, inputs)
        except AssertionError as error:
            raise AssertionError(f"{description}: {error}") from None


@pytest.mark.parametrize("fast_backend", FAST_NATIVE, indirect=True)
@over_dtypes
@pytest.mark.parametrize(
    ("family", "operation"),
    [(family, operation) for family in SHARED for operation in reference.FAMILIES[family]],
    ids=str,
)
def test_agrees_with_oracle_where_threads_share(fast_backend, family, operation, dtype):
    rng = np.random.default_rng(5)
    for shape in SHARED[family]:
        inputs = operation.sample(rng, case(*shape, dtype))
        verify(fast_backend, operation, inputs)
        if "labels" in inputs and inputs["labels"].dtype.kind == "i":
            labels = inputs["labels"].astype(np.int64)
            verify(fast_backend, operation, {**inputs, "labels": labels})


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
@over_dtypes
def test_adam_at_its_first_steps_and_late(backend, step, dtype):
    """Also with the default settings, whose corrections are far from 1 for long."""
    adam = OPERATIONS["adam"]
    rng = np.random.default_rng(6)
    for settings in ({}, {"beta1": 0.5, "beta2": 0.7, "eps": 0.1, "lr": 0.3}):
        inputs = {**adam.sample(rng, case(0, 10, 9, dtype)), "step": step}
        defaults = inspect.signature(adam.function).parameters
        given = {name: defaults[name].default for name in ("lr", "beta1", "beta2", "eps")}
        verify(backend, adam, {**inputs, **given, **settings})


@pytest.mark.parametrize("backend", NATIVE, indirect=True)
@over_operations
def test_agrees_with_oracle_on_workloads(backend, operation):
    """Every layer of every other workload, the data sets' own rows, at a minibatch."""
    rng = np.random.default_rng(2)
    for name, layer in layers().items():
        if name != WIDE and is_quick(operation, 32, **layer.sizes):
            verify(backend, operation, operation.sample(rng, layer.at(batch=32)))


@pytest.mark.parametrize("backend", NATIVE, indirect=True)
@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(o, marks=[pytest.mark.slow] * (str(o) not in EVERY_TIME), id=str(o))
        for o in OPERATIONS.values()
    ],
)
def test_agrees_with_oracle_on_the_largest_layer(backend, operation):
    rng = np.random.default_rng(7)
    verify(backend, operation, operation.sample(rng, layers()[WIDE].at(batch=32)))


def test_what_stands_for_others_exists():
    assert set(OPERATIONS) >= EVERY_TIME


@pytest.mark.parametrize("fast_backend", FAST_NATIVE, indirect=True)
@pytest.mark.parametrize(
    ("layer", "variant"),
    [
        pytest.param(layer, variant, marks=[pytest.mark.slow] * (layer == WIDE))
        for layer in layers()
        for variant in ("relu", "tanh", "prelu", "hard", "")
    ],
)
def test_agrees_with_oracle_on_full_batches(fast_backend, layer, variant):
    rng = np.random.default_rng(3)
    full = batches(layer.split("-")[0])[-1]
    for operation in OPERATIONS.values():
        if operation.variant == variant and "batch" in operation.sizes:
            verify(fast_backend, operation, operation.sample(rng, layers()[layer].at(batch=full)))


@pytest.mark.parametrize("package", ["kernels.numba_cpu", "kernels.cupy_gpu"])
def test_signatures_are_those_of_the_reference(package):
    """Also where the backend cannot run: it can be imported without its device."""
    module = pytest.importorskip(package, reason="CuPy was left out of this installation")
    of_specifications = {"FAMILIES", "OPERATIONS", "Case", "Operation", "Result"}
    assert set(reference.__all__) - of_specifications == set(module.__all__)
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
    for operation in OPERATIONS.values():
        inputs = operation.sample(rng, case(6, 5, 7))
        zeros = (np.zeros_like(r, dtype="float32") for r in operation.oracle(inputs))
        results = tuple(
            result.among(inputs) if result.updates else zero
            for result, zero in zip(operation.results, zeros, strict=True)
        )
        assert operation.disagreement(inputs, results) is not None, operation


def test_load_names_what_there_is():
    with pytest.raises(ValueError, match="backend must be one of numpy, numba, cupy"):
        kernels.load("fortran")
    with pytest.raises(ValueError, match="there is no such file"):
        kernels.load("missing_backend.py")
