"""The blocks of a comparison, measured one after the other.

A block is a fresh process a side on one seed, which draws the order of the cells, the inputs, and
whether a cell is timed ABBA or BAAB, in each of some rounds. Both sides call as often. While one
answers the other is stopped. A comparison that was ended goes on with the next block, one that is
complete is not measured again: to measure until the answer pleases is no test.
"""

import contextlib
import math
import secrets
import time

import numpy as np

from . import sides, verdicts

ORDERS = ((0, 1, 1, 0), (1, 0, 0, 1))  # of base and head


class Lost(RuntimeError):
    """A side failed in the middle of a block: (side, cell, why)."""


def measure(known, until=math.inf, say=print, every=False):
    """Measures what a Comparison lacks, until then by time.monotonic; returns whether it is whole.

    Stage 2 looks at as many cells as there is time for, in the order of what stage 1 saw; every: at
    all of them, as an audit wants it.
    """
    for stage, count in ((1, verdicts.CHOOSING), (2, verdicts.JUDGING)):
        while (done := known.count(stage)) < count:
            names = list(known.cells) if stage == 1 or every else known.chosen()
            if not names:
                break
            start, cell = _costs(known)
            room = (until - time.monotonic()) / (count - done)  # for each block to come
            if stage == 2 and not every and room < math.inf:
                names = names[: max(0, int((room - start) / cell))]
            each = start + cell * len(names)
            if not names or each > room:
                say(f"no time for stage {stage}, whose blocks take {each:.0f} s each")
                return False
            left = f", about {each * (count - done) / 60:.0f} min left" if known.blocks else ""
            say(f"stage {stage}: block {done + 1} of {count}, {len(names)} cells{left}")
            try:
                known.add(_block(known, stage, names))
            except Lost as lost:
                side, name, why = lost.args
                known.give_up(name, side, why)
            except KeyboardInterrupt:
                say("stopped; what is finished is kept, and the same command goes on")
                return False
    return bool(known.cells)


def _costs(known):
    """The seconds that a block takes to start and that each cell takes: the medians, because other
    work on the machine makes a single block fifteen times as long.
    """
    found = [(*block["seconds"], len(block["times"])) for block in known.blocks]
    if not found:
        return 0, 0
    start, whole, cells = np.array(found).T
    return np.median(start), np.median((whole - start) / cells)


def _block(known, stage, names):
    seed, began, start = secrets.randbits(32), time.monotonic(), 0
    rng, times = np.random.default_rng(seed), {}
    with contextlib.ExitStack() as running:
        both = {
            side: running.enter_context(sides.Process(known.built / sides.SIDES[side], seed))
            for side in rng.permutation(2).tolist()
        }

        def ask(side, *question):
            try:
                return both[side].ask(*question)
            except sides.Failed as reason:
                raise Lost(sides.SIDES[side], name, str(reason)) from None

        for name in rng.permutation(names).tolist():
            cell = known.cells[name]
            slowed = (1, known.slowed) if known.slowed and cell["ours"] else (None, None)
            for side in rng.permutation(2).tolist():
                ask(side, "prepare", name, seed, slowed[side])
            start = start or time.monotonic() - began
            order = [s for coin in rng.integers(2, size=cell["rounds"]) for s in ORDERS[coin]]
            turns = [ask(side, "turn", cell["number"], cell["samples"]) for side in order]
            times[name] = order, [float(f"{seconds:.5g}") for seconds in turns]
    seconds = start, time.monotonic() - began
    return {"stage": stage, "seed": seed, "seconds": seconds, "times": times}
