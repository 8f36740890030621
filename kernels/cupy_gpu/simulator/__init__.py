"""A device that executes the kernels on the CPU, for tests where there is no GPU.

It stands in for device.py: g++ compiles the text of the .cu files against cuda.h, one fiber runs
for every CUDA thread (scheduler.cpp), and the launches come from the same table. So the backend is
executed as a whole, its Python code, grids, argument types and shared memory included; only NumPy's
product takes the place of cuBLAS, of factors rounded to TF32 where that is asked for. It shows what
the kernels compute, not how fast.

Arrays are NumPy's, for which no CuPy is needed, or CuPy's over host memory (host_arrays.py): then
the Python code sees the very types that it sees on a GPU.
"""

import ctypes
import math
import threading
import time
import weakref

import numpy as np

from ...arguments import Unavailable, one_of, type_name
from ...loss_arguments import out_of_range
from ..runtime import table
from . import build
from .memory import Arena, Exposed, Memory

ORDERS = ("forward", "reversed", "rotated")  # as in cuda.h
ARRAYS = ("numpy", "cupy")


def device(order, arrays):
    """The simulated GPU for these arrays, with threads and blocks in this order."""
    one_of("order", order, ORDERS)
    one_of("arrays", arrays, ARRAYS)
    build.require_compiler()
    if arrays == "numpy":
        return Device(order)
    try:
        from .host_arrays import CupyDevice
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"backend cupy simulated: the package {error.name} is not installed"
        ) from None
    return CupyDevice(order)


class Device:
    """The names of device.py for NumPy arrays; threads and blocks run in the given order.

    `variant` of the kernels: "plain", or "contracted" with fused multiply-adds, as on a GPU. The
    variants "address" (which looks for undefined behaviour as well) and "thread" are for processes
    that were started with libasan or libtsan preloaded.
    """

    variant = "plain"
    border = 1  # bytes, at a multiple of which memory begins
    ndarray = np.ndarray
    timer = staticmethod(time.perf_counter)

    def __init__(self, order):
        self.order = ORDERS.index(order)
        self.fault_word = self.asarray(np.zeros((), np.int32))
        self.captured = _Captured()

    @staticmethod
    def name():
        """A name that no card has."""
        return "simulated"

    @staticmethod
    def asarray(host):
        """A copy, C-contiguous."""
        return np.array(host, order="C")

    @staticmethod
    def to_host(array):
        """A copy as a NumPy array."""
        return array.copy()

    def empty(self, shape, dtype):
        """An array of NaN, so that an element which is never written shows."""
        shape, dtype = shape if isinstance(shape, tuple) else (shape,), np.dtype(dtype)
        if self.captured.arena:
            return self.captured.arena.array(self, shape, dtype)
        memory = Memory(math.prod(shape) * dtype.itemsize, self.border)
        return self.array_over(memory, shape, dtype)

    @staticmethod
    def array_over(memory, shape, dtype):
        """An array in this memory, which lives as long as the array and its views."""
        return np.asarray(Exposed(memory, memory.address, shape, dtype))

    @staticmethod
    def as_numpy(array):
        """The same memory as a NumPy array."""
        return array

    @staticmethod
    def address(array):
        """Where the array begins."""
        return array.ctypes.data

    def synchronize(self):
        """Raises ValueError for what was out of range in the work since the last call."""
        found = int(self.fault_word)
        self.fault_word[...] = 0
        if found:
            raise out_of_range(found)

    def matmul(self, a, b, *, out, precision=None):
        """NumPy's product; forbidden, as cuBLAS is, while a graph is captured."""
        if self.capturing():
            raise RuntimeError("a product by cuBLAS while a graph is captured")
        factors = map(self.as_numpy, (a, b))
        np.matmul(*(map(as_tf32, factors) if precision else factors), out=self.as_numpy(out))

    def capture(self, work):
        """A graph of the kernels that work() launches; as on a GPU, work() runs twice."""
        captured = self.captured
        captured.arena = Arena(self.perform)
        try:
            work()
            captured.graph = graph = Graph(captured.arena)
            work()
        finally:
            captured.arena = captured.graph = None
        return graph

    def perform(self, call):
        """Make the call, or leave it to the graph that is being captured."""
        if self.captured.graph:
            self.captured.graph.calls.append(call)
        else:
            call()

    def capturing(self):
        """Whether a graph is being captured."""
        return self.captured.arena is not None

    def fault(self):
        """Where kernels leave what they found out of range: see loss_arguments."""
        return self.fault_word

    def launch(self, name, work, *arguments):
        """Run the kernel `name`, its grid sized by `work`. Raises RuntimeError if it gets stuck."""
        file, dtype, grid, block, arguments = table.plan(name, work, arguments)
        if not grid:
            return
        function = getattr(build.library(file, dtype, self.variant), f"launch_{name}")
        function.restype = ctypes.c_char_p
        values = [self._value(argument) for argument in arguments]
        addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = (ctypes.c_size_t * len(values))(*(value.nbytes for value in values))

        def run(values=values):  # to which `addresses` point
            failure = function(_uint3(grid), _uint3(block), self.order, addresses, sizes)
            if failure:
                raise RuntimeError(f"{name}: {failure.decode()}")

        if graph := self.captured.graph:
            roots = (self._root(value) for value in arguments if isinstance(value, self.ndarray))
            graph.arrays += [weakref.ref(root) for root in roots if root not in graph.arena]
        self.perform(run)

    def _root(self, array):
        """The array whose memory this one shows."""
        while isinstance(array.base, self.ndarray):
            array = array.base
        return array

    def _value(self, argument):
        """The bytes that the kernel takes: an array's address, or the number itself."""
        if isinstance(argument, self.ndarray):
            return np.array(self.address(argument), np.uint64)
        if not isinstance(argument, np.generic):  # whose size CuPy would guess, or not take at all
            raise TypeError(f"a kernel cannot take a {type_name(type(argument))}")
        return np.array(argument)


def as_tf32(array):
    """float32 numbers rounded to TF32: to nearest even, 13 of 23 bits of mantissa being dropped."""
    bits = array.view(np.uint32)
    nearest = bits + np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1))
    return np.where(np.isfinite(array), (nearest & np.uint32(0xFFFFE000)).view(np.float32), array)


class _Captured(threading.local):
    """What this thread captures: the arena, and when calls are no longer made the graph."""

    arena = graph = None


class Graph:
    """The calls that were captured. Like CUDA's it knows addresses, and keeps no array but its own.

    launch() raises RuntimeError where an array is gone that the calls use.
    """

    def __init__(self, arena):
        self.arena, self.calls, self.arrays = arena, [], []

    def launch(self):
        if any(array() is None for array in self.arrays):
            raise RuntimeError("a graph was launched that uses an array which is gone")
        for call in self.calls:
            call()


def _uint3(sizes):
    return (ctypes.c_uint * 3)(*sizes, *(1,) * (3 - len(sizes)))
