"""Losses and softmax whose arguments compiled code checks: it takes them, else Python says why."""

import numpy as np
import pytest

from kernels import numba_cpu
from kernels.numba_cpu.codegen.shortcut import Shortcut

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 3))
BLOCKS = RNG.standard_normal((2, 5, 3))
LABELS = np.array([0, 1, 2, 0, -7, 1])  # one of which may be ignored
INSIDE = np.abs(LABELS) % 3
WEIGHTS = np.array([0.5, 2.0, 1.5])
SOFT = np.full(X.shape, 1 / 3)
IGNORED = {"labels": LABELS, "ignore_index": -7}

LOSSES = {
    "weighted": {"class_weights": WEIGHTS},
    "ignored": IGNORED,
    "weighted and ignored": {"class_weights": WEIGHTS, **IGNORED},
    "a class ignored": {"ignore_index": 1},
}
CROSS_ENTROPIES = LOSSES | {
    "smoothed": {"class_weights": WEIGHTS, "label_smoothing": 0.1, **IGNORED},
    "soft": {"labels": SOFT},
    "soft, weighted and smoothed": {
        "labels": SOFT,
        "class_weights": WEIGHTS,
        "label_smoothing": 0.1,
    },
}


def _losses():
    kinds = (
        ("nll", "log_probabilities", LOSSES),
        ("softmax_cross_entropy", "logits", CROSS_ENTROPIES),
    )
    for name, first, settings in kinds:
        for what, given in {"plain": {}, **settings}.items():
            for reduction in ("mean", "sum", "none"):
                arguments = {first: X, "labels": INSIDE, **given, "reduction": reduction}
                yield f"{name}, {what}, {reduction}", (name, arguments)


CALLS = dict(_losses())
for _name in ("softmax", "log_softmax"):
    for _x, _axes in ((X, (0, -2, 1, -1)), (BLOCKS, (1, -2))):
        for _axis in _axes:
            CALLS[f"{_name}, {_x.ndim}-D, {_axis}"] = _name, {"logits": _x, "axis": _axis}


def prepared(key, dtype="float32"):
    """A function, its arguments, what its first call returned, and arrays for another's results."""
    name, given = CALLS[key]
    given = {
        k: v.astype(dtype) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
        for k, v in given.items()
    }
    function = getattr(numba_cpu, name)
    first = function(**given)
    results = first if type(first) is tuple else (first,)
    out = tuple(np.full_like(result, 7) for result in results)
    return function, given, results, out


def given_as(out):
    return out if len(out) > 1 else out[0]


@pytest.fixture
def answers(monkeypatch):
    """What shortcuts have answered."""
    said, accepts = [], Shortcut.accepts
    monkeypatch.setattr(
        Shortcut, "accepts", lambda *given: said.append(accepts(*given)) or said[-1]
    )
    return said


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_ready_call_is_taken_at_once_and_returns_what_the_first_did(answers, dtype):
    for key in CALLS:
        function, given, expected, out = prepared(key, dtype)
        answers.clear()
        assert function(**given, out=given_as(out)) is given_as(out), key
        assert answers == [True], key
        for got, want in zip(out, expected, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=key)


F = np.float32
OF_CLASSES, SUM_OF_CLASSES = "softmax_cross_entropy, weighted, mean", "nll, weighted, mean"
EACH, SOFT_TARGETS = "softmax_cross_entropy, plain, none", "softmax_cross_entropy, soft, mean"
COLUMNS = "softmax, 2-D, 0"
# A call, what is changed in it, and the error's beginning.
REFUSED = [
    *[
        (key, {"class_weights": WEIGHTS[:n].astype(F)}, "class_weights must have shape")
        for key in (OF_CLASSES, SUM_OF_CLASSES)
        for n in (0, 2)
    ],
    (OF_CLASSES, {"ignore_index": 2**70}, "ignore_index must be an int64"),
    (SUM_OF_CLASSES, {"ignore_index": 2**63}, "ignore_index must be an int64"),
    (OF_CLASSES, {"ignore_index": True}, "ignore_index must be an integer or None"),
    (SOFT_TARGETS, {"ignore_index": 1}, "ignore_index must be None for soft targets"),
    (OF_CLASSES, {"reduction": "x"}, "reduction must be one of"),
    (SUM_OF_CLASSES, {"reduction": "x"}, "reduction must be one of"),
    (OF_CLASSES, {"reduction": "none"}, r"out\[0\] must have shape"),
    (EACH, {"reduction": "sum"}, r"out\[0\] must have shape"),
    (SOFT_TARGETS, {"labels": SOFT[:0].astype(F)}, "labels must have shape"),
    (OF_CLASSES, {"labels": [0] * 6}, "labels must be a numpy.ndarray"),
    (OF_CLASSES, {"labels": INSIDE + 1}, "labels must be in 0"),
    (SUM_OF_CLASSES, {"labels": INSIDE + 1}, "labels must be in 0"),
    (OF_CLASSES, {"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1"),
    *[(COLUMNS, {"axis": axis}, "axis must be at least -2 and below 2") for axis in (2, -3)],
    (COLUMNS, {"logits": np.asfortranarray(X, F)}, "logits must be C-contiguous"),
    (COLUMNS, {"logits": X.astype(F)[:5]}, "out must have shape"),
    (COLUMNS, {"logits": X[0].astype(F), "axis": 0}, "out must have shape"),
    (COLUMNS, {"logits": BLOCKS.astype(F), "axis": 1}, "out must have shape"),
]


@pytest.mark.parametrize(("key", "changes", "error"), REFUSED)
def test_a_ready_call_refuses_what_the_first_would(answers, key, changes, error):
    """By the argument's name; nothing is written."""
    function, given, _, out = prepared(key)
    answers.clear()
    with pytest.raises((ValueError, TypeError), match=error):
        function(**{**given, **changes}, out=given_as(out))
    assert not any(answers)
    for array in out:
        assert (array == 7).all()


def test_results_share_memory_with_no_input_but_what_they_replace(answers):
    x, soft = X.astype(F), SOFT.astype(F)
    numba_cpu.softmax(x, axis=0)
    loss, _ = numba_cpu.softmax_cross_entropy(x, soft)
    loss[...] = 7
    answers.clear()
    with pytest.raises(ValueError, match="out must not share memory with logits unless"):
        numba_cpu.softmax(x[:5], axis=0, out=x[1:])
    with pytest.raises(ValueError, match=r"out\[1\] must not share memory with labels"):
        numba_cpu.softmax_cross_entropy(x, soft, out=(loss, soft))
    assert not any(answers)
    for array, before in ((x, X), (soft, SOFT), (loss, 7)):
        np.testing.assert_array_equal(array, np.asarray(before, F))
