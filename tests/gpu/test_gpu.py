"""What a card does and a simulated one can only play: captured graphs, cuBLAS, memory, the clock.

All but the last two run on the simulated card as well, which shows that the tests themselves are
right before they meet a real one.
"""

import numpy as np
import pytest
from conftest import ON_CUPY_ARRAYS, backend_or_skip, verify
from conftest import case as sized
from network_cases import CASES, create, rows

from benchmarks.running import gpu
from reference import FAMILIES

ON_BOTH = (pytest.param("cupy", marks=pytest.mark.gpu), ON_CUPY_ARRAYS)
PATHS = {"block": {}, "graph": {"most_products": 0}}
PATHS["chain"] = {**PATHS["graph"], "most_captured": 0}


@pytest.fixture(params=ON_BOTH)
def card(request):
    return backend_or_skip(request.param)


@pytest.fixture
def real():
    return backend_or_skip("cupy")


@pytest.fixture
def make(card):
    """A network that is trained in the way of a path; all of its products by tiles."""

    def make(path, case, **others):
        with card.runtime.limits.forced(**PATHS[path]):
            network = create(card.network, case, 16, **others)
        trainer = network._trainer
        is_block = type(trainer).__name__ == "Block"
        assert path == ("block" if is_block else "graph" if trainer._graph else "chain")
        return network

    with card.runtime.limits.forced(most_flops=np.inf, most_depth=np.inf):
        yield make


def data(card, case, seed=0):
    """Three batches, the last one smaller, in one array each, and their order."""
    x, labels = rows(case, 40, seed=seed)
    order = np.random.default_rng(seed).permutation(40)
    return [card.asarray(array) for array in (x, labels, order)]


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name, strict=True)


@pytest.mark.parametrize("case", CASES)
def test_a_captured_graph_computes_what_its_kernels_do_one_by_one(card, make, case):
    """Bit by bit, over epochs and steps; what is captured is the same launches."""
    graph, chain = make("graph", case), make("chain", case)
    x, labels, order = data(card, case)
    for _ in range(3):
        assert graph.epoch(x, labels, order) == chain.epoch(x, labels, order)
        assert graph.step(x[:16], labels[:16]) == chain.step(x[:16], labels[:16])
    assert_same_bits(graph.state(), chain.state())


@pytest.mark.parametrize("paths", [("graph", "graph"), ("block", "graph"), ("chain", "graph")])
def test_interleaved_networks_do_not_meet(card, make, paths):
    """Two that take turns end where each ends alone."""
    cases = "prelu", "wide output"
    given = [data(card, case, seed) for seed, case in enumerate(cases)]

    def both():
        return [make(path, case) for path, case in zip(paths, cases, strict=True)]

    alone, together = both(), both()
    for network, (x, labels, order) in zip(alone, given, strict=True):
        for _ in range(5):
            network.step(x[:16], labels[:16])
            network.epoch(x, labels, order)
    for _ in range(5):
        for network, (x, labels, _) in zip(together, given, strict=True):
            network.step(x[:16], labels[:16])
        for network, (x, labels, order) in zip(together, given, strict=True):
            network.epoch(x, labels, order)
    for one, other in zip(alone, together, strict=True):
        assert_same_bits(one.state(), other.state())


@pytest.mark.parametrize("depth", [257, 777, 2048])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_deep_products(card, monkeypatch, depth, dtype):
    """By cuBLAS, forward and both gradients, of sizes that are no multiples of a tile."""
    products, matmul = [], card.device.matmul

    def counted(*arrays, **out):
        products.append(arrays)
        return matmul(*arrays, **out)

    monkeypatch.setattr(card.device, "matmul", counted)
    dense = {str(operation): operation for operation in FAMILIES["dense"]}
    forward, backward = dense["dense_forward[tanh]"], dense["dense_backward[tanh]"]
    for operation, batch, fan_in, fan_out in (
        (forward, 33, depth, 65),
        (backward, 33, 65, depth),  # dx sums over the units
        (backward, depth, 33, 65),  # dW over the batch
    ):
        deep, rng = sized(batch, fan_in, fan_out, dtype), np.random.default_rng(depth)
        with card.runtime.limits.forced(most_flops=0):
            verify(card, operation, operation.sample(rng, deep))
    assert len(products) == 2 * 5  # verify() calls each twice


@pytest.mark.gpu
def test_memory_does_not_grow(real):
    """Hundreds of networks, two at a time, each with a graph and its pool, are made and dropped."""
    import cupy

    def turn():
        with real.runtime.limits.forced(most_products=0):
            networks = [create(real.network, case, 16) for case in ("prelu", "wide output")]
        for network, case in zip(networks, ("prelu", "wide output"), strict=True):
            x, labels, order = data(real, case)
            network.epoch(x, labels, order)
        real.synchronize()

    def used():
        free, _ = cupy.cuda.runtime.memGetInfo()
        return cupy.get_default_memory_pool().total_bytes(), free

    for _ in range(20):
        turn()
    pool, free = used()
    for _ in range(300):
        turn()
    assert used()[0] == pool
    assert used()[1] >= free - (8 << 20)  # the driver's own pages


@pytest.mark.gpu
def test_a_cold_call_is_queued_while_the_card_reads(real):
    """So that its time is the card's; a step that waits for its loss is told apart."""
    flush = gpu.Flush(real, gpu.card().get("l2CacheSize"))
    param, grad = (real.asarray(np.zeros(1 << 20, np.float32)) for _ in range(2))
    seconds, queued = flush.cold(lambda: real.sgd(param, grad, lr=0.1))
    assert queued
    assert 0 < min(seconds) < 1e-3
    network = create(real.network, "wide output", 16)
    x, labels, _ = data(real, "wide output")
    _, queued = flush.cold(lambda: network.step(x[:16], labels[:16]))
    assert not queued
    _, queued = flush.cold(lambda: network._queue(x[:16], labels[:16], None, 16))
    assert queued
