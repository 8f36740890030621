"""A function of a backend bound to arrays of its own, amid guards."""

import functools

import numpy as np

from reference.spec import arrays_of, with_arrays

from .owned import host, place, wait_of

GUARD = 64  # elements before and behind an output


class Trial:
    """A function of a module bound to arrays of its own, and to outputs amid guards."""

    def __init__(self, operation, module, inputs, out=None):
        self.operation, self.module, self.inputs = operation, module, inputs
        self.function = getattr(module, operation.function.__name__)
        self.arguments = self._copies()
        if operation.returns and out is None:
            spare = self._copies() if operation.in_place else self.arguments
            out = operation.returned(self.function(**spare))
        self.guards = [self._guarded(array) for array in out or ()]
        self.out = tuple(flat[GUARD:-GUARD].reshape(shape) for flat, _, shape in self.guards)
        self.bind(self.arguments)

    def _copies(self):
        return with_arrays(lambda array: place(self.module, array), self.inputs)

    def _guarded(self, array):
        """The array's values amid guards: (flat device array, as it is on the host, shape)."""
        array = host(self.module, array)
        edge = np.full(GUARD, 7, array.dtype)
        flat = np.concatenate([edge, array.reshape(-1), edge])
        return place(self.module, flat), flat, array.shape

    def bind(self, arguments):
        out = {"out": self.out if len(self.out) > 1 else self.out[0]} if self.out else {}
        self.arguments = arguments
        self.call = functools.partial(self.function, **arguments, **out)

    def results(self):
        """Host copies of what the last call that was `made` left."""
        given = self.operation.collect(self.arguments, self.given)
        return tuple(host(self.module, array) for array in given)

    def make(self):
        self.given = self.call()

    def run(self):
        self.make()
        wait_of(self.module)()
        return self.results()

    def refill(self, inputs):
        """Other values in the same arrays."""
        self.inputs, filled = inputs, {}
        for name, value in inputs.items():
            pairs = zip(*(v if isinstance(v, tuple) else (v,)
                          for v in (self.arguments[name], value)), strict=True)  # fmt: skip
            arrays = []
            for array, new in pairs:
                if isinstance(new, np.ndarray):
                    array[...] = place(self.module, new)
                arrays.append(array if isinstance(new, np.ndarray) else new)
            filled[name] = tuple(arrays) if isinstance(value, tuple) else arrays[0]
        self.bind(filled)

    def complaint(self):
        """What it did beside its results, or None."""
        returned = [result for result in self.operation.results if not result.updates]
        for (flat, before, _), result in zip(self.guards, returned, strict=True):
            after = host(self.module, flat)
            for part in (slice(GUARD), slice(-GUARD, None)):
                if not np.array_equal(after[part], before[part]):
                    return f"writes outside its output: {self.operation}, {result.name}"
        for name, value in self.inputs.items():
            if name in self.operation.in_place:
                continue
            pairs = (arrays_of({"": v if isinstance(v, tuple) else (v,)})
                     for v in (value, self._on_host(self.arguments[name])))  # fmt: skip
            for before, after in zip(*pairs, strict=True):
                if not np.array_equal(before, after, equal_nan=before.dtype.kind == "f"):
                    return f"changes its inputs: {self.operation}, {name}"
        return None

    def _on_host(self, value):
        if isinstance(value, tuple):
            return tuple(map(self._on_host, value))
        return host(self.module, value) if hasattr(value, "shape") else value


def equal(a, b):
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
