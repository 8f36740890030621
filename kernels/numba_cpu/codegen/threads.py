"""Threads: how many a call may use, and what holds when Python itself has several, or forks.

Numba's pool of threads is launched before the first kernel is compiled or read from the cache,
because compiled code names functions of the pool. It is not launched at import: a process that
only imports may still fork.

- One Python thread compiles at a time; the others wait.
- After a fork the pool's threads are gone, and GNU OpenMP ends a child that asks for them. So a
  child of a process that had launched the pool computes on one thread; what needs more has to be
  started by spawn.
- Numba's last resort, the layer "workqueue", ends a process whose calls meet in its pool: there
  they take turns.
"""

import ctypes
import gc
import os
import threading
from functools import wraps

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .inlined import register_jitable


class _Compiling:
    """Held by the Python thread that compiles, which may hold it several times.

    Numba makes so many objects that live that Python, which by default looks for dead cycles among
    them after every 700, spends an eighth of the time on that; a few of them take little room.
    """

    def __init__(self):
        self._lock, self._held = threading.RLock(), 0

    def __enter__(self):
        self._lock.acquire()
        if self._held == 0:
            self._thresholds = young, *older = gc.get_threshold()
            gc.set_threshold(young and max(young, 50_000), *older)
        self._held += 1

    def __exit__(self, *_):
        self._held -= 1
        if self._held == 0:
            gc.set_threshold(*self._thresholds)
        self._lock.release()


compiling = _Compiling()
_turn = threading.Lock()

_LIMIT = "fusebench_thread_limit"
_limit = ctypes.c_int64(2**31)
llvm.add_symbol(_LIMIT, ctypes.addressof(_limit))
# Fetched by name: Numba's own function would keep its callers out of the cache.
_pool_size = types.ExternalFunction("get_num_threads", types.intp())


@intrinsic
def _thread_limit(typingctx):
    """Read at every call: a child learns of it only after its code was compiled."""

    def codegen(context, builder, signature, args):
        return builder.load(context.get_c_value(builder, ir.IntType(64), _LIMIT))

    return types.intp(), codegen


@register_jitable
def thread_count():
    """The threads that a call may use; where it is 1, no kernel begins a parallel region."""
    return min(_pool_size(), _thread_limit())


@intrinsic
def claim(typingctx, place):
    """Whether the caller is the one that sets the int64 at this place from 0 to 1."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        found = builder.cmpxchg(args[0], word(0), word(1), "acquire", "monotonic")
        return builder.extract_value(found, 1)

    return types.boolean(place), codegen


@intrinsic
def release(typingctx, place):
    """Sets the int64 at this place back to 0."""

    def codegen(context, builder, signature, args):
        builder.store_atomic(ir.IntType(64)(0), args[0], "release", 8)
        return context.get_dummy_value()

    return types.void(place), codegen


def launch():
    """Launches the pool, unless it is there."""
    numba.get_num_threads()


def take_turns(call):
    """The call itself, or where calls must not meet in the pool, one that waits for its turn."""
    launch()
    if numba.threading_layer() != "workqueue":
        return call

    @wraps(call)
    def waiting(*arguments):
        with _turn:
            return call(*arguments)

    return waiting


def _in_child():
    compiling.__exit__()
    try:
        numba.threading_layer()
    except ValueError:  # no pool was launched: this process may have one of its own
        return
    _limit.value = 1


if hasattr(os, "register_at_fork"):  # nothing forks on Windows
    os.register_at_fork(
        before=compiling.__enter__, after_in_parent=compiling.__exit__, after_in_child=_in_child
    )
