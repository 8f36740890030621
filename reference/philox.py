"""Random words that are a function of where they stand, and the numbers that are made of them.

The generator is Philox 4x32-10: it turns a counter of four 32-bit words and a key of two into a
block of four random words. So any block can be computed by itself, on any device and by any number
of threads, and all get the same. Who draws agrees on the counter (block's low word, block's high
word, stream, step) and the key (seed's low word, seed's high word): element e of an array in
row-major order takes word e % 4 of block e // 4. Different seeds, streams and steps have different
numbers.

Source: Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.
"""

import numpy as np

WORD = 2**32 - 1
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
STEPS = 0x9E3779B9, 0xBB67AE85  # of the key from round to round: the golden ratio, sqrt(3) - 1
ROUNDS = 10


def philox(counter, key):
    """The four words of each counter (c0, c1, c2, c3), numbers or arrays, for a key (k0, k1)."""
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter))
    for number in range(ROUNDS):
        k0, k1 = ((k + number * step) & WORD for k, step in zip(key, STEPS, strict=True))
        first, second = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = second >> 32 ^ c1 ^ k0, second & WORD, first >> 32 ^ c3 ^ k1, first & WORD
    return c0, c1, c2, c3


def random_words(count, seed, stream, step=0):
    """The words of elements 0 ... count - 1, below 2^32, as uint64."""
    block = np.arange(-(-count // 4), dtype=np.uint64)
    words = philox((block & WORD, block >> 32, stream, step), (seed & WORD, seed >> 32))
    return np.stack(words, axis=1).ravel()[:count]


def uniform(count, seed, stream, dtype):
    """u = (w // 2^9 + 1/2) / 2^23 of each word w: between 0 and 1, and never one of these.

    They are multiples of 2^-24, so exact in float32 as in float64, and so is 2 u - 1.
    """
    upper = (random_words(count, seed, stream) >> 9).astype(dtype)
    return (upper + dtype(0.5)) * dtype(2**-23)


def normal(count, seed, stream, dtype):
    """r cos 2 pi v, r sin 2 pi v with r = sqrt(-2 log u), of the u and v of two neighbours.

    The resolution of u ends the tails at sqrt(48 log 2), 5.77 deviations: of 10^8 numbers one is
    missing there. Source: Box and Muller, A Note on the Generation of Random Normal Deviates,
    Annals of Mathematical Statistics 29 (1958).
    """
    u, v = uniform(count + count % 2, seed, stream, dtype).reshape(-1, 2).T
    r, (cosine, sine) = np.sqrt(dtype(-2) * np.log(u)), turn(v)
    return np.stack([r * cosine, r * sine], axis=1).ravel()[:count]


def turn(v):
    """(cos 2 pi v, sin 2 pi v), 0 <= v <= 1. What is left of the nearest quarter is exact."""
    quarter = np.rint(4 * v)
    angle = v.dtype.type(2 * np.pi) * (v - quarter / 4)
    c, s, which = np.cos(angle), np.sin(angle), quarter.astype(int) % 4
    return np.choose(which, [c, -s, -c, s]), np.choose(which, [s, c, -s, -c])
