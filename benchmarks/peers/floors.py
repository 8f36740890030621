"""The machine's ceilings beside what is compared, and the least time of a cell at these.

How fast a machine is changes while it runs, by its clock and by what else runs on it. So a cell's
floor, the time that its operations or its bytes take at least, is measured between its rounds.
"""

import time

import numpy as np

from ..reports import roofline
from ..suites.ceilings import FOOTPRINTS, moved, multiply_adds, streams

FLOOR = "floor"
OPERATIONS = 1 << 28  # of a call: about a millisecond
WAY = "triad"
SECONDS = 0.15  # of measuring; the fastest repetition counts
BRIEFLY = 0.02  # of measuring which ceiling binds


def measured():
    """{"flops": operations a second, "triads": [(bytes of the arrays, bytes moved a
    second)]}, as JSON keeps them.
    """
    return {
        "flops": OPERATIONS / _fastest(multiply_adds(OPERATIONS, np.float32), SECONDS),
        "triads": [_bandwidth(footprint) for footprint in FOOTPRINTS],
    }


def _bandwidth(footprint):
    return footprint, moved(WAY, footprint) / _fastest(streams(WAY, footprint), SECONDS)


def _fastest(call, seconds):
    """Seconds of the fastest call, of as many as take that long."""
    call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def higher(one, other):
    """The best of two measurements."""
    triads = [
        max(pair, key=lambda t: t[1]) for pair in zip(one["triads"], other["triads"], strict=True)
    ]
    return {"flops": max(one["flops"], other["flops"]), "triads": triads}


def roof(found):
    """What `measured` found, as the report's."""
    return roofline.Roof((found["flops"], ""), [tuple(each) for each in found["triads"]])


def floor(flops, size):
    """sampler(count): seconds that so many operations, or bytes where they take longer, take now;
    it goes on about as long as `count` times that.
    """
    from .measure import sample

    footprint = min(max(size * 2 // 3, FOOTPRINTS[0]), FOOTPRINTS[-1])
    # Each call, and how many of it the operation takes.
    ways = (
        (multiply_adds(OPERATIONS, np.float32), flops / OPERATIONS),
        (streams(WAY, footprint), size / moved(WAY, footprint)),
    )
    call, share = max(ways, key=lambda way: _fastest(way[0], BRIEFLY) * way[1])
    return lambda count: sample(call, lambda: None, max(1, round(count * share))) * share
