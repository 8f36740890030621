"""CuPy's arrays over the memory of the CPU, for the simulated GPU: no driver is needed.

They are what the backend gets on a card: of CuPy's type, with CuPy's views, strides and flags. What
CuPy would ask the card for is done by NumPy, as far as it is defined here; all else fails for want
of a card. As on a card, a NumPy array is neither taken for one nor assigned to one.
"""

import cupy
import numpy as np
from cupy.cuda import MemoryPointer, UnownedMemory

from . import Device

BORDER = 512  # bytes, on which CuPy's pool lets an array begin


class HostArray(cupy.ndarray):
    """A CuPy array in host memory; views of it are of this type too."""

    def __setitem__(self, where, value):
        if isinstance(value, np.ndarray) and value.ndim > 0:  # as CuPy says it
            raise TypeError(f"Unsupported type {type(value)}")
        as_numpy(self)[where] = as_numpy(value) if isinstance(value, HostArray) else value

    def fill(self, value):
        as_numpy(self).fill(value)

    def get(self, *_, **__):
        """A copy as a NumPy array, on which float() and tolist() stand as well."""
        return as_numpy(self).copy()

    def copy(self, order="C"):
        return allocate(as_numpy(self))


class CupyDevice(Device):
    """The names of device.py for CuPy arrays in host memory."""

    ndarray = cupy.ndarray

    @staticmethod
    def asarray(host):
        """A copy, C-contiguous."""
        return allocate(np.asarray(host))

    @staticmethod
    def to_host(array):
        """A copy as a NumPy array."""
        return array.get()

    @staticmethod
    def empty(shape, dtype):
        """An array of NaN, so that an element which is never written shows."""
        return allocate(np.broadcast_to(np.array(np.nan, dtype), shape))

    @staticmethod
    def as_numpy(array):
        """The same memory as a NumPy array."""
        return as_numpy(array)

    @staticmethod
    def address(array):
        """Where the array begins."""
        return array.data.ptr


def allocate(values):
    """A new array with these values, host memory of its own that begins on a BORDER."""
    memory = np.empty(values.nbytes + BORDER, np.uint8)
    start = -(-memory.ctypes.data // BORDER) * BORDER
    pointer = MemoryPointer(UnownedMemory(start, values.nbytes, memory, 0), 0)
    array = HostArray(values.shape, values.dtype, pointer)
    as_numpy(array)[...] = values
    return array


class _Exposed:
    """What NumPy needs to know of an array, which it keeps alive."""

    def __init__(self, array):
        self.array = array
        self.__array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.data.ptr, False),
            "strides": array.strides,
            "version": 3,
        }


def as_numpy(array):
    """The same memory as a NumPy array."""
    return np.asarray(_Exposed(array))
