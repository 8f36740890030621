"""Times softmax and the cross-entropy losses."""

from .suites.suite import suites

globals().update(suites("losses"))
