"""The table of a session on a card: correct or not, times, share of the roof, other libraries."""

import dataclasses
import json
import statistics
from collections import Counter

from tabulate import tabulate

from ..peers import table
from ..running import gpu, journal, replay
from . import formats, results, roofline

CACHE_KEPT = "What a library may have set aside of the L2 cache could not be given back."


def recorded(name):
    """The table of the newest session on a machine; None where results/ has none of that name."""
    kept = {p: json.loads(p.read_text()) for p in results.RECORDED.glob(f"{name}/*.session")}
    if not kept:
        return None
    newest = max(kept, key=lambda path: kept[path]["started"])
    return render(results.read(newest.with_suffix(".json")), kept[newest])


def render(run, found):
    """All of it; `run` is what asv's file says, `found` the session."""
    card = found["card"]
    clocks = ", ".join(f"{k} {v}" for k, v in found["clocks"][-1].items()) or "no nvidia-smi"
    return "\n".join(
        [
            f"{card['name']}: {', '.join(f'{k} {v}' for k, v in card.items() if k != 'name')}",
            f"commit {run.commit[:8]}{' with uncommitted changes' if found['edited'] else ''}; "
            f"clocks at the end: {clocks}",
            f"{found['took']:.0f} s; two events with nothing between: "
            f"{formats.duration(found['empty'])}, contained in every cold time.",
            f"limits between the ways for small work and for large: {found['limits']}.",
            *gpu.PROTOCOL,
            *([] if found["cache released"] else [CACHE_KEPT]),
            "rate, roof: of the cold time, against the 2048-square product or the triad in memory.",
            "Libraries: microseconds of warm calls by the host's clock, and their time over ours;",
            "every step is waited for before the next is queued, of all of them.",
            *_left_out(found),
            _cells(run, found),
            *_complaints(found),
        ]
    )


def _cells(run, found):
    """A row for every cell that was reached."""
    beside = {table.cell_of(entry): entry for entry in found["peers"]}
    timed = {name: None for entry in found["peers"] for name in entry["seconds"]}
    _, *libraries = timed or [None]  # ours is the first
    rows = []
    for entry in found["cells"]:
        cell = results.Cell(**entry["cell"])
        if cell.function not in roofline.CEILINGS:
            warm, cold = run.times.get((cell, gpu.BACKEND)), entry["cold"]
            names = cell.function, cell.variant, cell.layer, cell.dtype, formats.batch_name(cell)
            verdict = entry["verdict"].partition(":")[0]
            times = ["" if t is None else formats.duration(t) for t in (warm, cold)]
            times[1] += " *" if entry["queued"] is False else ""
            peers = _beside(beside.get(cell), libraries)
            rows.append([*names, verdict, *times, *_share(run, cell, cold), *peers])
    header = ["function", "variant", "layer", "dtype", "batch", "", "warm", "cold", "rate", "roof"]
    header += [*libraries, *(f"x {name}" for name in libraries)]
    return tabulate(rows, header, disable_numparse=True)


def _left_out(found):
    """What could not be measured, and why."""
    skipped = Counter(
        entry["verdict"].partition(": ")[2]
        for entry in found["cells"]
        if entry["verdict"].startswith(journal.SKIPPED)
    )
    lines = [*found["missing"], *(f"{count} cells: {reason}" for reason, count in skipped.items())]
    return [f"not measured: {line}" for line in lines]


def _complaints(found):
    """Whatever is wrong or failed, and why."""
    lines = []
    for entry in found["cells"]:
        if entry["verdict"].startswith(journal.BAD):
            cell = results.Cell(**entry["cell"])
            lines += [f"{cell}: {entry['verdict']}", f"  {replay.line(cell, gpu.BACKEND)}"]
    entries = [(entry["key"], entry["verdict"]) for entry in (*found["borders"], *found["peers"])]
    lines += [f"{what}: {verdict}" for what, verdict in entries if verdict.startswith(journal.BAD)]
    for entry in found["peers"]:
        lines += [f"{entry['key']}, {name}: {why}" for name, why in entry["refused"].items()]
    if lines:
        return lines
    if not found["finished"]:
        return ["Every operation that was reached agrees with the float64 reference."]
    return ["Every operation agrees with the float64 reference, borders included."]


def _share(run, cell, seconds):
    """Rate and share of the roof of a call that finds its data in main memory."""
    roof = roofline.Roof.measured(run, [gpu.BACKEND], cell.dtype)
    roof = roof and dataclasses.replace(roof, streams=roof.streams[-1:])
    return formats.against_roof(roof, cell, seconds)


def _beside(entry, libraries):
    """The times of the libraries and how many times faster ours is."""
    if entry is None:
        return [""] * (2 * len(libraries))
    times = [entry["seconds"].get(name) for name in libraries]
    ours = entry["seconds"].get(gpu.BACKEND)
    shown = [formats.number(1e6 * statistics.median(t)) if t else "" for t in times]
    pairs = [(slow, ours) if slow and ours else None for slow in times]
    ratios = [[a / b for a, b in zip(*pair, strict=True)] if pair else None for pair in pairs]
    return [*shown, *(formats.number(statistics.median(r)) if r else "" for r in ratios)]
