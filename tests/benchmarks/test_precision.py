"""Float32 products of other libraries are float32's: TF32 is refused, at every depth."""

import importlib.util

import numpy as np
import pytest

from benchmarks.peers import contenders, jax_peer, torch_peers
from benchmarks.suites import training_step


def shortened_to(bits, rounding=True):
    """A product whose float32 operands keep so many bits of their 24, as tensor cores take them."""
    dropped = 24 - bits

    def operand(array):
        words = array.view(np.uint32).astype(np.uint64)
        if rounding:  # to nearest, ties to even
            words += (1 << (dropped - 1)) - 1 + ((words >> dropped) & 1)
        return (words >> dropped << dropped).astype(np.uint32).view(np.float32)

    return lambda a, b: operand(a) @ operand(b)


def one_after_another(a, b):
    """The sum in the order that rounds most."""
    total = np.zeros((len(a), b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        total += a[:, k : k + 1] * b[k]
    return total


TF32, BFLOAT16 = 11, 8


@pytest.mark.parametrize("depth", [1, 2, 8, 64, 512, 2048])
def test_tf32_is_told_from_float32_at_every_depth(monkeypatch, depth):
    monkeypatch.setattr(contenders, "DEPTHS", (depth,))
    for product in (np.matmul, one_after_another):
        assert contenders.shortened(product) is None
    for bits in (TF32, BFLOAT16):
        for rounding in (True, False):
            complaint = contenders.shortened(shortened_to(bits, rounding))
            assert f"multiplies float32 in less than float32, {depth} terms deep: " in complaint


def test_the_depths_reach_that_of_the_widest_layer():
    assert max(contenders.DEPTHS) == 2048


def test_nan_is_no_float32_product():
    assert contenders.shortened(lambda a, b: np.full((64, 64), np.nan))


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_a_library_that_multiplies_in_less_is_not_compared(monkeypatch, library):
    peer = {"torch": torch_peers, "jax": jax_peer}[library]
    monkeypatch.setattr(contenders.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(peer, "runs_on", lambda device: True)
    monkeypatch.setattr(peer, "product", lambda device: shortened_to(TF32))
    found, (missing,) = contenders.available({}, "cuda", (library,))
    assert found == []
    assert "multiplies float32 in less than float32" in missing


def test_a_library_that_does_not_start_is_left_out(monkeypatch):
    def broken(device):
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(contenders.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(torch_peers, "runs_on", broken)
    found, missing = contenders.available({}, "cuda", ("torch",))
    assert (found, missing) == (
        [],
        ["torch: OSError: libcudart.so.13: cannot open shared object file"],
    )


def needs(name):
    return pytest.mark.skipif(
        not importlib.util.find_spec(name), reason=f"{name} is not installed: {contenders.INSTALL}"
    )


@needs("torch")
def test_pytorch_is_told_to_take_float32():
    import torch

    torch.set_float32_matmul_precision("high")
    torch_peers._torch.cache_clear()
    torch_peers._torch()
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert contenders.shortened(torch_peers.product("cpu")) is None


@needs("jax")
def test_jax_is_told_to_take_float32():
    import jax

    jax.config.update("jax_default_matmul_precision", "tensorfloat32")
    jax_peer._jax.cache_clear()
    jax_peer._jax()
    assert jax.config.jax_default_matmul_precision == "highest"
    assert "HIGHEST" in jax.jit(lambda a: a @ a).lower(np.ones((2, 2), np.float32)).as_text()
    assert contenders.shortened(jax_peer.product("cpu")) is None


@pytest.mark.parametrize(("device", "waits"), [("cpu", 0), ("cuda", 3)])
def test_on_a_gpu_every_step_is_waited_for(device, waits):
    """Ours returns its loss: a library that ran ahead with the next step would not do the same."""
    operation = training_step.of_network("moons-2-32-16-2")
    case = training_step.NETWORKS["moons-2-32-16-2"].at(batch=3)
    inputs = operation.sample(np.random.default_rng(0), case)
    waited = []

    def bind_step(inputs, lr, device):
        return (lambda: None), lambda: tuple(map(np.float32, operation.function(**inputs)))

    def wait():
        waited.append(True)

    library = contenders._library("library", None, device, bind_step, wait=wait)
    call = library.prepare(operation, inputs)
    for _ in range(3):
        call()
    assert len(waited) == waits
