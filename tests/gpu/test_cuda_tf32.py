"""precision="tf32" on the simulated GPU, whose products are then of factors rounded to TF32."""

import numpy as np
import pytest
from conftest import IN_EVERY_ORDER, ON_CUPY_ARRAYS, backend_or_skip, call, case, verify
from network_cases import CASES, create, hold, rows, trained

import reference
from reference import network as oracles
from reference.network_spec import step_disagreement

DENSE = {str(operation): operation for operation in reference.FAMILIES["dense"]}
DEPTHS = (1, 2, 3, 4, 7, 16, 33, 64, 128, 257, 784, 2048, 4097, 8192)


@pytest.fixture(params=IN_EVERY_ORDER)
def gpu(request):
    return backend_or_skip(request.param)


@pytest.fixture
def products(gpu, monkeypatch):
    """The precision of every product that is cuBLAS's."""
    found, matmul = [], gpu.device.matmul

    def recorded(*arrays, out, precision=None):
        found.append(precision)
        matmul(*arrays, out=out, precision=precision)

    monkeypatch.setattr(gpu.device, "matmul", recorded)
    return found


def test_rounding_is_to_nearest_even(gpu):
    """Halves between two numbers of TF32 go to the even one; what is no number stays."""
    unit, round_ = 2.0**-10, gpu.simulator.as_tf32
    given = [1 + unit / 2, 1 + 3 * unit / 2, 1 + 0.51 * unit, -1 - 0.49 * unit, 2 - unit / 2, 0.0]
    expected = [1.0, 1 + 2 * unit, 1 + unit, -1.0, 2.0, 0.0]
    np.testing.assert_array_equal(round_(np.float32(given)), np.float32(expected), strict=True)
    special = np.array([0x7F800001, 0x7FFFFFFF, 0x7F800000, 0xFF800000], np.uint32)
    np.testing.assert_array_equal(round_(special.view(np.float32)), special.view(np.float32))
    matrix = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    np.testing.assert_array_equal(round_(matrix.T), round_(matrix).T)


@pytest.mark.parametrize("gpu", [ON_CUPY_ARRAYS], indirect=True)
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_bound_of_tf32_takes_it_and_that_of_float32_does_not(gpu, depth):
    """Of every product, at every depth: forward, of the input's gradient, of the weights'."""
    forward, backward = DENSE["dense_forward[identity]"], DENSE["dense_backward[identity]"]
    rng = np.random.default_rng(depth)
    for operation, sizes, name in (
        (forward, (24, depth, 20), "y"),
        (backward, (24, 20, depth), "dx"),
        (backward, (depth, 24, 20), "dweight"),
    ):
        inputs = operation.sample(rng, case(*sizes))
        permitted = {**inputs, "precision": "tf32"}
        _, results, _ = call(gpu, operation, permitted)
        assert operation.disagreement(permitted, results) is None
        _, exact, _ = call(gpu, operation, inputs)
        assert operation.disagreement(inputs, exact) is None
        names = [result.name for result in operation.results]
        mixed = [results[k] if n == name else exact[k] for k, n in enumerate(names)]
        assert f", {name}: " in str(operation.disagreement(inputs, tuple(mixed))), name


@pytest.mark.parametrize("limits", [{}, {"most_flops": np.inf, "most_depth": np.inf}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_its_products_are_those_of_cublas_in_float32_alone(gpu, products, limits, dtype):
    """Whatever the size; in float64 there is no such thing."""
    with gpu.runtime.limits.forced(**limits):
        for operation in (DENSE["dense_forward[relu tf32]"], DENSE["dense_backward[relu tf32]"]):
            inputs = operation.sample(np.random.default_rng(0), case(5, 3, 4, dtype))
            verify(gpu, operation, inputs)
            plain = {name: value for name, value in inputs.items() if name != "precision"}
            verify(gpu, operation, plain)
    assert products == (["tf32"] * 6 if dtype == "float32" else [])  # verify() calls each twice


@pytest.mark.parametrize("sizes", [(0, 3, 5), (4, 0, 5), (4, 3, 0)])
def test_where_there_is_nothing_to_multiply_cublas_is_not_asked(gpu, products, sizes):
    batch, fan_in, fan_out = sizes
    x, weight = (gpu.asarray(np.ones(s, np.float32)) for s in ((batch, fan_in), (fan_in, fan_out)))
    bias = gpu.asarray(np.full(fan_out, 2, np.float32))
    y = gpu.dense_forward(x, weight, bias, precision="tf32")
    np.testing.assert_array_equal(gpu.to_host(y), np.full((batch, fan_out), 2, np.float32))
    dx, dweight, _ = gpu.dense_backward(y, x, weight, y, precision="tf32")
    assert not gpu.to_host(dx).any()
    assert not gpu.to_host(dweight).any()
    assert products == []


@pytest.mark.parametrize("name", CASES)
def test_a_network_is_a_chain_with_an_error_of_its_own(gpu, products, name):
    """Every product of a step, of whatever small network, is cuBLAS's, and errs as TF32's do."""
    network = create(gpu.network, name, 19, precision="tf32")
    assert getattr(network._trainer, "_graph", "a block") is None
    network.load_state(trained(network.state()))
    before, (x, labels) = network.state(), rows(name, 19)
    permitted, exact = (create(oracles, name, 19, "float64", precision=p) for p in ("tf32", None))
    loss = hold(gpu, network, permitted, x, labels, "float32")
    assert products == ["tf32"] * (3 * (len(network.sizes) - 1) - 1)
    exact.load_state({k: np.asarray(v, np.float64) for k, v in before.items()})
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in (x, labels)]
    assert step_disagreement(exact, *wide, "float32", loss, network.state()) is not None
    products.clear()
    gpu.to_host(network.predict(gpu.asarray(x)))
    assert products == ["tf32"] * (len(network.sizes) - 1)


def test_the_products_of_gradients_err_on_their_own(gpu):
    """Behind weights of zero nothing else does."""
    network = create(gpu.network, "one layer", 19, precision="tf32")
    state = trained(network.state())
    network.load_state({**state, "layer0.weight": np.zeros_like(state["layer0.weight"])})
    oracle = create(oracles, "one layer", 19, "float64", precision="tf32")
    hold(gpu, network, oracle, *rows("one layer", 19), "float32")


def test_a_network_of_float64_is_as_without(gpu, products):
    network = create(gpu.network, "moons", 8, "float64", precision="tf32")
    assert type(network._trainer).__name__ == "Block"
    assert products == []
