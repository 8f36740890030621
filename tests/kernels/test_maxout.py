"""Maxout: the activations that it becomes, its gradient, and where it goes."""

import numpy as np
import pytest
from conftest import over_dtypes

import reference


def pieces_of(w, *factors):
    """Weights (fan_in, pieces, units): so many times w each."""
    return np.stack([np.asarray(factor, w.dtype) * w for factor in factors], axis=1)


@over_dtypes
@pytest.mark.parametrize(
    ("factors", "activation", "alpha"),
    [((1, 0), "relu", None), ((1, 0.25), "leaky_relu", 0.25), ((1, -1), "rectifier", -1.0)],
    ids=["relu", "leaky_relu", "absolute"],
)
def test_two_pieces_are_rectifiers(backend, factors, activation, alpha, dtype):
    """Exactly: of small integers every sum is exact, in whatever order."""
    rng = np.random.default_rng(0)
    x, w, dy = (rng.integers(-8, 9, s).astype(dtype) for s in ((33, 20), (20, 17), (33, 17)))
    zero = np.zeros(17, dtype)
    given = [backend.asarray(a) for a in (x, pieces_of(w, *factors), np.stack([zero, zero]))]
    y, z = backend.maxout_forward(*given)
    x, w, dy, zero = (backend.asarray(a) for a in (x, w, dy, zero))
    pre = backend.dense_forward(x, w, zero)
    expected = backend.activation_forward(pre, activation, alpha)
    np.testing.assert_array_equal(backend.to_host(y), backend.to_host(expected))

    dx, *_ = backend.maxout_backward(dy, *given[:2], z)
    host = backend.to_host(pre)
    slopes = np.where(host > 0, *factors).astype(dtype)
    slopes[host == 0] = factors[0]  # a tie is the first piece's
    np.testing.assert_array_equal(
        backend.to_host(dx), (backend.to_host(dy) * slopes) @ backend.to_host(w).T
    )


@over_dtypes
def test_tangents_approximate_the_square(backend, dtype):
    """Eight tangents of x^2 at the middles of eighths of [-1, 1] are (1/8)^2 off, at their ends."""
    at = (np.arange(8) + 0.5) / 4 - 1
    weight, bias = (2 * at).astype(dtype).reshape(1, 8, 1), (-(at**2)).astype(dtype).reshape(8, 1)
    x = np.linspace(-1, 1, 1001, dtype=dtype).reshape(-1, 1)
    y, _ = backend.maxout_forward(*(backend.asarray(a) for a in (x, weight, bias)))
    error = x.astype(np.float64) ** 2 - backend.to_host(y)
    assert error.min() >= -1e-6
    assert 0.9 / 64 <= error.max() <= 1 / 64 + 1e-6


def test_gradients_are_central_differences():
    rng, step = np.random.default_rng(1), 1e-6
    inputs = [rng.standard_normal(shape) for shape in ((6, 4), (4, 3, 5), (3, 5))]
    dy = rng.standard_normal((6, 5))
    _, z = reference.maxout_forward(*inputs)
    gradients = reference.maxout_backward(dy, *inputs[:2], z)
    for array, gradient in zip(inputs, gradients, strict=True):
        for place in np.ndindex(array.shape):
            around = []
            for sign in (1, -1):
                array[place] += sign * step
                around.append((dy * reference.maxout_forward(*inputs)[0]).sum())
                array[place] -= sign * step
            difference = (around[0] - around[1]) / (2 * step)
            assert gradient[place] == pytest.approx(difference, rel=1e-6, abs=1e-7)


def test_a_tie_is_the_first_pieces(backend):
    z = np.array([[[1.0, 2.0], [1.0, 3.0], [0.5, 3.0]]])
    x, weight, dy = np.ones((1, 1)), np.ones((1, 3, 2)), np.array([[5.0, 7.0]])
    given = (backend.asarray(a) for a in (dy, x, weight, z))
    _, _, dbias = backend.maxout_backward(*given)
    np.testing.assert_array_equal(backend.to_host(dbias), [[5, 0], [0, 7], [0, 0]])


BAD = [
    ("x", lambda a: a[0], "must have 2 dimensions"),
    ("weight", lambda a: a[:, 0], "must have 3 dimensions"),
    ("weight", lambda a: a[:, :0], "must have at least one piece"),
    ("weight", lambda a: a[:3].copy(), "must have shape"),
    ("weight", lambda a: a.astype(np.float64), "must be float32"),
    ("bias", lambda a: a[:1].copy(), "must have shape"),
    ("bias", lambda a: a.tolist(), "must be a "),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BAD)
def test_bad_input_is_named(fast_backend, name, spoil, message):
    rng = np.random.default_rng(2)
    shapes = {"x": (6, 4), "weight": (4, 3, 5), "bias": (3, 5)}
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    spoilt = spoil(arrays[name])
    given = {n: fast_backend.asarray(a) for n, a in arrays.items()}
    given[name] = spoilt if isinstance(spoilt, list) else fast_backend.asarray(spoilt.copy())
    with pytest.raises((TypeError, ValueError), match=f"^{name} {message}"):
        fast_backend.maxout_forward(**given)


def test_bad_gradients_and_outputs_are_named(fast_backend):
    rng = np.random.default_rng(3)
    dy, x, weight, z = (
        fast_backend.asarray(rng.standard_normal(shape).astype(np.float32))
        for shape in ((6, 5), (6, 4), (4, 3, 5), (6, 3, 5))
    )
    backward = fast_backend.maxout_backward
    with pytest.raises(ValueError, match=r"^x must have shape \(5, 4\)"):
        backward(dy[:5], x, weight, z)
    with pytest.raises(ValueError, match=r"^z must have shape \(6, 3, 5\)"):
        backward(dy, x, weight, z[:5])
    with pytest.raises(ValueError, match=r"^weight must have shape \(4, 3, 4\)"):
        backward(fast_backend.asarray(np.ones((6, 4), np.float32)), x, weight, z)
    with pytest.raises(ValueError, match=r"^out must be a tuple of 3 arrays"):
        backward(dy, x, weight, z, out=(x, weight))
    dbias = fast_backend.asarray(np.zeros((3, 5), np.float32))
    before = fast_backend.to_host(weight).copy()
    other = fast_backend.asarray(np.zeros((6, 4), np.float32))
    with pytest.raises(ValueError, match=r"^out\[1\] .* weight"):
        backward(dy, x, weight, z, out=(other, weight, dbias))
    np.testing.assert_array_equal(fast_backend.to_host(weight), before)
