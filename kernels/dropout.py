"""What the backends share of dropout: the checks of its numbers, and what is drawn by them."""

from . import arguments
from .catalog import FIRST_DROPOUT, FRACTION, LAYERS, SEEDS, STEPS


def check(rate, seed, step, layer):
    """(rate, seed, step, layer), a float and integers in their ranges."""
    return (
        arguments.number("rate", rate, FRACTION),
        arguments.integer("seed", seed, 0, SEEDS),
        arguments.integer("step", step, 0, STEPS),
        arguments.integer("layer", layer, 0, LAYERS),
    )


def are_plain(seed, step, layer):
    """Whether these are integers of Python's in their ranges: what compiled code may be given."""
    if not (type(seed) is int and type(step) is int and type(layer) is int):
        return False
    return 0 <= seed < SEEDS and 0 <= step < STEPS and 0 <= layer < LAYERS


def stream(layer):
    """The stream of random words of a layer."""
    return FIRST_DROPOUT + layer


def threshold_and_scale(rate):
    """(the least word of an element that is kept, what this is multiplied with), both exact or
    rounded once in float64.
    """
    return int(rate * 2.0**32), 1 / (1 - rate)
