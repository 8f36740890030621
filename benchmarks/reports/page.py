"""The report as one page of HTML, which asks nothing of any other place: `report --html FILE`.

The page is made of texts that the report prints too. Its script sorts, filters and shows what
stands in the table.
"""

import itertools
from collections import Counter
from functools import partial
from pathlib import Path

from .. import bench_network
from . import charts, columns, figures, formats, report

TEMPLATES = Path(__file__).parent / "templates"
EVEN, CLEAR, LARGE = 1.1, 2, 10  # factors between the shades of the map
MARK, ABSENT = "°", "–"  # of what is launch-bound, and of what was not measured on both
NAMES, DITTO = 4, "″"  # of a cell, but for its batch; what stands for the same as above


def template(name):
    """One of TEMPLATES."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # names of backends and reasons are not ours
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = formats.duration
    return environment.get_template(name)


def render(shown):
    """The page of a view, as text."""
    rows = {cell: number for number, cell in enumerate(shown.cells)}
    batched = {c: n for c, n in rows.items() if c.batch}
    functions = sorted({cell.function: None for cell in batched}, key=_networks_first)
    plots = [
        (function, *charts.throughput(shown, of_function(batched, function), number))
        for number, function in enumerate(functions)
    ]
    groups = table_groups(shown)
    return template("page.html").render(
        run=shown.run,
        missing=shown.missing,
        series=[
            (name, figures.source(shown, c)) for name, c in charts.columns_by_class(shown).items()
        ],
        devices=[device(shown, *named) for named in shown.devices],
        maps=[crossover_map(shown, column, rows) for column in shown.gpus],
        even=EVEN,
        clear=CLEAR,
        large=LARGE,
        mark=MARK,
        absent=ABSENT,
        plots=plots,
        rooflines=charts.rooflines(shown, rows),
        groups=groups,
        rows=table_rows(groups, shown.cells),
        verdict=report.failures(shown.run),
        earlier=report.earlier(shown.run),
    )


def _networks_first(function):
    return function not in (bench_network.STEP, bench_network.EPOCH)


def of_function(rows, function):
    return {cell: number for cell, number in rows.items() if cell.function == function}


def device(shown, name, found):
    """What is said of a CPU or a GPU: (name, source, roofs as text, shortest call)."""
    source = figures.source(shown, found[0])
    roofs = [
        line
        for (run, dtype), roof in found[0].roofs.items()
        if run is found[0].run
        for line in report.roof_lines(roof, dtype)
    ]
    return name, source, roofs, found[0].launch and formats.duration(found[0].launch)


def table_groups(shown):
    """[(class, column or None, [(header, text of a cell, column whose entry it is or None)])]."""
    names = "function", "variant", "layer", "dtype"
    parts = [(name, partial(_named, name), None) for name in names]
    found = [("", None, [*parts, ("batch", formats.batch_name, None)])]
    for name, column in charts.columns_by_class(shown).items():
        parts = [("time", column.entry, column)]
        if column is not shown.cpus[0]:
            yardstick = figures.yardstick(shown, column)
            parts += [
                ("rate", lambda cell, c=column: c.against_roof(cell)[0], None),
                ("roof", lambda cell, c=column: c.against_roof(cell)[1], None),
                (
                    _ratio_name(shown, column),
                    partial(report.faster, column.seconds, yardstick),
                    None,
                ),
            ]
            if column in shown.gpus:
                both = partial(report.faster, column.with_transfer, yardstick)
                parts += [("transfer", partial(_transfer, column), None), ("CPU/both", both, None)]
        found.append((name, column, parts))
    return found + [("", None, [(name, lambda cell: "n/a", None)]) for name in shown.missing]


def table_rows(groups, cells):
    """A row of entries a cell; a name that the row above has too is DITTO, as the script knows."""
    rows = [[entry(cell, *part) for *_, parts in groups for part in parts] for cell in cells]
    for above, row in reversed(list(itertools.pairwise(rows))):
        for k in range(NAMES):
            if row[k] == above[k] and row[k][0]:
                row[k] = DITTO, None
    return rows


def _named(name, cell):
    return getattr(cell, name)


def _ratio_name(shown, column):
    if column in shown.gpus:
        return "CPU/GPU"
    return "here/there" if column in shown.others else f"x {shown.cpus[0].label}"


def _transfer(column, cell):
    is_step = cell.function == bench_network.STEP
    return formats.duration(column.transfer(cell)) if is_step else ""


def entry(cell, _, text, column):
    """(text, why there is no time or None) of a cell of the table."""
    word, reason = figures.verdict(cell, column) if column else ("", "")
    return text(cell), f"{word}: {reason}".strip(": ") if reason or word in report.BAD else None


def crossover_map(shown, column, rows):
    """{column, elsewhere, groups} of a GPU: who wins each cell of the grid, and by how much.

    groups: [(function, batches, how often the GPU and the CPU win, [(kernel, its rows, {batch:
    (class, text, row)})])], a step twice: on rows that lie on the GPU, and with their transfer.
    absent: the functions of which nothing was measured on both.
    """
    groups, sizes = {}, {}
    for cell in shown.cells:
        ways = [("", column.seconds)]
        if cell.function == bench_network.STEP:
            ways.append(("with transfer", column.with_transfer))
        for way, seconds in ways:
            kernel = " ".join(filter(None, (cell.variant, cell.layer, cell.dtype)))
            line = groups.setdefault(cell.function, {}).setdefault((kernel, way), {})
            batch = formats.batch_name(cell)
            line[batch] = (*crossing(shown, column, cell, seconds), rows[cell])
            sizes[batch] = cell.batch or 0
    found, absent = [], []
    for function in sorted(groups, key=_networks_first):
        kernels = groups[function]
        if all(text == ABSENT for line in kernels.values() for _, text, _ in line.values()):
            absent.append(function)
            continue
        wins = Counter(text[:1] for line in kernels.values() for _, text, _ in line.values())
        lines = [
            (
                way or name.removesuffix(" float32"),  # below the same kernel without
                charts.spans([n for *_, n in line.values()]),
                line,
            )
            for (name, way), line in kernels.items()
        ]
        batches = {batch for line in kernels.values() for batch in line}
        batches = sorted(batches, key=lambda name: (name == "full", sizes[name]))
        found.append((function, batches, wins["G"], wins["C"], lines))
    elsewhere = column.run is not shown.run
    return {"column": column, "elsewhere": elsewhere, "groups": found, "absent": absent}


def crossing(shown, column, cell, seconds):
    """(class, text): C or G, the winner, and how many times faster it is; or why neither is."""
    cpu, gpu = columns.fastest_cpu(cell, shown.cpus), seconds(cell)
    if None in (cpu, gpu):
        entries = [column.entry(cell), *(c.entry(cell) for c in shown.cpus)]
        bad = [text for text in entries if text.startswith(report.BAD)]
        other = [] if column.agrees(cell) else [column.entry(cell)]
        return ("bad", bad[0]) if bad else ("none", *other) if other else ("none", ABSENT)
    winner, slow, fast = ("G", cpu, gpu) if cpu > gpu else ("C", gpu, cpu)
    shade = sum(slow / fast >= factor for factor in (EVEN, CLEAR, LARGE))
    mark = MARK if column.is_launch_bound(cell) else ""
    return f"{winner.lower()}{shade}", f"{winner} {formats.ratio(slow, fast)}{mark}"
