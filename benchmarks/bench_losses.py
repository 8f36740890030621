"""Times softmax and the cross-entropy losses."""

from .suite import suites

globals().update(suites("losses"))
