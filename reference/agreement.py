"""Whether results agree with what is wanted of them, within a bound of the errors."""

from typing import Any

import numpy as np

from .bounds import SIGMAS, Bound


def compare(got: np.ndarray, want: np.ndarray, bound: Bound, dtype: Any) -> str | None:
    """Where |got - want| exceeds the bound, or None. NaN must meet NaN, infinity infinity.

    What overflows in `dtype` may come out as infinity, and only that.
    """
    got, want, dtype = np.asarray(got), np.asarray(want), np.dtype(dtype)
    if got.dtype != dtype:
        return f"dtype {got.dtype} instead of {dtype}"
    if got.shape != want.shape:
        return f"shape {got.shape} instead of {want.shape}"
    if dtype.kind != "f":
        wrong = got != want
        return f"{int(wrong.sum())} of {got.size} wrong" if wrong.any() else None
    got = got.astype(np.float64)
    each = np.broadcast_to(bound.each, got.shape)
    with np.errstate(all="ignore"):
        near = np.abs(got - want) <= each
    if not near.all():  # of large arrays what follows would take most of the time
        complaint = _complaint(got, want, each, near, np.finfo(dtype).max)
        if complaint:
            return complaint
    share = bound.mean_share(got, want)
    if share > 1:
        return f"errors of {share * SIGMAS:.3g} deviations in the root mean square, not {SIGMAS:g}"
    return None


def _complaint(got, want, each, near, largest):
    """Where numbers are not `near` which are neither NaN both nor infinite as they may be."""
    with np.errstate(all="ignore"):
        overflowed = np.abs(want) + each >= largest
        infinite = np.isinf(got) & (np.sign(got) == np.sign(want)) & (np.isinf(want) | overflowed)
        bad = ~(near | infinite | (np.isnan(got) & np.isnan(want)))
        if not bad.any():
            return None
        excess = np.where(bad, np.nan_to_num(np.abs(got - want) / each, nan=np.inf), 0.0)
    where = np.unravel_index(np.argmax(excess), excess.shape)
    at = tuple(int(i) for i in where)
    return (
        f"{int(bad.sum())} of {got.size} wrong; worst at {at}: "
        f"{got[where]:.9g} instead of {want[where]:.9g}, allowed error {each[where]:.3g}"
    )
