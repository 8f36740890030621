"""What the backends share of initialisers: the check of their arguments, the orthogonal matrix."""

import numpy as np

from . import arguments
from .catalog import INITIALIZERS, SPARSE_NORMAL


def check(weight, initializer, value, kind):
    """(distribution, its number) for this weight: what the initializer declares, or the value."""
    arguments.floating("weight", weight, kind, 2)
    arguments.rows("weight", weight)
    arguments.writeable("weight", weight)
    declared = INITIALIZERS.get(initializer) if isinstance(initializer, str) else None
    if declared is None:
        names = ", ".join(INITIALIZERS)
        raise ValueError(f"initializer must be one of {names}, got {initializer!r}")
    distribution, allowed = declared.distribution, declared.value
    if allowed is None:
        if value is not None:
            raise ValueError(f"value must be None for {initializer}, got {value!r}")
        return distribution, declared.scale(*weight.shape)
    if value is None:
        if allowed.default is None:
            raise ValueError(f"value must be given for {initializer}, got None")
        value = allowed.default
        if distribution == SPARSE_NORMAL:  # of fewer inputs a unit has all
            value = min(value, len(weight))
    if distribution == SPARSE_NORMAL:
        return distribution, arguments.integer("value", value, 1, len(weight) + 1)
    return distribution, arguments.number("value", value, allowed)


def orthogonal(drawn, gain):
    """gain times the orthonormal columns of a normal float64 matrix, its rows where it has fewer of
    these; see reference.initialize. LAPACK's, whatever the backend: it is computed once a network.
    """
    rows, columns = drawn.shape
    q, r = np.linalg.qr(drawn if rows >= columns else drawn.T)
    q *= np.copysign(gain, r.diagonal())
    return q if rows >= columns else q.T
