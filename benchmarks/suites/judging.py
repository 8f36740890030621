"""Whether what is timed is true: timed calls, judged by inputs that nobody knew before."""

import secrets
import timeit

import numpy as np

from .owned import CLOCK, Wrong, is_users, timer_of
from .trial import Trial, equal
from .tricks import named

# A call on inputs that are new each time takes longer: its data may have to come from memory, and
# one element is written before. What remembers answers takes less by far more than this.
REMEMBERS, FLOOR = 3.0, 20e-6


class Judge:
    """Takes the place of timeit's timer for a cell: one call of a sample at random, somewhere in
    it, is of new inputs into another output; another one of new inputs in the timed arrays.
    """

    def __init__(self, operation, module, draw, timed, warmup, samples):
        self.operation, self.module, self.draw, self.timed = operation, module, draw, timed
        self.timer, self.warmup = timer_of(module), warmup
        self.left, self.began, self.passed = secrets.randbelow(samples), None, [0.0, 0.0]
        self.plain = timeit.Timer(timed.call, timer=self.timer)
        self.inputs = draw()
        self.judged = Trial(operation, module, self.inputs, timed.out)
        self.found = None

    def timeit(self, number):
        """The seconds of so many calls."""
        self.began = self.began or CLOCK()
        if self.found is None and CLOCK() - self.began >= self.warmup:
            self.left -= 1
            if self.left < 0:
                return self._with_judged(number)
        theirs, ours = self.module.timer(), CLOCK()
        seconds = self.plain.timeit(number)
        if is_users(self.module):
            self.passed[0] += CLOCK() - ours
            self.passed[1] += self.module.timer() - theirs
        return seconds

    def _with_judged(self, number):
        before = secrets.randbelow(number)
        seconds = self.plain.timeit(before)
        seconds += timeit.Timer(self.judged.make, timer=self.timer).timeit(1)
        self.found = [self.judged.results()]
        seconds += self.plain.timeit(number - 1 - before)
        self.timed.refill(self.inputs)
        self.found.append(self.timed.run())
        return seconds

    def verdict(self, seconds, number):
        """Raises Wrong where a timed call was not true; `seconds` a call took, as it was found."""
        if self.found is None:
            self._with_judged(1)
        problem = self._problem(seconds, number)
        if problem:
            raise Wrong(problem)

    def _problem(self, seconds, number):
        ours, theirs = self.passed
        if abs(theirs - ours) > 0.1 * ours + 1e-3:
            return f"its timer lies: {theirs:.3g} s instead of {ours:.3g}"
        if beside := self.judged.complaint():
            return beside
        new, same = self.found
        complaint = self.operation.disagreement(self.inputs, new)
        if not complaint and not all(map(equal, new, same)):
            complaint = self.operation.disagreement(self.inputs, same)
        if complaint:
            return named(self.operation, self.module, self.draw, complaint)
        return self._remembered(seconds, max(1, number // 10))

    def _remembered(self, seconds, number):
        """Whether calls whose inputs were never seen take far longer than the timed ones."""
        chosen = [name for name, value in self.inputs.items() if name not in self.operation.in_place
                  and isinstance(value, np.ndarray) and value.dtype.kind == "f"]  # fmt: skip
        if not chosen or self.operation.in_place:
            return None
        array = self.timed.arguments[chosen[0]].reshape(-1)
        values = self.draw()[chosen[0]].reshape(-1)
        number = min(number, len(values))  # then nothing is new any more

        def calls(fresh, call):
            start = self.timer()
            for k in range(number):
                array[k] = fresh[k]
                call()
            return (self.timer() - start) / number

        if calls(values, self.timed.call) <= REMEMBERS * seconds + FLOOR:
            return None
        for _ in range(3):  # other work may have held it up: the same again, one beside the other
            values = self.draw()[chosen[0]].reshape(-1)
            new = calls(values, self.timed.call) - calls(values, lambda: None)
            seconds = self.plain.timeit(number) / number
            if new <= REMEMBERS * seconds + FLOOR:
                return None
        return f"remembers answers: {new:.3g} s of new inputs, {seconds:.3g} s of the same again"
