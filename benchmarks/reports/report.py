"""The report: what a run found, table by table, against numpy, the machine's roof and the GPU."""

import dataclasses
import itertools
from dataclasses import dataclass
from functools import partial

from tabulate import tabulate

import kernels

from .. import bench_network
from ..running import journal
from ..suites import training_step, workloads
from . import formats, results, roofline

FUNCTIONS = (*results.FAMILY_OF, bench_network.STEP, bench_network.EPOCH)
VARIANTS = [variant for _, variant in roofline.OPERATIONS]
LAYERS = [*workloads.layers(), *training_step.NETWORKS]


@dataclass(frozen=True)
class Column:
    """One backend of one run: this machine's, or a recorded one's.

    roofs: by run and dtype, because an earlier time is held against the roof of its own run.
    """

    label: str
    backend: str
    run: results.Run
    roofs: dict

    def seconds(self, cell):
        return self.run.times.get((cell, self.backend))

    def entry(self, cell):
        """The median time, or why there is none; with a mark where an earlier run measured it."""
        key = cell, self.backend
        seconds = self.run.times.get(key)
        if seconds is not None:
            return formats.duration(seconds) + mark(self.run, key)
        return self.run.verdicts.get(key, ("-", ""))[0] + mark(self.run, key)

    def transfer(self, cell):
        """Seconds of the way of a step's batch to the GPU; None where it was not timed."""
        return self.seconds(dataclasses.replace(cell, function=bench_network.TRANSFER))

    def with_transfer(self, cell):
        """Seconds of the transfer and the step; None where one of them was not timed."""
        both = self.transfer(cell), self.seconds(cell)
        return None if None in both else sum(both)

    def shown(self, function):
        """[(header, text of a cell)]: the time, of a network samples a second, rate, and roof."""
        parts = [(self.label, self.entry)]
        if function in (bench_network.STEP, bench_network.EPOCH):
            parts.append(("samples/s", lambda cell: formats.samples(cell, self.seconds(cell))))
        parts.append(("rate", lambda cell: self.against_roof(cell)[0]))
        return [*parts, ("roof", lambda cell: self.against_roof(cell)[1])]

    def against_roof(self, cell):
        """The rate by the ceiling that binds, and the share of that ceiling."""
        run = self.run.earlier.get((cell, self.backend), self.run)
        return formats.against_roof(self.roofs.get((run, cell.dtype)), cell, self.seconds(cell))


def render(machine=None):
    """The report of this machine's newest run, with the GPU results recorded under results/."""
    run = results.newest(machine)
    if run is None:
        raise ValueError("there are no results yet: run python3 run.py bench")
    cpus, gpus, missing = columns(run, results.recorded())
    parts = [head(run, cpus, gpus, missing)]
    cells = sorted({cell for cell, _ in [*run.times, *run.verdicts]}, key=_place)
    for function in FUNCTIONS:
        for dtype in ("float32", "float64"):
            chosen = [c for c in cells if c.function == function and c.dtype == dtype]
            if chosen:
                parts.append(table(function, dtype, chosen, cpus, gpus, missing))
    parts += [crossover(cells, cpus, gpus), failures(run), earlier(run)]
    return "\n\n".join(part for part in parts if part)


def _place(cell):
    """Where a cell stands among those of its function."""
    known = {name: place for place, name in enumerate([*VARIANTS, *LAYERS])}
    last = len(known)
    return known.get(cell.variant, last), known.get(cell.layer, last), cell.layer, cell.batch or 0


def columns(run, recorded):
    """(CPU columns, GPU columns, {backend without a column: why}).

    A GPU column is one whose arrays lie elsewhere than in the host's memory. The first of our
    backends, the reference, is the first CPU column even where it was not timed.
    """
    timed = _backends(run)
    names = [name for name in kernels.BACKENDS if name in timed]
    names += [name for name in timed if name not in names]
    reference = next(iter(kernels.BACKENDS))
    host = list(dict.fromkeys([reference, *(n for n in names if n not in run.elsewhere)]))
    cpus = [_column(name, name, run, [*host, roofline.HOST]) for name in host]
    gpus = [_column(name, name, run, [name]) for name in names if name in run.elsewhere]
    for session in recorded:
        for name in _backends(session):
            gpus.append(_column(f"{name} {session.machine}", name, session, [name]))
    shown = {column.backend for column in [*cpus, *gpus]}
    return cpus, gpus, {name: _why_not(name) for name in kernels.BACKENDS if name not in shown}


def _backends(run):
    """Those of whose kernels anything is known, in this order."""
    results = [*run.times, *run.verdicts]
    return list(dict.fromkeys(b for cell, b in results if cell.function not in roofline.CEILINGS))


def _column(label, backend, run, device):
    runs, dtypes = dict.fromkeys([run, *run.earlier.values()]), ("float32", "float64")
    roofs = {(r, d): roofline.Roof.measured(r, device, d) for r in runs for d in dtypes}
    return Column(label, backend, run, {of: roof for of, roof in roofs.items() if roof})


def _why_not(backend):
    try:
        kernels.load(backend)
    except kernels.Unavailable as reason:
        return str(reason)
    return f"backend {backend}: it was not timed in this run"


def head(run, cpus, gpus, missing):
    """What was measured, where, when and with what."""
    hardware, settings = run.hardware, run.settings
    threads = settings.get("NUMBA_NUM_THREADS", "?")
    memory = f"{int(hardware['ram']) / 2**30:.0f} GiB" if hardware.get("ram") else "memory unknown"
    lines = [
        f"fusebench, commit {run.commit[:8]}{_edits(run.edited)}, {run.finished:%Y-%m-%d %H:%M}",
        f"machine   {run.machine}: {hardware.get('cpu', 'CPU unknown')}, "
        f"{hardware.get('num_cpu', '?')} cores, {memory}, {hardware.get('os', '')}; "
        f"threads: {threads}",
        f"versions  Python {run.python}, "
        + ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    ]
    for device, column in itertools.chain(
        (("CPU", c) for c in cpus[:1]), ((g.label, g) for g in gpus)
    ):
        for (of, dtype), roof in column.roofs.items():
            if of is column.run:
                speed, how = roof.arithmetic
                lines.append(
                    f"roof      {device}, {dtype}: {formats.number(speed / 1e9)} GFLOP/s "
                    f"({how}), {formats.streams(roof)}"
                )
                if roof.tf32:
                    speed, how = roof.tf32
                    lines.append(
                        f"roof      {device}, tf32: {formats.number(speed / 1e9)} GFLOP/s ({how})"
                    )
    if any(g.run is run for g in gpus):
        lines.append(f"GPU       {settings.get('GPU', 'unknown')}")
    lines += [f"n/a       {why}" for why in missing.values()]
    lines += [
        f"GPU       {g.label}: recorded {g.run.finished:%Y-%m-%d} at commit {g.run.commit[:8]}"
        for g in gpus
        if g.run is not run
    ]
    lines += [
        "",
        "Median times of a warm call; G is 10^9, M 10^6. roof: share of the ceiling that binds,",
        "that of arithmetic (FLOP/s) or of memory (B/s). "
        f"x {cpus[0].label}: times faster than {cpus[0].label}.",
    ]
    if gpus:
        lines += [
            "CPU/GPU: above 1 the GPU wins. transfer: of a step's batch to the GPU.",
            "CPU/both: with it and the step there.",
        ]
    return "\n".join(lines)


def table(function, dtype, cells, cpus, gpus, missing):
    """One function in one dtype: a row a variant, layer and batch."""
    baseline, *others = cpus
    others = [c for c in others if any(c.entry(cell) != "-" for cell in cells)]
    columns = [
        ("variant", lambda cell: cell.variant),
        ("layer", lambda cell: cell.layer),
        ("batch", formats.batch_name),
        (baseline.label, baseline.entry),
    ]
    for column in others:
        columns += column.shown(function)
        faster = partial(_faster, column.seconds, baseline.seconds)
        columns.append((f"x {baseline.label}", faster))
    for column in gpus:
        fastest = partial(fastest_cpu, cpus=cpus)
        columns += column.shown(function)
        columns.append(("CPU/GPU", partial(_faster, column.seconds, fastest)))
        if function == bench_network.STEP:
            columns.append(("transfer", lambda cell, c=column: formats.duration(c.transfer(cell))))
            columns.append(("CPU/both", partial(_faster, column.with_transfer, fastest)))
    columns += [(name, lambda cell: "n/a") for name in missing]
    rows = [[text(cell) for _, text in columns] for cell in cells]
    for above, row in reversed(list(itertools.pairwise(rows))):
        if row[0] == above[0]:  # said once
            row[:2] = "", "" if row[1] == above[1] else row[1]
    keep = [
        k
        for k, (name, _) in enumerate(columns)
        if name not in ("variant", "batch") or any(r[k] for r in rows)
    ]
    text = tabulate(
        [[row[k] for k in keep] for row in rows],
        [columns[k][0] for k in keep],
        colalign=["left" if k < 2 else "right" for k in keep],
        disable_numparse=True,
    )
    return f"{function}, {dtype}\n{text}"


def _faster(ours, theirs, cell):
    """How many times faster ours(cell) is than theirs(cell), as text."""
    return formats.ratio(theirs(cell), ours(cell))


def crossover(cells, cpus, gpus):
    """For every GPU: the batch from which on it beats this machine's fastest CPU kernel.

    A training step stands there twice: on data that lie on the GPU, and with their transfer.
    """
    rows = []
    for column in gpus:
        groups = {}
        for cell in cells:
            cpu, times = fastest_cpu(cell, cpus), {cell.variant: column.seconds(cell)}
            if cell.function == bench_network.STEP:
                times["with transfer"] = column.with_transfer(cell)
            for variant, gpu in times.items():
                if cell.batch and cpu and gpu and cell.function in FUNCTIONS[:-1]:
                    key = (cell.function, variant, cell.layer, cell.dtype)
                    groups.setdefault(key, []).append((cell.batch, cell, cpu > gpu))
        for key, found in groups.items():
            worth = list(itertools.takewhile(lambda f: f[2], sorted(found, key=lambda f: -f[0])))
            rows.append(
                [column.label, *key, formats.batch_name(worth[-1][1]) if worth else "never"]
            )
    if not rows:
        return ""
    header = ["GPU", "function", "variant", "layer", "dtype", "worth it from batch"]
    return "From which batch is the GPU worth it?\n" + tabulate(rows, header, disable_numparse=True)


def failures(run):
    """Every kernel that is wrong or failed, with the reason."""
    bad = {k: v for k, v in run.verdicts.items() if v[0] in journal.BAD}
    if not bad:
        count = sum(cell.function not in roofline.CEILINGS for cell, _ in run.times)
        return f"All {count} timed cells agree with the float64 reference."
    lines = [f"{len(bad)} cells are wrong or failed, and have no time:"]
    alike = {}
    for (cell, backend), (word, reason) in bad.items():
        kernel = " ".join(filter(None, (word, f"{backend},", cell.function, cell.variant)))
        alike.setdefault((kernel, cell.dtype, reason), []).append(cell)
    for (kernel, dtype, reason), cells in alike.items():
        where = " ".join(filter(None, (cells[0].layer, formats.batch_name(cells[0]))))
        more = f" and {len(cells) - 1} more" if cells[1:] else ""
        lines.append(f"  {kernel}, {dtype}, {where}{more}: {reason}")
    return "\n".join(lines)


def fastest_cpu(cell, cpus):
    """The least time of any CPU backend, or None."""
    return min((c.seconds(cell) for c in cpus if c.seconds(cell) is not None), default=None)


def mark(run, key):
    """ " [1]" where an earlier run measured this; empty where it is of this run."""
    other = run.earlier.get(key)
    return f" [{_earlier_runs(run).index(other) + 1}]" if other else ""


def earlier(run):
    """What the marks stand for."""
    lines = []
    for number, other in enumerate(_earlier_runs(run), 1):
        count = sum(found is other for found in run.earlier.values())
        code = "the same code" if other.code == run.code else "other code"
        lines.append(
            f"[{number}] {count} cells are of an earlier run, {other.finished:%Y-%m-%d %H:%M}, of "
            f"{code}: commit {other.commit[:8]}{_edits(other.edited)}"
        )
    return "\n".join(lines)


def _earlier_runs(run):
    """Those that results were taken from, the newest first."""
    runs = dict.fromkeys(run.earlier.values())
    return sorted(runs, key=lambda other: other.finished, reverse=True)


def _edits(edited):
    return " with uncommitted changes" if edited else ""
