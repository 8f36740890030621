"""Times a whole training step and a whole epoch: Adam, softmax cross-entropy, relu; and, where a
backend computes elsewhere than in the host's memory, the way of a batch to there.

The timed network has a learning rate of 0: the numbers that it computes with stay those of a
network at its start, however often the step is repeated. That it trains as the reference does is
checked before, by one step at another rate.
"""

import functools
from types import SimpleNamespace

import numpy as np

import reference
from reference import Layer
from reference.network_spec import elements, flops, step_bound

from . import grid, workloads
from .suite import Wrong, _load, _Suite, timer_of

RATE = 0.001  # of the step that is checked
STEP, TRANSFER, EPOCH = "network_step", "network_transfer", "network_epoch"

# By name: the workload and its layer sizes, such as "moons-2-32-16-2".
NETWORKS = {
    name: Layer(name, workloads.SIZES[workload][0], workloads.SIZES[workload][-1])
    for workload in ("moons", "digits", "mnist")
    for name in ["-".join(map(str, (workload, *workloads.SIZES[workload])))]
}


def sizes(name):
    """The layer sizes of a network, from its name."""
    return tuple(map(int, name.split("-")[1:]))


@functools.cache
def work(function, name, batch, dtype):
    """(operations, bytes) of one step, epoch or transfer: the fewest, by the specification."""
    if function == TRANSFER:
        return 0, sum(array.nbytes for array in _batch(name, dtype, batch))
    network = reference.network.create(sizes(name), batch=batch, lr=RATE)
    rows = workloads.full(name.partition("-")[0]) if function == EPOCH else batch
    parts = [len(range(*part.indices(rows))) for part in workloads.minibatches(rows, batch)]
    size = np.dtype(dtype).itemsize
    return sum(flops(network, n) for n in parts), sum(elements(network, n) for n in parts) * size


def checked(module, name, x, labels):
    """Raises Wrong where one step differs from the float64 reference's by more than its bound."""
    options = {"batch": len(x), "lr": RATE, "dtype": x.dtype.name}
    network = module.network.create(sizes(name), **options)
    oracle = reference.network.create(sizes(name), **{**options, "dtype": "float64"})
    for key, array in oracle.parameters.items():
        array[...] = module.to_host(network.parameters[key])
    wide = x.astype(np.float64)
    loss_bound, bounds = step_bound(oracle, wide, labels, x.dtype)
    slack = 2 if x.dtype == np.float64 else 1
    expected = oracle.step(wide, labels)
    got = network.step(module.asarray(x), module.asarray(labels))
    if not abs(got - expected) <= slack * loss_bound:
        raise Wrong(f"loss {got:.9g} instead of {expected:.9g}, allowed error {loss_bound:.3g}")
    ours, theirs = network.state(), oracle.state()
    for key, bound in bounds.items():
        if not (np.abs(ours[key] - theirs[key]) <= slack * bound).all():
            raise Wrong(f"{key} after one step is outside its error bound")


def _is_batch(name, batch):
    """Raises NotImplementedError for another network's full batch."""
    if batch not in grid.batches(NETWORKS[name]):
        raise NotImplementedError(f"{batch} is not a batch size of {name}")


def _batch(name, dtype, batch):
    """x and labels of one step, in the host's memory."""
    x, labels = workloads.training(name.partition("-")[0])
    return x[:batch].astype(dtype), labels[:batch].copy()


def transfers(module):
    """Whether arrays have to go elsewhere before the module can compute with them."""
    host = np.zeros(1)
    return module.asarray(host) is not host


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
        """(the module, a network that stays as it is, x, labels), once a step was checked."""
        _is_batch(layer, batch)
        module = _load(backend, "network")
        x, labels = workloads.training(layer.partition("-")[0])
        x = np.ascontiguousarray(x, dtype)
        checked(module, layer, x[:batch], labels[:batch])
        self.timer = timer_of(module)
        network = module.network.create(sizes(layer), batch=batch, lr=0.0, dtype=dtype)
        return module, network, x, labels


class _Step(_Network):
    """One training step on a batch that is where the network computes."""

    def _prepare(self, *, layer, dtype, batch, backend):
        module, network, x, labels = self._prepared(layer, dtype, batch, backend)
        x, labels = map(module.asarray, _batch(layer, dtype, batch))
        self.call = functools.partial(network.step, x, labels)


class _Transfer(_Suite):
    """The way of one batch, x and labels, from the host's memory to where the network computes."""

    @classmethod
    def runs_on(cls, module):
        return super().runs_on(module) and transfers(module)

    def _prepare(self, *, layer, dtype, batch, backend):
        _is_batch(layer, batch)
        module = _load(backend, "network")
        self.timer = timer_of(module)
        self.call = transfer(module, layer, dtype, batch)


class _Epoch(_Network):
    """One epoch over all training rows in a given order; mnist's takes minutes in NumPy."""

    def _prepare(self, *, layer, dtype, batch, backend):
        module, network, x, labels = self._prepared(layer, dtype, batch, backend)
        order = np.random.default_rng(0).permutation(len(x))
        arrays = (module.asarray(array) for array in (x, labels, order))
        self.call = functools.partial(network.epoch, *arrays)


def _suite(name, base, names):
    batches = sorted({size for network in names for size in grid.batches(NETWORKS[network])})
    axes = {"layer": names, "dtype": grid.dtypes(), "batch": batches, "backend": grid.backends()}
    attributes = {
        "operations": {"": SimpleNamespace(name="network")},  # what a backend must have
        "axes": axes,
        "layers": NETWORKS,
        "batches": staticmethod(grid.batches),
        "params": [list(values) for values in axes.values()],
        "param_names": list(axes),
        "__doc__": base.__doc__,
    }
    return type(name, (base,), attributes)


network_step = _suite(STEP, _Step, tuple(NETWORKS))
network_transfer = _suite(TRANSFER, _Transfer, tuple(NETWORKS))
network_epoch = _suite(EPOCH, _Epoch, tuple(NETWORKS)[:2])
