"""Whether a machine was held up while a part of a run was timed.

Beside each part stands a reading: how long a piece of work takes that never changes, on every core
at once, and how much of their time the host of a virtual machine has taken for others. What passes
between two rounds of a reading, such as the end of the processes of the part before, disturbs none.
"""

import hashlib
import itertools
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import journal, machine

PIECE = bytes(1 << 20)  # to be hashed, half a millisecond, without Python's lock
ROUNDS, PAUSE = 3, 0.05
SECONDS = 0.05  # of a round: longer than a scheduler leaves a core to one of two
# A reading that is so many times farther from the best than half of all readings are is of a
# disturbance: within the limits it follows from how much the piece varies here. What has lost a
# third of a core is always one, as where all of a run is disturbed.
SPREADS, LIMITS = 5.0, (1.1, 1.5)
STOLEN = 0.02  # a larger share of the time is a disturbance too


def note():
    """Writes a reading into the run's journal: the core that is held up most counts."""
    cores, least, means = _cores(), [], []
    with ThreadPoolExecutor(len(cores)) as threads:
        for again in range(ROUNDS):
            time.sleep(PAUSE * bool(again))
            found = list(threads.map(_hashed, cores, [SECONDS] * len(cores)))
            least.append(min(map(min, found)))
            means.append(max(map(statistics.fmean, found)))
    stolen, of = _ticks()
    seen = {"least": min(least), "mean": statistics.median(means), "stolen": stolen, "of": of}
    journal.note(None, journal.READ, **seen)


def _cores():
    """The cores that this process may use, each once; where none can be chosen, None for each."""
    if hasattr(os, "sched_setaffinity"):
        return sorted(os.sched_getaffinity(0))
    return [None] * int(machine.cores())


def _hashed(core, seconds):
    """The seconds that each piece takes on a core, for so long.

    Of two threads that may go anywhere the scheduler leaves both on one core at times.
    """
    if core is not None:
        os.sched_setaffinity(0, {core})  # of this thread alone
    read = [time.perf_counter()]
    while read[-1] < read[0] + seconds:
        hashlib.sha256(PIECE)
        read.append(time.perf_counter())
    return [after - before for before, after in itertools.pairwise(read)]


def _ticks():
    """(stolen time, all time) of all cores since the start; zeros where nothing tells them."""
    stat = Path("/proc/stat")
    numbers = stat.read_text().splitlines()[0].split()[1:9] if stat.is_file() else [0]
    return int(numbers[-1]), sum(map(int, numbers))


def disturbed(lines):
    """{cell: (times as long, share stolen)} of what was timed in a disturbed part of a journal."""
    readings = [line for line in lines if line["state"] == journal.READ]
    least = min((reading["least"] for reading in readings), default=0)
    limit = _limit([reading["mean"] / least for reading in readings])
    found, before, part = {}, None, []
    for line in [*lines, None]:
        if line and line["state"] == journal.TIMED:
            part.append(tuple(line["cell"]))
        elif line is None or line["state"] == journal.READ:
            first, last = before or line, line or before
            if part and first:
                held_up = max(first["mean"], last["mean"]) / least
                stolen = (last["stolen"] - first["stolen"]) / max(1, last["of"] - first["of"])
                if held_up > limit or stolen > STOLEN:
                    found |= dict.fromkeys(part, (held_up, stolen))
                else:  # what is timed again is no longer what it was
                    found = {cell: why for cell, why in found.items() if cell not in part}
            before, part = line, []
    return found


def _limit(held_up):
    """How many times as long as at best is a disturbance, by all readings of a run."""
    if not held_up:
        return LIMITS[1]
    spread = statistics.median(held_up) - 1
    return min(max(1 + SPREADS * spread, LIMITS[0]), LIMITS[1])
