"""Numbers of the study from runs made up for them."""

import math

import pytest
from study_runs import record, run, seeds, study

from benchmarks.study import figures, grid


def test_a_run_that_is_never_there_takes_infinitely_long():
    one = run("adam", steps=30, step_seconds=2e-6)
    assert (one.steps, one.seconds) == (30, pytest.approx(60e-6))
    assert run("adam", steps=None).seconds == math.inf
    gone = run("adam", steps=30, diverged=4)
    assert (gone.steps, gone.diverged, gone.reached("validation_accuracy")) == (
        math.inf,
        True,
        None,
    )


def test_medians_over_seeds_and_what_was_reached():
    (cell,) = figures.cells(seeds("adam", [40, None, 60]))
    assert (cell.steps, cell.reached, cell.accuracy) == (60, 2, 0.9)
    assert cell.spread(lambda r: r.steps) == (40, math.inf)
    (cell,) = figures.cells(seeds("adam", [40, None, None]))
    assert cell.seconds == math.inf
    (cell,) = figures.cells([*seeds("adam", [1, 2], diverged=3), run("adam", seed=2)])
    assert (cell.diverged, cell.accuracy) == (2, None)


def test_the_best_setting_is_soonest_at_the_target_not_in_the_fewest_steps():
    slow = seeds("adam", [10], rate=0.1, step_seconds=9e-6)
    fast = seeds("adam", [20], rate=0.01, step_seconds=2e-6)
    assert figures.best(figures.cells([*slow, *fast])).setting.rate == 0.01
    never = seeds("adam", [None], accuracy=0.5), seeds("adam", [None], accuracy=0.6, rate=0.1)
    assert figures.best(figures.cells([*never[0], *never[1]])).setting.rate == 0.1


def test_only_problems_with_as_many_methods_are_compared():
    problems = figures.problems(study())
    assert [list(methods) for methods in problems.values()] == [
        ["minibatch_sgd", "rmsprop", "adam"],  # as the grid has them
        ["adam"],
    ]
    assert list(figures.compared(study())) == list(problems)[:1]


def test_rates_keep_the_batch_of_the_best():
    cells = figures.cells(
        [
            *seeds("adam", [50], rate=0.1, batch=32),
            *seeds("adam", [60], rate=0.01, batch=32),
            *seeds("adam", [55], rate=0.01, batch=16),
        ]
    )
    found = figures.rates(cells)
    assert {rate: cell.steps for rate, cell in found.items()} == {0.01: 60, 0.1: 50}


def test_performance_profiles():
    """Dolan and Moré's, by hand: the ratios of a are 1, 2, inf, those of b are 4, 1, 1."""
    instances = [{"a": 1.0, "b": 4.0}, {"a": 6.0, "b": 3.0}, {"a": math.inf, "b": 2.0}]
    found = figures.profiles(instances)
    assert found == {
        "a": [(1, pytest.approx(1 / 3)), (2, pytest.approx(2 / 3))],
        "b": [(1, pytest.approx(2 / 3)), (4, 1)],
    }
    assert [round(figures.share(found["a"], t), 2) for t in (1, 1.9, 2, math.inf)] == [
        *[0.33, 0.33, 0.67, 0.67]
    ]
    unsolved = figures.profiles([{"a": math.inf, "b": math.inf}])
    assert unsolved == {"a": [], "b": []}


def test_instances_in_the_best_setting_and_at_any_rate():
    of = lambda r: r.steps  # noqa: E731
    assert figures.tuned(study(), of) == [
        {"minibatch_sgd": 300, "rmsprop": 100, "adam": 40},
        {"minibatch_sgd": 200, "rmsprop": 120, "adam": 60},
        {"minibatch_sgd": 400, "rmsprop": 500, "adam": 50},
    ]
    untuned = figures.untuned(study(), of)
    assert len(untuned) == 6  # three seeds at two rates
    assert {"minibatch_sgd": 900, "rmsprop": 500, "adam": 50} in untuned
    assert {"minibatch_sgd": 300, "rmsprop": math.inf, "adam": 400} in untuned


def test_signals_and_verdicts_are_counted():
    rows = figures.signals(study())
    assert ("none", "adam", 9, {"rising_validation": (9, 7), "growing_gap": (0, None), "plateau": (0, None)}) in rows  # fmt: skip  # noqa: E501
    assert ("none", "rmsprop", 3) in [row[:3] for row in rows]  # not those that diverged
    assert figures.verdicts(study()) == (21, 21 - 2 - 3, 3)


def test_only_the_settings_that_are_asked_for():
    records = [record("adam"), record("adam", seed=1)]
    chosen = grid.Setting.of(records[1]["setting"])
    assert [r.setting for r in figures.runs(records, [chosen])] == [chosen]
    assert len(figures.runs(records)) == 2
