"""The chain of launches of a network with normalisation, maxout, dropout or skips: its program, see
kernels/network/program.py, each operation by the backend's own function.
"""

from ...catalog import IDENTITY
from ...network import program
from .. import activations, dense, dropout, maxout, normalization
from ..runtime import device
from .training import Chain, queue_loss


class ProgramChain(Chain):
    """Trains a network by its program.

    A step changes batch norm's running statistics in a copy, which is kept where its labels have
    turned out to be in range: `settle_running`.
    """

    def _place(self, network):
        spec = self._spec
        self._program, self._running = program.build(spec), network._running
        self._copy = device.asarray(device.to_host(self._running))
        gradients = _flat(spec, spec.views(network._grad))
        gradients = {f"d{name}": grad for name, grad in gradients.items()}
        self._arrays = _arrays(spec, network.parameters, self._copy) | gradients
        for name, units in self._program.columns.items():
            self._arrays[name] = device.empty(units, spec.dtype)
        self._batch = {"x": self._x}
        for name, units in self._program.units.items():
            if name != "x":
                self._batch[name] = (
                    self._rows(units) if units else device.empty(spec.batch, spec.dtype)
                )

    def _queue_passes(self, rows, step, seed):
        size = self._running.size
        settled = self._fault, self._copy, self._running, size
        if size:
            device.launch("settle_running", (size,), *settled, False)
        arrays = self._arrays | {name: array[:rows] for name, array in self._batch.items()}
        for operation in self._program.step:
            if operation.kind == "loss":
                logits, dlogits = (arrays[name] for name in operation.arrays)
                queue_loss(self._spec, logits, self._labels(rows), self._loss, dlogits)
            else:
                _run(self._spec, operation, arrays, step, seed)
        if size:
            device.launch("settle_running", (size,), *settled, True)


def infer(spec, parameters, running, x):
    """The logits of any number of rows."""
    built = program.build(spec)
    arrays = _arrays(spec, parameters, running)
    for name, units in built.units.items():
        arrays[name] = device.empty((len(x), units) if units else len(x), spec.dtype)
    arrays["x"] = x
    for operation in built.infer:
        _run(spec, operation, arrays)
    return arrays[built.logits]


def _arrays(spec, parameters, running):
    """Those that do not belong to a batch, by name; what there is not is None."""
    slopes = {
        f"layer{n}.alpha": parameters.get(f"layer{n}.slope") for n in range(len(spec.activations))
    }
    return {**_flat(spec, parameters), **spec.running_views(running), **slopes, None: None}


def _flat(spec, arrays):
    """Parameters or gradients, the pieces of maxout as a wider layer's units."""
    if max(spec.pieces) == 1:
        return arrays
    return {
        name: array.reshape((len(array), -1) if name.endswith("weight") else -1)
        for name, array in arrays.items()
    }


def _run(spec, operation, arrays, step=0, seed=0):
    """Queues an operation on these arrays."""
    kind, layer, names = operation
    given = tuple(arrays[name] for name in names)
    activation, precision = spec.activations[layer], spec.precision
    match kind:
        case "product":
            x, weight, bias, y = given
            dense.forward(x, weight, bias, IDENTITY, 0.0, None, y, precision)
        case "product_backward":
            dy, x, weight, dweight, dbias, dx = given
            if dbias is not None:
                activations.column_sums(dy, dbias)
            dense.weight_gradient(x, dy, dweight, precision)
            if dx is not None:
                dense.input_gradient(dy, weight, dx, precision)
        case "batch_norm" | "layer_norm":
            getattr(normalization, f"{kind}_forward")(*given[:-3], out=given[-3:])
        case "batch_norm_inference":
            normalization.batch_norm_inference(*given[:-1], out=given[-1])
        case "batch_norm_backward" | "layer_norm_backward":
            getattr(normalization, kind)(*given[:-3], out=given[-3:])
        case "activation":
            x, alpha, y = given
            activations.activation_forward(x, activation, alpha, out=y)
        case "activation_backward":
            dy, saved, alpha, dx, dalpha = given
            out = dx if dalpha is None else (dx, dalpha)
            activations.activation_backward(dy, saved, activation, alpha, out=out)
        case "maxout":
            maxout.largest(*given, spec.pieces[layer])
        case "maxout_backward":
            maxout.winners(*given, spec.pieces[layer])
        case "dropout":
            x, y = given
            dropout.dropout_forward(x, spec.dropout, seed=seed, step=step, layer=layer, out=y)
        case "add":
            x, skip, y = given
            device.launch("add", (y.size,), x, skip, y, y.size)
        case _:
            raise ValueError(f"there is no operation {kind}")
