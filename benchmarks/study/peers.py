"""The study's settings through other libraries: do final accuracies agree, and at what time a step?

The same data, network, first weights, rate, batch and order of rows, the same rule of when a run
ends, one thread each. What differs is how numbers are rounded, which grows from step to step as
errors do, and so costs no more than another seed does: accuracies agree where their medians over
seeds differ by no more than the seeds of one of both do.
"""

import importlib.util
import math
import statistics
import time
from dataclasses import dataclass

import numpy as np

import kernels

from ..reports import formats
from . import data, figures, grid, report, training
from .libraries import PyTorch, ScikitLearn


@dataclass(frozen=True)
class Result:
    """accuracy: of the weights of the least validation loss; seconds: of a step."""

    accuracy: float
    seconds: float


def run(setting, library):
    """The Result of a library's network in this setting."""
    from threadpoolctl import threadpool_limits

    rows, of = data.rows(setting.data), data.SETS[setting.data]
    count = len(rows.x)
    batch = count if setting.batch == grid.FULL else setting.batch
    steps = -(-count // batch)
    epochs, patience = training.budget(of, steps)
    network = library(setting, first_weights(setting, rows, batch), batch)
    rng = np.random.default_rng([setting.seed, training.ORDER])
    least, best, accuracy, seconds = math.inf, 0, 0.0, []
    with threadpool_limits(1):
        for epoch in range(1, epochs + 1):
            order = rng.permutation(count)
            x, labels = rows.x[order], rows.labels[order]
            start = time.perf_counter()
            network.epoch(x, labels)
            seconds.append(time.perf_counter() - start)
            chances = network.chances(rows.held_x)
            of_true = chances[np.arange(len(chances)), rows.held_labels]
            loss = -np.log(np.maximum(of_true, 1e-30)).mean()
            if loss < least:
                right = chances.argmax(axis=1) == rows.held_labels
                least, best, accuracy = loss, epoch, float(right.mean())
            elif epoch - best > patience:
                break
    return Result(accuracy, statistics.median(seconds) / steps)


def first_weights(setting, rows, batch):
    """[(weight, bias)] of the layers of our network before its first step."""
    sizes = (rows.x.shape[1], *setting.hidden, rows.classes)
    given = training.create(kernels.load("numpy"), setting, sizes, batch).parameters
    names = [f"layer{layer}" for layer in range(len(sizes) - 1)]
    return [(given[f"{name}.weight"], given[f"{name}.bias"]) for name in names]


def tables(runs):
    """A table for each library, or what installs it."""
    yield beside(runs, ScikitLearn)
    if importlib.util.find_spec("torch"):
        yield beside(runs, PyTorch)
    else:
        yield "PyTorch is not installed: .venv/bin/python -m pip install -e .[peers]"


def beside(runs, library, task=run):
    """The table of each method's best setting: ours, and the library's."""
    rows = []
    for (_, setting), methods in figures.compared(runs).items():
        for method, of_method in methods.items():
            cell = figures.best(of_method)
            if not library.offers(cell.setting) or 2 * cell.diverged > len(cell.runs):
                continue
            theirs = [task(one.setting, library) for one in cell.runs]
            rows.append(
                [setting.data, method, cell.setting.rate, cell.setting.batch, *_row(cell, theirs)]
            )
    header = ("data", "method", "rate", "batch", "accuracy", library.name, "agree")
    header += ("time a step", library.name, "times faster")
    note = "medians over seeds, least and largest; agree: no further apart than seeds are"
    return report.Table(f"Beside {library.name}", note, header, rows, left=2)


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
