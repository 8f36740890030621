"""`python -m benchmarks compare --self-test`: what the harness says where the truth is known.

A commit is compared with itself, some times over, and with itself slowed down on purpose: every
kernel waits after each call until it has taken so many times as long. All cells are measured in all
blocks of both stages, so that the rules of other tools can be replayed on the same ones.
"""

import numpy as np
from tabulate import tabulate

from . import blocks, comparison, others, table, verdicts

PLANTED = (1.03, 1.1, 1.3)
OURS = "this comparison"
LONG = 10e-6  # seconds of a call: to those below the waiting adds more than it should


def measure(commit, rounds, only, until, say):
    """{factor: [Comparison]} of those that are whole; 1 is the commit against itself."""
    found = {}
    for factor, number in [(1, k) for k in range(rounds)] + [(f, 0) for f in PLANTED]:
        known = comparison.opened(commit, commit, only, say, audit=number, slowed=factor)
        if not blocks.measure(known, until, say, every=True):
            break
        found.setdefault(factor, []).append(known)
    return found


def counts(known):
    """{tool: {word: cells}} of a comparison, and what ours says of functions.

    Of one that is slowed down the cells that are so, and whose calls are long enough.
    """
    names, found = list(known.cells), table.judged(known)
    base, head = known.seconds(2)
    long = np.median(base, axis=1) >= LONG
    words = {OURS: np.array([found["cells"][name]["verdict"] for name in names])}
    words |= others.replay(base, head)
    if known.slowed != 1:
        long &= [not cell["control"] for cell in known.cells.values()]
        words = {tool: said[long] for tool, said in words.items()}
    words[f"{OURS}, functions"] = np.array([v["verdict"] for v in found["functions"].values()])
    return {tool: _counted(said) for tool, said in words.items()}


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
        for factor in PLANTED:
            words = total.get(factor, {}).get(tool)
            row.append(f"{words[verdicts.SLOWER]} of {sum(words.values())}" if words else "")
        rows.append(row)
    headers = ["rule", "false alarms", "unsure", *(f"{factor} found" for factor in PLANTED)]
    return tabulate(rows, headers, disable_numparse=True)


def _counted(said):
    return {word: int((said == word).sum()) for word in table.RANK}
