"""What the course expects of methods and activations, held against the runs.

A finding is decided by pairs of runs that differ in nothing but what it is about: it is borne out
where one side is ahead in so many pairs that chance does as much in fewer than LEVEL of cases, by a
two-sided sign test; ties count for neither side. Pairs that share a seed or a data set are not
independent of one another, which the test takes them to be.
"""

import math
import statistics
from dataclasses import dataclass

from . import figures, grid

LEVEL = 0.05
BORNE_OUT, NOT, OPPOSITE = "borne out", "not borne out", "the opposite"
RECTIFIERS = ("leaky_relu", "prelu", "elu")
ADAPTIVE = ("adagrad", "rmsprop", "adam", "adamw")


@dataclass(frozen=True)
class Finding:
    """claim: what is expected; verdict; evidence: the figures that decide it."""

    claim: str
    verdict: str
    evidence: str


def findings(runs):
    """All that these runs, of one backend, can say something about."""
    of_activation = [
        *(_more("validation accuracy", name, "relu", _accuracy, runs) for name in RECTIFIERS),
        *(_more("gradient of the first layer, by the last layer's,", name, "relu", _passed, runs)
          for name in RECTIFIERS),
        dead_units(runs),
    ]  # fmt: skip
    of_methods = [
        _less("fewer steps to the target", "momentum", "minibatch_sgd", _steps, runs),
        _less("fewer steps to the target", "nesterov", "momentum", _steps, runs),
        _less("fewer steps to the target", "adam", "minibatch_sgd", _steps, runs),
        _less("less time a step", "minibatch_sgd", "adam", _step_seconds, runs),
        *(_sooner("minibatch_sgd", other, runs) for other in ("stochastic_gd", "batch_gd")),
        wrong_rates(runs),
    ]
    of_gaps = [_less_gap(name, runs) for name in grid.REGULARISATIONS if name != "none"]
    return [found for found in (*of_methods, *of_activation, *of_gaps) if found]


def _accuracy(run):
    return None if run.diverged else run.reached("validation_accuracy")


def _steps(run):
    return run.steps


def _step_seconds(run):
    return run.step_seconds


def _passed(run):
    """The first layer's gradient by the last one's, the geometric mean over the epochs."""
    pairs = [(norms[0], norms[-1]) for norms in run.record["curves"]["gradients"]]
    if run.diverged or not all(first and last for first, last in pairs):
        return None
    return math.exp(statistics.fmean(math.log(first / last) for first, last in pairs))


def _gap(run):
    """Validation loss less training loss, after the last epoch."""
    curves = run.record["curves"]
    return None if run.diverged else curves["validation_loss"][-1] - curves["training_loss"][-1]


def _more(what, one, other, of, runs):
    pairs = paired(runs, "activation", one, other, of)
    return decided(f"{one}: more {what} than {other}", pairs, "{:.3g} against {:.3g}")


def _less(what, one, other, of, runs):
    pairs = [pair[::-1] for pair in paired(runs, "method", one, other, of)]
    return decided(f"{one}: {what} than {other}", pairs, "{1:.3g} against {0:.3g}")


def _less_gap(name, runs):
    pairs = [pair[::-1] for pair in paired(runs, "regularisation", name, "none", _gap)]
    claim = f"{name}: a smaller gap between the losses than without"
    return decided(claim, pairs, "{1:.3g} against {0:.3g}")


def _sooner(one, other, runs):
    """At the target, each in its best setting."""
    tuned = figures.tuned(runs, lambda run: run.seconds)
    pairs = [(by[other], by[one]) for by in tuned if {one, other} <= set(by)]
    claim = f"{one}: sooner at the target than {other}, both in their best setting"
    return decided(claim, pairs, "{1:.3g} s against {0:.3g} s")


def paired(runs, axis, one, other, of):
    """[(of one, of the other)] of the runs that differ along an axis alone, None left out."""
    free = ("method", "beta") if axis == "method" else (axis,)
    sides = [
        {run.setting.without(*free): of(run) for run in runs if getattr(run.setting, axis) == value}
        for value in (one, other)
    ]
    both = [(sides[0][key], sides[1][key]) for key in sides[0].keys() & sides[1].keys()]
    return [pair for pair in both if None not in pair]


def decided(claim, pairs, form):
    """The finding that the first of each pair is larger; None where there are no pairs."""
    if not pairs:
        return None
    ahead, behind = (sum(a > b for a, b in side) for side in (pairs, [p[::-1] for p in pairs]))
    verdict = NOT
    if chance(ahead, behind) < LEVEL:
        verdict = BORNE_OUT if ahead > behind else OPPOSITE
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    said = form.format(*medians).replace("inf", "never")
    evidence = f"{ahead} of {len(pairs)} pairs for it, {behind} against; medians {said}"
    return Finding(claim, verdict, evidence)


def chance(ahead, behind):
    """How likely a difference as large is where either side is as likely to be ahead."""
    count, least = ahead + behind, min(ahead, behind)
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(least + 1)) / 2**count)


def dead_units(runs):
    """Under relu units die, under the others hardly any: a tenth of relu's share at most."""
    dead = {name: [] for name in ("relu", *RECTIFIERS)}
    alike = {r.setting.without("activation") for r in runs if r.setting.activation in RECTIFIERS}
    for run in runs:
        known = run.setting.without("activation") in alike and not run.diverged
        if known and run.setting.activation in dead:
            dead[run.setting.activation].append(statistics.fmean(run.at_best("dead")))
    shares = {name: statistics.fmean(found) for name, found in dead.items() if found}
    if "relu" not in shares or len(shares) == 1:
        return None
    others = [share for name, share in shares.items() if name != "relu"]
    holds = shares["relu"] > 0 and max(others) <= shares["relu"] / 10
    evidence = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    return Finding(
        "relu: units die, and hardly any with a slope below 0",
        BORNE_OUT if holds else NOT,
        f"mean share of dead units: {evidence}",
    )


def wrong_rates(runs):
    """Of all rates and batches more bring the adaptive methods to the target than sgd, in each
    problem.
    """
    shares = []
    for methods in figures.compared(runs).values():
        sides = [ADAPTIVE, [name for name, method in grid.METHODS.items() if method.rule == "sgd"]]
        found = [[c for name in side for c in methods.get(name, ())] for side in sides]
        if all(found):
            counts = [(sum(c.reached for c in s), sum(len(c.runs) for c in s)) for s in found]
            shares.append([reached / count for reached, count in counts])
    if not shares:
        return None
    ahead = [ours > theirs for ours, theirs in shares]
    verdict = BORNE_OUT if all(ahead) else NOT if any(ahead) else OPPOSITE
    said = "; ".join(f"{ours:.0%} against {theirs:.0%}" for ours, theirs in shares)
    claim = "adaptive methods: a wrong rate keeps fewer runs from the target than with sgd"
    return Finding(claim, verdict, f"runs at the target, problem by problem: {said}")
