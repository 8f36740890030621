"""What a specification is: samples of an operation, its work, its results and their error bounds.

A family file (activations, dense, ...) holds plain NumPy functions and, beside them, OPERATIONS:
one `Operation` for every function and variant. Tests and benchmarks are products over these. How
the error bounds are derived is told in bounds.py.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .agreement import compare
from .bounds import Bound

Inputs = dict[str, Any]
# (batch, fan_in, fan_out): one row, one column, beside the widths of vectors and of a warp.
BORDER_SIZES = ((1, 1, 1), (1, 9, 33), (33, 7, 1), (3, 5, 4), (9, 8, 7), (17, 15, 16), (31, 33, 32))


@dataclass(frozen=True)
class Case:
    """At which sizes, in which dtype and on which data an operation is tested or timed.

    sizes  by name: batch, fan_in, fan_out, ... as the operations need; others do no harm
    rows   rows(batch) gives real data, (batch, fan_in), where the case is a network's first layer
    vary   whether hyperparameters are drawn as well; else they are the defaults
    """

    name: str
    sizes: Mapping[str, int] = field(hash=False)
    dtype: str = "float32"
    rows: Callable[[int], np.ndarray] | None = None
    vary: bool = True

    def at(self, *, dtype: Any = None, **sizes: int) -> "Case":
        """The same case with some sizes set, or in another dtype."""
        name = self.dtype if dtype is None else np.dtype(dtype).name
        return replace(self, sizes={**self.sizes, **sizes}, dtype=name)


@dataclass(frozen=True)
class Result:
    """What an operation leaves: an array that it returns or, where it `updates`, an argument.

    dtype: that of the floating inputs unless it is named: "int64", "bool".
    """

    name: str  # "grads[1]": an array in a tuple
    dtype: str | None = None
    updates: bool = False

    @property
    def argument(self) -> str:
        """The name of the argument that it updates or is part of."""
        return self.name.partition("[")[0]

    def among(self, arguments: Mapping[str, Any]) -> Any:
        """The array that it updates."""
        value, place = arguments[self.argument], self.name[len(self.argument) :]
        return value[int(place[1:-1])] if place else value


@dataclass(frozen=True)
class Operation:
    """One public function in one variant, with all that is needed to test and time it.

    sizes                       the names of the sizes that it depends on
    sample(rng, case)           fresh inputs: the function's arguments by name, in order; a tuple
                                may hold several arrays
    flops(**sizes)              fewest operations (exp, log, sqrt, divide count as one)
    elements(**sizes)           fewest floating-point elements moved: each input read once, each
                                output written once
    other_bytes(**sizes)        the same of labels, integers and masks, [B]
    results                     what it returns, in order, and what it updates in place
    error_bound(inputs, dtype)  a Bound for each of the results in `dtype` against this function in
                                float64; of integers and masks it is EXACT
    special(dtype)              (description, inputs) with values at the borders
    precision                   "tf32" where its inputs permit products of rounded factors
    """

    name: str
    function: Callable
    sizes: tuple[str, ...]
    sample: Callable[[np.random.Generator, Case], Inputs]
    flops: Callable[..., float]
    elements: Callable[..., float]
    results: tuple[Result, ...]
    error_bound: Callable[..., tuple[Bound, ...]]
    special: Callable[[Any], Iterator[tuple[str, Inputs]]]
    variant: str = ""
    other_bytes: Callable[..., float] = lambda **sizes: 0
    precision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}[{self.variant}]" if self.variant else self.name

    @property
    def in_place(self) -> tuple[str, ...]:
        """The arguments that are updated in place."""
        return tuple(dict.fromkeys(r.argument for r in self.results if r.updates))

    @property
    def returns(self) -> int:
        """How many arrays are returned."""
        return sum(not result.updates for result in self.results)

    def edges(self, dtype: Any) -> Iterator[tuple[str, Inputs]]:
        """(description, inputs) at the borders: special values, and sizes around them."""
        yield from self.special(np.dtype(dtype))
        rng = np.random.default_rng(13)
        for batch, fan_in, fan_out in BORDER_SIZES:
            sizes = {"batch": batch, "fan_in": fan_in, "fan_out": fan_out}
            case = Case("edges", {name: sizes[name] for name in self.sizes}, np.dtype(dtype).name)
            yield str(case.sizes), self.sample(rng, case)

    def bytes(self, dtype: Any, **sizes: int) -> float:
        """Fewest bytes moved, [B]."""
        return self.elements(**sizes) * np.dtype(dtype).itemsize + self.other_bytes(**sizes)

    def collect(self, arguments: Mapping[str, Any], returned: Any) -> tuple:
        """The results in their order, of a call with these arguments that returned this.

        Raises ValueError where it returned more or fewer arrays than it should.
        """
        given = iter(self.returned(returned))
        return tuple(r.among(arguments) if r.updates else next(given) for r in self.results)

    def returned(self, returned: Any) -> tuple:
        """What a call returned, as so many arrays as it should. Raises ValueError otherwise."""
        given = returned if isinstance(returned, tuple) else (returned,) * (returned is not None)
        if len(given) != self.returns:
            raise ValueError(f"{self} must return {self.returns} arrays, got {len(given)}")
        return given

    def oracle(self, inputs: Inputs) -> tuple[np.ndarray, ...]:
        """The reference in float64 on these inputs, which stay as they are."""
        wide = upcast(inputs)
        return self.collect(wide, self.function(**wide))

    def bounds(self, inputs: Inputs) -> tuple[Bound, ...]:
        """The error bounds of the results of these inputs, in their dtype."""
        defaults = inspect.signature(self.function).parameters.values()
        given = {p.name: p.default for p in defaults if p.default is not p.empty}
        return self.error_bound({**given, **upcast(inputs)}, floating(inputs))

    def disagreement(self, inputs: Inputs, results: tuple[np.ndarray, ...]) -> str | None:
        """What is wrong with `results` (host arrays computed from `inputs`), or None."""
        with np.errstate(all="ignore"):
            expected, bounds = self.oracle(inputs), self.bounds(inputs)
        factor = oracles_share(floating(inputs))
        if len(results) != len(expected):
            return f"{self}: {len(results)} results instead of {len(expected)}"
        for got, want, bound, result in zip(results, expected, bounds, self.results, strict=True):
            complaint = compare(got, want, bound * factor, result.dtype or floating(inputs))
            if complaint:
                return f"{self}, {result.name}: {complaint}"
        return None


def oracles_share(dtype: Any) -> int:
    """By how much a bound grows because the oracle errs as well: only in float64 does it matter."""
    return 2 if np.dtype(dtype) == np.float64 else 1


def upcast(inputs: Mapping[str, Any]) -> Inputs:
    """The inputs with every array copied, floating ones to float64."""

    def wide(array):
        return array.astype(np.float64) if array.dtype.kind == "f" else array.copy()

    return with_arrays(wide, inputs)


def floating(inputs: Mapping[str, Any]) -> np.dtype:
    """The dtype of the floating arrays among the inputs."""
    return next(array.dtype for array in arrays_of(inputs) if array.dtype.kind == "f")


def with_arrays(function: Callable, inputs: Mapping[str, Any]) -> Inputs:
    """The inputs with function(array) for every array, also for those that a tuple holds."""

    def changed(value):
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        return function(value) if isinstance(value, np.ndarray) else value

    return {name: changed(value) for name, value in inputs.items()}


def arrays_of(inputs: Mapping[str, Any]) -> list[np.ndarray]:
    """Every array among the inputs, those in tuples too."""
    found = []
    with_arrays(found.append, inputs)
    return found


def store(out: np.ndarray | None, value: Any) -> np.ndarray:
    """`value` as an array, written into `out` where one is given."""
    if out is None:
        return np.asarray(value)
    out[...] = value
    return out


def border_values(dtype: Any) -> np.ndarray:
    """Zeros, infinities, NaN, subnormals, and numbers near over- and underflow of dtype and exp."""
    info = np.finfo(dtype)
    magnitudes = [0.0, 1.0, info.tiny, info.smallest_subnormal, info.eps, info.max, np.inf]
    magnitudes += [1e-6, 0.3, 0.35, 0.7, 10.0, 17.5, 40.0, 87.0, 88.5, 89.0, 104.0]
    magnitudes += [700.0, 709.5, 746.0, np.sqrt(info.tiny), np.sqrt(info.max)]
    return np.array([*magnitudes, *(-m for m in magnitudes), np.nan], dtype)
