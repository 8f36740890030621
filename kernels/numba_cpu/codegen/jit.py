"""How every kernel of this backend is compiled, and when it uses threads."""

from functools import partial

from numba import njit

from .inlined import INLINED, register_jitable
from .threads import thread_count

# No division checks: they forbid vectorisation. a * b + c may be rounded once (multiply-add).
OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}
# For functions that only compiled functions call; their code is cached with that of their callers.
INTERNAL = OPTIONS | INLINED | {"cache": False}
kernel = partial(njit, **INTERNAL, fastmath={"contract"})
threaded = partial(njit, **INTERNAL, fastmath={"contract"}, parallel=True)
# For loops that add up: the compiler may keep several partial sums.
reduction = partial(njit, **INTERNAL, fastmath={"contract", "reassoc"})
# What Python calls.
entry = partial(njit, **OPTIONS, fastmath={"contract"})

# A parallel region costs 1.1 to 1.4 us, what one core does with some 30 thousand elements at best,
# and many times that where a thread has to wake.
THREADS_FROM = 1 << 17
# What one thread takes at a time.
CHUNK = 1 << 15


@register_jitable
def serial(size):
    """Whether one thread is to go over so many elements."""
    return size < THREADS_FROM or thread_count() == 1


@register_jitable
def chunks(size):
    """Into how many chunks `size` elements fall."""
    return (size + CHUNK - 1) // CHUNK


@register_jitable
def chunk(c, size):
    """The elements of chunk c."""
    return slice(c * CHUNK, min(size, (c + 1) * CHUNK))


def named(function, suffix):
    """The function under a name of its own. Numba links by names and a count of what a process has
    compiled: functions that one `def` makes, read from the cache, could be taken for each other.
    """
    function.__name__ = function.__qualname__ = f"{function.__name__}_{suffix}"
    return function
