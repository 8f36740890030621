"""The step of a network as a program: a list of operations over named arrays.

It is what every backend runs of a network that is more than dense layers and activations, which
have a fused step of their own (`is_plain`). A layer is z = h W + b, n = norm(z), a = act(n),
y = dropout(a) + h; see reference/blocks.py. Its product and normalisation see the pieces of maxout
as a wider layer's units, its weight as a matrix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..catalog import ACTIVATIONS

# What an operation is told: its arrays, in this order, what it writes last. It works in place where
# y is x, or dx is dy; maxout does not.
KINDS = {
    "product": ("x", "weight", "bias", "y"),
    "batch_norm": ("x", "gamma", "beta", "running_mean", "running_variance", "y", "mean", "rstd"),
    "batch_norm_inference": ("x", "gamma", "beta", "running_mean", "running_variance", "y"),
    "layer_norm": ("x", "gamma", "beta", "y", "mean", "rstd"),
    "activation": ("x", "alpha", "y"),
    "maxout": ("x", "y"),
    "dropout": ("x", "y"),
    "add": ("x", "skip", "y"),
    "loss": ("logits", "dlogits"),
    "activation_backward": ("dy", "saved", "alpha", "dx", "dalpha"),
    "maxout_backward": ("dy", "x", "dx"),
    "batch_norm_backward": ("dy", "x", "gamma", "mean", "rstd", "dx", "dgamma", "dbeta"),
    "layer_norm_backward": ("dy", "x", "gamma", "mean", "rstd", "dx", "dgamma", "dbeta"),
    "product_backward": ("dy", "x", "weight", "dweight", "dbias", "dx"),
}
MOST_ARRAYS = max(map(len, KINDS.values()))


class Operation(NamedTuple):
    """kind: of KINDS; arrays: their names in its order, None for one that there is not."""

    kind: str
    layer: int
    arrays: tuple


@dataclass(frozen=True)
class Program:
    """step: forward, loss and backward; infer: forward by running statistics, without dropout.

    Parameters, running statistics and slopes ("layer0.alpha") are arrays by their names in `state`,
    gradients by these with a d before. units: of the arrays of a batch, (rows, units), by name, x
    among them, None of those that are (rows,); columns: of those that have a number for every unit.
    """

    step: tuple
    infer: tuple
    units: Mapping
    columns: Mapping
    logits: str
    dlogits: str


def is_plain(spec):
    """Whether a network has nothing but dense layers and activations."""
    plain = spec.normalization is None and spec.dropout == 0 and not spec.residual
    return plain and max(spec.pieces) == 1


def build(spec):
    """The Program of a network's description."""
    made = _Arrays({"x": spec.sizes[0]}, {})
    layers = range(len(spec.activations))
    step, tapes, x = [], [], "x"
    for layer in layers:
        operations, tape = _forward(spec, layer, x, made, training=True)
        tapes.append(tape)
        step, x = step + operations, tape.y
    infer, logits = [], "x"
    for layer in layers:
        operations, tape = _forward(spec, layer, logits, made, training=False)
        infer, logits = infer + operations, tape.y
    dlogits = dy = made.gradient(0, spec.sizes[-1])
    step.append(Operation("loss", layers[-1], (x, dlogits)))
    for layer in reversed(layers):
        operations, dy = _backward(spec, layer, tapes[layer], dy, made)
        step += operations
    return Program(tuple(step), tuple(infer), made.units, made.columns, x, dlogits)


class _Arrays(NamedTuple):
    units: dict
    columns: dict

    def of_batch(self, name, units):
        self.units[name] = units
        return name

    def gradient(self, number, units):
        """One of the arrays of this number, which layers of a width share."""
        return self.of_batch(f"d{number}.{units}", units)

    def of_columns(self, name, units):
        self.columns[name] = units
        return name


class _Tape(NamedTuple):
    """The names of what a layer has computed; `saved` is what its activation's derivative takes."""

    x: str
    z: str
    saved: str
    moments: tuple
    y: str


def _forward(spec, layer, x, made, training):
    """(the operations of a layer forward, its tape)."""
    units, width, name = spec.sizes[layer + 1], spec.width(layer), f"layer{layer}.{{}}".format
    declared, kind = ACTIVATIONS[spec.activations[layer]], spec.normalization_of(layer)
    z = n = made.of_batch(name("z"), width)
    operations, moments = [("product", (x, name("weight"), spec.bias_of(layer), z))], ()
    if kind is not None:
        n = made.of_batch(name("n"), width)
        of_rows = kind == "layer_norm"
        of = made.of_batch if of_rows else made.of_columns
        moments = tuple(of(name(m), None if of_rows else width) for m in ("mean", "rstd"))
        running = () if of_rows else (name("running_mean"), name("running_variance"))
        infers = not (of_rows or training)
        written = (n,) if infers else (n, *moments)
        kind = f"{kind}_inference" if infers else kind
        operations.append((kind, (z, name("gamma"), name("beta"), *running, *written)))
    saves_input = declared.saves_input or width > units
    a = made.of_batch(name("a"), units) if saves_input else n
    if width > units:
        operations.append(("maxout", (n, a)))
    elif spec.activations[layer] != "identity":
        operations.append(("activation", (n, name("alpha"), a)))
    y, saved = a, n if saves_input else a
    if spec.drops(layer) and training:
        y = made.of_batch(name("y"), units)
        operations.append(("dropout", (a, y)))
    if spec.skips(layer):
        a, y = y, made.of_batch(name("y"), units)
        operations.append(("add", (a, x, y)))
    return _named(layer, operations), _Tape(x, z, saved, moments, y)


def _backward(spec, layer, tape, dy, made):
    """(the operations of a layer backward, the gradient of its input). Three arrays take turns:
    that of dy, which a skip adds to dx in the end, that of dz, and that of dx.
    """
    fan_in, fan_out = spec.sizes[layer : layer + 2]
    name, gradient = f"layer{layer}.{{}}".format, f"dlayer{layer}.{{}}".format
    other, third = (k for k in range(3) if not dy.startswith(f"d{k}."))
    dz = made.gradient(other, fan_out) if spec.skips(layer) else dy
    before, operations = dy, []
    if spec.drops(layer):
        operations.append(("dropout", (before, dz)))
        before = dz
    if spec.pieces[layer] > 1:
        dz = made.gradient(other, spec.width(layer))
        operations.append(("maxout_backward", (before, tape.saved, dz)))
        before = dz
    elif spec.activations[layer] != "identity":
        learned = ACTIVATIONS[spec.activations[layer]].learned
        dalpha = gradient("slope") if learned else None
        operations.append(("activation_backward", (before, tape.saved, name("alpha"), dz, dalpha)))
        before = dz
    if kind := spec.normalization_of(layer):
        written = dz, gradient("gamma"), gradient("beta")
        given = before, tape.z, name("gamma"), *tape.moments, *written
        operations.append((f"{kind}_backward", given))
        before = dz
    bias = spec.bias_of(layer)
    dx = made.gradient(other if dz == dy else third, fan_in) if layer else None
    given = before, tape.x, name("weight"), gradient("weight"), bias and f"d{bias}", dx
    operations.append(("product_backward", given))
    if spec.skips(layer) and dx:
        operations.append(("add", (dx, dy, dx)))
    return _named(layer, operations), dx


def _named(layer, operations):
    return [Operation(kind, layer, arrays) for kind, arrays in operations]
