"""How long the functions of each family take to compile for the CPU, from an empty cache.

Each family has a process of its own, which compiles nothing for any other: what a user waits for
who calls functions of one family for the first time. Told is what the first calls take longer than
the second ones, of a core: others may use it meanwhile.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

import kernels
from reference import FAMILIES, Case

ROOT = Path(__file__).resolve().parents[2]
KNOWN = (*FAMILIES, "network")
DTYPES = ("float32", "float64")
SIZES = {"batch": 5, "fan_in": 6, "fan_out": 7}


def show(only=()):
    """Prints the table, a line on the way for each family. Raises ValueError for an unknown one."""
    if unknown := set(only) - set(KNOWN):
        raise ValueError(f"--only: no {', '.join(sorted(unknown))}, but {', '.join(KNOWN)}")
    rows = []
    for number, family in enumerate(chosen := [name for name in KNOWN if name in (only or KNOWN)]):
        print(f"{number + 1}/{len(chosen)} {family}", file=sys.stderr, flush=True)
        rows.append((family, *_measured(family)))
    rows.append(("together", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    head = ["family", "float32 [s]", "float64 besides [s]"]
    print(tabulate(rows, head, floatfmt=".0f"))


def _measured(family):
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "benchmarks.running.compiling", family]
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{family} was not compiled: {done.stderr.strip().splitlines()[-1]}")
    return map(float, done.stdout.split())


def _calls(family, dtype):
    """Every function of the family once, in every variant; a network's step."""
    numba, rng = kernels.load("numba"), np.random.default_rng(0)
    if family == "network":
        network = numba.network.create((6, 5, 4), batch=3, lr=0.1, dtype=dtype)
        x = rng.standard_normal((3, 6)).astype(dtype)
        network.step(x, np.zeros(3, np.int32))
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
