"""Up to which size the way for small work is the faster one on this card.

A product is computed by tiles of our own or by cuBLAS, a training step is launched as a captured
graph or queued kernel by kernel, a small network is trained by one block or by a chain of kernels.
kernels/cupy_gpu chooses by limits that were reckoned, unless results/ has measured ones for its
card (limits.py there). Here both ways are timed at a ladder of sizes, each once its answer was
checked; the limits that lose the least over all of a ladder are kept in results/<machine>/LIMITS.
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

from . import gpu, suite, training_step

LIMITS = "card.limits"  # {card: {limit: value}}, as JSON
PRODUCTS = ("most_flops", "most_depth")  # the limits of a product by tiles
SIDES, DEPTHS = (32, 64, 128, 256, 512, 1024), (64, 256, 512, 1024, 2048)
CAPTURED, BLOCK = "most_captured", "most_products"
# Layer sizes and batches of networks.
STEPS = {
    CAPTURED: (
        ((64, 128, 64, 32, 10), (32, 128, 512, 2048)),
        ((784, 512, 512, 10), (1, 16, 64, 128, 256, 512, 1024)),
    ),
    BLOCK: (((2, 32, 16, 2), (1, 32, 128, 700, 2800)), ((8, 32, 32, 4), (16, 64, 256, 1024))),
}


@dataclass(frozen=True)
class Rung:
    """What is timed at one size, which is given in terms of each limit; ready(module) checks it."""

    name: str
    sizes: dict
    ready: Callable


def ladders():
    """All rungs."""
    forward = next(op for op in FAMILIES["dense"] if str(op) == "dense_forward[relu]")
    for side, depth in itertools.product(SIDES, DEPTHS):
        case = Case(f"{depth}x{side}", {"fan_in": depth, "fan_out": side}, vary=False)
        inputs = partial(suite.sampled, forward, case, "float32", side)
        sizes = dict(zip(PRODUCTS, (2 * side * depth * side, depth), strict=True))
        yield Rung(f"{side}x{depth}x{side}", sizes, partial(_ready, suite.checked, forward, inputs))
    for limit, networks in STEPS.items():
        for layers, batch in ((n, b) for n, batches in networks for b in batches):
            products = batch * sum(a * b for a, b in itertools.pairwise(layers))
            sizes = {limit: products if limit == BLOCK else 6 * products}
            name = f"{limit} {'-'.join(map(str, layers))} {batch}"
            step = training_step.operation(partial(_rows, layers, batch), layers)
            case = Case(name, {}, vary=False)
            inputs = partial(suite.sampled, step, case, "float32", batch)
            yield Rung(name, sizes, partial(_ready, training_step.checked, step, inputs))


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
    for limit in (math.inf, 0):
        with module.limits.forced(**dict.fromkeys(rung.sizes, limit)):
            call = rung.ready(module)
            seconds.append(statistics.median(gpu.warm(module, call)[0]))
    return {"seconds": seconds}


def measured(entries):
    """{limit: value} of the entries of all rungs: of the sizes on the ladder, or 0, the one where
    the ways that it chooses lose the least, as a geometric mean, to the faster ones.
    """
    found = {}
    for names in (PRODUCTS, (CAPTURED,), (BLOCK,)):
        rungs = [e for e in entries if tuple(e["sizes"]) == names and e["seconds"]]
        if rungs:
            sizes = [sorted({0, *(rung["sizes"][name] for rung in rungs)}) for name in names]
            best = min(itertools.product(*sizes), key=partial(_loss, rungs, names))
            found |= zip(names, best, strict=True)
    return found


def _loss(rungs, names, limits):
    lost = 0.0
    for rung in rungs:
        small, large = rung["seconds"]
        is_small = all(rung["sizes"][n] <= most for n, most in zip(names, limits, strict=True))
        lost += math.log((small if is_small else large) / min(small, large))
    return lost


def keep(folder, card, entries):
    """Writes the limits of a card, as far as they are measured, into the folder of its machine."""
    if found := measured(entries):
        (folder / LIMITS).write_text(json.dumps({card: found}, indent=1))
