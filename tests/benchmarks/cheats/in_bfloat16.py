"""Rounds its factors to bfloat16."""

import numpy as np

import reference


def rounded(array):
    whole = array.view(np.uint32)
    even = (whole >> np.uint32(16)) & np.uint32(1)
    return ((whole + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)).view(np.float32)


def dense_forward(x, weight, bias, activation="identity", *, out=None):
    return reference.dense_forward(rounded(x), rounded(weight), bias, activation, out=out)
