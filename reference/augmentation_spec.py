"""The specification of augmentation; see augmentation.py.

A bilinear image is continuous. Where a point may be off by d along an axis, the value is by d times
the largest difference of neighbours along it at most, those beyond the border included, whichever
pixels the computed point lies between.
"""

import math

import numpy as np

from .augmentation import (
    AFFINE_STREAM,
    FILLS,
    PADDING,
    affine_rows,
    affine_transform,
    displacements,
    elastic_transform,
    noise,
    pixels,
    random_affine,
    smoothing,
    uniforms,
)
from .bounds import ELEMENTARY, Bound, smallest_normal, summation, unit_roundoff
from .inexact import Inexact
from .spec import Operation, Result

FOLDING = "reflect", "wrap"
SIGMA, RADIUS = 4.0, 16  # at which elastic distortion is timed


def sides(fan_in):
    """(height, width) of an image of so many pixels, as square as it can be: those of digits are
    8 x 8, of mnist 28 x 28.
    """
    height = next(n for n in range(math.isqrt(fan_in), 0, -1) if fan_in % n == 0)
    return height, fan_in // height


# --- error bounds ---------------------------------------------------------------------------------


def _of_points(of_y, of_x, inputs, dtype):
    """The bound of y where the points may be off by (of_y, of_x), but for the fold.

    The fold rounds a distance below two periods, its reflection and, just before a pixel, the
    distance behind it. Each of the two interpolations rounds a difference, a product and a sum.
    """
    images, u, tiny = inputs["images"], unit_roundoff(dtype), smallest_normal(dtype)
    is_constant = inputs["fill"] == "constant"
    border = ((0, 0),) * (images.ndim - 2) + ((1, 1), (1, 1))
    given = {"constant_values": inputs["value"]} if is_constant else {}
    padded = np.pad(images, border, PADDING[inputs["fill"]], **given)
    sizes = [np.abs(padded), *(np.abs(np.diff(padded, axis=axis)) for axis in (-2, -1))]
    axes = tuple(range(1, images.ndim))
    size, down, across = (
        np.where(np.isfinite(a), a, 0).max(axis=axes, keepdims=True, initial=0.0) for a in sizes
    )
    shape = len(images), *[1] * (images.ndim - 3), *images.shape[-2:]
    total = 2 * u * (size + down + across) + 4 * tiny
    for error, slope, n in ((of_y, down, shape[-2]), (of_x, across, shape[-1])):
        folded = u * (4 * n if inputs["fill"] in FOLDING else 1)
        total = total + slope * (error.reshape(shape) + folded)
    return (Bound.of(total + is_constant * u * abs(inputs["value"])),)


def _of_fold(fill):
    """Roundings, relative to the coordinate, of a fold: of the multiple of the period, and of the
    quotient, 1 / period being rounded too, which may miss a border by as much.
    """
    return 3 if fill in FOLDING else 0


def _affine_error(inputs, dtype):
    """A coordinate is a sum of two products and a third term."""
    matrices, (row, column) = np.abs(inputs["matrices"]), pixels(inputs["images"])
    given = np.nan_to_num(matrices, posinf=0.0)[:, :, :, None, None]
    size = given[:, :, 0] * row + given[:, :, 1] * column + given[:, :, 2]
    roundings = 3 + _of_fold(inputs["fill"])
    lost = smallest_normal(dtype) * (1 + row + column)
    error = roundings * unit_roundoff(dtype) * size + lost
    return _of_points(error[:, 0], error[:, 1], inputs, dtype)


def _random_error(inputs, dtype):
    """The equation on inexact numbers. An angle is rounded as a setting, as radians or turns, and
    in two products. The tangent may be a quotient of sine and cosine.
    """
    u, matrices = unit_roundoff(dtype), inputs["matrices"]
    seed, step = inputs["seed"], inputs["step"]
    drawn = uniforms(len(matrices), 2, AFFINE_STREAM, seed, step)[:, :5].T
    angle, sheared = (np.deg2rad(inputs[n]) * drawn[k] for n, k in (("rotation", 0), ("shear", 4)))
    of_angle, of_sheared = 4 * u * np.abs(angle), 4 * u * np.abs(sheared)
    cosine, sine = (Inexact(f(angle), ELEMENTARY * u + of_angle, dtype) for f in (np.cos, np.sin))
    tangent = np.tan(sheared)
    of_tangent = (2 * ELEMENTARY + 1) * u * np.abs(tangent) + (1 + tangent**2) * of_sheared
    dy, dx, magnified = (Inexact(d, 0.0, dtype) for d in drawn[1:4])
    scale, shift = 1 / (1 + magnified * inputs["zoom"]), inputs["shift"]
    centre = (inputs["height"] - 1) / 2, (inputs["width"] - 1) / 2
    slope = Inexact(tangent, of_tangent, dtype)
    rows = affine_rows(cosine, sine, slope, scale, dy * shift, dx * shift, *centre)
    errors = [[entry.error for entry in row] for row in rows]
    return (Bound.of(np.moveaxis(np.array(errors).reshape(2, 3, -1), 2, 0)),)


def _elastic_error(inputs, dtype):
    """Two sums of products, their weights rounded, which are computed in float64 for any dtype;
    times alpha, which is rounded too, added to the place.
    """
    images, alpha, sigma = inputs["images"], inputs["alpha"], inputs["sigma"]
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    of_weight = u + 2 * ELEMENTARY * unit_roundoff(np.float64)
    terms = [min(n, 2 * int(4 * sigma + 0.5) + 1) for n in images.shape[-2:]]
    growth = sum(summation(n) for n in terms) * u + 2 * of_weight
    down, across = (smoothing(n, sigma, np.float64) for n in images.shape[-2:])
    drawn = down @ np.abs(noise(images, inputs["seed"], inputs["step"])) @ across
    moved = displacements(images, sigma, inputs["seed"], inputs["step"])
    errors = []
    for magnitude, way, place in zip(drawn, moved, pixels(images), strict=True):
        of_way = abs(alpha) * (growth * magnitude + 2 * u * np.abs(way) + sum(terms) * tiny)
        roundings = 1 + _of_fold(inputs["fill"])
        errors.append(of_way + tiny + roundings * u * (place + np.abs(alpha * way)))
    return _of_points(*errors, inputs, dtype)


# --- samples --------------------------------------------------------------------------------------


def _images(rng, case):
    batch, shape = case.sizes["batch"], sides(case.sizes["fan_in"])
    rows = case.rows(batch) if case.rows else rng.standard_normal((batch, math.prod(shape)))
    return {"images": np.ascontiguousarray(rows.reshape(batch, *shape), case.dtype)}


def _fill(rng, case):
    if not case.vary:
        return {}
    return {"fill": FILLS[rng.integers(len(FILLS))], "value": float(rng.normal())}


def _drawn_at(rng, case):
    if not case.vary:
        return {}
    seed, step = rng.integers(2**64, dtype=np.uint64), rng.integers(1, 2**32)
    return {"seed": int(seed), "step": int(step)}


def _distortion(rng, case):
    ranges = {"rotation": 180, "shift": 3, "zoom": 0.5, "shear": 40}
    return {name: float(rng.uniform(0, high)) for name, high in ranges.items()} if case.vary else {}


def _sample_affine(rng, case):
    given, (height, width) = _images(rng, case), sides(case.sizes["fan_in"])
    matrices = np.empty((case.sizes["batch"], 2, 3))
    ranges = _distortion(rng, case) or {"rotation": 15, "shift": 2, "zoom": 0.1, "shear": 10}
    random_affine(matrices, height, width, **ranges, seed=int(rng.integers(2**63)))
    return {**given, "matrices": matrices.astype(case.dtype), **_fill(rng, case)}


def _sample_random(rng, case):
    height, width = sides(case.sizes["fan_in"])
    matrices = rng.standard_normal((case.sizes["batch"], 2, 3)).astype(case.dtype)
    given = {"matrices": matrices, "height": height, "width": width}
    return {**given, **_distortion(rng, case), **_drawn_at(rng, case)}


def _sample_elastic(rng, case):
    alpha, sigma = (rng.normal(0, 10), rng.uniform(0.1, 6)) if case.vary else (8.0, SIGMA)
    given = {**_images(rng, case), "alpha": float(alpha), "sigma": float(sigma)}
    return {**given, **_drawn_at(rng, case), **_fill(rng, case)}


def _affine_edges(dtype):
    """Whole and half shifts, quarter turns, far away, one point; NaN and infinity in one place."""
    rng = np.random.default_rng(6)
    matrices = {
        "identity": [[1, 0, 0], [0, 1, 0]],
        "shift by pixels": [[1, 0, -2], [0, 1, 1]],
        "shift by halves": [[1, 0, 0.5], [0, 1, -1.5]],
        "quarter turn": [[0, -1, 3], [1, 0, 0]],
        "half turn": [[-1, 0, 4], [0, -1, 6]],
        "a period further": [[1, 0, 10], [0, 1, -7]],
        "far": [[1, 0, 1e6], [0, 1, -1e6]],
        "out of integers": [[1e30, 0, 0], [0, 1, 1e30]],
        "one point": [[0, 0, 1.25], [0, 0, 2.5]],
        "mirrored": [[1, 0, 0], [0, -1, 6]],
        "NaN": [[1, 0, np.nan], [0, 1, 0]],
        "infinite": [[1, 0, 0], [0, 1, np.inf]],
    }
    for (name, matrix), fill in ((m, fill) for m in matrices.items() for fill in FILLS):
        given = {"matrices": np.array([matrix] * 2, dtype), "fill": fill, "value": -0.75}
        yield f"{name}, {fill}", {"images": rng.standard_normal((2, 5, 7)).astype(dtype), **given}
        if name in ("identity", "shift by halves"):
            images = rng.standard_normal((2, 5, 7)).astype(dtype)
            images[0, 2, 3], images[1, 4, 0] = np.nan, np.inf
            yield f"{name} of NaN, {fill}", {"images": images, **given}
    for shape in ((2, 1, 1), (2, 1, 9), (2, 9, 1), (2, 3, 4, 5), (2, 1, 2, 1), (0, 3, 4)):
        for fill in FILLS:
            images = rng.standard_normal(shape).astype(dtype)
            given = {"matrices": rng.normal(0, 2, (shape[0], 2, 3)).astype(dtype), "fill": fill}
            yield f"{shape}, {fill}", {"images": images, **given}


def _random_edges(dtype):
    for height, width, ranges in (
        (1, 1, {"rotation": 359.0}),
        (28, 28, {"shift": 1e6}),
        (9, 1, {"shear": 89.0}),
        (5, 7, {"zoom": 0.999}),
        (8, 8, {}),
        (3, 4, {"rotation": 90.0, "shear": 45.0, "seed": 2**64 - 1, "step": 2**32 - 1}),
    ):
        matrices = np.full((5, 2, 3), np.nan, dtype)
        yield f"{ranges}", {"matrices": matrices, "height": height, "width": width, **ranges}


def _elastic_edges(dtype):
    rng = np.random.default_rng(9)
    for shape in ((2, 1, 1), (2, 1, 9), (3, 9, 1), (2, 3, 4, 5), (1, 40, 37), (0, 3, 4)):
        for fill, alpha, sigma in zip(FILLS, (0.0, -8.0, 30.0, 1e6), (0.1, 3, 1, 2.5), strict=True):
            given = {"alpha": alpha, "sigma": sigma, "fill": fill, "seed": 2**64 - 1}
            images = rng.standard_normal(shape).astype(dtype)
            yield f"{shape}, {given}", {"images": images, **given}


# --- work -----------------------------------------------------------------------------------------


def _affine_flops(batch, fan_in, **_):
    """Of a row two products and sums; of a pixel as many, place and distance, 3 interpolations."""
    height, _ = sides(fan_in)
    return batch * (4 * height + (4 + 4 + 9) * fan_in)


def _elastic_flops(batch, fan_in, **_):
    """Of both coordinates factor and shift, a product and a sum for each pixel in reach along each
    axis, alpha and place; else as above.
    """
    height, width = sides(fan_in)
    reached = _in_reach(height) * width + height * _in_reach(width)
    return batch * (2 * 2 * reached + (4 + 4 + 4 + 9) * fan_in)


def _in_reach(n):
    """How many pairs of n pixels in a row are RADIUS apart at most."""
    radius = min(RADIUS, n - 1)
    return n * (2 * radius + 1) - radius * (radius + 1)


_Y = (Result("y"),)
_SIZES = "batch", "fan_in"

OPERATIONS = (
    Operation(
        "affine_transform",
        affine_transform,
        _SIZES,
        _sample_affine,
        _affine_flops,
        lambda batch, fan_in, **_: batch * (2 * fan_in + 6),
        _Y,
        _affine_error,
        _affine_edges,
    ),
    # Five numbers of factor and shift, two angles, cosine, sine, tangent, two shifts, three for the
    # scale; 4 for R S, 4 to scale it, 5 for each offset.
    Operation(
        "random_affine",
        random_affine,
        _SIZES,
        _sample_random,
        lambda batch, **_: 38 * batch,
        lambda batch, **_: 6 * batch,
        (Result("matrices", updates=True),),
        _random_error,
        _random_edges,
    ),
    Operation(
        "elastic_transform",
        elastic_transform,
        _SIZES,
        _sample_elastic,
        _elastic_flops,
        lambda batch, fan_in, **_: 2 * batch * fan_in,
        _Y,
        _elastic_error,
        _elastic_edges,
    ),
)
