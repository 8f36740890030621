"""What the harness does itself for every backend: reads the clock, waits, copies.

All of it is taken before a user's module is imported, whose own device functions move its arrays
and are held against these. What runs in the same process could reach all of this: what it has
replaced is seen (`replaced`); what it puts back in time, or changes in memory, is not.
"""

import contextlib
import functools
import importlib.util
import sys
import threading
import time
from pathlib import Path

import numpy as np

CLOCK, _sleep = time.perf_counter, time.sleep
COPIES = {"cupy": lambda array: array.get(), "torch": lambda array: array.cpu().numpy().copy()}
WAITS = {
    "cupy": lambda cupy: cupy.cuda.Device().synchronize(),
    "torch": lambda torch: torch.cuda.is_initialized() and torch.cuda.synchronize(),
}


class Wrong(AssertionError):
    """A kernel's result is outside the error bound of the float64 oracle, or not its own."""


def is_users(module):
    """Whether it is a user's file: ours are packages."""
    return getattr(module, "__package__", None) == ""


def elsewhere(module):
    """Whether arrays have to go elsewhere before the module can compute with them: what it takes
    for one is not the very memory (of which another library may have an array of its own).
    """
    given = np.zeros(1)
    array = module.asarray(given)
    return array is not given and not np.may_share_memory(module.to_host(array), given)


def place(module, array):
    """A host array as the module takes it, which a user's code sees only where it is another."""
    given = np.zeros(1)
    return array if module.asarray(given) is given else module.asarray(array)


def host(module, array):
    """A copy in the host's memory, not made by a user's code."""
    if isinstance(array, np.ndarray | np.generic):
        return np.array(array)
    if not is_users(module):
        return np.array(module.to_host(array))
    library = type(array).__module__.partition(".")[0]
    if library not in COPIES:
        return np.array(np.from_dlpack(array))
    return COPIES[library](array)


def wait_of(module):
    """What waits until all work is done."""
    found = [module.synchronize]
    if is_users(module) and elsewhere(module):
        libraries = WAITS.keys() & sys.modules.keys()
        found += (functools.partial(WAITS[name], sys.modules[name]) for name in libraries)

    def wait():
        for each in found:
            each()

    return wait


def timer_of(module):
    """The clock, read when all work is done: ours for a user's module."""
    wait, clock = wait_of(module), CLOCK if is_users(module) else module.timer

    def timer():
        wait()
        return clock()

    return timer


def settle(seconds=0.5):
    """Waits until no other thread of this process runs, so many seconds at most.

    Those of BLAS and of OpenMP spin for tens of milliseconds after a product, after they were
    started, and after their number was changed: they would hold a core, or half of one, against
    what is timed next.
    """
    until = CLOCK() + seconds
    while _others_run() and CLOCK() < until:
        _sleep(0.001)


def _others_run():
    """Whether a thread of this process beside the one that asks is running; not known without
    /proc.
    """
    for path in Path("/proc/self/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state = path.read_text().rpartition(")")[2].split()[0]
            if state == "R" and int(path.parent.name) != threading.get_native_id():
                return True
    return False


def one_blas_thread():
    """For products beside which others are timed: where BLAS uses threads, these spin afterwards
    (`settle`). Without threadpoolctl, which may be missing where a card is recorded, they do.
    """
    if not importlib.util.find_spec("threadpoolctl"):
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")


ROOMS = "time", "timeit", "numpy", "kernels", "reference", "benchmarks", "asv_runner"


def functions():
    """{name: what it is} of all functions of the harness and of what it relies on."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name in ROOMS[:4] or name.partition(".")[0] in ROOMS[4:]:
            for key, value in list(getattr(module, "__dict__", {}).items()):
                found[f"{name}.{key}"] = _identity(value)
                if isinstance(value, type):
                    found |= {f"{name}.{key}.{k}": _identity(v) for k, v in vars(value).items()
                              if callable(v)}  # fmt: skip
    return {name: value for name, value in found.items() if value}


def _identity(value):
    return (id(value), id(getattr(value, "__code__", None))) if callable(value) else None


def replaced(before):
    """Raises Wrong where a function is no longer what it was."""
    now = functions() if before else {}
    for name, value in before.items():
        if now.get(name) != value:
            raise Wrong(f"replaces {name}")
