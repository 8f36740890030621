"""The dense network for the CPU: `create`, and a step, an epoch, ... in one compiled call."""

from collections import deque

import numpy as np
from numba import carray

from ... import arguments
from ...catalog import MEAN_SQUARED_ERROR, SLOPES, SOFTMAX_CROSS_ENTROPY
from ...network import description
from ..codegen.jit import entry, kernel
from ..codegen.threads import claim, release, take_turns
from ..codegen.vectors import address, advance
from .layout import aligned, layout
from .plan import (
    ACTIVATION,
    ALPHA,
    BUSY,
    CLIP_NORM,
    CLIP_VALUE,
    DECAY,
    DROPOUT,
    FAN_OUT,
    GIVEN,
    INPUT,
    L2,
    LOSS,
    PARTS,
    SEED,
    SMOOTHING,
    STEPS,
    TARGETS,
    ZEROS,
    Y,
    loss_part,
    vector,
)
from .small_step import ROWS
from .training import infer, ready, train


@kernel
def _label_in_range(labels, row, kind, classes):
    """Whether the loss knows the labels of a row."""
    if labels.ndim == 1:
        return (labels[row] >= 0) & (labels[row] < classes)
    inside = True
    for j in range(classes):
        inside &= (labels[row, j] >= 0) & (labels[row, j] <= 1)
    return inside | (kind == MEAN_SQUARED_ERROR)


@kernel
def _fill_labels(labels, order, first, rows, kind, classes, chosen, targets):
    """The labels of rows order[first:first + rows], or of the first rows where order is empty.

    False where one is out of range.
    """
    inside = True
    for i in range(rows):
        row = order[first + i] if order.size else i
        inside &= _label_in_range(labels, row, kind, classes)
        if labels.ndim == 1:
            chosen[i] = labels[row]
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


@entry
def _step(memory, layers, plan, settings, chosen, x, labels):
    """The loss of one step; None, and nothing changed, where a label is out of range or another
    thread is in a step.
    """
    busy = advance(address(plan), BUSY)
    if not claim(busy):
        return None
    loss, classes, nothing = None, layers[-1, FAN_OUT], chosen[:0]
    targets = vector(address(memory), plan[TARGETS], chosen.size * classes)
    if _fill_labels(labels, nothing, 0, len(x), plan[LOSS], classes, chosen, targets):
        network = _pointers(memory, layers, plan, settings)
        loss = train(*network, address(x), address(chosen), len(x))
    release(busy)
    return loss


@entry
def _epoch(memory, layers, plan, settings, chosen, x, labels, order, rates):
    """The mean loss of an epoch; None, as in a step, also where a row number is out of range.

    rates: of its steps.
    """
    batch, fan_in, classes = chosen.size, x.shape[1], layers[-1, FAN_OUT]
    for i in range(order.size):
        if order[i] < 0 or order[i] >= len(x):
            return None
        if not _label_in_range(labels, order[i], plan[LOSS], classes):
            return None
    busy = advance(address(plan), BUSY)
    if not claim(busy):
        return None
    targets = vector(address(memory), plan[TARGETS], batch * classes)
    gathered = vector(address(memory), plan[INPUT], batch * fan_in)
    network = _pointers(memory, layers, plan, settings)
    total = 0.0
    for first in range(0, order.size, batch):
        rows = min(batch, order.size - first)
        settings[GIVEN] = rates[first // batch]
        for i in range(rows):
            row = order[first + i]
            for j in range(fan_in):
                gathered[i * fan_in + j] = x[row, j]
        _fill_labels(labels, order, first, rows, plan[LOSS], classes, chosen, targets)
        total += rows * train(*network, address(gathered), address(chosen), rows)
    release(busy)
    return total / order.size


@entry
def _predict(memory, layers, plan, settings, chosen, x, out):
    network, fan_in = _pointers(memory, layers, plan, settings), x.shape[1]
    for first in range(0, len(x), chosen.size):
        rows = min(chosen.size, len(x) - first)
        infer(*network, advance(address(x), first * fan_in), address(chosen), rows)
        logits = carray(advance(address(memory), layers[-1, Y]), (rows, out.shape[1]))
        for i in range(rows):
            for j in range(out.shape[1]):
                out[first + i, j] = logits[i, j]


@entry
def _evaluate(memory, layers, plan, settings, chosen, x, labels):
    """(mean loss, right decisions); None where a label is out of range."""
    network, fan_in = _pointers(memory, layers, plan, settings), x.shape[1]
    nothing, classes = chosen[:0], layers[-1, FAN_OUT]
    targets = vector(address(memory), plan[TARGETS], chosen.size * classes)
    total, right = 0.0, 0
    for first in range(0, len(x), chosen.size):
        rows = min(chosen.size, len(x) - first)
        part = labels[first : first + rows]
        if not _fill_labels(part, nothing, 0, rows, plan[LOSS], classes, chosen, targets):
            return None
        infer(*network, advance(address(x), first * fan_in), address(chosen), rows)
        total += rows * loss_part(*network, address(chosen), 0, rows, rows)
        logits = carray(advance(address(memory), layers[-1, Y]), (rows, classes))
        for i in range(rows):
            if plan[LOSS] == SOFTMAX_CROSS_ENTROPY:
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
    precision=None,
    seed=0,
    label_smoothing=0.0,
    weight_decay=None,
    l2=0.0,
    clip_value=None,
    clip_norm=None,
    schedule=None,
    normalization=None,
    dropout=0.0,
    residual=False,
    pieces=2,
    **settings,
):
    """A dense network with its optimizer; see reference.network.create."""
    given = (sizes, activations, loss, optimizer, batch, lr, dtype, precision, seed)
    beside = label_smoothing, weight_decay, l2, clip_value, clip_norm, schedule
    blocks = normalization, dropout, residual, pieces
    return Network(description.checked(*given, *beside, *blocks, settings))


class Network:
    """What `create` returns; see reference.network.Network."""

    def __init__(self, spec):
        ready(spec)
        found = self._layout = layout(spec)
        self._layers, self._plan = found.layers, found.plan
        self._spec, self.sizes, self.batch = spec, spec.sizes, spec.batch
        self._memory, self._spaces = aligned(found.elements, spec.dtype), deque()
        self._settings = np.zeros(PARTS + 2 + spec.batch // ROWS)
        self._settings[DECAY], self._settings[SMOOTHING] = spec.weight_decay, spec.label_smoothing
        limits = spec.l2, spec.clip_value or 0.0, spec.clip_norm or 0.0
        self._settings[[L2, CLIP_VALUE, CLIP_NORM]] = limits
        self._settings[DROPOUT] = spec.dropout
        self._settings[GIVEN : GIVEN + len(spec.settings)] = list(spec.settings.values())
        self._chosen = np.zeros(spec.batch, np.int64)
        flats = 2 + len(spec.states)
        parts = self._memory[: flats * spec.size].reshape(flats, spec.size)
        self._flat, self._grad, *self._states = parts
        self._flat[:] = spec.initial()
        for layer, row in enumerate(self._layers):
            if row[ACTIVATION] != SLOPES:
                self._memory[row[ALPHA]] = arguments.plain(spec.activations[layer], None)[1]
        self._memory[self._plan[ZEROS] - 1] = 1
        self._running = {}
        for name, array in spec.running().items():
            start = found.running[name]
            self._running[name] = self._memory[start : start + array.size]
            self._running[name][:] = array.ravel()
        self.parameters = spec.views(self._flat)
        self._arguments = self._memory, self._layers, self._plan, self._settings, self._chosen
        calls = map(take_turns, (_step, _epoch, _predict, _evaluate))
        self._step, self._epoch, self._predict, self._evaluate = calls

    def step(self, x, labels):
        """One training step on x (rows, sizes[0]), rows <= batch; returns the loss before it."""
        spec = self._spec
        spec.labels(labels, np.ndarray, spec.rows(x, np.ndarray, spec.batch))
        given = self._arguments if spec.schedule is None else self._scheduled(1)[0]
        loss = self._step(*given, x, labels)
        if loss is None:
            raise self._refusal(labels)
        return loss

    def epoch(self, x, labels, order):
        """A step on every `batch` rows in this order; returns the mean loss of the rows."""
        spec = self._spec
        spec.labels(labels, np.ndarray, spec.rows(x, np.ndarray))
        arguments.order("order", order, np.ndarray)
        given, rates = self._scheduled(-(-len(order) // spec.batch))
        loss = self._epoch(*given, x, labels, order, rates)
        if loss is None:
            if order.min() < 0 or order.max() >= len(x):
                raise arguments.row_out_of_range("order", len(x))
            raise self._refusal(labels[order])
        return loss

    def _scheduled(self, count):
        """(the arguments of a call for the next `count` steps, the rates of these). Another thread
        that calls meanwhile, and is refused, cannot change them.
        """
        memory, layers, plan, settings, chosen = self._arguments
        settings, rates = settings.copy(), np.array(self._spec.rates(int(plan[STEPS]), count))
        settings[GIVEN] = rates[0]
        return (memory, layers, plan, settings, chosen), rates

    def _refusal(self, labels):
        """Why there was no step on these labels."""
        if not self._spec.labels_in_range(labels):
            return self._spec.label_out_of_range()
        return description.stepped_by_two_threads()

    def predict(self, x):
        """The logits (rows, sizes[-1]) of any number of rows."""
        rows = self._spec.rows(x, np.ndarray)
        out = np.empty((rows, self.sizes[-1]), self._spec.dtype)
        self._infer(self._predict, x, out)
        return out

    def evaluate(self, x, labels):
        """(mean loss, accuracy) of any number of rows; see reference.network.Network.evaluate."""
        spec = self._spec
        rows = spec.rows(x, np.ndarray)
        spec.labels(labels, np.ndarray, rows)
        found = self._infer(self._evaluate, x, labels)
        if found is None:
            raise spec.label_out_of_range()
        loss, right = found
        decisions = rows * (1 if spec.loss == "softmax_cross_entropy" else spec.sizes[-1])
        return loss, None if spec.loss == "mean_squared_error" else right / decisions

    def _infer(self, call, *given):
        """The call with a workspace that no other thread uses meanwhile; they are kept."""
        try:
            workspace = self._spaces.pop()
        except IndexError:
            workspace = self._space()
        try:
            return call(*workspace[0], *given)
        finally:
            self._spaces.append(workspace)

    def _space(self):
        """One more workspace: the arguments of a call, and the memory that is its own. Kernels
        find that by its distance from the network's, so that nothing else tells both apart.
        """
        work = self._memory[self._layout.work :]
        memory = aligned(work.size, work.dtype)
        distance = (memory.ctypes.data - work.ctypes.data) // work.itemsize
        layers, plan = self._layout.workspace(distance)
        chosen = np.empty_like(self._chosen)
        return (self._memory, layers, plan, self._settings, chosen), memory

    @property
    def gradients(self):
        """(layers, 2): the Euclidean norms of the last step's weight and bias gradients."""
        return self._spec.norms(self._grad)

    def state(self):
        """A copy of all that a step changes; see reference.network.Network.state."""
        steps, seed = int(self._plan[STEPS]), self._plan[SEED].astype(np.uint64)
        return self._spec.state(steps, seed, [self._flat, *self._states], self._running)

    def load_state(self, source):
        """Goes on from a state: the mapping, or the path of the npz file that holds it."""
        steps, seed, flats, running = self._spec.load(source)
        for ours, given in zip((self._flat, *self._states), flats, strict=True):
            ours[:] = given
        for name, given in running.items():
            self._running[name][:] = given
        self._plan[STEPS], self._plan[SEED] = steps, np.uint64(seed).astype(np.int64)
