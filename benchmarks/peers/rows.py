"""The rows of the table: cells of operation, layer and batch.

The dense layer, what stands at the heart of training and the training step are compared at many
sizes: the core. Of every other operation of every family there are a small cell, which says what a
call costs, and a large one. So an operation that is added has its row.
"""

import functools

from reference import FAMILIES, Case

from ..reports import results
from ..suites import workloads
from . import steps

HIDDEN = ("relu", "tanh")  # one cheap activation, one transcendental
LARGE = Case(
    "16M-4095x4096", {"fan_in": 4095, "fan_out": 4096}, vary=False
)  # 2^24 parameters, with the biases
# Of a family the layers and batch sizes of what is not in the core: None is the full batch. In a
# dense layer two activations stand for all.
OTHERS = {
    "activations": (("mnist-512x512", 32), ("mnist-512x512", None)),
    "dense": (),
    "maxout": (("digits-64x128", 32), ("mnist-784x512", 128)),
    "normalization": (("mnist-512x512", 32), ("mnist-512x512", None)),
    "dropout": (("mnist-512x512", 32), ("mnist-512x512", None)),
    "recurrent": (("digits-64x128", 1), ("digits-64x128", 32)),
    "losses": (("mnist-512x10", 32), ("wide-2048x2048", 128)),
    "optimizers": (("digits-64x128", 0), ("mnist-784x512", 0)),
    "gradients": (("digits-64x128", 0), ("mnist-784x512", 0)),
    "initializers": (("digits-64x128", 0), ("mnist-512x512", 0)),
    "statistics": (("digits-64x128", 32), ("mnist-784x512", 128)),
    "second_order": (("digits-64x128", 0), ("mnist-512x512", 0)),
    "augmentation": (("digits-64x128", 32), ("mnist-784x512", 128)),
}
# What is said of an operation goes before what is said of its family: whole sequences are compared
# at every batch size but the full one, for which workloads.py says why.
OTHERS |= {
    str(operation): tuple(("digits-64x128", batch) for batch in workloads.BATCHES)
    for operation in FAMILIES["recurrent"]
    if "whole" in operation.variant
}


@functools.cache
def grid():
    """(operation, layer, batch) of all cells; the batch is 0 where the operation has none."""
    begun = {str(operation) for operation, *_ in core()}
    return (*core(), *(cell for cell in _others() if str(cell[0]) not in begun))


@functools.cache
def core():
    """The cells at many sizes, and the training steps."""
    operations = {str(op): op for family in FAMILIES.values() for op in family}
    layers = [layer for name, layer in workloads.layers().items() if "circles" not in name]
    first = [layer for layer in layers if layer.rows]
    last = [workloads.layers()[name] for name in ("moons-16x2", "digits-32x10", "mnist-512x10")]
    wide = [workloads.layers()["mnist-512x512"]]
    chosen = {
        "dense_forward[relu]": layers,
        "dense_forward[tanh]": first,
        "dense_backward[relu]": layers,
        "dense_backward[tanh]": first,
        "softmax_cross_entropy[hard]": last,
        **{f"activation_forward[{name}]": wide for name in ("relu", "elu", "sigmoid", "tanh")},
        **{f"activation_backward[{name}]": wide for name in ("relu", "elu", "sigmoid", "tanh")},
        **{rule: [*first, LARGE] for rule in ("sgd", "momentum", "adam")},
    }
    cells = [
        (operations[name], layer, batch)
        for name, of_layers in chosen.items()
        for layer in of_layers
        for batch in (_batches(layer) if "batch" in operations[name].sizes else (0,))
    ]
    return (*cells, *steps.grid())


def _others():
    for family, operations in FAMILIES.items():
        for operation in operations:
            for name, batch in OTHERS.get(str(operation), OTHERS[family]):
                layer = workloads.layers_of(family)[name]
                batch = _batches(layer)[-1] if batch is None else batch
                yield operation, layer, batch if "batch" in operation.sizes else 0


def names(operation, layer):
    """What selects a cell: its family, function, variant, workload or layer."""
    found = {results.FAMILY_OF.get(operation.name, "network"), operation.name, operation.variant}
    return {*found, layer.name, layer.name.partition("-")[0]} - {""}


def selected(only):
    """{place in the grid: cell} of those that `only` names, or of all.

    Raises ValueError for an unknown name.
    """
    cells = dict(enumerate(grid()))
    known = set().union(*(names(operation, layer) for operation, layer, _ in cells.values()))
    if unknown := set(only) - known:
        raise ValueError(
            f"--only: no {', '.join(sorted(unknown))} in the grid, but {', '.join(sorted(known))}"
        )
    return {n: cell for n, cell in cells.items() if not only or names(*cell[:2]) & set(only)}


def _batches(layer):
    return workloads.batches(layer.name.partition("-")[0])
