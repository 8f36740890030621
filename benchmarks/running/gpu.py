"""The card: what it is, and how long a call keeps it busy, warm and cold."""

import ctypes
import statistics
import subprocess

import numpy as np

from . import machine

BACKEND = "cupy"  # that computes on it
SAMPLE = 0.004  # seconds of calls in a row
REPEAT = 15
DEFAULT_CACHE = 64 << 20  # bytes, where the size of the L2 cache is not known
LEAST_READ = 256 << 20  # bytes: a read of some 100 us on a large card, for the host to run ahead
MOST_READS = 64  # in a row
PROTOCOL = (
    "warm: the median of calls in a row, by the card's clock; a step's loss is read after each.",
    "cold: the median of calls that find their data in main memory: twice the L2 cache, of data",
    "that were not written, was read before. The whole call was queued while the card still read,",
    "so the host takes no part in it, and of a step the queued work alone is timed, without the",
    "wait for its loss; * the call waits for the card by itself, so its time contains the host's.",
)
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
        "versions": machine.versions(),
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


def release_cache():
    """Gives back what of the L2 cache is set aside for chosen data; False where that fails.

    CuPy has no name for it, the driver has. Nothing of ours sets any aside, but a library may.
    """
    try:
        return ctypes.CDLL("libcuda.so.1").cuCtxResetPersistingL2Cache() == 0
    except (OSError, AttributeError):  # no driver, or one before CUDA 11
        return False


def warm(module, call):
    """(seconds a call for every repetition, calls in each) of calls in a row."""
    once = min(_between(module, call) for _ in range(3))
    number = max(1, min(10_000, int(SAMPLE / once))) if once else 10_000

    def several():
        for _ in range(number):
            call()

    return [_between(module, several) / number for _ in range(REPEAT)], number


class Flush:
    """Reads so much that the next call finds nothing of its own in the L2 cache.

    It reads, because lines that it had written would go back to memory in the time of that call. It
    reads for so long that the whole call is queued before it ends; whether it was is seen, not
    reckoned.
    """

    def __init__(self, module, cache_bytes):
        size = max(2 * (cache_bytes or DEFAULT_CACHE), LEAST_READ)
        self.module, self.buffer = module, module.asarray(np.zeros(size // 4, np.float32))

    def cold(self, call):
        """(seconds of a call for every repetition, whether all were queued while the card read)."""
        call()
        samples, reads, queued = [], 1, True
        while len(samples) < REPEAT:
            self.module.synchronize()
            for _ in range(reads):
                self.buffer.sum()
            start = self.module.timer()
            call()
            ahead = not getattr(start, "passed", False)  # a clock of the host has no queue
            seconds = self.module.timer() - start
            if ahead or reads >= MOST_READS:
                samples.append(seconds)
                queued = queued and ahead
            else:
                reads *= 2
        return samples, queued


def _between(module, call):
    """Seconds of a call by the module's clock."""
    start = module.timer()
    call()
    return module.timer() - start


def empty(module):
    """Median seconds between two readings of the module's clock."""
    return statistics.median(_between(module, lambda: None) for _ in range(REPEAT))
