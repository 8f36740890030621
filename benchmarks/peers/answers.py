"""Whether another library's answer is the float64 oracle's.

Our kernels are held to the specification's error bound, other libraries to a wider one, because
they round in other places and some of their formulas (1 - y^2 for the derivative of tanh,
exp(z) - 1 for elu) are exact only relative to the largest numbers: WIDER times our bound and ULPS
units in the last place of the largest number of the result. Counts are exact, those of a histogram
but for elements so near to a border. Random numbers are others than ours: their distribution is
compared, and of dropout how many are kept, and what becomes of these. What a recurrent layer's
forward pass leaves for the backward pass alone a library keeps to itself.
"""

import dataclasses
import math

import numpy as np

from kernels.catalog import CONSTANT, INITIALIZERS, ORTHOGONAL, SPARSE_NORMAL
from reference import spec
from reference.bounds import Bound

WIDER, ULPS = 2, 8
STATES = {"lstm_forward": 3, "gru_forward": 2}  # what else than states these return is not seen
CHANCE = 1e-9  # that equal distributions are taken for different ones


def disagreement(operation, inputs, results):
    """What is wrong with a library's results on these inputs, or None."""
    if operation.name == "histogram":
        return _counted_otherwise(operation, inputs, results)
    if operation.name == "dropout_forward":
        return _dropped_otherwise(inputs, *results)
    if operation.name == "initialize":
        kind = INITIALIZERS[inputs["initializer"]].distribution
        if kind == ORTHOGONAL:
            return _not_orthonormal(inputs, *results)
        if kind != CONSTANT:
            return _drawn_otherwise(*results, *operation.oracle(inputs), kind == SPARSE_NORMAL)
    if len(results) == STATES.get(operation.name):
        kept = operation.oracle(inputs)[len(results) :]
        results += tuple(array.astype(spec.floating(inputs)) for array in kept)
    # A library counts in integers of its own.
    kinds = [result.dtype for result in operation.results]
    results = tuple(r.astype(kind) if kind else r for r, kind in zip(results, kinds, strict=True))
    return widened(operation, inputs).disagreement(inputs, results)


def widened(operation, inputs):
    """The operation with the error bound to which other libraries are held."""
    eps = np.finfo(spec.floating(inputs)).eps
    bounds = operation.bounds(inputs)
    largest = [np.abs(r).max() for r in operation.oracle(inputs)]
    with np.errstate(over="ignore"):
        wider = [b * WIDER + Bound.of(ULPS * eps * r) for b, r in zip(bounds, largest, strict=True)]
    return dataclasses.replace(operation, error_bound=lambda *_: tuple(wider))


def _counted_otherwise(operation, inputs, results):
    """Of elements nearer to a border than ULPS units each may count in either of two bins."""
    ((got,), (want,)) = results, operation.oracle(inputs)
    x, low, high, bins = (inputs[name] for name in ("x", "low", "high", "bins"))
    place = (x.astype(np.float64) - low) * (bins / (high - low))
    near = np.abs(place - np.rint(place)) <= ULPS * np.finfo(x.dtype).eps * bins
    wrong = np.abs(got.astype(np.int64) - want[:bins]).sum()
    return f"{wrong} counts differ, {near.sum()} near a border" if wrong > 2 * near.sum() else None


def _drawn_otherwise(got, want, sparse):
    """By the largest distance of the two distributions found: each is as far from the true one with
    the probability 2 exp(-2 n d^2) at most (Massart, Ann. Probab. 18, 1990).
    """
    if sparse:
        if (np.count_nonzero(got, axis=0) != np.count_nonzero(want, axis=0)).any():
            return "units have more or fewer inputs"
        got, want = got[got != 0], want[want != 0]
    got, want = np.sort(got, axis=None), np.sort(want, axis=None)
    at = np.concatenate([got, want])
    shares = [np.searchsorted(numbers, at, "right") / numbers.size for numbers in (got, want)]
    far, most = (
        np.abs(shares[0] - shares[1]).max(),
        2 * math.sqrt(math.log(2 / CHANCE) / 2 / got.size),
    )
    return f"distributions {far:.3g} apart, at most {most:.3g}" if not far <= most else None


def _dropped_otherwise(inputs, got):
    """What is kept is scaled, and as much is kept as may be by chance (Hoeffding, Journal of the
    American Statistical Association 58, 1963).
    """
    x, expected, kept = inputs["x"], 1 - inputs["rate"], got != 0
    want = np.where(kept, x.astype(np.float64) / expected, 0)
    bound = Bound.of(ULPS * np.finfo(x.dtype).eps * np.abs(want))
    if complaint := spec.compare(got, want, bound, x.dtype):
        return complaint
    share, most = kept.mean(), math.sqrt(math.log(2 / CHANCE) / 2 / got.size)
    return None if abs(share - expected) <= most else f"{share:.3g} are kept, not {expected:.3g}"


def _not_orthonormal(inputs, got):
    gain, eps = 1.0 if inputs["value"] is None else inputs["value"], np.finfo(got.dtype).eps
    q = got.astype(np.float64) / gain
    q = q if q.shape[0] >= q.shape[1] else q.T
    far, most = np.abs(q.T @ q - np.eye(q.shape[1])).max(), ULPS * eps * len(q)
    return f"{far:.3g} from orthonormal, at most {most:.3g}" if not far <= most else None
