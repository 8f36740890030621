"""The study beside scikit-learn's network."""

import dataclasses

import pytest
from study_runs import seeds, study

from benchmarks.study import data, grid, peers, training

SETTING = grid.Setting("moons-0.2", (4, 3), "relu", "none", "adam", None, 0.01, 32, 0)


def test_what_scikit_learn_has():
    assert peers.offers(SETTING)
    others = {"method": "rmsprop"}, {"activation": "elu"}, {"regularisation": "l2"}
    assert not any(peers.offers(dataclasses.replace(SETTING, **other)) for other in others)
    assert set(peers.SOLVERS) <= {method.rule for method in grid.METHODS.values()}


def test_it_trains_in_the_same_setting(monkeypatch):
    from sklearn import neural_network

    asked, real = [], neural_network.MLPClassifier

    class Noted(real):
        def partial_fit(self, x, labels, classes):
            asked.append((len(x), self.get_params()))
            return super().partial_fit(x, labels, classes=classes)

    monkeypatch.setattr(neural_network, "MLPClassifier", Noted)
    rows = data.rows("moons-0.2")
    monkeypatch.setattr(data, "rows", lambda name: dataclasses.replace(rows, x=rows.x[:64], labels=rows.labels[:64]))  # fmt: skip  # noqa: E501
    monkeypatch.setitem(data.SETS, "moons-0.2", data.Set(0.9, epochs=4, patience=4))
    monkeypatch.setattr(training, "STEPS", 1)
    found = peers.run(dataclasses.replace(SETTING, method="nesterov", beta=0.5, batch="full"))
    assert [count for count, _ in asked] == [64] * 4
    wanted = {"hidden_layer_sizes": (4, 3), "solver": "sgd", "momentum": 0.5, "alpha": 0.0}
    wanted |= {"nesterovs_momentum": True, "batch_size": 64, "learning_rate_init": 0.01}
    assert wanted.items() <= asked[0][1].items()
    assert asked[0][1]["shuffle"] is False
    assert 0 <= found.accuracy <= 1
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

    def task(setting):
        asked.append(setting)
        return peers.Result(0.9 + 0.01 * setting.seed, 1e-4)

    rows = peers.beside(study(), task).rows
    assert [row[1] for row in rows] == ["minibatch_sgd", "adam"]  # not rmsprop
    spread = "91.0% [90.0% - 92.0%]"
    assert rows[1] == ["moons-0.2", "adam", 0.01, 32, "95.0% [95.0% - 95.0%]", spread, "no", "2.00 us", "100 us", "50.0"]  # fmt: skip  # noqa: E501
    assert {(s.method, s.rate) for s in asked} == {("minibatch_sgd", 0.1), ("adam", 0.01)}
    assert peers.beside(seeds("adam", [1, 2], diverged=1), task).rows == []
    assert len(asked) == 6
