"""What networks and their steps refuse, and that they are then as they were."""

import numpy as np
import pytest
from conftest import FAST_NATIVE, SIMULATED, backend_or_skip
from network_cases import put, sample

from reference.network import LOSSES

GOOD = {"sizes": (5, 4, 3), "batch": 8, "lr": 0.01}
BAD = [
    *[("sizes", bad) for bad in (5, (5,), (5, 0, 3), (5, 4.0, 3), (5, -4, 3), None, "543")],
    *[("activations", bad) for bad in ("relu6", "rectifier", ("relu", "relu"), (), None, ("x",))],
    *[("loss", bad) for bad in ("hinge", None)],
    *[("optimizer", bad) for bad in ("no rule", None)],
    *[("batch", bad) for bad in (0, -1, 1.5, None, True)],
    *[("lr", bad) for bad in (-0.1, float("nan"), float("inf"), "fast", None)],
    *[("dtype", bad) for bad in ("float16", "int32", "number", 3)],
    *[("precision", bad) for bad in ("tf16", "", 32, True, ("tf32",))],
    *[("seed", bad) for bad in (-1, 1.5, None, True, np.array([0, 1]))],
    *[("label_smoothing", bad) for bad in (-0.1, 1.0, "much", None)],
    *[("weight_decay", bad) for bad in (-0.1, float("nan"), "0.1")],
    *[("l2", bad) for bad in (-0.1, float("nan"), float("inf"), None)],
    *[(name, bad) for name in ("clip_value", "clip_norm") for bad in (0, -1.0, float("nan"), "1")],
    *[("schedule", bad) for bad in (0.1, "cosine")],
    *[("beta1", bad) for bad in (-0.1, 1.0, None)],
    *[("eps", bad) for bad in (0.0, -1e-8, None)],
    *[(name, 0.5) for name in ("beta", "rho", "momentum")],
]


@pytest.fixture(scope="module", params=[*FAST_NATIVE, SIMULATED[2]])
def fast_backend(request):
    return backend_or_skip(request.param)


@pytest.mark.parametrize(("name", "bad"), BAD, ids=str)
def test_create_names_the_bad_argument(fast_backend, name, bad):
    arguments = {**GOOD, name: bad}
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must "):
        fast_backend.network.create(arguments.pop("sizes"), **arguments)


def test_nothing_is_smoothed_in_a_squared_error(fast_backend):
    with pytest.raises(ValueError, match="label_smoothing must be 0 for mean_squared_error"):
        fast_backend.network.create(
            (2, 1), loss="mean_squared_error", label_smoothing=0.1, batch=1, lr=0.1
        )


def bad_batches(backend, loss):
    """(the argument that is wrong, x, labels, order)"""
    x, labels = sample(GOOD, 6, loss, "float32")
    order = np.arange(6)
    good = put(backend, x, labels, order)
    wide = np.repeat(x, 2, axis=1)
    for bad in (x.tolist(), None, *put(backend, x.astype(np.float64), x[:, :4].copy(), x[0])):
        yield "x", bad, *good[1:]
    yield "x", backend.asarray(wide)[:, ::2], *good[1:]
    yield "x", backend.asarray(x[:0]), *good[1:]
    wrong = [labels.tolist(), None, *put(backend, labels[:-1].copy(), labels.astype(np.float16))]
    if labels.ndim == 1:
        outside = [labels.copy(), labels.copy()]
        outside[0][5], outside[1][0] = -1, 3
        wrong += put(backend, *outside, labels.astype(np.float32), labels[:, None].copy())
    else:
        wrong += put(backend, labels.astype(np.float64), labels[:, :2].copy(), labels[:, 0].copy())
    if loss == "sigmoid_cross_entropy":
        for target in (1.0001, -0.0001, np.inf, np.nan):
            outside = labels.copy()
            outside[5, 2] = target
            wrong += put(backend, outside)
    for bad in wrong:
        yield "labels", good[0], bad, good[2]
    beyond, below = order.copy(), order.copy()
    beyond[3], below[3] = 6, -1
    shaped = (order[:0], order.astype(np.float32), order[None].copy(), beyond, below)
    for bad in (order.tolist(), None, *put(backend, *shaped)):
        yield "order", *good[:2], bad


@pytest.mark.parametrize("loss", LOSSES)
def test_bad_batches_change_nothing(fast_backend, loss):
    network = fast_backend.network.create((5, 4, 3), loss=loss, batch=8, lr=0.01)
    before = network.state()
    for name, x, labels, order in bad_batches(fast_backend, loss):
        calls = [lambda x=x, y=labels, o=order: network.epoch(x, y, o)]
        if name != "order":
            calls += [lambda x=x, y=labels: network.step(x, y)]
            calls += [lambda x=x, y=labels: network.evaluate(x, y)]
        if name == "x":
            calls.append(lambda x=x: network.predict(x))
        for call in calls:
            with pytest.raises((TypeError, ValueError), match=rf"^{name} must "):
                call()
    after = network.state()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_that_is_no_number_is_returned(fast_backend, loss):
    """No value of a loss says that a step was refused."""
    network = fast_backend.network.create((5, 4, 3), loss=loss, batch=8, lr=0.01)
    x, labels = sample(GOOD, 6, loss, "float32")
    x[2, 1] = np.nan
    x, labels, order = put(fast_backend, x, labels, np.arange(6))
    assert np.isnan(network.evaluate(x, labels)[0])
    assert np.isnan(network.step(x, labels))
    assert np.isnan(network.epoch(x, labels, order))
    assert int(network.state()["steps"]) == 2


def test_a_step_takes_no_more_than_batch_rows(fast_backend):
    network = fast_backend.network.create((5, 4, 3), batch=8, lr=0.01)
    x, labels = put(fast_backend, *sample(GOOD, 9, dtype="float32"))
    with pytest.raises(ValueError, match="x must have at most batch = 8 rows, got 9"):
        network.step(x, labels)


def test_a_state_of_another_network(fast_backend):
    network = fast_backend.network.create((5, 4, 3), batch=8, lr=0.01)
    state = network.state()
    other = fast_backend.network.create((5, 6, 3), batch=8, lr=0.01).state()
    missing = {name: array for name, array in state.items() if name != "layer1.bias"}
    negative = {**state, "steps": np.array(-1)}
    wide = {**state, "layer0.bias": state["layer0.bias"].astype(np.float64)}
    for bad in (other, missing, negative, wide):
        with pytest.raises(ValueError, match=r"^source must hold"):
            network.load_state(bad)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        network.load_state("nowhere.npz")
    for name, array in network.state().items():
        np.testing.assert_array_equal(array, state[name])
