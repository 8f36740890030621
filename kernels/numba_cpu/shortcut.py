"""Shortcuts: what Python calls, checked in compiled code.

Checks in Python cost 1 to 4 us a call, many times what a small kernel takes. A shortcut makes them
in compiled code: it returns False, with nothing written, unless every shape and number is as it
must be, and Numba refuses arrays of other types. Only then Python checks again, and knows the words
for what is wrong.
"""

from functools import partial

import numba
from numba import carray, types
from numba.extending import register_jitable

from .jit import kernel
from .vectors import address


def read(ndim, of=0):
    """A C-contiguous array that is only read, of elements of the dtype number `of`."""
    return lambda reals: types.Array(reals[of], ndim, "C", readonly=True)


def written(ndim):
    """A C-contiguous array that is written to."""
    return lambda reals: types.Array(reals[0], ndim, "C")


class Shortcut:
    """A compiled function that returns whether it accepted its arguments.

    Each of `arguments` is a Numba type, `read` or `written`. It is compiled for the dtypes that it
    was made `ready` for, and for nothing else.
    """

    def __init__(self, arguments, function):
        self._arguments, self._compiled, self._dtypes = arguments, kernel(function), set()
        self._call = lambda *arguments: False

    def ready(self, *dtypes):
        """Compiles it for these dtypes."""
        if dtypes in self._dtypes:
            return
        numba.get_num_threads()  # makes the symbol of thread_count known
        reals = [numba.from_dtype(dtype) for dtype in dtypes]
        wanted = [a if isinstance(a, types.Type) else a(reals) for a in self._arguments]
        self._compiled.disable_compile(False)
        self._compiled.compile(types.boolean(*wanted))
        self._compiled.disable_compile()
        self._dtypes.add(dtypes)
        self._call = self._compiled

    def accepts(self, *arguments):
        """Whether it has accepted the arguments, and all is done."""
        try:
            return self._call(*arguments)
        except TypeError:  # no such arrays, or not yet
            return False

    def __call__(self, *arguments):
        """Runs it with arguments that have passed every check."""
        if not self._call(*arguments):
            raise AssertionError(f"{self._compiled.__name__} refused what had passed every check")


def shortcut(*arguments):
    """Decorates a function that becomes a Shortcut."""
    return partial(Shortcut, arguments)


@register_jitable
def writable(array):
    """The array as the functions behind know it, which are compiled for one kind alone."""
    return carray(address(array), array.shape)


@register_jitable
def span(array):
    """The addresses of its first byte and of the first one behind it."""
    start = types.intp(array.ctypes.data)
    return start, start + array.size * array.itemsize


@register_jitable
def apart(outputs, inputs):
    """No output shares memory with another or with an input; all are spans."""
    for i in range(len(outputs)):
        start, end = outputs[i]
        for j in range(i):
            if start < outputs[j][1] and outputs[j][0] < end:
                return False
        for first, last in inputs:
            if start < last and first < end:
                return False
    return True


@register_jitable
def below(value, high):
    """0 <= value < high, so never NaN."""
    return value >= 0 and value < high
