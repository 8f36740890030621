"""Dropout: each element is kept with probability 1 - rate, else it becomes 0.

Source: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, Dropout: A Simple Way to
Prevent Neural Networks from Overfitting, JMLR 15, 2014; in the inverted form of its section 10, as
frameworks have it: what is kept is divided by 1 - rate in training, so that inference is the
identity, for which nothing has to be called.

Which elements are kept is a function of (seed, step, layer, element) alone: nobody has to store the
mask, and it is the same bits on every backend. An element is kept where its random word, of 32
bits, is at least floor(2^32 rate), so with a probability that is 1 - rate to less than 2^-32. Which
word it has is told in philox.py; the stream is 2^31 + layer, so that `initialize` has other words
on any stream below 2^31.
"""

from functools import partial

import numpy as np

from .bounds import Bound, flushed, unit_roundoff
from .philox import ROUNDS, random_words
from .spec import Operation, Result, border_values, store

FIRST_STREAM = 2**31  # that of layer 0


def dropout_forward(x, rate, *, seed=0, step=0, layer=0, out=None):
    """y = x m with m = 1 / (1 - rate) where an element is kept, else 0. x is (batch, units).

    rate is in [0, 1), seed in 0 ... 2^64 - 1, step in 0 ... 2^32 - 1, layer in 0 ... 2^31 - 1:
    every step and every layer draws a mask of its own. What is dropped is multiplied by 0, as in
    PyTorch: of a NaN or an infinity that leaves NaN, of what is below 0 it leaves -0. `out` may be
    x.
    """
    return store(out, x * factors(x, rate, seed, step, layer))


def dropout_backward(dy, rate, *, seed=0, step=0, layer=0, out=None):
    """dx = dy m with the m of dropout_forward for the same seed, step and layer, which is drawn
    again: the same function of dy. `out` may be dy.
    """
    return store(out, dy * factors(dy, rate, seed, step, layer))


def factors(x, rate, seed, step, layer):
    """m, of the shape and the dtype of x."""
    words = random_words(x.size, seed, FIRST_STREAM + layer, step).reshape(x.shape)
    scale = x.dtype.type(1 / (1 - rate))
    return np.where(words >= int(rate * 2**32), scale, x.dtype.type(0))


# --- specification ------------------------------------------------------------


def _error(function, array, inputs, dtype):
    """The scale is rounded, and the product; what is dropped is exact."""
    u, scale = unit_roundoff(dtype), 1 / (1 - inputs["rate"])
    size = np.abs(function(**inputs))
    return (Bound.of((2 * u + u**2) * size + flushed(size, dtype, scale)),)


def _sample(array, rng, case):
    shape = case.sizes["batch"], case.sizes["fan_out"]
    inputs = {array: rng.standard_normal(shape).astype(case.dtype), "rate": 0.5}
    if case.vary:
        inputs["rate"] = rng.uniform(0.05, 0.95)
        inputs["seed"] = int(rng.integers(2**64, dtype=np.uint64))
        inputs["step"], inputs["layer"] = int(rng.integers(2**32)), int(rng.integers(2**31))
    return inputs


RATES = 0.0, 1e-300, 2.0**-32, 0.3, 0.5, 1 - 2.0**-32, 1 - 2.0**-53
LAST = {"seed": 2**64 - 1, "step": 2**32 - 1, "layer": 2**31 - 1}
PLACES = {}, LAST, {"seed": 2**32}, {"seed": 1, "step": 2**31}, {"layer": 1}


def _edges(array, dtype):
    x = np.tile(border_values(dtype), (3, 1))
    for number, rate in enumerate(RATES):
        place = PLACES[number % len(PLACES)]
        yield f"rate {rate}, {place}", {array: x, "rate": rate, **place}


def _operation(function, array, result):
    # Of a block of four words ten rounds of two products and four exclusive ors, which are integer
    # operations; of an element a comparison and a product.
    of_block = ROUNDS * 6
    return Operation(
        function.__name__,
        function,
        ("batch", "fan_out"),
        partial(_sample, array),
        lambda batch, fan_out, **_: of_block * -(-batch * fan_out // 4) + 2 * batch * fan_out,
        lambda batch, fan_out, **_: 2 * batch * fan_out,
        (Result(result),),
        partial(_error, function, array),
        partial(_edges, array),
    )


OPERATIONS = (
    _operation(dropout_forward, "x", "y"),
    _operation(dropout_backward, "dy", "dx"),
)
