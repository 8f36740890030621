"""The specifications themselves: what can be said of an operation."""

import inspect

import numpy as np
import pytest
from conftest import call, case, moved, verify

import reference
from reference import OPERATIONS, Operation, Result, bounds
from reference.bounds import EXACT, Bound


def standardise(x, mean, count, *, share=0.1, out=None):
    """(x - mean, the place of each row's largest), mean and count of rows brought up to date."""
    y, largest = x - mean, x.argmax(axis=1)
    mean += share * (x.mean(axis=0) - mean)
    count += len(x)
    if out is None:
        return y, largest, y > 0
    for array, value in zip(out, (y, largest, y > 0), strict=True):
        array[...] = value
    return out


def _sample(rng, case):
    batch, units = case.sizes["batch"], case.sizes["fan_out"]
    x, mean = rng.standard_normal((batch, units)), rng.standard_normal(units)
    share = {"share": rng.uniform()} if case.vary else {}
    arrays = {"x": x.astype(case.dtype), "mean": mean.astype(case.dtype)}
    return {**arrays, "count": np.array(7), **share}


def _error(inputs, dtype):
    x, mean, share, u = inputs["x"], inputs["mean"], inputs["share"], bounds.unit_roundoff(dtype)
    mean_of_x = bounds.sum_bound(x, dtype) * (1 / len(x)) + Bound.of(u * np.abs(x.mean(axis=0)))
    size = np.abs(mean) + 4 * share * (np.abs(mean) + np.abs(x.mean(axis=0)))
    of_mean = mean_of_x * share + Bound.of(u * size)
    return Bound.of(u * np.abs(x - mean)), EXACT, EXACT, of_mean, EXACT


STANDARDISE = Operation(
    "standardise",
    standardise,
    ("batch", "fan_out"),
    _sample,
    lambda batch, fan_out, **_: 2 * batch * fan_out + 4 * fan_out,
    lambda batch, fan_out, **_: 2 * batch * fan_out + 2 * fan_out,
    (
        Result("y"),
        Result("largest", "int64"),
        Result("positive", "bool"),
        Result("mean", updates=True),
        Result("count", "int64", updates=True),
    ),
    _error,
    lambda dtype: iter(()),
    other_bytes=lambda batch, fan_out, **_: 8 * batch + batch * fan_out + 16,
)


class Backend:
    """`standardise` as it is, or with one result spoilt."""

    asarray = staticmethod(np.asarray)
    to_host = staticmethod(np.copy)
    synchronize = staticmethod(lambda: None)

    def __init__(self, spoil=None, **settings):
        self.spoil, self.settings = spoil, settings

    def standardise(self, x, mean, count, **given):
        returned = standardise(x, mean, count, **{**given, **self.settings})
        if self.spoil:
            self.spoil(returned, mean, count)
        return returned


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_that_are_returned_updated_integer_and_mask(dtype):
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 1), (40, 1, 9)):
        verify(Backend(), STANDARDISE, STANDARDISE.sample(rng, case(*shape, dtype)))


def _shifted(array, where=0):
    array.flat[where] += array.dtype.type(1) if array.dtype.kind != "f" else 1e-4


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda returned, mean, count: _shifted(returned[0], -1), "standardise, y: 1 of 360 wrong"),
        (lambda returned, mean, count: _shifted(returned[1], 5), "largest: 1 of 40 wrong"),
        (lambda returned, mean, count: np.logical_not(*[returned[2]] * 2), "positive: 360 of 360"),
        (lambda returned, mean, count: _shifted(mean), "mean: 1 of 9 wrong"),
        (lambda returned, mean, count: _shifted(count), "count: 1 of 1 wrong"),
    ],
)
def test_each_wrong_result_is_seen(spoil, what):
    inputs = STANDARDISE.sample(np.random.default_rng(0), case(40, 1, 9))
    with pytest.raises(AssertionError, match=what):
        verify(Backend(spoil), STANDARDISE, inputs)


def test_an_ignored_setting_a_dtype_and_a_number_of_results_are_seen():
    inputs = STANDARDISE.sample(np.random.default_rng(0), case(40, 1, 9))
    with pytest.raises(AssertionError, match="mean: "):
        verify(Backend(share=0.1), STANDARDISE, inputs)
    _, results, _ = call(Backend(), STANDARDISE, inputs)
    narrow = results[0], results[1].astype(np.int32), *results[2:]
    assert "dtype int32 instead of int64" in STANDARDISE.disagreement(inputs, narrow)
    assert "4 results instead of 5" in STANDARDISE.disagreement(inputs, results[:4])
    with pytest.raises(ValueError, match="must return 3 arrays, got 1"):
        STANDARDISE.collect(inputs, results[0])


CHOICES = "reduction", "method", "fill"  # settings that are names


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=str)
def test_hyperparameters_vary_and_defaults_are_one_sample(operation):
    rng, drawn = np.random.default_rng(1), {}
    varied = case(3, 4, 5)
    for _ in range(8):
        for name, value in operation.sample(rng, varied).items():
            if isinstance(value, float | int) or name in CHOICES:
                drawn.setdefault(name, set()).add(value)
            if isinstance(value, tuple) and name == "alpha":
                for part, number in zip(("alpha", "gamma"), value, strict=True):
                    drawn.setdefault(part, set()).add(number)
    parameters = inspect.signature(operation.function).parameters.values()
    settings = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    valueless = operation.variant in ("zeros", *reference.initializers.SCALES)
    settings -= {"value"} if valueless else set()
    settings -= {
        "out",
        "precision",
        "class_weights",
        "skip",
        "bins",
    }  # bins are the size of a result
    settings -= {"axis"} if operation.variant != "across rows" else set()
    settings |= {"alpha"} if operation.variant in ("leaky_relu", "elu", "selu") else set()
    settings |= {"gamma"} if operation.variant == "selu" else set()
    fixed = {
        "plain": {"ignore_index"},
        "hard": {"label_smoothing", "ignore_index", "reduction"},
        "smoothed": {"ignore_index", "reduction"},
        "soft": {"ignore_index"},
    }.get(operation.variant, set())
    assert all(len(drawn[name]) > 1 for name in settings - fixed)
    plain, others = (
        reference.Case("test", varied.sizes, vary=False),
        ("ignore_index", "value", "axis"),
    )
    for name, value in operation.sample(rng, plain).items():
        default = inspect.signature(operation.function).parameters[name].default
        free = name in (*others, "step", "lr", "label_smoothing")
        given = free or default is inspect.Parameter.empty
        assert given or name not in drawn or value == default


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operation", [*OPERATIONS.values(), STANDARDISE], ids=str)
def test_bytes_are_those_of_the_arrays(operation, dtype):
    """Each array that is read, once, and each that is written, once."""
    given = case(6, 5, 7, dtype)
    inputs = operation.sample(np.random.default_rng(2), given)
    results = [
        np.asarray(array).astype(result.dtype or dtype)
        for array, result in zip(operation.oracle(inputs), operation.results, strict=True)
    ]
    assert operation.bytes(dtype, **given.sizes) == moved(operation, inputs, results)
