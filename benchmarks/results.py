"""Reads asv's result files: every timed cell of one run, and the machine that it ran on."""

import itertools
import json
import math
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from reference import FAMILIES

from . import suite, workloads

LOCAL = workloads.ROOT / ".asv" / "results"
RECORDED = workloads.ROOT / "results"
FAMILY_OF = {operation.name: family for family, ops in FAMILIES.items() for operation in ops}


@dataclass(frozen=True)
class Cell:
    """What was timed. `batch` is None where the operation does not know it."""

    function: str
    variant: str
    layer: str
    dtype: str
    batch: int | None


@dataclass
class Run:
    """The results of one commit on one machine.

    By (cell, backend): times, the median seconds; fastest, the lower end of the median's 99 %
    interval, for ceilings; verdicts, the word and the reason of each failure.
    """

    machine: str
    hardware: dict
    versions: dict
    settings: dict
    python: str
    commit: str
    finished: datetime
    times: dict = field(default_factory=dict)
    fastest: dict = field(default_factory=dict)
    verdicts: dict = field(default_factory=dict)

    def backends(self):
        """The backends in the order of the benchmarks' parameters."""
        return list(dict.fromkeys(backend for _, backend in [*self.times, *self.verdicts]))


def latest(folder, machine=None):
    """The newest run under `folder` (of one machine, where named); None where there is none."""
    files = [
        path
        for path in Path(folder).glob(f"{machine or '*'}/*.json")
        if path.name != "machine.json"
    ]
    return read(max(files, key=lambda path: path.stat().st_mtime)) if files else None


def recorded():
    """The newest run of every machine under results/."""
    machines = sorted(path.parent.name for path in RECORDED.glob("*/machine.json"))
    return [run for run in (latest(RECORDED, machine) for machine in machines) if run]


def read(path):
    """The run in one of asv's result files.

    asv stores a median, NaN for what was skipped and null for what failed or was not selected;
    which of these it was stands in the verdicts of this checkout's last run, or beside a recorded
    run in its session file.
    """
    data = json.loads(path.read_text())
    verdicts = {} if LOCAL in path.parents else _recorded_verdicts(path)
    machine_file = path.parent / "machine.json"
    run = Run(
        machine=path.parent.name,
        hardware=json.loads(machine_file.read_text()) if machine_file.is_file() else {},
        versions=data["requirements"],
        settings=data.get("env_vars", {}),
        python=data["python"],
        commit=data["commit_hash"],
        finished=datetime.fromtimestamp(path.stat().st_mtime),
    )
    columns = data["result_columns"]
    for name, row in data["results"].items():
        record = dict(zip(columns, row, strict=False))
        if record.get("started_at"):  # in ms; a file's own time is that of its checkout
            run.finished = datetime.fromtimestamp(record["started_at"] / 1000)
        function = name.split(".")[-2]
        combinations = [tuple(map(_value, c)) for c in itertools.product(*record["params"])]
        values = record["result"] or [None] * len(combinations)
        lower = record.get("stats_ci_99_a") or values
        for combination, seconds, low in zip(combinations, values, lower, strict=True):
            key = key_of(function, combination)
            if isinstance(seconds, float | int) and math.isfinite(seconds):
                run.times[key] = seconds
                run.fastest[key] = low
            elif seconds is None:
                if LOCAL in path.parents:
                    verdict = suite.read_verdict(function, combination)
                else:
                    verdict = verdicts.get(key[0])
                if verdict:  # what has none was never run
                    run.verdicts[key] = _failure(*verdict)
    return run


def session(path):
    """Where a recorded result file has its session: clocks, verdicts, cold times, as JSON."""
    return path.with_suffix(".session")  # not .json: asv would take it for a result file


def _recorded_verdicts(path):
    """{cell: (word, reason)} of a recorded run."""
    if not session(path).is_file():
        return {}
    cells = json.loads(session(path).read_text())["cells"]
    found = {Cell(**entry["cell"]): entry["verdict"].partition(": ") for entry in cells}
    return {cell: (word, reason) for cell, (word, _, reason) in found.items()}


def _failure(word, reason):
    if word in (suite.CORRECT, suite.STARTED):  # it failed, but not by a verdict of ours
        return suite.FAILED, "it crashed or took too long"
    return word, reason


def key_of(function, combination):
    """(cell, backend) of a suite's parameters; the batch is the number among them."""
    *rest, backend = combination
    batch = next((value for value in rest if isinstance(value, int)), None)
    words = [value for value in rest if not isinstance(value, int)]
    *variant, layer, dtype = words
    return Cell(function, variant[0] if variant else "", layer, dtype, batch), backend


def _value(text):
    """A parameter as it was before asv took its repr."""
    return text[1:-1] if text[:1] in "'\"" else int(text)
