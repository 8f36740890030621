"""All that a card alone can show, in one go: the tests that need it, compute-sanitizer, a session.

Every stage is a process of its own with a share of the time, and says how it ended; one that fails,
crashes or hangs stops none of the others. What each has printed lies in .cache/card/.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import kernels

from ..suites import workloads
from . import gpu, machine
from .record import LOST, terminable

LOGS = workloads.ROOT / ".cache" / "card"
GRACE = 20  # seconds for a stage to keep what it has, once its time is over
LEAST = 10  # seconds without which none is begun
SHOWN = 12  # lines of what a stage has printed
MOST_TIMES = 20  # that a stage is begun
PASSED = "passed"
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SANITIZER = "compute-sanitizer"
EXERCISE = ("tests/exercise_cuda.py", "gpu", "float32")
TESTS = ("-m", "pytest", "-q", "-m", "gpu")
MANY = ("tests", "--ignore=tests/benchmarks", "--ignore=tests/gpu")
ALONE = ("tests/gpu",)  # what they measure of the card, others would change
WORKERS = 8  # processes that test, at most: most of a test is the host's work


@dataclass(frozen=True)
class Stage:
    """A process: its share of the time, what it prints when it went well, the exit statuses after
    which it is begun again, what it cannot do without.
    """

    name: str
    command: tuple
    share: float
    finished: str = ""
    again: tuple = ()
    missing: str = ""


def stages():
    """All of them, the session last: it takes what is left of the time."""
    python, no_pytest = sys.executable, ""
    if not importlib.util.find_spec("pytest"):
        no_pytest = "pytest is not installed"
    shared = (
        ("-n", str(min(WORKERS, int(machine.cores())))) if importlib.util.find_spec("xdist") else ()
    )
    yield Stage("tests", (python, *TESTS, *MANY, *shared), 0.25, missing=no_pytest)
    yield Stage("card-tests", (python, *TESTS, *ALONE), 0.1, missing=no_pytest)
    tool = shutil.which(SANITIZER) or shutil.which(SANITIZER, path="/usr/local/cuda/bin")
    no_tool = "" if tool else f"{SANITIZER} is not installed, it comes with the CUDA toolkit"
    for name in TOOLS:
        command = (str(tool), "--tool", name, "--error-exitcode", "9", python, *EXERCISE)
        yield Stage(name, command, 0.07, "FINISHED", missing=no_tool or no_pytest)
    record = (python, "-m", "benchmarks", "record")
    # After a card that no longer answers, a hang or a crash it goes on in another process.
    yield Stage("record", record, 1.0, again=(LOST, 1, -signal.SIGSEGV, -signal.SIGABRT))


def run(minutes):
    """Runs all stages in so many minutes; returns how many failed or were left out.

    Raises kernels.Unavailable where there is no card.
    """
    kernels.load(gpu.BACKEND)
    LOGS.mkdir(parents=True, exist_ok=True)
    until, bad = time.monotonic() + 60 * minutes, 0
    with terminable():
        for stage in stages():
            left = until - time.monotonic() - GRACE
            seconds = min(left, 60 * minutes * stage.share)
            if stage.missing or left < LEAST:
                outcome, said = f"left out: {stage.missing or 'no time was left'}", []
            else:
                outcome, said = _outcome(stage, seconds)
            bad += outcome != PASSED
            print(
                f"{stage.name}: {outcome}", *(f"    {line}" for line in said), sep="\n", flush=True
            )
    print(f"what was printed lies in {LOGS}")
    return bad


def _outcome(stage, seconds):
    """Runs a stage; (how it ended, the last lines that it has printed)."""
    log, until = LOGS / f"{stage.name}.log", time.monotonic() + seconds
    log.write_text("")
    for _ in range(MOST_TIMES):
        status = _run(stage.command, log, until - time.monotonic())
        if status not in stage.again or time.monotonic() > until:
            break
    said = log.read_text(errors="replace").splitlines()
    if status is None:
        outcome = f"stopped after {seconds:.0f} s, its share of the time"
    elif status:
        outcome = f"failed with exit status {status}"
    else:
        outcome = PASSED if stage.finished in ("", *said) else "ended before its end"
    return outcome, said[-SHOWN:]


def _run(command, log, seconds):
    """The exit status of a command, None if its time was over before it ended."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=workloads.ROOT, stdout=file, stderr=file, start_new_session=True
        )
    try:
        return process.wait(max(1, seconds))
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:  # its time is over, or ours
            _end(process)


def _end(process):
    """Ends a process and those that it has started, kindly at first."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, sent)
            process.wait(GRACE)
