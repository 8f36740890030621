"""The recipe for high accuracy: its ingredients, its early stopping, its ensemble."""

import dataclasses

import numpy as np
import pytest

import reference
from benchmarks import __main__ as command
from benchmarks.study import data, recipe

SMALL = dataclasses.replace(recipe.RECIPE, width=8, depth=2, epochs=2)


@pytest.fixture
def few(monkeypatch):
    rows = data.rows("digits")
    short = data.Rows(rows.x[:60], rows.labels[:60], rows.held_x[:20], rows.held_labels[:20])
    monkeypatch.setattr(data, "rows", lambda name: short)
    return short


def test_it_has_what_the_course_asks_for(few, monkeypatch):
    asked, real = [], reference.network.create

    def create(sizes, **options):
        asked.append((sizes, options))
        return real((64, 8, 8, 10), **options)

    monkeypatch.setattr(reference.network, "create", create)
    probabilities, _ = recipe.train(dataclasses.replace(recipe.RECIPE, epochs=1), backend="numpy")
    ((sizes, options),) = asked
    assert sizes == (64, *[128] * 10, 10)
    wanted = {"optimizer": "momentum", "normalization": "batch_norm", "residual": True}
    assert (wanted | {"dropout": 0.1, "l2": 1e-6}).items() <= options.items()
    assert options["schedule"].every == 65 * 2  # 54 of 60 rows are two batches
    assert probabilities.shape == (20, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_images_are_moved_anew_every_epoch_and_keep_their_place(few):
    first, again, next_one = (
        recipe.moved(reference, recipe.RECIPE, few.x, 0, epoch) for epoch in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == few.x.shape
    assert not np.array_equal(first, next_one)
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, few.x, strict=True)]
    assert np.median(alike) > 0.7
    still = {"rotation": 0.0, "shift": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": None}
    same = recipe.moved(reference, dataclasses.replace(recipe.RECIPE, **still), few.x, 0, 1)
    np.testing.assert_allclose(same, few.x, atol=1e-6)


def test_the_rows_that_are_held_out_end_nothing(few, monkeypatch):
    """Six rows end the run, none of them among those that are trained on."""
    trained, asked, loaded = [], [], []
    losses = iter([0.5, 0.4, 0.6, 0.7])
    real = reference.network.create

    def create(*sizes, **options):
        network = real(*sizes, **options)
        epoch, load = network.epoch, network.load_state
        network.epoch = lambda x, labels, order: trained.append(x) or epoch(x, labels, order)
        network.evaluate = lambda x, labels: asked.append(x) or (next(losses), 1.0)
        network.load_state = lambda state: loaded.append(int(state["steps"])) or load(state)
        return network

    monkeypatch.setattr(reference.network, "create", create)
    given = dataclasses.replace(SMALL, moves=False, epochs=10, patience=2)
    _, best = recipe.train(given, backend="numpy")
    assert best == 2
    assert (len(trained), loaded) == (4, [2 * 2])
    assert {len(x) for x in asked} == {6}
    rows = {row.tobytes() for row in trained[0]} | {row.tobytes() for row in asked[0]}
    assert rows == {row.tobytes() for row in few.x}


def test_what_ends_a_run_is_moved_too(few):
    """Each image as it is, and four times moved, every time in another way."""
    x, labels = recipe.copied(reference, recipe.RECIPE, few.x[:6], few.labels[:6], 0)
    np.testing.assert_array_equal(labels, np.tile(few.labels[:6], 5))
    np.testing.assert_array_equal(x[:6], few.x[:6])
    parts = x.reshape(5, 6, 64)
    assert len({part.tobytes() for part in parts}) == 5
    alike = [np.corrcoef(a, b)[0, 1] for p in parts for a, b in zip(p, few.x, strict=False)]
    assert np.median(alike) > 0.7


def test_other_first_weights_take_the_place_of_hes(few, monkeypatch):
    begun, real = [], reference.network.create

    def create(*sizes, **options):
        network = real(*sizes, **options)
        epoch = network.epoch
        network.epoch = lambda *a: begun.append(dict(network.parameters)) or epoch(*a)
        begun.append({name: array.copy() for name, array in network.parameters.items()})
        return network

    monkeypatch.setattr(reference.network, "create", create)
    given = dataclasses.replace(SMALL, epochs=1, rate=0.0, weights="fan_in_uniform")
    recipe.train(given, backend="numpy")
    before, after = begun
    for layer, fan_in in enumerate((64, 8, 8)):
        weight = after[f"layer{layer}.weight"]
        assert not np.array_equal(weight, before[f"layer{layer}.weight"])
        assert 0.9 < np.abs(weight).max() * fan_in**0.5 <= 1 + 1e-6


def test_an_ensemble_averages_probabilities(monkeypatch):
    labels = np.array([0, 1])
    monkeypatch.setattr(data, "rows", lambda name: data.Rows(None, None, None, labels))
    sure, unsure = [[0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.45, 0.55]]
    given = iter([sure, unsure, unsure])
    monkeypatch.setattr(recipe, "train", lambda *a: (np.array(next(given)), 1))
    single, together = recipe.ensemble(recipe.RECIPE)
    assert (single, together) == ([1.0, 0.5, 0.5], 1.0)


def test_an_ablation_changes_one_thing():
    for name, one in recipe.ABLATIONS.items():
        fields = [f.name for f in dataclasses.fields(one)]
        changed = [f for f in fields if getattr(one, f) != getattr(recipe.RECIPE, f)]
        assert len(changed) == (0 if name == "recipe" else 2 if name == "adamw" else 1), name


def test_the_command_trains_what_is_named(monkeypatch, capsys):
    asked = []

    def ensemble(given, data_set, backend):
        asked.append((given.elastic, data_set))
        return [0.98, 0.985, 0.99], 0.9912

    monkeypatch.setattr(recipe, "ensemble", ensemble)
    assert command.main(["study", "--recipe"]) == 0
    assert "recipe           98.00%  98.50%  99.00%  99.12%" in capsys.readouterr().out
    assert command.main(["study", "--recipe", "adamw", "elu"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "adamw",
        "elu",
    ]
    assert command.main(["study", "--recipe", "mnist-5000"]) == 0
    assert asked == [*[((1.0, 2.0), "digits")] * 3, ((8.0, 4.0), "mnist-5000")]
    assert command.main(["study", "--recipe", "nothing"]) == 2
    assert "error: --recipe: no nothing, but recipe, leaky_relu" in capsys.readouterr().err


@pytest.mark.slow
def test_it_passes_98_and_a_half_and_three_of_them_99():
    single, together = recipe.ensemble(recipe.RECIPE)
    assert np.median(single) > 0.985
    assert together >= 0.99
