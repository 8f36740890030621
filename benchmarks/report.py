"""The report: what a run found, table by table, against numpy, the machine's roof and the GPU."""

import dataclasses
import itertools
import subprocess
from dataclasses import dataclass
from functools import partial

from tabulate import tabulate

import kernels
from reference import FAMILIES

from . import bench_network, formats, results, roofline, suite, workloads

GPU = "cupy"
BASELINE = "numpy"


@dataclass(frozen=True)
class Column:
    """One backend of one run: this machine's, or a recorded one's."""

    label: str
    backend: str
    run: results.Run
    roofs: dict

    def seconds(self, cell):
        return self.run.times.get((cell, self.backend))

    def entry(self, cell):
        """The median time, or why there is none."""
        seconds = self.seconds(cell)
        if seconds is not None:
            return formats.duration(seconds)
        return self.run.verdicts.get((cell, self.backend), ("-", ""))[0]

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
        return formats.against_roof(self.roofs.get(cell.dtype), cell, self.seconds(cell))


def render(machine=None):
    """The report of this machine's newest run, with the GPU results recorded under results/."""
    run = results.latest(results.LOCAL, machine)
    if run is None:
        raise ValueError("there are no results yet: run python3 run.py bench")
    cpus, gpus, why = columns(run, results.recorded())
    parts = [head(run, cpus, gpus, why)]
    cells = dict.fromkeys(cell for cell, _ in [*run.times, *run.verdicts])
    functions = dict.fromkeys(op.name for family in FAMILIES.values() for op in family)
    for function in (*functions, bench_network.STEP, bench_network.EPOCH):
        for dtype in ("float32", "float64"):
            chosen = [c for c in cells if c.function == function and c.dtype == dtype]
            if chosen:
                parts.append(table(function, dtype, chosen, cpus, gpus, why))
    parts.append(crossover(cells, cpus, gpus))
    parts.append(failures(run))
    return "\n\n".join(part for part in parts if part)


def columns(run, recorded):
    """(CPU columns, GPU columns, why there are no GPU columns)."""
    names = [BASELINE, *(b for b in run.backends() if b not in (BASELINE, GPU))]
    cpus = [_column(b, b, run, names) for b in names]
    gpus = [_column(f"{GPU} {r.machine}", GPU, r, [GPU]) for r in recorded if _has(r, GPU)]
    if _has(run, GPU):
        return cpus, [_column(GPU, GPU, run, [GPU]), *gpus], None
    return cpus, gpus, None if gpus else _why_no_gpu()


def _column(label, backend, run, device):
    roofs = {d: roofline.Roof.measured(run, device, d) for d in ("float32", "float64")}
    return Column(label, backend, run, {d: roof for d, roof in roofs.items() if roof})


def _has(run, backend):
    return any(b == backend for _, b in run.times)


def _why_no_gpu():
    try:
        kernels.load(GPU)
    except kernels.Unavailable as reason:
        return str(reason)
    return "it was not timed in this run"


def head(run, cpus, gpus, why):
    """What was measured, where, when and with what."""
    hardware, settings = run.hardware, run.settings
    threads = settings.get("NUMBA_NUM_THREADS", "?")
    memory = f"{int(hardware['ram']) / 2**30:.0f} GiB" if hardware.get("ram") else "memory unknown"
    lines = [
        f"fusebench, commit {run.commit[:8]}{_changes(run.commit)}, {run.finished:%Y-%m-%d %H:%M}",
        f"machine   {run.machine}: {hardware.get('cpu', 'CPU unknown')}, "
        f"{hardware.get('num_cpu', '?')} cores, {memory}, {hardware.get('os', '')}; "
        f"threads: {threads}",
        f"versions  Python {run.python}, "
        + ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    ]
    for device, column in itertools.chain(
        (("CPU", c) for c in cpus[:1]), ((g.label, g) for g in gpus)
    ):
        for dtype, roof in column.roofs.items():
            speed, backend = roof.product
            lines.append(
                f"roof      {device}, {dtype}: {formats.number(speed / 1e9)} GFLOP/s "
                f"(matrix product by {backend}), {formats.streams(roof)}"
            )
    gpu = settings.get("GPU") if why is None else None
    lines += [f"GPU       {gpu}"] if gpu else []
    lines += [f"GPU       columns are empty: {why}"] if why else []
    lines += [
        f"GPU       {g.label}: recorded {g.run.finished:%Y-%m-%d} at commit {g.run.commit[:8]}"
        for g in gpus
        if g.run is not run
    ]
    lines += [
        "",
        "Median times of a warm call; G is 10^9, M 10^6. roof: share of the ceiling that binds,",
        "that of arithmetic (FLOP/s) or of memory (B/s). "
        f"x {BASELINE}: times faster than {BASELINE}. CPU/GPU: above 1 the GPU wins.",
    ]
    if gpus:
        lines.append(
            "transfer: of a step's batch to the GPU. CPU/both: with it and the step there."
        )
    return "\n".join(lines)


def table(function, dtype, cells, cpus, gpus, why):
    """One function in one dtype: a row a variant, layer and batch."""
    baseline, *others = cpus
    others = [c for c in others if any(c.entry(cell) != "-" for cell in cells)]
    columns = [
        ("variant", lambda cell: cell.variant),
        ("layer", lambda cell: cell.layer),
        ("batch", formats.batch_name),
        (BASELINE, baseline.entry),
    ]
    for column in others:
        columns += column.shown(function)
        columns.append((f"x {BASELINE}", partial(_faster, column.seconds, baseline.seconds)))
    for column in gpus:
        fastest = partial(fastest_cpu, cpus=cpus)
        columns += column.shown(function)
        columns.append(("CPU/GPU", partial(_faster, column.seconds, fastest)))
        if function == bench_network.STEP:
            columns.append(("transfer", lambda cell, c=column: formats.duration(c.transfer(cell))))
            columns.append(("CPU/both", partial(_faster, column.with_transfer, fastest)))
    if why:
        columns += [(GPU, lambda cell: "n/a"), ("CPU/GPU", lambda cell: "")]
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
    rows, compared = [], (*results.FAMILY_OF, bench_network.STEP)
    for column in gpus:
        groups = {}
        for cell in cells:
            cpu, times = fastest_cpu(cell, cpus), {cell.variant: column.seconds(cell)}
            if cell.function == bench_network.STEP:
                times["with transfer"] = column.with_transfer(cell)
            for variant, gpu in times.items():
                if cell.batch and cpu and gpu and cell.function in compared:
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
    bad = {k: v for k, v in run.verdicts.items() if v[0] in (suite.WRONG, suite.FAILED)}
    if not bad:
        return f"All {len(run.times)} timed cells agree with the float64 reference."
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


def _changes(commit):
    """Says so where the working tree is not what the commit holds."""
    git = ["git", "-C", str(workloads.ROOT)]
    here = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    dirty = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True)
    return " with uncommitted changes" if here.stdout.strip() == commit and dirty.returncode else ""
