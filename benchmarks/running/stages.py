"""What is measured on a card, in the order in which it is: stages, each a list of tasks.

A session may end at any task, so the training steps come first.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Callable
from functools import partial

from reference import FAMILIES

from .. import bench_network
from ..peers import contenders, measure, rows
from ..reports import results
from ..suites import suite, training_step, workloads
from . import crossings, gpu
from .session import axes

ROUNDS = 5  # beside other libraries
CHECKED_AT = ("digits-64x128", 16)
PEERS = ("torch", "torch graph", "jax.jit")
LAYERS = ("mnist-784x512", "mnist-512x10", "mnist-512x512", "wide-2048x2048", "16M-4095x4096")


@dataclasses.dataclass(frozen=True)
class Bench:
    """What a measurement needs: the backend and its suites, how a cold call is timed, where to note
    what is left out.
    """

    module: object
    suites: list
    flush: gpu.Flush
    missing: list


@dataclasses.dataclass(frozen=True)
class Task:
    """One measurement: `names` begin its entry among those of `kind`, work() gives the rest."""

    kind: str
    key: str
    names: dict
    work: Callable[[], dict]


def training_steps(bench):
    """Whole training steps, and the transfers of their batches."""
    return _cells(bench, "network")


def ceilings(bench):
    """What bounds all others."""
    return _cells(bench, "roofline")


def operations(bench):
    """Every cell of the families."""
    for operation in itertools.chain(*FAMILIES.values()):
        if not hasattr(bench.module, operation.name):
            bench.missing.append(f"{operation}: the backend does not have it")
    return _cells(bench, *FAMILIES)


def _cells(bench, *families):
    for family, function, cls in bench.suites:
        for values in itertools.product(*axes(cls).values()) if family in families else ():
            cell, _ = results.key_of(function, values)
            if cell.batch and cell.batch not in cls.batches(cls.layers[cell.layer]):
                continue  # the full batch of another workload
            if not cls.times(cell.variant, cell.dtype, bench.module):
                continue
            key = " ".join(map(str, (function, *values[:-1])))
            names = {"cell": dataclasses.asdict(cell), "cold": None, "queued": None}
            names |= {"samples": None, "number": None}
            yield Task("cells", key, names, partial(_timed, bench, cls, cell))


def _timed(bench, cls, cell):
    """Warm and cold times of a call, once its answer was checked."""
    call = _checked(bench.module, cls, cell)
    cold, queued = bench.flush.cold(_queueing(call))
    samples, number = gpu.warm(bench.module, call)
    return {
        "cold": statistics.median(cold),
        "queued": queued,
        "samples": samples,
        "number": number,
    }


def _checked(module, cls, cell):
    """The call of a cell, once its answer was checked."""
    if cell.function == bench_network.TRANSFER:
        return bench_network.transfer(module, cell.layer, cell.dtype, cell.batch)
    operation, check = cls.operations[cell.variant], suite.checked
    if cell.function == bench_network.STEP:
        operation, check = training_step.of_network(cell.layer), training_step.checked
    inputs = suite.sampled(operation, cls.layers[cell.layer], cell.dtype, cell.batch or 0)
    return check(operation, module, inputs)


def _queueing(call):
    """Of a network's step the part that queues its work, without the wait for its loss."""
    network = getattr(call.func, "__self__", None) if isinstance(call, partial) else None
    if not hasattr(network, "_queue"):
        return call
    x, labels = call.args
    return partial(network._queue, x, labels, None, len(x))


def steps_beside(bench):
    """Training steps beside the libraries."""
    return _beside(bench, lambda name: name == training_step.NAME)


def operations_beside(bench):
    """Single operations beside the libraries."""
    return _beside(bench, lambda name: name != training_step.NAME)


def _beside(bench, chosen):
    found, missing = contenders.available({gpu.BACKEND: bench.module}, "cuda")
    bench.missing.extend(line for line in missing if line not in bench.missing)
    found = [found[0], *(c for c in found[1:] if c.name in PEERS)]
    for operation, layer, batch in rows.core() if found[1:] else ():
        if chosen(operation.name) and layer.name in (*LAYERS, *training_step.NETWORKS):
            key = f"beside {operation} {layer.name} {batch or ''}".strip()
            names = measure.record(operation, layer, batch, {}, {})
            work = partial(measure.cell, found, operation, layer, batch, ROUNDS)
            yield Task("peers", key, names, work)


def both_ways(bench):
    """The ways of the backend for small work and for large, at a ladder of sizes."""
    for rung in crossings.ladders() if hasattr(bench.module, "runtime") else ():
        names = {"sizes": rung.sizes, "seconds": None}
        work = partial(crossings.both, bench.module, rung)
        yield Task("crossings", f"both ways of {rung.name}", names, work)


def borders(bench):
    """A check of every operation, at its borders too."""
    layer, batch = workloads.layers()[CHECKED_AT[0]], CHECKED_AT[1]
    known = [op for op in itertools.chain(*FAMILIES.values()) if suite.offers(bench.module, op)]
    for operation in known:
        for dtype in ("float32", "float64"):
            work = partial(_agreed, bench.module, operation, layer, dtype, batch)
            names = {"operation": str(operation), "dtype": dtype}
            yield Task("borders", f"borders of {operation}, {dtype}", names, work)


def _agreed(module, operation, layer, dtype, batch):
    suite.check_borders(operation, module, dtype)
    suite.checked(operation, module, suite.sampled(operation, layer, dtype, batch))
    return {}


STAGES = (
    *(training_steps, ceilings, steps_beside),
    *(operations, both_ways, operations_beside, borders),
)
