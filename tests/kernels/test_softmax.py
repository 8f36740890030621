"""Softmax along any axis: shapes, what it may overwrite, and results of any number of threads."""

import numpy as np
import pytest

import kernels
import reference

FUNCTIONS = ("softmax", "log_softmax")
over_functions = pytest.mark.parametrize("name", FUNCTIONS)
# (shape, axis): rows; few columns and many, that fit into a work space together and not; matrices.
ALONG = [((3, 4, 5), -1), ((9, 6), 0), ((300, 70), 0), ((4, 50, 3), 1), ((2, 3, 129, 64), -2)]


@over_functions
@pytest.mark.parametrize(("shape", "axis"), ALONG)
def test_another_axis_is_the_last_of_a_transposed_array(backend, name, shape, axis):
    x = np.random.default_rng(0).standard_normal(shape)
    along = backend.to_host(getattr(backend, name)(backend.asarray(x), axis=axis))
    moved = np.moveaxis(x, axis, -1).copy()
    rows = backend.to_host(getattr(backend, name)(backend.asarray(moved)))
    np.testing.assert_allclose(np.moveaxis(along, axis, -1), rows, rtol=1e-13, atol=1e-14)


@over_functions
@pytest.mark.parametrize(("shape", "axis"), ALONG)
def test_the_result_may_replace_the_logits(fast_backend, name, shape, axis):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    call = getattr(fast_backend, name)
    expected = fast_backend.to_host(call(fast_backend.asarray(x), axis=axis))
    there = fast_backend.asarray(x.copy())
    assert call(there, axis=axis, out=there) is there
    np.testing.assert_array_equal(fast_backend.to_host(there), expected)


@over_functions
@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (3, 0, 2), (0,)])
def test_nothing(fast_backend, name, shape):
    x = fast_backend.asarray(np.zeros(shape, np.float32))
    for axis in range(len(shape)):
        with pytest.raises(ValueError, match="logits must have at least one element, got shape"):
            getattr(fast_backend, name)(x, axis=axis)


@over_functions
def test_axes_that_are_not_there(fast_backend, name):
    call, x = getattr(fast_backend, name), fast_backend.asarray(np.zeros((2, 3, 4), np.float32))
    with pytest.raises(ValueError, match="axis must be at least -3 and below 3, got 3"):
        call(x, axis=3)
    with pytest.raises(ValueError, match="logits must have at least one axis"):
        call(fast_backend.asarray(np.zeros((), np.float32)))
    first = getattr(reference, name)(np.zeros((2, 3, 4)), axis=0)
    np.testing.assert_allclose(fast_backend.to_host(call(x, axis=np.int64(-3))), first, rtol=1e-6)


@over_functions
@pytest.mark.parametrize("shape", [(300, 500), (40, 3, 200), (5000, 5)])
def test_columns_do_not_depend_on_the_threads(name, shape):
    import numba

    cpu = kernels.load("numba")
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    axis = len(shape) - 2
    expected, threads = getattr(cpu, name)(x, axis=axis), numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(getattr(cpu, name)(x, axis=axis), expected)
    finally:
        numba.set_num_threads(threads)
