"""The generator of random words: published vectors, which word an element gets, the same bits on
every backend and with any number of threads.
"""

import math

import numba
import numpy as np
import pytest
from conftest import FAST_NATIVE, IN_EVERY_ORDER, backend_or_skip, over_dtypes
from test_initializers import drawn

import reference
from kernels.catalog import INITIALIZERS
from kernels.numba_cpu.codegen import philox
from kernels.numba_cpu.codegen.variates import normal_pair
from reference import philox as specified

# Counter, key and words of philox4x32-10 in Random123's kat_vectors.
ONES = 0xFFFFFFFF
VECTORS = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
over_vectors = pytest.mark.parametrize(("counter", "key", "words"), VECTORS)
UNIFORM = [name for name in reference.initializers.SCALES if name.endswith("uniform")]
BORDERS = [(0, 0), (2**64 - 1, 2**32 - 1), (2**32, 1), (2**32 - 1, 2**31)]  # seed, stream


@over_vectors
def test_published_vectors_of_the_reference(counter, key, words):
    assert tuple(map(int, specified.philox(counter, key))) == words


@over_vectors
def test_published_vectors_of_numba(counter, key, words):
    call = numba.njit(lambda c, k: philox.philox(c[0], c[1], c[2], c[3], k[0], k[1]))
    given = np.array(counter, np.uint64), np.array(key, np.uint64)
    assert tuple(int(word) & ONES for word in call(*given)) == words


WORDS_KERNEL = """
#include "common.cuh"
#include "philox.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
philox_words(real* unused, int* words, unsigned c0, unsigned c1, unsigned c2, unsigned c3,
             unsigned key0, unsigned key1) {
  const Words found = philox({{c0, c1, c2, c3}}, key0, key1);
  for (int k = 0; k < 4; ++k) words[k] = found.at[k];
}
"""


@pytest.mark.parametrize("name", [*FAST_NATIVE[1:], *IN_EVERY_ORDER])
@over_vectors
def test_published_vectors_of_cuda(name, counter, key, words, tmp_path, monkeypatch):
    backend = backend_or_skip(name)
    table, device = backend.runtime.table, backend.runtime.device
    (tmp_path / "philox_words.cu").write_text(WORDS_KERNEL)
    monkeypatch.setattr(table, "ROOMS", (*table.ROOMS, tmp_path))
    one_thread = table.Kernel("philox_words", lambda itemsize: ((1,), (1,)))
    monkeypatch.setitem(table.KERNELS, "philox_words", one_thread)
    unused, found = (backend.asarray(np.zeros(4, dtype)) for dtype in ("float32", "int32"))
    device.launch("philox_words", (), unused, found, *counter, *key)
    assert tuple(map(int, backend.to_host(found).view(np.uint32))) == words


def test_layout_of_the_words():
    """Element e takes word e % 4 of block e // 4; beyond 2^32 blocks the counter's second word."""
    seed, stream, step = 0x0123456789ABCDEF, 77, 5
    words = specified.random_words(10, seed, stream, step)
    for e in range(10):
        block = specified.philox((e // 4, 0, stream, step), (0x89ABCDEF, 0x01234567))
        assert words[e] == block[e % 4]
    pairs, first = np.zeros(philox.PAIRS, np.uint64), 4 * (2**32 - 1) + 1
    seed, stream = np.uint64(seed), np.uint64(stream)
    call = numba.njit(lambda *given: philox.random_words(*given))
    found = call(pairs, first, first + 6, seed, stream, step)
    for e in range(6):
        number = (first + e) // 4
        counter = number & ONES, number >> 32, int(stream), step
        block = specified.philox(counter, (0x89ABCDEF, 0x01234567))
        assert found[e] == block[(first + e) % 4]


@pytest.mark.parametrize("name", UNIFORM)
@over_dtypes
def test_uniform_numbers_are_the_same_bits(fast_backend, name, dtype):
    """Odd sizes, in whole blocks and not, in parts of one thread and of several."""
    shapes = [(1, 1), (2, 1), (1, 3), (5, 1), (33, 31), (64, 64)]
    for shape in [*shapes, (130, 131)] if fast_backend.__name__ == "kernels.numba_cpu" else shapes:
        for seed, stream in BORDERS:
            given = {"seed": seed, "stream": stream}
            want = drawn(reference, shape, name, dtype, **given)
            np.testing.assert_array_equal(drawn(fast_backend, shape, name, dtype, **given), want)


def test_uniform_numbers_are_the_same_in_both_dtypes(backend):
    """fan_in is a square: the limit is exact in both."""
    narrow, wide = (drawn(backend, (16, 9), "fan_in_uniform", t) for t in ("float32", "float64"))
    np.testing.assert_array_equal(narrow, wide)


def test_numbers_at_the_ends_of_words():
    """The words 0 and 2^32 - 1 are the smallest u and the largest: the farthest normal numbers."""
    for dtype in (np.float32, np.float64):
        call = numba.njit(lambda first, second, one: normal_pair(first, second, type(one)))
        for first, r in (
            (0, math.sqrt(48 * math.log(2))),
            (ONES, math.sqrt(-2 * math.log1p(-(2**-24)))),
        ):
            for second, turn in ((0, 2**-24), (ONES, 1 - 2**-24), (1 << 31, 0.5 + 2**-24)):
                angle = 2 * math.pi * (turn - round(turn * 2) / 2)
                sign = 1 if round(turn * 2) % 2 == 0 else -1
                want = sign * r * math.cos(angle), sign * r * math.sin(angle)
                got = call(np.uint32(first), np.uint32(second), dtype(1))
                np.testing.assert_allclose(got, want, rtol=10 * np.finfo(dtype).eps)


def test_seeds_streams_and_steps_differ(backend):
    """Each has numbers of its own, also where they differ in the upper half of the seed."""
    seen = {}
    for seed in (0, 1, 2, 2**32, 2**32 + 1, 2**63):
        for stream in (0, 1, 2, 2**31):
            values = drawn(backend, (5, 4), "he_normal", seed=seed, stream=stream)
            seen[seed, stream] = values.tobytes()
    assert len(set(seen.values())) == len(seen)
    steps = {specified.random_words(8, 0, 0, step).tobytes() for step in range(9)}
    assert len(steps) == 9


def test_results_do_not_depend_on_the_number_of_threads():
    from kernels import numba_cpu

    before = numba.get_num_threads()
    for name, declared in INITIALIZERS.items():
        value = 0.3 if declared.value and declared.value.default is None else None
        found = []
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            try:
                found.append(drawn(numba_cpu, (301, 517), name, seed=3, value=value))
            finally:
                numba.set_num_threads(before)
        for other in found[1:]:
            np.testing.assert_array_equal(found[0], other)
