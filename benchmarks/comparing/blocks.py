"""The blocks of a comparison, measured one after the other; what is finished is kept in a file.

A block is a fresh process a side on one seed, which draws the order of the cells, the inputs, and
whether a cell is timed ABBA or BAAB. Both sides call as often. While one answers the other is
stopped. A comparison that was ended goes on with the next block, one that is complete is not
measured again: to measure until the answer pleases is no test.
"""

import json
import math
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..running import journal
from . import sides, verdicts

SAMPLE = 0.002  # seconds of calls in a row
SLOWEST = 0.1  # seconds of a call; cells beyond are left out
ORDERS = ((0, 1, 1, 0), (1, 0, 0, 1))  # of base and head


@dataclass
class Comparison:
    """What is known of two commits: the cells with the calls in a sample, and finished blocks."""

    folder: Path  # base/ and head/ lie beside it
    commits: tuple
    cells: dict = field(default_factory=dict)  # {name: {function, control, number}}
    missing: dict = field(default_factory=dict)  # {name: (state, why)}
    blocks: list = field(default_factory=list)

    @property
    def broken(self):
        """The cells at which head is wrong or failed."""
        return {n: why for n, why in self.missing.items() if why[0] in journal.BAD}

    def ratios(self, stage):
        """(cells, blocks) log-ratios of a stage, of the cells that it looks at."""
        found = [block["times"] for block in self.blocks if block["stage"] == stage]
        names = [name for name in self.cells if all(name in times for times in found)]
        rows = [[log_ratio(*times[name]) for times in found] for name in names if found]
        return np.array(rows).reshape(len(rows), len(found))

    def chosen(self):
        """The names of the cells that stage 2 looks at."""
        again = verdicts.chosen(self.ratios(1), [c["function"] for c in self.cells.values()])
        return [name for name, each in zip(self.cells, again, strict=True) if each]

    def count(self, stage):
        return sum(block["stage"] == stage for block in self.blocks)


def log_ratio(order, seconds):
    """ln(head / base) of a block's four samples."""
    logs = [
        [math.log(s) for side, s in zip(order, seconds, strict=True) if side == k] for k in (0, 1)
    ]
    return sum(logs[1]) / 2 - sum(logs[0]) / 2


def measure(comparison, minutes=math.inf, say=print):
    """Measures what is missing, as long as there is time; returns whether nothing is missing."""
    until, last = time.monotonic() + 60 * minutes, 0.0
    for stage, count in ((1, verdicts.CHOOSING), (2, verdicts.JUDGING)):
        names = list(comparison.cells) if stage == 1 else comparison.chosen()
        while names and (done := comparison.count(stage)) < count:
            began = time.monotonic()
            if began + last > until:
                return False
            say(
                f"stage {stage}: block {done + 1} of {count}, {len(names)} cells, {last:.0f} s each"
            )
            block = _block(comparison, stage, names)
            with open(comparison.folder / "blocks.jsonl", "a") as file:
                file.write(json.dumps(block) + "\n")
            comparison.blocks.append(block)
            last = time.monotonic() - began
    return True


def opened(base, head, only=(), say=print):
    """The Comparison of two commits, with what is known of it already.

    only: names as `run` takes them. Raises ValueError for an unknown commit or name, RuntimeError
    where a commit cannot be built or does not start.
    """
    commits = sides.commit(base), sides.commit(head)
    pair = sides.FOLDER / "-".join(c[:12] for c in commits)
    folder = pair / ("-".join(sorted(only)) or "all")
    folder.mkdir(parents=True, exist_ok=True)
    say("building both commits")
    sides.built(pair, commits)
    comparison = Comparison(folder, commits)
    known = folder / "cells.json"
    if not known.is_file():
        partial = known.with_suffix(".partial")
        partial.write_text(json.dumps(_checked(pair, only, say), indent=1))
        partial.rename(known)
    comparison.cells, comparison.missing = json.loads(known.read_text())
    if (lines := folder / "blocks.jsonl").is_file():
        comparison.blocks = [json.loads(line) for line in lines.read_text().split("\n")[:-1]]
    return comparison


def _checked(pair, only, say):
    """(cells, missing): both sides against the oracle, in a process each."""
    cells, missing = {}, {}
    with sides.Process(pair / "base") as base, sides.Process(pair / "head") as head:
        digests = {name: digest for name, _, digest in base.ask("cells", only)}
        listed = head.ask("cells", only)
        for number, (name, function, digest) in enumerate(listed):
            if number % 50 == 0:
                say(f"checking {number} of {len(listed)} cells against the reference")
            (state, why, seconds), (before, reason, _) = (
                s.ask("check", name) for s in (head, base)
            )
            if state != journal.CORRECT:
                missing[name] = state, why
            elif before != journal.CORRECT:
                missing[name] = journal.SKIPPED, f"base is {before}: {reason}"
            elif seconds > SLOWEST:
                missing[name] = journal.SKIPPED, f"a call takes {seconds:.2g} s"
            else:
                calls = max(1, round(SAMPLE / seconds))
                control = digest == digests[name]
                cells[name] = {"function": function, "control": control, "number": calls}
    return cells, missing


def _block(comparison, stage, names):
    seed = secrets.randbits(32)
    rng, times = np.random.default_rng(seed), {}
    pair = comparison.folder.parent
    with sides.Process(pair / "base", seed) as base, sides.Process(pair / "head", seed) as head:
        both = base, head
        for name in rng.permutation(names).tolist():
            for number in rng.permutation(2):
                both[number].ask("prepare", name, seed)
            order, calls = ORDERS[rng.integers(2)], comparison.cells[name]["number"]
            times[name] = order, [both[side].ask("sample", calls) for side in order]
    return {"stage": stage, "seed": seed, "times": times}


def progress(text):
    """A line on the screen, over the last one where that is a terminal."""
    terminal = sys.stderr.isatty()
    end = "" if terminal else "\n"
    print(f"\r\033[K{text}" if terminal else text, end=end, file=sys.stderr, flush=True)


def compare(args):
    """`python -m benchmarks compare`: measures, prints and writes; returns the status."""
    from . import table  # which needs tabulate

    comparison = opened(args.base, args.head, args.only, progress)
    try:
        measure(comparison, args.budget, progress)
    finally:  # also what was finished before an interruption
        print(file=sys.stderr)
        found = table.judged(comparison)
        print(table.render(found))
        print(f"\nEvery block is in {comparison.folder / 'blocks.jsonl'}")
        for path, text in (
            (args.json, json.dumps(found, indent=1)),
            (args.markdown, table.markdown(found)),
        ):
            if path:
                path.write_text(text)
    return found["status"]
