"""The study beside scikit-learn's network."""

import dataclasses

import numpy as np
import pytest
from study_runs import seeds, study

import kernels
from benchmarks.study import data, grid, libraries, peers, training
from benchmarks.study.libraries import PyTorch, ScikitLearn

SETTING = grid.Setting("moons-0.2", (4, 3), "relu", "none", "adam", None, 0.01, 32, 0)
LIBRARIES = (ScikitLearn, PyTorch)


def with_(**other):
    return dataclasses.replace(SETTING, **other)


def test_what_the_libraries_have():
    assert all(library.offers(SETTING) for library in LIBRARIES)
    others = with_(activation="elu"), with_(regularisation="l2"), with_(method="lion")
    assert not any(library.offers(other) for library in LIBRARIES for other in others)
    assert [library.offers(with_(method="rmsprop")) for library in LIBRARIES] == [False, True]
    known = {method.rule for method in grid.METHODS.values()}
    assert set(libraries.SOLVERS) | set(libraries.RULES) <= known


METHODS = [
    *(("batch_gd", None, "full"), ("minibatch_sgd", None, 16), ("momentum", 0.5, 32)),
    *(("nesterov", 0.9, 32), ("adam", None, 32), ("adagrad", None, 32)),
    *(("rmsprop", None, 32), ("adamw", None, 32)),
]


@pytest.mark.parametrize("name", ["moons-0.2", "digits"])
@pytest.mark.parametrize(("method", "beta", "batch"), METHODS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_it_takes_the_steps_that_we_take(library, method, beta, batch, name):
    """Two epochs of 70 rows from the same weights: the same probabilities, up to rounding."""
    setting = with_(data=name, method=method, beta=beta, batch=batch)
    if not library.offers(setting):
        return
    if library is PyTorch:
        pytest.importorskip("torch", reason="PyTorch: pip install -e .[peers]")
    rows = data.rows(name)
    x, labels, count = rows.x[:70], rows.labels[:70], 70
    size = count if batch == "full" else batch
    ours = training.create(kernels.load("numpy"), setting, (x.shape[1], 4, 3, rows.classes), size)
    theirs = library(setting, peers.first_weights(setting, rows, size), size)
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(count)
        ours.epoch(x, labels, order)
        theirs.epoch(x[order], labels[order])
    logits = ours.predict(rows.held_x[:50]).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    wanted = odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(theirs.chances(rows.held_x[:50]), wanted, rtol=1e-3, atol=1e-5)


def test_a_run_ends_by_our_rule(monkeypatch):
    asked = []

    class Library:
        def __init__(self, setting, first, batch):
            assert [weight.shape for weight, _ in first] == [(2, 4), (4, 3), (3, 2)]
            assert batch == 32

        def epoch(self, x, labels):
            asked.append(len(x))

        def chances(self, x):
            of_true = np.full(len(x), [0.6, 0.9, 0.8, 0.7, 0.6][len(asked) - 1])
            if len(asked) == 2:
                of_true[:10] = 0.4
            labels, every = data.rows("moons-0.2").held_labels, np.arange(len(x))
            found = np.empty((len(x), 2))
            found[every, labels], found[every, 1 - labels] = of_true, 1 - of_true
            return found

    monkeypatch.setitem(data.SETS, "moons-0.2", data.Set(0.9, epochs=30, patience=2))
    monkeypatch.setattr(training, "STEPS", 1)
    found = peers.run(SETTING, Library)
    assert asked == [700] * 5
    assert found.accuracy == 290 / 300  # of the second epoch
    assert found.seconds > 0


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ([0.9, 0.9, 0.9], [0.9, 0.9, 0.9], True),
        ([0.9, 0.9, 0.9], [0.91, 0.91, 0.91], False),
        ([0.88, 0.9, 0.92], [0.93, 0.93, 0.93], True),
        ([0.88, 0.9, 0.92], [0.95, 0.95, 0.95], False),
    ],
)
def test_accuracies_agree_within_the_spread_of_seeds(one, other, agree):
    assert peers.agree(one, other) == peers.agree(other, one) == agree


def test_the_table_has_each_methods_best_setting():
    asked = []

    def task(setting, library):
        asked.append(setting)
        return peers.Result(0.9 + 0.01 * setting.seed, 1e-4)

    rows = peers.beside(study(), ScikitLearn, task).rows
    assert [row[1] for row in rows] == ["minibatch_sgd", "adam"]  # not rmsprop
    spread = "91.0% [90.0% - 92.0%]"
    assert rows[1] == ["moons-0.2", "adam", 0.01, 32, "95.0% [95.0% - 95.0%]", spread, "no", "2.00 us", "100 us", "50.0"]  # fmt: skip  # noqa: E501
    assert {(s.method, s.rate) for s in asked} == {("minibatch_sgd", 0.1), ("adam", 0.01)}
    assert peers.beside(seeds("adam", [1, 2], diverged=1), ScikitLearn, task).rows == []
    assert len(asked) == 6
