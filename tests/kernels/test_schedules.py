"""Schedules of the rate: their equations at known steps, their ends, and what they refuse."""

import math
import pickle

import pytest

from kernels import schedules
from kernels.schedules import (
    CosineRestarts,
    Exponential,
    OneCycle,
    ReduceOnPlateau,
    StepDecay,
    WarmUp,
)


def at(schedule, *steps):
    return [pytest.approx(schedule(step), abs=1e-15) for step in steps]


def test_known_factors():
    assert at(StepDecay(3, 0.5), 1, 3, 4, 6, 7) == [1, 1, 0.5, 0.5, 0.25]
    assert at(Exponential(0.5), 1, 2, 4) == [1, 0.5, 0.125]
    assert at(WarmUp(4, 0.2), 1, 3, 5, 100) == [0.2, 0.6, 1, 1]
    assert at(WarmUp(2, then=Exponential(0.1)), 1, 2, 3, 4) == [0, 0.5, 1, 0.1]


def test_cosine_restarts():
    schedule = CosineRestarts(4, lowest=0.1)
    assert at(schedule, 1, 3, 5, 7) == [1, 0.55, 1, 0.55]
    growing = CosineRestarts(2, growth=3)  # periods of 2, 6, 18 steps
    assert at(growing, 1, 2, 3, 6, 9, 18, 27) == [1, 0.5, 1, 0.5, 1, 0.5, 1]
    assert at(growing, 8) == [(1 + math.cos(math.pi * 5 / 6)) / 2]


def test_one_cycle():
    schedule = OneCycle(100, rise=0.3, first=0.04, last=0.001)
    assert at(schedule, 1, 30, 100, 1000) == [0.04, 1, 0.001, 0.001]
    factors = [schedule(step) for step in range(1, 101)]
    assert factors[:30] == sorted(factors[:30])
    assert factors[29:] == sorted(factors[29:], reverse=True)
    for few in (OneCycle(1), OneCycle(2), OneCycle(10, rise=0.0), OneCycle(10, rise=1.0)):
        assert all(0 <= few(step) <= 1 for step in range(1, 15))


def test_reduce_on_plateau():
    plateau = ReduceOnPlateau(factor=0.5, patience=2, threshold=0.1)
    seen = []
    for loss in (1.0, 0.95, 0.92, 0.91, 0.5, 0.5, math.nan, 0.5, 0.5):
        plateau.observe(loss)
        seen.append(plateau(1))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: StepDecay(0), "every"),
        (lambda: StepDecay(2, -1), "factor"),
        (lambda: Exponential(math.nan), "factor"),
        (lambda: CosineRestarts(1.5), "period"),
        (lambda: CosineRestarts(3, growth=0), "growth"),
        (lambda: CosineRestarts(3, lowest=1.1), "lowest"),
        (lambda: WarmUp(True), "steps"),
        (lambda: WarmUp(2, first=-0.1), "first"),
        (lambda: WarmUp(2, then=0.1), "then"),
        (lambda: OneCycle(0), "steps"),
        (lambda: OneCycle(5, rise=2), "rise"),
        (lambda: OneCycle(5, last=-1), "last"),
        (lambda: ReduceOnPlateau(factor=1), "factor"),
        (lambda: ReduceOnPlateau(patience=-1), "patience"),
        (lambda: ReduceOnPlateau(threshold="small"), "threshold"),
    ],
)
def test_bad_settings_are_named(make, name):
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be "):
        make()


def test_schedules_travel_to_other_processes():
    for schedule in (StepDecay(3), WarmUp(4, then=CosineRestarts(5)), OneCycle(9)):
        assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert set(schedules.__all__) <= set(dir(schedules))
