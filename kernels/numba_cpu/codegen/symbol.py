"""Functions that are compiled once for each dtype and called by their symbols.

Numba compiles a function again into each of its callers, and into theirs. For a large function that
many others reach, that takes minutes: here it becomes a C function, which callers only name.
"""

import ctypes

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from ...arguments import FLOATS
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


def _call(context, builder, wanted, values, given, callee):
    """A call of the C function callee(its LLVM type) of the signature `wanted`."""
    values = [
        context.cast(builder, value, have, want)
        for value, have, want in zip(values, given, wanted.args, strict=True)
    ]
    nothing = wanted.return_type == types.void
    result = ir.VoidType() if nothing else context.get_value_type(wanted.return_type)
    kind = ir.FunctionType(result, [value.type for value in values])
    value = builder.call(callee(kind), values)
    return context.get_dummy_value() if nothing else value


class _Cache(FunctionCache):
    """Numba knows a function in a closure again by what it holds, pickled. Where that is a compiled
    function it differs in every process, which would compile it anew. Ours are known by a name: the
    folder of the cache stands for the code of all of them.
    """

    def __init__(self, function, name):
        super().__init__(function)
        self._known_as = name

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), self._known_as


def _compiled(function, signature, name):
    """The C function of a name that no other has in this house, as numba.cfunc makes it."""
    options = {key: value for key, value in OPTIONS.items() if key != "cache"}
    options["fastmath"] = {"contract"}
    made = CFunc(function, (signature.args, signature.return_type), {}, options)
    made._cache = _Cache(function, name)
    made.compile()
    return made


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
                name = _symbol(function, given[0].dtype)
                values = cgutils.unpack_tuple(builder, packed[0])
                return _call(
                    *(context, builder, wanted, values, given),
                    lambda kind: cgutils.get_or_insert_function(builder.module, kind, name),
                )

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
                _COMPILED[symbol] = _compiled(function, signature(pointer), symbol)
                llvm.add_symbol(symbol, _COMPILED[symbol].address)


def _symbol(function, dtype):
    return f"fusebench_{function.__module__}_{function.__name__}_{dtype}".replace(".", "_")


class Numbered:
    """Functions of signature(pointer) by number, each compiled for a dtype when it is first needed:
    callers find their addresses in a table.

    call(pointer, number, *others)   for compiled code: the function of this number, which has to be
                                     `ready` for the dtype of the elements
    known(pointer, number)           for compiled code: whether it is
    """

    def __init__(self, name, signature, functions):
        self.functions, self._signature, self._compiled = functions, signature, {}
        self._name, self._symbol = name, f"fusebench_table_{name}_{{}}".format
        self._tables = {}
        for dtype in map(numba.from_dtype, FLOATS):
            self._tables[dtype] = table = (ctypes.c_int64 * (1 + max(functions)))()
            llvm.add_symbol(self._symbol(dtype), ctypes.addressof(table))

        @intrinsic
        def call(typingctx, *given):
            wanted, kinds = signature(given[0]), (given[0], *given[2:])

            def codegen(context, builder, _, packed):
                first, number, *others = cgutils.unpack_tuple(builder, packed[0])
                number = context.cast(builder, number, given[1], types.intp)
                place = self._address(context, builder, given[0].dtype, number)
                return _call(
                    *(context, builder, wanted, [first, *others], kinds),
                    lambda kind: builder.inttoptr(place, kind.as_pointer()),
                )

            return wanted.return_type(types.StarArgTuple(given)), codegen

        @intrinsic
        def known(typingctx, pointer, number):
            def codegen(context, builder, _, args):
                address = self._address(context, builder, pointer.dtype, args[1])
                return builder.icmp_unsigned("!=", address, address.type(0))

            return types.boolean(pointer, types.intp), codegen

        self.call, self.known = call, known

    def _address(self, context, builder, dtype, number):
        """Of the function of this number, 0 where it is not compiled."""
        word = ir.IntType(64)
        table = ir.ArrayType(word, len(self._tables[dtype]))
        table = context.get_c_value(builder, table, self._symbol(dtype))
        return builder.load(builder.gep(table, [word(0), number]))

    def ready(self, dtype, *numbers):
        """Compiles the functions of these numbers for a dtype, unless they are."""
        for number in numbers:
            if (dtype, number) in self._compiled:
                continue
            with threads.compiling:
                if (dtype, number) not in self._compiled:
                    threads.launch()
                    real = numba.from_dtype(dtype)
                    wanted = self._signature(types.CPointer(real))
                    name = f"{self._name} {number}"
                    compiled = _compiled(self.functions[number], wanted, name)
                    self._tables[real][number] = compiled.address
                    self._compiled[dtype, number] = compiled
