"""Loops of augmentation for the CPU.

A thread takes one image after another. It copies the image with a border of one pixel, so that the
four neighbours of any point are there, and then goes over blocks of its pixels: where their points
are, which neighbours and how far behind these, and the interpolation. All of it stays in L1.
"""

from functools import partial

import numpy as np
from numba import carray, njit, prange
from numba.extending import register_jitable

from ..catalog import CONSTANT_FILL, ELASTIC_STREAM, NEAREST, REFLECT, WRAP
from .codegen.jit import INTERNAL, kernel, threaded
from .codegen.philox import MOST, PAIRS, WORDS, random_words
from .codegen.threads import thread_count
from .codegen.variates import symmetric
from .codegen.vectors import stack

THREADS_FROM = 1 << 14  # pixels: one takes about a nanosecond
ELASTIC_COST = 8  # times as long
PART = 1 << 13  # pixels that a thread takes at a time, or an image
BLOCK = 512  # pixels
STREAM = np.uint64(ELASTIC_STREAM)
_inner = partial(njit, **INTERNAL, fastmath={"contract"})


@_inner
def _pad(image, fill, value, padded):
    """The image amid one more pixel at each end of both axes."""
    height, width = image.shape
    for i in range(height):
        padded[i + 1, 1 : width + 1] = image[i]
    top, bottom = (height, 1) if fill == WRAP else (1, height)
    left, right = (width, 1) if fill == WRAP else (1, width)
    padded[0], padded[height + 1] = padded[top], padded[bottom]
    for row in padded:
        row[0], row[width + 1] = row[left], row[right]
    if fill == CONSTANT_FILL:
        padded[0], padded[height + 1] = value, value
        padded[:, 0], padded[:, width + 1] = value, value


@register_jitable
def _axis(n, fill, real):
    """What brings any coordinate between the n pixels and one more at each end: (period, 1 /
    period, where it is reflected, least, most, the last pixel).
    """
    period = 2 * n if fill == REFLECT else n if fill == WRAP else 0
    inverse = 1 / period if period > 0 else 0.0
    turn = 2.0 * n - 1 if fill == REFLECT else np.inf
    low, high = (0, n - 1) if fill == NEAREST else (-1, n)
    return real(period), real(inverse), real(turn), real(low), real(high), real(n - 1)


@register_jitable
def _neighbours(y, axis):
    """(i, t): the point lies t behind place i of the padded axis. Where y is no finite number, t is
    NaN and i is there.
    """
    period, inverse, turn, low, high, last = axis
    y -= period * np.floor(y * inverse)
    y = turn - y if turn - y < y else y
    y = low if y < low else y
    y = high if y > high else y
    first = np.floor(y)
    first = first if first < last else last
    first = first if first > -1 else type(y)(-1)
    return np.int32(np.int32(first) + 1), y - first


@_inner
def _interpolate(padded, rows, columns, ys, xs, out):
    """out = the padded image at the points (ys, xs), BLOCK at most; they are overwritten."""
    places, step = carray(stack(np.int32, BLOCK), BLOCK), np.int32(padded.shape[1])
    pixels = padded.reshape(padded.size)
    for k in range(out.size):
        i, t = _neighbours(ys[k], rows)
        j, s = _neighbours(xs[k], columns)
        places[k], ys[k], xs[k] = np.int32(np.int32(i * step) + j), t, s
    below = pixels[step:]
    for k in range(out.size):
        p, s = places[k], xs[k]
        above = pixels[p] + s * (pixels[p + 1] - pixels[p])
        out[k] = above + ys[k] * (below[p] + s * (below[p + 1] - below[p]) - above)


@_inner
def _pixel_grid(height, width, row, column):
    """The row and the column of every pixel."""
    for i in range(height):
        for j in range(width):
            row[i * width + j], column[i * width + j] = i, j


@kernel
def _affine(images, matrices, fill, value, y):
    count, channels, height, width = images.shape
    real, size = images.dtype.type, height * width
    padded, grid = np.empty((height + 2, width + 2), real), np.empty((2, size), real)
    ys, xs = np.empty(BLOCK, real), np.empty(BLOCK, real)
    row, column = grid[0], grid[1]
    _pixel_grid(height, width, row, column)
    rows, columns, value = _axis(height, fill, real), _axis(width, fill, real), real(value)
    for n in range(count * channels):
        image, m = n // channels, matrices[n // channels]
        a, b, c, d, e, f = m[0, 0], m[0, 1], m[0, 2], m[1, 0], m[1, 1], m[1, 2]
        _pad(images[image, n % channels], fill, value, padded)
        target = y[image, n % channels].reshape(size)
        for start in range(0, size, BLOCK):
            out = target[start : start + BLOCK]
            r, q = row[start : start + BLOCK], column[start : start + BLOCK]
            for k in range(out.size):
                ys[k] = a * r[k] + b * q[k] + c
                xs[k] = d * r[k] + e * q[k] + f
            _interpolate(padded, rows, columns, ys, xs, out)


@_inner
def _noise(image, seed, step, field):
    """Two random numbers for each pixel of this image."""
    words, size, real = carray(stack(np.uint64, PAIRS), PAIRS), field.shape[1], field.dtype.type
    dy, dx = field[0], field[1]
    begin = np.int64(image) << 32  # the block's high word
    for start in range(0, size, MOST // 2):
        count = min(MOST // 2, size - start)
        first = WORDS * begin + 2 * start
        found = random_words(words, first, first + 2 * count, seed, STREAM, step)
        for k in range(count):
            dy[start + k] = symmetric(found[2 * k], real)
            dx[start + k] = symmetric(found[2 * k + 1], real)


@_inner
def _smooth(field, weights, lines):
    """Replaces field, (height, width), by weighted means along both axes. lines: rows as wide and
    as many more places at both ends as there are neighbours on a side, which hold 0.
    """
    height, width = field.shape
    margin, real = weights.size - 1, field.dtype.type
    for i in range(height):
        line = lines[i, margin : margin + width]
        for j in range(width):
            line[j] = real(weights[0]) * field[i, j]
        for k in range(max(0, i - margin), min(height, i + margin + 1)):
            if k != i:
                weight, other = real(weights[abs(k - i)]), field[k]
                for j in range(width):
                    line[j] += weight * other[j]
    for i in range(height):
        row, line = field[i], lines[i]
        for j in range(width):
            row[j] = real(weights[0]) * line[margin + j]
        for k in range(1, min(margin + 1, width)):
            weight, before, behind = real(weights[k]), line[margin - k :], line[margin + k :]
            for j in range(width):
                row[j] += weight * (before[j] + behind[j])


@kernel
def _elastic(first, images, alpha, weights, seed, step, fill, value, y):
    """Of images whose first has this number in the batch."""
    count, channels, height, width = images.shape
    real, size = images.dtype.type, height * width
    padded, grid = np.empty((height + 2, width + 2), real), np.empty((2, size), real)
    ys, xs, field = np.empty(BLOCK, real), np.empty(BLOCK, real), np.empty((2, size), real)
    lines = np.zeros((height, width + 2 * weights.size - 2), real)
    row, column = grid[0], grid[1]
    _pixel_grid(height, width, row, column)
    rows, columns, value = _axis(height, fill, real), _axis(width, fill, real), real(value)
    alpha = real(alpha)
    for image in range(count):
        _noise(first + image, seed, step, field)
        for way in range(2):
            _smooth(field[way].reshape(height, width), weights, lines)
        for channel in range(channels):
            _pad(images[image, channel], fill, value, padded)
            target = y[image, channel].reshape(size)
            for start in range(0, size, BLOCK):
                out = target[start : start + BLOCK]
                r, q = row[start : start + BLOCK], column[start : start + BLOCK]
                dy, dx = field[0, start : start + BLOCK], field[1, start : start + BLOCK]
                for k in range(out.size):
                    ys[k] = r[k] + alpha * dy[k]
                    xs[k] = q[k] + alpha * dx[k]
                _interpolate(padded, rows, columns, ys, xs, out)


@register_jitable
def _images_a_part(images, cost):
    """How many images a thread takes at a time; all of them where one is to take all."""
    size = max(1, images[0].size if len(images) > 0 else 1)
    if images.size * cost < THREADS_FROM or thread_count() == 1:
        return max(1, len(images))
    return 1 + (PART // cost) // size


@threaded
def affine(images, matrices, fill, value, y):
    """y = the images, (batch, channels, height, width), transformed."""
    each = _images_a_part(images, 1)
    if each >= len(images):
        _affine(images, matrices, fill, value, y)
    else:
        for p in prange((len(images) + each - 1) // each):
            part = slice(p * each, min(len(images), (p + 1) * each))
            _affine(images[part], matrices[part], fill, value, y[part])


@threaded
def elastic(images, alpha, weights, seed, step, fill, value, y):
    """y = the images, (batch, channels, height, width), distorted."""
    each = _images_a_part(images, ELASTIC_COST)
    settings = seed, step, fill, value
    if each >= len(images):
        _elastic(0, images, alpha, weights, *settings, y)
    else:
        for p in prange((len(images) + each - 1) // each):
            part = slice(p * each, min(len(images), (p + 1) * each))
            _elastic(p * each, images[part], alpha, weights, *settings, y[part])
