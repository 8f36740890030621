"""The study as tables: `python -m benchmarks study` prints them, the page has them too."""

import math
import statistics
from dataclasses import dataclass

from tabulate import tabulate

from ..reports import formats
from . import figures, findings

TIMES = (1, 2, 4, 10)  # as long as the shortest, of the profiles
NEVER = "never"


@dataclass(frozen=True)
class Table:
    """title, what it says, and its rows; columns from `left` on stand on the right."""

    title: str
    note: str
    header: tuple
    rows: list
    left: int = 1

    def __str__(self):
        sides = ["left" if k < self.left else "right" for k in range(len(self.header))]
        body = tabulate(self.rows, self.header, "simple", colalign=sides, disable_numparse=True)
        return f"{self.title}\n{self.note}\n{body}" if self.note else f"{self.title}\n{body}"


def render(runs):
    """All that the study says, as text."""
    return "\n\n".join([head(runs), *map(str, tables(runs))])


def head(runs):
    """How much of it there is, and of which machine."""
    if not runs:
        return "no run is kept yet: python -m benchmarks study"
    lines = []
    for backend, of_one in figures.grouped(runs, lambda run: run.backend).items():
        count, reached, diverged = figures.verdicts(of_one)
        machines = {(m["cpu"], m["num_cpu"]) for run in of_one for m in [run.record["machine"]]}
        where = "; ".join(f"{cpu or 'CPU unknown'}, {cores} cores" for cpu, cores in machines)
        last = max(run.record["finished"] for run in of_one)[:16].replace("T", " ")
        lines += [
            f"study     {backend}: {count} runs, {reached} reached the target, {diverged} diverged",
            f"machine   {where}, one thread a run; last run {last}",
        ]
    return "\n".join(lines)


def tables(runs):
    """The tables of which there is something to show."""
    found = [_of_problem(*one) for one in figures.compared(runs).items()]
    for backend, of_one in figures.grouped(runs, lambda run: run.backend).items():
        found += [
            wrong_rates(of_one, backend),
            profiles(of_one, backend),
            activations(of_one, backend),
            signals(of_one, backend),
            expected(of_one, backend),
        ]
    return [table for table in found if table.rows]


def problem_name(problem):
    """A data set, a network, its activation and regularisation; the backend where it is another."""
    backend, setting = problem
    return f"{setting}, {backend}"


def spread(cell, of, text):
    """The median, and the least and the largest over seeds."""
    return f"{text(cell.median(of))} [{' - '.join(map(text, cell.spread(of)))}]"


def _of_problem(problem, methods):
    rows = []
    for method, of_method in sorted(
        methods.items(), key=lambda item: figures.best(item[1]).seconds
    ):
        cell = figures.best(of_method)
        runs = [run for each in of_method for run in each.runs]
        count, reached, diverged = figures.verdicts(runs)
        rows.append(
            [
                method,
                cell.setting.rate,
                cell.setting.batch,
                "" if cell.setting.beta is None else cell.setting.beta,
                spread(cell, lambda run: run.steps, steps),
                formats.duration(cell.median(lambda run: run.step_seconds)),
                spread(cell, lambda run: run.seconds, seconds),
                percent(cell.accuracy),
                f"{reached} of {count}",
                diverged,
            ]
        )
    header = ("method", "rate", "batch", "momentum", "steps", "time a step")
    header += ("to the target", "accuracy", "reached", "diverged")
    note = (
        "each method in the setting that is at the target soonest: median over seeds, least and\n"
        "largest; reached, diverged: of all its runs"
    )
    return Table(
        f"Steps to the target and time a step: {problem_name(problem)}", note, header, rows
    )


def wrong_rates(runs, backend):
    """How far a wrong rate hurts: what it takes times the best one's time."""
    every = sorted({run.setting.rate for run in runs})
    rows = []
    for (_, setting), methods in figures.compared(runs).items():
        for method, of_method in methods.items():
            best = figures.best(of_method)
            by_rate = figures.rates(of_method)
            factors = [times(by_rate.get(rate), best) for rate in every]
            rows.append([setting.data, method, best.setting.batch, *factors])
    header = ("data", "method", "batch", *(f"rate {rate:g}" for rate in every))
    note = "time to the target in times of the best rate's, at the batch of the best setting"
    return Table(f"How far a wrong rate hurts, {backend}", note, header, rows, left=2)


def times(cell, best):
    """How many times longer it takes than the best; why there is no number."""
    if cell is None:
        return ""
    if 2 * cell.diverged > len(cell.runs):
        return "diverges"
    return formats.number(cell.seconds / best.seconds) if math.isfinite(cell.seconds) else NEVER


def profiles(runs, backend):
    """In how many instances each method is at most so many times as long as the shortest."""
    rows = []
    for title, instances in (("best setting", figures.tuned), ("any rate", figures.untuned)):
        for name, of in (("steps", lambda run: run.steps), ("time", lambda run: run.seconds)):
            found = instances(runs, of)
            for method, profile in figures.profiles(found).items():
                shares = [figures.share(profile, t) for t in (*TIMES, math.inf)]
                rows.append([title, name, method, *map(percent, shares)])
    header = ("", "of", "method", *(f"<= {t} x" for t in TIMES), "reached")
    note = (
        "share of instances in which a method is at the target in at most so many times the least\n"
        "of all; an instance is a problem and a seed; with any rate a rate as well, and the batch\n"
        "is the best one there"
    )
    return Table(f"Performance profiles, {backend}", note, header, rows, left=3)


def activations(runs, backend):
    """Accuracy, dead units, zeros and gradients of runs that differ in nothing else."""
    alike = figures.grouped(runs, lambda run: run.setting.without("activation"))
    alike = [of_one for of_one in alike.values() if len(of_one) > 1]
    groups = figures.grouped(
        (run for of_one in alike for run in of_one if not run.diverged),
        lambda run: (run.setting.data, run.setting.activation),
    )
    rows = []
    for (data, activation), of_one in groups.items():
        layers = zip(*(run.record["curves"]["gradients"][1] for run in of_one), strict=True)
        medians = [median_of_known(norms) for norms in layers]
        rows.append(
            [
                data,
                activation,
                len(of_one),
                percent(statistics.median(r.reached("validation_accuracy") for r in of_one)),
                percent(statistics.fmean(statistics.fmean(r.at_best("dead")) for r in of_one)),
                percent(
                    statistics.fmean(
                        statistics.fmean(r.at_best("sparse_activations")) for r in of_one
                    )
                ),
                ", ".join(f"{norm:.2g}" for norm in medians),
            ]
        )
    header = ("data", "activation", "runs", "accuracy", "dead units", "zeros", "gradients by layer")
    note = (
        "of settings that were run with several activations; a unit is dead where its derivative\n"
        "is at most 1/1000 for every training row; gradients: norms after the first epoch, medians"
    )
    rows.sort(key=lambda row: row[0])
    return Table(f"Activations, {backend}", note, header, rows if alike else [], left=2)


def median_of_known(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else math.nan


def signals(runs, backend):
    """In how many runs each signal of overfitting is seen, and the median epoch of it."""
    rows, names = [], ("rising_validation", "growing_gap", "plateau")
    for regularisation, method, count, seen in figures.signals(runs):
        said = [f"{of} ({epoch:.0f})" if of else "0" for of, epoch in (seen[n] for n in names)]
        rows.append([regularisation, method, count, *said])
    header = ("regularisation", "method", "runs", *(name.replace("_", " ") for name in names))
    note = "runs that show it, and the median of the epochs from which on"
    return Table(f"Signals of overfitting, {backend}", note, header, rows, left=2)


def expected(runs, backend):
    """What the course expects, and what the runs say."""
    rows = [[f.claim, f.verdict, f.evidence] for f in findings.findings(runs)]
    header = ("expected", "verdict", "the figures")
    note = (
        f"decided by a sign test at {findings.LEVEL} over pairs of runs that differ in this alone"
    )
    return Table(f"What the course expects, {backend}", note, header, rows, left=3)


def steps(value):
    return NEVER if math.isinf(value) else f"{value:.0f}"


def seconds(value):
    return NEVER if math.isinf(value) else formats.duration(value)


def percent(share):
    return "" if share is None else f"{share:.1%}"
