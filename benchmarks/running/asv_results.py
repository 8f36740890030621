"""asv's result file, written without asv, which reads it later: its format 2, asv/results.py.

A row holds one benchmark: its values in the order of itertools.product of its parameters, NaN where
a cell was skipped and null where it failed, and the statistics of the samples behind them.
"""

import itertools
import json
import math

FORMAT, MACHINE_FORMAT = 2, 1
STATISTICS = ("ci_99_a", "ci_99_b", "q_25", "q_75", "number", "repeat")
COLUMNS = (
    *("result", "params", "version", "started_at", "duration"),
    *(f"stats_{name}" for name in STATISTICS),
    *("samples", "profile"),
)


def document(hardware, versions, commit, date, python, environment, settings, rows):
    """The file as text. rows: {benchmark: row}; date: seconds; hardware names the machine."""
    return json.dumps(
        {
            "commit_hash": commit,
            "env_name": environment,
            "date": milliseconds(date),
            "params": hardware,
            "python": python,
            "requirements": versions,
            "env_vars": settings,
            "result_columns": COLUMNS,
            "results": rows,
            "durations": {},
            "version": FORMAT,
        }
    )


def row(version, axes, cells, started):
    """One benchmark: cells has (value, samples, number of calls in each) by the product of axes.

    The value counts where there are no samples: NaN or None.
    """
    chosen = [cells[values] for values in itertools.product(*axes)]
    medians = [_quantile(samples, 0.5) if samples else value for value, samples, _ in chosen]
    statistics = [_statistics(samples, number) if samples else {} for _, samples, number in chosen]
    params = [list(map(repr, values)) for values in axes]
    columns = [_shortened([each.get(name) for each in statistics]) for name in STATISTICS]
    found = [_known(medians), params, version, milliseconds(started), None, *columns]
    while found[-1] is None:
        found.pop()
    return found


def milliseconds(seconds):
    """A time as asv writes it, as JavaScript does."""
    return round(1000 * seconds)


def _statistics(samples, number):
    low, high = _interval(samples)
    return {
        "ci_99_a": low,
        "ci_99_b": high,
        "q_25": _quantile(samples, 0.25),
        "q_75": _quantile(samples, 0.75),
        "number": number,
        "repeat": len(samples),
    }


def _quantile(samples, share):
    """By linear interpolation between the two samples around it."""
    ordered, place = sorted(samples), share * (len(samples) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return (1 - (place - below)) * ordered[below] + (place - below) * ordered[above]


def _interval(samples):
    """The samples between which the median lies with 99 % certainty, whatever the distribution.

    The number of samples below the median is binomial with p = 1/2; fewer than 8 samples cannot
    tell, and then these are the least and the largest.
    """
    ordered, count = sorted(samples), len(samples)
    low, high, chance = ordered[0], ordered[-1], 0.0
    for k, sample in enumerate(ordered):
        chance += math.comb(count, k) / 2**count  # that at most k samples lie below the median
        if chance <= 0.005:
            low = sample
        if chance >= 0.995:
            high = sample
            break
    return low, high


def _known(values):
    """None where nothing is known of any."""
    return None if all(value is None for value in values) else values


def _shortened(values):
    """The same, numbers to 5 digits."""
    return _known([float(f"{v:.4e}") if isinstance(v, float) else v for v in values])
