"""The dense network of the CUDA backend, executed by the simulated GPU: one block, graph, chain."""

import numpy as np
import pytest
from conftest import IN_EVERY_ORDER, SIMULATED, backend_or_skip
from network_cases import CASES, EVERY_ACTIVATION, create, hold, rows, trained, verify_step, wide

from reference import network as reference

every_case = pytest.mark.parametrize("case", CASES)
SOFTMAX = [name for name, case in CASES.items() if case[2] == "softmax_cross_entropy"]


@pytest.fixture(params=IN_EVERY_ORDER)
def every_order(request):
    return backend_or_skip(request.param)


@pytest.fixture
def gpu():
    return backend_or_skip(SIMULATED[2])


FORCED = {
    "block": {},
    "graph": {"most_products": 0},
    "chain": {"most_products": 0, "most_captured": 0},
}

PATHS = tuple(FORCED)
every_path = pytest.mark.parametrize("path", PATHS)


@pytest.fixture
def make():
    """create(...) of a network that takes the path."""

    def make(backend, path, *arguments, **others):
        with backend.runtime.limits.forced(**FORCED[path]):
            network = create(backend.network, *arguments, **others)
        assert taken(network) == path
        return network

    return make


def taken(network):
    trainer = network._trainer
    if type(trainer).__name__ == "Block":
        return "block"
    return "graph" if trainer._graph else "chain"


def same_state(one, other):
    a, b = one.state(), other.state()
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


@every_case
@every_path
def test_steps_agree_with_reference(every_order, make, path, case):
    """Whole batches, smaller ones and a single row."""
    network = make(every_order, path, case, 19)
    for seed, count in enumerate((19, 7, 1)):
        verify_step(every_order, network, case, *rows(case, count, seed=seed))


@every_case
@every_path
def test_float64(gpu, make, path, case):
    network = make(gpu, path, case, 19, "float64")
    for seed, count in enumerate((19, 8)):
        data = rows(case, count, "float64", seed)
        verify_step(gpu, network, case, *data, "float64")


@every_path
@pytest.mark.parametrize("activation", EVERY_ACTIVATION)
def test_every_activation(gpu, make, path, activation):
    """Hidden layers keep for the backward pass what it takes, z or y."""
    ours = make(gpu, path, "moons", 19, activations=activation)
    oracle = create(reference, "moons", 19, "float64", activations=activation)
    ours.load_state(trained(ours.state()))
    hold(gpu, ours, oracle, *rows("moons", 13), "float32")


@every_case
@pytest.mark.parametrize("threads", [256, 512])
def test_a_block_of_fewer_or_more_threads(every_order, case, threads, monkeypatch):
    """Whole batches, smaller ones, and more rows than fit in shared memory."""
    with every_order.runtime.limits.forced(block_threads=threads):
        network = create(every_order.network, case, 19)
        monkeypatch.setattr(every_order.network, "chunk_of", lambda spec: 12)
        chunked = create(every_order.network, case, 41)
    blocks, launch = [], every_order.runtime.table.plan
    monkeypatch.setattr(
        every_order.runtime.table,
        "plan",
        lambda *given: blocks.append(launch(*given)[3]) or launch(*given),
    )
    for seed, count in enumerate((19, 7, 1)):
        verify_step(every_order, network, case, *rows(case, count, seed=seed))
    verify_step(every_order, chunked, case, *rows(case, 41))
    assert set(blocks) == {(threads,)}


@every_case
def test_a_batch_in_several_chunks(gpu, make, case, monkeypatch):
    """More rows than fit in shared memory; the last chunk is smaller."""
    monkeypatch.setattr(gpu.network, "chunk_of", lambda spec: 12)
    network = make(gpu, "block", case, 41)
    for seed, count in enumerate((41, 13)):
        verify_step(gpu, network, case, *rows(case, count, seed=seed))


@pytest.mark.parametrize("case", ["moons", "prelu"])
@every_path
def test_epoch_is_its_steps(every_order, make, path, case):
    """Bit by bit, with rows that come twice or never and a smaller last batch."""
    x, labels = rows(case, 30)
    order = np.random.default_rng(3).integers(0, 30, 26)
    one, other = (make(every_order, path, case, 10) for _ in range(2))
    on_gpu = every_order.asarray(x), every_order.asarray(labels)
    for dtype in ("int32", "int64"):
        loss = one.epoch(*on_gpu, every_order.asarray(order.astype(dtype)))
        parts = [order[first : first + 10] for first in (0, 10, 20)]
        losses = [
            other.step(every_order.asarray(x[part]), every_order.asarray(labels[part]))
            for part in parts
        ]
        assert type(loss) is float
        weights = [len(part) for part in parts]
        assert loss == pytest.approx(np.average(losses, weights=weights), rel=1e-6)
        same_state(one, other)
    assert int(one.state()["steps"]) == 6


@every_path
def test_the_label_keeps_its_share_under_strong_smoothing(gpu, make, path, monkeypatch):
    """1 - smoothing, taken in float32, would lose digits, which show among so many classes."""
    settings = {"label_smoothing": 0.9995, "lr": 1000.0}
    case = (1, 600), (), "softmax_cross_entropy", "sgd", settings
    monkeypatch.setitem(CASES, "strong smoothing", case)
    network = make(gpu, path, "strong smoothing", 1)
    verify_step(gpu, network, "strong smoothing", *rows("strong smoothing", 1))


def test_a_small_network_needs_one_launch(gpu, monkeypatch):
    network = create(gpu.network, "moons", 8)
    names, launch = [], gpu.device.launch

    def recording(name, *arguments):
        names.append(name)
        launch(name, *arguments)

    monkeypatch.setattr(gpu.device, "launch", recording)
    data = [gpu.asarray(array) for array in rows("moons", 20)]
    network.epoch(*data, gpu.asarray(np.arange(20)))
    network.step(*(array[:5].copy() for array in data))
    assert names == ["train", "train"]


@pytest.mark.parametrize(
    ("sizes", "batch", "path"),
    [
        ((2, 32, 16, 2), 128, "block"),  # moons
        ((2, 32, 16, 2), 700, "graph"),  # too much for one block
        ((64, 128, 64, 32, 10), 1, "graph"),  # digits: more than shared memory
        ((784, 512, 512, 10), 128, "graph"),  # mnist
        ((784, 512, 512, 10), 3500, "chain"),
        ((2,) * 18, 4, "graph"),  # too many layers
    ],
)
def test_what_trains_a_network(gpu, sizes, batch, path, monkeypatch):
    monkeypatch.setattr(gpu.device, "capture", lambda work: "a graph")
    assert taken(gpu.network.create(sizes, batch=batch, lr=0.1)) == path


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_largest_small_networks_stay_within_shared_memory(gpu, dtype, optimizer, monkeypatch):
    """The simulator gives no more than 48 KiB: sizes up to the last that takes one block."""
    monkeypatch.setattr(gpu.device, "capture", lambda work: "a graph")
    largest = None
    for units in range(8, 150):
        arguments = {"batch": 16, "lr": 0.1, "optimizer": optimizer, "dtype": dtype}
        network = gpu.network.create((units, units, 2), **arguments)
        if taken(network) != "block":
            break
        largest = network, units
    network, units = largest
    network._memory[...] = 0
    x, labels = np.ones((16, units), dtype), np.zeros(16, np.int32)
    assert network.step(x, labels) == pytest.approx(np.log(2))
    plan = network._trainer._plan.tolist()
    end = plan[-1] + plan[3] * (2 | 1)  # of the last layer's dz
    assert (
        0.95 * gpu.network.training.SHARED
        < end * np.dtype(dtype).itemsize
        <= gpu.network.training.SHARED
    )


def test_python_and_cuda_state_the_same_limits(gpu):
    text, training = gpu.runtime.table.source("network"), gpu.network.training
    for constant, value in (
        ("MOST_LAYERS", training.MOST_LAYERS),
        ("GROUP", training.GROUP),
        ("MEMORY", f"{training.SHARED >> 10} * 1024 / sizeof(real)"),
    ):
        assert f"constexpr int {constant} = {value};" in text


@every_case
def test_trajectories_are_the_same(gpu, make, case):
    """All paths and the reference for 30 steps on their own; rounding may grow by 10^6."""
    networks = [make(gpu, path, case, 16, "float64") for path in PATHS]
    networks.append(create(reference, case, 16, "float64"))
    for seed in range(30):
        x, labels = rows(case, 16 - seed % 2, "float64", seed)
        losses = [network.step(gpu.asarray(x), gpu.asarray(labels)) for network in networks]
        np.testing.assert_allclose(losses, losses[0], rtol=1e-10)
    one, *others = (network.state() for network in networks)
    for other in others:
        for name in one:
            np.testing.assert_allclose(other[name], one[name], rtol=1e-9, atol=1e-10)


@every_case
def test_initial_parameters_are_those_of_the_reference(gpu, case):
    network, expected = create(gpu.network, case, 4), create(reference, case, 4)
    assert network.parameters.keys() == expected.parameters.keys()
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(gpu.to_host(network.parameters[name]), array, strict=True)
    assert (network.sizes, network.batch) == (expected.sizes, expected.batch)


@pytest.mark.parametrize("case", ["moons", "prelu"])
@every_path
def test_a_run_continues_bit_by_bit(gpu, make, path, case, tmp_path):
    x, labels = rows(case, 20)
    data = gpu.asarray(x), gpu.asarray(labels), gpu.asarray(np.arange(20))
    network = make(gpu, path, case, 8)
    network.epoch(*data)
    np.savez(tmp_path / "state.npz", **network.state())
    other = make(gpu, path, case, 8, seed=99)
    other.load_state(tmp_path / "state.npz")
    assert network.epoch(*data) == other.epoch(*data)
    same_state(network, other)
    other.load_state(dict(np.load(tmp_path / "state.npz")))  # back again
    other.epoch(*data)
    same_state(network, other)


def test_adam_at_late_steps(gpu, make, monkeypatch):
    """The scalars of some steps are on the GPU: beyond them, before them, within an epoch."""
    monkeypatch.setattr(gpu.network.training, "AT_HAND", 3)
    network = make(gpu, "block", "moons", 4)
    x, labels = rows("moons", 4)
    state = network.state()
    for steps in (0, 2, 3, 1, 100000):
        network.load_state({**state, "steps": np.array(steps)})
        verify_step(gpu, network, "moons", x, labels)
        verify_step(gpu, network, "moons", x, labels)


@pytest.mark.parametrize("bad", [-1, 40, 2**32])
@pytest.mark.parametrize("case", SOFTMAX)
@every_path
def test_bad_label(gpu, make, path, case, bad):
    """Nothing changes, in an epoch not even by the batches before; then training goes on."""
    network, untouched = (make(gpu, path, case, 6) for _ in range(2))
    x, labels = rows(case, 21)
    x, wrong, order = gpu.asarray(x), labels.astype("int64"), gpu.asarray(np.arange(21))
    wrong[20] = bad
    expected = f"labels must be in 0 ... {network.sizes[-1] - 1} "
    with pytest.raises(ValueError, match=expected):
        network.epoch(x, gpu.asarray(wrong), order)
    with pytest.raises(ValueError, match=expected):
        network.step(x[16:].copy(), gpu.asarray(wrong[16:]))
    with pytest.raises(ValueError, match=expected):
        network.evaluate(x, gpu.asarray(wrong))
    same_state(network, untouched)
    for each in (network, untouched):
        assert np.isfinite(each.epoch(x, gpu.asarray(labels), order))
    same_state(network, untouched)
    gpu.synchronize()  # no fault is left behind


@pytest.mark.parametrize("bad", [-1, 21, 2**32])
@pytest.mark.parametrize("case", ["moons", "prelu"])
@every_path
def test_bad_row_number(gpu, make, path, case, bad):
    network, untouched = (make(gpu, path, case, 6) for _ in range(2))
    x, labels = (gpu.asarray(array) for array in rows(case, 21))
    order = np.arange(9)
    order[8] = bad
    with pytest.raises(ValueError, match=r"order must be in 0 \.\.\. 20 "):
        network.epoch(x, labels, gpu.asarray(order))
    same_state(network, untouched)


@every_case
@every_path
def test_predict_evaluate_and_gradients(gpu, make, path, case):
    """The norms of the gradients are taken from those that sgd has just applied."""
    network = make(gpu, path, case, 19)
    verify_step(gpu, network, case, *rows(case, 19))
    oracle = create(reference, case, 19, "float64")
    oracle.load_state({name: wide(array) for name, array in network.state().items()})
    x, labels = rows(case, 50, seed=7)
    logits = oracle.predict(wide(x))
    got = gpu.to_host(network.predict(gpu.asarray(x)))
    assert got.dtype == x.dtype
    np.testing.assert_allclose(got, logits, rtol=1e-4, atol=1e-5)
    loss, accuracy = network.evaluate(gpu.asarray(x), gpu.asarray(labels))
    wide_loss, wide_accuracy = oracle.evaluate(wide(x), wide(labels))
    assert loss == pytest.approx(wide_loss, rel=1e-5)
    assert accuracy == wide_accuracy
    x, labels = rows(case, 19, seed=8)
    network.step(gpu.asarray(x), gpu.asarray(labels))
    oracle.step(wide(x), wide(labels))
    assert network.gradients.dtype == np.float64
    np.testing.assert_allclose(network.gradients, oracle.gradients, rtol=1e-3)


def test_cublas_is_refused_while_a_graph_is_captured(gpu):
    a = np.ones((2, 2), np.float32)
    with pytest.raises(RuntimeError, match="cuBLAS while a graph is captured"):
        gpu.device.capture(lambda: gpu.device.matmul(a, a, out=a))
    assert not gpu.device.capturing()
    gpu.device.matmul(a, a, out=np.empty_like(a))


def test_a_graph_does_its_work_when_it_is_launched(gpu):
    """Beside once before it is captured, with arrays of its own."""
    param, grad = gpu.asarray(np.zeros(3)), gpu.asarray(np.ones(3))

    def work():
        change = gpu.device.empty(3, "float64")
        gpu.activation_forward(grad[None], "identity", out=change[None])
        gpu.sgd(param, change, lr=1.0)

    graph = gpu.device.capture(work)
    np.testing.assert_array_equal(param, -1)
    graph.launch()
    graph.launch()
    np.testing.assert_array_equal(param, -3)


@pytest.mark.parametrize(
    ("argument", "bad"),
    [
        ("x", np.ones((4, 3), "float32")),
        ("x", np.ones((4, 2), "float64")),
        ("x", np.ones((9, 2), "float32")),
        ("x", np.ones((4, 4), "float32")[:, ::2]),
        ("x", [[0.0, 0.0]]),
        ("labels", np.zeros(3, "int32")),
        ("labels", np.zeros(4, "float32")),
        ("labels", np.zeros((4, 2), "int32")),
    ],
)
@every_path
def test_bad_arguments_of_a_step(gpu, make, path, argument, bad):
    network, untouched = (make(gpu, path, "moons", 8) for _ in range(2))
    good = {"x": np.ones((4, 2), "float32"), "labels": np.zeros(4, "int32")}
    with pytest.raises((TypeError, ValueError), match=f"^{argument} must "):
        network.step(**{**good, argument: bad})
    same_state(network, untouched)
