"""Expectations decided by rules, on runs for which the answer is known."""

import pytest
from study_runs import run

from benchmarks.study import findings


def pairs(one, other, count=8, **both):
    """Runs of two activations that differ as told, over seeds."""
    return [
        run("adam", activation=name, seed=seed, **both, **more)
        for name, more in (("relu", other), ("elu", one))
        for seed in range(count)
    ]


def found(runs, claim):
    matching = [f for f in findings.findings(runs) if f.claim.startswith(claim)]
    assert len(matching) == 1, [f.claim for f in findings.findings(runs)]
    return matching[0]


@pytest.mark.parametrize(
    ("elu", "relu", "verdict"),
    [
        (0.95, 0.9, findings.BORNE_OUT),
        (0.9, 0.9, findings.NOT),
        (0.85, 0.9, findings.OPPOSITE),
    ],
)
def test_accuracy_of_activations(elu, relu, verdict):
    said = found(pairs({"accuracy": elu}, {"accuracy": relu}), "elu: more validation accuracy")
    assert said.verdict == verdict
    assert f"medians {elu:.3g} against {relu:.3g}" in said.evidence


def test_few_pairs_decide_nothing():
    runs = pairs({"accuracy": 0.95}, {"accuracy": 0.9}, count=4)
    said = found(runs, "elu: more validation accuracy")
    assert said.verdict == findings.NOT
    assert said.evidence.startswith("4 of 4 pairs for it, 0 against")


def test_the_sign_test():
    """Two-sided: 2 * (1 + 6) / 2^6 for five of six."""
    assert findings.chance(5, 1) == pytest.approx(14 / 64)
    assert findings.chance(1, 5) == findings.chance(5, 1)
    assert findings.chance(6, 0) == pytest.approx(2 / 64)
    assert findings.chance(0, 0) == findings.chance(3, 3) == 1


def test_gradients_are_compared_by_the_last_layers():
    runs = pairs({"gradients": (1.0, 2.0, 1.0)}, {"gradients": (4.0, 2.0, 8.0)})
    said = found(runs, "elu: more gradient of the first layer")
    assert said.verdict == findings.BORNE_OUT
    assert "medians 1 against 0.5" in said.evidence
    vanished = pairs({"gradients": (0.0, 0.0, 0.0)}, {})
    assert not [f for f in findings.findings(vanished) if "gradient" in f.claim]


@pytest.mark.parametrize(
    ("relu", "elu", "verdict"),
    [
        (0.2, 0.0, findings.BORNE_OUT),
        (0.2, 0.1, findings.NOT),
        (0.0, 0.0, findings.NOT),
    ],
)
def test_dead_units(relu, elu, verdict):
    runs = pairs({"dead": (elu, elu)}, {"dead": (relu, relu)})
    said = found(runs, "relu: units die")
    assert said.verdict == verdict
    assert f"relu {relu:.2%}, elu {elu:.2%}" in said.evidence


def test_methods_are_paired_at_the_same_rate_and_batch():
    sides = (("minibatch_sgd", 0.1, 100), ("momentum", 0.1, 50), ("momentum", 0.01, 900))
    runs = [run(m, rate=r, steps=s, seed=seed) for m, r, s in sides for seed in range(8)]
    said = found(runs, "momentum: fewer steps to the target than minibatch_sgd")
    assert said.verdict == findings.BORNE_OUT
    assert said.evidence == "8 of 8 pairs for it, 0 against; medians 50 against 100"
    never = [r if r.setting.method == "momentum" else run("minibatch_sgd", rate=0.1, steps=None, seed=r.setting.seed) for r in runs]  # fmt: skip  # noqa: E501
    assert "medians 50 against never" in found(never, "momentum: fewer steps").evidence


def test_a_wrong_rate_is_judged_problem_by_problem():
    def problem(data, adam, sgd):
        return [
            *(run("adam", data=data, rate=rate, steps=s) for rate, s in adam.items()),
            *(run("minibatch_sgd", data=data, rate=rate, steps=s) for rate, s in sgd.items()),
        ]

    better = problem("moons-0.2", {0.1: 5, 0.01: 5}, {0.1: 5, 0.01: None})
    worse = problem("moons-0.3", {0.1: 5, 0.01: None}, {0.1: 5, 0.01: 9})
    assert found(better, "adaptive").verdict == findings.BORNE_OUT
    assert found(better + worse, "adaptive").verdict == findings.NOT
    assert found(worse, "adaptive").verdict == findings.OPPOSITE
    assert "50% against 100%" in found(worse, "adaptive").evidence


def test_a_smaller_gap_is_better():
    runs = [
        run("adam", regularisation=name, seed=seed, validation=validation)
        for name, validation in (("none", (1.0, 0.8, 0.8)), ("l2", (1.0, 0.4, 0.4)))
        for seed in range(8)
    ]
    said = found(runs, "l2: a smaller gap")
    assert said.verdict == findings.BORNE_OUT
    assert said.evidence.endswith("medians 0.2 against 0.4")


def test_runs_that_diverge_take_no_part():
    runs = pairs({"accuracy": 0.95}, {"accuracy": 0.9})
    runs += [run("adam", activation="elu", seed=9), run("adam", seed=9, diverged=3)]
    said = found(runs, "elu: more validation accuracy")
    assert said.evidence.startswith("8 of 8 pairs")
    assert findings.findings([]) == []
