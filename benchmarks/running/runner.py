"""Runs the suites through asv and shows how far they are.

Every cell notes in the run's journal what became of it, so that an interruption loses none. asv
writes its own results when it ends, so it is called for PART cells at a time: it loses no more.
"""

import contextlib
import dataclasses
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
import time

import kernels
from reference import FAMILIES, OPERATIONS

from ..reports import results, roofline
from ..suites import ceilings, grid, workloads
from ..suites.suite import transfers
from . import ahead, drift, isa, journal
from . import machine as surroundings
from .progress import Progress

PART, LEAST = 400, 100  # asv takes seconds to begin: small families are one part together
AGAIN = 2  # times that the ceilings are timed again where a cell exceeds them
LOG = workloads.HOME / ".asv" / "run.log"
CONFIG = workloads.ROOT / "asv.conf.json"


def run(only=(), machine=None, done=None):
    """Times the roofline and the grid, or what `only` names of it; returns how many cells are
    wrong, failed or implausible.

    The ceilings are timed at first, and again where a cell exceeds them: other work may have held
    the machine back just then.

    only: names of families, functions, variants, workloads or layers. done: called with the name of
    each family when all of its cells are timed, and nothing else runs; once more where the ceilings
    were timed again because of it. Raises ValueError where the grid has no such name and
    RuntimeError where asv could not run.
    """
    from asv.machine import MachineCollection  # not needed to know what is timed

    isa.check()
    machine, modules = machine or surroundings.MACHINE, available()
    families = (*FAMILIES, "network")
    groups = [group for family in families for group in selection(family, modules)]
    known = set().union(*(group.names for group in groups))
    if unknown := set(only) - known:
        raise ValueError(
            f"--only: no {', '.join(sorted(unknown))} in the grid, but {', '.join(sorted(known))}"
        )
    groups = [group for group in groups if not only or group.names & set(only)]
    roofs = list(_parts(selection("roofline", {**modules, roofline.HOST: ceilings})))
    parts = [*roofs, *_parts(groups)]

    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_text("")
    MachineCollection.save(machine, {**surroundings.hardware(), "machine": machine})
    path = surroundings.begin(machine)
    progress = Progress(_cells(parts), time.time())
    kept = f", what is found is kept in {LOG.parent}" if kernels.INSTALLED else ""
    print(f"{progress.total} cells{kept}", flush=True)
    _time(machine, parts, path, progress, done)
    doubted = {}
    for _ in range(AGAIN):
        beyond = _beyond(path)
        if not beyond:
            break
        doubted |= dict.fromkeys(beyond)
        print(
            f"{len(beyond)} times are less than the ceilings allow: these are timed again",
            flush=True,
        )
        again = dataclasses.replace(progress, total=journal.started(path) + _cells(roofs))
        _time(machine, roofs, path, again)
    for family in doubted if done else ():
        done(family)
    return sum(word in journal.BAD for word, _ in results.of_journal(path).verdicts.values())


def _cells(parts):
    return sum(group.cells for part in parts for group in part)


def _time(machine, parts, path, progress, done=None):
    drift.note()
    for part, after in itertools.zip_longest(parts, parts[1:], fillvalue=()):
        _asv(machine, part, path, progress)
        journal.close_part()
        drift.note()
        for family in _families(part) if done else ():
            if family != "roofline" and family not in _families(after):
                done(family)


def _families(part):
    """The families of a part, each once."""
    return list(dict.fromkeys(group.family for group in part))


def _beyond(path):
    """The families of the times that exceed the ceilings, disturbed or not, one for each."""
    run = results.of_journal(path)
    found = [key for key, (word, _) in run.verdicts.items() if word == journal.IMPLAUSIBLE]
    return [results.FAMILY_OF.get(cell.function, "network") for cell, _ in (*found, *run.doubtful)]


def available():
    """The backends that can run here, by name, as modules.

    Raises ValueError for a user's file that cannot be imported or has none of the functions.
    """
    functions = {operation.name for operation in OPERATIONS.values()}
    modules = {}
    for backend in grid.backends():
        try:
            modules[backend] = grid.load(backend)
        except kernels.Unavailable as reason:
            print(f"not timed: {reason}")
        else:
            if not functions & set(dir(modules[backend])):
                path = grid.backend_path(backend)
                raise ValueError(f"{path} has none of {', '.join(sorted(functions))}")
    return modules


@dataclasses.dataclass(frozen=True)
class Group:
    """The cells of one function, variant and layer, the pattern by which asv selects them, and what
    ahead.py is to compile for them.
    """

    family: str
    names: frozenset
    pattern: str
    cells: int
    compiled: tuple = ()


def suites(family):
    """(function, suite) of a family, or of the roofline."""
    module = importlib.import_module(f"benchmarks.bench_{family}")
    return [(name, cls) for name, cls in vars(module).items() if hasattr(cls, "operations")]


def selection(family, modules):
    """The groups of a family's suites, over the backends that run here and have the function."""
    for function, cls in suites(family):
        axes = cls.axes
        backends = [b for b in axes["backend"] if b in modules and cls.runs_on(modules[b])]
        if not backends:
            continue
        for variant, layer in itertools.product(axes.get("variant", [""]), axes["layer"]):
            batches = cls.batches(cls.layers[layer]) if "batch" in axes else ()
            pairs = itertools.product(axes["dtype"], backends)
            timed = [(d, b) for d, b in pairs if cls.times(variant, d, modules[b])]
            if not timed:
                continue
            dtypes, chosen = (list(dict.fromkeys(part)) for part in zip(*timed, strict=True))
            values = [_either(v) for v in ([variant], [layer], dtypes, batches, chosen)]
            ours = tuple(b for b in chosen if b in kernels.BACKENDS and not transfers(modules[b]))
            network = layer if family == "network" else ""
            yield Group(
                family,
                frozenset((family, function, variant, layer, layer.partition("-")[0])) - {""},
                rf"^bench_{family}\.{function}\.time_call\({', '.join(filter(None, values))}\)$",
                len(dtypes) * (len(batches) or 1) * len(chosen),
                (function, variant, network, tuple(dtypes), ours) if ours else (),
            )


def _parts(groups):
    """The groups in lists of at most PART cells, or a little more; of several families where all
    of these have no more than LEAST together.
    """
    part = []
    for _, found in itertools.groupby(groups, key=lambda group: group.family):
        family = list(found)
        if part and _cells([part, family]) > LEAST:
            yield part
            part = []
        for group in family:
            part.append(group)
            if _cells([part]) >= PART:
                yield part
                part = []
    if part:
        yield part


def _either(values):
    values = [re.escape(repr(value)) for value in values if value != ""]
    return f"({'|'.join(values)})" if values else ""


def _elsewhere():
    """asv's configuration of what pip installed, where there is no repository to run in."""
    settings = {
        "version": 1,
        "project": "fusebench",
        "repo": ".",
        "dvcs": "none",
        "environment_type": "virtualenv",
        "plugins": [".benchmarks.running.plugin"],
        "benchmark_dir": str(workloads.ROOT / "benchmarks"),
        "launch_method": "forkserver",
        "default_benchmark_timeout": 300,
    }
    path = LOG.with_name("asv.conf.json")
    path.write_text(json.dumps(settings, indent=4))
    return path


def _asv(machine, part, path, progress):
    """Runs asv on some groups, once all is compiled that they call; its output in the log, the
    progress on the screen.
    """
    if ahead.compile_for(part):
        drift.note()
    command = [sys.executable, "-m", "asv", "run", "-E", "checkout", "--machine", machine]
    command += ["--config", str(_elsewhere())] if kernels.INSTALLED else [
        *("--config", str(CONFIG), "--set-commit-hash", "HEAD")
    ]  # fmt: skip
    for group in part:
        command += ["-b", group.pattern]
    terminal = sys.stdout.isatty()
    with LOG.open("ab") as log:
        environment = os.environ | {"FUSEBENCH_HOME": str(workloads.HOME)}
        process = subprocess.Popen(
            command, cwd=workloads.HOME, env=environment, stdout=log, stderr=log
        )
    try:
        code = None
        while code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=1 if terminal else 10)
            line = progress.line(_families(part)[0], journal.started(path), time.time())
            print(f"\r{line:60}" if terminal else line, end="" if terminal else "\n", flush=True)
    finally:
        code = process.wait()  # Ctrl-C reaches asv as well, which then cleans up
        print("\n" if terminal else "", end="", flush=True)
    if code not in (0, 2):  # 2: benchmarks failed, which the report shows
        last = LOG.read_text().strip().splitlines()[-1:]
        raise RuntimeError(f"asv failed ({' '.join(last)}); all that it said is in {LOG}")
