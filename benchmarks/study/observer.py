"""What is looked at in a network that trains: its layers' gradients, what is zero, what is dead.

By the suite's own operations, of any backend, on all training rows at the end of an epoch.
"""

import numpy as np

from kernels.catalog import ACTIVATIONS

NEAR = 1e-3  # what is no larger counts as zero
DEAD = 1e-3  # a unit is dead where its derivative is no larger, for every row


class Observer:
    """Looks at a network of dense layers without changing it."""

    def __init__(self, module, sizes, activation, x, labels):
        self._module, self._activation, self._x, self._labels = module, activation, x, labels
        # A network of the same parameters, whose steps have the rate 0.
        self._probe = module.network.create(
            sizes, activations=activation, optimizer="sgd", batch=len(x), lr=0.0
        )
        self._ones = [module.asarray(np.ones((len(x), n), np.float32)) for n in sizes[1:-1]]

    def __call__(self, parameters):
        """{"gradients": for each layer the norm of its weights' gradient of the mean training loss;
        "sparse_weights": their share that is near 0; "sparse_activations", "dead": for each hidden
        layer the share of its outputs and of its units}.
        """
        layers = [self._layer(parameters, *at) for at in self._inputs(parameters)]
        weights = [array for name, array in parameters.items() if name.endswith("weight")]
        near = sum(self._near(weight) for weight in weights)
        return {
            "gradients": self._gradients(parameters),
            "sparse_weights": near / sum(weight.size for weight in weights),
            "sparse_activations": [sparse for sparse, _ in layers],
            "dead": [dead for _, dead in layers],
        }

    def _gradients(self, parameters):
        """Without a penalty, and without masks."""
        for name, array in self._probe.parameters.items():
            array[...] = parameters[name]
        self._probe.step(self._x, self._labels)
        return self._probe.gradients[:, 0].tolist()

    def _inputs(self, parameters):
        """(layer, pre-activations, outputs) of every hidden layer."""
        x = self._x
        for layer in range(len(self._ones)):
            weight, bias = (parameters[f"layer{layer}.{part}"] for part in ("weight", "bias"))
            z = self._module.dense_forward(x, weight, bias)
            slope = parameters.get(f"layer{layer}.slope")
            x = self._module.activation_forward(z, self._activation, slope)
            yield layer, z, x

    def _layer(self, parameters, layer, z, y):
        """(the share of its outputs that is near 0, the share of its units that is dead)."""
        declared, module = ACTIVATIONS[self._activation], self._module
        saved, slope = z if declared.saves_input else y, parameters.get(f"layer{layer}.slope")
        found = module.activation_backward(self._ones[layer], saved, self._activation, slope)
        derivative = found[0] if declared.learned else found
        active = module.asarray(np.zeros(y.shape[1], np.int64))
        for either in (derivative, -derivative):  # a learned slope may be negative
            module.unit_activity(either, active, threshold=DEAD)
        return self._near(y) / y.size, float((module.to_host(active) == 0).mean())

    def _near(self, array):
        return int(self._module.to_host(self._module.sparsity(array, threshold=NEAR))[1])
