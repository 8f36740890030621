"""What the CPU can do at most: multiply-adds from registers, bytes streamed from each memory.

Neither is computed by a kernel of ours, so that a kernel that becomes slower loses its share. No
one way to stream is the fastest from every memory: the ceiling at a footprint is the best of them.
"""

import functools

import llvmlite.ir as ir
import numba
import numpy as np
from numba import prange
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

# Bytes of all arrays of a call, from the first-level caches to main memory; where a cache may end,
# each is twice the one before.
FOOTPRINTS = (1 << 14, 1 << 17, *(1 << k for k in range(19, 29)))
# One thread's: a kernel that takes no more may keep a core to itself where other work disturbs all.
ALONE = (1 << 14, 1 << 19, 1 << 21, 1 << 24)
# How often each way moves the bytes of its arrays: in a triad, a += s b, one of two is read and
# written back. Their order is that of the branches of `_stream`.
WAYS = {"read": 1.0, "write": 1.0, "copy": 1.0, "triad": 1.5}


def _registers():
    """(bytes of a vector register, independent chains that fit into the registers)."""
    # Those that Numba compiles for: the processor's, unless NUMBA_CPU_FEATURES says less.
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    if "+avx512f" in features:
        return 64, 24
    return (32, 12) if "+avx" in features else (16, 24)


REGISTER, CHAINS = _registers()


@intrinsic
def _chains(typing_context, steps, scale, shift):
    """CHAINS vectors v, each v = scale v + shift so many times; returns an element of their sum.

    An addition waits some 4 cycles for the one before it in its chain, so that many chains are
    needed to keep every unit busy. In plain Python LLVM would keep them in memory.
    """
    lanes = REGISTER // (scale.bitwidth // 8)

    def codegen(context, builder, signature, arguments):
        number = context.get_value_type(scale)
        vector = ir.VectorType(number, lanes)
        name = f"llvm.fma.v{lanes}f{scale.bitwidth}"
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name
        )

        def broadcast(value):
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _index(0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            return builder.shuffle_vector(first, first, zeros)

        count, factor, summand = arguments
        factor, summand = broadcast(factor), broadcast(summand)
        starts = (ir.Constant(vector, [float(k + 1)] * lanes) for k in range(CHAINS))
        chains = [cgutils.alloca_once_value(builder, start) for start in starts]
        with cgutils.for_range(builder, count):
            for chain in chains:
                builder.store(builder.call(fma, [builder.load(chain), factor, summand]), chain)
        total = builder.load(chains[0])
        for chain in chains[1:]:
            total = builder.fadd(total, builder.load(chain))
        return builder.extract_element(total, _index(0))

    return scale(steps, scale, shift), codegen


def _index(k):
    return ir.Constant(ir.IntType(32), k)


@numba.njit(cache=True)
def _multiply_adds_alone(steps, scale, shift, sums):
    sums[0] = _chains(steps, scale, shift)


@numba.njit(parallel=True, cache=True)
def _multiply_add(steps, scale, shift, sums):
    for thread in prange(sums.size):
        sums[thread] = _chains(steps, scale, shift)


@numba.njit(cache=True, fastmath={"reassoc"})  # else each addition of a sum waits for the last
def _stream_alone(way, a, b, scale, times, sums):
    total = scale
    for _ in range(times):
        if way == 0:
            for i in range(a.size):
                total += a[i] + b[i]
        elif way == 1:
            for i in range(a.size):
                a[i] = total
                b[i] = total
            total += scale
        elif way == 2:
            for i in range(a.size):
                a[i] = b[i]
        else:
            for i in range(a.size):
                a[i] += scale * b[i]
    sums[0] = total


@numba.njit(parallel=True, cache=True)
def _stream(way, a, b, scale, times, sums):
    part = a.size // sums.size
    for thread in prange(sums.size):
        mine = slice(thread * part, (thread + 1) * part)
        _stream_alone(way, a[mine], b[mine], scale, times, sums[thread : thread + 1])


def multiply_adds(operations, dtype, alone=False):
    """A call that does so many, a multiply-add counted as two, on all threads, or on one."""
    number, sums = np.dtype(dtype).type, np.zeros(1 if alone else numba.get_num_threads(), dtype)
    each = 2 * CHAINS * (REGISTER // sums.itemsize) * len(sums)  # of one step
    loop = _multiply_adds_alone if alone else _multiply_add
    return functools.partial(loop, round(operations / each), number(0.5), number(1), sums)


def streams(way, footprint, dtype="float32", alone=False):
    """A call that passes `passes` times over two arrays of so many bytes together in one of the
    WAYS, on all threads, or on one.
    """
    number, sums = np.dtype(dtype).type, np.zeros(1 if alone else numba.get_num_threads(), dtype)
    # Their addresses differ by no multiple of 4 KiB, or a read would wait for the write of another.
    count, apart = footprint // 2 // sums.itemsize, 1088 // sums.itemsize
    both = np.ones(2 * count + apart, dtype)
    a, b = both[:count], both[count + apart :]
    given = list(WAYS).index(way), a, b, number(1e-3), passes(footprint), sums
    return functools.partial(_stream_alone if alone else _stream, *given)


def passes(footprint):
    """So many that a call takes some tenths of a millisecond; of large arrays one."""
    return max(1, FOOTPRINTS[-3] // footprint)


def moved(way, footprint):
    """Bytes that such a call moves."""
    return WAYS[way] * footprint * passes(footprint)
