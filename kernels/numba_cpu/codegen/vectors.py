"""Code for the host's vector registers, written as LLVM IR: for loops whose registers and loads are
counted, which Numba would arrange as it likes.

A function decorated with `emitted` writes the IR, through an `Emitter`, of a function that Numba
code calls. Its arguments are pointers to elements, matrices, and counts.
"""

from typing import NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .inlined import register_jitable
from .jit import INTERNAL

I32, I64 = ir.IntType(32), ir.IntType(64)


def _features():
    """Those that Numba compiles for: NUMBA_CPU_FEATURES, or the host's. What a processor that is
    only named by NUMBA_CPU_NAME can do, Numba does not tell.
    """
    if config.CPU_FEATURES is not None:
        return {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    if config.CPU_NAME not in (None, "host"):
        return set()
    return {name for name, present in llvm.get_host_cpu_features().items() if present}


def _vector_unit():
    """Of the host: bytes of a vector register, number of them, whether masked loads are free."""
    features = _features()
    if "avx512f" in features:
        return 64, 32, True
    if "avx2" in features and "fma" in features:
        return 32, 16, False
    return 16, 32 if "neon" in features else 16, False


VECTOR_BYTES, REGISTERS, FREE_MASKS = _vector_unit()


class Matrix(NamedTuple):
    """Where a matrix begins, and the elements from one of its rows to the next."""

    data: object
    step: int


@intrinsic
def address(typingctx, array):
    """Pointer to the first element of a C-contiguous array."""

    def codegen(context, builder, signature, args):
        return context.make_array(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@register_jitable
def no_rows(vector):
    """A matrix without rows, of this vector's type: for an argument that is not given, without the
    code being compiled once more.
    """
    return carray(address(vector), (0, vector.size))


@intrinsic
def location(typingctx, array):
    """The address of the first element, as a number; array.ctypes.data would count references."""

    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.ptrtoint(data, I64)

    return types.intp(array), codegen


@intrinsic
def never_inlined(typingctx):
    """Keeps LLVM from inlining the function that calls this."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def noalias(typingctx):
    """Promises that no array which the calling function writes overlaps another of its arguments:
    so LLVM compiles loops to vectors without checks, of which it would make a few at most.
    """

    def codegen(context, builder, signature, args):
        for argument in builder.function.args:
            kind = argument.type
            if kind.is_pointer and isinstance(kind.pointee, ir.FloatType | ir.DoubleType):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def advance(typingctx, pointer, elements):
    """pointer + elements."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), codegen


@intrinsic
def aligned(typingctx, pointer):
    """The first address from `pointer` on that starts a vector."""

    def codegen(context, builder, signature, args):
        place = builder.add(builder.ptrtoint(args[0], I64), I64(VECTOR_BYTES - 1))
        return builder.inttoptr(builder.and_(place, I64(-VECTOR_BYTES)), args[0].type)

    return pointer(pointer), codegen


@intrinsic
def nowhere(typingctx, pointer):
    """The null pointer of the given pointer's type."""

    def codegen(context, builder, signature, args):
        return ir.Constant(args[0].type, None)

    return pointer(pointer), codegen


@intrinsic
def at(typingctx, matrix, i, j):
    """What is left of a matrix from row i and column j on."""

    def codegen(context, builder, signature, args):
        data, step = cgutils.unpack_tuple(builder, args[0])
        place = builder.gep(data, [builder.add(builder.mul(args[1], step), args[2])])
        return context.make_tuple(builder, matrix, (place, step))

    return matrix(matrix, types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def stack(typingctx, array, count):
    """Pointer to room for a constant number of elements like the array's, until the caller returns:
    it costs nothing.
    """

    def codegen(context, builder, signature, args):
        kind = context.get_data_type(array.dtype)
        return cgutils.alloca_once(builder, kind, size=count.literal_value)

    return types.CPointer(array.dtype)(array, count), codegen


@intrinsic
def keep(typingctx, array):
    """Numba frees an array after its last mention, pointers into it or not: this mentions it."""
    return types.void(array), lambda context, *_: context.get_dummy_value()


class Emitter:
    """Writes operations on vectors of one element type at the builder's current place."""

    def __init__(self, builder, element):
        self.builder = builder
        self.element = element
        self.align = 4 if isinstance(element, ir.FloatType) else 8
        self.width = VECTOR_BYTES // self.align
        self.vector = ir.VectorType(element, self.width)
        self.zero = ir.Constant(self.vector, [0.0] * self.width)

    def _call(self, name, result, *args):
        kind = ir.FunctionType(result, [arg.type for arg in args])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, args)

    def _name(self, operation, vector):
        return f"llvm.{operation}.v{vector.count}f{8 * self.align}"

    # addresses and lanes

    def offset(self, pointer, count):
        return self.builder.gep(pointer, [I64(count) if isinstance(count, int) else count])

    def at(self, matrix, i, j=0):
        i = I64(i) if isinstance(i, int) else i
        return self.offset(self.offset(matrix.data, self.builder.mul(i, matrix.step)), j)

    def less(self, a, b):
        return self.builder.icmp_signed("<", a, b)

    def least(self, a, b):
        return self.builder.select(self.less(a, b), a, b)

    def lanes(self, count, width=None):
        """A mask of the lanes whose number is below count."""
        lanes = ir.VectorType(I64, width or self.width)
        return self.less(ir.Constant(lanes, list(range(lanes.count))), self._splat(count, lanes))

    def _splat(self, value, vector):
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(first, undefined, zeros)

    # memory

    def load(self, pointer, mask=None):
        """A vector, or as many elements as the mask has lanes, 0 where it is not set."""
        vector = ir.VectorType(self.element, mask.type.count) if mask else self.vector
        place = self.builder.bitcast(pointer, vector.as_pointer())
        if mask is None:
            return self.builder.load(place, align=self.align)
        name = self._name("masked.load", vector) + ".p0"
        return self._call(name, vector, place, I32(self.align), mask, vector(None))

    def store(self, value, pointer, mask=None):
        place = self.builder.bitcast(pointer, value.type.as_pointer())
        if mask is None:
            self.builder.store(value, place, align=self.align)
        else:
            name = self._name("masked.store", value.type) + ".p0"
            self._call(name, ir.VoidType(), value, place, I32(self.align), mask)

    def broadcast(self, pointer):
        return self._splat(self.builder.load(pointer, align=self.align), self.vector)

    def prefetch(self, pointer, for_writing=False):
        """Asks for the cache line of an address, which need not exist."""
        place = self.builder.bitcast(pointer, ir.IntType(8).as_pointer())
        self._call("llvm.prefetch.p0", ir.VoidType(), place, I32(int(for_writing)), I32(3), I32(1))

    # arithmetic

    def multiply_add(self, a, b, c):
        return self._call(self._name("fma", self.vector), self.vector, a, b, c)

    def shuffle(self, a, b, lanes):
        lanes = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
        return self.builder.shuffle_vector(a, b, lanes)

    def add(self, values, others):
        return [self.builder.fadd(a, b) for a, b in zip(values, others, strict=True)]

    # control

    def is_given(self, pointer):
        return self.builder.icmp_unsigned("!=", pointer, pointer.type(None))

    def changed_if(self, condition, values, change):
        """change(values) where the condition holds, else values."""
        before = self.builder.block
        with self.builder.if_then(condition):
            changed = change(values)
            inside = self.builder.block
        return self._merged([(values, before), (changed, inside)])

    def loop(self, count, body, carried=(), step=1):
        """for i in range(0, count, step): carried = body(i, *carried), which stay in registers."""
        builder, before = self.builder, self.builder.block
        head, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.cbranch(self.less(I64(0), count), head, done)
        builder.position_at_end(head)
        index, *inside = phis = [builder.phi(value.type) for value in (I64(0), *carried)]
        after = [builder.add(index, I64(step)), *(body(index, *inside) or ())]
        last = builder.block
        builder.cbranch(self.less(after[0], count), head, done)
        for phi, first, value in zip(phis, (I64(0), *carried), after, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(value, last)
        builder.position_at_end(done)
        return self._merged([(carried, before), (after[1:], last)])

    def _merged(self, ways):
        """Values that come from one of several blocks."""
        merged = []
        for values in zip(*(values for values, _ in ways), strict=True):
            merged.append(self.builder.phi(values[0].type))
            for value, (_, block) in zip(values, ways, strict=True):
                merged[-1].add_incoming(value, block)
        return merged

    def choose(self, case, bodies):
        """bodies[case](), for one of these cases."""
        builder = self.builder
        end, unknown = builder.append_basic_block("end"), builder.append_basic_block("unknown")
        switch = builder.switch(case, unknown)
        for number, body in bodies.items():
            block = builder.append_basic_block(f"case_{number}")
            switch.add_case(I64(number), block)
            builder.position_at_end(block)
            body()
            builder.branch(end)
        builder.position_at_end(unknown)
        builder.unreachable()
        builder.position_at_end(end)


def emitted(body):
    """The function for Numba code whose IR body(emit, *arguments) writes; the first argument is a
    pointer or a matrix of the elements to work on. Matrices come as `Matrix` of IR values.
    """

    @intrinsic
    def inline(typingctx, *given):
        pointer = given[0].types[0] if isinstance(given[0], types.BaseTuple) else given[0]

        def codegen(context, builder, signature, packed):
            values = [
                Matrix(*cgutils.unpack_tuple(builder, value))
                if isinstance(kind, types.BaseTuple)
                else value
                for value, kind in zip(cgutils.unpack_tuple(builder, packed[0]), given, strict=True)
            ]
            body(Emitter(builder, context.get_value_type(pointer.dtype)), *values)
            return context.get_dummy_value()

        return types.void(types.StarArgTuple(given)), codegen

    @njit(**INTERNAL)
    def call(*arguments):
        inline(*arguments)

    call.__doc__ = body.__doc__
    return call
