"""Whether what is timed is true: timed calls, judged by inputs that nobody knew before."""

import math
import secrets
import time
import timeit

from .owned import CLOCK, Wrong, is_users, timer_of
from .tricks import named

REMEMBERS = 3.0  # times as long, for what has to be computed
PAIRS, LEAST = 40, 0.5  # of calls, spread over so many seconds, before anything is accused
_sleep = time.sleep  # before a user's module may replace it


class Judge:
    """Takes the place of timeit's timer for a cell.

    One call, anywhere in one of the first samples, is of inputs that are drawn for it, in arrays of
    their own. From the next sample on the timed arrays hold these too; the last call of all is
    compared as well.
    timed, judged: trials of the same function; draw: makes inputs of a seed; samples: at least two.
    """

    def __init__(self, timed, judged, draw, warmup, samples):
        self.timed, self.judged, self.draw, self.warmup = timed, judged, draw, warmup
        self.operation, self.module = timed.operation, timed.module
        self.timer = timer_of(self.module)
        self.left, self.began, self.found = secrets.randbelow(samples - 1), None, None
        self.plain = timeit.Timer(timed.call, timer=self.timer)
        self.read = self._clocks()

    def timeit(self, number):
        """The seconds of so many calls."""
        self.began = self.began or CLOCK()
        if self.found is None and CLOCK() - self.began >= self.warmup:
            self.left -= 1
            if self.left < 0:
                return self._with_judged(number)
        return self.plain.timeit(number)

    def _with_judged(self, number):
        before = secrets.randbelow(number)
        seconds = self.plain.timeit(before)
        self.took = timeit.Timer(self.judged.make, timer=self.timer).timeit(1)
        self.found = self.judged.results()
        seconds += self.took + self.plain.timeit(number - 1 - before)
        self.timed.refill(self.judged.inputs)
        self.plain = timeit.Timer(self.timed.call, timer=self.timer)
        return seconds

    def verdict(self, seconds=0.0):
        """Raises Wrong where a timed call was not true; `seconds` a call took at least."""
        if self.found is None:
            self._with_judged(1)
        problem = self._problem(seconds)
        if problem:
            raise Wrong(problem)

    def _problem(self, seconds):
        if problem := self._lying() or self.judged.beside():
            return problem
        complaint = self.operation.disagreement(self.judged.inputs, self.found)
        if complaint := complaint or self.timed.again(self.found):
            return named(self.operation, self.module, self.draw, complaint)
        if self.took <= REMEMBERS * seconds or not (array := self.timed.asked()):
            return None
        if least := remembers(*(self._scaled(*array, new) for new in (True, False))):
            new, again = least
            return f"remembers answers: {new:.3g} s of new inputs, {again:.3g} s of the same again"
        return None

    def _clocks(self):
        """A user's clock, read between two readings of ours."""
        return CLOCK(), self.module.timer(), CLOCK()

    def _lying(self):
        """Whether a user's clock tells what cannot have been, however long each reading took."""
        (before, start, began), (ended, stop, after) = self.read, self._clocks()
        least, most = ended - began, after - before
        if is_users(self.module) and not 0.9 * least - 1e-3 <= stop - start <= 1.1 * most + 1e-3:
            return f"its timer lies: {stop - start:.3g} s instead of {least:.3g}"
        return None

    def _scaled(self, name, values, new):
        """A function that makes one call, its input new or the same again, and tells its seconds.

        Either is written into the array before, so that a kernel that computes cannot tell one from
        the other. A little less than a value of an operation's domain is in it.
        """

        def seconds():
            factor = 1 - (1 + secrets.randbelow(1 << 20)) / (1 << 24) if new else 1
            self.timed.refill({name: values * values.dtype.type(factor)})
            start = self.timer()
            self.timed.call()
            return self.timer() - start

        return seconds


def remembers(new, again, pause=_sleep):
    """(seconds, seconds) at least of calls with new inputs and with the timed ones, where those
    take far longer, else None.

    new(), again(): the seconds of one call; the shorter of two counts. They are called in pairs, a
    coin says which goes first: whatever holds up a kernel that computes, in a pair it meets either
    as often as the other. So such a kernel is accused, by PAIRS of which at most one speaks for it,
    by a chance of at most (PAIRS + 1) / 2^PAIRS, 4e-11. Two that do end it, mostly the first two.
    """
    against, least = 0, [math.inf, math.inf]
    for pair in range(PAIRS):
        if pair > 2:
            pause(LEAST / PAIRS)
        took, first = [0.0, 0.0], secrets.randbelow(2)
        for which in (first, 1 - first):
            call = (new, again)[which]
            took[which] = min(call(), call())
        least = [min(both) for both in zip(least, took, strict=True)]
        against += took[0] <= REMEMBERS * took[1]
        if against == 2:
            return None
    return tuple(least)
