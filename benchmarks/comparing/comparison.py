"""What is known of two commits, in a folder below .asv/compare: cells, and finished blocks."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..running import journal
from . import sides, verdicts

SAMPLE = 0.001  # seconds of calls in a row
ROUNDS = 4  # of four samples each, in a block
LONGEST = 0.1  # seconds of all samples; where they take longer there are fewer rounds
SLOWEST = 0.1  # seconds of a call; cells beyond are left out


@dataclass
class Comparison:
    """The cells that both sides have, how often each is called, and what was measured."""

    folder: Path  # base/ and head/ lie beside it
    commits: tuple
    cells: dict = field(default_factory=dict)  # {name: {function, control, number, rounds}}
    missing: dict = field(default_factory=dict)  # {name: (state, why)}
    slowed: float = 1  # by what head is slowed down on purpose
    blocks: list = field(default_factory=list)

    @property
    def broken(self):
        """The cells at which head is wrong or failed."""
        return {n: why for n, why in self.missing.items() if why[0] in journal.BAD}

    def ratios(self, stage, names=None):
        """(cells, blocks) log-ratios of a stage, of all cells unless it looked at these alone."""
        names = self.cells if names is None else names
        found = [block["times"] for block in self.blocks if block["stage"] == stage]
        rows = [[log_ratio(*times[name]) for times in found] for name in names]
        return np.array(rows).reshape(len(rows), len(found))

    def seconds(self, stage):
        """(base, head): the times of all cells, each (cells, blocks), of a stage that saw them."""
        found = [block["times"] for block in self.blocks if block["stage"] == stage]
        both = np.array([[times(*each[name]) for each in found] for name in self.cells])
        return both[..., 0], both[..., 1]

    def chosen(self):
        """The names of the cells that stage 2 looks at: what is begun stays as it is."""
        again = verdicts.chosen(self.ratios(1), [c["function"] for c in self.cells.values()])
        names = [name for name, each in zip(self.cells, again, strict=True) if each]
        begun = [block["times"] for block in self.blocks if block["stage"] == 2]
        return [name for name in names if all(name in times for times in begun)]

    def count(self, stage):
        return sum(block["stage"] == stage for block in self.blocks)

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
        """Writes down the cells."""
        partial = self.folder / "cells.partial"
        partial.write_text(json.dumps([self.cells, self.missing], indent=1))
        partial.replace(self.folder / "cells.json")


def log_ratio(order, seconds):
    """ln(head / base) of a block's samples."""
    base, head = times(order, seconds)
    return math.log(head / base)


def times(order, seconds):
    """A block's time of each side: the lower quartile of its samples.

    What disturbs a machine makes samples longer, and on a busy one it does so with half of them.
    """
    sides_of, seconds = np.array(order), np.array(seconds)
    return [float(np.quantile(seconds[sides_of == side], 0.25)) for side in (0, 1)]


def opened(base, head, only=(), say=print, audit=None, slowed=1):
    """The Comparison of two commits, with what is known of it already.

    only: names as `run` takes them; audit: the number of an audit's comparison; slowed: by what
    head is to be slowed down. Raises ValueError for an unknown commit or name, RuntimeError
    where a commit cannot be built or does not start.
    """
    commits = sides.commit(base), sides.commit(head)
    pair = sides.FOLDER / "-".join(c[:12] for c in commits)
    if slowed != 1:
        pair = pair.with_name(f"{pair.name}-slowed-{slowed}")
    folder = pair / ("-".join(sorted(only)) or "all")
    if audit is not None:
        folder = folder.with_name(f"{folder.name}-audit-{audit}")
    folder.mkdir(parents=True, exist_ok=True)
    say("building both commits")
    sides.built(pair, commits, slowed)
    comparison = Comparison(folder, commits, slowed=slowed)
    if (known := folder / "cells.json").is_file():
        comparison.cells, comparison.missing = json.loads(known.read_text())
    else:
        comparison.cells, comparison.missing = _checked(pair, only, say)
        comparison.keep()
    if (lines := folder / "blocks.jsonl").is_file():
        comparison.blocks = [json.loads(line) for line in lines.read_text().split("\n")[:-1]]
    return comparison


def _checked(pair, only, say):
    """(cells, missing): both sides against the oracle, in a process each."""
    cells, missing, both = {}, {}, [_Checking(pair / side) for side in sides.SIDES]
    try:
        digests, listed = (
            {n: rest for n, *rest in side.process.ask("cells", only)} for side in both
        )
        for number, (name, (function, digest)) in enumerate(listed.items()):
            if number % 50 == 0:
                say(f"checking {number} of {len(listed)} cells against the reference")
            (before, reason, _), (state, why, seconds) = (side.check(name) for side in both)
            if state != journal.CORRECT:
                missing[name] = state, why
            elif before != journal.CORRECT:
                missing[name] = journal.SKIPPED, f"base is {before}: {reason}"
            elif seconds > SLOWEST:
                missing[name] = journal.SKIPPED, f"a call takes {seconds:.2g} s"
            else:
                number = max(1, round(SAMPLE / seconds))
                cells[name] = {
                    "function": function,
                    "control": digests[name] == [function, digest],
                    "number": number,
                    "rounds": max(1, min(ROUNDS, int(LONGEST / (4 * number * seconds)))),
                }
    finally:
        for side in both:
            side.process.close()
    return cells, missing


class _Checking:
    """A side that goes on with another process where one has died."""

    def __init__(self, folder):
        self.folder, self.process = folder, sides.Process(folder)

    def check(self, name):
        try:
            return self.process.ask("check", name)
        except sides.Failed as reason:
            self.process.close()
            self.process = sides.Process(self.folder)
            return journal.FAILED, str(reason), 0
