"""What a kernel is asked when it is checked: shapes, dtypes, borders, arrays given twice.

A case has a name with a colon, from which its inputs follow: `shape:3x4x5`.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from kernels.catalog import ELEMENT_LOSSES
from reference import FAMILIES, Case

from ..suites import workloads
from . import comparison

DTYPES = ("float32", "float64")
# (batch, fan_in, fan_out): one element, one row, one column, and around the widths of a vector
# (4, 8, 16), a warp (32) and their multiples.
SHAPES = [
    *[(1, 1, 1), (1, 1, 2), (2, 1, 1), (1, 1, 33), (33, 1, 1), (1, 65, 1), (3, 2, 2)],
    *[(3, 4, 5), (5, 3, 4), (7, 8, 9), (8, 9, 7), (9, 7, 8), (15, 16, 17), (16, 17, 15)],
    *[(17, 15, 16), (31, 32, 33), (32, 33, 31), (33, 31, 32), (63, 64, 65), (64, 65, 63)],
    *[(65, 63, 64), (127, 10, 129), (128, 129, 10), (129, 128, 127), (257, 2, 33), (4, 2, 1025)],
    (1, 2, 130),
]
MOST_STATES = 300

# What an output may replace: the very same array, no other overlap.
MAY_REPLACE = {
    "activation_forward": {("out", "z")},
    "activation_backward": {(out, name) for out in ("out", "out[0]") for name in ("dy", "saved")},
    "softmax": {("out", "logits")},
    "log_softmax": {("out", "logits")},
    "softmax_cross_entropy": {("out[1]", "logits")},
    "nll": {("out[1]", "log_probabilities")},
    "batch_norm_inference": {("out", "x")},
    "dropout_forward": {("out", "x")},
    "dropout_backward": {("out", "dy")},
    "batch_norm_backward": {("out[0]", "dy")},
    "layer_norm_backward": {("out[0]", "dy")},
    "add_scaled": {("out", "x"), ("out", "direction")},
    "conjugate_direction": {("out", "direction")},
    **{name: set(declared.may_replace) for name, declared in ELEMENT_LOSSES.items()},
}


def is_quick(operation, batch, fan_in, fan_out):
    """Not so a recurrent layer of many units: it takes fan_out^2 terms a row, a step and a gate."""
    return operation not in FAMILIES["recurrent"] or batch * fan_out <= MOST_STATES


@dataclass(frozen=True)
class Asked:
    """A case: its name, complaint(backend) for what is wrong there or None, what it is in words."""

    name: str
    complaint: Callable
    words: str = ""


def cases(operation, dtype, everything=False):
    """All that an operation is asked in a dtype; `everything`: the workloads' layers as well, at
    each of their batch sizes.
    """

    def asked(name, sample, words=""):
        def complaint(backend):
            return comparison.complaint(backend, operation, sample(), repeats=False)

        return Asked(name, complaint, words)

    def drawn(name, case):
        seed = zlib.crc32(f"{operation} {dtype} {name}".encode())
        return operation.sample(np.random.default_rng(seed), case)

    def sized(*shape, vary=True):
        sizes = dict(zip(("batch", "fan_in", "fan_out"), shape, strict=True))
        return Case("check", sizes, dtype, vary=vary)

    for shape in (shape for shape in SHAPES if is_quick(operation, *shape)):
        name = f"shape:{'x'.join(map(str, shape))}"
        yield asked(name, partial(drawn, name, sized(*shape)))
    for number, (words, inputs) in enumerate(operation.edges(np.dtype(dtype))):
        yield asked(f"border:{number}", lambda inputs=inputs: inputs, words)
    plain = drawn("plain", sized(5, 3, 5, vary=False))
    yield asked("settings:default", lambda: plain)
    if "labels" in plain and plain["labels"].dtype.kind == "i":
        wide = {**plain, "labels": plain["labels"].astype(np.int64)}
        yield asked("labels:int64", lambda: wide)
    yield from _in_place(operation, plain)
    for name, layer in workloads.layers().items() if everything else ():
        sizes = workloads.batches(name.partition("-")[0]) if "batch" in operation.sizes else (1,)
        for batch in sizes:
            if is_quick(operation, batch, **layer.sizes):
                case = f"layer:{name}:{batch}"
                yield asked(case, partial(drawn, case, layer.at(dtype=dtype, batch=batch)))


def _in_place(operation, inputs):
    """One case for each array that may be an output and is given for it."""
    pairs = sorted(MAY_REPLACE.get(operation.name, ()))
    zeros = comparison.empty_results(operation, inputs) if pairs else {}
    for output, argument in pairs:
        out, given = zeros.get(output), inputs.get(argument)
        if out is not None and (out.shape, out.dtype) == (given.shape, given.dtype):

            def complaint(backend, output=output, argument=argument):
                return comparison.complaint_in_place(backend, operation, inputs, output, argument)

            yield Asked(f"in-place:{output}={argument}", complaint)
