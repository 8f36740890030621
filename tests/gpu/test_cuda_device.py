"""What device.py asks of CuPy, without a GPU: the toolkit, cuBLAS, memory that is given back."""

import contextlib
import ctypes
import gc
import os
import re
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SIMULATED, backend_or_skip

cupy = pytest.importorskip("cupy", reason="CuPy is not installed (--no-gpu)")
device = pytest.importorskip("kernels.cupy_gpu").device

# A process in which CuPy believes in a GPU and looks for CUDA's headers under CUDA_PATH alone. To
# compile is to assemble CuPy's own options, which fails as on a machine that has only a driver.
ONLY_A_DRIVER = """
import cuda.pathfinder, cupy, numpy
from cuda.pathfinder._headers import find_nvidia_headers
from cupy._core.core import assemble_cupy_compiler_options
import kernels
from kernels.cupy_gpu import device

class Module:
    def __init__(self, code, options):
        print("compiled with", assemble_cupy_compiler_options(options)[-1])

    def get_function(self, name):
        return lambda *arguments: None

def no_library(name):
    raise cuda.pathfinder.DynamicLibNotFoundError(f"no lib{name}.so")

find_nvidia_headers.FIND_STEPS = (find_nvidia_headers.find_in_cuda_path,)
cuda.pathfinder.load_nvidia_dynamic_lib = no_library
cupy.cuda.is_available = lambda: True
cupy.RawModule = Module
device.asarray, device.empty = numpy.asarray, numpy.empty
try:
    kernels.load("cupy")
except kernels.Unavailable as error:
    print(error)
"""
INSTALL = r"python -m pip install -e '\.\[gpu1[23]\]'$"


def said_with(cuda_path):
    done = subprocess.run(
        [sys.executable, "-c", ONLY_A_DRIVER],
        env={**os.environ, "CUDA_PATH": str(cuda_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_without_cuda_headers_one_line_says_what_to_install():
    (line,) = said_with("")
    assert line.startswith(
        "backend cupy: CuPy cannot compile a kernel: Failed to find CUDA headers"
    )
    assert re.search(INSTALL, line)


def test_with_cuda_headers_cublas_is_what_is_missing(tmp_path):
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "cuda_runtime.h").touch()
    compiled, line = said_with(tmp_path)
    assert compiled == f"compiled with -I{tmp_path / 'include'}"
    assert line.startswith("backend cupy: CuPy cannot call cuBLAS: no libcublas.so; ")
    assert re.search(INSTALL, line)


def on_host(values):
    """A CuPy array in host memory."""
    memory = np.array(values, order="C")
    owner = cupy.cuda.UnownedMemory(memory.ctypes.data, memory.nbytes, memory, 0)
    pointer = cupy.cuda.MemoryPointer(owner, 0)
    return cupy.ndarray(memory.shape, memory.dtype, pointer)


class Cublas:
    """gemmEx by NumPy, as the cuBLAS manual states it: matrices lie column by column."""

    CUBLAS_GEMM_DEFAULT, CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F = -1, 68, 70
    CUBLAS_COMPUTE_32F_FAST_TF32 = 77

    def __init__(self):
        self.computed = []

    def gemmEx(self, handle, a_form, b_form, m, n, k, one, a, a_type, a_step, *others):
        b, b_type, b_step, zero, c, c_type, c_step, compute, algo = others
        single, double = (0, ctypes.c_float), (1, ctypes.c_double)
        kind, self.element = {68: single, 77: single, 70: double}[compute]
        self.computed.append(compute)
        assert (handle, algo, a_type, b_type, c_type) == ("handle", -1, kind, kind, kind)
        assert (self.matrix(one, 1, 1, 1), self.matrix(zero, 1, 1, 1)) == (1, 0)
        left = self.matrix(a, k, m, a_step).T if a_form else self.matrix(a, m, k, a_step)
        right = self.matrix(b, n, k, b_step).T if b_form else self.matrix(b, k, n, b_step)
        self.matrix(c, m, n, c_step)[...] = left @ right

    def matrix(self, address, rows, columns, step):
        assert step >= rows > 0, "cuBLAS refuses it"
        memory = (self.element * step * columns).from_address(address)
        return np.ctypeslib.as_array(memory).T[:rows]


@pytest.mark.parametrize(
    "shape", [(3, 5, 7), (1, 5, 7), (3, 5, 1), (3, 1, 7), (1, 1, 1), (1, 9, 1)]
)
@pytest.mark.parametrize(
    ("dtype", "precision", "computed"),
    [("float32", None, 68), ("float32", "tf32", 77), ("float64", None, 70)],
)
def test_matmul_hands_cublas_every_layout(shape, dtype, precision, computed, monkeypatch):
    """Each factor as it lies or transposed, the three products of a dense layer among them."""
    cublas = Cublas()
    monkeypatch.setitem(vars(cupy.cuda), "cublas", cublas)
    monkeypatch.setattr(cupy.cuda, "get_cublas_handle", lambda: "handle")
    device._gemm_constants.cache_clear()
    (rows, depth, columns), rng = shape, np.random.default_rng(0)
    a = rng.integers(-9, 9, (rows, depth)).astype(dtype)
    b = rng.integers(-9, 9, (depth, columns)).astype(dtype)
    for left in (on_host(a), on_host(a.T).T):
        for right in (on_host(b), on_host(b.T).T):
            out = on_host(np.full((rows, columns), np.nan, dtype))
            device.matmul(left, right, out=out, precision=precision)
            np.testing.assert_array_equal(values(out), a @ b)
    assert cublas.computed == [computed] * 4
    device._gemm_constants.cache_clear()


def values(array):
    """The host memory of a contiguous array."""
    element = {"f": ctypes.c_float, "d": ctypes.c_double}[array.dtype.char]
    memory = (element * array.size).from_address(array.data.ptr)
    return np.ctypeslib.as_array(memory).reshape(array.shape)


class Pool:
    """A memory pool as CuPy's is: what it holds stays on the card until it is told to free it."""

    def __init__(self, log):
        self.malloc, self.free_all_blocks = "allocator", lambda: log.append("memory freed")


class CapturedGraph:
    def __init__(self, log):
        self.log = log

    def launch(self):
        self.log.append("launched")

    def __del__(self):
        self.log.append("graph destroyed")


@pytest.fixture
def captures(monkeypatch):
    """What CuPy is asked for while a graph is captured, used and dropped, in order."""
    log = []

    class Stream:
        def __init__(self, non_blocking):
            assert non_blocking

        def __enter__(self):
            log.append("stream")

        def __exit__(self, *error):
            log.append("stream left")

        def synchronize(self):
            log.append("waited")

        def begin_capture(self):
            log.append("capture")

        def end_capture(self):
            log.append("captured")
            return CapturedGraph(log)

    @contextlib.contextmanager
    def using_allocator(allocator):
        assert allocator == "allocator"
        yield

    cuda = SimpleNamespace(
        MemoryPool=lambda: Pool(log),
        Stream=Stream,
        using_allocator=using_allocator,
        runtime=SimpleNamespace(deviceSynchronize=lambda: log.append("waited")),
    )
    monkeypatch.setattr(device, "cupy", SimpleNamespace(cuda=cuda))
    return log


def test_a_dropped_graph_gives_its_memory_back(captures):
    """At once, without the cycle collector; the work runs once before it is captured."""
    gc.disable()
    try:
        graph = device.capture(lambda: captures.append(f"work, capturing {device.capturing()}"))
        graph.launch()
        del graph
    finally:
        gc.enable()
    work = "work, capturing True"
    assert captures[:7] == ["waited", "stream", work, "waited", "capture", work, "captured"]
    assert captures[7:9] == ["stream left", "launched"]
    assert sorted(captures[9:]) == ["graph destroyed", "memory freed"]
    assert not device.capturing()


def test_one_thread_captures_while_another_does_not(captures):
    """Its products may go to cuBLAS meanwhile."""
    seen = []

    def work():
        thread = threading.Thread(target=lambda: seen.append(device.capturing()))
        thread.start()
        thread.join()

    device.capture(work)
    assert seen == [False, False]


def test_all_threads_share_one_word_for_label_faults(monkeypatch):
    """Also where each of them is the first to ask for it."""
    together = threading.Barrier(4)

    def zeros(*_):
        time.sleep(0.05)
        return object()

    def ask(_):
        together.wait()
        return device.fault()

    monkeypatch.setattr(device.cupy, "zeros", zeros)
    device._fault_word.cache_clear()
    try:
        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(ask, range(4)))) == 1
    finally:
        device._fault_word.cache_clear()


@pytest.mark.parametrize("sizes", [(2, 8, 2), (64, 128, 64, 10)], ids=["block", "graph"])
def test_a_dropped_network_frees_all_it_has(sizes):
    """At once: one that waited for the cycle collector would hold the card's memory meanwhile."""
    gpu = backend_or_skip(SIMULATED[0])
    gc.collect()
    gc.disable()
    try:
        network = gpu.network.create(sizes, batch=4, lr=0.1)
        x, labels = np.ones((4, sizes[0]), np.float32), np.zeros(4, np.int32)
        network.step(gpu.asarray(x), gpu.asarray(labels))
        trainer, memory = network._trainer, network._memory
        parts = [trainer, memory, *filter(None, [getattr(trainer, "_graph", None)])]
        assert len(parts) == 2 + (len(sizes) > 3)
        left = [weakref.ref(part) for part in parts]
        del network, trainer, memory, parts
        assert [ref() for ref in left] == [None] * len(left)
    finally:
        gc.enable()
