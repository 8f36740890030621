"""The report: what a run found, table by table, against numpy, the machine's roof and the GPU."""

import itertools
from functools import partial

from tabulate import tabulate

from .. import bench_network
from ..running import isa, replay
from ..running.journal import BAD, IMPLAUSIBLE
from . import formats, roofline
from .columns import DISTURBED, FUNCTIONS, earlier_runs, fastest_cpu, view
from .results import FAMILY_OF


def render(machine=None, folders=()):
    """The report of this machine's newest run, with the results recorded under results/."""
    return text(view(machine, folders))


def text(shown, markdown=False):
    """The report, or the same in Markdown, its tables GitHub's."""
    parts = [("", head(shown)), *tables(shown, FUNCTIONS), *_rest(shown)]
    return _joined(parts, markdown)


def of_family(family, machine=None):
    """The tables of one family alone, for a run that is not over."""
    own = [f for f in FUNCTIONS if FAMILY_OF.get(f, "network") == family]
    return _joined(tables(view(machine), own))


def without_tables(machine=None):
    """What the report says beside its tables, for a run that has shown them."""
    shown = view(machine)
    return _joined([("", head(shown)), *_rest(shown)])


def tables(shown, functions):
    """The table of each of these functions in each dtype in which it was timed."""
    kinds = [(function, dtype) for function in functions for dtype in ("float32", "float64")]
    chosen = {kind: [c for c in shown.cells if (c.function, c.dtype) == kind] for kind in kinds}
    return [table(*kind, cells, shown) for kind, cells in chosen.items() if cells]


def _rest(shown):
    return [crossover(shown), ("", failures(shown.run)), ("", earlier(shown.run))]


def _joined(parts, markdown=False):
    return "\n\n".join(_part(*part, markdown) for part in parts if part[1])


def _part(title, body, markdown):
    """A part of the report: text, or a table as (header, rows, the side that each column is on)."""
    if isinstance(body, str):
        return f"```\n{body}\n```" if markdown else body
    header, rows, sides = body
    form = "github" if markdown else "simple"
    body = tabulate(rows, header, form, colalign=sides, disable_numparse=True)
    return f"### {title}\n\n{body}" if markdown else f"{title}\n{body}"


def head(shown):
    """What was measured, where, when and with what."""
    run, cpus, gpus = shown.run, shown.cpus, shown.gpus
    hardware, settings = run.hardware, run.settings
    threads = settings.get("NUMBA_NUM_THREADS", "?")
    lines = [
        f"fusebench, commit {run.commit[:8]}{formats.edits(run.edited)}, "
        f"{run.finished:%Y-%m-%d %H:%M}",
        f"machine   {run.machine}: {hardware.get('cpu', 'CPU unknown')}, "
        f"{hardware.get('num_cpu', '?')} cores, {formats.memory(hardware)}, "
        f"{hardware.get('os', '')}; threads: {threads}",
        f"versions  Python {run.python}, "
        + ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    ]
    if isa.VARIABLE in settings:
        lines.append(f"held to   {settings[isa.VARIABLE]}, of a processor that may have more")
    for device, column in itertools.chain(
        (("CPU", c) for c in cpus[:1]), ((g.label, g) for g in gpus)
    ):
        for (of, dtype), roof in column.roofs.items():
            if of is column.run:
                lines += [f"roof      {device}, {line}" for line in roof_lines(roof, dtype)]
    if any(g.run is run for g in gpus):
        lines.append(f"GPU       {settings.get('GPU', 'unknown')}")
    lines += [f"n/a       {why}" for why in shown.missing.values()]
    lines += [
        f"{kind}       {c.label}: recorded {c.run.finished:%Y-%m-%d} at commit {c.run.commit[:8]}"
        for kind, columns in (("CPU", shown.others), ("GPU", gpus))
        for c in columns
        if c.run is not run
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


def roof_lines(roof, dtype):
    """A roof in a line for each precision."""
    products = [(dtype, roof.arithmetic), *([("tf32", roof.tf32)] if roof.tf32 else [])]
    lines = [
        f"{name}: {formats.number(speed / 1e9)} GFLOP/s ({how})" for name, (speed, how) in products
    ]
    return [f"{lines[0]}, {formats.streams(roof)}", *lines[1:]]


def table(function, dtype, cells, shown):
    """One function in one dtype: its title, and a row a variant, layer and batch."""
    baseline, *others = shown.cpus
    others = [c for c in others if any(c.entry(cell) != "-" for cell in cells)]
    columns = [
        ("variant", lambda cell: cell.variant),
        ("layer", lambda cell: cell.layer),
        ("batch", formats.batch_name),
        (baseline.label, baseline.entry),
    ]
    for column in others:
        columns += column.shown(function)
        times = partial(faster, column.seconds, baseline.seconds)
        columns.append((f"x {baseline.label}", times))
    for column in shown.others:
        columns += column.shown(function)
    for column in shown.gpus:
        fastest = partial(fastest_cpu, cpus=shown.cpus)
        columns += column.shown(function)
        columns.append(("CPU/GPU", partial(faster, column.seconds, fastest)))
        if function == bench_network.STEP:
            columns.append(("transfer", lambda cell, c=column: formats.duration(c.transfer(cell))))
            columns.append(("CPU/both", partial(faster, column.with_transfer, fastest)))
    columns += [(name, lambda cell: "n/a") for name in shown.missing]
    rows = [[text(cell) for _, text in columns] for cell in cells]
    for above, row in reversed(list(itertools.pairwise(rows))):
        if row[0] == above[0]:  # said once
            row[:2] = "", "" if row[1] == above[1] else row[1]
    keep = [
        k
        for k, (name, _) in enumerate(columns)
        if name not in ("variant", "batch") or any(r[k] for r in rows)
    ]
    header, rows = [columns[k][0] for k in keep], [[row[k] for k in keep] for row in rows]
    sides = ["left" if k < 2 else "right" for k in keep]
    return f"{function}, {dtype}", (header, rows, sides)


def faster(ours, theirs, cell):
    """How many times faster ours(cell) is than theirs(cell), as text."""
    return formats.ratio(theirs(cell), ours(cell))


def crossover(shown):
    """For every GPU: the batch from which on it beats this machine's fastest CPU kernel.

    A training step stands there twice: on data that lie on the GPU, and with their transfer.
    """
    rows = []
    for column in shown.gpus:
        groups = {}
        for cell in shown.cells:
            cpu, times = fastest_cpu(cell, shown.cpus), {cell.variant: column.seconds(cell)}
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
    header = ["GPU", "function", "variant", "layer", "dtype", "worth it from batch"]
    return "From which batch is the GPU worth it?", rows and (header, rows, ["left"] * len(header))


def failures(run):
    """Every kernel that is wrong or failed: the reason, and the command that checks it again."""
    bad = {k: v for k, v in run.verdicts.items() if v[0] in BAD}
    if not bad:
        count = sum(cell.function not in roofline.CEILINGS for cell, _ in run.times)
        return f"All {count} timed cells agree with the float64 reference."
    lines = [f"{len(bad)} cells are wrong or failed, and have no time:"]
    alike = {}
    for (cell, backend), (word, reason) in bad.items():
        kernel = " ".join(filter(None, (word, f"{backend},", cell.function, cell.variant)))
        again = "" if word == IMPLAUSIBLE else backend
        alike.setdefault((kernel, cell.dtype, reason, again), []).append(cell)
    for (kernel, dtype, reason, again), cells in alike.items():
        where = " ".join(filter(None, (cells[0].layer, formats.batch_name(cells[0]))))
        more = f" and {len(cells) - 1} more" if cells[1:] else ""
        lines.append(f"  {kernel}, {dtype}, {where}{more}: {reason}")
        if again:
            seed = run.seeds.get((cells[0], again))
            lines.append(f"    {replay.line(cells[0], again, run.file, seed)}")
    return "\n".join(lines)


def disturbances(run):
    """How many cells were timed while the machine was held up, and by how much at most."""
    found = [v for key, v in run.disturbed.items() if key in run.times]
    held_up, stolen = map(max, zip(*found, strict=True))
    return (
        f"{DISTURBED.strip()} {len(found)} cells were timed while other work held up the machine: "
        f"a fixed piece of work beside them took up to {formats.number(held_up)} times as long as "
        f"at best, and up to {formats.percent(stolen)} of the time was stolen"
    )


def earlier(run):
    """What the marks stand for."""
    lines = [disturbances(run)] if run.disturbed.keys() & run.times.keys() else []
    for number, other in enumerate(earlier_runs(run), 1):
        count = sum(found is other for found in run.earlier.values())
        code = "the same code" if other.code == run.code else "other code"
        lines.append(
            f"[{number}] {count} cells are of an earlier run, {other.finished:%Y-%m-%d %H:%M}, of "
            f"{code}: commit {other.commit[:8]}{formats.edits(other.edited)}"
        )
    return "\n".join(lines)
