"""Shortcuts: what Python calls, checked in compiled code.

Checks in Python cost 1 to 4 us a call, many times what a small kernel takes. A shortcut makes them
in compiled code: it returns False, with nothing written, unless every shape and number is as it
must be, and Numba refuses arrays of other types. Only then Python checks again, and knows the words
for what is wrong.
"""

from functools import partial

import numba
from numba import carray, types

from . import threads
from .inlined import register_jitable
from .jit import entry
from .vectors import address, location


def read(ndim, of=0):
    """A C-contiguous array that is only read, of elements of the dtype number `of`."""
    return lambda reals: types.Array(reals[of], ndim, "C", readonly=True)


def written(ndim, of=0):
    """A C-contiguous array that is written to, of the dtype number `of`."""
    return lambda reals: types.Array(reals[of], ndim, "C")


class Shortcut:
    """A compiled function that returns whether it accepted its arguments.

    Each of `arguments` is a Numba type, `read` or `written`. It is compiled for the dtypes that it
    was made `ready` for, and for nothing else.
    """

    def __init__(self, arguments, function):
        self._arguments, self._function, self._dtypes = arguments, function, set()
        self._compiled = entry(function)
        self._call = lambda *arguments: False

    def ready(self, *dtypes):
        """Compiles it for these dtypes.

        What other threads call meanwhile is never allowed to compile: a new dispatcher takes its
        place at once when it knows all that the old one knew.
        """
        if dtypes in self._dtypes:
            return
        with threads.compiling:
            if dtypes in self._dtypes:
                return
            threads.launch()
            reals = [numba.from_dtype(dtype) for dtype in dtypes]
            wanted = [a if isinstance(a, types.Type) else a(reals) for a in self._arguments]
            compiled = entry(self._function)
            for known in self._compiled.overloads.values():
                compiled.add_overload(known)
            compiled.compile(types.boolean(*wanted))
            compiled.disable_compile()
            self._compiled, self._call = compiled, threads.take_turns(compiled)
            self._dtypes.add(dtypes)

    def accepts(self, *arguments):
        """Whether it has accepted the arguments, and all is done."""
        try:
            return self._call(*arguments)
        except TypeError:  # no such arrays, or not yet
            return False

    def __call__(self, *arguments):
        """Runs it with arguments that have passed every check."""
        if not self._call(*arguments):
            raise AssertionError(f"{self._function.__name__} refused what had passed every check")


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
    start = location(array)
    return start, start + array.size * array.itemsize


@register_jitable
def _share(one, other):
    """Whether two spans have a byte in common; an empty one has none."""
    meet = one[0] < other[1] and other[0] < one[1]
    return meet and one[0] < one[1] and other[0] < other[1]


@register_jitable
def in_place(output, source):
    """Whether the output is the very same array as this source, or shares no byte with it."""
    return output == source or not _share(output, source)


@register_jitable
def disjoint(outputs, inputs):
    """No output shares a byte with another or with an input; all are spans."""
    for i in range(len(outputs)):
        for j in range(i):
            if _share(outputs[i], outputs[j]):
                return False
        for source in inputs:
            if _share(outputs[i], source):
                return False
    return True


@register_jitable
def below(value, high):
    """0 <= value < high, so never NaN."""
    return value >= 0 and value < high
