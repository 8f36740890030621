"""The data of the study."""

import numpy as np
import pytest

from benchmarks.study import data
from benchmarks.suites import workloads


@pytest.mark.parametrize("name", ["moons-0.1", "circles-0.3", "digits"])
def test_rows_are_split_seventy_to_thirty_and_always_the_same(name):
    rows = data.rows.__wrapped__(name)
    count = len(rows.x) + len(rows.held_x)
    assert len(rows.x) == int(0.7 * count)
    for x, labels in ((rows.x, rows.labels), (rows.held_x, rows.held_labels)):
        assert (x.dtype, labels.dtype, len(x)) == (np.float32, np.int32, len(labels))
        assert x.flags.c_contiguous
        assert set(labels) == set(range(rows.classes))
    again = data.rows.__wrapped__(name)
    np.testing.assert_array_equal(rows.held_x, again.held_x)
    np.testing.assert_array_equal(rows.labels, again.labels)


def test_the_full_mnist_needs_its_files(monkeypatch, tmp_path):
    monkeypatch.setattr(workloads, "mnist_files", tuple)
    images = np.zeros((10, 784), np.float32), np.arange(10, dtype=np.int32)
    monkeypatch.setattr(workloads, "training", lambda name: images)
    monkeypatch.setattr(workloads, "held_out", lambda name: images)
    assert data.rows.__wrapped__("mnist-5000").classes == 10
    with pytest.raises(ValueError, match="mnist-full needs the training and the test images"):
        data.rows.__wrapped__("mnist-full")


def test_the_5000_stay_the_5000_where_the_full_set_is(monkeypatch):
    monkeypatch.setattr(workloads, "mnist_files", lambda: ("mnist.npz",))
    made = np.zeros((10, 784)), np.arange(10), 7
    monkeypatch.setattr(workloads, "mnist_5000", lambda: made)
    rows = data.rows.__wrapped__("mnist-5000")
    assert (len(rows.x), len(rows.held_x)) == (7, 3)
