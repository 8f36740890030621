"""What the backends share of gradients that are changed in place: the checks of their arguments."""

from . import arguments
from .catalog import ABOVE_ZERO, Number
from .intervals import several

WEIGHT = Number(0.0)  # of a penalty
LIMIT = Number(low=ABOVE_ZERO)
FEW = 8  # gradients, which are compared one with another sooner than put in order


def checked(grads, kind, **others):
    """Checks gradients, and tuples of arrays like them that are only read; returns their dtype."""
    several(grads, kind, "grads")
    for k, g in enumerate(grads):
        arguments.writeable(f"grads[{k}]", g)
    for name, arrays in others.items():
        if not isinstance(arrays, tuple | list):
            several(arrays, kind, name)
        if len(arrays) != len(grads):
            raise ValueError(f"{name} must be {len(grads)} arrays, as grads are, got {len(arrays)}")
        for k, (g, array) in enumerate(zip(grads, arrays, strict=True)):
            arguments.array(f"{name}[{k}]", array, kind, g.dtype, g.shape)
    flat = [array for arrays in others.values() for array in arrays]
    if len(grads) <= FEW or not _apart(grads, flat):
        read = {
            f"{n}[{k}]": array for n, arrays in others.items() for k, array in enumerate(arrays)
        }
        arguments.disjoint({f"grads[{k}]": g for k, g in enumerate(grads)}, read)
    return grads[0].dtype


def _apart(grads, others):
    """Whether no gradient shares a byte with another array: in the order of their places, for a
    network may have many.
    """
    spans = [(*arguments.span(array), True) for array in grads if array.size]
    spans += [(*arguments.span(array), False) for array in others if array.size]
    end = written_end = 0
    for start, stop, written in sorted(spans):
        if start < (end if written else written_end):
            return False
        end = max(end, stop)
        written_end = max(written_end, stop) if written else written_end
    return True
