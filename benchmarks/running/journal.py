"""The journal of a run: what became of every cell, written down by the cell itself.

asv writes its results when it ends, and has no room for reasons nor for which run a value is of. So
a run has a file of its own below .asv/journal, JSON by lines. The first line says when, where, with
what and of which code it is; every other one is of a cell: STARTED; then CORRECT, once its answers
at the borders were compared, or the reason why it is not timed; then TIMED with asv's samples, or
WRONG where a timed call was. A line is appended as soon as it is known, so that whatever ends the
run takes nothing back. What comes after a cell that is STARTED or CORRECT says that it never came
back: the process died, or was ended because it took too long.
"""

import contextlib
import faulthandler
import hashlib
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import kernels

from ..suites import workloads

FOLDER = workloads.HOME / ".asv" / "journal"
ROOMS = ("reference", "kernels", "benchmarks")  # whose code the results depend on
VARIABLE = "FUSEBENCH_JOURNAL"  # the file of the run that a process belongs to
STARTED, CORRECT, TIMED = "started", "correct", "timed"
READ = "read"  # of the machine itself, between two parts (drift.py)
WRONG, FAILED, SKIPPED = "WRONG", "failed", "n/a"
IMPLAUSIBLE = "IMPLAUSIBLE"  # its time, by the ceilings of the whole run: no cell notes it
BAD = (WRONG, FAILED, IMPLAUSIBLE)
# Seconds after which a cell is given up: until it is checked, with what Numba has to compile, which
# may take a minute; and from then until it is timed.
LIMITS = {STARTED: 180, CORRECT: 120}


def begin(machine, hardware, versions, settings):
    """Opens the journal of a run, to which this process and those that it starts belong now."""
    now, (commit, edited) = datetime.now(UTC), revision()
    head = {
        "machine": machine,
        "started": now.isoformat(),
        "commit": commit,
        "edited": edited,
        "code": code(),
        "backend": os.environ.get("FUSEBENCH_BACKEND", ""),  # a user's file
        "python": "{}.{}".format(*sys.version_info),
        "versions": versions,
        "settings": settings,
        "hardware": hardware,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{now:%Y%m%d-%H%M%S-%f}.jsonl"
    path.write_text(json.dumps(head) + "\n")
    os.environ[VARIABLE] = str(path)
    return path


def note(cell, state, **more):
    """Appends a line, in one write; does nothing in a process that belongs to no run."""
    if path := os.environ.get(VARIABLE):
        line = json.dumps({"cell": cell, "state": state, "at": time.time(), **more})
        with open(path, "ab", buffering=0) as file:
            file.write(line.encode() + b"\n")


def close_part():
    """Says that asv came to its end, so that no cell is under way."""
    note(None, None)


def head(path):
    """The first line of a journal."""
    with open(path) as file:
        return json.loads(file.readline())


def started(path):
    """How many cells were begun."""
    return sum(line["state"] == STARTED for line in lines(path))


def outcomes(path):
    """{cell: its last line} of all cells that came to an end.

    A cell that was under way when the run was interrupted, or is under way now, has not. One that
    was timed several times has all samples.
    """
    last, after, before, samples = {}, {}, None, {}
    for line in lines(path):
        cell = line["cell"] and tuple(line["cell"])
        if cell != before:
            after[before] = line["at"]
            after.pop(cell, None)
        if line["state"] == TIMED:
            line["samples"] = samples[cell] = samples.get(cell, []) + line["samples"]
        last[cell], before = line, cell
    last.pop(None, None)
    found = {}
    for cell, line in last.items():
        if line["state"] not in LIMITS:
            found[cell] = line
        elif cell in after:
            found[cell] = _lost(line, after[cell] - line["at"])
    return found


def _lost(line, seconds):
    """The last line of a cell that never came back, for so long."""
    limit = LIMITS[line["state"]]
    fate = f"it took more than {limit} s" if seconds >= limit else "its process died"
    during = "timed" if line["state"] == CORRECT else "checked"
    return {**line, "state": FAILED, "reason": f"{fate} while it was {during}"}


@contextlib.contextmanager
def limited(state, seconds=None):
    """Ends this process where what follows takes longer than the limit of a cell in this state, or
    than so many seconds.

    From outside of Python, because no exception reaches a kernel that hangs.
    """
    limit = LIMITS[state] if seconds is None else seconds
    faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def lines(path):
    """All but the first; a last one that is not finished does not count."""
    return map(json.loads, Path(path).read_text().split("\n")[1:-1])


def revision():
    """(the commit of the checkout, whether the code differs from it).

    Without git the file COMMIT tells the commit, which `pack` has written. What pip installed has a
    version in its place.
    """
    if kernels.INSTALLED:  # which may lie within the checkout of something else
        return f"v{metadata.version('fusebench')}", False
    packed = workloads.ROOT / "COMMIT"
    if packed.is_file():
        return packed.read_text().strip(), False
    git = ["git", "-C", str(workloads.ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        status = [*git, "status", "--porcelain", "--", *ROOMS]
        status = subprocess.run(status, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown", False
    return commit.stdout.strip() or "unknown", bool(status.stdout.strip())


def code():
    """A hash of all code that the results depend on, a user's backend included."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((workloads.ROOT / room).rglob("*")):
            if path.suffix in (".py", ".cu", ".cuh"):
                digest.update(path.read_bytes())
    if own := os.environ.get("FUSEBENCH_BACKEND"):
        digest.update(Path(own).read_bytes())
    return digest.hexdigest()
