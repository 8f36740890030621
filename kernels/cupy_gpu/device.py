"""The GPU: the only file that speaks to CuPy. Whatever executes the kernels has these names."""

from functools import cache

import cupy
import numpy as np

from ..interface import Unavailable, label_out_of_range
from . import table

ndarray, empty, matmul = cupy.ndarray, cupy.empty, cupy.matmul


def asarray(host):
    """A copy on the GPU, C-contiguous."""
    return cupy.asarray(host, order="C")


def to_host(array):
    """A copy as a NumPy array; waits for the work that computes it."""
    return cupy.asnumpy(array)


def synchronize():
    """Wait until all work is done. Raises Unavailable where there is no GPU.

    Raises ValueError for labels out of range in the work since the last call: the labels are on the
    GPU, so this one check of an argument comes late. The losses concerned are NaN.
    """
    _require_gpu()
    cupy.cuda.runtime.deviceSynchronize()
    if _fault_word.cache_info().currsize and (classes := int(_fault_word())):
        _fault_word().fill(0)
        raise label_out_of_range("labels", classes)


def timer():
    """A point in the GPU's time; the difference of two, in seconds, waits for the later."""
    return Instant()


class Instant:
    """A recorded CUDA event."""

    def __init__(self):
        self.event = cupy.cuda.Event()
        self.event.record()

    def __sub__(self, earlier):
        self.event.synchronize()
        return cupy.cuda.get_elapsed_time(earlier.event, self.event) * 1e-3  # ms


def capture(work):
    """A CUDA graph of the kernels that work() launches; its launch() queues them all at once.

    work() runs twice, the first time to load its kernels. Arrays that it allocates stay the
    graph's own: they come from a pool that no one else takes from.
    """
    global _in_capture
    pool, stream = cupy.cuda.MemoryPool(), cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.runtime.deviceSynchronize()  # what work() reads has been written
    _in_capture = True
    try:
        with stream, cupy.cuda.using_allocator(pool.malloc):
            work()
            stream.synchronize()
            stream.begin_capture()
            try:
                work()
            finally:
                graph = stream.end_capture()
    finally:
        _in_capture = False
    return Graph(graph, pool)


_in_capture = False


class Graph:
    """A captured graph and the memory of its temporary arrays."""

    def __init__(self, graph, pool):
        self.launch, self.pool = graph.launch, pool


def capturing():
    """Whether a graph is being captured: cuBLAS through CuPy is forbidden then."""
    return _in_capture


def fault():
    """The word on the GPU where kernels leave the number of classes that a label did not fit."""
    return _fault_word()


def launch(name, work, *arguments):
    """Queue the kernel `name` on the current stream, its grid sized by `work`."""
    file, dtype, grid, block, arguments = table.plan(name, work, arguments)
    if grid:
        _function(file, dtype, name)(grid, block, arguments)


@cache
def _function(file, dtype, name):
    return _module(file, dtype).get_function(name)


@cache
def _module(file, dtype):
    return cupy.RawModule(code=table.source(file), options=table.options(dtype))


@cache
def _fault_word():
    return cupy.zeros((), np.int32)


@cache
def _require_gpu():
    if not cupy.cuda.is_available():
        raise Unavailable(
            "backend cupy: no CUDA device was found; it needs an NVIDIA GPU and its driver"
        )
