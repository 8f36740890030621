"""The measurement of one number of threads, in a process that `peers.compare` starts for it.

Every contender is called in every round, in an order that rotates, so that what disturbs the
machine for a while disturbs all of them; they are compared round by round.
"""

import importlib.metadata
import json
import os
import platform
import sys
import time
import timeit
from datetime import UTC, datetime
from pathlib import Path

import kernels
from reference import FAMILIES, Layer

from .. import results, suite, workloads
from . import ceilings, contenders, steps, table

OURS = ("numba", "numpy")
SAMPLE = 0.004  # seconds of calls in a row: one contender in one round
PAUSE = 0.002  # before them, where there are threads: libraries let theirs spin for a while
HIDDEN = ("relu", "tanh")  # one cheap activation, one transcendental
LARGE = Layer("16M-4095x4096", 4095, 4096)  # 2^24 parameters, with the biases


def grid():
    """(operation, layer, batch) of all cells; the batch is 0 where the operation has none."""
    operations = {str(op): op for family in FAMILIES.values() for op in family}
    layers = [layer for name, layer in workloads.layers().items() if "circles" not in name]
    first = [layer for layer in layers if layer.rows]
    last = [workloads.layers()[name] for name in ("moons-16x2", "digits-32x10", "mnist-512x10")]
    wide = [workloads.layers()["mnist-512x512"]]
    chosen = {
        "dense_forward[relu]": layers,
        "dense_forward[tanh]": first,
        "dense_backward[relu]": layers,
        "dense_backward[tanh]": first,
        "softmax_cross_entropy[hard]": last,
        **{f"activation_forward[{name}]": wide for name in ("relu", "elu", "sigmoid", "tanh")},
        **{f"activation_backward[{name}]": wide for name in ("relu", "elu", "sigmoid", "tanh")},
        **{rule: [*first, LARGE] for rule in ("sgd", "momentum", "adam")},
    }
    cells = [
        (operations[name], layer, batch)
        for name, of_layers in chosen.items()
        for layer in of_layers
        for batch in (_batches(layer) if operations[name].batched else (0,))
    ]
    return [*cells, *steps.grid()]


def names(operation, layer):
    """What selects a cell: its family, function, variant, workload or layer."""
    found = {results.FAMILY_OF.get(operation.name, "network"), operation.name, operation.variant}
    return {*found, layer.name, layer.name.partition("-")[0]} - {""}


def selected(only):
    """The cells of the grid that `only` names, or all. Raises ValueError for an unknown name."""
    cells = grid()
    known = set().union(*(names(operation, layer) for operation, layer, _ in cells))
    if unknown := set(only) - known:
        raise ValueError(
            f"--only: no {', '.join(sorted(unknown))} in the grid, but {', '.join(sorted(known))}"
        )
    return [cell for cell in cells if not only or names(*cell[:2]) & set(only)]


def _batches(layer):
    return workloads.batches(layer.name.partition("-")[0])


def cell(found, operation, layer, batch, rounds, pause=0.0):
    """The record of one cell: the seconds of every round by contender, and who was refused why."""
    inputs = suite.sampled(operation, layer, "float32", batch)
    known, calls, refused = contenders.remembered(operation, inputs), {}, {}
    for contender in found:
        try:
            calls[contender.name] = contender.prepare(known, inputs), contender.wait
        except NotImplementedError:
            continue
        except suite.Wrong as complaint:
            refused[contender.name] = f"{suite.WRONG}: {complaint}"
        except Exception as error:  # of a library: the others are measured all the same
            refused[contender.name] = f"{suite.FAILED}: {type(error).__name__}: {error}"
    sizes = (batch, layer.fan_in, layer.fan_out)
    return {
        "operation": operation.name,
        "variant": operation.variant,
        "layer": layer.name,
        "batch": batch,
        "flops": operation.flops(*sizes),
        "bytes": operation.bytes(*sizes, "float32"),
        "seconds": interleaved(calls, rounds, pause),
        "refused": refused,
    }


def interleaved(calls, rounds, pause=0.0):
    """{name: seconds a call, for every round} of {name: (call, wait)}."""
    timers = {name: timeit.Timer(call) for name, (call, _) in calls.items()}
    counts = {name: max(1, int(SAMPLE / _once(*call))) for name, call in calls.items()}
    order, seconds = list(calls), {name: [] for name in calls}
    for _ in range(rounds):
        for name in order:
            call, wait = calls[name]
            time.sleep(pause)
            if counts[name] > 1:  # a warm cache; what takes longer than SAMPLE warms its own
                call()
            wait()
            started = time.perf_counter()
            timers[name].timeit(counts[name])
            wait()
            seconds[name].append((time.perf_counter() - started) / counts[name])
        order.append(order.pop(0))
    return seconds


def _once(call, wait):
    """The least time of three calls."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - started)
        if times[-1] > 10 * SAMPLE:
            break
    return min(times)


def pools():
    """The threads that each library says it will use."""
    import numba
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
    """Measures the cells and writes them to `path` as JSON."""
    cells, started, told = selected(only), time.time(), 0.0
    found, missing = contenders.available({name: kernels.load(name) for name in OURS})
    for line in missing:
        print(f"not measured: {line}", flush=True)
    run = {
        "threads": threads,
        "rounds": rounds,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "versions": versions(),
        "contenders": {contender.name: contender.trains for contender in found},
        "missing": missing,
        "ceilings": ceilings.measured(),
        "cells": [],
    }
    terminal = sys.stdout.isatty()
    pause = PAUSE if threads > 1 else 0.0
    for number, (operation, layer, batch) in enumerate(cells, 1):
        if terminal or time.time() - told > 10:
            told = time.time()
            line = f"{number:3} of {len(cells)} cells, {told - started:4.0f} s"
            line = f"{table.threads(run)}: {line}: {operation} {layer.name} {batch or ''}"
            print(f"\r\033[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)
        run["cells"].append(cell(found, operation, layer, batch, rounds, pause))
    print("\r\033[K" if terminal else "", end="", flush=True)
    # Twice, because nothing is faster than the machine, but other work may have slowed it down.
    run["ceilings"] = ceilings.higher(run["ceilings"], ceilings.measured())
    run |= {"pools": pools(), "took": time.time() - started}
    Path(path).write_text(json.dumps(run))
