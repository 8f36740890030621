"""The layers of a network, made of the suite's functions: product, normalisation, activation,
dropout and skip, forward and back.

    z = h W + b,  n = norm(z),  a = act(n),  y = dropout(a) + h

Without a normalisation n = z; a normalised layer has no b, for beta shifts its units. The skip is
there where h is as wide as y: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition,
CVPR 2016. Of a maxout layer z and n are (rows, pieces * units), the first pieces of all units
before the second: each is normalised by itself (Chang and Chen, Batch-normalized Maxout Network in
Network, 2015), and a is the largest of each unit's.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .activations import ACTIVATIONS, activation_backward, activation_forward
from .dense import dense_backward, dense_forward
from .dropout import dropout_backward, dropout_forward
from .maxout import pieces_gradient
from .normalization import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    layer_norm_backward,
    layer_norm_forward,
)

GRADIENTS = {"batch_norm": batch_norm_backward, "layer_norm": layer_norm_backward}


@dataclass(frozen=True)
class Block:
    """One layer. parts: its parameters by name, a matrix and vectors, of maxout's pieces too;
    running: batch norm's mean and variance; mask: the arguments of dropout, None where nothing is
    dropped.
    """

    parts: dict
    activation: str
    normalization: str | None
    running: tuple
    mask: dict | None
    skips: bool
    precision: str | None
    pieces: int

    def split(self, n):
        """(rows, pieces, units)."""
        return n.reshape(len(n), self.pieces, -1)

    @property
    def alpha(self):
        return self.parts.get("slope", ACTIVATIONS[self.activation].alpha)


class Tape(NamedTuple):
    """What a layer has computed. mean, rstd: of its normalisation; running: as it is to become."""

    h: Any
    z: Any
    n: Any
    a: Any
    mean: Any
    rstd: Any
    running: tuple
    y: Any

    def saved(self, block):
        """What the activation's derivative follows from."""
        return self.n if ACTIVATIONS[block.activation].saves_input else self.a


def forward(block, h, training):
    """The tape of a layer on h; by running statistics and without dropout unless `training`."""
    weight, mean, rstd, running = block.parts["weight"], None, None, block.running
    bias = block.parts.get("bias", np.zeros(weight.shape[1], weight.dtype))
    z = n = dense_forward(h, weight, bias, precision=block.precision)
    if block.normalization is not None:
        scale = block.parts["gamma"], block.parts["beta"]
    if block.normalization == "layer_norm":
        n, mean, rstd = layer_norm_forward(z, *scale)
    elif block.normalization == "batch_norm" and training:
        running = tuple(array.copy() for array in running)
        n, mean, rstd = batch_norm_forward(z, *scale, *running)
    elif block.normalization == "batch_norm":
        n = batch_norm_inference(z, *scale, *running)
    if block.activation == "maxout":
        a = y = block.split(n).max(axis=1)
    else:
        a = y = activation_forward(n, block.activation, block.alpha)
    if training and block.mask is not None:
        y = dropout_forward(a, **block.mask)
    return Tape(h, z, n, a, mean, rstd, running, y + h if block.skips else y)


def activation_gradients(block, tape, da):
    """(dn, the gradient of learned slopes by name)."""
    if block.activation == "maxout":
        return pieces_gradient(da, block.split(tape.n)).reshape(tape.n.shape), {}
    dn = activation_backward(da, tape.saved(block), block.activation, block.alpha)
    return (dn[0], {"slope": dn[1]}) if block.activation == "prelu" else (dn, {})


def backward(block, tape, dy):
    """(dh, the gradients of the parts by name)."""
    da = dy if block.mask is None else dropout_backward(dy, **block.mask)
    dz, gradients = activation_gradients(block, tape, da)
    if block.normalization is not None:
        given = tape.z, block.parts["gamma"], tape.mean, tape.rstd
        gradient = GRADIENTS[block.normalization]
        dz, gradients["gamma"], gradients["beta"] = gradient(dz, *given)
    given = dz, tape.h, block.parts["weight"], tape.z, "identity"
    dh, gradients["weight"], dbias = dense_backward(*given, precision=block.precision)
    if "bias" in block.parts:
        gradients["bias"] = dbias
    return dh + dy if block.skips else dh, gradients
