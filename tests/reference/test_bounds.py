"""The error bounds: wide enough for any order of summation, tight enough to find a mistake."""

import math

import numpy as np
import pytest
from conftest import NATIVE, SIMULATED, backend_or_skip, call, case, is_quick

import kernels
import reference
from benchmarks.suites import workloads
from reference import OPERATIONS, bounds


def test_growth_of_a_sum():
    """The worst case for few terms, then what holds but with the probability n exp(-32)."""
    assert [bounds.summation(n) for n in (1, 10, 64)] == [1, 10, 64]
    assert bounds.summation(10_000) == pytest.approx(100 * math.sqrt(2 * 32))
    assert pytest.approx(32) == bounds.SIGMAS**2 / 2
    assert (bounds.unit_roundoff("float32"), bounds.unit_roundoff("float64")) == (2**-24, 2**-53)


def rounded(array, bits):
    """float32 numbers with so many bits of mantissa, as TF32 (10) and bfloat16 (7) have."""
    whole = np.float64(array).astype(np.float32).view(np.uint32)
    lost = 23 - bits
    half = np.uint32((1 << (lost - 1)) - 1) + ((whole >> np.uint32(lost)) & np.uint32(1))
    mask = np.uint32(0xFFFFFFFF << lost & 0xFFFFFFFF)
    return ((whole + half) & mask).view(np.float32)


DEPTHS = (1, 2, 3, 4, 7, 16, 33, 64, 128, 257, 784, 2048, 4097, 8192)


def _product(depth, rows=24, columns=20):
    """An operation's inputs whose product has that depth, and where it stands in the results."""
    rng = np.random.default_rng(depth)
    forward = OPERATIONS["dense_forward[identity]"], case(rows, depth, columns)
    weight = OPERATIONS["dense_backward[identity]"], case(depth, rows, columns)
    return [(operation, operation.sample(rng, shape)) for operation, shape in (forward, weight)]


@pytest.mark.parametrize("bits", [10, 7], ids=["TF32", "bfloat16"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_products_of_rounded_inputs_are_rejected(depth, bits):
    """Their sums are exact here, so that there is nothing but the rounding of the inputs."""
    for operation, inputs in _product(depth):
        results = [result.astype(np.float32) for result in operation.oracle(inputs)]
        assert operation.disagreement(inputs, tuple(results)) is None
        spoilt = {k: rounded(v, bits) for k, v in inputs.items() if k in ("x", "weight", "dy")}
        rounded_results = operation.oracle({**inputs, **spoilt})
        for k, result in enumerate(operation.results):
            if result.name in ("y", "dx", "dweight"):
                wrong = results.copy()
                wrong[k] = rounded_results[k].astype(np.float32)
                complaint = operation.disagreement(inputs, tuple(wrong))
                assert complaint is not None, (result.name, depth)


@pytest.mark.parametrize("depth", DEPTHS)
def test_where_tf32_is_permitted_bfloat16_is_rejected(depth):
    """And float32 is accepted, as are factors of TF32, of which there may be one alone."""
    for operation, inputs in _product(depth):
        inputs["precision"] = "tf32"
        factors = [name for name in ("dy", "x", "weight") if name in inputs]
        exact = operation.oracle(inputs)
        for chosen in ((), *((name,) for name in factors), factors):
            spoilt = {name: rounded(inputs[name], 10) for name in chosen}
            results = operation.oracle({**inputs, **spoilt})
            results = [r.astype(np.float32) for r in results[:2]]  # dbias is of no product
            results = *results, *(r.astype(np.float32) for r in exact[2:])
            assert operation.disagreement(inputs, results) is None, chosen
        spoilt = {name: rounded(inputs[name], 7) for name in factors}
        for k, result in enumerate(operation.oracle({**inputs, **spoilt})[:2]):
            wrong = [r.astype(np.float32) for r in exact]
            wrong[k] = result.astype(np.float32)
            name = operation.results[k].name
            assert f", {name}: " in str(operation.disagreement(inputs, tuple(wrong))), name


def test_the_bound_of_tf32_is_float32s_alone():
    """In float64 nothing is rounded to TF32, whatever is permitted."""
    for operation in (
        OPERATIONS["dense_forward[relu tf32]"],
        OPERATIONS["dense_backward[relu tf32]"],
    ):
        inputs = operation.sample(np.random.default_rng(0), case(9, 8, 7, "float64"))
        plain = {name: value for name, value in inputs.items() if name != "precision"}
        for bound, narrow in zip(operation.bounds(inputs), operation.bounds(plain), strict=True):
            np.testing.assert_array_equal(bound.each, narrow.each)


def _one_after_another(terms):
    total = np.zeros(terms.shape[1:], np.float32)
    for term in terms:
        total += term
    return total


def _pairwise(terms):
    while len(terms) > 1:
        if len(terms) % 2:
            terms = np.concatenate([terms, np.zeros_like(terms[:1])])
        terms = terms[::2] + terms[1::2]
    return terms[0]


def _in_blocks(terms, size=37):
    parts = [_one_after_another(terms[n : n + size]) for n in range(0, len(terms), size)]
    return _one_after_another(np.array(parts))


def _backwards(terms):
    return _one_after_another(terms[::-1])


@pytest.mark.parametrize("order", [_one_after_another, _pairwise, _in_blocks, _backwards])
def test_float32_is_accepted_in_any_order_of_summation(order):
    """Over many draws; each takes a good part of the bound, so that the bound is not a wide one."""
    forward = OPERATIONS["dense_forward[identity]"]
    for depth in DEPTHS:
        taken, rng = [], np.random.default_rng(depth)
        for _ in range(12 if depth < 1000 else 3):
            inputs = forward.sample(rng, case(9, depth, 8))
            inputs["bias"][:] = 0
            y = order(np.einsum("ik,kj->kij", inputs["x"], inputs["weight"]))
            assert forward.disagreement(inputs, (y,)) is None, depth
            (want,), (bound,) = forward.oracle(inputs), forward.bounds(inputs)
            taken.append(bound.shares(y, want)[1])
        if order is _one_after_another:
            assert 0.03 < max(taken) < 0.3, depth


# (batch, fan_in, fan_out) and how often.
DRAWS = [((1, 1, 1), 40), ((1, 3, 2), 40), ((9, 7, 5), 20), ((33, 64, 65), 5), ((400, 500, 30), 1)]
ADDED = (
    "param",
    "bias",
)  # to which a result is added: where they are zero, its error is seen alone


def drawn(operation):
    """(which of ADDED is zero, inputs) of many draws."""
    rng = np.random.default_rng(7)
    for shape, draws in DRAWS:
        for _ in range(draws if is_quick(operation, *shape) else 0):
            inputs = operation.sample(rng, case(*shape))
            yield "", inputs
            for name in set(ADDED) & set(inputs):
                yield f", {name} 0", {**inputs, name: np.zeros_like(inputs[name])}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=str)
def test_bounds_bind(operation):
    """The worst error of the CPU's kernels comes near to every bound at some size, and so do the
    errors' root mean squares where they have a bound of their own. `pytest -s` shows by how much.
    Of products in TF32 it is the simulated GPU that takes them.
    """
    worst, exact, alike = {}, {}, {}
    backends = map(kernels.load, NATIVE[:2])
    for backend in [backend_or_skip(SIMULATED[0])] if operation.precision else backends:
        for zero, inputs in drawn(operation):
            _, results, _ = call(backend, operation, inputs)
            expected, limits = operation.oracle(inputs), operation.bounds(inputs)
            pairs = zip(operation.results, results, expected, limits, strict=True)
            for result, got, want, bound in pairs:
                name = result.name + zero
                shares = bound.shares(got, want)
                worst[name] = list(map(max, worst.get(name, shares), shares))
                exact[name] = exact.get(name, True) and not np.any(bound.each)
                alike[name] = alike.get(name, True) and bound.deviation is bound.each
    for name, (of_each, of_deviation) in worst.items():
        shown = "exact" if exact[name] else f"{of_each:.3f}"
        spread = "" if alike[name] else f"{of_deviation:.3f}"
        print(f"\n{operation!s:40} {name:18} {shown:>6} {spread:>6}", end="")
        assert exact[name] or of_each >= 0.01, name
        assert alike[name] or of_deviation >= 0.01, name


@pytest.mark.parametrize(
    "operation", [o for o in reference.FAMILIES["recurrent"] if "whole" in o.variant], ids=str
)
def test_deviations_bind_after_many_steps(operation):
    """Where the bound of each element has long left the numbers behind."""
    at = workloads.layers_of("recurrent")["digits-64x128"].at(batch=2)
    inputs = operation.sample(np.random.default_rng(5), at)
    _, results, _ = call(kernels.load("numpy"), operation, inputs)
    expected, limits = operation.oracle(inputs), operation.bounds(inputs)
    for result, got, want, bound in zip(operation.results, results, expected, limits, strict=True):
        _, share = bound.shares(got, want)
        assert 0.01 <= share <= 1, result.name
