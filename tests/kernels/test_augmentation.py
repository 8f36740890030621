"""Augmentation: against SciPy, where nothing is to be rounded, and what is drawn."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import on_device, over_dtypes

import reference
from kernels import catalog
from kernels.cupy_gpu.runtime import table
from reference import augmentation

over_fills = pytest.mark.parametrize("fill", augmentation.FILLS)
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
SCIPYS = {"constant": "grid-constant", "wrap": "grid-wrap"}  # names of fills where it has others
TEXT = Path(reference.__file__).parents[1] / "kernels" / "cupy_gpu" / "augmentation.cu"


def transformed(backend, images, matrix, dtype="float32", **given):
    """The images, all by one matrix, on the host."""
    matrices = np.repeat(np.asarray(matrix, dtype)[None], len(images), 0)
    images, matrices = (backend.asarray(np.asarray(a, dtype)) for a in (images, matrices))
    return backend.to_host(backend.affine_transform(images, matrices, **given))


def drawn(backend, count, height=8, width=8, dtype="float64", **given):
    matrices = backend.asarray(np.full((count, 2, 3), np.nan, dtype))
    backend.random_affine(matrices, height, width, **given)
    return backend.to_host(matrices)


# --- resampling -----------------------------------------------------------------------------------


@over_fills
def test_it_is_scipys(fill):
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(0)
    for shape in ((7, 9), (1, 5), (5, 1), (1, 1), (28, 28)):
        images, matrices = rng.standard_normal((3, *shape)), rng.normal(0, 2, (3, 2, 3))
        got = reference.affine_transform(images, matrices, fill=fill, value=1.7)
        settings = {"order": 1, "mode": SCIPYS.get(fill, fill), "cval": 1.7}
        for y, image, m in zip(got, images, matrices, strict=True):
            expected = ndimage.affine_transform(image, m[:, :2], m[:, 2], **settings)
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


@over_dtypes
@over_fills
def test_whole_pixels_are_kept(backend, fill, dtype):
    """The very image where nothing moves, and the very pixels where they move by whole ones."""
    images = np.random.default_rng(1).standard_normal((3, 6, 6)).astype(dtype)
    images[0, 0, 0] = np.finfo(dtype).max
    given = {"dtype": dtype, "fill": fill}
    np.testing.assert_array_equal(transformed(backend, images, IDENTITY, **given), images)
    clockwise = transformed(backend, images, [[0, -1, 5], [1, 0, 0]], **given)
    np.testing.assert_array_equal(clockwise, np.rot90(images, -1, axes=(1, 2)))
    moved = transformed(backend, images, [[1, 0, 2], [0, 1, -1]], **given)
    np.testing.assert_array_equal(moved[:, :-2, 1:], images[:, 2:, :-1])
    if fill == "wrap":
        np.testing.assert_array_equal(moved, np.roll(images, (-2, 1), axis=(1, 2)))


@over_fills
def test_it_is_continuous(fast_backend, fill):
    """Across the border too: no step is larger than the largest difference of neighbours."""
    image = np.random.default_rng(2).standard_normal((5, 5))
    steps = np.linspace(-13, 13, 521)
    matrices = np.repeat(IDENTITY[None], len(steps), 0)
    matrices[:, :, 2] = steps[:, None]
    images = np.repeat(image[None], len(steps), 0)
    given = on_device(fast_backend, {"images": images, "matrices": matrices})
    y = fast_backend.to_host(fast_backend.affine_transform(**given, fill=fill, value=3.0))
    assert np.abs(np.diff(y, axis=0)).max() <= 0.05 * 2 * 2 * max(3, np.abs(image).max())


def test_what_is_no_point_is_nan(backend):
    """In its image alone; far away there is the value."""
    images = np.ones((3, 4, 5), np.float32)
    matrices = np.repeat(IDENTITY[None], 3, 0).astype(np.float32)
    matrices[1, 0, 2], matrices[2, 1, 2] = np.nan, 1e30
    given = on_device(backend, {"images": images, "matrices": matrices})
    y = backend.to_host(backend.affine_transform(**given, value=7.0))
    np.testing.assert_array_equal(y[0], 1)
    assert np.isnan(y[1]).all()
    np.testing.assert_array_equal(y[2], 7)


def test_channels_go_along_with_their_image_and_rows_are_images(backend):
    rng = np.random.default_rng(3)
    images = rng.standard_normal((4, 3, 5, 6)).astype(np.float32)
    matrices = rng.normal(0, 1, (4, 2, 3)).astype(np.float32)
    rows = backend.asarray(images[:, 1].reshape(4, 30).copy())
    given, m = backend.asarray(images), backend.asarray(matrices)
    for call in (
        lambda x: backend.affine_transform(x, m, fill="reflect"),
        lambda x: backend.elastic_transform(x, 9.0, 1.5, seed=3, fill="reflect"),
    ):
        alone = backend.to_host(call(rows.reshape(4, 5, 6)))
        np.testing.assert_array_equal(backend.to_host(call(given))[:, 1], alone)


# --- what is drawn --------------------------------------------------------------------------------


def test_what_an_image_gets_is_its_numbers_alone(backend):
    """Whatever the others are; another seed, step or image has something else."""
    settings = {"rotation": 30, "shift": 2, "zoom": 0.3, "shear": 20}
    many = drawn(backend, 9, **settings, seed=5, step=2)
    np.testing.assert_array_equal(drawn(backend, 4, **settings, seed=5, step=2), many[:4])
    others = [many, *(drawn(backend, 9, **settings, **g) for g in ({"seed": 5}, {"seed": 2**40}))]
    assert len(np.unique(np.concatenate(others).reshape(27, 6), axis=0)) == 27
    images = np.random.default_rng(4).standard_normal((9, 5, 7))
    many = backend.to_host(backend.elastic_transform(backend.asarray(images), 20.0, 1.0, seed=1))
    few = backend.to_host(backend.elastic_transform(backend.asarray(images[:4]), 20.0, 1.0, seed=1))
    np.testing.assert_array_equal(few, many[:4])


def test_ranges_are_reached_and_kept(backend):
    """Each by itself, uniformly: of 400 the largest is within 2% of the limit."""
    centre = np.array([3.5, 4.5, 1])
    for name, limit in (("rotation", 40.0), ("shift", 2.5), ("zoom", 0.4), ("shear", 30.0)):
        m = drawn(backend, 400, 8, 10, **{name: limit}, seed=11)
        a, shift = m[:, :, :2], m @ centre - centre[:2]
        size = {
            "rotation": np.degrees(np.arctan2(a[:, 1, 0], a[:, 0, 0])),
            "shift": shift,
            "zoom": 1 / a[:, 0, 0] - 1,
            "shear": np.degrees(np.arctan(a[:, 1, 0])),
        }[name]
        assert 0.98 * limit < size.max() <= limit
        assert -0.98 * limit > size.min() >= -limit
        assert abs(size.mean()) < 0.15 * limit
        assert abs(size.std() / limit - 1 / math.sqrt(3)) < 0.06
        if name != "shift":  # the centre stays
            np.testing.assert_allclose(shift, 0, atol=1e-12)
        if name == "rotation":
            turned = np.swapaxes(a, 1, 2) @ a
            np.testing.assert_allclose(turned, np.broadcast_to(np.eye(2), turned.shape), atol=1e-12)
    np.testing.assert_array_equal(drawn(backend, 3), np.repeat(IDENTITY[None], 3, 0))


def test_the_field_is_smoothed_as_scipy_does():
    ndimage = pytest.importorskip("scipy.ndimage")
    images = np.zeros((3, 9, 28))
    field = augmentation.noise(images, 1, 2)
    for sigma in (0.1, 0.6, 4.0):
        expected = [[ndimage.gaussian_filter(p, sigma, mode="constant") for p in w] for w in field]
        got = augmentation.displacements(images, sigma, 1, 2)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)


def test_no_displacement_is_the_very_image(backend):
    images = np.random.default_rng(5).standard_normal((2, 5, 7)).astype(np.float32)
    got = backend.to_host(backend.elastic_transform(backend.asarray(images), 0.0, 2.0))
    np.testing.assert_array_equal(got, images)


def test_results_do_not_depend_on_the_number_of_threads():
    import numba

    from kernels import numba_cpu

    images = np.random.default_rng(6).standard_normal((700, 9, 11)).astype(np.float32)
    matrices = np.zeros((700, 2, 3), np.float32)
    found = []
    for threads in {1, numba.config.NUMBA_NUM_THREADS}:
        numba.set_num_threads(threads)
        try:
            numba_cpu.random_affine(matrices, 9, 11, rotation=20, shift=1, seed=3)
            y = numba_cpu.affine_transform(images, matrices, fill="wrap")
            z = numba_cpu.elastic_transform(images, 8.0, 2.0, seed=3)
        finally:
            numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        found.append((matrices.copy(), y, z))
    for results in found[1:]:
        for one, other in zip(results, found[0], strict=True):
            np.testing.assert_array_equal(one, other)


# --- arguments, and what is declared twice --------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "changed", "message"),
    [
        ("affine_transform", {"images": np.zeros((2, 3), "f")}, "images must have 3 or 4 dim"),
        ("affine_transform", {"images": np.zeros((2, 0, 3), "f")}, "images must have 1 to 2"),
        ("affine_transform", {"matrices": np.zeros((2, 2, 3))}, "matrices must be float32"),
        ("affine_transform", {"matrices": np.zeros((3, 2, 3), "f")}, "matrices must have shape"),
        ("elastic_transform", {"images": np.zeros((2, 0, 3), "f")}, "images must have 1 to 2"),
        ("elastic_transform", {"alpha": np.nan}, "alpha must be at least"),
        ("elastic_transform", {"alpha": "strong"}, "alpha must be a number"),
        ("elastic_transform", {"sigma": 0.0}, "sigma must be above 0"),
        ("elastic_transform", {"sigma": None}, "sigma must be a number"),
        ("random_affine", {"height": 0}, "height must be at least 1"),
        ("random_affine", {"width": 2.5}, "width must be an integer"),
        ("random_affine", {"matrices": np.zeros((2, 3, 2), "f")}, "matrices must have shape"),
    ],
)
def test_bad_arguments(fast_backend, function, changed, message):
    images, matrices = np.zeros((2, 3, 4), np.float32), np.zeros((2, 2, 3), np.float32)
    given = {
        "affine_transform": {"images": images, "matrices": matrices},
        "elastic_transform": {"images": images, "alpha": 8.0, "sigma": 4.0},
        "random_affine": {"matrices": matrices, "height": 3, "width": 4},
    }[function]
    call = getattr(fast_backend, function)
    call(**on_device(fast_backend, given))
    with pytest.raises((TypeError, ValueError), match=message):
        call(**on_device(fast_backend, {**given, **changed}))


def test_the_reference_the_catalogue_and_cuda_agree():
    assert tuple(catalog.FILLS) == augmentation.FILLS
    streams = augmentation.AFFINE_STREAM, augmentation.ELASTIC_STREAM
    assert streams == (catalog.AFFINE_STREAM, catalog.ELASTIC_STREAM)
    text = TEXT.read_text()
    names = re.search(r"enum Fill {(.*?)}", text)[1].replace(" ", "").split(",")
    assert [getattr(catalog, name) for name in names] == list(catalog.FILLS.values())
    assert int(re.search(r"SHARED_FIELD = (\d+);", text)[1]) == table.SHARED_FIELD
