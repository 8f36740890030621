"""The study's settings through scikit-learn's MLPClassifier: do final accuracies agree, and at what
time a step?

The same data, network, rate, batch and order of rows, and the same rule for when a run ends. What
is not the same: scikit-learn's first weights are uniform (Glorot and Bengio's limit, for relu the
same as for others). So accuracies agree where their medians over seeds differ by no more than the
seeds of one of both do.
"""

import math
import statistics
import time
from dataclasses import dataclass

import numpy as np

from ..reports import formats
from . import data, figures, grid, report, training

SOLVERS = {  # by rule: the arguments of MLPClassifier
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "nesterovs_momentum": True},
    "adam": {"solver": "adam"},
}


@dataclass(frozen=True)
class Result:
    """accuracy: of the weights of the least validation loss; seconds: of a step."""

    accuracy: float
    seconds: float


def offers(setting):
    """Whether scikit-learn has this setting."""
    rule = grid.METHODS[setting.method].rule
    return rule in SOLVERS and setting.activation == "relu" and setting.regularisation == "none"


def run(setting):
    """The Result of scikit-learn's network in this setting."""
    from sklearn.neural_network import MLPClassifier

    rows, of = data.rows(setting.data), data.SETS[setting.data]
    count = len(rows.x)
    batch = count if setting.batch == grid.FULL else setting.batch
    steps = -(-count // batch)
    epochs, patience = training.budget(of, steps)
    given = {} if setting.beta is None else {"momentum": setting.beta}
    network = MLPClassifier(
        setting.hidden,
        alpha=0.0,
        batch_size=batch,
        learning_rate_init=setting.rate,
        shuffle=False,
        random_state=setting.seed,
        **{**SOLVERS[grid.METHODS[setting.method].rule], **given},
    )
    rng, classes = np.random.default_rng([setting.seed, training.ORDER]), np.arange(rows.classes)
    least, best, accuracy, seconds = math.inf, 0, 0.0, []
    for epoch in range(1, epochs + 1):
        order = rng.permutation(count)
        x, labels = rows.x[order], rows.labels[order]
        start = time.perf_counter()
        network.partial_fit(x, labels, classes=classes)
        seconds.append(time.perf_counter() - start)
        chances = network.predict_proba(rows.held_x)
        of_true = chances[np.arange(len(chances)), rows.held_labels]
        loss = -np.log(np.maximum(of_true, 1e-30)).mean()
        if loss < least:
            right = chances.argmax(axis=1) == rows.held_labels
            least, best, accuracy = loss, epoch, float(right.mean())
        elif epoch - best > patience:
            break
    return Result(accuracy, statistics.median(seconds) / steps)


def beside(runs, task=run):
    """The table of each method's best setting: ours, and scikit-learn's."""
    rows = []
    for (_, setting), methods in figures.compared(runs).items():
        for method, of_method in methods.items():
            cell = figures.best(of_method)
            if not offers(cell.setting) or 2 * cell.diverged > len(cell.runs):
                continue
            theirs = [task(one.setting) for one in cell.runs]
            rows.append(
                [setting.data, method, cell.setting.rate, cell.setting.batch, *_row(cell, theirs)]
            )
    header = ("data", "method", "rate", "batch", "accuracy", "scikit-learn", "agree")
    header += ("time a step", "scikit-learn", "times faster")
    note = "medians over seeds, least and largest; agree: no further apart than seeds are"
    return report.Table("Beside scikit-learn's MLPClassifier", note, header, rows, left=2)


def _row(cell, theirs):
    ours = [run.reached("validation_accuracy") for run in cell.runs if not run.diverged]
    both = ours, [result.accuracy for result in theirs]
    mine = cell.median(lambda run: run.step_seconds)
    other = statistics.median(result.seconds for result in theirs)
    yield from (_spread(side) for side in both)
    yield "yes" if agree(*both) else "no"
    yield from (formats.duration(mine), formats.duration(other), formats.number(other / mine))


def _spread(values):
    middle, *ends = map(report.percent, (statistics.median(values), min(values), max(values)))
    return f"{middle} [{' - '.join(ends)}]"


def agree(one, other):
    """Whether two medians are no further apart than the values of either side are."""
    apart = abs(statistics.median(one) - statistics.median(other))
    return apart <= max(max(side) - min(side) for side in (one, other)) + 1e-12
