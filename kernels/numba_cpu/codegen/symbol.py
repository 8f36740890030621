"""Functions that are compiled once for each dtype and called by their symbols.

Numba compiles a function again into each of its callers, and into theirs. For a large function that
many others reach, that takes minutes: here it becomes a C function, which callers only name.
"""

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import threads
from .jit import OPTIONS


@intrinsic
def stored(typingctx, value):
    """Pointer to the value, such as a tuple that a C function is to read; valid until the caller
    returns.
    """

    def codegen(context, builder, signature, args):
        place = cgutils.alloca_once(builder, context.get_data_type(value))
        context.pack_value(builder, value, args[0], place)
        return place

    return types.CPointer(value)(value), codegen


@intrinsic
def loaded(typingctx, pointer):
    """The value that a pointer points to."""

    def codegen(context, builder, signature, args):
        return context.unpack_value(builder, pointer.dtype, args[0])

    return pointer.dtype(pointer), codegen


_DEFINED = {}  # what a caller calls -> (function, signature)
_COMPILED = {}  # symbol -> the code, which this keeps alive


def by_symbol(signature):
    """Decorates a function of signature(pointer) whose first argument is that pointer, to elements.

    It has to be `ready` for the dtype of the elements before a call.
    """

    def decorate(function):
        @intrinsic
        def call(typingctx, *given):
            wanted = signature(given[0])

            def codegen(context, builder, _, packed):
                values = [
                    context.cast(builder, value, have, want)
                    for value, have, want in zip(
                        cgutils.unpack_tuple(builder, packed[0]), given, wanted.args, strict=True
                    )
                ]
                nothing = wanted.return_type == types.void
                result = ir.VoidType() if nothing else context.get_value_type(wanted.return_type)
                kind = ir.FunctionType(result, [value.type for value in values])
                name = _symbol(function, given[0].dtype)
                callee = cgutils.get_or_insert_function(builder.module, kind, name)
                value = builder.call(callee, values)
                return context.get_dummy_value() if nothing else value

            return wanted.return_type(types.StarArgTuple(given)), codegen

        _DEFINED[call] = function, signature
        return call

    return decorate


def ready(dtype, *calls):
    """Compiles these functions for a dtype, callees first.

    Not done at import: it takes seconds, and launches the threads of a process that may yet fork.
    """
    pointer = types.CPointer(numba.from_dtype(dtype))
    with threads.compiling:
        threads.launch()
        for function, signature in (_DEFINED[call] for call in calls):
            symbol = _symbol(function, pointer.dtype)
            if symbol not in _COMPILED:
                compile_ = cfunc(signature(pointer), **OPTIONS, fastmath={"contract"})
                _COMPILED[symbol] = compile_(function)
                llvm.add_symbol(symbol, _COMPILED[symbol].address)


def _symbol(function, dtype):
    return f"fusebench_{function.__module__}_{function.__name__}_{dtype}".replace(".", "_")
