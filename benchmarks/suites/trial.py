"""A function of a backend bound to arrays of its own, amid guards."""

import functools

import numpy as np

from reference.spec import arrays_of, with_arrays

from .owned import host, place, wait_of

GUARD, FILLED = 64, 7  # elements before and behind an output, and what they hold


class Trial:
    """A function of a module bound to copies of some inputs, and to outputs amid guards.

    like: a trial of the same function, whose outputs are of the same forms: it spares the call
    that tells them.
    """

    def __init__(self, operation, module, inputs, like=None):
        self.operation, self.module, self.inputs = operation, module, inputs
        self.function = getattr(module, operation.function.__name__)
        self.arguments = self._copies()
        self.forms = like.forms if like else self._found()
        self.guards = [self._guarded(dtype, shape) for dtype, shape in self.forms]
        pairs = zip(self.guards, self.forms, strict=True)
        self.out = tuple(flat[GUARD:-GUARD].reshape(shape) for flat, (_, shape) in pairs)
        self.bind(self.arguments)

    def _copies(self):
        return with_arrays(lambda array: place(self.module, array.copy()), self.inputs)

    def _found(self):
        """(dtype, shape) of what the function returns where it is given no output."""
        if not self.operation.returns:
            return []
        spare = self._copies() if self.operation.in_place else self.arguments
        given = self.operation.returned(self.function(**spare))
        return [(host(self.module, a.reshape(-1)[:1]).dtype, tuple(a.shape)) for a in given]

    def _guarded(self, dtype, shape):
        """A flat array in which an element that a call does not write stays NaN."""
        flat = np.full(np.prod(shape, dtype=int) + 2 * GUARD, FILLED, dtype)
        if dtype.kind == "f":
            flat[GUARD:-GUARD] = np.nan
        return place(self.module, flat)

    def bind(self, arguments):
        out = {"out": self.out if len(self.out) > 1 else self.out[0]} if self.out else {}
        self.arguments = arguments
        self.call = functools.partial(self.function, **arguments, **out)

    def make(self):
        self.given = self.call()

    def results(self):
        """Host copies of what the last call that was `made` left."""
        given = self.operation.collect(self.arguments, self.given)
        return tuple(host(self.module, array) for array in given)

    def run(self):
        self.make()
        wait_of(self.module)()
        return self.results()

    def refill(self, inputs):
        """Other values of some inputs, in the same arrays."""

        def put(array, new):
            if not isinstance(new, np.ndarray):
                return new
            array[...] = place(self.module, new)
            return array

        filled = {}
        for name, value in inputs.items():
            old, is_tuple = self.arguments[name], isinstance(value, tuple)
            filled[name] = tuple(map(put, old, value)) if is_tuple else put(old, value)
        self.inputs = {**self.inputs, **inputs}
        self.bind({**self.arguments, **filled})

    def again(self, answer):
        """Calls it once more as it was timed, and says where its inputs now give another answer."""
        if self.operation.in_place:
            self.refill(self.inputs)
        got = self.run()
        alike = all(map(same_bits, answer, got))
        return None if alike else self.operation.disagreement(self.inputs, got)

    def asked(self):
        """(name, values) of the input by which it is asked whether answers are remembered, or None.

        What is updated in place is another one for every call: there is nothing to remember.
        """
        if self.operation.in_place:
            return None
        arrays = ((k, v) for k, v in self.inputs.items() if isinstance(v, np.ndarray))
        return next(((k, v) for k, v in arrays if v.dtype.kind == "f" and v.any()), None)

    def beside(self):
        """What it did beside its results, or None."""
        returned = [result for result in self.operation.results if not result.updates]
        for flat, result in zip(self.guards, returned, strict=True):
            edges = host(self.module, flat[:GUARD]), host(self.module, flat[-GUARD:])
            if any((edge != edge.dtype.type(FILLED)).any() for edge in edges):
                return f"writes outside its output: {self.operation}, {result.name}"
        for name, value in self.inputs.items():
            if name in self.operation.in_place:
                continue
            pair = {"": (value,)}, {"": (self._on_host(self.arguments[name]),)}
            if not all(map(same_bits, *map(arrays_of, pair))):
                return f"changes its inputs: {self.operation}, {name}"
        return None

    def _on_host(self, value):
        if isinstance(value, tuple):
            return tuple(map(self._on_host, value))
        if isinstance(value, np.ndarray) or not hasattr(value, "shape"):
            return value
        return host(self.module, value)


def same_bits(a, b):
    """Whether two host arrays hold the same, NaN too."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    whole = f"u{a.dtype.itemsize}"
    return np.array_equal(np.asarray(a).view(whole), np.asarray(b).view(whole))
