"""Where everything of a network lies in its memory: the table of its layers, and its plan."""

import itertools
import math

import numpy as np

from ...catalog import ACTIVATIONS, LOSSES, RULES
from ...network import description
from ..codegen.vectors import VECTOR_BYTES
from .large_step import workspace_size
from .plan import (
    ACTIVATION,
    ALPHA,
    ALPHAS,
    BIAS,
    COLUMNS,
    DY,
    DZ,
    ENTRIES,
    FAN_IN,
    FAN_OUT,
    INPUT,
    LOSS,
    RULE,
    SIZE,
    SMALL,
    TARGETS,
    TRANSPOSED,
    WEIGHT,
    WORKSPACE,
    WORKSPACE_SIZE,
    ZEROS,
    Y,
    Z,
)

SMALL_LAYER = 1 << 15  # weights: what a core keeps at hand while it goes over the rows


def layout(spec):
    """(layers, plan, where in memory the workspace begins, the number of elements of memory)."""
    unit = description.ALIGNMENT // spec.dtype.itemsize
    end = (2 + len(spec.states)) * spec.size

    def place(count):
        nonlocal end
        start, end = end, end + (count + unit - 1) // unit * unit
        return start

    lanes = VECTOR_BYTES // spec.dtype.itemsize
    small = all(a * b <= SMALL_LAYER for a, b in itertools.pairwise(spec.sizes))
    layers = np.zeros((len(spec.activations), COLUMNS), np.int64)
    for n, (fan_in, fan_out) in enumerate(itertools.pairwise(spec.sizes)):
        row, declared = layers[n], ACTIVATIONS[spec.activations[n]]
        row[FAN_IN], row[FAN_OUT], row[ACTIVATION] = fan_in, fan_out, declared.id
        row[WEIGHT], row[BIAS] = (spec.places[f"layer{n}.{p}"][0] for p in ("weight", "bias"))
        row[ALPHAS] = fan_out if declared.learned else 1
        row[ALPHA] = spec.places[f"layer{n}.slope"][0] if declared.learned else place(1)
    plan = np.zeros(ENTRIES, np.int64)
    plan[ZEROS] = place(unit) + unit  # behind a one
    place(max(spec.sizes))
    work = end
    for n, (fan_in, fan_out) in enumerate(itertools.pairwise(spec.sizes)):
        row, declared, count = layers[n], ACTIVATIONS[spec.activations[n]], spec.batch * fan_out
        row[Y], row[DY] = place(count), place(count)
        row[Z] = place(count) if declared.saves_input else row[Y]
        row[DZ] = place(count) if declared.learned else row[DY]
        if small and n > 0:
            row[TRANSPOSED] = place(math.prod(-(-k // lanes) * lanes for k in (fan_in, fan_out)))
    plan[SMALL] = small
    plan[LOSS], plan[RULE] = LOSSES[spec.loss], RULES[spec.optimizer].id
    plan[SIZE] = spec.size
    plan[INPUT] = place(spec.batch * spec.sizes[0])
    plan[TARGETS] = place(spec.batch * spec.sizes[-1])
    if not small:
        nothing = np.zeros(1, spec.dtype)
        plan[WORKSPACE_SIZE] = workspace_size(nothing, layers, plan, spec.batch)
        plan[WORKSPACE] = place(plan[WORKSPACE_SIZE])
    return layers, plan, work, end


def aligned(count, dtype):
    """Zeros that begin at a multiple of description.ALIGNMENT bytes."""
    raw = np.zeros(count * dtype.itemsize + description.ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % description.ALIGNMENT
    return raw[start : start + count * dtype.itemsize].view(dtype)
