"""Losses of elements: examples and identities, gradients against central differences, what is in
range, and reductions.
"""

import math
from functools import partial

import numpy as np
import pytest
from conftest import call, case, on_device, verify

import reference
from kernels.catalog import ELEMENT_LOSSES

OPERATIONS = {o.name: o for o in reference.FAMILIES["losses"] if o.name in ELEMENT_LOSSES}
over_losses = pytest.mark.parametrize("name", ELEMENT_LOSSES)
FRACTIONS = [name for name, declared in ELEMENT_LOSSES.items() if declared.fractions]


def results(backend, name, *given, **settings):
    """What the loss of this name returns, as host arrays."""
    given = [backend.asarray(np.array(array)) for array in given]
    return [backend.to_host(r) for r in getattr(backend, name)(*given, **settings)]


@over_losses
def test_gradient_is_central_differences(name):
    """Of every array but the target, for every reduction; far from the kinks of the first three."""
    rng, h = np.random.default_rng(0), 1e-6
    inputs = OPERATIONS[name].sample(rng, case(4, 1, 5, "float64"))
    for reduction in ("mean", "sum", "none"):
        inputs["reduction"] = reduction
        _, *gradients = OPERATIONS[name].function(**inputs)
        arrays = [array for array in ELEMENT_LOSSES[name].arrays if array != "target"]
        for array, gradient in zip(arrays, gradients, strict=True):
            for index in np.ndindex(gradient.shape):
                ends = []
                for sign in (1, -1):
                    moved = {**inputs, array: inputs[array].copy()}
                    moved[array][index] += sign * h
                    ends.append(OPERATIONS[name].function(**moved)[0].sum())
                slope = (ends[0] - ends[1]) / (2 * h)
                if array == "variance" and inputs[array][index] < inputs["eps"] + h:
                    assert slope == pytest.approx(0, abs=1e-9)  # which the gradient passes over
                else:
                    assert slope == pytest.approx(gradient[index], rel=1e-6, abs=1e-8)


def test_worked_examples(backend):
    """Errors 1, -2 and 0.5."""
    x, t = np.array([1.0, -2.0, 0.5]), np.zeros(3)
    loss, gradient = results(backend, "mean_squared_error", x, t)
    assert loss == pytest.approx(1.75)
    np.testing.assert_allclose(gradient, 2 * x / 3)
    loss, gradient = results(backend, "mean_absolute_error", x, np.array([0.0, 0.0, 0.5]))
    assert loss == pytest.approx(1)
    np.testing.assert_allclose(gradient, [1 / 3, -1 / 3, 0])
    loss, gradient = results(backend, "huber", x, t, delta=1.0, reduction="none")
    np.testing.assert_allclose(loss, [0.5, 1.5, 0.125])
    np.testing.assert_allclose(gradient, [1, -1, 0.5])
    loss, gradient = results(backend, "poisson_nll", np.log([2.0, 3.0]), np.array([2.0, 1.0]))
    assert loss == pytest.approx((5 - math.log(12)) / 2)
    np.testing.assert_allclose(gradient, [0, 1], atol=1e-15)


def test_gaussian_of_unit_variance_is_half_the_squared_error(backend):
    x, t = np.random.default_rng(1).standard_normal((2, 9, 7))
    half, gradient = results(backend, "mean_squared_error", x, t)
    loss, of_mean, of_variance = results(backend, "gaussian_nll", x, t, np.ones_like(x))
    assert loss == pytest.approx(float(half) / 2, rel=1e-14)
    np.testing.assert_allclose(of_mean, gradient / 2, rtol=1e-14)
    np.testing.assert_allclose(of_variance * x.size, (1 - (x - t) ** 2) / 2, atol=1e-14)


def test_variance_at_its_likeliest_has_no_gradient(backend):
    x, t = np.random.default_rng(2).standard_normal((2, 30))
    _, _, gradient = results(backend, "gaussian_nll", x, t, (x - t) ** 2, eps=1e-300)
    assert np.abs(gradient * (x - t) ** 2).max() < 1e-15


def test_logits_are_two_classes_of_which_one_has_logit_zero(backend):
    rng = np.random.default_rng(3)
    x, labels = 3 * rng.standard_normal(40), rng.integers(0, 2, 40)
    loss, gradient = results(backend, "binary_cross_entropy_with_logits", x, labels * 1.0)
    two = np.stack([np.zeros(40), x], axis=1)
    of_two, of_logits = results(backend, "softmax_cross_entropy", two, labels)
    assert loss == pytest.approx(float(of_two), rel=1e-14)
    np.testing.assert_allclose(gradient, of_logits[:, 1], atol=1e-16)


def test_loss_of_logits_is_that_of_their_probabilities(backend):
    rng = np.random.default_rng(4)
    x, t = 3 * rng.standard_normal(40), rng.random(40)
    p = 1 / (1 + np.exp(-x))
    loss, gradient = results(backend, "binary_cross_entropy_with_logits", x, t)
    other, by_p = results(backend, "binary_cross_entropy", p, t)
    assert loss == pytest.approx(float(other), rel=1e-13)
    np.testing.assert_allclose(gradient, by_p * p * (1 - p), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_certain_probabilities_and_small_ones(backend, dtype):
    """log 0 counts as -100; of a small p, log(1 - p) = -p is not lost."""
    p, t = np.array([0, 0, 1, 1, 1e-12], dtype), np.array([0, 1, 0, 1, 0], dtype)
    loss, gradient = results(backend, "binary_cross_entropy", p, t, reduction="none")
    np.testing.assert_allclose(loss, [0, 100, 100, 0, 1e-12], rtol=1e-6)
    np.testing.assert_allclose(gradient, [0, -1e12, 1e12, 0, 1], rtol=1e-6)


def test_a_rate_near_the_largest_number_is_finite(backend):
    """exp(88.7) = 3.3e38, where float32 ends at 3.4e38."""
    x = np.array([64, 64.1, 88.3, 88.5, 88.7], np.float32)
    inputs = {"log_rate": x, "target": np.ones_like(x), "reduction": "none"}
    verify(backend, OPERATIONS["poisson_nll"], inputs)
    loss, _ = results(backend, "poisson_nll", x, np.ones_like(x), reduction="none")
    assert np.isfinite(loss).all()


@over_losses
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_element_has_its_loss(backend, name, dtype):
    """At sizes around vectors and blocks."""
    rng = np.random.default_rng(5)
    for size in (1, 3, 17, 511, 513, 2049):
        inputs = OPERATIONS[name].sample(rng, case(1, 1, size, dtype))
        verify(backend, OPERATIONS[name], {**inputs, "reduction": "none"})


@over_losses
@pytest.mark.parametrize("shifted", range(4))
def test_arrays_that_begin_off_the_border_of_a_vector(fast_backend, name, shifted):
    """One after another of them: the losses, the first array, the target, the first gradient."""
    inputs = OPERATIONS[name].sample(np.random.default_rng(11), case(1, 1, 23))
    inputs["reduction"] = "none"
    _, expected, given = call(fast_backend, OPERATIONS[name], inputs)

    def moved(array):
        memory = fast_backend.asarray(np.zeros(24, np.float32))
        memory[1:] = array.reshape(23)
        return memory[1:].reshape(1, 23)

    first = ELEMENT_LOSSES[name].prediction
    out = [fast_backend.asarray(np.zeros_like(array)) for array in expected]
    if shifted in (0, 3):
        out[shifted // 3] = moved(out[shifted // 3])
    else:
        array = (first, "target")[shifted - 1]
        given[array] = moved(given[array])
    got = getattr(fast_backend, name)(**given, out=tuple(out))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(fast_backend.to_host(one), other)


@over_losses
def test_reductions_agree(backend, name):
    """The sum is that of what "none" gives, the mean its share, and gradients go with them."""
    inputs = OPERATIONS[name].sample(np.random.default_rng(6), case(9, 1, 77, "float64"))
    found = {}
    for reduction in ("none", "sum", "mean"):
        _, found[reduction], _ = call(backend, OPERATIONS[name], {**inputs, "reduction": reduction})
    count = found["none"][0].size
    assert found["none"][0].shape == (9, 77)
    assert found["sum"][0] == pytest.approx(found["none"][0].sum(), rel=1e-12)
    assert found["mean"][0] == pytest.approx(float(found["sum"][0]) / count, rel=1e-12)
    for each, of_sum, of_mean in list(zip(*found.values(), strict=True))[1:]:
        np.testing.assert_array_equal(each, of_sum)
        np.testing.assert_allclose(of_mean * count, of_sum, rtol=1e-14)


# --- what is out of range -------------------------------------------------------------------------


def _call_and_wait(backend, name, *given, **settings):
    getattr(backend, name)(*map(backend.asarray, given), **settings)
    backend.synchronize()


@pytest.mark.parametrize("bad", [-1e-6, 1.0001, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", FRACTIONS)
def test_target_out_of_range(fast_backend, name, bad):
    """Raised at the call, or where the device is waited for."""
    x, good = np.full(20000, 0.5, np.float32), np.full(20000, 0.5, np.float32)
    for position in (0, 9000, 19999):
        target = good.copy()
        target[position] = bad
        with pytest.raises(ValueError, match="target must be from 0 to 1"):
            _call_and_wait(fast_backend, name, x, target)
    _call_and_wait(fast_backend, name, x, good)


@pytest.mark.parametrize("bad", [-1e-6, -np.inf])
def test_variance_below_zero(fast_backend, bad):
    x = np.ones(20000, np.float32)
    for position in (0, 9000, 19999):
        variance = x.copy()
        variance[position] = bad
        with pytest.raises(ValueError, match="variance must be at least 0"):
            _call_and_wait(fast_backend, "gaussian_nll", x, x, variance)
    _call_and_wait(fast_backend, "gaussian_nll", x, x, np.zeros_like(x))


@pytest.mark.parametrize("name", [*FRACTIONS, "gaussian_nll"])
def test_an_input_that_was_to_be_replaced_stays_on_the_cpu(name):
    from kernels import numba_cpu

    inputs = OPERATIONS[name].sample(np.random.default_rng(7), case(5, 1, 4001, vary=False))
    inputs[ELEMENT_LOSSES[name].arrays[-1]].flat[-1] = -1
    x, *others = inputs.values()
    before = x.copy()
    gradients = x, *(np.empty_like(x) for _ in others[1:])
    for _ in range(2):
        with pytest.raises(ValueError, match="must be "):
            getattr(numba_cpu, name)(x, *others, out=(np.empty((), "f4"), *gradients))
        np.testing.assert_array_equal(x, before)


def test_on_a_gpu_an_element_out_of_range_is_nan(fast_backend):
    x, t = np.zeros(50, np.float32), np.ones(50, np.float32)
    t[7] = 2
    try:
        given = map(fast_backend.asarray, (x, t))
        loss, gradient = fast_backend.binary_cross_entropy_with_logits(*given, reduction="none")
    except ValueError:
        return  # a backend that sees it at once
    expected = np.arange(50) == 7
    for array in (loss, gradient):
        np.testing.assert_array_equal(np.isnan(fast_backend.to_host(array)), expected)
    with pytest.raises(ValueError, match="target must be"):
        fast_backend.synchronize()


@over_losses
def test_a_loss_of_nothing(fast_backend, name):
    declared = ELEMENT_LOSSES[name]
    empty = [fast_backend.asarray(np.zeros((0, 5), np.float32)) for _ in declared.arrays]
    for reduction in ("mean", "none"):
        with pytest.raises(ValueError, match=f"{declared.prediction} must have at least one"):
            getattr(fast_backend, name)(*empty, reduction=reduction)


@over_losses
def test_shapes_must_be_the_same_not_only_sizes(fast_backend, name):
    """At the first call and at later ones."""
    declared = ELEMENT_LOSSES[name]
    arrays = [fast_backend.asarray(np.full((3, 4), 0.5, np.float32)) for _ in declared.arrays]
    turned = [array.reshape(4, 3) for array in arrays]
    loss = partial(getattr(fast_backend, name), reduction="none")
    for _ in range(2):
        out = loss(*arrays)
        for k in range(1, len(arrays)):
            with pytest.raises(ValueError, match="must have shape"):
                loss(*arrays[:k], turned[k], *arrays[k + 1 :], out=out)
        for k in range(len(out)):
            wrong = (*out[:k], out[k].reshape(4, 3), *out[k + 1 :])
            with pytest.raises(ValueError, match=rf"out\[{k}\] must have shape"):
                loss(*arrays, out=wrong)
        with pytest.raises(ValueError, match=r"out\[0\] must have shape \(\)"):
            loss(*arrays, reduction="mean", out=out)


@over_losses
def test_every_gradient_may_replace_its_input_at_once(fast_backend, name):
    inputs = OPERATIONS[name].sample(np.random.default_rng(8), case(3, 1, 700))
    _, expected, _ = call(fast_backend, OPERATIONS[name], inputs)
    given = on_device(fast_backend, inputs)
    replaced = [given[array] for _, array in ELEMENT_LOSSES[name].may_replace]
    out = fast_backend.asarray(np.zeros((), np.float32)), *replaced
    got = getattr(fast_backend, name)(**given, out=out)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(fast_backend.to_host(one), other)


def test_the_sum_does_not_depend_on_the_number_of_threads():
    import numba

    from kernels import numba_cpu

    for name, operation in OPERATIONS.items():
        inputs = operation.sample(np.random.default_rng(9), case(1, 1, 300_001))
        found = []
        for threads in {1, numba.get_num_threads()}:
            before = numba.get_num_threads()
            numba.set_num_threads(threads)
            found.append([r.tobytes() for r in getattr(numba_cpu, name)(**inputs)])
            numba.set_num_threads(before)
        assert found[0] == found[-1], name
