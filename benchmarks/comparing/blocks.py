"""The blocks of a comparison, measured one after the other.

A block is a fresh process a side on one seed, which draws the order of the cells, the inputs, and
whether a cell is timed ABBA or BAAB, in each of some rounds. Both sides call as often. While one
answers the other is stopped. A comparison that was ended goes on with the next block, one that is
complete is not measured again: to measure until the answer pleases is no test.
"""

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

    every: stage 2 looks at all cells, as an audit wants it.
    """
    last = 0.0
    for stage, count in ((1, verdicts.CHOOSING), (2, verdicts.JUDGING)):
        while (done := known.count(stage)) < count:
            names = list(known.cells) if stage == 1 or every else known.chosen()
            if not names:
                break
            began = time.monotonic()
            if began + last > until:
                return False
            say(
                f"stage {stage}: block {done + 1} of {count}, {len(names)} cells, {last:.0f} s each"
            )
            try:
                known.add(_block(known, stage, names))
            except Lost as lost:
                side, name, why = lost.args
                known.give_up(name, side, why)
            last = time.monotonic() - began
    return True


def _block(known, stage, names):
    seed = secrets.randbits(32)
    rng, times = np.random.default_rng(seed), {}
    folders = [known.folder.parent / side for side in sides.SIDES]
    with sides.Process(folders[0], seed) as base, sides.Process(folders[1], seed) as head:
        both = base, head

        def ask(side, *question):
            try:
                return both[side].ask(*question)
            except sides.Failed as reason:
                raise Lost(sides.SIDES[side], name, str(reason)) from None

        for name in rng.permutation(names).tolist():
            for side in rng.permutation(2):
                ask(side, "prepare", name, seed)
            cell = known.cells[name]
            order = [s for coin in rng.integers(2, size=cell["rounds"]) for s in ORDERS[coin]]
            times[name] = order, [ask(side, "sample", cell["number"]) for side in order]
    return {"stage": stage, "seed": seed, "times": times}
