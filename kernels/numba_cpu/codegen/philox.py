"""Random words for compiled code: Philox 4x32-10; see reference/philox.py.

A word is held in 64 bits. So a product of two is one instruction on vectors, and LLVM leaves out
the masks, as that instruction reads the lower halves alone.
"""

import numpy as np
from numba import njit

from .inlined import register_jitable
from .jit import INTERNAL
from .vectors import never_inlined

ROUNDS = 10
WORDS = 4  # a block
PAIRS = 512  # of words at a time, each an uint64: they stay in the L1 cache
MOST = 2 * PAIRS
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
FIRST, SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
STEPS = 0x9E3779B9, 0xBB67AE85  # of the key, from round to round
INLINE = {"forceinline": True}  # else a loop would call it


def _rounds(done):
    """What is left of Philox after so many rounds: functions in functions, as LLVM vectorises no
    loop around one over the rounds.
    """
    if done == ROUNDS:
        return register_jitable(**INLINE)(lambda *given: given[:WORDS])
    rest, (step0, step1) = _rounds(done + 1), (np.uint64(done * step & int(LOW)) for step in STEPS)

    @register_jitable(**INLINE)
    def rounds(c0, c1, c2, c3, key0, key1):
        first, second = FIRST * c0, SECOND * c2
        now0, now1 = (key0 + step0) & LOW, (key1 + step1) & LOW
        c0, c1 = (second >> SHIFT) ^ c1 ^ now0, second & LOW
        c2, c3 = (first >> SHIFT) ^ c3 ^ now1, first & LOW
        return rest(c0, c1, c2, c3, key0, key1)

    return rounds


philox = _rounds(0)


@njit(**INTERNAL)
def _fill(pairs, block, seed, stream, step):
    never_inlined()
    key0, key1 = seed & LOW, seed >> SHIFT
    for b in range(pairs.size // 2):
        number = np.uint64(block + b)
        w = philox(number & LOW, number >> SHIFT, stream, step, key0, key1)
        pairs[2 * b] = w[0] | (w[1] << SHIFT)  # in their order where bytes are, lowest first
        pairs[2 * b + 1] = w[2] | (w[3] << SHIFT)


@register_jitable
def random_words(pairs, first, last, seed, stream, step):
    """The words of elements first ... last - 1, a uint32 array in this memory of PAIRS uint64; with
    what they lack to whole blocks they are MOST at most.
    """
    block = first // WORDS
    blocks = (last + WORDS - 1) // WORDS - block
    _fill(pairs[: 2 * blocks], block, seed, stream, np.uint64(step))
    return pairs.view(np.uint32)[first - WORDS * block :]
