"""Directions of second order: what they are on quadratics, and where searches along them end."""

import itertools
import re
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from conftest import over_dtypes

from kernels.line_search import StrongWolfe, exact_on_quadratics
from kernels.second_order import METHODS, minimize

over_methods = pytest.mark.parametrize("method", METHODS)
CONJUGATE = "polak_ribiere", "fletcher_reeves"


def quadratic(backend, n, dtype="float64", spread=50.0, seed=0):
    """(function, H, its minimum) of x^T H x / 2 - b^T x on the host; H's condition is spread."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    hessian = ((q * np.geomspace(1, spread, n)) @ q.T).astype(dtype)
    hessian = (hessian + hessian.T) / 2
    b = rng.standard_normal(n).astype(dtype)

    def function(x):
        x = backend.to_host(x)
        gradient = hessian @ x - b
        return x @ (gradient - b) / 2, backend.asarray(gradient), backend.asarray(hessian)

    return function, hessian, np.linalg.solve(hessian.astype(float), b.astype(float))


def rosenbrock(backend):
    """(1 - x)^2 + 100 (y - x^2)^2, whose minimum is at (1, 1)."""

    def function(at):
        x, y = backend.to_host(at)
        gradient = np.array([2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x)])
        hessian = np.array([[2 + 1200 * x * x - 400 * y, -400 * x], [-400 * x, 200.0]])
        value = (1 - x) ** 2 + 100 * (y - x * x) ** 2
        return value, backend.asarray(gradient), backend.asarray(hessian)

    return function


def directions(backend, function, x, method, steps, **settings):
    """[(x, direction)] of a search: the points that are reached and how each was left."""
    points = [x]
    for number in range(1, steps + 1):
        given = {"method": method, "iterations": number, "tolerance": 1e-300, **settings}
        points.append(minimize(backend, function, x, **given).x)
    points = [backend.to_host(point) for point in points]
    return [(a, b - a) for a, b in itertools.pairwise(points)]


@over_dtypes
def test_newtons_step_lands_on_the_minimum_of_a_quadratic(backend, dtype):
    function, hessian, minimum = quadratic(backend, 40, dtype)
    x = np.random.default_rng(1).standard_normal(40).astype(dtype)
    _, gradient, _ = function(backend.asarray(x))
    d = backend.to_host(backend.newton_direction(gradient, backend.asarray(hessian)))
    error = np.abs(x.astype(float) + d - minimum).max()
    assert error < 50 * 40 * np.finfo(dtype).eps * np.abs(d).max()
    eps = float(np.finfo(dtype).eps)
    found = minimize(*(backend, function, backend.asarray(x)), method="newton", tolerance=1e4 * eps)
    assert (found.converged, found.iterations, found.evaluations) == (True, 1, 2)


def test_a_hessian_that_is_not_positive_definite_gives_a_direction_of_descent(backend):
    """It solves (H + lambda I) d = -g for some lambda, at which H + lambda I is positive definite;
    scaled with H it stays the same but for that scale.
    """
    rng = np.random.default_rng(2)
    for n in (1, 2, 7, 33, 70):
        hessian = rng.standard_normal((n, n))
        hessian += hessian.T - 4 * np.eye(n)
        g = rng.standard_normal(n)
        given = backend.asarray(g), backend.asarray(hessian)
        d = backend.to_host(backend.newton_direction(*given))
        assert g @ d < 0
        lambdas = -(g + hessian @ d) / d
        shift = np.median(lambdas)
        assert shift + np.linalg.eigvalsh(hessian)[0] > 0
        np.testing.assert_allclose((hessian + shift * np.eye(n)) @ d, -g, atol=1e-6)
        scaled = backend.newton_direction(given[0], backend.asarray(2.0**40 * hessian))
        np.testing.assert_allclose(2.0**40 * backend.to_host(scaled), d, rtol=1e-8)


def test_damping_is_added(backend):
    g, hessian = np.array([1.0, 2.0]), np.array([[2.0, 1.0], [1.0, 3.0]])
    d = backend.newton_direction(backend.asarray(g), backend.asarray(hessian), 0.5)
    expected = -np.linalg.solve(hessian + 0.5 * np.eye(2), g)
    np.testing.assert_allclose(backend.to_host(d), expected, rtol=1e-15)


def test_the_upper_triangle_is_not_read(backend):
    g, hessian = np.ones(70), np.eye(70) + np.triu(np.full((70, 70), np.nan), 1)
    d = backend.newton_direction(backend.asarray(g), backend.asarray(hessian))
    np.testing.assert_array_equal(backend.to_host(d), -g)


@pytest.mark.parametrize("method", CONJUGATE)
def test_conjugate_gradients_need_n_steps_of_a_quadratic(backend, method):
    """And their directions are conjugate: d_i^T H d_j = 0."""
    n = 7
    function, hessian, minimum = quadratic(backend, n, spread=10.0)
    x = backend.asarray(np.ones(n))
    settings = {"line_search": exact_on_quadratics}
    taken = directions(backend, function, x, method, n, **settings)
    end = sum(taken[-1])
    np.testing.assert_allclose(end, minimum, atol=1e-9)
    d = np.array([step / np.linalg.norm(step) for _, step in taken])
    products = d @ hessian @ d.T
    assert np.abs(products - np.diag(np.diag(products))).max() < 1e-8
    assert np.abs(taken[n - 2][0] - minimum).max() > 1e-6  # not before


def test_lbfgs_that_remembers_all_goes_as_conjugate_gradients_do(backend):
    """On a quadratic, by exact steps (Nocedal and Wright, Theorem 6.4 and section 7.2)."""
    function, _, minimum = quadratic(backend, 6)
    x, exact = backend.asarray(np.ones(6)), {"line_search": exact_on_quadratics}
    ours = directions(backend, function, x, "lbfgs", 6, pairs=6, **exact)
    theirs = directions(backend, function, x, "fletcher_reeves", 6, **exact)
    for (point, _), (other, _) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(point, other, atol=1e-9)
    np.testing.assert_allclose(sum(ours[-1]), minimum, atol=1e-9)


@pytest.mark.parametrize("left_out", [(), (1,), (4,), (0, 4), (0, 1, 2, 3, 4)])
def test_two_loops_are_the_product_with_the_inverse_hessian(backend, left_out):
    """H of Nocedal and Wright, (6.17), from gamma I by the pairs in their order."""
    rng, n = np.random.default_rng(3), 9
    steps = rng.standard_normal((5, n))
    differences = steps @ np.diag(rng.uniform(0.5, 3, n))
    differences[list(left_out)] *= -1
    inverse = np.eye(n)
    kept = [pair for pair in range(5) if pair not in left_out]
    if kept:
        s, y = steps[kept[-1]], differences[kept[-1]]
        inverse = inverse * (s @ y / (y @ y))
    for pair in kept:
        s, y = steps[pair], differences[pair]
        rho = 1 / (s @ y)
        v = np.eye(n) - rho * np.outer(y, s)
        inverse = v.T @ inverse @ v + rho * np.outer(s, s)
    g = rng.standard_normal(n)
    d = backend.lbfgs_direction(*map(backend.asarray, (g, steps, differences)))
    np.testing.assert_allclose(backend.to_host(d), -inverse @ g, rtol=1e-12)


@over_methods
def test_rosenbrock(backend, method):
    found = minimize(
        *(backend, rosenbrock(backend), backend.asarray(np.array([-1.2, 1.0]))),
        method=method,
        tolerance=1e-8,
        iterations=200,
    )
    assert found.converged, found
    np.testing.assert_allclose(backend.to_host(found.x), 1, atol=1e-7)
    assert found.iterations < {"newton": 30, "lbfgs": 60}.get(method, 150)


def test_all_methods_agree_on_a_logistic_regression(backend):
    """With an L2 penalty."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((60, 5))
    signs = np.sign(x @ rng.standard_normal(5) + rng.standard_normal(60))

    def function(weight):
        w = backend.to_host(weight)
        margins = signs * (x @ w)
        p = 1 / (1 + np.exp(margins))  # of the other label
        value = np.log1p(np.exp(-margins)).mean() + 0.005 * w @ w
        gradient = -x.T @ (p * signs) / 60 + 0.01 * w
        hessian = (x.T * (p * (1 - p))) @ x / 60 + 0.01 * np.eye(5)
        return value, backend.asarray(gradient), backend.asarray(hessian)

    start, ends = backend.asarray(np.zeros(5)), []
    for method in METHODS:
        found = minimize(backend, function, start, method=method, tolerance=1e-10)
        assert found.converged, (method, found)
        ends.append(backend.to_host(found.x))
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], atol=1e-8)
    assert not backend.to_host(start).any()


@pytest.mark.parametrize("fast_backend", ["numba"], indirect=True)
def test_sums_do_not_depend_on_the_number_of_threads(fast_backend):
    import numba

    a, b = np.random.default_rng(5).standard_normal((2, 500_001)).astype(np.float32)
    results = []
    for threads in (1, numba.get_num_threads()):
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        results.append(
            [
                fast_backend.inner_product(a, b),
                fast_backend.conjugate_direction(a, b, -b),
                fast_backend.lbfgs_direction(b, a[None], (a + 0.1 * b)[None]),
            ]
        )
        numba.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


# --- the search itself: no backend makes a difference ---------------------------------------------


@pytest.fixture(scope="module")
def numpy():
    import reference

    return reference


def test_why_it_ended(numpy):
    function, _, _ = quadratic(numpy, 5)
    x = np.ones(5)
    assert minimize(numpy, function, x, iterations=2).reason == "all iterations were made"
    found = minimize(numpy, function, x, line_search=lambda *_: None)
    assert (found.reason, found.iterations) == ("the line search found no lower value", 0)
    assert found.x is x
    found = minimize(numpy, lambda x: (np.nan, x), x)
    assert found.reason == "the function or its gradient is not finite"
    found = minimize(numpy, function, x, tolerance=1e9)
    assert (found.converged, found.evaluations) == (True, 1)
    assert found.reason == "the gradient's norm is at most the tolerance"


def test_what_is_wrong_is_named(numpy):
    for settings, message in (
        ({"method": "steepest"}, "method must be one of newton, lbfgs"),
        ({"tolerance": -1.0}, "tolerance must be at least 0"),
        ({"iterations": 1.5}, "iterations must be an integer"),
        ({"pairs": 0}, "pairs must be at least 1"),
        ({"method": "newton"}, "function must return"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            minimize(numpy, lambda x: (x @ x, 2 * x), np.ones(3), **settings)
    with pytest.raises(ValueError, match="decrease and curvature must be"):
        StrongWolfe(0.5, 0.1)


@pytest.mark.parametrize("first", [1e-6, 0.3, 1.0, 30.0, 1e5])
@pytest.mark.parametrize("curvature", [0.9, 0.1, 1e-3])
def test_steps_hold_the_strong_wolfe_conditions(first, curvature):
    """Nocedal and Wright, (3.7), of a function with several valleys, and others with one."""
    for function, slope in (
        (lambda a: np.cos(3 * a) + (a - 2) ** 2, lambda a: -3 * np.sin(3 * a) + 2 * (a - 2)),
        (lambda a: 100 * (a - 1) ** 4, lambda a: 400 * (a - 1) ** 3),
        (lambda a: -np.log(a + 1) + a**2, lambda a: 2 * a - 1 / (a + 1)),
    ):
        value, down = float(function(0.0)), float(slope(0.0))
        rule = StrongWolfe(curvature=curvature)
        a = rule(lambda a, f=function, s=slope: (f(a), s(a)), value, down, first)
        assert function(a) <= value + 1e-4 * a * down + 1e-6 * abs(value)
        assert abs(slope(a)) <= curvature * abs(down)


def test_pairs_that_are_forgotten(numpy):
    """More steps than rows: the last pairs move to the front, each time one pair is new."""
    seen = []

    class Watched:
        def __getattr__(self, name):
            return getattr(numpy, name)

        def lbfgs_direction(self, grad, steps, differences):
            seen.append((steps.copy(), differences.copy()))
            return numpy.lbfgs_direction(grad, steps, differences)

    function, hessian, minimum = quadratic(numpy, 30, spread=300.0)
    found = minimize(Watched(), function, np.ones(30), pairs=3, tolerance=1e-9)
    assert found.converged
    np.testing.assert_allclose(found.x, minimum, atol=1e-8)
    assert len(seen) == found.iterations > 12
    assert [len(steps) for steps, _ in seen] == [0, 1, 2] + [3] * (len(seen) - 3)
    for (old, _), (steps, differences) in itertools.pairwise(seen):
        kept = len(steps) - 1
        np.testing.assert_array_equal(steps[:kept], old[len(old) - kept :])
        np.testing.assert_allclose(differences, steps @ hessian, atol=1e-12)


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_valley_of_many_dimensions(numpy, method):
    """The chained Rosenbrock function; Fletcher and Reeves' directions must begin anew in it."""

    def function(x):
        rises, gradient = x[1:] - x[:-1] ** 2, np.zeros_like(x)
        gradient[1:] += 200 * rises
        gradient[:-1] -= 400 * x[:-1] * rises + 2 * (1 - x[:-1])
        return (100 * rises**2 + (1 - x[:-1]) ** 2).sum(), gradient

    start = np.tile([-1.2, 1.0], 50)
    found = minimize(numpy, function, start, method=method, tolerance=1e-7, iterations=2000)
    assert found.converged, found
    np.testing.assert_allclose(found.x, 1, atol=1e-6)


def test_the_example_of_the_readme():
    text = (Path(__file__).resolve().parents[2] / "kernels" / "README.md").read_text()
    (example,) = re.findall(r"((?:    .*\n|\n)*    found\.x, .*\n)", text)
    names = {}
    exec(dedent(example), names)
    np.testing.assert_allclose(names["found"].x, [0.2, 0.4], rtol=1e-14)
    assert (names["found"].converged, names["found"].iterations) == (True, 1)
