"""What the CPU can do at most: multiply-adds from registers, bytes streamed from each memory.

How fast a machine is changes while it runs, by its clock and by what else runs on it. So a cell's
floor, the time that its operations or its bytes take at least, is measured between its rounds.
"""

import functools
import time

import llvmlite.binding
import llvmlite.ir as ir
import numba
import numpy as np
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from .. import roofline

FLOOR = "floor"
ELEMENTS = (1 << 12, 1 << 16, 1 << 20, 1 << 24)  # of a triad's array, from the L1 cache to memory
STEPS = 1 << 18  # of the multiply-add loop: about a millisecond
SECONDS = 0.3  # of measuring; the fastest repetition counts
BRIEFLY = 0.02  # of measuring which ceiling binds


def _registers():
    """(float32 numbers in a vector register, independent chains that fit into the registers)."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 24
    return (8, 12) if features.get("avx") else (4, 24)


LANES, CHAINS = _registers()


@intrinsic
def _chains(typing_context, steps, scale, shift):
    """CHAINS vectors v, each v = scale v + shift so many times; returns an element of their sum.

    An addition waits some 4 cycles for the one before it in its chain, so that many chains are
    needed to keep every unit busy. In plain Python LLVM would keep them in memory.
    """

    def codegen(context, builder, signature, arguments):
        vector = ir.VectorType(ir.FloatType(), LANES)
        name = f"llvm.fma.v{LANES}f32"
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name
        )

        def broadcast(number):
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, _index(0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return builder.shuffle_vector(first, first, zeros)

        steps, scale, shift = arguments
        scale, shift = broadcast(scale), broadcast(shift)
        starts = (ir.Constant(vector, [float(k + 1)] * LANES) for k in range(CHAINS))
        chains = [cgutils.alloca_once_value(builder, start) for start in starts]
        with cgutils.for_range(builder, steps):
            for chain in chains:
                builder.store(builder.call(fma, [builder.load(chain), scale, shift]), chain)
        total = builder.load(chains[0])
        for chain in chains[1:]:
            total = builder.fadd(total, builder.load(chain))
        return builder.extract_element(total, _index(0))

    return types.float32(steps, types.float32, types.float32), codegen


def _index(k):
    return ir.Constant(ir.IntType(32), k)


@numba.njit(parallel=True)
def _multiply_add(steps, scale, shift, sums):
    for thread in prange(sums.size):
        sums[thread] = _chains(steps, scale, shift)


@numba.njit(parallel=True)
def _triad(a, b, scale, times, threads):
    part = a.size // threads
    for thread in prange(threads):
        mine, other = a[thread * part : (thread + 1) * part], b[thread * part : (thread + 1) * part]
        for _ in range(times):
            for i in range(mine.size):
                mine[i] += scale * other[i]


def _fastest(call, seconds):
    """Seconds of the fastest call, of as many as take that long."""
    call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measured():
    """{"flops": operations a second, "triads": [(bytes, bytes a second)]}, as JSON keeps them."""
    return {"flops": peak(), "triads": [bandwidth(elements) for elements in ELEMENTS]}


def higher(one, other):
    """The best of two measurements."""
    triads = [
        max(pair, key=lambda t: t[1]) for pair in zip(one["triads"], other["triads"], strict=True)
    ]
    return {"flops": max(one["flops"], other["flops"]), "triads": triads}


def roof(found):
    """What `measured` found, as the report's."""
    triads = [(size, rate, "") for size, rate in found["triads"]]
    return roofline.Roof((found["flops"], ""), triads)


def peak():
    """float32 operations a second of all threads, a multiply-add counted as two."""
    call, flops = _multiply_adds()
    return flops / _fastest(call, SECONDS)


def bandwidth(elements):
    """(bytes of one a += s b, bytes a second): two arrays read, one of them written back."""
    call, size, times = _stream(elements)
    return size, size * times / _fastest(call, SECONDS)


def _multiply_adds():
    """(a call, its operations)."""
    sums = np.zeros(numba.get_num_threads(), np.float32)
    call = functools.partial(_multiply_add, STEPS, np.float32(0.5), np.float32(1), sums)
    return call, 2 * LANES * CHAINS * STEPS * len(sums)


def _stream(elements):
    """(a call, the bytes of one pass over arrays of so many elements, its passes)."""
    a, b = np.zeros(elements, np.float32), np.ones(elements, np.float32)
    times = max(1, ELEMENTS[-1] // elements)
    call = functools.partial(_triad, a, b, np.float32(1e-3), times, numba.get_num_threads())
    return call, 3 * a.nbytes, times


def floor(flops, size):
    """sampler(count): seconds that so many operations, or bytes where they take longer, take now;
    it goes on about as long as `count` times that.
    """
    from .measure import sample

    elements = min(max(size // 12, ELEMENTS[0]), ELEMENTS[-1])
    stream, one, times = _stream(elements)
    multiply_adds, work = _multiply_adds()
    # Each call, and how many of it the operation takes.
    ways = (multiply_adds, flops / work), (stream, size / (one * times))
    call, share = max(ways, key=lambda way: _fastest(way[0], BRIEFLY) * way[1])
    return lambda count: sample(call, lambda: None, max(1, round(count * share))) * share
