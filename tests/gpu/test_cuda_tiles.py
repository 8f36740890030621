"""The dense layer by tiles of both sizes, also at shapes where cuBLAS would be taken."""

import numpy as np
import pytest
from conftest import SHAPES, SIMULATED, backend_or_skip, case, over_dtypes, verify

import reference

OPERATIONS = reference.FAMILIES["dense"]
over_dense = pytest.mark.parametrize("operation", OPERATIONS, ids=str)


@pytest.fixture
def capturing(monkeypatch):
    """The simulated GPU as it is while a graph is captured: cuBLAS is forbidden."""
    backend = backend_or_skip(SIMULATED[0])

    def forbidden(*arrays, out):
        raise RuntimeError("cuBLAS while a graph is captured")

    monkeypatch.setattr(backend.device, "capturing", lambda: True, raising=False)
    monkeypatch.setattr(backend.device, "matmul", forbidden, raising=False)
    return backend


def launched(backend, monkeypatch):
    """The names of the kernels that run from now on."""
    names, launch = [], backend.device.launch

    def recording(name, *arguments):
        names.append(name)
        launch(name, *arguments)

    monkeypatch.setattr(backend.device, "launch", recording, raising=False)
    return names


@over_dtypes
@over_dense
def test_large_tiles_agree_with_oracle(capturing, operation, dtype, monkeypatch):
    """The sizes at which the small tiles are tested with every backend."""
    monkeypatch.setattr(capturing.runtime.table, "MANY_TILES", 1)
    names = launched(capturing, monkeypatch)
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        verify(capturing, operation, operation.sample(rng, case(*shape, dtype)))
    for _, inputs in operation.edges(np.dtype(dtype)):
        verify(capturing, operation, inputs)
    assert not any(name.endswith("_32") for name in names)


@pytest.mark.parametrize("many", [1000, 1], ids=["small tiles", "large tiles"])
@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.variant == "prelu"], ids=str)
@over_dtypes
def test_the_depth_is_split_in_any_way(capturing, operation, dtype, many, monkeypatch):
    """Parts that end within a panel, begin beyond the depth, and lie off the 16-byte borders."""
    monkeypatch.setattr(capturing.runtime.table, "MANY_TILES", many)
    names = launched(capturing, monkeypatch)
    rng = np.random.default_rng(0)
    for least, shape in ((1, (67, 65, 70)), (9, (40, 45, 33)), (4, (90, 80, 9))):
        monkeypatch.setattr(capturing.runtime.table, "PART_DEPTH", least)
        names.clear()
        verify(capturing, operation, operation.sample(rng, case(*shape, dtype)))
        assert "finish_product" in names


@pytest.mark.parametrize("shape", [(300, 40, 20), (3, 700, 65), (40, 3, 520), (520, 17, 500)])
@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.variant == "tanh"], ids=str)
def test_a_captured_layer_needs_no_cublas(capturing, operation, shape):
    """Deep products, and so many tiles that the large ones are taken."""
    verify(capturing, operation, operation.sample(np.random.default_rng(1), case(*shape)))


@pytest.mark.parametrize(
    ("shape", "kernels"),
    [
        ((32, 64, 128), ["dense_forward_32"]),  # digits
        ((500, 50, 500), ["dense_forward_64"]),
        ((32, 256, 512), ["dense_forward_32", "finish_product"]),  # its depth is split
        ((32, 784, 512), ["finish_product"]),  # mnist: too deep
        ((4000, 256, 512), ["finish_product"]),  # too much work
    ],
)
def test_what_computes_a_layer(shape, kernels, monkeypatch):
    backend = backend_or_skip(SIMULATED[0])
    names = []
    monkeypatch.setattr(backend.device, "launch", lambda name, *_: names.append(name))
    batch, fan_in, fan_out = shape
    arrays = [np.zeros(s, np.float32) for s in ((batch, fan_in), (fan_in, fan_out), fan_out)]
    backend.dense_forward(*arrays, "relu")
    assert names == kernels
