"""What the backends share of Newton's direction: the dampings that are tried, one after another."""

import math

import numpy as np

SHARE = 1e-3  # the least that is added, of the largest element


def dampings(damping, to_host, hessian):
    """The multiples of the identity that are added to a Hessian until it has Cholesky's factors,
    as reference.newton_direction says; to_host(hessian) is asked for after the first has failed.

    They end where the Hessian is not finite, or would no longer be.
    """
    yield damping
    hessian = np.asarray(to_host(hessian))
    size = float(np.abs(np.tril(hessian)).max(initial=0))
    lowest = float(hessian.diagonal().min(initial=math.inf)) + damping
    if not math.isfinite(size):
        return
    beta = SHARE * (max(size, damping) or 1.0)
    tau = beta if lowest > 0 else beta - lowest
    while damping + tau <= np.finfo(hessian.dtype).max:
        yield damping + tau
        tau *= 2
