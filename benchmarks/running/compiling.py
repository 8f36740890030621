"""How long the functions of each family take to compile for the CPU, from an empty cache.

Each family has a process of its own, which compiles nothing for any other: what a user waits for
who calls functions of one family for the first time. Told is what the first calls take longer than
the second ones, of a core: others may use it meanwhile. There are as many processes at once as the
machine has cores, so what all of them take together is what it takes to compile everything.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from tabulate import tabulate

import kernels
from reference import FAMILIES, Case

ROOT = Path(__file__).resolve().parents[2]
KNOWN = (*FAMILIES, "network")
DTYPES = ("float32", "float64")
PROGRAM = {"normalization": "batch_norm", "dropout": 0.5, "residual": True}  # of a network
SIZES = {"batch": 5, "fan_in": 6, "fan_out": 7}


def show(only=()):
    """Prints the table, a line on the way for each family. Raises ValueError for an unknown one."""
    if unknown := set(only) - set(KNOWN):
        raise ValueError(f"--only: no {', '.join(sorted(unknown))}, but {', '.join(KNOWN)}")
    chosen = [name for name in KNOWN if name in (only or KNOWN)]
    begun, rows = time.monotonic(), {}
    with ThreadPoolExecutor(os.cpu_count()) as processes:
        # The network first, which takes longest: at the end it would be alone.
        waiting = {processes.submit(_measured, family): family for family in reversed(chosen)}
        try:
            for done in as_completed(waiting):
                rows[waiting[done]] = done.result()
                print(f"{len(rows)}/{len(chosen)} {waiting[done]}", file=sys.stderr, flush=True)
        finally:
            processes.shutdown(cancel_futures=True)
    taken = time.monotonic() - begun
    rows = [(family, *rows[family]) for family in chosen]
    rows.append(("together", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    head = ["family", "float32 [s]", "float64 besides [s]"]
    print(tabulate(rows, head, floatfmt=".0f"))
    print(f"compiled in {taken:.0f} s, {min(len(chosen), os.cpu_count())} at once")


def _measured(family):
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "benchmarks.running.compiling", family]
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{family} was not compiled: {done.stderr.strip().splitlines()[-1]}")
    return tuple(map(float, done.stdout.split()))


def _calls(family, dtype):
    """Every function of the family once, in every variant; a step of a network, fused and not."""
    numba, rng = kernels.load("numba"), np.random.default_rng(0)
    if family == "network":
        x, labels = rng.standard_normal((3, 6)).astype(dtype), np.zeros(3, np.int32)
        for options in ({}, PROGRAM):
            network = numba.network.create((6, 5, 5, 4), batch=3, lr=0.1, dtype=dtype, **options)
            network.step(x, labels)
        return
    for operation in FAMILIES[family]:
        case = Case("compile", SIZES, dtype, vary=False)
        getattr(numba, operation.name)(**operation.sample(rng, case))


def _taken(family, dtype):
    started = time.process_time()
    _calls(family, dtype)
    return time.process_time() - started


if __name__ == "__main__":
    for dtype in DTYPES:
        print(_taken(sys.argv[1], dtype) - _taken(sys.argv[1], dtype))
