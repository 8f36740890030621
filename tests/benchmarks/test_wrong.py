"""A kernel that is wrong, or that dies while it is timed, has no time; the report says why."""

import re

import pytest
from conftest import user_module
from journals import begin

from benchmarks.reports import report, results
from benchmarks.running import journal
from benchmarks.suites import suite
from reference import FAMILIES

OPERATIONS = [operation for family in FAMILIES.values() for operation in family]

MISTAKES = {
    "bias correction dropped": (
        "adam",
        """
        def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
            reference.adam(param, grad, mean, variance, 10**9, lr=lr)
        """,
    ),
    "wrong sign of alpha": (
        "activation_forward",
        """
        def activation_forward(z, activation, alpha=None, *, out=None):
            if activation == "leaky_relu":
                alpha = -0.01
            return reference.activation_forward(z, activation, alpha, out=out)
        """,
    ),
    "row maximum not subtracted": (
        "softmax",
        """
        def softmax(logits, *, out=None):
            e = np.exp(logits)
            return np.divide(e, e.sum(axis=1, keepdims=True), out=out)
        """,
    ),
    "last element unwritten": (
        "activation_backward",
        """
        def activation_backward(dy, saved, activation, alpha=None, *, out=None):
            result = reference.activation_backward(dy, saved, activation, alpha)
            if out is None or activation == "prelu":
                return result
            out.reshape(-1)[:-1] = result.reshape(-1)[:-1]
            return out
        """,
    ),
    "label off by one": (
        "softmax_cross_entropy",
        """
        def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0, out=None):
            labels = (labels + 1) % logits.shape[1]
            return reference.softmax_cross_entropy(
                logits, labels, label_smoothing=label_smoothing, out=out
            )
        """,
    ),
}


def set_up(function, backend):
    """Setup of the smallest cell of every variant: {values: what it raised}."""
    family = results.FAMILY_OF[function]
    cls = suite.suites(family)[function]
    outcome = {}
    for variant in cls.axes.get("variant", [""]):
        layer = (*cls.axes["layer"], *cls.layers)[0]  # some have no cell in the core grid
        axes = {"variant": variant, "layer": layer, "dtype": "float32", "batch": 16}
        values = tuple({**axes, "backend": backend}[name] for name in cls.axes)
        try:
            cell = cls()
            cell.setup(*values)
            cell.timed({"samples": [1e-5], "number": 1})
            outcome[values] = None
        except Exception as error:
            outcome[values] = error
    return outcome


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_kernel_is_not_timed_but_reported(monkeypatch, house, mistake):
    function, source = MISTAKES[mistake]
    monkeypatch.setenv("FUSEBENCH_BACKEND", str(user_module(house, source)))
    path = begin()
    raised = set_up(function, "mine")
    journal.close_part()
    wrong = {values for values, error in raised.items() if isinstance(error, suite.Wrong)}
    assert wrong, raised
    assert all(error is None or values in wrong for values, error in raised.items())

    text = report.render()
    states = {cell[1:]: line["state"] for cell, line in journal.outcomes(path).items()}
    assert {values for values, state in states.items() if state == journal.WRONG} == wrong
    assert re.search(rf"WRONG mine, {function}\b.*instead of", text)
    assert f"{len(wrong)} cells are wrong or failed" in text


@pytest.mark.parametrize("function", sorted({operation.name for operation in OPERATIONS}))
def test_a_right_kernel_passes_the_check(house, function):
    """Of all variants but TF32's, which is not timed on the host."""
    raised = set_up(function, "numpy")
    skipped = {values for values in raised if values[0] == "relu tf32"}
    assert {values for values, error in raised.items() if error is not None} == skipped
    assert all(isinstance(raised[values], NotImplementedError) for values in skipped)


def test_what_cannot_run_is_skipped_and_what_raises_has_failed(monkeypatch, house):
    source = """
    def softmax(logits, *, out=None):
        raise OSError("no such luck")
    """
    monkeypatch.setenv("FUSEBENCH_BACKEND", str(user_module(house, source)))
    path = begin()
    ((softmax, error),) = set_up("softmax", "mine").items()
    assert isinstance(error, OSError)
    ((sgd, error),) = set_up("sgd", "mine").items()
    assert isinstance(error, NotImplementedError)  # asv's n/a
    found = journal.outcomes(path)
    states = [(line["state"], line["reason"]) for line in found.values()]
    assert list(found) == [("softmax", *softmax), ("sgd", *sgd)]
    assert states == [("failed", "OSError: no such luck"), ("n/a", "mine has no sgd")]
