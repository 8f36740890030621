"""Runs made up for tests: journals as the cells write them, recorded files as asv does."""

import itertools
import json
import math

from benchmarks.reports import results, roofline
from benchmarks.running import journal
from benchmarks.suites import ceilings


def begin(machine="here", settings=None):
    """A run whose cells are noted from now on."""
    hardware = {"cpu": "Abacus", "num_cpu": "2", "ram": "2147483648"}
    settings = settings or {"NUMBA_NUM_THREADS": "2"}
    return journal.begin(machine, hardware, {"numpy": "2.4"}, settings)


def note(function, times, elsewhere=False):
    """times: {values of the axes: seconds; None where it was skipped; or the word and reason}."""
    for values, found in times.items():
        match found:
            case None:
                line = {"state": journal.SKIPPED, "reason": "not here"}
            case word, reason:
                line = {"state": word, "reason": reason}
            case seconds:
                samples = [2 * seconds, seconds, 0.9 * seconds]
                line = {"state": journal.TIMED, "samples": samples, "number": 7}
        journal.note((function, *values), elsewhere=elsewhere, **line)


def note_roofs(slowness=1):
    """100 GFLOP/s; 80 GB/s from the cache, 40 from memory."""
    flops = 1 << 32
    note("multiply_add", {(str(flops), "float32", roofline.HOST): slowness * flops / 90e9})
    for size, rate in ((1 << 14, 72e9), (1 << 28, 36e9)):
        seconds = slowness * ceilings.moved("triad", size) / rate
        note("stream", {("triad", str(size), "float32", roofline.HOST): seconds})


def record(machine, commit="0123456789abcdef", started=1_700_000_000, **entries):
    """A recorded result file as asv writes it; entries: {function: {values of the axes: seconds}}.

    Returns its path.
    """
    rows = {}
    for name, chosen in entries.items():
        family = "roofline" if name in roofline.CEILINGS else None
        family = family or results.FAMILY_OF.get(name, "network")
        params = [list(dict.fromkeys(map(repr, axis))) for axis in zip(*chosen, strict=True)]
        by_repr = {tuple(map(repr, values)): seconds for values, seconds in chosen.items()}
        values = [by_repr.get(c, math.nan) for c in itertools.product(*params)]
        rows[f"bench_{family}.{name}.time_call"] = [values, params, "1", 1000 * started]
    target = results.RECORDED / machine
    target.mkdir(parents=True, exist_ok=True)
    (target / "machine.json").write_text(json.dumps({"gpu": "Card"}))
    data = {
        "commit_hash": commit,
        "date": 0,
        "requirements": {"numpy": "2.4"},
        "env_vars": {"GPU": "Card"},
        "python": "3.11",
        "result_columns": ["result", "params", "version", "started_at"],
        "results": rows,
    }
    path = target / f"{commit[:8]}-session.json"
    path.write_text(json.dumps(data))
    return path
