"""The signals of overfitting on curves made up for them."""

import math

import pytest

from benchmarks.study import signals

FALLING = [math.exp(-epoch / 8) for epoch in range(40)]
NONE = {"rising_validation": None, "growing_gap": None, "plateau": None}


def test_a_run_that_learns_gives_no_signal():
    validation = [loss + 0.001 for loss in FALLING]
    assert signals.found(FALLING[:20], validation[:20]) == NONE


@pytest.mark.parametrize("turn", [4, 10, 25])
def test_validation_that_rises_while_training_falls(turn):
    validation = [0.5 + 0.02 * abs(epoch - turn) for epoch in range(40)]
    assert signals.rising_validation(FALLING, validation) == turn
    flat = [FALLING[turn]] * 40
    assert signals.rising_validation(flat, validation) is None
    assert signals.rising_validation([2 - loss for loss in FALLING], validation) is None
    assert signals.rising_validation(FALLING[: turn + 1], validation[: turn + 1]) is None


def test_noise_is_no_rise():
    noisy = [0.5 + 0.02 * (-1) ** epoch - 0.002 * epoch for epoch in range(40)]
    assert signals.rising_validation(FALLING, noisy) is None


@pytest.mark.parametrize("turn", [6, 20])
def test_a_gap_that_grows(turn):
    training = [1 / (1 + epoch) for epoch in range(40)]
    validation = [t + 0.03 * max(0, e - turn) for e, t in enumerate(training)]
    assert signals.growing_gap(training, validation) == turn
    wide = [loss + 0.3 for loss in training]
    assert signals.growing_gap(training, wide) is None  # wide, but not growing
    narrow = [t * (1 + 0.002 * e) for e, t in enumerate(training)]
    assert signals.growing_gap(training, narrow) is None  # growing, but narrow


def test_a_plateau_begins_where_the_loss_stays():
    losses = [max(0.3, 1 - 0.1 * epoch) for epoch in range(20)]
    assert signals.plateau(losses) == 7
    assert signals.plateau(losses[:11]) is None
    assert signals.plateau([0.3 * 1.01 ** (epoch // 20) for epoch in range(40)]) == 0
    assert signals.plateau([1 - 0.01 * epoch for epoch in range(40)]) is None


def test_too_few_epochs_and_what_is_no_number_say_nothing():
    short = [1.0, 0.5, 0.4, 0.4]
    assert signals.found(short, short) == NONE
    diverging = [1.0, 2.0, 10.0, math.inf, math.nan, math.nan]
    assert signals.found(diverging, diverging) == NONE


def test_a_change_is_that_of_the_line_of_least_squares():
    assert signals.change([3, 5, 7, 9, 11]) == pytest.approx(8)
    assert signals.change([1, 4, 1, 4, 1]) == pytest.approx(0)
    assert signals.change([0, 0, 0, 0, 5]) == pytest.approx(4)
