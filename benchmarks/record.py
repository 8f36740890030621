"""A session on a GPU: time every cell, check every operation, keep it all under results/<machine>/.

It needs numpy, numba and cupy, neither network nor git, and says what it leaves out where more is
missing. Every measurement is kept as soon as it is made, the training steps first, and a later call
goes on where one was stopped, by whatever. `python -m benchmarks pack` makes the file that carries
code, data and commit to a machine without network.
"""

import contextlib
import dataclasses
import faulthandler
import itertools
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import kernels
from reference import FAMILIES

from . import (
    bench_network,
    crossings,
    gpu,
    journal,
    results,
    suite,
    training_step,
    workloads,
)
from .peers import contenders, measure
from .session import Session, axes, slug, suites

BUDGET = 420  # seconds after which nothing further is begun
PATIENCE = 120  # seconds after which a measurement hangs: the process ends, a later one goes on
ATTEMPTS = 2  # to measure what a process has died in
ROUNDS = 5  # beside other libraries
LOST = 3  # exit status: another process can go on
CHECKED_AT = ("digits-64x128", 16)
PEERS = ("torch", "torch graph", "jax.jit")
LAYERS = ("mnist-784x512", "mnist-512x10", "mnist-512x512", "wide-2048x2048", "16M-4095x4096")


class Lost(RuntimeError):
    """The card no longer answers this process."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """What a measurement needs: the backend and its suites, how a cold call is timed, where to note
    what is left out.
    """

    module: object
    suites: list
    flush: gpu.Flush
    missing: list


@dataclasses.dataclass(frozen=True)
class Task:
    """One measurement: `names` begin its entry among those of `kind`, work() gives the rest."""

    kind: str
    key: str
    names: dict
    work: Callable[[], dict]


def record(name=None, module=None, card=gpu.card):
    """Runs the session, prints its table, and returns the path of asv's result file.

    name: of the machine; module: the backend of the GPU, `card` its description. Raises
    kernels.Unavailable where there is none, ValueError where the session is finished already, Lost
    where the card no longer answers.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes all memory
    until = time.monotonic() + BUDGET
    module, described = module or kernels.load(gpu.BACKEND), card()
    timed = list(suites(module))
    session = Session(name or slug(described["name"]), described, timed)
    found = session.found
    found |= {"missing": [], "cache released": gpu.release_cache(), "empty": gpu.empty(module)}
    found["clocks"].append(gpu.clocks())
    flush = gpu.Flush(module, described.get("l2CacheSize"))
    bench = Bench(module, timed, flush, found["missing"])
    try:
        with terminable():
            found["finished"] = all(_run(stage, bench, session, until) for stage in STAGES)
    finally:
        _progress()
        found["clocks"].append(gpu.clocks())
        try:
            session.save()
            crossings.keep(session.path.parent, described["name"], found["crossings"])
        finally:
            print(_closing(session))
    return session.path


def _run(stage, bench, session, until):
    """Does what is not done of a stage; returns whether nothing is left to do."""
    name = stage.__name__
    if time.monotonic() > until:
        return False
    if session.died(name) >= ATTEMPTS:
        bench.missing.append(f"{name}: the process died before it began")
        return True
    try:
        with session.attempt(name):
            tasks = list(stage(bench))
    except Exception as error:  # of a library, say: the other stages go on
        bench.missing.append(f"{name}: {type(error).__name__}: {error}")
        return True
    for task in tasks:
        if task.key in session.done:
            continue
        if time.monotonic() > until:
            return False
        _progress(f"{name}: {task.key}")
        entry = _entry(task, session)
        session.add(task.kind, {"key": task.key, **entry})
        if entry["verdict"].startswith(journal.FAILED):
            _still_answers(bench.module)
    return True


def _entry(task, session):
    """What is kept of a task, whatever comes of it."""
    if session.died(task.key) >= ATTEMPTS:
        reason = f"the process died in it {ATTEMPTS} times"
        return task.names | {"verdict": f"{journal.FAILED}: {reason}"}
    with session.attempt(task.key), _watched():
        try:
            entry = task.names | {"verdict": journal.CORRECT} | task.work()
            return json.loads(json.dumps(entry))  # what cannot be kept fails here and now
        except NotImplementedError as reason:
            verdict = f"{journal.SKIPPED}: {reason}"
        except suite.Wrong as complaint:
            verdict = f"{journal.WRONG}: {complaint}"
        except Exception as error:  # of one kernel: the others are measured all the same
            verdict = f"{journal.FAILED}: {type(error).__name__}: {error}"
    return task.names | {"verdict": verdict}


def _still_answers(module):
    """Raises Lost after an error that the card keeps for the rest of the process."""
    try:
        module.synchronize()
    except ValueError:
        pass  # a label was out of range
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise Lost(f"the card no longer answers ({reason}): call again, it goes on") from None


@contextlib.contextmanager
def _watched():
    """Ends the process where a measurement hangs: no exception reaches a wait for the card."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def terminable():
    """SIGTERM, which is sent where time is over, ends the session as Ctrl-C does."""

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- the stages: each a list of tasks ------------------------------------------------------------


def training_steps(bench):
    """Whole training steps, and the transfers of their batches."""
    return _cells(bench, "network")


def ceilings(bench):
    """What bounds all others."""
    return _cells(bench, "roofline")


def operations(bench):
    """Every cell of the families."""
    for operation in itertools.chain(*FAMILIES.values()):
        if not hasattr(bench.module, operation.name):
            bench.missing.append(f"{operation}: the backend does not have it")
    return _cells(bench, *FAMILIES)


def _cells(bench, *families):
    for family, function, cls in bench.suites:
        for values in itertools.product(*axes(cls).values()) if family in families else ():
            cell, _ = results.key_of(function, values)
            if cell.batch and cell.batch not in cls.batches(cls.layers[cell.layer]):
                continue  # the full batch of another workload
            key = " ".join(map(str, (function, *values[:-1])))
            names = {"cell": dataclasses.asdict(cell), "cold": None, "queued": None}
            names |= {"samples": None, "number": None}
            yield Task("cells", key, names, partial(_timed, bench, cls, cell))


def _timed(bench, cls, cell):
    """Warm and cold times of a call, once its answer was checked."""
    call = _checked(bench.module, cls, cell)
    cold, queued = bench.flush.cold(_queueing(call))
    samples, number = gpu.warm(bench.module, call)
    return {
        "cold": statistics.median(cold),
        "queued": queued,
        "samples": samples,
        "number": number,
    }


def _checked(module, cls, cell):
    """The call of a cell, once its answer was checked."""
    if cell.function == bench_network.TRANSFER:
        return bench_network.transfer(module, cell.layer, cell.dtype, cell.batch)
    operation, check = cls.operations[cell.variant], suite.checked
    if cell.function == bench_network.STEP:
        operation, check = training_step.of_network(cell.layer), training_step.checked
    inputs = suite.sampled(operation, cls.layers[cell.layer], cell.dtype, cell.batch or 0)
    return check(operation, module, inputs)


def _queueing(call):
    """Of a network's step the part that queues its work, without the wait for its loss."""
    network = getattr(call.func, "__self__", None) if isinstance(call, partial) else None
    if not hasattr(network, "_queue"):
        return call
    x, labels = call.args
    return partial(network._queue, x, labels, None, len(x))


def steps_beside(bench):
    """Training steps beside the libraries."""
    return _beside(bench, lambda name: name == training_step.NAME)


def operations_beside(bench):
    """Single operations beside the libraries."""
    return _beside(bench, lambda name: name != training_step.NAME)


def _beside(bench, chosen):
    found, missing = contenders.available({gpu.BACKEND: bench.module}, "cuda")
    bench.missing.extend(line for line in missing if line not in bench.missing)
    found = [found[0], *(c for c in found[1:] if c.name in PEERS)]
    for operation, layer, batch in measure.grid() if found[1:] else ():
        if chosen(operation.name) and layer.name in (*LAYERS, *training_step.NETWORKS):
            key = f"beside {operation} {layer.name} {batch or ''}".strip()
            names = measure.record(operation, layer, batch, {}, {})
            work = partial(measure.cell, found, operation, layer, batch, ROUNDS)
            yield Task("peers", key, names, work)


def both_ways(bench):
    """The ways of the backend for small work and for large, at a ladder of sizes."""
    for rung in crossings.ladders() if hasattr(bench.module, "training") else ():
        names = {"sizes": rung.sizes, "seconds": None}
        work = partial(crossings.both, bench.module, rung)
        yield Task("crossings", f"both ways of {rung.name}", names, work)


def borders(bench):
    """A check of every operation, at its borders too."""
    layer, batch = workloads.layers()[CHECKED_AT[0]], CHECKED_AT[1]
    known = [op for op in itertools.chain(*FAMILIES.values()) if hasattr(bench.module, op.name)]
    for operation in known:
        for dtype in ("float32", "float64"):
            work = partial(_agreed, bench.module, operation, layer, dtype, batch)
            names = {"operation": str(operation), "dtype": dtype}
            yield Task("borders", f"borders of {operation}, {dtype}", names, work)


def _agreed(module, operation, layer, dtype, batch):
    suite.check_borders(operation, module, dtype)
    suite.checked(operation, module, suite.sampled(operation, layer, dtype, batch))
    return {}


STAGES = (
    *(training_steps, ceilings, steps_beside),
    *(operations, both_ways, operations_beside, borders),
)


# --- what is said --------------------------------------------------------------------------------


def _closing(session):
    """The table, and where everything is kept."""
    if not session.path.is_file():
        return "nothing could be kept"
    try:
        from . import session_table

        text = session_table.render(results.read(session.path), session.found)
    except ModuleNotFoundError as error:
        text = f"no table without {error.name}: python -m benchmarks report --machine NAME has it"
    folder = session.path.parent
    if session.found["finished"]:
        return f"{text}\n\nkept in {folder}: commit it, and every report shows these columns"
    return f"{text}\n\nnot finished; what was measured is kept in {folder}: call again, it goes on"


def _progress(text=""):
    """One line that is overwritten; on a terminal alone."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)
