"""The losses on the simulated GPU, where its kernels differ from those of the CPU: row widths."""

import numpy as np
import pytest
from conftest import SIMULATED, backend_or_skip, verify

import reference

LOSSES = {str(operation): operation for operation in reference.FAMILIES["losses"]}
HARD, SMOOTHED = (LOSSES[f"softmax_cross_entropy[{v}]"] for v in ("hard", "smoothed"))
# One lane a row and several, the last of registers, the first and more than one block's.
WIDTHS = (3, 33, 512, 513, 1025)


@pytest.fixture(params=SIMULATED)
def gpu(request):
    return backend_or_skip(request.param)


@pytest.mark.parametrize("classes", WIDTHS)
@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_finite_stays_in_its_row(gpu, classes, special, dtype):
    """First, in the middle, last, everywhere and beside each other infinity; one row is finite."""
    logits = np.random.default_rng(0).standard_normal((6, classes)).astype(dtype)
    logits[[0, 1, 2], [0, classes // 2, -1]] = special
    logits[3] = special
    logits[4, :2] = special, np.inf
    for name in ("softmax", "log_softmax"):
        verify(gpu, LOSSES[name], {"logits": logits})
    for smoothing in (0.0, 0.1):
        labels = logits.argmin(axis=1).astype(np.int32)
        given = {"logits": logits, "labels": labels, "label_smoothing": smoothing}
        verify(gpu, SMOOTHED if smoothing else HARD, given)


@pytest.mark.parametrize("repeats", [(200, 1), (1, 200)], ids=["rows", "classes"])
@pytest.mark.parametrize("smoothing", [0.9, 0.999, 0.999999])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_label_keeps_its_share_under_strong_smoothing(gpu, repeats, smoothing, dtype):
    """1 - smoothing, taken in float32, would have lost its last digits."""
    logits = np.tile(np.array([[1.0, 2.0, 3.0]], dtype), repeats)
    labels = np.zeros(len(logits), np.int32)
    verify(gpu, SMOOTHED, {"logits": logits, "labels": labels, "label_smoothing": smoothing})
