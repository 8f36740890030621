"""A run of the study: what is kept of it, and what it stops for."""

import dataclasses
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import backend_or_skip

import kernels
from benchmarks.study import data, grid, training

BASE = grid.Setting("moons-0.2", (4, 3), "relu", "none", "adam", None, 0.01, 128, 0)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Three epochs of 300 points."""
    rows = data.rows("moons-0.2")
    short = data.Rows(rows.x[:300], rows.labels[:300], rows.held_x[:100], rows.held_labels[:100])
    monkeypatch.setattr(data, "rows", lambda name: short)
    monkeypatch.setattr(training, "STEPS", 1)
    change(monkeypatch)
    return short


def change(monkeypatch, **fields):
    given = {"target": 2.0, "epochs": 3, "patience": 5} | fields
    monkeypatch.setitem(data.SETS, "moons-0.2", data.Set(**given))


def test_what_is_kept_can_be_kept_as_json_and_is_the_same_again():
    first, again = training.run(BASE, "numpy"), training.run(BASE, "numpy")
    assert json.loads(json.dumps(first)) == first
    assert training.same(first) == training.same(again)
    assert grid.Setting.of(first["setting"]) == BASE
    other = training.run(dataclasses.replace(BASE, seed=1), "numpy")
    assert other["digest"] != first["digest"]
    lengths = {name: len(values) for name, values in first["curves"].items()}
    assert lengths == dict.fromkeys(lengths, 4)
    assert len(first["seconds"]) == 3
    assert {len(v) for v in first["curves"]["gradients"]} == {3}
    assert {len(v) for v in first["curves"]["dead"]} == {2}


@pytest.mark.parametrize(("batch", "steps"), [(1, 300), (16, 19), (128, 3), ("full", 1)])
def test_steps_an_epoch(monkeypatch, batch, steps):
    change(monkeypatch, epochs=1)
    record = training.run(dataclasses.replace(BASE, method="momentum", batch=batch), "numpy")
    assert record["steps_an_epoch"] == steps


def test_it_is_the_network_trained_by_hand(few):
    """The same steps through the public functions alone."""
    record = training.run(BASE, "numpy")
    net = kernels.load("numpy").network.create((2, 4, 3, 2), batch=128, lr=0.01, seed=0)
    rng = np.random.default_rng([0, training.ORDER])
    losses = [net.evaluate(few.held_x, few.held_labels)[0]]
    for _ in range(3):
        net.epoch(few.x, few.labels, rng.permutation(300))
        losses.append(net.evaluate(few.held_x, few.held_labels)[0])
    np.testing.assert_allclose(record["curves"]["validation_loss"], losses, rtol=1e-5)


def test_the_best_weights_are_restored(monkeypatch):
    """Evaluations are made up: the second epoch is the best, and three worse ones end the run."""
    losses = iter([(1.0, 0.5), (0.8, 0.6), (0.5, 0.9), (0.6, 0.8), (0.7, 0.7), (0.8, 0.6)])
    change(monkeypatch, epochs=50, patience=2)
    states, loaded = [], []
    real = training.create

    def create(*arguments):
        net = real(*arguments)
        state, load = net.state, net.load_state

        def evaluate(x, labels):
            return next(losses) if len(x) == 100 else (0.1, 1.0)

        net.evaluate = evaluate
        net.state = lambda: states.append(state()) or states[-1]
        net.load_state = lambda given: loaded.append(given) or load(given)
        return net

    monkeypatch.setattr(training, "create", create)
    monkeypatch.setattr(training._Run, "accuracy", lambda run: 0.0)
    record = training.run(BASE, "numpy")
    assert record["best"] == 2
    assert len(record["seconds"]) == 5  # two of patience are over after the fifth
    assert record["reached"]["validation_accuracy"] == 0.9
    assert [int(state["steps"]) for state in loaded] == [2 * 3]
    assert record["diverged"] is None


def test_the_target_is_reached_within_an_epoch(monkeypatch):
    """Ten steps an epoch are parts of two; it is reached in the third of these."""
    asked = []
    monkeypatch.setattr(training._Run, "accuracy", lambda run: asked.append(1) or len(asked) / 3)
    change(monkeypatch, target=1.0)
    setting = dataclasses.replace(BASE, batch=32)
    assert training.run(setting, "numpy")["target_steps"] == 6
    assert len(asked) == 3  # and is not asked for again
    asked.clear()
    change(monkeypatch, target=2.0)  # the sixth: the first of the second epoch
    assert training.run(setting, "numpy")["target_steps"] == 10 + 2


@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_a_run_that_diverges_reaches_nothing(monkeypatch, rate):
    change(monkeypatch, target=0.0)
    setting = dataclasses.replace(BASE, method="minibatch_sgd", rate=rate, activation="leaky_relu")
    record = training.run(setting, "numpy")
    assert record["diverged"] == 1
    assert record["reached"] is record["target_steps"] is record["map"] is None
    losses = record["curves"]["training_loss"]
    assert losses[-1] is None or losses[-1] > training.LIMIT * math.log(2)
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_few_steps_an_epoch_make_more_epochs(monkeypatch):
    monkeypatch.setattr(training, "STEPS", 12)
    change(monkeypatch, epochs=4, patience=4)
    full = training._Run(dataclasses.replace(BASE, batch="full"), kernels.load("numpy"))
    assert (full.epochs, full.patience) == (12, 12)
    many = training._Run(BASE, kernels.load("numpy"))
    assert (many.epochs, many.patience) == (4, 4)


def test_the_map_of_the_plane():
    run = training._Run(BASE, kernels.load("numpy"))
    parameters = run.network.parameters
    for array in parameters.values():
        array[...] = 0
    assert set(run.plane()) == {"5"}
    parameters["layer2.bias"][:] = 0, 2.2  # 0.9002
    assert run.plane() == "9" * training.ACROSS**2
    parameters["layer2.bias"][:] = 100, 0
    assert set(run.plane()) == {"0"}


def test_numbers_are_kept_to_six_digits():
    assert training.rounded([1 / 3, [2e-9 / 3, math.nan], math.inf]) == [
        0.333333,
        [6.66667e-10, None],
        None,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numba", pytest.param("cupy", marks=pytest.mark.gpu)])
def test_another_process_with_more_threads_gives_the_same(monkeypatch, backend):
    monkeypatch.undo()
    backend_or_skip(backend)
    names = ["mnist-5000", "adam", "lr=0.01", "batch=128", "relu", "none", "seed=0"]
    (setting,) = grid.settings(only=names)
    code = f"""
import json
from benchmarks.study import data, grid, training
data.SETS["mnist-5000"] = data.Set(0.92, epochs=3)
(setting,) = grid.settings(only={names!r})
print(json.dumps(training.same(training.run(setting, {backend!r}))))
"""
    found = []
    for threads in ("1", "2"):
        environment = {**os.environ, "NUMBA_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]
    assert grid.Setting.of(found[0]["setting"]) == dataclasses.replace(setting, hidden=(32, 16))
