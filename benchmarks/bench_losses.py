"""Times softmax and the losses."""

from .suites.suite import suites

globals().update(suites("losses"))
