"""A session on a GPU: time every cell, check every operation, keep it all under results/<machine>/.

It needs numpy, numba and cupy, neither network nor git, and says what it leaves out where more is
missing. Every measurement is kept as soon as it is made, the training steps first, and a later call
goes on where one was stopped, by whatever. `python -m benchmarks pack` makes the file that carries
code, data and commit to a machine without network.
"""

import contextlib
import faulthandler
import json
import os
import signal
import sys
import time

import kernels

from ..reports import results
from ..suites import suite
from . import crossings, gpu, journal
from .session import Session, slug, suites
from .stages import STAGES, Bench

BUDGET = 420  # seconds after which nothing further is begun
PATIENCE = 120  # seconds after which a measurement hangs: the process ends, a later one goes on
ATTEMPTS = 2  # to measure what a process has died in
LOST = 3  # exit status: another process can go on


class Lost(RuntimeError):
    """The card no longer answers this process."""


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
    found["limits"] = (
        module.runtime.limits.current().origin if hasattr(module, "runtime") else "none"
    )
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
            if found["finished"]:  # or the next call would go on by other limits
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
        with session.attempt(name), _watched():
            tasks = list(stage(bench))
    except Exception as error:  # of a library, say: the other stages go on
        bench.missing.append(f"{name}: {type(error).__name__}: {error}")
        return True
    tasks = [task for task in tasks if task.key not in session.done]
    for task in tasks:
        if time.monotonic() > until:
            return False
        _progress(f"{name}: {task.key}")
        entry = _entry(task, session)
        session.add(task.kind, {"key": task.key, **entry})
        if entry["verdict"].startswith(journal.FAILED):
            _still_answers(bench.module)
    _progress()
    print(f"{name}: {len(tasks)} measured", flush=True)
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


def _closing(session):
    """The table, and where everything is kept."""
    if not session.path.is_file():
        return "nothing could be kept"
    try:
        from ..reports import session_table

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
