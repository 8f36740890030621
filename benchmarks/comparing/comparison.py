"""What is known of two commits, in a folder: their cells, and the blocks that are finished."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..running import journal, machine
from . import sides, verdicts


@dataclass
class Comparison:
    """The cells that both sides have, how often each is called, and what was measured."""

    folder: Path  # of what is measured
    built: Path  # base/ and head/
    commits: tuple
    cells: dict = field(default_factory=dict)  # {name: {function, control, ours, number, ...}}
    missing: dict = field(default_factory=dict)  # {name: (state, why)}
    slowed: float | None = None  # by what head is slowed down on purpose
    blocks: list = field(default_factory=list)

    @property
    def broken(self):
        """The cells at which head is wrong or failed."""
        return {n: why for n, why in self.missing.items() if why[0] in journal.BAD}

    @property
    def functions(self):
        """Of each cell, by order."""
        return [cell["function"] for cell in self.cells.values()]

    def count(self, stage):
        return len(self._times(stage))

    def ratios(self, stage, names=None):
        """(cells, blocks) log-ratios of a stage, of all cells unless it looked at these alone."""
        names, found = list(self.cells if names is None else names), self._times(stage)
        rows = [[math.log(head / base) for base, head in _both(found, n)] for n in names]
        return np.array(rows).reshape(len(rows), len(found))

    def seconds(self, stage):
        """(base, head): the times of all cells, each (cells, blocks), of a stage that saw them."""
        both = np.array([list(_both(self._times(stage), name)) for name in self.cells])
        return both[..., 0], both[..., 1]

    def chosen(self):
        """The names of the cells that stage 2 looks at, those first that differ most in stage 1.

        Of what is begun only those that every block has: what is left out stays out.
        """
        first = self.ratios(1)
        again = verdicts.chosen(first, self.functions)
        order = np.argsort(-verdicts.differs(first, self.functions), kind="stable")
        names, begun = list(self.cells), self._times(2)
        return [names[k] for k in order if again[k] and all(names[k] in times for times in begun)][
            : verdicts.MOST
        ]

    def add(self, block):
        """Keeps a finished block."""
        with open(self.folder / "blocks.jsonl", "a") as file:
            file.write(json.dumps(block) + "\n")
        self.blocks.append(block)

    def give_up(self, name, side, why):
        """Compares a cell no more, at which a side failed after it was checked."""
        del self.cells[name]
        state = journal.FAILED if side == sides.HEAD else journal.SKIPPED
        self.missing[name] = state, f"{side}: {why}"
        self.keep()

    def keep(self):
        """Writes down the cells, and where they are measured."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "cells.partial"
        known = {"of": self.of(), "cells": self.cells, "missing": self.missing}
        partial.write_text(json.dumps(known, indent=1))
        partial.replace(self.folder / "cells.json")

    def resume(self):
        """Takes up what the folder holds of it; returns whether it holds anything.

        Raises ValueError where that is of another comparison, or was measured elsewhere.
        """
        if not (known := self.folder / "cells.json").is_file():
            return False
        known = json.loads(known.read_text())
        if known["of"] != self.of():
            raise ValueError(f"{self.folder} holds another comparison, or another machine's")
        self.cells, self.missing = known["cells"], known["missing"]
        if (lines := self.folder / "blocks.jsonl").is_file():
            whole, ended, _ = lines.read_text().rpartition("\n")  # a kill may have torn the last
            lines.write_text(whole + ended)
            self.blocks = [json.loads(line) for line in whole.splitlines()]
        return True

    def of(self):
        """Of which commits it is, and where it was measured."""
        here = {**machine.hardware(), **machine.versions(), **machine.settings()}
        return {"commits": list(self.commits), "slowed": self.slowed, **here}

    def _times(self, stage):
        return [block["times"] for block in self.blocks if block["stage"] == stage]


def slowed_down(cells, slowed):
    """The cells of a comparison of equal code; what is slowed down is no control."""
    return {n: {**c, "control": not (slowed and c["ours"])} for n, c in cells.items()}


def _both(found, name):
    """(base, head) in each block: the seconds of a call."""
    return (times(*block[name]) for block in found)


def times(order, seconds):
    """A block's time of each side: that of its quickest turn, because what disturbs a machine only
    ever makes it longer, and often half of the turns.
    """
    turns = list(zip(order, seconds, strict=True))
    return [min(seconds for side, seconds in turns if side == wanted) for wanted in (0, 1)]
