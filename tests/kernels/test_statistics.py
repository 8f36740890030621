"""Statistics against NumPy's own functions, by hand, at extreme magnitudes; what they refuse."""

import math

import numba
import numpy as np
import pytest
from conftest import FAST_NATIVE, over_dtypes


def on(backend, *arrays):
    return tuple(map(backend.asarray, arrays))


def counted(backend, function, *given, **settings):
    """The counts that a function returns, as a list."""
    counts = getattr(backend, function)(*given, **settings)
    backend.synchronize()
    return backend.to_host(counts).tolist()


@over_dtypes
def test_worked_examples(backend, dtype):
    nan, inf = np.nan, np.inf
    x = np.array([[0.0, -0.0, 0.5, 0.25], [-0.5, 1.0, -1.0, 1.5], [nan, 0.0, -inf, inf]], dtype)
    (there,) = on(backend, x)
    assert counted(backend, "sparsity", there) == [3, 3]
    assert counted(backend, "sparsity", there, threshold=0.5) == [3, 6]
    assert counted(backend, "connection_sparsity", there, threshold=0.5) == [2, 2, 1, 1]
    assert counted(backend, "saturation", there, "tanh", margin=0.5) == [0, 1, 2, 2]
    assert counted(backend, "saturation", there, "sigmoid", margin=0.25) == [2, 3, 2, 2]
    given = {"low": 0.0, "high": 1.0, "bins": 4}
    assert counted(backend, "histogram", there, **given) == [3, 1, 1, 1, 3, 2, 1]
    (active,) = on(backend, np.array([0, 1, 10, 0]))
    assert backend.unit_activity(there, active) is None
    backend.unit_activity(there, active, threshold=-1.0)
    assert backend.to_host(active).tolist() == [0 + 2, 2 + 3, 11 + 1, 3 + 3]


@over_dtypes
def test_norm_by_hand(backend, dtype):
    layers = on(backend, np.array([[3.0, -4.0]], dtype), np.array([12.0], dtype))
    for arrays in (layers, list(layers)):
        norm = backend.to_host(backend.global_norm(arrays))
        assert norm.shape == ()
        assert norm.dtype == dtype
        assert float(norm) == 13
    assert float(backend.to_host(backend.global_norm(layers[:1]))) == 5


@over_dtypes
def test_thresholds_are_not_rounded(backend, dtype):
    """0.1 is no number of float32: the nearest is above it, the next one below."""
    for threshold in (0.1, 0.3, 1 / 3, 1e-40):
        near = np.array(threshold).astype(dtype)
        around = np.array([[np.nextafter(near, near.dtype.type(end)) for end in (0, 1)] + [near]])
        x = np.concatenate([around, -around])
        within = (np.abs(x.astype(np.float64)) <= threshold).sum(axis=0).tolist()
        (there,) = on(backend, x)
        found = counted(backend, "connection_sparsity", there, threshold=threshold)
        assert found == within
        assert counted(backend, "sparsity", there, threshold=threshold) == [0, sum(within)]
        above = (x.astype(np.float64) > threshold).sum(axis=0)
        (active,) = on(backend, np.zeros(3, np.int64))
        backend.unit_activity(there, active, threshold=threshold)
        assert backend.to_host(active).tolist() == above.tolist()


@over_dtypes
@pytest.mark.parametrize("bins", [1, 8, 64, 8192])
def test_counts_are_numpys(backend, dtype, bins):
    """Bins whose width is a power of two: there is no rounding in which the two might differ."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(41, 101)).astype(dtype)
    x.flat[:60] = np.linspace(-3, 3, 60)
    x.flat[::7] = np.round(x.flat[::7] * 64) / 64  # borders between bins among them
    x[rng.random(x.shape) < 0.2] = 0
    (there,) = on(backend, x)
    found = counted(backend, "histogram", there, low=-2.0, high=2.0, bins=bins)
    expected, _ = np.histogram(x.astype(np.float64), bins, (-2, 2))
    assert found == [*expected, (x < -2).sum(), (x > 2).sum(), 0]
    zeros, none = counted(backend, "sparsity", there)
    assert zeros == none == x.size - np.count_nonzero(x)


@over_dtypes
def test_dead_units_over_minibatches(backend, dtype):
    """Seven minibatches, the last one shorter, count what one batch of all rows does."""
    rng = np.random.default_rng(1)
    y = np.maximum(rng.normal(size=(100, 37)), 0).astype(dtype)
    y[:, [0, 5, 36]] = 0
    y[:-1, 7] = 0
    y[-1, 7] = 1e-30
    (active,) = on(backend, np.zeros(37, np.int64))
    for start in range(0, 100, 16):
        backend.unit_activity(backend.asarray(y[start : start + 16]), active)
    found = backend.to_host(active)
    np.testing.assert_array_equal(found, np.count_nonzero(y, axis=0))
    assert np.flatnonzero(found == 0).tolist() == [0, 5, 36]
    assert found[7] == 1


@over_dtypes
def test_norms_at_extreme_magnitudes(backend, dtype):
    """Where squares over- or underflow, and beside elements of another size."""
    info, eps = np.finfo(dtype), float(np.finfo(dtype).eps)
    shape = np.random.default_rng(2).normal(size=300)
    largest, smallest = float(info.max) / 64, float(info.tiny) * 1e4
    for scale in (largest, 1e30, 1e19, 1.0, 1e-19, 1e-30, smallest):
        for other in (1.0, 1e-7, 1e-25):
            arrays = (shape * scale).astype(dtype), (shape * scale * other).astype(dtype)
            together = np.concatenate(arrays).astype(np.float64).tolist()
            with np.errstate(all="ignore"):
                norm = float(backend.to_host(backend.global_norm(on(backend, *arrays))))
            assert norm == pytest.approx(math.hypot(*together), rel=600 * eps, abs=0)
    for value in (info.max, -info.max):
        (once,) = on(backend, np.array([value], dtype))
        assert float(backend.to_host(backend.global_norm((once,)))) == info.max
        with np.errstate(all="ignore"):
            assert float(backend.to_host(backend.global_norm((once, once)))) == math.inf


@pytest.mark.parametrize("backend", ["numba"], indirect=True)
@over_dtypes
def test_subnormal_norms_of_the_cpu(backend, dtype):
    least = np.finfo(dtype).smallest_subnormal
    for values in ((3, 4), (300, 400, 0), (1,)):
        expected = math.hypot(*values)
        norm = backend.global_norm((np.array(values, dtype) * least,))
        assert norm == np.array(expected, dtype) * least


@pytest.mark.parametrize("fast_backend", FAST_NATIVE, indirect=True)
def test_many_small_terms_are_not_lost(fast_backend):
    """After 4096^2 a float32 sum does not change by 1 any more."""
    x = np.ones(1 << 20, np.float32)
    x[0] = 4096
    norm = fast_backend.to_host(fast_backend.global_norm(on(fast_backend, x)))
    assert float(norm) == pytest.approx(math.sqrt(4096**2 + (1 << 20) - 1), rel=1e-6)


@over_dtypes
def test_empty_arrays_count_nothing(backend, dtype):
    for shape in ((0,), (0, 5), (3, 0)):
        (x,) = on(backend, np.zeros(shape, dtype))
        assert counted(backend, "sparsity", x) == [0, 0]
        assert counted(backend, "histogram", x, low=0.0, high=1.0, bins=3) == [0] * 6
        assert float(backend.to_host(backend.global_norm((x,)))) == 0
    for units in (5, 0):
        (x,) = on(backend, np.zeros((0 if units else 3, units), dtype))
        assert counted(backend, "connection_sparsity", x) == [0] * units
        assert counted(backend, "saturation", x, "tanh") == [0] * units
        (active,) = on(backend, np.full(units, 4))
        backend.unit_activity(x, active)
        assert backend.to_host(active).tolist() == [4] * units


@over_dtypes
def test_arrays_of_any_shape(backend, dtype):
    x = np.random.default_rng(3).normal(size=(2, 3, 5)).astype(dtype)
    x[0, 0] = 0
    flat = on(backend, x.ravel())[0]
    settings = {"low": -1.0, "high": 1.0, "bins": 5}
    for shape in ((2, 3, 5), (6, 5), (1, 30), (30, 1, 1, 1)):
        (there,) = on(backend, x.reshape(shape))
        assert counted(backend, "sparsity", there) == [5, 5]
        found = counted(backend, "histogram", there, **settings)
        assert found == counted(backend, "histogram", flat, **settings)
        one, other = (backend.to_host(backend.global_norm((a,))) for a in (there, flat))
        assert float(one) == pytest.approx(float(other), rel=30 * float(np.finfo(dtype).eps))
    (number,) = on(backend, np.array(-0.5, dtype))
    assert counted(backend, "sparsity", number, threshold=0.5) == [0, 1]
    assert counted(backend, "histogram", number, **settings) == [0, 1, 0, 0, 0, 0, 0, 0]


@over_dtypes
def test_results_do_not_depend_on_the_number_of_threads(dtype):
    from kernels import numba_cpu

    x = np.random.default_rng(4).normal(size=(1013, 517)).astype(dtype)
    found = []
    for threads in (numba.config.NUMBA_NUM_THREADS, 1):
        numba.set_num_threads(threads)
        found.append(
            [
                numba_cpu.global_norm((x, x[:100], x[0])).tobytes(),
                *numba_cpu.sparsity(x, threshold=0.3),
                *numba_cpu.connection_sparsity(x, threshold=0.3),
                *numba_cpu.saturation(x, "tanh"),
                *numba_cpu.histogram(x, low=-1.0, high=2.0, bins=100),
            ]
        )
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert found[0] == found[1]


# --- bad input ------------------------------------------------------------------------------------


def test_what_is_refused_says_why(fast_backend):
    x, weight = on(fast_backend, np.ones((4, 3), np.float32), np.ones((3, 3)))
    overlapping = x.reshape(-1)[:1].reshape(())
    for error, message, call in (
        *(
            (ValueError, "threshold must be at least 0", lambda f=f: f(x, threshold=-0.1))
            for f in (fast_backend.sparsity, fast_backend.connection_sparsity)
        ),
        (
            ValueError,
            "activation must be one of sigmoid, tanh, got 'relu'",
            lambda: fast_backend.saturation(x, "relu"),
        ),
        (
            ValueError,
            "high must be above low, .* got 1.0 for low = 1.0",
            lambda: fast_backend.histogram(x, low=1, high=1, bins=3),
        ),
        (
            ValueError,
            "high must be above low, with high - low .* finite",
            lambda: fast_backend.histogram(x, low=-1e308, high=1e308, bins=3),
        ),
        (
            ValueError,
            r"high must be above low, with .*bins / \(high - low\) finite",
            lambda: fast_backend.histogram(x, low=0, high=5e-324, bins=3),
        ),
        (
            TypeError,
            r"arrays\[1\] must be float32, as arrays\[0\] is, got float64",
            lambda: fast_backend.global_norm((x, weight)),
        ),
        (
            ValueError,
            r"out must not share memory with arrays\[1\]",
            lambda: fast_backend.global_norm((x[:0], x), out=overlapping),
        ),
        (ValueError, "arrays must be at least one", lambda: fast_backend.global_norm(())),
    ):
        for _ in range(2):
            with pytest.raises(error, match=message):
                call()


def test_counts_are_int64(fast_backend):
    """Also where int32 would do; what is not an int64 array is left as it was."""
    x, narrow = on(fast_backend, np.ones((4, 3), np.float32), np.zeros(3, np.int32))
    for call in (
        lambda: fast_backend.unit_activity(x, narrow),
        lambda: fast_backend.saturation(x, "tanh", out=narrow),
        lambda: fast_backend.connection_sparsity(x, out=narrow),
    ):
        with pytest.raises(TypeError, match="must be int64, got int32"):
            call()
    assert not fast_backend.to_host(narrow).any()
