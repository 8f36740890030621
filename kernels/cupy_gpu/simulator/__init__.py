"""A device that executes the kernels on the CPU, for tests where there is no GPU.

It stands in for device.py: g++ compiles the text of the .cu files against cuda.h, one fiber runs
for every CUDA thread (scheduler.cpp), and the launches come from the same table. So the backend is
executed as a whole, its Python code, grids, argument types and shared memory included; only NumPy's
product takes the place of cuBLAS. It shows what the kernels compute, not how fast.

Arrays are NumPy's, for which no CuPy is needed, or CuPy's over host memory (host_arrays.py): then
the Python code sees the very types that it sees on a GPU.
"""

import ctypes
import time

import numpy as np

from ...interface import Unavailable, label_out_of_range, one_of, type_name
from .. import table
from . import build

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

    `sanitizer` "address" (which looks for undefined behaviour as well) or "thread" has the kernels
    checked as they run, in a process that was started with libasan or libtsan preloaded.
    """

    ndarray = np.ndarray
    timer = staticmethod(time.perf_counter)

    def __init__(self, order):
        self.order = ORDERS.index(order)
        self.sanitizer = ""
        self.fault_word = self.asarray(np.zeros((), np.int32))
        self.in_capture = False
        self.captured = None  # the calls of a graph, where they are not to be made now

    @staticmethod
    def asarray(host):
        """A copy, C-contiguous."""
        return np.array(host, order="C")

    @staticmethod
    def to_host(array):
        """A copy as a NumPy array."""
        return array.copy()

    @staticmethod
    def empty(shape, dtype):
        """An array of NaN, so that an element which is never written shows."""
        return np.full(shape, np.nan, dtype)

    @staticmethod
    def as_numpy(array):
        """The same memory as a NumPy array."""
        return array

    @staticmethod
    def address(array):
        """Where the array begins."""
        return array.ctypes.data

    def synchronize(self):
        """Raises ValueError for labels out of range in the work since the last call."""
        classes = int(self.fault_word)
        self.fault_word[...] = 0
        if classes:
            raise label_out_of_range("labels", classes)

    def matmul(self, a, b, *, out):
        """NumPy's product; forbidden, as cuBLAS is, while a graph is captured."""
        if self.capturing():
            raise RuntimeError("a product by cuBLAS while a graph is captured")
        np.matmul(*map(self.as_numpy, (a, b)), out=self.as_numpy(out))

    def capture(self, work):
        """A graph of the kernels that work() launches; as on a GPU, work() runs twice."""
        self.in_capture = True
        try:
            work()
            self.captured = calls = []
            work()
        finally:
            self.in_capture, self.captured = False, None
        return Graph(calls)

    def capturing(self):
        """Whether a graph is being captured."""
        return self.in_capture

    def fault(self):
        """Where kernels leave the number of classes that a label did not fit."""
        return self.fault_word

    def launch(self, name, work, *arguments):
        """Run the kernel `name`, its grid sized by `work`. Raises RuntimeError if it gets stuck."""
        file, dtype, grid, block, arguments = table.plan(name, work, arguments)
        if not grid:
            return
        function = getattr(build.library(file, dtype, self.sanitizer), f"launch_{name}")
        function.restype = ctypes.c_char_p
        values = [self._value(argument) for argument in arguments]
        addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = (ctypes.c_size_t * len(values))(*(value.nbytes for value in values))

        def run(arrays=arguments, values=values):  # both must outlive the call
            failure = function(_uint3(grid), _uint3(block), self.order, addresses, sizes)
            if failure:
                raise RuntimeError(f"{name}: {failure.decode()}")

        if self.captured is None:
            run()
        else:
            self.captured.append(run)

    def _value(self, argument):
        """The bytes that the kernel takes: an array's address, or the number itself."""
        if isinstance(argument, self.ndarray):
            return np.array(self.address(argument), np.uint64)
        if not isinstance(argument, np.generic):  # whose size CuPy would guess, or not take at all
            raise TypeError(f"a kernel cannot take a {type_name(type(argument))}")
        return np.array(argument)


class Graph:
    """The calls that were captured."""

    def __init__(self, calls):
        self.calls = calls

    def launch(self):
        for call in self.calls:
            call()


def _uint3(sizes):
    return (ctypes.c_uint * 3)(*sizes, *(1,) * (3 - len(sizes)))
