"""The training steps that are compared, ours and the libraries': checked before they are timed."""

import types

import numpy as np
import pytest

import kernels
from benchmarks import suite, workloads
from benchmarks.peers import contenders, measure, steps

STEP = steps.operation("moons", (2, 5, 4, 2))
BACKENDS = ("numba", "numpy")
OURS = {name: kernels.load(name) for name in BACKENDS}


def sampled():
    layer = workloads.layers()["moons-32x16"]
    return STEP.sample(np.random.default_rng(3), layer, 5, np.dtype("float32"))


def test_steps_of_the_grid():
    found = [(layer.name, batch) for op, layer, batch in measure.grid() if op.name == steps.NAME]
    assert found[:5] == [("moons-2-32-16-2", batch) for batch in workloads.batches("moons")]
    assert len(found) == 15
    # Products of batch 16: forward and both gradients, but for dx of the first layer.
    step = next(op for op, *_ in measure.grid() if op.name == steps.NAME)
    products = 2 * 16 * (3 * (2 * 32 + 32 * 16 + 16 * 2) - 2 * 32)
    assert products <= step.flops(16, 2, 2) <= products + 20 * 658


@pytest.mark.parametrize("backend", BACKENDS)
def test_timed_steps_leave_the_network_as_it_is(backend):
    call = steps.checked(STEP, OURS[backend], sampled())
    network = call.func.__self__
    before = {name: array.copy() for name, array in network.parameters.items()}
    assert call() == call()
    for name, array in network.parameters.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("mistake", ["beta1", "seed", "loss"])
def test_a_wrong_step_of_ours_is_refused(monkeypatch, mistake):
    real = kernels.load("numpy").network.create

    def create(sizes, **options):
        network = real(sizes, **options)
        if mistake == "beta1":
            network.settings["beta1"] = 0.91
        elif mistake == "seed":
            network.parameters = {k: v.copy() for k, v in network.parameters.items()}
            network.states = {k: v + np.float32(1e-3) for k, v in network.states.items()}
        else:
            step = network.step
            network.step = lambda x, labels: step(x, labels) * 1.01
        return network

    module = types.SimpleNamespace(
        network=types.SimpleNamespace(create=create), asarray=np.asarray, to_host=np.asarray
    )
    with pytest.raises(suite.Wrong, match="network_step, result"):
        steps.checked(STEP, module, sampled())


@pytest.mark.parametrize("result", range(1 + 3 * 6))
def test_a_wrong_result_of_a_library_is_refused(result):
    """The loss or a moment off by one part in a thousand, a parameter by a tenth of its change."""

    def bind_step(inputs, lr, device):
        results = [np.asarray(r, np.float32) for r in STEP.oracle(inputs)]
        if 1 <= result <= 6:
            shift = 0.1 * steps.RATE
        else:
            shift = 1e-3 * max(np.abs(results[result]).max(), 1 if result == 0 else 0)
        results[result] = results[result] + np.float32(shift)
        return lambda: None, lambda: tuple(results)

    contender = contenders._library("wrong", None, "cpu", bind_step)
    with pytest.raises(suite.Wrong, match=f"network_step, result {result}: "):
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
    assert heard == [steps.RATE, 0.0, 0.0]


def test_steps_that_a_library_does_not_have():
    def bind(operation, inputs, device):
        raise NotImplementedError(operation.name)

    with pytest.raises(NotImplementedError, match="network_step"):
        contenders._library("inference", bind, "cpu").prepare(STEP, sampled())
