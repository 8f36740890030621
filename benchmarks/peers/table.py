"""The table of a run: a row a cell, our time beside every peer's, and their ratios below.

Ours is the run's `subject`, the contender that was named first.

All ratios are of the same round, so above 1 ours is faster; a cell's is the median of its rounds.
"""

import math
from statistics import quantiles

from tabulate import tabulate

import kernels

from .. import bench_network
from ..reports import formats, results
from ..running import isa
from . import floors


def render(run):
    """The tables of one number of threads."""
    names = [name for name in run["contenders"] if any(name in c["seconds"] for c in run["cells"])]
    parts = [head(run), cells(run, names), throughput(run, names), summary(run)]
    parts += [alone(run), refusals(run)]
    return "\n\n".join(part for part in parts if part)


def head(run):
    """What was measured, with what, and the ceilings of the same run."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    lines = [
        f"{threads(run)}, float32, {run['rounds']} rounds, {run['took']:.0f} s; {versions}",
        f"ceilings: {formats.number(run['ceilings']['flops'] / 1e9)} GFLOP/s (multiply-adds from "
        f"registers), {formats.streams(floors.roof(run['ceilings']))}",
        *instructions(run),
        "Median microseconds a call. floor: what the operations or the bytes take at the ceilings",
        "of the same rounds. roof: the floor over our time.",
        "x best: how many times faster ours is than the best peer that can train, median and",
        "quartiles of the rounds.",
    ]
    fixed = [name for name, trains in run["contenders"].items() if not trains]
    lines += [f"{name}: inference only, its weights are packed beforehand." for name in fixed]
    return "\n".join(lines + [f"not measured: {line}" for line in run["missing"]])


def instructions(run):
    """What all are held to, and what each library says that it uses, where that is not all."""
    if run.get("isa", isa.NATIVE) == isa.NATIVE:
        return []
    told = ", ".join(f"{name} {says}".strip() for name, says in run["instructions"].items())
    return [f"held to {run['isa']}: {told}"]


def threads(run):
    """The number of threads, in words."""
    return f"{run['threads']} thread{'s' * (run['threads'] > 1)}"


def cells(run, names):
    """A row for every cell."""
    rows = []
    for record in run["cells"]:
        peer = best(run, record)
        rows.append(
            [
                operation(record),
                record["layer"],
                _where(record),
                _entry(record, floors.FLOOR),
                *(_entry(record, name) for name in names),
                peer or "",
                _spread(ratios(run, record, peer)) if peer else "",
                _share(run, record),
            ]
        )
    header = ["operation", "layer", "batch", "floor", *names, "best peer", "x best", "roof"]
    align = ["left", "left", *["right"] * (2 + len(names)), "left", "left", "right"]
    return tabulate(rows, header, colalign=align if rows else None, disable_numparse=True)


def throughput(run, names):
    """Rows a second of the training steps."""
    rows = [
        [
            record["layer"],
            _where(record),
            *(
                formats.scaled(record["batch"] / median(record["seconds"][name]))
                if name in record["seconds"]
                else "-"
                for name in names
            ),
        ]
        for record in run["cells"]
        if record["operation"] == bench_network.STEP
    ]
    if not rows:
        return ""
    align = ["left", *["right"] * (1 + len(names))]
    header = ["samples a second", "batch", *names]
    return tabulate(rows, header, colalign=align, disable_numparse=True)


def summary(run):
    """Geometric means and worst cells, by operation and of all, against each peer."""
    rows = []
    peers = [None, *(name for name in run["contenders"] if name != run["subject"])]
    groups = {operation(record): [] for record in run["cells"]} | {"all": run["cells"]}
    for record in run["cells"]:
        groups[operation(record)].append(record)
    for group, records in groups.items():
        for peer in peers if group == "all" else peers[:1]:
            found = []
            for record in records:
                other = peer or best(run, record)
                if other and (faster := ratios(run, record, other)):
                    found.append((median(faster), record))
            if found:
                worst, record = min(found, key=lambda entry: entry[0])
                mean = math.exp(sum(math.log(each) for each, _ in found) / len(found))
                where = f"{operation(record)} {record['layer']} {_where(record)}"
                against = peer or "best that can train"
                numbers = (formats.number(mean), formats.number(worst))
                rows.append([group, against, len(found), *numbers, where.strip()])
    header = ["operation", "against", "cells", "geometric mean", "worst", "at"]
    return tabulate(rows, header, disable_numparse=True) if rows else ""


def alone(run):
    """The operations that no library here has: beside ours stands at most NumPy."""
    own = {run["subject"], *kernels.BACKENDS, floors.FLOOR}
    found = {operation(record): False for record in run["cells"]}
    for record in run["cells"]:
        found[operation(record)] |= bool({*record["seconds"], *record["refused"]} - own)
    without = [name for name, has_peer in found.items() if not has_peer]
    return f"No library here has: {', '.join(without)}" if without else ""


def refusals(run):
    """Whose answer differed or who failed, and why; these have no time."""
    lines = []
    for record in run["cells"]:
        for name, reason in record["refused"].items():
            where = f"{operation(record)} {record['layer']} {record['batch'] or ''}".strip()
            lines.append(f"{name}, {where}: {reason.strip().splitlines()[0]}")
    return "\n".join(lines)


def operation(record):
    """Its name and variant."""
    return " ".join(filter(None, (record["operation"], record["variant"])))


def share(run, record):
    """The floor over our time, median of the rounds; None where one of them has none."""
    found = ratios(run, record, floors.FLOOR)
    return median(found) if found else None


def best(run, record):
    """The peer with the least median among those that can train; None where there is none."""
    peers = (name for name in record["seconds"] if name != run["subject"])
    trains = [name for name in peers if run["contenders"].get(name)]
    return min(trains, key=lambda name: median(record["seconds"][name]), default=None)


def ratios(run, record, peer):
    """The peer's time over ours in every round; empty where one of them has none."""
    ours, theirs = (record["seconds"].get(name, ()) for name in (run["subject"], peer))
    return [slow / fast for slow, fast in zip(theirs, ours, strict=False)]


def median(values):
    """The middle one of the quartiles."""
    return quartiles(values)[1]


def quartiles(values):
    """Lower quartile, median, upper quartile."""
    return quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3


def cell_of(record):
    """The record's cell, as in the report."""
    names = (record[name] for name in ("operation", "variant", "layer"))
    return results.Cell(*names, "float32", record["batch"] or None)


def _where(record):
    """The batch as reports print it."""
    return formats.batch_name(cell_of(record))


def _entry(record, name):
    if name in record["seconds"]:
        return _micro(median(record["seconds"][name]))
    return record["refused"].get(name, "-").partition(":")[0]


def _spread(values):
    if not values:
        return ""
    low, middle, high = map(formats.number, quartiles(values))
    return f"{middle} ({low}-{high})"


def _share(run, record):
    found = share(run, record)
    return "" if found is None else formats.percent(found)


def _micro(seconds):
    return formats.number(seconds / 1e-6)
