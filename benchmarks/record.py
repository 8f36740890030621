"""A session on a GPU: check every operation, time it, keep it all under results/<machine>/.

It needs neither network nor git. The commit is that of the checkout; without one it is read from
the file COMMIT (git rev-parse HEAD > COMMIT before the files are copied), else it is "unknown".
"""

import dataclasses
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime

from asv.machine import Machine
from asv.results import Results
from asv.runner import BenchmarkResult
from asv.util import sanitize_filename
from tabulate import tabulate

import kernels
from reference import FAMILIES

from . import (
    bench_network,
    formats,
    gpu,
    plugin,
    results,
    roofline,
    runner,
    suite,
    training_step,
    workloads,
)
from .peers import contenders, measure, table

GPU = "cupy"  # the backend that computes on the card
BUDGET = 420  # seconds after which no further cell is begun
CHECKED_AT = ("digits-64x128", 16)
PEERS = ("torch", "torch graph", "jax.jit")
LAYERS = ("mnist-784x512", "mnist-512x10", "mnist-512x512", "wide-2048x2048", "16M-4095x4096")
COMPARED = (*LAYERS, *training_step.NETWORKS)


def record(machine=None, module=None, card=gpu.card):
    """Runs the session, prints its table, and returns the path of asv's result file.

    module: the backend of the GPU, `card` its description. Raises kernels.Unavailable where there
    is none.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes all memory
    started = time.time()
    module = module or kernels.load(GPU)
    session = {"card": card(), "clocks": [gpu.clocks()]}
    session["wrong"] = everywhere(module)
    session["cells"], outcomes = timed(module, session["card"], started)
    session["clocks"].append(gpu.clocks())
    session["empty"] = gpu.empty(module)
    session["peers"], session["missing"] = beside(module, started)
    session["took"] = time.time() - started
    path = save(machine or _slug(session["card"]["name"]), session, outcomes)
    print(render(results.read(path), session))
    print(f"\nkept in {path.parent}: commit it, and every report shows these columns")
    return path


def everywhere(module):
    """{operation and dtype: complaint} of a check of every operation, at its borders too."""
    layer, batch = workloads.layers()[CHECKED_AT[0]], CHECKED_AT[1]
    found, operations = {}, list(itertools.chain(*FAMILIES.values()))
    for number, (operation, dtype) in enumerate(
        itertools.product(operations, ("float32", "float64")), 1
    ):
        _progress(f"checked {number} of {2 * len(operations)}: {operation}")
        if not hasattr(module, operation.name):
            continue
        try:
            suite.check_borders(operation, module, dtype)
            suite.checked(operation, module, suite.sampled(operation, layer, dtype, batch))
        except Exception as error:  # each is reported, none may end the session
            found[f"{operation}, {dtype}"] = f"{type(error).__name__}: {error}"
    return found


def timed(module, card, started):
    """Every cell of the grid and of the roofline.

    Returns a list of {"cell", "verdict", "cold"}, the last the median seconds, and for asv
    {benchmark: (suite, axes, {values: (verdict, samples, number)})}.
    """
    flush = gpu.Flush(module, card.get("l2CacheSize"))
    cells, outcomes = [], {}
    for family in ("roofline", *FAMILIES, "network"):
        for function, cls in runner.suites(family):
            if function == bench_network.EPOCH:  # steps that are timed already
                continue
            axes, measured = {**cls.axes, "backend": [GPU]}, {}
            for values in itertools.product(*axes.values()):
                batch = dict(zip(axes, values, strict=True)).get("batch")
                cell, _ = results.key_of(function, values)
                if batch and batch not in cls.batches(cls.layers[cell.layer]):
                    continue  # the full batch of another workload
                passed = time.time() - started
                _progress(f"{passed:3.0f} s: {function} {' '.join(map(str, values))}")
                entry, measured[values] = _timed(module, flush, cls, cell, passed > BUDGET)
                cells.append(entry)
            outcomes[f"bench_{family}.{function}.time_call"] = cls, axes, measured
    _progress()
    return cells, outcomes


def _timed(module, flush, cls, cell, late):
    entry, samples, number = {"cell": dataclasses.asdict(cell), "cold": None}, None, None
    try:
        if late:
            raise NotImplementedError("no time was left in the session")
        if not hasattr(module, needed := cls.operations[cell.variant].name):
            raise NotImplementedError(f"{GPU} has no {needed}")
        call = _checked(module, cls, cell)
        entry["cold"] = statistics.median(flush.cold(call))
        samples, number = gpu.warm(module, call)
        entry["verdict"] = suite.CORRECT
    except NotImplementedError as reason:
        entry["verdict"] = f"{suite.SKIPPED}: {reason}"
    except suite.Wrong as complaint:
        entry["verdict"] = f"{suite.WRONG}: {complaint}"
    except Exception as error:  # of one kernel; the others are timed all the same
        entry["verdict"] = f"{suite.FAILED}: {type(error).__name__}: {error}"
    return entry, (entry["verdict"], samples, number)


def _checked(module, cls, cell):
    """The call of a cell, once its answer was checked."""
    if cell.function == bench_network.TRANSFER:
        return bench_network.transfer(module, cell.layer, cell.dtype, cell.batch)
    operation, check = cls.operations[cell.variant], suite.checked
    if cell.function == bench_network.STEP:
        operation, check = training_step.of_network(cell.layer), training_step.checked
    inputs = suite.sampled(operation, cls.layers[cell.layer], cell.dtype, cell.batch or 0)
    return check(operation, module, inputs)


def beside(module, started):
    """(The cells of peers.measure on the card, who could not be measured there)."""
    found, missing = contenders.available({GPU: module}, "cuda")
    found = [found[0], *(c for c in found[1:] if c.name in PEERS)]
    cells = [cell for cell in measure.grid() if cell[1].name in COMPARED] if found[1:] else []
    records = []
    for operation, layer, batch in cells:
        if time.time() - started > BUDGET:
            missing.append("the rest of the cells: no time was left in the session")
            break
        _progress(f"beside torch and JAX: {operation} {layer.name} {batch}")
        records.append(measure.cell(found, operation, layer, batch, 5))
    _progress("")
    return records, missing


def save(machine, session, outcomes):
    """asv's result file, with machine.json and the session beside it; returns its path."""
    name, now = session["card"]["name"], datetime.now(UTC)
    python = "{}.{}".format(*sys.version_info)
    hardware = {**Machine.get_defaults(), "machine": machine, "gpu": name, "version": 1}
    environment = f"session-py{python}-{_slug(name)}"
    settings = {"GPU": name, plugin.THREADS[0]: plugin.cores()}
    stamp = int(now.timestamp() * 1000)  # asv counts milliseconds, as JavaScript does
    arguments = plugin.versions(), commit(), stamp, python, environment, settings
    found = Results(hardware, *arguments)
    for benchmark, (cls, axes, measured) in outcomes.items():
        nothing = suite.SKIPPED, None, None
        cells = [measured.get(values, nothing) for values in itertools.product(*axes.values())]
        verdicts, samples, numbers = zip(*cells, strict=True)
        outcome = BenchmarkResult(list(map(_value, verdicts)), samples, numbers, 0, "", None)
        params = [list(map(repr, values)) for values in axes.values()]
        entry = {"name": benchmark, "version": cls.version, "params": params}
        found.add_result(entry, outcome, now)
    folder = results.RECORDED / machine
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "machine.json").write_text(json.dumps(hardware, indent=1))
    found.save(str(results.RECORDED))
    path = folder / f"{commit()[:8]}-{environment}.json"
    results.session(path).write_text(json.dumps(session, indent=1))
    return path


def _slug(name):
    """A name for files."""
    return sanitize_filename(name).replace(" ", "-").lower()


def _value(verdict):
    """What asv keeps: a time, which it takes from the samples, null if failed, NaN if skipped."""
    if verdict.startswith((suite.WRONG, suite.FAILED)):
        return None
    return 0.0 if verdict == suite.CORRECT else math.nan


def commit():
    """The hash of the commit, as far as it can be known."""
    command = ["git", "-C", str(workloads.ROOT), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode == 0:
            return answer.stdout.strip()
    except FileNotFoundError:
        pass
    given = workloads.ROOT / "COMMIT"
    return given.read_text().strip() if given.is_file() else "unknown"


def render(run, session):
    """The table: correct or not, times, share of the roof, and the libraries beside it."""
    card, rows = session["card"], []
    beside = {table.cell_of(entry): entry for entry in session["peers"]}
    known = {name for entry in session["peers"] for name in entry["seconds"]}
    libraries = sorted(known & set(PEERS))
    for entry in session["cells"]:
        cell = results.Cell(**entry["cell"])
        if cell.function not in ("product", "triad"):
            warm, cold = run.times.get((cell, GPU)), entry["cold"]
            peers = _beside(beside.get(cell), libraries)
            names = cell.function, cell.variant, cell.layer, cell.dtype, formats.batch_name(cell)
            verdict = entry["verdict"].partition(":")[0]
            times = ["" if t is None else formats.duration(t) for t in (warm, cold)]
            rows.append([*names, verdict, *times, *_share(run, cell, cold), *peers])
    header = ["function", "variant", "layer", "dtype", "batch", "", "warm", "cold", "rate", "roof"]
    bad = [e for e in session["cells"] if e["verdict"].startswith((suite.WRONG, suite.FAILED))]
    reasons = [f"{results.Cell(**e['cell'])}: {e['verdict']}" for e in bad]
    reasons += [f"{where}: {why}" for where, why in session["wrong"].items()]
    clocks = ", ".join(f"{k} {v}" for k, v in session["clocks"][-1].items()) or "no nvidia-smi"
    return "\n".join(
        [
            f"{card['name']}: {', '.join(f'{k} {v}' for k, v in card.items() if k != 'name')}",
            f"clocks at the end: {clocks}",
            f"{session['took']:.0f} s; two events with nothing between: "
            f"{formats.duration(session['empty'])}, contained in every cold time.",
            "warm: calls in a row. cold: one call after twice the L2 cache was overwritten; rate",
            "and roof (share of the 2048-square product, or of the triad in memory) are of this.",
            "Libraries: microseconds of warm calls by the host's clock, and their time over ours.",
            *(f"not measured: {line}" for line in session["missing"]),
            tabulate(
                rows,
                [*header, *libraries, *(f"x {name}" for name in libraries)],
                disable_numparse=True,
            ),
            *(reasons or ["Every operation agrees with the float64 reference, borders included."]),
        ]
    )


def _share(run, cell, seconds):
    """Rate and share of the roof of a call that finds its data in main memory."""
    roof = roofline.Roof.measured(run, [GPU], cell.dtype)
    roof = roof and dataclasses.replace(roof, triads=roof.triads[-1:])
    return formats.against_roof(roof, cell, seconds)


def _beside(entry, libraries):
    """The times of the libraries and how many times faster ours is."""
    if entry is None:
        return [""] * (2 * len(libraries))
    times = [entry["seconds"].get(name) for name in libraries]
    ours = entry["seconds"].get(GPU)
    shown = [formats.number(1e6 * statistics.median(t)) if t else "" for t in times]
    pairs = [(slow, ours) if slow and ours else None for slow in times]
    ratios = [[a / b for a, b in zip(*pair, strict=True)] if pair else None for pair in pairs]
    return [*shown, *(formats.number(statistics.median(r)) if r else "" for r in ratios)]


def _progress(text=""):
    """One line that is overwritten; on a terminal alone."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)
