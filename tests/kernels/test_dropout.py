"""Dropout: whose words decide, that masks are even and independent, what is dropped, its arguments.

Statistics are of fixed seeds, so they come out alike at every run; their limits would let all but
one of a thousand other seeds through.
"""

import itertools
import math

import numba
import numpy as np
import pytest
from conftest import over_dtypes

import reference
from kernels.numba_cpu import dropout as cpu
from reference.philox import random_words

PLACE = {"seed": 2**63 + 5, "step": 2**32 - 2, "layer": 2**31 - 1}
WAYS = "dropout_forward", "dropout_backward"
over_ways = pytest.mark.parametrize("way", WAYS)


def dropped(backend, x, rate, way="dropout_forward", **place):
    """What is left of a host array."""
    y = getattr(backend, way)(backend.asarray(x.copy()), rate, **place)
    backend.synchronize()
    return backend.to_host(y)


# --- the mask -------------------------------------------------------------------------------------


@over_dtypes
@over_ways
def test_an_element_is_kept_by_its_word(backend, dtype, way):
    """In whole blocks and not; the scale is rounded once. A word may be the least that keeps."""
    for shape in [(1, 1), (3, 1), (5, 7), (33, 32)]:
        x = np.full(shape, 1, dtype)
        words = random_words(x.size, PLACE["seed"], 2**32 - 1, PLACE["step"]).reshape(shape)
        for rate in (0.0, 0.3, 0.999, int(words[-1, 0]) / 2**32):
            scale = np.array(1 / (1 - rate), dtype)
            want = np.where(words >= math.floor(rate * 2**32), scale, 0)
            np.testing.assert_array_equal(dropped(backend, x, rate, way, **PLACE), want)


SHAPE, N = (400, 500), 200_000


def mask(rate=0.5, **place):
    """Of the reference: others have the same bits."""
    return dropped(reference, np.ones(SHAPE, np.float32), rate, **place) > 0


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.8, 0.99])
def test_so_many_are_kept(rate):
    for seed in range(3):
        off = mask(rate, seed=seed).sum() - N * (1 - rate)
        assert abs(off) < 3.3 * math.sqrt(N * rate * (1 - rate))


def test_masks_of_others_are_not_correlated():
    """Neighbours in a row and in a column, and masks that differ in one number, by one."""
    for place in ({"seed": 1}, {"seed": 2**32 - 1, "step": 41, "layer": 3}):
        first = mask(**place)
        others = [
            mask(**{**place, name: place.get(name, 0) + more})
            for name, more in itertools.product(("seed", "step", "layer"), (1, 2))
        ]
        others += [np.roll(first, shift, axis) for shift in (1, 2, 3, 4) for axis in (0, 1)]
        for other in others:
            agree = (first == other).sum() - N / 2
            assert abs(agree) < 4 * math.sqrt(N) / 2


def test_initial_weights_have_other_words():
    """Of the same seed, on the stream of the same number and at the first step."""
    weight = np.empty(SHAPE, np.float32)
    reference.initialize(weight, "he_uniform", seed=1, stream=0)
    agree = ((weight > 0) == mask(seed=1)).sum() - N / 2
    assert abs(agree) < 4 * math.sqrt(N) / 2


def test_a_part_has_the_mask_of_its_place():
    """A run of elements of an array, which a thread or a row of a network takes, from anywhere on,
    and beyond 2^32 blocks.
    """
    drop = numba.njit(lambda x, first, y: cpu.drop(x, first, 0.4, seed, stream, step, y))
    seed, stream, step = np.uint64(3), np.uint64(2**31 + 1), np.uint64(7)
    x = np.arange(1, 4001, dtype=np.float32)
    want = reference.dropout_forward(x[None], 0.4, seed=3, layer=1, step=7)[0]
    for first, count in ((0, 4000), (1, 1), (3, 2), (5, 1021), (1022, 1030), (1025, 2975)):
        y = np.full(count, np.nan, np.float32)
        drop(x[first : first + count], first, y)
        np.testing.assert_array_equal(y, want[first : first + count])
    far = 4 * (2**32 - 1)
    y = np.ones(8, np.float32)
    drop(y, far, y)
    blocks = [(2**32 - 1, 0), (0, 1)]
    counters = [(*block, int(stream), int(step)) for block in blocks]
    words = np.ravel([reference.philox.philox(counter, (3, 0)) for counter in counters])
    np.testing.assert_array_equal(y > 0, words >= math.floor(0.4 * 2**32))


def test_results_do_not_depend_on_the_number_of_threads():
    x, before, found = np.ones((301, 517), np.float32), numba.get_num_threads(), []
    for threads in range(1, before + 1):
        numba.set_num_threads(threads)
        try:
            found.append(cpu.dropout_forward(x, 0.3, seed=3))
        finally:
            numba.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


# --- what it makes of its input -------------------------------------------------------------------


@over_ways
def test_rate_0_changes_nothing(backend, way):
    x = np.random.default_rng(0).standard_normal((9, 11)).astype(np.float32)
    np.testing.assert_array_equal(dropped(backend, x, 0, way, **PLACE), x)


@over_dtypes
def test_what_is_dropped_is_multiplied_by_zero(backend, dtype):
    """As in PyTorch: a NaN stays one, an infinity becomes one, the sign of a number stays."""
    with np.errstate(invalid="ignore"):
        for value in (np.nan, np.inf, -np.inf, -2.0, 2.0):
            y = dropped(backend, np.full((8, 8), value, dtype), 0.5)
            gone = dropped(reference, np.ones((8, 8), dtype), 0.5) == 0
            np.testing.assert_array_equal(y[~gone], value * 2)
            if np.isfinite(value):
                np.testing.assert_array_equal(np.copysign(1, y[gone]), np.sign(value))
            np.testing.assert_array_equal(y[gone], value * 0)


@over_ways
def test_an_output_may_be_the_input(backend, way):
    x = np.random.default_rng(1).standard_normal((70, 41)).astype(np.float32)
    want, given = dropped(backend, x, 0.4, way, **PLACE), backend.asarray(x.copy())
    for _ in range(2):
        given[...] = backend.asarray(x)
        assert getattr(backend, way)(given, 0.4, **PLACE, out=given) is given
        np.testing.assert_array_equal(backend.to_host(given), want)


def test_views_that_begin_anywhere(fast_backend):
    """An array need not begin on the border of a vector, and what is beside it stays."""
    x = np.arange(1, 34, dtype=np.float32).reshape(11, 3)
    want = dropped(fast_backend, x, 0.4, seed=2)
    for offset in (1, 2, 3):
        flat = fast_backend.asarray(np.full(40, 9, np.float32))
        view = flat[offset : offset + 33].reshape(11, 3)
        fast_backend.dropout_forward(fast_backend.asarray(x), 0.4, seed=2, out=view)
        host = fast_backend.to_host(flat)
        assert (host[:offset] == 9).all()
        assert (host[offset + 33 :] == 9).all()
        np.testing.assert_array_equal(host[offset : offset + 33].reshape(11, 3), want)


# --- arguments ------------------------------------------------------------------------------------


def test_integers_of_numpy_are_integers(fast_backend):
    x = np.ones((5, 7), np.float32)
    given = {"seed": np.uint64(2**64 - 1), "step": np.int32(3), "layer": np.int64(2)}
    want = dropped(fast_backend, x, 0.5, seed=2**64 - 1, step=3, layer=2)
    np.testing.assert_array_equal(dropped(fast_backend, x, np.float32(0.5), **given), want)


@pytest.mark.parametrize("shape", [(0, 5), (4, 0)])
def test_nothing_to_drop_is_no_error(fast_backend, shape):
    x = np.zeros(shape, np.float32)
    for _ in range(2):
        out = fast_backend.asarray(x)
        assert fast_backend.dropout_forward(fast_backend.asarray(x), 0.5, out=out) is out
    assert fast_backend.dropout_backward(fast_backend.asarray(x), 0.5).shape == shape


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 1.0}, "rate must be at least 0 and below 1, got 1.0"),
        ({"step": 2**32}, "step must be at least 0 and below 4294967296, got 4294967296"),
        ({"step": 2**70}, "step must be at least 0 and below 4294967296, got"),
        ({"layer": 2**31}, "layer must be at least 0 and below 2147483648, got 2147483648"),
        ({"seed": 2**64}, "seed must be at least 0 and below 18446744073709551616, got"),
    ],
)
@over_ways
def test_numbers_out_of_range(fast_backend, way, given, message):
    """At every call: the first may compile what checks the second."""
    x, out = (fast_backend.asarray(np.ones((4, 3), np.float32)) for _ in range(2))
    call = getattr(fast_backend, way)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            call(x, **{"rate": 0.5, **given}, out=out)
        assert (fast_backend.to_host(out) == 1).all()
        call(x, 0.0, out=out)
