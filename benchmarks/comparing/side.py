"""A process of one side of a comparison: answers questions, a line of JSON each, until none comes.

Its `kernels` are those of its side; `reference` and this harness are those of head on both sides.
"""

import contextlib
import functools
import gc
import itertools
import json
import os
import sys
import zlib

import numpy as np

import kernels
from reference import FAMILIES

from ..running import journal, runner
from ..suites import grid, suite
from . import machine_code

WARMING = 4  # a call before so many timed ones: meanwhile the other process had the caches


@functools.cache
def cells():
    """{name: (suite class, values, the names that select it)} of the cells that are compared.

    Those of the grid that compute on the host; of a backend that is the same on both sides, because
    it is no kernel of ours, one of every family, as a control.
    """
    found = {}
    for family, backend in itertools.product(FAMILIES, grid.backends()):
        try:
            module = kernels.load(grid.backend_path(backend))
        except kernels.Unavailable:
            continue
        if suite.transfers(module):
            continue
        for function, cls in runner.suites(family):
            for values in itertools.product(*cls.axes.values()):
                cell = dict(zip(cls.axes, values, strict=True))
                layer, batch = cls.layers[cell["layer"]], cell.get("batch", 0)
                if values[-1] != backend or (batch and batch not in cls.batches(layer)):
                    continue
                names = {family, function, *map(str, values), layer.name.partition("-")[0]}
                found[" ".join([function, *(str(v) for v in values if v)])] = cls, values, names
                if not machine_code.is_ours(module):
                    break
            if not machine_code.is_ours(module):
                break
    return found


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
                machine_code.digest(kernels.load(grid.backend_path(values[-1])), cls.__name__),
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
        except NotImplementedError as reason:
            return [suite.SKIPPED, str(reason), 0]
        except suite.Wrong as complaint:
            return [suite.WRONG, str(complaint), 0]
        except Exception as error:
            return [suite.FAILED, f"{type(error).__name__}: {error}", 0]
        return [suite.CORRECT, "", min(_seconds(cell.call, cell.timer, 1) for _ in range(5))]

    def prepare(self, name, seed):
        """Makes the inputs of a cell, which follow from the seed."""
        self._call = None  # whose arrays may be large
        cls, values, _ = cells()[name]
        cell = dict(zip(cls.axes, values, strict=True))
        operation = cls.operations[cell.get("variant", "")]
        case = cls.layers[cell["layer"]].at(dtype=cell["dtype"], batch=cell.get("batch", 0))
        module = kernels.load(grid.backend_path(cell["backend"]))
        inputs = operation.sample(np.random.default_rng([seed, zlib.crc32(name.encode())]), case)
        self._call, self._timer = suite.bound(operation, module, inputs), suite.timer_of(module)

    def sample(self, number):
        """The seconds a call, of so many in a row."""
        gc.disable()
        try:
            _seconds(self._call, self._timer, -(-number // WARMING))
            return _seconds(self._call, self._timer, number)
        finally:
            gc.enable()


def _seconds(call, timer, number):
    began = timer()
    for _ in itertools.repeat(None, number):
        call()
    return (timer() - began) / number


def main():
    questions, answers = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a kernel prints is no answer
    side = Side()
    for line in questions:
        question, *arguments = json.loads(line)
        try:
            with contextlib.ExitStack() as limits:
                if question in ("prepare", "sample"):  # the cell sets its own while it is checked
                    limits.enter_context(journal.limited(journal.CORRECT))
                answer = {"answer": getattr(side, question)(*arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
