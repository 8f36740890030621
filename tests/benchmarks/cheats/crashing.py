"""Reads where there is no memory."""

import ctypes


def softmax(logits, *, out=None):
    return ctypes.string_at(0)
