"""A process of one side of a comparison: answers questions, a line of JSON each, until none comes.

Its `kernels` are those of its side; `reference` and this harness are those of head on both sides.
"""

import contextlib
import ctypes
import functools
import gc
import itertools
import json
import os
import signal
import sys
import zlib

import numpy as np

import kernels
from reference import FAMILIES
from reference.spec import with_arrays

from ..running import journal, runner
from ..suites import grid, suite, training_step
from . import machine_code

PAGE = 4096
APART = 576  # bytes from the place of one array in its page to that of the next: 9 lines


@functools.cache
def cells():
    """{name: (suite class, values, the names that select it)} of the cells that can be compared.

    Those of the grid that compute on the host, of networks the training steps; of a backend that is
    no kernel of ours, and so the same on both sides, one of every family, as a control.
    """
    found = {}
    for family, backend in itertools.product((*FAMILIES, "network"), grid.backends()):
        try:
            module = kernels.load(grid.backend_path(backend))
        except kernels.Unavailable:
            continue
        if suite.transfers(module):
            continue
        known = (
            (cls, values)
            for _, cls in runner.suites(family)
            if family != "network" or _is_step(cls)
            for values in itertools.product(*cls.axes.values())
            if values[-1] == backend and _is_offered(cls, values)
        )
        for cls, values in itertools.islice(known, None if machine_code.is_ours(module) else 1):
            layer = dict(zip(cls.axes, values, strict=True))["layer"]
            names = {family, cls.__name__, *map(str, values), layer.partition("-")[0]}
            found[" ".join([cls.__name__, *(str(v) for v in values if v)])] = cls, values, names
    return found


def _is_step(cls):
    return cls.__name__ == training_step.NAME


def _is_offered(cls, values):
    cell = dict(zip(cls.axes, values, strict=True))
    return "batch" not in cell or cell["batch"] in cls.batches(cls.layers[cell["layer"]])


class Side:
    """What a process answers; the methods without an underscore are the questions."""

    def cells(self, only):
        """[name, function of a backend, digest of its source] of the cells of `only`, or of all."""
        known = set().union(*(names for _, _, names in cells().values()))
        if unknown := set(only) - known:
            raise ValueError(f"--only: no {', '.join(sorted(unknown))} in the grid")
        return [
            [
                name,
                f"{cls.__name__} {values[-1]}",
                machine_code.digest(
                    kernels.load(grid.backend_path(values[-1])),
                    "network" if _is_step(cls) else cls.__name__,
                ),
            ]
            for name, (cls, values, names) in cells().items()
            if not only or names & set(only)
        ]

    def check(self, name):
        """[state, reason, seconds a call]: the cell against the oracle, as `run` checks it."""
        cls, values, _ = cells()[name]
        cell = cls()
        try:
            cell.setup(*values)
            cell.judged()
        except NotImplementedError as reason:
            return [suite.SKIPPED, str(reason), 0]
        except suite.Wrong as complaint:
            return [suite.WRONG, str(complaint), 0]
        except Exception as error:
            return [suite.FAILED, f"{type(error).__name__}: {error}", 0]
        return [suite.CORRECT, "", min(_seconds(cell.call, cell.timer, 1) for _ in range(5))]

    def prepare(self, name, seed, slowed=None):
        """Makes the inputs of a cell, which follow from the seed.

        slowed: how many times as long a call takes; 1 goes the same way, for the other side.
        """
        self._call = None  # whose arrays may be large
        cls, values, _ = cells()[name]
        cell = dict(zip(cls.axes, values, strict=True))
        case = cls.layers[cell["layer"]].at(dtype=cell["dtype"], batch=cell.get("batch", 0))
        module = kernels.load(grid.backend_path(cell["backend"]))
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if _is_step(cls):
            inputs = training_step.of_network(cell["layer"]).sample(rng, case)
            step = training_step.made(module, inputs, 0.0).step
            call = functools.partial(step, x=inputs["x"], labels=inputs["labels"])
        else:
            operation = cls.operations[cell.get("variant", "")]
            call = suite.bound(operation, module, operation.sample(rng, case))
        self._timer = suite.timer_of(module)
        self._call = functools.partial(call.func, **_placed(call.keywords))
        if slowed:
            self._call = _slowed(self._call, self._timer, slowed)

    def turn(self, number, samples):
        """The seconds a call of the quickest sample, each of so many calls in a row."""
        gc.disable()
        try:
            return min(_seconds(self._call, self._timer, number) for _ in range(samples))
        finally:
            gc.enable()


def _placed(arguments):
    """The arguments, each array at its own place in a page, the same one in every process: where
    NumPy puts them is luck, by which the same kernel is 2 to 5 % faster or slower.
    """
    places = itertools.count()

    def placed(array):
        room = np.empty(array.nbytes + 2 * PAGE, np.uint8)
        start = -room.ctypes.data % PAGE + next(places) * APART % PAGE
        copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    return with_arrays(placed, arguments)


def _slowed(call, timer, factor):
    """The call, and a wait until it has taken so many times as long."""

    def slower():
        began = timer()
        call()
        until = began + factor * (timer() - began)
        while timer() < until:
            pass

    return slower


def _seconds(call, timer, number):
    began = timer()
    for _ in itertools.repeat(None, number):
        call()
    return (timer() - began) / number


def main():
    with contextlib.suppress(AttributeError, TypeError, OSError):  # Linux alone has it
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # with its parent, also where it is stopped
    questions, answers = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a kernel prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends it
    side = Side()
    for line in questions:
        question, *arguments = json.loads(line)
        try:
            with contextlib.ExitStack() as limits:
                if question in ("prepare", "turn"):  # the cell sets its own while it is checked
                    limits.enter_context(journal.limited(journal.CORRECT))
                answer = {"answer": getattr(side, question)(*arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
