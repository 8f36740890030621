"""The losses' worked examples, and the gradient against central differences."""

import math

import numpy as np
import pytest

import reference


def test_worked_example_of_four_samples(backend):
    """The true classes have p = 0.70, 0.15, 0.60, 0.50; the mean loss is 0.865 to 1e-3."""
    probabilities = np.array(
        [[0.70, 0.20, 0.10], [0.05, 0.15, 0.80], [0.20, 0.20, 0.60], [0.25, 0.50, 0.25]]
    )
    labels = np.array([0, 1, 2, 1], np.int32)
    for dtype in ("float32", "float64"):
        p = backend.asarray(probabilities.astype(dtype))
        loss = backend.sparse_categorical_cross_entropy(p, backend.asarray(labels))
        loss = float(backend.to_host(loss))
        assert abs(loss - 0.865) < 1e-3
        assert loss == pytest.approx(-math.log(0.70 * 0.15 * 0.60 * 0.50) / 4, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_is_central_differences(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((4, 5)), rng.integers(0, 5, 4)
    _, gradient = reference.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
    h = 1e-5
    for index in np.ndindex(logits.shape):
        ends = []
        for sign in (1, -1):
            moved = logits.copy()
            moved[index] += sign * h
            loss, _ = reference.softmax_cross_entropy(moved, labels, label_smoothing=smoothing)
            ends.append(float(loss))
        assert abs((ends[0] - ends[1]) / (2 * h) - gradient[index]) < 1e-9


def test_loss_of_logits_is_loss_of_their_softmax(backend):
    rng = np.random.default_rng(1)
    logits, labels = rng.standard_normal((20, 10)), rng.integers(0, 10, 20)
    logits, labels = backend.asarray(logits), backend.asarray(labels)
    loss, _ = backend.softmax_cross_entropy(logits, labels)
    other = backend.sparse_categorical_cross_entropy(backend.softmax(logits), labels)
    loss, other = float(backend.to_host(loss)), float(backend.to_host(other))
    assert loss == pytest.approx(other, rel=1e-14)


def test_uniform_logits_lose_log_of_classes(backend):
    logits = backend.asarray(np.full((3, 10), 1e30, np.float32))
    loss, _ = backend.softmax_cross_entropy(logits, backend.asarray(np.array([0, 5, 9])))
    assert float(backend.to_host(loss)) == pytest.approx(math.log(10), rel=1e-6)


def test_rows_of_the_gradient_sum_to_zero(backend):
    rng = np.random.default_rng(2)
    logits = backend.asarray(rng.standard_normal((33, 17)).astype(np.float32))
    labels = backend.asarray(rng.integers(0, 17, 33))
    _, gradient = backend.softmax_cross_entropy(logits, labels, label_smoothing=0.2)
    # 17 terms of at most 1 / 33, each with a relative error of some 20 u.
    assert np.abs(backend.to_host(gradient).astype(np.float64).sum(axis=1)).max() < 20 * 2**-24


@pytest.mark.parametrize("bad", [-1, 10, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("integer", [np.int32, np.int64])
def test_label_out_of_range(fast_backend, bad, integer):
    """Raised at the call, or where the device is waited for; nothing out of bounds is read."""
    values = fast_backend.asarray(np.full((700, 10), 0.1, np.float32))
    for position in (0, 350, 699):
        labels = np.zeros(700, integer)
        labels[position] = bad
        there = fast_backend.asarray(labels)
        for name in ("softmax_cross_entropy", "sparse_categorical_cross_entropy", "nll"):
            with pytest.raises(ValueError, match=r"labels must be in 0 \.\.\. 9"):
                _call_and_wait(fast_backend, name, values, there)


def _call_and_wait(backend, name, values, labels):
    getattr(backend, name)(values, labels)
    backend.synchronize()


@pytest.mark.parametrize("classes", [3, 40, 513, 3000])
def test_the_gradient_may_replace_the_logits(fast_backend, classes):
    """Also in rows that no register holds: they are read several times."""
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((70, classes)).astype(np.float32)
    labels = fast_backend.asarray(rng.integers(0, classes, 70))
    there = fast_backend.asarray(logits)
    loss, dlogits = fast_backend.softmax_cross_entropy(there, labels, label_smoothing=0.1)
    p, same = fast_backend.softmax(there), fast_backend.asarray(logits.copy())
    assert fast_backend.softmax(same, out=same) is same
    np.testing.assert_array_equal(fast_backend.to_host(same), fast_backend.to_host(p))
    same[...] = there
    into = fast_backend.asarray(np.zeros((), np.float32))
    fast_backend.softmax_cross_entropy(same, labels, label_smoothing=0.1, out=(into, same))
    np.testing.assert_array_equal(fast_backend.to_host(same), fast_backend.to_host(dlogits))
    assert float(fast_backend.to_host(into)) == float(fast_backend.to_host(loss))
