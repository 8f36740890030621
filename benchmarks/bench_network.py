"""Times a whole training step and a whole epoch: Adam, softmax cross-entropy, relu; of deep
networks, with batch norm, dropout and skips, the step; and, where a backend computes elsewhere than
in the host's memory, the way of a batch to there.

What is timed has a learning rate of 0. One of the steps within the timed ones is another network's,
of parameters that nobody knew before, and has a rate: it must train as the reference does
(training_step.py). An epoch is not judged while it is timed: what comes of hundreds of steps has no
bound that would say anything. A step is compared before, others in the cells of network_step.
"""

import functools
from types import SimpleNamespace

import numpy as np

from .suites import grid, training_step, workloads
from .suites.steps import Steps
from .suites.suite import Wrong, _Suite, drawn, sampled, transfers
from .suites.training_step import NETWORKS

STEP, TRANSFER, EPOCH = training_step.NAME, "network_transfer", "network_epoch"


@functools.cache
def work(function, name, batch, dtype):
    """(operations, bytes) of one step, epoch or transfer: the fewest, by the specification."""
    if function == TRANSFER:
        return 0, sum(array.nbytes for array in _batch(name, dtype, batch))
    step = training_step.of_network(name)
    rows = workloads.full(name.partition("-")[0]) if function == EPOCH else batch
    parts = [len(range(*part.indices(rows))) for part in workloads.minibatches(rows, batch)]
    return sum(step.flops(batch=n) for n in parts), sum(step.bytes(dtype, batch=n) for n in parts)


def _is_batch(name, batch):
    """Raises NotImplementedError for another network's full batch."""
    if batch not in training_step.batches(NETWORKS[name]):
        raise NotImplementedError(f"{batch} is not a batch size of {name}")


def _batch(name, dtype, batch):
    """x and labels of one step, in the host's memory."""
    x, labels = workloads.training(name.partition("-")[0])
    return x[:batch].astype(dtype), labels[:batch].copy()


def transfer(module, name, dtype, batch):
    """A call that takes a batch to where the module computes, once its way back was checked."""
    if not transfers(module):
        raise NotImplementedError("it computes where the data lie")
    arrays = _batch(name, dtype, batch)
    for array in arrays:
        back = module.to_host(module.asarray(array))
        if back.dtype != array.dtype or not np.array_equal(back, array):
            raise Wrong(f"{array.dtype} {array.shape} did not come back as it went")
    return lambda: [module.asarray(array) for array in arrays]


class _Network(_Suite):
    def _prepared(self, layer, dtype, batch, backend):
        """(the module, the step's specification, its inputs)."""
        _is_batch(layer, batch)
        module, step = self.load(backend, "network"), training_step.of_network(layer)
        return module, step, sampled(step, NETWORKS[layer], dtype, batch)


class _Step(_Network):
    """One training step on a batch that is where the network computes."""

    def _prepare(self, *, layer, dtype, batch, backend):
        module, step, inputs = self._prepared(layer, dtype, batch, backend)
        timed = Steps(step, module, inputs, 0.0)
        self.call = timed.call
        case = NETWORKS[layer].at(dtype=dtype, batch=batch)
        self.be_judged(timed, functools.partial(drawn, step, case),
                       lambda inputs: Steps(step, module, inputs, training_step.RATE))  # fmt: skip


class _Transfer(_Suite):
    """The way of one batch, x and labels, from the host's memory to where the network computes."""

    @classmethod
    def runs_on(cls, module):
        return super().runs_on(module) and transfers(module)

    def _prepare(self, *, layer, dtype, batch, backend):
        _is_batch(layer, batch)
        module = self.load(backend, "network")
        self.call = transfer(module, layer, dtype, batch)


class _Epoch(_Network):
    """One epoch over all training rows in a given order; mnist's takes minutes in NumPy."""

    def _prepare(self, *, layer, dtype, batch, backend):
        module, step, inputs = self._prepared(layer, dtype, batch, backend)
        training_step.checked(step, module, inputs)
        x, labels = workloads.training(layer.partition("-")[0])
        order = np.random.default_rng(0).permutation(len(x))
        arrays = map(module.asarray, (np.ascontiguousarray(x, dtype), labels, order))
        network = training_step.made(module, inputs, 0.0)
        self.call = functools.partial(network.epoch, *arrays)


def _suite(name, base, names):
    layers = [NETWORKS[network] for network in names]
    batches = sorted({size for layer in layers for size in training_step.batches(layer)})
    axes = {"layer": names, "dtype": grid.dtypes(), "batch": batches, "backend": grid.backends()}
    attributes = {
        "operations": {"": SimpleNamespace(name="network")},  # what a backend must have
        "axes": axes,
        "layers": NETWORKS,
        "batches": staticmethod(training_step.batches),
        "params": [list(values) for values in axes.values()],
        "param_names": list(axes),
        "__doc__": base.__doc__,
    }
    return type(name, (base,), attributes)


network_step = _suite(STEP, _Step, tuple(NETWORKS))
network_transfer = _suite(TRANSFER, _Transfer, tuple(NETWORKS))
network_epoch = _suite(EPOCH, _Epoch, tuple(NETWORKS)[:2])
