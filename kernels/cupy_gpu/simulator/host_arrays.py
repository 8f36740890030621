"""CuPy's arrays over the memory of the CPU, for the simulated GPU: no driver is needed.

They are what the backend gets on a card: of CuPy's type, with CuPy's views, strides and flags. What
CuPy would ask the card for is done by NumPy, as far as it is defined here; all else fails for want
of a card. As on a card, a NumPy array is neither taken for one nor assigned to one.
"""

import cupy
import numpy as np
from cupy.cuda import MemoryPointer, UnownedMemory

from . import Device
from .memory import Exposed, Memory


class HostArray(cupy.ndarray):
    """A CuPy array in host memory; views of it are of this type too."""

    def __setitem__(self, where, value):
        if isinstance(value, np.ndarray) and value.ndim > 0:  # as CuPy says it
            raise TypeError(f"Unsupported type {type(value)}")
        as_numpy(self)[where] = as_numpy(value) if isinstance(value, HostArray) else value

    def fill(self, value):
        as_numpy(self).fill(value)

    def sum(self):
        return CupyDevice.asarray(as_numpy(self).sum())

    def get(self, *_, **__):
        """A copy as a NumPy array, on which float() and tolist() stand as well."""
        return as_numpy(self).copy()

    def copy(self, order="C"):
        return CupyDevice.asarray(as_numpy(self))


class CupyDevice(Device):
    """The names of device.py for CuPy arrays in host memory."""

    ndarray, variant = cupy.ndarray, "contracted"
    border = 512  # as in CuPy's pool

    @classmethod
    def asarray(cls, host):
        """A copy, C-contiguous."""
        host = np.asarray(host)
        array = cls.array_over(Memory(host.nbytes, cls.border), host.shape, host.dtype)
        as_numpy(array)[...] = host
        return array

    @staticmethod
    def to_host(array):
        """A copy as a NumPy array."""
        return array.get()

    @staticmethod
    def array_over(memory, shape, dtype):
        """An array in this memory, which lives as long as the array and its views."""
        unowned = UnownedMemory(memory.address, memory.bytes.nbytes, memory, 0)
        return HostArray(shape, dtype, MemoryPointer(unowned, 0))

    @staticmethod
    def as_numpy(array):
        """The same memory as a NumPy array."""
        return as_numpy(array)

    @staticmethod
    def address(array):
        """Where the array begins."""
        return array.data.ptr


def as_numpy(array):
    """The same memory as a NumPy array."""
    return np.asarray(Exposed(array, array.data.ptr, array.shape, array.dtype, array.strides))
