"""Up to which size the way for small work is the faster one on this card.

A product is computed by tiles of our own or by cuBLAS, a training step is launched as a captured
graph or queued kernel by kernel, a small network is trained by one block, of fewer threads or more,
or by a chain of kernels. kernels/cupy_gpu/runtime/limits.py chooses by another card's limits,
unless results/ has measured ones for its own. Here both ways are timed at a ladder of sizes, each
once its answer was checked; the limits that lose the least over all of a ladder are kept.
"""

import itertools
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from reference import FAMILIES, Case

from ..suites import suite, training_step
from . import gpu

LIMITS = "card.limits"  # {card: {limit: value}}, as JSON
PRODUCTS = ("most_flops", "most_depth")  # the limits of a product by tiles
SIDES, DEPTHS = (32, 64, 128, 256, 512, 1024), (64, 256, 512, 1024, 2048)
CAPTURED, BLOCK, THREADS = "most_captured", "most_products", "block_threads"
BLOCKS = (((2, 32, 16, 2), (1, 32, 128, 700, 2800)), ((8, 32, 32, 4), (16, 64, 256, 1024)))
STEPS = {  # layer sizes and batches of networks
    CAPTURED: (
        ((64, 128, 64, 32, 10), (32, 128, 512, 2048)),
        ((784, 512, 512, 10), (1, 16, 64, 128, 256, 512, 1024, 2048, 4096)),
    ),
    BLOCK: BLOCKS,
    THREADS: BLOCKS,
}
FEWER, MORE = 256, 512  # threads


@dataclass(frozen=True)
class Rung:
    """What is timed at one size, which is given in terms of each limit; ready(module) checks it.

    ways: the limits that force the way for small work, and those that force the other.
    """

    name: str
    sizes: dict
    ways: tuple
    ready: Callable


def ladders():
    """All rungs."""
    forward = next(op for op in FAMILIES["dense"] if str(op) == "dense_forward[relu]")
    for side, depth in itertools.product(SIDES, DEPTHS):
        case = Case(f"{depth}x{side}", {"fan_in": depth, "fan_out": side}, vary=False)
        inputs = partial(suite.sampled, forward, case, "float32", side)
        ready = partial(_ready, suite.checked, forward, inputs)
        sizes = dict(zip(PRODUCTS, (2 * side * depth * side, depth), strict=True))
        yield Rung(f"{side}x{depth}x{side}", sizes, _ways(*PRODUCTS), ready)
    for limit, networks in STEPS.items():
        for layers, batch in ((n, b) for n, batches in networks for b in batches):
            products = batch * sum(a * b for a, b in itertools.pairwise(layers))
            sizes = {limit: 6 * products if limit == CAPTURED else products}
            name = f"{limit} {'-'.join(map(str, layers))} {batch}"
            step = training_step.operation(partial(_rows, layers, batch), layers)
            inputs = partial(suite.sampled, step, Case(name, {}, vary=False), "float32", batch)
            ready = partial(_ready, training_step.checked, step, inputs)
            yield Rung(name, sizes, _ways(limit), ready)


def _ways(*limits):
    """Whatever the size: the way for small work, and the other; or fewer threads, and more."""
    if limits == (THREADS,):
        return tuple({BLOCK: math.inf, THREADS: threads} for threads in (FEWER, MORE))
    block = {BLOCK: 0} if limits == (CAPTURED,) else {}
    return tuple({**block, **dict.fromkeys(limits, limit)} for limit in (math.inf, 0))


def _ready(check, operation, inputs, module):
    return check(operation, module, inputs())


def _rows(layers, batch):
    """Twice as many as a batch has and some more: what is checked chooses among them."""
    rng, count = np.random.default_rng(0), 2 * batch + 16
    x = rng.standard_normal((count, layers[0]), np.float32)
    return x, rng.integers(0, layers[-1], count, np.int32)


def both(module, rung):
    """Seconds of the call by the way for small work, and by the other."""
    seconds = []
    for way in rung.ways:
        with module.runtime.limits.forced(**way):
            call = rung.ready(module)
            seconds.append(statistics.median(gpu.warm(module, call)[0]))
    return {"seconds": seconds}


def measured(entries):
    """{limit: value} of the entries of all rungs: of the sizes on the ladder, or 0, the one where
    the ways that it chooses lose the least, as a geometric mean, to the faster ones.
    """
    found = {}
    for names in (PRODUCTS, (CAPTURED,), (BLOCK,), (THREADS,)):
        rungs = [e for e in entries if tuple(e["sizes"]) == names and e["seconds"]]
        if names == (THREADS,) and rungs:
            found[THREADS] = MORE if _loss(rungs, names, (math.inf,)) > 0 else FEWER
        elif rungs:
            sizes = [sorted({0, *(rung["sizes"][name] for rung in rungs)}) for name in names]
            best = min(itertools.product(*sizes), key=partial(_loss, rungs, names))
            found |= zip(names, best, strict=True)
    return found


def _loss(rungs, names, limits):
    """The sum of log(time of the way that the limits choose / time of the other)."""
    lost = 0.0
    for rung in rungs:
        small, large = rung["seconds"]
        is_small = all(rung["sizes"][n] <= most for n, most in zip(names, limits, strict=True))
        lost += math.log(small / large if is_small else large / small)
    return lost


def keep(folder, card, entries):
    """Writes the limits of a card, as far as they are measured, into the folder of its machine."""
    if found := measured(entries):
        (folder / LIMITS).write_text(json.dumps({card: found}, indent=1))
