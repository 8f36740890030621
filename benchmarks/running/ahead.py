"""Compiles for the CPU what a part of a run is going to call, on all cores, before it is timed.

A cell that compiles has one core and waits alone; while others are timed, none may. What a process
here has compiled lies in Numba's cache, where the cells find it, and a list beside it says so: the
next run compiles nothing again. What fails here is left to the cell, which tells why.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
from pathlib import Path

import kernels

from . import isa, journal, machine

SIZES = {"batch": 5, "fan_in": 6, "fan_out": 7}
DONE = "compiled"  # the list, in the cache's folder


def compile_for(groups):
    """Whether anything had to be compiled for these groups of cells; returns when it is."""
    folder = os.environ.get("NUMBA_CACHE_DIR")  # as kernels has set it; else nothing is kept
    done = folder and Path(folder, DONE)
    known = done.read_text().split("\n") if done and done.is_file() else []
    tasks = {
        task: None for group in groups if (task := group.compiled) and _line(task) not in known
    }
    if not done or not tasks:
        return False
    found = _processes().imap_unordered(_compiled, tasks)
    for _ in tasks:
        try:
            task = found.next(journal.LIMITS[journal.STARTED])
        except multiprocessing.TimeoutError:  # it hangs, or its process died
            _processes().terminate()
            _processes.cache_clear()
            break
        if task:
            done.parent.mkdir(parents=True, exist_ok=True)
            with done.open("a") as file:
                file.write(f"{_line(task)}\n")
    return True


def _line(task):
    return f"{isa.held()}: {task}"


@functools.cache
def _processes():
    """As many as there are cores; between two parts they wait, and end with this process."""
    context = multiprocessing.get_context("spawn")
    return context.Pool(int(machine.cores()), _begin, (context.Lock(),))


def _begin(lock):
    """In a process of the pool: what it compiles it writes while no other does, for two at once
    would take the same place in a function's cache.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run ends it
    os.environ["OMP_WAIT_POLICY"] = "passive"  # the cores are for those who compile
    from numba.core.caching import IndexDataCacheFile as File

    save = File.save

    def alone(*arguments):
        with lock:
            save(*arguments)

    File.save = alone


def _compiled(task):
    """The task, once all that its cells call is compiled; None where that failed."""
    from ..suites import suite  # which makes a process of the pool ready, and nothing else

    function, variant, network, dtypes, backends = task
    with contextlib.suppress(Exception):
        for dtype, backend in itertools.product(dtypes, backends):
            calls, name = (_steps, network) if network else (_calls, variant)
            calls(suite, kernels.load(backend), function, name, dtype)
        return task
    return None


def _calls(suite, module, function, variant, dtype):
    """An operation's calls at a few small inputs, and at all borders."""
    import numpy as np

    from reference import OPERATIONS, Case

    operations = OPERATIONS.values()
    operation = next(o for o in operations if (o.name, o.variant) == (function, variant))
    case = Case("ahead", SIZES, dtype, vary=False)
    borders = (border for _, border in operation.edges(np.dtype(dtype)))
    with np.errstate(all="ignore"):
        for inputs in (operation.sample(np.random.default_rng(0), case), *borders):
            suite.bound(operation, module, inputs)()


def _steps(suite, module, function, network, dtype):
    """The steps of a network, and an epoch of one that is asked for."""
    import numpy as np

    from ..suites import training_step
    from ..suites.steps import Steps

    step, case = training_step.of_network(network), training_step.NETWORKS[network]
    inputs = suite.sampled(step, case, dtype, training_step.batches(case)[0])
    steps = Steps(step, module, inputs, training_step.RATE)
    steps.make()
    if function != step.name:
        steps.network.epoch(steps.x, steps.labels, np.arange(len(steps.x)))
