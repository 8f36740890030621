"""One training step of a dense network, compiled: forward, loss, backward, update."""

import numpy as np
from numba import carray, types

from ...catalog import ACTIVATIONS, RULES
from ...network.program import build
from .. import gemm
from ..activation_rows import activations, derivatives
from ..codegen import symbol
from ..codegen.jit import kernel
from ..codegen.symbol import Numbered
from ..gemm.unpacked import product
from ..optimizers import counts, parts
from .large_step import large_forward, large_step
from .layout import way_of
from .plan import COLUMNS, INTEGERS, LARGE, PROGRAM, REALS, SMALL, WAY, N, loss_part
from .program import IDS, operations, program_inference, program_step
from .small_step import ROWS, block, parameters_part, small_step
from .update import finish, limited_update, update


def ready(spec):
    """Compiles what a network calls, which has to be done before anything else is called for it."""
    numbers, rule = {ACTIVATIONS[name].id for name in spec.activations}, RULES[spec.optimizer].id
    activations.ready(spec.dtype, *numbers)
    derivatives.ready(spec.dtype, *numbers)
    parts.ready(spec.dtype, rule)
    counts.ready(np.float64, rule)
    gemm.ready(spec.dtype)
    symbol.ready(
        spec.dtype, product, loss_part, update, finish, limited_update, block, parameters_part
    )
    if (way := way_of(spec)) == PROGRAM:
        built = build(spec)
        kinds = {IDS[operation.kind] for operation in (*built.step, *built.infer)}
        operations.ready(spec.dtype, *kinds)
    steps.ready(spec.dtype, way)
    inferences.ready(spec.dtype, way)


# How a step is taken, and how logits are inferred, each compiled when a network first needs it.


def _small(memory, layers, count, plan, settings, x, labels, batch):
    return small_step(memory, layers, count, plan, settings, x, labels, batch)


def _large(memory, layers, count, plan, settings, x, labels, batch):
    return large_step(memory, layers, count, plan, settings, x, labels, batch)


def _program(memory, layers, count, plan, settings, x, labels, batch):
    return program_step(memory, layers, count, plan, settings, x, labels, batch)


def _infer_small(memory, layers, count, plan, settings, x, labels, batch):
    for first in range(0, batch, ROWS):
        rows = min(ROWS, batch - first)
        block(memory, layers, count, plan, settings, x, labels, first, rows, 0)


def _infer_large(memory, layers, count, plan, settings, x, labels, batch):
    large_forward(memory, carray(layers, (count, COLUMNS)), plan, x, batch)


def _infer_program(memory, layers, count, plan, settings, x, labels, batch):
    program_inference(memory, layers, count, plan, settings, x, labels, batch)


def _taking(result):
    return lambda p: result(p, INTEGERS, N, INTEGERS, REALS, p, INTEGERS, N)


_STEPS = {SMALL: _small, LARGE: _large, PROGRAM: _program}
_INFERENCES = {SMALL: _infer_small, LARGE: _infer_large, PROGRAM: _infer_program}
steps = Numbered("steps", _taking(types.float64), _STEPS)
inferences = Numbered("inferences", _taking(types.void), _INFERENCES)
_step, _infer = steps.call, inferences.call


@kernel
def train(memory, layers, count, plan, settings, x, labels, batch):
    """One step on `batch` rows in place; returns the mean loss.

    All but the counts are pointers. labels: class numbers, unused where the loss takes targets,
    which then lie in memory.
    """
    return _step(memory, plan[WAY], layers, count, plan, settings, x, labels, batch)


@kernel
def infer(memory, layers, count, plan, settings, x, labels, batch):
    """The logits of `batch` rows, in memory."""
    _infer(memory, plan[WAY], layers, count, plan, settings, x, labels, batch)
