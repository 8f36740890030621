"""Whether what is timed is true: answers of timed calls, judged by inputs that nobody knew before.

Clock, waiting and copies are the harness's own, taken before a user's module is imported. Its own
device functions move its arrays and are held against these. What runs in the same process could
reach all of this; what it replaces is seen (`replaced`), what it puts back in time is not.
"""

import functools
import itertools
import secrets
import sys
import time
import timeit

import numpy as np

import kernels
from reference.spec import arrays_of, with_arrays

CLOCK = time.perf_counter
GUARD = 64  # elements before and behind an output
# A call on inputs that are new each time takes longer: its data may have to come from memory, and
# one element is written before. What remembers answers takes less by far more than this.
REMEMBERS, FLOOR = 3.0, 20e-6
COPIES = {"cupy": lambda array: array.get(), "torch": lambda array: array.cpu().numpy().copy()}
WAITS = {
    "cupy": lambda cupy: cupy.cuda.Device().synchronize(),
    "torch": lambda torch: torch.cuda.is_initialized() and torch.cuda.synchronize(),
}


class Wrong(AssertionError):
    """A kernel's result is outside the error bound of the float64 oracle, or not its own."""


def is_users(module):
    """Whether it is a user's file: ours are packages."""
    return getattr(module, "__package__", None) == ""


def elsewhere(module):
    """Whether arrays have to go elsewhere before the module can compute with them."""
    host = np.zeros(1)
    return module.asarray(host) is not host


def place(module, array):
    """A copy of a host array where the module computes."""
    return module.asarray(array.copy()) if elsewhere(module) else array.copy()


def host(module, array):
    """A copy in the host's memory, not made by a user's code."""
    if isinstance(array, np.ndarray | np.generic):
        return np.array(array)
    if not is_users(module):
        return np.array(module.to_host(array))
    library = type(array).__module__.partition(".")[0]
    if library not in COPIES:
        raise TypeError(f"arrays must be NumPy's, CuPy's or torch's, got {type(array)}")
    return COPIES[library](array)


def wait_of(module):
    """What waits until all work is done."""
    found = [module.synchronize]
    if is_users(module) and elsewhere(module):
        libraries = WAITS.keys() & sys.modules.keys()
        found += (functools.partial(WAITS[name], sys.modules[name]) for name in libraries)

    def wait():
        for each in found:
            each()

    return wait


def timer_of(module):
    """The clock, read when all work is done: ours for a user's module."""
    wait, clock = wait_of(module), CLOCK if is_users(module) else module.timer

    def timer():
        wait()
        return clock()

    return timer


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
        for (flat, before, _), result in zip(self.guards, self.operation.results, strict=False):
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


class Judge:
    """Takes the place of timeit's timer for a cell: one call of a sample at random, somewhere in
    it, is of new inputs into another output; another one of new inputs in the timed arrays.
    """

    def __init__(self, operation, module, draw, timed, warmup, samples):
        self.operation, self.module, self.draw, self.timed = operation, module, draw, timed
        self.timer, self.warmup = timer_of(module), warmup
        self.left, self.began, self.passed = secrets.randbelow(samples), None, [0.0, 0.0]
        self.plain = timeit.Timer(timed.call, timer=self.timer)
        self.inputs = draw()
        self.judged = Trial(operation, module, self.inputs, timed.out)
        self.found = None

    def timeit(self, number):
        """The seconds of so many calls."""
        self.began = self.began or CLOCK()
        if self.found is None and CLOCK() - self.began >= self.warmup:
            self.left -= 1
            if self.left < 0:
                return self._with_judged(number)
        theirs, ours = self.module.timer(), CLOCK()
        seconds = self.plain.timeit(number)
        if is_users(self.module):
            self.passed[0] += CLOCK() - ours
            self.passed[1] += self.module.timer() - theirs
        return seconds

    def _with_judged(self, number):
        before = secrets.randbelow(number)
        seconds = self.plain.timeit(before)
        seconds += timeit.Timer(self.judged.make, timer=self.timer).timeit(1)
        self.found = [self.judged.results()]
        seconds += self.plain.timeit(number - 1 - before)
        self.timed.refill(self.inputs)
        self.found.append(self.timed.run())
        return seconds

    def verdict(self, seconds, number):
        """Raises Wrong where a timed call was not true; `seconds` a call took, as it was found."""
        if self.found is None:
            self._with_judged(1)
        problem = self._problem(seconds, number)
        if problem:
            raise Wrong(problem)

    def _problem(self, seconds, number):
        ours, theirs = self.passed
        if abs(theirs - ours) > 0.1 * ours + 1e-3:
            return f"its timer lies: {theirs:.3g} s instead of {ours:.3g}"
        if beside := self.judged.complaint():
            return beside
        new, same = self.found
        complaint = self.operation.disagreement(self.inputs, new)
        if not complaint and not all(map(_equal, new, same)):
            complaint = self.operation.disagreement(self.inputs, same)
        if complaint:
            return named(self.operation, self.module, self.draw, complaint)
        return self._remembered(seconds, max(1, number // 10))

    def _remembered(self, seconds, number):
        """Whether calls whose inputs were never seen take far longer than the timed ones."""
        chosen = [name for name, value in self.inputs.items() if name not in self.operation.in_place
                  and isinstance(value, np.ndarray) and value.dtype.kind == "f"]  # fmt: skip
        if not chosen or self.operation.in_place:
            return None
        array = self.timed.arguments[chosen[0]].reshape(-1)
        values = self.draw()[chosen[0]].reshape(-1)
        number = min(number, len(values))  # then nothing is new any more

        def calls(call):
            start = self.timer()
            for k in range(number):
                array[k] = values[k]
                call()
            return (self.timer() - start) / number

        for _ in range(3):  # other work may have held one of them up
            new = calls(self.timed.call) - calls(lambda: None)
            if new <= REMEMBERS * seconds + FLOOR:
                return None
            values = self.draw()[chosen[0]].reshape(-1)
        return f"remembers answers: {new:.3g} s of new inputs, {seconds:.3g} s of the same again"


def _equal(a, b):
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def named(operation, module, draw, complaint):
    """The complaint, behind the name of the trick that explains it, where one does."""
    try:
        trick = _trick(operation, module, draw)
    except Exception:  # a wrong kernel may fail in any way
        trick = None
    return f"{trick}: {complaint}" if trick else complaint


def _trick(operation, module, draw):
    first, second, third = draw(), draw(), draw()

    def right(inputs, got):
        return operation.disagreement(inputs, got) is None

    spent = [with_arrays(np.copy, first) for _ in range(8)]  # the places of arrays long gone
    spent.append([np.empty(0) for _ in range(1000)])
    trial = Trial(operation, module, first)
    got = trial.run()
    if not right(first, got):
        given = operation.collect(trial.arguments, trial.given)
        if right(first, tuple(np.array(module.to_host(array)) for array in given)):
            lazy = right(first, trial.results())
            return "computes when it is copied" if lazy else "its to_host lies"
        time.sleep(0.05)
        if right(first, trial.results()):
            lies = ", its synchronize lies" if _own(module, "synchronize") else ""
            return f"returns before its work is done{lies}"
        for name, value in first.items():
            if isinstance(value, np.ndarray) and any(_equal(r, value) for r in got):
                return f"returns its input {name}"
    fresh = right(second, Trial(operation, module, second, trial.out).run())
    trial.refill(third)
    again = trial.run()
    if fresh and right(first, got) and not right(third, again):
        trial.bind(with_views(trial.arguments))
        return f"remembers its arrays by {'id' if right(third, trial.run()) else 'pointer'}"
    if not fresh and not right(third, again):
        if trial.out and _filled(trial, np.nan) and right(third, trial.run()):
            return "computes only where its output is NaN"
        if trial.out and _filled(trial, 3) and all((r == 3).all() for r in trial.run()):
            return "leaves its output as it was"
        known = any(right(inputs, again) for inputs in (first, second))
        if (
            trial.out
            and trial.given is not trial.out[0]
            and (known or all(map(_equal, got, again)))
        ):
            return "returns an earlier output"
    floats = [n for n, v in third.items() if isinstance(v, np.ndarray) and v.dtype == np.float32]
    subsets = (itertools.combinations(floats, k) for k in range(1, len(floats[:3]) + 1))
    for chosen in itertools.chain(*subsets):
        for precision, bits in (("bfloat16", 16), ("TF32", 13)):
            if right(third | {name: _rounded(third[name], bits) for name in chosen}, again):
                return f"computes in {precision}"
    for name, value in first.items():
        changed = third | {name: value}
        if isinstance(value, np.ndarray) and not right(changed, again):
            other = Trial(operation, module, changed, trial.out).run()
            if all(map(_equal, other, again)):
                return f"ignores its input {name}"
    del spent
    return "right at the timed shape only" if fresh and right(third, again) else None


def _own(module, name):
    """Whether a user's module has this device function itself."""
    return getattr(module, name) is not kernels.DEVICE_FUNCTIONS[name]


def with_views(arguments):
    return {n: v[...] if hasattr(v, "shape") else v for n, v in arguments.items()}


def _filled(trial, value):
    for array in trial.out:
        array[...] = value
    return all(host(trial.module, array).dtype.kind == "f" for array in trial.out)


def _rounded(array, bits):
    """float32 numbers rounded to so many bits fewer, ties to even."""
    whole = array.view(np.uint32)
    half = np.uint32((1 << (bits - 1)) - 1) + ((whole >> np.uint32(bits)) & np.uint32(1))
    return ((whole + half) >> np.uint32(bits) << np.uint32(bits)).view(np.float32)


ROOMS = "time", "timeit", "numpy", "kernels", "reference", "benchmarks", "asv_runner"


def functions():
    """{name: what it is} of all functions of the harness and of what it relies on."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name in ROOMS[:4] or name.partition(".")[0] in ROOMS[4:]:
            for key, value in list(getattr(module, "__dict__", {}).items()):
                found[f"{name}.{key}"] = _identity(value)
                if isinstance(value, type):
                    found |= {f"{name}.{key}.{k}": _identity(v) for k, v in vars(value).items()
                              if callable(v)}  # fmt: skip
    return {name: value for name, value in found.items() if value}


def _identity(value):
    return (id(value), id(getattr(value, "__code__", None))) if callable(value) else None


def replaced(before):
    """Raises Wrong where a function is no longer what it was."""
    now = functions()
    for name, value in before.items():
        if now.get(name) != value:
            raise Wrong(f"replaces {name}")
