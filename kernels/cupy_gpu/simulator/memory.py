"""Where the arrays of the simulated GPU lie: in memory of the host that is full of NaN at first.

The temporary arrays of a captured graph come from an arena, as they come from a pool of the graph's
own on a GPU: what is given back is taken again by the next array of that size. Between the two it
is poisoned, at every launch of the graph: a kernel that goes on using it computes NaN.
"""

import math
import weakref
from collections import defaultdict

import numpy as np


class Memory:
    """Some bytes that begin at a multiple of `border`."""

    def __init__(self, nbytes, border):
        self.bytes = np.empty(nbytes + border - 1, np.uint8)
        self.address = -(-self.bytes.ctypes.data // border) * border
        self.poison()

    def poison(self):
        self.bytes.fill(0xFF)  # NaN in every precision


class Exposed:
    """What NumPy must know of the memory of an array, whose owner it keeps alive."""

    def __init__(self, owner, address, shape, dtype, strides=None):
        self.owner = owner
        self.__array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (address, False),
            "strides": strides,
            "version": 3,
        }


class Arena:
    """The temporary arrays of one graph; perform(call) makes a call or leaves it to the graph."""

    def __init__(self, perform):
        self.perform = perform
        self.free = defaultdict(list)  # {bytes: memory of arrays that are gone}
        self.lent = set()  # the id of every array that is there

    def array(self, device, shape, dtype):
        nbytes = math.prod(shape) * dtype.itemsize
        free = self.free[nbytes]
        memory = free.pop() if free else Memory(nbytes, device.border)
        array = device.array_over(memory, shape, dtype)
        self.lent.add(id(array))
        weakref.finalize(array, self._give_back, id(array), free, memory).atexit = False
        return array

    def __contains__(self, array):
        return id(array) in self.lent

    def _give_back(self, lent, free, memory):
        self.lent.remove(lent)
        self.perform(memory.poison)
        free.append(memory)
