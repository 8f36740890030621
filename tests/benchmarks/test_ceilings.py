"""The ceilings of the machine, and the floor of a cell that follows from them."""

import itertools

import numba
import numpy as np
import pytest

from benchmarks.peers import floors, measure
from benchmarks.suites import ceilings

DTYPES = ("float32", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
def test_multiply_add_loop_computes_what_it_is_timed_for(dtype):
    number, sums = np.dtype(dtype).type, np.zeros(1, dtype)
    ceilings._multiply_add(3, number(0.5), number(1), sums)
    starts = range(1, ceilings.CHAINS + 1)
    assert sums[0] == sum(0.125 * start + 1.75 for start in starts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_multiply_add_loop_takes_as_many_steps_as_the_operations_need(dtype):
    steps, _, _, sums = ceilings.multiply_adds(1 << 28, dtype).args
    lanes = ceilings.REGISTER // np.dtype(dtype).itemsize
    assert (sums.dtype, len(sums)) == (dtype, numba.get_num_threads())
    assert steps * 2 * lanes * ceilings.CHAINS * len(sums) == pytest.approx(1 << 28, rel=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_streams_pass_over_every_element_so_often(dtype):
    """3 times over 4096 elements and as many, by two threads."""
    after = {"read": (1, 1), "write": (0.75, 0.75), "copy": (2, 2), "triad": (2.5, 2)}
    for place, way in enumerate(ceilings.WAYS):
        a, b, sums = np.ones(4096, dtype), np.ones(4096, dtype), np.zeros(2, dtype)
        b *= 1 + (way in ("copy", "triad"))
        ceilings._stream(place, a, b, np.dtype(dtype).type(0.25), 3, sums)
        assert [set(a), set(b)] == [{after[way][0]}, {after[way][1]}]
        assert set(sums) == {{"read": 3 * 4096 + 0.25, "write": 1.0}.get(way, 0.25)}
    _, a, b, _, passes, sums = ceilings.streams("read", 1 << 19, dtype).args
    assert (a.dtype, a.nbytes + b.nbytes, len(sums)) == (dtype, 1 << 19, numba.get_num_threads())
    assert passes == ceilings.passes(1 << 19) > ceilings.passes(1 << 28) == 1
    assert ceilings.moved("triad", 1 << 19) == 1.5 * passes * (1 << 19)


@pytest.mark.parametrize("dtype", DTYPES)
def test_loops_on_one_thread_do_the_same(dtype):
    for call in (ceilings.multiply_adds(1 << 16, dtype, alone=True),
                 ceilings.streams("triad", 1 << 14, dtype, alone=True)):  # fmt: skip
        call()
        assert (call.args[-1].size, call.args[-1][0] != 0) == (1, True)


def test_footprints_leave_no_gap():
    """Where caches end, from half a megabyte to a quarter of a gigabyte, one is twice the last."""
    sizes = ceilings.FOOTPRINTS
    assert all(large <= 2 * small for small, large in itertools.pairwise(sizes) if small >= 1 << 19)
    assert (sizes[0], sizes[-1]) == (1 << 14, 1 << 28)
    assert set(ceilings.ALONE) <= set(sizes)


@pytest.mark.parametrize(("flops", "size", "ceiling"), [(10**9, 1, 1e-3), (1, 10**9, 1e-2)])
@pytest.mark.parametrize("times", [1e-6, 1, 1e3])
def test_floor_is_what_binds_of_the_same_round(monkeypatch, flops, size, ceiling, times):
    """A machine of 10^12 operations and 10^11 bytes a second, which is half as fast by now."""
    lengths = []

    def at_first(call, _=None):
        call()
        if call.func is ceilings._multiply_add:
            return floors.OPERATIONS / 1e12
        _, a, _, _, passes, _ = call.args
        return 3 * a.nbytes * passes / 1e11

    def sample(call, wait, count):
        seconds = 2 * at_first(call)
        lengths[:] = seconds, count * seconds
        return seconds

    monkeypatch.setattr(floors, "_fastest", at_first)
    monkeypatch.setattr(measure, "sample", sample)
    found = floors.floor(times * flops, times * size)(100)
    assert found == pytest.approx(2 * ceiling * times)
    one, took = lengths
    assert took == pytest.approx(100 * found, abs=one)


def test_ceilings_are_plausible(monkeypatch):
    monkeypatch.setattr(floors, "SECONDS", 0.0)
    x = np.ones((256, 256), np.float32)
    least = 0.5 * 2 * 256**3 / floors._fastest(lambda: x @ x, 0.0)  # half: either may be disturbed
    found = floors.measured()
    for _ in range(50):  # where other work holds a core few are not
        found = floors.higher(found, floors.measured())
        if found["flops"] > least:
            break
    assert found["flops"] > least
    assert [size for size, _ in found["triads"]] == list(ceilings.FOOTPRINTS)
    size, rate = found["triads"][-1]
    a, b = np.ones((2, size // 8), np.float32)
    assert 0.2 < rate / (1.5 * size / floors._fastest(lambda: np.add(a, b, a), 0.0)) < 20
