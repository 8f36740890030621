"""What a specification is: samples of an operation, its work, and bounds of its rounding error.

A family file (activations, dense, ...) holds plain NumPy functions and, beside them, OPERATIONS:
one `Operation` for every function and variant. Tests and benchmarks are products over these.

The error bounds are forward bounds of the standard model of floating-point arithmetic,
fl(a op b) = (a op b)(1 + d), |d| <= u (N. J. Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., SIAM 2002, ch. 2 and 3), with these assumptions about a kernel:

- exp, expm1, log and tanh are correct to ELEMENTARY * u (4 ulp: numpy's vectorised float32 log
  states 3.83 ulp and its exp 2.52, CUDA's math library 1 to 2),
- a sum of n terms may be taken in any order; its error grows as min(n, 8 sqrt(n)) u: the first is
  the worst case, the second holds with probability above 1 - 2 n exp(-32) for independent roundings
  (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, SISC 41, 2019),
- subnormal numbers may be flushed to zero, as CUDA code does under -ftz=true.

Against float64 kernels the float64 oracle errs by as much itself, so their bounds are doubled.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ELEMENTARY = 8
Inputs = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """A dense layer of some workload: the sizes at which an operation is tested and timed.

    `rows(batch)` gives real data, (batch, fan_in), where the layer is its network's first.
    """

    name: str
    fan_in: int
    fan_out: int
    rows: Callable[[int], np.ndarray] | None = None


@dataclass(frozen=True)
class Operation:
    """One public function in one variant, with all that is needed to test and time it.

    sample(rng, layer, batch, dtype)       fresh inputs: the function's arguments by name, in order
    flops(batch, fan_in, fan_out)          fewest operations (exp, log, sqrt, divide count as one)
    elements(batch, fan_in, fan_out)       fewest array elements moved: each input read once, each
                                           output written once; times the item size: bytes
    error_bound(inputs, dtype)             elementwise absolute bounds, one array an output, of a
                                           result in `dtype` against this function in float64
    edges(dtype)                           (description, inputs) at the borders
    in_place                               the arguments updated in place; empty: results returned
    batched                                whether the batch size enters at all
    """

    name: str
    function: Callable
    sample: Callable[[np.random.Generator, Layer, int, Any], Inputs]
    flops: Callable[[int, int, int], float]
    elements: Callable[[int, int, int], float]
    error_bound: Callable[..., tuple[np.ndarray, ...]]
    edges: Callable[[Any], Iterator[tuple[str, Inputs]]]
    variant: str = ""
    in_place: tuple[str, ...] = ()
    batched: bool = True

    def __str__(self) -> str:
        return f"{self.name}[{self.variant}]" if self.variant else self.name

    def bytes(self, batch: int, fan_in: int, fan_out: int, dtype: Any) -> float:
        """Fewest bytes moved, [B]; integer labels are counted at the item size of `dtype`."""
        return self.elements(batch, fan_in, fan_out) * np.dtype(dtype).itemsize

    def oracle(self, inputs: Inputs) -> tuple[np.ndarray, ...]:
        """The reference in float64 on these inputs, which stay as they are."""
        wide = upcast(inputs)
        result = self.function(**wide)
        if self.in_place:
            return tuple(wide[name] for name in self.in_place)
        return result if isinstance(result, tuple) else (result,)

    def disagreement(self, inputs: Inputs, results: tuple[np.ndarray, ...]) -> str | None:
        """What is wrong with `results` (host arrays computed from `inputs`), or None."""
        dtype = floating(inputs)
        with np.errstate(all="ignore"):
            expected = self.oracle(inputs)
            bounds = self.error_bound(upcast(inputs), dtype)
        if dtype == np.float64:
            bounds = tuple(2 * bound for bound in bounds)
        if len(results) != len(expected):
            return f"{self}: {len(results)} results instead of {len(expected)}"
        for k, (got, want, bound) in enumerate(zip(results, expected, bounds, strict=True)):
            complaint = compare(got, want, bound, dtype)
            if complaint:
                return f"{self}, result {k}: {complaint}"
        return None


def compare(got: np.ndarray, want: np.ndarray, bound: np.ndarray, dtype: Any) -> str | None:
    """Where |got - want| exceeds the bound, or None. NaN must meet NaN, infinity infinity.

    What overflows in `dtype` may come out as infinity, and only that.
    """
    got, want, bound = np.asarray(got), np.asarray(want), np.asarray(bound)
    if got.dtype != np.dtype(dtype):
        return f"dtype {got.dtype} instead of {np.dtype(dtype)}"
    if got.shape != want.shape:
        return f"shape {got.shape} instead of {want.shape}"
    got = got.astype(np.float64)
    with np.errstate(all="ignore"):
        near = np.abs(got - want) <= bound
        overflowed = np.abs(want) + bound >= np.finfo(dtype).max
        infinite = np.isinf(got) & (np.sign(got) == np.sign(want)) & (np.isinf(want) | overflowed)
        bad = ~(near | infinite | (np.isnan(got) & np.isnan(want)))
        if not bad.any():
            return None
        excess = np.where(bad, np.nan_to_num(np.abs(got - want) / bound, nan=np.inf), 0.0)
    where = np.unravel_index(np.argmax(excess), excess.shape)
    at = tuple(int(i) for i in where)
    allowed = np.broadcast_to(bound, got.shape)[where]
    return (
        f"{int(bad.sum())} of {got.size} wrong; worst at {at}: "
        f"{got[where]:.9g} instead of {want[where]:.9g}, allowed error {allowed:.3g}"
    )


def upcast(inputs: Mapping[str, Any]) -> Inputs:
    """The inputs with every floating array copied to float64, every other array as it is."""
    wide = {}
    for name, value in inputs.items():
        is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        wide[name] = value.astype(np.float64) if is_float else value
    return wide


def floating(inputs: Mapping[str, Any]) -> np.dtype:
    """The dtype of the floating arrays among the inputs."""
    arrays = (value for value in inputs.values() if isinstance(value, np.ndarray))
    return next(array.dtype for array in arrays if array.dtype.kind == "f")


def unit_roundoff(dtype: Any) -> float:
    """u = eps / 2: the largest relative error of one rounding to nearest."""
    return float(np.finfo(dtype).eps) / 2


def smallest_normal(dtype: Any) -> float:
    """The largest error of flushing one subnormal number to zero."""
    return float(np.finfo(dtype).tiny)


def summation(terms: int) -> float:
    """Error growth of a sum of `terms` numbers, in units of u times the sum of magnitudes."""
    return min(terms, 8.0 * np.sqrt(terms))


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
    magnitudes += [
        1e-6,
        0.3,
        0.35,
        0.7,
        10.0,
        17.5,
        40.0,
        87.0,
        88.5,
        89.0,
        104.0,
        700.0,
        709.5,
        746.0,
    ]
    magnitudes += [np.sqrt(info.tiny), np.sqrt(info.max)]
    return np.array([*magnitudes, *(-m for m in magnitudes), np.nan], dtype)
