"""The dense network on the GPU; see reference/network.py. Data and parameters stay there.

`step` and `epoch` return a number, so they wait for the GPU: a step once, an epoch once at its end.
Steps of other libraries, which return before their loss is known, are compared with a wait after
each; who wants to run ahead takes `epoch`. Labels and row numbers are checked by kernels before
anything changes. How a network is trained depends on its size: see training.py.
"""

import threading

import numpy as np

from ... import arguments
from ...catalog import LOSSES
from ...network import description
from ...network.program import is_plain
from .. import dense
from ..runtime import device
from ..runtime.table import blocks_of
from .program import ProgramChain, infer
from .training import BAD_LABEL, BAD_ROW, Block, Chain, chunk_of, layers_of, queue_loss


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
        self._spec, self.sizes, self.batch = spec, spec.sizes, spec.batch
        memory = np.zeros((2 + len(spec.states), spec.size), spec.dtype)
        memory[0] = spec.initial()
        self._memory = device.asarray(memory)
        self._flat, self._grad, *self._states = (self._memory[k] for k in range(len(memory)))
        self.parameters = spec.views(self._flat)
        running = (array.ravel() for array in spec.running().values())
        running = np.concatenate([np.zeros(0, spec.dtype), *running])
        self._running = device.asarray(running)
        self._steps, self._seed, self._stepping = 0, spec.seed, threading.Lock()
        if not is_plain(spec):
            self._trainer = ProgramChain(self)
        else:
            chunk = chunk_of(spec)
            self._trainer = Block(self, chunk) if chunk else Chain(self)

    def step(self, x, labels):
        """One training step on x (rows, sizes[0]), rows <= batch; returns the loss before it."""
        spec = self._spec
        rows = spec.rows(x, device.ndarray, spec.batch)
        spec.labels(labels, device.ndarray, rows)
        return self._train(x, labels, None, rows)

    def epoch(self, x, labels, order):
        """A step on every `batch` rows in this order; returns the mean loss of the rows."""
        spec = self._spec
        spec.labels(labels, device.ndarray, spec.rows(x, device.ndarray))
        arguments.order("order", order, device.ndarray)
        return self._train(x, labels, order, len(order))

    def _queue(self, x, labels, order, count):
        """Queues all steps; their outcome, (mean loss, fault), stays on the GPU."""
        return self._trainer.train(x, labels, order, count, self._steps, self._seed)

    def _train(self, x, labels, order, count):
        if not self._stepping.acquire(blocking=False):
            raise description.stepped_by_two_threads()
        try:
            return self._trained(x, labels, order, count)
        finally:
            self._stepping.release()

    def _trained(self, x, labels, order, count):
        loss, fault = device.to_host(self._queue(x, labels, order, count))
        if fault == BAD_LABEL:
            raise self._spec.label_out_of_range()
        if fault == BAD_ROW:
            raise arguments.row_out_of_range("order", len(x))
        self._steps += -(-count // self.batch)
        return float(loss)

    def predict(self, x):
        """The logits (rows, sizes[-1]) of any number of rows."""
        self._spec.rows(x, device.ndarray)
        if not is_plain(self._spec):
            return infer(self._spec, self.parameters, self._running, x)
        for weight, bias, activation_id, slope, slopes in layers_of(self._spec, self.parameters):
            y = device.empty((len(x), weight.shape[1]), x.dtype)
            layer = weight, bias, activation_id, slope, slopes
            dense.forward(x, *layer, y, self._spec.precision)
            x = y
        return x

    def evaluate(self, x, labels):
        """(mean loss, accuracy) of any number of rows; see reference.network.Network.evaluate."""
        spec = self._spec
        spec.labels(labels, device.ndarray, spec.rows(x, device.ndarray))
        logits = self.predict(x)
        loss, dlogits = device.empty((), spec.dtype), device.empty(logits.shape, spec.dtype)
        queue_loss(spec, logits, labels, loss, dlogits)
        loss = float(device.to_host(loss))
        device.synchronize()  # raises where a label names no class
        if np.isnan(loss) and not spec.labels_in_range(device.to_host(labels)):
            raise spec.label_out_of_range()
        if spec.loss == "mean_squared_error":
            return loss, None
        decisions = len(x) if spec.loss == "softmax_cross_entropy" else logits.size
        counts = device.empty(blocks_of("right_decisions", spec.dtype, decisions), spec.dtype)
        kind = LOSSES[spec.loss]
        given = kind, logits, labels, labels.itemsize, counts
        device.launch("right_decisions", (decisions,), *given, decisions, self.sizes[-1])
        return loss, float(device.to_host(counts).sum(dtype=np.float64)) / decisions

    @property
    def gradients(self):
        """(layers, 2): the Euclidean norms of the last step's weight and bias gradients."""
        return self._spec.norms(device.to_host(self._grad))

    def state(self):
        """A copy of all that a step changes; see reference.network.Network.state."""
        flats = [device.to_host(flat) for flat in (self._flat, *self._states)]
        running = self._spec.running_views(device.to_host(self._running))
        return self._spec.state(self._steps, self._seed, flats, running)

    def load_state(self, source):
        """Goes on from a state: the mapping, or the path of the npz file that holds it."""
        self._steps, self._seed, flats, running = self._spec.load(source)
        for ours, given in zip((self._flat, *self._states), flats, strict=True):
            ours[...] = device.asarray(given)
        for name, ours in self._spec.running_views(self._running).items():
            ours[...] = device.asarray(running[name])
