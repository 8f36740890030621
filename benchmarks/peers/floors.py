"""The machine's ceilings beside what is compared, and the least time of a cell at these.

How fast a machine is changes while it runs, by its clock and by what else runs on it. So a cell's
floor, the time that its operations or its bytes take at least, is measured between its rounds.
"""

import time

import numpy as np

from ..reports import roofline
from ..suites.ceilings import ELEMENTS, multiply_adds, passes, triads

FLOOR = "floor"
OPERATIONS = 1 << 28  # of a call: about a millisecond
SECONDS = 0.3  # of measuring; the fastest repetition counts
BRIEFLY = 0.02  # of measuring which ceiling binds


def measured():
    """{"flops": operations a second, "triads": [(bytes, bytes a second)]}, as JSON keeps them."""
    return {
        "flops": OPERATIONS / _fastest(multiply_adds(OPERATIONS, np.float32), SECONDS),
        "triads": [_bandwidth(elements) for elements in ELEMENTS],
    }


def _bandwidth(elements):
    seconds = _fastest(triads(elements, np.float32), SECONDS)
    return 12 * elements, 12 * elements * passes(elements) / seconds


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
    triads = [(size, rate, "") for size, rate in found["triads"]]
    return roofline.Roof((found["flops"], ""), triads)


def floor(flops, size):
    """sampler(count): seconds that so many operations, or bytes where they take longer, take now;
    it goes on about as long as `count` times that.
    """
    from .measure import sample

    elements = min(max(size // 12, ELEMENTS[0]), ELEMENTS[-1])
    # Each call, and how many of it the operation takes.
    ways = (
        (multiply_adds(OPERATIONS, np.float32), flops / OPERATIONS),
        (triads(elements, np.float32), size / (12 * elements * passes(elements))),
    )
    call, share = max(ways, key=lambda way: _fastest(way[0], BRIEFLY) * way[1])
    return lambda count: sample(call, lambda: None, max(1, round(count * share))) * share
