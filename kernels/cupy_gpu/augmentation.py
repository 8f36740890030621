"""Augmentation on the GPU; equations as in reference/augmentation.py."""

from functools import lru_cache

import numpy as np

from .. import arguments, augmentation
from ..catalog import AFFINE_STREAM, ELASTIC_STREAM
from .activations import output
from .runtime import device
from .runtime.table import SHARED_FIELD, blocks_of


def affine_transform(images, matrices, *, fill="constant", value=0.0, out=None):
    """Each image transformed by its own matrix, a thread for each pixel."""
    arguments.images("images", images, device.ndarray)
    arguments.array("matrices", matrices, device.ndarray, images.dtype, (len(images), 2, 3))
    fill, value = augmentation.border(fill, value)
    y = output(out, images.shape, images.dtype, {"images": images, "matrices": matrices})
    given = images, matrices, y, value, fill, images.size, *_channels_and_sides(images)
    device.launch("affine_transform", (images.size,), *given)
    return y


def random_affine(matrices, height, width, *, rotation=0.0, shift=0.0, zoom=0.0, shear=0.0, seed=0,
                  step=1):  # fmt: skip
    """Overwrites matrices with random transformations, a thread for each."""
    arguments.floating("matrices", matrices, device.ndarray, 3)
    count = len(matrices)
    arguments.array("matrices", matrices, device.ndarray, matrices.dtype, (count, 2, 3))
    height, width = augmentation.size(height, width)
    ranges = augmentation.ranges(rotation=rotation, shift=shift, zoom=zoom, shear=shear)
    rotation, shift, zoom, shear = ranges
    given = matrices, count, (height - 1) / 2, (width - 1) / 2, rotation / 180, shift, zoom
    draw = _draw(seed, step, AFFINE_STREAM)
    device.launch("random_affine", (count,), *given, shear / 180, *draw)


def elastic_transform(images, alpha, sigma, *, seed=0, step=1, fill="constant", value=0.0,
                      out=None):  # fmt: skip
    """Each image distorted by a smooth random field, a block for each."""
    arguments.images("images", images, device.ndarray)
    alpha, weights = augmentation.elastic(images, alpha, sigma)
    draw = _draw(seed, step, ELASTIC_STREAM)
    fill, value = augmentation.border(fill, value)
    y = output(out, images.shape, images.dtype, {"images": images})
    channels, height, width = _channels_and_sides(images)
    work, dtype, workspace = (len(images), height * width), images.dtype, None
    if 4 * height * width > SHARED_FIELD:
        blocks = blocks_of("elastic_transform", dtype, *work)
        workspace = device.empty(blocks * 4 * height * width, dtype)
    given = images, _there(weights.tobytes(), dtype), workspace, y, value, alpha
    sizes = len(images), channels, height, width
    device.launch("elastic_transform", work, *given, weights.size - 1, fill, *draw, *sizes)
    return y


def _channels_and_sides(images):
    return images.shape[1] if images.ndim == 4 else 1, *images.shape[-2:]


def _draw(seed, step, stream):
    """What the kernels take of the random numbers that are drawn."""
    seed, step = augmentation.drawn(seed, step)
    return seed & 0xFFFFFFFF, seed >> 32, stream, step


@lru_cache(augmentation.KEPT)
def _there(weights, dtype):
    return device.asarray(np.frombuffer(weights).astype(dtype))
