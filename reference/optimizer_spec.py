"""The specification of the update rules: error bounds, samples, borders, work.

The errors are those of the rule itself on inexact numbers. Param and state bring along the errors
of earlier steps, so a trajectory's bound is the same recursion as the trajectory. What is given as
a bound comes out as one, what is given as a standard deviation as one: where errors meet, they are
added up.
"""

import inspect

import numpy as np

from .bounds import EXACT, Bound, smallest_normal
from .inexact import Inexact
from .optimizers import RULES
from .spec import Operation, Result


def parts(rule):
    """(names of its state arrays, its settings with their defaults) of an update rule."""
    parameters = inspect.signature(rule).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    settings = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    return tuple(n for n in positional if n not in ("param", "grad", "step")), settings


def counts(rule):
    """Whether it takes the number of the step."""
    return "step" in inspect.signature(rule).parameters


def draw(name, rng):
    """A hyperparameter: rates and eps from wide ranges, means' weights from 0 to 1."""
    match name:
        case "step":
            return int(rng.choice((1, 2, 3, 1000)))
        case "lr":
            return 10 ** rng.uniform(-4, 0)
        case "eps" | "smallest":
            return 10 ** rng.uniform(-8, 0)
        case "eta_plus" | "largest":
            return rng.uniform(1, 2)
    return rng.uniform()


BLOCK = 1 << 15  # elements

# States that are not negative: sums, means and maxima of squares, maxima of magnitudes, rates.
SQUARES = (
    *("accumulator", "mean_square", "mean_square_change", "variance"),
    *("largest", "infinity_norm", "step_size", "rate"),
)


def _sample(rule, rng, shape, dtype):
    """Normal parameters and gradients, and a state as some steps would have left it."""
    inputs = {name: rng.standard_normal(shape) for name in ("param", "grad", *parts(rule)[0])}
    for name in SQUARES:
        if name in inputs:
            inputs[name] = inputs[name] ** 2
    if {"mean_square", "mean"} <= set(inputs):  # no less than the square of the mean
        inputs["mean_square"] += inputs["mean"] ** 2
    return {name: value.astype(dtype) for name, value in inputs.items()}


def _errors(rule, inputs, dtype, errors):
    """Of param and the states after a step, given those of all arrays before it, block by block:
    the arrays between lie in a cache then.
    """
    shape = inputs["param"].shape
    blocks = []
    for first in range(0, max(1, inputs["param"].size), BLOCK):

        def part(array, first=first):
            if not np.ndim(array):
                return array
            return np.broadcast_to(array, shape).reshape(-1)[first : first + BLOCK]

        own = {name: part(value) if name in errors else value for name, value in inputs.items()}
        of = {name: part(error) for name, error in errors.items()}
        blocks.append(_block_errors(rule, own, dtype, of))
    return [np.concatenate(found).reshape(shape) for found in zip(*blocks, strict=True)]


def _block_errors(rule, inputs, dtype, errors):
    """A GPU takes a subnormal number of float32 for zero."""
    given = {name: Inexact(value) for name, value in inputs.items() if name not in errors}
    for name, error in errors.items():
        size = np.abs(inputs[name])
        flushed = np.where(size < smallest_normal(dtype), size, 0.0)
        given[name] = Inexact(inputs[name], error + flushed, dtype)
    rule(**given)
    return [given[name].error for name in ("param", *parts(rule)[0])]


def _edges(rule, settings, dtype):
    rng, states = np.random.default_rng(11), parts(rule)[0]
    for label, gradient in (
        ("zero", [0.0, -0.0]),
        ("special", [np.inf, -np.inf, np.nan]),
        ("large", [1e18, -1e18]),
        ("small", [1e-12, -1e-25, float(np.finfo(dtype).smallest_subnormal)]),
    ):
        inputs = {**_sample(rule, rng, len(gradient), dtype), **settings}
        inputs["grad"] = np.array(gradient, dtype)
        yield f"{label} gradient", inputs
        inputs = {**inputs, **{name: np.zeros(len(gradient), dtype) for name in states}}
        yield f"{label} gradient, state zero", inputs


def _operation(rule, flops, settings):
    states, defaults = parts(rule)

    def sample(rng, case):
        size = (case.sizes["fan_in"] + 1) * case.sizes["fan_out"]  # the weights and the bias
        inputs = _sample(rule, rng, size, case.dtype)
        if not case.vary:
            return {**inputs, **settings}
        return {**inputs, **{name: draw(name, rng) for name in {**settings, **defaults}}}

    def error_bound(inputs, dtype, carried=None, of_grad=EXACT):
        carried = carried or (EXACT,) * (1 + len(states))
        of = dict(zip(("param", *states), carried, strict=True), grad=of_grad)
        each = _errors(rule, inputs, dtype, {name: bound.each for name, bound in of.items()})
        if all(bound is EXACT for bound in of.values()):
            return tuple(map(Bound.of, each))
        deviations = {name: bound.deviation for name, bound in of.items()}
        return tuple(map(Bound, each, _errors(rule, inputs, dtype, deviations)))

    return Operation(
        rule.__name__,
        rule,
        ("fan_in", "fan_out"),
        sample,
        lambda fan_in, fan_out, **_: flops * (fan_in + 1) * fan_out,
        lambda fan_in, fan_out, **_: (3 + 2 * len(states)) * (fan_in + 1) * fan_out,
        tuple(Result(name, updates=True) for name in ("param", *states)),
        error_bound,
        lambda dtype: _edges(rule, settings, dtype),
    )


OPERATIONS = tuple(_operation(rule, *work) for rule, work in RULES.items())
