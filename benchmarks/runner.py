"""Runs the suites through asv, a family at a time: an interruption loses one family at most."""

import importlib
import itertools
import os
import re
import subprocess
import sys
import time

from asv.machine import Machine, MachineCollection

import kernels
from reference import FAMILIES

from . import grid, suite, workloads
from .plugin import THREADS, cores

MACHINE = "this-machine"
LOG = workloads.ROOT / ".asv" / "run.log"


def run(only=(), machine=MACHINE):
    """Times the roofline and the grid, or what `only` names of it; returns how many cells failed.

    only: names of families, functions, variants, workloads or layers. Raises ValueError where no
    cell has such a name and RuntimeError where asv could not run.
    """
    for name in THREADS:
        os.environ.setdefault(name, cores())
    modules = available()
    plan = {family: _selection(family, only, modules) for family in FAMILIES}
    plan = {family: chosen for family, chosen in plan.items() if chosen}
    if not plan:
        raise ValueError(f"--only: nothing in the grid is called {' or '.join(only)}")
    plan = {"roofline": _selection("roofline", (), modules), **plan}

    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("")
    MachineCollection.save(machine, {**Machine.get_defaults(), "machine": machine})
    failed = 0
    for family, chosen in plan.items():
        started = time.time()
        expressions = itertools.chain.from_iterable(("-b", e) for e in chosen)
        _asv(
            *("run", "-E", "checkout", "--set-commit-hash", "HEAD", "--machine", machine),
            *expressions,
            progress=lambda f=family, c=chosen, s=started: _progress(f, sum(c.values()), s),
        )
        failed += sum(
            not path.read_text().startswith((suite.CORRECT, suite.SKIPPED))
            for path in _verdicts_since(started)
        )
    return failed


def available():
    """The backends that can run here, by name, as modules."""
    modules = {}
    for backend in grid.backends():
        try:
            modules[backend] = kernels.load(grid.backend_path(backend))
        except kernels.Unavailable as reason:
            print(f"not timed: {reason}")
    return modules


def _selection(family, only, modules):
    """{regular expression that selects a layer of a function in asv: its number of cells}."""
    name = f"bench_{family}"
    suites = vars(importlib.import_module(f".{name}", __package__))
    chosen = {}
    for function, cls in suites.items():
        if not hasattr(cls, "operations"):
            continue
        axes = cls.axes
        backends = [
            backend
            for backend in axes["backend"]
            if all(hasattr(modules.get(backend), o.name) for o in cls.operations.values())
        ]
        for layer, variant in itertools.product(axes["layer"], axes.get("variant", [""])):
            names = (family, function, variant, layer, layer.partition("-")[0])
            if not backends or (only and not set(only) & set(names)):
                continue
            batches = cls.batches(cls.layers[layer]) if "batch" in axes else []
            values = [repr(v) for v in (variant, layer) if v]
            values.append(_either(axes["dtype"]))
            values += [_either(batches)] if batches else []
            values.append(_either(backends))
            pattern = rf"^{name}\.{function}\.time_call\({', '.join(values)}\)$"
            chosen[pattern] = len(axes["dtype"]) * max(1, len(batches)) * len(backends)
    return chosen


def _either(values):
    return f"({'|'.join(re.escape(repr(value)) for value in values)})"


def _verdicts_since(started):
    return [path for path in suite.VERDICTS.glob("*") if path.stat().st_mtime >= started]


def _progress(family, total, started):
    done, seconds = len(_verdicts_since(started)), time.time() - started
    end = "\r" if sys.stdout.isatty() else "\n"
    print(f"{family:12} {done:4} of {total} cells, {seconds:3.0f} s", end=end, flush=True)


def _asv(*arguments, progress=None):
    """Runs asv, its output in the log. asv returns 2 where benchmarks failed."""
    command = [sys.executable, "-m", "asv", *arguments]
    with LOG.open("ab") as log:
        process = subprocess.Popen(command, cwd=workloads.ROOT, stdout=log, stderr=log)
    try:
        while progress:
            try:
                process.wait(timeout=1 if sys.stdout.isatty() else 10)
                progress()
                break
            except subprocess.TimeoutExpired:
                progress()
    finally:
        code = process.wait()  # Ctrl-C reaches asv as well, and it cleans up
    if progress and sys.stdout.isatty():
        print()
    if code not in (0, 2):
        last = LOG.read_text().strip().splitlines()[-1:]
        raise RuntimeError(f"asv {arguments[0]} failed ({' '.join(last)}); all of it is in {LOG}")
