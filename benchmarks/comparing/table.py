"""A comparison as plain numbers, as a table, and as the summary of a pull request."""

import math
from collections import Counter

import numpy as np
from tabulate import tabulate

from ..running.journal import BAD
from . import verdicts

RANK = (verdicts.SLOWER, verdicts.FASTER, verdicts.UNSURE, verdicts.SAME)
HEADERS = ("cell or function", "verdict", "head / base", "99 %", "blocks", "")
SHOWN = 40  # rows
FINDINGS = {
    verdicts.EQUAL: "nothing is found slower",
    verdicts.WORSE: "SLOWER",
    verdicts.BROKEN: "WRONG or failed",
    verdicts.NO_VERDICT: "NO VERDICT",
}


def judged(comparison):
    """What is known, as plain numbers: {status, finding, cells, functions, ...}."""
    functions = comparison.functions
    controls = [cell["control"] for cell in comparison.cells.values()]
    status, cells, groups, counts = (
        verdicts.NO_VERDICT,
        [],
        {},
        [comparison.count(s) for s in (1, 2)],
    )
    why = "its blocks are not complete"
    if comparison.cells and counts[0] == verdicts.CHOOSING:
        names = set(comparison.chosen())
        again = np.array([name in names for name in comparison.cells])
        second = comparison.ratios(2, [n for n in comparison.cells if n in names])
        cells, groups = verdicts.judge(comparison.ratios(1), second, functions, again)
        if not names or counts[1] == verdicts.JUDGING:
            status = verdicts.status(cells, groups, functions, controls)
            why = "what has equal code differs"
    if comparison.broken:
        status = verdicts.BROKEN
    return {
        "base": comparison.commits[0],
        "head": comparison.commits[1],
        "status": status,
        "finding": FINDINGS[status] + f": {why}" * (status == verdicts.NO_VERDICT),
        "blocks": counts,
        "functions": {name: _plain(verdict) for name, verdict in groups.items()},
        "cells": {
            name: {**_plain(verdict), "control": control}
            for name, verdict, control in zip(comparison.cells, cells, controls, strict=False)
        },
        "missing": comparison.missing,
    }


def render(found, form="simple"):
    """The table of all but SAME with one mode, what is found, and how many of each there are."""
    both = [*found["functions"].items(), *found["cells"].items()]
    said = [(n, each) for n, each in both if each["verdict"] != verdicts.SAME or each["modes"]]
    said.sort(key=lambda row: (RANK.index(row[1]["verdict"]), -abs(math.log(row[1]["ratio"]))))
    rows = [_row(name, each) for name, each in said[:SHOWN]]
    broken = [[name, *why] for name, why in found["missing"].items() if why[0] in BAD]
    counts = Counter(each["verdict"] for each in found["cells"].values())
    controls = sum(each["control"] for each in found["cells"].values())
    words = ", ".join(f"{counts[word]} {word}" for word in RANK)
    left = Counter(why for state, why in found["missing"].values() if state not in BAD)
    parts = [
        tabulate(broken, ("cell", "", "why"), form) if broken else "",
        tabulate(rows, HEADERS, form, disable_numparse=True) if rows else "",
        f"{len(said) - SHOWN} more are not shown" if len(said) > SHOWN else "",
        f"{found['finding']}; head {found['head'][:12]} against base {found['base'][:12]}",
        f"{len(found['cells'])} cells: {words}; {controls} are controls. "
        "Blocks: {} that choose, {} that judge.".format(*found["blocks"]),
        "\n".join(f"{n} cells are not compared: {why}" for why, n in left.most_common(3)),
    ]
    return "\n\n".join(filter(None, parts))


def markdown(found):
    """The same as the summary of a pull request."""
    return f"### Times: {found['finding']}\n\n{render(found, 'github')}\n"


def _row(name, each):
    low, high = each["interval"]
    remarks = ["control"] if each.get("control") else []
    if each["modes"]:
        modes = " and ".join(f"{ratio:.3f} ({blocks})" for ratio, blocks in each["modes"])
        remarks.append(f"two modes: {modes}")
    if each["verdict"] == verdicts.UNSURE and high is not None:
        hidden = {"slower": high - 1, "faster": 1 / low - 1}
        may = " or ".join(f"{most:.0%} {how}" for how, most in hidden.items() if most > 0)
        remarks.append(f"may be {may}")
    span = "unknown" if low is None else f"{low:.3f} to {high:.3f}"
    ratio = f"{each['ratio']:.3f}"
    return [name, each["verdict"], ratio, span, each["blocks"], ", ".join(remarks)]


def _plain(verdict):
    known = math.isfinite(verdict.low)
    return {
        "verdict": verdict.word,
        "ratio": math.exp(verdict.estimate),
        "interval": [math.exp(x) if known else None for x in (verdict.low, verdict.high)],
        "blocks": verdict.blocks,
        "modes": [[math.exp(ratio), blocks] for ratio, blocks in verdict.modes],
    }
