"""Runs through asv itself: of kernels that die, hang or are interrupted, each at one batch size."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from textwrap import dedent

import pytest

from benchmarks.reports import report
from benchmarks.running import journal, runner
from benchmarks.suites import workloads

# Softmax of one layer at five batch sizes, by the user's backend alone; what is kept lies apart.
DRIVER = """
import signal, sys
from pathlib import Path
from benchmarks import __main__
from benchmarks.reports import results
from benchmarks.running import journal, runner

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
place = Path(sys.argv[1])
journal.FOLDER, results.RECORDED = place / "journal", place / "recorded"
runner.LOG, runner.CONFIG = place / "run.log", place / "asv.conf.json"
available, selection = runner.available, runner.selection
runner.available = lambda: {"mine": available()["mine"]}
runner.selection = lambda *given: [g for g in selection(*given) if "moons-16x2" in g.names]
sys.exit(__main__.main(["run", "--backend", str(place / "mine.py"), "--only", "softmax"]))
"""
# The first call allocates the result, the second is checked, the third is timed; so are the borders
# of other shapes before.
KERNEL = """
import collections, ctypes, os, sys, time
import reference

calls = collections.Counter()

def softmax(logits, *, out=None):
    calls[logits.shape] += 1
    if calls[logits.shape] > 2:
        disaster(len(logits))
    return reference.softmax(logits, out=out)

def disaster(batch):
    {}
"""


@contextmanager
def running(place, disaster):
    """The run of a backend, as a process in a group of its own."""
    (place / "mine.py").write_text(KERNEL.format(dedent(disaster).replace("\n", "\n    ")))
    settings = runner.CONFIG.read_text().replace('": "."', f'": "{workloads.ROOT}"')
    settings = settings.replace('"benchmarks"', f'"{workloads.ROOT / "benchmarks"}"')
    (place / "asv.conf.json").write_text(settings)
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(place)],
        cwd=workloads.ROOT,
        env={**os.environ, "HOME": str(place)},  # asv keeps the names of machines there
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def outcomes(place):
    """{batch: (state, reason)} of the run."""
    (path,) = (place / "journal").glob("*.jsonl")
    found = journal.outcomes(path)
    return {cell[3]: (line["state"], line.get("reason")) for cell, line in found.items()}


def test_a_kernel_that_dies_while_it_is_timed_has_failed(house):
    disaster = """
    if batch == 16: ctypes.string_at(0)
    if batch == 32: os._exit(0)
    if batch == 128: raise OSError("no such luck")
    if batch == 700: sys.exit(0)
    """
    with running(house, disaster) as process:
        said, _ = process.communicate(timeout=300)
    died = "failed", "its process died while it was timed"
    expected = {1: ("timed", None), 16: died, 32: died, 700: died}
    assert outcomes(house) == {**expected, 128: ("failed", "OSError: no such luck")}
    assert process.returncode == 1
    assert "4 cells are wrong or failed, and have no time:" in said
    assert "failed mine, softmax, float32, moons-16x2 16 and 2 more: its process died while" in said
    assert "failed mine, softmax, float32, moons-16x2 128: OSError: no such luck" in said


@pytest.mark.slow
def test_a_kernel_that_hangs_is_given_up_and_the_rest_goes_on(house):
    """It holds Python's lock, so that no exception ends it."""
    disaster = "if batch == 16: ctypes.PyDLL(None).sleep(10**6)"
    started = time.monotonic()
    with running(house, disaster) as process:
        said, _ = process.communicate(timeout=1800)
    limit = journal.LIMITS[journal.CORRECT]
    assert limit < time.monotonic() - started < limit + 120
    late = "failed", f"it took more than {limit} s while it was timed"
    assert outcomes(house) == {16: late, **dict.fromkeys((1, 32, 128, 700), ("timed", None))}
    assert process.returncode == 1
    assert f"moons-16x2 16: {late[1]}" in said


def test_what_was_finished_outlives_an_interruption(house):
    with running(house, "if batch == 128: time.sleep(10**6)") as process:
        end = time.monotonic() + 120
        while not open_cell(house, 128) and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("stopped; what was finished is kept: python -m benchmarks report\n")
    assert "Traceback" not in said
    assert outcomes(house) == dict.fromkeys((1, 16, 32), ("timed", None))
    text = report.render()
    assert "All 3 timed cells agree" in text


def open_cell(place, batch):
    """Whether a cell of this batch is being timed."""
    for path in (place / "journal").glob("*.jsonl"):
        last = json.loads(path.read_text().splitlines()[-1])
        return last.get("state") == journal.CORRECT and last["cell"][3] == batch
    return False
