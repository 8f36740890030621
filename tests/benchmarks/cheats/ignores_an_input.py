"""Takes no notice of the bias."""

import reference


def dense_forward(x, weight, bias, activation="identity", *, out=None):
    return reference.dense_forward(x, weight, 0 * bias, activation, out=out)
