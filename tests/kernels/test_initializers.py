"""Initial weights: their distributions, what sparse and orthogonal ones promise, their arguments.

Statistics are of fixed seeds, so they come out alike at every run; their limits would let all but
one of a thousand other seeds through.
"""

import math

import numpy as np
import pytest
from conftest import NATIVE, backend_or_skip, over_dtypes
from scipy import stats

import reference
from kernels.catalog import INITIALIZERS
from reference import philox
from reference.bounds import summation, unit_roundoff

SHAPES = [(1, 1), (7, 1), (1, 9), (33, 31), (20, 50), (64, 8)]
over_weights = pytest.mark.parametrize("shape", SHAPES)


def drawn(backend, shape, name, dtype="float32", **given):
    """The weights that the initializer leaves where there was NaN."""
    weight = backend.asarray(np.full(shape, np.nan, dtype))
    assert backend.initialize(weight, name, **given) is None
    backend.synchronize()
    return backend.to_host(weight)


# --- distributions --------------------------------------------------------------------------------

SHAPE = 400, 500


@pytest.mark.parametrize("native", NATIVE, ids=str)
@pytest.mark.parametrize("name", reference.initializers.SCALES)
def test_moments_and_shape_of_distributions(native, name):
    backend = backend_or_skip(getattr(native, "values", (native,))[0])
    values = drawn(backend, SHAPE, name, "float64", seed=1).ravel()
    n, (fan_in, fan_out) = values.size, SHAPE
    law, fans = name.rsplit("_", 1)[1], {"glorot": (fan_in + fan_out) / 2}
    variance = {"he": 2, "glorot": 1, "lecun": 1, "fan": 1 / 3}[name.split("_")[0]]
    deviation = math.sqrt(variance / fans.get(name.split("_")[0], fan_in))
    kurtosis = 3 if law == "normal" else 1.8
    assert abs(values.mean()) < 3.3 * deviation / math.sqrt(n)
    assert abs(values.var() / deviation**2 - 1) < 3.3 * math.sqrt((kurtosis - 1) / n)
    limit = math.sqrt(3) * deviation
    expected = stats.norm(0, deviation) if law == "normal" else stats.uniform(-limit, 2 * limit)
    assert stats.kstest(values, expected.cdf).pvalue > 0.001
    assert law == "normal" or np.abs(values).max() < limit


def test_neighbours_streams_and_seeds_are_not_correlated():
    """Of uniform and normal numbers and their squares, of neighbours in a row and in a column."""
    n = math.prod(SHAPE)
    for name in ("lecun_uniform", "lecun_normal"):
        first = drawn(reference, SHAPE, name, seed=1)
        others = [drawn(reference, SHAPE, name, seed=s, stream=t) for s, t in ((1, 1), (2, 0))]
        shifted = [np.roll(first, shift, axis) for shift in (1, 2, 3, 4) for axis in (0, 1)]
        for other in (*others, *shifted):
            for a, b in ((first, other), (first**2, other**2)):
                assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / math.sqrt(n)


def test_all_bits_of_words_are_even():
    words = philox.random_words(1 << 16, 5, 0)
    for bit in range(32):
        ones = int((words >> np.uint64(bit) & np.uint64(1)).sum())
        assert abs(ones - 2**15) < 3.3 * 2**7, bit


# --- sparse and orthogonal ------------------------------------------------------------------------


@over_dtypes
@over_weights
def test_sparse_units_have_so_many_inputs(backend, dtype, shape):
    fan_in, _ = shape
    for value in (None, 1, fan_in // 2 + 1, fan_in, np.int64(fan_in)):
        weight = drawn(backend, shape, "sparse_normal", dtype, seed=4, value=value)
        expected = min(15, fan_in) if value is None else value
        assert ((weight != 0).sum(axis=0) == expected).all()
        everywhere = drawn(backend, shape, "sparse_normal", dtype, seed=4, value=fan_in)
        np.testing.assert_array_equal(weight[weight != 0], everywhere[weight != 0])


def test_sparse_inputs_are_chosen_alike():
    """Each input of a unit as often as any other, each pair of them too; values are normal."""
    weight = drawn(reference, (10, 20000), "sparse_normal", seed=8, value=3)
    chosen = weight != 0
    assert stats.chisquare(chosen.sum(axis=1)).pvalue > 0.001
    pairs = (chosen.astype(int) @ chosen.T.astype(int))[np.triu_indices(10, 1)]
    assert stats.chisquare(pairs).pvalue > 0.001
    assert stats.kstest(weight[chosen], stats.norm.cdf).pvalue > 0.001


@over_dtypes
@over_weights
def test_orthogonal_weights_are(backend, dtype, shape):
    """W^T W = gain^2 I to the error of Q's product with itself: n reflections in float64 form Q,
    each off by 2 (m + 4) u, and every element is rounded three times in its dtype.
    """
    for gain in (None, 0.3, 7.5):
        weight = drawn(backend, shape, "orthogonal", dtype, seed=6, value=gain).astype("float64")
        weight = weight if shape[0] >= shape[1] else weight.T
        (m, n), square = weight.shape, (1 if gain is None else gain) ** 2
        of_q = 2 * math.sqrt(n) * n * 2 * (summation(m) + 4) * unit_roundoff("float64")
        rounding = 2 * 3 * unit_roundoff(dtype) * np.abs(weight).T @ np.abs(weight)
        product = m * unit_roundoff("float64") * np.abs(weight).T @ np.abs(weight)
        error = np.abs(weight.T @ weight - square * np.eye(n))
        assert (error <= square * of_q + rounding + product).all()


def test_orthogonal_matrices_favour_no_sign():
    """Without the signs of R's diagonal those of LAPACK's Q would be its own."""
    q = np.array([drawn(reference, (2, 2), "orthogonal", "float64", seed=s) for s in range(400)])
    assert (np.abs((q > 0).mean(axis=0) - 0.5) < 3.3 * 0.5 / math.sqrt(400)).all()
    assert abs((np.linalg.det(q) > 0).mean() - 0.5) < 3.3 * 0.5 / math.sqrt(400)


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("he_normal", {"seed": -1}, "seed must be at least 0 and below 18446744073709551616, got"),
        ("he_normal", {"seed": 2**64}, "seed must be at least 0 and below"),
        ("zeros", {"stream": 2**32}, "stream must be at least 0 and below 4294967296, got"),
        ("zeros", {"value": 0.5}, "value must be None for zeros, got 0.5"),
        ("constant", {}, "value must be given for constant, got None"),
        ("constant", {"value": np.inf}, "value must be at least"),
        ("sparse_normal", {"value": 0}, "value must be at least 1 and below 8, got 0"),
        ("sparse_normal", {"value": 8}, "value must be at least 1 and below 8, got 8"),
        ("orthogonal", {"value": 0.0}, "value must be above 0"),
        ("orthogonal", {"value": np.nan}, "value must be above 0"),
        ("xavier", {}, "initializer must be one of zeros, constant, he_normal"),
    ],
)
def test_values_out_of_range(fast_backend, name, given, message):
    weight = fast_backend.asarray(np.ones((7, 3), np.float32))
    with pytest.raises(ValueError, match=message):
        fast_backend.initialize(weight, name, **given)
    assert (fast_backend.to_host(weight) == 1).all()


@pytest.mark.parametrize("value", [1.5, True, "many", np.float32(2)])
def test_inputs_of_a_sparse_unit_are_counted(fast_backend, value):
    weight = fast_backend.asarray(np.ones((7, 3), np.float32))
    with pytest.raises(TypeError, match="value must be an integer"):
        fast_backend.initialize(weight, "sparse_normal", value=value)


@pytest.mark.parametrize("shape", [(0, 5), (4, 0)])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_weights_of_nothing(fast_backend, name, shape):
    weight = fast_backend.asarray(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="weight must have at least one row and one column"):
        fast_backend.initialize(weight, name)


def test_read_only_weights_of_the_cpu():
    from kernels import numba_cpu

    weight = np.ones((2, 3), np.float32)
    weight.flags.writeable = False
    with pytest.raises(ValueError, match="weight must be writeable"):
        numba_cpu.initialize(weight, "zeros")


def test_views_that_begin_anywhere(fast_backend):
    """A weight need not begin on the border of a vector, and what is beside it stays."""
    for offset in (1, 2, 3):
        flat = fast_backend.asarray(np.full(40, 9, np.float32))
        fast_backend.initialize(flat[offset : offset + 33].reshape(11, 3), "he_normal", seed=2)
        fast_backend.synchronize()
        host = fast_backend.to_host(flat)
        assert (host[:offset] == 9).all()
        assert (host[offset + 33 :] == 9).all()
        want = drawn(fast_backend, (11, 3), "he_normal", seed=2)
        np.testing.assert_array_equal(host[offset : offset + 33].reshape(11, 3), want)
