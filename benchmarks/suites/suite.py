"""The asv suites: one class for every function, made from its specifications.

A cell of the grid (variant, layer, dtype, batch, backend) runs in a process of its own. Its setup
runs the kernel at the borders that the specification names and compares the results with the
float64 oracle; only a kernel that agrees is timed. Of the timed calls some are compared as well
(judging.py). What becomes of it is noted in the run's journal.
"""

import contextlib
import functools
import importlib
import inspect
import itertools
import secrets

import numba
import numpy as np

import kernels
from reference import FAMILIES, OPERATIONS, Case

from ..checking.comparison import as_tuple, on_device, poisoned
from ..running import journal
from ..running.journal import CORRECT, FAILED, SKIPPED, STARTED, TIMED, WRONG
from . import grid, owned, workloads
from .inputs import drawn, sampled
from .judging import Judge
from .owned import Wrong, timer_of
from .owned import elsewhere as transfers
from .trial import Trial
from .tricks import named

# asv forks every cell from this process: what is imported here is not imported a thousand times. No
# kernel runs, no thread starts and no device is touched by it. Numba makes its typing tables, which
# take 0.3 s, at the first compilation, here of a function that does nothing.
for _module in kernels.BACKENDS.values():
    with contextlib.suppress(ImportError):
        importlib.import_module(_module)
numba.njit("void()")(lambda: None)

DRAWS = 8  # samples that show which parameters are passed


class _Suite:
    """One function over its grid; `suite` makes the subclasses."""

    version = "1"
    rounds = 1
    # What the clock shows of a cell is the median of these samples, from a process that has settled
    # (owned.settle). Two more would move it by 0.2 % in half of all cells, by 2.5 % in one of 20.
    warmup_time = 0.02
    sample_time = 0.004
    repeat = (3, 8, 0.1)  # at least, at most, seconds
    timeout = sum(journal.LIMITS.values())  # asv's own, beside ours
    elsewhere = False
    judge, functions = None, {}
    seed = None  # of the judged inputs, where they are drawn again

    @classmethod
    def runs_on(cls, module):
        """Whether a backend has what is timed."""
        return all(hasattr(module, operation.name) for operation in cls.operations.values())

    @classmethod
    def times(cls, variant, dtype, module):
        """Whether a variant that the backend offers is timed there: where it permits TF32, only
        where that may make a difference, in float32 and elsewhere than on the host.
        """
        operation = cls.operations[variant]
        if getattr(operation, "precision", None) and not (dtype == "float32" and transfers(module)):
            return False
        return offers(module, operation)

    def setup(self, *values):
        """Prepares `call` and `timer`; raises Wrong where the kernel disagrees with the oracle."""
        self.cell = (type(self).__name__, *values)
        self.note(STARTED)
        try:
            with journal.limited(STARTED):
                self._prepare(**dict(zip(self.axes, values, strict=True)))
                owned.settle()
        except NotImplementedError as reason:
            self.note(SKIPPED, reason=str(reason))
            raise
        except Exception as error:
            self.failed(error)
            raise
        self.note(CORRECT)

    def note(self, state, **more):
        """Writes into the run's journal what has become of the cell."""
        more["version"] = self.version
        journal.note(self.cell, state, elsewhere=self.elsewhere, **more)

    def failed(self, error):
        if isinstance(error, Wrong):
            self.note(WRONG, reason=str(error), seed=self.seed)
        else:
            self.note(FAILED, reason=f"{type(error).__name__}: {error}")

    def timed(self, outcome):
        """Notes what asv found: {"samples": seconds a call, "number": calls in each}."""
        self.note(TIMED, **outcome)

    def time_call(self, *_):
        """What asv's other tools (profile, check) call; `Timed` times `call` itself."""
        self.call()

    def load(self, backend, function):
        """The backend as a module; sets `timer`, and whether it computes `elsewhere`."""
        users = grid.is_users(backend)
        self.functions = owned.functions() if users else {}
        module = _load(backend, function)
        owned.replaced(self.functions)
        self.timer, self.elsewhere = timer_of(module), transfers(module)
        return module

    def _prepare(self, *, layer, dtype, backend, variant="", batch=0):
        operation, layer = self.operations[variant], self.layers[layer]
        if batch and batch not in self.batches(layer):
            raise NotImplementedError(f"{batch} is not a batch size of {layer.name}")
        module = self.load(backend, operation.function.__name__)
        if not self.times(variant, dtype, module):
            raise NotImplementedError(f"{backend} has no {operation} in {dtype}")
        draw = functools.partial(drawn, operation, layer.at(dtype=dtype, batch=batch))
        try:
            check_borders(operation, module, dtype)
            timed = Trial(operation, module, sampled(operation, layer, dtype, batch))
        except Wrong as complaint:
            owned.replaced(self.functions)
            raise Wrong(named(operation, module, draw, str(complaint))) from None
        self.call = timed.call
        self.be_judged(timed, draw, lambda inputs: Trial(operation, module, inputs, timed))

    def be_judged(self, timed, draw, trial_of):
        """Has the timed calls judged, by a trial of inputs of a seed that nobody knows yet."""
        self.seed = secrets.randbits(32) if self.seed is None else self.seed
        judged = trial_of(draw(self.seed))
        self.judge = Judge(timed, judged, draw, self.warmup_time, self.repeat[0])

    def judged(self, outcome=None):
        """Raises Wrong where the calls that were timed were not true; unless any were, calls it."""
        if self.judge:
            self.judge.verdict(min(outcome["samples"]) if outcome else 0.0)
        owned.replaced(self.functions)


def offers(module, operation):
    """Whether a backend has the function, with every parameter that this variant passes and others
    of the function do not.
    """
    if not hasattr(module, operation.name):
        return False
    own = own_parameters(operation.name, getattr(operation, "variant", ""))
    if not own:
        return True
    known = inspect.signature(getattr(module, operation.name)).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in known) or own <= {p.name for p in known}


@functools.cache
def own_parameters(function, variant):
    """The names of the parameters that samples of a variant pass, but not all samples of all."""
    rng, passed = np.random.default_rng(0), {}
    for o in (o for o in OPERATIONS.values() if o.name == function):
        case = Case("names", dict.fromkeys(o.sizes, 1))
        passed[o.variant] = [set(o.sample(rng, case)) for _ in range(DRAWS)]
    always = set.intersection(*itertools.chain(*passed.values())) if passed else set()
    return set().union(*passed.get(variant, ())) - always


def check_borders(operation, module, dtype):
    """Raises Wrong where the module disagrees with the oracle at a border of the operation."""
    for description, border in operation.edges(np.dtype(dtype)):
        with np.errstate(all="ignore"):
            checked(operation, module, border, f" ({description})")


def checked(operation, module, inputs, where=""):
    """The module's function bound to device copies of the inputs, its outputs allocated.

    Raises Wrong, saying `where`, if its result disagrees with the float64 oracle.
    """
    call = bound(operation, module, inputs)
    results = operation.collect(call.keywords, call())
    module.synchronize()
    complaint = operation.disagreement(inputs, tuple(owned.host(module, r) for r in results))
    if complaint:
        raise Wrong(complaint + where)
    return call


def bound(operation, module, inputs):
    """The same, whose result nobody has looked at."""
    function = getattr(module, operation.function.__name__)

    # Every update rule of the reference stays finite and normal however often it is repeated on one
    # gradient, so the timed calls may go on from where the checked one ended.
    arguments, out = on_device(module, inputs), {}
    if operation.returns:
        first = function(**(on_device(module, inputs) if operation.in_place else arguments))
        given = poisoned(module, map(module.to_host, as_tuple(first)))
        out["out"] = given if isinstance(first, tuple) else given[0]
    return functools.partial(function, **arguments, **out)


def _load(backend, function):
    try:
        module = kernels.load(grid.backend_path(backend))
    except kernels.Unavailable as reason:
        raise NotImplementedError(str(reason)) from None
    if not hasattr(module, function):
        raise NotImplementedError(f"{backend} has no {function}")
    return module


def suite(name, operations, axes, layers, batches=grid.batches, base=_Suite, **attributes):
    """An asv benchmark class of one function: `operations` by variant, over the product of `axes`.

    `layers` are found by their names in axes["layer"]; batches(layer) are the batch sizes of one of
    them, because the product of the axes also pairs a layer with the full batches of others.
    Further attributes are asv's.
    """
    attributes |= {
        "operations": operations,
        "axes": axes,
        "layers": layers,
        "batches": staticmethod(batches),
        "params": [list(values) for values in axes.values()],
        "param_names": list(axes),
        "__doc__": next(iter(operations.values())).function.__doc__,
    }
    return type(name, (base,), attributes)


def suites(family):
    """The suites of a family, by the names of its functions."""
    functions = {}
    for operation in FAMILIES[family]:
        functions.setdefault(operation.name, {})[operation.variant] = operation
    layers = workloads.layers_of(family)
    batches = (lambda layer: workloads.BATCHES) if family in workloads.MORE else grid.batches
    return {
        name: suite(name, operations, grid.axes(family, operations), layers, batches)
        for name, operations in functions.items()
    }
