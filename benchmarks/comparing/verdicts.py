"""What the blocks of a comparison say: log-ratios in, verdicts out. Nothing here measures.

A block gives one log-ratio of a cell, ln(time of head / time of base), each side in a fresh process
of its own. Blocks are the only thing counted as independent: calls, and the cells of one block,
share a process, its addresses and a moment of the machine. Nothing is assumed of their
distribution; all that is used is that one block is as likely above the true median as below.

- Estimate: the median of the blocks. Interval: two of their order statistics, so chosen that they
  hold the true median with at least 99 % (David and Nagaraja, Order Statistics, 2003, section 7.1).
- Stage 1 only chooses. A cell whose interval lies within 5 % is SAME and is left alone; all others,
  and all cells of a function of which the same is not so within 1.5 %, are looked at again. Of 8
  blocks, the fewest that have such an interval, it is the whole range: a cell that is slower by 5 %
  or more escapes only if all 8 fall below its median, with 2^-8 = 0.4 % at most.
- Stage 2 judges, from fresh blocks alone: what made a cell look bad by chance does not count twice.
  SLOWER is what a one-sided sign test against 1.05 says at 1 %, multiplied by the number of cells
  that stage 2 looks at; FASTER likewise, against 1 / 1.05. SAME: the interval lies within 5 %.
  UNSURE: none of these, with the interval, which says what may hide there. Before all 20 blocks are
  there nothing is more than UNSURE: a test that may be ended at any block has no level.
- Of 20 blocks these must lie above 1.05, with so many cells judged: 17 for up to 7 cells, 18 for up
  to 49, 19 for up to 499, all 20 for up to 10,485 (p = 2^-20), MOST. So a cell that is 1.1 times as
  slow is found in 99 of 100 comparisons where one block deviates by no more than 1.9 % of it (19 of
  20 needed; 1.4 % with all 20), one 1.3 times as slow up to 8.7 %.
- The cells of a function have more to say together: of every block the median over the function's
  cells is one number, tested as a cell's is, but against half of 3 %, and corrected for the number
  of functions as Holm does (Scandinavian Journal of Statistics 6, 1979). So a uniform 3 % is found.
  It takes three cells: one or two may well have been placed worse in memory.
- Controls are cells whose machine code is equal on both sides. Where one of them, or a function
  that has no others, is found SLOWER or FASTER, something else than the code differs: NO VERDICT.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

SLOWER, FASTER, SAME, UNSURE = "SLOWER", "FASTER", "SAME", "UNSURE"
LEVEL = 0.01  # the chance of one false SLOWER among all cells
CONFIDENCE = 1 - LEVEL  # of an interval
CHOOSING, JUDGING = 8, 20  # blocks of the stages
MOST = int(LEVEL * 2**JUDGING)  # cells that can be judged: of more, 20 of 20 blocks say nothing
CELL = math.log(1.05)
FUNCTION = math.log(1.015)  # half of a uniform 3 %, as 1.05 is half of 1.1
TOGETHER = 3  # cells that a function needs to be judged as one
EQUAL, WORSE, BROKEN, NO_VERDICT = range(4)  # what the process returns


@dataclass(frozen=True)
class Verdict:
    """What is known of a cell, or of a function: its log-ratio and where it comes from."""

    word: str
    estimate: float
    low: float
    high: float
    blocks: int
    modes: tuple = ()  # (log-ratio, blocks) of two modes


@cache
def tail(count, blocks):
    """The chance that of so many fair coins at least `count` fall on one side."""
    return sum(math.comb(blocks, k) for k in range(count, blocks + 1)) / 2**blocks


def interval(ratios):
    """The order statistics (low, high) about the median of the last axis; infinite if too few."""
    blocks = ratios.shape[-1]
    outside = [k for k in range(blocks // 2) if 2 * tail(blocks - k, blocks) <= 1 - CONFIDENCE]
    if not outside:
        return np.full(ratios.shape[:-1], -np.inf), np.full(ratios.shape[:-1], np.inf)
    ordered = np.sort(ratios, axis=-1)
    return ordered[..., outside[-1]], ordered[..., blocks - 1 - outside[-1]]


def within(ratios, margin):
    """Whether the interval lies within the margin on both sides of equality."""
    low, high = interval(ratios)
    return (low > -margin) & (high < margin)


def sign_test(ratios, margin):
    """p of the hypothesis that the median of the last axis is the margin or less."""
    blocks = ratios.shape[-1]
    table = np.array([tail(k, blocks) for k in range(blocks + 1)])
    return table[(ratios > margin).sum(axis=-1)]


def bonferroni(p):
    """p, corrected for being one of those along the last axis."""
    return p * p.shape[-1]


def holm(p):
    """p, corrected likewise, but the second smallest for one fewer, and so on."""
    count, order = p.shape[-1], np.argsort(p, axis=-1)
    stepped = np.take_along_axis(p, order, -1) * np.arange(count, 0, -1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.maximum.accumulate(stepped, axis=-1), -1)
    return corrected


def words(ratios, margin, correct):
    """The verdict on each row of (..., rows, blocks), the rows corrected for one another."""
    found = np.where(within(ratios, margin), SAME, UNSURE)
    found = np.where(correct(sign_test(ratios, margin)) < LEVEL, SLOWER, found)
    found = np.where(correct(sign_test(-ratios, margin)) < LEVEL, FASTER, found)
    return found if ratios.shape[-1] == JUDGING else np.full_like(found, UNSURE)


def together(functions):
    """{function: the numbers of its cells} of those that can be judged as one."""
    cells = {}
    for number, function in enumerate(functions):
        cells.setdefault(function, []).append(number)
    return {name: found for name, found in cells.items() if len(found) >= TOGETHER}


def pooled(ratios, cells):
    """The log-ratios of a function, one a block, of (..., cells, blocks)."""
    return np.median(ratios[..., cells, :], axis=-2)


def chosen(first, functions):
    """Which cells of stage 1, (..., cells, blocks), stage 2 shall look at."""
    again = ~within(first, CELL)
    for cells in together(functions).values():
        again[..., cells] |= ~within(pooled(first, cells), FUNCTION)[..., None]
    return again


def differs(first, functions):
    """How far each cell of stage 1, or its function as a whole, is from the same, in margins."""
    found = np.abs(np.median(first, axis=-1)) / CELL
    for cells in together(functions).values():
        whole = np.abs(np.median(pooled(first, cells))) / FUNCTION
        found[cells] = np.maximum(found[cells], whole)
    return found


def judge(first, second, functions, again):
    """(the Verdict on each cell, {function: Verdict}).

    first: stage 1's log-ratios, (cells, blocks); functions: the name of each cell's; again: which
    cells stage 2 has looked at; second: its log-ratios, (these, blocks), in the same order. What it
    has not looked at is SAME by stage 1, or UNSURE.
    """
    if len(second) != again.sum():
        raise ValueError(f"second must have the {again.sum()} cells chosen, got {len(second)}")
    cells = [_left(row, CELL) for row in first]
    place, groups = np.cumsum(again) - 1, together(functions)
    found = {name: _left(pooled(first, group), FUNCTION) for name, group in groups.items()}
    if not second.shape[-1]:
        return cells, found
    judged = zip(np.flatnonzero(again), second, words(second, CELL, bonferroni), strict=True)
    for number, row, word in judged:
        cells[number] = _verdict(word, row)
    open_ = [n for n, group in groups.items() if found[n].word != SAME and again[group].all()]
    if open_:
        rows = np.stack([pooled(second, place[groups[name]]) for name in open_])
        for name, row, word in zip(open_, rows, words(rows, FUNCTION, holm), strict=True):
            found[name] = _verdict(word, row)
    return cells, found


def status(cells, functions, names, controls, broken=False):
    """What the process returns; functions, by name, and each cell's function as `judge` has them.

    controls: whether each cell is one; broken: whether head is wrong or failed anywhere.
    """
    if broken:
        return BROKEN
    pure = {n for n in functions if all(c for c, f in zip(controls, names, strict=True) if f == n)}
    same = [v for v, control in zip(cells, controls, strict=True) if control]
    same += [functions[name] for name in pure]
    if any(verdict.word in (SLOWER, FASTER) for verdict in same):
        return NO_VERDICT
    everything = [*cells, *functions.values()]
    return WORSE if any(verdict.word == SLOWER for verdict in everything) else EQUAL


APART = 6  # widths of a mode between two: one normal mode cut in half looks 2.7 apart
MODE = 3  # blocks that make a mode


def modes(ratios):
    """((log-ratio, blocks), (log-ratio, blocks)) where the blocks fall into two heaps, else ().

    The cut is the one that leaves the least squares within; the heaps' means have to be APART
    times the deviation within, and a tenth of the margin, so that a coarse clock makes none.
    """
    ordered = np.sort(ratios)
    cuts = np.arange(MODE, len(ordered) - MODE + 1)
    if not len(cuts):
        return ()
    centred = ordered - ordered.mean()
    sums, of_squares = np.cumsum(centred)[cuts - 1], np.square(centred).sum()
    squares = of_squares - sums**2 * len(ordered) / (cuts * (len(ordered) - cuts))
    low, high = np.split(ordered, [cuts[np.argmin(squares)]])
    width = math.sqrt(max(0.0, squares.min()) / (len(ordered) - 2))
    if high.mean() - low.mean() <= max(APART * width, CELL / 10):
        return ()
    return tuple((float(np.median(part)), len(part)) for part in (low, high))


def _left(row, margin):
    """What is said of what stage 2 has not looked at."""
    return _verdict(SAME if within(row, margin) else UNSURE, row)


def _verdict(word, row):
    low, high = interval(row)
    return Verdict(str(word), float(np.median(row)), float(low), float(high), len(row), modes(row))
