"""What the CPU can do at most: multiply-adds from registers, bytes streamed from each memory.

Neither is computed by a kernel of ours, so that a kernel that becomes slower loses its share.
"""

import functools

import llvmlite.binding
import llvmlite.ir as ir
import numba
import numpy as np
from numba import prange
from numba.core import cgutils
from numba.extending import intrinsic

# Of a triad's array, from the first-level cache to main memory.
ELEMENTS = (1 << 12, 1 << 16, 1 << 20, 1 << 21, 1 << 22, 1 << 24)


def _registers():
    """(bytes of a vector register, independent chains that fit into the registers)."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 24
    return (32, 12) if features.get("avx") else (16, 24)


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


@numba.njit(parallel=True, cache=True)
def _multiply_add(steps, scale, shift, sums):
    for thread in prange(sums.size):
        sums[thread] = _chains(steps, scale, shift)


@numba.njit(parallel=True, cache=True)
def _triad(a, b, scale, times, threads):
    part = a.size // threads
    for thread in prange(threads):
        mine, other = a[thread * part : (thread + 1) * part], b[thread * part : (thread + 1) * part]
        for _ in range(times):
            for i in range(mine.size):
                mine[i] += scale * other[i]


def multiply_adds(operations, dtype):
    """A call that does so many, a multiply-add counted as two, on all threads."""
    number, sums = np.dtype(dtype).type, np.zeros(numba.get_num_threads(), dtype)
    each = 2 * CHAINS * (REGISTER // sums.itemsize) * len(sums)  # of one step
    return functools.partial(_multiply_add, round(operations / each), number(0.5), number(1), sums)


def triads(elements, dtype):
    """A call that passes `passes` times over two arrays of so many elements, a += s b, on all
    threads: two are read, one is written back.
    """
    number, a, b = np.dtype(dtype).type, np.zeros(elements, dtype), np.ones(elements, dtype)
    threads = numba.get_num_threads()
    return functools.partial(_triad, a, b, number(1e-3), passes(elements), threads)


def passes(elements):
    """So many that a call takes milliseconds."""
    return max(1, ELEMENTS[-1] // elements)
