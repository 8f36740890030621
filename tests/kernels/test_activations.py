"""What the product over the specifications cannot see: that the specification itself is right."""

import math

import numpy as np
import pytest

import kernels
import reference
from reference.activations import ACTIVATIONS

ALPHA = {"prelu": np.array([0.3, -0.2, 1.5]), "rectifier": np.array([0.3, -0.2, 1.5])}
ALPHA["selu"] = 0.7, 1.3


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivative_is_the_slope_of_the_function(activation):
    """Central differences: their error is h^2 / 6 times a third derivative below 2, and u / h."""
    z = np.random.default_rng(0).uniform(-4, 4, (50, 3))
    kinks = ACTIVATIONS[activation].kinks or (ACTIVATIONS[activation].alpha,)
    z = z[(np.abs(z[:, :, None] - kinks) > 1e-3).all(axis=(1, 2))]
    alpha, h = ALPHA.get(activation), 1e-5
    y = reference.activation_forward(z, activation, alpha)
    saved = z if ACTIVATIONS[activation].saves_input else y
    dz = reference.activation_backward(np.ones_like(z), saved, activation, alpha)
    dz = dz[0] if activation == "prelu" else dz
    above = reference.activation_forward(z + h, activation, alpha)
    below = reference.activation_forward(z - h, activation, alpha)
    np.testing.assert_allclose(dz, (above - below) / (2 * h), rtol=0, atol=1e-9)


def test_gradient_of_the_learned_slope():
    """y is linear in alpha, so that the difference quotient is exact but for rounding."""
    rng = np.random.default_rng(1)
    z, dy = rng.standard_normal((2, 20, 3))
    _, dalpha = reference.activation_backward(dy, z, "prelu", ALPHA["prelu"])
    for unit in range(3):
        change = np.zeros(3)
        change[unit] = 1.0
        above = reference.activation_forward(z, "prelu", ALPHA["prelu"] + change)
        below = reference.activation_forward(z, "prelu", ALPHA["prelu"])
        np.testing.assert_allclose(dalpha[unit], (dy * (above - below)).sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("activation", "alpha"), [("identity", 1.0), ("relu", 0.0), ("leaky_relu", 0.01)]
)
def test_rectifiers_are_cases_of_one_function(backend, activation, alpha):
    z = np.random.default_rng(2).standard_normal((9, 11))
    dy = np.random.default_rng(3).standard_normal((9, 11))
    z_there, dy_there = backend.asarray(z), backend.asarray(dy)
    one = backend.activation_forward(z_there, activation)
    general = backend.activation_forward(z_there, "rectifier", alpha)
    np.testing.assert_array_equal(backend.to_host(one), backend.to_host(general))
    one = backend.activation_backward(dy_there, one, activation)
    general = backend.activation_backward(dy_there, z_there, "rectifier", alpha)
    np.testing.assert_array_equal(backend.to_host(one), backend.to_host(general))


def test_selu_keeps_mean_and_variance():
    """The property for which Klambauer et al. chose lambda and alpha: (0, 1) is a fixed point."""
    z = np.random.default_rng(4).standard_normal((1000, 1000))
    y = reference.activation_forward(z, "selu")
    assert abs(y.mean()) < 0.01
    assert abs(y.var() - 1) < 0.01


def test_selu_by_a_pair(backend):
    """ONNX's Selu: gamma x, or gamma (alpha exp(x) - alpha) where x <= 0; of defaults, itself."""
    rng = np.random.default_rng(8)
    z, dy = (rng.standard_normal((9, 11)) for _ in range(2))
    there, gradient = backend.asarray(z), backend.asarray(dy)
    y = backend.activation_forward(there, "selu", (0.7, 1.9))
    expected = 1.9 * np.where(z > 0, z, 0.7 * np.exp(z) - 0.7)
    np.testing.assert_allclose(backend.to_host(y), expected, rtol=1e-14, atol=1e-15)
    dz = backend.to_host(backend.activation_backward(gradient, y, "selu", [0.7, 1.9]))
    np.testing.assert_allclose(dz, dy * 1.9 * np.where(z > 0, 1, 0.7 * np.exp(z)), rtol=1e-13)
    calls = ("activation_forward", (there,)), ("activation_backward", (gradient, y))
    for function, given in calls:
        one, other = (
            backend.to_host(getattr(backend, function)(*given, "selu", alpha))
            for alpha in (None, ACTIVATIONS["selu"].alpha)
        )
        np.testing.assert_allclose(one, other, rtol=1e-14)


@pytest.mark.parametrize(("dtype", "highest"), [(np.float32, 88.3), (np.float64, 709.3)])
def test_exponentials_end_in_zero_and_infinity(dtype, highest):
    """Nothing but the right number, or what the docstring says, whatever the argument."""
    from numba import njit

    from kernels.numba_cpu.codegen import elementary

    @njit(error_model="numpy", fastmath={"contract"})
    def both(x, y, z):
        for i in range(x.size):
            y[i], z[i] = elementary.exp(x[i]), elementary.expm1(x[i])

    x = np.concatenate([np.linspace(-1000, 1000, 100_001), [1e30, np.inf, -np.inf, np.nan]])
    x = x.astype(dtype)
    y, z = np.empty_like(x), np.empty_like(x)
    both(x, y, z)
    assert np.isnan([y[-1], z[-1]]).all()
    x, wide = x[:-1], x[:-1].astype(np.longdouble)
    assert np.isinf(y[:-1][x > highest + 0.1]).all()
    for got, want in ((y[:-1], np.exp(wide)), (z[:-1], np.expm1(wide))):
        within = x <= highest
        error, ulp = np.abs(got - want)[within], np.spacing(np.abs(want[within]).astype(dtype))
        assert (error <= 2 * ulp + np.finfo(dtype).tiny).all()


def test_elementary_functions_are_as_accurate_as_stated():
    """Against longdouble: exp and expm1 below 2 ulp, tanh, log and log1p below 3."""
    from numba import njit

    from kernels.numba_cpu.codegen import elementary

    def errors(function, exact, x):
        @njit(error_model="numpy", fastmath={"contract"})
        def apply(x, y):
            for i in range(x.size):
                y[i] = function(x[i])

        y, want = np.empty_like(x), exact(x.astype(np.longdouble))
        apply(x, y)
        return float(np.max(np.abs(y - want) / np.spacing(np.abs(want).astype(x.dtype))))

    rng = np.random.default_rng(5)
    for dtype, lowest in ((np.float32, -87.3), (np.float64, -708.3)):
        wide = rng.uniform(lowest, 0, 200_000).astype(dtype)
        near = (rng.uniform(-1, 1, 200_000) ** 5).astype(dtype)
        assert errors(elementary.exp, np.exp, wide) < 2
        assert errors(elementary.exp, np.exp, -wide) < 2
        assert errors(elementary.expm1, np.expm1, -wide) < 2
        assert errors(elementary.expm1, np.expm1, wide) < 2
        assert errors(elementary.expm1, np.expm1, near) < 2
        assert errors(elementary.log1p, np.log1p, -wide / -lowest) < 3
        assert errors(elementary.log1p, np.log1p, np.abs(near)) < 3
        assert errors(elementary.log, np.log, np.exp(rng.permutation([*wide, *-wide]))) < 3
        assert errors(elementary.log, np.log, 1 + near[np.abs(near) < 0.99] / 2) < 3
        assert errors(elementary.log, np.log, np.exp(wide[:1000] - 10)) < 3  # also subnormal
        assert errors(elementary.tanh, np.tanh, wide / 4) < 3
        assert errors(elementary.tanh, np.tanh, near) < 3


@pytest.mark.parametrize(("dtype", "most", "oracle"), [(np.float32, 12.9, 0), (np.float64, 37, 2)])
def test_normal_distribution_is_as_accurate_as_stated(dtype, most, oracle):
    """Against erfc in float64, whose tail magnifies the two roundings of z / sqrt(2) by z^2."""
    from numba import njit

    from kernels.numba_cpu.codegen.normal import normal

    @njit(error_model="numpy", fastmath={"contract"})
    def apply(z, p, e):
        for i in range(z.size):
            p[i], e[i] = normal(z[i])

    z = np.random.default_rng(6).uniform(-most, most, 100_000).astype(dtype)
    p, e = np.empty_like(z), np.empty_like(z)
    apply(z, p, e)
    exact = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in z.tolist()])
    ulp = np.spacing(exact.astype(dtype))
    assert (np.abs(p - exact) < (7 + oracle * z * z) * ulp).all()
    wide = z.astype(np.longdouble)
    exact = np.exp(-wide * wide / 2)
    assert (np.abs(e - exact) < 4 * np.spacing(exact.astype(dtype))).all()
    for value, limits in ((np.inf, (1, 0)), (-np.inf, (0, 0)), (0.0, (0.5, 1))):
        z[:] = value
        apply(z, p, e)
        assert (p[0], e[0]) == limits
    z[:] = np.nan
    apply(z, p, e)
    assert np.isnan(p[0])


def test_gradients_of_slopes_do_not_depend_on_the_threads():
    """Nor does it matter whether dz replaces dy or the sums are of parts."""
    import numba

    cpu, threads = kernels.load("numba"), numba.get_num_threads()
    rng = np.random.default_rng(7)
    for shape in ((1030, 130), (1, 140_000), (70_000, 2)):
        dy, z = rng.standard_normal((2, *shape)).astype(np.float32)
        alpha = rng.uniform(0, 1, shape[1]).astype(np.float32)
        expected = cpu.activation_backward(dy, z, "prelu", alpha)
        np.testing.assert_allclose(expected[1], (dy * np.minimum(z, 0)).sum(0, float), 1e-3, 1e-3)
        try:
            numba.set_num_threads(1)
            out = dy, np.empty_like(alpha)
            results = cpu.activation_backward(dy, z, "prelu", alpha, out=out)
        finally:
            numba.set_num_threads(threads)
        for got, want in zip(results, expected, strict=True):
            np.testing.assert_array_equal(got, want)
