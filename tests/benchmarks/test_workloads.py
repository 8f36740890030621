"""The data sets: what is trained on, always the same."""

import numpy as np
import pytest

from benchmarks.suites import workloads


def fresh(workload):
    """The training set, read once more."""
    return workloads._loaded.__wrapped__(workload)[0]


@pytest.mark.parametrize(
    ("workload", "rows", "features", "classes"),
    [
        ("moons", 700, 2, 2),
        ("circles", 700, 2, 2),
        ("digits", 1257, 64, 10),
        ("mnist", 3500, 784, 10),
        ("wide", 3500, 2048, 10),
    ],
)
def test_training_data(monkeypatch, workload, rows, features, classes):
    monkeypatch.setattr(workloads, "mnist_files", tuple)
    x, labels = fresh(workload)
    assert x.shape == (rows, features)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    assert labels.shape == (rows,)
    assert labels.dtype == np.int32
    assert set(labels) == set(range(classes))
    assert np.isfinite(x).all()
    assert workloads.batches(workload) == (1, 16, 32, 128, rows)
    if workload in ("digits", "mnist"):
        assert x.min() == 0
        assert x.max() == 1
    else:
        np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=2e-3)


def test_data_is_the_same_when_made_anew(monkeypatch, tmp_path):
    x, labels = workloads.training("digits")
    monkeypatch.setattr(workloads, "CACHE", tmp_path)
    again, labels_again = fresh("digits")
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_held_out_is_the_rest():
    from sklearn.datasets import load_digits

    (x, labels), (held, held_labels) = workloads.training("digits"), workloads.held_out("digits")
    assert len(x) + len(held) == 1797
    assert held.dtype == np.float32
    pixels, numbers = load_digits(return_X_y=True)

    def in_order(x, labels):
        rows = np.column_stack([x * 16, labels])
        return rows[np.lexsort(rows.T)]

    both = np.concatenate([x, held]), np.concatenate([labels, held_labels])
    np.testing.assert_array_equal(in_order(*both), in_order(pixels / 16, numbers))


def test_points_are_standardised_by_what_is_trained_on():
    x, labels, count = workloads.points("circles", 0.3)
    assert (x.shape, labels.shape, count) == ((1000, 2), (1000,), 700)
    np.testing.assert_allclose(x[:count].mean(axis=0), 0, atol=1e-12)
    assert abs(x[count:].mean()) > 1e-6


def test_updates_an_epoch():
    """The course's example: six samples give one, three and six updates at batch 6, 2 and 1."""
    assert [len(workloads.minibatches(6, batch)) for batch in (6, 2, 1)] == [1, 3, 6]
    assert workloads.minibatches(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_first_layers_take_real_rows():
    layers = workloads.layers()
    assert layers["mnist-784x512"].rows(16).shape == (16, 784)
    np.testing.assert_array_equal(
        layers["moons-2x32"].rows(32), workloads.training("moons")[0][:32]
    )
    assert layers["mnist-512x512"].rows is None
    with pytest.raises(ValueError, match="batch must be at most 700 for moons, got 701"):
        layers["moons-2x32"].rows(701)


@pytest.mark.parametrize("held", [0, 5])
@pytest.mark.parametrize("form", ["npz", "idx"])
def test_full_mnist_from_files(monkeypatch, tmp_path, form, held):
    images = np.random.default_rng(0).integers(0, 256, (20 + held, 28, 28), np.uint8)
    labels = np.arange(20 + held, dtype=np.uint8) % 10
    parts = {"train": slice(20), **({"t10k": slice(20, None)} if held else {})}
    if form == "npz":
        names = dict(zip(("train", "t10k"), ("train", "test"), strict=True))
        arrays = {f"x_{names[part]}": images[rows] for part, rows in parts.items()}
        labelled = {f"y_{names[part]}": labels[rows] for part, rows in parts.items()}
        np.savez(tmp_path / "mnist.npz", **arrays, **labelled)
    for part, rows in parts.items() if form == "idx" else ():
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images[rows])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels[rows])
    monkeypatch.setenv("FUSEBENCH_MNIST", str(tmp_path))
    monkeypatch.setattr(workloads, "CACHE", tmp_path / "cache")
    found = workloads._loaded.__wrapped__("mnist")
    for (x, y), rows in zip(found, (slice(20), slice(20, None)), strict=True):
        np.testing.assert_allclose(x, images[rows].reshape(-1, 784) / np.float32(255))
        np.testing.assert_array_equal(y, labels[rows])


def write_idx(path, array):
    sizes = np.array(array.shape, ">i4").tobytes()
    path.write_bytes(bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes())


def test_missingmnist_files_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSEBENCH_MNIST", str(tmp_path))
    with pytest.raises(ValueError, match=r"FUSEBENCH_MNIST: neither mnist.npz nor train-images"):
        workloads.full("mnist")
