"""How forward products are computed: the way that the kernels choose, by what the machine is said
to have, beside the best of those that could be chosen, by the clock.

float32 on one thread, without an activation. Every way is called in every round; the least counts.
"""

import time

import numba
import numpy as np
from tabulate import tabulate

from kernels.catalog import IDENTITY
from kernels.numba_cpu import gemm
from kernels.numba_cpu.codegen.vectors import address
from kernels.numba_cpu.gemm.macrokernel import COPIED, IN_PLACE, PACKED

from ..suites import workloads

NAMES = {PACKED: "packed", COPIED: "copied", IN_PLACE: "in place"}
BATCHES = 8, 16, 32, 64, 128, 512
BLOCKS = 1, 2, 3, 4, 6, 8
SHALLOW = 64  # steps that a block has at least
SAMPLE = 0.002  # seconds of calls in a row


@numba.njit
def _product(x, weight, bias, y):
    return gemm.forward_product(x, weight, bias, IDENTITY, bias, y, address(y), 0)


@numba.njit
def _chosen(x, weight, bias, y):
    return gemm.plan(_product(x, weight, bias, y))


@numba.njit
def _by(x, weight, bias, y, how, blocks, times):
    for _ in range(times):
        gemm.compute_by(_product(x, weight, bias, y), how, blocks)


def show(rounds=9, batches=BATCHES):
    """Prints a row for every layer and batch that tiles compute."""
    gemm.ready(np.float32)
    rows = [row for batch in batches for shape in _shapes() if (row := _row(shape, batch, rounds))]
    header = ["layer", "batch", "chosen", "us", "best", "us", "chosen over best"]
    print(tabulate(rows, header, floatfmt=("", "", "", ".1f", "", ".1f", ".2f")))


def _shapes():
    """Of the layers that are not computed by dot products."""
    sizes = (layer.sizes for layer in workloads.layers().values())
    return sorted({(s["fan_in"], s["fan_out"]) for s in sizes if "fan_out" in s})


def _row(shape, batch, rounds):
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(s, np.float32) for s in ((batch, shape[0]), shape))
    arrays = x, weight, np.zeros(shape[1], np.float32), np.empty((batch, shape[1]), np.float32)
    chosen = _chosen(*arrays)
    if chosen[0] not in NAMES:
        return None
    counts = (n for n in BLOCKS if n == 1 or shape[0] >= n * SHALLOW)
    ways = {chosen, *((how, n) for n in counts for how in NAMES)}
    least = dict.fromkeys(ways, np.inf)
    once = max(1, round(SAMPLE / _seconds(arrays, *chosen, 1)))
    for _ in range(rounds):
        for way in ways:
            least[way] = min(least[way], _seconds(arrays, *way, once))
    best = min(ways, key=least.get)
    told = [(_words(way), 1e6 * least[way]) for way in (chosen, best)]
    return [f"{shape[0]}x{shape[1]}", batch, *told[0], *told[1], least[chosen] / least[best]]


def _words(way):
    how, blocks = way
    return f"{NAMES[how]}, {blocks} block{'s' * (blocks > 1)}"


def _seconds(arrays, how, blocks, times):
    start = time.perf_counter()
    _by(*arrays, how, blocks, times)
    return (time.perf_counter() - start) / times
