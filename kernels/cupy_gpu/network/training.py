"""How networks are trained on the GPU: small ones by one block, larger ones by a chain of launches.

- A small network trains in one launch of one block, steps and epochs alike, which holds everything
  in shared memory (network.cu). It has the 48 KiB that every GPU gives without being asked: for
  2-32-16-2 under Adam in float32, 11 KiB for parameters, gradients and state. More would not carry
  the next larger networks either: 64-128-64-32-10 needs 300 KiB, above any GPU's 227.
- A larger one is a chain of launches: products by cuBLAS or by tiles (dense.py), and one update
  over all layers. Where there is not much to compute, the host needs longer to queue it than the
  GPU to compute it: such a step is captured once as a CUDA graph, all of its products by tiles, and
  launched at once.

- A network with normalisation, maxout, dropout or skips is a chain as well, see program.py; with
  dropout every launch of a step has numbers of its own, so that it is not captured.

limits.py says up to which sizes. With precision="tf32" a network of any size is a chain that is not
captured: its products are cuBLAS's.
"""

import itertools

import numpy as np

from ... import arguments
from ...catalog import ACTIVATIONS, IDENTITY, LOSSES, RULES
from ...network.program import is_plain
from .. import dense, losses
from ..activations import forward as activation_forward
from ..optimizers import MOST_SCALARS
from ..runtime import device, limits
from ..runtime.table import blocks_of

SHARED = 46 << 10  # bytes, as MEMORY in network.cu
MOST_LAYERS = 16  # as in network.cu
GROUP = 4  # rows that a thread takes at once, as in network.cu
FEWEST_ROWS = 16  # of a chunk, for the sake of the threads
STEP_SCALARS = MOST_SCALARS + 1  # as in network.cuh
AT_HAND = 1024  # steps whose scalars are computed at once
BAD_LABEL, BAD_ROW = 1, 2


class Block:
    """Trains a small network, `chunk` rows at a time, in one launch."""

    def __init__(self, network, chunk):
        spec = self._spec = network._spec
        self._memory, flats = network._memory, len(network._memory)
        end = flats * spec.size

        def place(units):
            nonlocal end
            start, end = end, end + chunk * _stride(units)
            return start

        plan = [len(spec.sizes) - 1, flats, spec.size, chunk, *_rule_and_loss(spec), spec.batch]
        x = place(spec.sizes[0])
        for n, (fan_in, fan_out) in enumerate(itertools.pairwise(spec.sizes)):
            names = (f"layer{n}.{part}" for part in ("weight", "bias", "slope"))
            places = [spec.places.get(name, (spec.size,))[0] for name in names]
            declared, y, dz = ACTIVATIONS[spec.activations[n]], place(fan_out), place(fan_out)
            z = place(fan_out) if declared.saves_input else y
            dy = place(fan_out) if declared.learned else dz
            plan += [fan_in, fan_out, declared.id, *places, x, z, y, dy, dz]
            x = y
        self._plan = device.asarray(np.array(plan, np.int32))
        slopes = [_slope(name) for name in spec.activations]
        self._slopes = device.asarray(np.array(slopes, spec.dtype))
        self._settings = device.asarray(_settings(spec))
        self._outcome = device.empty(2, spec.dtype)
        self._scalars, self._threads = Scalars(spec), limits.current().block_threads

    def train(self, x, labels, order, count, steps, seed):
        """All steps on these rows; returns (mean loss, fault)."""
        scalars = self._scalars.of(steps, -(-count // self._spec.batch))
        given = self._plan, self._slopes, self._settings, *scalars, self._memory, x, len(x)
        chosen = labels, labels.itemsize, *_order(order)
        device.launch("train", (self._threads,), *given, *chosen, count, self._outcome)
        return self._outcome


class Scalars:
    """The scalars of a network's steps on the GPU; most calls find them there. What a schedule says
    may change from call to call: it is asked for the steps of a call alone.
    """

    def __init__(self, spec):
        self._spec, self._rule = spec, RULES[spec.optimizer]
        self._differ = self._rule.counts or spec.schedule is not None
        self._first, self._table = 0, None

    def of(self, steps, count):
        """(the scalars of `count` steps after the first `steps`, elements from one to the next)."""
        spec = self._spec
        if not self._differ:  # one row for all steps
            steps, count = 0, 1
        row = steps - self._first
        known = self._table is not None and spec.schedule is None
        if not known or row < 0 or row + count > len(self._table):
            ahead = self._rule.counts and spec.schedule is None
            count = max(count, AT_HAND if ahead else 1)
            others = list(spec.settings.values())[1:]
            table = np.zeros((count, STEP_SCALARS))
            for k, (scalars, rate) in enumerate(zip(table, spec.rates(steps, count), strict=True)):
                found = self._rule.scalars(steps + k + 1, rate, *others)
                scalars[: len(found)], scalars[MOST_SCALARS] = found, rate * spec.weight_decay
            self._first, self._table, row = steps, device.asarray(table.astype(spec.dtype)), 0
        return self._table[row:], STEP_SCALARS if self._differ else 0


class Chain:
    """Trains a larger network by a chain of launches, or by a graph of them."""

    def __init__(self, network):
        spec = self._spec = network._spec
        self._memory = network._memory  # not the network: a cycle would outlive it, on the GPU too
        self._x, self._targets = self._rows(spec.sizes[0]), self._rows(spec.sizes[-1])
        self._place(network)
        self._chosen = device.asarray(np.zeros(spec.batch, np.int32))
        self._settings = device.asarray(_settings(spec))
        self._clock = device.asarray(np.zeros(STEP_SCALARS + 1, spec.dtype))
        self._scalars = Scalars(spec)
        self._loss = device.empty((), spec.dtype)
        self._outcome = device.asarray(np.zeros(2, spec.dtype))
        self._fault = device.asarray(np.ones(1, np.int32))  # so that capturing changes nothing
        weights = sum(fan_in * spec.width(n) for n, fan_in in enumerate(spec.sizes[:-1]))
        few = 6 * spec.batch * weights <= limits.current().most_captured
        captured = few and not spec.precision and spec.dropout == 0
        self._graph = device.capture(lambda: self._queue(spec.batch)) if captured else None

    def _rows(self, units):
        """An array for a batch."""
        return device.asarray(np.zeros((self._spec.batch, units), self._spec.dtype))

    def _place(self, network):
        """The arrays of the layers."""
        spec = self._spec
        self._layers = layers_of(spec, network.parameters)
        gradients = spec.views(network._grad)
        self._gradients = [
            [gradients.get(f"layer{n}.{part}") for part in ("weight", "bias", "slope")]
            for n in range(len(self._layers))
        ]
        self._y = [self._rows(units) for units in spec.sizes[1:]]
        self._z = [
            self._rows(y.shape[1]) if ACTIVATIONS[name].saves_input else y
            for y, name in zip(self._y, spec.activations, strict=True)
        ]
        self._dy = [self._rows(units) for units in spec.sizes[1:]]

    def train(self, x, labels, order, count, steps, seed):
        """All steps on these rows, after the first `steps`; returns (mean loss, fault). seed: of
        dropout.
        """
        spec, loss = self._spec, LOSSES[self._spec.loss]
        chosen = labels, labels.itemsize, *_order(order)
        outputs, fault = spec.sizes[-1], self._fault
        begin = len(x), *chosen, count, loss, outputs, fault, self._outcome
        device.launch("begin_rows", (), *begin)
        starts = range(0, count, spec.batch)
        scalars, apart = self._scalars.of(steps, len(starts))
        for step, first in enumerate(starts):
            rows = min(spec.batch, count - first)
            given = x, *chosen, first, rows, spec.sizes[0], outputs, loss, fault
            into = self._x, self._chosen, self._targets, self._clock
            of_step = scalars[step if apart else 0]
            work = rows * max(spec.sizes[0], outputs)
            device.launch("gather_rows", (work,), *given, *into, of_step, rows / count)
            if self._graph and rows == spec.batch:
                self._graph.launch()
            else:
                self._queue(rows, steps + step + 1, seed)
        return self._outcome

    def _queue(self, rows, step=0, seed=0):
        """Queue a step on the rows that were gathered. Number and seed matter to dropout alone."""
        spec = self._spec
        self._queue_passes(rows, step, seed)
        squares, parts = None, 0
        if spec.clip_norm:
            parts = blocks_of("limit_gradients", spec.dtype, spec.size)
            squares = device.empty(parts, spec.dtype)
            limited = self._settings, self._memory, spec.size, squares
            device.launch("limit_gradients", (spec.size,), *limited)
        given = _rule_and_loss(spec)[0], self._settings, self._clock, self._fault, self._memory
        given = *given, spec.size, squares, parts, self._loss, self._outcome
        device.launch("update_all", (spec.size,), *given)

    def _labels(self, rows):
        softmax = self._spec.loss == "softmax_cross_entropy"
        return (self._chosen if softmax else self._targets)[:rows]

    def _queue_passes(self, rows, step, seed):
        """Queue forward, loss and backward."""
        spec = self._spec
        inputs = [self._x[:rows], *(y[:rows] for y in self._y)]
        for n, (weight, bias, activation_id, slope, slopes) in enumerate(self._layers):
            z, y = self._z[n][:rows], inputs[n + 1]
            if self._z[n] is not self._y[n]:
                dense.forward(inputs[n], weight, bias, IDENTITY, 0.0, None, z, spec.precision)
                activation_forward(z, activation_id, slope, slopes, y)
            else:
                layer = weight, bias, activation_id, slope, slopes
                dense.forward(inputs[n], *layer, y, spec.precision)
        queue_loss(spec, inputs[-1], self._labels(rows), self._loss, self._dy[-1][:rows])
        for n in reversed(range(len(self._layers))):
            weight, _, activation_id, slope, slopes = self._layers[n]
            dweight, *sums = self._gradients[n]
            dy, saved = self._dy[n][:rows], self._z[n][:rows]
            dz = dense.sums_gradient(dy, saved, activation_id, slope, slopes, *sums)
            dense.weight_gradient(inputs[n], dz, dweight, spec.precision)
            if n > 0:
                dense.input_gradient(dz, weight, self._dy[n - 1][:rows], spec.precision)


def chunk_of(spec):
    """The rows that one block takes at a time, or 0 where the network is no case for it."""
    weights = sum(fan_in * fan_out for fan_in, fan_out in itertools.pairwise(spec.sizes))
    few = weights * spec.batch <= limits.current().most_products
    if not is_plain(spec) or spec.precision or not few or len(spec.sizes) - 1 > MOST_LAYERS:
        return 0
    declared = (ACTIVATIONS[name] for name in spec.activations)
    copies = (2 + each.saves_input + each.learned for each in declared)
    a_row = _stride(spec.sizes[0])
    a_row += sum(n * _stride(units) for n, units in zip(copies, spec.sizes[1:], strict=True))
    free = SHARED // spec.dtype.itemsize - (2 + len(spec.states)) * spec.size
    wanted = -(-spec.batch // GROUP) * GROUP
    fitting = max(0, free) // (a_row * GROUP) * GROUP
    if fitting < min(wanted, FEWEST_ROWS):
        return 0
    chunks = -(-spec.batch // fitting)
    return -(-spec.batch // (chunks * GROUP)) * GROUP


def _stride(units):
    """Of rows in shared memory, as in network.cu."""
    return units | 1


def layers_of(spec, parameters):
    """(weight, bias, activation_id, slope, slopes) of each layer."""
    return [
        (
            parameters[f"layer{n}.weight"],
            parameters[f"layer{n}.bias"],
            ACTIVATIONS[name].id,
            _slope(name),
            parameters.get(f"layer{n}.slope"),
        )
        for n, name in enumerate(spec.activations)
    ]


def _slope(name):
    """The alpha of an activation that has no array of them."""
    return (arguments.plain(name, None) or (None, 0.0))[1]


def queue_loss(spec, logits, labels, loss, dlogits):
    """The mean loss and its gradient."""
    if spec.loss == "softmax_cross_entropy":
        smoothing = spec.label_smoothing
        losses.softmax_cross_entropy(logits, labels, label_smoothing=smoothing, out=(loss, dlogits))
        return
    size, blocks = logits.size, blocks_of("target_loss", spec.dtype, logits.size)
    sums = loss if blocks == 1 else device.empty(blocks, spec.dtype)
    given = LOSSES[spec.loss], logits, labels, sums, dlogits, size
    smoothing = spec.label_smoothing
    device.launch("target_loss", (size,), *given, smoothing, 1 - smoothing, 1 / size)
    losses.finish(sums, loss)


def _rule_and_loss(spec):
    return RULES[spec.optimizer].id, LOSSES[spec.loss]


def _settings(spec):
    """As the struct Settings in network.cuh."""
    smoothing, limits = spec.label_smoothing, (spec.clip_value or 0, spec.clip_norm or 0)
    return np.array([smoothing, 1 - smoothing, spec.l2, *limits], spec.dtype)


def _order(order):
    """The order and the bytes of a row number, as kernels take them."""
    return (None, 0) if order is None else (order, order.itemsize)
