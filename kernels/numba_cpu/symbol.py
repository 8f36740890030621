"""Functions compiled once for each dtype and called by their symbols.

Numba compiles a function again into each of its callers, and into theirs. For a large function that
many others reach, that takes minutes: here it becomes a C function, which callers only name.
"""

from functools import cache

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import OPTIONS

_FUNCTIONS = []  # in the order of their definitions: callees first

# Numba's own function would keep its callers out of the cache.
thread_count = types.ExternalFunction("get_num_threads", types.intp())


def by_symbol(signature):
    """Decorates a function whose first argument is a pointer, of which signature(pointer) is."""

    def decorate(function):
        _FUNCTIONS.append((function, signature))

        @intrinsic
        def call(typing_context, *arguments):
            expected = signature(arguments[0])

            def codegen(context, builder, _, packed):
                given = cgutils.unpack_tuple(builder, packed[0])
                values = [
                    context.cast(builder, value, have, want)
                    for value, have, want in zip(given, arguments, expected.args, strict=True)
                ]
                kinds = [context.get_value_type(kind) for kind in expected.args]
                result = context.get_value_type(expected.return_type)
                if expected.return_type == types.void:
                    result = ir.VoidType()
                callee = cgutils.get_or_insert_function(
                    builder.module,
                    ir.FunctionType(result, kinds),
                    _name(function, arguments[0].dtype),
                )
                value = builder.call(callee, values)
                return context.get_dummy_value() if result == ir.VoidType() else value

            return expected.return_type(types.StarArgTuple(arguments)), codegen

        return call

    return decorate


@cache
def ready(dtype):
    """Compiles all these functions for a dtype; to be called before the first of their callers.

    Not at import: it takes seconds, and starts Numba's threads in a process that may yet fork.
    """
    numba.get_num_threads()  # makes the symbol that thread_count calls known
    pointer, kept = types.CPointer(numba.from_dtype(dtype)), []
    for function, signature in _FUNCTIONS:
        kept.append(cfunc(signature(pointer), **OPTIONS, fastmath={"contract"})(function))
        llvm.add_symbol(_name(function, pointer.dtype), kept[-1].address)
    return kept  # the cache keeps the code alive


def _name(function, dtype):
    return f"fusebench_{function.__module__}_{function.__name__}_{dtype}".replace(".", "_")
