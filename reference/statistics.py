"""What one looks at in a training run: sparsity, dead and saturated units, histograms, norms.

Counts are exact integers. A threshold is a float64 number and is compared as such: a float32
element is converted to float64, which changes nothing, and the threshold is not rounded.
"""

import numpy as np

from .spec import store


def sparsity(x, *, threshold=0.0, out=None):
    """(how many elements are 0 or -0, how many have |x| <= threshold), int64 of shape (2,).

    x: float array of any shape; threshold >= 0. NaN counts as neither. An empty array has none.
    Source: of activations, Glorot, Bordes and Bengio, Deep Sparse Rectifier Neural Networks,
    AISTATS 2011; of weights, Han et al., Learning both Weights and Connections, NIPS 2015.
    """
    small = np.abs(x) <= np.float64(threshold)
    return store(out, np.array([(x == 0).sum(), small.sum()]))


def connection_sparsity(weight, *, threshold=0.0, out=None):
    """Of each unit j, how many of its weights have |w_ij| <= threshold: int64 of shape (fan_out,).

    weight: (fan_in, fan_out); threshold >= 0. Source: Han et al. as for sparsity.
    """
    return store(out, (np.abs(weight) <= np.float64(threshold)).sum(axis=0))


def unit_activity(y, active, *, threshold=0.0):
    """active_j += the number of rows i with y_ij > threshold, in place.

    y: (batch, units), active: (units,) int64. Called once for every minibatch of a data set it
    leaves 0 at the units that are dead: active for none of its rows. NaN is not active.
    Source: Maas, Hannun and Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models,
    ICML 2013, section 3.2: a unit's activation probability, there with the threshold 0.
    """
    active += (y > np.float64(threshold)).sum(axis=0)


def saturation(y, activation, *, margin=0.01, out=None):
    """In how many rows each unit is saturated, int64 of shape (units,): near an end of its range.

    sigmoid     y_ij < margin or y_ij > 1 - margin
    tanh        |y_ij| > 1 - margin

    y: (batch, units), what the activation has returned; 0 <= margin < 1; 1 - margin is taken in
    float64. NaN is not saturated. Source: Glorot and Bengio, Understanding the difficulty of
    training deep feedforward neural networks, AISTATS 2010, section 3.
    """
    low, high = np.float64(margin), 1 - np.float64(margin)
    match activation:
        case "sigmoid":
            saturated = (y < low) | (y > high)
        case "tanh":
            saturated = np.abs(y) > high
    return store(out, saturated.sum(axis=0))


def histogram(x, *, low, high, bins, out=None):
    """How many elements fall into each of `bins` equal parts of [low, high], then how many are
    below it, above it and NaN: int64 of shape (bins + 3,).

    Bin k of x in [low, high] is min(bins - 1, floor((x - low) * (bins / (high - low)))), each
    operation rounded to float64 whatever the dtype of x: so high itself is in the last bin, as it
    is in numpy.histogram's. Of numpy.histogram it differs where x is nearer to a border between
    bins than (x - low) * (bins / (high - low)) is exact. x: any shape; high - low and
    bins / (high - low) must be finite.
    """
    x = np.asarray(x, np.float64).ravel()
    inside = x[(x >= low) & (x <= high)]
    number = np.minimum(np.floor((inside - low) * (bins / (high - low))), bins - 1)
    counts = np.bincount(number.astype(np.int64), minlength=bins)
    others = [(x < low).sum(), (x > high).sum(), np.isnan(x).sum()]
    return store(out, np.concatenate([counts, others]))


def global_norm(arrays, *, out=None):
    """sqrt(sum of g^2 over all elements g of all arrays), of shape (); `out` takes it.

    arrays: a tuple or list of at least one array, of one dtype and any shapes: the gradients of a
    network, layer by layer. They are scaled by a power of two, so that no square overflows and the
    norm is infinite only where it is itself too large; empty arrays have the norm 0.
    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks,
    ICML 2013, algorithm 1.
    """
    exponent = exponent_of(arrays)
    total = sum(np.square(np.ldexp(array, -exponent)).sum() for array in arrays)
    with np.errstate(over="ignore"):
        return store(out, np.ldexp(np.sqrt(total), exponent))


def exponent_of(arrays):
    """That of the power of two above the largest magnitude; 0 where that is not finite."""
    largest = np.max([np.abs(array).max(initial=0) for array in arrays])
    return np.frexp(largest)[1] if np.isfinite(largest) else 0
