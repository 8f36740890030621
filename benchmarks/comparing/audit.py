"""`python -m benchmarks compare --self-test`: what the harness says where the truth is known.

A commit is compared with itself, some times over, and with itself slowed down on purpose: after
each call a side waits until it has taken so many times as long, base 1 time. All cells are measured
in all blocks of both stages, so that the rules of other tools can be replayed on the same ones.
"""

from dataclasses import replace

import numpy as np
from tabulate import tabulate

from . import blocks, comparison, opening, others, sides, table, verdicts

PLANTED = (1.1, 1.03, 1.3)  # in the order of what there may be no time for
OURS = "this comparison"
LONG = 10e-6  # seconds of a call: to those below the waiting adds more than it should


def measure(commit, rounds, only, folder, until, say):
    """(the folder, {factor: [Comparison]} of those that are whole); 1: the commit with itself."""
    name = "-".join(sorted(only)) or "all"
    folder = folder or sides.FOLDER / f"{sides.commit(commit)[:12]}-self-test" / name
    first, found = opening.opened(commit, commit, only, say, folder, until, every=True), {}
    for factor, number in [(1, k) for k in range(rounds)] + [(f, 0) for f in PLANTED]:
        known = planted(first, factor, f"equal-{number + 1}" if factor == 1 else f"slowed-{factor}")
        say(f"{known.folder.name}:")
        if not blocks.measure(known, until, say, every=True):
            break
        found.setdefault(factor, []).append(known)
    return folder, found


def planted(known, factor, name):
    """The comparison once more, in a folder of its own."""
    slowed = None if factor == 1 else factor
    cells = comparison.slowed_down(known.cells, slowed)
    again = replace(known, folder=known.folder / name, cells=cells, slowed=slowed, blocks=[])
    again.missing = dict(known.missing)
    if not again.resume():
        again.keep()
    return again


def counts(known):
    """{tool: {word: cells}} of a comparison, and what ours says of functions.

    Of one that is slowed down the cells that are so, and whose calls are long enough.
    """
    found = table.judged(known)
    base, head = known.seconds(2)
    words = {OURS: np.array([each["verdict"] for each in found["cells"].values()])}
    words |= others.replay(base, head)
    if known.slowed:
        asked = np.array([not cell["control"] for cell in known.cells.values()])
        asked &= np.median(base, axis=1) >= LONG
        words = {tool: said[asked] for tool, said in words.items()}
    of = {name for name, cell in zip(known.functions, known.cells.values(), strict=True)
          if not known.slowed or not cell["control"]}  # fmt: skip
    functions = {name: each["verdict"] for name, each in found["functions"].items() if name in of}
    words[f"{OURS}, functions"] = np.array(list(functions.values()))
    return {tool: {w: int((said == w).sum()) for w in table.RANK} for tool, said in words.items()}


def summed(measured):
    """{factor: {tool: {word: cells}}} over all comparisons of a factor."""
    total = {}
    for factor, found in measured.items():
        for tool, words in (pair for known in found for pair in counts(known).items()):
            row = total.setdefault(factor, {}).setdefault(tool, dict.fromkeys(table.RANK, 0))
            for word, number in words.items():
                row[word] += number
    return total


def alarms(total, tool=OURS):
    """The cells of equal code that a tool calls slower or faster."""
    words = total.get(1, {}).get(tool, {})
    return words.get(verdicts.SLOWER, 0) + words.get(verdicts.FASTER, 0)


def render(total):
    """A row a tool: what it calls slower or faster of equal code, and what of it that is slower."""
    rows = []
    for tool in total.get(1, {}):
        equal, cells = total[1][tool], sum(total[1][tool].values())
        row = [tool, f"{alarms(total, tool)} of {cells}", f"{equal[verdicts.UNSURE]} of {cells}"]
        for factor in sorted(PLANTED):
            words = total.get(factor, {}).get(tool)
            row.append(f"{words[verdicts.SLOWER]} of {sum(words.values())}" if words else "")
        rows.append(row)
    headers = ["rule", "false alarms", "unsure", *(f"{factor} found" for factor in sorted(PLANTED))]
    return tabulate(rows, headers, disable_numparse=True)
