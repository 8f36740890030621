"""One training step of a dense network, compiled: forward, loss, backward, update."""

import numpy as np
from numba import carray

from ...catalog import ACTIVATIONS, RULES
from .. import gemm
from ..activation_rows import activations, derivatives
from ..codegen import symbol
from ..codegen.jit import kernel
from ..gemm.unpacked import product
from ..optimizers import counts, parts
from .large_step import large_forward, large_step
from .plan import COLUMNS, SMALL, loss_part
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


@kernel
def train(memory, layers, count, plan, settings, x, labels, batch):
    """One step on `batch` rows in place; returns the mean loss.

    All but the counts are pointers. labels: class numbers, unused where the loss takes targets,
    which then lie in memory.
    """
    if plan[SMALL]:
        return small_step(memory, layers, count, plan, settings, x, labels, batch)
    return large_step(memory, layers, count, plan, settings, x, labels, batch)


@kernel
def infer(memory, layers, count, plan, settings, x, labels, batch):
    """The logits of `batch` rows, in memory."""
    if plan[SMALL]:
        for first in range(0, batch, ROWS):
            rows = min(ROWS, batch - first)
            block(memory, layers, count, plan, settings, x, labels, first, rows, 0)
    else:
        large_forward(memory, carray(layers, (count, COLUMNS)), plan, x, batch)
