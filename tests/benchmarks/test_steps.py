"""The training steps that are compared, ours and the libraries': checked before they are timed."""

import functools
import itertools
import types

import numpy as np
import pytest

import kernels
import reference
from benchmarks import bench_network
from benchmarks.peers import contenders, rows
from benchmarks.suites import suite, training_step, workloads
from reference import spec

STEP = training_step.operation(functools.partial(workloads.training, "moons"), (2, 5, 4, 2))
DEEP = training_step.operation(
    functools.partial(workloads.training, "digits"), (64, 9, 9, 10), training_step.OPTIONS
)
BACKENDS = ("numba", "numpy")
OURS = {name: kernels.load(name) for name in BACKENDS}


def sampled(step=STEP):
    return step.sample(np.random.default_rng(3), reference.Case("test", {"batch": 5}))


def test_steps_of_the_grid():
    cells = [cell for cell in rows.grid() if cell[0].name == training_step.NAME]
    found = [(layer.name, batch) for _, layer, batch in cells]
    assert found[:5] == [("moons-2-32-16-2", batch) for batch in workloads.batches("moons")]
    assert found[15:] == [(name, batch) for name in training_step.DEEP for batch in (32, 128)]
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


def test_deep_networks_have_ten_hidden_layers():
    """Named by them; timed as they are made: with batch norm, masks and skips."""
    narrow, wide = map(training_step.sizes, training_step.DEEP)
    assert narrow == (64, *[128] * 10, 10)
    assert wide == (64, *[512] * 10, 10)
    inputs = sampled(training_step.of_network(training_step.DEEP[0]))
    network = training_step.made(reference, inputs, 0.1)
    assert (network.normalization, network.dropout, network.residual) == ("batch_norm", 0.1, True)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_no_unit_of_a_deep_network_lies_at_its_kink(dropout):
    """Neither with masks nor without, by betas that stay small; batch norm's inputs stay rows."""
    step = training_step.of_network(training_step.DEEP[0])
    inputs = step.sample(np.random.default_rng(0), reference.Case("test", {"batch": 128}))
    np.testing.assert_array_equal(inputs["x"], workloads.training("digits")[0][:128])
    betas = np.concatenate([inputs[name] for name in inputs if name.endswith("beta")])
    assert 0 < np.count_nonzero(betas) < 60
    assert np.abs(betas).max() < 1e-3
    network = training_step.made(reference, spec.upcast(inputs) | {"dropout": dropout}, 0.1)
    tapes = [tape for _, tape in network._forward(np.float64(inputs["x"]), training=True)]
    within = 0.99 * training_step.DEEP_KINK * 2.0**-24
    assert min(np.abs(tape.n).min() for tape in tapes[:-1]) > within


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
        cell.call()
        cell.judged()
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


def made_once(network, step, x, labels):
    if not hasattr(network, "known"):
        network.known = step(x, labels)
    return network.known


def gradient_off(network, step, x, labels):
    """As by products of TF32: one part in a thousand."""
    loss = step(x, labels)
    network.states["layer1.weight.mean"] *= np.float32(1.001)
    network.states["layer1.weight.variance"] *= np.float32(1.002)
    return loss


def loss_off(network, step, x, labels):
    return step(x, labels) * 1.001


def statistics_stay(network, step, x, labels):
    before = {name: array.copy() for name, array in network.running.items()}
    loss = step(x, labels)
    for name, array in network.running.items():
        array[...] = before[name]
    return loss


def other_masks(network, step, x, labels):
    network.seed += 1
    return step(x, labels)


def no_masks(network, step, x, labels):
    network.dropout = 0.0
    return step(x, labels)


def no_skips(network, step, x, labels):
    network.residual = False
    return step(x, labels)


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


OF_DEEP = statistics_stay, other_masks, no_masks, no_skips
WRONG = [
    *itertools.product(MISTAKES, (training_step.PLAIN[0], training_step.PLAIN[2])),
    *itertools.product((*MISTAKES, *OF_DEEP), training_step.DEEP[:1]),
]


@pytest.mark.parametrize(("mistake", "network"), WRONG)
def test_a_wrong_step_is_not_timed(set_up, mistake, network):
    assert set_up(right, network, "float32").call() > 0
    with pytest.raises(suite.Wrong, match="network_step, "):
        set_up(mistake, network, "float32")


def test_a_network_that_makes_its_first_step_alone_is_not_timed(set_up):
    """Though that is right, of the judged one too."""
    with pytest.raises(suite.Wrong, match="network_step, loss: "):
        set_up(made_once, training_step.PLAIN[0], "float32")


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


@pytest.mark.parametrize("step", [STEP, DEEP], ids=["plain", "deep"])
@pytest.mark.parametrize("library", ["torch", "torch.compile", "jax.jit"])
def test_steps_of_the_libraries(library, step):
    package = "jax" if library == "jax.jit" else "torch"
    pytest.importorskip(package, reason=f"{package} is not installed: {contenders.INSTALL}")
    found, _ = contenders.available(OURS)
    (contender,) = (c for c in found if c.name == library)
    call = contender.prepare(step, sampled(step))
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


@pytest.mark.slow
def test_a_library_is_checked_without_masks_and_timed_with_them():
    """Its running statistics are judged too; ours are checked with the masks that they draw."""
    inputs, heard = sampled(DEEP), []
    known = contenders.remembered(DEEP, inputs)

    def bind_step(given, lr, device):
        heard.append((lr, given["dropout"]))
        results = [np.asarray(r, np.float32) for r in DEEP.oracle(given)]
        results[-1] = results[-1] * np.float32(spoilt)
        return lambda: None, lambda: tuple(results)

    contender, spoilt = contenders._library("deep", None, "cpu", bind_step), 1.0
    contender.prepare(known, inputs)
    assert heard == [(training_step.RATE, 0.0), (0.0, 0.1)]
    spoilt = 1.001
    with pytest.raises(suite.Wrong, match=r"layer1\.running_variance"):
        contender.prepare(known, inputs)
    assert training_step.checked(known, OURS["numba"], inputs)() > 0


def test_steps_that_a_library_does_not_have():
    def bind(operation, inputs, device):
        raise NotImplementedError(operation.name)

    with pytest.raises(NotImplementedError, match="network_step"):
        contenders._library("inference", bind, "cpu").prepare(STEP, sampled())
