"""The matrix products of the Numba backend: any shape, within derived bounds, and not one byte out
of bounds.
"""

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.catalog import IDENTITY, RELU, SIGMOID, SLOPES
from kernels.numba_cpu import gemm
from kernels.numba_cpu.activation_rows import activations, derivatives
from kernels.numba_cpu.codegen.vectors import Matrix, address, advance
from kernels.numba_cpu.gemm.macrokernel import COPIED, IN_PLACE, PACKED
from kernels.numba_cpu.gemm.product import FORWARD, INPUT, WEIGHT, Product

ACTIVATION_IDS = (IDENTITY, RELU, SLOPES, SIGMOID)
SMALL = st.integers(0, 70)
# Around the blocks of depth and of panels, and where products start to be packed or to wait in
# cache.
LARGE = st.sampled_from((127, 128, 129, 192, 193, 257, 383, 385, 577, 768, 769, 1153, 1400))
SHAPES = st.one_of(
    st.tuples(SMALL, SMALL, SMALL),
    st.tuples(LARGE, SMALL, SMALL),
    st.tuples(SMALL, LARGE, SMALL),
    st.tuples(SMALL, SMALL, LARGE),
    st.tuples(st.just(130), LARGE, st.just(40)),
    st.tuples(st.just(1), LARGE, LARGE),
)
# Elements on either side of an output that must keep their value: a tile's row is at most as long.
MARGIN = 64


def inputs(rng, shape, dtype, activation_id):
    batch, fan_in, fan_out = shape
    arrays = {
        "x": rng.standard_normal((batch, fan_in)),
        "weight": rng.standard_normal((fan_in, fan_out)),
        "bias": rng.standard_normal(fan_out),
        "dy": rng.standard_normal((batch, fan_out)),
        "saved": rng.uniform(0, 1, (batch, fan_out)) - (activation_id != SIGMOID) * 0.5,
        "alpha": rng.uniform(-1, 1, fan_out if activation_id == SLOPES else 1),
    }
    return {name: array.astype(dtype) for name, array in arrays.items()}


def ready(dtype):
    gemm.ready(dtype)
    activations.ready(dtype, *ACTIVATION_IDS)
    derivatives.ready(dtype, *ACTIVATION_IDS)


def run(given, activation_id, empty):
    """y, dx, dweight, dbias in arrays made by `empty(shape, dtype)`."""
    x, weight, dy, saved, alpha = (given[n] for n in ("x", "weight", "dy", "saved", "alpha"))
    y, dx = empty(dy.shape, x.dtype), empty(x.shape, x.dtype)
    dweight, dbias = empty(weight.shape, x.dtype), empty(given["bias"].shape, x.dtype)
    ready(x.dtype)
    gemm.forward(x, weight, given["bias"], activation_id, alpha, y)
    gemm.backward_input(dy, weight, saved, activation_id, alpha, dx)
    gemm.backward_weight(dy, x, saved, activation_id, alpha, dweight, dbias)
    return y, dx, dweight, dbias


def oracle(given, activation_id, dtype):
    """The four results in a wider type, each with its elementwise error bound.

    A sum of n products in any order is off by at most n u sum|a b| to first order, and by c sqrt(n)
    u sum|a b| with probability close to 1 (Higham, Accuracy and Stability of Numerical Algorithms,
    2nd ed., sections 3.1 and 2.8); bias, activation and derivative add a few u of what they act on.
    """
    wide = np.float64 if dtype == np.float32 else np.longdouble
    u = np.finfo(dtype).eps / 2
    x, weight, bias, dy, saved, alpha = (given[n].astype(wide) for n in given)
    act, derivative = {
        IDENTITY: (lambda z: z, np.ones_like(saved)),
        RELU: (lambda z: np.maximum(z, 0), np.where(saved > 0, 1, 0)),
        SLOPES: (lambda z: np.where(z > 0, z, alpha * z), np.where(saved > 0, 1, alpha)),
        SIGMOID: (lambda z: 1 / (1 + np.exp(-z)), saved * (1 - saved)),
    }[activation_id]
    dz = dy * derivative

    def product(a, b):
        terms = a.shape[1]
        return a @ b, (min(terms, 8 * np.sqrt(terms)) + 4) * u * (np.abs(a) @ np.abs(b))

    z, z_bound = product(x, weight)
    z = z + bias
    results = [(act(z), z_bound + 8 * u * (np.abs(z) + (activation_id == SIGMOID)))]
    results.append(product(dz, weight.T))
    results.append(product(x.T, dz))
    ones = np.ones((1, len(x)), wide)
    results.append(tuple(part[0] for part in product(ones, dz)))
    return results


def check(given, activation_id, results, dtype):
    names = "y", "dx", "dweight", "dbias"
    for name, got, (want, bound) in zip(
        names, results, oracle(given, activation_id, dtype), strict=True
    ):
        error = np.abs(got - want)
        assert np.all(error <= bound), (
            f"{name}: error {np.nanmax(error)}, worst bound {bound.max()}"
        )


@settings(deadline=None, max_examples=300)
@given(
    shape=SHAPES,
    dtype=st.sampled_from((np.float32, np.float64)),
    activation_id=st.sampled_from(ACTIVATION_IDS),
    seed=st.integers(0, 99),
)
def test_products_within_bounds_and_in_bounds(shape, dtype, activation_id, seed):
    given = inputs(np.random.default_rng(seed), shape, dtype, activation_id)
    before = {name: array.copy() for name, array in given.items()}
    spaces = []

    def empty(shape, dtype):
        """An array full of NaN amid a larger one of which nothing else may change."""
        size = int(np.prod(shape))
        workspace = np.full(size + 2 * MARGIN, 7, dtype)
        inner = workspace[MARGIN : MARGIN + size]
        inner[:] = np.nan
        spaces.append(workspace)
        return inner.reshape(shape)

    results = run(given, activation_id, empty)
    check(given, activation_id, results, dtype)
    for workspace in spaces:
        assert np.all(workspace[:MARGIN] == 7), "wrote before an output"
        assert np.all(workspace[workspace.size - MARGIN :] == 7), "wrote after an output"
    for name, array in given.items():
        np.testing.assert_array_equal(array, before[name], err_msg=f"{name} changed")


@numba.njit
def strided(array, lead):
    """The matrix that begins at this column of an array."""
    return Matrix(advance(address(array), lead), array.shape[1])


@numba.njit
def strided_products(shape, leads, activation_id, arrays, vectors, workspace, workspace_size):
    """The three products of matrices amid arrays of more columns."""
    (batch, fan_in, fan_out), (bias, alpha, dbias) = shape, vectors
    x, weight, dy, saved, y, dx, dweight = arrays
    x, weight, y = strided(x, leads[0]), strided(weight, leads[1]), strided(y, leads[4])
    dy, saved = strided(dy, leads[2]), strided(saved, leads[3])
    dx, dweight, slopes = strided(dx, leads[5]), strided(dweight, leads[6]), address(alpha)
    return (
        Product(
            FORWARD, batch, fan_out, fan_in, x, weight, y,
            address(bias), False, activation_id, slopes, y, workspace, workspace_size,
        ),
        Product(
            INPUT, batch, fan_in, fan_out, dy, weight, dx,
            address(dbias), False, activation_id, slopes, saved, workspace, workspace_size,
        ),
        Product(
            WEIGHT, fan_in, fan_out, batch, x, dy, dweight,
            address(dbias), True, activation_id, slopes, saved, workspace, workspace_size,
        ),
    )  # fmt: skip


@numba.njit
def compute_strided(shape, leads, activation_id, arrays, vectors, given_workspace):
    """Computes them and returns their workspace: as much as they ask for, or none, amid margins
    that must not change.
    """
    nowhere, workspace_size = address(arrays[0]), 0
    for product in strided_products(shape, leads, activation_id, arrays, vectors, nowhere, 0):
        workspace_size = max(workspace_size, gemm.workspace_size(product) if given_workspace else 0)
    workspace = np.full(workspace_size + 2 * MARGIN, arrays[0].dtype.type(7))
    place = advance(address(workspace), MARGIN)
    for product in strided_products(
        shape, leads, activation_id, arrays, vectors, place, workspace_size
    ):
        gemm.compute(product)
    return workspace


@settings(deadline=None, max_examples=300)
@given(
    shape=SHAPES,
    gaps=st.tuples(*[st.tuples(st.integers(0, 20), st.integers(0, 20))] * 6),
    dtype=st.sampled_from((np.float32, np.float64)),
    activation_id=st.sampled_from(ACTIVATION_IDS),
    given_workspace=st.booleans(),
    seed=st.integers(0, 99),
)
def test_rows_that_lie_apart(shape, gaps, dtype, activation_id, given_workspace, seed):
    """Any number of elements before and after each row of a matrix: they are neither used nor
    written to, and no workspace beyond what is asked for.
    """
    given = inputs(np.random.default_rng(seed), shape, dtype, activation_id)
    batch, fan_in, fan_out = shape

    def amid(array, gap, other):
        around = np.full((len(array), sum(gap) + array.shape[1]), other, dtype)
        around[:, gap[0] : gap[0] + array.shape[1]] = array
        return around

    names = "x", "weight", "dy", "saved"
    gaps = dict(zip((*names[:3], "y", "dx", "dweight"), gaps, strict=True))
    gaps["saved"] = gaps["dy"]  # their rows lie equally far apart
    results = {"y": (batch, fan_out), "dx": (batch, fan_in), "dweight": (fan_in, fan_out)}
    arrays = {name: amid(given[name], gaps[name], np.nan) for name in names}
    before = {name: array.copy() for name, array in arrays.items()}
    for name, size in results.items():
        arrays[name] = amid(np.full(size, np.nan, dtype), gaps[name], 7)
    dbias = np.full(fan_out, np.nan, dtype)
    leads = tuple(gaps[name][0] for name in arrays)
    ready(np.dtype(dtype))
    vectors = given["bias"], given["alpha"], dbias
    workspace = compute_strided(
        shape, leads, activation_id, tuple(arrays.values()), vectors, given_workspace
    )

    inner = {}
    for name, size in results.items():
        inside = np.s_[:, gaps[name][0] : gaps[name][0] + size[1]]
        inner[name] = arrays[name][inside].copy()
        arrays[name][inside] = 7
        assert np.all(arrays[name] == 7), f"wrote beside {name}"
    check(given, activation_id, (*inner.values(), dbias), dtype)
    assert np.all(workspace[:MARGIN] == 7), "wrote before the workspace"
    assert np.all(workspace[workspace.size - MARGIN :] == 7), "wrote after the workspace"
    for name, array in before.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=f"{name} changed")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_not_finite_inputs_reach_their_row_only(dtype):
    """Padding and masked lanes must not spread a NaN to its neighbours."""
    given = inputs(np.random.default_rng(0), (45, 37, 35), dtype, IDENTITY)
    given["x"][44, 36] = np.nan
    given["dy"][44, 34] = np.inf
    y, dx, dweight, dbias = run(given, IDENTITY, np.empty)
    assert np.isnan(y[44]).all()
    assert np.isfinite(y[:44]).all()
    assert not np.isfinite(dx[44]).any()
    assert np.isfinite(dx[:44]).all()
    assert np.isfinite(dweight[:36, :34]).all()
    assert np.isfinite(dbias[:34]).all()
    assert np.isinf(dbias[34])


def test_callable_from_numba():
    @numba.njit
    def twice(x, weight, bias, alpha, y):
        gemm.forward(x, weight, bias, IDENTITY, alpha, y)
        gemm.forward(y, weight, bias, IDENTITY, alpha, x)

    rng = np.random.default_rng(0)
    x, weight, bias, alpha = rng.random((9, 5)), rng.random((5, 5)), rng.random(5), np.zeros(1)
    want = (x @ weight + bias) @ weight + bias
    twice(x, weight, bias, alpha, np.empty_like(x))
    np.testing.assert_allclose(x, want, rtol=1e-12)


EDGES = (
    [(m, 33, 17) for m in (1, 2, 6, 7, 13, 14, 15, 29, 33, 65, 150)]
    + [(15, k, 19) for k in (0, 1, 7, 8, 9, 15, 16, 17, 129, 800)]
    + [(m, 21, n) for m in (5, 40) for n in (1, 2, 8, 10, 16, 17, 31, 32, 33, 47, 63, 64, 65, 100)]
    + [(40, 900, 70), (1300, 40, 45), (40, 45, 1300), (140, 170, 41), (9, 50, 7), (3, 8, 2)]
    + [(m, 70, n) for m in (0, 300) for n in (0, 10, 31)]
    + [(1, 40, n) for n in (31, 100, 300)]
)


def touch_no_guard_page():
    """Every array ends, then begins, at a page that nobody may read or write: whoever does is
    killed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.PAGESIZE
    for dtype in (np.float32, np.float64):
        for at_end in (True, False):
            for number, shape in enumerate(EDGES):
                activation_id = ACTIVATION_IDS[number % len(ACTIVATION_IDS)]

                def guarded(shape, dtype, at_end=at_end):
                    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
                    pages = -(-max(size, 1) // page) * page
                    workspace = mmap.mmap(-1, pages + 2 * page)
                    start = ctypes.addressof(ctypes.c_char.from_buffer(workspace))
                    for guard in (start, start + page + pages):
                        if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0):
                            raise OSError(ctypes.get_errno(), "mprotect failed")
                    offset = page + (pages - size if at_end else 0)
                    return np.frombuffer(workspace, dtype, int(np.prod(shape)), offset).reshape(
                        shape
                    )

                given = inputs(np.random.default_rng(number), shape, dtype, activation_id)
                held = {}
                for name, array in given.items():
                    held[name] = guarded(array.shape, dtype)
                    held[name][:] = array
                print(
                    np.dtype(dtype), "end" if at_end else "start", shape, activation_id, flush=True
                )
                check(given, activation_id, run(held, activation_id, guarded), dtype)


def print_results_by_threads():
    """Digests of all results, which must not depend on the number of threads and have to be right
    for any.
    """
    for threads in (1, 2, 3):
        numba.set_num_threads(threads)
        digest = []
        for number, (shape, activation_id) in enumerate(
            (
                ((200, 300, 170), SLOPES),
                ((170, 200, 300), SIGMOID),
                ((20, 700, 512), RELU),
                ((1700, 64, 128), SLOPES),
                ((700, 256, 24), RELU),
                ((1, 1200, 1000), SLOPES),
                ((1, 1200, 1000), SIGMOID),
            )
        ):
            given = inputs(np.random.default_rng(number), shape, np.float32, activation_id)
            results = run(given, activation_id, np.empty)
            check(given, activation_id, results, np.float32)
            digest += [hash(result.tobytes()) for result in results]
        print(*digest)


def in_child(function, **environment):
    """Output of one of the functions above in a process of its own."""
    child = subprocess.run(
        [sys.executable, "-c", f"from tests.numba.test_gemm import {function} as run; run()"],
        cwd=Path(__file__).parents[2],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    last = child.stdout.splitlines()[-1:] + child.stderr.splitlines()[-1:]
    assert child.returncode == 0, f"exit status {child.returncode}, last at {last}"
    return child.stdout


def test_guard_pages():
    in_child("touch_no_guard_page")


def test_results_do_not_depend_on_threads():
    lines = in_child(
        "print_results_by_threads", NUMBA_NUM_THREADS="3", PYTHONHASHSEED="0"
    ).splitlines()
    assert len(lines) == 3
    assert lines[0] == lines[1] == lines[2]


@numba.njit
def compute_by(x, weight, bias, y, how, blocks):
    product = gemm.forward_product(x, weight, bias, RELU, bias, y, address(y), 0)
    gemm.compute_by(product, how, blocks)


@pytest.mark.parametrize("shape", [(7, 40, 70), (29, 129, 64), (130, 33, 200), (43, 70, 31)])
def test_every_way_to_tiles_gives_the_same_bits(shape):
    """Of a forward product: the weights packed, in place, or copied by the first strip."""
    given = inputs(np.random.default_rng(4), shape, np.float32, RELU)
    ready(np.float32)
    for blocks in (1, 3):
        found = {}
        for how in (PACKED, COPIED, IN_PLACE):
            y = np.full((shape[0], shape[2]), np.nan, np.float32)
            compute_by(given["x"], given["weight"], given["bias"], y, how, blocks)
            found[how] = y
        want, bound = oracle(given, RELU, np.float32)[0]
        assert np.all(np.abs(found[PACKED] - want) <= bound)
        for y in found.values():
            np.testing.assert_array_equal(y, found[PACKED])
