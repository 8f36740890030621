"""The ceilings of the machine, and the floor of a cell that follows from them."""

import numba
import numpy as np
import pytest

from benchmarks.peers import ceilings, measure


def test_multiply_add_loop_computes_what_it_is_timed_for():
    sums = np.zeros(1, np.float32)
    ceilings._multiply_add(3, np.float32(0.5), np.float32(1), sums)
    starts = range(1, ceilings.CHAINS + 1)
    assert sums[0] == sum(0.125 * start + 1.75 for start in starts)
    _, flops = ceilings._multiply_adds()
    assert flops == 2 * numba.get_num_threads() * ceilings.STEPS * ceilings.CHAINS * ceilings.LANES


def test_triad_passes_over_every_element_so_often():
    a, b = np.zeros(4096, np.float32), np.ones(4096, np.float32)
    ceilings._triad(a, b, np.float32(0.25), 3, 1)
    assert (a == 0.75).all()


@pytest.mark.parametrize(("flops", "size", "ceiling"), [(10**9, 1, 1e-3), (1, 10**9, 1e-2)])
@pytest.mark.parametrize("times", [1e-6, 1, 1e3])
def test_floor_is_what_binds_of_the_same_round(monkeypatch, flops, size, ceiling, times):
    """A machine of 10^12 operations and 10^11 bytes a second, which is half as fast by now."""
    lengths = []

    def at_first(call, _=None):
        call()
        if call.func is ceilings._multiply_add:
            return ceilings._multiply_adds()[1] / 1e12
        a, _, _, passes, _ = call.args
        return 3 * a.nbytes * passes / 1e11

    def sample(call, wait, count):
        seconds = 2 * at_first(call)
        lengths[:] = seconds, count * seconds
        return seconds

    monkeypatch.setattr(ceilings, "_fastest", at_first)
    monkeypatch.setattr(measure, "sample", sample)
    found = ceilings.floor(times * flops, times * size)(100)
    assert found == pytest.approx(2 * ceiling * times)
    one, took = lengths
    assert took == pytest.approx(100 * found, abs=one)


def test_ceilings_are_plausible(monkeypatch):
    monkeypatch.setattr(ceilings, "SECONDS", 0.0)
    found = ceilings.higher(ceilings.measured(), ceilings.measured())
    x = np.ones((256, 256), np.float32)
    seconds = ceilings._fastest(lambda: x @ x, 0.0)
    assert found["flops"] > 0.5 * 2 * 256**3 / seconds  # half: other work may disturb either
    assert [size for size, _ in found["triads"]] == [3 * 4 * n for n in ceilings.ELEMENTS]
    size, rate = found["triads"][-1]
    a, b = np.ones((2, ceilings.ELEMENTS[-1]), np.float32)
    assert 0.2 < rate / (size / ceilings._fastest(lambda: np.add(a, b, a), 0.0)) < 20
