"""The cross-entropy of logits with weights, an ignored label, soft targets and every reduction."""

import numpy as np
import pytest
from conftest import call, case, on_device, verify

import reference

HARD, SMOOTHED, WEIGHTED, SOFT = (
    o for o in reference.FAMILIES["losses"] if o.name == "softmax_cross_entropy"
)
REDUCTIONS = "mean", "sum", "none"
over_reductions = pytest.mark.parametrize("reduction", REDUCTIONS)


def loss_of(backend, logits, labels, **settings):
    """(loss, dlogits) as host arrays."""
    arrays = {k: backend.asarray(v) for k, v in settings.items() if isinstance(v, np.ndarray)}
    given = backend.asarray(logits), backend.asarray(labels)
    results = backend.softmax_cross_entropy(*given, **{**settings, **arrays})
    backend.synchronize()
    return [backend.to_host(result) for result in results]


@over_reductions
@pytest.mark.parametrize("ignored", [None, 2])
def test_it_is_nll_of_log_softmax(backend, reduction, ignored):
    """Its gradient too, carried on through log_softmax: dx = dy - p sum dy."""
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((20, 7)), rng.integers(0, 7, 20)
    settings = {"reduction": reduction, "ignore_index": ignored}
    for weights in (None, rng.uniform(0.1, 2, 7)):
        loss, gradient = loss_of(backend, logits, labels, class_weights=weights, **settings)
        y = backend.log_softmax(backend.asarray(logits))
        there = None if weights is None else backend.asarray(weights)
        expected, dy = backend.nll(y, backend.asarray(labels), class_weights=there, **settings)
        y, expected, dy = map(backend.to_host, (y, expected, dy))
        np.testing.assert_allclose(loss, expected, rtol=1e-13, atol=1e-14)
        dx = dy - np.exp(y) * dy.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(gradient, dx, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_soft_targets_of_one_class_are_labels(backend, weighted, smoothing):
    """A mean of weighted ones has another divisor: the batch."""
    rng = np.random.default_rng(1)
    logits, labels = rng.standard_normal((20, 5)), rng.integers(0, 5, 20)
    settings = {"label_smoothing": smoothing}
    settings["class_weights"] = rng.uniform(0.1, 2, 5) if weighted else None
    for reduction in REDUCTIONS[weighted:]:
        of_labels = loss_of(backend, logits, labels, reduction=reduction, **settings)
        of_soft = loss_of(backend, logits, np.eye(5)[labels], reduction=reduction, **settings)
        for one, other in zip(of_labels, of_soft, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)


def test_at_the_targets_themselves_it_is_their_entropy(backend):
    """The least that it can be: Gibbs' inequality; the gradient is zero."""
    q = np.random.default_rng(2).dirichlet(np.ones(6), 30)
    loss, gradient = loss_of(backend, np.log(q) + 3, q, reduction="none")
    np.testing.assert_allclose(loss, -(q * np.log(q)).sum(axis=1), rtol=1e-13)
    np.testing.assert_allclose(gradient, 0, atol=1e-15)


@over_reductions
@pytest.mark.parametrize("operation", [WEIGHTED, SOFT], ids=str)
def test_gradient_is_central_differences(operation, reduction):
    inputs = operation.sample(np.random.default_rng(3), case(6, 1, 4, "float64"))
    inputs |= {"reduction": reduction, "label_smoothing": 0.2}
    inputs["class_weights"] = np.array([0.5, 2.0, 0.0, 1.0])
    _, gradient = reference.softmax_cross_entropy(**inputs)
    h = 1e-5
    for index in np.ndindex(gradient.shape):
        ends = []
        for sign in (1, -1):
            moved = inputs["logits"].copy()
            moved[index] += sign * h
            loss, _ = reference.softmax_cross_entropy(**{**inputs, "logits": moved})
            ends.append(loss.sum())
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(gradient[index], abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operation", [HARD, WEIGHTED, SOFT], ids=str)
def test_every_row_has_its_loss(backend, operation, dtype):
    """Soft targets with weights too."""
    rng = np.random.default_rng(4)
    for batch, classes in ((1, 1), (5, 3), (130, 70), (700, 2), (3, 1500)):
        inputs = operation.sample(rng, case(batch, 1, classes, dtype)) | {"reduction": "none"}
        verify(backend, operation, inputs)
        weights = rng.uniform(0.1, 2, classes).astype(dtype)
        verify(backend, operation, {**inputs, "class_weights": weights, "label_smoothing": 0.3})


def test_nothing_is_left_of_a_mean(backend):
    """NaN, as in PyTorch; no gradient of rows that are ignored."""
    logits, labels = np.zeros((3, 2)), np.array([1, 1, 1])
    loss, gradient = loss_of(backend, logits, labels, ignore_index=1)
    assert np.isnan(loss)
    assert not gradient.any()
    settings = {"class_weights": np.array([1.0, 0.0])}
    loss, gradient = loss_of(backend, logits, labels, **settings)
    assert np.isnan(loss)
    assert np.isnan(gradient).all()
    loss, gradient = loss_of(backend, logits, labels, reduction="sum", **settings)
    assert loss == 0
    assert not gradient.any()


def test_rows_that_are_ignored_may_hold_anything(backend):
    logits = np.array([[0.0, 0.0], [np.nan, 1.0], [np.inf, -np.inf]])
    loss, gradient = loss_of(backend, logits, np.array([1, -7, -7]), ignore_index=-7)
    assert loss == pytest.approx(np.log(2))
    np.testing.assert_allclose(gradient, [[0.5, -0.5], [0, 0], [0, 0]])


@pytest.mark.parametrize("bad", [-1, 3, 2**31 - 1, -(2**31)])
def test_a_label_out_of_range(fast_backend, bad):
    logits, labels = np.zeros((700, 3), np.float32), np.zeros(700, np.int32)
    for position in (0, 350, 699):
        labels[:] = 0
        labels[position] = bad
        for settings in ({"reduction": "none"}, {"class_weights": np.ones(3, np.float32)}):
            with pytest.raises(ValueError, match=r"labels must be in 0 \.\.\. 2"):
                loss_of(fast_backend, logits, labels, **settings)
        loss_of(fast_backend, logits, labels, ignore_index=bad)


@pytest.mark.parametrize("bad", [-1e-6, 1.001, np.nan, np.inf, -np.inf])
def test_a_soft_target_out_of_range(fast_backend, bad):
    """Raised at the call, or where the device is waited for; logits on the host then stay."""
    soft = np.full((90, 70), 1 / 70, np.float32)
    logits = np.random.default_rng(5).standard_normal(soft.shape).astype(np.float32)
    for place in ((0, 0), (44, 69), (89, 33)):
        spoilt = soft.copy()
        spoilt[place] = bad
        with pytest.raises(ValueError, match="labels must be from 0 to 1, got one outside"):
            loss_of(fast_backend, logits, spoilt)
        there, loss = (fast_backend.asarray(a) for a in (logits.copy(), np.zeros((), np.float32)))
        spoilt = fast_backend.asarray(spoilt)
        with pytest.raises(ValueError, match="labels must be from 0 to 1, got one outside"):
            _call_and_wait(fast_backend, there, spoilt, (loss, there))
        if fast_backend.to_host(there) is there:
            np.testing.assert_array_equal(there, logits)


def _call_and_wait(backend, logits, labels, out):
    backend.softmax_cross_entropy(logits, labels, out=out)
    backend.synchronize()


def test_soft_targets_ignore_no_label(fast_backend):
    logits, soft = (fast_backend.asarray(np.full((4, 2), 0.5, np.float32)) for _ in range(2))
    with pytest.raises(ValueError, match="ignore_index must be None for soft targets, got 1"):
        fast_backend.softmax_cross_entropy(logits, soft, ignore_index=1)
    with pytest.raises(TypeError, match="labels must be float32, got float64"):
        fast_backend.softmax_cross_entropy(logits, fast_backend.asarray(np.full((4, 2), 0.5)))
    one_hot = fast_backend.asarray(np.zeros((4, 2), np.int32))
    with pytest.raises(ValueError, match=r"labels must have shape \(4,\), got \(4, 2\)"):
        fast_backend.softmax_cross_entropy(logits, one_hot)


@pytest.mark.parametrize("operation", [WEIGHTED, SOFT], ids=str)
def test_the_gradient_may_replace_the_logits(fast_backend, operation):
    """Also in rows that no register holds: they are read twice."""
    for classes in (3, 40, 600, 3000):
        inputs = operation.sample(np.random.default_rng(6), case(70, 1, classes))
        _, expected, _ = call(fast_backend, operation, inputs)
        given = on_device(fast_backend, inputs)
        out = fast_backend.asarray(np.zeros((), np.float32)), given["logits"]
        for got, want in zip(
            fast_backend.softmax_cross_entropy(**given, out=out), expected, strict=True
        ):
            np.testing.assert_array_equal(fast_backend.to_host(got), want)


@pytest.mark.parametrize("operation", [WEIGHTED, SOFT], ids=str)
def test_results_do_not_depend_on_the_threads(operation):
    import numba

    from kernels import numba_cpu

    threads = numba.get_num_threads()
    for shape in ((3000, 1, 10), (200, 1, 500)):
        inputs = operation.sample(np.random.default_rng(7), case(*shape))
        expected = numba_cpu.softmax_cross_entropy(**inputs)
        try:
            numba.set_num_threads(1)
            for got, want in zip(numba_cpu.softmax_cross_entropy(**inputs), expected, strict=True):
                np.testing.assert_array_equal(got, want)
        finally:
            numba.set_num_threads(threads)
