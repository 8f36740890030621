"""Every figure of a report as a number, by the functions that it prints by, and where each column
comes from: what the page and the exports are made of.
"""

import dataclasses

from .. import bench_network
from . import formats
from .columns import fastest_cpu

FORMAT = 2  # of the exports; raised when a name in them changes its meaning
NOT_MEASURED, OTHER = "not measured", "other specification"


def source(view, column):
    """Where, when, of what and with what a column was measured."""
    run = column.run
    known = {cell.function for cell, backend in run.times if backend == column.backend}
    versions = {run.specifications[function] for function in known}
    on_gpu = column in view.gpus
    return {
        "label": column.label,
        "backend": column.backend,
        "device": "GPU" if on_gpu else "CPU",
        "name": gpu_name(run) if on_gpu else run.hardware.get("cpu") or "CPU unknown",
        "machine": run.machine,
        "elsewhere": run is not view.run,
        "date": f"{run.finished:%Y-%m-%d %H:%M}",
        "commit": run.commit,
        "edited": run.edited,
        "specifications": sorted(versions),
        "python": run.python,
        "versions": run.versions,
        "threads": run.settings.get("NUMBA_NUM_THREADS", "?"),
        "cores": run.hardware.get("num_cpu", "?"),
        "memory": formats.memory(run.hardware),
        "os": run.hardware.get("os", ""),
        "launch": column.launch,
        "roofs": {dtype: _ceilings(r) for (of, dtype), r in column.roofs.items() if of is run},
    }


def gpu_name(run):
    """The card's name, as the run tells it."""
    return run.settings.get("GPU") or run.hardware.get("gpu") or "GPU unknown"


def _ceilings(roof):
    """A roof in FLOP/s, bytes a second and seconds."""
    return {
        "flops": roof.arithmetic[0],
        "by": roof.arithmetic[1],
        "tf32_flops": roof.tf32 and roof.tf32[0],
        "streams": [list(level) for level in roof.levels()],
    }


def figures(view, cell, column):
    """All that is known of a cell in a column; None for what is not.

    share: of the roof; speedup: times faster than the first column, of another machine's CPU than
    the same backend here, of a GPU than the fastest CPU time here, and with the transfer of a
    step's batch.
    """
    key, roof, seconds = (cell, column.backend), column.roof(cell), column.seconds(cell)
    rate = roof.rate(cell, seconds) if roof and seconds is not None else (None, None, None)
    rows = seconds is not None and formats.rows(cell)
    earlier = column.run.earlier.get(key)
    found = {
        "seconds": seconds,
        **dict(zip(("verdict", "reason"), verdict(cell, column), strict=True)),
        **dict(zip(("rate", "unit", "share"), rate, strict=True)),
        "rows_per_second": rows / seconds if rows else None,
        "speedup": ratio(yardstick(view, column)(cell), seconds),
        "earlier": earlier and earlier.commit,
        "disturbed": seconds is not None and key in column.run.disturbed,
    }
    if column in view.gpus:
        found["launch_bound"] = seconds is not None and column.is_launch_bound(cell)
        if cell.function == bench_network.STEP:
            fastest, both = fastest_cpu(cell, view.cpus), column.with_transfer(cell)
            found["transfer_seconds"] = column.transfer(cell)
            found["speedup_with_transfer"] = ratio(fastest, both)
    return found


def verdict(cell, column):
    """("correct", "") of what is timed, else why there is no time: a word and a reason."""
    if column.seconds(cell) is not None:
        return "correct", ""
    if not column.agrees(cell):
        mine, here = (run.specifications[cell.function] for run in (column.run, column.beside))
        return OTHER, f"specification {mine}, not {here} as on {column.beside.machine}"
    return column.run.verdicts.get((cell, column.backend), (NOT_MEASURED, ""))


def yardstick(view, column):
    """The function of a cell that gives the seconds which a column's are held against."""
    if column in view.gpus:
        return lambda cell: fastest_cpu(cell, view.cpus)
    if column in view.others:
        same = [here for here in view.cpus if here.backend == column.backend]
        return same[0].seconds if same else lambda cell: None
    return view.cpus[0].seconds


def ratio(slow, fast):
    """slow / fast; None where one of them is missing."""
    return None if None in (slow, fast) else slow / fast


def named(cell):
    """A cell's names, with its batch as reports print it."""
    return {**dataclasses.asdict(cell), "batch_name": formats.batch_name(cell)}
