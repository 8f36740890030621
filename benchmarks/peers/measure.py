"""The measurement of one number of threads, in a process that `peers.compare` starts for it.

Every contender is called in every round, in an order that rotates, so that what disturbs the
machine for a while disturbs all of them; they are compared round by round.
"""

import functools
import importlib.metadata
import json
import os
import platform
import sys
import time
import timeit
from datetime import UTC, datetime
from pathlib import Path

import numba

from ..running import isa
from ..suites import suite
from . import contenders, floors, processes, rows

SAMPLE = 0.004  # seconds of calls in a row: one contender in one round
WARMING = 0.002  # seconds of calls before them


def cell(found, operation, layer, batch, rounds):
    """The record of one cell: the seconds of every round by contender, and who was refused why."""
    samplers, refused = prepared(found, operation, layer, batch)
    return record(operation, layer, batch, interleaved(samplers, rounds), refused)


def cell_apart(libraries, number, rounds):
    """The same of a cell of the grid, by contenders in processes of their own."""
    samplers, refused = {}, {}
    for library in libraries:
        ready, not_ready = library.prepare(number)
        samplers |= {name: functools.partial(library.sample, name) for name in ready}
        refused |= not_ready
    return record(*rows.grid()[number], interleaved(samplers, rounds), refused)


def prepared(found, operation, layer, batch):
    """({name: sampler} of the contenders that have the operation, {name: why refused})."""
    inputs = suite.sampled(operation, layer, "float32", batch)
    known, samplers, refused = contenders.remembered(operation, inputs), {}, {}
    for contender in found:
        try:
            call = contender.prepare(known, inputs)
            samplers[contender.name] = functools.partial(sample, call, contender.wait)
        except NotImplementedError:
            continue
        except suite.Wrong as complaint:
            refused[contender.name] = f"{suite.WRONG}: {complaint}"
        except Exception as error:  # of a library: the others are measured all the same
            refused[contender.name] = f"{suite.FAILED}: {type(error).__name__}: {error}"
    return samplers, refused


def work(operation, layer, batch):
    """(operations, bytes) of a call: the fewest, by the specification."""
    sizes = layer.at(batch=batch).sizes
    return operation.flops(**sizes), operation.bytes("float32", **sizes)


def record(operation, layer, batch, seconds, refused):
    """What is kept of a cell."""
    flops, size = work(operation, layer, batch)
    return {
        "operation": operation.name,
        "variant": operation.variant,
        "layer": layer.name,
        "batch": batch,
        "flops": flops,
        "bytes": size,
        "seconds": seconds,
        "refused": refused,
    }


def interleaved(samplers, rounds):
    """{name: seconds a call, for every round} of {name: sampler(calls in a row)}."""
    counts = {name: max(1, int(SAMPLE / take(1))) for name, take in samplers.items()}
    order, seconds = list(samplers), {name: [] for name in samplers}
    for _ in range(rounds):
        for name in order:
            seconds[name].append(samplers[name](counts[name]))
        order.append(order.pop(0))
    return seconds


def sample(call, wait, count):
    """Seconds a call, of so many in a row, once caches and threads have woken."""
    started = time.perf_counter()
    while time.perf_counter() - started < WARMING:
        call()
    wait()
    timer = timeit.Timer(call)
    started = time.perf_counter()
    timer.timeit(count)
    wait()
    return (time.perf_counter() - started) / count


def pools():
    """The threads that each library of this process says it will use."""
    from threadpoolctl import threadpool_info

    found = {"numba": numba.get_num_threads()}
    if "torch" in sys.modules:
        found["torch"] = sys.modules["torch"].get_num_threads()
    for pool in threadpool_info():
        found[f"{pool['internal_api']} {Path(pool['filepath']).name}"] = pool["num_threads"]
    return found


def versions():
    """The versions of all that is compared."""
    found = {"python": platform.python_version()}
    for package in ("numpy", "numba", "llvmlite", "torch", "jax"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def measure(path, threads, rounds, only):
    """Measures the cells and writes them to `path` as JSON, again after every cell."""
    from . import table

    cells, started, told = rows.selected(only), time.time(), 0.0
    libraries = [processes.Library(*share) for share in processes.SHARES]
    machine, before = libraries[-1], libraries[-1].ceilings()
    found = {name: trains for lib in libraries for name, trains in lib.contenders.items()}
    says = {name: what for lib in libraries for name, what in lib.instructions().items()}
    run = {
        "threads": threads,
        "rounds": rounds,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "versions": versions(),
        "contenders": found,
        "subject": next(iter(found)),
        "isa": isa.held(),
        "instructions": says,
        "missing": [line for library in libraries for line in library.missing],
        "ceilings": before,
        "cells": [],
        "pools": {},
    }
    for line in run["missing"]:
        print(f"not measured: {line}", flush=True)
    terminal = sys.stdout.isatty()
    try:
        for done, (number, (operation, layer, batch)) in enumerate(cells.items(), 1):
            if terminal or time.time() - told > 10:
                told = time.time()
                line = f"{done:3} of {len(cells)} cells, {told - started:4.0f} s"
                line = f"{table.threads(run)}: {line}: {operation} {layer.name} {batch or ''}"
                over, end = ("\r\033[K", "") if terminal else ("", "\n")
                print(f"{over}{line}", end=end, flush=True)
            run["cells"].append(cell_apart(libraries, number, rounds))
            run["took"] = time.time() - started
            Path(path).write_text(json.dumps(run))
        for library in libraries:
            run["pools"] |= library.pools()
            run["instructions"] |= library.instructions()  # after all that was timed
        # Twice, because nothing is faster than the machine, but other work may have slowed it down.
        run["ceilings"] = floors.higher(before, machine.ceilings())
    finally:
        for library in libraries:
            library.close()
        print("\r\033[K" if terminal else "", end="", flush=True)
    Path(path).write_text(json.dumps(run))
