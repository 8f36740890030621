"""Every timed cell of a run, and the machine that it ran on: of this checkout from its journals, of
a recorded machine from asv's result file and the session beside it.
"""

import itertools
import json
import math
import operator
import statistics
from dataclasses import dataclass, field
from datetime import datetime

from ..running import drift, journal
from ..suites import workloads
from . import roofline

RECORDED = workloads.HOME / "results"
FAMILY_OF = roofline.FAMILY_OF
FIRST = "1"  # the specification's version where a journal does not tell it: then there was no other
SURROUNDINGS = ("machine", "commit", "python", "versions", "settings")


@dataclass(frozen=True)
class Cell:
    """What was timed. `batch` is None where the operation does not know it."""

    function: str
    variant: str
    layer: str
    dtype: str
    batch: int | None


@dataclass(eq=False)
class Run:
    """The results of one commit on one machine.

    By (cell, backend): times, the median seconds; fastest, those of the fastest sample, or where
    the file does not have it the lower end of the median's 99 % interval, for ceilings; verdicts,
    the word and the reason of each failure; seeds, of the inputs at which it was wrong; earlier,
    the run that it is taken from, if that is not this one; disturbed, what drift.py says of the
    machine meanwhile. known: all of these, and what was skipped. doubtful: whose times exceed
    ceilings that were disturbed themselves.
    edited: whether the code differed from the commit; elsewhere: the backends whose arrays lie
    elsewhere than in the host's memory. specifications: the version of what was timed, by function:
    times of two versions are not compared. file: of a user's backend.
    """

    machine: str
    hardware: dict
    versions: dict
    settings: dict
    python: str
    commit: str
    finished: datetime
    edited: bool = False
    code: str = ""
    file: str = ""
    times: dict = field(default_factory=dict)
    fastest: dict = field(default_factory=dict)
    verdicts: dict = field(default_factory=dict)
    seeds: dict = field(default_factory=dict)
    earlier: dict = field(default_factory=dict)
    disturbed: dict = field(default_factory=dict)
    doubtful: set = field(default_factory=set)
    known: set = field(default_factory=set)
    elsewhere: set = field(default_factory=set)
    specifications: dict = field(default_factory=dict)

    def agrees(self, other, function):
        """Whether both timed the same thing, as far as both timed it."""
        mine = self.specifications.get(function)
        return mine == other.specifications.get(function, mine) or mine is None


def newest(machine=None, folder=None):
    """The newest run of this checkout (on one machine, where named); None where there is none.
    folder: of other journals than this checkout's.

    Cells that it did not time are taken from earlier runs of the same commit in the same
    surroundings, as long as there are any.
    """
    heads = {path: journal.head(path) for path in (folder or journal.FOLDER).glob("*.jsonl")}
    heads = {path: head for path, head in heads.items() if machine in (None, head["machine"])}
    paths = sorted(heads, key=lambda path: heads[path]["started"], reverse=True)
    paths = list(itertools.dropwhile(lambda path: not journal.outcomes(path), paths))
    if not paths:
        return None
    run, *others = (
        of_journal(path)
        for path in paths
        if all(heads[path][name] == heads[paths[0]][name] for name in SURROUNDINGS)
    )
    for other in others:
        known = {key for key in other.known if run.agrees(other, key[0].function)}
        for key in known - run.known:
            for name in ("times", "verdicts", "seeds", "disturbed"):
                if key in (theirs := getattr(other, name)):
                    getattr(run, name)[key], run.earlier[key] = theirs[key], other
        run.known |= known
        run.elsewhere |= other.elsewhere
        run.specifications = other.specifications | run.specifications
    return run


def of_journal(path):
    """The run that a journal is of."""
    head = journal.head(path)
    names = "machine", "hardware", "versions", "settings", "python", "commit", "edited", "code"
    started = datetime.fromisoformat(head["started"]).astimezone()
    run = Run(**{name: head[name] for name in names}, finished=started)
    run.file = head.get("backend", "")  # which older journals do not tell
    for (function, *values), line in journal.outcomes(path).items():
        key = key_of(function, values)
        run.known.add(key)
        run.specifications[function] = line.get("version", FIRST)
        if line["elsewhere"]:
            run.elsewhere.add(key[1])
        if line["state"] == journal.TIMED:
            run.times[key] = statistics.median(line["samples"])
            run.fastest[key] = min(line["samples"])
        elif line["state"] in journal.BAD:
            run.verdicts[key] = line["state"], line["reason"]
            if line.get("seed") is not None:
                run.seeds[key] = line["seed"]
    for (function, *values), found in drift.disturbed(list(journal.lines(path))).items():
        run.disturbed[key_of(function, values)] = found
    return _judged(run)


def _judged(run):
    """The run, with a verdict in the place of every time that is implausible; where its ceilings
    were never timed without a disturbance, these are no judge, and it is marked as they are.
    """
    for key, reason in roofline.implausible(run).items():
        if held_up := roofline.disturbed(run, key[1]):
            run.disturbed.setdefault(key, held_up)
            run.doubtful.add(key)
        else:
            del run.times[key]
            run.verdicts[key] = journal.IMPLAUSIBLE, reason
    return run


def recorded(folder=None):
    """The newest run of every machine under results/, or under another folder of that form, by the
    times that the files tell.
    """
    runs = {}
    for path in (folder or RECORDED).glob("*/*.json"):
        if path.name != "machine.json":
            runs.setdefault(path.parent.name, []).append(read(path))
    by_time = operator.attrgetter("finished")
    return [max(found, key=by_time) for _, found in sorted(runs.items())]


def found(folder):
    """The newest run of every machine in a folder: a checkout, its .asv, or one like results/."""
    journals = next((p for p in (folder / ".asv", folder) if (p / "journal").is_dir()), None)
    runs = [newest(folder=journals / "journal")] if journals else recorded(folder)
    if not any(runs):
        raise ValueError(f"{folder}: neither a run's journal nor a recorded machine lies there")
    return runs


def read(path):
    """The run in asv's result file of a recorded session, whose backends compute on its card.

    asv stores a median, NaN for what was skipped and null for what failed or was not selected;
    which of these it was stands beside it in the session.
    """
    data = json.loads(path.read_text())
    verdicts = _recorded_verdicts(path)
    machine_file = path.parent / "machine.json"
    columns = data["result_columns"]
    records = {name: dict(zip(columns, row, strict=False)) for name, row in data["results"].items()}
    at = max((r["started_at"] for r in records.values() if r.get("started_at")), default=0)
    run = Run(
        machine=path.parent.name,
        hardware=json.loads(machine_file.read_text()) if machine_file.is_file() else {},
        versions=data["requirements"],
        settings=data.get("env_vars", {}),
        python=data["python"],
        commit=data["commit_hash"],
        finished=datetime.fromtimestamp((at or data["date"]) / 1000),  # both are in ms
    )
    for name, record in records.items():
        function = name.split(".")[-2]
        run.specifications[function] = record["version"]
        combinations = [tuple(map(_value, c)) for c in itertools.product(*record["params"])]
        values = record["result"] or [None] * len(combinations)
        lower = record.get("stats_ci_99_a") or values
        for combination, seconds, low in zip(combinations, values, lower, strict=True):
            key = key_of(function, combination)
            if isinstance(seconds, float | int) and math.isfinite(seconds):
                run.times[key] = seconds
                run.fastest[key] = low
            elif seconds is None and key[0] in verdicts:  # what has none was never run
                run.verdicts[key] = verdicts[key[0]]
    run.elsewhere.update(backend for _, backend in [*run.times, *run.verdicts])
    return _judged(run)


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
