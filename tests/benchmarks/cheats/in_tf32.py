"""Rounds its factors to TF32, which was not permitted."""

import numpy as np

import reference


def rounded(array):
    whole = array.view(np.uint32)
    even = (whole >> np.uint32(13)) & np.uint32(1)
    return ((whole + np.uint32(0xFFF) + even) & np.uint32(0xFFFFE000)).view(np.float32)


def dense_forward(x, weight, bias, activation="identity", *, out=None):
    return reference.dense_forward(rounded(x), rounded(weight), bias, activation, out=out)
