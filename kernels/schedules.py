"""Schedules of the learning rate: functions of the step, which counts from 1, to a factor of it.

`network.create(..., lr=0.1, schedule=CosineRestarts(1000))` takes any such function; beside a rule
of one's own steps it is `lr=0.1 * schedule(step)`. They are computed on the host, in float64, the
same for every backend.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from . import arguments
from .catalog import Number

__all__ = [
    "CosineRestarts",
    "Exponential",
    "OneCycle",
    "ReduceOnPlateau",
    "StepDecay",
    "WarmUp",
]
_SHARE = Number(low=0.0, high=math.nextafter(1.0, 2.0))  # from 0 to 1


def _checked(schedule, **ranges):
    """Raises ValueError or TypeError where a field is out of its range; None: a count from 1."""
    for name, allowed in ranges.items():
        value = getattr(schedule, name)
        if allowed is None:
            arguments.step(name, value)
        else:
            arguments.number(name, value, allowed)


def _cosine(first, last, share):
    """From first to last along half a cosine, at a share of the way."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class StepDecay:
    """factor^floor((t - 1) / every): a factor less after every so many steps."""

    every: int
    factor: float = 0.1

    def __post_init__(self):
        _checked(self, every=None, factor=Number())

    def __call__(self, step):
        return self.factor ** ((step - 1) // self.every)


@dataclass(frozen=True)
class Exponential:
    """factor^(t - 1)."""

    factor: float

    def __post_init__(self):
        _checked(self, factor=Number())

    def __call__(self, step):
        return self.factor ** (step - 1)


@dataclass(frozen=True)
class CosineRestarts:
    """lowest + (1 - lowest) (1 + cos(pi s / period)) / 2, s steps after the last restart.

    The period grows by a whole factor at every restart. Source: Loshchilov and Hutter, SGDR, ICLR
    2017, equation 5.
    """

    period: int
    growth: int = 1
    lowest: float = 0.0

    def __post_init__(self):
        _checked(self, period=None, growth=None, lowest=_SHARE)

    def __call__(self, step):
        since, period = step - 1, self.period
        if self.growth == 1:
            since %= period
        while since >= period:
            since, period = since - period, period * self.growth
        return _cosine(1.0, self.lowest, since / period)


@dataclass(frozen=True)
class WarmUp:
    """Linear from `first` at step 1 to 1 after `steps` more; then another schedule from its step 1.

    Source: Goyal et al., Accurate, Large Minibatch SGD, 2017, section 2.2.
    """

    steps: int
    first: float = 0.0
    then: Callable | None = None

    def __post_init__(self):
        _checked(self, steps=None, first=_SHARE)
        if self.then is not None and not callable(self.then):
            raise TypeError(f"then must be a function of the step or None, got {self.then!r}")

    def __call__(self, step):
        if step <= self.steps:
            return self.first + (1 - self.first) * (step - 1) / self.steps
        return 1.0 if self.then is None else self.then(step - self.steps)


@dataclass(frozen=True)
class OneCycle:
    """Half a cosine up from `first` to 1 in `rise` of all steps, another down to `last`, where it
    stays. Source: Smith and Topin, Super-Convergence, 2018; defaults and ends as PyTorch's
    OneCycleLR, whose max_lr is lr here.
    """

    steps: int
    rise: float = 0.3
    first: float = 1 / 25
    last: float = 1 / 25e4

    def __post_init__(self):
        _checked(self, steps=None, rise=_SHARE, first=Number(), last=Number())

    def __call__(self, step):
        top, end, at = self.rise * self.steps - 1, self.steps - 1, step - 1
        if at <= top:
            return _cosine(self.first, 1.0, at / top if top > 0 else 1.0)
        return _cosine(1.0, self.last, min(1.0, (at - top) / (end - top)) if end > top else 1.0)


@dataclass
class ReduceOnPlateau:
    """A factor less each time that `patience` observations in a row were no better than the best.

    Better is below (1 - threshold) times the best: as PyTorch's ReduceLROnPlateau, for a loss. It
    follows what is observed, not the step: call `observe(loss)` after an epoch, say.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    _best: float = field(default=math.inf, init=False, repr=False)
    _worse: int = field(default=0, init=False, repr=False)
    _now: float = field(default=1.0, init=False, repr=False)

    def __post_init__(self):
        _checked(self, factor=Number(high=1), threshold=Number(high=1))
        if self.patience != 0:
            _checked(self, patience=None)

    def observe(self, loss):
        """Takes note of a loss; NaN is no better than any."""
        if loss < self._best * (1 - self.threshold):
            self._best, self._worse = loss, 0
            return
        self._worse += 1
        if self._worse > self.patience:
            self._now, self._worse = self._now * self.factor, 0

    def __call__(self, step):
        return self._now
