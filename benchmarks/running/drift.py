"""Whether a machine was held up while a part of a run was timed.

Beside each part stands a reading: how long a piece of work takes that never changes, on all cores
at once, and how much of their time the host of a virtual machine has taken for others.
"""

import hashlib
import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import journal, machine

PIECE = bytes(1 << 20)  # to be hashed, half a millisecond, without Python's lock
SECONDS = 0.05  # longer than a scheduler leaves a core to one of two
HELD_UP, STOLEN = 1.25, 0.02  # times as long as at best, share of the time: more is a disturbance


def note():
    """Writes a reading into the run's journal."""
    with ThreadPoolExecutor(cores := int(machine.cores())) as threads:
        times = [t for each in threads.map(_hashed, [SECONDS] * cores) for t in each]
    stolen, of = _ticks()
    seen = {"least": min(times), "mean": statistics.fmean(times), "stolen": stolen, "of": of}
    journal.note(None, journal.READ, **seen)


def _hashed(seconds):
    """The seconds that each piece takes, for so long."""
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
    found, before, part = {}, None, []
    for line in [*lines, None]:
        if line and line["state"] == journal.TIMED:
            part.append(tuple(line["cell"]))
        elif line is None or line["state"] == journal.READ:
            first, last = before or line, line or before
            if part and first:
                held_up = max(first["mean"], last["mean"]) / least
                stolen = (last["stolen"] - first["stolen"]) / max(1, last["of"] - first["of"])
                if held_up > HELD_UP or stolen > STOLEN:
                    found |= dict.fromkeys(part, (held_up, stolen))
            before, part = line, []
    return found
