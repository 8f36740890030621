"""What the backends share of augmentation: the checks of its settings, the Gaussian's weights."""

from functools import lru_cache

import numpy as np

from . import arguments
from .catalog import DISTORTION, FILL_VALUE, FILLS, RANGES, SEEDS, SIGMA, STREAMS

TRUNCATED = 4  # deviations at which the Gaussian ends
KEPT = 64  # Gaussians


def border(fill, value):
    """(id, value) of what lies beyond the border."""
    arguments.one_of("fill", fill, FILLS)
    return FILLS[fill], arguments.number("value", value, FILL_VALUE)


def drawn(seed, step):
    """(seed, step): which numbers are drawn; a step counts from 1."""
    return arguments.integer("seed", seed, 0, SEEDS), arguments.integer("step", step, 1, STREAMS)


def ranges(**given):
    """The ranges of random transformations, in their order."""
    return tuple(arguments.number(name, given[name], allowed) for name, allowed in RANGES.items())


def size(height, width):
    """(height, width) of images that are not given."""
    sides = {"height": height, "width": width}
    return tuple(arguments.integer(n, side, 1, arguments.MOST_PIXELS) for n, side in sides.items())


def elastic(images, alpha, sigma):
    """(alpha, the weights of a pixel and of those 1, 2, ... behind it as far as they are met)."""
    alpha = arguments.number("alpha", alpha, DISTORTION)
    return alpha, _gaussian(arguments.number("sigma", sigma, SIGMA), max(images.shape[-2:]))


@lru_cache(KEPT)
def _gaussian(sigma, pixels):
    radius = int(TRUNCATED * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    weights /= 2 * weights.sum() - 1
    weights = weights[:pixels].copy()
    weights.flags.writeable = False
    return weights
