"""Rehearses a session on a card that is not there: rehearse_record.py GRID [FAULT]

GRID is "whole", all that is recorded on a card, or "small". The card is simulated, with CuPy's
arrays in host memory; nothing reaches the network. A FAULT comes in the first cell of adam: "kill"
ends the process, "hang" waits for ever. It needs no pytest: numpy, numba, cupy and g++ are enough.
"""

import math
import os
import signal
import socket
import sys
import time

import kernels
from benchmarks import bench_network, bench_roofline
from benchmarks.reports import roofline
from benchmarks.running import crossings, gpu, record, runner, session, stages
from benchmarks.suites import grid, suite
from reference import FAMILIES, Case

CARD = {"name": "Fake Card 1", "l2CacheSize": 1 << 16}
LAYER = "digits-32x10"
PATIENCE = 5


def quickly():
    """(module, name, value) of what makes a measurement short."""
    yield gpu, "SAMPLE", 0.0
    yield gpu, "REPEAT", 2
    yield gpu, "LEAST_READ", 0
    yield stages, "ROUNDS", 1
    yield roofline, "MARGIN_ELSEWHERE", math.inf  # small products are no ceiling


FEW = "activations", "dense", "losses", "optimizers"  # families that a small session has


def small():
    """(module, name, value) of what makes the grid small."""
    core = {family: {"layers": (LAYER,) if family in FEW else ()} for family in FAMILIES}
    core["activations"]["variants"] = ("relu",)
    core["dense"]["variants"] = ("relu", "relu tf32")
    yield grid, "CORE", core
    for module in (session, stages):
        yield module, "FAMILIES", {family: FAMILIES[family] for family in FEW}
    yield runner, "suites", small_suites
    yield crossings, "SIDES", (32,)
    yield crossings, "DEPTHS", (64, 256)
    yield crossings, "STEPS", dict.fromkeys(crossings.STEPS, (((5, 9, 3), (2, 4)),))


def whole():
    """(module, name, value) of what makes all of it short enough: less of the ladders' upper ends,
    where a card takes microseconds, two activations and small layers where it is many launches,
    since what they compute changes nothing of a session, and no limit of time.
    """
    core = {family: dict(chosen) for family, chosen in grid.CORE.items()}
    core["activations"]["variants"] = ("relu", "prelu")
    for name in ("normalization", "second_order", "augmentation", "elastic_transform"):
        core[name]["layers"] = (LAYER,)
    yield grid, "CORE", core
    yield gpu, "REPEAT", 1
    yield record, "BUDGET", math.inf
    yield record, "PATIENCE", 900
    yield crossings, "SIDES", crossings.SIDES[:-1]
    steps = {limit: [(n, b[:-2]) for n, b in ladder] for limit, ladder in crossings.STEPS.items()}
    yield crossings, "STEPS", steps


def small_suites(family):
    if family == "network":
        axes = {"layer": ["moons-2-32-16-2"], "dtype": ["float32"], "batch": [16, 32, 5]}
        axes |= {"backend": []}
        names = "network_step", "network_transfer"
        made = [(name, type(name, (vars(bench_network)[name],), {"axes": axes})) for name in names]
        return [*made, ("network_epoch", bench_network.network_epoch)]
    if family != "roofline":
        return list(suite.suites(family).items())
    square = Case("32x32", {"fan_in": 32, "fan_out": 32}, vary=False)
    arrays = {str(n): Case(str(n), {"fan_in": n - 1, "fan_out": 1}, vary=False) for n in (64, 4096)}
    axes = {"layer": list(arrays), "dtype": ["float32"], "backend": ["cupy"]}
    of_product = {"layer": ["32x32"], "dtype": ["float32"], "batch": [32], "backend": ["cupy"]}
    operations, product = bench_roofline._operations, {"32x32": square}
    products = {"product": "identity", "product_tf32": "relu tf32"}
    forward = {name: {"": operations[f"dense_forward[{v}]"]} for name, v in products.items()}
    return [
        *(
            (name, suite.suite(name, forward[name], of_product, product, lambda layer: (32,)))
            for name in products
        ),
        ("triad", suite.suite("triad", {"": operations["sgd"]}, axes, arrays)),
    ]


def refused(*_):
    raise OSError("there is no network")


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(*_, **__):
    time.sleep(10 * PATIENCE)


def main(size, fault=None):
    socket.socket.connect = refused
    for module, name, value in (*quickly(), *{"small": small, "whole": whole}[size]()):
        setattr(module, name, value)
    card = kernels.load("cupy", simulate=True, arrays="cupy")
    if fault:
        card.adam, record.PATIENCE = {"kill": kill, "hang": hang}[fault], PATIENCE
    record.record(module=card, card=lambda: CARD)
    print(f"{time.process_time():.0f} s of the CPU")


if __name__ == "__main__":
    main(*sys.argv[1:])
