"""Functions compiled once for each dtype and called by their symbols.

Numba compiles a function again into each of its callers, and into theirs. For a large function that
many others reach, that takes minutes: here it becomes a C function, which callers only name.
"""

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

_DTYPES = {"float32": types.float32, "float64": types.float64}
_FUNCTIONS = []  # in the order of their definitions: callees first
_COMPILED = {}

# Fetched from Numba's runtime by name: a Python reference would keep callers out of the cache.
numba.get_num_threads()
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


def compile_all(dtype):
    """Makes the symbols of all these functions known for a dtype; callers need them."""
    dtype = _DTYPES[str(dtype)]
    for function, signature in _FUNCTIONS:
        name = _name(function, dtype)
        if name not in _COMPILED:
            options = {"cache": True, "error_model": "numpy", "fastmath": {"contract"}}
            compiled = cfunc(signature(types.CPointer(dtype)), **options)(function)
            llvm.add_symbol(name, compiled.address)
            _COMPILED[name] = compiled  # keeps the code alive


def _name(function, dtype):
    return f"fusebench_{function.__module__}_{function.__name__}_{dtype}".replace(".", "_")
