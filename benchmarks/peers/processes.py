"""Contenders in processes of their own, of which only the one that is measured runs.

The threads of a library look for work, or yield in a circle, for up to 25 ms after a call. In one
process, with as many threads of each library as there are cores, they would hold the cores against
the library that is called next. So the processes that are not called are stopped.
"""

import multiprocessing
import os
import signal
import time

import kernels

from ..running import isa
from . import contenders, floors, rows

# The backends and the libraries of each process; one without any measures the machine.
SHARES = ((("numba",), ()), (("numpy",), ()), ((), ("torch",)), ((), ("jax",)), ((), ()))


class Library:
    """Some contenders in a process of their own, stopped unless it answers."""

    def __init__(self, ours, libraries):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, ours, libraries), daemon=True)
        self._process.start()
        theirs.close()
        self.contenders, self.missing = self._pipe.recv()
        self._signal("SIGSTOP")

    def prepare(self, number):
        """The contenders that are ready for this cell of the grid, and {another: why not}."""
        return self._ask("prepare", number)

    def sample(self, name, count):
        """The seconds a call of a contender that is ready, of so many calls."""
        return self._ask("sample", name, count)

    def pools(self):
        """measure.pools of the process."""
        return self._ask("pools")

    def ceilings(self):
        """floors.measured in the process."""
        return self._ask("ceilings")

    def instructions(self):
        """isa.told of the process. Raises RuntimeError where it is not held as it should be."""
        told, complaint = self._ask("instructions")
        if complaint:
            names = ", ".join(self.contenders) or "the ceilings"
            raise RuntimeError(f"the process of {names} is not held to {isa.held()}: {complaint}")
        return told

    def close(self):
        """Ends the process, in whatever state it is."""
        self._process.kill()
        self._process.join()

    def _ask(self, *question):
        self._signal("SIGCONT")
        try:
            self._pipe.send(question)
            return self._pipe.recv()
        except (EOFError, OSError):
            names = ", ".join(self.contenders) or "the ceilings"
            raise RuntimeError(f"the process of {names} died at {question}") from None
        finally:
            self._signal("SIGSTOP")

    def _signal(self, name):
        if hasattr(signal, name) and self._process.is_alive():  # Windows has neither
            os.kill(self._process.pid, getattr(signal, name))


def _serve(pipe, ours, libraries):
    """Answers questions until the other side closes the pipe."""
    from . import measure  # which imports this module

    began = time.monotonic()
    backends = {name: kernels.load(name) for name in ours}
    found, missing = contenders.available(backends, libraries=libraries)
    pipe.send(({contender.name: contender.trains for contender in found}, missing))
    cells, samplers = rows.grid(), {}
    while True:
        try:
            question, *arguments = pipe.recv()
        except (EOFError, OSError):
            return
        match question:
            case "prepare":
                cell = cells[arguments[0]]
                if found:
                    samplers, refused = measure.prepared(found, *cell)
                else:
                    samplers, refused = {floors.FLOOR: floors.floor(*measure.work(*cell))}, {}
                pipe.send((list(samplers), refused))
            case "sample":
                name, count = arguments
                pipe.send(samplers[name](count))
            case "pools":
                pipe.send(measure.pools())
            case "instructions":
                told = isa.told()
                pipe.send((told, isa.complaint(told, began)))
            case "ceilings":
                pipe.send(floors.measured())
