"""Opens a comparison: builds both commits, chooses what is to be compared, and checks it.

Cells whose code is equal on both sides cannot differ. Some of them are compared all the same, as
controls; the others are neither compiled nor timed.
"""

import math
import time

from ..running import journal
from . import sides
from .comparison import Comparison

CONTROLS = 8  # cells of our kernels with equal code that are compared all the same
SAMPLE = 0.00025  # seconds of calls in a row
TURN = 0.002  # of samples in a row, before it is the other side's turn
ROUNDS = 4  # of four turns each, in a block
LONGEST = 0.1  # seconds of all turns; where they take longer there are fewer rounds
SLOWEST = 0.1  # seconds of a call; cells beyond are left out
EQUAL_CODE = "its code is equal on both sides"


def opened(base, head, only=(), say=print, folder=None, until=math.inf, every=False):
    """The Comparison of two commits, with what is known of it already.

    only: names as `run` takes them; folder: where it is kept, below .asv/compare unless given;
    every: cells of equal code are all compared. Raises ValueError for an unknown commit or name,
    RuntimeError where a commit cannot be built or does not start, TimeoutError where not all cells
    are checked until then by time.monotonic().
    """
    commits = sides.commit(base), sides.commit(head)
    pair = sides.FOLDER / "-".join(c[:12] for c in commits)
    say("building both commits")
    found = Comparison(
        folder or pair / ("-".join(sorted(only)) or "all"), sides.built(commits), commits
    )
    if not found.resume():
        found.cells, found.missing = _checked(found.built, only, say, until, every)
        found.keep()
    return found


def _checked(built, only, say, until, every):
    """(cells, missing): both sides against the oracle at once, in a process each."""
    cells, both = {}, [_Checking(built / side) for side in sides.SIDES]
    try:
        digests, listed = ({n: rest for n, *rest in side.ask("cells", only)} for side in both)
        equal = [name for name, rest in listed.items() if digests.get(name) == rest]
        ours = [name for name in equal if listed[name][1]]
        idle = set() if every else set(ours) - set(ours[:: -(-len(ours) // CONTROLS) or 1])
        missing = dict.fromkeys(sorted(idle), (journal.SKIPPED, EQUAL_CODE))
        began, names = time.monotonic(), [name for name in listed if name not in idle]
        for done, name in enumerate(names):
            if time.monotonic() > until:
                raise TimeoutError(f"{done} of {len(names)} cells are checked")
            left = (time.monotonic() - began) / max(done, 1) * (len(names) - done) / 60
            say(
                f"checked {done} of {len(names)} cells, compiled where they are new"
                + (f"; about {left:.0f} min left" if done else "")
            )
            for side in both:
                side.put("check", name)
            (before, reason, quick), (state, why, seconds) = (side.outcome() for side in both)
            if before == journal.CORRECT and state == journal.SKIPPED:
                missing[name] = journal.FAILED, f"base has it, head has not: {why}"
            elif state != journal.CORRECT:
                missing[name] = state, why
            elif before != journal.CORRECT:
                missing[name] = journal.SKIPPED, f"base is {before}: {reason}"
            elif max(quick, seconds) > SLOWEST:
                missing[name] = journal.SKIPPED, f"a call takes more than {SLOWEST} s"
            else:
                function, digest = listed[name]
                cells[name] = {
                    "function": function,
                    "control": name in equal,
                    "ours": bool(digest),
                    **calls(min(quick, seconds)),
                }
    finally:
        for side in both:
            side.close()
    return cells, missing


def calls(seconds):
    """How a cell is timed whose calls take so long: the number of calls in a sample, of samples in
    a turn, and of rounds.
    """
    number = max(1, round(SAMPLE / seconds))
    samples = max(1, round(TURN / (number * seconds)))
    turn = samples * number * seconds
    rounds = max(1, min(ROUNDS, int(LONGEST / (4 * turn))))
    return {"number": number, "samples": samples, "rounds": rounds}


class _Checking(sides.Process):
    """A side that goes on with another process where one has died."""

    def __init__(self, folder):
        super().__init__(folder)
        self._folder = folder

    def outcome(self):
        """The answer to `check`."""
        try:
            return self.answer()
        except sides.Failed as reason:
            self.close()
            super().__init__(self._folder)
            return journal.FAILED, str(reason), 0
