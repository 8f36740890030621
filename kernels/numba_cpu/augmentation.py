"""Augmentation for the CPU: random matrices, and what resampling.py does, checked."""

import math

import numpy as np
from numba import carray, types

from .. import arguments, augmentation
from ..catalog import AFFINE_STREAM, FILL_VALUE, FILLS, WRAP
from .codegen.inlined import register_jitable
from .codegen.jit import kernel
from .codegen.philox import LOW, SHIFT, philox
from .codegen.shortcut import Shortcut, disjoint, read, shortcut, span, writable, written
from .codegen.variates import symmetric
from .codegen.vectors import address
from .resampling import affine, elastic

STREAM = np.uint64(AFFINE_STREAM)
LIMIT, MOST_PIXELS = FILL_VALUE.high, arguments.MOST_PIXELS
_REAL, _WORD = types.float64, types.uint64


@register_jitable
def _by_channels(images):
    """The images as (batch, channels, height, width)."""
    height, width = images.shape[-2], images.shape[-1]
    channels = images.size // (len(images) * height * width)
    return carray(address(images), (len(images), channels, height, width))


@register_jitable
def _fit(images, fill, value, y):
    fits = images.shape == y.shape and images.size > 0 and 0 <= fill <= WRAP
    fits = fits and abs(value) < LIMIT
    return fits and (images.shape[-2] + 2) * (images.shape[-1] + 2) <= MOST_PIXELS


def _transform(images, matrices, fill, value, y):
    fits = _fit(images, fill, value, y) and matrices.shape == (len(images), 2, 3)
    fits = fits and disjoint((span(y),), (span(images), span(matrices)))
    if fits:
        affine(_by_channels(images), writable(matrices), fill, value, _by_channels(y))
    return fits


def _distort(images, alpha, weights, seed, step, fill, value, y):
    fits = _fit(images, fill, value, y) and disjoint((span(y),), (span(images),))
    if fits:
        settings = alpha, writable(weights), seed, step, fill, value
        elastic(_by_channels(images), *settings, _by_channels(y))
    return fits


_FILL = types.intp, _REAL
_WEIGHTS = types.Array(_REAL, 1, "C", readonly=True)


# By the number of axes of the images.
_AFFINE_CALLS = {
    ndim: Shortcut((read(ndim), read(3), *_FILL, written(ndim)), _transform) for ndim in (3, 4)
}
_ELASTIC_CALLS = {
    ndim: Shortcut((read(ndim), _REAL, _WEIGHTS, _WORD, _WORD, *_FILL, written(ndim)), _distort)
    for ndim in (3, 4)
}


def affine_transform(images, matrices, *, fill="constant", value=0.0, out=None):
    """Each image transformed by its own matrix; see reference.affine_transform."""
    if out is not None and type(fill) is str and type(images) is np.ndarray:
        call = _AFFINE_CALLS.get(images.ndim)
        if call and call.accepts(images, matrices, FILLS.get(fill, -1), value, out):
            return out
    arguments.images("images", images, np.ndarray)
    arguments.array("matrices", matrices, np.ndarray, images.dtype, (len(images), 2, 3))
    return _called(_AFFINE_CALLS, images, (matrices,), augmentation.border(fill, value), out)


def elastic_transform(images, alpha, sigma, *, seed=0, step=1, fill="constant", value=0.0,
                      out=None):  # fmt: skip
    """Each image distorted by a smooth random field; see reference.elastic_transform."""
    arguments.images("images", images, np.ndarray)
    given = *augmentation.elastic(images, alpha, sigma), *augmentation.drawn(seed, step)
    return _called(_ELASTIC_CALLS, images, given, augmentation.border(fill, value), out)


def _called(calls, images, given, fill, out):
    """`out`, checked, or a new array, with the result in it."""
    inputs = {"images": images}
    if calls is _AFFINE_CALLS:
        (inputs["matrices"],) = given
    if out is None:
        out = np.empty_like(images)
    else:
        arguments.written("out", out, np.ndarray, images.dtype, images.shape)
        arguments.disjoint({"out": out}, inputs)
    if images.size > 0:
        call = calls[images.ndim]
        call.ready(images.dtype)
        call(images, *given, *fill, out)
    return out


@kernel
def _matrices(matrices, centre, ranges, seed, step):
    """Random ones, made in float64. One takes 0.05 us, far less than its image will: no threads."""
    (cy, cx), (rotation, shift, zoom, shear), real = centre, ranges, matrices.dtype.type
    key0, key1, zero, one = seed & LOW, seed >> SHIFT, np.uint64(0), np.uint64(1)
    for image in range(len(matrices)):
        number = np.uint64(image)
        w0, w1, w2, w3 = philox(zero, number, STREAM, step, key0, key1)
        w4 = philox(one, number, STREAM, step, key0, key1)[0]
        angle = math.radians(rotation) * symmetric(w0, np.float64)
        slope = math.tan(math.radians(shear) * symmetric(w4, np.float64))
        scale = 1 / (1 + zoom * symmetric(w3, np.float64))
        cosine, sine = math.cos(angle), math.sin(angle)
        a, b = scale * (cosine - sine * slope), -scale * sine
        c, d = scale * (sine + cosine * slope), scale * cosine
        dy, dx = shift * symmetric(w1, np.float64), shift * symmetric(w2, np.float64)
        upper, lower = matrices[image, 0], matrices[image, 1]
        upper[0], upper[1], upper[2] = real(a), real(b), real(cy + dy - a * cy - b * cx)
        lower[0], lower[1], lower[2] = real(c), real(d), real(cx + dx - c * cy - d * cx)


@shortcut(written(3), *[_REAL] * 6, _WORD, _WORD)
def _random_call(matrices, height, width, rotation, shift, zoom, shear, seed, step):
    centre, ranges = ((height - 1) / 2, (width - 1) / 2), (rotation, shift, zoom, shear)
    _matrices(matrices, centre, ranges, seed, step)
    return True


def random_affine(matrices, height, width, *, rotation=0.0, shift=0.0, zoom=0.0, shear=0.0, seed=0,
                  step=1):  # fmt: skip
    """Overwrites matrices with random transformations; see reference.random_affine."""
    arguments.floating("matrices", matrices, np.ndarray, 3)
    arguments.written("matrices", matrices, np.ndarray, matrices.dtype, (len(matrices), 2, 3))
    sides = augmentation.size(height, width)
    ranges = augmentation.ranges(rotation=rotation, shift=shift, zoom=zoom, shear=shear)
    seed, step = augmentation.drawn(seed, step)
    _random_call.ready(matrices.dtype)
    _random_call(matrices, *sides, *ranges, seed, step)
