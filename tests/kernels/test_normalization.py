"""Normalisation: what it makes of its input, its gradients, what runs along, and bad arguments."""

import numpy as np
import pytest
from conftest import over_dtypes

import reference

UNITS = 5


def arrays(backend, *shapes, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [backend.asarray(rng.standard_normal(shape).astype(dtype)) for shape in shapes]


def ones_and_zeros(backend, dtype="float32"):
    """gamma, beta, and what runs along at the start."""
    fill = (np.ones, np.zeros, np.zeros, np.ones)
    return [backend.asarray(make(UNITS, dtype)) for make in fill]


@over_dtypes
def test_it_normalises_far_from_zero(backend, dtype):
    """Of mean 1e4 and deviation 1: means of squares less squared means have no digit left."""
    rng = np.random.default_rng(1)
    x = backend.asarray((1e4 + rng.standard_normal((400, UNITS))).astype(dtype))
    gamma, beta, mean, variance = ones_and_zeros(backend, dtype)
    y, _, _ = backend.batch_norm_forward(x, gamma, beta, mean, variance, eps=1e-12)
    y = backend.to_host(y).astype(np.float64)
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=2e-3)
    y, _, rstd = backend.layer_norm_forward(x, gamma, beta, eps=1e-12)
    expected = backend.to_host(x).astype(np.float64).std(axis=1)
    np.testing.assert_allclose(1 / backend.to_host(rstd), expected, rtol=2e-3)


def test_what_runs_along_becomes_the_data_s(backend):
    """Over many batches of one distribution: its mean and its variance, without bias."""
    rng = np.random.default_rng(2)
    gamma, beta, mean, variance = ones_and_zeros(backend, "float64")
    for _ in range(2000):
        x = backend.asarray(3 + 2 * rng.standard_normal((4, UNITS)))
        backend.batch_norm_forward(x, gamma, beta, mean, variance, momentum=0.01)
    np.testing.assert_allclose(backend.to_host(mean), 3, atol=0.3)
    np.testing.assert_allclose(backend.to_host(variance), 4, rtol=0.2)  # with bias it is 3


def test_inference_is_training_once_the_moments_are_the_batch_s(backend):
    (x,), (gamma, beta, *running) = arrays(backend, (50, UNITS), dtype="float64"), arrays(
        backend, *[UNITS] * 4, dtype="float64", seed=3
    )  # fmt: skip
    y, mean, rstd = backend.batch_norm_forward(x, gamma, beta, *running)
    variance = backend.asarray(1 / backend.to_host(rstd) ** 2 - 1e-5)
    again = backend.batch_norm_inference(x, gamma, beta, mean, variance)
    np.testing.assert_allclose(backend.to_host(again), backend.to_host(y), rtol=1e-12, atol=1e-12)
    assert backend.batch_norm_inference(x, gamma, beta, mean, variance, out=x) is x
    np.testing.assert_array_equal(backend.to_host(x), backend.to_host(again))


FORWARDS = "batch_norm_forward", "batch_norm_inference", "layer_norm_forward"


def called(backend, function, x, vectors, **given):
    """What comes of x; arrays that are updated are copies."""
    gamma, beta, *running = (backend.asarray(backend.to_host(v).copy()) for v in vectors)
    running = () if function == "layer_norm_forward" else running
    results = getattr(backend, function)(x, gamma, beta, *running, **given)
    return [backend.to_host(r) for r in (results if isinstance(results, tuple) else (results,))]


@pytest.mark.parametrize("function", FORWARDS)
def test_a_skip_is_added_to_y_alone(backend, function):
    """It may be x, as where a residual branch begins with the normalisation."""
    x, vectors = arrays(backend, (37, UNITS))[0], arrays(backend, *[UNITS] * 3, seed=3)
    vectors += [backend.asarray(np.full(UNITS, 0.7, np.float32))]
    y, *others = called(backend, function, x, vectors)
    for skip in (np.zeros_like(y), np.full_like(y, 1000), backend.to_host(x)):
        skip_there = x if np.array_equal(skip, backend.to_host(x)) else backend.asarray(skip)
        got, *same = called(backend, function, x, vectors, skip=skip_there)
        np.testing.assert_allclose(got, y + skip, rtol=1e-6, atol=1e-6)
        for one, other in zip(same, others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("function", FORWARDS)
def test_a_skip_may_begin_anywhere(fast_backend, function):
    """A view need not begin on the border of a vector."""
    x, vectors = arrays(fast_backend, (37, UNITS))[0], arrays(fast_backend, *[UNITS] * 4, seed=3)
    vectors[3] = fast_backend.asarray(np.full(UNITS, 0.7, np.float32))
    flat = np.arange(37 * UNITS + 1, dtype=np.float32)
    skip, view = flat[1:].reshape(37, UNITS), fast_backend.asarray(flat)[1:].reshape(37, UNITS)
    expected, *_ = called(
        fast_backend, function, x, vectors, skip=fast_backend.asarray(skip.copy())
    )
    got, *_ = called(fast_backend, function, x, vectors, skip=view)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("function", FORWARDS)
def test_bad_skips_are_named_and_nothing_is_updated(fast_backend, function):
    """At every call: the first may compile what checks the second."""
    host = given(fast_backend, function)
    if function == "batch_norm_inference":
        y, results = fast_backend.asarray(np.zeros((6, UNITS), np.float32)), ()
    else:
        places = 6 if function == "layer_norm_forward" else UNITS
        y, *results = arrays(fast_backend, (6, UNITS), places, places)
    out = (y, *results) if results else y
    name = r"out\[0\]" if results else "out"
    ones = np.ones((6, UNITS), np.float32)
    good, wide = (fast_backend.asarray(ones.astype(dtype)) for dtype in ("float32", "float64"))
    few, row = fast_backend.asarray(ones[:5].copy()), fast_backend.asarray(ones[0].copy())
    for _ in range(2):
        inputs = {n: fast_backend.asarray(a) for n, a in host.items()}
        for skip, message in (
            (few, r"skip must have shape \(6, 5\), got \(5, 5\)"),
            (row, r"skip must have shape \(6, 5\), got \(5,\)"),
            (wide, "skip must be float32, got float64"),
            ([1.0], "skip must be a "),
            (y, f"{name} must not share memory with skip"),
        ):
            with pytest.raises((TypeError, ValueError), match=f"^{message}"):
                getattr(fast_backend, function)(**inputs, skip=skip, out=out)
        for key, array in host.items():
            np.testing.assert_array_equal(fast_backend.to_host(inputs[key]), array)
        getattr(fast_backend, function)(**inputs, skip=good, out=out)


def test_one_row_is_its_offset(backend):
    gamma, _, mean, variance = ones_and_zeros(backend)
    (x,), beta = arrays(backend, (1, UNITS)), backend.asarray(np.full(UNITS, 7, np.float32))
    y, _, _ = backend.batch_norm_forward(x, gamma, beta, mean, variance)
    np.testing.assert_array_equal(backend.to_host(y), np.full((1, UNITS), 7))
    np.testing.assert_allclose(backend.to_host(variance), 0.9, rtol=1e-6)


@pytest.mark.parametrize(("kind", "places"), [("batch", UNITS), ("layer", 33)])
def test_a_gradient_may_replace_what_it_is_by(backend, kind, places):
    dy, x, *vectors = arrays(backend, *[(33, UNITS)] * 2, *[UNITS] * 3, *[places] * 2)
    (gamma, dgamma, dbeta), (mean, rstd) = vectors[:3], vectors[3:]
    backward = getattr(backend, f"{kind}_norm_backward")
    expected = [backend.to_host(g) for g in backward(dy, x, gamma, mean, rstd)]
    got = backward(dy, x, gamma, mean, rstd, out=(dy, dgamma, dbeta))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(backend.to_host(one), other)


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_gradients_are_central_differences(kind):
    rng, step = np.random.default_rng(6), 1e-5
    inputs = [rng.standard_normal(shape) for shape in ((6, UNITS), UNITS, UNITS)]
    dy = rng.standard_normal((6, UNITS))

    def forward():
        running = (np.zeros(UNITS), np.ones(UNITS)) if kind == "batch" else ()
        return getattr(reference, f"{kind}_norm_forward")(*inputs, *running, eps=0.1)

    _, mean, rstd = forward()
    x, gamma, _ = inputs
    gradients = getattr(reference, f"{kind}_norm_backward")(dy, x, gamma, mean, rstd)
    for array, gradient in zip(inputs, gradients, strict=True):
        for place in np.ndindex(array.shape):
            around = []
            for sign in (1, -1):
                array[place] += sign * step
                around.append((dy * forward()[0]).sum())
                array[place] -= sign * step
            difference = (around[0] - around[1]) / (2 * step)
            assert gradient[place] == pytest.approx(difference, rel=1e-6, abs=1e-8)


def test_an_infinity_leaves_nothing_finite_where_it_is(backend):
    x = np.random.default_rng(9).standard_normal((40, UNITS)).astype(np.float32)
    x[3, 1] = np.inf
    x, (gamma, beta, mean, variance) = backend.asarray(x), ones_and_zeros(backend)
    with np.errstate(invalid="ignore"):
        y, *_ = backend.batch_norm_forward(x, gamma, beta, mean, variance)
        finite = np.isfinite(backend.to_host(y))
        assert not finite[:, 1].any()
        assert finite[:, [0, 2, 3, 4]].all()
        y, *_ = backend.layer_norm_forward(x, gamma, beta)
    finite = np.isfinite(backend.to_host(y))
    assert not finite[3].any()
    assert np.delete(finite, 3, axis=0).all()


FORWARD = ("x", "gamma", "beta", "running_mean", "running_variance")
BAD = [
    ("batch_norm_forward", "x", lambda a: a[0], "must have 2 dimensions"),
    ("batch_norm_forward", "x", lambda a: a[:0], "must have at least one row"),
    ("batch_norm_forward", "gamma", lambda a: a[1:].copy(), r"must have shape \(5,\)"),
    ("batch_norm_forward", "beta", lambda a: a.astype(np.float64), "must be float32"),
    ("batch_norm_forward", "running_mean", lambda a: a[1:].copy(), r"must have shape \(5,\)"),
    ("batch_norm_inference", "running_variance", lambda a: a.tolist(), "must be a "),
    ("layer_norm_forward", "gamma", lambda a: a[None], r"must have shape \(5,\)"),
    ("layer_norm_forward", "beta", lambda a: a[1:].copy(), r"must have shape \(5,\)"),
    ("batch_norm_backward", "mean", lambda a: a[1:].copy(), r"must have shape \(5,\)"),
    ("batch_norm_backward", "x", lambda a: a[1:].copy(), r"must have shape \(6, 5\)"),
    ("layer_norm_backward", "rstd", lambda a: a[:5].copy(), r"must have shape \(6,\)"),
    ("layer_norm_backward", "dy", lambda a: a[:, 0], "must have 2 dimensions"),
]


def given(backend, function):
    """Its arrays by name."""
    rng = np.random.default_rng(7)
    places = 6 if function == "layer_norm_backward" else UNITS
    shapes = {"dy": (6, UNITS), "x": (6, UNITS), "mean": places, "rstd": places}
    names = ("dy", "x", "gamma", "mean", "rstd") if "backward" in function else FORWARD
    names = FORWARD[:3] if function == "layer_norm_forward" else names
    return {n: rng.random(shapes.get(n, UNITS)).astype(np.float32) for n in names}


@pytest.mark.parametrize(("function", "name", "spoil", "message"), BAD)
def test_bad_arrays_are_named(fast_backend, function, name, spoil, message):
    host = given(fast_backend, function)
    spoilt, inputs = spoil(host[name]), {n: fast_backend.asarray(a) for n, a in host.items()}
    inputs[name] = spoilt if isinstance(spoilt, list) else fast_backend.asarray(spoilt.copy())
    with pytest.raises((TypeError, ValueError), match=f"^{name} {message}"):
        getattr(fast_backend, function)(**inputs)


@pytest.mark.parametrize(
    ("function", "setting", "message"),
    [
        ("batch_norm_forward", {"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ("batch_norm_forward", {"momentum": "0.1"}, "momentum must be a number"),
        ("batch_norm_forward", {"eps": 0.0}, "eps must be above 0"),
        ("batch_norm_inference", {"eps": -1.0}, "eps must be above 0"),
        ("layer_norm_forward", {"eps": np.nan}, "eps must be above 0"),
    ],
)
def test_bad_numbers_are_named_and_nothing_is_updated(fast_backend, function, setting, message):
    inputs = {n: fast_backend.asarray(a) for n, a in given(fast_backend, function).items()}
    before = {n: fast_backend.to_host(a).copy() for n, a in inputs.items()}
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        getattr(fast_backend, function)(**inputs, **setting)
    for name, array in inputs.items():
        np.testing.assert_array_equal(fast_backend.to_host(array), before[name])


def test_outputs_that_meet_others_are_named(fast_backend):
    x, y = arrays(fast_backend, (6, UNITS), (6, UNITS))
    gamma, beta, mean, variance, m, r = arrays(fast_backend, *[UNITS] * 6, seed=8)
    forward = fast_backend.batch_norm_forward
    for out, match in (
        ((x, m, r), r"^out\[0\] must not share memory with x$"),
        ((y, m, m), r"^out\[2\] must not share memory with out\[1\]$"),
        ((y, mean, r), r"^out\[1\] must not share memory with running_mean$"),
    ):
        with pytest.raises(ValueError, match=match):
            forward(x, gamma, beta, mean, variance, out=out)
    with pytest.raises(ValueError, match=r"^running_variance must not share memory with gamma$"):
        forward(x, gamma, beta, mean, gamma)
    with pytest.raises(ValueError, match=r"^running_variance must not .* running_mean$"):
        forward(x, gamma, beta, mean, mean)
    with pytest.raises(ValueError, match=r"^out\[0\] must not share memory with x$"):
        fast_backend.batch_norm_backward(y, x, gamma, mean, variance, out=(x, m, r))
    with pytest.raises(ValueError, match=r"^out must be a tuple of 3 arrays"):
        fast_backend.layer_norm_forward(x, gamma, beta, out=(y, m))
