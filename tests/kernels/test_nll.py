"""The negative log-likelihood of labels: identities, weights, ignored labels and reductions."""

import math

import numpy as np
import pytest
from conftest import call, case, on_device, verify

import reference

PLAIN, WEIGHTED = (o for o in reference.FAMILIES["losses"] if o.name == "nll")


def numbers(backend, name, *arrays, **settings):
    """What a loss returns, as host arrays."""
    arrays = (backend.asarray(np.array(array)) for array in arrays)
    return [backend.to_host(r) for r in getattr(backend, name)(*arrays, **settings)]


def test_of_log_softmax_it_is_the_cross_entropy_of_the_logits(backend):
    """Its gradient too, carried on through log_softmax: dx = dy - p sum dy."""
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((20, 7)), rng.integers(0, 7, 20)
    y = backend.to_host(backend.log_softmax(backend.asarray(logits)))
    loss, dy = numbers(backend, "nll", y, labels)
    expected, dlogits = numbers(backend, "softmax_cross_entropy", logits, labels)
    assert loss == pytest.approx(float(expected), rel=1e-14)
    dx = dy - np.exp(y) * dy.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(dx, dlogits, atol=1e-15)


def test_relative_frequencies_are_the_likeliest(backend):
    """Of one distribution for all rows: the gradient by its logits is zero there."""
    labels = np.array([0] * 5 + [1] * 2 + [2] * 13)
    p = np.array([5, 2, 13]) / 20
    y = np.tile(np.log(p), (20, 1))
    loss, dy = numbers(backend, "nll", y, labels)
    assert loss == pytest.approx(-(p * np.log(p)).sum(), rel=1e-14)
    by_logits = (dy - p * dy.sum(axis=1, keepdims=True)).sum(axis=0)
    np.testing.assert_allclose(by_logits, 0, atol=1e-15)


def test_worked_example(backend):
    """Weights 1, 2 and 3 of the true classes, the last row ignored."""
    y = np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.6, 0.2, 0.2]])
    settings = {"class_weights": backend.asarray(np.array([1.0, 2.0, 3.0])), "ignore_index": -1}
    labels = np.array([0, 1, 2, -1])
    loss, dy = numbers(backend, "nll", y, labels, **settings)
    total = math.log(2) - 2 * math.log(0.8) - 3 * math.log(0.4)
    assert loss == pytest.approx(total / 6, rel=1e-14)
    expected = -np.diag([1.0, 2.0, 3.0]) / 6
    np.testing.assert_allclose(dy, [*expected, [0, 0, 0]], rtol=1e-15)
    loss, dy = numbers(backend, "nll", y, labels, reduction="sum", **settings)
    assert loss == pytest.approx(total, rel=1e-14)
    np.testing.assert_allclose(dy, [*(6 * expected), [0, 0, 0]], rtol=1e-15)
    loss, _ = numbers(backend, "nll", y, labels, reduction="none", **settings)
    np.testing.assert_allclose(loss, [*(-6 * np.diag(expected) * np.diag(-y)), 0], rtol=1e-14)


@pytest.mark.parametrize("settings", [{}, {"ignore_index": 2}])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradient_is_central_differences(settings, reduction):
    inputs = WEIGHTED.sample(np.random.default_rng(1), case(6, 1, 4, "float64"))
    inputs |= {"ignore_index": None, **settings, "reduction": reduction}
    _, gradient = reference.nll(**inputs)
    h = 1e-5
    for index in np.ndindex(gradient.shape):
        ends = []
        for sign in (1, -1):
            moved = inputs["log_probabilities"].copy()
            moved[index] += sign * h
            loss, _ = reference.nll(**{**inputs, "log_probabilities": moved})
            ends.append(loss.sum())
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(gradient[index], abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operation", [PLAIN, WEIGHTED], ids=str)
def test_every_row_has_its_loss(backend, operation, dtype):
    rng = np.random.default_rng(2)
    for batch, classes in ((1, 1), (5, 3), (130, 70), (700, 2), (3, 1500)):
        inputs = operation.sample(rng, case(batch, 1, classes, dtype))
        verify(backend, operation, {**inputs, "reduction": "none"})
        verify(backend, operation, {**inputs, "labels": inputs["labels"].astype(np.int64)})


def test_nothing_is_left_of_a_mean(backend):
    """NaN, as in PyTorch, and no gradient; weights of zero leave nothing either."""
    y, labels = np.full((3, 2), -1.0), np.array([1, 1, 1])
    loss, gradient = numbers(backend, "nll", y, labels, ignore_index=1)
    assert np.isnan(loss)
    assert not gradient.any()
    weights = backend.asarray(np.array([1.0, 0.0]))
    loss, gradient = numbers(backend, "nll", y, labels, class_weights=weights)
    assert np.isnan(loss)
    assert np.isnan(gradient[:, 1]).all()


def test_a_label_out_of_range_is_no_error_where_it_is_ignored(fast_backend):
    y = fast_backend.asarray(np.full((40, 3), -1.0, np.float32))
    labels = np.zeros(40, np.int64)
    labels[[3, 39]] = -100
    there = fast_backend.asarray(labels)
    loss, _ = fast_backend.nll(y, there, ignore_index=-100)
    fast_backend.synchronize()
    assert float(fast_backend.to_host(loss)) == 1
    for other in (None, -99, 0):
        with pytest.raises(ValueError, match=r"labels must be in 0 \.\.\. 2"):
            _call_and_wait(fast_backend, y, there, other)


def _call_and_wait(backend, y, labels, ignore_index):
    backend.nll(y, labels, ignore_index=ignore_index)
    backend.synchronize()


def test_the_gradient_may_replace_the_log_probabilities(fast_backend):
    for operation in (PLAIN, WEIGHTED):
        inputs = operation.sample(np.random.default_rng(3), case(300, 1, 40))
        _, expected, _ = call(fast_backend, operation, inputs)
        given = on_device(fast_backend, inputs)
        out = fast_backend.asarray(np.zeros((), np.float32)), given["log_probabilities"]
        for got, want in zip(fast_backend.nll(**given, out=out), expected, strict=True):
            np.testing.assert_array_equal(fast_backend.to_host(got), want)


@pytest.mark.parametrize("shape", [(0, 5), (4, 0)])
def test_nothing(fast_backend, shape):
    values = fast_backend.asarray(np.zeros(shape, np.float32))
    labels = fast_backend.asarray(np.zeros(shape[0], np.int32))
    with pytest.raises(ValueError, match="log_probabilities must have at least one row"):
        fast_backend.nll(values, labels)


def test_weights_of_another_length_or_none_at_all(fast_backend):
    """Also none that the compiled kernel would take for no weights."""
    y = fast_backend.asarray(np.full((4, 3), -1.0, np.float32))
    labels = fast_backend.asarray(np.zeros(4, np.int32))
    for _ in range(2):
        out = fast_backend.nll(y, labels)
        for length in (0, 2, 4):
            weights = fast_backend.asarray(np.zeros(length, np.float32))
            with pytest.raises(ValueError, match="class_weights must have shape"):
                fast_backend.nll(y, labels, class_weights=weights, out=out)
