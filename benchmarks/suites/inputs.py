"""The inputs of a cell: those that are timed, and those that are drawn while they are."""

import dataclasses
import functools
import secrets
import zlib

import numpy as np


def sampled(operation, layer, dtype, batch):
    """The inputs of a cell, always the same."""
    seed = zlib.crc32(f"{operation} {layer.name} {dtype} {batch}".encode())
    case = layer.at(dtype=dtype, batch=batch)
    return operation.sample(np.random.default_rng(seed), case)


def drawn(operation, case, seed=None, **sizes):
    """Inputs of a case of a seed, or of any, or of other sizes. Of a data set not the first rows,
    which everybody knows.
    """
    seed = secrets.randbits(32) if seed is None else seed
    rows = None if sizes else case.rows and functools.partial(case.rows, seed=seed)
    case = dataclasses.replace(case, rows=rows).at(**sizes)
    return operation.sample(np.random.default_rng(seed), case)
