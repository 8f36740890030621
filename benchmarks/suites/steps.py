"""Training steps of one network as what is timed and judged, as trial.py has it for a function."""

import functools

import numpy as np

from reference import spec

from .owned import host, place, wait_of
from .training_step import made, names, parameters
from .trial import same_bits


class Steps:
    """The steps of a network that a module makes of some inputs, with a learning rate of its own.

    The first step from its first state has results to compare. At a rate of 0 the parameters stay
    what they are; by the moments that it leaves, which tell its gradients, it is compared too.
    """

    def __init__(self, operation, module, inputs, lr):
        self.operation, self.module, self.inputs = operation, module, inputs
        self.network = made(module, inputs, lr)
        self.began = self.network.state()
        self.x, self.labels = (place(module, inputs[name].copy()) for name in ("x", "labels"))
        self.call = functools.partial(self.network.step, self.x, self.labels)

    def make(self):
        self.loss = self.call()

    def results(self):
        """What the first step left."""
        state, number = self.network.state(), spec.floating(self.inputs).type
        return number(self.loss), *(state[name] for name in names(self.inputs))

    def refill(self, inputs):
        """Other rows in the same arrays, other parameters in the same network; no step was made."""
        self.inputs = inputs
        for array, name in ((self.x, "x"), (self.labels, "labels")):
            array[...] = place(self.module, inputs[name])
        self.network.load_state(self.began | {name: inputs[name] for name in parameters(inputs)})

    def again(self, answer):
        """Makes a first step at a rate of 0, and says where it is another one than of `answer`."""
        self.refill(self.inputs)
        self.make()
        wait_of(self.module)()
        got, known = list(self.results()), parameters(self.inputs)
        for place_of, name in enumerate(("loss", *names(self.inputs))):
            if name in known:
                if not np.array_equal(got[place_of], self.inputs[name]):
                    return f"{self.operation}, {name}: it changes at a rate of 0"
                got[place_of] = answer[place_of]
        alike = all(map(same_bits, answer, got))
        return None if alike else self.operation.disagreement(self.inputs, tuple(got))

    def beside(self):
        """What it did beside its results, or None."""
        for array, name in ((self.x, "x"), (self.labels, "labels")):
            if not same_bits(host(self.module, array), self.inputs[name]):
                return f"changes its inputs: {self.operation}, {name}"
        return None

    def asked(self):
        """Not whether answers are remembered: a step changes what the next one starts from."""
