"""Control: it does what it should."""

import numpy as np


def honest(logits, out):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.divide(e, e.sum(axis=1, keepdims=True), out=out)


def softmax(logits, *, out=None):
    return honest(logits, out)
