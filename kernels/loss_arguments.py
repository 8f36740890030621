"""What the backends share of the losses: checks of arguments that no other function has."""

import math

from . import arguments, recurrent
from .catalog import ELEMENT_LOSSES, FRACTION, REDUCTIONS

# What a GPU's kernel leaves where it found a value out of range: the number of classes that a label
# did not fit, or one of these.
FRACTION_FAULT, VARIANCE_FAULT, SOFT_LABEL_FAULT, LENGTH_FAULT = -1, -2, -3, -4


LAST = -1  # the axis of softmax unless another is named


def logits_along(axis, logits, kind):
    """Checks both; returns the sizes before the axis, along it and behind it."""
    arguments.floating("logits", logits, kind)
    if logits.ndim == 0:
        raise ValueError("logits must have at least one axis, got shape ()")
    if logits.size == 0:
        raise ValueError(f"logits must have at least one element, got shape {logits.shape}")
    if axis is not LAST:
        axis = arguments.integer("axis", axis, -logits.ndim, logits.ndim)
    axis %= logits.ndim
    before, behind = logits.shape[:axis], logits.shape[axis + 1 :]
    return math.prod(before), logits.shape[axis], math.prod(behind)


def shapes(inputs, reduction, kind):
    """The shapes of the results of a loss of elements, whose arrays, by their names, it checks."""
    (first, prediction), *others = inputs.items()
    arguments.floating(first, prediction, kind)
    if prediction.size == 0:
        raise ValueError(f"{first} must have at least one element, got shape {prediction.shape}")
    for name, array in others:
        arguments.array(name, array, kind, prediction.dtype, prediction.shape)
    arguments.one_of("reduction", reduction, REDUCTIONS)
    return (prediction.shape if reduction == "none" else (), *[prediction.shape] * len(others))


def setting(name, value):
    """The number of a loss of elements as a float, where it has one."""
    declared = ELEMENT_LOSSES[name].setting
    return arguments.number(declared[0], value, declared[1]) if declared else 0.0


def element_out_of_range(name):
    """The error of a value that the loss of elements of this name does not take."""
    return out_of_range(FRACTION_FAULT if ELEMENT_LOSSES[name].fractions else VARIANCE_FAULT)


def out_of_range(fault):
    """The error of what a kernel found out of range."""
    if fault == FRACTION_FAULT:
        return ValueError("target must be from 0 to 1, got one outside")
    if fault == VARIANCE_FAULT:
        return ValueError("variance must be at least 0, got one below")
    if fault == SOFT_LABEL_FAULT:
        return ValueError("labels must be from 0 to 1, got one outside")
    if fault == LENGTH_FAULT:
        return recurrent.out_of_range()
    return arguments.label_out_of_range("labels", fault)


def ignored_label(ignore_index):
    """(whether a label is ignored, which) of None or an int of 64 bits; None of anything else."""
    if ignore_index is None:
        return 0, 0
    plain = type(ignore_index) is int and -(2**63) <= ignore_index < 2**63
    return (1, ignore_index) if plain else None


def of_classes(class_weights, ignore_index, kind, dtype, classes):
    """Checks both; returns (whether a label is ignored, which)."""
    if class_weights is not None:
        arguments.array("class_weights", class_weights, kind, dtype, (classes,))
    if ignore_index is None:
        return 0, 0
    ignored = arguments.as_integer(ignore_index)
    if ignored is None:
        got = arguments.type_name(type(ignore_index))
        raise TypeError(f"ignore_index must be an integer or None, got {got}")
    if not -(2**63) <= ignored < 2**63:
        raise ValueError(f"ignore_index must be an int64, got {ignored}")
    return 1, ignored


def of_cross_entropy(logits, labels, smoothing, class_weights, ignore_index, reduction, kind):
    """Checks the inputs of softmax_cross_entropy.

    Returns (whether the labels are soft targets, smoothing as a float, as of_classes).
    """
    arguments.floating("logits", logits, kind, 2)
    arguments.rows("logits", logits)
    is_soft = isinstance(labels, kind) and labels.ndim == 2 and labels.dtype.kind == "f"
    if is_soft:
        arguments.array("labels", labels, kind, logits.dtype, logits.shape)
        if ignore_index is not None:
            raise ValueError(f"ignore_index must be None for soft targets, got {ignore_index!r}")
    else:
        arguments.labels("labels", labels, kind, len(logits))
    smoothing = arguments.number("label_smoothing", smoothing, FRACTION)
    ignored = of_classes(class_weights, ignore_index, kind, logits.dtype, logits.shape[1])
    arguments.one_of("reduction", reduction, REDUCTIONS)
    return is_soft, smoothing, ignored
