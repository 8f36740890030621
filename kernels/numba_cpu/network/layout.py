"""Where everything of a network lies in its memory: the table of its layers, and its plan."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from ...catalog import ACTIVATIONS, IDENTITY, LOSSES, RULES
from ...network import description, program
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
    FAN_IN,
    FAN_OUT,
    INFERRED,
    INPUT,
    LARGE,
    LOSS,
    OPERATIONS,
    PROGRAM,
    RULE,
    SEED,
    SIZE,
    SMALL,
    TARGETS,
    TRAINED,
    TRANSPOSED,
    WAY,
    WEIGHT,
    WORK_COLUMNS,
    WORK_ENTRIES,
    WORKSPACE,
    WORKSPACE_SIZE,
    ZEROS,
    Y,
    Z,
)
from .program import ARRAYS, IDS, KIND, LAYER, NOWHERE, OPERATION_COLUMNS, UNITS

SMALL_LAYER = 1 << 15  # weights: what a core keeps at hand while it goes over the rows


@dataclass(frozen=True)
class Layout:
    """layers, plan: see plan.py; work: where in memory the workspace begins; elements: of memory;
    running: where running statistics lie, by name.
    """

    layers: np.ndarray
    plan: np.ndarray
    work: int
    elements: int
    running: dict

    def workspace(self, distance):
        """(layers, plan) of a workspace that lies so far from the network's own."""
        layers, plan = self.layers.copy(), self.plan.copy()
        layers[:, WORK_COLUMNS] += distance
        plan[WORK_ENTRIES] += distance
        places = plan[OPERATIONS:].reshape(-1, OPERATION_COLUMNS)[:, ARRAYS:]
        places[places >= self.work] += distance
        return layers, plan


def layout(spec):
    """The Layout of a network's description."""
    unit = description.ALIGNMENT // spec.dtype.itemsize
    end = (2 + len(spec.states)) * spec.size

    def place(count):
        nonlocal end
        start, end = end, end + (count + unit - 1) // unit * unit
        return start

    layers = np.zeros((len(spec.activations), COLUMNS), np.int64)
    for n, fan_in in enumerate(spec.sizes[:-1]):
        row, declared, fan_out = layers[n], ACTIVATIONS[spec.activations[n]], spec.width(n)
        row[FAN_IN], row[FAN_OUT], row[ACTIVATION] = fan_in, fan_out, declared.id
        row[WEIGHT] = spec.places[f"layer{n}.weight"][0]
        row[ALPHAS] = fan_out if declared.learned else 1
        row[ALPHA] = spec.places[f"layer{n}.slope"][0] if declared.learned else place(1)
    plan = np.zeros(OPERATIONS, np.int64)
    plan[ZEROS] = place(unit) + unit  # behind a one
    place(most_units(spec))
    running = {name: place(array.size) for name, array in spec.running().items()}
    work, plan[WAY] = end, way_of(spec)
    plan[LOSS], plan[RULE] = LOSSES[spec.loss], RULES[spec.optimizer].id
    plan[SIZE], plan[SEED] = spec.size, np.uint64(spec.seed).astype(np.int64)
    plan[INPUT] = place(spec.batch * spec.sizes[0])
    plan[TARGETS] = place(spec.batch * spec.sizes[-1])
    if plan[WAY] == PROGRAM:
        plan = _place_program(spec, layers, plan, running, place)
    else:
        _place_layers(spec, layers, place, plan[WAY] == SMALL)
    if plan[WAY] != SMALL:
        nothing, products = np.zeros(1, spec.dtype), layers.copy()
        if plan[WAY] == PROGRAM:
            products[:, ACTIVATION] = IDENTITY
        plan[WORKSPACE_SIZE] = workspace_size(nothing, products, plan, spec.batch)
        plan[WORKSPACE] = place(plan[WORKSPACE_SIZE])
    return Layout(layers, plan, work, end, running)


def most_units(spec):
    """Of what any layer's product gives a row."""
    return max(map(spec.width, range(len(spec.pieces))))


def way_of(spec):
    """How a step of this network is taken."""
    if not program.is_plain(spec):
        return PROGRAM
    small = all(a * b <= SMALL_LAYER for a, b in itertools.pairwise(spec.sizes))
    return SMALL if small else LARGE


def _place_layers(spec, layers, place, small):
    """Places the arrays of a plain network's layers."""
    lanes = VECTOR_BYTES // spec.dtype.itemsize
    for n, (fan_in, fan_out) in enumerate(itertools.pairwise(spec.sizes)):
        row, declared, count = layers[n], ACTIVATIONS[spec.activations[n]], spec.batch * fan_out
        row[BIAS] = spec.places[f"layer{n}.bias"][0]
        row[Y], row[DY] = place(count), place(count)
        row[Z] = place(count) if declared.saves_input else row[Y]
        row[DZ] = place(count) if declared.learned else row[DY]
        if small and n > 0:
            row[TRANSPOSED] = place(math.prod(-(-k // lanes) * lanes for k in (fan_in, fan_out)))


def _place_program(spec, layers, plan, running, place):
    """The plan with the table of the program's operations."""
    built, nothing = program.build(spec), place(most_units(spec))
    places = {"x": plan[INPUT], **running}
    for name, (start, _) in spec.places.items():
        places[name], places[f"d{name}"] = start, spec.size + start
    places |= {f"layer{n}.alpha": row[ALPHA] for n, row in enumerate(layers)}
    for name, units in built.columns.items():
        places[name] = place(units)
    for name, units in built.units.items():
        places.setdefault(name, None if name == "x" else place(spec.batch * (units or 1)))
    # What there is not: the bias of a normalised layer, its gradient, ...
    absent = {"bias": plan[ZEROS], "dbias": nothing, "dalpha": nothing, "dx": NOWHERE}
    operations = (*built.step, *built.infer)
    table = np.full((len(operations), OPERATION_COLUMNS), NOWHERE, np.int64)
    for row, (kind, layer, arrays) in zip(table, operations, strict=True):
        row[[FAN_IN, FAN_OUT, ACTIVATION]] = layers[layer, [FAN_IN, FAN_OUT, ACTIVATION]]
        row[KIND], row[LAYER], row[UNITS] = IDS[kind], layer, spec.sizes[layer + 1]
        for k, (role, name) in enumerate(zip(program.KINDS[kind], arrays, strict=True)):
            row[ARRAYS + k] = absent[role] if name is None else places[name]
    layers[-1, [Y, DY]] = places[built.logits], places[built.dlogits]
    plan[TRAINED], plan[INFERRED] = len(built.step), len(built.infer)
    return np.concatenate([plan, table.ravel()])


def aligned(count, dtype):
    """Zeros that begin at a multiple of description.ALIGNMENT bytes."""
    raw = np.zeros(count * dtype.itemsize + description.ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % description.ALIGNMENT
    return raw[start : start + count * dtype.itemsize].view(dtype)
