"""Initial weights of a layer, the same for a seed on every backend."""

import math
from functools import partial

import numpy as np

from .bounds import ELEMENTARY, EXACT, Bound, smallest_normal, summation, unit_roundoff
from .philox import normal, random_words, uniform
from .spec import Operation, Result, oracles_share

# The standard deviation of the normal ones, the limit of the uniform ones.
SCALES = {
    "he_normal": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "he_uniform": lambda fan_in, fan_out: math.sqrt(6 / fan_in),
    "glorot_normal": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "glorot_uniform": lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out)),
    "lecun_normal": lambda fan_in, fan_out: math.sqrt(1 / fan_in),
    "lecun_uniform": lambda fan_in, fan_out: math.sqrt(3 / fan_in),
    "fan_in_uniform": lambda fan_in, fan_out: math.sqrt(1 / fan_in),
}
CONNECTIONS = 15  # of a unit of sparse_normal
INITIALIZERS = ("zeros", "constant", *SCALES, "sparse_normal", "orthogonal")


def initialize(weight, initializer, *, seed=0, stream=0, value=None):
    """Overwrites weight, (fan_in, fan_out), whatever it held, and returns nothing.

    zeros            0
    constant         value
    he_normal        N(0, 2 / fan_in); he_uniform: U(-l, l), l = sqrt(6 / fan_in). He et al.,
                     Delving Deep into Rectifiers, ICCV 2015
    glorot_normal    N(0, 2 / (fan_in + fan_out)); glorot_uniform: l = sqrt(6 / (fan_in + fan_out)).
                     Glorot and Bengio, Understanding the difficulty of training deep feedforward
                     neural networks, AISTATS 2010
    lecun_normal     N(0, 1 / fan_in); lecun_uniform: l = sqrt(3 / fan_in). LeCun, Bottou, Orr and
                     Mueller, Efficient BackProp, in Neural Networks: Tricks of the Trade, 1998
    fan_in_uniform   l = 1 / sqrt(fan_in), what PyTorch's Linear begins with
    sparse_normal    each unit has exactly value inputs, 1 ... fan_in of them (15 unless given, or
                     all of fewer), chosen at random, with weights N(0, 1); other weights are 0.
                     Martens, Deep learning via Hessian-free optimization, ICML 2010
    orthogonal       value > 0 (1 unless given) times a random matrix with orthonormal columns, or
                     rows where these are fewer: Q of the QR factorisation of a normal matrix, with
                     the signs for which R's diagonal is positive. Saxe, McClelland and Ganguli,
                     Exact solutions to the nonlinear dynamics of learning in deep linear neural
                     networks, ICLR 2014

    Normal distributions are not truncated. seed is in 0 ... 2^64 - 1, stream in 0 ... 2^32 - 1:
    layers of one network take streams of their own. Which random numbers an element gets is told in
    philox.py; the inputs of sparse_normal are chosen by those of step 1.
    """
    draw = {"seed": seed, "stream": stream, "dtype": weight.dtype.type}
    match initializer:
        case "zeros":
            weight[...] = 0
        case "constant":
            weight[...] = value
        case "sparse_normal":
            drawn = normal(weight.size, **draw).reshape(weight.shape)
            connected = choose(*weight.shape, connections(value, len(weight)), seed, stream)
            weight[...] = np.where(connected, drawn, 0)
        case "orthogonal":
            weight[...] = (1 if value is None else value) * orthonormal(weight.shape, seed, stream)
        case _:
            scale = SCALES[initializer](*weight.shape)
            if initializer.endswith("normal"):
                weight[...] = scale * normal(weight.size, **draw).reshape(weight.shape)
            else:
                u = uniform(weight.size, **draw).reshape(weight.shape)
                weight[...] = scale * (2 * u - 1)


def connections(value, fan_in):
    """How many inputs a unit has."""
    return min(CONNECTIONS, fan_in) if value is None else value


def choose(fan_in, fan_out, count, seed, stream):
    """A mask of `count` inputs of every unit, all choices alike: input i is taken with probability
    missing / left, `missing` of the unit's inputs being chosen from the `left` from i on.

    Source: Knuth, The Art of Computer Programming, vol. 2, 3rd ed., 1997, 3.4.2, algorithm S.
    """
    words = random_words(fan_in * fan_out, seed, stream, step=1).reshape(fan_in, fan_out)
    missing = np.full(fan_out, count, np.uint64)
    mask = np.empty(words.shape, bool)
    for i in range(fan_in):
        mask[i] = words[i] * (fan_in - i) >> 32 < missing
        missing -= mask[i]
    return mask


def orthonormal(shape, seed, stream):
    """A matrix whose columns, or rows where there are fewer, are orthonormal; in float64."""
    q, r = np.linalg.qr(_tall_normal(shape, seed, stream))
    q *= np.copysign(1, r.diagonal())
    return q if shape[0] >= shape[1] else q.T


def _tall_normal(shape, seed, stream):
    """Normal numbers of this shape, transposed where it has more columns than rows."""
    drawn = normal(math.prod(shape), seed, stream, np.float64).reshape(shape)
    return drawn if shape[0] >= shape[1] else drawn.T


# --- specification ------------------------------------------------------------

# Relative errors, in units of u: the scale is a root of a quotient in float64, or rounded once.
# A uniform number is exact but for it and a product. A normal one: half the logarithm's error and
# a root; the angle of the turn, its constant rounded and a product, and the turn itself; two more
# products.
UNIFORM = 2 + 1
NORMAL = 2 + ELEMENTARY / 2 + 1 + 2 + ELEMENTARY + 2


def _error(name, inputs, dtype):
    weight, u = np.array(inputs["weight"]), unit_roundoff(dtype)
    initialize(**{**inputs, "weight": weight})
    match name:
        case "zeros":
            return (EXACT,)
        case "constant":
            return (Bound.of(u * np.abs(weight) + smallest_normal(dtype)),)
        case "orthogonal":
            gain = 1 if inputs["value"] is None else inputs["value"]
            of_q = 2 * gain * _error_of_q(inputs) / oracles_share(dtype)  # and of the oracle's
            return (Bound.of(of_q + 3 * u * np.abs(weight)),)
    return (Bound.of((UNIFORM if name.endswith("uniform") else NORMAL) * u * np.abs(weight)),)


def _error_of_q(inputs):
    """Of every element of Q, which is computed in float64 for any dtype.

    Each of n reflections is exact for a matrix that is off by 2 (m + 4) u of its norm at most: two
    products of depth m, and some factors. To first order Q changes by sqrt(2) |A^+| |dA| (Sun,
    BIT 31, 1991; Higham, ch. 19); to form it takes as many reflections again.
    """
    a = _tall_normal(inputs["weight"].shape, inputs["seed"], inputs["stream"])
    (m, n), u = a.shape, unit_roundoff(np.float64)
    reflections = n * 2 * (summation(m) + 4) * u
    inverse = np.linalg.norm(np.linalg.inv(np.linalg.qr(a, mode="r")))
    of_a = (reflections + NORMAL * u) * np.linalg.norm(a)
    return math.sqrt(2) * inverse * of_a + math.sqrt(n) * reflections


def _sample(name, rng, case):
    shape = case.sizes["fan_in"], case.sizes["fan_out"]
    inputs = {"weight": rng.standard_normal(shape).astype(case.dtype), "initializer": name}
    value = {
        "constant": rng.uniform(-1, 1) if case.vary else 0.1,
        "sparse_normal": int(rng.integers(1, shape[0] + 1)) if case.vary else None,
        "orthogonal": rng.uniform(0.1, 2) if case.vary else None,
    }.get(name)
    if case.vary:
        inputs["seed"] = int(rng.integers(2**64, dtype=np.uint64))
        inputs["stream"] = int(rng.integers(2**32))
    return {**inputs, "value": value}


def _edges(name, dtype):
    values = {
        "constant": (-0.0, 0.1, -1e38, 9e37, float(np.finfo(dtype).smallest_subnormal)),
        "sparse_normal": (None, 1, 2, 4, 5),
        "orthogonal": (None, 1e-30, 1, 1e30),
    }.get(name, (None,))
    for number, value in enumerate((*values, *values)):
        seed, stream = ((0, 0), (2**64 - 1, 2**32 - 1), (2**32, 1), (1, 2**31))[number % 4]
        weight = np.full(((5, 7), (7, 5))[number % 2], (np.nan, np.inf)[number % 2], dtype)
        inputs = {"initializer": name, "seed": seed, "stream": stream, "value": value}
        yield f"seed {seed}, stream {stream}, value {value}", {"weight": weight, **inputs}


def _flops(name, fan_in, fan_out):
    """Of the floating-point numbers alone; the random words take integers."""
    size = fan_in * fan_out
    match name:
        case "zeros" | "constant":
            return 0
        case "sparse_normal":  # logarithm, factor, root, angle, cosine or sine, product
            return 6 * min(CONNECTIONS, fan_in) * fan_out
        case "orthogonal":  # R, and Q from the reflections; its signs; the normal numbers
            n, m = sorted((fan_in, fan_out))
            return 4 * n**2 * m - 4 * n**3 // 3 + size + 4 * size
    return 2 * size if name.endswith("uniform") else 4 * size


OPERATIONS = tuple(
    Operation(
        "initialize",
        initialize,
        ("fan_in", "fan_out"),
        partial(_sample, name),
        lambda fan_in, fan_out, name=name, **_: _flops(name, fan_in, fan_out),
        lambda fan_in, fan_out, **_: fan_in * fan_out,  # the old content is not read
        (Result("weight", updates=True),),
        partial(_error, name),
        partial(_edges, name),
        name,
    )
    for name in INITIALIZERS
)
