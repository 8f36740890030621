"""The training steps that are compared, ours and the libraries': checked before they are timed."""

import functools
import types

import numpy as np
import pytest

import kernels
import reference
from benchmarks import bench_network
from benchmarks.peers import contenders, rows
from benchmarks.suites import suite, training_step, workloads

STEP = training_step.operation(functools.partial(workloads.training, "moons"), (2, 5, 4, 2))
BACKENDS = ("numba", "numpy")
OURS = {name: kernels.load(name) for name in BACKENDS}


def sampled():
    layer = workloads.layers()["moons-32x16"]
    return STEP.sample(np.random.default_rng(3), layer.at(batch=5))


def test_steps_of_the_grid():
    cells = [cell for cell in rows.grid() if cell[0].name == training_step.NAME]
    found = [(layer.name, batch) for _, layer, batch in cells]
    assert found[:5] == [("moons-2-32-16-2", batch) for batch in workloads.batches("moons")]
    assert len(found) == 15
    # Products of batch 16: forward and both gradients, but for dx of the first layer.
    step, *_ = cells[0]
    products = 2 * 16 * (3 * (2 * 32 + 32 * 16 + 16 * 2) - 2 * 32)
    assert products <= step.flops(batch=16) <= products + 20 * 658


@pytest.mark.parametrize("backend", BACKENDS)
def test_timed_steps_leave_the_network_as_it_is(backend):
    call = training_step.checked(STEP, OURS[backend], sampled())
    network = call.func.__self__
    before = {name: array.copy() for name, array in network.parameters.items()}
    assert call() == call()
    for name, array in network.parameters.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.fixture
def set_up(monkeypatch):
    """set_up(train, network, dtype) prepares asv's cell of a backend whose network's `step` is
    train(network, the real step, x, labels).
    """

    def prepared(train, name, dtype):
        def create(sizes, **options):
            network = reference.network.create(sizes, **options)
            network.step = functools.partial(train, network, network.step)
            return network

        module = types.SimpleNamespace(**vars(reference))
        module.network = types.SimpleNamespace(create=create)
        monkeypatch.setattr(suite, "_load", lambda backend, needed: module)
        cell = bench_network.network_step()
        cell.setup(name, dtype, 32, "mine")
        return cell

    return prepared


def right(network, step, x, labels):
    return step(x, labels)


def faster(network, step, x, labels):
    network.settings["lr"] *= 1.001
    return step(x, labels)


def faster_in_one_layer(network, step, x, labels):
    before = network.parameters["layer1.weight"].copy()
    loss = step(x, labels)
    network.parameters["layer1.weight"] += 0.1 * (network.parameters["layer1.weight"] - before)
    return loss


def one_layer_stays(network, step, x, labels):
    before = network.parameters["layer1.weight"].copy()
    loss = step(x, labels)
    network.parameters["layer1.weight"][...] = before
    return loss


def one_layer_goes_back(network, step, x, labels):
    before = network.parameters["layer1.weight"].copy()
    loss = step(x, labels)
    network.parameters["layer1.weight"][...] = 2 * before - network.parameters["layer1.weight"]
    return loss


def gradient_off(network, step, x, labels):
    """As by products of TF32: one part in a thousand."""
    loss = step(x, labels)
    network.states["layer1.weight.mean"] *= np.float32(1.001)
    network.states["layer1.weight.variance"] *= np.float32(1.002)
    return loss


def loss_off(network, step, x, labels):
    return step(x, labels) * 1.001


def another_rule(network, step, x, labels):
    network.settings["beta1"] = 0.91
    return step(x, labels)


def in_single_precision(network, step, x, labels):
    arrays = {**network.parameters, **network.states}
    loss = step(x.astype(np.float32), labels)
    for array in arrays.values():
        array[...] = array.astype(np.float32)
    return loss


MISTAKES = (
    faster,
    faster_in_one_layer,
    one_layer_stays,
    one_layer_goes_back,
    gradient_off,
    loss_off,
    another_rule,
)


@pytest.mark.parametrize("network", ["moons-2-32-16-2", "mnist-784-512-512-10"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_step_is_not_timed(set_up, mistake, network):
    assert set_up(right, network, "float32").call() > 0
    with pytest.raises(suite.Wrong, match="network_step, "):
        set_up(mistake, network, "float32")


def test_a_step_in_double_precision_is_computed_in_it(set_up):
    assert set_up(right, "moons-2-32-16-2", "float64").call() > 0
    with pytest.raises(suite.Wrong, match="network_step, "):
        set_up(in_single_precision, "moons-2-32-16-2", "float64")


@pytest.mark.parametrize("module", ["numba", "numpy"])
def test_rounding_at_a_kink_of_relu_is_no_mistake(module):
    """Of these inputs one sum is so close to 0 that float32 gives it the other sign."""
    step = training_step.of_network("mnist-784-512-512-10")
    inputs = step.sample(np.random.default_rng(2), reference.Case("test", {"batch": 3500}))
    assert inputs["x"].shape == (3500, 784)
    assert training_step.checked(step, kernels.load(module), inputs)() > 0


@pytest.mark.parametrize("result", range(1 + 3 * 6))
def test_a_wrong_result_of_a_library_is_refused(result):
    """The loss or a moment off by one part in a thousand, a parameter by a tenth of its change."""

    def bind_step(inputs, lr, device):
        results = [np.asarray(r, np.float32) for r in STEP.oracle(inputs)]
        if 1 <= result <= 6:
            shift = 0.1 * training_step.RATE
        else:
            shift = 1e-3 * max(np.abs(results[result]).max(), 1 if result == 0 else 0)
        results[result] = results[result] + np.float32(shift)
        return lambda: None, lambda: tuple(results)

    contender = contenders._library("wrong", None, "cpu", bind_step)
    with pytest.raises(suite.Wrong, match=f"network_step, {STEP.results[result].name}: "):
        contender.prepare(STEP, sampled())


@pytest.mark.parametrize("library", ["torch", "torch.compile", "jax.jit"])
def test_steps_of_the_libraries(library):
    package = "jax" if library == "jax.jit" else "torch"
    pytest.importorskip(package, reason=f"{package} is not installed: {contenders.INSTALL}")
    found, _ = contenders.available(OURS)
    (contender,) = (c for c in found if c.name == library)
    call = contender.prepare(STEP, sampled())
    for _ in range(3):
        call()


def test_a_library_is_checked_at_one_rate_and_timed_at_zero():
    heard = []

    def bind_step(inputs, lr, device):
        results = tuple(np.asarray(r, np.float32) for r in STEP.oracle(inputs))
        return lambda: heard.append(lr), lambda: results

    call = contenders._library("right", None, "cpu", bind_step).prepare(STEP, sampled())
    call()
    assert heard == [training_step.RATE, 0.0, 0.0]


def test_steps_that_a_library_does_not_have():
    def bind(operation, inputs, device):
        raise NotImplementedError(operation.name)

    with pytest.raises(NotImplementedError, match="network_step"):
        contenders._library("inference", bind, "cpu").prepare(STEP, sampled())
