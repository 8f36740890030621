"""The grid of the study as data: names, slices and what `--only` selects."""

import json

import pytest

from benchmarks.study import data, grid
from kernels.catalog import RULES


def test_a_name_tells_the_setting_and_no_two_share_one():
    found = grid.settings()
    assert str(found[0]) == "moons-0.2 32-16 relu none batch_gd lr=0.001 batch=full seed=0"
    assert len({str(setting) for setting in found}) == len(set(found)) == len(found)
    momentum = next(s for s in found if s.method == "momentum")
    assert "momentum beta=0.9 lr=0.001 batch=1 " in str(momentum)
    assert "lr=0.001" not in str(momentum.without("rate", "seed"))
    kept = json.loads(json.dumps(momentum.fields))
    assert grid.Setting.of(kept) == momentum


def test_the_whole_grid_is_the_courses():
    """SGD at five batches, two rules with three momenta at each, four others."""
    found = grid.settings(everything=True, only=["seed=1", "32-16"])
    of_rule = {"sgd": 5, "momentum": 15, "nesterov": 15, "adagrad": 5, "rmsprop": 5}
    of_rule |= {"adam": 5, "adamw": 5}
    sets, activations, regularisations, rates = 8, 4, 3, 4
    assert len(found) == sum(of_rule.values()) * sets * activations * regularisations * rates
    assert {s.method for s in found} == set(grid.COURSE)
    assert set(grid.settings(only=["seed=1", "32-16"])) < set(found)
    assert [len(axis.every) for axis in grid.AXES.values()] == [8, 3, 4, 3, 9, 3, 4, 5, 3]


def test_a_method_has_its_batches_and_its_momentum():
    for setting in grid.settings(everything=True, only=["moons-0.1", "32-16", "relu", "seed=1"]):
        method = grid.METHODS[setting.method]
        assert setting.batch in method.batches
        assert (setting.beta is None) == ("beta" not in RULES[method.rule].settings)
    assert {name for name, m in grid.METHODS.items() if m.rule == "sgd"} == set(grid.COURSE[:3])
    assert set(RULES) == {method.rule for method in grid.METHODS.values()}


@pytest.mark.parametrize(
    ("only", "count"),
    [
        (["adam", "digits", "relu", "none"], 4 * 5 * 3),
        (["adam", "circles-0.3", "lr=0.01", "batch=32", "seed=0", "none"], 4),
        (["sgd", "batch=full", "moons-0.2", "relu", "none"], 4 * 3),
        (["moons", "adadelta", "relu", "none", "lr=0.1", "seed=0"], 3 * 5),
        (["mnist-full", "adam", "relu", "none", "lr=0.01", "seed=0"], 5),
    ],
)
def test_what_is_named_takes_the_place_of_what_would_be_run(only, count):
    found = grid.settings(only=only)
    assert len(found) == count
    for name in only:
        assert any(name in label or name == "sgd" for label in str(found[0]).split())
    assert all(s.hidden == data.SETS[s.data].hidden for s in found)


def test_what_no_axis_knows_is_said():
    with pytest.raises(ValueError, match=r"no batch=3 in the study, but .*adagrad, .*batch=128"):
        grid.settings(only=["batch=3"])
    with pytest.raises(ValueError, match="no method takes what is named: stochastic_gd batch=full"):
        grid.settings(only=["stochastic_gd", "batch=full"])
