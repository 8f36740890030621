"""The data sets: what is trained on, always the same."""

import numpy as np
import pytest

from benchmarks.suites import workloads


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
    monkeypatch.setattr(workloads, "_mnist_files", tuple)
    x, labels = workloads.training.__wrapped__(workload)
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
    again, labels_again = workloads.training.__wrapped__("digits")
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert len(list(tmp_path.iterdir())) == 1


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


@pytest.mark.parametrize("form", ["npz", "idx"])
def test_full_mnist_from_files(monkeypatch, tmp_path, form):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    if form == "npz":
        np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels)
    else:
        sizes = np.array([20, 28, 28], ">i4").tobytes()
        (tmp_path / "train-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + sizes + images.tobytes()
        )
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + sizes[:4] + labels.tobytes()
        )
    monkeypatch.setenv("FUSEBENCH_MNIST", str(tmp_path))
    monkeypatch.setattr(workloads, "CACHE", tmp_path / "cache")
    x, y = workloads.training.__wrapped__("mnist")
    np.testing.assert_allclose(x, images.reshape(20, 784) / np.float32(255))
    np.testing.assert_array_equal(y, labels)


def test_missing_mnist_files_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSEBENCH_MNIST", str(tmp_path))
    with pytest.raises(ValueError, match=r"FUSEBENCH_MNIST: neither mnist.npz nor train-images"):
        workloads.full("mnist")
