"""The card: what it is, and how long a call keeps it busy, warm and cold."""

import math
import statistics
import subprocess
import time

import numpy as np

from . import plugin

SAMPLE = 0.004  # seconds of calls in a row
REPEAT = 15
DEFAULT_CACHE = 32 << 20  # bytes, where the size of the L2 cache is not known
PROPERTIES = (
    "name",
    "totalGlobalMem",
    "multiProcessorCount",
    "major",
    "minor",
    "l2CacheSize",
    "sharedMemPerMultiprocessor",
    "regsPerMultiprocessor",
    "memoryBusWidth",
    "ECCEnabled",
)
QUERY = (
    "name",
    "driver_version",
    "pstate",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.draw",
    "power.limit",
    "temperature.gpu",
)


def card():
    """What CUDA says of the first GPU, and the versions of driver, runtime and packages."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    found = {name: properties[name] for name in PROPERTIES if name in properties}
    return {
        **{k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()},
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "versions": plugin.versions(),
    }


def clocks():
    """What nvidia-smi says of the card at this moment; empty where there is none."""
    query = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = answer.stdout.strip().split(", ")
    return dict(zip(QUERY, values, strict=True)) if len(values) == len(QUERY) else {}


def warm(module, call):
    """(seconds a call for every repetition, calls in each) of calls in a row."""
    number = max(1, min(10_000, int(SAMPLE / _between(module, call))))

    def several():
        for _ in range(number):
            call()

    return [_between(module, several) / number for _ in range(REPEAT)], number


class Flush:
    """Writes twice the size of the L2 cache, so that the next call finds nothing of its own there.

    The host goes on while the card writes: it writes for so long that the timed call is queued
    before it ends, and what is measured is the card's time and not the host's.
    """

    def __init__(self, module, cache_bytes):
        self.module = module
        self.buffer = module.asarray(np.zeros(2 * (cache_bytes or DEFAULT_CACHE) // 4, np.float32))
        self.once = _between(module, lambda: self.buffer.fill(0))

    def times(self, call):
        """How often it must write to outlast the queueing of this call."""
        self.module.synchronize()
        started = time.perf_counter()
        call()
        queueing = time.perf_counter() - started
        self.module.synchronize()
        return min(100, 1 + math.ceil(2 * queueing / self.once))

    def cold(self, call):
        """Seconds of a call that finds its data in main memory, for every repetition."""
        times, samples = self.times(call), []
        for _ in range(REPEAT):
            for _ in range(times):
                self.buffer.fill(0)
            samples.append(_between(self.module, call))
            self.module.synchronize()
        return samples


def _between(module, call):
    """Seconds of a call by the module's clock."""
    start = module.timer()
    call()
    return module.timer() - start


def empty(module):
    """Median seconds between two readings of the module's clock."""
    return statistics.median(_between(module, lambda: None) for _ in range(REPEAT))
