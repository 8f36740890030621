"""The dense network for the CPU: `create`, and a step, an epoch, ... in one compiled call."""

import itertools
import math

import numpy as np
from numba import carray

from .. import interface, networks
from ..interface import ACTIVATIONS, DEFAULT_ALPHA, SLOPES
from .jit import kernel
from .large_step import large_room
from .plan import (
    ALPHA,
    ALPHAS,
    BETA,
    BETA1,
    BETA2,
    BIAS,
    COLUMNS,
    DECAY,
    DY,
    DZ,
    ENTRIES,
    EPS,
    FAN_IN,
    FAN_OUT,
    INPUT,
    LOSS,
    LR,
    RHO,
    ROOM,
    RULE,
    SETTINGS,
    SIZE,
    SMALL,
    SMOOTHING,
    SOFTMAX,
    SPACE,
    STATES,
    STEPS,
    TARGETS,
    TRANSPOSED,
    WAY,
    WEIGHT,
    ZEROS,
    Y,
    Z,
    loss_part,
)
from .small_step import ROWS
from .training import infer, ready, train
from .vectors import VECTOR_BYTES, address, advance

PLACES = {"lr": LR, "beta": BETA, "rho": RHO, "beta1": BETA1, "beta2": BETA2, "eps": EPS}
SMALL_LAYER = 1 << 15  # weights: what a core keeps at hand while it goes over the rows


@kernel
def _fill_labels(labels, order, first, rows, classes, chosen, targets):
    """The labels of rows order[first:first + rows], or of the first rows where order is empty.

    False where one names no class.
    """
    inside = True
    for i in range(rows):
        row = order[first + i] if order.size else i
        if labels.ndim == 1:
            chosen[i] = labels[row]
            inside &= (chosen[i] >= 0) & (chosen[i] < classes)
        else:
            for j in range(classes):
                targets[i * classes + j] = labels[row, j]
    return inside


@kernel
def _pointers(memory, layers, plan, settings):
    return (
        address(memory),
        address(layers),
        len(layers),
        address(plan),
        address(settings),
    )


@kernel
def _step(memory, layers, plan, settings, chosen, x, labels):
    """The loss of one step, or -1 and nothing changed where a label is out of range."""
    nothing, targets, classes = chosen[:0], memory[plan[TARGETS] :], layers[-1, FAN_OUT]
    if not _fill_labels(labels, nothing, 0, len(x), classes, chosen, targets):
        return -1.0
    network = _pointers(memory, layers, plan, settings)
    return train(*network, address(x), address(chosen), len(x))


@kernel
def _epoch(memory, layers, plan, settings, chosen, x, labels, order):
    """The mean loss of an epoch; -1 or -2 where a label or a row number is out of range."""
    batch, fan_in, classes = chosen.size, x.shape[1], layers[-1, FAN_OUT]
    targets, gathered = memory[plan[TARGETS] :], memory[plan[INPUT] :]
    for i in range(order.size):
        if order[i] < 0 or order[i] >= len(x):
            return -2.0
    if labels.ndim == 1:
        for i in range(order.size):
            if labels[order[i]] < 0 or labels[order[i]] >= classes:
                return -1.0
    network = _pointers(memory, layers, plan, settings)
    total = 0.0
    for first in range(0, order.size, batch):
        rows = min(batch, order.size - first)
        for i in range(rows):
            row = order[first + i]
            for j in range(fan_in):
                gathered[i * fan_in + j] = x[row, j]
        _fill_labels(labels, order, first, rows, classes, chosen, targets)
        total += rows * train(*network, address(gathered), address(chosen), rows)
    return total / order.size


@kernel
def _predict(memory, layers, plan, settings, chosen, x, out):
    network, fan_in = _pointers(memory, layers, plan, settings), x.shape[1]
    for first in range(0, len(x), chosen.size):
        rows = min(chosen.size, len(x) - first)
        infer(*network, advance(address(x), first * fan_in), address(chosen), rows)
        logits = advance(address(memory), layers[-1, Y])
        out[first : first + rows] = carray(logits, (rows, out.shape[1]))


@kernel
def _evaluate(memory, layers, plan, settings, chosen, x, labels):
    """(mean loss, right decisions); the loss is -1 where a label is out of range."""
    network, fan_in = _pointers(memory, layers, plan, settings), x.shape[1]
    nothing, targets, classes = chosen[:0], memory[plan[TARGETS] :], layers[-1, FAN_OUT]
    total, right = 0.0, 0
    for first in range(0, len(x), chosen.size):
        rows = min(chosen.size, len(x) - first)
        part = labels[first : first + rows]
        if not _fill_labels(part, nothing, 0, rows, classes, chosen, targets):
            return -1.0, 0
        infer(*network, advance(address(x), first * fan_in), address(chosen), rows)
        total += rows * loss_part(*network, address(chosen), 0, rows, rows)
        logits = carray(advance(address(memory), layers[-1, Y]), (rows, classes))
        for i in range(rows):
            if plan[LOSS] == SOFTMAX:
                right += logits[i].argmax() == chosen[i]
            else:
                for j in range(classes):
                    right += (logits[i, j] > 0) == (targets[i * classes + j] > 0.5)
    return total / len(x), right


def create(
    sizes,
    *,
    activations="relu",
    loss="softmax_cross_entropy",
    optimizer="adam",
    batch,
    lr,
    dtype="float32",
    seed=0,
    label_smoothing=0.0,
    weight_decay=0.0,
    **settings,
):
    """A dense network with its optimizer; see reference.network.create."""
    arguments = (sizes, activations, loss, optimizer, batch, lr, dtype, seed)
    return Network(networks.checked(*arguments, label_smoothing, weight_decay, settings))


class Network:
    """What `create` returns; see reference.network.Network."""

    def __init__(self, spec):
        ready(spec.dtype)
        self._spec, self.sizes, self.batch = spec, spec.sizes, spec.batch
        self._layers, self._plan, elements = _layout(spec)
        self._memory = _aligned(elements, spec.dtype)
        self._settings = np.zeros(SETTINGS + 2 + spec.batch // ROWS)
        self._settings[DECAY], self._settings[SMOOTHING] = spec.weight_decay, spec.label_smoothing
        for name, value in spec.settings.items():
            self._settings[PLACES[name]] = value
        self._chosen = np.zeros(spec.batch, np.int64)
        flats = 2 + len(spec.states)
        parts = self._memory[: flats * spec.size].reshape(flats, spec.size)
        self._flat, self._grad, *self._states = parts
        self._flat[:] = spec.initial()
        for layer, row in enumerate(self._layers):
            if row[WAY] != SLOPES:
                self._memory[row[ALPHA]] = DEFAULT_ALPHA.get(spec.activations[layer], 0.0)
        self._memory[self._plan[ZEROS] - 1] = 1
        self.parameters = spec.views(self._flat)
        self._arguments = self._memory, self._layers, self._plan, self._settings, self._chosen

    def step(self, x, labels):
        """One training step on x (rows, sizes[0]), rows <= batch; returns the loss before it."""
        spec = self._spec
        spec.labels(labels, np.ndarray, spec.rows(x, np.ndarray, spec.batch))
        loss = _step(*self._arguments, x, labels)
        if loss == -1:
            raise interface.label_out_of_range("labels", spec.sizes[-1])
        return loss

    def epoch(self, x, labels, order):
        """A step on every `batch` rows in this order; returns the mean loss of the rows."""
        spec = self._spec
        spec.labels(labels, np.ndarray, spec.rows(x, np.ndarray))
        interface.order("order", order, np.ndarray)
        loss = _epoch(*self._arguments, x, labels, order)
        if loss == -2:
            raise interface.row_out_of_range("order", len(x))
        if loss == -1:
            raise interface.label_out_of_range("labels", spec.sizes[-1])
        return loss

    def predict(self, x):
        """The logits (rows, sizes[-1]) of any number of rows."""
        rows = self._spec.rows(x, np.ndarray)
        out = np.empty((rows, self.sizes[-1]), self._spec.dtype)
        _predict(*self._arguments, x, out)
        return out

    def evaluate(self, x, labels):
        """(mean loss, accuracy) of any number of rows; see reference.network.Network.evaluate."""
        spec = self._spec
        rows = spec.rows(x, np.ndarray)
        spec.labels(labels, np.ndarray, rows)
        loss, right = _evaluate(*self._arguments, x, labels)
        if loss == -1:
            raise interface.label_out_of_range("labels", spec.sizes[-1])
        decisions = rows * (1 if spec.loss == "softmax_cross_entropy" else spec.sizes[-1])
        return loss, None if spec.loss == "mean_squared_error" else right / decisions

    @property
    def gradients(self):
        """(layers, 2): the Euclidean norms of the last step's weight and bias gradients."""
        views, layers = self._spec.views(self._grad), range(len(self._layers))
        parts = ("weight", "bias")
        norms = [[np.linalg.norm(views[f"layer{n}.{p}"]) for p in parts] for n in layers]
        return np.array(norms, np.float64)

    def state(self):
        """A copy of all that a step changes; see reference.network.Network.state."""
        return self._spec.state(int(self._plan[STEPS]), [self._flat, *self._states])

    def load_state(self, source):
        """Goes on from a state: the mapping, or the path of the npz file that holds it."""
        steps, flats = self._spec.load(source)
        for ours, given in zip((self._flat, *self._states), flats, strict=True):
            ours[:] = given
        self._plan[STEPS] = steps


def _layout(spec):
    """(layers, plan, the number of elements of memory)."""
    unit = networks.ALIGNMENT // spec.dtype.itemsize
    end = (2 + len(spec.states)) * spec.size

    def place(count):
        nonlocal end
        start, end = end, end + (count + unit - 1) // unit * unit
        return start

    lanes = VECTOR_BYTES // spec.dtype.itemsize
    small = all(a * b <= SMALL_LAYER for a, b in itertools.pairwise(spec.sizes))
    layers = np.zeros((len(spec.activations), COLUMNS), np.int64)
    for n, (fan_in, fan_out) in enumerate(itertools.pairwise(spec.sizes)):
        row, way = layers[n], ACTIVATIONS[spec.activations[n]]
        row[FAN_IN], row[FAN_OUT], row[WAY] = fan_in, fan_out, way
        row[WEIGHT], row[BIAS] = (spec.places[f"layer{n}.{p}"][0] for p in ("weight", "bias"))
        row[ALPHAS] = fan_out if way == SLOPES else 1
        row[ALPHA] = spec.places[f"layer{n}.slope"][0] if way == SLOPES else place(1)
        row[Y], row[DY] = (place(spec.batch * fan_out) for _ in range(2))
        row[Z], row[DZ] = row[Y], row[DY]
        if way == SLOPES:
            row[Z], row[DZ] = (place(spec.batch * fan_out) for _ in range(2))
        if small and n > 0:
            row[TRANSPOSED] = place(math.prod(-(-k // lanes) * lanes for k in (fan_in, fan_out)))
    plan = np.zeros(ENTRIES, np.int64)
    plan[SMALL] = small
    plan[LOSS] = networks.LOSSES.index(spec.loss)
    plan[RULE] = list(networks.RULES).index(spec.optimizer)
    plan[STATES], plan[SIZE] = len(spec.states), spec.size
    plan[INPUT] = place(spec.batch * spec.sizes[0])
    plan[TARGETS] = place(spec.batch * spec.sizes[-1])
    plan[ZEROS] = place(unit) + unit  # behind a one
    place(max(spec.sizes))
    if not small:
        nothing = np.zeros(1, spec.dtype)
        plan[ROOM] = large_room(nothing, layers, plan, spec.batch)
        plan[SPACE] = place(plan[ROOM])
    return layers, plan, end


def _aligned(count, dtype):
    """Zeros that begin at a multiple of networks.ALIGNMENT bytes."""
    raw = np.zeros(count * dtype.itemsize + networks.ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % networks.ALIGNMENT
    return raw[start : start + count * dtype.itemsize].view(dtype)
