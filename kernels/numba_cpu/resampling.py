"""Loops of augmentation for the CPU.

A thread takes one image after another. It copies the image with a border of one pixel, so that the
four neighbours of any point are there, and then goes over blocks of its pixels: where their points
are, which neighbours and how far behind these, and the interpolation. All of it stays in L1.
"""

from functools import partial

import numpy as np
from numba import carray, njit, prange

from ..catalog import CONSTANT_FILL, ELASTIC_STREAM, NEAREST, REFLECT, WRAP
from .codegen.inlined import register_jitable
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


@register_jitable
def _stands_for(i, n, fill):
    """Which of n pixels is in place i, from -1 to n."""
    if fill == WRAP:
        return n - 1 if i < 0 else 0 if i == n else i
    return max(0, min(n - 1, i))


@_inner
def _pad(image, fill, value, padded):
    """The image amid one more pixel at each end of both axes."""
    height, width = image.shape
    left, right = _stands_for(-1, width, fill), _stands_for(width, width, fill)
    for i in range(height + 2):
        line, row = padded[i], image[_stands_for(i - 1, height, fill)]
        is_value = fill == CONSTANT_FILL and (i == 0 or i == height + 1)
        for j in range(width):
            line[j + 1] = value if is_value else row[j]
        line[0], line[width + 1] = row[left], row[right]
        if fill == CONSTANT_FILL:
            line[0], line[width + 1] = value, value


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
    """Two random numbers for each pixel of this image, (2, pixels)."""
    words, size, real = carray(stack(np.uint64, PAIRS), PAIRS), field.shape[1], field.dtype.type
    dy, dx = field[0], field[1]
    begin = WORDS * (np.int64(image) << 32)  # the block's high word
    for start in range(0, size, MOST // 2):
        count, first = min(MOST // 2, size - start), begin + 2 * start
        found = random_words(words, first, first + 2 * count, seed, STREAM, step)
        for k in range(count):
            dy[start + k] = symmetric(found[2 * k], real)
            dx[start + k] = symmetric(found[2 * k + 1], real)


@_inner
def _means(source, weights, reach, step, target):
    """Weighted means of as many elements as the target has, behind `reach` steps in the source, and
    of those up to `reach` steps before and behind each.
    """
    real, begin = source.dtype.type, reach * step
    for start in range(begin, begin + target.size, BLOCK):
        out, here = target[start - begin :][:BLOCK], source[start:]
        for k in range(out.size):
            out[k] = real(weights[0]) * here[k]
        for d in range(1, reach + 1):
            weight, before, behind = real(weights[d]), source[start - d * step :], here[d * step :]
            for k in range(out.size):
                out[k] += weight * (before[k] + behind[k])


@_inner
def _smooth(points, weights, field, lines):
    """Replaces both numbers of each pixel by weighted means along both axes.

    field, lines: memory that is 0 at the ends, where no pixel is. The rows of the field hold both
    numbers, each with as many zeros behind it as a mean reaches.
    """
    height, width = points.shape[1:]
    down, across = min(weights.size, height) - 1, min(weights.size, width) - 1
    step = 2 * (width + across)
    inner = field[down * step : (down + height) * step]
    rows = inner.reshape(height, 2, width + across)
    for i in range(height):
        for way in range(2):
            row, numbers = rows[i, way], points[way, i]
            for j in range(width):
                row[j] = numbers[j]
            for j in range(across):
                row[width + j] = 0
    _means(field, weights, down, step, lines[across : across + inner.size])
    _means(lines, weights, across, 1, inner)
    for i in range(height):
        for way in range(2):
            row, numbers = rows[i, way], points[way, i]
            for j in range(width):
                numbers[j] = row[j]


@kernel
def _elastic(first, images, alpha, weights, seed, step, fill, value, y):
    """Of images whose first has this number in the batch."""
    count, channels, height, width = images.shape
    real, size = images.dtype.type, height * width
    padded, field = np.empty((height + 2, width + 2), real), np.empty((2, size), real)
    grid, (ys, xs) = np.empty((2, size), real), (np.empty(BLOCK, real), np.empty(BLOCK, real))
    down, across = min(weights.size, height) - 1, min(weights.size, width) - 1
    wide = 2 * (width + across)
    ends = np.zeros((height + 2 * down) * wide, real), np.zeros(height * wide + 2 * across, real)
    row, column = grid[0], grid[1]
    _pixel_grid(height, width, row, column)
    rows, columns, value = _axis(height, fill, real), _axis(width, fill, real), real(value)
    alpha = real(alpha)
    for image in range(count):
        _noise(first + image, seed, step, field)
        _smooth(field.reshape(2, height, width), weights, *ends)
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
