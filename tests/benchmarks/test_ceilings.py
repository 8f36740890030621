"""The ceilings of the machine, and the floor of a cell that follows from them."""

from functools import reduce

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
def test_triad_passes_over_every_element_so_often(dtype):
    a, b = np.zeros(4096, dtype), np.ones(4096, dtype)
    ceilings._triad(a, b, np.dtype(dtype).type(0.25), 3, 1)
    assert (a == 0.75).all()
    a, b, _, passes, threads = ceilings.triads(1 << 16, dtype).args
    assert (a.dtype, len(a), len(b), threads) == (dtype, 1 << 16, 1 << 16, numba.get_num_threads())
    assert passes == ceilings.passes(1 << 16) == 256


@pytest.mark.parametrize(("flops", "size", "ceiling"), [(10**9, 1, 1e-3), (1, 10**9, 1e-2)])
@pytest.mark.parametrize("times", [1e-6, 1, 1e3])
def test_floor_is_what_binds_of_the_same_round(monkeypatch, flops, size, ceiling, times):
    """A machine of 10^12 operations and 10^11 bytes a second, which is half as fast by now."""
    lengths = []

    def at_first(call, _=None):
        call()
        if call.func is ceilings._multiply_add:
            return floors.OPERATIONS / 1e12
        a, _, _, passes, _ = call.args
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
    found = reduce(floors.higher, (floors.measured() for _ in range(5)))
    x = np.ones((256, 256), np.float32)
    seconds = floors._fastest(lambda: x @ x, 0.0)
    assert found["flops"] > 0.5 * 2 * 256**3 / seconds  # half: other work may disturb either
    assert [size for size, _ in found["triads"]] == [3 * 4 * n for n in ceilings.ELEMENTS]
    size, rate = found["triads"][-1]
    a, b = np.ones((2, ceilings.ELEMENTS[-1]), np.float32)
    assert 0.2 < rate / (size / floors._fastest(lambda: np.add(a, b, a), 0.0)) < 20
