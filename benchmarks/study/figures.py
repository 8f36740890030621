"""What the kept runs say in numbers: steps to the target and time a step, apart and multiplied.

A run that never reaches the target, or diverges, takes infinitely many steps there, so that medians
over seeds need no exceptions. Performance profiles: Dolan and Moré, Benchmarking optimization
software with performance profiles, Mathematical Programming 91, 2002.
"""

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from . import grid

TUNED = ("method", "beta", "rate", "batch", "seed")  # what differs within a problem


@dataclass(frozen=True, eq=False)
class Run:
    """A kept run."""

    setting: grid.Setting
    record: dict

    @property
    def backend(self):
        return self.record["backend"]

    @property
    def diverged(self):
        return self.record["diverged"] is not None

    @property
    def steps(self):
        """To the target."""
        found = self.record["target_steps"]
        return math.inf if found is None else found

    @cached_property
    def step_seconds(self):
        """Of a step: the median over epochs."""
        return statistics.median(self.record["seconds"]) / self.record["steps_an_epoch"]

    @property
    def seconds(self):
        """To the target: the product of both."""
        return self.steps * self.step_seconds

    def reached(self, name):
        """Of the restored weights; None where it has diverged."""
        return None if self.diverged else self.record["reached"][name]

    def at_best(self, name):
        """Of a curve."""
        return self.record["curves"][name][self.record["best"]]

    @property
    def problem(self):
        return (self.backend, self.setting.without(*TUNED))


def runs(records, settings=None):
    """The runs of these records, of these settings alone where they are given."""
    found = [Run(grid.Setting.of(record["setting"]), record) for record in records]
    chosen = None if settings is None else set(settings)
    return [run for run in found if chosen is None or run.setting in chosen]


@dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one setting, which differ in their seeds."""

    setting: grid.Setting
    runs: tuple

    def median(self, of):
        return statistics.median(of(run) for run in self.runs)

    def spread(self, of):
        return min(map(of, self.runs)), max(map(of, self.runs))

    @cached_property
    def seconds(self):
        return self.median(lambda run: run.seconds)

    @cached_property
    def steps(self):
        return self.median(lambda run: run.steps)

    @property
    def reached(self):
        """In how many runs the target is."""
        return sum(math.isfinite(run.steps) for run in self.runs)

    @property
    def diverged(self):
        return sum(run.diverged for run in self.runs)

    @property
    def accuracy(self):
        """The median on the validation rows; None where most have diverged."""
        known = [run.reached("validation_accuracy") for run in self.runs if not run.diverged]
        return statistics.median(known) if 2 * len(known) > len(self.runs) else None


def grouped(items, key):
    """{key: the items that have it}, in the order of the first of each."""
    found = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def cells(found):
    """The cells of runs of one backend."""
    groups = grouped(found, lambda run: run.setting.without("seed"))
    return [Cell(setting, tuple(of_one)) for setting, of_one in groups.items()]


def problems(found):
    """{(backend, what is given): {method: its cells}}."""
    order = list(grid.METHODS)
    return {
        problem: grouped(
            sorted(cells(of_one), key=lambda cell: order.index(cell.setting.method)),
            lambda cell: cell.setting.method,
        )
        for problem, of_one in grouped(found, lambda run: run.problem).items()
    }


def compared(found):
    """Those of the problems in which the most methods are."""
    every = problems(found)
    most = max(map(len, every.values()), default=0)
    return {problem: methods for problem, methods in every.items() if len(methods) == most}


def best(of_method):
    """The cell that is at the target in the least time; where none is, the most accurate one."""
    return min(of_method, key=lambda cell: (cell.seconds, -(cell.accuracy or 0)))


def rates(of_method):
    """{rate: the cell with it that has the batch and momentum of the best one}."""
    fixed = best(of_method).setting.without("rate")
    alike = [cell for cell in of_method if cell.setting.without("rate") == fixed]
    return {cell.setting.rate: cell for cell in sorted(alike, key=lambda cell: cell.setting.rate)}


def profiles(instances):
    """{method: [(t, share)]}: of how many instances it is at most t times as long as the shortest.

    instances: each {method: what it takes}. One which no method solves counts for none.
    """
    ratios, count = {}, len(instances)
    for instance in instances:
        least = min(instance.values())
        for method, takes in instance.items():
            ratio = takes / least if math.isfinite(takes) else math.inf
            ratios.setdefault(method, []).append(ratio)
    return {
        method: [
            (t, sum(ratio <= t for ratio in found) / count)
            for t in sorted(set(found))
            if t < math.inf
        ]
        for method, found in ratios.items()
    }


def share(profile, t):
    """The share of a profile at t."""
    return max((value for at, value in profile if at <= t), default=0.0)


def tuned(found, of):
    """The instances of `compared`, one a problem and seed: each method in its best setting."""
    instances = []
    for methods in compared(found).values():
        chosen = {method: best(of_one).runs for method, of_one in methods.items()}
        instances += _by(chosen, of, lambda run: run.setting.seed)
    return instances


def untuned(found, of):
    """One a problem, seed and rate, which is given: each method with its best batch there."""
    instances = []
    for methods in compared(found).values():
        chosen = {m: [run for cell in of_one for run in cell.runs] for m, of_one in methods.items()}
        instances += _by(chosen, of, lambda run: (run.setting.seed, run.setting.rate))
    return instances


def _by(chosen, of, key):
    """{method: the least of its runs} for every key that a run has."""
    instances = {}
    for method, its in chosen.items():
        for run in its:
            instance = instances.setdefault(key(run), dict.fromkeys(chosen, math.inf))
            instance[method] = min(instance[method], of(run))
    return list(instances.values())


def signals(found):
    """[(regularisation, method, runs, {signal: (in how many, the median epoch or None)})]."""
    groups = grouped(
        (run for run in found if not run.diverged),
        lambda run: (run.setting.regularisation, run.setting.method),
    )
    rows = []
    for (regularisation, method), of_one in groups.items():
        seen = {}
        for name in of_one[0].record["signals"]:
            epochs = [e for run in of_one if (e := run.record["signals"][name]) is not None]
            seen[name] = len(epochs), statistics.median(epochs) if epochs else None
        rows.append((regularisation, method, len(of_one), seen))
    return rows


def verdicts(found):
    """How many runs there are, and of these how many reached the target, and diverged."""
    kinds = Counter("diverged" if r.diverged else math.isfinite(r.steps) for r in found)
    return len(found), kinds[True], kinds["diverged"]
