"""Augmentation: images distorted at random, each in its own way, in one resampling.

Images are (batch, height, width) or (batch, channels, height, width), the channels of one image
distorted alike; rows of pixels become images by reshape. A point is (row, column), pixel centres
have whole numbers. Between them the image is bilinear, and beyond its border it goes on by `fill`:

    constant   value, between the outermost pixels and that too      k k k a b c d k k k
    nearest    the nearest pixel                                     a a a a b c d d d d
    reflect    reflected about the edges of the outermost pixels     c b a a b c d d c b
    wrap       repeated                                              b c d a b c d a b c

as scipy.ndimage has them under the names grid-constant, nearest, reflect and grid-wrap. So it is
continuous everywhere. A point that is no finite number has the value NaN; points are to be in
range.

Random numbers are those of philox.py, uniform between -1 and 1. Image b of a batch takes them from
the blocks (0, b), (1, b), ... in the stream of the function, a training step in the step of its
own: what an image gets depends on seed, step and its number alone.
"""

import numpy as np

from .philox import WORD, philox
from .spec import store

AFFINE_STREAM, ELASTIC_STREAM = 2**30 + 8, 2**30 + 9  # far behind the streams of layers
FILLS = ("constant", "nearest", "reflect", "wrap")
PADDING = dict(zip(FILLS, ("constant", "edge", "symmetric", "wrap"), strict=True))  # of np.pad
TRUNCATED = 4  # deviations at which the Gaussian ends, as in scipy.ndimage


def affine_transform(images, matrices, *, fill="constant", value=0.0, out=None):
    """y[b, r, c] = images[b] at the point matrices[b] (r, c, 1).

    matrices: (batch, 2, 3), from a pixel of the result to a point of the image. Returns y, of the
    images' shape. The matrix (1 0 0, 0 1 0) returns the very image. y's scipy equivalent is
    scipy.ndimage.affine_transform(image, matrix[:, :2], matrix[:, 2], order=1).
    """
    row, column = pixels(images)
    a, offset = matrices[:, :, :2, None, None], matrices[:, :, 2, None, None]
    y, x = np.moveaxis(a[:, :, 0] * row + a[:, :, 1] * column + offset, 1, 0)
    return store(out, sample(images, y, x, fill, value))


def random_affine(matrices, height, width, *, rotation=0.0, shift=0.0, zoom=0.0, shear=0.0, seed=0,
                  step=1):  # fmt: skip
    """Overwrites matrices, (batch, 2, 3), with random ones for images of this size: of image b

        p -> centre + d + R S (p - centre) / f,   R = (cos t, -sin t; sin t, cos t),
        S = (1, 0; tan s, 1)

    with the angles t of at most `rotation` degrees, clockwise, and s of at most `shear` degrees, d
    of at most `shift` pixels along each axis and the magnification f of 1 - zoom to 1 + zoom, all
    uniform and around what changes nothing. They are made, in this order, of the words 0 (t), 1 and
    2 (d), 3 (f) of block (0, b) and 0 (s) of block (1, b).

    rotation is below 360, shear below 90, zoom below 1; step counts from 1.
    """
    drawn = uniforms(len(matrices), 2, AFFINE_STREAM, seed, step)[:, :5].T
    turn, dy, dx, magnified, sheared = drawn.astype(matrices.dtype)
    angle = np.deg2rad(rotation) * turn
    slope = np.tan(np.deg2rad(shear) * sheared)
    scale, centre = 1 / (1 + zoom * magnified), ((height - 1) / 2, (width - 1) / 2)
    rows = affine_rows(np.cos(angle), np.sin(angle), slope, scale, shift * dy, shift * dx, *centre)
    matrices[...] = np.moveaxis(np.array(rows), 2, 0)


def affine_rows(cosine, sine, slope, scale, dy, dx, cy, cx):
    """The two rows of R S / f, and behind them of the shift, for rotation about (cy, cx)."""
    a, b = scale * (cosine - sine * slope), scale * -sine
    c, d = scale * (sine + cosine * slope), scale * cosine
    return (a, b, cy + dy - a * cy - b * cx), (c, d, cx + dx - c * cy - d * cx)


def elastic_transform(images, alpha, sigma, *, seed=0, step=1, fill="constant", value=0.0,
                      out=None):  # fmt: skip
    """y[b, r, c] = images[b] at the point (r, c) + alpha (dy, dx), a smooth random field: of each
    pixel p two random numbers, smoothed by a Gaussian of deviation sigma, [pixels], which ends at
    the distance int(4 sigma + 1/2); its weights sum to 1, and beyond the border are zeros.

    The numbers of pixel p, in row-major order, are the words 2 (p % 2) and that behind it of block
    (p // 2, b). Any alpha, sigma above 0 and below 10^4; step counts from 1. Source: Simard,
    Steinkraus and Platt, Best Practices for Convolutional Neural Networks Applied to Visual
    Document Analysis, ICDAR 2003, section 2: alpha 8 and sigma 4 for MNIST.
    """
    row, column = pixels(images)
    dy, dx = displacements(images, sigma, seed, step)
    return store(out, sample(images, row + alpha * dy, column + alpha * dx, fill, value))


def displacements(images, sigma, seed, step):
    """(dy, dx), each (batch, height, width)."""
    field = noise(images, seed, step)
    height, width = images.shape[-2:]
    return smoothing(height, sigma, images.dtype) @ field @ smoothing(width, sigma, images.dtype)


def noise(images, seed, step):
    """Two random numbers a pixel, (2, batch, height, width)."""
    batch, (height, width) = len(images), images.shape[-2:]
    drawn = uniforms(batch, -(-height * width // 2), ELASTIC_STREAM, seed, step)
    field = drawn[:, : 2 * height * width].reshape(batch, height, width, 2)
    return np.moveaxis(field, 3, 0).astype(images.dtype)


def smoothing(n, sigma, dtype):
    """The symmetric matrix (n, n) that takes weighted means of neighbours."""
    radius = int(TRUNCATED * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    inside = distance <= radius
    return np.where(inside, weights[radius + np.where(inside, distance, 0)], 0).astype(dtype)


def uniforms(count, blocks, stream, seed, step):
    """2 u - 1 with u as in philox.py, of so many blocks for each of `count` images; in float64."""
    image, block = np.arange(count)[:, None], np.arange(blocks)
    words = philox((block, image, stream, step), (seed & WORD, seed >> 32))
    upper = np.stack(words, axis=2).reshape(count, 4 * blocks) >> 9
    return 2 * ((upper + 0.5) * 2**-23) - 1


def pixels(images):
    """The rows and the columns of all pixels, (height, 1) and (width,)."""
    height, width = images.shape[-2:]
    return np.arange(height, dtype=images.dtype)[:, None], np.arange(width, dtype=images.dtype)


def sample(images, y, x, fill, value):
    """The images at points (y, x), each (batch, height, width)."""
    (height, width), channels = images.shape[-2:], images.shape[1] if images.ndim == 4 else 1
    border = ((0, 0), (0, 0), (1, 1), (1, 1))
    given = {"constant_values": value} if fill == "constant" else {}
    stacked = images.reshape(len(images), channels, height, width)
    padded = np.pad(stacked, border, PADDING[fill], **given)
    (i, t), (j, s) = (
        neighbours(points[:, None], n, fill) for points, n in ((y, height), (x, width))
    )
    image, channel = np.ix_(range(len(images)), range(channels), [0], [0])[:2]

    def along_row(i):
        left, right = padded[image, channel, i, j], padded[image, channel, i, j + 1]
        return left + s * (right - left)

    above, below = along_row(i), along_row(i + 1)
    return (above + t * (below - above)).reshape(images.shape)


def neighbours(y, n, fill):
    """(i, t): the point lies t behind place i of the n pixels and one more at each end."""
    y = np.where(np.isfinite(y), y, np.nan)
    match fill:
        case "constant":
            y = np.clip(y, -1, n)
        case "nearest":
            y = np.clip(y, 0, n - 1)
        case "reflect":
            y = y - 2 * n * np.floor(y / (2 * n))
            y = np.clip(np.minimum(y, 2 * n - 1 - y), -1, n)
        case "wrap":
            y = np.clip(y - n * np.floor(y / n), -1, n)
    first = np.minimum(np.floor(y), n - 1)
    return np.where(np.isnan(first), 0, first + 1).astype(int), y - first
